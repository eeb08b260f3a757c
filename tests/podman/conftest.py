"""Fixtures of the end-to-end tests: the monitor under test, a house for podman, a podman."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from tests.podman.podman_house import House, Podman

if TYPE_CHECKING:
    from collections.abc import Iterator

P = TypeVar("P", bound=Podman)


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
    """Keeps the house that tests share, and builds another when it is spoilt."""

    def __init__(self, kind: type[House], program: Path) -> None:
        self._kind, self._program = kind, program
        self._house: House | None = None

    @property
    def house(self) -> House:
        """The house, built now if there is none."""
        if self._house is None:
            self._house = self._kind(self._program)
        return self._house

    def close(self) -> None:
        """Give up the house, and with it all that is in it."""
        house, self._house = self._house, None
        if house is not None:
            house.close()


KEEPER = pytest.StashKey[Keeper | None]()


@contextmanager
def keeping(
    kind: type[House], program: Path, config: pytest.Config, *programs: str
) -> Iterator[Keeper]:
    """Give the keeper of a house that stands before any test's own fixtures are set up.

    While it does, it is the one that is looked after. It wants *programs*.
    """
    for name in ("podman", "busybox", *programs):
        if shutil.which(name) is None:
            pytest.fail(f"{name} is not installed", pytrace=False)
    keeper, before = Keeper(kind, program), config.stash.get(KEEPER, None)
    assert keeper.house
    config.stash[KEEPER] = keeper
    yield keeper
    config.stash[KEEPER] = before
    keeper.close()


@contextmanager
def using(podman: P, keeper: Keeper) -> Iterator[P]:
    """Give a podman; afterwards no container, process, mount or file of the test is left."""
    yield podman
    try:
        podman.close()
    except BaseException:
        keeper.close()
        raise


@pytest.fixture(scope="session")
def keeper(monitor_program: Path, pytestconfig: pytest.Config) -> Iterator[Keeper]:
    programs = ("runc", "unshare", "nsenter")
    with keeping(House, monitor_program, pytestconfig, *programs) as keeper:
        yield keeper


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Replace a spoilt house before a test's own fixtures look what was there before it."""
    keeper = item.config.stash.get(KEEPER, None)
    assert keeper is None or keeper.house


@pytest.fixture
def podman(keeper: Keeper) -> Iterator[Podman]:
    with using(Podman(keeper.house), keeper) as podman:
        yield podman
