"""`lowconmon logs`: show container logs, and what comes to them.

Laws. Text goes out byte for byte, a container's stdout to ours and its stderr to ours, in the order
in which lines end; what is no record is shown as it is. A line of more than MAX_LINE goes out in
parts, so memory is bounded.
"""

import argparse
import functools
import heapq
import itertools
import os
import re
import select
import signal
import time
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from operator import itemgetter

from . import _syscalls
from .log_chain import MAX_LINE, Chain, Record, records

_DAY, _CLOCK, _ZONE = r"\d{4}-\d\d-\d\d", r"[T ]\d\d:\d\d(?::\d\d)?", r"Z|[+-]\d\d:\d\d"
_TIME = re.compile(rf"({_DAY}(?:{_CLOCK})?|\d+)(?:\.(\d+))?({_ZONE})?", re.ASCII)
_SECOND, _EVER = 1_000_000_000, float("inf")
_UNITS = {"s": _SECOND, "m": 60 * _SECOND, "h": 3600 * _SECOND, "d": 86400 * _SECOND}
_FD = {b"stdout": 1, b"stderr": 2, b"": 1}
_DIM, _RED, _NORMAL = b"\x1b[2m", b"\x1b[91m", b"\x1b[0m"
_EVENTS = _syscalls.IN_MODIFY | _syscalls.IN_CREATE | _syscalls.IN_MOVED_TO


@functools.lru_cache(1024)
def _seconds(text: str) -> int | None:
    try:
        return int(text) if text.isdecimal() else int(datetime.fromisoformat(text).timestamp())
    except (ValueError, OverflowError):
        return None


def _nanoseconds(text: str) -> int | None:
    """Return the time since the epoch, without an offset that of a local clock; None: no time."""
    match = _TIME.fullmatch(text)
    seconds = _seconds(match[1] + (match[3] or "")) if match else None
    if not match or seconds is None:
        return None
    return seconds * _SECOND + int((match[2] or "")[:9].ljust(9, "0"))


def _given_time(text: str) -> int:
    if re.fullmatch("([0-9]+[smhd])+", text):
        parts = re.findall("([0-9]+)(.)", text)
        return time.time_ns() - sum(int(count) * _UNITS[unit] for count, unit in parts)
    given = _nanoseconds(text.upper())
    if given is None:
        raise argparse.ArgumentTypeError(f"not a time: {text}")
    return given


class _Printer:
    """Our stdout and stderr; where they are the same, lines do not mix."""

    def __init__(self, color: str, *, stamps: bool) -> None:
        plain = color == "never" or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self._colors = {fd: color == "always" or (not plain and os.isatty(fd)) for fd in (1, 2)}
        self._stamps = stamps
        self._bare = not (stamps or any(self._colors.values()))
        self._places = {1: 1, 2: 1 if os.path.samestat(os.fstat(1), os.fstat(2)) else 2}
        self._unended: dict[int, tuple[bytes, bytes]] = {}  # place: (name, stream) of the last line
        self._fd, self._held, self._size = 1, list[bytes](), 0
        self.complaints: set[str] = set()

    def put(self, name: bytes, lines: list[Record]) -> None:
        """Show lines of the log with that name, if it needs one; a P has no newline."""
        plain = self._bare and not (name or self._unended)
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
            head = name + b" | " if name else b""
            if self._stamps and stamp:
                head += b"%b%b%b " % (_DIM, stamp, _NORMAL) if self._colors[fd] else stamp + b" "
        self._unended.pop(self._places[fd], None)
        if tag == b"P":
            self._unended[self._places[fd]] = whose
        if fd == 2 and self._colors[fd]:
            end = b"\n" if tag == b"F" else b""
            text = _RED + text.removesuffix(end) + _NORMAL + end
        self._write(fd, head + text)

    def _end_line(self, fd: int) -> None:
        """Put a newline behind what another line is to follow."""
        if whose := self._unended.pop(self._places[fd], None):
            self._write(_FD[whose[1]], b"\n")

    def _write(self, fd: int, data: bytes) -> None:
        if fd != self._fd or self._size > MAX_LINE:
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


class _Log(Chain):
    """One log, and the lines that its records make."""

    def __init__(self, path: bytes, options: argparse.Namespace, printer: _Printer) -> None:
        super().__init__(path, follows=options.follow, complain=printer.complain)
        self.name, self.watch = b"", -1
        self.strange = 0  # lines that are no records
        self._since, self._until = options.since, options.until
        self._begun: dict[bytes, tuple[bytes, bytearray | None]] = {}  # stamp, text to be shown
        self._time = 0

    def lines(self) -> Iterator[list[Record] | None]:
        """Yield what is to be shown, in pieces; None: nothing more at present."""
        while True:
            data = self.read()
            if data is not None:
                yield self._join(data)
                continue
            held = list[Record]()
            for stream, (stamp, text) in self._begun.items():
                if text:
                    held.append((stamp, stream, b"P", bytes(text)))
                    text.clear()
            yield held or None  # what has come while it was shown is read before the None

    def _join(self, data: bytes) -> list[Record]:
        """Return the lines that end in *data*, whole records; hold what is only begun."""
        found, lines = records(data), list[Record]()
        self.strange += [record[0] for record in found].count(b"")
        all_wanted = not self.drop and (self._since, self._until) == (-_EVER, _EVER)
        if all_wanted and not self._begun and {record[2] for record in found} == {b"F"}:
            return found
        for stamp, stream, tag, text in found:
            if stream not in self._begun:
                wanted = all_wanted or self._wants(stamp, stream)
                self._begun[stream] = stamp, bytearray() if wanted else None
            first_stamp, line = self._begun[stream]
            if line is not None:
                line += text if tag == b"F" else text[:-1]
                if tag == b"F" or len(line) > MAX_LINE:
                    lines.append((first_stamp, stream, tag, bytes(line)))
                    line.clear()
            if tag == b"F":
                del self._begun[stream]
                if self.drop:
                    self.drop -= Counter((stream,))
        return lines

    def _wants(self, stamp: bytes, stream: bytes) -> bool:
        return self._since <= self.time_of(stamp) <= self._until and not self.drop[stream]

    def time_of(self, stamp: bytes) -> int:
        """Return the time of a record; without a good stamp, that of the one before."""
        at = _nanoseconds(stamp.decode("latin-1"))
        self._time = self._time if at is None else at
        return self._time

    def timed(self) -> Iterator[tuple[int, bytes, list[Record]]]:
        """Yield (time, name, lines) up to the present end; of a log with a name, single lines."""
        now = 0
        for lines in iter(self.lines().__next__, None):
            for piece in [[line] for line in lines] if self.name else filter(None, [lines]):
                now = max(now, self.time_of(piece[0][0]))  # a clock set back changes no order
                yield now, self.name, piece


def _follow(logs: list[_Log], printer: _Printer, inotify_fd: int, until: float) -> None:
    """Show what comes, until *until*."""
    poll, going = select.poll(), {log: log.lines() for log in logs}
    poll.register(inotify_fd, select.POLLIN)
    poll.register(1, 0)  # tells when nobody reads it any more
    busy = {*logs}
    while logs:
        for log in [log for log in logs if log in busy]:  # a piece of each: none waits for others
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
            for watch, _, _, name in _syscalls.inotify_events(_syscalls.read(inotify_fd, 65536)):
                for log in logs:  # -1: events were lost
                    if watch == -1 or (watch == log.watch and name.startswith(log.base)):
                        busy.add(log)


def command_line() -> argparse.ArgumentParser:
    """Return the parser of our arguments; completions are made from it too."""
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
    for path, name in zip(paths, names, strict=True):
        log = _Log(path, options, printer)
        log.name = name if len(paths) > 1 else b""
        try:
            if options.follow:  # before it is opened: what comes later wakes us
                log.watch = _syscalls.inotify_add_watch(inotify_fd, log.directory, _EVENTS)
            log.start(options.tail)
            logs.append(log)
        except OSError as error:
            printer.complain(path, error)
    try:
        if options.follow:
            _follow(logs, printer, inotify_fd, options.until)
        else:
            for _, name, lines in heapq.merge(*map(_Log.timed, logs), key=itemgetter(0)):
                printer.put(name, lines)
        printer.flush()
    except OSError as error:
        printer.complain(error.filename or b"output", error)
    status = 1 if printer.complaints else 0
    for log in logs:
        if log.strange:
            text = f"lines that are no records, shown as they are: {log.strange}"
            printer.complain(log.path, text)
    return status
