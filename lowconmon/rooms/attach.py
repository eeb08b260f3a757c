"""Serve attach clients: the listening socket, each client's queue, and what they type.

Laws. Sending never blocks; a client holds at most its queue, and while one is full only the reading
of the container's output waits. What clients send passes through one buffer, so while the container
does not take it no client is read. The container's stdin ends as the contract's section 7 says.
"""

import errno
import os
from time import monotonic_ns

from .. import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..loop import Loop
    from .diagnostics import Diagnostics

    Packet = tuple[bytes, memoryview]

MAX_CLIENTS = 64
MAX_QUEUE = 1 << 20  # bytes
_PACKET, _INPUT = 8192, 32768
_PACKET_COST = 128  # what a queued packet costs beside its bytes
_BACKLOG = 10
_RETRY_MS = 100
_FLUSH_MS = 1000
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Client:
    """One attached client; owns its socket."""

    __slots__ = ("deaf", "ended", "fd", "packets", "progress_ns", "queued", "sent")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.packets: list[Packet] = []
        self.queued = 0
        self.progress_ns = 0  # when it last took something
        self.sent = False  # it has sent input
        self.ended = False  # it will send no more
        self.deaf = False  # it takes no more output, but what it sent is still to be read

    def send(self) -> None:
        """Send as much of the queue as the socket takes. Raises OSError, BlockingIOError too."""
        while self.packets:
            count = _syscalls.sendmmsg(self.fd, self.packets[:64], _syscalls.MSG_DONTWAIT)
            self.queued -= sum(len(part) + _PACKET_COST for _, part in self.packets[:count])
            del self.packets[:count]
            self.progress_ns = monotonic_ns()

    def forget_output(self) -> None:
        """Take no more output."""
        self.deaf = True
        self.packets.clear()
        self.queued = 0


class Input:
    """The container's stdin or terminal, and the one buffer on the way there."""

    __slots__ = ("_buffer", "_loop", "_on_room", "_waiting", "expected", "fd", "terminal")

    def __init__(self, loop: "Loop", on_room: "Callable[[], object]") -> None:
        self._loop = loop
        self._on_room = on_room
        self._buffer = bytearray(_INPUT)
        self._waiting = memoryview(b"")
        self.expected = False  # a terminal will come: what is typed waits for it
        self.fd = -1  # -1: what clients send is read and dropped
        self.terminal = False

    def open(self, fd: int, *, terminal: bool) -> None:
        """Take over the writing end *fd*, which is ours alone."""
        os.set_blocking(fd, False)
        self.fd, self.terminal, self.expected = fd, terminal, False
        self._on_room()

    def has_room(self) -> bool:
        """Tell whether a client may be read."""
        return not self._waiting and not self.expected

    def pass_on(self, client_fd: int) -> int:
        """Read one packet of a client and write it on; return its size. Raises OSError of the read."""
        size = _syscalls.readv(client_fd, [self._buffer])
        if self.fd >= 0:
            self._waiting = memoryview(self._buffer)[:size]
            self._write()
        return size

    def close(self) -> None:
        """End the container's input; what it has not taken is dropped, as is what still comes."""
        if self.fd >= 0:
            self._loop.remove_writer(self.fd)
            if not self.terminal:  # the terminal's descriptor is also its output's
                _syscalls.close(self.fd)
        self.fd, self._waiting, self.expected = -1, memoryview(b""), False
        self._on_room()

    def _write(self) -> None:
        try:
            while self._waiting:
                self._waiting = self._waiting[_syscalls.write(self.fd, self._waiting) :]
        except BlockingIOError:
            self._loop.add_writer(self.fd, self._write_on)
            return
        except OSError as error:
            # EPIPE: the container closed its stdin; EIO: its terminal hung up.
            if error.errno not in {errno.EPIPE, errno.EIO}:
                raise
            self._waiting = memoryview(b"")
            if not self.terminal:
                self.close()
        if self.fd >= 0:
            self._loop.remove_writer(self.fd)

    def _write_on(self) -> None:
        self._write()
        if self.has_room():
            self._on_room()


class Attach:
    """The attach socket and everyone who came through it."""

    __slots__ = (
        *("_clients", "_close_when_delivered", "_diagnostics", "_flushed", "_listener_fd"),
        *("_loop", "_on_change", "_stall_ns", "_was_full", "ends_stdin", "input"),
    )

    def __init__(
        self, loop: "Loop", diagnostics: "Diagnostics", on_change: "Callable[[], object]"
    ) -> None:
        """*on_change* is called when `full` changes."""
        self._loop = loop
        self._diagnostics = diagnostics
        self._on_change = on_change
        self._listener_fd = -1
        self._clients: list[Client] = []
        self._was_full = False
        self._flushed: Callable[[], object] | None = None
        self._close_when_delivered = False
        self._stall_ns = 0
        self.input = Input(loop, self._watch_all)
        self.ends_stdin = False  # --stdin without --leave-stdin-open and without a terminal

    def listen(self, directory_fd: int, stall_ms: int) -> None:
        """Listen at `attach` in the directory; clients that stall for *stall_ms* (0: no) go."""
        self._stall_ns = stall_ms * 1_000_000
        kind = _syscalls.SOCK_SEQPACKET | _syscalls.SOCK_NONBLOCK
        fd = _syscalls.socket(_syscalls.AF_UNIX, kind)
        try:
            os.fchmod(fd, 0o700)  # before bind: the socket's file never has another mode
            # Through /proc the path is short, however long the directory's own is.
            _syscalls.bind(fd, b"/proc/self/fd/%d/attach" % directory_fd)
            _syscalls.listen(fd, _BACKLOG)
            self._loop.add_reader(fd, self._accept)
        except BaseException:
            _syscalls.close(fd)
            raise
        self._listener_fd = fd

    def deliver(self, packet_type: bytes, data: bytes) -> None:
        """Queue *data* for every client and send what they take."""
        if not self._clients:
            return
        view = memoryview(data)
        packets = [
            (packet_type, view[start : start + _PACKET]) for start in range(0, len(data), _PACKET)
        ]
        cost = len(data) + _PACKET_COST * len(packets)
        for client in self._clients.copy():
            # Only a drain delivers to a full client; past twice its share the rest is lost to it.
            if client.deaf or client.queued >= 2 * MAX_QUEUE:
                continue
            waits = bool(client.packets)
            client.packets += packets
            client.queued += cost
            if not waits:
                client.progress_ns = monotonic_ns()
                self._send(client)
            self._tell_full()

    def full(self) -> bool:
        """Tell whether a client's queue is full."""
        return self._was_full

    def close_listener(self) -> None:
        """Take no more clients."""
        if self._listener_fd >= 0:
            self._loop.remove(self._listener_fd)
            _syscalls.close(self._listener_fd)
        self._listener_fd = -1

    def flush(self, flushed: "Callable[[], object]") -> None:
        """Give each client what is queued, for at most a second, and its end; then call back."""
        self.close_listener()
        self.input.close()
        self._flushed = flushed
        for client in self._clients.copy():
            if not client.packets:
                self._drop(client)
        self._loop.call_later(_FLUSH_MS, self._give_up)
        self._check_flushed()

    def detach(self) -> None:
        """Let all clients go."""
        self.close_listener()
        self._give_up()

    def _give_up(self) -> None:
        for client in self._clients.copy():
            self._drop(client)
        self._check_flushed()

    def _check_flushed(self) -> None:
        flushed = self._flushed
        if flushed and not self._clients:
            self._flushed = None
            flushed()

    def _accept(self) -> None:
        try:
            fd = _syscalls.accept4(self._listener_fd, _syscalls.SOCK_NONBLOCK)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno in _OUT_OF_RESOURCES:
                self._diagnostics.warn("Failed to accept client connection on attach socket", error)
                self._loop.remove(self._listener_fd)
                self._loop.call_later(_RETRY_MS, self._accept_again)
                return
            if error.errno == errno.ECONNABORTED:
                return
            raise
        if len(self._clients) >= MAX_CLIENTS:
            self._diagnostics.warn("too many attach clients")
            _syscalls.close(fd)
            return
        client = Client(fd)
        self._clients.append(client)
        self._watch(client)

    def _accept_again(self) -> None:
        if self._listener_fd >= 0:
            self._loop.add_reader(self._listener_fd, self._accept)

    # What clients send

    def _watch(self, client: Client) -> None:
        if client.ended or not self.input.has_room():
            self._loop.remove_reader(client.fd)
        else:
            self._loop.add_reader(client.fd, lambda: self._receive(client))
        self._loop.add_hangup(client.fd, lambda: self._hung_up(client))

    def _watch_all(self) -> None:
        if self._close_when_delivered and self.input.has_room():
            self._close_when_delivered = self.ends_stdin = False
            self.input.close()
        for client in self._clients:
            self._watch(client)

    def _receive(self, client: Client) -> None:
        try:
            size = self.input.pass_on(client.fd)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ECONNRESET:
                raise
            size = 0
        if size == 0:
            self._end(client)
            return
        client.sent = True
        if not self.input.has_room():
            self._watch_all()

    def _hung_up(self, client: Client) -> None:
        client.forget_output()
        self._tell_full()
        if client.ended:
            self._drop(client)
        elif self.input.has_room():
            self._receive(client)
        else:  # what it sent can be read later, and the hang-up would be reported all the time
            self._loop.remove(client.fd)

    def _end(self, client: Client) -> None:
        """Take *client*'s end: it says no more, and may still listen."""
        client.ended = True
        if client.deaf:
            self._drop(client)
        else:
            self._watch(client)
        if self.ends_stdin and not any(one.sent and not one.ended for one in self._clients):
            self._close_when_delivered = True
            self._watch_all()

    # What clients get

    def _send(self, client: Client) -> None:
        try:
            client.send()
        except BlockingIOError:
            self._loop.add_writer(client.fd, lambda: self._send_on(client))
            self._watch_stall(client)
        except OSError as error:
            # EPIPE, ECONNRESET: it went away; what it sent before is still read
            if error.errno not in {errno.EPIPE, errno.ECONNRESET}:
                self._diagnostics.warn("Failed to write to socket", error)
            client.forget_output()
            if client.ended or self._flushed:
                self._drop(client)
        else:
            if self._flushed:
                self._drop(client)

    def _send_on(self, client: Client) -> None:
        self._loop.remove_writer(client.fd)
        self._send(client)
        self._tell_full()

    def _tell_full(self) -> None:
        full = any(client.queued >= MAX_QUEUE for client in self._clients)
        if full != self._was_full:
            self._was_full = full
            self._on_change()

    def _watch_stall(self, client: Client) -> None:
        if self._stall_ns:
            due_ns = client.progress_ns + self._stall_ns - monotonic_ns()
            self._loop.call_later(due_ns / 1_000_000, lambda: self._check_stall(client))

    def _check_stall(self, client: Client) -> None:
        if not client.packets:
            return
        if monotonic_ns() - client.progress_ns >= self._stall_ns:
            self._diagnostics.warn("an attach client took nothing for too long and was detached")
            self._drop(client)
            self._tell_full()
        else:
            self._watch_stall(client)

    def _drop(self, client: Client) -> None:
        self._clients.remove(client)
        client.forget_output()
        self._loop.remove(client.fd)
        try:
            # A socket closed with unread input resets the connection, and the client loses what
            # it has not read yet. So: no more input, read what is there, then close.
            _syscalls.shutdown(client.fd)
            while _syscalls.readv(client.fd, [bytearray(1)]):
                pass
        except OSError as error:
            # ENOTCONN, ECONNRESET: it is gone already
            if error.errno not in {errno.ENOTCONN, errno.ECONNRESET, errno.EAGAIN}:
                raise
        finally:
            _syscalls.close(client.fd)
            client.fd = -1
        self._check_flushed()
