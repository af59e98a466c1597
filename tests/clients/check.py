"""Runs in a network of its own: see `run`. Arguments after the first two: the programs of CoreDNS, and `--write`.

Every client is asked for the same names behind every path, with the resolv.conf of that path; what it says has to be
what the entries say, or be in `PROPERTIES` with the reason why it is otherwise.
"""

import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request

sys.path[:0] = [os.path.join(os.path.dirname(__file__), "..", directory) for directory in ("resolvers", "conformance")]

from forwarders import (
    ASKED, GLOBALDNS, V4, WORK, Running, bind, dig, dnsmasq, emit, globaldns, globaldns_answers, libraries, network,
    resolved, unbound, until, write,
)
from report import document, table

import servers

COREDNS = [path for path in sys.argv[3:] if path.startswith("/")]
WRITE = "--write" in sys.argv[3:]
ONLY = [word for word in sys.argv[3:] if word not in COREDNS and word != "--write"]
ADMIN = "127.0.0.1:9153"
# Addresses on which servers are not what a client wishes: one that knows nothing yet, and one where nothing listens.
STARTING, NOBODY = "10.96.0.55", "10.96.0.54"


def addresses(text):
    """Sorted, and each as everybody writes it; what is no list of addresses stays."""
    try:
        return ",".join(sorted(str(ipaddress.ip_address(address)) for address in text.split(",")))
    except ValueError:
        return text


MANY = addresses(",".join(f"240.0.2.{i}" for i in range(1, 61)))
MORE = addresses(",".join(f"240.0.3.{i}" for i in range(1, 91)))
CROWD = addresses(",".join(f"240.0.4.{i}" for i in range(1, 121)))
BOTH = addresses("240.0.1.1,fd00:240::1")

# What it is called in the tables, what is asked, and what the entries say.
NAMES = {
    "A alone": ("app1.default.global", "240.0.0.6"),
    "AAAA alone": ("six.test.global", "fd00:240::6"),
    "both": ("both.test.global", BOTH),
    "absent": ("no.such.global", "not found"),
    "empty": ("default.global", "not found"),
    "960 octets": ("many.test.global", MANY),
    "1440 octets": ("more.test.global", MORE),
    "120 addresses": ("crowd.test.global", CROWD),
    "wildcard": ("any.thing.wild.test.global", "240.0.1.9"),
    "mixed case": ("BoTh.TeSt.GlObAl", BOTH),
    "100 times": ("100xboth.test.global", BOTH),
}
# With the search path and the ndots of a pod.
POD = "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5\n"
SEARCHED = {"pod: both": ("both.test.global", BOTH), "pod: absent": ("no.such.global", "not found")}
# in-addr.arpa is none of our zones.
DIRECT = {"PTR of a VIP": ("240.0.1.1", "try again")}


def known(cases):
    return {name: expected for name, expected in cases.values()}


def compiled(name):
    return os.path.join(WORK, "clients", name)


# Name, and the command that gets names as arguments.
HERE = os.path.dirname(__file__)
CLIENTS = {
    "glibc": [compiled("glibc")],
    "musl of Debian": [compiled("musl")],
    "musl of Rust": [compiled("musl-rust")],
    "Go": [compiled("go")],
    "Go with cgo": [compiled("cgo")],
    "c-ares": [compiled("cares")],
    "Node lookup": ["node", f"{HERE}/lookup.js", "lookup"],
    "Node resolve": ["node", f"{HERE}/lookup.js", "resolve"],
    "Java InetAddress": ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", compiled("."), "Lookup"],
    "Java JNDI": ["java", "-Xshare:auto", "-XX:TieredStopAtLevel=1", "-cp", compiled("."), "Lookup", "jndi"],
    "dnspython": ["/usr/bin/python3", f"{HERE}/lookup.py"],
    "getdns": ["getdns"],
}


def getdns(names):
    """getdns_query prints JSON, or what went wrong."""
    said = {}
    for name in names:
        command = ["getdns_query", "-s", "-j", "-H" if name in known(DIRECT) else "-A", re.sub(r"^\d+x", "", name)]
        out = subprocess.run(command, capture_output=True, text=True).stdout
        try:
            # Octets that could be text are shown as such, which no JSON has: \\182.
            reply = json.loads(re.sub(r"\\\d{3}", "?", out[out.index("{"):]), strict=False)
        except ValueError:
            said[name] = out.strip().replace("\n", " ")
            continue
        found = [item["address_data"] for item in reply.get("just_address_answers", [])]
        codes = {tree["header"]["rcode"] for tree in reply.get("replies_tree", [])}
        said[name] = addresses(",".join(found)) if found else "not found" if codes and codes <= {0, 3} else "try again"
    return said


def ask(client, names, env=None):
    """What the client says of each name."""
    if client == "getdns":
        return getdns(names)
    command = CLIENTS[client] + list(names)
    out = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(env or {})})
    said = dict(line.split("\t", 1) for line in out.stdout.splitlines() if "\t" in line)
    return {name: addresses(said.get(name, f"nothing: {out.stderr.strip()[-200:]}")) for name in names}


def resolv_conf(*lines):
    write("etc/resolv.conf", "".join(f"{line}\n" for line in lines))


def counted():
    """The queries that have been answered."""
    with urllib.request.urlopen(f"http://{ADMIN}/metrics") as page:
        text = page.read().decode()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("globaldns_dns_requests_total{"))


# Path, and a function that starts it. Every one is told by the text that `emit` prints, and knows nothing of
# cluster.local, as cluster DNS does.
def coredns(program, server=V4, force_tcp=False):
    def start():
        own = "cluster.local:53 {\n  bind 127.0.0.1\n  template ANY ANY {\n    rcode NXDOMAIN\n  }\n}\n"
        text = re.sub(r"^(\S.*\{)$", r"\1\n    bind 127.0.0.1", emit("coredns", server), flags=re.M)
        if force_tcp:
            text = text.replace(f"forward . {server}", f"forward . {server} {{\n        force_tcp\n    }}")
        return Running("coredns", [program, "-conf", write("Corefile", own + text)])
    return start


def start_dnsmasq():
    return dnsmasq(emit("dnsmasq", V4) + "local=/cluster.local/\n", False)


def start_unbound(more=""):
    return unbound(emit("unbound", V4) + f'server:\n  local-zone: "cluster.local." static\n{more}', False)


def start_bind():
    zone = write("cluster.local", "@ 5 IN SOA ns ns 1 1 1 1 5\n@ 5 IN NS ns\nns 5 IN A 192.0.2.1\n")
    text = emit("bind", V4) + f'\nzone "cluster.local" {{ type primary; file "{zone}"; }};\n'
    return bind(text, False)


def paths():
    yield "directly", None
    for program in COREDNS:
        version = re.search(r"v(\d+\.\d+)", program)[1]
        yield f"CoreDNS {version}", coredns(program)
    yield "Unbound", start_unbound
    yield "Unbound, 0x20", lambda: start_unbound("  use-caps-for-id: yes\n")
    yield "BIND", start_bind
    yield "dnsmasq", start_dnsmasq
    yield "systemd-resolved", lambda: resolved(emit("systemd-resolved", V4), False)


# Why a client says something else than the entries; tables refer to these by number.
REASONS = [
    "Before 1.2.4, musl has no TCP. It takes what a reply with TC holds: 29 addresses of ours and of those that "
    "pass ours on or do the same (D13), and none of Unbound and dnsmasq, whose reply with TC is empty.",
    "musl returns at most 48 addresses of a family.",
    "CoreDNS 1.6 passes a truncated reply on without its TC, so nobody learns that there is more. What fits into "
    "the UDP reply is what the client gets: 29 addresses, or 74 with EDNS (D13), or all of them where the cache "
    "has them by then. With NSD in our place it is all: NSD's reply with TC is empty, which it passes on as it "
    "is. So it is with `force_tcp` in its `forward`.",
    "REFUSED ends the search path of this client, and globaldns refuses `cluster.local` (D8). A pod asks cluster "
    "DNS, which knows that zone.",
    "A reply with an error is final for it; it tries the next server only where there is silence.",
    "`getdns_query` does not try the next server.",
    "REFUSED is an error of its own for it.",
    "It takes REFUSED for: there is no name.",
    "After NXDOMAIN it does not ask for the other family.",
    "BIND takes no more than 100 records of one name and type (`max-records-per-type`, since 9.18.28) and says "
    "SERVFAIL, which glibc takes for not found, as the AAAA is empty.",
]
PART, PART_OR_ALL = "some of them", "some of them or all"
NO_OR_AGAIN = "not found or try again"
ALONE = ["absent: queries", "SERVFAIL", "SERVFAIL, then one that answers", "nobody there",
         "nobody there, then one that answers", "PTR of a VIP"]
BIG = ("960 octets", "1440 octets", "120 addresses")
ALL_PATHS = ("directly", "CoreDNS 1.6", "CoreDNS 1.12", "Unbound", "Unbound, 0x20", "BIND", "dnsmasq", "systemd-resolved")

# (client, path, case): what it says, and the number of the reason.
PROPERTIES = {}
for big in BIG:
    for a_path in ALL_PATHS:
        nothing = a_path.startswith("Unbound") or a_path == "dnsmasq"
        PROPERTIES["musl of Debian", a_path, big] = ("not found" if nothing else PART, 1)
        PROPERTIES["musl of Rust", a_path, big] = (PART, 2)
    for a_client in CLIENTS:
        PROPERTIES[a_client, "CoreDNS 1.6", big] = (PART_OR_ALL, 3)
for a_client in ("musl of Debian", "musl of Rust", "c-ares", "dnspython"):
    for a_case in SEARCHED:
        PROPERTIES[a_client, "directly", a_case] = ("try again", 4)
for a_client in CLIENTS:
    of_glibc = a_client in ("glibc", "Go with cgo", "Node lookup", "Java InetAddress")
    PROPERTIES[a_client, "BIND", "120 addresses"] = ("not found" if of_glibc else "try again", 10)
# Whichever of the two replies comes last.
PROPERTIES["Go", "BIND", "120 addresses"] = (NO_OR_AGAIN, 10)
PROPERTIES |= {
    ("Node resolve", "directly", "SERVFAIL, then one that answers"): ("try again", 5),
    ("getdns", "directly", "SERVFAIL, then one that answers"): ("try again", 6),
    ("getdns", "directly", "nobody there, then one that answers"): ("try again", 6),
    **{(a_client, "directly", "PTR of a VIP"): ("not found", 8) for a_client in
       ("musl of Debian", "musl of Rust", "c-ares", "Node lookup", "Node resolve", "Java InetAddress")},
    ("Go", "directly", "PTR of a VIP"): ("server misbehaving", 7),
    ("Java JNDI", "directly", "PTR of a VIP"): ("DNS service refused [response code 5]", 7),
    ("dnspython", "directly", "absent: queries"): ("1", 9),
    ("Java JNDI", "directly", "absent: queries"): ("1", 9),
}


class Results:
    """What every client said by every path, and what of it is neither right nor known."""

    def __init__(self):
        self.rows, self.wrong, self.cells = {}, [], 0

    def add(self, client, path, case, said, expected):
        self.cells += 1
        known_as, reason = PROPERTIES.get((client, path, case), (None, None))
        shown = said
        if set(said.split(",")) < set(expected.split(",")):
            shown = PART
        if known_as == PART_OR_ALL and (shown == PART or said == expected):
            shown = PART_OR_ALL
        if known_as == NO_OR_AGAIN and said in ("not found", "try again"):
            shown = NO_OR_AGAIN
        good = said == expected if known_as is None else shown == known_as
        if not good:
            self.wrong.append(f"{client}, {path}, {case}: {said}, not {known_as or expected}")
        seen = said if len(said) < 60 else f"{said.count(',') + 1} addresses"
        because = f" ({reason})" if reason else ""
        print(f"{'ok' if good else 'FAILED'}: {client}, {path}, {case}: {seen}{because}", flush=True)
        self.rows.setdefault(client, {}).setdefault(path, {})[case] = (shown, reason)

    def paths(self):
        """Of every client and path: `all` answers right, or the reasons why not."""
        cases = [*NAMES, *SEARCHED]
        head = [path for path in ALL_PATHS if any(path in by_path for by_path in self.rows.values())]
        rows = []
        for client, by_path in self.rows.items():
            cells = []
            for path in head:
                said = {case: by_path[path][case] for case in cases if case in by_path.get(path, {})}
                same = {}
                for case, (shown, reason) in said.items():
                    if reason:
                        same.setdefault(f"{shown} ({reason})", []).append(case)
                other = "; ".join(f"{', '.join(names)}: {what}" for what, names in same.items())
                cells.append(other or ("all" if said else "–"))
            rows.append([client, *cells])
        return table(["Client", *head], rows)

    def directly(self):
        """What clients say that ask globaldns itself, where there is no right answer for them."""
        rows = []
        for client, by_path in self.rows.items():
            if "directly" in by_path:
                said = [by_path["directly"][case] for case in ALONE]
                rows.append([client, *(f"{shown} ({reason})" if reason else shown for shown, reason in said)])
        return table(["Client", *ALONE], rows)

    def text(self):
        numbered = "".join(f"{number}. {reason}\n" for number, reason in enumerate(REASONS, 1))
        return f"{self.paths()}\n{self.directly()}\n{numbered}"


def through(path, results):
    """All clients, asking by one path."""
    server = V4 if path == "directly" else ASKED
    for client in CLIENTS:
        resolv_conf(f"nameserver {server}")
        cases = {**NAMES, **(DIRECT if path == "directly" else {})}
        said = ask(client, [name for name, _ in cases.values()])
        for case, (name, expected) in cases.items():
            results.add(client, path, case, said[name], expected)
        if path != "systemd-resolved":
            resolv_conf(f"nameserver {server}", POD)
            said = ask(client, [name for name, _ in SEARCHED.values()])
            for case, (name, expected) in SEARCHED.items():
                results.add(client, path, case, said[name], expected)


def once(results):
    """A name that is not there costs the two questions there are, A and AAAA: nobody tries again."""
    resolv_conf(f"nameserver {V4}")
    for client in CLIENTS:
        before = counted()
        ask(client, ["no.such.global"])
        results.add(client, "directly", "absent: queries", f"{counted() - before:.0f}", "2")


def not_ready(results):
    """Servers that cannot answer, alone and before one that can."""
    for case, servers, expected in (
        ("SERVFAIL", [STARTING], "try again"),
        ("SERVFAIL, then one that answers", [STARTING, V4], "240.0.0.6"),
        ("nobody there", [NOBODY], "try again"),
        ("nobody there, then one that answers", [NOBODY, V4], "240.0.0.6"),
    ):
        resolv_conf(*(f"nameserver {server}" for server in servers), "options timeout:1 attempts:2")
        for client in CLIENTS:
            results.add(client, "directly", case, ask(client, ["app1.default.global"])["app1.default.global"], expected)


def nss_resolve(results):
    """glibc with systemd-resolved's own module in nsswitch.conf, which asks no DNS server itself."""
    module = next(os.path.join(directory, "") for directory, _, files in os.walk(os.path.join(WORK, "resolved"))
                  if "libnss_resolve.so.2" in files)
    env = {"LD_LIBRARY_PATH": f"{module}:{libraries()['LD_LIBRARY_PATH']}"}
    with open("/etc/nsswitch.conf") as file:
        before = file.read()
    with open("/etc/nsswitch.conf", "w") as file:
        file.write(re.sub(r"^hosts:.*$", "hosts: resolve", before, flags=re.M))
    said = ask("glibc", [name for name, _ in NAMES.values()], env)
    for case, (name, expected) in NAMES.items():
        results.add("glibc, nss-resolve", "systemd-resolved", case, said[name], expected)
    with open("/etc/nsswitch.conf", "w") as file:
        file.write(before)


def around_lost_tc(program, results):
    """The oldest CoreDNS loses TC only where a truncated reply has addresses, as NSD's has not, and only over UDP."""
    v4, v6 = servers.ADDRESSES["NSD"]
    subprocess.run(["ip", "address", "add", f"{v6}/128", "dev", "lo", "nodad"], check=True)
    resolv_conf(f"nameserver {ASKED}")
    with servers.nsd(servers.zone_file()):
        for path, start in (("CoreDNS 1.6 before NSD", coredns(program, v4)),
                            ("CoreDNS 1.6 with force_tcp", coredns(program, V4, force_tcp=True))):
            with start() as running:
                until(path, running.answers)
                results.add("glibc", path, "1440 octets", ask("glibc", ["more.test.global"])["more.test.global"], MORE)


def starting():
    """A globaldns whose only source is an API server that is not there."""
    config = write("kubeconfig", json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "none",
        "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:1"}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
        "users": [{"name": "none", "user": {}}],
    }))
    return Running("starting", [GLOBALDNS, "serve", "--kubeconfig", config, "--listen", f"{STARTING}:53",
                                "--admin-listen", "off", "--lameduck", "0s"])


def main():
    network()
    subprocess.run(["ip", "address", "add", f"{STARTING}/32", "dev", "lo"], check=True)
    for client in [name for name, command in CLIENTS.items() if not shutil.which(command[0]) and name != "getdns"]:
        print(f"{client}: left out, there is no {CLIENTS.pop(client)[0]}", flush=True)
    results = Results()
    entries = ["--file", "tests/conformance/entries.yaml", "--file", "tests/clients/entries.yaml"]
    with globaldns(*entries, "--admin-listen", ADMIN), starting():
        until("globaldns", globaldns_answers)
        until("the starting one", lambda: dig("app1.default.global", "A", server=STARTING) == ("SERVFAIL", ""))
        for path, start in paths():
            if ONLY and path not in ONLY:
                continue
            if not start:
                once(results)
                not_ready(results)
                through(path, results)
                continue
            with start() as running:
                until(f"{path} to answer", running.answers)
                through(path, results)
                if path == "systemd-resolved":
                    nss_resolve(results)
        if not ONLY:
            around_lost_tc(COREDNS[0], results)
    if not ONLY and not document("clients", results.text(), WRITE):
        results.wrong.append("docs/conformance.md is out of date")
    print(f"{results.cells} answers, {len(results.wrong)} wrong")
    print("\n".join(results.wrong))
    sys.exit(bool(results.wrong))


main()
