"""The control FIFOs: which lines do what, however they arrive."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import termios
from pathlib import Path

import pytest

from tests.support.life import (
    Gate,
    Life,
    assert_idle,
    private_kib,
    read_if_there,
    wait_until,
)

BEFORE = (17, 71)  # the size that a line finds
KIB = 1 << 10


class Sized:
    """A life with a terminal whose size can be seen."""

    def __init__(self, life: Life) -> None:
        self.life = life
        name = life.directory / "tty"
        life.terminal_stub(f"tty >{name}; cat").start("-t")
        life.pid()
        wait_until(lambda: (read_if_there(name) or b"").endswith(b"\n"), "the terminal's name")
        self.tty = name.read_text().strip()
        self.turn = 0
        life.control(b"1 %d %d\n" % BEFORE)
        self.wait(BEFORE)

    def size(self) -> tuple[int, int]:
        """Return rows and columns."""
        fd = os.open(self.tty, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            rows, columns, *_ = struct.unpack("4H", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
        finally:
            os.close(fd)
        return rows, columns

    def wait(self, size: tuple[int, int]) -> None:
        """Wait until the terminal has this size."""
        wait_until(lambda: self.size() == size, f"size {size}, not {self.size()}")

    def settle(self) -> None:
        """Wait until the monitor has done all that was sent before, through either FIFO."""
        for name in ("winsz", "ctl"):
            fd = os.open(self.life.bundle / name, os.O_RDWR | os.O_NONBLOCK)
            try:
                wait_until(
                    lambda fd=fd: fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) == bytes(4),
                    f"{name} is read",
                )
            finally:
                os.close(fd)
        # A reopen shows when it is done, and the lines before it were done before it.
        self.turn += 1
        self.life.log.rename(self.life.directory / f"old.{self.turn}")
        self.life.control(b"2 0 0\n")
        wait_until(self.life.log.exists, "the fresh log")


@pytest.fixture
def sized(life: Life) -> Sized:
    """Start a life with a terminal of a known size."""
    return Sized(life)


# What scanf would read

GOOD = [
    (b"1 10 20", (10, 20)),
    (b" 1 10 20", (10, 20)),
    (b"\t1\t10\t20", (10, 20)),
    (b"1   10 \t 20   ", (10, 20)),
    (b"1 10 20\r", (10, 20)),
    (b"1\r10\v20\f", (10, 20)),
    (b"+1 +10 +20", (10, 20)),
    (b"01 010 0020", (10, 20)),
    (b"1 10 20abc", (10, 20)),
    (b"1 2 2 3", (2, 2)),
    (b"1 10 20.5", (10, 20)),
    (b"1 10 20 30 40", (10, 20)),
    (b"1 10 20\0junk", (10, 20)),
    (b"1 10 20,", (10, 20)),
    (b"1 10 20-5", (10, 20)),
    (b"1+10+20", (10, 20)),
    (b"1 0 0", (0, 0)),
    (b"1 1000 1000", (1000, 1000)),
    (b"1 0 1000", (0, 1000)),
    (b"1 10 0x20", (10, 0)),
    (b"1 00000000000000000000000010 20", (10, 20)),
    (b"1 10 " + b"0" * 180 + b"20", (10, 20)),
]
BAD = [
    b"",
    b" ",
    b"1",
    b"1 10",
    b"1 10 ",
    b"1 10 x",
    b"1 10.5 20.3",
    b"0x1 10 20",
    b"1 0x10 20",
    b"1,2,3",
    b"1 10,20",
    b"one 10 20",
    b"1 - 20",
    b"1 + 20",
    b"1 +-10 20",
    b"1 ++10 20",
    b"1 10 -1",
    b"1 -1 10",
    b"1 1001 10",
    b"1 10 1001",
    b"1 99999999999999999999 10",
    b"1 10 4294967316",
    b"1 4294967306 20",
    b"0 10 20",
    b"3 10 20",
    b"-1 10 20",
    b"10 20",
    b"11 10 20",
    b"1 10\x0020",
    b"\xff1 10 20",
    b"1 \xc2\xa010 20",
    "1 １０ ２０".encode(),
    b"# 1 10 20",
]


@pytest.mark.contract("CTL-5", "CTL-8", "CTL-9", "CTL-10")
@pytest.mark.parametrize(("line", "size"), GOOD)
def test_a_line_on_ctl_that_scanf_would_take_resizes(
    sized: Sized, line: bytes, size: tuple[int, int]
) -> None:
    sized.life.control(line + b"\n")
    sized.wait(size)


@pytest.mark.contract("CTL-9", "CTL-10", "CTL-11", "CTL-14")
def test_a_line_on_ctl_that_scanf_would_not_take_is_skipped(sized: Sized) -> None:
    for line in BAD:
        sized.life.control(line + b"\n")
        sized.settle()
        assert sized.size() == BEFORE, line


@pytest.mark.contract("CTL-7", "CTL-8", "CTL-9", "CTL-10")
@pytest.mark.parametrize(
    ("line", "size"),
    [(line[1:], size) for line, size in GOOD if line.startswith(b"1 ")]
    + [(b" 10 20", (10, 20)), (b"+10 +20", (10, 20)), (b"10+20", (10, 20))],
)
def test_a_line_on_winsz_that_scanf_would_take_resizes(
    sized: Sized, line: bytes, size: tuple[int, int]
) -> None:
    sized.life.control(line + b"\n", "winsz")
    sized.wait(size)


@pytest.mark.contract("CTL-7", "CTL-9", "CTL-10", "CTL-11", "CTL-14")
def test_a_line_on_winsz_that_scanf_would_not_take_is_skipped(sized: Sized) -> None:
    lines = [line[1:] for line in BAD if line.startswith(b"1 ")]
    for line in [*lines, b"", b"10", b"x 10 20", b"0x10 20", b"10,20", b"10 0 1001"[:2]]:
        sized.life.control(line + b"\n", "winsz")
        sized.settle()
        assert sized.size() == BEFORE, line


@pytest.mark.contract("CTL-6", "CTL-10", "CTL-11")
def test_a_reopen_has_numbers_in_range_too(sized: Sized) -> None:
    life = sized.life
    kept = life.log.rename(life.directory / "kept")
    for number, line in enumerate((b"2", b"2 0", b"2 1001 0", b"2 0 1001", b"2 -1 0", b"2 x y")):
        life.control(line + b"\n1 %d 30\n" % number)
        sized.wait((number, 30))
        assert not life.log.exists(), line
    life.control(b"2 1000 1000 and more\n")
    wait_until(life.log.exists, "a good one reopens")
    assert kept.exists()


# How lines arrive


@pytest.mark.contract("CTL-12")
@pytest.mark.parametrize("name", ["ctl", "winsz"])
@pytest.mark.parametrize(
    ("length", "counts"), [(198, True), (199, True), (200, False), (201, False)]
)
def test_a_line_of_200_bytes_or_more_is_ignored_whole(
    sized: Sized,
    name: str,
    length: int,
    counts: bool,  # noqa: FBT001
) -> None:
    head = b"1 10 20 " if name == "ctl" else b"10 20 "
    line = head.ljust(length - 1, b"x") + b"\n"
    assert len(line) == length
    sized.life.control(line, name)
    if counts:
        sized.wait((10, 20))
    sized.settle()
    assert sized.size() == ((10, 20) if counts else BEFORE)


@pytest.mark.contract("CTL-12", "CTL-14")
@pytest.mark.parametrize("length", [200, 255, 4096, 4097, 8192, 10_000])
def test_the_end_of_a_line_that_is_too_long_is_no_line_of_its_own(
    sized: Sized, length: int
) -> None:
    # Wherever a buffer ends, what follows looks like a good line.
    line = b"1 10 20 ".rjust(8) * (length // 8 + 1)
    sized.life.control(line[:length] + b"\n")
    sized.settle()
    assert sized.size() == BEFORE
    sized.life.control(b"1 30 40\n")
    sized.wait((30, 40))


@pytest.mark.contract("CASE-701", "CTL-5", "CTL-7")
@pytest.mark.parametrize("name", ["ctl", "winsz"])
def test_a_line_may_be_split_over_writes_at_any_byte(sized: Sized, name: str) -> None:
    """Acceptable: the line is done once it is whole.

    Not acceptable: half of it taken for a line.
    """
    head = b"1 " if name == "ctl" else b""
    for number in range(1, len(head) + 6):
        line = head + b"%d 50\n" % (20 + number)
        first, second = line[:number], line[number:]
        sized.life.control(first, name)
        # It is read before the rest comes.
        fd = os.open(sized.life.bundle / name, os.O_RDWR | os.O_NONBLOCK)
        try:
            wait_until(
                lambda fd=fd: fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) == bytes(4), "it is read"
            )
        finally:
            os.close(fd)
        if second:
            assert sized.size() != (20 + number, 50)
            sized.life.control(second, name)
        sized.wait((20 + number, 50))


@pytest.mark.contract("CASE-701")
@pytest.mark.parametrize("name", ["ctl", "winsz"])
def test_a_line_may_come_byte_by_byte(sized: Sized, name: str) -> None:
    for byte in b"1 12 34\n" if name == "ctl" else b"12 34\n":
        sized.life.control(bytes([byte]), name)
    sized.wait((12, 34))


@pytest.mark.contract("CASE-702")
@pytest.mark.parametrize("name", ["ctl", "winsz"])
def test_of_two_lines_in_one_write_both_are_done_in_order(sized: Sized, name: str) -> None:
    """Acceptable: both. Not acceptable: one of them, or the second first."""
    head = b"1 " if name == "ctl" else b""
    sized.life.control(head + b"90 91\n" + head + b"10 11\n", name)
    sized.wait((10, 11))
    sized.settle()
    assert sized.size() == (10, 11)


@pytest.mark.contract("CASE-702", "CTL-6", "CTL-5")
def test_a_resize_and_a_reopen_in_one_write_are_both_done(sized: Sized) -> None:
    life = sized.life
    life.log.rename(life.directory / "old")
    life.control(b"1 10 11\n2 0 0\n")
    wait_until(life.log.exists, "the fresh log")
    assert sized.size() == (10, 11)


@pytest.mark.contract("CASE-704", "CTL-14")
@pytest.mark.parametrize("name", ["ctl", "winsz"])
@pytest.mark.parametrize("bad", [b"x", b"", b"\0", b"1 1 1 1"[:1], b"y" * 300])
def test_a_bad_line_spoils_neither_the_one_before_nor_the_one_after(
    sized: Sized, name: str, bad: bytes
) -> None:
    """Acceptable: a warning. Not acceptable: a good line that is not done, a bad one that is."""
    head = b"1 " if name == "ctl" else b""
    life = sized.life
    life.control(head + b"10 11\n" + bad + b"\n", name)
    sized.wait((10, 11))
    life.control(bad + b"\n" + head + b"12 13\n", name)
    sized.wait((12, 13))
    life.control(head + b"14 15\n" + bad + b"\n" + head + b"16 17\n" + bad + b"\n", name)
    sized.wait((16, 17))
    sized.settle()
    assert sized.size() == (16, 17)


@pytest.mark.contract("CASE-703", "CTL-16", "CTL-14")
@pytest.mark.parametrize("name", ["ctl", "winsz"])
def test_64_kib_without_a_newline_neither_spin_nor_grow_nor_spoil(sized: Sized, name: str) -> None:
    """Acceptable: all of it is one bad line.

    Not acceptable: memory or time spent on it, a good line after it that is not done.
    """
    life = sized.life
    monitor = life.monitor_pid()
    fd = os.open(life.bundle / name, os.O_WRONLY)
    try:
        os.write(fd, b"1" * 100)
        before = private_kib(monitor)
        for _ in range(64):  # 4 MiB
            data = b"1 9 9 " * (64 * KIB // 6)
            while data:
                data = data[os.write(fd, data) :]
        assert_idle(monitor)
        assert private_kib(monitor) - before < 512
        assert sized.size() == BEFORE
        os.write(fd, b"\n" + (b"1 " if name == "ctl" else b"") + b"10 11\n")
        sized.wait((10, 11))
    finally:
        os.close(fd)


@pytest.mark.contract("CTL-15")
def test_each_fifo_has_a_buffer_of_its_own(sized: Sized) -> None:
    life = sized.life
    life.control(b"1 10 ", "ctl")
    life.control(b"30 ", "winsz")
    life.control(b"11\n", "ctl")
    sized.wait((10, 11))
    life.control(b"31\n", "winsz")
    sized.wait((30, 31))


@pytest.mark.contract("CTL-15", "CTL-16")
def test_garbage_without_end_in_one_fifo_does_not_touch_the_other(sized: Sized) -> None:
    life = sized.life
    life.control(b"x" * 1000, "winsz")
    life.control(b"1 10 11\n", "ctl")
    sized.wait((10, 11))
    life.control(b"y" * 1000, "ctl")
    life.control(b"\n30 31\n", "winsz")
    sized.wait((30, 31))


# The FIFOs themselves


@pytest.mark.contract("CTL-1", "CTL-2")
@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_both_are_fifos_of_mode_0660_whatever_the_umask(life: Life, umask: int) -> None:
    gate = Gate(life.directory / "go")
    try:
        life.stub(f"read x <{gate.path}").start(umask=umask)
        life.pid()
        for name in ("ctl", "winsz"):
            status = (life.bundle / name).lstat()
            assert stat.S_ISFIFO(status.st_mode)
            assert stat.S_IMODE(status.st_mode) == 0o660
        gate.open()
        assert life.exit_status() == 0
    finally:
        gate.close()


@pytest.mark.contract("CTL-3")
@pytest.mark.parametrize("what", ["file", "fifo", "link to a file", "dangling link", "socket"])
@pytest.mark.parametrize("name", ["ctl", "winsz"])
def test_what_is_there_already_is_replaced(life: Life, name: str, what: str) -> None:
    path, target = life.bundle / name, life.directory / "target"
    target.write_bytes(b"precious")
    if what == "file":
        path.write_bytes(b"old")
    elif what == "fifo":
        os.mkfifo(path, 0o600)
    elif what == "link to a file":
        path.symlink_to(target)
    elif what == "dangling link":
        path.symlink_to(life.directory / "nowhere")
    else:
        import socket  # noqa: PLC0415 - for this alone

        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(path))
    sized = Sized(life)
    assert stat.S_ISFIFO(path.lstat().st_mode)
    assert stat.S_IMODE(path.lstat().st_mode) == 0o660
    life.control(b"1 5 6\n" if name == "ctl" else b"5 6\n", name)
    sized.wait((5, 6))
    assert target.read_bytes() == b"precious"
    assert not (life.directory / "nowhere").exists()


@pytest.mark.contract("CTL-4")
@pytest.mark.parametrize("name", ["ctl", "winsz"])
def test_a_writer_always_finds_a_reader_and_leaves_no_trace(sized: Sized, name: str) -> None:
    path = sized.life.bundle / name
    for _ in range(200):
        os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))  # ENXIO without a reader
    assert_idle(sized.life.monitor_pid())
    sized.settle()
    assert sized.size() == BEFORE


@pytest.mark.contract("CTL-4")
def test_after_the_end_no_writer_hangs(life: Life) -> None:
    life.stub("exit 0").start()
    life.pid()
    life.wait_gone()
    for name in ("ctl", "winsz"):
        try:
            os.close(os.open(life.bundle / name, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            assert error.errno in (errno.ENXIO, errno.ENOENT)
        else:
            pytest.fail("somebody reads it")


@pytest.mark.contract("CTL-5", "CTL-11")
def test_a_resize_without_a_terminal_does_nothing(life: Life) -> None:
    life.stub("read x; exit 4").start("-i")
    life.pid()
    life.control(b"1 10 10\n")
    life.control(b"10 10\n", "winsz")
    old = life.log.rename(life.directory / "old")
    life.control(b"2 0 0\n")
    wait_until(life.log.exists, "the fresh log")
    client = life.attach()
    client.send(b"\n")
    assert life.exit_status() == 4
    client.close()
    assert old.read_bytes() == life.log.read_bytes() == b""


@pytest.mark.contract("CTL-13")
def test_of_several_sizes_before_the_terminal_the_last_one_counts(life: Life) -> None:
    how = (
        "fd = os.open(os.path.join(bundle, 'ctl'), os.O_RDWR | os.O_NONBLOCK)\n"
        "os.write(fd, b'1 5 5\\n1 6 7\\nbad\\n')\n"
        "while fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) != bytes(4): pass\n"
        "os.close(fd)\nsend(connect(), master)\n"
    )
    life.terminal_stub("until stty size | grep -qx '6 7'; do :; done; echo yes", how=how)
    life.start("-t")
    life.pid()
    assert life.exit_status() == 0
    assert life.text() == b"yes\r\n"


@pytest.mark.contract("CTL-3")
@pytest.mark.parametrize("name", ["ctl", "winsz"])
def test_a_directory_in_the_place_of_a_fifo_is_a_failed_start(life: Life, name: str) -> None:
    Path(life.bundle / name).mkdir()
    life.stub("exit 0").start()
    message = life.message()
    assert message is not None
    assert message["data"] == -1
    assert life.message() is None
    life.wait_gone()
    assert not life.pid_file.exists()
