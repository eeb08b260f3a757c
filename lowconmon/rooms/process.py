"""Watch processes to their end, whether they are our children or not.

A process is held by its pidfd, so no signal reaches a stranger whose pid is the same. Nobody waits
for a child: who ended is reaped when SIGCHLD says so, and not before the container's pid is known.
"""

import errno
import posix as os
import sys
from time import monotonic_ns, time_ns

from .. import _syscalls
from ..pure.cgroups import MOUNT, event_files
from ..pure.processes import ending, exit_code, parse_pid, start_time, wait_status
from ..pure.records import stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Any, Callable, Diagnostics, Loop

FORWARDED = (_syscalls.SIGTERM, _syscalls.SIGINT, _syscalls.SIGQUIT)
# SIGPIPE comes when a scope of CRI-O's stops, SIGHUP with a terminal: like SIGUSR1 they only wake.
_WAKING = (_syscalls.SIGPIPE, _syscalls.SIGHUP, _syscalls.SIGUSR1, _syscalls.SIGXFSZ)
SIGNALS = (*FORWARDED, _syscalls.SIGCHLD, *_WAKING)
# docs/security.md tells what for
_CAPABILITIES = [_syscalls.CAP_DAC_OVERRIDE, _syscalls.CAP_DAC_READ_SEARCH, _syscalls.CAP_FOWNER]
_CAPABILITIES += [_syscalls.CAP_KILL, _syscalls.CAP_SYS_RESOURCE]
_UNREAPED_MS = 2000
_MUCH_MEMORY = 1 << 26  # bytes
_NOW = _syscalls.WEXITED | _syscalls.WNOHANG
_watched: "dict[int, Process]" = {}  # by pid, until it has ended


class Process:
    """One process; *on_end* gets its exit code, 128 + signal, or -1 when nobody can tell."""

    __slots__ = ("_loop", "_on_end", "pid", "pidfd", "usage", "wait_status", "watched_since")

    def __init__(
        self, loop: "Loop", pid: int, on_end: "Callable[[int], object]", started: int | None = None
    ) -> None:
        """Watch *pid*. Raises OSError: ESRCH, also when it is another by now than *started* then."""
        self._loop, self._on_end, self.pid = loop, on_end, pid
        self.watched_since = time_ns(), monotonic_ns()
        self.wait_status: int | None = None  # once it has ended, if anybody can tell
        self.usage: dict[str, int] | None = None  # as waitid_rusage gives it
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
            found = _syscalls.waitid_rusage(_syscalls.P_PIDFD, self.pidfd, _NOW)
        except ChildProcessError:
            return False
        if found:
            self.finish(wait_status(found[0].si_code, found[0].si_status), found[1])
        return True

    def finish(self, status: int | None, usage: dict[str, int] | None = None) -> None:
        """Take *status*, as wait(2) gives it, as the process's end, once; None: nobody can tell."""
        if self.pidfd >= 0:
            self.pidfd = self._loop.discard(self.pidfd)
            _watched.pop(self.pid, None)
            self.wait_status, self.usage = status, usage
            self._on_end(-1 if status is None else exit_code(status))

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
            self._loop.call_later(_UNREAPED_MS, lambda: self.finish(None))

    def _reaped_by_another(self) -> None:
        try:
            status = _syscalls.pidfd_get_info(self.pidfd)
        except OSError:  # ENOSYS before Linux 6.15, ESRCH: nobody can tell
            status = None
        self.finish(status)


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


def describe(container: Process | None) -> "dict[str, Any]":
    """Return what the status socket tells of the container process."""
    since = container.watched_since if container else None
    return {
        "container_pid": container and container.pid,
        "started_at": since and stamp(since[0], 0),
        "uptime_s": since and (monotonic_ns() - since[1]) // 1_000_000_000,
    }


def describe_end(container: Process | None, status: int, **how: bool) -> "dict[str, Any]":
    """Return what exit.json tells of the container process; *how*: as for `ending`."""
    if container:
        container.poll()  # killed by a timeout, it may have ended meanwhile
    return {
        **ending(status, container.wait_status if container else None, **how),
        "started_at": container and stamp(container.watched_since[0], 0),
        "ended_at": stamp(time_ns(), 0),
        "rusage": container and container.usage,
    }


def confine(diagnostics: "Diagnostics") -> None:
    """Give up the capabilities that nothing needs once a container runs."""
    try:
        _syscalls.keep_effective(_CAPABILITIES)
    except OSError as error:  # a security module's choice
        diagnostics.debug("Failed to give up capabilities", error)


def reap() -> None:
    """Reap all children that have ended; those that are watched get to know."""
    try:
        while found := _syscalls.waitid_rusage(os.P_ALL, 0, _NOW):
            result, usage = found
            process = _watched.get(result.si_pid)
            if process:
                process.finish(wait_status(result.si_code, result.si_status), usage)
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


def spares_memory(pid: int) -> bool:
    """Tell whether 192 KiB more for a pipe hurt nobody: no limit on *pid*'s memory, nor on a user's.

    A pipe's pages are charged to who writes, and to a user, whose next pipes may get fewer.
    """
    whole = [b"0", b"0", b"4294967295"]  # of user ids: the namespace is no user's
    cgroup, ids = read_small(b"/proc/%d/cgroup" % pid), read_small(b"/proc/self/uid_map") or b""
    if os.geteuid() or ids.split() != whole or cgroup is None:
        return False
    for file in event_files(cgroup):
        directory = (MOUNT + file).rpartition(b"/")[0]
        while len(directory) > len(MOUNT):
            for name in (b"/memory.max", b"/memory.limit_in_bytes"):
                limit = (read_small(directory + name) or b"").strip()
                if limit.isdigit() and int(limit) < _MUCH_MEMORY:
                    return False
            directory = directory.rpartition(b"/")[0]
    return True


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
