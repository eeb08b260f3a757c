"""The fault seam does what its words say, in a test and in a process of its own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from errno import EIO, ENOSPC
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import _syscalls, syscalls
from tests.support import ROOT, SLOWNESS, faults, run_python

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Inject, Own


@pytest.fixture
def pipe(own: Own) -> tuple[int, int]:
    return own(os.pipe())


def test_the_nth_call_fails_and_no_other(pipe: tuple[int, int], inject: Inject) -> None:
    os.write(pipe[1], b"abc")
    fault = inject("read", errno=EIO, nth=2)
    assert _syscalls.read(pipe[0], 1) == b"a"
    with pytest.raises(OSError, match=os.strerror(EIO)) as caught:
        _syscalls.read(pipe[0], 1)
    assert caught.value.errno == EIO
    assert _syscalls.read(pipe[0], 1) == b"b"
    assert (fault.calls, fault.fired) == (3, 1)


def test_several_in_a_row_or_all_of_them_fail(pipe: tuple[int, int], inject: Inject) -> None:
    inject("write", errno=ENOSPC, times=2)
    inject("read", errno=EIO, times=None)
    for _ in range(2):
        with pytest.raises(OSError, match="space"):
            _syscalls.write(pipe[1], b"x")
    assert _syscalls.write(pipe[1], b"x") == 1
    for _ in range(5):
        with pytest.raises(OSError, match="I/O|Input/output"):
            _syscalls.read(pipe[0], 1)


def test_the_subclass_of_oserror_is_that_of_the_errno(inject: Inject) -> None:
    inject("read", errno=errno.EAGAIN)
    with pytest.raises(BlockingIOError):
        _syscalls.read(0, 1)


def test_a_shortened_write_really_writes_the_first_bytes(
    pipe: tuple[int, int], inject: Inject
) -> None:
    inject("write", shorten=3)
    assert _syscalls.write(pipe[1], b"abcdef") == 3
    assert _syscalls.write(pipe[1], b"DEF") == 3
    assert os.read(pipe[0], 100) == b"abcDEF"


def test_a_shortened_read_leaves_the_rest_for_the_next(
    pipe: tuple[int, int], inject: Inject
) -> None:
    os.write(pipe[1], b"abcdef")
    inject("read", shorten=1, times=2)
    assert [_syscalls.read(pipe[0], 100) for _ in range(3)] == [b"a", b"b", b"cdef"]


def test_calls_with_many_buffers_are_shortened_too(own: Own, inject: Inject) -> None:
    a, b = own(syscalls.socketpair(syscalls.AF_UNIX, syscalls.SOCK_STREAM))
    inject("sendmmsg", shorten=1)
    inject("readv", shorten=3)
    inject("send_fds", shorten=1)
    inject("recv_fds", shorten=2)
    assert _syscalls.sendmmsg(a, [[b"ab", b"cd"], [b"never"]]) == 1
    first, second = bytearray(2), bytearray(2)
    assert _syscalls.readv(b, [first, second]) == 3
    assert first + second == b"abc\0"
    assert _syscalls.send_fds(a, b"ef", []) == 1
    assert _syscalls.recv_fds(b, 100, 0)[0] == b"de"


def test_events_are_told_later_and_not_lost(own: Own, inject: Inject) -> None:
    epoll_fd = own(syscalls.epoll_create1())
    for number in range(3):
        fd = own(os.eventfd(1))
        syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_ADD, fd, syscalls.EPOLLIN, number)
    inject("epoll_wait", shorten=1)
    assert len(_syscalls.epoll_wait(epoll_fd)) == 1
    assert len(_syscalls.epoll_wait(epoll_fd)) == 3


def test_only_the_calls_that_are_meant_count(pipe: tuple[int, int], inject: Inject) -> None:
    inject("write", errno=ENOSPC, only=lambda fd, _data: fd == -5)
    assert _syscalls.write(pipe[1], b"x") == 1
    with pytest.raises(OSError, match="space"):
        _syscalls.write(-5, b"x")


def test_two_faults_of_one_function_count_the_same_calls(
    pipe: tuple[int, int], inject: Inject
) -> None:
    inject("write", errno=ENOSPC, nth=1)
    inject("write", errno=EIO, nth=2)
    for expected in (ENOSPC, EIO):
        with pytest.raises(OSError, match=r".") as caught:
            _syscalls.write(pipe[1], b"x")
        assert caught.value.errno == expected
    assert _syscalls.write(pipe[1], b"x") == 1


def test_who_imported_the_function_meets_the_fault_and_gets_rid_of_it(inject: Inject) -> None:
    original = _syscalls.write
    inject("write", errno=EIO, times=None)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.write(-1, b"")
    assert caught.value.errno == EIO
    kept = _syscalls.write
    faults.undo()
    assert _syscalls.write is syscalls.write is original is os.write
    with pytest.raises(OSError, match=r".") as caught:
        kept(-1, b"")
    assert caught.value.errno == errno.EBADF


def test_after_the_test_before_this_one_nothing_is_left() -> None:
    assert _syscalls.write is os.write
    assert _syscalls.read is os.read
    assert type(_syscalls.spawn).__name__ == "function"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("read", {}),
        ("read", {"errno": EIO, "shorten": 1}),
        ("read", {"shorten": 0}),
        ("read", {"errno": EIO, "nth": 0}),
        ("read", {"errno": EIO, "times": 0}),
        ("openpty", {"shorten": 1}),
        ("_call", {"errno": EIO}),
        ("EPOLLIN", {"errno": EIO}),
    ],
)
def test_faults_that_make_no_sense_are_refused(
    inject: Inject, name: str, words: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"."):
        inject(name, **words)
    with pytest.raises(AttributeError):
        inject("no_such_call", errno=EIO)


def test_a_text_says_the_same_as_the_words() -> None:
    text = "write:errno=ENOSPC:nth=3,read:shorten=1:times=5,fsync:errno=5:times=forever"
    assert faults.parse(text) == [
        ("write", {"errno": ENOSPC, "nth": 3}),
        ("read", {"shorten": 1, "times": 5}),
        ("fsync", {"errno": 5, "times": None}),
    ]
    assert faults.parse("") == []
    for wrong in ("read:sometimes", "read:errno=ENOTHING", "read:nth=x"):
        with pytest.raises((ValueError, AttributeError)):
            faults.parse(wrong)


def test_a_fault_can_be_about_one_file(tmp_path: Path, own: Own) -> None:
    faults.install("write:errno=ENOSPC:file=ctr.log,open:errno=EACCES:file=secret")
    log = own(_syscalls.open(tmp_path / "ctr.log", os.O_CREAT | os.O_WRONLY))
    other = own(_syscalls.open(os.fsencode(tmp_path / "other"), os.O_CREAT | os.O_WRONLY))
    assert _syscalls.write(other, b"x") == 1
    with pytest.raises(OSError, match="space"):
        _syscalls.write(log, b"x")
    with pytest.raises(PermissionError):
        _syscalls.open(os.fsencode(tmp_path / "secret"), os.O_RDONLY)


def test_a_process_of_its_own_takes_its_faults_from_the_environment() -> None:
    code = """
from tests.support import faults
faults.from_environment()
from lowconmon import _syscalls
assert _syscalls.write(1, b"abc") == 1
assert _syscalls.write(1, b"bcd") == 3
try:
    _syscalls.write(1, b"never")
except OSError as error:
    print(error.errno, flush=True)
"""
    spec = "write:shorten=1,write:errno=ENOSPC:nth=3"
    done = run_python(code, environment={faults.VARIABLE: spec})
    assert (done.stdout, done.stderr) == (f"abcd{ENOSPC}\n", "")
    done = run_python("from tests.support import faults; faults.from_environment()")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_program_runs_with_faults_and_its_own_arguments(tmp_path: Path) -> None:
    # A stand-in for the program: what main() does is not this test's business.
    code = f"""
import types
program = types.ModuleType("lowconmon.__main__")
def main():
    from lowconmon import _syscalls
    print(sys.argv)
    _syscalls.fsync(1)
program.main = main
sys.modules["lowconmon.__main__"] = program
import runpy
sys.argv = {faults.command("fsync:errno=EIO", "--cid", "x", "--", "y")[1:]!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n" + code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
        check=False,
    )
    assert done.stdout == "['lowconmon', '--cid', 'x', '--', 'y']\n"
    assert done.stderr.splitlines()[-1] == f"OSError: [Errno {EIO}] {os.strerror(EIO)}"


def test_without_the_two_dashes_the_entry_says_how_it_is_used(tmp_path: Path) -> None:
    done = subprocess.run(
        faults.command("read:errno=EIO")[:-1],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "usage: faults.py SPEC -- ARGS\n")
