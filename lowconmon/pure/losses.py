"""Count what a log could not take, and word the notice that stands in its place."""


class Losses(dict[bytes, tuple[int, int]]):
    """How many records are lost, and bytes of them, by stream."""

    __slots__ = ()

    def add(self, stream: bytes, count: int, size: int) -> None:
        """Count as many records of *size* bytes together."""
        if count:
            before = self.get(stream, (0, 0))
            self[stream] = before[0] + count, before[1] + size

    def notice(self, unit: bytes) -> bytes:
        """Return the line that tells of them; *unit*: what this log calls its records."""
        parts = [
            b"%d %b (%d bytes) of %b" % (count, unit, size, stream)
            for stream, (count, size) in sorted(self.items(), reverse=True)
        ]
        return b"[lowconmon: %b could not be written here]\n" % b" and ".join(parts)
