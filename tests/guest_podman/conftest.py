"""Fixtures of the guest's tests: podman's list, and what only a machine with systemd can show.

`ci/arch podman5` runs them, in its guest. Nowhere else are they collected: pyproject.toml has this
directory among norecursedirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.guest_podman.guest_house import GuestHouse, GuestPodman
from tests.podman.conftest import KEEPER, Keeper, monitor_program, pytest_runtest_setup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["monitor_program", "pytest_runtest_setup"]


class GuestKeeper(Keeper):
    """Keeps the guest's house."""

    make = GuestHouse


@pytest.fixture(scope="session")
def keeper(monitor_program: Path, pytestconfig: pytest.Config) -> Iterator[Keeper]:  # noqa: F811
    """Give the keeper of the guest's house."""
    keeper = GuestKeeper(monitor_program)
    assert keeper.house
    pytestconfig.stash[KEEPER] = keeper
    yield keeper
    del pytestconfig.stash[KEEPER]
    keeper.close()


@pytest.fixture
def podman(keeper: Keeper) -> Iterator[GuestPodman]:
    """Give a podman; afterwards no container, process, mount, scope or file of the test is left."""
    assert isinstance(keeper.house, GuestHouse)
    podman = GuestPodman(keeper.house)
    yield podman
    try:
        podman.close()
    except BaseException:
        keeper.close()
        raise
