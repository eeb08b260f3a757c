"""Fixtures of the loop's tests. Needs pytest alone: no hypothesis here."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import _syscalls, loop as loop_module
from lowconmon.loop import Loop
from tests.support import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def own() -> Iterator[Callable[[Any], Any]]:
    """Give a function that returns the descriptor(s) it gets and closes them after the test."""
    owned: list[int] = []

    def own(fds: Any) -> Any:
        owned.extend([fds] if isinstance(fds, int) else fds)
        return fds

    yield own
    for fd in owned:
        os.close(fd)


@pytest.fixture
def run() -> Callable[[Loop], None]:
    """Give a function that runs a loop until something stops it, or fails after a while."""

    def run(loop: Loop, timeout_s: float = 20) -> None:
        late: list[bool] = []

        def too_late() -> None:
            late.append(True)
            loop.stop()

        deadline = loop.call_later(timeout_s * SLOWNESS * 1000, too_late)
        loop.run()
        deadline.cancel()
        assert not late, f"nothing stopped the loop within {timeout_s} s"

    return run


class Log(list[str]):
    """What was called; `log("x")` is a handler that says so."""

    def __call__(self, name: str) -> Callable[[], None]:
        return lambda: self.append(name)


@pytest.fixture
def log() -> Log:
    return Log()


def full_pipe(own: Callable[[Any], Any]) -> tuple[int, int]:
    """Return both ends of a pipe that has something to read."""
    reader, writer = own(os.pipe())
    os.write(writer, b"x")
    return reader, writer


class Bell:
    """A descriptor that stops the loop when it is rung: after all that was ready before."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.rings = 0

    def heard(self) -> None:
        os.eventfd_read(self.fd)
        self.rings += 1
        self.loop.stop()

    def ring(self) -> None:
        self.loop.remove(self.fd)  # the kernel reports in the order in which things got ready
        os.eventfd_write(self.fd, 1)
        self.loop.add_reader(self.fd, self.heard)


@pytest.fixture
def bell(loop: Loop) -> Iterator[Bell]:
    bell = Bell(loop)
    yield bell
    os.close(bell.fd)


@pytest.fixture
def turn(bell: Bell, run: Callable[[Loop], None]) -> Callable[[], None]:
    """Give a function that dispatches what is ready by now, and no more."""

    def turn() -> None:
        bell.ring()
        run(bell.loop)

    return turn


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the list of the timeouts, in ms, with which the loop waited."""
    timeouts: list[int] = []
    epoll_wait = _syscalls.epoll_wait

    def wait(epoll_fd: int, timeout_ms: int = -1) -> list[tuple[int, int]]:
        timeouts.append(timeout_ms)
        return epoll_wait(epoll_fd, timeout_ms)

    monkeypatch.setattr(_syscalls, "epoll_wait", wait)
    return timeouts


class Clock:
    """The time as the loop sees it: it passes only while the loop waits."""

    def __init__(self) -> None:
        self.now_ns = 10**15
        self.waits: list[int] = []

    def wait(self, timeout_ms: int) -> None:
        assert timeout_ms >= 0, "the loop would wait for ever"
        self.waits.append(timeout_ms)
        self.now_ns += timeout_ms * 1_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    epoll_wait = _syscalls.epoll_wait

    def wait(epoll_fd: int, timeout_ms: int = -1) -> list[tuple[int, int]]:
        events = epoll_wait(epoll_fd, 0)
        if not events:
            clock.wait(timeout_ms)
        return events

    monkeypatch.setattr(loop_module, "monotonic_ns", lambda: clock.now_ns)
    monkeypatch.setattr(_syscalls, "epoll_wait", wait)
    return clock


@pytest.fixture
def send_signal() -> Iterator[Callable[[int], None]]:
    """Give a function that sends this thread a signal; the mask is as before after the test."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield lambda number: signal.pthread_kill(threading.get_ident(), number)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, []) - before
    while blocked and signal.sigtimedwait(blocked, 0):
        pass  # what nobody read would strike as soon as it is let through
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
