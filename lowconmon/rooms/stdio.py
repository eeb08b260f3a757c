"""Hold the container's stdout and stderr: read, pass on, wait when told to, drain at the end.

Laws. What is read goes to the log first, then to the clients. While a peer is full only the reading
waits, so that the container feels a full pipe and nothing is lost. Until the start has succeeded
the runtime's words are held back; a drain reads on whoever is full, and ends in bounded time.
Where nobody is attached, small reads in quick succession are put off for a millisecond: few large
ones are cheaper.
"""

import errno
import posix as os
from time import monotonic_ns, time_ns

from .. import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Callable, Loop

READ_SIZE = 1 << 17
_SMALL = max(1 << 12, os.sysconf("SC_PAGE_SIZE"))  # asked for first: a packet of O_DIRECT fits
_FEW = 1 << 15  # bytes; a read that brings fewer ...
_REST_MS, _REST_NS = 1, 1_000_000  # ... so soon after the last one is followed by a rest
_WIDE = 1 << 18  # bytes that a pipe under load holds
_MAX_HELD = 1 << 22  # bytes a stream, before the start succeeded; the last ones count
_QUIET_NS, _LIMIT_NS = 100_000_000, 1_000_000_000
_KEPT = 1 << 21  # bytes of freed memory kept under load; a full read and its framing take 512 KiB
_MAPPED = 1 << 19  # what is larger is not kept: the most that a 32-bit C library lets us say
_LOAD = 1 << 20  # bytes read since it was given back that make it worth a look
_HANGUP_MS, _CALM_MS = 100, 1000


class Stream:
    """One of the container's outputs; owns its descriptor."""

    __slots__ = ("fd", "held", "held_bytes", "name", "packet_type", "size", "terminal", "width")

    def __init__(self, name: bytes, packet_type: bytes, fd: int, *, terminal: bool) -> None:
        self.name, self.packet_type = name, packet_type  # in attach packets: 2 stdout, 3 stderr
        self.fd, self.terminal = fd, terminal
        self.held: list[tuple[int, bytes]] = []  # (read at, data)
        self.held_bytes, self.size = 0, _SMALL  # size: of the next read
        self.width = 0  # of the pipe, once it was widened: before that


class Stdio:
    """The container's outputs; *deliver* gets each read as (stream, time in ns, data)."""

    __slots__ = (
        *("_deliver", "_drain_until", "_drained", "_holding", "_last_read_ns", "_load", "_loop"),
        *("_may_widen", "_paused", "_streams", "sizes"),
    )

    def __init__(
        self,
        loop: "Loop",
        deliver: "Callable[[Stream, int, bytes], bool]",
        may_widen: "Callable[[], bool]" = bool,
    ) -> None:
        """*deliver* tells whether a client waits for more, *may_widen* if a pipe may hold more."""
        self._loop, self._deliver, self._may_widen = loop, deliver, may_widen
        self._streams: list[Stream] = []
        self.sizes: dict[bytes, int] = {}  # bytes that came of each stream
        self._paused, self._holding = False, True
        self._drained: Callable[[], object] | None = None
        self._drain_until = self._last_read_ns = self._load = 0
        try:
            _syscalls.mallopt(_syscalls.M_MMAP_THRESHOLD, _MAPPED)
            _syscalls.mallopt(_syscalls.M_TRIM_THRESHOLD, _KEPT)
        except OSError:  # EINVAL: another allocator was preloaded, and has its own ways
            pass

    def add(self, name: bytes, packet_type: bytes, fd: int, *, terminal: bool = False) -> None:
        """Take over the reading end *fd*, which is ours alone, and read it."""
        os.set_blocking(fd, False)
        stream = Stream(name, packet_type, fd, terminal=terminal)
        self._streams.append(stream)
        # A terminal waits for the start: nothing the runtime says comes through it.
        if not (terminal and self._holding):
            self._resume(stream)

    def held_tail(self, size: int) -> bytes:
        """Read what the runtime has left on stderr and return its last *size* bytes."""
        streams = [stream for stream in self._streams if stream.name == b"stderr"]
        turns = _MAX_HELD // READ_SIZE  # who floods on says nothing of the start
        while turns and any(self._read(stream) for stream in streams):
            turns -= 1
        return b"".join(data for stream in streams for _, data in stream.held)[-size:]

    def release(self) -> None:
        """Pass on what was held; from now on pass on at once."""
        self._holding = False
        held = [(when, stream, data) for stream in self._streams for when, data in stream.held]
        for when, stream, data in sorted(held, key=lambda item: item[0]):
            self._deliver(stream, when, data)
        for stream in self._streams:
            stream.held.clear()
            self._resume(stream)

    def pause(self, paused: bool) -> None:  # noqa: FBT001 - its only argument
        """Stop or go on reading; has no effect on a drain."""
        if paused != self._paused:
            self._paused = paused
            for stream in self._streams:
                self._resume(stream)

    def drain(self, drained: "Callable[[], object]") -> None:
        """Read until all streams have ended, or 100 ms brought nothing, or 1 s; then call back."""
        self._drained = drained
        self._last_read_ns = monotonic_ns()
        self._drain_until = self._last_read_ns + _LIMIT_NS
        for stream in self._streams:
            self._resume(stream)
        self._check_drained()

    def close(self) -> None:
        """Close what is still open."""
        for stream in self._streams:
            stream.fd = self._loop.discard(stream.fd)

    def detach(self) -> None:
        """Close, and let a drain that waits go on."""
        self.close()
        self._check_drained()

    def _resume(self, stream: Stream) -> None:
        if self._paused and not self._drained:
            self._loop.remove(stream.fd)
        elif stream.fd >= 0:
            self._loop.add_reader(stream.fd, lambda: self._read_some(stream))

    def _read_some(self, stream: Stream) -> None:
        """Read until there is less than we ask for, or others should have their turn."""
        turns = 4
        while turns and self._read(stream) == READ_SIZE and not self._paused:
            turns -= 1

    def _read(self, stream: Stream) -> int:
        """Read once; return how many bytes that brought."""
        try:
            data = self._take(stream) if stream.fd >= 0 else b""
        except BlockingIOError:
            return 0
        except OSError as error:
            if error.errno != errno.EIO or not stream.terminal:
                raise
            # EIO: nobody has the terminal open. A new process may open it, and a hang-up would be
            # reported all the time, so look again every 100 ms; in a drain it is the end.
            if self._drained is None:
                self._loop.remove(stream.fd)
                self._loop.call_later(_HANGUP_MS, lambda: self._resume(stream))
                return 0
            data = b""
        if not data:
            stream.fd = self._loop.discard(stream.fd)
            self._check_drained()
            return 0
        soon = self._account(stream, len(data))
        if not self._holding:
            awaited = self._deliver(stream, time_ns(), data)
            if soon and len(data) < _FEW and not (awaited or self._drained):
                self._loop.remove_reader(stream.fd)
                self._loop.call_later(_REST_MS, lambda: self._resume(stream))
            return len(data)
        stream.held.append((time_ns(), data))
        stream.held_bytes += len(data)
        while stream.held_bytes > _MAX_HELD:  # the runtime must be able to say on, and end
            stream.held_bytes -= len(stream.held.pop(0)[1])
        return len(data)

    def _take(self, stream: Stream) -> bytes:
        """Read up to READ_SIZE bytes; few are asked for first, for large buffers wander on the heap."""
        read = _syscalls.read_all if stream.terminal else _syscalls.read
        data = read(stream.fd, stream.size)
        if len(data) == stream.size == _SMALL:
            try:
                data += read(stream.fd, READ_SIZE - _SMALL)
            except OSError:  # EAGAIN, or a terminal's EIO, which the next read tells again
                pass
        stream.size = _SMALL if len(data) < _SMALL else READ_SIZE
        return data

    def _account(self, stream: Stream, size: int) -> bool:
        """Count what was read, and fit the pipe to the load; tell whether it came soon."""
        now = monotonic_ns()
        soon, self._last_read_ns = now - self._last_read_ns < _REST_NS, now
        self.sizes[stream.name] = self.sizes.get(stream.name, 0) + size
        if self._load < _LOAD <= self._load + size:
            self._loop.call_later(_CALM_MS, self._give_back)
            if not stream.terminal and self._may_widen():
                stream.width = stream.width or _syscalls.fcntl(stream.fd, _syscalls.F_GETPIPE_SZ)
                self._set_width(stream, max(_WIDE, stream.width))
        self._load += size
        return soon

    def _set_width(self, stream: Stream, size: int) -> None:
        try:
            if stream.fd >= 0:
                _syscalls.fcntl(stream.fd, _syscalls.F_SETPIPE_SZ, size)
        except OSError:  # EPERM: pipes hold much already. EBUSY: this one holds more than that
            return

    def _give_back(self) -> None:
        """Give pipes and freed memory back to the system once the container is quiet."""
        if monotonic_ns() - self._last_read_ns < _CALM_MS * 1_000_000:
            self._loop.call_later(_CALM_MS, self._give_back)
        else:
            self._load = 0
            for stream in self._streams:
                if stream.width:
                    self._set_width(stream, stream.width)
            _syscalls.malloc_trim()

    def _check_drained(self) -> None:
        drained, now = self._drained, monotonic_ns()
        if drained is None:
            return
        until = min(self._last_read_ns + _QUIET_NS, self._drain_until)
        if until <= now or all(stream.fd < 0 for stream in self._streams):
            self._drained = None
            drained()
        else:
            self._loop.call_later((until - now) / 1_000_000, self._check_drained)
