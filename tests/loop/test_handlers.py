"""Who gets a turn, and what handlers may do: raise, stop, close the loop."""

from __future__ import annotations

import errno
import os
import resource
import socket
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import _syscalls
from lowconmon.loop import Loop
from tests.loop.conftest import Log, full_pipe
from tests.support import open_fds

if TYPE_CHECKING:
    from collections.abc import Callable

    Own = Callable[[Any], Any]
    Run = Callable[[Loop], None]
    Turn = Callable[[], None]


# Fairness


def test_hundreds_of_descriptors_all_have_their_turn(loop: Loop, own: Own, run: Run) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = {own(os.eventfd(1)) for _ in range(min(700, soft - 100))}

    def served(fd: int) -> None:
        os.eventfd_read(fd)
        waiting.remove(fd)
        if not waiting:
            loop.stop()

    for fd in sorted(waiting):
        loop.add_reader(fd, lambda fd=fd: served(fd))  # type: ignore[misc]
    run(loop)
    assert not waiting


@pytest.mark.parametrize("floods", [1, 63, 64, 200])
def test_a_quiet_descriptor_is_served_among_flooding_ones(
    loop: Loop, own: Own, run: Run, floods: int
) -> None:
    quiet, writer = own(os.pipe())
    calls: list[int] = []

    def flood() -> None:
        calls.append(0)
        if len(calls) == 5 * floods:
            os.write(writer, b"x")

    loop.add_reader(quiet, loop.stop)
    for _ in range(floods):
        loop.add_reader(own(os.eventfd(1)), flood)  # never read: ready for ever
    run(loop)
    assert len(calls) <= 5 * floods + floods + 64  # a round, and the batch that was under way


def test_a_timer_is_on_time_under_a_flood(loop: Loop, own: Own, run: Run) -> None:
    # Endless work: the loop never waits, and only a timer can end it.
    for _ in range(100):
        loop.add_reader(own(os.eventfd(1)), int)
    ticks: list[int] = []

    def tick() -> None:
        ticks.append(0)
        if len(ticks) == 5:
            loop.stop()
        loop.call_later(1.5, tick)

    loop.call_later(1.5, tick)
    run(loop)
    assert len(ticks) == 5


# Handlers that raise, stop, close


class Oops(Exception):  # noqa: N818 - it is no error
    """What a handler raises."""


def raises() -> None:
    raise Oops


def test_without_on_error_an_exception_leaves_run_and_loses_nothing(
    loop: Loop, own: Own, turn: Turn, log: Log
) -> None:
    (first, _), (second, _) = full_pipe(own), full_pipe(own)
    loop.add_reader(first, raises)
    loop.add_reader(second, log("second"))
    with pytest.raises(Oops):
        loop.run()
    assert log == []
    loop.remove(first)
    turn()
    assert log == ["second"]


def test_with_on_error_the_loop_goes_on(own: Own, log: Log) -> None:
    told: list[tuple[object, Exception]] = []
    loop = Loop(lambda handler, error: told.append((handler, error)))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        loop.add_reader(ours.fileno(), raises)
        loop.add_writer(ours.fileno(), log("writer"))
        other, _ = full_pipe(own)
        loop.add_reader(other, loop.stop)
        loop.run()
    loop.close()
    assert [handler for handler, _ in told] == [raises]
    assert isinstance(told[0][1], Oops)
    assert told[0][1].__traceback__ is not None
    assert log == ["writer"]


def test_what_is_called_within_a_handler_fails_on_its_own(log: Log) -> None:
    told: list[tuple[object, Exception]] = []
    loop = Loop(lambda handler, error: told.append((handler, error)))

    def steps() -> None:
        loop.call(raises)
        loop.call(log("next"))
        loop.on_error = None
        with pytest.raises(Oops):
            loop.call(raises)
        loop.stop()

    loop.call_later(0, steps)
    loop.run()
    loop.close()
    assert [handler for handler, _ in told] == [raises]
    assert log == ["next"]


def test_what_on_error_removes_is_not_called(own: Own, log: Log) -> None:
    loop = Loop(lambda _handler, _error: loop.remove(fd))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        fd = ours.fileno()
        loop.add_reader(fd, raises)
        loop.add_writer(fd, log("writer"))
        loop.add_reader(full_pipe(own)[0], loop.stop)
        loop.run()
    loop.close()
    assert log == []


def test_what_on_error_raises_leaves_run(own: Own) -> None:
    def fail(_handler: object, error: Exception) -> None:
        raise error

    loop = Loop(fail)
    loop.add_reader(full_pipe(own)[0], raises)
    with pytest.raises(Oops):
        loop.run()
    loop.close()


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_what_is_no_exception_is_not_for_on_error(own: Own, exception: type[BaseException]) -> None:
    def leave() -> None:
        raise exception

    loop = Loop(lambda _handler, _error: pytest.fail("told"))
    loop.add_reader(full_pipe(own)[0], leave)
    with pytest.raises(exception):
        loop.run()
    loop.close()


def test_a_stop_in_the_middle_of_a_batch_loses_nothing(
    loop: Loop, own: Own, run: Run, log: Log
) -> None:
    pipes = [full_pipe(own)[0] for _ in range(10)]

    def served(fd: int) -> None:
        os.read(fd, 1)
        log.append(str(fd))
        loop.stop()

    for fd in pipes:
        loop.add_reader(fd, lambda fd=fd: served(fd))  # type: ignore[misc]
    for count in range(1, 11):
        run(loop)
        assert len(log) == count
    assert sorted(log) == sorted(map(str, pipes))


def test_a_reader_that_stops_the_loop_is_the_last_handler(loop: Loop, run: Run, log: Log) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"x")
        loop.add_reader(ours.fileno(), loop.stop)
        loop.add_writer(ours.fileno(), log("writer"))
        run(loop)
        assert log == []
        loop.remove_reader(ours.fileno())
        loop.add_writer(ours.fileno(), loop.stop)
        run(loop)
        loop.remove(ours.fileno())


def test_a_handler_may_stop_and_close_the_loop(own: Own, log: Log) -> None:
    loop = Loop()
    first, second = full_pipe(own)[0], full_pipe(own)[0]

    def end() -> None:
        loop.call_later(0, log("timer"))
        loop.stop()
        loop.close()

    loop.add_reader(first, end)
    loop.add_reader(second, log("second"))
    loop.run()
    assert log == []


def test_a_loop_closes_its_own_descriptors_and_no_others(own: Own, log: Log) -> None:
    before = open_fds()
    fd = own(os.eventfd(1))
    loop = Loop()
    loop.add_reader(fd, log("never"))
    loop.add_writer(fd, log("never"))
    timer = loop.call_later(0, log("never"))
    loop.close()
    loop.close()
    loop.remove(fd)
    loop.remove_reader(fd)
    timer.cancel()
    assert set(open_fds()) - set(before) == {fd}
    assert os.eventfd_read(fd) == 1
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        loop.run()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        loop.add_reader(fd, log("never"))
    assert log == []


def test_a_wait_that_a_signal_broke_is_begun_again(
    loop: Loop, own: Own, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[int] = []
    epoll_wait = _syscalls.epoll_wait

    def wait(epoll_fd: int, timeout_ms: int = -1) -> list[tuple[int, int]]:
        if len(broken) < 3:
            broken.append(timeout_ms)
            return []  # as for EINTR
        return epoll_wait(epoll_fd, timeout_ms)

    monkeypatch.setattr(_syscalls, "epoll_wait", wait)
    loop.add_reader(full_pipe(own)[0], loop.stop)
    run(loop)
    assert len(broken) == 3
