r"""Format and mend docker's json-file records: `{"log":"text\n","stream":"stdout","time":"...Z"}`.

A `\n` ends a line of the container; a record without it goes on in the next of its stream. What is
no UTF-8 becomes U+FFFD; a character of which a read brought only the beginning waits for the next.
"""

import _codecs as codecs  # in C

from .records import cut, stamp

MAX_TEXT = 16384  # before it is escaped: a whole record has at most 6 * MAX_TEXT + 71 bytes
_HEAD = b'{"log":"'
_CUT, _LINE = b"\xff", b"\xfe"  # in no UTF-8 text: where a line was cut, and where one ends
# The backslash comes first: the others bring new ones. Newlines end lines.
_ESCAPES = {b"\\": rb"\\", b'"': rb"\"", b"\r": rb"\r", b"\t": rb"\t"}
_ESCAPES |= {bytes((code,)): rb"\u%04x" % code for code in range(32) if code not in b"\n\r\t"}
_PLAIN = bytes(code for code in range(256) if bytes((code,)) not in _ESCAPES)


class JsonRecords:
    """The json-file format; records.K8sRecords has the same methods."""

    __slots__ = ("_held", "counts")

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}  # records of each stream
        self._held: dict[bytes, bytes] = {}  # stream: a character's first bytes, at most three

    def format(self, stream: bytes, now_ns: int, utc_offset: int, data: bytes) -> bytes:  # noqa: ARG002 - UTC
        """Return the records of what one read brought from *stream* at *now_ns*."""
        return self._format(stream, now_ns, data, final=False)

    def finish(self, now_ns: int) -> bytes:
        """Return the records of what was held back: no more of it comes."""
        return b"".join([self._format(it, now_ns, b"", final=True) for it in self._held])

    def _format(self, stream: bytes, now_ns: int, data: bytes, *, final: bool) -> bytes:
        data = self._held.get(stream, b"") + data
        characters, used = codecs.utf_8_decode(data, "replace", final)
        self._held[stream] = data[used:]
        if not characters:
            return b""
        text = _escape(_CUT.join(cut(characters.encode(), MAX_TEXT, between_characters=True)))
        for separator in "\u2028\u2029":  # escaped by Go: not every JavaScript may hold them
            if separator in characters:
                text = text.replace(separator.encode(), rb"\u%04x" % ord(separator))
        part = b'","stream":"%b","time":"%bZ"}\n' % (stream, stamp(now_ns, 0)[:-6])
        line = rb"\n" + part
        last = line if text.endswith(b"\n") else part
        # The longest step comes last, once: many empty lines make much of little.
        text = _HEAD + text.removesuffix(b"\n").replace(b"\n", _LINE) + last
        pieces = text.replace(_CUT, part + _HEAD)
        records = pieces.replace(_LINE, line + _HEAD)
        count = (len(pieces) - len(text)) // (len(part + _HEAD) - 1) + 1
        count += (len(records) - len(pieces)) // (len(line + _HEAD) - 1)
        self.counts[stream] = self.counts.get(stream, 0) + count
        return records

    @staticmethod
    def stream_of(record: bytes) -> bytes:
        """Return the stream of one of our records, with its newline or without."""
        return record.rsplit(b'"', 6)[1]

    @staticmethod
    def mend_tail(tail: bytes) -> tuple[int, bytes]:
        """Return (bytes to cut off, bytes to append) that make a log ending in *tail* whole again.

        *tail* is a whole record's worth of the file, or all of it. Only what begins as a record and
        does not end as one is cut off. A text's quotes are escaped, so none of its bytes look so.
        """
        last = tail[tail.rfind(b"\n") + 1 :]
        torn = _HEAD.startswith(last[: len(_HEAD)]) and not last.endswith(b'Z"}')
        return (len(last), b"") if torn else (0, b"\n")


def _escape(text: bytes) -> bytes:
    """Escape all that JSON wants escaped, but for newlines."""
    special = text.translate(None, _PLAIN)
    for byte, escape in _ESCAPES.items() if special else ():
        if byte in special:
            text = text.replace(byte, escape)
    return text
