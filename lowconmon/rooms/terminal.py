"""Receive the container's terminal from the runtime, and size it.

The console socket lies in a fresh directory that only we can enter, takes one connection and one
descriptor, and is removed on every way out.
"""

import errno
import posix

from .. import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Callable, Diagnostics, Loop


class Terminal:
    """The console socket first, the master of the terminal afterwards."""

    __slots__ = ("_diagnostics", "_directory", "_fd", "_loop", "_on_master", "_size", "master_fd")

    def __init__(
        self, loop: "Loop", diagnostics: "Diagnostics", on_master: "Callable[[str], object]"
    ) -> None:
        """*on_master* is told once: "terminal_received", or "terminal_refused" for what is none."""
        self._loop, self._diagnostics, self._on_master = loop, diagnostics, on_master
        self._directory = b""  # of the socket, while nobody has connected
        self._fd = self.master_fd = -1  # *_fd*: the socket, then the connection
        self._size: tuple[int, int] | None = None

    def listen(self, parents: list[bytes]) -> bytes:
        """Make the socket below the first of *parents* that can hold it; return its path."""
        kind = _syscalls.SOCK_STREAM | _syscalls.SOCK_NONBLOCK
        failure = OSError(errno.ENAMETOOLONG, posix.strerror(errno.ENAMETOOLONG))
        for parent in parents:
            directory = parent + b"/.conmon-" + posix.urandom(4).hex().encode()
            path = directory + b"/console"
            if len(path) > _syscalls.SUN_PATH_MAX or not parent.startswith(b"/"):
                continue
            try:
                _syscalls.mkdir(directory, 0o700)
                self._directory = directory
                self._fd = _syscalls.socket(_syscalls.AF_UNIX, kind)
                _syscalls.bind(self._fd, path)
                _syscalls.listen(self._fd, 1)
                self._loop.add_reader(self._fd, self._accept)
            except OSError as error:
                failure = error
                self.close()
            else:
                return path
        raise failure

    def collect(self) -> None:
        """Take what the runtime, which has ended, may have left in the socket."""
        if self._directory:
            self._accept()
        if self._fd >= 0 and not self._directory:
            self._receive()

    def resize(self, rows: int, columns: int) -> None:
        """Size the terminal, or the one that will come."""
        self._size = (rows, columns)
        if self.master_fd >= 0:
            try:
                _syscalls.set_winsize(self.master_fd, rows, columns)
            except OSError as error:
                self._diagnostics.warn("Failed to set process pty terminal size", error)

    def close(self) -> None:
        """Remove the socket; the master stays with who adopted it."""
        self._fd = self._loop.discard(self._fd)
        directory, self._directory = self._directory, b""
        for remove, path in (
            (_syscalls.unlink, directory + b"/console"),
            (_syscalls.rmdir, directory),
        ):
            try:
                if directory:
                    remove(path)
            except OSError as error:
                if error.errno != errno.ENOENT:  # never made, or somebody removed the bundle
                    self._diagnostics.warn("Failed to remove console socket", error)

    detach = close

    def _accept(self) -> None:
        try:
            fd = _syscalls.accept4(self._fd, _syscalls.SOCK_NONBLOCK)
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:  # EMFILE, ENOMEM: the runtime meets a closed socket, and fails
            self._diagnostics.warn("Failed to accept console socket connection", error)
            self.close()
            return
        if _syscalls.peer_uid(fd) not in {0, posix.geteuid()}:
            self._diagnostics.warn("a stranger connected to the console socket")
            _syscalls.close(fd)
            return
        self.close()  # nobody else has business here
        self._fd = fd
        self._loop.add_reader(fd, self._receive)

    def _receive(self) -> None:
        try:
            _, fds, _ = _syscalls.recv_fds(self._fd, 4096, 1)
        except BlockingIOError:
            return
        except ConnectionResetError:
            fds = []
        self.close()
        for fd in fds:
            try:
                _syscalls.set_oflag(fd, _syscalls.get_oflag(fd) | _syscalls.ONLCR)
                self.master_fd = fd
            except OSError as error:  # ENOTTY: no terminal at all
                self._diagnostics.warn("Failed to get console terminal settings", error)
                _syscalls.close(fd)
        if self._size:
            self.resize(*self._size)
        self._on_master("terminal_received" if self.master_fd >= 0 else "terminal_refused")
