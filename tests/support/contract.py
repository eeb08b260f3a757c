"""Read docs/contract.md: which ids it has, and where.

An id is defined where it opens a bullet or a table row, in bold; everywhere else it is cited.
"""

from __future__ import annotations

import re

from tests.support import ROOT

CONTRACT = ROOT / "docs" / "contract.md"

# The section of the contract that each prefix belongs to.
SECTION_OF = {
    "CLI": 1,
    "ENV": 2,
    "START": 3,
    "RT": 4,
    "SYNC": 4,
    "TTY": 5,
    "LOG": 6,
    "ROT": 6,
    "REOPEN": 6,
    "JSON": 6,
    "GZ": 6,
    "JRN": 6,
    "PASS": 6,
    "ATT": 7,
    "CTL": 8,
    "END": 9,
    "NOT": 10,
    "OOM": 10,
    "SIG": 10,
    "DIAG": 10,
    "CALL": 11,
    "CASE": 12,
    "CONF": 13,
    "STAT": 14,
    "ATC": 14,
    "REC": 14,
}
SECTION = re.compile(r"^## ([0-9]+)\. (.*)$")
OPENS_A_SENTENCE = re.compile(r"^\s*(?:[-*+] |[0-9]+\. |\|)")  # a bullet or a table row
TABLE_HEAD = re.compile(r"^\| id \||^\|[-|:]+\|$")
WELL_FORMED = re.compile(rf"^(?:- |\| )\*\*((?:{'|'.join(SECTION_OF)})-[1-9][0-9]*)\*\* ")


def sentences() -> list[tuple[int, int, str]]:
    """Return section, line number and text of each bullet and table row in the sections."""
    found: list[tuple[int, int, str]] = []
    section = 0
    for number, line in enumerate(CONTRACT.read_text(encoding="utf-8").splitlines(), start=1):
        heading = SECTION.match(line)
        if heading:
            section = int(heading[1])
        elif section and OPENS_A_SENTENCE.match(line) and not TABLE_HEAD.match(line):
            found.append((section, number, line))
    return found


def titles() -> list[tuple[int, str]]:
    """Return number and title of each section."""
    lines = CONTRACT.read_text(encoding="utf-8").splitlines()
    return [(int(match[1]), match[2]) for match in map(SECTION.match, lines) if match]


def defined() -> list[tuple[int, str]]:
    """Return section and id of each sentence that has a well-formed id, in the page's order."""
    pairs = ((section, WELL_FORMED.match(line)) for section, _, line in sentences())
    return [(section, match[1]) for section, match in pairs if match]
