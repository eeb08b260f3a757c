"""Watch processes to their end, whether they are our children or not.

A process is held by its pidfd, so no signal reaches a stranger whose pid is the same. Nobody waits
for a child: who ended is reaped when SIGCHLD says so, and not before the container's pid is known.
"""

import errno
import os
import sys

from .. import _syscalls
from ..pure.processes import exit_code, exit_code_of_wait_status, parse_pid, start_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Any, Callable, Loop

_UNREAPED_MS = 2000
_NOW = _syscalls.WEXITED | _syscalls.WNOHANG
_watched: "dict[int, Process]" = {}  # by pid, until it has ended


class Process:
    """One process; *on_end* gets its exit code, 128 + signal, or -1 when nobody can tell."""

    __slots__ = ("_loop", "_on_end", "pid", "pidfd")

    def __init__(
        self, loop: "Loop", pid: int, on_end: "Callable[[int], object]", started: int | None = None
    ) -> None:
        """Watch *pid*. Raises OSError: ESRCH, also when it is another by now than *started* then."""
        self._loop, self._on_end, self.pid = loop, on_end, pid
        self.pidfd = _syscalls.pidfd_open(pid)  # -1: it has ended
        try:
            if started not in (None, started_at(pid) or started):
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
            loop.add_pidfd(self.pidfd, self._ended)
        except OSError:
            self.pidfd = loop.discard(self.pidfd)
            raise
        _watched[pid] = self

    def poll(self) -> bool:
        """Tell the process's end if it has ended; return False when it is not our child."""
        if self.pidfd < 0:
            return True
        try:
            result = _syscalls.waitid(_syscalls.P_PIDFD, self.pidfd, _NOW)
        except ChildProcessError:
            return False
        if result:
            self.finish(exit_code(result.si_code, result.si_status))
        return True

    def finish(self, code: int) -> None:
        """Take *code* as the process's end, once."""
        if self.pidfd >= 0:
            self.pidfd = self._loop.discard(self.pidfd)
            _watched.pop(self.pid, None)
            self._on_end(code)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Signal the process, or its group (not 1, everyone, nor our own). Raises OSError."""
        if self.pidfd < 0:
            return
        try:
            group_id = os.getpgid(self.pid) if group else 0
            _syscalls.pidfd_send_signal(self.pidfd, number)  # ESRCH: the group was a stranger's
            if group_id > 1 and group_id != os.getpgrp():
                os.killpg(group_id, number)
        except ProcessLookupError:
            return  # reaped by its parent: its end is about to be told

    def _ended(self) -> None:
        if not self.poll():
            # Not our child: its status is there once its parent has reaped it, which hangs up.
            self._loop.remove(self.pidfd)
            self._loop.add_hangup(self.pidfd, self._reaped_by_another)
            self._loop.call_later(_UNREAPED_MS, lambda: self.finish(-1))

    def _reaped_by_another(self) -> None:
        try:
            status = _syscalls.pidfd_get_info(self.pidfd)
        except OSError:  # ENOSYS before Linux 6.15, ESRCH: nobody can tell
            status = None
        self.finish(-1 if status is None else exit_code_of_wait_status(status))


def start(
    loop: "Loop",
    as_started: "dict[str, Any]",
    arguments: list[bytes],
    on_end: "Callable[[int, OSError | None], object]",
    **how: "Any",
) -> Process:
    """Start a helper; *on_end* gets its exit code, and why exec failed, if so. Raises OSError."""
    pid, error_fd = _syscalls.spawn(arguments[0], arguments, **as_started, **how)
    try:
        return Process(loop, pid, lambda code: on_end(code, exec_error(error_fd)))
    except OSError:
        _syscalls.close(error_fd)
        raise


def reap() -> None:
    """Reap all children that have ended; those that are watched get to know."""
    try:
        while result := _syscalls.waitid(os.P_ALL, 0, _NOW):
            process = _watched.get(result.si_pid)
            if process:
                process.finish(exit_code(result.si_code, result.si_status))
    except ChildProcessError:
        return  # none left


def exec_error(error_fd: int) -> OSError | None:
    """Read and close what `spawn` gave: why exec failed, None when it did not."""
    try:
        number = int.from_bytes(_syscalls.read(error_fd, 4), sys.byteorder)
    except OSError:  # EAGAIN: killed before it came to exec
        number = 0
    _syscalls.close(error_fd)
    return OSError(number, os.strerror(number)) if number else None


def read_small(path: bytes) -> bytes | None:
    """Return the first 64 KiB of a file, None when it cannot be read."""
    try:
        fd = _syscalls.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            return _syscalls.read(fd, 65536)
        finally:
            _syscalls.close(fd)
    except OSError:  # ESRCH: /proc of a process that has gone in between
        return None


def started_at(pid: int) -> int | None:
    """Return when *pid* was started, in clock ticks since boot; None when it is gone."""
    return start_time(read_small(b"/proc/%d/stat" % pid) or b"")


def pid_file(path: bytes) -> tuple[bytes, int, int]:
    """Return content, inode and time of a pid file: they are the same until somebody writes it."""
    try:
        found = _syscalls.stat(path)
    except OSError:
        return b"", 0, 0
    return read_small(path) or b"", found.st_ino, found.st_mtime_ns


def pid_in(
    path: bytes, not_before: int | None, stale: tuple[bytes, int, int]
) -> tuple[int, int | None] | None:
    """Return pid and start time of who is named at *path*; None: nobody whom the runtime started.

    That is a file that still is as it was before, *stale*; init and ourselves; and a process that
    was started before *not_before*. Who has gone already has no start time.
    """
    left = pid_file(path)
    pid = parse_pid(left[0])
    if pid is None or pid in {1, os.getpid()} or left == stale:
        return None
    started = started_at(pid)
    if started is not None and not_before is not None and started < not_before:
        return None
    return pid, started
