"""Runs in a network of its own: see `run`. Arguments after the first two: the program of CoreDNS, and `--write`."""

import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "resolvers"))

import checks
import servers
from checks import BY_CHOICE, dig_reply, drill_reply, holds, kdig_reply
from forwarders import WORK, until
from report import document, table
from servers import ADDRESSES

COREDNS, WRITE = sys.argv[3], "--write" in sys.argv[4:]

# dig's options in kdig's words. What is not here, kdig cannot say.
KDIG = {
    "+noedns": ["+noedns"], "+noad": ["+noadflag"], "+ad": ["+adflag"], "+norec": ["+nordflag"], "+rec": ["+rdflag"],
    "+cd": ["+cdflag"], "+zflag": ["+zflag"], "+aaflag": ["+aaflag"], "+raflag": ["+raflag"], "+tcflag": ["+tcflag"],
    "+tcp": ["+tcp"], "+edns=0": ["+edns=0"], "+edns=1": ["+edns=1"], "+noednsneg": [], "+nocookie": ["+nocookie"],
    "+ednsopt=100": ["+ednsopt=100"], "+dnssec": ["+dnssec"], "+ignore": ["+ignore"], "+nsid": ["+nsid"],
    "+bufsize=512": ["+bufsize=512"], "+bufsize=800": ["+bufsize=800"], "+bufsize=4096": ["+bufsize=4096"],
    "+subnet=0.0.0.0/0": ["+subnet=0.0.0.0/0"], "+subnet=2001:db8::/56": ["+subnet=2001:db8::/56"],
    "+cookie=0102030405060708": ["+cookie=0102030405060708"], "+padding=128": ["+padding=128"],
}
# And in drill's, which sets RD and sends no OPT unless it is told.
DRILL = {
    "+noedns": [], "+nocookie": [], "+noad": [], "+ad": ["-o", "ad"], "+norec": ["-o", "rd"], "+rec": [],
    "+cd": ["-o", "CD"], "+tcp": ["-t"], "+dnssec": ["-D"], "+bufsize=512": ["-b", "512"],
}
# The types whose names all three know.
KINDS = {"soa", "a", "aaaa", "ns", "txt", "any", "dnskey"}


def spelled(word):
    return word.replace("$zone", "global").replace("$ZONE", "GlObAl")


def said(program, check, address, tcp):
    """The words of another program's command, or None where it cannot say that."""
    told = {"kdig": KDIG, "drill": DRILL}[program]
    words, out = check.command.split(), [program, f"@{address}"]
    if not KINDS & set(words):
        return None
    for word in words:
        if not word.startswith("+"):
            out.append(spelled(word))
        elif word in told:
            out += told[word]
        else:
            return None
    if program == "drill":
        # Small letters clear a flag, and capitals set it.
        out = [{"ad": "AD"}.get(word, word) for word in out]
        out += ["-t"] if tcp and "-t" not in out else []
        return out if "+dnssec" in words or "+noedns" in words else None
    return out + ["+retry=0", "+timeout=5"] + (["+tcp"] if tcp and "+tcp" not in out else [])


def dig(check, address, tcp):
    words = [spelled(word) for word in check.command.split()]
    return ["dig", f"@{address}", *words, "+qr", "+tries=1", "+time=5"] + (["+tcp"] if tcp and "+tcp" not in words else [])


def output(command):
    return subprocess.run(command, capture_output=True, text=True, errors="replace").stdout


def judge(check, reply):
    """What does not hold."""
    if reply is None:
        return ["no reply"]
    return [word for word in check.expected if not holds(reply, word)]


def ways(check, name):
    """Over which family and transport a check is made, and what with. Others are asked as the document has it, once."""
    ours = name == "globaldns"
    transports = [True] if "+tcp" in check.command else [False] if "+ignore" in check.command else [False, True]
    for address in ADDRESSES[name] if ours else ADDRESSES[name][:1]:
        for tcp in transports if ours else transports[:1]:
            yield "dig", dig(check, address, tcp), dig_reply
            if ours:
                for program, read in (("kdig", kdig_reply), ("drill", drill_reply)):
                    command = said(program, check, address, tcp)
                    if command:
                        yield program, command, read


def asked(check, name):
    """What failed in any way, with how often and by which programs it was asked."""
    failed, programs, runs = {}, set(), 0
    for program, command, read in ways(check, name):
        out = output(command).split(";; Got answer:")[-1] if program == "dig" else output(command)
        wrong = judge(check, read(out))
        # Neither shows what its own query had, nor all that was in the reply.
        if program != "dig":
            wrong = [word for word in wrong if not word.startswith(("question", "opcode", "option", "no option", "no MBZ"))]
        for word in wrong:
            failed.setdefault(word, " ".join(command))
        programs.add(program)
        runs += 1
    return failed, programs, runs


def verdict(check, failed):
    """For our own column: pass, by choice, or FAILED."""
    if not failed:
        return "pass"
    choice = BY_CHOICE.get(check.name)
    if choice and set(failed) <= set(choice[0]):
        return f"by choice: {choice[1]}"
    return f"FAILED: {other(failed)}"


def contrary(words):
    return ", ".join(f"has {word[3:]}" if word.startswith("no ") and word != "no reply" else f"not {word}" for word in words)


def other(failed):
    return contrary(failed).replace("not no reply", "no reply") if failed else "pass"


def genreport():
    """ISC's own program, where it is installed: every test is to say `ok`, but for what is by choice."""
    program = shutil.which("genreport")
    if not program:
        print("there is no genreport on PATH: its own verdict is left out", flush=True)
        return []
    chosen = {name: words for name, (words, _, _) in BY_CHOICE.items()}
    wrong = []
    for mode in ("-efc", "-t"):
        lines = "".join(f"global ns.dns.global {address}\n" for address in ADDRESSES["globaldns"])
        out = subprocess.run([program, mode], input=lines, capture_output=True, text=True).stdout
        for server in out.splitlines():
            for result in server.split(": ", 1)[1].split():
                name, _, tags = result.partition("=")
                bad = [tag for tag in tags.split(",") if tag not in ("ok", "nsid", "cookie")]
                if bad and not set(f"no {tag}" for tag in bad) <= set(chosen.get(name, ())):
                    wrong.append(f"genreport {server.split(': ')[0]} {result}")
        print(f"genreport {mode}: {out.count('=')} results", flush=True)
    return wrong


def dnsviz():
    """DNSViz looks at the zone, a host and an absent name as if they were delegated to us: no error, no warning."""
    where = ",".join(f"ns.dns.global=[{address}]" for address in ADDRESSES["globaldns"])
    names = ["global", "app1.default.global", "more.test.global", "no.such.global"]
    probe = os.path.join(WORK, "probe.json")
    output(["dnsviz", "probe", "-A", "-x", f"global+:{where}", "-o", probe, *names])
    seen = json.loads(output(["dnsviz", "grok", "-l", "info", "-r", probe]) or "{}")
    wrong = [f"dnsviz did not look at {name}" for name in names if f"{name}." not in seen]
    warned = output(["dnsviz", "grok", "-l", "warning", "-r", probe]).strip()
    print(f"dnsviz: {len(seen)} names, {len(warned)} octets of warnings and errors", flush=True)
    return wrong + ([f"dnsviz: {warned}"] if warned else [])


def main():
    servers.network()
    zone = servers.zone_file()
    others = [servers.nsd, servers.knot, servers.bind, servers.coredns(COREDNS)]
    running = [servers.globaldns(), *(start(zone) for start in others)]
    names = list(ADDRESSES)
    wrong, parts, counts = [], [], {"pass": 0, "by choice": 0, "runs": 0}
    for process in running:
        process.__enter__()
    try:
        for name, (v4, v6) in ADDRESSES.items():
            for address in (v4, v6):
                ask = ["dig", f"@{address}", "+norec", "+tries=1", "+time=1", "soa", "global"]
                until(f"{name} at {address}", lambda: "status: NOERROR" in output(ask))
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for title, listed in checks.groups():
                results = {}
                for name in names:
                    results[name] = list(pool.map(lambda check, name=name: asked(check, name), listed))
                rows = []
                for position, check in enumerate(listed):
                    failed, programs, runs = results["globaldns"][position]
                    ours = verdict(check, failed)
                    counts["runs"] += runs
                    counts["pass" if ours == "pass" else "by choice"] += 1
                    expected = ", ".join(check.expected)
                    print(f"{title}: {check.name}\n  dig {check.command}\n  expected: {expected}\n  {ours}", flush=True)
                    if ours.startswith("FAILED"):
                        wrong.append(f"{check.name}: {ours}")
                        for word, command in failed.items():
                            print(f"    {word}: {command}", flush=True)
                    tools = ", ".join(tool for tool in ("dig", "kdig", "drill") if tool in programs)
                    cells = [other(results[name][position][0]) for name in names[1:]]
                    rows.append([check.name, f"`{check.command}`", expected, tools, ours, *cells])
                parts.append((title, rows))
        wrong += genreport() + dnsviz()
    finally:
        for process in reversed(running):
            process.__exit__()
    # A check that cannot fail says nothing: one of the others has to fail something.
    failing = sum(cell != "pass" for _, rows in parts for row in rows for cell in row[5:])
    if not failing:
        wrong.append("no other server failed any check")
    held = {row[0] for _, rows in parts for row in rows if not row[4].startswith("by choice")}
    wrong += [f"{name}: it is by choice in BY_CHOICE, and holds" for name in BY_CHOICE if name in held]
    text = written(parts, names)
    if not document("checks", text, WRITE, without_others):
        wrong.append("docs/conformance.md is out of date")
    print(f"{counts['pass']} checks pass, {counts['by choice']} are by choice, in {counts['runs']} queries; "
          f"the other servers fail {failing}; {len(wrong)} failures")
    print("\n".join(wrong))
    sys.exit(bool(wrong))


def without_others(text):
    """What has to be as it is documented: other versions of the others may answer otherwise."""
    return re.sub(r"^(\|(?: [^|]* \|){3,}?)(?: [^|]* \|){4}$", r"\1", text, flags=re.M)


def written(parts, names):
    text = []
    for title, rows in parts:
        text.append(f"### {title}\n")
        text.append(checks.ABOUT[title] + "\n")
        if title == "Types":
            text.append(textwrap.fill(" ".join(row[0] for row in rows) + ".", 120) + "\n")
            rows = [row for row in rows if any(cell != "pass" for cell in row[4:])]
            text.append(f"{'Not all pass:' if rows else 'All pass, at every server.'}\n")
        # Where one sentence says what is expected, the table does not repeat it.
        keep = [0, 1, 3, *range(4, 9)] if title == "EDNS compliance tests" else range(9)
        if rows:
            head = ["Check", "`dig …`", "Expected", "Asked with", *names]
            text.append(table([head[i] for i in keep], [[row[i] for i in keep] for row in rows]))
    text.append("### By choice\n")
    text.append(table(["Check", "The reply", "Clause", "Why"],
                      [[name, contrary(words), clause, why] for name, (words, clause, why) in BY_CHOICE.items()]))
    return "\n".join(text)


main()
