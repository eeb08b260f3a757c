"""How things end: hang-ups, half-closed sockets, processes."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Own = Callable[[Any], Any]
    Run = Callable[[Loop], None]
    Turn = Callable[[], None]

KINDS = ("reader", "hangup", "writer")


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def watch(loop: Loop, fd: int, *kinds: str) -> list[str]:
    """Add handlers that note their kind, and return the notes."""
    called: list[str] = []
    for kind in kinds:
        getattr(loop, "add_" + kind)(fd, lambda kind=kind: called.append(kind))
    return called


@pytest.fixture
def ended_pipe(own: Own) -> int:
    """Give the reading end of a pipe whose writer has gone."""
    reader, writer = os.pipe()
    os.close(writer)
    own(reader)
    return reader


@pytest.fixture
def broken_pipe(own: Own) -> int:
    """Give the writing end of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    own(writer)
    return writer


# Pipes


@pytest.mark.parametrize(
    ("kinds", "called"),
    [
        ("reader", ["reader"]),
        ("hangup", ["hangup"]),
        ("writer", ["writer"]),
        ("reader hangup", ["hangup"]),
        ("reader writer", ["reader"]),
        ("hangup writer", ["hangup"]),
        ("reader hangup writer", ["hangup"]),
    ],
)
def test_the_end_of_a_pipe_is_told_to_one_handler(
    loop: Loop, ended_pipe: int, turn: Turn, kinds: str, called: list[str]
) -> None:
    calls = watch(loop, ended_pipe, *kinds.split())
    turn()
    assert calls == called
    loop.remove(ended_pipe)


def test_what_was_written_before_the_end_is_read_first(loop: Loop, own: Own, turn: Turn) -> None:
    reader, writer = os.pipe()
    own(reader)
    os.write(writer, b"ab")
    os.close(writer)
    said: list[str] = []
    loop.add_reader(reader, lambda: said.append(os.read(reader, 1).decode()))

    def hangup() -> None:
        said.append("hang-up")
        loop.remove(reader)

    loop.add_hangup(reader, hangup)
    for _ in range(4):
        turn()
    assert said == ["a", "b", "hang-up"]


def test_without_a_hangup_handler_the_reader_reads_the_end(
    loop: Loop, ended_pipe: int, run: Run
) -> None:
    read: list[bytes] = []

    def receive() -> None:
        read.append(os.read(ended_pipe, 1))
        loop.stop()

    loop.add_reader(ended_pipe, receive)
    run(loop)
    assert read == [b""]


def test_a_hangup_handler_does_not_hear_of_data(loop: Loop, own: Own, turn: Turn) -> None:
    reader, writer = os.pipe()
    own(reader)
    os.write(writer, b"x")
    calls = watch(loop, reader, "hangup")
    turn()
    assert calls == []
    os.close(writer)
    turn()
    assert calls == ["hangup"]


def test_a_watch_for_hangups_survives_its_reader(loop: Loop, own: Own, turn: Turn) -> None:
    reader, writer = os.pipe()
    own(reader)
    os.write(writer, b"x")
    calls = watch(loop, reader, "reader", "hangup")
    loop.remove_reader(reader)
    turn()
    assert calls == []
    os.close(writer)
    turn()
    assert calls == ["hangup"]


@pytest.mark.parametrize(
    ("kinds", "called"),
    [
        ("writer", ["writer"]),
        ("hangup", ["hangup"]),
        ("hangup writer", ["hangup", "writer"]),
    ],
)
def test_a_writer_is_told_that_nobody_reads(
    loop: Loop, broken_pipe: int, turn: Turn, kinds: str, called: list[str]
) -> None:
    calls = watch(loop, broken_pipe, *kinds.split())
    turn()
    assert calls == called
    with pytest.raises(BrokenPipeError):
        os.write(broken_pipe, b"x")


def test_a_writer_of_a_full_pipe_is_told_that_nobody_reads(
    loop: Loop, own: Own, turn: Turn
) -> None:
    reader, writer = os.pipe()
    own(writer)
    os.set_blocking(writer, False)
    assert os.write(writer, bytes(1 << 22)) < 1 << 22
    calls = watch(loop, writer, "writer")
    turn()
    assert calls == []
    os.close(reader)
    turn()
    assert calls == ["writer"]


def test_a_hangup_handler_may_remove_the_writer(loop: Loop, broken_pipe: int, turn: Turn) -> None:
    loop.add_writer(broken_pipe, lambda: pytest.fail("called"))
    loop.add_hangup(broken_pipe, lambda: loop.remove(broken_pipe))
    turn()
    turn()


def test_a_hangup_handler_may_stop_the_loop(loop: Loop, broken_pipe: int, run: Run) -> None:
    loop.add_writer(broken_pipe, lambda: pytest.fail("called"))
    loop.add_hangup(broken_pipe, loop.stop)
    run(loop)


# Sockets


@pytest.mark.parametrize(
    ("kinds", "called"),
    [
        ("reader", ["reader"]),
        ("hangup", ["hangup"]),
        ("writer", ["writer"]),
        ("reader hangup writer", ["reader", "writer"]),  # the end of a stream can be read
        ("hangup writer", ["hangup", "writer"]),
    ],
)
def test_a_peer_that_is_gone_is_told(
    loop: Loop,
    sockets: tuple[socket.socket, socket.socket],
    turn: Turn,
    kinds: str,
    called: list[str],
) -> None:
    ours, theirs = sockets
    theirs.close()
    calls = watch(loop, ours.fileno(), *kinds.split())
    turn()
    assert calls == called
    assert ours.recv(1) == b""
    loop.remove(ours.fileno())


def test_a_peer_that_did_not_read_all_is_an_error_to_read(
    loop: Loop, sockets: tuple[socket.socket, socket.socket], turn: Turn
) -> None:
    ours, theirs = sockets
    ours.send(b"x")
    theirs.close()
    read: list[int | None] = []

    def receive() -> None:
        try:
            ours.recv(1)
        except ConnectionResetError as error:
            read.append(error.errno)

    loop.add_reader(ours.fileno(), receive)
    turn()
    assert read == [errno.ECONNRESET]
    loop.remove(ours.fileno())


def test_a_half_closed_socket_can_still_be_written(
    loop: Loop, sockets: tuple[socket.socket, socket.socket], turn: Turn
) -> None:
    ours, theirs = sockets
    theirs.shutdown(socket.SHUT_WR)
    calls = watch(loop, ours.fileno(), *KINDS)
    turn()
    assert calls == ["reader", "writer"]  # no hang-up: half of it lives
    assert ours.recv(1) == b""
    loop.remove_reader(ours.fileno())
    calls.clear()
    turn()
    assert calls == ["writer"]
    assert ours.send(b"x") == len(theirs.recv(1))
    ours.shutdown(socket.SHUT_WR)
    turn()
    assert calls == ["writer", "hangup", "writer"]
    loop.remove(ours.fileno())


def test_a_listener_is_readable_when_someone_connects(loop: Loop, turn: Turn) -> None:
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind("")  # an abstract name, chosen by the kernel
        listener.listen()
        calls = watch(loop, listener.fileno(), "reader")
        turn()
        assert calls == []
        client.connect(listener.getsockname())
        turn()
        assert calls == ["reader"]
        loop.remove(listener.fileno())


def test_a_terminal_hangs_up_while_nobody_has_it_open(loop: Loop, own: Own, turn: Turn) -> None:
    master, slave = os.openpty()
    own(master)
    name = os.ttyname(slave)
    calls = watch(loop, master, "reader")
    turn()
    assert calls == []
    os.close(slave)
    turn()
    assert calls == ["reader"]
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        os.read(master, 1)
    own(os.open(name, os.O_RDWR | os.O_NOCTTY))
    turn()
    assert calls == ["reader"]


# Processes


def sleeper() -> subprocess.Popen[bytes]:
    """Start a program that ends when its stdin does."""
    return subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


def test_the_end_of_a_process_is_told_until_the_pidfd_is_removed(
    loop: Loop, own: Own, run: Run, turn: Turn
) -> None:
    with sleeper() as child:
        assert child.stdin
        pidfd = own(os.pidfd_open(child.pid))
        loop.add_pidfd(pidfd, loop.stop)
        calls: list[str] = []
        loop.add_pidfd(pidfd, lambda: calls.append("end"))
        turn()
        assert calls == []
        child.stdin.close()
        loop.add_pidfd(pidfd, loop.stop)
        run(loop)
        loop.add_pidfd(pidfd, lambda: calls.append("end"))
        turn()
        turn()
        assert calls == ["end", "end"]
        loop.remove(pidfd)
        turn()
        assert calls == ["end", "end"]
        assert child.wait() == 0


def test_a_process_that_ended_before_it_was_watched_is_told(loop: Loop, own: Own, run: Run) -> None:
    with subprocess.Popen(["/bin/true"]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        loop.add_pidfd(own(os.pidfd_open(child.pid)), loop.stop)
        run(loop)


def test_a_process_that_was_reaped_is_told(loop: Loop, own: Own, run: Run) -> None:
    with sleeper() as child:
        assert child.stdin
        loop.add_pidfd(own(os.pidfd_open(child.pid)), loop.stop)
        child.stdin.close()
        child.wait()
        run(loop)


def test_a_process_that_is_not_our_child_is_told(loop: Loop, own: Own, run: Run) -> None:
    code = "import os; pid = os.fork(); pid or os.read(0, 1); pid and print(pid, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        pidfd = own(os.pidfd_open(int(child.stdout.readline())))
        child.wait()
        loop.add_pidfd(pidfd, loop.stop)
        child.stdin.close()
        run(loop)
        loop.remove(pidfd)


def test_many_processes_that_end_at_once_are_all_told(loop: Loop, own: Own, run: Run) -> None:
    reader, writer = os.pipe()
    children = [subprocess.Popen(["/bin/cat"], stdin=reader) for _ in range(20)]
    os.close(reader)
    ended: list[int] = []

    def end(child: subprocess.Popen[bytes], pidfd: int) -> None:
        loop.remove(pidfd)
        ended.append(child.wait())
        if len(ended) == len(children):
            loop.stop()

    for child in children:
        pidfd = own(os.pidfd_open(child.pid))
        loop.add_pidfd(pidfd, lambda child=child, pidfd=pidfd: end(child, pidfd))  # type: ignore[misc]
    os.close(writer)
    run(loop)
    assert ended == [0] * 20
