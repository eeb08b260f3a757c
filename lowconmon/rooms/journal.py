"""Send the container's output to systemd-journald, in its native protocol (JOURNAL_NATIVE_PROTOCOL).

Laws. Sending never blocks. While journald is slow the container waits, as on a full pipe, and
nothing is lost; that ends when it has taken nothing for 5 s. While it is gone or hangs, what was
read is kept (bounded), the rest is counted and told by an entry as soon as one can be sent; gone,
it is looked for every 100 ms.
"""

import errno
import posix as os

from .. import _syscalls
from ..pure.journal import Entries, common_fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Callable, Diagnostics, Loop, Sequence, Tally

SOCKET = b"/run/systemd/journal/socket"
_MAX_HELD = 65536  # bytes held before the container must wait
_MAX_TURN = 8  # calls before others have their turn
_RETRY_MS, _HANG_MS = 100, 5000
_SEALS = (
    _syscalls.F_SEAL_SHRINK | _syscalls.F_SEAL_GROW | _syscalls.F_SEAL_WRITE | _syscalls.F_SEAL_SEAL
)


class Journal:
    """The journal as a log of one container."""

    __slots__ = (
        *("_closed", "_diagnostics", "_entries", "_fd", "_hangs", "_head", "_lines", "_loop"),
        *("_lost", "_met", "_patience", "_retry", "_skip", "on_room"),
    )

    def __init__(  # noqa: PLR0913 - each argument an option
        self,
        loop: "Loop",
        diagnostics: "Diagnostics",
        cid: bytes,
        name: bytes | None,
        tag: bytes | None,
        labels: "Sequence[bytes]",
        *,
        mark_partial: bool,
        prefix_is_priority: bool,
    ) -> None:
        """*labels*: KEY=VALUE each; *prefix_is_priority*: a line's `<N>` sets PRIORITY."""
        self._loop, self._diagnostics = loop, diagnostics
        fields = common_fields(cid, name, tag, labels)
        self._entries = Entries(
            fields, mark_partial=mark_partial, prefix_is_priority=prefix_is_priority
        )
        self.on_room: Callable[[], object] = int  # called when `full` is no longer true
        self._head, self._lines, self._skip = b"", memoryview(b""), 0  # to be sent first, see take
        self._fd, self._lost = -1, 0  # messages that were warned about
        self._closed = self._hangs = self._met = False
        self._retry = self._patience = loop.call_later(0, int)

    def full(self) -> bool:
        """Tell whether the container's output should wait."""
        return self._entries.size >= _MAX_HELD and self._fd >= 0 and not self._hangs

    def holds(self) -> bool:
        """Tell whether entries wait to be sent, to a journald that was there once."""
        return bool(self._lines) and self._met

    def tally(self) -> "Tally":
        """Return messages and losses of each stream, bytes that wait, rotations."""
        lost, waiting = {b"": self._entries.lost}, self._entries.size + len(self._lines)
        return self._entries.counts, lost, waiting, 0

    def write(self, stream: bytes, _now_ns: int, data: bytes) -> None:
        """Send what one read brought from *stream*; the journal has its own time stamps."""
        if not self._closed:
            self._entries.add(stream, data)
            self._go_on()

    def finish(self) -> None:
        """Send what was held back in expectation of more: nothing comes any more."""
        if not self._closed:
            self._entries.finish()
            self._go_on()

    def reopen(self) -> None:
        """Do nothing: there is no file, and to sync one is journald's business."""

    sync = reopen

    def close(self) -> None:
        """Send what waits as long as journald takes it, for at most 5 s, and close the socket."""
        if not self._closed:
            self._closed = True
            self._loop.call_later(_HANG_MS, self.detach)
            self._flush()

    def detach(self) -> None:
        """Close the socket at once, and count what is lost."""
        was_full, self._closed = self.full(), True
        self._retry.cancel()
        self._patience.cancel()
        self._entries.drop()
        lost = self._entries.lost + bytes(self._lines).count(b"\n")
        if lost:
            self._diagnostics.warn(f"{lost} messages could not be written to the journal")
        self._fd, self._entries.lost = self._loop.discard(self._fd), 0
        self._lines = memoryview(b"")
        if was_full:
            self.on_room()

    def _go_on(self) -> None:
        if not self._lines:  # else the socket, or a timer, says when
            self._flush()
        if self._entries.lost > self._lost:
            self._lost = self._entries.lost
            self._diagnostics.warn("The journal takes nothing: messages are lost")

    def _flush(self) -> None:
        """Send what waits, as far as the socket takes it, and see to the rest."""
        was_full = self.full()
        self._retry.cancel()
        progress, blocked = self._send_some()
        if progress or self._fd < 0:
            self._patience.cancel()
            self._hangs = False
        if self._lines and blocked:
            self._loop.add_writer(self._fd, self._flush)
            if not self._patience.handler and not self._hangs:
                self._patience = self._loop.call_later(_HANG_MS, self._give_up)
        else:
            self._loop.remove_writer(self._fd)
            if self._lines:  # the turn is over, or journald is gone
                self._retry = self._loop.call_later(_RETRY_MS if self._fd < 0 else 0, self._flush)
        if was_full and not self.full():
            self.on_room()
        if self._closed and (self._fd < 0 or self._hangs or not self._lines):
            self.detach()

    def _send_some(self) -> tuple[bool, bool]:
        """Send for one turn; return whether the socket took anything, and whether it is full."""
        progress = blocked = False
        try:
            for turn in range(_MAX_TURN + 1):
                if not self._lines:
                    self._head, lines, self._skip = self._entries.take()
                    self._lines = memoryview(lines)
                if not self._lines or turn == _MAX_TURN:
                    break
                self._lines = self._lines[self._send() :]
                progress = True
        except BlockingIOError:
            blocked = True
        except OSError as error:
            self._diagnostics.warn("Failed to write to the journal", error)
            self._fd = self._loop.discard(self._fd)
        return progress, blocked

    def _give_up(self) -> None:
        """Hold up the container no longer, until the socket takes something."""
        was_full, self._hangs = self.full(), True
        if was_full:
            self.on_room()

    def _send(self) -> int:
        """Return how many bytes of the lines, at least one line, were sent; OSError: none."""
        fresh = self._fd < 0
        if fresh:
            self._fd = _syscalls.socket(_syscalls.AF_UNIX, _syscalls.SOCK_DGRAM)
            _syscalls.connect(self._fd, SOCKET)  # if that fails, `_send_some` closes it
            self._met = True
        try:
            how = self._head, _syscalls.MSG_DONTWAIT, self._skip
            return _syscalls.send_lines(self._fd, self._lines, *how)
        except OSError as error:
            if error.errno in (errno.EMSGSIZE, errno.ENOBUFS):
                return self._send_sealed()
            if error.errno == errno.EAGAIN or fresh:
                raise
        self._fd = self._loop.discard(self._fd)  # journald was started anew, with a new socket
        return self._send()

    def _send_sealed(self) -> int:
        """Send a line that is larger than the socket takes as a file that nobody can change."""
        line = bytes(self._lines).partition(b"\n")[0] + b"\n"
        datagram = memoryview(self._head + line[self._skip :])
        fd = _syscalls.memfd_create("journal", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            while datagram:
                datagram = datagram[_syscalls.write(fd, datagram) :]
            _syscalls.fcntl(fd, _syscalls.F_ADD_SEALS, _SEALS)
            _syscalls.send_fds(self._fd, b"", [fd], _syscalls.MSG_DONTWAIT)
        finally:
            _syscalls.close(fd)
        return len(line)
