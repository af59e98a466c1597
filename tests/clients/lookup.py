"""As lookup.c, with dnspython's resolver of /etc/resolv.conf."""

import re
import sys

import dns.resolver
import dns.reversename


def lookup(name):
    found = []
    try:
        if re.fullmatch(r"[0-9.]+", name):
            return ",".join(str(item) for item in dns.resolver.resolve_address(name))
        for kind in ("A", "AAAA"):
            answer = dns.resolver.resolve(name, kind, search=True, raise_on_no_answer=False)
            found += [item.to_text() for item in answer.rrset or []]
    except dns.resolver.NXDOMAIN:
        return "not found"
    except (dns.resolver.NoNameservers, dns.resolver.LifetimeTimeout):
        return "try again"
    return ",".join(sorted(found)) or "not found"


for argument in sys.argv[1:]:
    many = re.fullmatch(r"(\d+)x(.+)", argument)
    results = {lookup(many[2] if many else argument) for _ in range(int(many[1]) if many else 1)}
    print(argument, results.pop() if len(results) == 1 else f"varies: {results}", sep="\t")
