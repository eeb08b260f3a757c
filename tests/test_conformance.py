"""ci/conformance.py and the monitor that does nothing: what they are to notice is noticed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import ROOT, SLOWNESS, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator

# One that shows something of each kind, and two that show nothing.
TESTS = """
import subprocess
from lowconmon.pure import answers
from lowconmon.rooms.reports import replace_file
from tests.support import faults
from tests.support.life import program

def test_in_process():
    assert answers.message("data", 1) == b'{"data": 1}\\n'

def test_of_a_room(tmp_path):
    replace_file(bytes(tmp_path / "file"), b"text")
    assert (tmp_path / "file").exists()

def test_from_outside():
    assert subprocess.run([*program(), "--version"], capture_output=True, timeout=60).stdout

def test_with_faults():
    command = faults.command("fsync:errno=EIO", "--version")
    assert subprocess.run(command, capture_output=True, timeout=60).stdout

def test_that_it_ends():
    assert subprocess.run([*program(), "--help"], capture_output=True, timeout=60).returncode == 0

def test_that_it_can_be_called():
    answers.message("data", 1)
"""
SHOWS = {"test_in_process", "test_of_a_room", "test_from_outside", "test_with_faults"}


@pytest.fixture
def directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def conformance() -> Any:
    spec = importlib.util.spec_from_file_location("conformance", ROOT / "ci" / "conformance.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("nothing", [True, False])
def test_what_shows_something_fails_against_nothing_and_only_there(
    directory: Path, nothing: bool
) -> None:
    (directory / "test_it.py").write_text(TESTS)
    options = ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}"]
    options += [f"--basetemp={directory / 'tmp'}", *(["-ptests.support.nothing"] * nothing)]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *options, str(directory / "test_it.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100 * SLOWNESS,
    )
    names = {
        line.partition("::")[2].split()[0] for line in done.stdout.splitlines() if "::" in line
    }
    assert names == (SHOWS if nothing else set()), done.stdout
    assert done.returncode == int(nothing), done.stdout


def test_all_that_is_public_returns_none_then() -> None:
    done = run_python("""
from tests.support import nothing
found = list(nothing.functions())
for function in found:
    nothing.empty(function)
from lowconmon.pure.lifecycle import Lifecycle
from lowconmon.pure.options import Options, check, parse
from lowconmon.rooms.logs import Logs
assert parse([b"--foo"]) is None
assert check(Options(), None, None) is None
assert Lifecycle.advance(None, "no such event") is None
assert Logs.write() is Logs.full() is None
print(len(found))""")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


def test_a_row_without_a_test_is_told(conformance: Any) -> None:
    tests = {name: ["tests/x.py::test_y[1]"] for _, name in conformance.defined()}
    tests["CLI-2"] = []
    told = conformance.faults_of(tests)
    assert told[0] == "CLI-2 has no test"
    assert told[1].startswith("docs/conformance.md is not up to date")
    assert len(told) == 2


def test_a_row_names_each_function_once_by_file(conformance: Any) -> None:
    ids = ["tests/life/test_b.py::test_x[1]", "tests/test_a.py::test_z", "tests/test_a.py::test_y"]
    row = conformance.row([*ids, "tests/life/test_b.py::test_x[2]"])
    assert row == "life/test_b: `test_x`<br>test_a: `test_z` `test_y`"


@pytest.mark.parametrize(
    ("failing", "told"),
    [(["b[1]"], ["NOT-1"]), (["a[2]"], ["END-1", "NOT-1"]), ([], ["CLI-1", "END-1", "NOT-1"])],
)
def test_a_row_whose_tests_all_pass_against_nothing_is_told(
    conformance: Any, monkeypatch: pytest.MonkeyPatch, failing: list[str], told: list[str]
) -> None:
    ran: list[str] = []

    def run(outcomes: Any, *arguments: str) -> int:
        chosen = [argument for argument in arguments if argument.startswith("tests/life::")]
        ran.extend(chosen)
        outcomes.ran.update(chosen)
        outcomes.failed.update(f"tests/life::{name}" for name in failing)
        outcomes.failed &= outcomes.ran
        return 0

    monkeypatch.setattr(conformance, "run_pytest", run)
    tests = {"CLI-1": ["a[1]", "a[2]", "b[1]"], "END-1": ["b[1]"], "NOT-1": []}
    tests = {key: [f"tests/life::{name}" for name in names] for key, names in tests.items()}
    assert sorted(conformance.shown_by_nothing(tests)) == told
    assert len(ran) == len(set(ran))  # none is run twice
