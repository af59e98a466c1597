"""The servers that are compared: how each is configured, started and asked.

All listen on the loopback, have one worker, log nothing of single queries, and limit nothing. What else a
configuration says is there so that the server is not held back by a feature the others lack.
"""

import contextlib
import os
import re
import socket
import struct
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from harness import processes, programs

SERVER_CORE = 0
LOAD_CORE = 1
#: Octets of each server's UDP receive buffer: it takes more than all queries that are ever in flight.
RECEIVE_BUFFER = 4 << 20
#: One thread for what Go runs.
ONE_THREAD = {"GOMAXPROCS": "1"}


@dataclass
class Names:
    """The names that all servers are given."""

    directory: Path
    hosts: int

    @property
    def zone(self):
        return self.directory / "global.zone"

    @property
    def entries(self):
        return self.directory / "entries.json"

    def queries(self, kind):
        return self.directory / f"{kind}.queries"


@dataclass
class Server:
    name: str
    #: Writes configuration into a directory, and returns the commands to run with their environments.
    commands: Callable
    version: Callable
    #: A responder without names is only asked to echo the question.
    has_names: bool = True
    #: Where it runs; None for anywhere.
    core: int | None = SERVER_CORE


@dataclass
class Running:
    server: Server
    port: int
    processes: list
    #: Seconds from the start until the first right answer.
    load_seconds: float = 0.0
    buffer: int | None = None
    pids: list = field(default_factory=list)


def write(path, text):
    path.write_text(text)
    return path


def nsd(names, directory, port):
    has_limit = "--enable-ratelimit" in output([programs.distribution("nsd"), "-v"])
    configuration = f"""server:
  ip-address: 127.0.0.1@{port}
  server-count: 1
  username: ""
  chroot: ""
  database: ""
  zonesdir: "{directory}"
  pidfile: "{directory}/nsd.pid"
  xfrdfile: "{directory}/xfrd.state"
  xfrdir: "{directory}"
  zonelistfile: "{directory}/zone.list"
  verbosity: 0
  minimal-responses: yes
  answer-cookie: no
  {"rrl-ratelimit: 0" if has_limit else ""}
remote-control:
  control-enable: no
zone:
  name: "global"
  zonefile: "{names.zone}"
"""
    return [([programs.distribution("nsd"), "-d", "-c", write(directory / "nsd.conf", configuration)], {})]


def knot(names, directory, port):
    configuration = f"""server:
  rundir: "{directory}"
  listen: 127.0.0.1@{port}
  udp-workers: 1
  tcp-workers: 1
  background-workers: 1
log:
- target: stderr
  any: error
database:
  storage: "{directory}"
template:
- id: default
  storage: "{directory}"
  semantic-checks: off
  journal-content: none
  zonefile-sync: -1
zone:
- domain: global
  file: "{names.zone}"
"""
    return [([programs.distribution("knotd"), "-c", write(directory / "knot.conf", configuration)], {})]


def bind(names, directory, port):
    configuration = f"""options {{
  directory "{directory}";
  pid-file none;
  session-keyfile none;
  lock-file none;
  listen-on port {port} {{ 127.0.0.1; }};
  listen-on-v6 {{ none; }};
  recursion no;
  empty-zones-enable no;
  minimal-responses yes;
  dnssec-validation no;
  notify no;
  querylog no;
}};
controls {{ }};
zone "global" {{ type primary; file "{names.zone}"; check-names ignore; }};
"""
    command = [programs.distribution("named"), "-f", "-n", "1", "-c", write(directory / "named.conf", configuration)]
    return [(command, {})]


def powerdns(names, directory, port):
    write(directory / "zones.conf", f'zone "global" {{ type master; file "{names.zone}"; }};\n')
    configuration = f"""launch=bind
bind-config={directory}/zones.conf
local-address=127.0.0.1
local-port={port}
socket-dir={directory}
daemon=no
guardian=no
receiver-threads=1
distributor-threads=1
cache-ttl=60
query-cache-ttl=60
negquery-cache-ttl=60
max-cache-entries=4000000
max-packet-cache-entries=4000000
disable-syslog=yes
loglevel=2
security-poll-suffix=
version-string=anonymous
"""
    write(directory / "pdns.conf", configuration)
    return [([programs.distribution("pdns_server"), f"--config-dir={directory}"], {})]


def coredns_file(names, directory, port):
    corefile = f".:{port} {{\n  bind 127.0.0.1\n  file {names.zone} global\n}}\n"
    return [([programs.coredns(), "-conf", write(directory / "Corefile", corefile)], ONE_THREAD)]


def coredns_grpc(names, directory, port):
    backend = processes.free_port()
    corefile = f".:{port} {{\n  bind 127.0.0.1\n  grpc . 127.0.0.1:{backend}\n}}\n"
    return [
        ([programs.istiocoredns_shape(), "-listen", f"127.0.0.1:{backend}", "-zone", names.zone], ONE_THREAD),
        ([programs.coredns(), "-conf", write(directory / "Corefile", corefile)], ONE_THREAD),
    ]


def globaldns(names, listen, workers=1):
    command = [programs.ours("globaldns"), "serve", "--file", names.entries, "--listen", listen]
    command += ["--admin-listen", "off", "--lameduck", "0s", "--log-level", "warn", "--workers", workers]
    return [(command, {})]


def output(command):
    finished = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=60)
    return finished.stdout + finished.stderr


def version_of(command, pattern):
    """The version in what a program says of itself."""

    def version():
        said = output(command())
        found = re.search(pattern, said)
        return found.group(0) if found else said.strip().split("\n")[0]

    return version


def ours(name):
    return version_of(lambda: [programs.ours("globaldns"), "--version"], r"globaldns .*") if name == "globaldns" else (
        lambda: "of this repository"
    )


SERVERS = [
    Server("bare", lambda n, d, p: [([programs.ours("bare"), "--listen", f"127.0.0.1:{p}"], {})], ours("bare"), False),
    Server(
        "bare, pktinfo",
        lambda n, d, p: [([programs.ours("bare"), "--listen", f"[::]:{p}", "--pktinfo"], {})],
        ours("bare"),
        False,
    ),
    Server("globaldns", lambda n, d, p: globaldns(n, f"127.0.0.1:{p}"), ours("globaldns")),
    Server("globaldns, wildcard listen", lambda n, d, p: globaldns(n, f":{p}"), ours("globaldns")),
    Server(
        "hickory",
        lambda n, d, p: [([programs.ours("hickory"), "--listen", f"127.0.0.1:{p}", "--hosts", n.hosts], {})],
        lambda: "hickory-server " + locked("hickory-server"),
    ),
    Server("NSD", nsd, version_of(lambda: [programs.distribution("nsd"), "-v"], r"NSD version \S+")),
    Server("Knot", knot, version_of(lambda: [programs.distribution("knotd"), "-V"], r"knotd.*")),
    Server("BIND", bind, version_of(lambda: [programs.distribution("named"), "-v"], r"BIND \S+")),
    Server(
        "PowerDNS",
        powerdns,
        version_of(lambda: [programs.distribution("pdns_server"), "--version"], r"PowerDNS Authoritative Server \S+"),
    ),
    Server("CoreDNS file", coredns_file, version_of(lambda: [programs.coredns(), "-version"], r"CoreDNS-\S+")),
    Server("CoreDNS grpc", coredns_grpc, version_of(lambda: [programs.coredns(), "-version"], r"CoreDNS-\S+")),
]


def locked(crate):
    """The version of a crate in Cargo.lock."""
    lock = (programs.ROOT / "Cargo.lock").read_text()
    return re.search(rf'name = "{crate}"\nversion = "(.*)"', lock).group(1)


def make_names(directory, hosts, write=("json", "zone", "hits", "mix")):
    """Writes the names of a run."""
    command = [programs.ours("names"), "--hosts", hosts, "--to", directory, "--write", ",".join(write)]
    subprocess.run([str(word) for word in command], check=True, timeout=600)
    return Names(Path(directory), hosts)


@contextlib.contextmanager
def running(server, names, directory, patience=300):
    """A server that answers, on its core; ended when left."""
    directory = Path(directory) / re.sub(r"\W+", "-", server.name)
    directory.mkdir(exist_ok=True)
    port = processes.free_port()
    started = []
    log_path = directory / "log"
    try:
        with open(log_path, "w") as log:
            commands = server.commands(names, directory, port)
            begun = time.monotonic()
            for command, environment in commands:
                started.append(processes.start(command, server.core, log, environment, cwd=directory))
        now = Running(server, port, started)
        try:
            await_answer(now, names.hosts - 1, begun + patience)
        except RuntimeError as error:
            raise SystemExit(f"{server.name}: {error}; it said:\n{log_path.read_text()[-4000:]}") from error
        now.load_seconds = time.monotonic() - begun
        now.pids = processes.family(started)
        now.buffer = processes.receive_buffer(now.pids, port, RECEIVE_BUFFER)
        yield now
        for process in started:
            if process.poll() is not None:
                raise SystemExit(f"{server.name} has ended by itself; it said:\n{log_path.read_text()[-4000:]}")
    finally:
        for process in reversed(started):
            processes.end(process)


def await_answer(now, number, deadline):
    """Asks for one host until the right answer comes."""
    address = struct.pack(">I", 0xF0000001 + number)
    name = f"svc-{number:06}.ns-{number % 100:02}.global"
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    query = b"\0\1\0\0\0\1\0\0\0\0\0\0" + labels + b"\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(("127.0.0.1", now.port))
        client.settimeout(0.02)
        while time.monotonic() < deadline:
            if any(process.poll() is not None for process in now.processes):
                raise RuntimeError("it did not start")
            try:
                client.send(query)
                reply = client.recv(4096)
            except ConnectionRefusedError:
                time.sleep(0.001)
                continue
            except TimeoutError:
                continue
            if reply[3] & 0x0F == 0 and (not now.server.has_names or address in reply):
                return
            time.sleep(0.001)
    raise RuntimeError("it gave no right answer in time")
