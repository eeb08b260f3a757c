"""Sizes that 32 bits do not hold, and what the kernel writes, in the machine's own order of bytes."""

from __future__ import annotations

import os
import signal
import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import syscalls
from lowconmon.syscalls import AF_UNIX, MSG_CTRUNC, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM
from tests.support import open_fds, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .conftest import Own, Spawner

# Where a number of 32 bits, with a sign or without, comes to its end
SIZES = [2**31 - 2, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1, 2**32, 2**32 + 5, 2**40]

# Files; nothing of a hole is on the disk


@pytest.mark.parametrize("size", SIZES)
def test_a_file_is_cut_appended_to_and_read_where_32_bits_end(
    tmp_path: Path, own: Own, size: int
) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    fd = own(syscalls.open(tmp_path / "file", flags, 0o600))
    syscalls.ftruncate(fd, size)
    assert syscalls.fstat(fd).st_size == size
    assert syscalls.write(fd, b"0123456789") == 10
    assert syscalls.fstat(fd).st_size == syscalls.stat(tmp_path / "file").st_size == size + 10
    assert syscalls.pread(fd, 20, size - 3) == b"\0\0\x000123456789"
    assert syscalls.pread(fd, 20, size + 8) == b"89"
    assert syscalls.pread(fd, 20, size + 10) == b""
    os.lseek(fd, size + 1, os.SEEK_SET)
    first, second = bytearray(2), bytearray(20)
    assert syscalls.readv(fd, [first, second]) == 9
    assert (bytes(first), bytes(second[:7])) == (b"12", b"3456789")
    syscalls.ftruncate(fd, size + 4)
    assert syscalls.read(fd, 20) == b""  # it stood behind that
    assert syscalls.pread(fd, 20, size) == b"0123"
    assert syscalls.write(fd, b"x") == 1
    assert syscalls.pread(fd, 20, size) == b"0123x"


def test_an_eventfd_counts_to_64_bits(own: Own) -> None:
    fd = own(syscalls.eventfd(2**32 - 1, os.EFD_CLOEXEC))
    syscalls.eventfd_write(fd, 1)
    assert syscalls.eventfd_read(fd) == 2**32
    syscalls.eventfd_write(fd, 2**64 - 2)
    assert syscalls.eventfd_read(fd) == 2**64 - 2


# What signalfd tells


@pytest.fixture
def _mask_restored() -> Iterator[None]:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, old)


@pytest.mark.usefixtures("_mask_restored")
def test_what_the_kernel_writes_of_several_signals_is_128_bytes_each(own: Own) -> None:
    numbers = [syscalls.SIGHUP, syscalls.SIGTERM, syscalls.SIGWINCH, signal.SIGRTMAX]
    syscalls.sigprocmask(syscalls.SIG_BLOCK, numbers)
    fd = own(syscalls.signalfd(numbers))
    reader, writer = own(os.pipe())
    for number in numbers:
        signal.raise_signal(number)
    data = os.read(fd, 128 * 10)
    assert len(data) == 128 * len(numbers)
    heads = [struct.unpack_from("=IiiII", data, start) for start in range(0, len(data), 128)]
    assert {head[0] for head in heads} == set(numbers)
    assert {head[3:] for head in heads} == {(os.getpid(), os.getuid())}
    os.write(writer, data)  # from where one is read at a time
    assert [syscalls.read_signal(reader) for _ in numbers] == [head[0] for head in heads]


@pytest.mark.parametrize("number", [1, 64, 127, 2**16, 2**31, 2**32 - 1])
def test_a_signals_number_is_the_first_32_bits(own: Own, number: int) -> None:
    reader, writer = own(os.pipe())
    info = struct.pack("=I", number) + b"\xff" * 124
    os.write(writer, info + info[:127])
    assert syscalls.read_signal(reader) == number
    with pytest.raises(IndexError):  # cut short
        syscalls.read_signal(reader)


# What inotify tells

NAMES = [b"n" * length for length in (1, 14, 15, 16, 17, 31, 32, 33, 255)]
ROOM = 8192


def happened(inotify_fd: int, folder: Path) -> int:
    """Make a file of each name, with a watch; return that."""
    mask = syscalls.IN_CREATE | syscalls.IN_CLOSE_WRITE
    watch = syscalls.inotify_add_watch(inotify_fd, os.fsencode(folder), mask)
    for name in NAMES:
        (folder / os.fsdecode(name)).touch()
    return watch


def wanted(watch: int) -> list[tuple[int, int, int, bytes]]:
    kinds = syscalls.IN_CREATE, syscalls.IN_CLOSE_WRITE
    return [(watch, kind, 0, name) for name in NAMES for kind in kinds]


def test_events_of_one_read_are_told_apart_whatever_the_length_of_their_names(
    tmp_path: Path, own: Own
) -> None:
    fd = own(syscalls.inotify_init1())
    watch = happened(fd, tmp_path)
    data = os.read(fd, ROOM)
    assert syscalls.inotify_events(data) == wanted(watch)
    # They are laid out as said: head, then the name with one NUL or more
    start = 0
    for event in wanted(watch):
        *head, length = struct.unpack_from("=iIII", data, start)
        assert (*head, data[start + 16 : start + 16 + length].rstrip(b"\0")) == event
        assert length > len(event[3])
        start += 16 + length
    assert start == len(data)


def test_events_come_whole_in_as_many_reads_as_they_need(tmp_path: Path, own: Own) -> None:
    fd = own(syscalls.inotify_init1())
    watch = happened(fd, tmp_path)
    found: list[tuple[int, int, int, bytes]] = []
    while len(found) < len(wanted(watch)):
        wait_for(fd)
        data = os.read(fd, 16 + 256 + 100)  # more than one, and not two of the longest
        events = syscalls.inotify_events(data)
        assert events
        found += events
    assert found == wanted(watch)


def test_what_the_kernel_wrote_and_was_cut_tells_whole_events_alone(
    tmp_path: Path, own: Own
) -> None:
    fd = own(syscalls.inotify_init1())
    watch = happened(fd, tmp_path)
    data = os.read(fd, ROOM)
    told = [syscalls.inotify_events(data[:end]) for end in range(len(data) + 1)]
    assert all(events == wanted(watch)[: len(events)] for events in told)
    assert [len(events) for events in told] == sorted(len(events) for events in told)
    assert {len(events) for events in told} == set(range(len(wanted(watch)) + 1))


# Control messages


def pair(own: Own, kind: int) -> tuple[int, int]:
    ours, theirs = own(syscalls.socketpair(AF_UNIX, kind))
    return ours, theirs


def pass_credentials(fd: int) -> None:
    """Have the kernel put a control message of its own before that with the descriptors."""
    with socket.socket(fileno=os.dup(fd)) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


@pytest.mark.parametrize("kind", [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET])
@pytest.mark.parametrize("count", [1, 2, 3, 64])
def test_descriptors_are_found_behind_another_control_message(
    own: Own, kind: int, count: int
) -> None:
    ours, theirs = pair(own, kind)
    pass_credentials(theirs)
    syscalls.send_fds(ours, b"data", [ours, theirs] * count)
    data, fds, flags = syscalls.recv_fds(theirs, 100, 2 * count)
    own(fds)
    assert (data, len(fds), flags & MSG_CTRUNC) == (b"data", 2 * count, 0)
    sent = [os.fstat(ours).st_ino, os.fstat(theirs).st_ino]
    assert [os.fstat(fd).st_ino for fd in fds] == sent * count


def test_a_control_message_of_another_kind_brings_no_descriptor(own: Own) -> None:
    ours, theirs = pair(own, SOCK_DGRAM)
    pass_credentials(theirs)
    syscalls.send(ours, b"data")
    data, fds, flags = syscalls.recv_fds(theirs, 100, 5)
    assert (data, fds, flags & MSG_CTRUNC) == (b"data", [], 0)


def test_descriptors_for_which_another_control_message_leaves_no_room_are_told_and_not_left(
    own: Own,
) -> None:
    ours, theirs = pair(own, SOCK_SEQPACKET)
    pass_credentials(theirs)
    before = open_fds()
    syscalls.send_fds(ours, b"data", [0] * syscalls.SCM_MAX_FD)
    data, fds, flags = syscalls.recv_fds(theirs, 100, syscalls.SCM_MAX_FD)
    own(fds)
    assert data == b"data"
    assert flags & MSG_CTRUNC
    # The kernel's message: a head of a size_t and two ints, three ints, to a size_t's end
    size = struct.calcsize("@Niiiii0N")
    assert len(fds) == syscalls.SCM_MAX_FD - size // 4
    assert set(open_fds()) - set(before) == set(fds)


def test_control_messages_that_were_sent_apart_arrive_as_one(own: Own) -> None:
    ours, theirs = pair(own, SOCK_SEQPACKET)
    with socket.socket(fileno=os.dup(ours)) as twin:
        rights = [
            (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("@2i", ours, theirs)),
            (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("@i", 0)),
        ]
        twin.sendmsg([b"data"], rights)
    data, fds, _ = syscalls.recv_fds(theirs, 10, 10)
    own(fds)
    assert data == b"data"
    inodes = [os.fstat(fd).st_ino for fd in (ours, theirs, 0)]
    assert [os.fstat(fd).st_ino for fd in fds] == inodes


@pytest.mark.parametrize("room", [0, 1, 2])
def test_a_peer_with_room_for_fewer_descriptors_gets_the_first_of_them(own: Own, room: int) -> None:
    ours, theirs = pair(own, SOCK_SEQPACKET)
    sent = [ours, theirs, 0]
    syscalls.send_fds(ours, b"data", sent)
    with socket.socket(fileno=os.dup(theirs)) as twin:
        data, control, flags, _ = twin.recvmsg(10, socket.CMSG_LEN(4 * room) if room else 0)
    assert data == b"data"
    assert flags & MSG_CTRUNC
    assert len(control) == (1 if room else 0)
    for level, kind, content in control:
        assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
        fds = own([*struct.unpack(f"@{room}i", content)])
        assert [os.fstat(fd).st_ino for fd in fds] == [os.fstat(fd).st_ino for fd in sent[:room]]


# Numbers of a child's end


@pytest.mark.parametrize("status", [0, 1, 127, 128, 255])
def test_an_exit_status_is_told_as_python_tells_it(spawner: Spawner, status: int) -> None:
    assert ended(spawner, b"exit %d" % status) == (os.CLD_EXITED, status)


@pytest.mark.parametrize("name", ["HUP", "KILL", "USR1", "TERM", "XFSZ"])
def test_a_signals_number_is_told_as_this_machine_has_it(spawner: Spawner, name: str) -> None:
    number = getattr(syscalls, f"SIG{name}")
    found = ended(spawner, b"ulimit -c 0; kill -%d $$; exec cat" % number)
    assert found == (os.CLD_KILLED, number)


def ended(spawner: Spawner, script: bytes) -> tuple[int, int]:
    """Run a script and return si_code and si_status."""
    defaulted: Any = [getattr(syscalls, f"SIG{name}") for name in ("HUP", "USR1", "TERM", "XFSZ")]
    child = spawner.start("sh", b"-c", script, defaulted=defaulted)
    pidfd = syscalls.pidfd_open(child.pid)
    try:
        wait_for(pidfd)
        options = syscalls.WEXITED | syscalls.WNOHANG | syscalls.WNOWAIT
        found = syscalls.waitid_rusage(syscalls.P_PIDFD, pidfd, options)
        assert found == (syscalls.waitid(syscalls.P_PIDFD, pidfd, options), found and found[1])
    finally:
        os.close(pidfd)
    spawner.wait(child)
    assert found is not None
    assert (found[0].si_pid, found[0].si_uid) == (child.pid, os.getuid())
    return found[0].si_code, found[0].si_status
