"""What a whole system adds to podman's list: scopes, memory that runs out, journald, notification.

The lists of tests/podman about the last three run here against the guest's own journald and control
groups of version 2, as root and as a user.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.guest_podman.guest_house import SLICE
from tests.podman import test_podman_journald, test_podman_notify, test_podman_oom
from tests.podman.podman_house import HOME, IDLE, IMAGE, wait_until
from tests.podman.test_podman import WAIT_FOR_GATE
from tests.podman.test_podman_notify import manager
from tests.support import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.guest_podman.guest_house import GuestPodman

__all__ = ["manager"]
LISTS = (test_podman_journald, test_podman_notify, test_podman_oom)
# It stops journald, which another user's tests write to at the same time.
NOT_HERE = {"test_logs_shows_that_messages_were_lost_while_journald_hung"}
FOUND = {
    name: test
    for one in LISTS
    for name, test in vars(one).items()
    if name.startswith("test_") and name not in NOT_HERE
}
globals().update(FOUND)


class Journal(test_podman_journald.Journal):
    """The system's own journald."""

    def __init__(self, podman: GuestPodman) -> None:
        self.podman = podman
        self._house = podman.house

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        number = self.podman.inspect("box")["Id"]  # other tests' box is in the journal, too
        command = ["journalctl", "--all", "-o", "json", f"CONTAINER_ID_FULL={number}", *matches]
        done = subprocess.run(command, capture_output=True, timeout=20 * SLOWNESS, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def close(self) -> None:
        pass

    def _with_journald(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        name, *rest = arguments
        if name == "run":
            rest = ["--log-driver=journald", *rest]
        return ("--events-backend=journald", name, *rest)


@pytest.fixture
def journal(podman: GuestPodman) -> Iterator[Journal]:
    journal = Journal(podman)
    yield journal
    journal.close()


def scope_of(pid: int) -> str:
    """Return where a process lives, below podman's slice."""
    path = Path("/sys/fs/cgroup") / Path(f"/proc/{pid}/cgroup").read_text().strip()[len("0::/") :]
    return str(path.relative_to(SLICE))


@pytest.mark.contract("CALL-3")
def test_container_and_monitor_each_have_a_scope_of_their_own(podman: GuestPodman) -> None:
    podman.idle("box")
    number, state = podman.inspect("box")["Id"], podman.state("box")
    assert scope_of(state["Pid"]).split("/")[0] == f"libpod-{number}.scope"
    assert scope_of(state["ConmonPid"]) == f"libpod-conmon-{number}.scope"
    assert podman.scopes() == sorted([f"libpod-{number}.scope", f"libpod-conmon-{number}.scope"])
    podman.manage("is-active", f"libpod-{number}.scope", f"libpod-conmon-{number}.scope")
    podman.ok("stop", "--time", "0", "box")
    wait_until(lambda: not podman.scopes(), "an end of both")


def test_the_monitor_that_runs_is_the_one_that_podman_names_of_our_package(
    podman: GuestPodman, monitor_program: Path
) -> None:
    form = "{{.Host.Conmon.Path}} {{.Host.Conmon.Package}} {{.Host.Conmon.Version}}"
    path, package, version = podman.ok("info", "--format", form).decode().split(" ", 2)
    assert path == str(monitor_program) == "/usr/libexec/podman/conmon"
    assert package.startswith("lowconmon-conmon_")
    assert "lowconmon" in version
    podman.idle("box")
    process = Path(f"/proc/{podman.monitor_pid('box')}")
    assert process.joinpath("comm").read_text() == "conmon\n"
    assert path.encode() in process.joinpath("cmdline").read_bytes().split(b"\0")


@pytest.mark.contract("REC-1", "REC-2")
def test_exit_json_has_the_cause_of_an_end(podman: GuestPodman) -> None:
    causes = {
        "oom": ("sh", "-c", f"exec {test_podman_oom.HUNGRY}"),
        "exited": ("sh", "-c", "exit 137"),
        "signalled": IDLE,
    }
    for cause, command in causes.items():
        done = podman.ok("run", "-d", "--name", "box", *test_podman_oom.LIMITS, IMAGE, *command)
        path = HOME / f"tmpdir/persist/{done.decode().strip()}/exit.json"
        if command == IDLE:
            podman.ok("kill", "box")
        wait_until(path.exists, "what stands there until podman has cleaned up")
        assert json.loads(path.read_text())["cause"] == cause
        podman.ok("rm", "--force", "box")


def test_the_journal_finds_a_container_by_its_name(journal: Journal) -> None:
    podman = journal.podman
    journal.ok("run", "-d", "--name", "box", IMAGE, "sh", "-c", "echo one; echo two >&2")
    podman.ok("wait", "box")
    wait_until(lambda: len(journal.entries("CONTAINER_NAME=box")) == 2, "both lines")
    entries = journal.entries("CONTAINER_NAME=box")
    assert {(one["MESSAGE"], one["PRIORITY"]) for one in entries} == {("one", "6"), ("two", "3")}
    assert {one["_COMM"] for one in entries} == {"conmon"}
    number = podman.inspect("box")["Id"]
    field = "_SYSTEMD_USER_UNIT" if SLICE.name == "user.slice" else "_SYSTEMD_UNIT"
    assert {one[field] for one in entries} == {f"libpod-conmon-{number}.scope"}


def test_a_healthcheck_runs_in_the_container_and_its_answer_is_kept(podman: GuestPodman) -> None:
    podman.ok(
        "run", "-d", "--name", "box", *podman.shared, "--health-interval=disable",
        "--health-retries=1", "--health-cmd=echo looked; test -e /share/well",
        IMAGE, "sleep", "100000",
    )  # fmt: skip
    assert podman("healthcheck", "run", "box").code == 1
    assert podman.state("box")["Health"]["Status"] == "unhealthy"
    podman.share.joinpath("well").touch()
    assert podman("healthcheck", "run", "box").code == 0
    health = podman.state("box")["Health"]
    assert health["Status"] == "healthy"
    assert [one["Output"].strip() for one in health["Log"]] == ["looked", "looked"]


def test_the_monitor_of_an_exec_session_goes_with_it(podman: GuestPodman) -> None:
    gate = podman.gate()
    podman.idle("box")
    before = podman.house.processes()
    podman.ok("exec", "-d", "box", "sh", "-c", WAIT_FOR_GATE)
    new = {pid: name for pid, name in podman.house.processes().items() if pid not in before}
    assert sorted(name.split()[0] for name in new.values()) == ["conmon", "sh"], new
    gate.open()
    wait_until(lambda: podman.house.processes().keys() == before.keys(), "the session's end")
