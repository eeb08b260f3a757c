"""Own the log files: whole records or none, whatever the disk does.

A failed write never ends the monitor and never leaves half a record: what was begun is cut off, what
was lost is counted, warned about, and told by a record of its own once the file takes writes again.
"""

import errno
import os
import stat
import time

from .. import _syscalls
from ..pure.records import format_records, mend_tail, stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..loop import Loop
    from .diagnostics import Diagnostics

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_TAIL = 65536
_MAX_QUEUE = 65536  # bytes that wait for a FIFO's reader before the container waits too
_MAX_DRAIN = 1 << 20  # bytes that wait for it in a drain, before the rest is lost


def utc_offset(seconds: int) -> int:
    """Return how many seconds local time is east of UTC at *seconds* since the epoch."""
    try:
        return time.localtime(seconds).tm_gmtoff
    except (OverflowError, OSError):  # past what time_t holds on a 32-bit machine
        return 0


class LogFile:
    """One k8s-file log; a FIFO or device in its place gets a bounded queue instead of blocking."""

    __slots__ = (
        *("_diagnostics", "_fd", "_lost_bytes", "_lost_records", "_name", "_offset"),
        *("_offset_until", "_on_room", "_loop", "_path", "_queue", "_regular", "_torn"),
    )

    def __init__(self, diagnostics: "Diagnostics", path: bytes) -> None:
        """Open *path*, mending what a crash left. Raises OSError."""
        self._diagnostics = diagnostics
        self._path = path
        self._name = path.decode("utf-8", "replace")
        self._loop: Loop | None = None
        self._on_room: Callable[[], object] = int
        self._queue = b""
        self._torn = False  # the file ends within a record that could not be cut off
        self._lost_bytes = self._lost_records = 0
        self._offset, self._offset_until = 0, -1
        self._fd, self._regular = self._open()

    def watch(self, loop: "Loop", on_room: "Callable[[], object]") -> None:
        """Use *loop* to wait for a slow FIFO; call *on_room* when `full` is no longer true."""
        self._loop, self._on_room = loop, on_room

    def full(self) -> bool:
        """Tell whether the container's output should wait."""
        return len(self._queue) >= _MAX_QUEUE

    def write(self, stream: bytes, now_ns: int, data: bytes) -> None:
        """Write the records of what one read brought from *stream* at *now_ns*."""
        if self._fd < 0:
            return
        if now_ns >= self._offset_until:  # a zone changes its offset at a full quarter of an hour
            seconds = now_ns // 1_000_000_000
            self._offset = utc_offset(seconds)
            self._offset_until = (seconds - seconds % 900 + 900) * 1_000_000_000
        time_stamp = stamp(now_ns, self._offset)
        records = format_records(data, time_stamp, stream)
        if self._lost_records:
            text = b"[%d bytes in %d records could not be written here]\n"
            notice = text % (self._lost_bytes, self._lost_records)
            if not self._put(format_records(notice, time_stamp, b"stderr")):
                self._lose(records)
                return
            self._lost_bytes = self._lost_records = 0
        self._put(records)

    def reopen(self) -> None:
        """Open a fresh file if the path is no longer ours; else only wake who watches it."""
        try:
            there = _syscalls.stat(self._path)
            ours = _syscalls.fstat(self._fd)
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                if self._regular:
                    _syscalls.ftruncate(self._fd, ours.st_size)
                return
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._diagnostics.warn(f"Failed to look at log file {self._name}", error)
        try:
            fd, regular = self._open()
        except OSError as error:  # the directory is gone, say: the old file still takes records
            self._diagnostics.warn("Failed to open log file", error)
            return
        self._forget_queue()
        self.close()
        self._fd, self._regular = fd, regular

    def sync(self) -> None:
        """Put the file on stable storage; may take as long as the disk does."""
        if self._fd >= 0 and self._regular:
            try:
                _syscalls.fsync(self._fd)
            except OSError as error:
                self._diagnostics.warn("Failed to sync log file before exit", error)

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            if self._loop:
                self._loop.remove(self._fd)
            _syscalls.close(self._fd)
        self._fd = -1

    detach = close

    def _open(self) -> tuple[int, bool]:
        fd = _syscalls.open(self._path, _FLAGS, 0o640)
        try:
            status = _syscalls.fstat(fd)
            regular = stat.S_ISREG(status.st_mode)
            if regular and status.st_size:
                self._mend(fd, status.st_size)
        except BaseException:
            _syscalls.close(fd)
            raise
        return fd, regular

    def _mend(self, fd: int, size: int) -> None:
        try:
            reader_fd = _syscalls.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_CLOEXEC)
            try:
                tail = _syscalls.pread(reader_fd, _TAIL, max(size - _TAIL, 0))
            finally:
                _syscalls.close(reader_fd)
            cut, append = mend_tail(tail)
            if cut:
                _syscalls.ftruncate(fd, size - cut)
            if append:
                _syscalls.write(fd, append)
        except OSError as error:  # not readable, or full: appending is still better than failing
            self._diagnostics.warn(f"Failed to mend the end of {self._name}", error)

    def _put(self, records: bytes) -> bool:
        """Write *records*; return whether all went out (or wait in the queue)."""
        if self._queue:
            fits = len(self._queue) < _MAX_DRAIN
            if fits:
                self._queue += records
            else:
                self._lose(records)
            return fits
        if self._torn:
            records = b"\n" + records
        done = 0
        try:
            while done < len(records):
                done += _syscalls.write(self._fd, records[done:] if done else records)
        except BlockingIOError:  # a FIFO whose reader is slow
            self._queue = records[done:]
            if self._loop:
                self._loop.add_writer(self._fd, self._flush_queue)
            return True
        except OSError as error:
            self._diagnostics.warn("stdio_input write failed", error)
            whole = records.rfind(b"\n", 0, done) + 1
            if self._regular and done > whole:
                whole = self._cut(records, done, whole)
            self._lose(records[whole:])
            return False
        self._torn = False
        return True

    def _cut(self, records: bytes, done: int, whole: int) -> int:
        """Cut the begun record off; return how many bytes of *records* stay."""
        try:
            _syscalls.ftruncate(self._fd, _syscalls.fstat(self._fd).st_size - (done - whole))
        except OSError as error:
            self._diagnostics.warn("Failed to cut off a torn record", error)
            self._torn = True
            return done
        return whole

    def _lose(self, records: bytes) -> None:
        self._lost_bytes += len(records)
        self._lost_records += records.count(b"\n")

    def _flush_queue(self) -> None:
        was_full = self.full()
        try:
            self._queue = self._queue[_syscalls.write(self._fd, self._queue) :]
        except BlockingIOError:
            return
        except OSError as error:
            self._diagnostics.warn("stdio_input write failed", error)
            self._forget_queue()
        if not self._queue and self._loop:
            self._loop.remove(self._fd)
        if was_full and not self.full():
            self._on_room()

    def _forget_queue(self) -> None:
        self._lose(self._queue)
        self._queue = b""
