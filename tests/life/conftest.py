"""The `life` fixture: one monitored life in a short directory, ended whatever happens."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.life import Gate, Life


@pytest.fixture
def life() -> Iterator[Life]:
    """Yield a life whose directory path is short enough for sockets."""
    directory = Path(tempfile.mkdtemp(prefix="life-", dir="/tmp"))  # noqa: S108
    one = Life(directory)
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def gate(life: Life) -> Iterator[Gate]:
    """Give a gate to hold the container at."""
    one = Gate(life.directory / "go")
    yield one
    one.close()


@pytest.fixture
def logs(life: Life) -> Path:
    """Put the log in a directory of its own and return that."""
    directory = life.directory / "logs"
    directory.mkdir()
    life.log = directory / "ctr.log"
    return directory
