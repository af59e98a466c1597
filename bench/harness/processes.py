"""Child processes that end with us, and what /proc knows of them."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
SYS_PIDFD_GETFD = 438
SO_RCVBUFFORCE = 33
TICKS = os.sysconf("SC_CLK_TCK")

libc = ctypes.CDLL(None, use_errno=True)


def end_on_signals():
    """SIGTERM and SIGHUP end the script as Ctrl-C does: through its `finally` clauses."""

    def leave(number, _frame):
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, leave)


def start(command, core=None, log=None, environment=None, **options):
    """Starts a process, on one core if asked to. The kernel ends it should this script be killed."""
    if core is not None:
        command = ["taskset", "-c", str(core), *command]
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=options.pop("stdout", log or subprocess.DEVNULL),
        stderr=log or subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
        # Ctrl-C is this script's to see; it ends its children itself.
        start_new_session=True,
        preexec_fn=end_with_parent,
        **options,
    )


def end_with_parent():
    """To be called in a child before its program runs."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def end(process, patience=10):
    """Ends a process and those it started, by their ids."""
    family = [(pid, birth(pid)) for pid in descendants(process.pid)]
    process.terminate()
    try:
        process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + patience
    for pid, born in family:
        while birth(pid) == born and born is not None:
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)


def birth(pid):
    """When a process was started, so that a later one with its id is not taken for it; None if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def descendants(pid):
    """The processes a process has started, at any depth."""
    found = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def family(processes):
    """The ids of processes and of all they have started."""
    return [pid for process in processes for pid in (process.pid, *descendants(process.pid))]


def busy():
    """Processor seconds that programs have used on this machine so far."""
    fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    user, nice, system = (int(field) for field in fields[1:4])
    return (user + nice + system) / TICKS


def others(pids):
    """The same without this script, the children it has waited for, and the processes of `pids`."""
    used = sum(os.times()[:4])
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        used += (int(fields[11]) + int(fields[12])) / TICKS
    return busy() - used


def memory(pids, field="VmRSS"):
    """KiB of a field of /proc/PID/status, summed. Pages that processes share count in each."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(f"{field}:"):
                total += int(line.split()[1])
    return total


def proportional(pids):
    """KiB of resident memory, where a page that n processes share counts 1/n in each."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1])
    return total


def receive_buffer(pids, port, size):
    """Gives the UDP sockets of these processes at a port a receive buffer, as net.core.rmem_default would.

    Done from outside, so that every server has the same without a setting of its own, and without changing the
    machine. Returns the smallest buffer there is now, in octets; None if the kernel does not let us (not root).
    """
    inodes = set()
    for table in ("udp", "udp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rsplit(":", 1)[1], 16) == port:
                    inodes.add(f"socket:[{fields[9]}]")
    smallest = None
    for pid in pids:
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                if os.readlink(entry) not in inodes:
                    continue
                copy = libc.syscall(SYS_PIDFD_GETFD, handle, int(entry.name), 0)
                if copy < 0:
                    continue
                with socket.socket(fileno=copy) as opened:
                    with contextlib.suppress(PermissionError):
                        opened.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size)
                    now = opened.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
                    smallest = now if smallest is None else min(smallest, now)
        os.close(handle)
    return smallest


def free_port():
    """A loopback port that is free for UDP and TCP."""
    for _ in range(16):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            with contextlib.suppress(OSError):
                tcp.bind(udp.getsockname())
                return udp.getsockname()[1]
    raise SystemExit("the loopback has no free port")
