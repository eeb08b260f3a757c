"""Answer who asks how the monitor is: the socket `status` of the bundle.

Laws. A connection is one request and one answer, a packet each; who may ask is the file's mode.
Nothing depends on it and nothing blocks: at most MAX_CLIENTS are waited for, the oldest goes when
one more comes, and 100 a second are let in.
"""

import posix as os

from .. import _syscalls
from ..pure.answers import json
from ..pure.records import stamp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Any, Callable, Diagnostics, Loop, Options

MAX_CLIENTS = 8
_MAX_NAME = 1024  # bytes: an answer must fit a packet
_PAUSE_MS = 10


class StatusSocket:
    """The socket, and those who came and have not asked yet."""

    __slots__ = (
        *("_clients", "_describe", "_diagnostics", "_directory_fd", "_fd", "_loop", "_options"),
    )

    def __init__(
        self,
        loop: "Loop",
        diagnostics: "Diagnostics",
        options: "Options",
        describe: "Callable[[], dict[str, Any]]",
    ) -> None:
        """*describe* gives what an answer tells of this moment."""
        self._loop, self._diagnostics = loop, diagnostics
        self._options, self._describe = options, describe
        self._fd = self._directory_fd = -1
        self._clients: list[int] = []

    def listen(self, directory_fd: int) -> None:
        """Listen at `status` in the directory (-1: nowhere); where that fails, do without."""
        self._directory_fd = directory_fd
        if directory_fd < 0:
            return
        self._diagnostics.remove("status socket", b"status", directory_fd)
        try:
            kind = _syscalls.SOCK_SEQPACKET | _syscalls.SOCK_NONBLOCK
            self._fd = _syscalls.socket(_syscalls.AF_UNIX, kind)
            os.fchmod(self._fd, 0o700)  # as the attach socket: its mode, and a path of any length
            _syscalls.bind(self._fd, b"/proc/self/fd/%d/status" % directory_fd)
            _syscalls.listen(self._fd, MAX_CLIENTS)
            self._loop.add_reader(self._fd, self._accept)
        except OSError as error:
            self._diagnostics.warn("Failed to create status socket", error)
            self.close()

    def close(self) -> None:
        """Remove the socket; who has not asked yet gets no answer."""
        if self._fd >= 0:
            self._fd = self._loop.discard(self._fd)
            self._diagnostics.remove("status socket", b"status", self._directory_fd)
        while self._clients:
            self._loop.discard(self._clients.pop())

    detach = close

    def _accept(self) -> None:
        self._loop.remove(self._fd)  # for a pause: a flood costs little
        self._loop.call_later(_PAUSE_MS, self._accept_again)
        try:
            fd = _syscalls.accept4(self._fd, _syscalls.SOCK_NONBLOCK)
        except OSError as error:  # it is gone again, or no descriptor is left: look again
            self._diagnostics.debug("Failed to accept on status socket", error)
            return
        if len(self._clients) >= MAX_CLIENTS:
            self._loop.discard(self._clients.pop(0))
        self._clients.append(fd)
        self._loop.add_reader(fd, lambda: self._answer(fd))

    def _accept_again(self) -> None:
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._accept)

    def _facts(self) -> "dict[str, Any]":
        options = self._options
        return {
            "version": 1,
            "cid": (options.cid or b"")[:_MAX_NAME],
            "name": options.name and options.name[:_MAX_NAME],
            "exec": options.exec,
            "terminal": options.terminal,
            "monitor_pid": os.getpid(),
            **self._describe(),
            "errors": [{"at": stamp(at, 0), "text": text} for at, text in self._diagnostics.recent],
        }

    def _answer(self, fd: int) -> None:
        self._clients.remove(fd)
        try:
            known = _syscalls.read(fd, 64).strip() == b"status"
            answer = self._facts() if known else {"error": "unknown request"}
            _syscalls.send(fd, json(answer).encode() + b"\n", _syscalls.MSG_DONTWAIT)
        except OSError as error:  # it is gone
            self._diagnostics.debug("Failed to answer on status socket", error)
        self._loop.discard(fd)
