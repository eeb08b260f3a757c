"""Own a log file: whole records in order, whatever the disk does.

Where a disk takes nothing, a record that was only begun is cut off, what was read is held (bounded),
the container waits, and the write is tried again every 100 ms: nothing is lost when space comes
back. A FIFO is waited for likewise while its reader is slow. What another device or a FIFO without
reader refuses is counted, and told by a record of its own as soon as one can be written.
"""

import errno
import os
import stat
import time

from .. import _syscalls
from ..pure.records import format_records, mend_tail, stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Callable, Diagnostics, Loop

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_TAIL = 65536
_RETRY_MS, _MAX_RETRIES = 100, 10
_MAX_HELD = 65536  # bytes held before the container must wait
_MAX_DRAINED = 1 << 20  # bytes held in a drain, which does not wait, before the rest is lost


class LogFile:
    """One k8s-file log; what is no regular file is never mended, cut or synced."""

    __slots__ = (
        *("_begun", "_diagnostics", "_fd", "_held", "_loop", "_lost", "_name"),
        *("_path", "_regular", "_retry", "on_room"),
    )

    def __init__(self, loop: "Loop", diagnostics: "Diagnostics", path: bytes | None) -> None:
        """Open *path*, mending what a crash left; None: nothing is logged. Raises OSError."""
        self._loop, self._diagnostics = loop, diagnostics
        self._path = path or b""
        self._name = self._path.decode("utf-8", "replace")
        self.on_room: Callable[[], object] = int  # called when `full` is no longer true
        self._held = b""  # records that wait
        self._begun = 0  # bytes of the first of them that are in the file already
        self._lost = 0  # records
        self._retry = loop.call_later(0, int)
        self._fd, self._regular = (-1, False) if path is None else self._open()

    def full(self) -> bool:
        """Tell whether the container's output should wait."""
        return len(self._held) >= _MAX_HELD

    def write(self, stream: bytes, now_ns: int, data: bytes) -> None:
        """Write the records of what one read brought from *stream* at *now_ns*."""
        if self._fd < 0:
            return
        try:
            utc_offset = time.localtime(now_ns // 1_000_000_000).tm_gmtoff
        except (OverflowError, OSError):  # past what time_t holds on a 32-bit machine
            utc_offset = 0
        time_stamp = stamp(now_ns, utc_offset)
        records = format_records(data, time_stamp, stream)
        if len(self._held) > _MAX_DRAINED:
            self._lost += records.count(b"\n")
        elif self._held:
            self._held += records
        else:
            told, self._lost = self._lost, 0
            if told:
                text = b"[%d records could not be written here]\n" % told
                records = format_records(text, time_stamp, b"stderr") + records
            self._held = records
            self._flush()
            self._lost += told - 1 if self._lost and told else 0  # the notice was lost too

    def settle(self, then: "Callable[[], object]", retries: int = _MAX_RETRIES) -> None:
        """Call *then* when nothing is held any more, or after a second."""
        if self._held and retries:
            self._loop.call_later(_RETRY_MS, lambda: self.settle(then, retries - 1))
        else:
            then()

    def reopen(self) -> None:
        """Open a fresh file if the path is no longer ours; else only wake who watches it."""
        if self._fd < 0:
            return
        try:
            there, ours = _syscalls.stat(self._path), _syscalls.fstat(self._fd)
            if (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino):
                if self._regular:
                    _syscalls.ftruncate(self._fd, ours.st_size)
                return
        except OSError as error:
            if error.errno != errno.ENOENT:  # renamed or removed: the usual case
                self._diagnostics.warn(f"Failed to look at log file {self._name}", error)
        try:
            fd, regular = self._open()
        except OSError as error:  # the directory is gone, say: the old file still takes records
            self._diagnostics.warn("Failed to open log file", error)
            return
        self._loop.discard(self._fd)
        self._fd, self._regular, self._begun = fd, regular, 0
        self._flush()

    def sync(self) -> None:
        """Put the file on stable storage; may take as long as the disk does."""
        if self._regular:
            try:
                _syscalls.fsync(self._fd)
            except OSError as error:
                self._diagnostics.warn("Failed to sync log file before exit", error)

    def close(self) -> None:
        """Close the file, with a last try to write what is held."""
        if self._fd < 0:
            return
        self._flush()
        self._lost += self._held.count(b"\n")
        if self._lost:
            self._diagnostics.warn(f"{self._lost} records could not be written to {self._name}")
        self._fd, self._held, self._begun = self._loop.discard(self._fd), b"", 0

    detach = close

    def _open(self) -> tuple[int, bool]:
        fd = _syscalls.open(self._path, _FLAGS, 0o640)
        status = _syscalls.fstat(fd)
        regular = stat.S_ISREG(status.st_mode)
        if regular and status.st_size:
            try:
                self._mend(fd, status.st_size)
            except OSError as error:  # not readable, or full: append all the same
                self._diagnostics.warn(f"Failed to mend the end of {self._name}", error)
        return fd, regular

    def _mend(self, fd: int, size: int) -> None:
        reader_fd = _syscalls.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_CLOEXEC)
        try:
            cut, append = mend_tail(_syscalls.pread(reader_fd, _TAIL, max(size - _TAIL, 0)))
        finally:
            _syscalls.close(reader_fd)
        if cut:
            _syscalls.ftruncate(fd, size - cut)
        if append:
            _syscalls.write(fd, append)

    def _flush(self) -> None:
        was_full, done, refused = self.full(), self._begun, False
        self._retry.cancel()
        try:
            while done < len(self._held):
                done += _syscalls.write(self._fd, self._held[done:])
        except OSError as error:
            if error.errno != errno.EAGAIN:  # a FIFO is full: its reader is slow
                self._diagnostics.warn("stdio_input write failed", error)
                refused = not self._regular
        whole = self._held.rfind(b"\n", 0, done) + 1
        self._held, self._begun = self._held[whole:], done - whole
        if self._begun and self._regular:
            # Cut off what was only begun; the record is held whole, and written whole later.
            try:
                _syscalls.ftruncate(self._fd, _syscalls.fstat(self._fd).st_size - self._begun)
                self._begun = 0
            except OSError as error:  # then what is missing of it follows
                self._diagnostics.warn("Failed to cut off a torn record", error)
        if refused:
            self._lost += self._held.count(b"\n")
            self._held, self._begun = b"", 0
        if self._held and self._regular:
            self._retry = self._loop.call_later(_RETRY_MS, self._flush)
        elif self._held:
            self._loop.add_writer(self._fd, self._flush)
        else:
            self._loop.remove_writer(self._fd)
        if was_full and not self.full():
            self.on_room()
