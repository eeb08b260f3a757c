"""Logs with a limit: feed a container line by line, look at a log and its backups, know better.

`Model` is the contract's section on limits once more, slow and without files.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path
from typing import Any

from tests.support.life import Life, read_if_there, wait_until

HEAD = 43 + 2 + 1  # what a record counts beside its text
RECORD = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d (?:stdout|stderr) [FP] ([^\n]*)\n"
)


def size(text: bytes) -> int:
    """Return what a record counts."""
    return HEAD + len(text)


def lines(first: int, last: int, length: int = 4) -> list[bytes]:
    """Return the texts *first* to *last*, each of *length* bytes and told apart by its number."""
    return [b"%04d" % number + b"x" * (length - 4) for number in range(first, last + 1)]


def old_log(texts: list[bytes]) -> bytes:
    """Return a log as an earlier monitor left it."""
    return b"".join(b"2020-01-01T00:00:00.000000000+00:00 stdout F %b\n" % text for text in texts)


class Feed:
    """What a container is to say; each line of `say` that is sent at once it says at once."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.path = life.directory / "feed"
        os.mkfifo(self.path)
        self.fd = -1
        self.container = f"exec cat <{self.path}"

    def start(self, *extra: str, **how: Any) -> None:
        """Start the container, *how* as `Life.start` takes it, and wait until it listens."""
        self.life.stub(self.container).start("--no-sync-log", *extra, **how)
        self.life.pid()
        self.fd = wait_until(self._open, "the container opens the feed")
        os.set_blocking(self.fd, True)

    def _open(self) -> int | None:
        try:
            return os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO, error  # nobody reads yet
            return None

    def say(self, *texts: bytes) -> None:
        """Let the container say these lines."""
        data = b"".join(text + b"\n" for text in texts)
        while data:
            data = data[os.write(self.fd, data) :]

    def see(self, *texts: bytes, where: Path | None = None) -> None:
        """Let the container say these lines, and see the last one in the log."""
        self.say(*texts)
        path = where or self.life.log
        end = b" F " + texts[-1] + b"\n"
        wait_until(lambda: (read_if_there(path) or b"").endswith(end), f"{texts[-1]!r} in {path}")

    def end(self) -> None:
        """Let the container end, and wait until the monitor has gone."""
        self.close()
        assert self.life.exit_status() == 0
        self.life.wait_gone()

    def close(self) -> None:
        """Close our end: the container ends."""
        if self.fd >= 0:
            os.close(self.fd)
        self.fd = -1


def texts(path: Path) -> list[bytes]:
    """Return the texts of a log's records; every line of it must be a whole record."""
    content = path.read_bytes()
    found = RECORD.findall(content)
    assert sum(map(size, found)) == len(content), (path.name, content[-200:])
    return [bytes(text) for text in found]


def backups(log: Path) -> dict[int, Path]:
    """Return the backups of a log by number."""
    found = {}
    for path in log.parent.iterdir():
        ending = path.name.removeprefix(log.name + ".")
        if path.name != ending and ending.isdigit():
            found[int(ending)] = path
    return found


def segments(log: Path) -> list[list[bytes]]:
    """Return the texts of all files, the oldest backup first and the log, if it is there, last."""
    found = backups(log)
    return [texts(found[number]) for number in sorted(found, reverse=True)] + (
        [texts(log)] if log.exists() else []
    )


def strangers(log: Path) -> set[str]:
    """Return the names beside the log that are neither its own nor a backup's."""
    ours = {log.name, *(path.name for path in backups(log).values())}
    return {path.name for path in log.parent.iterdir()} - ours


class Model:
    """What the files hold; *kept* backups at most, 0 without --log-rotate; no *limit*: 0."""

    def __init__(self, limit: int, kept: int, segments: list[list[bytes]] | None = None) -> None:
        self.limit, self.kept = limit, kept
        self.segments = [list(segment) for segment in segments or [[]]]
        self.rotations = 0

    def write(self, *texts: bytes) -> Model:
        """Write records, each to the log or, where it does not fit, to a fresh one."""
        for text in texts:
            if not self.fits(text):
                self.rotate()
            self.segments[-1].append(text)
        return self

    def fits(self, text: bytes) -> bool:
        """Tell whether a record is to go to the log as it is."""
        used = sum(map(size, self.segments[-1]))
        return self.limit <= 0 or used + size(text) <= self.limit

    def held(self) -> list[list[bytes]]:
        """Return what the files hold, without those that are empty."""
        return [list(segment) for segment in self.segments if segment]

    def rotate(self) -> Model:
        """Begin a fresh log, unless this one is empty."""
        if self.segments[-1]:
            self.segments = [*self.segments, []][-self.kept - 1 :]
            self.rotations += 1
        return self
