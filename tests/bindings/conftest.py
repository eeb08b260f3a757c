"""Fixtures of the bindings' tests."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from lowconmon import syscalls
from tests.support import program, read_all, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from typing import Protocol, TypeVar

    from tests.support import faults

    Fds = TypeVar("Fds", int, tuple[int, int], list[int])
    Inject = Callable[..., faults.Fault]

    class Own(Protocol):
        def __call__(self, fds: Fds, /) -> Fds: ...


class Handle:
    """An object with fileno(), as sockets and files are."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def fileno(self) -> int:
        return self.fd


@pytest.fixture
def handle() -> type[Handle]:
    return Handle


@pytest.fixture
def own() -> Iterator[Own]:
    """Give a function that returns the descriptor(s) it gets and closes them after the test."""
    owned: list[int] = []

    def own(fds: Fds) -> Fds:
        owned.extend([fds] if isinstance(fds, int) else fds)
        return fds

    yield own
    for fd in owned:
        os.close(fd)


@pytest.fixture
def interrupted() -> Callable[..., AbstractContextManager[list[int]]]:
    """Give a context in which signals with a Python handler break every call.

    The third of them calls *finish*, which must make the call succeed. Without *finish* they come
    on: on a slow machine any of them may come before the call has begun, or within the handler.
    """

    @contextmanager
    def interrupted(
        finish: Callable[[], object] | None = None, after: int = 3
    ) -> Iterator[list[int]]:
        seen: list[int] = []
        finishes = [finish] if finish else []

        def handler(number: int, _frame: object) -> None:
            seen.append(number)
            if len(seen) >= after and finishes:
                signal.setitimer(signal.ITIMER_REAL, 0)
                while finishes:  # one that was pending may have done it
                    finishes.pop()()

        # pytest-timeout may be using them too
        old_handler = signal.signal(signal.SIGALRM, handler)
        old_timer = signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        try:
            yield seen
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old_handler)
            signal.setitimer(signal.ITIMER_REAL, *old_timer)
        assert len(seen) >= after

    return interrupted


class Child(NamedTuple):
    """What spawn returned."""

    pid: int
    error_fd: int


class Spawner:
    """Starts programs and ends what is left of them."""

    def __init__(self, *, vfork: bool = False) -> None:
        self.vfork = vfork
        self.pids: list[int] = []
        self.error_fds: list[int] = []

    def start(self, name: str, *arguments: bytes, environment: Any = (), **how: Any) -> Child:
        """Spawn the program *name* (sh, cat ...), or the one at that path."""
        path, zeroth = program(name) if "/" not in name else (os.fsencode(name),) * 2
        how = {"vfork": self.vfork, **how}
        child = Child(*syscalls.spawn(path, [zeroth, *arguments], environment, **how))
        self.pids.append(child.pid)
        self.error_fds.append(child.error_fd)
        return child

    def exec_error(self, child: Child) -> int | None:
        """Wait for exec and return its errno, None when it worked."""
        data = read_all(child.error_fd)
        self.error_fds.remove(child.error_fd)
        os.close(child.error_fd)
        assert len(data) in (0, 4)
        return int.from_bytes(data, sys.byteorder) if data else None

    def wait(self, child: Child) -> int:
        """Wait for the end and return the exit code, or minus the signal."""
        pidfd = os.pidfd_open(child.pid)
        try:
            wait_for(pidfd)
        finally:
            os.close(pidfd)
        self.pids.remove(child.pid)
        return os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])

    def run(self, name: str, *arguments: bytes, **how: Any) -> tuple[int | None, int, bytes]:
        """Run a program to its end; return exec's errno, the exit code, what it wrote."""
        out, end = os.pipe()
        try:
            child = self.start(name, *arguments, **{"stdio": (-1, end, -1), **how})
            os.close(end)
            end = -1
            output = read_all(out)
        finally:
            os.close(out)
            if end >= 0:
                os.close(end)
        return self.exec_error(child), self.wait(child), output

    def close(self) -> None:
        """Kill, reap and close what the test did not."""
        for fd in self.error_fds:
            os.close(fd)
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


@pytest.fixture(params=["fork", "vfork"])
def spawner(request: pytest.FixtureRequest) -> Iterator[Spawner]:
    spawner = Spawner(vfork=request.param == "vfork")
    yield spawner
    spawner.close()
