"""Own the way to the container's stdin or terminal, and the one buffer on it.

What clients send passes from their sockets into the buffer and on, never through bytes objects;
while the container has not taken what the buffer holds, nobody is read.
"""

import errno
import posix

from .. import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Callable, Loop

MAX_PACKET = 32768  # what is longer is cut
_EMPTY = memoryview(b"")


class Stdin:
    """The container's stdin; without one, or when it is closed, what comes is read and dropped."""

    __slots__ = ("_buffer", "_fd", "_loop", "_on_room", "_waiting", "expected")

    def __init__(self, loop: "Loop", on_room: "Callable[[], object]") -> None:
        self._loop, self._on_room = loop, on_room  # called when `has_room` may have become true
        self._buffer = bytearray(MAX_PACKET)
        self._waiting = _EMPTY  # the part of the buffer that the container has not taken
        self._fd = -1
        self.expected = False  # a terminal will come: what is typed waits for it

    def open(self, fd: int, *, terminal: bool) -> None:
        """Take over the writing end *fd*, which is ours alone; a terminal stays its reader's."""
        # Of a terminal we take a duplicate: its reader closes and unwatches its own as it likes.
        self._fd, self.expected = posix.dup(fd) if terminal else fd, False
        posix.set_blocking(fd, False)
        self._on_room()

    def has_room(self) -> bool:
        """Tell whether a client may be read."""
        return not self._waiting and not self.expected

    def pass_on(self, client_fd: int) -> int:
        """Read one packet of a client and write it on; return its size. Raises OSError of the read."""
        size = _syscalls.readv(client_fd, [self._buffer])
        if size and self._fd >= 0:
            self._waiting = memoryview(self._buffer)[:size]
            self._write()
        return size

    def close(self) -> None:
        """End the container's input; what it has not taken is dropped, as is what still comes."""
        self._fd, self._waiting, self.expected = self._loop.discard(self._fd), _EMPTY, False
        self._on_room()

    def _write(self) -> None:
        try:
            while self._waiting:
                self._waiting = self._waiting[_syscalls.write(self._fd, self._waiting) :]
        except BlockingIOError:
            self._loop.add_writer(self._fd, self._write_on)
        except BrokenPipeError:  # the container closed its stdin
            self.close()
        except OSError as error:
            if error.errno != errno.EIO:  # EIO: nobody has the terminal open
                raise
            self._waiting = _EMPTY

    def _write_on(self) -> None:
        self._loop.remove_writer(self._fd)
        self._write()
        if not self._waiting:
            self._on_room()
