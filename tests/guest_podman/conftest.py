"""Fixtures of the guest's tests: podman's list, and what only a machine with systemd can show.

`ci/arch podman5` runs them, in its guest. Nowhere else are they collected: pyproject.toml has this
directory among norecursedirs. They run as root and as a user at the same time; since the emulation
makes ten seconds of each, most of them once, every other one as root. Those of BOTH run as both, and
any that is named by its id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.guest_podman.guest_house import UID, GuestHouse, GuestPodman
from tests.podman.conftest import Keeper, keeping, monitor_program, pytest_runtest_setup, using

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["monitor_program", "pytest_runtest_setup"]
# Where root and a user go different ways: managers, control groups, journals, user namespaces.
BOTH = {
    "test_a_container_over_its_limit_is_killed_and_podman_tells_why[-d]",
    "test_a_generated_unit_that_makes_its_container_has_the_monitor_as_main_process",
    "test_a_quadlet_is_ready_as_soon_as_its_container_runs[journald]",
    "test_a_quadlet_that_notifies_is_ready_when_its_container_says_so",
    "test_container_and_monitor_each_have_a_scope_of_their_own",
    "test_the_journal_finds_a_container_by_its_name",
    "test_the_monitor_that_runs_is_the_one_that_podman_names_of_our_package",
    "test_the_units_result_is_the_containers[7]",
}
# One of several of a kind, where the others would show the same of this podman.
ONE_OF_MANY = {
    "test_run_returns_the_exit_code_of_the_container": {"[0]", "[126]", "[255]"},
    "test_run_of_what_cannot_start_tells_why_and_leaves_nothing_running": {
        "[-d-/etc/passwd-126-permission denied]",
        "[-i-/no/such/command-127-no such file or directory]",
        "[-t-/no/such/command-127-no such file or directory]",
    },
    "test_logs_tail_shows_the_last_lines": {"[7]", ""},
    "test_exec_of_what_cannot_start_tells_why": {"[-i]", "[-it]"},
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Choose what this user runs; what has failed once was chosen already."""
    if config.getoption("lf") or any("::" in argument for argument in config.args):
        return
    once, mine = [], set[str]()
    for item in items:
        name, bracket, parameters = item.name.partition("[")
        if item.name in BOTH or item.path.name == "test_checkpoint.py":
            mine.add(item.nodeid)
        elif bracket + parameters in ONE_OF_MANY.get(name, {bracket + parameters}):
            once.append(item.nodeid)
    mine.update(once[bool(UID) :: 2])
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in mine])
    items[:] = [item for item in items if item.nodeid in mine]


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell at once why a test has failed: a guest that hangs never comes to the end of its report."""
    if report.failed:
        print(f"\n{report.longreprtext}", flush=True)


@pytest.fixture(scope="session")
def keeper(monitor_program: Path, pytestconfig: pytest.Config) -> Iterator[Keeper]:  # noqa: F811
    with keeping(GuestHouse, monitor_program, pytestconfig, "crun") as keeper:
        yield keeper


@pytest.fixture
def podman(keeper: Keeper) -> Iterator[GuestPodman]:
    assert isinstance(keeper.house, GuestHouse)
    with using(GuestPodman(keeper.house), keeper) as podman:
        yield podman
