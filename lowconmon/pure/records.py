r"""Format and mend k8s-file records: `2026-11-23T14:30:00.776455356+00:00 stdout F text\n`.

A record's text is at most MAX_TEXT bytes, kept exactly. F ends a line of the container, P does not;
what one read brought is formatted at once, so a text without newline is a P, and nothing is held.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Buffer, Callable

MAX_TEXT = 8192
_STAMP = b"0000-00-00T00:00:00.000000000"
_STREAMS = (b"stdout", b"stderr")
_ZEROS = bytes.maketrans(b"123456789", b"000000000")


def civil(days: int) -> tuple[int, int, int]:
    """Return (year, month, day) of *days* since 1970-01-01, for any year, without time_t."""
    days += 719468  # from 0000-03-01, so that the leap day is a year's last
    era, day_of_era = divmod(days, 146097)
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36524 - day_of_era // 146096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month + 2) // 5 + 1
    return era * 400 + year + (month >= 10), month + 3 if month < 10 else month - 9, day


def stamp(now_ns: int, utc_offset: int) -> bytes:
    """Return the RFC 3339 stamp of *now_ns* since the epoch, *utc_offset* seconds east of UTC."""
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    days, rest = divmod(seconds + utc_offset, 86400)
    year, month, day = civil(days)
    sign, offset = (b"-", -utc_offset) if utc_offset < 0 else (b"+", utc_offset)
    return b"%04d-%02d-%02dT%02d:%02d:%02d.%09d%s%02d:%02d" % (
        *(year, month, day, rest // 3600, rest // 60 % 60, rest % 60, nanoseconds, sign),
        *(offset // 3600, offset // 60 % 60),
    )


class K8sRecords:
    """The k8s-file format; json_records.JsonRecords has the same methods."""

    __slots__ = ("_minute", "_quick", "_stamp", "counts")

    def __init__(self, quick: "Callable[[bytes, bytes, bytes, int], Buffer] | None" = None) -> None:
        """*quick*: does what `frame_lines` does, where it can."""
        self.counts: dict[bytes, int] = {}  # records of each stream
        self._quick = quick
        self._minute, self._stamp = (-1, 0), b""  # of the last record; offset; all but its seconds

    def format(self, stream: bytes, now_ns: int, utc_offset: int, data: bytes) -> "Buffer":
        """Return the records of what one read brought from *stream* at *now_ns*."""
        minute, rest_ns = divmod(now_ns + utc_offset * 1_000_000_000, 60_000_000_000)
        if (minute, utc_offset) != self._minute:
            whole, self._minute = stamp(now_ns, utc_offset), (minute, utc_offset)
            self._stamp = whole[:-18] + b"%02d.%09d" + whole[-6:] + b" "
        head = self._stamp % divmod(rest_ns, 1_000_000_000) + stream
        if 0 <= data.find(b"\n") == len(data) - 1 <= MAX_TEXT:  # one line: the usual case
            records: Buffer = head + b" F " + data
        else:
            given = data, head + b" F ", head + b" P ", MAX_TEXT
            records = (self._quick and self._quick(*given)) or frame_lines(*given)
        # Without a pass over them: each has a head, and each P, of which one read brings fewer
        # than a head has bytes, a newline that was not in the data.
        count = (len(records) - len(data)) // (len(head) + 3)
        self.counts[stream] = self.counts.get(stream, 0) + count
        return records

    def finish(self, now_ns: int) -> bytes:  # noqa: ARG002 - as JsonRecords
        """Return the records of what was held back: nothing is."""
        return b""

    @staticmethod
    def stream_of(record: bytes) -> bytes:
        """Return the stream of one of our records."""
        return record[36:42]

    @staticmethod
    def mend_tail(tail: bytes) -> tuple[int, bytes]:
        """Return (bytes to cut off, bytes to append) that make a log ending in *tail* whole again.

        *tail* is the last few records' worth of the file. A last record that a crash left open gets its
        newline when its four fields are there, and is cut off otherwise.
        """
        open_record = tail[tail.rfind(b"\n") + 1 :]
        fields = open_record.split(b" ", 3)
        whole = len(fields) == 4 and fields[1] in _STREAMS and fields[2] in (b"F", b"P")
        begins_as_ours = _STAMP.startswith(open_record[: len(_STAMP)].translate(_ZEROS))
        foreign = not begins_as_ours and open_record.strip(b"\0")  # someone else's bytes stay
        return (0, b"\n") if whole or foreign else (len(open_record), b"")


def frame_lines(data: bytes, full: bytes, partial: bytes, limit: int) -> bytes:
    """Return each line of *data* behind *full*, parts of longer ones and an open one behind *partial*.

    A part is of *limit* bytes, but for the last one, which is the line's if that has ended.
    """
    parts = list[bytes]()
    for piece in cut(data, limit):
        end = piece.rfind(b"\n") + 1
        if end:
            parts += full, piece[: end - 1].replace(b"\n", b"\n" + full), b"\n"
        if end < len(piece):
            parts += partial, piece[end:], b"\n"
    return b"".join(parts)


def cut(text: bytes, limit: int, *, between_characters: bool = False) -> list[bytes]:
    """Return *text* in pieces, cut where a line has more than *limit* bytes.

    All but the last end with so many bytes of a line, or fewer where a character would be cut.
    """
    pieces, begun, start = [], 0, 0
    while len(text) - start > limit:
        end = text.rfind(b"\n", start, start + limit + 1) + 1
        if not end:
            end = start + limit
            while between_characters and text[end] & 0xC0 == 0x80:  # not the first byte of one
                end -= 1
            pieces.append(text[begun:end])
            begun = end
        start = end
    return [*pieces, text[begun:]]


mend_tail = K8sRecords.mend_tail  # for readers of a log
