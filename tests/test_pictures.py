"""What is drawn or measured by a program is in step with what it is drawn from."""

from __future__ import annotations

import re
import runpy
import xml.etree.ElementTree as ET

from tests.support import ROOT

SVG = "{http://www.w3.org/2000/svg}"
TABLE = re.compile(r"<!-- the table of `ci/bench` -->\n(.*?)<!-- its end -->", re.DOTALL)


def test_the_picture_of_the_lifecycle_has_every_edge_of_the_table() -> None:
    found = []
    picture = ET.parse(ROOT / "docs/lifecycle.svg")  # noqa: S314 - our own
    for group in picture.iter(f"{SVG}g"):
        if group.get("class") == "edge":
            title = group.findtext(f"{SVG}title") or ""
            found.append((title, [text.text for text in group.iter(f"{SVG}text")]))
    expected = []
    for (state, then, actions), events in runpy.run_path(str(ROOT / "ci/lifecycle"))[
        "edges"
    ]().items():
        words = [" or ".join(events), *(f"- {action}" for action in actions)]
        expected.append((f"{state}->{then}", [word.replace("_", " ") for word in words]))
    assert sorted(found) == sorted(expected), "run ci/lifecycle"


def test_the_readme_says_of_each_row_what_the_whole_table_says() -> None:
    (short,) = TABLE.findall((ROOT / "README.md").read_text())
    (whole,) = TABLE.findall((ROOT / "docs/performance.md").read_text())
    rows = {line.split(" | ")[0]: line.split(" | ") for line in whole.splitlines()[2:]}
    assert short.count("\n") > 5
    for line in short.splitlines()[2:]:
        text, conmon, ours, ratio = line.removesuffix(" |").split(" | ")
        _, unit, _, full_conmon, full_ours, full_ratio, *_ = rows[text]
        assert (conmon.split()[1:], ours.split()[1:]) == (unit.split(), unit.split())
        assert float(conmon.split()[0]) == float(f"{float(full_conmon):.3g}")
        assert float(ours.split()[0]) == float(f"{float(full_ours):.3g}")
        assert ratio == full_ratio
