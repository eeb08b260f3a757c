"""docs/bindings.md: its examples run as they stand, and it leaves no function out."""

from __future__ import annotations

import re

import pytest

from lowconmon import syscalls
from tests.support import ROOT, run_python

PAGE = (ROOT / "docs" / "bindings.md").read_text(encoding="utf-8")
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ERRNO = re.compile(r"\[Errno \d+\] ")  # not the same number everywhere


def examples() -> list[pytest.param]:  # type: ignore[valid-type]
    """Return each example, named by the line where it begins."""
    return [
        pytest.param(match[1], id=f"line-{PAGE.count(chr(10), 0, match.start()) + 1}")
        for match in EXAMPLE.finditer(PAGE)
    ]


@pytest.mark.parametrize("code", examples())
def test_each_example_runs_as_it_stands(code: str) -> None:
    assert "from lowconmon import syscalls" in code
    assert "assert " in code
    done = run_python(code, flags=["-W", "error"])
    assert (done.returncode, done.stderr) == (0, "")
    # What an example prints is shown beside the call, or is the text that is printed.
    shown = ERRNO.sub("", code)
    printed = ERRNO.sub("", done.stdout).splitlines()
    for line in printed:
        assert f"  # {line}" in shown or f'print("{line}")' in shown
    if "pidfd_get_info" not in code:  # that prints on older kernels only
        assert len(printed) == code.count("print(")


@pytest.mark.parametrize(
    "name",
    sorted(name for name, value in vars(syscalls).items() if name[0] != "_" and callable(value)),
)
def test_every_function_is_described_and_shown(name: str) -> None:
    text = EXAMPLE.sub("", PAGE)
    assert re.search(rf"`{name}[(`]", text), "not described"
    assert any(f"syscalls.{name}(" in match[1] for match in EXAMPLE.finditer(PAGE)), "not shown"


def test_every_name_that_the_page_uses_exists() -> None:
    used = set(re.findall(r"\bsyscalls\.([A-Za-z_]\w*)", PAGE))
    assert {name for name in used if not hasattr(syscalls, name)} == set()


def test_every_language_of_a_block_is_python() -> None:
    fences = re.findall(r"^```(.*)$", PAGE, re.MULTILINE)
    assert set(fences[::2]) == {"python"}
    assert set(fences[1::2]) == {""}


def test_the_page_ends_with_the_way_to_the_loop() -> None:
    assert re.search(r"^## The loop\n\n.*docs/loop\.md.*\n\Z", PAGE, re.MULTILINE)
