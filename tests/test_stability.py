"""docs/stability.md keeps its word where a test can see it; tests/bindings/test_names.py has the names."""

from __future__ import annotations

import re
import tomllib

import pytest

import lowconmon
from lowconmon.loop import Loop
from tests.support import ROOT, names, run_python

PAGE = (ROOT / "docs/stability.md").read_text(encoding="utf-8")
CHANGES = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def untold(promised: str, changes: str) -> list[str]:
    """Return the names whose coming or going is not in the changelog's section of their version.

    The first version brought all names, and needs not name them.
    """
    told = {
        head.split()[0]: text for head, text in re.findall(r"## (.*)\n((?:(?!## ).*\n?)*)", changes)
    }
    found = []
    for head, lines in list(names.sections(promised).items())[1:]:
        text = told.get(head.removeprefix("gone in "), "")
        for line in lines:
            name = names.name_of(line)
            if not re.search(rf"`(\w+\.)*{name.rpartition('.')[2]}\b", text):
                found.append(f"{head}: {name}")
    return found


def test_what_comes_and_goes_is_in_the_changelog() -> None:
    assert untold(names.TEXT, CHANGES) == []
    assert "docs/names.txt" in CHANGES


def test_what_is_not_in_the_changelog_is_found() -> None:
    promised = "# x\n0.1.0:\n    a.b.old\n0.2.0:\n    a.b.new(x)\n    a.b.C = os.C\n"
    promised += "gone in 0.3.0:\n    a.b.was\n"
    changes = (
        "# Changes\n\n## 0.3.0\n\n- `b.was()` has gone\n\n## 0.2.0 (2027)\n\n- `new` and `C`\n"
    )
    assert untold(promised, changes) == []
    for name, where in (("new", "0.2.0"), ("C", "0.2.0"), ("was", "gone in 0.3.0")):
        assert untold(promised, re.sub(rf"\b{name}\b", "it", changes)) == [f"{where}: a.b.{name}"]
    assert untold(promised, "## 0.3.0\n\n`was` `new` `C`\n") == ["0.2.0: a.b.new", "0.2.0: a.b.C"]


def test_no_promise_is_younger_than_the_version() -> None:
    def place(head: str) -> tuple[bool, list[int]]:
        version = head.removeprefix("gone in ")
        return version != head, [*map(int, version.split("."))]

    heads = [*names.sections()]
    assert sorted(heads, key=place) == heads
    assert max(place(head)[1] for head in heads) <= place(lowconmon.__version__)[1]


def test_every_module_is_public_or_called_private() -> None:
    package = ROOT / "lowconmon"
    modules = {path.stem for path in package.glob("*.py*") if path.suffix in (".py", ".pyi")}
    modules |= {path.parent.name for path in package.glob("*/__init__.py")}
    (private,) = re.findall(r"These modules\s+are the monitor's, .*?: (.*?)\.\n", PAGE, re.DOTALL)
    called = set(re.findall(r"`(\w+)`", private))
    assert called == modules - {"__init__", "loop", "syscalls"}


def test_what_is_needed_is_what_the_package_says() -> None:
    assert f"CPython {PROJECT['project']['requires-python'].removeprefix('>=')}," in PAGE
    assert PROJECT["project"]["dependencies"] == ["cffi>=1.15"]
    assert "| cffi | 1.15 |" in PAGE


def test_the_types_are_installed() -> None:
    assert PROJECT["tool"]["setuptools"]["package-data"]["lowconmon"] == ["py.typed", "*.pyi"]
    assert (ROOT / "lowconmon/py.typed").exists()


def test_the_public_modules_bring_in_what_is_said_and_nothing_of_the_monitor() -> None:
    done = run_python(
        "import os, errno, time\nbefore = set(sys.modules)\n"
        "import lowconmon.loop, lowconmon.syscalls\n"
        "print(*sorted(set(sys.modules) - before))",
        flags=["-W", "error"],
    )
    loaded = {name for name in done.stdout.split() if not name.startswith("lowconmon._ffi.")}
    ours = {f"lowconmon.{name}" for name in ("loop", "syscalls", "_syscalls", "_ffi")}
    assert loaded == {"lowconmon", "_cffi_backend", *ours}


@pytest.mark.parametrize("argument", ["text", 2**40])
def test_what_cannot_be_meant_is_no_error_of_the_kernel(argument: object) -> None:
    loop = Loop()
    with pytest.raises((AttributeError, TypeError, OverflowError)):
        loop.add_reader(argument, print)  # type: ignore[arg-type]
    loop.close()
