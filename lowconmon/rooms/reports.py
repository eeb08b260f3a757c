"""Report to the manager: small files that appear whole or not at all, and the sync pipe."""

import _stat as stat  # in C
import errno
import posix

from .. import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Diagnostics, Loop

_NEW = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC


def replace_file(path: bytes, content: bytes) -> None:
    """Put *content* at *path* by a rename from a dot file: all of it or none. Raises OSError."""
    directory, slash, name = path.rpartition(b"/")
    flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
    directory_fd = _syscalls.open(directory or slash or b".", flags)
    temporary, fd = b".conmon-" + posix.urandom(8).hex().encode(), -1
    try:
        fd = _syscalls.open(temporary, _NEW, 0o644, dir_fd=directory_fd)
        try:
            done = _syscalls.write(fd, content)
        finally:
            _syscalls.close(fd)
        if done != len(content):
            raise OSError(errno.ENOSPC, posix.strerror(errno.ENOSPC))
        _syscalls.rename(temporary, name, src_dir_fd=directory_fd, dst_dir_fd=directory_fd)
    except OSError:
        if fd >= 0:
            _syscalls.unlink(temporary, dir_fd=directory_fd)
        raise
    finally:
        _syscalls.close(directory_fd)


class MessagePipe:
    """Messages to the manager, one write each, none blocks. Takes over *fd*; -1: sends nothing."""

    __slots__ = ("_diagnostics", "_fd", "_loop", "_pending", "_socket")

    def __init__(self, loop: "Loop", diagnostics: "Diagnostics", fd: int) -> None:
        self._loop, self._diagnostics = loop, diagnostics
        self._pending: list[bytes] = []
        self._fd = fd
        self._socket = fd >= 0 and stat.S_ISSOCK(_syscalls.fstat(fd).st_mode)
        if fd >= 0 and not self._socket:
            # A pipe: O_NONBLOCK would reach the manager's other writers, so open an end of our own.
            flags = posix.O_WRONLY | posix.O_NONBLOCK | posix.O_CLOEXEC
            try:
                self._fd = _syscalls.open(b"/proc/self/fd/%d" % fd, flags)
                _syscalls.close(fd)
            except OSError as error:
                # ENXIO: nobody reads it any more. EACCES and others: then this end must do, and a
                # message of a page blocks only where the manager has let 15 others lie.
                self._fd = self._loop.discard(fd) if error.errno == errno.ENXIO else fd

    def send(self, message: bytes) -> None:
        """Send *message*, later if the manager does not take it now."""
        if self._fd >= 0:
            self._pending.append(message)
            self._flush()

    def idle(self) -> bool:
        """Tell whether all was sent."""
        return not self._pending

    def close(self) -> None:
        """Close the pipe; what was not taken is lost."""
        self._fd = self._loop.discard(self._fd)
        self._pending.clear()

    detach = close

    def _flush(self) -> None:
        try:
            while self._pending:
                if self._socket:
                    _syscalls.send(self._fd, self._pending[0], _syscalls.MSG_DONTWAIT)
                else:
                    _syscalls.write(self._fd, self._pending[0])
                del self._pending[0]
            self._loop.remove(self._fd)
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._flush)
        except OSError as error:
            # EPIPE, ECONNRESET: the manager went away, which is its right
            if error.errno not in {errno.EPIPE, errno.ECONNRESET}:
                self._diagnostics.warn("Unable to send container message to parent", error)
            self.close()
