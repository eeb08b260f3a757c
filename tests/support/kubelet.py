"""Treat a log as the kubelet and CRI-O do: rotate it, wait for its reopening, read every line.

`Kubelet.rotate` is a round of kuberuntime's container log manager, `reopen` is CRI-O's
ReopenContainerLog, and `parse` is the kubelet's reader of CRI logs, but that it forgives nothing.
"""

from __future__ import annotations

import ctypes
import datetime
import gzip
import os
import re
import select
import struct
import time
from pathlib import Path
from typing import NamedTuple, Self

from tests.support.life import DEADLINE, Life
from tests.support.rotation import backups

REOPEN = b"2 0 0\n"
MAX_FILES = 5  # containerLogMaxFiles

# What Go's time.Parse takes by the layout 2006-01-02T15:04:05.999999999Z07:00, ranges apart.
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d{1,9})?(Z|[+-]\d\d:\d\d)")

_MODIFY, _CREATE, _MOVED_TO = 0x2, 0x100, 0x80
_libc = ctypes.CDLL(None, use_errno=True)


class Record(NamedTuple):
    """One line of a log."""

    stream: str
    partial: bool
    text: bytes


def parse(line: bytes) -> Record:
    """Return the record that *line*, without its newline, is. Raises ValueError."""
    fields = line.split(b" ", 3)
    if len(fields) != 4:
        raise ValueError(f"not four fields: {line[:100]!r}")
    stamp, stream, tags, text = fields
    match = _STAMP.fullmatch(stamp.decode("ascii", "replace"))
    if not match:
        raise ValueError(f"no time stamp: {line[:100]!r}")
    datetime.datetime.fromisoformat(match[1] + match[2])
    if stream not in (b"stdout", b"stderr"):
        raise ValueError(f"no stream: {line[:100]!r}")
    tag = tags.split(b":")[0]
    if tag not in (b"F", b"P"):
        raise ValueError(f"no tag: {line[:100]!r}")
    return Record(stream.decode(), tag == b"P", text)


def records(content: bytes) -> list[Record]:
    """Return the records of a log; every line must be one, and the last one must end."""
    assert content == b"" or content.endswith(b"\n"), f"a torn record: {content[-100:]!r}"
    return [parse(line) for line in content.split(b"\n")[:-1]]


def texts(content: bytes) -> tuple[bytes, bytes]:
    """Return what a log's records say the container wrote on stdout and stderr."""
    streams: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    for record in records(content):
        streams[record.stream].append(record.text if record.partial else record.text + b"\n")
    return b"".join(streams["stdout"]), b"".join(streams["stderr"])


class Watch:
    """An inotify watch, as fsnotify makes one, of a directory or of the log itself."""

    def __init__(self, path: Path) -> None:
        self.fd = _libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        mask = _CREATE | _MOVED_TO | _MODIFY
        if _libc.inotify_add_watch(self.fd, os.fsencode(path), mask) < 0:
            raise OSError(ctypes.get_errno(), f"inotify_add_watch {path}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def wait(self, name: str = "", seconds: float = DEADLINE) -> None:
        """Wait for Create or Write of the entry *name* (of the watched file itself: no name)."""
        end = time.monotonic() + seconds
        while True:
            ready, _, _ = select.select([self.fd], [], [], max(end - time.monotonic(), 0))
            assert ready, f"whoever waits for {name or 'the log'} was not woken in {seconds} s"
            data = os.read(self.fd, 65536)
            while data:
                _, _, _, length = struct.unpack_from("iIII", data)
                if os.fsdecode(data[16 : 16 + length].rstrip(b"\0")) == name:
                    return
                data = data[16 + length :]


def reopen(life: Life, message: bytes = REOPEN) -> None:
    """Have the log reopened and wait as CRI-O does: for ever, here with a deadline."""
    with Watch(life.log.parent) as watch:
        life.control(message)
        watch.wait(life.log.name)


class Kubelet:
    """The log manager of one container; `content` is all that ever was in the log, in order."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.removed: list[bytes] = []  # what stood in the files that were too many
        self._now = datetime.datetime(2026, 11, 23, 14, 30, tzinfo=datetime.UTC)

    def rotate(self) -> None:
        """Do one round: clean up, remove, compress, rename, have the log reopened."""
        self.tidy()
        rotated = self.rotated()
        while len(rotated) > MAX_FILES - 2:
            self.removed.append(content_of(rotated[0]))
            rotated.pop(0).unlink()
        for path in rotated:
            if path.suffix != ".gz":
                compress(path)
        # Its rounds are at least seconds apart; ours are not, and the name has only seconds.
        self._now += datetime.timedelta(seconds=1)
        name = f"{self.life.log.name}.{self._now:%Y%m%d-%H%M%S}"
        self.life.log.rename(self.life.log.with_name(name))
        reopen(self.life)

    def tidy(self) -> None:
        """Remove what is not in use: temporary files, and files that have been compressed."""
        paths = self.rotated()
        for path in paths:
            if path.suffix == ".tmp" or path.with_name(path.name + ".gz") in paths:
                path.unlink()

    def rotated(self) -> list[Path]:
        """Return the rotated files, sorted by name: the oldest first."""
        return sorted(self.life.log.parent.glob(f"{self.life.log.name}.*"))

    def content(self) -> bytes:
        """Return what was logged from the beginning on."""
        paths = [*self.rotated(), self.life.log]
        return b"".join([*self.removed, *map(content_of, paths)])


def content_of(path: Path) -> bytes:
    """Return a log's content, compressed or not."""
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def logged(log: Path) -> bytes:
    """Return the content of the monitor's own backups, the oldest first, and of the log."""
    found = backups(log)
    paths = [*(found[number] for number in sorted(found, reverse=True)), log]
    return b"".join(map(content_of, paths))


def history(directory: Path) -> bytes:
    """Return all that was logged to the files of *directory*, whatever they are called by now."""
    contents = [content for path in directory.iterdir() if (content := content_of(path))]
    # By the time stamps of the first and the last record: a file of one read alone may begin as the
    # one before it ends. (No file may be smaller than what one read brings.)
    lines = {content: content.splitlines() for content in contents}
    contents.sort(key=lambda content: (lines[content][0][:35], lines[content][-1][:35]))
    return b"".join(contents)


def compress(path: Path) -> None:
    """Put a compressed file in the place of a rotated one, by way of a temporary one."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_bytes(gzip.compress(path.read_bytes(), 1))
    temporary.rename(path.with_name(path.name + ".gz"))
    path.unlink()
