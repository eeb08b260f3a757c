"""docs/loop.md: every example runs, prints what it says, and every method is told of."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from lowconmon.loop import Loop, Timer
from tests.support import run_python

PAGE = Path(__file__).parent.parent.parent / "docs" / "loop.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = [
    pytest.param(match[1], id=f"line-{TEXT.count(chr(10), 0, match.start()) + 1}")
    for match in re.finditer(r"^```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
]


@pytest.mark.parametrize("block", BLOCKS)
def test_an_example_runs_and_prints_what_its_comments_say(block: str) -> None:
    # In a Python of its own: examples block signals and start programs.
    promised = re.findall(r"^\s*print\(.*\)  # (.*)$", block, re.MULTILINE)
    result = run_python(block, flags=["-W", "error", "-W", "ignore::ResourceWarning"])
    assert result.stderr == ""
    assert result.returncode == 0
    assert result.stdout.splitlines() == promised


def test_every_block_of_the_page_is_run() -> None:
    assert TEXT.count("```") == 2 * len(BLOCKS)


@pytest.mark.parametrize("thing", [Loop, Timer])
def test_every_method_is_told_of_and_shown(thing: type) -> None:
    examples = "\n".join(str(block.values[0]) for block in BLOCKS)
    for name, _ in inspect.getmembers(thing, inspect.isfunction):
        if not name.startswith("_"):
            assert f"`{name}(" in TEXT, name
            shown = rf"\b\w+\.{name}\b" if name != "remove_reader" else r"\.remove_reader\b"
            assert re.search(shown, examples), name
