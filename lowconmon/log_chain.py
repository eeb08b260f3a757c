"""Read the records of a log through its rotated and compressed files, while it is being rotated.

A log FILE goes on from FILE.N, the oldest, to FILE.1 and FILE; the kubelet's FILE.20261123-143000
come before these. FILE.N.gz stands for FILE.N. Laws: the files are opened as they are at one moment,
and held open until they are read. Only whole records are taken: what a writer has only begun, and
may cut off again, is read anew. A file has its final size when another is at its path.
"""

import gzip
import itertools
import json
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from . import _syscalls
from .pure.records import mend_tail

Record = tuple[bytes, bytes, bytes, bytes]  # stamp, stream, tag, text; with a newline, P's too

MAX_LINE = 1 << 20  # bytes
_BLOCK, _TAIL_BLOCK = 1 << 18, 1 << 16
_RECORD = re.compile(rb"(?:([0-9][0-9TZ:.+-]{19,}) (stdout|stderr) ([FP]) )?(.*\n)")
_ROTATED = rb"(?:\.(?:(\d{8}-\d{6})|([1-9]\d{0,5}))(?:\.gz)?)?"  # behind the name of the log


def records(lines: bytes) -> list[Record]:
    """Return the records of whole lines; what is none is an F without stamp and stream."""
    if not lines.endswith(b"\n"):  # MAX_LINE bytes of what cannot be one
        return [(b"", b"", b"P", lines + b"\n")] if lines else []
    found: list[Record] = _RECORD.findall(lines)
    if b"" in [record[0] for record in found]:
        return [record if record[0] else _other(record[3]) for record in found]
    return found


def _other(line: bytes) -> Record:
    """Return the record that a line, none of a k8s-file, is in JSON."""
    try:
        if line.startswith(b"{"):
            fields = json.loads(line.decode("utf-8", "surrogateescape"))
            keys = ("time", "stream", "log")
            stamp, stream, text = (fields[key].encode("utf-8", "surrogateescape") for key in keys)
            if stamp and stream in (b"stdout", b"stderr"):
                ended = text.endswith(b"\n")
                return (stamp, stream, b"F", text) if ended else (stamp, stream, b"P", text + b"\n")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        pass  # JSON of another kind, or torn
    return b"", b"", b"F", line


def _mended(rest: bytes, *, last: bool) -> bytes:
    """Return the record that a torn one is worth, b"" for a stub; the *last* one may go on."""
    match = _RECORD.match(rest + b"\n")
    if match and match[1]:
        return b"%b %b %b %b" % (match[1], match[2], b"P" if last else b"F", match[4])
    cut, _ = mend_tail(rest)
    stub = not rest or cut or (rest.startswith(b"{") and not _other(rest)[0])
    return b"" if stub else rest + b"\n"


class _File:
    """An open file of a log; `offset` is where its next whole line begins."""

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.fd = _syscalls.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        status = _syscalls.fstat(self.fd)
        self.id = status.st_dev, status.st_ino
        # A rotated file changes no more; one that has its inode number later has another time.
        self.seen = *self.id, status.st_mtime_ns, status.st_size
        self.limit = sys.maxsize
        self.error: Exception | None = None  # why it ends where it does
        self.rewind()

    def close(self) -> None:
        """Close the file."""
        _syscalls.close(self.fd)

    def rewind(self) -> None:
        """Go to the beginning."""
        self.offset, self._held = 0, b""
        self._unpacked: gzip.GzipFile | None = None
        if self.path.endswith(b".gz"):
            os.lseek(self.fd, 0, os.SEEK_SET)
            self._unpacked = gzip.GzipFile(fileobj=open(self.fd, "rb", closefd=False))  # noqa: SIM115

    def size(self) -> int:
        """Return the size to read up to, modulo 2**32 that of what a compressed file holds."""
        if self._unpacked:
            return int.from_bytes(_syscalls.pread(self.fd, 4, max(self.seen[3] - 4, 0)), "little")
        return min(_syscalls.fstat(self.fd).st_size, self.limit)

    def shrank(self) -> bool:
        """Tell whether more was cut off than a record that had only begun."""
        return not self._unpacked and self.size() < self.offset

    def is_packed(self, other: "_File") -> bool:
        """Tell whether this is a compression of *other*."""
        if not self._unpacked or self.size() != other.size() % 2**32:
            return False
        return self.peek(256)[:256] == _syscalls.pread(other.fd, 256, 0)

    def peek(self, size: int = MAX_LINE) -> bytes:
        """Return up to *size* bytes from `offset` on."""
        try:
            if not self._unpacked:
                count = max(min(size, self.limit - self.offset), 0)
                return _syscalls.pread(self.fd, count, self.offset)
            while len(self._held) < size and not self.error:
                piece = self._unpacked.read1(_BLOCK)
                if not piece:
                    break
                self._held += piece
        except (OSError, EOFError, zlib.error) as error:
            self.error = error
        return self._held[:size]

    def read(self) -> bytes:
        """Return the next whole lines, or MAX_LINE bytes of one; b"" when there are none."""
        data = self.peek(_BLOCK)
        end = data.rfind(b"\n") + 1
        if not end and len(data) == _BLOCK:
            data = self.peek()
            end = data.rfind(b"\n") + 1 or len(data) // MAX_LINE * MAX_LINE
        self.offset, self._held = self.offset + end, self._held[end:]
        return data[:end]

    def backwards(self) -> Iterator[tuple[int, Iterable[bytes]]]:
        """Yield (offset, lines) of the parts of the file, the last one first."""
        if self._unpacked:
            yield 0, itertools.chain(iter(self.read, b""), map(_File.peek, [self]))
            return
        start, carry = self.size(), b""
        while start:
            end, start = start, max(start - _TAIL_BLOCK, 0)
            data = _syscalls.pread(self.fd, end - start, start)
            begin = data.find(b"\n") + 1 if start else 0
            if begin or not start:
                yield start + begin, [data[begin:] + carry]
                carry = data[:begin]
            else:
                carry = data + carry
                if len(carry) > MAX_LINE:
                    carry = carry[:MAX_LINE] + b"\n"


class Chain:
    """The files of one log."""

    def __init__(
        self, path: bytes, *, follows: bool, complain: Callable[[bytes, object], None]
    ) -> None:
        """*complain* is told paths and errors; with *follows* there may be files to come."""
        self.path, self._follows, self._complain = path, follows, complain
        self.directory, self.base = os.path.split(path)
        self._pattern = re.compile(re.escape(self.base) + _ROTATED)
        self._files: list[_File] = []  # the one that is read, and those to come
        self._old: set[tuple[int, ...]] = set()  # files that come before these

    def start(self, tail: int) -> Counter[bytes]:
        """Open the files and go to where the last *tail* lines begin; negative: to the beginning.

        Returns how many lines of each stream end there before those lines. Raises OSError.
        """
        self._files = self._open()
        if not self._files and not self._follows:
            self._files = [_File(self.path)]  # which tells why
        self._old = {file.seen for file in self._files[:-1]}
        for file in [] if self._follows else self._files:
            file.limit = file.size()
        return self._seek(tail) if tail >= 0 else Counter()

    def read(self) -> bytes | None:
        """Return the next whole records; b"": look again; None: nothing more at present."""
        if not self._files:
            return b"" if self._follows and self._look() else None
        file = self._files[0]
        data = file.read()
        if data:
            return data
        if file.error:
            self._complain(file.path, file.error)
        if self._follows and file.shrank():
            file.rewind()
        elif len(self._files) > 1 or not self._follows:
            data = _mended(file.peek(), last=len(self._files) == 1)
            self._files.pop(0).close()
        elif not self._look():
            return None
        return data

    def _listing(self) -> list[tuple[bytes, int]]:
        """Return (path, inode) of the files, the oldest first."""
        found: dict[tuple[int, bytes | int], tuple[bytes, int]] = {}
        for name in sorted(os.listdir(self.directory)):  # x.1 comes before x.1.gz
            if match := self._pattern.fullmatch(name):
                key = (0, match[1]) if match[1] else (1, -int(match[2])) if match[2] else (2, 0)
                path = os.path.join(self.directory, name)
                try:
                    found[key] = path, _syscalls.stat(path).st_ino
                except FileNotFoundError:  # moved on
                    continue
        return [found[key] for key in sorted(found)]

    def _open(self) -> list[_File]:
        """Open the files, the oldest first, as they are at one moment."""
        for tries_left in range(999, -1, -1):
            listing, files, errors = self._listing(), list[_File](), dict[bytes, OSError]()
            for path, _ in listing:
                try:
                    files.append(_File(path))
                except OSError as error:
                    errors[path] = error
            if listing == self._listing() or not tries_left:
                break
            for file in files:
                file.close()
        for path, why in errors.items():
            self._complain(path, why)
        return files

    def _look(self) -> bool:
        """Open what has come after the present file; tell whether anything has."""
        present = self._files[0] if self._files else None
        try:
            status = _syscalls.stat(self.path)
        except FileNotFoundError:  # moved away: its writer still has it, and will make another
            return False
        if present and present.id == (status.st_dev, status.st_ino):
            return False
        files = self._open()
        newer = [file for file in files if file.seen not in self._old]
        for index, file in enumerate(files):
            if present and (file.id == present.id or file.is_packed(present)):
                newer = files[index + 1 :]
        for file in files:
            if file not in newer:
                file.close()
        self._old = {file.seen for file in files[:-1]}
        self._files += newer
        return bool(newer)

    def _seek(self, count: int) -> Counter[bytes]:
        dropped, counted, met, beyond = Counter[bytes](), set[bytes](), set[bytes](), 0
        for index in reversed(range(len(self._files))):
            file = self._files[index]
            for offset, parts in file.backwards():
                ends, tags = list[bytes](), dict[bytes, bytes]()
                for part in parts:
                    whole = part.rfind(b"\n") + 1
                    rest = _mended(part[whole:], last=file is self._files[-1])
                    for _, stream, tag, _ in records(part[:whole] + rest):
                        tags[stream] = tag
                        if tag == b"F":
                            ends.append(stream)
                    beyond += 0 if count else len(part)
                # A line that has not ended counts, too.
                ends += [it for it, tag in tags.items() if tag == b"P" and it not in met]
                met.update(tags)
                before = max(len(ends) - count, 0)
                count -= len(ends) - before
                dropped.update(ends[:before])
                counted.update(ends[before:])
                # Each stream's first line begins behind the end of the one before. Lest all is read
                # for a stream that says little, that is looked for no farther than this.
                if not count and (counted <= dropped.keys() or beyond > MAX_LINE):
                    file.rewind()
                    file.offset = offset
                    for older in self._files[:index]:
                        older.close()
                    del self._files[:index]
                    return dropped
            file.rewind()
        return dropped
