"""`lowconmon logs`: show container logs, and what comes to them.

Laws. Text goes out byte for byte, a container's stdout to ours and its stderr to ours, in the order
in which lines end; what is no record is shown as it is. A line of more than MAX_LINE goes out in
parts, so memory is bounded.
"""

import functools
import heapq
import itertools
import os
import re
import select
import signal
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from operator import itemgetter

from lowconmon import _syscalls

from .log_chain import MAX_LINE, Chain, Record, records

_SECOND, _EVER = 1_000_000_000, float("inf")
_UNITS = {"s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND, "d": 86400 * _SECOND}
_DIM, _RED, _NORMAL = b"\x1b[2m", b"\x1b[91m", b"\x1b[0m"
_COMPLAINT = b"complaint"  # a stream of our own
_EVENTS = _syscalls.IN_MODIFY | _syscalls.IN_CREATE | _syscalls.IN_MOVED_TO


@functools.lru_cache(1024)
def _seconds(text: str) -> int:
    if text.isascii() and text.isdecimal():
        return int(text)
    return int(datetime.fromisoformat(text).timestamp())  # without an offset: of a local clock


def _nanoseconds(text: str) -> int:
    """Return the time since the epoch. Raises ValueError, OverflowError."""
    whole, _, rest = text.partition(".")
    zone = rest.lstrip("0123456789")
    fraction = rest.removesuffix(zone)[:9]
    return _seconds(whole + zone) * _SECOND + int(fraction.ljust(9, "0"))


def _given_time(text: str) -> int:
    if re.fullmatch("([0-9]+[smhd])+", text):
        parts = re.findall("([0-9]+)(.)", text)
        return time.time_ns() - sum(int(count) * _UNITS[unit] for count, unit in parts)
    try:
        return _nanoseconds(text.upper())
    except (ValueError, OverflowError):
        raise ArgumentTypeError(f"not a time: {text}") from None


class _Printer:
    """Our stdout and stderr. Where they are the same, all goes to stdout, and lines do not mix."""

    def __init__(self, color: str, *, stamps: bool) -> None:
        stderr = 1 if os.path.samestat(os.fstat(1), os.fstat(2)) else 2
        self._fds = {b"stdout": 1, b"stderr": stderr, b"": 1, _COMPLAINT: stderr}
        plain = color == "never" or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._colors = {fd: color == "always" or (not plain and os.isatty(fd)) for fd in (1, 2)}
        self._stamps = stamps
        self._unended: dict[int, tuple[bytes, bytes]] = {}  # fd: (name, stream) of the last line
        self._fd, self._held, self._size = 1, list[bytes](), 0
        self.complaints: set[str] = set()

    def put(self, name: bytes, lines: list[Record]) -> None:
        """Show lines of the log with that name, if it needs one; a P has no newline."""
        dressed = name or self._stamps or self._unended or any(self._colors.values())
        bare = not dressed and {line[2] for line in lines} == {b"F"}
        for stream, run in itertools.groupby(lines, itemgetter(1)):
            if self._fd != self._fds[stream] or self._size > MAX_LINE:
                self.flush()
            self._fd = self._fds[stream]
            self._held.append(b"".join([it[3] if bare else self._dress(name, *it) for it in run]))
            self._size += len(self._held[-1])

    def _dress(self, name: bytes, stamp: bytes, stream: bytes, tag: bytes, text: bytes) -> bytes:
        """Return a line as it is shown, behind a newline where another has not ended."""
        head, colored = b"", self._colors[self._fd]
        before = self._unended.pop(self._fd, None)
        if before != (name, stream):
            head = (b"\n" if before else b"") + (name + b" | " if name else b"")
            if self._stamps and stamp:
                head += b"%b%b%b " % (_DIM, stamp, _NORMAL) if colored else stamp + b" "
        if tag == b"P":
            self._unended[self._fd] = name, stream
        if colored and stream == b"stderr":
            end = b"\n" if tag == b"F" else b""
            text = _RED + text.removesuffix(end) + _NORMAL + end
        return head + text

    def flush(self) -> None:
        """Write what is held."""
        data, self._held, self._size = memoryview(b"".join(self._held)), [], 0
        while data:
            try:
                data = data[_syscalls.write(self._fd, data) :]
            except BlockingIOError:  # others have made it so
                select.select([], [self._fd], [])

    def complain(self, path: bytes, error: object) -> None:
        """Tell the user, once, what is wrong with a file."""
        text = f"lowconmon logs: {os.fsdecode(path)}: {getattr(error, 'strerror', None) or error}\n"
        if text not in self.complaints:
            self.complaints.add(text)
            self.put(b"", [(b"", _COMPLAINT, b"F", os.fsencode(text))])
            self.flush()


class _Log(Chain):
    """One log, and the lines that its records make."""

    def __init__(self, path: bytes, name: bytes, options: Namespace, printer: _Printer) -> None:
        super().__init__(path, options.tail, follows=options.follow, complain=printer.complain)
        self.name = name
        self.strange = 0  # lines that are no records
        self._since, self._until = options.since, options.until
        self._begun: dict[bytes, tuple[bytes, bytearray]] = {}  # stream: stamp, text to be shown
        self._time = 0

    def lines(self) -> list[Record] | None:
        """Return what is to be shown next; None: nothing more at present."""
        data = self.read()
        lines = self._unended() if data is None else self._join(data)
        if not lines and data is None:  # what came while these were shown is read before that
            return None
        if (self._since, self._until) != (-_EVER, _EVER):
            lines = [line for line in lines if self._since <= self.time_of(line[0]) <= self._until]
        self.strange += [line[1] for line in lines].count(b"")
        return lines

    def _join(self, data: bytes) -> list[Record]:
        """Return the lines that end in *data*, whole records; hold what is only begun."""
        found, lines = records(data), list[Record]()
        if not (self._begun or self.drop) and {record[2] for record in found} == {b"F"}:
            return found
        for stamp, stream, tag, text in found:
            first_stamp, line = self._begun.setdefault(stream, (stamp, bytearray()))
            line += text if tag == b"F" else text[:-1]
            if tag == b"F" or len(line) > MAX_LINE:
                if not self.drop[stream]:
                    lines.append((first_stamp, stream, tag, bytes(line)))
                line.clear()
            if tag == b"F":
                del self._begun[stream]
                if self.drop:
                    self.drop -= Counter((stream,))
        return lines

    def _unended(self) -> list[Record]:
        """Return what is held of the lines that have not ended."""
        lines = list[Record]()
        for stream, (stamp, text) in self._begun.items():
            if text and not self.drop[stream]:
                lines.append((stamp, stream, b"P", bytes(text)))
            text.clear()
        return lines

    def time_of(self, stamp: bytes) -> int:
        """Return the time of a record; without a good stamp, that of the one before."""
        try:
            self._time = _nanoseconds(stamp.decode("latin-1"))
        except (ValueError, OverflowError):
            pass
        return self._time

    def timed(self) -> Iterator[tuple[int, bytes, Record]]:
        """Yield (time, name, line) up to the present end."""
        now = 0
        for line in itertools.chain.from_iterable(iter(self.lines, None)):
            now = max(now, self.time_of(line[0]))  # a clock set back changes no order
            yield now, self.name, line


def _show(logs: list[_Log], printer: _Printer, inotify_fd: int, until: float) -> None:
    """Show what there is and, until *until*, what comes."""
    poll = select.poll()
    poll.register(inotify_fd, select.POLLIN)
    poll.register(1, 0)  # tells when nobody reads it any more
    while logs:
        found = [(log, lines) for log in logs if (lines := log.lines()) is not None]
        for log, lines in found:  # a piece of each: none waits for the others
            printer.put(log.name, lines)
        left_ms = 0.0
        if not found:
            printer.flush()
            left_ms = (until - time.time_ns()) / 1_000_000
            if left_ms <= 0:
                return
        for fd, _ in poll.poll(min(left_ms, 2**31 - 1)):
            if fd == 1:
                signal.raise_signal(signal.SIGPIPE)
            _syscalls.read(inotify_fd, 65536)  # whatever it is: look at all of them


def command_line() -> ArgumentParser:
    """Return the parser of our arguments; completions are made from it too."""
    parser = ArgumentParser(
        prog="lowconmon logs",
        description="Show the logs of containers: k8s-file or json-file, rotated, compressed.",
        epilog="TIME: RFC 3339, YYYY-MM-DD[THH:MM[:SS]] (local), seconds since 1970, or how long ago"
        " (90s, 10m, 1h30m, 2d). --since and --until choose among the lines that --tail leaves.",
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="a log; those rotated from it are found beside it")
    add("-f", "--follow", action="store_true", help="wait for more, also for a FILE to appear")
    add("--since", type=_given_time, default=-_EVER, metavar="TIME", help="no line before TIME")
    add("--until", type=_given_time, default=_EVER, metavar="TIME", help="no line after TIME")
    add("-n", "--tail", type=int, default=-1, metavar="N", help="the last N lines (-1: all)")
    add("-t", "--timestamps", action="store_true", help="show when each line began")
    help_text = "red for stderr: auto (default), if it is a terminal and NO_COLOR is not set"
    add("--color", choices=("auto", "always", "never"), default="auto", help=help_text)
    return parser


def main(arguments: list[str]) -> int:
    """Do what the command line says and return the status."""
    options = command_line().parse_args(arguments)
    printer = _Printer(options.color, stamps=options.timestamps)
    paths = [*dict.fromkeys(os.path.realpath(os.fsencode(path)) for path in options.files)]
    logs, inotify_fd = list[_Log](), _syscalls.inotify_init1()
    # The shortest ends of the paths that tell them apart
    ends = ([b"/".join(it.split(b"/")[-n:]) for it in paths] for n in itertools.count(1))
    names = next(names for names in ends if len({*names}) == len(paths))
    for path, name in zip(paths, names if len(paths) > 1 else [b""], strict=True):
        try:
            if options.follow:  # before it is opened: what comes later wakes us
                _syscalls.inotify_add_watch(inotify_fd, os.path.dirname(path), _EVENTS)
            logs.append(_Log(path, name, options, printer))
        except OSError as error:
            printer.complain(path, error)
    try:
        if len(logs) > 1 and not options.follow:
            for _, name, line in heapq.merge(*map(_Log.timed, logs), key=itemgetter(0)):
                printer.put(name, [line])
            printer.flush()
        else:
            _show(logs, printer, inotify_fd, options.until if options.follow else 0)
    except OSError as error:
        printer.complain(error.filename or b"output", error)
    status = 1 if printer.complaints else 0
    for log in logs:
        if log.strange:
            text = f"lines that are no records, shown as they are: {log.strange}"
            printer.complain(log.path, text)
    return status
