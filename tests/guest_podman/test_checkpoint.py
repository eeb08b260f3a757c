"""Checkpoint and restore by CRIU: the monitor goes with the first life and comes with the second."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.guest_podman.guest_house import UID
from tests.podman.podman_house import HOME, wait_until

if TYPE_CHECKING:
    from tests.guest_podman.guest_house import GuestPodman

COUNT = "n=0; while read line < /share/gate; do n=$((n + 1)); echo $line $n; test $line != end || exit 7; done"

if UID:

    def test_a_user_makes_no_checkpoints_for_podman_refuses(podman: GuestPodman) -> None:
        podman.idle("box")
        done = podman("container", "checkpoint", "box")
        assert (done.code, b"root" in done.err) == (125, True), done

else:

    @pytest.mark.contract("CLI-48", "RT-2")
    @pytest.mark.parametrize("terminal", [(), ("-t",)], ids=["pipes", "terminal"])
    def test_a_container_goes_on_where_its_checkpoint_was_made(
        podman: GuestPodman, terminal: tuple[str, ...]
    ) -> None:
        gate = podman.gate()
        podman.shell("box", COUNT, *terminal)
        gate.open("one")
        podman.wait_for_log("box", b"one 1")
        monitor = podman.monitor_pid("box")
        podman.ok("container", "checkpoint", "box", seconds=60)
        state = podman.state("box")
        assert (state["Status"], state["Checkpointed"]) == ("exited", True)
        wait_until(lambda: not podman.house.processes(), "an end of the first life")
        podman.ok("container", "restore", "box", seconds=60)
        state = podman.state("box")
        assert (state["Status"], state["ConmonPid"] != monitor) == ("running", True)
        assert podman.monitor_pid("box") == state["ConmonPid"]
        gate.open("two")
        podman.wait_for_log("box", b"two 2")
        assert podman("exec", "box", "true").code == 0
        gate.open("end")
        assert podman.ok("wait", "box") == b"7\n"
        assert [line.split()[-1] for line in podman.ok("logs", "box").splitlines()] == [
            b"1", b"2", b"3",
        ]  # fmt: skip

    @pytest.mark.contract("RT-2")
    def test_a_checkpoint_is_exported_and_restored_under_another_name(podman: GuestPodman) -> None:
        gate = podman.gate()
        podman.shell("box", COUNT)
        gate.open("one")
        podman.wait_for_log("box", b"one 1")
        archive = str(HOME / "work/checkpoint.tar")
        podman.ok(
            "container", "checkpoint", "--leave-running", "--export", archive, "box", seconds=60
        )
        gate.open("end")
        assert podman.ok("wait", "box") == b"7\n"
        podman.ok("container", "restore", "--import", archive, "--name", "other", seconds=60)
        gate.open("end")
        assert podman.ok("wait", "other") == b"7\n"
        assert b"end 2\n" in podman.ok("logs", "other")

    def test_a_restore_that_fails_tells_why_and_leaves_nothing_running(podman: GuestPodman) -> None:
        podman.idle("box")
        podman.ok("container", "checkpoint", "--keep", "box", seconds=60)
        checkpoint = podman.bundle("box") / "checkpoint"
        (core,) = checkpoint.glob("core-*.img")
        core.write_bytes(b"")  # of empty pages CRIU reads on and on
        done = podman("container", "restore", "box", seconds=60)
        assert done.code == 125
        assert b"restore" in done.err.lower(), done
        assert podman.ok("ps", "--quiet") == b""
        wait_until(lambda: not podman.house.processes(), "an end of all processes")
