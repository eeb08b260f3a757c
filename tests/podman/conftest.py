"""Fixtures of the end-to-end tests: the monitor under test, a house for podman, a podman."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from podman_house import House, Podman

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def monitor_program() -> Path:
    """Return the path of the monitor under test, from LOWCONMON_PROGRAM."""
    program = os.environ.get("LOWCONMON_PROGRAM")
    if not program:
        pytest.fail("set LOWCONMON_PROGRAM (ci/test does)", pytrace=False)
    if not os.access(program, os.X_OK):
        pytest.fail(f"LOWCONMON_PROGRAM={program} is no executable file", pytrace=False)
    return Path(program).absolute()


@pytest.fixture(scope="session")
def _houses() -> Iterator[list[House]]:
    """Keep the one house that tests share, in a list, so that a spoilt one can be replaced."""
    for program in ("podman", "runc", "busybox", "unshare", "nsenter"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is not installed", pytrace=False)
    houses: list[House] = []
    yield houses
    for house in houses:
        house.close()


@pytest.fixture
def podman(monitor_program: Path, _houses: list[House]) -> Iterator[Podman]:
    """Give a podman; afterwards no container, process, mount or file of the test is left."""
    if not _houses:
        _houses.append(House(monitor_program))
    podman = Podman(_houses[0])
    yield podman
    try:
        podman.close()
    except BaseException:
        _houses.pop().close()
        raise
