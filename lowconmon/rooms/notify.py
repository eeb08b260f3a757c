"""Relay the container's sd_notify(3) datagrams to its manager's socket.

Laws. Neither side can block us: one datagram is read a turn; what the manager's socket does not take
is held, bounded, and tried again for 5 s; what is too much or too late is lost, with a warning.
Descriptors that come along never become ours: the kernel closes them, and may not linger over it.
"""

import errno
import posix as os

from .. import _syscalls
from ..pure.notify import passed_on

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Diagnostics, Loop

_NAME = b"notify.sock"
_MAX_DATAGRAM = 65536  # bytes
_MAX_HELD = 32  # datagrams
_RETRY_MS, _MAX_TRIES = 100, 50  # 5 s
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_KIND = _syscalls.SOCK_DGRAM | _syscalls.SOCK_NONBLOCK


class Notify:
    """The bundle's `notify/notify.sock`, which the container sees, and the way to the manager's."""

    __slots__ = (
        *("_diagnostics", "_directory_fd", "_fd", "_held", "_loop", "_manager", "_manager_fd"),
        "_tries",
    )

    def __init__(self, loop: "Loop", diagnostics: "Diagnostics") -> None:
        self._loop, self._diagnostics = loop, diagnostics
        self._directory_fd = self._fd = self._manager_fd = -1
        self._manager = b""
        self._held: list[bytes] = []  # while there are any, `_send` is about to be called
        self._tries = 0

    def listen(self, bundle: bytes, manager: bytes) -> None:
        """Take datagrams at *bundle*'s socket for the one at *manager*. Raises OSError."""
        self._manager = b"\0" + manager[1:] if manager.startswith(b"@") else manager
        self._directory_fd = _syscalls.open(bundle + b"/notify", _DIRECTORY)
        try:
            _syscalls.unlink(_NAME, dir_fd=self._directory_fd)
        except FileNotFoundError:  # the usual case
            pass
        self._manager_fd = _syscalls.socket(_syscalls.AF_UNIX, _KIND)
        self._fd = _syscalls.socket(_syscalls.AF_UNIX, _KIND)
        # By umask and not by chmod, which would follow a symlink that a container puts there.
        umask = os.umask(0)
        try:  # through /proc the path is short, however long the bundle's own is
            _syscalls.bind(self._fd, b"/proc/self/fd/%d/%b" % (self._directory_fd, _NAME))
        finally:
            os.umask(umask)
        self._loop.add_reader(self._fd, self._read)

    def close(self) -> None:
        """Pass on what the container has left in the socket, and remove it."""
        if self._fd >= 0:
            _syscalls.shutdown(self._fd)  # grandchildren may never stop sending
            while self._read():
                pass
        self.detach()

    def detach(self) -> None:
        """Remove the socket; what is held may still go out."""
        self._fd = self._loop.discard(self._fd)
        if self._directory_fd >= 0:
            self._diagnostics.remove("notify socket", _NAME, self._directory_fd)
        self._directory_fd = self._loop.discard(self._directory_fd)
        if not self._held:
            self._manager_fd = self._loop.discard(self._manager_fd)

    def _read(self) -> bool:
        """Pass one datagram on; tell whether there was one."""
        try:
            datagram = _syscalls.read_only_data(self._fd, _MAX_DATAGRAM + 1)
        except BlockingIOError:
            return False
        message = passed_on(datagram)
        if len(datagram) > _MAX_DATAGRAM or (message and len(self._held) >= _MAX_HELD):
            self._warn()
        elif message:
            self._held.append(message)
            if len(self._held) == 1:
                self._send()
        return True

    def _send(self) -> None:
        """Send what is held as far as the manager takes it, and see to the rest."""
        try:
            while self._held:
                _syscalls.connect(self._manager_fd, self._manager)  # anew: it may be another by now
                _syscalls.send(self._manager_fd, self._held[0], _syscalls.MSG_DONTWAIT)
                del self._held[0]
                self._tries = 0
        except OSError as error:
            self._tries += 1
            if self._tries < _MAX_TRIES:
                self._loop.call_later(_RETRY_MS, self._send)
                return
            self._warn(error if error.errno != errno.EAGAIN else None)
            self._held.clear()
            self._tries = 0
        if self._fd < 0:
            self._manager_fd = self._loop.discard(self._manager_fd)

    def _warn(self, error: OSError | None = None) -> None:
        self._diagnostics.warn("Failed to pass on what the container notifies", error)
