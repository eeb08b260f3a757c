"""What is drawn or measured by a program is in step with what it is drawn from."""

from __future__ import annotations

import json
import re
import runpy
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import ci.benchmark.__main__ as benchmark
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
    for (state, then, actions), events in runpy.run_path(str(ROOT / "ci/lifecycle.py"))[
        "edges"
    ]().items():
        words = [" or ".join(events), *(f"- {action}" for action in actions)]
        expected.append((f"{state}->{then}", [word.replace("_", " ") for word in words]))
    assert sorted(found) == sorted(expected), "run ci/lifecycle.py"


def test_the_recording_shows_each_command_of_the_scene_and_what_it_said_in_twenty_seconds() -> None:
    program = runpy.run_path(str(ROOT / "ci/recording.py"))
    cast = (ROOT / "docs/recording.cast").read_text()
    assert program["picture"](cast) == (ROOT / "docs/recording.svg").read_text()
    _, *events = (json.loads(line) for line in cast.splitlines())
    shown = program["lines"](events)
    commands = [text.removeprefix("$ ") for _, text in shown if text.startswith("$ ")]
    assert commands == program["SCENE"]
    assert {"tick 1", "in the same container", "status 3"} < {text for _, text in shown}
    assert 15 < shown[-1][0] < 25


def test_the_picture_of_a_recording_hides_a_line_until_it_was_there() -> None:
    program = runpy.run_path(str(ROOT / "ci/recording.py"))
    events = [
        [0.5, "o", "$ e"],
        [0.75, "i", "x"],
        [1.0, "o", "cho\r\n"],
        [2.0, "o", "<a>\r\nb\r\n"],
    ]
    cast = "\n".join(map(json.dumps, [{"width": 20}, *events]))
    assert program["lines"](events) == [(1.0, "$ echo"), (2.0, "<a>"), (2.0, "b")]
    picture = ET.fromstring(program["picture"](cast))  # noqa: S314 - our own
    seen = [(text.text, text[0].get("dur")) for text in picture.iter(f"{SVG}text")]
    assert seen == [("$ echo", "1.00s"), ("<a>", "2.00s"), ("b", "2.00s")]


def test_the_readme_says_of_each_row_what_the_whole_table_says() -> None:
    (short,) = TABLE.findall((ROOT / "README.md").read_text())
    (whole,) = TABLE.findall((ROOT / "docs/performance.md").read_text())
    rows = {line.split(" | ")[0]: line.split(" | ") for line in whole.splitlines()[2:]}
    assert short.count("\n") > 5
    assert "e+" not in short
    for line in short.splitlines()[2:]:
        text, conmon, ours, ratio = line.removesuffix(" |").split(" | ")
        _, unit, _, full_conmon, full_ours, full_ratio, *_ = rows[text]
        unit = unit.removesuffix(" (wall)")
        assert (conmon.split()[1:], ours.split()[1:]) == (unit.split(), unit.split())
        assert float(conmon.split()[0]) == pytest.approx(float(full_conmon.split()[0]), rel=0.005)
        assert float(ours.split()[0]) == pytest.approx(float(full_ours.split()[0]), rel=0.005)
        assert ratio == full_ratio


def test_each_table_that_is_measured_has_its_place_on_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text((ROOT / "docs/performance.md").read_text())
    for name in benchmark.TABLES:
        benchmark.put(page, f"| {name} |\n", name)
    assert re.findall(r"^\| (\w+) \|\n<!-- its end -->$", page.read_text(), re.MULTILINE) == [
        *benchmark.TABLES
    ]
