"""Read the records of a log from all its files, rotated and compressed, while it is being rotated.

A log goes on from FILE.N, the oldest, to FILE.1 and FILE; the kubelet's FILE.20261123-143000 come
before these; FILE.N.gz stands for FILE.N. Laws: the files are opened as they are at one moment, and
held until they are read. Only whole records are taken: what a writer has only begun, and may cut off
again, is read anew. A file is final when another is at its path: of a record that is torn there the
text is shown, and a stub that does not reach its text is left out.
"""

import gzip
import itertools
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter

from lowconmon import _syscalls
from lowconmon.pure.records import mend_tail

# Stamp, stream, tag, text and newline. What is no record has neither stamp nor stream.
Record = tuple[bytes, bytes, bytes, bytes]

MAX_LINE = 1 << 20  # bytes
_BLOCK = 1 << 18
_NO_LIMIT = 2**63 - 1  # of off_t, also where sys.maxsize is less
_HEAD = 4096  # bytes; no two logs begin with the same
_RECORD = re.compile(rb"(?:([0-9][0-9TZ:.+-]{19,}) (stdout|stderr) ([FP]) )?(.*\n)")
_KINDS = {it: it for it in itertools.product((b"", b"stdout", b"stderr"), (b"P", b"F"))}
_KEYS = ("time", "stream", "log")
_ROTATED = rb"(?:\.(?:(\d{8}-\d{6})|([1-9]\d{0,5}))(?:\.gz)?)?"  # behind the name of the log


def records(lines: bytes) -> list[Record]:
    """Return the records of whole lines; behind them may be a piece of one that is too long."""
    end = lines.rfind(b"\n") + 1
    found: list[Record] = _RECORD.findall(lines, 0, end)
    if b"" in [record[0] for record in found]:
        found = [record if record[0] else _other(record[3]) for record in found]
    if end < len(lines):
        found.append((b"", b"", b"P", lines[end:] + b"\n"))
    return found


def _other(line: bytes) -> Record:
    """Return the record that a line, none of a k8s-file, is in JSON."""
    try:
        fields = json.loads(line.decode("utf-8", "surrogateescape"))
        stamp, stream, text = (fields[key].encode("utf-8", "surrogateescape") for key in _KEYS)
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        stamp = stream = text = b""  # JSON of another kind, or torn, or none
    if not stamp or stream not in (b"stdout", b"stderr"):
        return b"", b"", b"F", line
    ended = text.endswith(b"\n")
    return stamp, stream, b"F" if ended else b"P", text if ended else text + b"\n"


def _mended(rest: bytes, *, last: bool) -> bytes:
    """Return the record that a torn one is worth, b"" for a stub; the *last* one may go on."""
    match = _RECORD.match(rest + b"\n")
    if match and match[1]:
        return b"%b %b %b %b" % (match[1], match[2], b"P" if last else b"F", match[4])
    stub = not rest or mend_tail(rest)[0] or (rest.startswith(b"{") and not _other(rest)[0])
    return b"" if stub else rest + b"\n"


class _File:
    """An open file of a log; `offset` is where its next whole line begins."""

    def __init__(self, path: bytes, *, grows: bool) -> None:
        self.path = path
        self.fd = _syscalls.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        status = _syscalls.fstat(self.fd)
        self._limit = _NO_LIMIT if grows else status.st_size
        self.inode = status.st_ino
        # A rotated file changes no more; one that has its inode number later has another time.
        self.seen = status.st_ino, status.st_mtime_ns, status.st_size
        self.unpacked: gzip.GzipFile | None = None
        if path.endswith(b".gz"):
            self.unpacked = gzip.GzipFile(fileobj=open(self.fd, "rb", closefd=False))  # noqa: SIM115
        self.seek(0)

    def seek(self, offset: int) -> None:
        """Go to *offset*: in a compressed file to the beginning."""
        self.offset, self._held = offset, b""
        self.error: Exception | None = None  # why it ends where it does
        if self.unpacked:
            self.unpacked.seek(0)

    def size(self) -> int:
        """Return the size to read up to, if it is not compressed."""
        return min(_syscalls.fstat(self.fd).st_size, self._limit)

    def is_of(self, other: "_File") -> bool:
        """Tell whether this is *other*, or a compression of it, by how they begin."""
        begin = self.peek(_HEAD) if self.unpacked else None
        return self.inode == other.inode or begin == _syscalls.pread(other.fd, _HEAD, 0)

    def peek(self, size: int = MAX_LINE) -> bytes:
        """Return up to *size* bytes from `offset` on."""
        try:
            if not self.unpacked:
                size = min(size, self._limit - self.offset)
                return _syscalls.pread(self.fd, size, self.offset)
            while not self.error and len(self._held) < size and (more := self.unpacked.read1(size)):
                self._held += more
        except (OSError, EOFError, zlib.error) as error:
            self.error = error
        return self._held[:size]

    def read(self) -> bytes:
        """Return the next whole lines, or MAX_LINE bytes of one; b"" when there are none."""
        data = self.peek(_BLOCK)
        if len(data) == _BLOCK and b"\n" not in data:
            data = self.peek()
        end = data.rfind(b"\n") + 1 or len(data) // MAX_LINE * MAX_LINE
        self.offset, self._held = self.offset + end, self._held[end:]
        return data[:end]

    def rest(self, *, last: bool) -> Iterator[bytes]:
        """Yield whole lines from `offset` on, then what a torn one is worth."""
        yield from iter(self.read, b"")
        yield _mended(self.peek(), last=last)

    def backwards(self, *, last: bool) -> Iterator[tuple[int, Iterable[bytes]]]:
        """Yield (offset, lines) of the parts of the file, the last one first."""
        if self.unpacked:
            yield 0, self.rest(last=last)
            return
        size = start = end = self.size()
        while start:
            start = max(start - _BLOCK, 0)
            data = _syscalls.pread(self.fd, end - start, start)
            begin = data.find(b"\n", 0, -1) + 1 if start else 0
            if begin or not start or len(data) >= MAX_LINE:
                start += begin
                self.seek(start)
                yield start, self.rest(last=last) if end == size else [data[begin:]]
                end = start


class Chain:
    """The files of one log."""

    def __init__(
        self, path: bytes, tail: int, *, follows: bool, complain: Callable[[bytes, object], None]
    ) -> None:
        """Open the files and go to where the last *tail* lines begin; -1: all. Raises OSError.

        *complain* is told paths and errors; with *follows* there may be files to come.
        """
        self.path, self._follows, self._complain = path, follows, complain
        self.drop: Counter[bytes] = Counter()  # how many lines of each stream not to show
        self._files = self._open()  # the one that is read, and those to come
        self._old = {file.seen for file in self._files}
        if not self._files and not follows:
            _File(path, grows=False)  # which tells why
        if tail >= 0:
            self._seek(tail)

    def read(self) -> bytes | None:
        """Return the next whole records; b"": look again; None: nothing more at present."""
        if not self._files:
            return self._look()
        file = self._files[0]
        if data := file.read():
            return data
        if file.error:
            self._complain(file.path, file.error)
        if len(self._files) > 1 or not self._follows:
            data = _mended(file.peek(), last=len(self._files) == 1)
            _syscalls.close(self._files.pop(0).fd)
            return data
        if not file.unpacked and file.size() < file.offset:  # truncated in place
            file.seek(0)
            return b""
        return self._look()

    def _listing(self) -> list[tuple[bytes, int]]:
        """Return (path, inode) of the files, the oldest first; of x.1 and x.1.gz only the latter."""
        found = {}
        directory, base = os.path.split(self.path)
        for entry in sorted(os.scandir(directory), key=attrgetter("name")):
            if match := re.fullmatch(re.escape(base) + _ROTATED, entry.name):
                key = (0, match[1]) if match[1] else (1, -int(match[2])) if match[2] else (2, 0)
                found[key] = entry.path, entry.inode()
        return [found[key] for key in sorted(found)]

    def _open(self) -> list[_File]:
        """Open the files, the oldest first, as they are at one moment."""
        files = list[_File]()
        for _ in range(100):
            for file in files:
                _syscalls.close(file.fd)
            listing, files = self._listing(), []
            for path, _ in listing:
                try:
                    files.append(_File(path, grows=self._follows))
                except FileNotFoundError:  # moved on
                    continue
                except OSError as error:
                    self._complain(path, error)
            if listing == self._listing():
                break
        return files

    def _look(self) -> bytes | None:
        """Open what has come after the present file, and return as `read` does."""
        try:
            inode = _syscalls.stat(self.path).st_ino
        except FileNotFoundError:  # moved away: its writer still has it, and will make another
            return None
        if not self._follows or [file.inode for file in self._files] == [inode]:
            return None
        files, newer = self._open(), list[_File]()
        while files and files[-1].seen not in self._old:
            if any(files[-1].is_of(present) for present in self._files):
                break
            newer.insert(0, files.pop())
        self._old = {file.seen for file in files + newer}
        for file in files:
            _syscalls.close(file.fd)
        self._files += newer
        return b"" if newer else None

    def _seek(self, count: int) -> None:
        """Go to where the last *count* lines begin; drop those that end there before them."""
        met, beyond = set[bytes](), 0
        for index, file in reversed([*enumerate(self._files)]):
            for offset, parts in file.backwards(last=file is self._files[-1]):
                kinds = list[tuple[bytes, bytes]]()
                for part in parts:
                    kinds += [_KINDS[record[1:3]] for record in records(part)]
                    beyond += 0 if count else len(part)
                for stream, tag in reversed(kinds):
                    if tag == b"F" or stream not in met:  # a line that has not ended is one, too
                        if count:
                            count -= 1
                        else:
                            self.drop[stream] += 1
                    met.add(stream)
                # Each stream's first line begins behind the end of the one before. Lest all is read
                # for a stream that says little, that is looked for no farther than MAX_LINE.
                if not count and (met == self.drop.keys() or beyond > MAX_LINE):
                    for older in self._files[:index]:
                        _syscalls.close(older.fd)
                    del self._files[:index]
                    file.seek(offset)
                    return
            file.seek(0)
