"""Lives about the sd-notify relay and about restored checkpoints.

2.1.6 lets READY=1 pass wherever in a datagram it stands, else WATCHDOG=1, and nothing beside it.
"""

from __future__ import annotations

import os
import stat

from tests.differential.stage import Stage, life
from tests.support.life import wait_until
from tests.support.notify import Manager, Sender, folder
from tests.support.witness import number_in

DATAGRAMS = {
    "that it is ready": b"READY=1",
    "that it is ready and a newline": b"READY=1\n",
    "what does not pass": b"MAINPID=1\nWATCHDOG_USEC=1\nFDSTORE=1",
    "garbage": b"\xff\x01 \n\n=",
    "lines of which one passes": b"\n\nMAINPID=1\nREADY=1\r\nX=1\n",
    "lines that all pass": b"READY=1\nSTATUS=x\nSTOPPING=1",
    "with a NUL at the end": b"READY=1\0",
    "that it is nearly ready": b"READY=12",
    "blanks": b" READY=1",
    "its status": b"STATUS=warming up",
    "that it is alive": b"WATCHDOG=1",
    "that it stops": b"STOPPING=1",
    "that it takes longer": b"EXTEND_TIMEOUT_USEC=1",
}


def relay(stage: Stage) -> tuple[Manager, list[str]]:
    """Put a manager and the socket's directory in the way of a life; return it and the option."""
    manager = Manager(stage.directory / "scenery-manager")
    stage.cleanups.append(manager.close)
    folder(stage.life)
    return manager, manager.option


def notify(stage: Stage, manager: Manager, *datagrams: bytes) -> None:
    """Send as the container does, one after the other, and note what comes of each and of all."""
    with Sender(stage.life.bundle / "notify/notify.sock") as container:
        for datagram in (*datagrams, b"READY=1"):  # the last: to know that the others were read
            container.send(datagram)
        got: list[bytes] = []
        # Both pass this line on: what is read need not have gone out, the last least of all.
        ready = 1 + sum(b"READY=1" in datagram.rstrip(b"\0").splitlines() for datagram in datagrams)

        def all_have_come() -> bool:
            got.extend(manager.waiting())
            return [line for one in got for line in one.split(b"\n")].count(b"READY=1") >= ready

        wait_until(all_have_come, "the last")
    stage.seen["the manager gets"] = stage.plain(b" | ".join(got))


@life(*DATAGRAMS)
def a_container_notifies(stage: Stage, what: str) -> None:
    manager, option = relay(stage)
    wait = stage.gate()
    stage.life.stub(f"{wait}; exit 3")
    stage.start(*option)
    stage.created()
    notify(stage, manager, DATAGRAMS[what])
    stage.open_gate()


@life()
def the_notify_socket_has_its_mode(stage: Stage) -> None:
    _, option = relay(stage)
    wait = stage.gate()
    stage.life.stub(f"{wait}; exit 3")
    stage.start(*option)
    stage.created()
    path = stage.life.bundle / "notify/notify.sock"
    stage.seen["mode while it lives"] = stat.filemode(path.lstat().st_mode)
    stage.open_gate()


@life()
def the_runtime_of_a_container_that_notifies(stage: Stage) -> None:
    _, option = relay(stage)
    stage.life.environment["NOTIFY_SOCKET"] = "/nonexistent"
    stage.life.stub("exit 3")
    stage.start(*option)


@life()
def an_exec_session_notifies(stage: Stage) -> None:
    manager, option = relay(stage)
    wait = stage.gate()
    stage.life.stub(f"{wait}; exit 3")
    stage.start(*option, exec_session=True)
    stage.created()
    notify(stage, manager, b"READY=1")
    stage.open_gate()


@life("a file", "a socket", "a link")
def a_notify_socket_takes_the_place_of(stage: Stage, what: str) -> None:
    manager, option = relay(stage)
    path = stage.life.bundle / "notify/notify.sock"
    if what == "a file":
        path.write_text("old")
    elif what == "a socket":
        Manager(path).close()
    else:
        path.symlink_to("/nonexistent")
    wait = stage.gate()
    stage.life.stub(f"{wait}; exit 3")
    stage.start(*option)
    stage.created()
    notify(stage, manager, b"READY=1")
    stage.open_gate()


@life()
def nobody_is_there_to_be_notified(stage: Stage) -> None:
    manager, option = relay(stage)
    manager.close()
    os.unlink(manager.path)
    wait = stage.gate()
    stage.life.stub(f"{wait}; exit 3")
    stage.start(*option)
    stage.created()
    with Sender(stage.life.bundle / "notify/notify.sock") as container:
        container.send(b"READY=1")
        wait_until(lambda: not container.unread(), "it is read")
    stage.open_gate()


@life("no directory", "a directory in its place")
def a_notify_socket_cannot_be_made_for(stage: Stage, what: str) -> None:
    _, option = relay(stage)
    path = stage.life.bundle / "notify"
    if what == "no directory":
        path.rmdir()
    else:
        (path / "notify.sock").mkdir()
    stage.life.stub("exit 3")
    stage.start(*option)


# Restored checkpoints


@life((), ("-i",), ("-s", "--no-pivot", "--no-new-keyring", "--runtime-arg=x", "--runtime-opt=y"))
def a_checkpoint_is_restored(stage: Stage, options: tuple[str, ...]) -> None:
    stage.life.stub("echo out; echo err >&2; exit 3")
    stage.start("--restore", "/image", *options, *stage.exit_command())


@life("--restore-arg", "--runtime-opt")
def a_checkpoint_is_restored_with(stage: Stage, option: str) -> None:
    stage.life.stub("exit 3")
    stage.start("--restore=/image", option, "--tcp-established", f"{option}=x")


@life()
def a_checkpoint_is_restored_from_nowhere(stage: Stage) -> None:
    stage.life.stub("exit 3")
    stage.start("--restore", "")


@life()
def a_checkpoint_is_restored_by_the_legacy_api(stage: Stage) -> None:
    stage.life.stub("exit 3")
    raw = stage.life.arguments("--restore", "/image")
    at = raw.index("--api-version")
    stage.start(raw=raw[:at] + raw[at + 2 :])


@life()
def a_checkpoint_of_a_terminal_is_restored(stage: Stage) -> None:
    stage.life.terminal_stub("test -t 0; echo $?; exit 3")
    stage.start("-t", "--restore", "/image")


@life()
def a_restored_container_is_killed(stage: Stage) -> None:
    stage.life.stub("exec sleep 100")
    stage.start("--restore", "/image")
    stage.created()
    os.kill(number_in(stage.life.pid_file), 9)


@life("with words", "after its pid file")
def a_restore_fails(stage: Stage, how: str) -> None:
    if how == "with words":
        stage.life.script("#!/bin/sh\necho 'criu failed' >&2\nexit 1\n")
    else:
        stage.life.stub("exit 0", after="echo late >&2", status=1)
    stage.start("--restore", "/image", *stage.exit_command())


@life()
def a_restore_fails_with_a_terminal(stage: Stage) -> None:
    stage.life.script("#!/bin/sh\necho 'criu failed' >&2\nexit 1\n")
    stage.start("-t", "--restore", "/image")
