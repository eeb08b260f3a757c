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

MAX_TEXT, MAX_QUEUED = 8192, 1 << 20
_JOINED = 8192  # bytes of short pieces that are made one: few heads, few calls
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


def _number(text: bytes, start: int = 0) -> bytes:
    """Return N of a line that starts with `<N>`, 0 to 7; b"" of others."""
    digit = text[start + 1 : start + 2]
    has_prefix = text.startswith(b"<", start) and text.startswith(b">", start + 2)
    return digit if has_prefix and digit in b"01234567" else b""


def _end_of_run(text: bytes, at: int, number: bytes) -> int:
    """Return where the lines from *at* on end that all have *number*, b"": none."""
    if number:
        while text.startswith(b"<%b>" % number, at):
            at = text.find(b"\n", at) + 1 or len(text)
        return at
    at = text.find(b"\n<", at) + 1
    while at and not _number(text, at):
        at = text.find(b"\n<", at) + 1
    return at or len(text)


class Entries:
    """One container's entries that wait to be sent."""

    __slots__ = (
        *("_at", "_fields", "_held", "_mark_partial", "_prefix_is_priority", "_queue", "_untold"),
        *("counts", "lost", "size"),
    )

    def __init__(self, fields: bytes, *, mark_partial: bool, prefix_is_priority: bool) -> None:
        self._fields = fields
        self._mark_partial, self._prefix_is_priority = mark_partial, prefix_is_priority
        self._held: dict[bytes, Piece] = {}  # by stream
        self._queue: list[tuple[bytes, Piece]] = []  # with the stream
        self._at = 0  # what of the first one's text is taken
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

    def take(self) -> tuple[bytes, bytes, int]:
        """Return a head, and the next lines: behind it each, but for so many bytes, is a datagram."""
        self._tell()
        if not self._queue:
            return b"", b"", 0
        (stream, (number, text)), start, skip = self._queue[0], self._at, 0
        if start or number is None:
            number = _number(text, start)
            end, skip = _end_of_run(text, start, number), 3 * len(number)
        else:
            end = text.find(b"\n") + 1 or len(text)
        self.size, self._at = self.size - (end - start), end
        if end == len(text):
            self._at, self.size = 0, self.size - _OVERHEAD
            del self._queue[0]
        lines, marks = text[start:end], b""
        if not lines.endswith(b"\n"):
            lines += b"\n"
            marks = b"CONTAINER_PARTIAL_MESSAGE=true\n" if self._mark_partial else b""
        if number:
            marks += field(b"SYSLOG_PRIORITY_PREFIX", number)
        priority = number if number and self._prefix_is_priority else _PRIORITIES[stream]
        self.counts[stream] = self.counts.get(stream, 0) + lines.count(b"\n")
        return self._fields + marks + field(b"PRIORITY", priority) + b"MESSAGE=", lines, skip

    def drop(self) -> None:
        """Count what waits as lost."""
        while self._queue:
            stream, piece = self._queue.pop()
            self._lose(stream, piece[1] if self._queue else piece[1][self._at :])
        self.size = self._at = 0

    def _put(self, stream: bytes, piece: "Piece") -> None:
        self._tell()
        if self.size >= MAX_QUEUED or self._untold:
            self._lose(stream, piece[1])
            return
        if self._queue and piece[0] is None and piece[1].endswith(b"\n"):
            last, (number, text) = self._queue[-1]
            if last == stream and len(text) < _JOINED and text.endswith(b"\n"):
                piece = number, text + piece[1]
                self.size -= len(text) + _OVERHEAD
                del self._queue[-1]
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
