"""Calls of the load generator."""

import json
import subprocess
import time

from harness import processes, programs
from harness.servers import LOAD_CORE


def load(now, queries, *arguments, core=LOAD_CORE, patience=600):
    """Runs the generator against a running server and returns what it measured."""
    command = ["taskset", "-c", core, programs.ours("load"), "--json", "--target", f"127.0.0.1:{now.port}"]
    command += ["--queries", queries, *arguments]
    for pid in now.pids:
        command += ["--pid", pid]
    if not now.server.has_names:
        command.append("--echo-only")
    finished = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        text=True,
        timeout=patience,
        preexec_fn=processes.end_with_parent,
    )
    # 1 says that replies were wrong or lost, which the numbers say as well.
    if finished.returncode not in (0, 1):
        raise SystemExit(f"the load generator failed against {now.server.name}")
    return json.loads(finished.stdout)


def verify(now, queries):
    """Asks every query once; ends the run if any reply is not the right one."""
    result = load(now, queries, "--once", "--in-flight", 8, "--timeout", 5)
    bad = [key for key in ("wrong", "unexpected", "duplicate", "late", "lost", "refused") if result[key]]
    if bad:
        raise SystemExit(f"{now.server.name} does not answer all names rightly: {result}")
    return result["sent"]


def others_option(parser):
    what = "repeat a measurement if others took more than this share of a core meanwhile (default 0.03); processor time "
    parser.add_argument("--others", type=float, default=0.03, help=what + "bears more than tails do")


def calm(measure, pids, most, patience=1800):
    """Repeats a measurement until nothing else on the machine has taken more than `most` of a core meanwhile, for tails and
    caches are the first to show company. `measure` returns a row; what was taken goes into it as "others"."""
    deadline = time.monotonic() + patience
    while True:
        await_idle(deadline, max(most, 0.05))
        begun, before = time.monotonic(), processes.others(pids)
        row = measure()
        row["others"] = (processes.others(pids) - before) / (time.monotonic() - begun)
        if row["others"] <= most:
            return row
        if time.monotonic() > deadline:
            raise SystemExit(f"the machine is too busy: others take {row['others']:.2f} of a core")
        programs.say(f"others took {row['others']:.2f} of a core: once more")


def await_idle(deadline, most, span=0.5):
    """Waits until the machine has nothing to do. What is to be measured rests meanwhile."""
    while time.monotonic() < deadline:
        before = processes.busy()
        time.sleep(span)
        if (processes.busy() - before) / span <= most:
            return
