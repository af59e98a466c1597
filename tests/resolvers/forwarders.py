"""Real resolvers before globaldns, in a network of their own: how to start them, and how to wait for them.

Programs that import this are started as `PROGRAM GLOBALDNS WORK …` by a script that has made the network (`prepare`).
"""

import os
import re
import shutil
import subprocess
import sys
import time

GLOBALDNS, WORK = os.path.abspath(sys.argv[1]), sys.argv[2]
ZONES = ["--zone", "global", "--zone", "cluster2"]
V4, V4_PORT, V6, V6_PORT = "10.96.0.53", "10.96.0.54:5353", "fd00:10:96::35", "[fd00:10:96::36]:5353"
LINK = "uplink"
# Where the resolvers are asked: a port that a resolv.conf can name.
ASKED, PORT = "127.0.0.1", 53
DEADLINE = 30
# The root's key of 2017: no network here, so nothing below it can be proven.
ROOT_KEY = ". IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D"


def write(name, text):
    path = os.path.join(WORK, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, 0o644)
    return path


def emit(flavour, *addresses, more=()):
    command = [GLOBALDNS, "stub-domains", "emit", "--for", flavour, *ZONES, "--dns-ip", ",".join(addresses), *more]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def dig(name, kind, *more, server=ASKED, port=PORT):
    """Status and answers, or None."""
    command = ["dig", f"@{server}", "-p", str(port), name, kind, "+tries=1", "+time=5", *more]
    out = subprocess.run(command, capture_output=True, text=True).stdout
    status = re.search(r"status: (\w+)", out)
    answers = [line.split()[4] for line in out.splitlines() if re.match(r"[^;\s]\S*\s+\d+\s+IN\s+(?:A{1,4}|PTR)\s", line)]
    return (status[1], " ".join(answers)) if status else None


def until(what, found):
    begun = time.monotonic()
    while not found():
        if time.monotonic() - begun > DEADLINE:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.05)


class Running:
    """A process that ends with its block."""

    def __init__(self, name, command, env=None):
        self.log = os.path.join(WORK, f"{name}.log")
        self.name, self.command, self.env = name, command, env

    def __enter__(self):
        with open(self.log, "w") as log:
            env = {**os.environ, **(self.env or {})}
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env)
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def answers(self):
        if self.process.poll() is not None:
            with open(self.log) as log:
                sys.exit(f"{self.name} ended with {self.process.returncode}:\n{log.read()}")
        return dig("app1.default.global", "A", "+time=1") is not None


def dnsmasq(text, protected):
    base = f"port={PORT}\nlisten-address={ASKED}\nbind-interfaces\nno-resolv\nno-hosts\nuser=root\ncache-size=100\n"
    protection = "stop-dns-rebind\nbogus-priv\n" if protected else ""
    path = write("dnsmasq.conf", base + protection + text)
    subprocess.run(["dnsmasq", "--test", "-C", path], check=True, capture_output=True)
    return Running("dnsmasq", ["dnsmasq", "-k", "-C", path, "--pid-file=", "--log-facility=-"])


def unbound(text, protected):
    modules = "validator iterator" if protected else "iterator"
    lines = [
        "server:", f"interface: {ASKED}@{PORT}", 'username: ""', 'chroot: ""', f'directory: "{WORK}"', 'pidfile: ""',
        "use-syslog: no", "do-daemonize: no", f'module-config: "{modules}"', "access-control: 127.0.0.0/8 allow",
    ]
    if protected:
        lines += [f'trust-anchor: "{ROOT_KEY}"', "private-address: 127.0.0.0/8", "private-address: 240.0.0.0/4"]
    control = ["remote-control:", "control-enable: no"]
    path = write("unbound.conf", "\n".join(lines) + "\n" + text + "\n".join(control) + "\n")
    subprocess.run(["unbound-checkconf", path], check=True, capture_output=True)
    return Running("unbound", ["unbound", "-d", "-c", path])


def bind(text, protected):
    # What belongs into `options` is a comment, which we obey.
    excepted = "".join(re.findall(r"^// In options: (.*)$", text, re.M))
    validation = "yes" if protected else "no"
    anchor = 'trust-anchors { . initial-ds %s "%s"; };' % (
        ROOT_KEY.split("DS ")[1].rsplit(" ", 1)[0], ROOT_KEY.rsplit(" ", 1)[1],
    )
    included = write("bind.zones", text)
    path = write("named.conf", f"""
options {{
  directory "{WORK}"; listen-on port {PORT} {{ {ASKED}; }}; listen-on-v6 {{ none; }}; pid-file none;
  recursion yes; dnssec-validation {validation}; session-keyfile none; {excepted}
}};
controls {{ }};
{anchor if protected else ""}
include "{included}";
""")
    subprocess.run(["named-checkconf", path], check=True)
    return Running("named", ["named", "-g", "-c", path])


def unpacked(*paths):
    """A program of the packages that are not installed."""
    candidates = [os.path.join(WORK, "resolved", path) for path in paths]
    return next(path for path in candidates if os.path.exists(path))


def libraries():
    found = []
    for directory, _, files in os.walk(os.path.join(WORK, "resolved")):
        if any(name.startswith("libsystemd-shared") for name in files):
            found.append(directory)
    return {"LD_LIBRARY_PATH": ":".join(found)}


def resolved_with(protected, text):
    dnssec = "yes" if protected else "no"
    directory = "/etc/systemd/resolved.conf.d"
    # It remembers there what its links were told.
    shutil.rmtree("/run/systemd/resolve", ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
    os.makedirs(directory)
    with open(f"{directory}/00-listen.conf", "w") as file:
        file.write(f"[Resolve]\nDNSSEC={dnssec}\nDNSStubListener=no\nDNSStubListenerExtra={ASKED}:{PORT}\n")
        file.write("LLMNR=no\nMulticastDNS=no\nFallbackDNS=\n")
    with open(f"{directory}/globaldns.conf", "w") as file:
        file.write(text)
    program = unpacked("usr/lib/systemd/systemd-resolved", "lib/systemd/systemd-resolved")
    return Running("resolved", [program], libraries())


def resolved(text, protected):
    # What belongs into another file is a comment, which we obey.
    anchors = "/etc/dnssec-trust-anchors.d/globaldns.negative"
    os.makedirs(os.path.dirname(anchors), exist_ok=True)
    zones = re.search(r"^Domains=(.*)$", text, re.M)[1].replace("~", "").split()
    with open(anchors, "w") as file:
        file.write("\n".join(zones) + "\n" if anchors in text else "")
    return resolved_with(protected, text)


class Commanded:
    """systemd-resolved that is told over D-Bus by the text, which is a script."""

    def __init__(self, text, protected):
        with open("/etc/dnssec-trust-anchors.d/globaldns.negative", "w"):
            pass
        bus = write("bus.conf", """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
""")
        os.makedirs("/run/dbus", exist_ok=True)
        if os.path.exists("/run/dbus/system_bus_socket"):
            os.remove("/run/dbus/system_bus_socket")
        self.script = write("link.sh", text)
        self.bus = Running("dbus", ["dbus-daemon", "--nofork", "--nopidfile", f"--config-file={bus}"])
        self.resolved = resolved_with(protected, "")

    def __enter__(self):
        self.bus.__enter__()
        until("D-Bus", lambda: os.path.exists("/run/dbus/system_bus_socket"))
        self.resolved.__enter__()
        resolvectl = unpacked("usr/bin/resolvectl")
        path = f"{os.path.dirname(resolvectl)}:{os.environ['PATH']}"
        env = {**os.environ, **libraries(), "PATH": path, "IF": LINK}
        status = [resolvectl, "status"]
        until("resolvectl", lambda: subprocess.run(status, env=env, capture_output=True).returncode == 0)
        subprocess.run(["sh", "-e", self.script], env=env, check=True)
        return self

    def __exit__(self, *_):
        self.resolved.__exit__()
        self.bus.__exit__()

    def answers(self):
        return self.resolved.answers()


def private_system():
    """Our own /etc and /run, so that systemd-resolved finds its fixed paths and the machine keeps its own."""
    etc = os.path.join(WORK, "etc")
    subprocess.run(["cp", "-a", "/etc", etc], check=True)
    subprocess.run(["mount", "--bind", etc, "/etc"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    os.makedirs("/run/systemd")
    for path, line in (("/etc/passwd", "systemd-resolve:x:995:995::/:/usr/sbin/nologin\n"),
                       ("/etc/group", "systemd-resolve:x:995:\n")):
        with open(path, "r+") as file:
            if "systemd-resolve:" not in file.read():
                file.write(line)


def network():
    """The Service's addresses on the loopback, and a link: systemd-resolved asks nobody while only the loopback has one."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in ("10.96.0.53/32", "10.96.0.54/32"):
        subprocess.run(["ip", "address", "add", address, "dev", "lo"], check=True)
    for address in ("fd00:10:96::35/128", "fd00:10:96::36/128"):
        subprocess.run(["ip", "address", "add", address, "dev", "lo", "nodad"], check=True)
    subprocess.run(["ip", "link", "add", LINK, "type", "veth", "peer", "name", "other"], check=True)
    subprocess.run(["ip", "address", "add", "192.0.2.1/24", "dev", LINK], check=True)
    for link in (LINK, "other"):
        subprocess.run(["ip", "link", "set", link, "up"], check=True)
    private_system()


def globaldns(*more):
    """The server, with the examples, at all shapes of addresses."""
    listen = [f"--listen={address}" for address in (f"{V4}:53", V4_PORT, f"[{V6}]:53", V6_PORT)]
    return Running("globaldns", [GLOBALDNS, "serve", "--file", "examples", *ZONES, *listen, "--lameduck", "0s", *more])


def globaldns_answers():
    return dig("app1.default.global", "A", server=V4, port=53) == ("NOERROR", "240.0.0.6")
