"""Where a run's numbers are kept, and on what machine they came about."""

import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from pathlib import Path

from harness.programs import BENCH, ROOT


class Record:
    """A directory `bench/runs/<date>-<commit>-<what>` with machine.json, raw.jsonl and table.md."""

    def __init__(self, what, versions):
        now = datetime.datetime.now(datetime.timezone.utc)
        self.directory = BENCH / "runs" / f"{now:%Y-%m-%dT%H%M%S}-{commit()}-{what}"
        self.directory.mkdir(parents=True)
        facts = {**machine(), "date": f"{now:%Y-%m-%dT%H:%M:%SZ}", "commit": commit(), "versions": versions}
        facts["command"] = shlex.join([os.path.relpath(sys.argv[0], ROOT), *sys.argv[1:]])
        (self.directory / "machine.json").write_text(json.dumps(facts, indent=2) + "\n")
        self.facts = facts

    def add(self, **measured):
        """Keeps one measurement as it was."""
        with open(self.directory / "raw.jsonl", "a") as out:
            out.write(json.dumps(measured) + "\n")

    def finish(self, text):
        """Prints and keeps the table."""
        facts = self.facts
        head = f"`{facts['command']}` at commit {facts['commit']}, {facts['date']}; {facts['cpu']}, "
        head += f"{facts['cores']} cores, Linux {facts['kernel']}, load average at the start {facts['load_average']}.\n"
        head += "Versions: " + "; ".join(f"{name}: {version}" for name, version in facts["versions"].items()) + ".\n"
        (self.directory / "table.md").write_text(head + "\n" + text + "\n")
        print(text)
        print(f"\nkept in {os.path.relpath(self.directory)}", file=sys.stderr)


def commit():
    command = ["git", "describe", "--always", "--dirty", "--abbrev=9", "--exclude", "*"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


def machine():
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "cpu": cpu[0].split(":", 1)[1].strip() if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "load_average": round(os.getloadavg()[0], 2),
    }


def median(rows, key):
    return statistics.median(row[key] for row in rows)


def table(columns, rows):
    """A Markdown table; numbers to the right."""
    aligned = ["---" if index == 0 else "--:" for index in range(len(columns))]
    lines = [columns, aligned, *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
