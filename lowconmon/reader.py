"""Show container logs, and what comes to them: `lowconmon logs`.

Laws. Text goes out byte for byte, a container's stdout to ours and its stderr to ours, in the order
in which lines end. A line of more than MAX_LINE goes out in parts, so memory is bounded. What is no
record is shown as it is. Of a last record that a crash cut short the text is shown; a stub that does
not reach its text is left out.
"""

import argparse
import functools
import heapq
import itertools
import os
import re
import resource
import select
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import itemgetter

from . import _syscalls
from .log_chain import MAX_LINE, Chain, records

# What is shown: stamp, stream, tag, text; F's text has a newline, and after P's its line goes on.
Line = tuple[bytes, bytes, bytes, bytes]

_TIME = re.compile(r"(\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?)?)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?")
_SECOND = 1_000_000_000
_UNITS = {"s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND, "d": 86400 * _SECOND}
_FD = {b"stdout": 1, b"stderr": 2, b"": 1}
_BLOCK = 1 << 18  # bytes
_EVER = float("inf")
_DIM, _RED, _NORMAL = b"\x1b[2m", b"\x1b[91m", b"\x1b[0m"
_EVENTS = _syscalls.IN_MODIFY | _syscalls.IN_CREATE | _syscalls.IN_MOVED_TO


@functools.lru_cache(1024)
def _seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def _nanoseconds(text: str) -> int:
    """Return the time since the epoch; local without an offset. Raises ValueError, OverflowError."""
    match = _TIME.fullmatch(text)
    if not match:
        raise ValueError(text)
    whole, fraction, zone = match.groups("")
    return _seconds(whole + zone) * _SECOND + int(fraction[:9].ljust(9, "0"))


def _given_time(text: str) -> int:
    """Return the time that --since or --until gives."""
    if re.fullmatch("([0-9]+[smhd])+", text):
        parts = re.findall("([0-9]+)(.)", text)
        return time.time_ns() - sum(int(count) * _UNITS[unit] for count, unit in parts)
    if number := re.fullmatch(r"([0-9]+)(?:\.([0-9]+))?", text):
        return int(number[1]) * _SECOND + int((number[2] or "")[:9].ljust(9, "0"))
    try:
        return _nanoseconds(text.upper())
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"not a time: {text}") from None


class _Printer:
    """Our stdout and stderr; where they are the same, lines do not mix."""

    def __init__(self, color: str, *, stamps: bool) -> None:
        plain = color == "never" or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._colors = {fd: color == "always" or (not plain and os.isatty(fd)) for fd in (1, 2)}
        self._stamps = stamps
        self._bare = not (stamps or any(self._colors.values()))
        self._places = {1: 1, 2: 1 if os.path.samestat(os.fstat(1), os.fstat(2)) else 2}
        self._unended: dict[int, tuple[bytes, bytes]] = {}  # place: (name, stream) of the last line
        self._cut: set[tuple[bytes, bytes]] = set()  # those that another line came into
        self._fd, self._held, self._size = 1, list[bytes](), 0
        self.complaints: set[str] = set()

    def put(self, name: bytes, lines: list[Line]) -> None:
        """Show lines of the log with that name, if it needs one."""
        plain = self._bare and not (name or self._unended or self._cut)
        if plain and {line[2] for line in lines} == {b"F"}:
            for stream, run in itertools.groupby(lines, itemgetter(1)):
                self._write(_FD[stream], b"".join([line[3] for line in run]))
        else:
            for stamp, stream, tag, text in lines:
                self._put(name, stamp, stream, tag, text)

    def _put(self, name: bytes, stamp: bytes, stream: bytes, tag: bytes, text: bytes) -> None:
        fd, whose, head = _FD[stream], (name, stream), b""
        if self._unended.get(self._places[fd]) != whose:
            self._end_line(fd)
            if whose in self._cut and text == b"\n":  # which is there already
                self._cut.discard(whose)
                return
            head = name + b" | " if name else b""
            if self._stamps and stamp:
                head += b"%b%b%b " % (_DIM, stamp, _NORMAL) if self._colors[fd] else stamp + b" "
        self._cut.discard(whose)
        if tag == b"P":
            self._unended[self._places[fd]] = whose
        else:
            self._unended.pop(self._places[fd], None)
        if fd == 2 and self._colors[fd]:
            end = b"\n" if tag == b"F" else b""
            text = _RED + text.removesuffix(end) + _NORMAL + end
        self._write(fd, head + text)

    def _end_line(self, fd: int) -> None:
        """Put a newline behind what another line is to follow."""
        if whose := self._unended.pop(self._places[fd], None):
            self._write(_FD[whose[1]], b"\n")
            self._cut.add(whose)

    def _write(self, fd: int, data: bytes) -> None:
        if fd != self._fd or self._size > _BLOCK:
            self.flush()
        self._fd, self._size = fd, self._size + len(data)
        self._held.append(data)

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
            self._end_line(2)
            self._write(2, os.fsencode(text))
            self.flush()


class _Log:
    """One log: its records, and the lines that they make."""

    def __init__(self, path: bytes, options: argparse.Namespace, printer: _Printer) -> None:
        self.chain = Chain(path, follows=options.follow, complain=printer.complain)
        self.name, self.watch = b"", -1
        self.strange = 0  # lines that are no records
        self._since, self._until = options.since, options.until
        self._drop: Counter[bytes] = Counter()  # how many lines of each stream not to show
        self._begun: dict[bytes, tuple[bytes, bytearray | None]] = {}  # stamp, text to be shown
        self._time = 0

    def start(self, tail: int) -> None:
        """Open the files and find the last *tail* lines; -1: all. Raises OSError."""
        self._drop = self.chain.start(tail)

    def is_woken_by(self, event: tuple[int, int, int, bytes]) -> bool:
        """Tell whether an event is about one of the files, or tells that events were lost."""
        return event[0] == -1 or (event[0] == self.watch and event[3].startswith(self.chain.base))

    def lines(self) -> Iterator[list[Line] | None]:
        """Yield what is to be shown, in pieces; None: nothing more at present."""
        while True:
            data = self.chain.read()
            if data is not None:
                yield self._join(data)
                continue
            held = list[Line]()
            for stream, (stamp, text) in self._begun.items():
                if text:
                    held.append((stamp, stream, b"P", bytes(text)))
                    text.clear()
            yield held or None  # what has come while it was shown is read before the None

    def time_of(self, stamp: bytes) -> int:
        """Return the time of a record; without a good stamp, that of the one before."""
        try:
            self._time = _nanoseconds(stamp.decode())
        except (ValueError, OverflowError):
            pass
        return self._time

    def _join(self, data: bytes) -> list[Line]:
        """Return the lines that end in *data*, whole records; hold what is only begun."""
        found, lines = records(data), list[Line]()
        self.strange += [record[0] for record in found].count(b"")
        all_wanted = not self._drop and self._since == -_EVER and self._until == _EVER
        if all_wanted and not self._begun and {record[2] for record in found} == {b"F"}:
            return found
        for stamp, stream, tag, text in found:
            ended = tag == b"F"
            if stream not in self._begun:
                wanted = all_wanted or self._wants(stamp, stream)
                self._begun[stream] = stamp, bytearray() if wanted else None
            first_stamp, line = self._begun[stream]
            if line is not None:
                line += text if ended else text[:-1]
                if ended or len(line) > MAX_LINE:
                    lines.append((first_stamp, stream, tag, bytes(line)))
                    line.clear()
            if ended:
                del self._begun[stream]
                if self._drop:
                    self._drop -= Counter((stream,))
        return lines

    def _wants(self, stamp: bytes, stream: bytes) -> bool:
        return not self._drop[stream] and self._since <= self.time_of(stamp) <= self._until


def _names(paths: Sequence[bytes]) -> list[bytes]:
    """Return the shortest ends of different paths that tell them apart."""
    for count in itertools.count(1):
        names = [b"/".join(path.split(b"/")[-count:]) for path in paths]
        if len({*names}) == len(names):
            break
    return names


def _show(logs: list[_Log], printer: _Printer, tail: int) -> None:
    """Show what there is, in the order of time."""

    def timed(log: _Log) -> Iterator[tuple[int, _Log, Line]]:
        now = 0
        for lines in iter(log.lines().__next__, None):
            for line in lines:
                now = max(now, log.time_of(line[0]))  # a clock set back changes no log's order
                yield now, log, line

    for log in logs:
        try:
            log.start(tail)
        except OSError as error:
            printer.complain(log.chain.path, error)
    if len(logs) == 1:
        for lines in iter(logs[0].lines().__next__, None):
            printer.put(b"", lines)
    for _, log, line in heapq.merge(*map(timed, logs), key=itemgetter(0)):
        printer.put(log.name, [line])


def _follow(logs: list[_Log], printer: _Printer, tail: int, until: float) -> None:
    """Show what comes, until *until*."""
    inotify_fd, poll = _syscalls.inotify_init1(), select.poll()
    poll.register(inotify_fd, select.POLLIN)
    poll.register(1, 0)  # tells when nobody reads it any more
    going: dict[_Log, Iterator[list[Line] | None]] = {}
    for log in logs:
        try:
            log.watch = _syscalls.inotify_add_watch(inotify_fd, log.chain.directory, _EVENTS)
            log.start(tail)  # what comes from here on wakes us
            going[log] = log.lines()
        except OSError as error:
            printer.complain(log.chain.path, error)
    busy = {*going}
    while going:
        for log in [log for log in going if log in busy]:  # a piece of each: none waits for others
            lines = next(going[log])
            if lines is None:
                busy.discard(log)
            else:
                printer.put(log.name, lines)
        printer.flush()
        left_ms = (until - time.time_ns()) / 1_000_000
        if left_ms <= 0 and not busy:
            return
        for fd, _ in poll.poll(0 if busy else min(left_ms, 2**31 - 1)):
            if fd == 1:
                signal.raise_signal(signal.SIGPIPE)
            events = _syscalls.inotify_events(_syscalls.read(inotify_fd, 65536))
            busy.update(log for log in going if any(map(log.is_woken_by, events)))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="lowconmon logs",
        description="Show the logs of containers: k8s-file or json-file, rotated, compressed.",
        epilog="TIME: RFC 3339, YYYY-MM-DD[THH:MM[:SS]] (local), seconds since 1970, or how long ago"
        " (90s, 10m, 1h30m, 2d). --since and --until choose among the lines that --tail leaves.",
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="a log; those rotated from it are found beside it")
    add("-f", "--follow", action="store_true", help="wait for more, also for a FILE to appear")
    add(
        "--since", type=_given_time, default=-_EVER, metavar="TIME", help="no line from before TIME"
    )
    add("--until", type=_given_time, default=_EVER, metavar="TIME", help="no line from after TIME")
    add("-n", "--tail", type=int, default=-1, metavar="N", help="the last N lines (-1: all)")
    add("-t", "--timestamps", action="store_true", help="show when each line began")
    help_text = "red for stderr: auto (default), if it is a terminal and NO_COLOR is not set"
    add("--color", choices=("auto", "always", "never"), default="auto", help=help_text)
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Do what the command line says and return the status."""
    options = _options(arguments)
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))
    printer = _Printer(options.color, stamps=options.timestamps)
    paths = [*dict.fromkeys(os.path.realpath(os.fsencode(path)) for path in options.files)]
    logs = [_Log(path, options, printer) for path in paths]
    for log, name in zip(logs, _names(paths), strict=True):
        log.name = name if len(logs) > 1 else b""
    try:
        if options.follow:
            _follow(logs, printer, options.tail, options.until)
        else:
            _show(logs, printer, options.tail)
        printer.flush()
    except OSError as error:
        printer.complain(error.filename or b"output", error)
    status = 1 if printer.complaints else 0
    for log in logs:
        if log.strange:
            text = f"lines that are no records, shown as they are: {log.strange}"
            printer.complain(log.chain.path, text)
    return status
