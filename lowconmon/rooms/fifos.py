"""Own the control FIFOs: lines in, resize and reopen calls out; a bad line spoils only itself."""

import _stat as stat  # in C
import errno
import posix

from .. import _syscalls
from ..pure.control import RESIZE, LineBuffer, parse_control

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Callable, Diagnostics, Loop

_MODE = 0o660
# Open for writing too: then there is always a reader and never an end.
_FLAGS = posix.O_RDWR | posix.O_NONBLOCK | posix.O_CLOEXEC | posix.O_NOFOLLOW


class ControlFifos:
    """The bundle's `ctl` and `winsz`."""

    __slots__ = ("_diagnostics", "_fds", "_loop", "_reopen", "_resize")

    def __init__(
        self,
        loop: "Loop",
        diagnostics: "Diagnostics",
        resize: "Callable[[int, int], object]",
        reopen: "Callable[[], object]",
    ) -> None:
        self._loop, self._diagnostics = loop, diagnostics
        self._resize, self._reopen = resize, reopen
        self._fds: list[int] = []

    def open(self, name: bytes, directory_fd: int, prefix: bytes) -> None:
        """Make FIFO *name* anew; *prefix* makes a ctl line of each of its lines. Raises OSError."""
        try:
            _syscalls.unlink(name, dir_fd=directory_fd)
        except FileNotFoundError:  # the usual case
            pass
        _syscalls.mkfifo(name, _MODE, dir_fd=directory_fd)
        fd, lines = _syscalls.open(name, _FLAGS, dir_fd=directory_fd), LineBuffer()
        self._fds.append(fd)
        if not stat.S_ISFIFO(_syscalls.fstat(fd).st_mode):
            raise OSError(errno.EEXIST, "not the FIFO that was just made")
        posix.fchmod(fd, _MODE)  # whatever the umask
        self._loop.add_reader(fd, lambda: self._read(fd, lines, prefix))

    def close(self) -> None:
        """Close both; the files stay."""
        while self._fds:
            self._loop.discard(self._fds.pop())

    detach = close

    def _read(self, fd: int, lines: LineBuffer, prefix: bytes) -> None:
        try:
            data = _syscalls.read(fd, 4096)
        except BlockingIOError:  # somebody else has read it
            return
        for line in lines.feed(data):
            message = None if line is None else parse_control(prefix + line)
            if message is None:
                self._diagnostics.warn("Failed to parse a control message")
            elif message[0] == RESIZE:
                self._resize(*message[1:])
            else:
                self._reopen()
