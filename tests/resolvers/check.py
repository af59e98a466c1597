"""Runs in a network of its own: see `run`.

Each case is a resolver with a text of `emit`, one shape of addresses, and whatever of the resolver's protections is to
be got past. Where a line of the text is there for a protection, the case is run again without that line and has
to fail: else the protection was not on.
"""

import re
import sys

from forwarders import (
    V4, V4_PORT, V6, V6_PORT, Commanded, bind, dig, dnsmasq, emit, globaldns, globaldns_answers, network, resolved, unbound,
    until, write,
)

# Reverse zones: one that nobody else has, two in networks that resolvers answer by themselves, and one around such.
REVERSE = ["--reverse", "240.0.0.0/8,10.99.0.0/16,fd00:99::/32,172.0.0.0/8"]
PRIVATE = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: private}
spec: {hosts: [private.global], addresses: [10.99.0.1, "fd00:99::1", 172.20.9.9], resolution: STATIC}
"""

# What the examples say. The last has addresses that look like an attack from outside.
QUESTIONS = [
    ("app1.default.global", "A", "NOERROR", "240.0.0.6"),
    ("httpbin.bar.cluster2", "A", "NOERROR", "240.0.0.2"),
    ("app1.default.global", "AAAA", "NOERROR", ""),
    ("no.such.global", "A", "NXDOMAIN", ""),
    ("echo.default.global", "A", "NOERROR", "127.255.0.1"),
    ("6.0.0.240.in-addr.arpa", "PTR", "NOERROR", "app1.default.global."),
    ("1.0.99.10.in-addr.arpa", "PTR", "NOERROR", "private.global."),
    ("2.0.99.10.in-addr.arpa", "PTR", "NXDOMAIN", ""),
    ("9.9.20.172.in-addr.arpa", "PTR", "NOERROR", "private.global."),
    ("1." + "0." * 23 + "9.9.0.0.0.0.d.f.ip6.arpa", "PTR", "NOERROR", "private.global."),
]

# Name, flavour, how to start it, addresses that the format can say, lines without which a protection bites, what
# is to go wrong then.
CASES = [
    ("dnsmasq", "dnsmasq", dnsmasq, [[V4], [V4_PORT], [V6], [V6_PORT], [V4, V4_PORT]], [r"^rebind-domain-ok=.*\n"]),
    ("unbound", "unbound", unbound, [[V4], [V4_PORT], [V6], [V6_PORT], [V4, V6_PORT]],
     [r"^ *domain-insecure:.*\n", r"^ *private-domain:.*\n", r"^ *local-zone:.*\n"]),
    ("bind", "bind", bind, [[V4], [V4_PORT], [V6], [V6_PORT], [V4, V4_PORT]], [r"^// In options:.*\n"]),
    ("bind", "bind-static-stub", bind, [[V4], [V6], [V4, V6]], [r"^// In options:.*\n", r" disable-empty-zone \"[^\"]*\";"]),
    ("systemd-resolved", "systemd-resolved", resolved, [[V4], [V4_PORT], [V6], [V6_PORT], [V4, V4_PORT]],
     [r"^# Note: where DNSSEC=.*\n"]),
    ("systemd-resolved", "systemd-resolved-link", Commanded, [[V4], [V4_PORT], [V6], [V6_PORT], [V4, V4_PORT]],
     [r"^resolvectl nta .*\n"]),
]


def wrong_answers():
    wrong = []
    for name, kind, status, answer in QUESTIONS:
        for more in ([], ["+tcp"]):
            got = dig(name, kind, *more)
            if got != (status, answer):
                wrong.append(f"{name} {kind} {' '.join(more)}: {got}, expected {(status, answer)}")
    return wrong


def check(label, running):
    with running:
        until(f"{label} to answer", running.answers)
        return wrong_answers()


def main():
    only = sys.argv[3:]
    network()
    failures, checked = [], 0
    with globaldns("--admin-listen", "off", "--file", write("private.yaml", PRIVATE), *REVERSE):
        until("globaldns", globaldns_answers)
        for resolver, flavour, start, shapes, needed in CASES:
            if only and resolver not in only:
                continue
            runs = [(addresses, False, None) for addresses in shapes] + [([V4], True, None)]
            runs += [([V4], True, line) for line in needed]
            for addresses, protected, without in runs:
                text = emit(flavour, *addresses, more=REVERSE)
                label = f"{flavour} {','.join(addresses)}{' protected' if protected else ''}"
                if without:
                    label += f" without {without}"
                    assert re.search(without, text, re.M), f"{label}: no such line"
                    text = re.sub(without, "", text, flags=re.M)
                wrong = check(label, start(text, protected))
                good = bool(wrong) == bool(without)
                checked += 1
                print(f"{'ok' if good else 'FAILED'}: {label}{' (fails as it must)' if without and good else ''}",
                      flush=True)
                if not good:
                    failures.append(label)
                    print("\n".join(wrong) or "it was to fail", flush=True)
    if not checked:
        sys.exit(f"no resolver is called {' or '.join(only)}")
    print(f"{checked} cases, {len(failures)} failed")
    sys.exit(bool(failures))


main()
