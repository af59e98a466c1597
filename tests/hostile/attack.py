"""Attacks over TCP, against one server after the other: attack.py [NAME…]. Run by tests/hostile/run."""

import os
import resource
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

#: Who asks: a client that means well, and one that does not.
POLITE, HOSTILE = "127.0.0.1", "127.0.0.66"
#: How long a client that means well waits, seconds: as the C library does (resolv.conf).
PATIENCE = 5
#: Connections of the hostile client.
IDLE = 2000
#: How long one watches for a connection to be closed, seconds.
WATCH = 60
BIG = 1000
#: What globaldns promises: seconds until a connection without a complete query is closed (D14), with a little for us to
#: notice; MiB that all connections take, 24 KiB for each and 32 MiB for all beyond that (D14), with as much for what holds
#: them; seconds until it has ended that waits 5 s for replies in flight (L5).
CLOSED, MEMORY, ENDED = range(29, 41), 2 * (1024 * 24 // 1024 + 32), range(0, 11)


def free_port():
    """One for TCP and UDP that no client is given by chance."""
    for port in range(15353, 16353):
        try:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as s:
                    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, kind == socket.SOCK_STREAM)
                    s.bind(("127.0.0.1", port))
            return port
        except OSError:
            continue
    sys.exit("no port from 15353 to 16352 is free")


PORT = free_port()


def query(name, qid=7):
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    message = struct.pack("!6H", qid, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)
    return struct.pack("!H", len(message)) + message


ASK, ASK_BIG = query("a.global"), query("big.global")


def zone(directory):
    lines = ["$ORIGIN global.", "$TTL 30", "@ SOA ns.dns hostmaster 1 7200 1800 86400 5", "@ NS ns.dns", "ns.dns A 127.0.0.1"]
    lines += ["a A 240.0.0.1"] + [f"big A 240.1.{n >> 8}.{n & 255}" for n in range(BIG)]
    (directory / "global.zone").write_text("\n".join(lines) + "\n")


def entries(directory):
    addresses = "".join(f"\n  - 240.1.{n >> 8}.{n & 255}" for n in range(BIG))
    (directory / "entries.yaml").write_text(
        "kind: ServiceEntry\nspec: {hosts: [a.global], addresses: [240.0.0.1]}\n"
        f"---\nkind: ServiceEntry\nspec:\n  hosts: [big.global]\n  addresses:{addresses}\n"
    )


def globaldns(directory):
    entries(directory)
    return [os.environ["GLOBALDNS_BINARY"], "serve", "--file", "entries.yaml", "--listen", f"127.0.0.1:{PORT}",
            "--admin-listen", "off", "--lameduck", "0s"]  # fmt: skip


def nsd(directory):
    (directory / "nsd.conf").write_text(
        f'server:\n  ip-address: 127.0.0.1\n  port: {PORT}\n  username: ""\n  chroot: ""\n  zonesdir: "{directory}"\n'
        f'  database: ""\n  pidfile: "{directory}/pid"\n  xfrdfile: "{directory}/xfrd"\n  zonelistfile: "{directory}/list"\n'
        f'  xfrdir: "{directory}"\n  logfile: "{directory}/log"\nremote-control:\n  control-enable: no\n'
        "zone:\n  name: global\n  zonefile: global.zone\n"
    )
    return ["nsd", "-d", "-c", str(directory / "nsd.conf")]


def knot(directory):
    (directory / "knot.conf").write_text(
        f'server:\n  listen: 127.0.0.1@{PORT}\n  rundir: "{directory}"\ndatabase:\n  storage: "{directory}"\n'
        f'zone:\n- domain: global\n  file: "{directory}/global.zone"\n'
    )
    return ["knotd", "-c", str(directory / "knot.conf")]


def coredns(directory):
    (directory / "Corefile").write_text(f"global:{PORT} {{\n  bind 127.0.0.1\n  file {directory}/global.zone\n}}\n")
    return [os.environ["COREDNS"], "-conf", str(directory / "Corefile")]


SERVERS = {"globaldns": globaldns, "nsd": nsd, "knot": knot, "coredns": coredns}


class Server:
    def __init__(self, name):
        self.directory = Path(tempfile.mkdtemp(prefix=f"hostile-{name}-"))
        zone(self.directory)
        command = SERVERS[name](self.directory)
        self.log = open(self.directory / "output", "w")
        self.process = subprocess.Popen(command, cwd=self.directory, stdout=self.log, stderr=self.log)
        self.ended = None
        self.name = name

    def __enter__(self):
        try:
            deadline = time.monotonic() + 60
            while not polite():
                if time.monotonic() > deadline or self.process.poll() is not None:
                    sys.exit(f"{self.name} does not answer: {(self.directory / 'output').read_text()}")
                time.sleep(0.1)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def memory(self):
        """MiB of all its processes."""
        pids, total = [self.process.pid], 0
        for pid in pids:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            pids += [int(child) for child in children.read_text().split()]
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1])
        return total // 1024

    def stop(self):
        """Seconds until it has ended, and its exit code."""
        if self.ended:
            return self.ended
        begun = time.monotonic()
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
        shutil.rmtree(self.directory)
        self.ended = round(time.monotonic() - begun), self.process.returncode
        return self.ended


def connect(source, buffer=None, timeout=PATIENCE):
    s = socket.socket()
    if buffer:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    s.bind((source, 0))
    s.settimeout(timeout)
    s.connect(("127.0.0.1", PORT))
    return s


def ask(s):
    """Whether a query over this connection is answered."""
    try:
        s.sendall(ASK)
        received = b""
        while len(received) < 2 or len(received) < 2 + struct.unpack("!H", received[:2])[0]:
            some = s.recv(65536)
            if not some:
                return False
            received += some
        return b"\xf0\0\0\x01" in received
    except OSError:
        return False


def polite():
    """Whether a client that comes now is answered."""
    try:
        with connect(POLITE) as s:
            return ask(s)
    except OSError:
        return False


def udp():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(PATIENCE)
        s.connect(("127.0.0.1", PORT))
        try:
            s.send(ASK[2:])
            return b"\xf0\0\0\x01" in s.recv(4096)
        except OSError:
            return False


def close(sockets):
    for s in sockets:
        # No TIME_WAIT, for whoever comes next.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()


def answered(tries=10):
    return f"{sum(polite() for _ in range(tries))} of {tries}"


def held(octets, server):
    """IDLE connections that have sent so much: who is answered meanwhile."""
    kept = connect(POLITE)
    ask(kept)
    hostile = []
    for _ in range(IDLE):
        try:
            s = connect(HOSTILE, timeout=0.2)
            s.setblocking(False)
            if octets:
                s.send(octets)
            hostile.append(s)
        except OSError:
            break
    result = len(hostile), answered(), ask(kept), udp(), server.memory()
    close(hostile + [kept])
    return result


def unread(server):
    """Connections that ask for 16 MB each and read nothing."""
    hostile = []
    for _ in range(1100):
        try:
            s = connect(HOSTILE, buffer=2048, timeout=0.2)
            s.setblocking(False)
            hostile.append(s)
            s.send(ASK_BIG * 1000)
        except OSError:
            continue
    result = answered(), udp(), server.memory()
    return result, hostile


def until_closed(octets, pause):
    """Seconds until a connection is closed that sends these octets one by one, for ever; WATCH if that is too long."""
    s = connect(HOSTILE)
    begun = time.monotonic()
    sent = 0
    while time.monotonic() - begun < WATCH:
        try:
            if octets:
                s.send(octets[sent % len(octets) :][:1])
                sent += 1
            readable, _, _ = select.select([s], [], [], pause)
            if readable and not s.recv(65536):
                break
        except OSError:
            break
    elapsed = time.monotonic() - begun
    close([s])
    return min(round(elapsed), WATCH)


def attack(server):
    """A title for each result."""
    row = {"memory before, MiB": server.memory()}
    for title, octets in (("silent", b""), ("with half a query", ASK[:9])):
        connected, new, old, datagram, memory = held(octets, server)
        # Where nobody accepts them and the kernel's queue is full, there are fewer.
        row[f"{IDLE} connections {title}: that many were had"] = connected
        row[f"{IDLE} connections {title}: new clients answered"] = new
        row[f"{IDLE} connections {title}: an older connection goes on"] = "yes" if old else "no"
        row[f"{IDLE} connections {title}: UDP"] = "yes" if datagram else "no"
        row[f"{IDLE} connections {title}: memory, MiB"] = memory
    row["a silent connection is closed after, s"] = until_closed(b"", 1)
    # A query that never ends: its length says more than comes.
    row["one octet a second is closed after, s"] = until_closed(b"\xff", 1)
    (new, datagram, memory), hostile = unread(server)
    row["1100 connections read no replies: new clients answered"] = new
    row["1100 connections read no replies: UDP"] = "yes" if datagram else "no"
    row["1100 connections read no replies: memory, MiB"] = memory
    row["SIGTERM meanwhile: ends after, s"], row["with the exit code"] = server.stop()
    close(hostile)
    return row


def keeps(title, value, row):
    """Whether globaldns keeps what it promises."""
    if "closed after" in title:
        return value in CLOSED
    if title.endswith("memory, MiB"):
        return value <= row["memory before, MiB"] + MEMORY
    if "ends after" in title:
        return value in ENDED
    if "exit code" in title:
        return value == 0
    if "answered" in title or "older" in title or "UDP" in title:
        return value in ("10 of 10", "yes")
    return True


def main():
    names = sys.argv[1:] or list(SERVERS)
    rows = []
    for name in names:
        with Server(name) as server:
            rows.append((name, attack(server)))
    titles = list(rows[0][1])
    width = max(map(len, titles))
    print(" " * width, *(f"{name:>12}" for name, _ in rows))
    for title in titles:
        values = (row[title] for _, row in rows)
        print(f"{title:{width}}", *(f"{f'{v} or more' if v == WATCH and 'closed' in title else v!s:>12}" for v in values))
    failed = [
        f"{title}: {value}" for name, row in rows if name == "globaldns" for title, value in row.items() if not keeps(title, value, row)
    ]
    if failed:
        sys.exit(f"globaldns: {failed}")


resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
main()
