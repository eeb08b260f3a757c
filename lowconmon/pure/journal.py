"""Make datagrams of systemd-journald's native protocol out of what a container writes.

A line is an entry; a line of more than MAX_TEXT bytes is several, all partial but the last. What
does not end a line is held back for the rest of it. What waits to be sent is kept as it was read:
a read of newlines makes two hundred times as many bytes of entries. Beyond MAX_QUEUED it is
counted, and an entry says so where it is missing.
"""

from .losses import Losses
from .records import cut

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Piece = tuple[bytes | None, bytes]  # see `split`
    Batch = tuple[bytes, list[int]]  # datagrams, one behind the other, and their sizes

MAX_TEXT = 8192
MAX_QUEUED = 1 << 20
MAX_BATCH = 512  # datagrams, as many as systemd lets a socket queue
_BATCH_BYTES = 1 << 18  # of a batch, and of the fields that its entries repeat: labels may be long
_OVERHEAD = 128  # bytes that a piece costs beside its text
_PRIORITIES = {b"stdout": b"6", b"stderr": b"3"}  # `podman logs` gives up at any other


def field(name: bytes, value: bytes) -> bytes:
    """Return a field as it stands in a datagram, in the binary form where the value needs it."""
    if b"\n" in value:
        return name + b"\n" + len(value).to_bytes(8, "little") + value + b"\n"
    return name + b"=" + value + b"\n"


def common_fields(
    cid: bytes, name: bytes | None, tag: bytes | None, labels: "Sequence[bytes]"
) -> bytes:
    """Return the fields that all entries of a container have; *labels*: KEY=VALUE each."""
    short = cid[:12]
    identifier = next(given for given in (tag, name, short) if given is not None)
    pairs = [(b"CONTAINER_ID_FULL", cid), (b"CONTAINER_ID", short), (b"CONTAINER_TAG", tag)]
    pairs += [(b"CONTAINER_NAME", name), (b"SYSLOG_IDENTIFIER", identifier)]
    pairs += [label.partition(b"=")[::2] for label in labels]
    return b"".join([field(key, value) for key, value in pairs if value is not None])


def split(text: bytes, number: bytes | None) -> "tuple[list[Piece], bytes | None, bytes]":
    """Return the pieces of *text*, the number for what comes next, and what to hold back for it.

    A piece is (number, lines with their newlines) or (number, a part of a line without one). A
    number is None at the start of a line; later in it, that of the line's `<number>` or b"".
    """
    pieces: list[Piece] = []
    for piece in cut(text, MAX_TEXT):
        end = piece.rfind(b"\n") + 1
        lines, part = piece[:end], piece[end:]
        if lines:
            pieces.append((number, lines))
            number = None
        if len(part) < MAX_TEXT:
            return pieces, number, part
        pieces.append((number, part))
        number = _number(part) if number is None else number
    return pieces, number, b""


def _number(line: bytes) -> bytes:
    """Return N of a line that starts with `<N>`, 0 to 7; b"" of others."""
    digit = line[1:2]
    return digit if line[:1] == b"<" and line[2:3] == b">" and digit in b"01234567" else b""


class Entries:
    """One container's entries that wait to be sent."""

    __slots__ = (
        *("_batch", "_fields", "_held", "_mark_partial", "_prefix_is_priority", "_queue"),
        *("_untold", "counts", "lost", "size"),
    )

    def __init__(self, fields: bytes, *, mark_partial: bool, prefix_is_priority: bool) -> None:
        self._fields = fields
        self._mark_partial, self._prefix_is_priority = mark_partial, prefix_is_priority
        self._batch = max(1, min(MAX_BATCH, _BATCH_BYTES // len(fields)))
        self._held: dict[bytes, Piece] = {}  # by stream
        self._queue: list[tuple[bytes, Piece]] = []  # with the stream
        self._untold = Losses()
        self.counts: dict[bytes, int] = {}  # messages of each stream that were taken
        self.lost = 0  # messages
        self.size = 0  # bytes that wait

    def add(self, stream: bytes, data: bytes) -> None:
        """Queue what one read brought from *stream*."""
        number, held = self._held.get(stream, (None, b""))
        pieces, number, held = split(held + data, number)
        self._held[stream] = number, held
        for piece in pieces:
            self._put(stream, piece)

    def finish(self) -> None:
        """Queue what is held back: nothing comes any more."""
        for stream, piece in self._held.items():
            if piece[1]:
                self._put(stream, piece)
        self._held.clear()

    def take(self) -> "Batch":
        """Return the next datagrams, MAX_BATCH at most, none when nothing waits."""
        data, sizes, left = list[bytes](), list[int](), _BATCH_BYTES
        self._tell()
        while self._queue and len(sizes) < self._batch and left > 0:
            stream, (number, text) = self._queue.pop(0)
            self.size -= len(text) + _OVERHEAD
            if partial := not text.endswith(b"\n"):
                lines, rest = [text], b""
            else:
                *lines, rest = text.split(b"\n", self._batch - len(sizes))
            batch = self._format(stream, number, lines, partial=partial)
            data.append(batch[0])
            left -= len(batch[0])
            sizes += batch[1]
            if rest:
                self._queue.insert(0, (stream, (None, rest)))
                self.size += len(rest) + _OVERHEAD
        return b"".join(data), sizes

    def drop(self) -> None:
        """Count what waits as lost."""
        while self._queue:
            stream, piece = self._queue.pop()
            self._lose(stream, piece[1])
        self.size = 0

    def _put(self, stream: bytes, piece: "Piece") -> None:
        self._tell()
        if self.size >= MAX_QUEUED or self._untold:
            self._lose(stream, piece[1])
        else:
            self._queue.append((stream, piece))
            self.size += len(piece[1]) + _OVERHEAD

    def _lose(self, stream: bytes, text: bytes) -> None:
        messages = text.count(b"\n") or 1
        self._untold.add(stream, messages, len(text))
        self.lost += messages

    def _tell(self) -> None:
        """Queue the message of what was lost, when there is room again, and not for a few lines."""
        if self._untold and self.size <= MAX_QUEUED // 2:
            notice, self._untold = self._untold.notice(b"messages"), Losses()
            self._put(b"stderr", (None, notice))

    def _format(
        self, stream: bytes, number: bytes | None, lines: list[bytes], *, partial: bool
    ) -> "Batch":
        """Return the datagrams of *lines*; *number*: of the first, None where it starts a line."""
        self.counts[stream] = self.counts.get(stream, 0) + len(lines)
        mark = b"CONTAINER_PARTIAL_MESSAGE=true\n" if partial and self._mark_partial else b""
        fields, usual = self._fields + mark, _PRIORITIES[stream]
        head, text = fields + b"PRIORITY=" + usual + b"\nMESSAGE=", b"\n".join(lines)
        if number is None and text[:1] != b"<" and b"\n<" not in text:  # the usual lines
            size = len(head) + 1
            text = head + text.replace(b"\n", b"\n" + head) + b"\n"
            return text, [size + len(line) for line in lines]
        datagrams = []
        for line in lines:
            prefix = _number(line) if number is None else number
            text = line[3:] if prefix and number is None else line
            number = None
            priority = prefix if prefix and self._prefix_is_priority else usual
            numbers = field(b"PRIORITY", priority)
            numbers += field(b"SYSLOG_PRIORITY_PREFIX", prefix) if prefix else b""
            datagrams.append(b"%b%bMESSAGE=%b\n" % (fields, numbers, text))
        return b"".join(datagrams), [len(datagram) for datagram in datagrams]
