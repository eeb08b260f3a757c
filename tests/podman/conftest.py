"""Fixtures of the end-to-end tests: the monitor under test, a house for podman, a podman."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.podman.podman_house import House, Podman

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


class Keeper:
    """Keeps the house that the tests of a session share, and builds another when it is spoilt."""

    make: type[House] = House

    def __init__(self, program: Path) -> None:
        self._program = program
        self._house: House | None = None

    @property
    def house(self) -> House:
        """The house, built now if there is none."""
        if self._house is None:
            self._house = self.make(self._program)
        return self._house

    def close(self) -> None:
        """Give up the house, and with it all that is in it."""
        house, self._house = self._house, None
        if house is not None:
            house.close()


KEEPER = pytest.StashKey[Keeper]()


@pytest.fixture(scope="session")
def keeper(monitor_program: Path, pytestconfig: pytest.Config) -> Iterator[Keeper]:
    """Give the keeper of a house that stands before any test's own fixtures are set up."""
    for program in ("podman", "runc", "busybox", "unshare", "nsenter"):
        if shutil.which(program) is None:
            pytest.fail(f"{program} is not installed", pytrace=False)
    keeper = Keeper(monitor_program)
    assert keeper.house
    pytestconfig.stash[KEEPER] = keeper
    yield keeper
    del pytestconfig.stash[KEEPER]
    keeper.close()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Replace a spoilt house before a test's own fixtures look what was there before it."""
    keeper = item.config.stash.get(KEEPER, None)
    assert keeper is None or keeper.house


@pytest.fixture
def podman(keeper: Keeper) -> Iterator[Podman]:
    """Give a podman; afterwards no container, process, mount or file of the test is left."""
    podman = Podman(keeper.house)
    yield podman
    try:
        podman.close()
    except BaseException:
        keeper.close()
        raise
