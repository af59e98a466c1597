"""Builds what is ours, and finds or installs what is not."""

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
ROOT = BENCH.parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "globaldns-bench"

COREDNS = "v1.15.0"
#: Programs of the distribution, with the Debian packages that have them.
PACKAGES = {
    "nsd": ["nsd"],
    "knotd": ["knot"],
    "named": ["bind9"],
    "pdns_server": ["pdns-server", "pdns-backend-bind"],
    "perf": ["linux-perf"],
    "valgrind": ["valgrind", "libc6-dbg"],
}
PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/go/bin"])


def say(text):
    print(text, file=sys.stderr, flush=True)


@functools.cache
def build(*only):
    """Builds globaldns and the programs of this package, or those named, unless BENCH_BINARIES names a directory that
    has them; returns where they are."""
    if built := os.environ.get("BENCH_BINARIES"):
        return Path(built).resolve()
    say("building globaldns and its benchmarks (release)")
    what = [word for name in only for word in ("--bin", name)] or ["-p", "globaldns", "--bins"]
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "-p", "globaldns-bench", *what],
        cwd=ROOT,
        check=True,
        stdout=sys.stderr,
    )
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    return ROOT / target / "release"


@functools.cache
def ours(name):
    return build() / name


@functools.cache
def distribution(name):
    """A program of a Debian package, installed if it is missing and we may."""
    found = shutil.which(name, path=PATH)
    if found:
        return Path(found)
    packages = PACKAGES[name]
    hint = f"there is no {name} on PATH or in /usr/sbin; install it as root: apt-get install {' '.join(packages)}"
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise SystemExit(hint)
    say(f"installing {' '.join(packages)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
    subprocess.run(["apt-get", "update", "-qq"], env=environment, check=True, stdout=sys.stderr)
    subprocess.run(install, env=environment, check=True, stdout=sys.stderr)
    found = shutil.which(name, path=PATH)
    if not found:
        raise SystemExit(hint)
    return Path(found)


def go():
    found = shutil.which("go", path=PATH)
    if not found:
        raise SystemExit("there is no go on PATH or in /usr/local/go/bin to build CoreDNS with; install Go 1.26 or newer")
    return found


@functools.cache
def coredns():
    directory = CACHE / f"coredns-{COREDNS}"
    program = directory / "coredns"
    if not program.exists():
        say(f"building CoreDNS {COREDNS} from its Go module (minutes, once)")
        environment = {**os.environ, "GOBIN": str(directory)}
        subprocess.run([go(), "install", f"github.com/coredns/coredns@{COREDNS}"], env=environment, check=True)
    return program


@functools.cache
def istiocoredns_shape():
    """The gRPC backend; Go's own cache makes a second build quick."""
    program = CACHE / "istiocoredns-shape"
    CACHE.mkdir(parents=True, exist_ok=True)
    subprocess.run([go(), "build", "-o", program, "."], cwd=BENCH / "compare" / "istiocoredns-shape", check=True)
    return program
