"""epoll(7): what is watched, what comes back, and that the struct's layout is right."""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import syscalls
from tests.support import is_cloexec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Own


@pytest.fixture
def epoll_fd(own: Own) -> int:
    return own(syscalls.epoll_create1())


def test_epoll_create1_returns_a_close_on_exec_descriptor(epoll_fd: int) -> None:
    assert is_cloexec(epoll_fd)
    assert os.readlink(f"/proc/self/fd/{epoll_fd}") == "anon_inode:[eventpoll]"


@pytest.mark.parametrize("data", [0, 1, 2**31, 2**32 + 5, 2**63, 2**64 - 1])
def test_all_64_bits_of_data_come_back(epoll_fd: int, own: Own, data: int) -> None:
    reader, writer = own(os.pipe())
    syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_ADD, reader, syscalls.EPOLLIN, data)
    os.write(writer, b"x")
    assert syscalls.epoll_wait(epoll_fd, 10_000) == [(syscalls.EPOLLIN, data)]


def test_several_events_of_one_batch_keep_their_own_data(epoll_fd: int, own: Own) -> None:
    # The struct is packed on x86 alone: a wrong stride would mix the entries up.
    expected = []
    for number in range(10):
        event_fd = own(os.eventfd(number % 2))
        wanted = syscalls.EPOLLIN | syscalls.EPOLLOUT
        syscalls.epoll_ctl(
            epoll_fd, syscalls.EPOLL_CTL_ADD, event_fd, wanted, number << 32 | number
        )
        events = wanted if number % 2 else syscalls.EPOLLOUT
        expected.append((events, number << 32 | number))
    assert sorted(syscalls.epoll_wait(epoll_fd, 10_000), key=lambda pair: pair[1]) == expected


def test_at_most_64_events_come_at_once(epoll_fd: int, own: Own) -> None:
    for number in range(70):
        syscalls.epoll_ctl(
            epoll_fd, syscalls.EPOLL_CTL_ADD, own(os.eventfd(1)), syscalls.EPOLLIN, number
        )
    first = {data for _, data in syscalls.epoll_wait(epoll_fd, 0)}
    second = {data for _, data in syscalls.epoll_wait(epoll_fd, 0)}
    assert len(first) == len(second) == 64
    assert first | second == set(range(70))  # the kernel takes turns


def test_a_watch_can_be_changed_and_removed(epoll_fd: int, own: Own) -> None:
    event_fd = own(os.eventfd(1))
    syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_ADD, event_fd, syscalls.EPOLLIN, 1)
    assert syscalls.epoll_wait(epoll_fd, 0) == [(syscalls.EPOLLIN, 1)]
    syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_MOD, event_fd, syscalls.EPOLLOUT, 2)
    assert syscalls.epoll_wait(epoll_fd, 0) == [(syscalls.EPOLLOUT, 2)]
    syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_MOD, event_fd)
    assert syscalls.epoll_wait(epoll_fd, 0) == []
    syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_DEL, event_fd)
    with pytest.raises(FileNotFoundError):
        syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_DEL, event_fd)


def test_hang_up_and_half_close_are_told(epoll_fd: int) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_ADD, ours, syscalls.EPOLLRDHUP, 7)
        assert syscalls.epoll_wait(epoll_fd, 0) == []
        theirs.shutdown(socket.SHUT_WR)
        assert syscalls.epoll_wait(epoll_fd, 10_000) == [(syscalls.EPOLLRDHUP, 7)]
        theirs.close()
        [(events, _)] = syscalls.epoll_wait(epoll_fd, 10_000)
        assert events == syscalls.EPOLLRDHUP | syscalls.EPOLLHUP


def test_a_pipe_without_readers_is_an_error_event(epoll_fd: int, own: Own) -> None:
    reader, writer = os.pipe()
    own(writer)
    os.close(reader)
    syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_ADD, writer, 0, 3)
    assert syscalls.epoll_wait(epoll_fd, 10_000) == [(syscalls.EPOLLERR, 3)]


def test_objects_with_fileno_are_taken(
    epoll_fd: int, own: Own, handle: Callable[[int], Any]
) -> None:
    event_fd = own(os.eventfd(1))
    syscalls.epoll_ctl(
        handle(epoll_fd), syscalls.EPOLL_CTL_ADD, handle(event_fd), syscalls.EPOLLIN, 9
    )
    assert syscalls.epoll_wait(handle(epoll_fd), 0) == [(syscalls.EPOLLIN, 9)]


def test_epoll_ctl_raises_the_errno_of_the_call(epoll_fd: int, own: Own, tmp_path: Path) -> None:
    event_fd = own(os.eventfd(0))
    syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_ADD, event_fd)
    regular = own(os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR))
    unused = os.dup(event_fd)
    os.close(unused)
    for operation, fd, expected in (
        (syscalls.EPOLL_CTL_ADD, event_fd, errno.EEXIST),
        (syscalls.EPOLL_CTL_MOD, epoll_fd, errno.EINVAL),
        (syscalls.EPOLL_CTL_ADD, regular, errno.EPERM),
        (syscalls.EPOLL_CTL_ADD, unused, errno.EBADF),
        (99, event_fd, errno.EINVAL),
    ):
        with pytest.raises(OSError, match=r".") as caught:
            syscalls.epoll_ctl(epoll_fd, operation, fd)
        assert caught.value.errno == expected
        assert caught.value.strerror == os.strerror(expected)


def test_data_that_does_not_fit_is_refused(epoll_fd: int, own: Own) -> None:
    event_fd = own(os.eventfd(0))
    for data in (-1, 2**64):
        with pytest.raises(OverflowError):
            syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_ADD, event_fd, 0, data)


def test_epoll_wait_on_another_descriptor_raises(own: Own) -> None:
    reader, _ = own(os.pipe())
    with pytest.raises(OSError, match="Invalid") as caught:
        syscalls.epoll_wait(reader, 0)
    assert caught.value.errno == errno.EINVAL


def test_a_signal_ends_epoll_wait_with_no_events(
    epoll_fd: int, interrupted: Callable[..., Any]
) -> None:
    with interrupted(after=1):
        assert syscalls.epoll_wait(epoll_fd) == []
