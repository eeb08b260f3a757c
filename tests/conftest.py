"""The rules of the house: no test leaves a descriptor, a child or a file behind, or is skipped.

Needs pytest alone: hypothesis, pytest-timeout and pytest-xdist are used when they are there.
"""

from __future__ import annotations

import gc
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # `pytest` does not put it there, `python -m pytest` does
    sys.path.insert(0, str(ROOT))

from tests.support import SLOWNESS, children, faults, open_fds  # noqa: E402 - after the line above

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")

try:
    import hypothesis
except ImportError:  # the bindings are tested without it on other architectures
    pass
else:
    # A busy machine makes single examples slow; pytest-timeout ends what hangs. Fewer where slow.
    hypothesis.settings.register_profile(
        "lowconmon", deadline=None, database=None, max_examples=int(100 // max(1, SLOWNESS))
    )
    hypothesis.settings.load_profile("lowconmon")


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Know the ini key `timeout` where pytest-timeout is not installed."""
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "read by pytest-timeout")


# Skips


def allowed_to_skip(node_id: str, reason: str, lines: list[str]) -> bool:
    """Tell whether a line of the list names the test and stands in the reason."""
    for line in lines:
        pattern, bar, text = line.partition(" | ")
        if not bar or line.startswith("#"):
            continue
        wanted = ".*".join(map(re.escape, pattern.strip().split("*")))
        if re.fullmatch(wanted, node_id) and text.strip() in reason:
            return True
    return False


def refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip that is not in the list into a failure."""
    if not report.skipped or hasattr(report, "wasxfail"):
        return
    where = report.longrepr
    reason = str(where[2] if isinstance(where, tuple) else where)
    lines = ALLOWED_SKIPS.read_text(encoding="utf-8").splitlines()
    if not allowed_to_skip(report.nodeid, reason, lines):
        report.outcome = "failed"
        report.longrepr = f"{reason}\nThis skip is not in tests/allowed_skips.txt."


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    """Look at each phase of each test."""
    outcome = yield
    refuse_skip(outcome.get_result())  # type: ignore[attr-defined]


@pytest.hookimpl(hookwrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    """Look at each file: it may skip itself as a whole."""
    outcome = yield
    refuse_skip(outcome.get_result())  # type: ignore[attr-defined]


# What is left behind


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Be the place for temporary files: empty after each test.

    A place of our own, since others write to /tmp at the same time.
    """
    before = tempfile.tempdir, os.environ.get("TMPDIR")
    path = tmp_path_factory.mktemp("scratch")
    tempfile.tempdir = os.environ["TMPDIR"] = str(path)
    yield path
    tempfile.tempdir = before[0]
    del os.environ["TMPDIR"]
    if before[1] is not None:
        os.environ["TMPDIR"] = before[1]


@pytest.fixture(autouse=True)
def leaves_nothing_behind(scratch: Path) -> Iterator[None]:
    """Fail a test that leaves a descriptor, a child or a temporary file behind."""
    fds, processes = open_fds(), children()
    yield
    left = []
    if new_fds(fds):
        gc.collect()  # a file in a cycle is late, not left
    for fd, target in new_fds(fds).items():
        left.append(f"descriptor {fd} ({target})")
        if fd not in fds:
            os.close(fd)  # the next test is not to blame
    for pid in children() - processes:
        left.append(f"process {pid} ({describe(pid)})")
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    for path in scratch.iterdir():
        left.append(f"file {path.name}")
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    if left:
        pytest.fail("left behind: " + ", ".join(left), pytrace=False)


def new_fds(before: dict[int, str]) -> dict[int, str]:
    """Return the descriptors that are not, or not the same, in *before*."""
    return {fd: target for fd, target in open_fds().items() if before.get(fd) != target}


def describe(pid: int) -> str:
    """Return the command line of a process, or the name of a zombie."""
    try:
        folder = Path(f"/proc/{pid}")
        line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").strip()
        return (line or (folder / "comm").read_bytes().strip()).decode(errors="replace")
    except OSError as error:
        return str(error)


# Fixtures for tests


@pytest.fixture
def inject() -> Callable[..., faults.Fault]:
    """Make calls of lowconmon._syscalls fail: see tests/support/faults.py."""
    return faults.inject


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    """Take the faults out before any fixture cleans up, whatever their order."""
    faults.undo()


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """Give a folder whose path leaves room in a sockaddr_un."""
    path = Path(tempfile.mkdtemp(prefix="lc-", dir="/tmp"))
    yield path
    shutil.rmtree(path)
