"""A share of a processor for a server, as Kubernetes gives it: a cgroup with a CPU quota."""

import contextlib
import os
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
#: What kubelet has, in microseconds: who has used up its share waits for the next 100 ms.
PERIOD = 100_000


@contextlib.contextmanager
def quota(share):
    """A cgroup whose processes have `share` of one processor together, whatever else runs there: the quota takes from
    them, and other processes do not. Yields what a command is to be prefixed with."""
    name = f"globaldns-{os.getpid()}-{time.monotonic_ns()}"
    limit = int(share * PERIOD)
    v2 = CGROUPS / "cgroup.controllers"
    try:
        if v2.exists() and "cpu" in v2.read_text().split():
            (CGROUPS / "cgroup.subtree_control").write_text("+cpu")
            group, values = CGROUPS / name, {"cpu.max": f"{limit} {PERIOD}", "cpu.weight": 10_000}
        else:
            group, values = CGROUPS / "cpu" / name, {"cpu.cfs_period_us": PERIOD, "cpu.cfs_quota_us": limit}
            values["cpu.shares"] = 262_144
        group.mkdir()
    except OSError as error:
        raise SystemExit(f"no cgroup with a CPU quota can be made here: {error}; it needs root, and the controller cpu")
    try:
        for file, value in values.items():
            (group / file).write_text(str(value))
        # Before the program begins, so that no thread of it is left outside.
        yield ["sh", "-c", 'echo $$ >"$0" && exec "$@"', str(group / "cgroup.procs")]
    finally:
        remove(group)


def remove(group, patience=10):
    """Those in it have ended, or are about to."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
