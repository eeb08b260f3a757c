"""Containers as units of the guest's systemd: of `podman generate systemd`, and quadlets.

The same for root's manager and for a user's own. The monitor is such a unit's main process: systemd
follows it by the pid that podman tells, and takes the unit's result from its exit status.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.guest_podman.guest_house import CGROUPS, QUADLETS, UNITS
from tests.podman.podman_house import HOME, IMAGE, wait_until
from tests.podman.test_podman import WAIT_FOR_GATE, WAIT_FOR_SIGNALS
from tests.support import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.guest_podman.guest_house import GuestPodman

SERVES = f"trap 'exit 0' TERM; echo serving; {WAIT_FOR_SIGNALS}"
QUADLET = """
[Container]
Image={image}
ContainerName=box
Exec=sh -c "{script}"
Volume={home}/share:/share
{container}
[Service]
TimeoutStopSec=40
{service}
"""
HOSTS = "Volume=/usr:/usr:ro\nVolume=/usr/lib:/lib:ro\nVolume=/usr/lib64:/lib64:ro"


class Units:
    """The units of a test, all called box.service; *close* leaves none."""

    def __init__(self, podman: GuestPodman) -> None:
        self.podman = podman
        self._files: list[Path] = []

    def write(self, path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self._files.append(path)
        self.podman.manage("daemon-reload")

    def quadlet(self, script: str, container: str = "", service: str = "") -> None:
        """Make box.service of a container that runs *script*."""
        text = QUADLET.format(
            image=IMAGE, home=HOME, script=script, container=container, service=service
        )
        self.write(QUADLETS / "box.container", text)

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return self.podman.manage("show", "--value", "--property", name, "box").strip()

    def wait_for(self, state: str) -> None:
        wait_until(lambda: self.show("ActiveState") == state, f"the unit is {state}", 30)

    def main_is_the_monitor(self) -> int:
        """Return the pid that both systemd and podman have for the monitor."""
        pid = int(self.show("MainPID"))
        assert pid == self.podman.monitor_pid("box")
        assert Path(f"/proc/{pid}/comm").read_text() == "conmon\n"
        return pid

    def stop(self) -> None:
        """Stop the unit, which ends well, soon and without a kill."""
        pid, begin = int(self.show("MainPID")), time.monotonic()
        self.podman.manage("stop", "box")
        assert time.monotonic() - begin < 10 * SLOWNESS  # that of a kill is 40 s or more
        assert not Path(f"/proc/{pid}").exists()
        assert (self.show("ActiveState"), self.show("Result")) == ("inactive", "success")

    def close(self) -> None:
        self.podman.manage("stop", "box", check=False)
        self.podman.manage("reset-failed", "box", check=False)
        for path in self._files:
            path.unlink()
        self.podman.manage("daemon-reload")


@pytest.fixture
def units(podman: GuestPodman) -> Iterator[Units]:
    units = Units(podman)
    yield units
    units.close()


def cgroup_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text().strip().removeprefix("0::")


def test_a_generated_unit_that_makes_its_container_has_the_monitor_as_main_process(
    units: Units,
) -> None:
    podman = units.podman
    podman.ok("create", "--name", "box", IMAGE, "sh", "-c", SERVES)
    text = podman.ok("generate", "systemd", "--new", "--name", "box").decode()
    podman.ok("rm", "box")
    assert "--sdnotify=conmon" in text
    assert "Type=notify" in text
    units.write(UNITS / "box.service", text)
    for _ in range(2):
        podman.manage("start", "box")
        pid = units.main_is_the_monitor()
        assert units.show("SubState") == "running"
        # --cgroups=no-conmon: it stays where systemd has put podman.
        assert cgroup_of(pid) == units.show("ControlGroup")
        units.stop()
        assert podman.ok("ps", "--all", "--quiet") == b""


def test_a_generated_unit_that_starts_its_container_finds_the_monitor_by_its_pid_file(
    units: Units,
) -> None:
    podman = units.podman
    podman.ok("create", "--name", "box", IMAGE, "sh", "-c", SERVES)
    text = podman.ok("generate", "systemd", "--name", "box").decode()
    assert "Type=forking" in text
    units.write(UNITS / "box.service", text)
    podman.manage("start", "box")
    units.main_is_the_monitor()
    units.stop()
    state = podman.state("box")
    assert (state["Status"], state["ExitCode"]) == ("exited", 0)


@pytest.mark.parametrize("log", ["k8s-file", "journald", "passthrough"])
def test_a_quadlet_is_ready_as_soon_as_its_container_runs(units: Units, log: str) -> None:
    podman = units.podman
    units.quadlet(SERVES, f"LogDriver={log}")
    podman.manage("start", "box")
    pid = units.main_is_the_monitor()
    unit = units.show("ControlGroup")
    # --cgroups=split: both in the unit's own group, each in one of its own.
    assert cgroup_of(pid) == f"{unit}/runtime" or cgroup_of(pid) == f"{unit}/supervisor"
    container = cgroup_of(podman.state("box")["Pid"])
    assert container.startswith(f"{unit}/libpod-payload-")
    assert f"Main PID: {pid} (conmon)" in podman.manage("status", "--full", "box")
    if log != "k8s-file":
        wait_until(lambda: "serving" in _journal(units, "--unit", "box"), "the unit's journal")
    if log != "passthrough":
        wait_until(lambda: b"serving" in podman.ok("logs", "box"), "podman's log")
    units.stop()
    assert podman.ok("ps", "--all", "--quiet") == b""
    assert not (CGROUPS / unit[1:]).exists()


def _journal(units: Units, option: str, value: str) -> str:
    option = option if units.podman.house.environment["HOME"] == "/root" else "--user-unit"
    invocation = units.show("InvocationID")
    command = [
        "journalctl",
        "-o",
        "cat",
        f"{option}={value}",
        f"_SYSTEMD_INVOCATION_ID={invocation}",
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=20 * SLOWNESS, check=True
    ).stdout  # fmt: skip


@pytest.mark.contract("NOT-4", "NOT-6")
def test_a_quadlet_that_notifies_is_ready_when_its_container_says_so(units: Units) -> None:
    podman = units.podman
    gate = podman.gate()
    script = f"trap 'exit 0' TERM; {WAIT_FOR_GATE}; systemd-notify --ready --status=warm; {WAIT_FOR_SIGNALS}"
    units.quadlet(script, f"Notify=true\n{HOSTS}")
    podman.manage("start", "--no-block", "box")
    wait_until(lambda: podman("container", "exists", "box").code == 0, "the container", 30)
    wait_until(lambda: podman.state("box")["Running"], "its start", 30)
    assert units.show("ActiveState") == "activating"
    gate.open()
    units.wait_for("active")
    wait_until(lambda: units.show("StatusText") == "warm", "the container's own word")
    units.main_is_the_monitor()
    units.stop()


@pytest.mark.contract("END-23")
@pytest.mark.parametrize("code", [0, 7, 255])
def test_the_units_result_is_the_containers(units: Units, code: int) -> None:
    gate = units.podman.gate()
    units.quadlet(f"{WAIT_FOR_GATE}; exit {code}")
    units.podman.manage("start", "box")
    gate.open()
    units.wait_for("failed" if code else "inactive")
    assert units.show("Result") == ("exit-code" if code else "success")
    assert units.show("ExecMainStatus") == f"{code}"
    assert units.podman.ok("ps", "--all", "--quiet") == b""


def test_a_unit_whose_container_fails_is_started_again(units: Units) -> None:
    gate = units.podman.gate()
    units.quadlet(
        "read line < /share/gate; echo $line >> /share/runs; test $line = last || exit 3",
        service="Restart=on-failure\nRestartSec=0",
    )
    units.podman.manage("start", "box")
    pid = units.main_is_the_monitor()
    gate.open("first")
    wait_until(lambda: units.show("NRestarts") == "1", "systemd's new start", 30)
    units.wait_for("active")
    assert units.main_is_the_monitor() != pid
    gate.open("last")
    units.wait_for("inactive")
    assert units.podman.share.joinpath("runs").read_text() == "first\nlast\n"
    assert units.show("Result") == "success"


def test_a_unit_whose_monitor_is_killed_fails_and_can_be_started_again(units: Units) -> None:
    """Acceptable: unit and container end, and podman's words of it are there until the next start.

    Not acceptable: a container that runs on without a monitor.
    """
    podman = units.podman
    units.quadlet(SERVES)
    podman.manage("start", "box")
    pid, container = units.main_is_the_monitor(), podman.state("box")["Pid"]
    podman.house.kill(pid)
    units.wait_for("failed")
    assert units.show("Result") == "signal"
    assert not Path(f"/proc/{container}").exists()
    podman.manage("start", "box")
    assert units.main_is_the_monitor() != pid
    units.stop()
    assert podman.ok("ps", "--all", "--quiet") == b""


def test_exec_and_attach_work_on_the_container_of_a_unit(units: Units) -> None:
    podman = units.podman
    gate = podman.gate()
    units.quadlet(f"trap 'exit 0' TERM; {WAIT_FOR_GATE}; echo said; {WAIT_FOR_SIGNALS}")
    podman.manage("start", "box")
    done = podman("exec", "-i", "box", "sh", "-c", "cat; echo err >&2; exit 5", data=b"text")
    assert done == (5, b"text", b"err\n")
    client = podman.start("attach", "--no-stdin", "box")
    podman.wait_for_client(client)
    gate.open()
    assert client.stdout is not None
    assert client.stdout.read(5) == b"said\n"
    units.stop()
    assert client.wait(15) in (0, 1)  # the container is removed while it asks for its status


def test_the_health_of_a_units_container_is_looked_at_by_a_timer(units: Units) -> None:
    podman = units.podman
    units.quadlet(
        SERVES,
        "HealthCmd=test -e /share/well\nHealthInterval=2s\nHealthRetries=1\nHealthTimeout=60s",
    )
    podman.manage("start", "box")

    def health() -> str:
        found: str = json.loads(podman.ok("inspect", "box"))[0]["State"]["Health"]["Status"]
        return found

    wait_until(lambda: health() == "unhealthy", "a first look", 60)
    podman.share.joinpath("well").touch()
    wait_until(lambda: health() == "healthy", "a later look", 60)
    units.stop()
