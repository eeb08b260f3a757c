"""The loop's descriptors: what is watched, what is dropped, who gets a turn."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon.loop import Loop
from tests.loop.conftest import Log, full_pipe
from tests.support import open_fds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Own = Callable[[Any], Any]
    Run = Callable[[Loop], None]
    Turn = Callable[[], None]


def test_a_reader_is_called_as_long_as_something_is_left(
    loop: Loop, own: Own, turn: Turn, log: Log
) -> None:
    reader, writer = own(os.pipe())
    os.write(writer, b"abc")
    loop.add_reader(reader, lambda: log.append(os.read(reader, 1).decode()))
    for _ in range(5):
        turn()
    assert log == ["a", "b", "c"]


def test_a_writer_is_called_as_long_as_there_is_room(
    loop: Loop, own: Own, turn: Turn, log: Log
) -> None:
    reader, writer = own(os.pipe())
    os.set_blocking(writer, False)
    loop.add_writer(writer, log("room"))
    turn()
    assert log == ["room"]
    size = fcntl.fcntl(writer, fcntl.F_GETPIPE_SZ)
    assert os.write(writer, bytes(2 * size)) == size
    turn()
    assert log == ["room"]
    os.read(reader, size)
    turn()
    assert log == ["room", "room"]


def test_reader_and_writer_of_one_descriptor_come_in_this_order(
    loop: Loop, turn: Turn, log: Log
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        loop.add_writer(ours.fileno(), log("writer"))
        loop.add_reader(ours.fileno(), log("reader"))
        turn()
        assert log == ["reader", "writer"]
        loop.remove_reader(ours.fileno())
        turn()
        assert log == ["reader", "writer", "writer"]
        loop.remove_writer(ours.fileno())
        turn()
        loop.add_reader(ours.fileno(), log("reader again"))
        turn()
        assert log == ["reader", "writer", "writer", "reader again"]
        loop.remove(ours.fileno())


def test_a_second_handler_of_a_kind_takes_the_place_of_the_first(
    loop: Loop, own: Own, turn: Turn, log: Log, inject: Callable[..., Any]
) -> None:
    reader, _ = full_pipe(own)
    loop.add_reader(reader, log("first"))
    asked = inject("epoll_ctl", errno=errno.EIO, only=lambda *call: call[2] == reader)
    loop.add_reader(reader, log("second"))
    turn()
    assert log == ["second"]
    assert asked.calls == 0  # the kernel need not know


def test_removing_what_is_not_watched_does_nothing(
    loop: Loop, own: Own, turn: Turn, log: Log
) -> None:
    reader, writer = full_pipe(own)
    for _ in range(2):
        loop.remove(reader)
        loop.remove_reader(reader)
        loop.remove_writer(reader)
        loop.remove(-1)
    loop.add_reader(reader, log("reader"))
    loop.remove_writer(reader)
    turn()
    assert log == ["reader"]
    loop.remove_reader(reader)
    loop.remove_reader(reader)
    turn()
    assert log == ["reader"]
    assert writer >= 0


@pytest.mark.parametrize("kind", ["add_reader", "add_writer", "add_hangup", "add_pidfd"])
def test_a_regular_file_is_refused_and_leaves_nothing_behind(
    loop: Loop, own: Own, turn: Turn, tmp_path: Path, *, kind: str
) -> None:
    fd = own(os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT))
    log = Log()
    with pytest.raises(PermissionError):
        getattr(loop, kind)(fd, log("never"))
    reader, _ = full_pipe(own)
    os.dup2(reader, fd)  # the number may be used by something better
    loop.add_reader(fd, log("pipe"))
    turn()
    assert log == ["pipe"]


@pytest.mark.parametrize("kind", ["add_reader", "add_writer", "add_hangup", "add_pidfd"])
def test_what_is_no_open_descriptor_is_refused(loop: Loop, kind: str) -> None:
    closed = os.eventfd(0)
    os.close(closed)
    for fd in (closed, -1):
        with pytest.raises(OSError, match=os.strerror(errno.EBADF)) as caught:
            getattr(loop, kind)(fd, int)
        assert caught.value.errno == errno.EBADF
        loop.remove(fd)


def test_a_failed_addition_changes_nothing(
    loop: Loop, turn: Turn, log: Log, inject: Callable[..., Any]
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        inject("epoll_ctl", errno=errno.ENOSPC)
        with pytest.raises(OSError, match="space"):
            loop.add_reader(ours.fileno(), log("never"))
        turn()
        loop.add_reader(ours.fileno(), log("reader"))
        inject("epoll_ctl", errno=errno.ENOMEM)
        with pytest.raises(OSError, match="memory"):
            loop.add_writer(ours.fileno(), log("never"))
        turn()
        assert log == ["reader"]
        loop.add_writer(ours.fileno(), log("writer"))
        turn()
        assert log == ["reader", "reader", "writer"]
        loop.remove(ours.fileno())


def test_a_removal_that_the_kernel_refuses_is_told(
    loop: Loop, own: Own, inject: Callable[..., Any]
) -> None:
    reader, _ = full_pipe(own)
    loop.add_reader(reader, int)
    inject("epoll_ctl", errno=errno.EIO)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        loop.remove(reader)


# Closed, reused, removed in the same batch


def test_closing_before_removing_is_forgiven(loop: Loop, own: Own, turn: Turn, log: Log) -> None:
    for kinds in (["add_reader"], ["add_reader", "add_writer", "add_hangup"]):
        reader, writer = os.pipe()
        for kind in kinds:
            getattr(loop, kind)(reader, log("old"))
        os.close(reader)
        os.close(writer)
        loop.remove(reader)
    turn()
    fd, _ = own(os.pipe())
    assert fd == reader
    loop.add_reader(fd, log("new"))
    turn()
    assert log == []
    os.write(_, b"x")
    turn()
    assert log == ["new"]


def test_closing_and_reusing_before_removing_is_forgiven(
    loop: Loop, own: Own, turn: Turn, log: Log
) -> None:
    fd = own(os.eventfd(1))
    loop.add_reader(fd, log("old"))
    reader, writer = own(os.pipe())
    os.dup2(reader, fd)
    loop.remove(fd)  # the kernel no longer knows it
    os.write(writer, b"x")
    turn()
    assert log == []
    loop.add_reader(fd, log("new"))
    turn()
    assert log == ["new"]


def test_a_number_that_was_reused_behind_our_back_can_be_watched_for_more(
    loop: Loop, own: Own, turn: Turn, log: Log
) -> None:
    fd = own(os.eventfd(0))
    loop.add_reader(fd, log("reader"))
    _, writer = own(os.pipe())
    os.dup2(writer, fd)
    loop.add_writer(fd, log("writer"))
    turn()
    assert log == ["writer"]


def test_what_is_removed_in_the_same_batch_is_not_called(
    loop: Loop, own: Own, turn: Turn, log: Log
) -> None:
    pipes = [full_pipe(own) for _ in range(3)]

    def first() -> None:
        log.append("first")
        loop.remove(pipes[1][0])

    loop.add_reader(pipes[0][0], first)
    loop.add_reader(pipes[1][0], log("second"))
    loop.add_reader(pipes[2][0], log("third"))
    turn()
    assert log == ["first", "third"]


def test_an_event_of_a_closed_descriptor_does_not_reach_the_next_of_its_number(
    loop: Loop, own: Own, turn: Turn, log: Log
) -> None:
    (first, _), (second, _) = full_pipe(own), full_pipe(own)
    empty, writer = own(os.pipe())

    def reuse() -> None:
        log.append("first")
        loop.remove(first)
        loop.remove(second)
        os.dup2(empty, second)
        loop.add_reader(second, log("new"))

    loop.add_reader(first, reuse)
    loop.add_reader(second, log("old"))
    turn()
    turn()
    assert log == ["first"]  # the old event was for the old file
    os.write(writer, b"x")
    turn()
    assert log == ["first", "new"]


def test_a_handler_may_remove_and_add_itself(loop: Loop, own: Own, turn: Turn, log: Log) -> None:
    reader, _ = full_pipe(own)

    def again() -> None:
        log.append("again")
        loop.remove(reader)
        loop.add_reader(reader, again)

    loop.add_reader(reader, again)
    for _ in range(3):
        turn()
    assert log == ["again"] * 3


def test_what_is_removed_and_added_in_the_same_batch_has_its_turn_in_the_next(
    loop: Loop, own: Own, turn: Turn, log: Log
) -> None:
    (first, _), (second, _) = full_pipe(own), full_pipe(own)

    def swap() -> None:
        loop.remove(first)
        loop.remove(second)
        loop.add_reader(second, log("new"))

    loop.add_reader(first, swap)
    loop.add_reader(second, log("old"))
    turn()
    assert log == []
    turn()
    assert log == ["new"]


def test_a_reader_may_take_its_own_writer_away(loop: Loop, turn: Turn, log: Log) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        fd = ours.fileno()
        theirs.send(b"x")
        loop.add_reader(fd, lambda: loop.remove(fd))
        loop.add_writer(fd, log("writer"))
        turn()
        loop.add_writer(fd, log("writer"))
        loop.add_reader(fd, lambda: loop.remove_writer(fd))
        turn()
        assert log == []
        loop.remove(fd)


def test_duplicates_are_watched_apart(loop: Loop, own: Own, turn: Turn, log: Log) -> None:
    reader, _ = full_pipe(own)
    twin = own(os.dup(reader))
    loop.add_reader(reader, log("one"))
    loop.add_reader(twin, log("two"))
    turn()
    assert sorted(log) == ["one", "two"]
    loop.remove(reader)
    log.clear()
    turn()
    assert log == ["two"]


def test_an_open_file_that_lives_on_elsewhere_calls_nobody_after_its_removal(
    loop: Loop, own: Own, turn: Turn, log: Log
) -> None:
    # epoll still reports it, in each batch: that is why the law is to remove before closing.
    fd, writer = os.pipe()
    own([writer, os.dup(fd)])
    loop.add_reader(fd, log("old"))
    os.close(fd)
    loop.remove(fd)
    os.write(writer, b"x")
    turn()
    other, other_writer = own(os.pipe())
    assert other == fd
    loop.add_reader(other, log("new"))
    turn()
    assert log == []
    os.write(other_writer, b"x")
    turn()
    assert log == ["new"]


def test_discarding_removes_and_closes(
    loop: Loop, own: Own, turn: Turn, log: Log, inject: Callable[..., Any]
) -> None:
    reader, _ = full_pipe(own)
    watched, unwatched = os.dup(reader), os.dup(reader)
    loop.add_reader(watched, log("never"))
    closed = inject("close", errno=errno.EIO, nth=100)
    assert loop.discard(watched) == loop.discard(unwatched) == loop.discard(-1) == -1
    assert closed.calls == 2
    assert not {watched, unwatched} & set(open_fds())
    turn()  # the open file lives on, and is not watched
    assert log == []
