"""A single-threaded event loop for a small supervisor: epoll, a signalfd, pidfds, timers.

Laws. Readiness is level triggered, so a handler may do a bounded piece of work and return: what is
left is reported again, after the others had their turn. Between two batches of events every timer
that is due runs, so a flood on one descriptor delays no timer. Each watch carries a serial number in
its epoll data: an event for a watch that was removed (or whose number was closed and reused) in the
same batch is dropped. A handler that raises goes to `on_error` and the loop goes on; without
`on_error` the exception leaves `run`. The caller owns its descriptors and removes them before it
closes them: epoll watches the open file, which may live on in a child.
"""

import errno
from time import monotonic_ns

from . import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._typing import Callable, Sequence

    Handler = Callable[[], object]
    Handlers = list[Handler | None]  # by _READER, _WRITER, _HANGUP

_CLOSED = {errno.ENOENT, errno.EBADF}
_READER, _WRITER, _HANGUP = range(3)


class Watch:
    """What one descriptor is watched for; *data* is in its events: serial number and descriptor."""

    __slots__ = ("data", "handlers")

    def __init__(self, data: int) -> None:
        self.data = data
        self.handlers: Handlers = [None, None, None]


class Timer:
    """A call that is due once; `cancel` it at any time, also after it ran."""

    __slots__ = ("due_ns", "handler")

    def __init__(self, due_ns: int, handler: "Handler") -> None:
        self.due_ns = due_ns
        self.handler: Handler | None = handler

    def cancel(self) -> None:
        """Forget the call."""
        self.handler = None


class Loop:
    """Readers, writers, hang-ups, pidfds, signals and timers of one thread; see the module's laws."""

    __slots__ = ("_epoll_fd", "_going", "_serial", "_signal_fd", "_timers", "_watches", "on_error")

    def __init__(self, on_error: "Callable[[Handler, Exception], object] | None" = None) -> None:
        self.on_error = on_error
        self._epoll_fd = _syscalls.epoll_create1()
        self._signal_fd = -1
        self._serial = 0
        self._watches: dict[int, Watch] = {}
        self._timers: list[Timer] = []
        self._going = False

    def add_reader(self, fd: int, handler: "Handler") -> None:
        """Call *handler* while *fd* is readable or, without a hang-up handler, has ended."""
        self._set(fd, _READER, handler)

    def add_writer(self, fd: int, handler: "Handler") -> None:
        """Call *handler* while *fd* is writable, or has ended and nobody else is told."""
        self._set(fd, _WRITER, handler)

    def add_hangup(self, fd: int, handler: "Handler") -> None:
        """Call *handler* when *fd* hung up or failed (EPOLLHUP, EPOLLERR) and is not readable."""
        self._set(fd, _HANGUP, handler)

    add_pidfd = add_reader  # readable: the process has ended, for good; it must then be removed

    def remove_reader(self, fd: int) -> None:
        """Stop reading *fd*; nothing happens when nobody does."""
        self._unset(fd, _READER)

    def remove_writer(self, fd: int) -> None:
        """Stop writing *fd*; nothing happens when nobody does."""
        self._unset(fd, _WRITER)

    def remove(self, fd: int) -> None:
        """Stop watching *fd* at all; nothing happens when nobody does, or it is closed already."""
        watch = self._watches.pop(fd, None)
        if watch:
            self._control(_syscalls.EPOLL_CTL_DEL, fd, watch.data, watch.handlers)

    def discard(self, fd: int) -> int:
        """Stop watching *fd* and close it; return -1 to put in its place, which is nothing here."""
        for end in (self.remove, _syscalls.close) if fd >= 0 else ():
            try:
                end(fd)
            except OSError:  # EIO, ENOSPC: told late of a write; the number is free anyway
                continue
        return -1

    def add_signals(self, signals: "Sequence[int]", handler: "Callable[[int], object]") -> None:
        """Block *signals* and call *handler* with each that arrives; once a loop."""
        _syscalls.sigprocmask(_syscalls.SIG_BLOCK, signals)
        self._signal_fd = signal_fd = _syscalls.signalfd(signals)

        def read_signal() -> None:
            # One a turn: the others are reported again, also when the handler stopped, closed or
            # broke the loop.
            try:
                number = _syscalls.read_signal(signal_fd)
            except BlockingIOError:  # somebody else has taken it
                return
            handler(number)

        self.add_reader(signal_fd, read_signal)

    def call_later(self, delay_ms: float, handler: "Handler") -> Timer:
        """Call *handler* once, not before *delay_ms* (0 or less: at the next turn) have passed."""
        timer = Timer(monotonic_ns() + round(delay_ms * 1_000_000), handler)
        self._timers.append(timer)
        return timer

    def call(self, handler: "Handler") -> None:
        """Call *handler* now, as a part of the present one that may fail on its own."""
        try:
            handler()
        except Exception as error:
            if self.on_error is None:
                raise
            self.on_error(handler, error)

    def run(self) -> None:
        """Dispatch until `stop`."""
        self._going = True
        while self._going:
            wait_ms = self._timeout_ms() if self._timers else -1
            events, now = _syscalls.epoll_wait(self._epoll_fd, wait_ms), monotonic_ns()
            for timer in self._timers[:]:  # what a handler adds has its turn after the events
                handler = timer.handler
                if handler and timer.due_ns <= now and self._going:
                    timer.cancel()
                    self.call(handler)
            for flags, data in events:
                fd = data & 0xFFFFFFFF
                watch = self._watches.get(fd)
                if watch and watch.data == data and self._going:
                    reader = watch.handlers[_READER] if flags == _syscalls.EPOLLIN else None
                    if reader:
                        self.call(reader)
                    else:
                        self._dispatch(fd, watch, flags)

    def stop(self) -> None:
        """Let `run` return after the present handler."""
        self._going = False

    def close(self) -> None:
        """Close the loop's own descriptors; the watched ones stay the caller's."""
        self._signal_fd = self.discard(self._signal_fd)
        self._epoll_fd = self.discard(self._epoll_fd)
        self._watches.clear()
        for timer in self._timers:
            timer.cancel()

    def _set(self, fd: int, kind: int, handler: "Handler") -> None:
        watch, operation = self._watches.get(fd), _syscalls.EPOLL_CTL_MOD
        if watch is None:
            self._serial = (self._serial + 1) & 0xFFFFFFFF
            # The mask: a -1 is for the kernel to refuse.
            watch = Watch(self._serial << 32 | fd & 0xFFFFFFFF)
            operation = _syscalls.EPOLL_CTL_ADD
        handlers = watch.handlers.copy()  # the old ones stay if the kernel refuses
        handlers[kind] = handler
        if watch.handlers[kind] is None:
            self._control(operation, fd, watch.data, handlers)
        watch.handlers = handlers
        self._watches[fd] = watch

    def _unset(self, fd: int, kind: int) -> None:
        watch = self._watches.get(fd)
        if watch and watch.handlers[kind]:
            watch.handlers[kind] = None
            if any(watch.handlers):
                self._control(_syscalls.EPOLL_CTL_MOD, fd, watch.data, watch.handlers)
            else:
                self.remove(fd)

    def _control(self, operation: int, fd: int, data: int, handlers: "Handlers") -> None:
        reader, writer, _ = handlers  # EPOLLHUP and EPOLLERR are always reported
        events = (_syscalls.EPOLLIN if reader else 0) | (_syscalls.EPOLLOUT if writer else 0)
        try:
            _syscalls.epoll_ctl(self._epoll_fd, operation, fd, events, data)
        except OSError as error:
            # ENOENT: the number was closed and reused, or closed before it was removed, behind our
            # back; EBADF: closed before it was removed.
            if operation == _syscalls.EPOLL_CTL_MOD and error.errno == errno.ENOENT:
                _syscalls.epoll_ctl(self._epoll_fd, _syscalls.EPOLL_CTL_ADD, fd, events, data)
            elif operation != _syscalls.EPOLL_CTL_DEL or error.errno not in _CLOSED:
                raise

    def _dispatch(self, fd: int, watch: Watch, flags: int) -> None:
        reader, _, hangup = watch.handlers
        ended = flags & (_syscalls.EPOLLHUP | _syscalls.EPOLLERR)
        readable = flags & _syscalls.EPOLLIN or (ended and not hangup)
        called = reader if reader and readable else hangup if ended else None
        if called:
            self.call(called)
        # The handler may have removed the watch, or stopped the loop.
        writer = watch.handlers[_WRITER] if self._watches.get(fd) is watch else None
        if writer and self._going and (flags & _syscalls.EPOLLOUT or (ended and not called)):
            self.call(writer)

    def _timeout_ms(self) -> int:
        self._timers = [timer for timer in self._timers if timer.handler]
        if not self._timers:
            return -1
        self._timers.sort(key=lambda timer: timer.due_ns)  # stable: the first of equals stays first
        # Rounded up: a timer that is a fraction early would make the loop spin.
        left_ms = (self._timers[0].due_ns - monotonic_ns() + 999_999) // 1_000_000
        return min(max(left_ms, 0), 2**31 - 1)  # an int of C
