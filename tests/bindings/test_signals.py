"""signalfd(2), the mask and the dispositions, each checked by Python's own signal module."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import syscalls
from tests.support import is_cloexec, signals_in, status_of, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Own


@pytest.fixture
def _mask_restored() -> Iterator[None]:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, old)


pytestmark = pytest.mark.usefixtures("_mask_restored")


def blocked() -> set[int]:
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])}


def test_signalfd_reads_blocked_signals_and_no_others(own: Own) -> None:
    syscalls.sigprocmask(syscalls.SIG_BLOCK, [syscalls.SIGUSR1, syscalls.SIGUSR2])
    fd = own(syscalls.signalfd([syscalls.SIGUSR1]))
    assert is_cloexec(fd)
    signal.raise_signal(signal.SIGUSR2)
    with pytest.raises(BlockingIOError):
        syscalls.read_signal(fd)
    signal.raise_signal(signal.SIGUSR1)
    wait_for(fd)
    assert syscalls.read_signal(fd) == signal.SIGUSR1
    assert signal.sigtimedwait([signal.SIGUSR2], 0) is not None


def test_read_signal_takes_one_signal_at_a_time(own: Own, handle: Callable[[int], Any]) -> None:
    # signalfd_siginfo is 128 bytes: a wrong size would lose the second one.
    wanted = [signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD, signal.SIGRTMIN, signal.SIGRTMAX]
    syscalls.sigprocmask(syscalls.SIG_BLOCK, wanted)
    fd = own(syscalls.signalfd(wanted))
    for number in wanted:
        signal.raise_signal(number)
    assert {syscalls.read_signal(handle(fd)) for _ in wanted} == set(wanted)
    with pytest.raises(BlockingIOError):
        syscalls.read_signal(fd)


def test_signalfd_of_a_number_that_is_no_signal_is_refused() -> None:
    for number in (0, -1, syscalls.NSIG + 1, 10_000):
        with pytest.raises(OSError, match="Invalid") as caught:
            syscalls.signalfd([number])
        assert caught.value.errno == errno.EINVAL


def test_read_signal_raises_the_errno_of_read(own: Own) -> None:
    reader, writer = own(os.pipe())
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.read_signal(writer)
    assert caught.value.errno == errno.EBADF
    os.write(writer, b"too short")
    with pytest.raises(IndexError):  # no signalfd
        syscalls.read_signal(reader)


def test_sigprocmask_returns_the_old_mask_and_sets_the_new_one() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1])
    old = syscalls.sigprocmask(syscalls.SIG_BLOCK, [syscalls.SIGTERM, syscalls.SIGCHLD])
    assert old == [signal.SIGUSR1]
    assert blocked() == {signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD}
    old = syscalls.sigprocmask(syscalls.SIG_UNBLOCK, [syscalls.SIGTERM])
    assert old == sorted([signal.SIGUSR1, signal.SIGTERM, signal.SIGCHLD])
    assert blocked() == {signal.SIGUSR1, signal.SIGCHLD}
    assert set(syscalls.sigprocmask(syscalls.SIG_SETMASK, [])) == {signal.SIGUSR1, signal.SIGCHLD}
    assert blocked() == set()
    assert syscalls.sigprocmask(syscalls.SIG_BLOCK, ()) == []


def test_sigprocmask_reaches_the_last_signal_and_agrees_with_the_kernel() -> None:
    syscalls.sigprocmask(syscalls.SIG_SETMASK, range(signal.SIGRTMIN, signal.SIGRTMAX + 1))
    expected = set(range(signal.SIGRTMIN, signal.SIGRTMAX + 1))
    assert blocked() == expected
    assert signals_in(status_of("thread-self")["SigBlk"]) == expected
    assert set(syscalls.sigprocmask(syscalls.SIG_SETMASK, [])) == expected


@pytest.mark.parametrize(("how", "number"), [(77, 1), (None, 0), (None, 10_000)])
def test_sigprocmask_refuses_what_the_kernel_would(how: int | None, number: int) -> None:
    with pytest.raises(OSError, match="Invalid") as caught:
        syscalls.sigprocmask(syscalls.SIG_BLOCK if how is None else how, [number])
    assert caught.value.errno == errno.EINVAL
    assert blocked() == set()


def test_dispositions_are_read_and_set_behind_pythons_back() -> None:
    old = signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    try:
        assert syscalls.get_disposition(syscalls.SIGUSR2) == "default"
        syscalls.set_disposition(syscalls.SIGUSR2, "ignored")
        assert syscalls.get_disposition(syscalls.SIGUSR2) == "ignored"
        assert syscalls.SIGUSR2 in signals_in(status_of("self")["SigIgn"])
        signal.raise_signal(signal.SIGUSR2)  # would end us
        assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL  # Python does not know
        syscalls.set_disposition(syscalls.SIGUSR2, "default")
        assert syscalls.get_disposition(syscalls.SIGUSR2) == "default"
        signal.signal(signal.SIGUSR2, lambda *_: None)
        assert syscalls.get_disposition(syscalls.SIGUSR2) == "handler"
    finally:
        signal.signal(signal.SIGUSR2, old)


def test_python_leaves_sigpipe_and_sigxfsz_ignored() -> None:
    assert syscalls.get_disposition(syscalls.SIGPIPE) == "ignored"
    assert syscalls.get_disposition(syscalls.SIGXFSZ) == "ignored"


def test_dispositions_that_cannot_be_are_refused() -> None:
    for number in (0, syscalls.SIGKILL, syscalls.SIGSTOP, 10_000):
        with pytest.raises(OSError, match="Invalid") as caught:
            syscalls.set_disposition(number, "ignored")
        assert caught.value.errno == errno.EINVAL
    with pytest.raises(OSError, match="Invalid"):
        syscalls.get_disposition(10_000)
    with pytest.raises(ValueError, match="index"):
        syscalls.set_disposition(syscalls.SIGUSR2, "handler")


def test_signal_numbers_are_those_of_this_machine() -> None:
    for name in [
        "CHLD",
        "CONT",
        "HUP",
        "INT",
        "KILL",
        "PIPE",
        "QUIT",
        "STOP",
        "TERM",
        "USR1",
        "USR2",
        "WINCH",
        "XFSZ",
    ]:
        assert getattr(syscalls, f"SIG{name}") == getattr(signal, f"SIG{name}")
    assert signal.NSIG == syscalls.NSIG
    for how in ("SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK"):
        assert getattr(syscalls, how) == getattr(signal, how)
