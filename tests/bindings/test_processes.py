"""pidfds, waitid, subreaper, death signal and name."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import _syscalls, syscalls
from tests.support import (
    ROOT,
    SLOWNESS,
    is_cloexec,
    read_line,
    run_python,
    status_of,
    wait_for,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Own

KERNEL = tuple(
    int("".join(filter(str.isdigit, part))) for part in os.uname().release.split(".")[:2]
)
HAS_INFO = KERNEL >= (6, 15)


@pytest.fixture
def sleeper() -> Iterator[int]:
    """Give the pid of a child that waits for ever."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
        os._exit(0)
    yield pid
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):  # the test has reaped it
        pass


def test_a_pidfd_is_close_on_exec_and_readable_at_the_end(
    own: Own, sleeper: int, handle: Callable[[int], Any]
) -> None:
    pidfd = own(syscalls.pidfd_open(sleeper))
    assert is_cloexec(pidfd)
    with pytest.raises(TimeoutError):
        wait_for(pidfd, 0)
    syscalls.pidfd_send_signal(handle(pidfd), syscalls.SIGKILL)
    wait_for(pidfd)
    os.waitpid(sleeper, 0)
    with pytest.raises(ProcessLookupError):
        syscalls.pidfd_send_signal(pidfd, syscalls.SIGKILL)


def test_pidfd_open_raises_the_errno_of_the_call(sleeper: int) -> None:
    os.kill(sleeper, signal.SIGKILL)
    os.waitpid(sleeper, 0)
    with pytest.raises(ProcessLookupError):
        syscalls.pidfd_open(sleeper)
    for pid in (0, -1):
        with pytest.raises(OSError, match="Invalid") as caught:
            syscalls.pidfd_open(pid)
        assert caught.value.errno == errno.EINVAL


def test_pidfd_send_signal_raises_the_errno_of_the_call(own: Own, sleeper: int) -> None:
    pidfd = own(syscalls.pidfd_open(sleeper))
    reader, _ = own(os.pipe())
    for fd, number, expected in (
        (pidfd, 10_000, errno.EINVAL),
        (reader, 0, errno.EBADF),
        (-1, 0, errno.EBADF),
    ):
        with pytest.raises(OSError, match=r".") as caught:
            syscalls.pidfd_send_signal(fd, number)
        assert caught.value.errno == expected
    syscalls.pidfd_send_signal(pidfd, 0)  # only asks whether it could


OTHERS_CHILD = """
import os, signal
pid = os.fork()
if pid == 0:
    signal.pause()
print(pid, flush=True)
input()
os.waitpid(pid, 0)
print("reaped", flush=True)
input()
"""


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_pidfd_get_info_knows_the_end_of_a_process_that_is_not_our_child(
    own: Own, handle: Callable[[int], Any], end: int
) -> None:
    # acceptable: None until another process has reaped its child, then the wait status; without
    # the kernel's help ENOSYS with a text. Not acceptable: a status that nobody collected.
    with subprocess.Popen(
        [sys.executable, "-c", OTHERS_CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        out = parent.stdout.fileno()
        pidfd = own(syscalls.pidfd_open(int(read_line(out))))
        with pytest.raises(ChildProcessError):
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
        if KERNEL < (6, 13):
            with pytest.raises(OSError, match=r"needs Linux 6\.15") as caught:
                syscalls.pidfd_get_info(pidfd)
            assert caught.value.errno == errno.ENOSYS
        else:
            assert syscalls.pidfd_get_info(pidfd) is None
        syscalls.pidfd_send_signal(pidfd, end)
        wait_for(pidfd)
        if HAS_INFO:
            assert syscalls.pidfd_get_info(handle(pidfd)) is None  # a zombie
        os.write(parent.stdin.fileno(), b"\n")
        assert read_line(out) == b"reaped\n"
        if HAS_INFO:
            assert syscalls.pidfd_get_info(pidfd) == end
            assert syscalls.pidfd_get_info(pidfd) == end  # it stays


@pytest.mark.parametrize("code", [0, 1, 126, 127, 128, 255])
def test_pidfd_get_info_tells_each_exit_code(own: Own, code: int) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(code)
    pidfd = own(syscalls.pidfd_open(pid))
    wait_for(pidfd)
    status = os.waitpid(pid, 0)[1]
    if HAS_INFO:
        assert syscalls.pidfd_get_info(pidfd) == status == code << 8


def test_a_kernel_without_pidfd_get_info_is_named_in_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Old:
        @staticmethod
        def lc_pidfd_get_info(_pidfd: int, _status: object) -> int:
            return -errno.ENOSYS

    monkeypatch.setattr(_syscalls, "_lib", Old)
    with pytest.raises(
        OSError, match=r"PIDFD_GET_INFO is not available: it needs Linux 6\.15$"
    ) as got:
        syscalls.pidfd_get_info(0)
    assert got.value.errno == errno.ENOSYS


def test_pidfd_get_info_raises_the_errno_of_a_bad_descriptor() -> None:
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.pidfd_get_info(-1)
    assert caught.value.errno == errno.EBADF


def test_waitid_reaps_by_pidfd(own: Own, sleeper: int) -> None:
    pidfd = own(syscalls.pidfd_open(sleeper))
    now = syscalls.WEXITED | syscalls.WNOHANG
    assert syscalls.waitid(syscalls.P_PIDFD, pidfd, now) is None
    os.kill(sleeper, signal.SIGTERM)
    wait_for(pidfd)
    for options in (now | syscalls.WNOWAIT, now):  # looks first, then takes
        result = syscalls.waitid(syscalls.P_PIDFD, pidfd, options)
        assert result is not None
        assert (result.si_pid, result.si_code) == (sleeper, os.CLD_KILLED)
        assert result.si_status == signal.SIGTERM
    with pytest.raises(ChildProcessError):
        syscalls.waitid(syscalls.P_PIDFD, pidfd, now)


def test_waitid_takes_an_object_with_fileno(
    own: Own, sleeper: int, handle: Callable[[int], Any]
) -> None:
    pidfd = handle(own(syscalls.pidfd_open(sleeper)))
    now = syscalls.WEXITED | syscalls.WNOHANG
    assert syscalls.waitid(syscalls.P_PIDFD, pidfd, now) is None
    os.kill(sleeper, signal.SIGKILL)
    result = syscalls.waitid(syscalls.P_PIDFD, pidfd, syscalls.WEXITED)
    assert result is not None
    assert (result.si_pid, result.si_status) == (sleeper, signal.SIGKILL)


def test_waitid_of_a_bad_descriptor_raises_the_errno_of_the_call() -> None:
    for fd in (-1, 10_000):
        with pytest.raises(OSError, match=r".") as caught:
            syscalls.waitid(syscalls.P_PIDFD, fd, syscalls.WEXITED)
        assert caught.value.errno in (errno.EBADF, errno.EINVAL)


def test_waitid_goes_on_after_signals(
    own: Own, sleeper: int, interrupted: Callable[..., Any]
) -> None:
    pidfd = own(syscalls.pidfd_open(sleeper))
    with interrupted(lambda: os.kill(sleeper, signal.SIGKILL)):
        result = syscalls.waitid(syscalls.P_PIDFD, pidfd, syscalls.WEXITED)
    assert result is not None
    assert result.si_status == signal.SIGKILL


USES = """
import os
busy = bytearray(b"x") * (32 << 20)
while sum(os.times()[:2]) < 0.05:
    pass
os._exit(3)
"""


def test_waitid_rusage_tells_what_os_wait4_tells(own: Own, handle: Callable[[int], Any]) -> None:
    now = syscalls.WEXITED | syscalls.WNOHANG
    with subprocess.Popen([sys.executable, "-c", USES]) as process:
        pidfd = own(syscalls.pidfd_open(process.pid))
        wait_for(pidfd)
        found = syscalls.waitid_rusage(syscalls.P_PIDFD, handle(pidfd), now | syscalls.WNOWAIT)
        assert found is not None
        result, usage = found
        _, status, expected = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert isinstance(result, os.waitid_result)
    assert (result.si_pid, result.si_status) == (process.pid, 3)
    assert (result.si_signo, result.si_code) == (signal.SIGCHLD, os.CLD_EXITED)
    assert result.si_uid == os.getuid()
    # What has ended still spends its last instants: the second to ask may be told more.
    later = (expected.ru_utime + expected.ru_stime) * 1_000_000 - sum(
        usage[name] for name in ("user_us", "system_us")
    )
    assert -10 < later < 20_000 * SLOWNESS
    assert usage.keys() == {"user_us", "system_us", "max_rss_kb"}
    assert usage["max_rss_kb"] == expected.ru_maxrss
    assert usage["user_us"] + usage["system_us"] >= 40_000
    assert usage["max_rss_kb"] >= 32 << 10


def test_waitid_rusage_takes_an_end_once_and_any_child(own: Own, sleeper: int) -> None:
    now = syscalls.WEXITED | syscalls.WNOHANG
    assert syscalls.waitid_rusage(os.P_PID, sleeper, now) is None
    pidfd = own(syscalls.pidfd_open(sleeper))
    os.kill(sleeper, signal.SIGTERM)
    wait_for(pidfd)
    found = syscalls.waitid_rusage(os.P_ALL, 0, now)
    assert found is not None
    assert found[0].si_pid == sleeper
    assert (found[0].si_code, found[0].si_status) == (os.CLD_KILLED, signal.SIGTERM)
    with pytest.raises(ChildProcessError):
        syscalls.waitid_rusage(syscalls.P_PIDFD, pidfd, now)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.waitid_rusage(syscalls.P_PIDFD, 10_000, now)
    assert caught.value.errno in (errno.EBADF, errno.EINVAL)


def test_waitid_rusage_goes_on_after_signals(
    own: Own, sleeper: int, interrupted: Callable[..., Any]
) -> None:
    pidfd = own(syscalls.pidfd_open(sleeper))
    with interrupted(lambda: os.kill(sleeper, signal.SIGKILL)):
        found = syscalls.waitid_rusage(syscalls.P_PIDFD, pidfd, syscalls.WEXITED)
    assert found is not None
    assert found[0].si_status == signal.SIGKILL


def test_a_subreaper_becomes_the_parent_of_orphans() -> None:
    done = run_python(
        """
import os
from lowconmon import syscalls
assert not syscalls.get_child_subreaper()
syscalls.set_child_subreaper(True)
assert syscalls.get_child_subreaper() is True
reader, writer = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.read(reader, 1)
        os._exit(5)
    os._exit(0)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
os.write(writer, b"x")
assert os.waitstatus_to_exitcode(os.wait()[1]) == 5
syscalls.set_child_subreaper(False)
assert syscalls.get_child_subreaper() is False
"""
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_death_signal_comes_when_the_parent_dies(own: Own) -> None:
    code = """
import os, signal, sys
from lowconmon import syscalls
pid = os.fork()
if pid == 0:
    syscalls.set_pdeathsig(syscalls.SIGKILL)
    print(os.getpid(), flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        try:
            assert parent.stdout is not None
            pidfd = own(syscalls.pidfd_open(int(read_line(parent.stdout.fileno()))))
        finally:
            parent.kill()
        wait_for(pidfd)


def test_set_pdeathsig_refuses_what_is_no_signal() -> None:
    with pytest.raises(OSError, match="Invalid") as caught:
        syscalls.set_pdeathsig(10_000)
    assert caught.value.errno == errno.EINVAL


def test_the_name_is_cut_to_15_bytes() -> None:
    comm = Path("/proc/thread-self/comm")
    before = comm.read_bytes().rstrip(b"\n")
    try:
        syscalls.set_name(b"exactly-15-byte")
        assert comm.read_bytes() == b"exactly-15-byte\n"
        syscalls.set_name(b"\xff more than fifteen bytes")
        assert comm.read_bytes() == b"\xff more than fif\n"
        syscalls.set_name(b"")
        assert status_of("thread-self")["Name"] == ""
    finally:
        syscalls.set_name(before)


def test_only_the_capabilities_that_are_named_stay_in_effect_until_an_exec() -> None:
    kept = [syscalls.CAP_KILL, syscalls.CAP_SYS_RESOURCE]
    bits = sum(1 << number for number in kept)
    code = f"""
import os
from lowconmon import syscalls
from tests.support import status_of

before = status_of("self")
syscalls.keep_effective({kept})
after = status_of("self")
assert int(after["CapEff"], 16) == int(before["CapEff"], 16) & {bits}, after
for name in ("CapInh", "CapPrm", "CapBnd", "CapAmb"):
    assert after[name] == before[name]
print(before["CapEff"], flush=True)
os.execv("/bin/grep", ["grep", "CapEff", "/proc/self/status"])
"""
    before, _, regained = run_python(code).stdout.split()
    assert regained == before
