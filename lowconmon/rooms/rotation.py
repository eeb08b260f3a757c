"""Begin a fresh log file at a path, with the old one as backup `.1` or gone.

Laws. Every step is one call relative to the directory as it was opened, and any may be the last one.
What can be left then is an empty `.tmp`, a gap among the backups, or no file at the path; a gap is
filled before anything is dropped, so that the next rotation loses nothing and doubles nothing. A
backup N is the file `.N` or, compressed, `.N.gz`; where both are there, the first is a leftover.
"""

import _stat as stat  # in C
import errno
import posix as os

from .. import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Callable, Sequence

OPEN_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_TEMPORARY = OPEN_FLAGS | os.O_EXCL | os.O_NOFOLLOW
_LOOK = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC  # .1 may be a FIFO by now
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EINVAL)  # of a file system that has none
_GZIP = b".gz"


def _place(dir_fd: int) -> bytes:
    """Return the real path of a directory, ending in a slash."""
    return _syscalls.readlink(b"/proc/self/fd/%d" % dir_fd).rstrip(b"/") + b"/"


class Refused(Exception):  # noqa: N818 - not an error
    """Why a log is not rotated."""


class Rotation:
    """How the log at one path is rotated."""

    __slots__ = ("_allowed", "_directory", "_name", "_path", "backups", "count", "on_backup")

    def __init__(self, path: bytes, backups: int, allowed: "Sequence[bytes]" = ()) -> None:
        """*backups*: how many to keep, 0: none; *allowed*: where it may take place, all: anywhere."""
        self._path, self.backups, self._allowed = path, backups, allowed
        directory, slash, self._name = path.rpartition(b"/")
        self._directory = directory or slash
        self.count = 0  # of rotations
        self.on_backup: Callable[[], object] = int  # called when there is a new one

    def begin(self, old_fd: int) -> int:
        """Return a descriptor of the fresh file, *old_fd* being at the path. OSError, Refused."""
        dir_fd = self._open_directory()
        try:
            if self.backups:
                self._check(dir_fd, old_fd)
            self._unlink(dir_fd, b".tmp")
            fd = _syscalls.open(self._name + b".tmp", _TEMPORARY, 0o640, dir_fd=dir_fd)
            try:
                if self.backups:
                    self._shift(dir_fd)
                self._rename(dir_fd, b".tmp", b"")
            except OSError:
                _syscalls.close(fd)
                self._unlink(dir_fd, b".tmp")
                raise
        finally:
            _syscalls.close(dir_fd)
        self.count += 1
        if self.backups:
            self.on_backup()
        return fd

    def tidy(self) -> None:
        """Remove the temporary files of what was cut off. Raises OSError."""
        dir_fd = self._open_directory()
        try:
            if self._size(dir_fd, b".tmp") == 0:
                self._unlink(dir_fd, b".tmp")
            if self.backups:
                self._unlink(dir_fd, b".gz.tmp")
        finally:
            _syscalls.close(dir_fd)

    def sync(self) -> None:
        """Put names and the youngest backup, if they are new, on stable storage. Raises OSError."""
        paths = (self._directory or b".", self._path + b".1")
        for path in paths if self.count and self.backups else ():
            try:
                fd = _syscalls.open(path, _LOOK)
            except FileNotFoundError:  # compressed, or another's now
                continue
            try:
                _syscalls.fsync(fd)
            finally:
                _syscalls.close(fd)

    def _open_directory(self) -> int:
        return _syscalls.open(self._directory or b".", _DIRECTORY)

    def _is_allowed(self, dir_fd: int) -> bool:
        """Tell whether a directory lies in one where rotation may take place."""
        place = _place(dir_fd)
        for path in self._allowed:
            try:
                fd = _syscalls.open(path, _DIRECTORY)
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOMEM}:  # for a while
                    raise
                continue  # what cannot be entered allows nothing
            try:
                if place.startswith(_place(fd)):
                    return True
            finally:
                _syscalls.close(fd)
        return not self._allowed

    def _check(self, dir_fd: int, log_fd: int) -> None:
        """Raise Refused if files made here could be another's, or go where they must not."""
        mode = _syscalls.fstat(dir_fd).st_mode
        own = _syscalls.stat(self._name, dir_fd=dir_fd, follow_symlinks=False)
        if b".." in self._path.split(b"/"):
            raise Refused("its path has .. in it")
        if stat.S_ISLNK(own.st_mode):
            raise Refused("it is a symlink")
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise Refused("its directory is writable by everyone")
        if not self._is_allowed(dir_fd):
            raise Refused("it is in no --log-allowlist-dir")
        try:
            if _syscalls.is_locked(log_fd):
                raise Refused("another process has locked it")
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise

    def _shift(self, dir_fd: int) -> None:
        """Make `.1` free, from the first gap or the oldest backup downwards, and move the log."""
        endings = [b""]  # of what moves: the log, and its backups before those
        while len(endings) < self.backups and (ending := self._backup(dir_fd, len(endings))):
            endings.append(ending)
        for kind in (b"", _GZIP):  # before something else takes its number
            self._unlink(dir_fd, b".%d%b" % (len(endings), kind))
        for number in range(len(endings), 0, -1):
            ending = endings.pop()
            kind = _GZIP if ending.endswith(_GZIP) else b""
            self._rename(dir_fd, ending, b".%d%b" % (number, kind))

    def _backup(self, dir_fd: int, number: int) -> bytes:
        """Return a backup's ending, b"" if there is none; what is compressed already is removed."""
        ending = b".%d" % number
        if self._size(dir_fd, ending + _GZIP) >= 0:
            self._unlink(dir_fd, ending)
            return ending + _GZIP
        return ending if self._size(dir_fd, ending) >= 0 else b""

    def _size(self, dir_fd: int, ending: bytes) -> int:
        """Return the size of the file with that ending, -1 if there is none."""
        try:
            name = self._name + ending
            return _syscalls.stat(name, dir_fd=dir_fd, follow_symlinks=False).st_size
        except FileNotFoundError:
            return -1

    def _unlink(self, dir_fd: int, ending: bytes) -> None:
        try:
            _syscalls.unlink(self._name + ending, dir_fd=dir_fd)
        except FileNotFoundError:
            return

    def _rename(self, dir_fd: int, old: bytes, new: bytes) -> None:
        names = self._name + old, self._name + new
        _syscalls.rename(*names, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
