"""Give the container's output to every log driver that was asked for."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Any, Callable, Compression, Driver, Loop

_SETTLE_MS, _SETTLE_TRIES, _CLOSE_TRIES = 10, 100, 600


class Logs:
    """The log drivers of one container: none, a file, the journal, or both.

    With *passthrough* the container's stdio is the manager's, and nothing comes here.
    """

    __slots__ = ("compression", "drivers", "loop", "passthrough")

    def __init__(self, loop: "Loop") -> None:
        """Begin with no driver: `drivers` is a list to be added to."""
        self.loop = loop
        self.drivers: list[Driver] = []
        self.compression: Compression | None = None
        self.passthrough = False

    def rooms(self) -> "list[Any]":
        """Return what can be detached, each on its own."""
        return [*self.drivers, *([self.compression] if self.compression else [])]

    def facts(self, sizes: "dict[bytes, int]") -> "dict[str, Any]":
        """Return what operators read of the logs; *sizes*: bytes that came of each stream."""
        tallies = [driver.tally() for driver in self.drivers]
        facts: dict[str, Any] = {
            name.decode(): {
                "bytes": sizes.get(name, 0),
                "records": max(
                    (it[0].get(name, 0) - it[1].get(name, 0) for it in tallies), default=0
                ),
            }
            for name in (b"stdout", b"stderr")
        }
        facts["dropped_records"] = sum(sum(it[1].values()) for it in tallies)
        facts["held_bytes"] = sum(it[2] for it in tallies)
        facts["rotations"] = sum(it[3] for it in tallies)
        return facts

    def watch_room(self, on_room: "Callable[[], object]") -> None:
        """Call *on_room* when `full` may no longer be true."""
        for driver in self.drivers:
            driver.on_room = on_room

    def full(self) -> bool:
        """Tell whether the container's output should wait."""
        return any(driver.full() for driver in self.drivers)

    def write(self, stream: bytes, now_ns: int, data: bytes) -> bool:
        """Log what one read brought from *stream* at *now_ns*; tell whether more should wait."""
        full = False
        for driver in self.drivers:
            driver.write(stream, now_ns, data)
            full |= driver.full()
        return full

    def finish(self, then: "Callable[[], object]") -> None:
        """Log what was held back; call *then* when nothing waits to be written, or in a second."""
        for driver in self.drivers:
            self.loop.call(driver.finish)
        self._settle(then, _SETTLE_TRIES)

    def reopen(self) -> None:
        """Begin a fresh file, as the manager has asked."""
        for driver in self.drivers:
            driver.reopen()

    def sync(self) -> None:
        """Put what is written on stable storage; may take as long as the disk does."""
        for driver in self.drivers:
            driver.sync()

    def close(self, then: "Callable[[], object]") -> None:
        """Close all of them, each on its own; call *then* when that is done, or in some 6 s."""
        for room in self.rooms():
            self.loop.call_later(0, room.close)
        self.loop.call_later(0, lambda: self._settle(then, _CLOSE_TRIES))

    def _settle(self, then: "Callable[[], object]", tries: int) -> None:
        if tries and any(driver.holds() for driver in self.drivers):
            self.loop.call_later(_SETTLE_MS, lambda: self._settle(then, tries - 1))
        else:
            then()
