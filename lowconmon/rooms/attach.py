"""Serve attach clients: the listening socket, each client's queue, and when stdin ends.

Laws. Sending never blocks; a client holds at most its queue, and while one is full only the reading
of the container's output waits. A client that went away is deaf, but what it sent is still read.
The container's stdin ends as the contract's section 7 says.
"""

import errno
import posix as os
from time import monotonic_ns

from .. import _syscalls
from .stdin import Stdin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Callable, Diagnostics, Loop

MAX_CLIENTS = 64
MAX_QUEUE = 1 << 20  # bytes
_PACKET = 8192  # bytes behind the type byte: podman reads 8193
_READ_COST = 128  # what a queued read costs beside its bytes
_BACKLOG = 10
_RETRY_MS, _FLUSH_MS = 100, 1000
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_GONE = {errno.EPIPE, errno.ECONNRESET, errno.ENOTCONN}


class Client:
    """One attached client; owns its socket."""

    __slots__ = ("deaf", "ended", "fd", "progress_ns", "queued", "reads", "sent")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.reads: list[tuple[bytes, memoryview]] = []  # (type of their packets, data)
        self.queued = 0
        self.progress_ns = 0  # when it last took something, or began to wait
        self.sent = self.ended = False  # it has sent input; it will send no more
        self.deaf = False  # it takes no more output


class Attach:
    """The attach socket and everyone who came through it."""

    __slots__ = (
        *("_clients", "_diagnostics", "_directory_fd", "_ending", "_flushed", "_link"),
        *("_listener_fd", "_loop", "_on_change", "_stall_ms", "ends_stdin", "stdin"),
    )

    def __init__(
        self, loop: "Loop", diagnostics: "Diagnostics", on_change: "Callable[[], object]"
    ) -> None:
        """*on_change* is called when `full` may have changed."""
        self._loop, self._diagnostics, self._on_change = loop, diagnostics, on_change
        self._listener_fd = self._directory_fd = -1
        self._link, self._stall_ms = b"", 0
        self._clients: list[Client] = []
        self._flushed: Callable[[], object] | None = None
        self.stdin = Stdin(loop, self._watch_all)
        self.ends_stdin = False  # --stdin without --leave-stdin-open and without a terminal
        self._ending = False  # a client has ended, and perhaps the container's input with it

    def listen(self, directory_fd: int, directory: bytes, link: bytes, stall_ms: int) -> None:
        """Listen at `attach` in the directory, linked from *link*; who stalls *stall_ms* goes."""
        self._directory_fd, self._stall_ms = directory_fd, stall_ms
        # Exactly this long, the link would stand where the socket's path is cut off.
        self._link = link[:-1] if len(link) == _syscalls.SUN_PATH_MAX else link
        self.unlink()
        kind = _syscalls.SOCK_SEQPACKET | _syscalls.SOCK_NONBLOCK
        self._listener_fd = fd = _syscalls.socket(_syscalls.AF_UNIX, kind)
        os.fchmod(fd, 0o700)  # before bind: the socket's file never has another mode
        # Through /proc the path is short, however long the directory's own is.
        _syscalls.bind(fd, b"/proc/self/fd/%d/attach" % directory_fd)
        _syscalls.listen(fd, _BACKLOG)
        self._loop.add_reader(fd, self._accept)
        if link:
            _syscalls.symlink(directory, self._link)
        if stall_ms:
            self._check_stalls()

    def unlink(self) -> None:
        """Remove the socket, or a stale one, and the link; who is attached stays."""
        for path, directory_fd in ((b"attach", self._directory_fd), (self._link, None)):
            if path and directory_fd != -1:
                self._diagnostics.remove("attach socket", path, directory_fd)

    def deliver(self, packet_type: bytes, data: bytes) -> bool:
        """Queue *data* for every client and send what they take; tell whether there is any."""
        if not self._clients:
            return False
        for client in self._clients.copy():
            # Only a drain delivers to a full client; past twice its share the rest is lost to it.
            if client.deaf or client.queued >= 2 * MAX_QUEUE:
                continue
            waits = bool(client.reads)
            client.reads.append((packet_type, memoryview(data)))
            client.queued += len(data) + _READ_COST
            if not waits:
                client.progress_ns = monotonic_ns()
                self._send(client)
        self._on_change()
        return True

    def full(self) -> bool:
        """Tell whether a client's queue is full."""
        return any(client.queued >= MAX_QUEUE for client in self._clients)

    def queues(self) -> list[dict[str, int]]:
        """Return what operators read of each client."""
        return [{"queued_bytes": client.queued} for client in self._clients]

    def close_listener(self) -> None:
        """Take no more clients, and nothing more for the container."""
        self._listener_fd = self._loop.discard(self._listener_fd)
        self.stdin.close()

    def flush(self, flushed: "Callable[[], object]") -> None:
        """Give each client what is queued, for at most a second, and its end; then call back."""
        self.close_listener()
        if not self._clients:
            flushed()
        self._flushed = flushed
        self._loop.call_later(_FLUSH_MS, self.detach)
        for client in self._clients.copy():
            if not client.reads:
                self._drop(client)

    def detach(self) -> None:
        """Let all clients go."""
        self._listener_fd = self._loop.discard(self._listener_fd)
        for client in self._clients.copy():
            self._drop(client)
        if self._flushed:  # also when it was the end of a client that failed
            self._flushed()

    def _accept(self) -> None:
        try:
            fd = _syscalls.accept4(self._listener_fd, _syscalls.SOCK_NONBLOCK)
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as error:
            if error.errno not in _OUT_OF_RESOURCES:
                raise
            self._diagnostics.warn("Failed to accept client connection on attach socket", error)
            self._loop.remove(self._listener_fd)
            self._loop.call_later(_RETRY_MS, self._accept_again)
            return
        if len(self._clients) >= MAX_CLIENTS:
            self._diagnostics.warn("too many attach clients")
            _syscalls.close(fd)
            return
        self._clients.append(Client(fd))
        try:
            self._watch(self._clients[-1])
        except OSError as error:  # ENOSPC, ENOMEM: epoll takes no more
            self._diagnostics.warn("Failed to watch a client of the attach socket", error)
            self._drop(self._clients[-1])

    def _accept_again(self) -> None:
        if self._listener_fd >= 0:
            self._loop.add_reader(self._listener_fd, self._accept)

    def _watch(self, client: Client) -> None:
        if client.ended or not self.stdin.has_room():
            self._loop.remove_reader(client.fd)
        else:
            self._loop.add_reader(client.fd, lambda: self._receive(client))
        self._loop.add_hangup(client.fd, lambda: self._hung_up(client))

    def _watch_all(self) -> None:
        self._try_end_stdin()
        for client in self._clients:
            self._watch(client)

    def _receive(self, client: Client) -> None:
        try:
            size = self.stdin.pass_on(client.fd)
        except BlockingIOError:
            return
        except ConnectionResetError:  # told once, before what the client sent and its end
            self._receive(client)
            return
        if size:
            client.sent = True
            if not self.stdin.has_room():
                self._watch_all()
        elif client.deaf:
            self._drop(client)
        else:  # it may still listen
            self._loop.remove_reader(client.fd)
            self._end(client)

    def _hung_up(self, client: Client) -> None:
        self._deafen(client)
        if client.ended:
            self._drop(client)
        elif self.stdin.has_room():
            self._receive(client)
        else:  # what it sent can be read later, and the hang-up would be reported all the time
            self._loop.remove(client.fd)

    def _end(self, client: Client) -> None:
        """Expect no more from *client*."""
        if not client.ended:
            client.ended, self._ending = True, self.ends_stdin
            self._try_end_stdin()

    def _try_end_stdin(self) -> None:
        """End the container's input if all is delivered and nobody who has sent is left."""
        if not self._ending or not self.stdin.has_room():
            return
        self._ending = False
        for client in self._clients.copy():
            # What lies unread in a socket was sent; reading on without room would overwrite.
            if not client.sent and not client.ended and self.stdin.has_room():
                self._receive(client)
        if self.ends_stdin and not any(one.sent and not one.ended for one in self._clients):
            self.ends_stdin = False
            self.stdin.close()

    def _send(self, client: Client) -> None:
        try:
            while client.reads:
                kind, data = client.reads[0]
                flags = _syscalls.MSG_DONTWAIT
                sent = _syscalls.send_pieces(client.fd, data, kind, _PACKET, flags)
                client.reads[0] = kind, data[sent:]
                if sent == len(data):
                    del client.reads[0]
                    sent += _READ_COST
                client.queued -= sent
                client.progress_ns = monotonic_ns()
        except BlockingIOError:
            self._loop.add_writer(client.fd, lambda: self._send(client))
        except OSError as error:
            if error.errno not in _GONE:
                self._diagnostics.warn("Failed to write to socket", error)
            self._deafen(client)
        if not client.reads:
            self._loop.remove_writer(client.fd)
            if self._flushed or (client.deaf and client.ended):
                self._drop(client)
        self._on_change()

    def _deafen(self, client: Client) -> None:
        client.deaf, client.queued = True, 0
        client.reads.clear()
        self._on_change()

    def _check_stalls(self) -> None:
        limit_ns = monotonic_ns() - self._stall_ms * 1_000_000
        for client in self._clients.copy():
            if client.reads and client.progress_ns <= limit_ns:
                self._diagnostics.warn("an attach client took nothing for too long: detached")
                self._drop(client)
        if self._listener_fd >= 0:
            self._loop.call_later(self._stall_ms / 4, self._check_stalls)

    def _drop(self, client: Client) -> None:
        if client.fd < 0:  # the end of another has ended it, too
            return
        fd, client.fd = client.fd, -1
        self._clients.remove(client)
        self._deafen(client)
        self._loop.remove(fd)
        try:
            # A socket closed with unread input resets the connection, and the client loses what
            # it has not read yet. So: no more input, read what is there, then close.
            _syscalls.shutdown(fd)
            while _syscalls.readv(fd, [bytearray(1)]):
                pass
        except OSError as error:
            if error.errno not in _GONE:
                self._diagnostics.warn("Failed to end an attach client", error)
        _syscalls.close(fd)
        if self._flushed and not self._clients:
            self._flushed()
        self._end(client)
