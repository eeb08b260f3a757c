"""The rules of tests/conftest.py, tried on test files that break them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import allowed_to_skip
from tests.support import ROOT, SLOWNESS, read_all, read_line, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def pytest_says(tmp_path: Path) -> Callable[[str], tuple[int, str]]:
    """Give a function that runs a test file under the rules; it returns the status and output."""

    def run(code: str) -> tuple[int, str]:
        (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -ra -p no:cacheprovider\n")
        (tmp_path / "test_it.py").write_text(
            f"import os, pytest, signal, tempfile\nROOT = {str(ROOT)!r}\n{code}\n"
        )
        done = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-p", "tests.conftest"),
                *("-c", str(tmp_path / "pytest.ini"), str(tmp_path / "test_it.py")),
            ],
            cwd=ROOT,
            env={**os.environ, "PYTEST_ADDOPTS": "", "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60 * SLOWNESS,
            check=False,
        )
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_clean_test_passes(pytest_says: Callable[[str], tuple[int, str]]) -> None:
    status, output = pytest_says(
        """
def test_clean(tmp_path, short_tmp, inject):
    (tmp_path / "file").touch()
    (short_tmp / "file").touch()
    assert str(short_tmp).startswith("/tmp/") and len(str(short_tmp)) < 30
    inject("read", errno=5)
    with tempfile.TemporaryFile():
        pass
"""
    )
    assert status == 0, output


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("os.open('/dev/null', os.O_RDONLY)", "left behind: descriptor "),
        ("os.dup2(os.open('/dev/null', 0), 77)", "/dev/null"),
        ("os.fork() or signal.pause()", "left behind: process "),
        ("os.fork() or os._exit(0)", "left behind: process "),
        ("tempfile.mkstemp()", ", file "),
        ("tempfile.mkdtemp()", "left behind: file "),
    ],
)
def test_what_is_left_behind_fails_the_test_and_spares_the_next(
    pytest_says: Callable[[str], tuple[int, str]], code: str, text: str
) -> None:
    status, output = pytest_says(f"def test_dirty():\n    {code}\ndef test_next():\n    pass")
    assert status == 1, output
    assert text in output
    assert re.search("^ERROR .*::test_dirty", output, re.MULTILINE)
    assert "2 passed, 1 error" in output


@pytest.mark.parametrize(
    "code",
    [
        "def test_it(): pytest.skip('no reason')",
        "@pytest.mark.skip(reason='no reason')\ndef test_it(): pass",
        "@pytest.mark.skipif(True, reason='no reason')\ndef test_it(): pass",
        "pytest.skip('no reason', allow_module_level=True)",
        "pytest.importorskip('no_such_module', reason='no reason')",
    ],
)
def test_a_skip_that_is_not_in_the_list_fails(
    pytest_says: Callable[[str], tuple[int, str]], code: str
) -> None:
    status, output = pytest_says(code)
    assert status in (1, 2), output
    assert "no reason" in output
    assert "This skip is not in tests/allowed_skips.txt." in output


def test_an_expected_failure_is_no_skip(pytest_says: Callable[[str], tuple[int, str]]) -> None:
    status, output = pytest_says(
        "@pytest.mark.xfail(strict=True, reason='known')\ndef test_it(): assert False"
    )
    assert status == 0, output
    assert "1 xfailed" in output


def test_the_list_names_tests_and_reasons() -> None:
    lines = [
        "# a | comment",
        "",
        "tests/a.py::test_one | no tool",
        "tests/b.py::test_two[*] | slow",
    ]
    assert allowed_to_skip("tests/a.py::test_one", "Skipped: no tool here", lines)
    assert not allowed_to_skip("tests/a.py::test_one", "Skipped: too lazy", lines)
    assert not allowed_to_skip("tests/a.py::test_one_more", "Skipped: no tool", lines)
    assert allowed_to_skip("tests/b.py::test_two[x.1]", "slow", lines)
    assert not allowed_to_skip("# a", "comment", lines)


def test_waiting_ends_with_its_event_or_at_the_deadline(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    with pytest.raises(TimeoutError):
        wait_for(reader, 0)
    wait_for(writer, 0, writable=True)
    with pytest.raises(TimeoutError):
        wait_for(tmp_path / "file", 0)
    with pytest.raises(TimeoutError):
        wait_for(lambda: 0, 0)
    os.write(writer, b"line\nrest")
    assert wait_for(reader) == reader
    assert read_line(reader) == b"line\n"
    os.close(writer)
    assert read_all(reader) == b"rest"
    assert read_line(reader) == b""
    os.close(reader)
    (tmp_path / "file").touch()
    wait_for(tmp_path / "file", 0)
    assert wait_for(lambda: "found", 0) == "found"
