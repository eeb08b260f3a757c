"""inotify(7), fcntl(2), close_range(2), and the os functions that are handed on."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import _syscalls, syscalls
from tests.support import is_cloexec, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Own

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def inotify_fd(own: Own) -> int:
    return own(syscalls.inotify_init1())


def test_inotify_tells_what_happens_in_a_folder(
    inotify_fd: int, tmp_path: Path, handle: Callable[[int], Any]
) -> None:
    assert is_cloexec(inotify_fd)
    with pytest.raises(BlockingIOError):
        os.read(inotify_fd, 4096)
    mask = (
        syscalls.IN_CREATE
        | syscalls.IN_MODIFY
        | syscalls.IN_MOVED_FROM
        | syscalls.IN_MOVED_TO
        | syscalls.IN_DELETE
        | syscalls.IN_ATTRIB
        | syscalls.IN_CLOSE_WRITE
        | syscalls.IN_DELETE_SELF
    )
    folder = tmp_path / "folder"
    folder.mkdir()
    watch = syscalls.inotify_add_watch(handle(inotify_fd), os.fsencode(folder), mask)
    (folder / "a").write_bytes(b"data")
    (folder / "a").chmod(0o600)
    (folder / "a").rename(folder / "a-name-of-more-than-16-bytes")
    os.unlink(folder / "a-name-of-more-than-16-bytes")
    folder.rmdir()
    events = syscalls.inotify_events(os.read(inotify_fd, 4096))
    assert {event[0] for event in events} == {watch}
    long = b"a-name-of-more-than-16-bytes"
    assert [(mask, name) for _, mask, _, name in events] == [
        (syscalls.IN_CREATE, b"a"),
        (syscalls.IN_MODIFY, b"a"),
        (syscalls.IN_CLOSE_WRITE, b"a"),
        (syscalls.IN_ATTRIB, b"a"),
        (syscalls.IN_MOVED_FROM, b"a"),
        (syscalls.IN_MOVED_TO, long),
        (syscalls.IN_DELETE, long),
        (syscalls.IN_DELETE_SELF, b""),
        (syscalls.IN_IGNORED, b""),
    ]
    cookies = [event[2] for event in events]
    assert cookies[4] == cookies[5] != 0
    assert cookies[:4] + cookies[6:] == [0] * 7


def test_a_watch_can_be_ended_once(
    inotify_fd: int, tmp_path: Path, handle: Callable[[int], Any]
) -> None:
    watch = syscalls.inotify_add_watch(inotify_fd, os.fsencode(tmp_path), syscalls.IN_CREATE)
    syscalls.inotify_rm_watch(handle(inotify_fd), watch)
    wait_for(inotify_fd)
    assert syscalls.inotify_events(os.read(inotify_fd, 100)) == [
        (watch, syscalls.IN_IGNORED, 0, b"")
    ]
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.inotify_rm_watch(inotify_fd, watch)
    assert caught.value.errno == errno.EINVAL


def test_inotify_add_watch_raises_the_errno_of_the_call(
    inotify_fd: int, tmp_path: Path, own: Own
) -> None:
    with pytest.raises(FileNotFoundError):
        syscalls.inotify_add_watch(inotify_fd, os.fsencode(tmp_path / "no"), syscalls.IN_CREATE)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.inotify_add_watch(inotify_fd, os.fsencode(tmp_path), 0)
    assert caught.value.errno == errno.EINVAL
    reader, _ = own(os.pipe())
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.inotify_add_watch(reader, os.fsencode(tmp_path), syscalls.IN_CREATE)
    assert caught.value.errno == errno.EINVAL


def packed(watch: int, mask: int, cookie: int, name: bytes) -> bytes:
    """Return an event as the kernel writes it: the name padded with NULs."""
    padded = name + bytes(-len(name) % 16) if name else b""
    return struct.pack("=iIII", watch, mask, cookie, len(padded)) + padded


EVENTS = [
    (1, 0x100, 0, b"a"),
    (-1, 0x4000, 0, b""),  # an overflow
    (2**31 - 1, 2**32 - 1, 2**32 - 1, b"sixteen bytes..."),
    (7, 2, 0, b"\xff\xfe not UTF-8, and long"),
]
DATA = b"".join(packed(*event) for event in EVENTS)


def test_events_are_parsed_whole() -> None:
    assert syscalls.inotify_events(DATA) == EVENTS
    assert syscalls.inotify_events(b"") == []


@pytest.mark.parametrize("cut", range(len(DATA)))
def test_of_data_that_was_cut_only_whole_events_are_told(cut: int) -> None:
    ends = [len(b"".join(packed(*event) for event in EVENTS[: i + 1])) for i in range(len(EVENTS))]
    whole = sum(end <= cut for end in ends)
    assert syscalls.inotify_events(DATA[:cut]) == EVENTS[:whole]


def test_an_event_that_claims_more_than_there_is_is_not_told() -> None:
    for length in (17, 2**31, 2**32 - 16, 2**32 - 1):
        lie = struct.pack("=iIII", 1, 2, 3, length) + bytes(16)
        assert syscalls.inotify_events(DATA + lie) == EVENTS


def test_a_pipe_is_widened_to_a_power_of_two_and_shrunk(
    own: Own, handle: Callable[[int], Any]
) -> None:
    reader, writer = own(os.pipe())
    size = syscalls.fcntl(reader, syscalls.F_GETPIPE_SZ)
    assert syscalls.fcntl(handle(writer), syscalls.F_SETPIPE_SZ, 4 * PAGE + 1) == 8 * PAGE
    assert syscalls.fcntl(handle(reader), syscalls.F_GETPIPE_SZ) == 8 * PAGE != size
    os.write(writer, bytes(3 * PAGE))
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.fcntl(writer, syscalls.F_SETPIPE_SZ, PAGE)
    assert caught.value.errno == errno.EBUSY
    os.read(reader, 3 * PAGE)
    assert syscalls.fcntl(writer, syscalls.F_SETPIPE_SZ, PAGE) == PAGE


def test_fcntl_raises_the_errno_of_the_call(own: Own, tmp_path: Path) -> None:
    regular = own(os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR))
    unsealed, _ = own(os.pipe())
    for fd, command, expected in (
        (regular, syscalls.F_GETPIPE_SZ, errno.EBADF),
        (unsealed, syscalls.F_GET_SEALS, errno.EINVAL),
        (-1, syscalls.F_GETPIPE_SZ, errno.EBADF),
        (regular, 10_000, errno.EINVAL),
    ):
        with pytest.raises(OSError, match=r".") as caught:
            syscalls.fcntl(fd, command)
        assert caught.value.errno == expected


def test_a_sealed_memfd_cannot_be_changed_any_more(own: Own) -> None:
    fd = own(syscalls.memfd_create("sealed", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING))
    assert is_cloexec(fd)
    assert syscalls.write(fd, b"what stays") == 10
    assert syscalls.fcntl(fd, syscalls.F_GET_SEALS) == 0
    seals = (
        syscalls.F_SEAL_SEAL | syscalls.F_SEAL_SHRINK | syscalls.F_SEAL_GROW | syscalls.F_SEAL_WRITE
    )
    syscalls.fcntl(fd, syscalls.F_ADD_SEALS, seals)
    assert syscalls.fcntl(fd, syscalls.F_GET_SEALS) == seals
    for change in (
        lambda: syscalls.write(fd, b"x"),
        lambda: syscalls.ftruncate(fd, 0),
        lambda: syscalls.ftruncate(fd, 100),
        lambda: syscalls.fcntl(fd, syscalls.F_ADD_SEALS, syscalls.F_SEAL_WRITE),
    ):
        with pytest.raises(PermissionError):
            change()
    assert syscalls.pread(fd, 100, 0) == b"what stays"


def test_close_range_closes_its_range_and_no_more(own: Own) -> None:
    first = fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, 700)
    fds = [first, *(fcntl.fcntl(0, fcntl.F_DUPFD_CLOEXEC, first + 1) for _ in range(4))]
    assert fds == list(range(first, first + 5))
    own([first, first + 4])
    syscalls.close_range(first + 1, first + 3)
    for fd in fds[1:-1]:
        with pytest.raises(OSError, match=r".") as caught:
            os.fstat(fd)
        assert caught.value.errno == errno.EBADF
    os.fstat(fds[0])
    os.fstat(fds[-1])


def test_close_range_can_mark_instead_of_close(own: Own) -> None:
    low = own(fcntl.fcntl(0, fcntl.F_DUPFD, 700))
    high = own(fcntl.fcntl(0, fcntl.F_DUPFD, low + 1))
    assert not is_cloexec(low)
    assert not is_cloexec(high)
    if tuple(map(int, os.uname().release.split(".")[:1])) >= (6,):  # CLOSE_RANGE_CLOEXEC: 5.11
        syscalls.close_range(high, 2**32 - 1, syscalls.CLOSE_RANGE_CLOEXEC)
        assert is_cloexec(high)
        assert not is_cloexec(low)


def test_close_range_raises_the_errno_of_the_call() -> None:
    for first, last, flags in ((10, 9, 0), (2**32 - 1, 2**32 - 1, 2**30)):
        with pytest.raises(OSError, match=r".") as caught:
            syscalls.close_range(first, last, flags)
        assert caught.value.errno == errno.EINVAL


HANDED_ON = [
    "close",
    "eventfd",
    "eventfd_read",
    "eventfd_write",
    "fstat",
    "fsync",
    "ftruncate",
    "memfd_create",
    "mkdir",
    "mkfifo",
    "open",
    "pidfd_open",
    "pread",
    "read",
    "readlink",
    "readv",
    "rename",
    "rmdir",
    "stat",
    "symlink",
    "unlink",
    "write",
    "P_PIDFD",
    "WEXITED",
    "WNOHANG",
    "WNOWAIT",
]


@pytest.mark.parametrize("name", HANDED_ON)
def test_what_os_has_is_handed_on_unchanged(name: str) -> None:
    assert getattr(_syscalls, name) is getattr(os, name)
    assert getattr(syscalls, name) is getattr(os, name)


@pytest.mark.parametrize("kind", [fcntl.LOCK_SH, fcntl.LOCK_EX])
@pytest.mark.parametrize(
    "place", [(0, 0), (5, 1), (2**31, 1), (2**32 - 1, 2), (2**32 + 5, 1), (2**62, 0)]
)
def test_a_lock_counts_while_another_process_has_it(
    tmp_path: Path, own: Own, kind: int, place: tuple[int, int]
) -> None:
    start, length = place
    fd = own(os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR))
    assert not syscalls.is_locked(fd)
    fcntl.lockf(fd, kind, length, start)
    assert not syscalls.is_locked(fd)
    fcntl.lockf(fd, fcntl.LOCK_UN)
    code = "import fcntl, sys; file = open(sys.argv[1], 'r+'); "
    code += f"fcntl.lockf(file, {kind}, {length}, {start}); print('locked'); input()"
    command = [sys.executable, "-u", "-c", code, str(tmp_path / "file")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        assert syscalls.is_locked(fd)
        other.communicate(b"\n")
    assert not syscalls.is_locked(fd)


def test_a_lock_of_another_open_file_description_counts_too(tmp_path: Path, own: Own) -> None:
    fd = own(os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR))
    with open(tmp_path / "file", "r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # of another kind: it does not count
        assert not syscalls.is_locked(fd)
        whole = struct.pack("@hhqqi0q", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(other, fcntl.F_OFD_SETLK, whole)
        assert syscalls.is_locked(fd)
    assert not syscalls.is_locked(fd)


def test_files_are_made_used_and_removed_by_the_functions_handed_on(
    tmp_path: Path, own: Own
) -> None:
    folder = own(syscalls.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    assert is_cloexec(folder)
    syscalls.mkdir("sub", 0o700, dir_fd=folder)
    fd = own(syscalls.open("file", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600, dir_fd=folder))
    assert is_cloexec(fd)
    assert syscalls.write(fd, b"0123456789") == 10
    syscalls.fsync(fd)
    assert syscalls.pread(fd, 3, 4) == b"456"
    os.lseek(fd, 0, os.SEEK_SET)
    first, second = bytearray(4), bytearray(10)
    assert syscalls.readv(fd, [first, second]) == 10
    assert (bytes(first), bytes(second[:6])) == (b"0123", b"456789")
    assert syscalls.read(fd, 1) == b""
    syscalls.ftruncate(fd, 5)
    assert syscalls.fstat(fd).st_size == 5
    syscalls.rename("file", "sub/file", src_dir_fd=folder, dst_dir_fd=folder)
    syscalls.symlink("sub/file", "link", dir_fd=folder)
    assert syscalls.stat("link", dir_fd=folder).st_ino == syscalls.fstat(fd).st_ino
    syscalls.mkfifo("fifo", dir_fd=folder)
    for name in ("sub/file", "link", "fifo"):
        syscalls.unlink(name, dir_fd=folder)
    syscalls.rmdir("sub", dir_fd=folder)
    assert list(tmp_path.iterdir()) == []


def test_an_eventfd_counts_and_is_close_on_exec(own: Own) -> None:
    fd = own(syscalls.eventfd(2, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    assert is_cloexec(fd)
    assert is_cloexec(own(syscalls.eventfd(0)))
    syscalls.eventfd_write(fd, 3)
    assert syscalls.eventfd_read(fd) == 5
    with pytest.raises(BlockingIOError):
        syscalls.eventfd_read(fd)


@pytest.mark.parametrize(
    "flags",
    [0, os.O_CLOEXEC, os.O_NONBLOCK, os.O_CLOEXEC | os.O_NONBLOCK],
    ids=["none", "cloexec", "nonblock", "both"],
)
def test_a_pipe_is_close_on_exec_and_for_the_rest_as_its_flags_say(own: Own, flags: int) -> None:
    for fd in own(syscalls.pipe2(flags)):
        assert is_cloexec(fd)
        assert os.get_blocking(fd) == (not flags & os.O_NONBLOCK)


def test_a_pipe_without_flags_is_close_on_exec(own: Own) -> None:
    reader, writer = own(syscalls.pipe2())
    assert is_cloexec(reader)
    assert is_cloexec(writer)
    os.write(writer, b"through")
    assert os.read(reader, 10) == b"through"


def test_reading_goes_on_after_signals(own: Own, interrupted: Callable[..., Any]) -> None:
    reader, writer = own(os.pipe())
    with interrupted(lambda: os.write(writer, b"late")):
        assert syscalls.read(reader, 10) == b"late"
