"""Own a log file: whole records in order, whatever the disk does.

Where a disk takes nothing, a record that was only begun is cut off, what was read is held (bounded),
the container waits, and the write is tried again every 100 ms: nothing is lost when space comes
back. A FIFO is waited for likewise while its reader is slow. What a device or a FIFO without reader
refuses, and with *drops* what any file does, is counted, and told by a record of its own as soon as
one can be written. A record that would make the file larger than its limit begins a fresh file.
"""

import _stat as stat  # in C
import errno
import posix as os
import time

from .. import _syscalls
from ..pure.losses import Losses
from .rotation import OPEN_FLAGS, Refused, Rotation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Buffer, Callable, Diagnostics, Loop, Records, Tally

_TAIL = 1 << 17  # bytes; a whole record, of either format, is shorter
_RETRY_MS, _TURN_NS = 100, 100_000_000
_MAX_HELD = 65536  # bytes held before the container must wait
_MAX_DRAINED = 1 << 20  # bytes held in a drain, which does not wait, before the rest is lost
_PUT_OFF_NS = 1_000_000_000  # from a rotation that failed to the next try
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS)  # may get better


class LogFile:
    """One log file; what is no regular file is never mended, cut, rotated or synced."""

    __slots__ = (
        *("_begun", "_diagnostics", "_dropped", "_drops", "_ends_open", "_fd", "_held", "_loop"),
        *("_lost", "_name", "_path", "_put_off_until_ns", "_records", "_regular", "_retry"),
        *("_rotation", "_size", "_size_max", "_told", "_total", "_total_max", "_zone", "on_room"),
    )

    def __init__(  # noqa: PLR0913 - each argument an option
        self,
        loop: "Loop",
        diagnostics: "Diagnostics",
        path: bytes,
        records: "Records",
        rotation: Rotation,
        *,
        size_max: int = 0,
        total_max: int = 0,
        drops: bool = False,
    ) -> None:
        """Open *path*, mending what a crash left; a maximum of 0 or less is none. Raises OSError."""
        self._loop, self._diagnostics, self._records = loop, diagnostics, records
        self._path, self._name = path, path.decode("utf-8", "replace")
        self._rotation, self._size_max, self._total_max = rotation, size_max, total_max
        self._drops = drops  # what the disk does not take at once
        self.on_room: Callable[[], object] = int  # called when `full` is no longer true
        self._held: Buffer = b""  # records that wait
        self._begun = 0  # bytes of the first of them that are in the file already
        self._lost = Losses()
        self._told = Losses()  # what the first of the held records tells, if that is a notice
        self._dropped: dict[bytes, int] = {}  # records of each stream, told or not
        self._put_off_until_ns = 0
        self._zone = -1, 0  # minute of the last record, and its offset
        self._retry = loop.call_later(0, int)
        self._fd = -1
        self._open()
        self._total = self._size
        if size_max > 0:
            try:
                rotation.tidy()
            except OSError as error:
                diagnostics.warn(f"Failed to tidy up beside {self._name}", error)

    def full(self) -> bool:
        """Tell whether the container's output should wait."""
        return len(self._held) >= _MAX_HELD

    def holds(self) -> bool:
        """Tell whether records, or what tells that some are lost, wait to be written."""
        return bool(self._held or (self._lost and self._regular))

    def tally(self) -> "Tally":
        """Return records and losses of each stream, bytes that wait, rotations."""
        return self._records.counts, self._dropped, len(self._held), self._rotation.count

    def write(self, stream: bytes, now_ns: int, data: bytes) -> None:
        """Write the records of what one read brought from *stream* at *now_ns*."""
        if not 0 < self._total_max <= self._total:
            minute = now_ns // 60_000_000_000  # no zone has changed within one since 1972
            if minute != self._zone[0]:
                self._zone = minute, _utc_offset(now_ns)
            self._add(self._records.format(stream, now_ns, self._zone[1], data), stream)

    def finish(self) -> None:
        """Write what was held back in expectation of more: nothing comes any more."""
        self._add(self._records.finish(time.time_ns()))

    def reopen(self) -> None:
        """Open a fresh file if the path is no longer ours, else rotate; wake who watches the path."""
        if self._fd < 0:
            return
        try:
            if not self._is_ours():
                self._open()
            elif self._regular and self._rotation.backups and _syscalls.fstat(self._fd).st_size:
                self._rotate()
        except OSError as error:  # the directory is gone, say: the old file still takes records
            self._diagnostics.warn("Failed to open log file", error)
        try:
            if self._regular:  # for one that was there already, or did not change
                _syscalls.ftruncate(self._fd, _syscalls.fstat(self._fd).st_size)
        except OSError as error:
            self._diagnostics.warn(f"Failed to wake who watches {self._name}", error)
        self._flush()

    def sync(self) -> None:
        """Put the file on stable storage; may take as long as the disk does."""
        if self._regular:
            try:
                _syscalls.fsync(self._fd)
                self._rotation.sync()
            except OSError as error:
                self._diagnostics.warn("Failed to sync log file before exit", error)

    def close(self) -> None:
        """Close the file, with a last try to write what is held."""
        if self._fd >= 0:
            self._flush()
            self.detach()

    def detach(self) -> None:
        """Close the file at once, and count what is lost."""
        was_full = self.full()
        self._retry.cancel()
        self._give_up()
        if self._lost:
            count = sum(records for records, _ in self._lost.values())
            self._diagnostics.warn(f"{count} records could not be written to {self._name}")
            self._lost.clear()
        self._fd = self._loop.discard(self._fd)
        if was_full:
            self.on_room()

    def _add(self, records: "Buffer", stream: bytes = b"") -> None:
        if self._fd < 0 or not records:
            return
        if self._total_max > 0:  # the record that crosses it is the last one
            records = bytes(records)
            left = self._total_max - self._total
            if len(records) > left:
                whole = records.find(b"\n", left - 1) + 1 if left > 0 else 0
                if stream:
                    self._records.counts[stream] -= records.count(b"\n", whole)
                records = records[:whole]
            self._total += len(records)
        kept = len(self._held)
        before = bytes(self._held) or self._tell()
        self._held = before + records if before else records  # which is not copied, but written
        if kept > _MAX_DRAINED or (self._begun and self._drops and self._regular):
            self._give_up(kept, stream)
        elif not kept:
            self._flush(stream)

    def _give_up(self, kept: int = 0, stream: bytes = b"") -> None:
        """Lose what is held behind the first *kept* bytes; all of it is of *stream*, if given."""
        lost, self._held = bytes(self._held[kept:]), bytes(self._held[:kept])
        if not kept:
            self._begun = 0
            if self._told:  # a notice that was not written is no loss, but what it tells is
                lost = lost[lost.find(b"\n") + 1 :]
                for name, (count, size) in self._told.items():
                    self._lost.add(name, count, size)
                self._told.clear()
        if stream:
            self._drop(stream, lost.count(b"\n"), len(lost))
        else:
            for record in lost.split(b"\n")[:-1]:
                self._drop(self._records.stream_of(record), 1, len(record) + 1)

    def _drop(self, stream: bytes, records: int, size: int) -> None:
        self._lost.add(stream, records, size)
        self._dropped[stream] = self._dropped.get(stream, 0) + records

    def _tell(self) -> bytes:
        """Return the notice of what was lost, which is to be held; b"" if nothing was."""
        if not self._lost:
            return b""
        self._told, self._lost = self._lost, Losses()
        now_ns, fresh = time.time_ns(), type(self._records)()
        text = self._told.notice(b"records")
        return bytes(fresh.format(b"stderr", now_ns, _utc_offset(now_ns), text))

    def _is_ours(self) -> bool:
        """Tell whether the file at the path is the one that we write; OSError but ENOENT."""
        try:
            files = _syscalls.stat(self._path), _syscalls.fstat(self._fd)
        except FileNotFoundError:  # renamed or removed: the usual case
            return False
        return len({(file.st_dev, file.st_ino) for file in files}) == 1

    def _open(self) -> None:
        """Go on at the path, behind what a crash may have left open there. OSError: not so."""
        # A symlink that appears later is not followed where rotation does not either.
        no_symlink = os.O_NOFOLLOW if self._fd >= 0 and self._rotation.backups else 0
        fd = _syscalls.open(self._path, OPEN_FLAGS | no_symlink, 0o640)
        try:
            status = _syscalls.fstat(fd)
        except OSError:
            _syscalls.close(fd)
            raise
        self._adopt(fd, regular=stat.S_ISREG(status.st_mode), size=status.st_size)
        try:
            if self._regular and self._size:
                self._mend()
        except OSError as error:  # not readable: append all the same; full: see _write_out
            self._diagnostics.warn(f"Failed to mend the end of {self._name}", error)

    def _adopt(self, fd: int, *, regular: bool = True, size: int = 0) -> None:
        """Go on in the file *fd*; a record that was begun will be whole there."""
        self._loop.discard(self._fd)
        self._fd, self._regular, self._size = fd, regular, size
        self._begun, self._ends_open = 0, False

    def _mend(self) -> None:
        """Cut off what a crash has left open, or make it whole. Raises OSError."""
        reader_fd = _syscalls.open(b"/proc/self/fd/%d" % self._fd, os.O_RDONLY | os.O_CLOEXEC)
        try:
            tail = _syscalls.pread(reader_fd, _TAIL, max(self._size - _TAIL, 0))
        finally:
            _syscalls.close(reader_fd)
        cut, newline = self._records.mend_tail(tail)
        self._ends_open = bool(cut or newline)  # until one of these calls succeeds
        if cut:
            _syscalls.ftruncate(self._fd, self._size - cut)
        elif newline:
            _syscalls.write(self._fd, newline)
        self._size += len(newline) - cut
        self._ends_open = False

    def _flush(self, stream: bytes = b"") -> None:
        """Write what is held, and settle what cannot be; all of it is of *stream*, if given."""
        was_full, refused, retry_ms = self.full(), False, 0
        self._retry.cancel()
        try:
            self._write_out()
        except OSError as error:
            retry_ms = _RETRY_MS
            if error.errno != errno.EAGAIN:  # a FIFO is full: its reader is slow
                self._diagnostics.warn("stdio_input write failed", error)
                refused = not self._regular or self._drops
        if self._begun and self._regular:
            self._cut_off()
        if refused:
            kept = bytes(self._held).find(b"\n") + 1 if self._begun and self._regular else 0
            if self._begun and not kept:  # a FIFO keeps it for its next reader
                self._ends_open = True
            self._give_up(kept, stream)
        if self._regular:
            if self._held or self._lost:
                self._retry = self._loop.call_later(retry_ms, self._flush)
        elif self._held:
            self._loop.add_writer(self._fd, self._flush)
        else:
            self._loop.remove_writer(self._fd)
        if was_full and not self.full():
            self.on_room()

    def _cut_off(self) -> None:
        """Cut off what was only begun: the record is held whole, and written whole later."""
        try:
            size = _syscalls.fstat(self._fd).st_size
            if size >= self._begun:  # else another has emptied the file
                size -= self._begun
                _syscalls.ftruncate(self._fd, size)
            self._size, self._begun = size, 0
        except OSError as error:  # then what is missing of it follows
            self._diagnostics.warn("Failed to cut off a torn record", error)

    def _write_out(self) -> None:
        """Write what is held, into fresh files where need be, until an OSError says no more.

        Of very small files only as many as 100 ms allow: the rest has its turn later.
        """
        self._held = self._held or self._tell()
        until_ns = time.monotonic_ns() + _TURN_NS
        while self._held or self._ends_open:
            if self._ends_open:  # the record that was there before
                self._size += _syscalls.write(self._fd, b"\n")
                self._ends_open = False
                continue
            end = self._fitting()
            if not end:
                if time.monotonic_ns() > until_ns:
                    break
                self._begin_fresh()
                continue
            count = _syscalls.write(self._fd, self._held[self._begun : end])
            if not count:  # a file system that lies
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._size += count
            begun, whole = self._begun + count, len(self._held)
            if begun < whole:
                whole = bytes(self._held).rfind(b"\n", 0, begun) + 1
            self._held, self._begun = bytes(self._held[whole:]), begun - whole
            if whole:
                self._told.clear()

    def _fitting(self) -> int:
        """Return how much of what is held belongs into this file: whole records."""
        left = self._size_max - (self._size - self._begun)
        limited = self._size_max > 0 and self._regular
        if not limited or left >= len(self._held) or time.monotonic_ns() < self._put_off_until_ns:
            return len(self._held)
        end = bytes(self._held).rfind(b"\n", 0, max(left, 0)) + 1
        if not end and (self._begun or self._size <= 0):
            end = bytes(self._held).find(b"\n") + 1  # larger than the limit: a file for it alone
        return end

    def _begin_fresh(self) -> None:
        """Make room, or put off the next try; OSError: the disk takes no file either."""
        self._size = _syscalls.fstat(self._fd).st_size  # another may have emptied it
        if self._fitting():
            return
        try:
            if self._is_ours():
                self._rotate()
            else:
                self._open()
        except OSError as error:
            if error.errno in _DISK:
                raise
            self._diagnostics.warn(f"Failed to rotate log file {self._name}", error)
        if not self._fitting():
            self._put_off_until_ns = time.monotonic_ns() + _PUT_OFF_NS

    def _rotate(self) -> None:
        """Begin a fresh file at the path, which is ours, unless that is unsafe. OSError."""
        try:
            self._adopt(self._rotation.begin(self._fd))
        except Refused as refused:
            self._diagnostics.warn(f"Refusing to rotate log file {self._name}: {refused}")


def _utc_offset(now_ns: int) -> int:
    try:
        return time.localtime(now_ns // 1_000_000_000).tm_gmtoff
    except (OverflowError, OSError):  # past what time_t holds on a 32-bit machine
        return 0
