"""The generated parts of docs/conformance.md: a table is written with `--write`, and otherwise has to be there already."""

import difflib
import re

DOCUMENT = "docs/conformance.md"


def table(head, rows):
    lines = ["| " + " | ".join(cells) + " |" for cells in ([head] + [["---"] * len(head)] + rows)]
    return "\n".join(lines) + "\n"


def block(part):
    return re.compile(rf"(<!-- begin {part} -->\n)(.*?)(<!-- end {part} -->\n)", re.S)


def document(part, text, write, what=str):
    """Whether the part of the document says the same, in `what` counts; afterwards it does, if it is to be written."""
    with open(DOCUMENT) as file:
        before = file.read()
    found = block(part).search(before)
    if not found:
        raise SystemExit(f"{DOCUMENT}: no part {part}")
    if write:
        with open(DOCUMENT, "w") as file:
            file.write(before[:found.start(2)] + "\n" + text + "\n" + before[found.end(2):])
        return True
    old, new = found[2].strip(), text.strip()
    if old != new:
        print(f"{DOCUMENT}, {part}: not what was seen now; --write writes it anew")
        print("\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), DOCUMENT, "now", lineterm="", n=0)))
    return what(old) == what(new)
