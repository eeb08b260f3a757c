"""Run compress as the monitor does: a file on stdin, an empty one on stdout, and no paths."""

from __future__ import annotations

import errno
import gzip
import os
import random
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import _syscalls
from lowconmon_tools import compress
from tests.support import ROOT, SLOWNESS, wait_for
from tests.support.disk import PAGE, Disk
from tests.support.life import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROGRAM = [sys.executable, "-ISB", str(ROOT / "lowconmon_tools" / "compress.py")]
PIECE = 65536  # what the program reads and writes at once
RANDOM = random.Random(1).randbytes(1 << 20)  # noqa: S311 - no secret
TEXT = b"".join(
    b"%s stdout F line %d\n" % (RANDOM[at : at + 8].hex().encode(), at) for at in range(40000)
)
SHORT, LARGE = TEXT[:200], 20 << 20
# Does the program's work without being idle first: that may take minutes on a busy machine. Tells
# how much memory it took, in KiB.
WORK = """
import os, sys
work = {"__name__": "compress"}
exec(compile(open(sys.argv[1], "rb").read(), sys.argv[1], "exec"), work)
status = work["run"](0, 1)
with open("/proc/self/status", "rb") as file:
    os.write(2, [line.split()[1] for line in file if line.startswith(b"VmHWM:")][0])
os._exit(status)
"""
WORKER = [sys.executable, "-ISBc", WORK, PROGRAM[-1]]


class Files:
    """The log to compress and the file for the result, open as the monitor opens them."""

    def __init__(self, directory: Path) -> None:
        self.log, self.result = directory / "log", directory / "result"
        self.fds: list[int] = []

    def open(self, content: bytes = b"", packed: bytes = b"") -> tuple[int, int]:
        """Make the files; return descriptors of both."""
        self.log.write_bytes(content)
        self.result.write_bytes(packed)
        self.fds += [os.open(self.log, os.O_RDONLY), os.open(self.result, os.O_RDWR)]
        return self.fds[-2], self.fds[-1]

    def run(
        self, content: bytes, target: str = "", command: list[str] = WORKER
    ) -> subprocess.CompletedProcess[str]:
        """Let a worker compress *content* to the result, or to *target*."""
        source_fd, target_fd = self.open(content)
        if target:
            self.fds.append(target_fd := os.open(target, os.O_RDWR))
        return subprocess.run(
            command,
            stdin=source_fd,
            stdout=target_fd,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60 * SLOWNESS,
            check=False,
        )


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    given = Files(tmp_path)
    yield given
    for fd in given.fds:
        os.close(fd)


def repeated(content: bytes, size: int) -> bytes:
    return (content * (size // len(content) + 1))[:size]


# What comes out


@pytest.mark.parametrize("content", [b"\0", TEXT, RANDOM], ids=["zeros", "text", "random"])
@pytest.mark.parametrize(
    "size", [0, 1, 2, *(n * PIECE + by for n in (1, 2, 3) for by in (-1, 0, 1))]
)
def test_a_log_of_any_size_comes_back(files: Files, content: bytes, size: int) -> None:
    log = repeated(content, size)
    assert compress.run(*files.open(log)) == 0
    assert gzip.decompress(files.result.read_bytes()) == log
    assert files.log.read_bytes() == log


@pytest.mark.parametrize("content", [b"\0", TEXT, RANDOM], ids=["zeros", "text", "random"])
def test_20_megabytes_come_back_and_take_no_more_memory(
    files: Files, content: bytes, record_property: Callable[[str, object], None]
) -> None:
    little = files.run(b"x")
    log = repeated(content, LARGE)
    much = files.run(log)
    assert (little.returncode, much.returncode) == (0, 0), much.stderr
    assert gzip.decompress(files.result.read_bytes()) == log
    peaks_kib = int(little.stderr), int(much.stderr)
    record_property("peaks_kib", peaks_kib)
    assert peaks_kib[1] - peaks_kib[0] < 2048, peaks_kib


@pytest.mark.parametrize("command", ["gunzip -c", "zcat", "gzip -dc"])
@pytest.mark.parametrize("log", [b"", TEXT])
def test_gzip_reads_it(files: Files, command: str, log: bytes) -> None:
    done = files.run(log)
    assert done.returncode == 0
    renamed = files.result.rename(f"{files.result}.gz")
    reader = subprocess.run([*command.split(), renamed], capture_output=True, timeout=20)
    assert (reader.stdout, reader.stderr, reader.returncode) == (log, b"", 0)


def test_the_same_log_gives_the_same_file_whenever_it_is_compressed(files: Files) -> None:
    assert files.run(TEXT).returncode == 0
    first = files.result.read_bytes()
    assert first[:10] == b"\x1f\x8b\x08\0" + bytes(4) + b"\0\x03"  # no name, no time
    os.utime(files.log, (0, 0))
    assert files.run(TEXT).returncode == 0
    assert files.result.read_bytes() == first


def test_the_monitor_can_start_it_without_an_environment(files: Files) -> None:
    source_fd, target_fd = files.open(SHORT)
    files.fds.append(null_fd := os.open("/dev/null", os.O_RDWR))
    pid, error_fd = _syscalls.spawn(
        *(b"/usr/bin/python3", [b"python3", *map(os.fsencode, PROGRAM[1:])], []),
        stdio=(source_fd, target_fd, null_fd),
        death_signal=signal.SIGKILL,
    )
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert os.read(error_fd, 4) == b""
    os.close(error_fd)
    assert gzip.decompress(files.result.read_bytes()) == SHORT


# Out of everybody's way


def test_it_takes_only_time_that_nobody_wants(files: Files) -> None:
    source_fd, target_fd = files.open(SHORT)
    process = subprocess.Popen(PROGRAM, stdin=source_fd, stdout=target_fd)
    try:  # a zombie has the policy that it had
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE
    finally:
        assert process.wait() == 0


@pytest.mark.parametrize("name", ["EPERM", "ENOSYS"])
def test_where_it_may_not_be_idle_it_is_nice(files: Files, name: str) -> None:
    refused = f"inject=sched_setscheduler:error={name}"
    traced = ["-e", "trace=sched_setscheduler,setpriority", "-e", refused]
    done = files.run(SHORT, command=["strace", "-qq", *traced, *PROGRAM])
    assert done.returncode == 0
    assert "setpriority(PRIO_PROCESS, 0, 19) = 0" in " ".join(done.stderr.split())


# What goes wrong


def test_a_full_device_is_an_error(files: Files) -> None:
    done = files.run(TEXT, "/dev/full")
    assert done.returncode == 1
    assert os.strerror(errno.ENOSPC) in done.stderr


@pytest.mark.parametrize("room", [0, PAGE, 20 * PAGE])
def test_a_full_disk_is_an_error(files: Files, short_tmp: Path, room: int) -> None:
    with Disk(Life(short_tmp)) as disk:
        target = disk.path / "target"
        target.touch()
        disk.fill(leave=room)
        done = files.run(RANDOM, str(target))
        assert done.returncode == 1
        assert os.strerror(errno.ENOSPC) in done.stderr
        assert target.stat().st_size == room


@pytest.mark.parametrize(
    ("call", "file", "nth"),
    [
        *(("pread64", "log", nth) for nth in (1, 2, 17)),  # the last one: while it verifies
        *(("pread64", "result", nth) for nth in (1, 2)),
        *(("write", "result", nth) for nth in (1, 2)),
        ("fsync", "result", 1),
    ],
)
def test_a_disk_error_is_an_error_wherever_it_comes(
    files: Files, call: str, file: str, nth: int
) -> None:
    broken = ["-e", f"trace={call}", "-e", f"inject={call}:error=EIO:when={nth}"]
    traced = ["strace", "-qq", "-P", str(getattr(files, file)), *broken]
    done = files.run(RANDOM, command=[*traced, *WORKER])
    assert "(INJECTED)" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1])
def test_a_write_that_takes_less_goes_on(
    files: Files, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:1000]))
    assert compress.run(*files.open(RANDOM[:size])) == 0
    assert gzip.decompress(files.result.read_bytes()) == RANDOM[:size]


def change_within(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"X")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"X")


CHANGES: list[Callable[[Path], object]] = [
    append,
    change_within,
    lambda path: os.truncate(path, 100),
    lambda path: os.truncate(path, 0),
    lambda path: os.utime(path, (1, 2)),
]


@pytest.mark.parametrize("change", CHANGES, ids=["grown", "within", "cut", "emptied", "touched"])
@pytest.mark.parametrize("when", ["fsync", "posix_fadvise", "fstat"])
@pytest.mark.parametrize("size", [PIECE * 3, PIECE * 3 + 1])
def test_a_log_that_changes_meanwhile_is_told(
    files: Files,
    change: Callable[[Path], object],
    when: str,
    size: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fds = files.open(RANDOM[:size])
    os.utime(files.log, (0, 0))
    call = getattr(os, when)
    done: list[object] = []

    def with_change(*arguments: Any) -> Any:
        result = call(*arguments)
        if not done:
            done.append(change(files.log))
        return result

    monkeypatch.setattr(os, when, with_change)
    assert compress.run(*fds) == 2
    assert done


def test_a_log_that_grows_as_fast_as_it_is_read_is_left_behind(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    fds = files.open(RANDOM)
    pread, lengths = os.pread, list[int]()

    def with_growth(fd: int, length: int, at: int) -> bytes:
        lengths.append(length)
        assert len(lengths) < 1000, "does not end"
        with files.log.open("ab") as file:
            file.write(bytes(length))
        return pread(fd, length, at)

    monkeypatch.setattr(os, "pread", with_growth)
    assert compress.run(*fds) == 2
    assert gzip.decompress(files.result.read_bytes()) == RANDOM


def test_a_log_that_grows_is_told_from_outside(files: Files) -> None:
    source_fd, target_fd = files.open(repeated(RANDOM, LARGE // 4))
    how: Any = {"stdin": source_fd, "stdout": target_fd, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(WORKER, **how) as process:
        wait_for(lambda: os.fstat(target_fd).st_size)
        process.send_signal(signal.SIGSTOP)
        append(files.log)
        process.send_signal(signal.SIGCONT)
        assert process.wait(60 * SLOWNESS) == 2


# Verifying


def packed(content: bytes, level: int = 6) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, 31)
    return packer.compress(content) + packer.flush()


def verified(source_fd: int, target_fd: int) -> bool:
    try:
        return compress.verify(source_fd, target_fd)
    except zlib.error:
        return False


def is_good(files: Files, log: bytes, result: bytes) -> bool:
    return verified(*files.open(log, result))


@pytest.mark.parametrize("log", [b"", SHORT, TEXT, RANDOM, bytes(LARGE)])
@pytest.mark.parametrize("level", [0, 1, 9])
def test_what_is_right_is_found_right(files: Files, log: bytes, level: int) -> None:
    assert is_good(files, log, packed(log, level))


@pytest.mark.parametrize("log", [b"", b"x", SHORT], ids=len)
def test_a_result_that_lacks_its_end_is_found_out(files: Files, log: bytes) -> None:
    fds = files.open(log, packed(log))
    for size in reversed(range(os.fstat(fds[1]).st_size)):
        os.truncate(fds[1], size)
        assert not verified(*fds), size


def test_every_wrong_byte_of_a_result_is_found_out(files: Files) -> None:
    result = packed(SHORT)
    fds = files.open(SHORT, result)
    for at in range(10, len(result)):  # the ten before say when and where it was made
        os.pwrite(fds[1], bytes((result[at] ^ 1,)), at)
        assert not verified(*fds), at
        os.pwrite(fds[1], result[at : at + 1], at)
    assert verified(*fds)


@pytest.mark.parametrize("at", [11, PIECE - 1, PIECE, PIECE + 1, -9, -8, -5, -4, -1])
def test_a_wrong_byte_of_a_large_result_is_found_out(files: Files, at: int) -> None:
    wrong = bytearray(packed(RANDOM))
    wrong[at] ^= 0x10
    assert not is_good(files, RANDOM, bytes(wrong))


def stored(size: int) -> tuple[bytes, bytes]:
    """Return a log and its result, which has *size* bytes: nothing is made shorter."""
    length = next(it for it in range(size - 60, size) if len(packed(RANDOM[:it], 0)) == size)
    return RANDOM[:length], packed(RANDOM[:length], 0)


@pytest.mark.parametrize("size", [PIECE - 1, PIECE, PIECE + 1, PIECE + 7, PIECE + 8, 2 * PIECE])
@pytest.mark.parametrize("more", [b"\0", b"x", packed(b""), packed(b"more")])
def test_what_follows_the_trailer_is_found_out(files: Files, size: int, more: bytes) -> None:
    log, result = stored(size)
    assert is_good(files, log, result)
    assert not is_good(files, log, result + more)
    assert not is_good(files, log, result[:-1])


@pytest.mark.parametrize("log", [b"x", TEXT, bytes(LARGE)], ids=len)
def test_another_log_is_found_out(files: Files, log: bytes) -> None:
    result = packed(log)
    assert not is_good(files, log + b"x", result)
    assert not is_good(files, log[:-1], result)
    assert not is_good(files, log[:-1] + b"y", result)
    assert not is_good(files, b"y" + log[1:], result)
