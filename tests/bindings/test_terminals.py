"""Terminals: a pair, its flags, its size."""

from __future__ import annotations

import errno
import os
import termios
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import syscalls
from tests.support import is_cloexec, read_line, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Own, Spawner


@pytest.fixture
def pty(own: Own) -> tuple[int, int]:
    return own(syscalls.openpty())


def test_openpty_returns_both_ends_of_one_terminal_close_on_exec(pty: tuple[int, int]) -> None:
    master, slave = pty
    assert is_cloexec(master)
    assert is_cloexec(slave)
    assert os.ttyname(slave).startswith("/dev/pts/")
    os.write(slave, b"out\n")
    assert read_line(master) == b"out\r\n"
    os.write(master, b"in\n")
    assert read_line(slave) == b"in\n"


def test_openpty_does_not_become_our_controlling_terminal(pty: tuple[int, int]) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        os.tcgetpgrp(pty[1])
    assert caught.value.errno == errno.ENOTTY


def test_without_onlcr_the_output_passes_unchanged(
    pty: tuple[int, int], handle: Callable[[int], Any]
) -> None:
    master, slave = pty
    flags = syscalls.get_oflag(handle(slave))
    assert flags == termios.tcgetattr(slave)[1]
    assert flags & syscalls.ONLCR
    syscalls.set_oflag(handle(master), flags & ~syscalls.ONLCR)
    assert syscalls.get_oflag(slave) == termios.tcgetattr(slave)[1] == flags & ~syscalls.ONLCR
    os.write(slave, b"out\n")
    assert read_line(master) == b"out\n"


def test_setting_the_output_flags_leaves_the_others_alone(pty: tuple[int, int]) -> None:
    before = termios.tcgetattr(pty[1])
    syscalls.set_oflag(pty[1], 0)
    after = termios.tcgetattr(pty[1])
    assert after[1] == 0
    assert before[0] == after[0]
    assert before[2:] == after[2:]


@pytest.mark.parametrize("size", [(24, 80), (0, 0), (1, 65535), (65535, 1)])
def test_the_size_set_at_one_end_is_read_at_the_other(
    pty: tuple[int, int], handle: Callable[[int], Any], size: tuple[int, int]
) -> None:
    syscalls.set_winsize(handle(pty[0]), *size)
    assert syscalls.get_winsize(handle(pty[1])) == size
    if all(size):
        assert os.get_terminal_size(pty[1]) == (size[1], size[0])


def test_a_resize_sends_sigwinch_to_the_foreground(pty: tuple[int, int], spawner: Spawner) -> None:
    script = b"trap 'echo resized; exit 7' WINCH; echo ready; while :; do read line; done"
    child = spawner.start("sh", b"-c", script, terminal=pty[1], new_session=True)
    assert read_line(pty[0]) == b"ready\r\n"
    syscalls.set_winsize(pty[0], 11, 22)
    os.write(pty[0], b"\n")  # some shells run the trap after read only
    lines = [read_line(pty[0]) for _ in range(2)]
    assert b"resized\r\n" in lines
    assert spawner.exec_error(child) is None
    assert spawner.wait(child) == 7


@pytest.mark.parametrize(
    "call",
    [
        syscalls.get_oflag,
        syscalls.get_winsize,
        lambda fd: syscalls.set_oflag(fd, 0),
        lambda fd: syscalls.set_winsize(fd, 1, 1),
    ],
)
def test_what_is_no_terminal_is_refused(own: Own, call: Callable[[int], object]) -> None:
    reader, _ = own(os.pipe())
    with pytest.raises(OSError, match="ioctl") as caught:
        call(reader)
    assert caught.value.errno == errno.ENOTTY
    with pytest.raises(OSError, match=r".") as caught:
        call(-1)
    assert caught.value.errno == errno.EBADF


def test_the_last_slave_closed_is_told_as_a_hang_up_of_the_master(pty: tuple[int, int]) -> None:
    master, slave = pty
    placeholder = os.open("/dev/null", os.O_RDONLY)
    os.dup2(placeholder, slave)  # closes the slave, keeps the number for the fixture
    os.close(placeholder)
    wait_for(master)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.read(master, 1)
    assert caught.value.errno == errno.EIO


def test_a_terminal_is_read_until_it_is_empty(
    pty: tuple[int, int], handle: Callable[[int], Any]
) -> None:
    master, slave = pty
    syscalls.set_oflag(slave, 0)
    os.set_blocking(master, False)
    os.set_blocking(slave, False)
    sent = 0
    while sent < 20_000:  # a terminal gives 4 KiB at a time
        sent += os.write(slave, bytes([65 + sent % 26]) * min(1000, 20_000 - sent))
    received = b""
    while len(received) < sent:
        wait_for(master)
        received += syscalls.read_all(handle(master), 12_345)
    assert [received[at] for at in range(0, sent, 1000)] == [
        65 + at % 26 for at in range(0, sent, 1000)
    ]
    with pytest.raises(BlockingIOError):
        syscalls.read_all(master, 10)


def test_reading_all_stops_at_the_size_the_end_and_an_error(own: Own) -> None:
    reading, writing = own(os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC))
    os.write(writing, b"12345")
    assert syscalls.read_all(reading, 0) == b""
    assert syscalls.read_all(reading, 3) == b"123"
    assert syscalls.read_all(reading, 1 << 20) == b"45"  # the EAGAIN behind it is the next one's
    with pytest.raises(BlockingIOError):
        syscalls.read_all(reading, 1)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.read_all(writing, 1)
    assert caught.value.errno == errno.EBADF
    os.dup2(own(os.open("/dev/null", os.O_RDONLY)), reading)
    assert syscalls.read_all(reading, 10) == b""
