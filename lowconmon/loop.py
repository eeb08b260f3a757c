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
    from collections.abc import Callable, Sequence

    Handler = Callable[[], object]

_MAX_WAIT_MS = 2**31 - 1
_ENDED = _syscalls.EPOLLHUP | _syscalls.EPOLLERR


class Watch:
    """What one descriptor is watched for."""

    __slots__ = ("hangup", "reader", "serial", "writer")

    def __init__(self, serial: int) -> None:
        self.serial = serial
        self.reader: Handler | None = None
        self.writer: Handler | None = None
        self.hangup: Handler | None = None

    def events(self) -> int:
        """Return the epoll interest; EPOLLHUP and EPOLLERR are always reported."""
        return (_syscalls.EPOLLIN if self.reader else 0) | (
            _syscalls.EPOLLOUT if self.writer else 0
        )


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

    __slots__ = (
        "_added",
        "_epoll_fd",
        "_running",
        "_serial",
        "_signal_fd",
        "_timers",
        "_watches",
        "on_error",
    )

    def __init__(self, on_error: "Callable[[Handler, Exception], object] | None" = None) -> None:
        self.on_error = on_error
        self._epoll_fd = _syscalls.epoll_create1()
        self._signal_fd = -1
        self._serial = 0
        self._watches: dict[int, Watch] = {}
        self._timers: list[Timer] = []  # latest first, so that the next is popped
        self._added: list[Timer] = []  # since _timers was sorted: their turn comes after the events
        self._running = False

    def add_reader(self, fd: int, handler: "Handler") -> None:
        """Call *handler* while *fd* is readable, or has ended and no hang-up handler is set.

        One handler of a kind for a descriptor: a new one takes the old one's place. Raises OSError:
        EPERM for regular files, which know no readiness.
        """
        self._set(fd, "reader", handler)

    def add_writer(self, fd: int, handler: "Handler") -> None:
        """Call *handler* while *fd* is writable, or has ended and nobody else is told."""
        self._set(fd, "writer", handler)

    def add_hangup(self, fd: int, handler: "Handler") -> None:
        """Call *handler* when *fd* hung up or failed (EPOLLHUP, EPOLLERR) and is not readable."""
        self._set(fd, "hangup", handler)

    def add_pidfd(self, pidfd: int, handler: "Handler") -> None:
        """Call *handler* when the process of *pidfd* has ended; it must then be removed."""
        self._set(pidfd, "reader", handler)

    def remove_reader(self, fd: int) -> None:
        """Stop reading *fd*; nothing happens when nobody does."""
        self._unset(fd, "reader")

    def remove_writer(self, fd: int) -> None:
        """Stop writing *fd*; nothing happens when nobody does."""
        self._unset(fd, "writer")

    def remove(self, fd: int) -> None:
        """Stop watching *fd* at all; nothing happens when nobody does, or it is closed already."""
        if self._watches.pop(fd, None):
            self._control(_syscalls.EPOLL_CTL_DEL, fd, 0, 0)

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
        timer = Timer(monotonic_ns() + int(delay_ms * 1_000_000), handler)
        self._added.append(timer)
        return timer

    def run(self) -> None:
        """Dispatch until `stop`."""
        self._running = True
        while self._running:
            events = _syscalls.epoll_wait(self._epoll_fd, self._timeout_ms())
            self._run_timers()
            for flags, data in events:
                if not self._running:
                    break
                watch = self._watches.get(data & 0xFFFFFFFF)
                if watch and watch.serial == data >> 32:
                    self._dispatch(data & 0xFFFFFFFF, watch, flags)

    def stop(self) -> None:
        """Let `run` return after the present handler."""
        self._running = False

    def close(self) -> None:
        """Close the loop's own descriptors; the watched ones stay the caller's."""
        for fd in (self._signal_fd, self._epoll_fd):
            if fd >= 0:
                _syscalls.close(fd)
        self._signal_fd = self._epoll_fd = -1
        self._watches.clear()
        self._timers.clear()
        self._added.clear()

    def _set(self, fd: int, kind: str, handler: "Handler") -> None:
        watch = self._watches.get(fd)
        operation = _syscalls.EPOLL_CTL_MOD
        if watch is None:
            self._serial = (self._serial + 1) & 0xFFFFFFFF
            watch = Watch(self._serial)
            operation = _syscalls.EPOLL_CTL_ADD
        old, before = getattr(watch, kind), watch.events()
        setattr(watch, kind, handler)
        if operation == _syscalls.EPOLL_CTL_ADD or watch.events() != before or old is None:
            try:
                self._control(operation, fd, watch.events(), watch.serial)
            except OSError:
                setattr(watch, kind, old)
                raise
        self._watches[fd] = watch

    def _unset(self, fd: int, kind: str) -> None:
        watch = self._watches.get(fd)
        if watch is None or getattr(watch, kind) is None:
            return
        setattr(watch, kind, None)
        if watch.reader or watch.writer or watch.hangup:
            self._control(_syscalls.EPOLL_CTL_MOD, fd, watch.events(), watch.serial)
        else:
            self.remove(fd)

    def _control(self, operation: int, fd: int, events: int, serial: int) -> None:
        data = serial << 32 | fd & 0xFFFFFFFF  # -1 is the kernel's to refuse
        try:
            _syscalls.epoll_ctl(self._epoll_fd, operation, fd, events, data)
        except OSError as error:
            if operation == _syscalls.EPOLL_CTL_DEL:
                # ENOENT, EBADF: closed before it was removed, and so gone from the set
                if error.errno not in {errno.ENOENT, errno.EBADF}:
                    raise
            elif operation == _syscalls.EPOLL_CTL_MOD and error.errno == errno.ENOENT:
                # the number was closed and reused behind our back
                _syscalls.epoll_ctl(self._epoll_fd, _syscalls.EPOLL_CTL_ADD, fd, events, data)
            else:
                raise

    def _dispatch(self, fd: int, watch: Watch, flags: int) -> None:
        called = False
        if watch.reader and (flags & _syscalls.EPOLLIN or (flags & _ENDED and not watch.hangup)):
            called = True
            self._call(watch.reader)
        if watch.hangup and flags & _ENDED and not called and self._watches.get(fd) is watch:
            called = True
            self._call(watch.hangup)
        if (
            watch.writer
            and (flags & _syscalls.EPOLLOUT or (flags & _ENDED and not called))
            and self._running
            and self._watches.get(fd) is watch
        ):
            self._call(watch.writer)

    def _call(self, handler: "Handler") -> None:
        try:
            handler()
        except Exception as error:
            if self.on_error is None:
                raise
            self.on_error(handler, error)

    def _timeout_ms(self) -> int:
        if self._added:
            # The later before the earlier: sorting is stable, and the first of equals is popped first.
            timers = (*reversed(self._added), *self._timers)
            self._added.clear()
            self._timers = [timer for timer in timers if timer.handler]
            self._timers.sort(key=lambda timer: timer.due_ns, reverse=True)
        while self._timers and self._timers[-1].handler is None:
            self._timers.pop()
        if not self._timers:
            return -1
        # Rounded up: a timer that is a fraction early would make the loop spin.
        left_ms = (self._timers[-1].due_ns - monotonic_ns() + 999_999) // 1_000_000
        return min(max(left_ms, 0), _MAX_WAIT_MS)

    def _run_timers(self) -> None:
        now = monotonic_ns()
        # Popped one by one: when a handler stops the loop or raises, the others stay due.
        while self._running and self._timers and self._timers[-1].due_ns <= now:
            timer = self._timers.pop()
            if handler := timer.handler:
                timer.handler = None
                self._call(handler)
