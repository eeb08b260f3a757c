"""`podman run --sdnotify`: what reaches the socket that podman itself was given in NOTIFY_SOCKET."""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING

import pytest

from tests.podman.podman_house import HOME, IMAGE, Podman, wait_until
from tests.support.notify import Manager

if TYPE_CHECKING:
    from collections.abc import Iterator

# The host's own systemd-notify speaks in the container: with a barrier, a descriptor attached.
HOSTS = [f"--volume=/usr{part}:{place}:ro" for part, place in (("", "/usr"), ("/lib", "/lib"))]
HOSTS += ["--volume=/usr/lib64:/lib64:ro"]
ENVIRONMENT = ("env", f"NOTIFY_SOCKET={HOME}/share/manager")


@pytest.fixture
def manager(podman: Podman) -> Iterator[Manager]:
    with Manager(podman.share / "manager") as one:
        yield one


def run(podman: Podman, *arguments: str) -> None:
    done = podman("run", "-d", "--name", "box", *podman.shared, *arguments, before=ENVIRONMENT)
    assert done.code == 0, done


def received(manager: Manager, count: int) -> list[bytes]:
    """Return so many datagrams, sorted; there are no more behind them.

    podman tells MAINPID when the container runs already: either word may be the first.
    """
    got = [manager.receive() for _ in range(count)]
    return sorted(got + manager.waiting())


@pytest.mark.contract("NOT-1", "NOT-6", "NOT-8", "NOT-14", "NOT-15", "CALL-1")
def test_with_container_the_containers_own_words_are_relayed(
    podman: Podman, manager: Manager
) -> None:
    gate = podman.gate()
    script = (
        "systemd-notify --ready --status=warm --pid=1; echo said; read line < /share/gate;"
        " systemd-notify STATUS=cold STOPPING=1 FDSTORE=1; exit 7"
    )
    run(podman, "--sdnotify=container", *HOSTS, IMAGE, "sh", "-c", script)
    mainpid = b"MAINPID=%d" % podman.monitor_pid("box")  # podman's own word
    assert received(manager, 2) == [mainpid, b"READY=1\nSTATUS=warm"]
    path = podman.bundle("box") / "notify/notify.sock"
    assert stat.filemode(path.lstat().st_mode) == "srwxrwxrwx"
    wait_until(lambda: podman.ok("logs", "box") == b"said\n", "the barrier is passed")
    gate.open()
    assert podman.ok("wait", "box") == b"7\n"
    assert received(manager, 1) == [b"STATUS=cold\nSTOPPING=1"]
    assert not os.path.lexists(path)


@pytest.mark.contract("NOT-1", "NOT-8", "NOT-16")
def test_a_container_that_spoils_its_socket_is_started_again_all_the_same(
    podman: Podman, manager: Manager
) -> None:
    script = (
        "systemd-notify --ready; cd /run/notify; rm notify.sock; ln -s /share/victim notify.sock;"
        " exit 7"
    )
    victim = podman.share / "victim"
    victim.write_text("precious")
    run(podman, "--sdnotify=container", *HOSTS, IMAGE, "sh", "-c", script)
    assert podman.ok("wait", "box") == b"7\n"
    assert received(manager, 2)[1] == b"READY=1"
    done = podman("start", "box", before=ENVIRONMENT)
    assert done.code == 0, done
    assert podman.ok("wait", "box") == b"7\n"
    assert received(manager, 2)[1] == b"READY=1"
    assert victim.read_text() == "precious"


@pytest.mark.contract("NOT-17")
@pytest.mark.parametrize(("mode", "said"), [("conmon", [b"MAINPID=N\nREADY=N"]), ("ignore", [])])
def test_with_other_modes_the_container_has_no_socket(
    podman: Podman, manager: Manager, mode: str, said: list[bytes]
) -> None:
    script = "env; ls /run/notify; exit 7"
    run(podman, f"--sdnotify={mode}", IMAGE, "sh", "-c", script)
    assert podman.ok("wait", "box") == b"7\n"
    out = podman("logs", "box").out
    assert b"NOTIFY_SOCKET" not in out
    assert b"notify.sock" not in out
    # With conmon podman says itself that the container is ready as soon as it runs.
    assert [re.sub(rb"\d+", b"N", word) for word in received(manager, mode == "conmon")] == said
