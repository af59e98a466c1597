"""The servers that are judged: globaldns, and four others with what it exports as zone file."""

import os
import subprocess

from forwarders import GLOBALDNS, WORK, Running, write

ZONES = ["--zone", "global"]
FILES = ["--file", "examples", "--file", "tests/conformance/entries.yaml"]
# One address for each server; 10.96.0.53 is what the zones' NS records lead to.
ADDRESSES = {
    "globaldns": ("10.96.0.53", "fd00:10:96::53"),
    "NSD": ("10.96.0.54", "fd00:10:96::54"),
    "Knot": ("10.96.0.55", "fd00:10:96::55"),
    "BIND": ("10.96.0.56", "fd00:10:96::56"),
    "CoreDNS": ("10.96.0.57", "fd00:10:96::57"),
}


def network():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for v4, v6 in ADDRESSES.values():
        subprocess.run(["ip", "address", "add", f"{v4}/32", "dev", "lo"], check=True)
        subprocess.run(["ip", "address", "add", f"{v6}/128", "dev", "lo", "nodad"], check=True)


def globaldns():
    v4, v6 = ADDRESSES["globaldns"]
    listen = ["--listen", f"{v4}:53", "--listen", f"[{v6}]:53", "--advertise-address", v4, "--advertise-address", v6]
    command = [GLOBALDNS, "serve", *FILES, *ZONES, *listen, "--nsid", "test", "--cookies", "on", "--admin-listen", "off", "--lameduck", "0s"]
    return Running("globaldns", command)


def zone_file():
    v4, v6 = ADDRESSES["globaldns"]
    command = [GLOBALDNS, "export", *FILES, *ZONES, "--format", "zone", "--advertise-address", f"{v4},{v6}"]
    return write("global.zone", subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def nsd(zone):
    v4, v6 = ADDRESSES["NSD"]
    path = write("nsd.conf", f"""
server:
  ip-address: {v4}
  ip-address: {v6}
  username: ""
  chroot: ""
  zonesdir: "{WORK}"
  database: ""
  pidfile: ""
  zonelistfile: "{WORK}/nsd.list"
  xfrdfile: "{WORK}/nsd.xfrd"
  nsid: ascii_test
remote-control:
  control-enable: no
zone:
  name: global
  zonefile: "{zone}"
""")
    return Running("nsd", ["nsd", "-d", "-c", path])


def knot(zone):
    v4, v6 = ADDRESSES["Knot"]
    os.makedirs(f"{WORK}/knot", exist_ok=True)
    path = write("knot.conf", f"""
server:
  listen: ["{v4}@53", "{v6}@53"]
  rundir: "{WORK}/knot"
  nsid: "test"
database:
  storage: "{WORK}/knot"
log:
  - target: stderr
    any: warning
template:
  - id: default
    zonefile-sync: -1
    journal-content: none
zone:
  - domain: global
    file: "{zone}"
""")
    return Running("knot", ["knotd", "-c", path])


def bind(zone):
    v4, v6 = ADDRESSES["BIND"]
    path = write("authority.conf", f"""
options {{
  directory "{WORK}"; listen-on {{ {v4}; }}; listen-on-v6 {{ {v6}; }}; pid-file none; session-keyfile none;
  recursion no; dnssec-validation no; server-id "test"; allow-transfer {{ none; }};
}};
controls {{ }};
zone "global" {{ type primary; file "{zone}"; check-names ignore; }};
""")
    return Running("bind", ["named", "-g", "-c", path])


def coredns(program):
    def start(zone):
        path = write("Corefile", f"global {{\n  bind {' '.join(ADDRESSES['CoreDNS'])}\n  file {zone}\n  nsid test\n}}\n")
        return Running("coredns", [program, "-conf", path])
    return start
