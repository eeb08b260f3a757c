"""Lives under a runtime of our own: hostrun creates and starts, the monitor watches, as with podman.

$LOWCONMON_HOSTRUN names an installed hostrun; else it is this tree's `python -m lowconmon_tools.hostrun`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.life import (
    DEADLINE,
    Life,
    assert_idle,
    attach_accepted,
    packets,
    read_if_there,
    wait_until,
)

WRAPPER = """#!/bin/sh
exec {program} --root {root} "$@"
"""


class Container:
    """A container of hostrun in the bundle of a life."""

    def __init__(self, life: Life) -> None:
        self.life = life
        installed = os.environ.get("LOWCONMON_HOSTRUN")
        run = f"env PYTHONPATH={ROOT} {sys.executable} -P -m lowconmon_tools.hostrun"
        self.root = life.directory / "hostrun"
        # By a wrapper, since a runtime is one path; its words to the log, not to the container's.
        life.script(WRAPPER.format(program=installed or run, root=self.root))

    def configure(self, script: str, *, terminal: bool = False, **process: Any) -> Container:
        """Write the bundle's configuration: the container runs a shell script."""
        described = {
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/usr/bin:/bin", "WHO=container"],
            "cwd": "/",
            "terminal": terminal,
            **process,
        }
        config = {"ociVersion": "1.0.2", "process": described}
        (self.life.bundle / "config.json").write_text(json.dumps(config))
        return self

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the runtime."""
        return subprocess.run(
            [str(self.life.runtime), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )

    def start(self) -> None:
        """Let the created container run."""
        done = self.run("start", self.life.cid)
        assert done.returncode == 0, done.stderr

    def state(self) -> dict[str, Any]:
        """Return the container's state."""
        found: dict[str, Any] = json.loads(self.run("state", self.life.cid).stdout)
        return found


@pytest.fixture
def container(life: Life) -> Iterator[Container]:
    """Make a container; delete it."""
    one = Container(life)
    yield one
    one.run("delete", "--force", life.cid)


@pytest.fixture
def session(life: Life, container: Container) -> Iterator[Life]:
    """Run a container that waits, and give the life of an exec session in it."""
    container.configure("exec tail -f /dev/null", terminal=False)
    life.start()
    life.pid()
    container.start()
    directory = life.directory / "session"
    directory.mkdir()
    one = Life(directory, life.cid)
    one.runtime = life.runtime
    try:
        yield one
    finally:
        one.end()


def spec(session: Life, script: str, *, terminal: bool = False, **process: Any) -> None:
    """Write the process that the exec session runs."""
    described = {
        "args": ["/bin/sh", "-c", script],
        "env": ["PATH=/usr/bin:/bin", "WHO=session"],
        "cwd": "/",
        "terminal": terminal,
        **process,
    }
    (session.directory / "process.json").write_text(json.dumps(described))


# Create and start


@pytest.mark.contract("RT-1", "SYNC-6", "CALL-1", "END-9")
@pytest.mark.parametrize("status", [0, 1, 126, 127, 128, 255])
def test_a_container_is_created_started_logged_and_recorded(
    life: Life, container: Container, status: int
) -> None:
    container.configure(f"echo out $WHO; echo err >&2; exit {status}")
    life.start()
    pid = life.pid()
    state = container.state()
    assert (state["status"], state["pid"]) == ("created", pid)
    assert not (life.exit_dir / life.cid).exists()
    container.start()
    assert life.exit_status() == status
    life.wait_gone()
    assert life.text() == b"out container\n"
    assert life.text("stderr") == b"err\n"
    assert container.state()["status"] == "stopped"
    assert (life.persist_dir / "exit").read_bytes() == str(status).encode()
    assert container.run("delete", life.cid).returncode == 0


@pytest.mark.contract("ATT-13", "ATT-14", "CALL-5")
def test_a_client_attaches_between_create_and_start_as_podman_run_does(
    life: Life, container: Container
) -> None:
    container.configure("echo first; cat; echo err >&2; exit 3")
    life.start("-i")
    life.pid()
    client = attach_accepted(life)
    client.send(b"typed early\n")
    container.start()
    first = client.recv(8193)  # what cat echoes may be in the same read
    assert first.startswith(b"\2first\n")
    client.send(b"typed later\n")
    client.shutdown(socket.SHUT_WR)
    out, err = packets(client)
    assert first[1:] + out == b"first\ntyped early\ntyped later\n"
    assert err == b"err\n"
    client.close()
    assert life.exit_status() == 3


@pytest.mark.contract("START-5", "CALL-1")
def test_nothing_is_created_before_the_start_pipe_speaks(life: Life, container: Container) -> None:
    container.configure("echo hello")
    life.start(start_pipe=True, wait=False)
    assert life.launcher is not None
    # It waits: the launcher lives, and there is neither monitor nor container.
    assert_idle(life.launcher.pid)
    assert life.launcher.poll() is None
    assert not life.conmon_pid_file.exists()
    assert not life.pid_file.exists()
    os.write(life.start_pipe, b"0")
    life.pid()
    assert life.launcher.wait(DEADLINE) == 0
    container.start()
    assert life.exit_status() == 0
    assert life.text() == b"hello\n"


@pytest.mark.contract("TTY-1", "TTY-6", "CTL-5")
def test_a_container_with_a_terminal(life: Life, container: Container) -> None:
    script = "stty size; tty; read x; stty size; echo got $x; exit 5"
    container.configure(script, terminal=True)
    life.start("-t")
    life.pid()
    client = attach_accepted(life)
    container.start()
    got = b""
    while b"/dev/pts/" not in got or not got.endswith(b"\n"):
        got += client.recv(8193)[1:]
    assert got.startswith(b"0 0\r\n")
    life.control(b"1 33 44\n")
    terminal = os.open(got.split(b"\r\n")[1], os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        wait_until(lambda: os.get_terminal_size(terminal) == (44, 33), "the size")
    finally:
        os.close(terminal)
    client.send(b"this\n")
    out, err = packets(client)
    client.close()
    assert out.endswith(b"33 44\r\ngot this\r\n")
    assert err == b""
    assert life.exit_status() == 5


@pytest.mark.contract("CTL-13")
def test_a_size_that_comes_between_create_and_start_is_the_containers_first(
    life: Life, container: Container
) -> None:
    container.configure("stty size", terminal=True)
    life.start("-t")
    life.pid()
    life.log.rename(life.directory / "old")
    life.control(b"1 50 150\n2 0 0\n")
    wait_until(life.log.exists, "the control messages are done")
    container.start()
    assert life.exit_status() == 0
    assert life.text() == b"50 150\r\n"


@pytest.mark.contract("END-3", "SIG-1")
@pytest.mark.parametrize("name", ["TERM", "KILL", "USR1", "QUIT"])
def test_a_container_that_a_signal_ends_has_128_and_its_number(
    life: Life, container: Container, name: str
) -> None:
    container.configure("exec tail -f /dev/null")
    life.start()
    life.pid()
    container.start()
    assert container.run("kill", life.cid, name).returncode == 0
    assert life.exit_status() == 128 + signal.Signals[f"SIG{name}"]


@pytest.mark.contract("END-1", "END-3")
def test_a_container_that_is_killed_before_its_start_is_recorded(
    life: Life, container: Container
) -> None:
    container.configure("echo never")
    life.start()
    life.pid()
    assert container.run("kill", life.cid, "KILL").returncode == 0
    assert life.exit_status() == 137
    assert life.log.read_bytes() == b""


@pytest.mark.contract("SYNC-6", "RT-19", "RT-28", "START-17")
@pytest.mark.parametrize(
    ("process", "words"),
    [
        ({"args": ["/nowhere/at/all"]}, "no such file or directory"),
        ({"cwd": "/nowhere"}, "No such file or directory"),
        ({"args": []}, "process.args"),
        ({"terminal": True}, "--console-socket"),
    ],
)
def test_what_the_runtime_says_of_a_failed_create_is_reported(
    life: Life, container: Container, process: dict[str, Any], words: str
) -> None:
    container.configure("exit 0", **process)
    life.start()
    message = life.message()
    assert message is not None
    assert message["data"] == -1
    assert message["message"].startswith("hostrun: ")
    assert words in message["message"]
    assert life.message() is None
    life.wait_gone()
    assert list(life.exit_dir.iterdir()) == []


@pytest.mark.contract("RT-21", "TTY-5")
def test_a_terminal_that_the_bundle_does_not_want_is_a_failed_start(
    life: Life, container: Container
) -> None:
    container.configure("exit 0", terminal=False)
    life.start("-t")
    message = life.message()
    assert message is not None
    assert message["data"] == -1
    assert "--console-socket" in message["message"]
    life.wait_gone()
    assert list(life.bundle.glob(".conmon-*")) == []


@pytest.mark.contract("ENV-8", "ENV-9")
def test_the_container_sees_its_own_environment_only(life: Life, container: Container) -> None:
    container.configure("exec env")
    life.environment["MANAGER"] = "of the manager"
    life.start()
    life.pid()
    container.start()
    assert life.exit_status() == 0
    found = {line.split(b"=")[0] for line in life.text().splitlines()}
    assert found - {b"PWD", b"_", b"SHLVL", b"OLDPWD"} == {b"PATH", b"WHO"}


@pytest.mark.contract("END-15", "END-20", "END-22")
def test_the_exit_command_runs_when_the_container_has_ended(
    life: Life, container: Container
) -> None:
    container.configure("exit 7")
    done = life.directory / "done"
    life.start("--exit-command", "/bin/cp", *exit_words(str(life.exit_dir / life.cid), str(done)))
    life.pid()
    container.start()
    assert wait_until(lambda: read_if_there(done), "the exit command") == b"7"


def exit_words(*words: str) -> list[str]:
    """Return the exit command's arguments as options."""
    return [part for word in words for part in ("--exit-command-arg", word)]


# Exec sessions


@pytest.mark.contract("RT-3", "SYNC-7", "END-9", "CALL-4")
@pytest.mark.parametrize("status", [0, 1, 126, 127, 255])
def test_an_exec_session_reports_its_pid_and_its_status(session: Life, status: int) -> None:
    spec(session, f"echo hello $WHO; echo err >&2; exit {status}")
    session.start(exec_session=True)
    assert session.pid() > 0
    assert session.message() == {"data": status}
    assert session.message() is None
    assert session.exit_status() == status
    assert session.text() == b"hello session\n"
    assert session.text("stderr") == b"err\n"


@pytest.mark.contract("SYNC-15", "RT-17", "CALL-2", "START-5", "ATT-13")
@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
def test_an_attached_exec_session_goes_as_podman_exec_does(session: Life, terminal: bool) -> None:  # noqa: FBT001
    spec(session, "echo hello; read x; echo got $x; exit 4", terminal=terminal)
    flags = ("-t", "-i") if terminal else ("-i",)
    session.start(
        "--exec-attach",
        *flags,
        exec_session=True,
        start_pipe=True,
        attach_pipe=True,
        wait=False,
    )
    assert session.launcher is not None
    # The manager moves the launcher to its cgroup and says so ...
    os.write(session.start_pipe, b"0")
    assert session.launcher.wait(DEADLINE) == 0
    # ... waits for the socket, and attaches; nothing runs yet ...
    assert session.message(session.attach_pipe) == {"data": 0}
    client = attach_accepted(session)
    assert not session.pid_file.exists()
    # ... and lets the runtime go: no byte of the output is missed.
    os.write(session.start_pipe, b"0")
    assert session.pid() > 0
    client.send(b"this\n")
    out, err = packets(client)
    client.close()
    if terminal:
        assert out.replace(b"this\r\n", b"", 1) in (b"hello\r\ngot this\r\n", b"hello\r\ngot ")
        assert out.startswith((b"hello\r\n", b"this\r\n"))
        assert b"got this\r\n" in out
    else:
        assert out == b"hello\ngot this\n"
    assert err == b""
    assert session.message() == {"data": 4}
    assert session.exit_status() == 4


@pytest.mark.contract("SYNC-17")
def test_an_attached_exec_session_without_an_attach_pipe_is_refused(session: Life) -> None:
    spec(session, "exit 0")
    session.start("--exec-attach", exec_session=True)
    assert session.launcher is not None
    assert session.launcher.stderr is not None
    assert session.launcher.returncode == 1
    said = session.launcher.stderr.read()
    assert said == b"[conmon:e]: --attach specified but _OCI_ATTACHPIPE was not\n"


@pytest.mark.contract("SYNC-7", "SYNC-11", "CASE-301", "CASE-302", "RT-28")
@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
@pytest.mark.parametrize(
    ("process", "words"),
    [
        ({"args": ["/nowhere/at/all"]}, "no such file or directory"),
        ({"args": ["nowhere-on-path"]}, "executable file not found in $PATH"),
        ({"cwd": "/nowhere"}, "No such file or directory"),
    ],
)
def test_an_exec_session_that_never_starts_has_one_negative_answer(
    session: Life,
    process: dict[str, Any],
    words: str,
    terminal: bool,  # noqa: FBT001
) -> None:
    done = session.directory / "done"
    spec(session, "exit 0", terminal=terminal, **process)
    extra = ("-t",) if terminal else ()
    session.start(*extra, "--exit-command", "/bin/touch", *exit_words(str(done)), exec_session=True)
    message = session.message()
    assert message is not None
    assert message["data"] == -1
    assert words in message["message"]
    assert session.message() is None
    wait_until(done.exists, "the exit command")
    session.wait_gone()
    assert list(session.exit_dir.iterdir()) == []


@pytest.mark.contract("SYNC-9", "END-5", "END-3")
def test_an_exec_session_that_runs_out_of_time_says_so(session: Life) -> None:
    spec(session, "echo begun; exec tail -f /dev/null")
    session.start("--timeout", "1", exec_session=True)
    assert session.pid() > 0
    assert session.message() == {"data": -1, "message": "command timed out"}
    assert session.exit_status() == -1
    assert session.text() == b"begun\n"


@pytest.mark.contract("END-1", "SYNC-7")
def test_several_exec_sessions_run_at_once(session: Life, life: Life) -> None:
    others = []
    try:
        for number in range(5):
            directory = session.directory / str(number)
            directory.mkdir()
            one = Life(directory, life.cid)
            one.runtime = session.runtime
            spec(one, f"echo {number}; read x; exit {number}")
            others.append(one.start("-i", exec_session=True, wait=False))
        for one in others:
            assert one.pid() > 0
        for number, one in reversed(list(enumerate(others))):
            client = one.attach()
            client.shutdown(socket.SHUT_WR)
            assert one.message() == {"data": number}
            client.close()
            assert one.text() == b"%d\n" % number
    finally:
        for one in others:
            one.end()


@pytest.mark.contract("END-1")
def test_an_exec_session_outlives_neither_its_record_nor_harms_the_container(
    session: Life, life: Life, container: Container
) -> None:
    spec(session, "kill -9 $$")
    session.start(exec_session=True)
    assert session.pid() > 0
    assert session.message() == {"data": 137}
    session.wait_gone()
    assert container.state()["status"] == "running"
    assert not (life.exit_dir / life.cid).exists()
    assert Path(f"/proc/{life.monitor_pid()}").exists()
