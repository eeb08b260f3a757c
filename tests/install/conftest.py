"""What the tests of the installed program share: a prefix, and lives under its monitor."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import ROOT, SLOWNESS
from tests.support.life import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def run_program(
    *command: str | Path, seconds: float, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program, for so many seconds at most, and return how it ended."""
    return subprocess.run(
        [*map(str, command)],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds * SLOWNESS,
        check=False,
    )


def run(
    script: str, *arguments: str | Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a script of ci/ and return how it ended."""
    return run_program(ROOT / "ci" / script, *arguments, seconds=100, **environment)


def install(prefix: Path) -> Path:
    """Install into *prefix* and return it."""
    done = run("install", prefix)
    assert done.returncode == 0, done.stderr
    return prefix


@pytest.fixture(scope="session")
def prefix(scratch: Path) -> Iterator[Path]:
    """Install once, for the tests that change nothing in it."""
    del scratch  # it must be there first, or TMPDIR would change under us
    directory = Path(tempfile.mkdtemp(prefix="lc-prefix-", dir="/tmp"))
    yield install(directory / "usr")
    shutil.rmtree(directory)


@pytest.fixture
def own_prefix() -> Iterator[Path]:
    """Install for this test alone."""
    directory = Path(tempfile.mkdtemp(prefix="lc-prefix-", dir="/tmp"))
    yield install(directory / "usr")
    shutil.rmtree(directory)


@pytest.fixture
def new_life(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Life]]:
    """Make lives under the monitor of a prefix; each is ended with the test."""
    lives = []

    def make(prefix: Path, name: str = "libexec/podman/conmon") -> Life:
        monkeypatch.setenv("LOWCONMON_PROGRAM", str(prefix / name))
        lives.append(Life(Path(tempfile.mkdtemp(prefix="lc-", dir="/tmp"))))
        return lives[-1]

    yield make
    for life in lives:
        life.end()
        shutil.rmtree(life.directory, ignore_errors=True)


class Hosted:
    """A life whose runtime is hostrun, so that it may have a terminal."""

    def __init__(self, life: Life, hostrun: Path, script: str) -> None:
        self.life = life
        self.runtime = [str(hostrun), "--root", str(life.directory / "state")]
        life.runtime = hostrun
        process = {
            "args": ["/bin/sh", "-c", script],
            "cwd": "/",
            "env": ["PATH=/usr/bin:/bin"],
            "terminal": True,
        }
        (life.bundle / "config.json").write_text(json.dumps({"process": process}))

    def create(self, *options: str) -> int:
        """Start the monitor, which creates the container; return the container's pid."""
        arguments = ["--runtime-arg", "--root", "--runtime-arg", self.runtime[2], "-t"]
        self.life.start(*arguments, *options)
        return self.life.pid()

    def call(self, *arguments: str) -> None:
        """Call the runtime."""
        subprocess.run(
            [*self.runtime, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=20 * SLOWNESS,
            check=True,
        )
