"""What is asked, and what the documents say of the reply.

A command is `dig`'s, without the server; `$zone` is the zone. An expectation is one of the words of `HOLDS`.
"""

import re
from dataclasses import dataclass, field


@dataclass
class Reply:
    status: str
    opcode: str
    flags: set
    answers: list = field(default_factory=list)  # lines of the answer section
    options: set = field(default_factory=set)
    opt: bool = False
    version: int = 0
    do: bool = False
    mbz: bool = False
    question: str = ""
    records: int = 0  # all but the OPT
    size: int = 0


@dataclass
class Reader:
    """How a program prints a reply: two lines of the header, the OPT, its options, and the size."""

    header: str
    flags: str
    edns: str
    options: str
    size: str = r"MSG SIZE  rcvd: (\d+)"

    def __call__(self, out):
        """The reply, or None for silence."""
        if "; Transfer failed." in out:
            return Reply("REFUSED", "QUERY", set())
        header, flags = re.search(self.header, out), re.search(self.flags, out, re.M)
        if not header or not flags:
            return None
        reply = Reply(header["status"], header["opcode"], set(flags["flags"].split()))
        reply.mbz = "MBZ" in flags["rest"] or "z" in reply.flags
        edns = re.search(self.edns, out, re.M)
        if edns:
            reply.opt, reply.version, reply.do = True, int(edns["version"]), "do" in edns["flags"].split()
            reply.mbz |= "MBZ" in edns["rest"]
            # kdig has the upper bits of the response code here.
            extended = re.search(r"ext-rcode: (\w+)", edns["rest"])
            if extended and reply.status == "NOERROR":
                reply.status = extended[1]
            section = re.split(r"\n;; [A-Z]+ SECTION|\n\n", out[edns.end():])[0]
            reply.options = {option.upper() for option in re.findall(self.options, section, re.M)}
        reply.records = sum(int(count) for count in re.findall(r"(?:ANSWER|AUTHORITY|ADDITIONAL): (\d+)", out)) - reply.opt
        answer = re.search(r"^;; ANSWER SECTION:\n(.*?)(?:\n\n|\Z)", out, re.M | re.S)
        lines = answer[1].splitlines() if answer else []
        reply.answers = [line for line in lines if len(line.split()) > 3 and not line.startswith(";")]
        question = re.search(r"^;; QUESTION SECTION:\n;;? ?(\S+)", out, re.M)
        reply.question = question[1].rstrip(".") if question else ""
        size = re.search(self.size, out)
        reply.size = int(size[1]) if size else 0
        return reply


dig_reply = Reader(
    header=r"opcode: (?P<opcode>\w+), status: (?P<status>\w+), id",
    flags=r"^;; flags:(?P<flags>[^;]*);(?P<rest>.*?)QUERY:",
    edns=r"^; EDNS: version: (?P<version>\d+), flags:(?P<flags>[^;]*);(?P<rest>.*)udp: \d+",
    options=r"^; ([A-Z][A-Z-]*(?:=\d+)?)",
)
kdig_reply = Reader(
    header=r"opcode: (?P<opcode>\w+); status: (?P<status>\w+); id",
    flags=r"^;; Flags:(?P<flags>[^;]*);(?P<rest>.*?)QUERY:",
    edns=r"^;; Version: (?P<version>\d+); flags:(?P<flags>[^;]*);(?P<rest>.*)",
    options=r"^;; (?:Option )?\(?(\w[\w-]*)",
    size=r"Received (\d+) B",
)
drill_reply = Reader(
    header=r"opcode: (?P<opcode>\w+), rcode: (?P<status>\w+), id",
    flags=r"^;; flags:(?P<flags>[^;]*);(?P<rest>.*?)QUERY:",
    edns=r"^;; EDNS: version (?P<version>\d+); flags:(?P<flags>[^;]*)(?P<rest>.*)",
    options=r"^; (\w+)",
)


def holds(reply, word):
    """Whether the reply is as the word says: a response code, a thing that is there, or `no` and a thing."""
    if word.startswith("no "):
        return not holds(reply, word[3:])
    if word.isupper() and word not in ("SOA", "OPT", "DO", "MBZ"):
        return reply.status == word
    if word == "error":
        return reply.status not in ("NOERROR", "NXDOMAIN")
    if word in ("aa", "rd", "ra", "ad", "cd", "tc"):
        return word in reply.flags
    if word.startswith("option "):
        wanted = word.removeprefix("option ").upper()
        return any(option in (wanted, f"OPT={wanted}") for option in reply.options)
    if word.startswith("at most "):
        return 0 < reply.size <= int(word.removeprefix("at most "))
    if word.startswith("question "):
        return reply.question == word.removeprefix("question ")
    return {
        "SOA": any(re.search(r"\sSOA\s", line) for line in reply.answers),
        "answer": bool(reply.answers),
        "one RRset": len({(line.split()[0].lower(), line.split()[3]) for line in reply.answers}) == 1,
        "OPT": reply.opt,
        "version 0": reply.opt and reply.version == 0,
        "DO": reply.do,
        "MBZ": reply.mbz,
        "records": reply.records > 0,
        "opcode 15": reply.opcode == "RESERVED15",
    }[word]


@dataclass
class Check:
    name: str
    command: str
    expected: list


def rfc8906():
    """RFC 8906, sections 8.1.1 to 8.2.10. The expectations that all of one kind share are put together here."""
    plain = ["aa", "no ad", "no OPT"]
    soa = ["NOERROR", "SOA", *plain, "no rd"]
    edns = ["NOERROR", "SOA", "OPT", "version 0", "aa", "no ad"]
    badvers = ["BADVERS", "no SOA", "OPT", "version 0", "no aa", "no ad"]
    dns, new = "+noedns +noad +norec", "+nocookie +edns=1 +noednsneg +noad +norec"
    zero = "+nocookie +edns=0 +noad +norec"
    return [
        Check("8.1.1 server configured for the zone", f"{dns} soa $zone", soa),
        Check("8.1.2 unknown type", f"{dns} type1000 $zone", ["NOERROR", "no answer", *plain, "no rd"]),
        Check("8.1.3.1 CD=1", f"{dns} +cd soa $zone", soa),
        Check("8.1.3.2 AD=1", "+noedns +norec +ad soa $zone", ["NOERROR", "SOA", "aa", "no OPT", "no rd"]),
        Check("8.1.3.3 reserved bit", f"{dns} +zflag soa $zone", [*soa, "no MBZ"]),
        Check("8.1.3.4 recursive query", "+noedns +noad +rec soa $zone", ["NOERROR", "SOA", *plain, "rd"]),
        Check("8.1.4 unknown opcode", "+noedns +noad +opcode=15 +norec +header-only",
              ["NOTIMP", "opcode 15", "no SOA", "no aa", "no rd", "no ad", "no OPT"]),
        Check("8.1.5 TCP", f"{dns} +tcp soa $zone", soa),
        Check("8.2.1 minimal EDNS", f"{zero} soa $zone", edns),
        Check("8.2.2 version negotiation", f"{new} soa $zone", badvers),
        Check("8.2.3 unknown option", f"{zero} +ednsopt=100 soa $zone", [*edns, "no option 100"]),
        Check("8.2.4 unknown flag", f"{zero} +ednsflags=0x40 soa $zone", [*edns, "no MBZ"]),
        Check("8.2.5 version and unknown flag", f"{new} +ednsflags=0x40 soa $zone", [*badvers, "no MBZ"]),
        Check("8.2.6 version and unknown option", f"{new} +ednsopt=100 soa $zone", [*badvers, "no option 100"]),
        Check("8.2.7 truncated response", "+norec +dnssec +bufsize=512 +ignore dnskey $zone", ["NOERROR", "OPT", "version 0"]),
        Check("8.2.8 DO=1", f"{zero} +dnssec soa $zone", [*edns, "DO"]),
        Check("8.2.9 version and DO=1", f"{new} +dnssec soa $zone", [*badvers, "DO"]),
        Check("8.2.10 several options", "+edns=0 +noad +norec +cookie +nsid +expire +subnet=0.0.0.0/0 soa $zone", edns),
    ]


# Name, what `dig` is told beyond the base of its kind: EDNS compliance tests of ISC (genreport, groups EDNS, FULL, COMMON).
EDNS_COMPLIANCE = [
    ("dns", "+noedns +noad +norec soa"),
    ("aa", "+noedns +noad +norec +aaflag soa"),
    ("ad", "+noedns +ad +norec soa"),
    ("cd", "+noedns +noad +norec +cd soa"),
    ("ra", "+noedns +noad +norec +raflag soa"),
    ("rd", "+noedns +noad +rec soa"),
    ("tc", "+noedns +noad +norec +tcflag soa"),
    ("zflag", "+noedns +noad +norec +zflag soa"),
    ("opcode", "+noedns +noad +norec +header-only +opcode=15"),
    ("opcodeflg", "+noedns +header-only +opcode=15 +tcflag +rec +raflag +cd +ad +aaflag +zflag"),
    ("type666", "+noedns +noad +norec type666"),
    ("tcp", "+noedns +noad +norec +tcp soa"),
    ("edns", "+edns=0 +nocookie +noad +norec soa"),
    ("edns1", "+edns=1 +noednsneg +nocookie +noad +norec soa"),
    ("edns@512", "+edns=0 +nocookie +noad +norec +dnssec +ignore +bufsize=512 dnskey"),
    ("ednsopt", "+edns=0 +nocookie +noad +norec +ednsopt=100 soa"),
    ("edns1opt", "+edns=1 +noednsneg +nocookie +noad +norec +ednsopt=100 soa"),
    ("do", "+edns=0 +nocookie +noad +norec +dnssec soa"),
    ("docd", "+edns=0 +nocookie +noad +norec +dnssec +cd soa"),
    ("edns1do", "+edns=1 +noednsneg +nocookie +noad +norec +dnssec soa"),
    ("ednsflags", "+edns=0 +nocookie +noad +norec +ednsflags=0x0080 soa"),
    ("optlist", "+edns=0 +noad +norec +nsid +subnet=0.0.0.0/0 +expire +cookie=0102030405060708 soa"),
    ("ednsnsid", "+edns=0 +nocookie +noad +norec +nsid soa"),
    ("ednscookie", "+edns=0 +noad +norec +cookie=0102030405060708 soa"),
    ("ednsexpire", "+edns=0 +nocookie +noad +norec +expire soa"),
    ("ednssubnet", "+edns=0 +nocookie +noad +norec +subnet=0.0.0.0/0 soa"),
    ("edns1nsid", "+edns=1 +noednsneg +nocookie +noad +norec +nsid soa"),
    ("edns1cookie", "+edns=1 +noednsneg +noad +norec +cookie=0102030405060708 soa"),
    ("edns1expire", "+edns=1 +noednsneg +nocookie +noad +norec +expire soa"),
    ("edns1subnet", "+edns=1 +noednsneg +nocookie +noad +norec +subnet=0.0.0.0/0 soa"),
    ("ednstcp", "+edns=0 +nocookie +noad +norec +dnssec +bufsize=512 +tcp dnskey"),
    ("bind11", "+edns=0 +cookie=0102030405060708 +noad +norec +dnssec soa"),
    ("dig11", "+edns=0 +cookie=0102030405060708 +ad +rec soa"),
]


def edns_compliance():
    """What these tests expect follows from the query: nothing else than in RFC 8906, and every bit in its place."""
    checks = []
    for name, command in EDNS_COMPLIANCE:
        words = command.split()
        asked = {flag for flag, word in (("rd", "+rec"), ("ad", "+ad"), ("cd", "+cd"), ("ad", "+dnssec")) if word in words}
        expected = [f"no {flag}" for flag in ("rd", "ad", "cd") if flag not in asked] + ["no MBZ"]
        expected += ["no OPT"] if "+noedns" in words else ["OPT", "version 0", "no option 100"]
        if "+opcode=15" in words:
            # These bits belong to QUERY alone.
            bits = [f"no {flag}" for flag in ("aa", "ra", "rd", "ad", "cd")]
            expected = ["NOTIMP", "opcode 15", "no records", "no OPT", *bits, "no MBZ"]
        elif "+edns=1" in words:
            expected += ["BADVERS", "no SOA", "no aa"]
        else:
            expected += ["NOERROR", "aa"] + (["SOA"] if words[-1] == "soa" else [])
            expected += (["rd"] if "rd" in asked else []) + (["at most 512"] if "+ignore" in words else [])
        checks.append(Check(name, command if "+opcode=15" in words else f"{command} $zone", expected))
    return checks


# The types that genreport asks for: whatever a zone has of them, the reply is NOERROR or NXDOMAIN. dig does not know
# the names of the last two.
TYPES = """A NS MD MF CNAME SOA MB MG MR NULL WKS PTR HINFO MINFO MX TXT RP AFSDB X25 ISDN RT NSAP NSAP-PTR SIG KEY PX GPOS AAAA
LOC NXT SRV NAPTR KX CERT A6 DNAME APL DS SSHFP IPSECKEY RRSIG NSEC DNSKEY DHCID NSEC3 NSEC3PARAM TLSA SMIMEA HIP CDS
CDNSKEY OPENPGPKEY SPF NID L32 L64 LP EUI48 EUI64 URI CAA AVC TYPE259 TYPE32769 TYPE1000""".split()


def types():
    return [Check(kind, f"+noedns +noad +norec {kind} $zone", ["NOERROR", "aa", "no OPT"]) for kind in TYPES]


def single():
    """What single documents ask of an authoritative server, and dig can ask."""
    base = "+nocookie +noad +norec"
    return [
        Check("RFC 1035 4.2.1: 512 octets without OPT", f"{base} +noedns +ignore a more.test.$zone",
              ["NOERROR", "tc", "aa", "at most 512"]),
        Check("RFC 6891 6.2.5: the client's size", f"{base} +bufsize=800 +ignore a more.test.$zone",
              ["NOERROR", "tc", "OPT", "at most 800"]),
        Check("RFC 6891 6.2.3: a size below 512 is 512", f"{base} +bufsize=100 soa $zone", ["NOERROR", "SOA", "no tc", "OPT"]),
        Check("RFC 9715: no UDP reply above 1400", f"{base} +bufsize=4096 +ignore a more.test.$zone",
              ["NOERROR", "tc", "OPT", "at most 1400"]),
        Check("RFC 7766 5: the whole over TCP", f"{base} +tcp a more.test.$zone", ["NOERROR", "no tc", "answer"]),
        Check("RFC 4343: another case", f"{base} soa $ZONE", ["NOERROR", "SOA", "aa", "question GlObAl"]),
        Check("RFC 2308 5: NODATA with the SOA", f"{base} txt app1.default.$zone", ["NOERROR", "no answer", "records", "aa"]),
        Check("RFC 2308 5: NXDOMAIN with the SOA", f"{base} a no.such.$zone", ["NXDOMAIN", "no answer", "records", "aa"]),
        Check("RFC 8020: a name with names below it exists", f"{base} a default.$zone", ["NOERROR", "no answer", "aa"]),
        Check("RFC 8482 4.1: ANY is one RRset", f"{base} any both.test.$zone", ["NOERROR", "one RRset", "aa"]),
        Check("RFC 5936 2.2.1: a transfer refused", f"{base} +tcp axfr $zone", ["REFUSED"]),
        Check("RFC 8499 7: no upward referral", f"{base} ns .", ["REFUSED", "no records", "no aa"]),
        Check("RFC 4892 2: ID.SERVER in class CH", f"{base} ch txt id.server", ["NOERROR", "answer"]),
        Check("RFC 5001: NSID", f"{base} +nsid soa $zone", ["NOERROR", "SOA", "option nsid"]),
        Check("RFC 1996: NOTIFY is not taken", f"{base} +opcode=4 soa $zone", ["error", "no answer"]),
        Check("RFC 2136: UPDATE is not taken", f"{base} +opcode=5 soa $zone", ["error", "no answer"]),
        Check("RFC 3425 3: IQUERY is not implemented", f"{base} +opcode=1 soa $zone", ["NOTIMP", "no aa"]),
        Check("RFC 1035 4.1.2: a query without a question", f"{base} +noedns +header-only", ["FORMERR", "no aa"]),
        Check("RFC 7873 5.4: a cookie without a question", "+noad +norec +edns=0 +cookie=0102030405060708 +header-only",
              ["NOERROR", "option cookie"]),
        Check("RFC 7828: keepalive over TCP is no error", f"{base} +tcp +keepalive soa $zone", ["NOERROR", "SOA"]),
        Check("RFC 7830: padding is no error", f"{base} +padding=128 soa $zone", ["NOERROR", "SOA"]),
        Check("RFC 7871: an address of IPv6 is no error", f"{base} +subnet=2001:db8::/56 soa $zone", ["NOERROR", "SOA"]),
        Check("RFC 3225 3: DO is copied", f"{base} +dnssec a both.test.$zone", ["NOERROR", "answer", "DO"]),
        Check("RFC 8914: why it is refused", f"{base} soa example.com", ["REFUSED", "option ede"]),
    ]


ABOUT = {
    "RFC 8906, section 8": "All of 8.1 and 8.2. Section 8.3 is about servers without EDNS.",
    "EDNS compliance tests": """The groups EDNS, FULL and COMMON of ISC's `genreport`, the program behind ednscomp.isc.org.
Expected is NOERROR with AA, and the SOA if it was asked for; BADVERS without SOA and AA for EDNS version 1; NOTIMP with
nothing but the header for opcode 15. RD, AD and CD are set only where the query or DO asked for them, and never for opcode
15; no unknown flag and no option 100 comes back; an OPT comes exactly if one was sent, with version 0; `edns@512` is at
most 512 octets.""",
    "Types": "The group TYPE of `genreport`: `dig +noedns +noad +norec TYPE $zone` gives NOERROR with AA and no OPT, for",
    "Single documents": "What `dig` can ask of an authoritative server beyond that.",
}

# Check: what of it does not hold here, the clause that says so, and why.
BY_CHOICE = {
    "opcodeflg": (["no rd"], "D1", "RD is copied into every reply, as RFC 1035, section 4.1.1 has it"),
    "RFC 4892 2: ID.SERVER in class CH": (["NOERROR", "answer"], "D10",
                                          "no class but IN is served; NSID names the instance (D12)"),
}


def groups():
    return [
        ("RFC 8906, section 8", rfc8906()),
        ("EDNS compliance tests", edns_compliance()),
        ("Types", types()),
        ("Single documents", single()),
    ]
