"""What a podman user sees of memory that runs out, with real cgroups.

As in test_podman.py, LOWCONMON_PROGRAM may be Debian's conmon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.podman.podman_house import IMAGE, wait_until

if TYPE_CHECKING:
    from tests.podman.podman_house import Podman

LIMITS = ("--memory", "32m", "--memory-swap", "32m")
HUNGRY = "tail /dev/zero"  # keeps all that it reads, for the last line
KEYS = ("Status", "ExitCode", "OOMKilled")


@pytest.mark.contract("OOM-3", "OOM-5", "END-3")
@pytest.mark.parametrize("mode", ["-i", "-d", "-t"])
def test_a_container_over_its_limit_is_killed_and_podman_tells_why(
    podman: Podman, mode: str
) -> None:
    done = podman("run", mode, "--name", "box", *LIMITS, IMAGE, "sh", "-c", f"exec {HUNGRY}")
    if mode == "-d":
        assert podman.ok("wait", "box") == b"137\n"
    else:
        assert done.code == 137
    # podman has its status before the exit command has cleaned up.
    wait_until(lambda: podman.state("box")["Status"] != "stopped", "the cleaning up")
    state = podman.state("box")
    assert [state[key] for key in KEYS] == ["exited", 137, True]


@pytest.mark.contract("OOM-3", "OOM-8")
def test_a_child_over_the_limit_is_told_while_the_container_lives_on(podman: Podman) -> None:
    gate = podman.gate()
    script = f"read line < /share/gate; {HUNGRY}; echo child $?; read line < /share/gate; exit 5"
    podman.shell("box", script, *LIMITS)
    bundle = podman.bundle("box")
    gate.open()
    podman.wait_for_log("box", b"child 137")
    wait_until((bundle / "oom").exists, "the file in the bundle")
    assert podman.state("box")["Running"]
    gate.open()
    assert podman.ok("wait", "box") == b"5\n"
    wait_until(lambda: podman.state("box")["Status"] != "stopped", "the cleaning up")
    state = podman.state("box")
    assert [state[key] for key in KEYS] == ["exited", 5, True]


@pytest.mark.contract("OOM-6", "OOM-7")
def test_a_container_within_its_limit_and_one_that_is_killed_had_no_oom(podman: Podman) -> None:
    done = podman("run", "--name", "box", *LIMITS, IMAGE, "sh", "-c", "exit 137")
    assert done.code == 137
    podman.idle("idle", *LIMITS)
    podman.ok("kill", "idle")
    assert podman.ok("wait", "idle") == b"137\n"
    for name in ("box", "idle"):
        assert podman.state(name)["OOMKilled"] is False


@pytest.mark.contract("OOM-9")
def test_an_exec_session_over_the_limit_is_told_of_the_container(podman: Podman) -> None:
    podman.idle("box", *LIMITS)
    done = podman("exec", "box", "sh", "-c", f"exec {HUNGRY}")
    assert done.code == 137
    wait_until((podman.bundle("box") / "oom").exists, "the file in the bundle")
    assert podman.state("box")["Running"]
    assert podman("exec", "box", "true").code == 0
