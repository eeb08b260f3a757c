"""The sd-notify relay: what reaches the manager's socket, and what a container cannot do through it."""

from __future__ import annotations

import os
import select
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lowconmon.loop import Loop
from lowconmon.rooms import notify
from lowconmon.rooms.diagnostics import Diagnostics
from tests.support import faults
from tests.support.life import (
    DEADLINE,
    Gate,
    Life,
    assert_idle,
    attach_accepted,
    private_kib,
    read_if_there,
    wait_until,
)
from tests.support.notify import Manager, Sender, exit_status_and_no_socket, folder
from tests.support.syslog import Syslog
from tests.support.witness import Witness, messages, odd

GROWTH_KIB = 8 << 10
SPARE_S = 1.0  # an exit file is there within a second where nobody holds it up
LOST = "Failed to pass on what the container notifies"


@pytest.fixture
def path(life: Life) -> Path:
    """Make the socket's directory; return the path of the socket."""
    return folder(life)


@pytest.fixture
def manager(life: Life) -> Iterator[Manager]:
    with Manager(life.directory / "S") as one:
        yield one


def waiting(life: Life, gate: Gate, manager: Manager, *more: str, **how: Any) -> int:
    """Start a life that waits at the gate and ends with 7; return the container's pid."""
    if not life.runtime.exists():
        life.stub(f"read x <{gate.path}; exit 7")
    return life.start(*manager.option, *more, **how).pid()


# What passes


@pytest.mark.contract("CLI-50")
@pytest.mark.contract("NOT-1", "NOT-3", "NOT-4", "NOT-5", "NOT-6", "NOT-7", "NOT-8", "NOT-15")
def test_what_passes_reaches_the_manager_and_the_socket_goes_with_the_container(
    life: Life, gate: Gate, path: Path, manager: Manager
) -> None:
    waiting(life, gate, manager)
    with Sender(path) as container:
        container.send(b"READY=1")
        assert manager.receive() == b"READY=1"
        container.send(b"MAINPID=7", b"", b"\n", b"STATUS=a\rMAINPID=1\nSTOPPING=1\n")
        assert manager.receive() == b"STATUS=a\nSTOPPING=1"
        container.send(b"EXTEND_TIMEOUT_USEC=7\nWATCHDOG=trigger\nBARRIER=1")
        assert manager.receive() == b"EXTEND_TIMEOUT_USEC=7\nWATCHDOG=trigger"
        container.send(os.urandom(4096), b"\xff\0\n=", b"RELOADING=1")
        assert manager.receive() == b"RELOADING=1"
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7
    assert path.parent.is_dir()
    life.wait_gone()
    assert manager.waiting() == []


@pytest.mark.contract("NOT-15")
@pytest.mark.parametrize("signal_name", ["", "KILL"])
def test_the_last_words_of_a_container_are_passed_on(
    life: Life, path: Path, manager: Manager, signal_name: str
) -> None:
    words = [b"READY=1", b"STATUS=going", b"STOPPING=1"]
    end = f"os.kill(os.getpid(), signal.SIG{signal_name})" if signal_name else "os._exit(7)"
    script = life.directory / "container.py"
    script.write_text(
        "import os, signal, socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        f"s.connect({str(path)!r})\nfor word in {words}: s.send(word)\n{end}\n"
    )
    life.stub(f"exec {sys.executable} -IS {script}").start(*manager.option)
    assert exit_status_and_no_socket(life, path) == (137 if signal_name else 7)
    assert [manager.receive() for _ in words] == words
    life.wait_gone()


@pytest.mark.contract("NOT-15")
def test_what_the_monitor_had_no_time_to_read_is_passed_on(
    life: Life, gate: Gate, path: Path, manager: Manager
) -> None:
    # Stopped until both the words and the end have come, it learns of all in one turn.
    pid, monitor = waiting(life, gate, manager), life.monitor_pid()
    os.kill(monitor, signal.SIGSTOP)
    with Sender(path) as container:
        count = container.flood([b"STATUS=%d" % number for number in range(8)])
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: b"\nState:\tZ" in (read_if_there(Path(f"/proc/{pid}/status")) or b""), "end")
    os.kill(monitor, signal.SIGCONT)
    assert exit_status_and_no_socket(life, path) == 137
    assert [manager.receive() for _ in range(count)] == [b"STATUS=%d" % n for n in range(count)]
    assert count == 8


@pytest.mark.contract("NOT-10")
def test_an_abstract_socket_of_the_manager(life: Life, gate: Gate, path: Path) -> None:
    with Manager(f"@lowconmon/test/{life.directory.name}") as manager:
        waiting(life, gate, manager)
        with Sender(path) as container:
            container.send(b"READY=1")
        assert manager.receive() == b"READY=1"
        gate.open()
        assert exit_status_and_no_socket(life, path) == 7


@pytest.mark.contract("NOT-12")
def test_a_datagram_of_64_kib_passes_whole_and_of_a_longer_one_nothing(
    life: Life, gate: Gate, path: Path, manager: Manager
) -> None:
    waiting(life, gate, manager)
    with Sender(path) as container:
        for size in (4096, 8193, 32767, 32768, 65535, 65536):
            status = b"STATUS=" + b"x" * (size - 7)
            container.send(status)
            assert manager.receive() == status
        container.send(b"READY=1\n" + b"x" * 65529, b"EXTEND_TIMEOUT_USEC=" + b"1" * 100_000)
        container.send(b"STATUS=after")
        assert manager.receive() == b"STATUS=after"
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7


@pytest.mark.contract("NOT-15", "START-10", "CALL-1")
@pytest.mark.parametrize(
    "more", [("--sync",), ("-i",), ("-l", "passthrough"), ("--timeout", "100"), ("-s",)]
)
def test_it_serves_every_sort_of_life(
    life: Life, gate: Gate, path: Path, manager: Manager, more: tuple[str, ...]
) -> None:
    raw = life.arguments(*manager.option, *more)
    if "passthrough" in more:
        at = raw.index("-l")
        raw = raw[:at] + raw[at + 2 :]
    waiting(life, gate, manager, raw=raw, wait="--sync" not in more)
    with Sender(path) as container:
        container.send(b"READY=1")
        assert manager.receive() == b"READY=1"
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7


@pytest.mark.contract("NOT-1", "CALL-2")
def test_it_serves_an_exec_session_with_a_bundle(
    life: Life, gate: Gate, path: Path, manager: Manager
) -> None:
    life.stub(f"read x <{gate.path}; exit 7").start(*manager.option, exec_session=True)
    life.pid()
    with Sender(path) as container:
        container.send(b"READY=1")
        assert manager.receive() == b"READY=1"
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7


@pytest.mark.contract("NOT-1", "START-10")
def test_the_runtime_finds_the_socket(life: Life, path: Path, manager: Manager) -> None:
    seen = life.directory / "seen"
    life.stub("exit 7", before=f"stat -c '%F %a' {path} > {seen}").start(*manager.option)
    life.pid()
    assert seen.read_text() == "socket 777\n"
    assert exit_status_and_no_socket(life, path) == 7


@pytest.mark.contract("NOT-17", "ENV-8")
def test_notify_socket_in_the_environment_is_the_runtimes(
    life: Life, path: Path, manager: Manager
) -> None:
    seen = Witness(life)
    with Manager(life.directory / "other") as other:
        life.environment["NOTIFY_SOCKET"] = other.path
        life.stub("exit 7", before=seen.shell()).start(*manager.option)
        life.pid()
        assert exit_status_and_no_socket(life, path) == 7
        entries = seen.wait().environment()
        named = [entry for entry in entries if entry.startswith(b"NOTIFY_SOCKET=")]
        assert named == [b"NOTIFY_SOCKET=" + os.fsencode(other.path)]
        life.wait_gone()
        assert other.waiting() == manager.waiting() == []


# The socket's file


@pytest.mark.contract("NOT-1")
@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_anyone_may_send_whatever_the_umask(
    life: Life, gate: Gate, path: Path, manager: Manager, umask: int
) -> None:
    waiting(life, gate, manager, umask=umask)
    assert stat.filemode(path.stat().st_mode) == "srwxrwxrwx"
    assert stat.S_IMODE((life.bundle / "ctl").stat().st_mode) == 0o660
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7
    assert stat.S_IMODE((life.exit_dir / life.cid).stat().st_mode) == 0o644


@pytest.mark.contract("NOT-1", "CASE-907")
@pytest.mark.parametrize("length", [90, 91, 92, 107, 108, 300])
def test_a_bundle_path_may_be_of_any_length(
    life: Life, gate: Gate, manager: Manager, length: int
) -> None:
    part = life.directory / "b"
    while len(str(part)) < length:
        part = part / ("x" * min(200, max(1, length - len(str(part)) - 1)))
    part.mkdir(parents=True)
    life.bundle = part
    path = folder(life)
    waiting(life, gate, manager)
    with Sender(path) as container:
        container.send(b"READY=1")
    assert manager.receive() == b"READY=1"
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7


@pytest.mark.contract("NOT-1", "NOT-16")
@pytest.mark.parametrize("kind", ["file", "socket", "link to a file", "link to nothing", "loop"])
def test_what_is_in_the_way_is_removed_and_never_followed(
    life: Life, gate: Gate, path: Path, manager: Manager, kind: str
) -> None:
    victim = life.directory / "victim"
    if kind == "file":
        path.write_text("old")
    elif kind == "socket":
        Manager(path).close()
    elif kind == "loop":
        path.symlink_to(path)
    else:
        path.symlink_to(victim)
    if kind == "link to a file":
        victim.write_text("precious")
        victim.chmod(0o600)
    waiting(life, gate, manager)
    assert stat.filemode(path.lstat().st_mode) == "srwxrwxrwx"
    with Sender(path) as container:
        container.send(b"READY=1")
    assert manager.receive() == b"READY=1"
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7
    if kind == "link to a file":
        assert (victim.read_text(), victim.stat().st_mode & 0o777) == ("precious", 0o600)
    else:
        assert not os.path.lexists(victim)


@pytest.mark.contract("NOT-8", "NOT-16")
@pytest.mark.parametrize("kind", ["gone", "link", "directory", "moved", "no directory"])
def test_what_a_container_does_with_the_file_harms_nobody(
    life: Life, gate: Gate, path: Path, manager: Manager, kind: str
) -> None:
    """Acceptable: what the container put there is left or gone. Not acceptable: anything elsewhere."""
    victim = life.directory / "victim"
    victim.write_text("precious")
    waiting(life, gate, manager)
    with Sender(path) as container:
        if kind == "moved":
            path.rename(victim.with_name("moved"))
        else:
            path.unlink()
        if kind == "link":
            path.symlink_to(victim)
        elif kind == "directory":
            path.mkdir()
        elif kind == "no directory":
            path.parent.rmdir()
        container.send(b"READY=1")
        assert manager.receive() == b"READY=1"
    gate.open()
    assert life.exit_status() == 7
    life.wait_gone()
    assert victim.read_text() == "precious"
    assert path.is_dir() == (kind == "directory")


@pytest.mark.contract("NOT-8")
def test_a_life_that_begins_while_the_exit_command_runs_keeps_its_socket(
    life: Life, path: Path, manager: Manager
) -> None:
    # As with podman's restart policy: its `container cleanup` starts the next monitor.
    result = life.directory / "result"
    command = life.directory / "exit-command"
    command.write_text(
        f"#!/bin/sh\ntest -e {path}; echo $? > {path}; mv {path} {result}; : > {path}\n"
    )
    command.chmod(0o755)
    life.stub("exit 7").start(*manager.option, "--exit-command", str(command))
    life.pid()
    life.wait_gone()
    assert result.read_text() == "1\n"
    assert path.is_file()


# Starts that fail


@pytest.mark.contract("NOT-2", "NOT-16", "SYNC-11", "START-17")
@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("nothing", "No such file or directory"),
        ("file", "Not a directory"),
        ("link", "Not a directory"),
        ("socket is a directory", "Is a directory"),
    ],
)
def test_a_socket_that_cannot_be_made_fails_the_start(
    life: Life, manager: Manager, kind: str, text: str
) -> None:
    seen = Witness(life)
    path, elsewhere = life.bundle / "notify", life.directory / "elsewhere"
    elsewhere.mkdir()
    if kind == "file":
        path.touch()
    elif kind == "link":
        path.symlink_to(elsewhere)
    elif kind == "socket is a directory":
        (path / "notify.sock").mkdir(parents=True)
    life.stub("exit 7", before=seen.shell()).start(*manager.option)
    text = f"Failed to create notify socket: {text}"
    assert messages(life) == [{"data": -1, "message": text}]
    life.wait_gone()
    assert not seen.been(), "the runtime was started"
    assert list(elsewhere.iterdir()) == list(life.exit_dir.iterdir()) == []
    assert [one.name for one in life.bundle.iterdir()] == ["notify"] * (kind != "nothing")


@pytest.mark.contract("NOT-9")
def test_without_a_bundle_it_is_an_error_of_the_command_line(life: Life, manager: Manager) -> None:
    life.stub("exit 7")
    raw = life.arguments(*manager.option, exec_session=True)
    at = raw.index("-b")
    life.start(raw=raw[:at] + raw[at + 2 :])
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    assert life.launcher.returncode == 1
    assert life.launcher.stderr.read() == b"[conmon:e]: Bundle path not provided. Use --bundle\n"
    assert messages(life) == []


FAILURES: dict[str, tuple[str, tuple[str, ...]]] = {
    "the runtime fails": ("#!/bin/sh\nexit 1\n", ()),
    "there is no pid file": ("#!/bin/sh\nexit 0\n", ()),
    "there is no terminal": ("#!/bin/sh\nexit 0\n", ("-t",)),
    "the runtime cannot be executed": ("#!/nonexistent\n", ()),
    "the attach socket cannot be made": ("#!/bin/sh\nexit 0\n", ()),
}


@pytest.mark.contract("NOT-8", "START-17")
@pytest.mark.parametrize("failure", FAILURES)
def test_a_start_that_fails_leaves_no_socket(
    life: Life, path: Path, manager: Manager, failure: str
) -> None:
    script, more = FAILURES[failure]
    if "attach" in failure:
        (life.bundle / "attach").mkdir()
    life.script(script).start(*manager.option, *more)
    assert [answer["data"] for answer in messages(life)] == [-1]
    life.wait_gone()
    assert list(path.parent.iterdir()) == []


@pytest.mark.contract("NOT-8", "NOT-16", "SYNC-11")
@pytest.mark.parametrize("nth", [1, 2])
def test_a_start_without_a_socket_to_be_had_leaves_none(
    life: Life, path: Path, manager: Manager, nth: int
) -> None:
    life.command = faults.command(f"socket:errno=EMFILE:nth={nth}")
    life.stub("exit 7").start(*manager.option)
    text = "Failed to create notify socket: Too many open files"
    assert messages(life) == [{"data": -1, "message": text}]
    life.wait_gone()
    assert list(path.parent.iterdir()) == []


@pytest.mark.contract("NOT-8", "END-5")
@pytest.mark.parametrize("how", ["TERM", "KILL", "timeout"])
def test_however_a_container_ends_the_socket_goes(
    life: Life, path: Path, manager: Manager, how: str
) -> None:
    life.stub("exec sleep 100")
    pid = life.start(*manager.option, *(["--timeout", "1"] if how == "timeout" else [])).pid()
    if how == "TERM":
        os.kill(life.monitor_pid(), signal.SIGTERM)
    elif how == "KILL":
        os.kill(pid, signal.SIGKILL)
    assert exit_status_and_no_socket(life, path) == {"TERM": 143, "KILL": 137, "timeout": -1}[how]


# Trouble in the middle of a life


@pytest.mark.contract("END-26", "NOT-8")
@pytest.mark.parametrize(
    "spec", ["read_only_data:errno=EIO", "unlink:errno=EPERM:nth=6", "connect:errno=ENOMEM"]
)
def test_a_call_that_fails_costs_at_most_the_relay(
    life: Life, gate: Gate, path: Path, manager: Manager, spec: str
) -> None:
    life.command = faults.command(spec)
    waiting(life, gate, manager)
    with Sender(path) as container:
        container.send(b"READY=1")
    gate.open()
    assert life.exit_status() == 7
    life.wait_gone()
    assert path.exists() == ("unlink" in spec)


@pytest.mark.contract("NOT-14", "CASE-1201", "CASE-904")
@pytest.mark.parametrize("limit", [0, 32])
@pytest.mark.parametrize("count", [1, 253])
def test_descriptors_that_come_along_are_closed_and_the_lines_pass(
    life: Life, gate: Gate, path: Path, manager: Manager, count: int, limit: int
) -> None:
    if limit:
        life.command = odd(files=limit)
    waiting(life, gate, manager)
    monitor = life.monitor_pid()
    before = len(os.listdir(f"/proc/{monitor}/fd"))
    reading, writing = os.pipe()
    with Sender(path) as container:
        container.send(b"READY=1", fds=[writing] * count)
        assert manager.receive() == b"READY=1"
        for number in range(40):
            container.send(b"STATUS=%d" % number, fds=[writing] * count)
            assert manager.receive() == b"STATUS=%d" % number
        container.send(b"", b"BARRIER=1", fds=[writing] * count)
    os.close(writing)
    assert select.select([reading], [], [], DEADLINE)[0], "somebody holds what was attached"
    assert os.read(reading, 1) == b""
    os.close(reading)
    assert len(os.listdir(f"/proc/{monitor}/fd")) == before
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7


FLOODS = {
    "of what passes": [b"STATUS=" + b"x" * 65529, b"READY=1"],
    "of what does not": [b"X=" + b"\n" * 65000, *[b"MAINPID=1"] * 9],
    "of nothing": [b""],
    "of too much": [b"STATUS=" + b"x" * 150_000],
}


@pytest.mark.contract("CASE-1201", "CASE-1202", "NOT-13", "NOT-14")
@pytest.mark.parametrize("attached", [0, 253])
@pytest.mark.parametrize("reads", [True, False], ids=["read", "not read"])
@pytest.mark.parametrize("what", FLOODS)
def test_a_flood_holds_nothing_up_and_nothing_grows(
    life: Life,
    path: Path,
    manager: Manager,
    what: str,
    reads: bool,  # noqa: FBT001
    attached: int,
) -> None:
    """Acceptable: the container's own words are lost. Not acceptable: anybody else notices."""
    life.stub("exec cat").start(*manager.option, "-i")
    life.pid()
    monitor = life.monitor_pid()
    before = private_kib(monitor)
    client = attach_accepted(life)
    null = os.open("/dev/null", os.O_RDONLY)
    datagrams = FLOODS[what] * 20
    with Sender(path) as container:
        for turn in range(5):  # each answer proves that the others had their turn
            sent = 0
            while sent < 50:
                sent += container.flood(datagrams, [null] * attached)
                if reads:
                    manager.waiting()
                select.select([], [container.socket], [], 1)
            client.send(b"%d\n" % turn)
            assert client.recv(8193) == b"\x02%d\n" % turn
            assert private_kib(monitor) - before <= GROWTH_KIB
        life.control(b"2 0 0\n")
        assert_idle(monitor)
        assert private_kib(monitor) - before <= GROWTH_KIB
        container.flood(datagrams, [null] * attached)
        client.shutdown(socket.SHUT_WR)
        assert exit_status_and_no_socket(life, path) == 0
    os.close(null)
    client.close()
    life.wait_gone()


@pytest.mark.contract("CASE-1202", "NOT-13", "NOT-8")
def test_a_grandchild_that_never_stops_sending_does_not_hold_up_the_end(
    life: Life, path: Path, manager: Manager
) -> None:
    script = life.directory / "flood.py"
    script.write_text(
        "import socket\ns = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        f"s.connect({str(path)!r})\nprint('flooding', flush=True)\n"
        "while True:\n    try: s.send(b'STATUS=x')\n    except OSError: break\n"
    )
    life.stub(f"{sys.executable} -IS {script} >&2 & read x; exit 7")
    life.start(*manager.option, "-i")
    life.pid()
    client = attach_accepted(life)
    wait_until(lambda: life.log.exists() and b"flooding" in life.log.read_bytes(), "the flood")
    client.send(b"\n")
    assert exit_status_and_no_socket(life, path) == 7
    client.close()
    life.wait_gone()


def lingering(peer: socket.socket) -> socket.socket:
    """Connect a socket whose close waits for *peer*, which does not read, for a long time."""
    one = socket.create_connection(peer.getsockname())
    one.setblocking(False)
    try:
        while True:
            one.send(bytes(1 << 20))
    except BlockingIOError:
        pass
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 10 * int(DEADLINE)))
    return one


@pytest.mark.contract("NOT-13", "NOT-14", "END-8")
@pytest.mark.parametrize("ended", [False, True], ids=["in its life", "at its end"])
def test_sockets_that_linger_hold_nothing_up(
    life: Life,
    gate: Gate,
    path: Path,
    manager: Manager,
    ended: bool,  # noqa: FBT001
) -> None:
    """Acceptable: nobody waits for the last words of such a socket. Not acceptable: we do."""
    pid, monitor = waiting(life, gate, manager), life.monitor_pid()
    words = [b"STATUS=%d" % number for number in range(8)]
    with socket.create_server(("127.0.0.1", 0)) as peer, Sender(path) as container:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        os.kill(monitor, signal.SIGSTOP)  # lest it reads one that is still ours
        for word in words:
            sockets = [lingering(peer) for _ in range(3)]
            assert container.flood([word], [one.fileno() for one in sockets]) == 1
            for one in sockets:
                one.close()
        if ended:
            os.kill(pid, signal.SIGKILL)
            status = Path(f"/proc/{pid}/status")
            wait_until(lambda: b"\nState:\tZ" in (read_if_there(status) or b""), "end")
        os.kill(monitor, signal.SIGCONT)
        if not ended:
            assert [manager.receive() for _ in words] == words
            gate.open()
        wait_until(lambda: read_if_there(life.exit_dir / life.cid), "the exit file", SPARE_S * 3)
        assert exit_status_and_no_socket(life, path) == (137 if ended else 7)
        life.wait_gone()
    if ended:
        assert manager.waiting() == words


@pytest.mark.contract("NOT-13")
def test_a_full_manager_holds_up_neither_the_container_nor_the_end(
    life: Life, gate: Gate, path: Path, manager: Manager
) -> None:
    waiting(life, gate, manager)
    full = manager.fill()
    with Sender(path) as container:
        for number in range(100):  # past what is held: the container never waits for the manager
            container.send(b"STATUS=%d" % number)
    gate.open()
    wait_until(lambda: read_if_there(life.exit_dir / life.cid), "the exit file", SPARE_S * 3)
    life.wait_gone()
    assert manager.waiting() == [b"filling"] * full


@pytest.mark.contract("NOT-13")
def test_a_slow_manager_gets_what_was_held_in_order(
    life: Life, gate: Gate, path: Path, manager: Manager
) -> None:
    waiting(life, gate, manager)
    full = manager.fill()
    words = [b"STATUS=%d" % number for number in range(20)]
    with Sender(path) as container:
        container.send(*words)
        got = [manager.receive() for _ in range(full + len(words))]
        assert got == [b"filling"] * full + words
        container.send(b"STOPPING=1")
        assert manager.receive() == b"STOPPING=1"
    assert_idle(life.monitor_pid())
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7


@pytest.mark.contract("NOT-13")
def test_what_is_held_at_the_end_goes_out_while_the_exit_command_runs(
    life: Life, gate: Gate, path: Path, manager: Manager
) -> None:
    command, wait = life.directory / "exit-command", Gate(life.directory / "wait")
    command.write_text(f"#!/bin/sh\nread x <{wait.path}\n")
    command.chmod(0o755)
    waiting(life, gate, manager, "--exit-command", str(command))
    full = manager.fill()
    with Sender(path) as container:
        container.send(b"STOPPING=1")
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7
    assert [manager.receive() for _ in range(full + 1)] == [b"filling"] * full + [b"STOPPING=1"]
    wait.open()
    wait.close()
    life.wait_gone()


@pytest.mark.contract("NOT-13")
@pytest.mark.parametrize("first", ["gone", "never there", "replaced while open"])
def test_a_manager_that_was_made_anew_gets_what_comes_next(
    life: Life, gate: Gate, path: Path, manager: Manager, first: str
) -> None:
    if first == "never there":
        manager.close()
        Path(manager.path).unlink()
    waiting(life, gate, manager)
    with Sender(path) as container:
        if first != "never there":
            container.send(b"STATUS=first")
            assert manager.receive() == b"STATUS=first"
            Path(manager.path).unlink()
        if first == "gone":
            manager.close()
        if first != "replaced while open":
            container.send(b"STATUS=held")
        with Manager(manager.path) as second:
            container.send(b"STATUS=next")
            texts = [b"STATUS=held", b"STATUS=next"][first == "replaced while open" :]
            assert [second.receive() for _ in texts] == texts
        gate.open()
        assert exit_status_and_no_socket(life, path) == 7


@pytest.mark.contract("NOT-13", "DIAG-7")
def test_a_manager_that_does_not_come_is_complained_of_once(
    life: Life, gate: Gate, path: Path
) -> None:
    with Syslog(life) as syslog:
        life.stub(f"read x <{gate.path}; exit 7")
        life.start("--syslog", "--sdnotify-socket", str(life.directory / "none"))
        life.pid()
        with Sender(path) as container:
            for number in range(2000):
                container.send(b"STATUS=%d" % number)
        assert syslog.wait(LOST.encode())
        gate.open()
        assert exit_status_and_no_socket(life, path) == 7
        life.wait_gone()
        assert len([line for line in syslog.lines() if LOST.encode() in line]) == 1


@pytest.mark.contract("NOT-10", "NOT-13")
@pytest.mark.parametrize("name", ["", "@", "/" + "x" * 107, "@" + "x" * 107, "/dev/null", "none/S"])
def test_a_name_that_is_no_socket_costs_only_what_is_sent_there(
    life: Life, gate: Gate, path: Path, name: str
) -> None:
    life.stub(f"read x <{gate.path}; exit 7").start(f"--sdnotify-socket={name}")
    life.pid()
    with Sender(path) as container:
        container.send(b"READY=1")
    gate.open()
    assert exit_status_and_no_socket(life, path) == 7
    life.wait_gone()


# The room by itself


class Room:
    """A relay in this process, what it said, and the loop that it lives in."""

    def __init__(self, directory: Path, manager: str) -> None:
        self.path = directory / "notify/notify.sock"
        self.path.parent.mkdir()
        self.loop = Loop()
        self.warnings: list[tuple[str, int | None]] = []
        self.notify = notify.Notify(self.loop, self)  # type: ignore[arg-type]
        self.notify.listen(os.fsencode(directory), os.fsencode(manager))

    def warn(self, text: str, error: OSError | None = None) -> None:
        self.warnings.append((text, error.errno if error else None))

    remove: Any = Diagnostics.remove

    def run(self, holds: Callable[[], object]) -> None:
        """Run the loop until *holds* is true."""

        def look() -> None:
            if holds():
                self.loop.stop()
            else:
                self.loop.call_later(1, look)

        self.loop.call_later(0, look)
        self.loop.run()


@pytest.fixture
def room(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Room]:
    monkeypatch.setattr(notify, "_RETRY_MS", 1)
    one = Room(short_tmp, str(short_tmp / "S"))
    yield one
    one.notify.detach()
    one.run(lambda: not one.notify._held)  # noqa: SLF001 - it is given up, and the socket closed
    one.loop.close()


@pytest.mark.contract("NOT-13", "DIAG-6")
def test_after_five_seconds_in_vain_what_is_held_is_lost_and_said(
    room: Room, short_tmp: Path
) -> None:
    with Sender(room.path) as container:
        container.send(b"STATUS=lost")
        room.run(lambda: room.warnings)
        assert room.warnings == [(LOST, 2)]
        with Manager(short_tmp / "S") as manager:
            container.send(b"STATUS=next")
            room.run(lambda: select.select([manager.socket], [], [], 0)[0])
            assert manager.waiting() == [b"STATUS=next"]
            full = manager.fill()
            container.send(b"STATUS=lost too")
            room.run(lambda: len(room.warnings) > 1)
            assert room.warnings[1:] == [(LOST, None)], "a full socket is no error"
            assert manager.waiting() == [b"filling"] * full


@pytest.mark.contract("NOT-13")
def test_the_first_thirty_two_are_held(room: Room, short_tmp: Path) -> None:
    with Sender(room.path) as container:
        for number in range(40):
            container.send(b"STATUS=%d" % number)
            room.notify._read()  # noqa: SLF001 - as the loop would, but for the timers
    assert room.warnings == [(LOST, None)] * 8
    with Manager(short_tmp / "S") as manager:
        got: list[bytes] = []

        def all_have_come() -> bool:
            got.extend(manager.waiting())
            return len(got) == 32

        room.run(all_have_come)
        assert got == [b"STATUS=%d" % number for number in range(32)]


def test_a_relay_that_is_closed_twice_or_never_opened_does_nothing(room: Room) -> None:
    room.notify.close()
    assert not room.path.exists()
    room.path.touch()
    room.notify.close()
    room.notify.detach()
    assert room.path.exists()
    notify.Notify(room.loop, room).close()  # type: ignore[arg-type]
    assert room.warnings == []
