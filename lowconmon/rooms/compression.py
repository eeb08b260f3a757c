"""Compress the backups of a log, one at a time, in a process of its own at idle priority.

Laws. The helper knows no path: it reads the backup and writes, and reads back, a file without a
name that counts. What it has proved whole gets the name `.N.gz`, whatever N the backup has by then,
and only then does the original go. A crash leaves `.gz.tmp`, or a backup that is there twice.
"""

import posix as os

from .. import __path__ as _home, _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Callable, Diagnostics, Loop, Process

# NONBLOCK: what only bears a backup's name may be a FIFO.
_BACKUP = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# By a Python of its own: in the monitor's executable there is none for other programs.
_PROGRAM = (_home[0] + "_tools/compress.py").encode("utf-8", "surrogateescape")
_COMMAND = [b"/usr/bin/python3", b"-ISB", _PROGRAM]


def _exists(path: bytes) -> bool:
    try:
        _syscalls.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class Compression:
    """The compression of the backups `.1` to `.N` of the log at one path."""

    __slots__ = (
        *("_backups", "_closed", "_diagnostics", "_identity", "_loop", "_made", "_missed"),
        *("_path", "_start_process", "_temporary", "_wanted", "process"),
    )

    def __init__(
        self,
        loop: "Loop",
        diagnostics: "Diagnostics",
        path: bytes,
        backups: int,
        start_process: "Callable[..., Process]",
    ) -> None:
        """*start_process* takes arguments, what gets (exit code, exec's error), how to spawn."""
        self._loop, self._diagnostics, self._start_process = loop, diagnostics, start_process
        self._path, self._backups, self._temporary = path, backups, path + b".gz.tmp"
        self._identity = self._made = (0, 0)  # device and inode of the backup, and of the new file
        self._wanted = self._closed = self._missed = False
        self.process: Process | None = None  # to be reaped with the others

    def start(self) -> None:
        """Compress what is not yet; there is a new backup."""
        self._wanted = True
        if self.process is None and not self._closed:
            self._loop.call_later(0, self._begin)

    def close(self) -> None:
        """Give up what is in work: the next rotation at this path, if there is one, has it done."""
        self._closed = True
        if self.process and self.process.pidfd >= 0:
            self.process.signal(_syscalls.SIGKILL)
            self._diagnostics.remove("a temporary file", self._temporary)

    detach = close

    def _begin(self) -> None:
        if self.process or self._closed:
            return
        self._wanted, fds = False, list[int]()
        try:
            name = self._oldest()
            if name:
                self._diagnostics.remove("a temporary file", self._temporary)
                fds.append(_syscalls.open(name, _BACKUP))
                status = _syscalls.fstat(fds[0])
                self._identity = status.st_dev, status.st_ino
                mode = status.st_mode & 0o777
                fds.append(_syscalls.open(self._temporary, _TEMPORARY, mode))
                made = _syscalls.fstat(fds[1])
                self._made = made.st_dev, made.st_ino
                self.process = self._start_process(
                    _COMMAND, self._ended, stdio=(*fds, -1), death_signal=_syscalls.SIGKILL
                )
        except OSError as error:
            self._diagnostics.warn("Failed to compress a rotated log", error)
            self._diagnostics.remove("a temporary file", self._temporary)
        for fd in fds:
            self._loop.discard(fd)

    def _oldest(self) -> bytes:
        """Return the path of the oldest backup that is not compressed, b"" if there is none."""
        oldest = b""
        for number in range(1, self._backups + 1):
            name = self._path + b".%d" % number
            if not _exists(name + b".gz"):
                if not _exists(name):
                    break  # what is behind a gap waits until that is filled
                oldest = name
        return oldest

    def _ended(self, code: int, error: OSError | None) -> None:
        self.process = None
        if self._closed:
            return
        again = self._wanted
        try:
            if error:
                raise error
            made = _syscalls.stat(self._temporary, follow_symlinks=False)
            if code or not made.st_size or (made.st_dev, made.st_ino) != self._made:
                # 2: another has written to the backup; 0: an upgrade has left no program, or
                # the file is another monitor's
                self._diagnostics.warn(f"Compressing a rotated log failed with status {code}")
            else:
                placed = self._put_in_place()
                again |= placed or not self._missed  # inode numbers that change make no loop
                self._missed = not placed
        except OSError as failure:  # ENOENT: a kubelet has tidied up
            self._diagnostics.warn("Failed to compress a rotated log", failure)
        self._diagnostics.remove("a temporary file", self._temporary)
        if again:  # else the next rotation tries again what has failed
            self.start()

    def _put_in_place(self) -> bool:
        """Give the compressed file its name; tell whether its backup is still there. OSError."""
        for number in range(1, self._backups + 1):
            name = self._path + b".%d" % number
            try:
                status = _syscalls.stat(name, follow_symlinks=False)
            except FileNotFoundError:
                if _exists(name + b".gz"):
                    continue
                break
            if (status.st_dev, status.st_ino) == self._identity:
                _syscalls.rename(self._temporary, name + b".gz")
                _syscalls.unlink(name)
                return True
        return False  # it was the oldest, or another has replaced it
