"""A container that writes numbered lines on both streams, and the proof that none was lost.

What line a number has is known on both sides: `line` here and in the container are one function.
"""

from __future__ import annotations

import inspect
import sys

from tests.support.life import Life

LIMIT = 1_500_000  # lines of each stream; a container that nobody stops ends there

CONTAINER = """
import os
{line}
{begin}
number, stop, size = 0, {stop!r}, {size}
while number < {lines} and (number % 64 or not os.path.exists(stop)):
    number += 1
    for fd in (1, 2):
        os.write(fd, line(number, size))
with open({count!r} + ".new", "w") as file:
    file.write(str(number))
os.rename({count!r} + ".new", {count!r})
{end}
"""


def line(number: int, size: int) -> bytes:
    """Return a line of up to *size* bytes more than its number; a few are of many records."""
    return b"%d %s\n" % (number, b"x" * (20_000 if number % 499 == 0 else number % (size + 1)))


class Load:
    """The container's side of one life; it ends with status 3 when stopped, or after *lines*."""

    def __init__(
        self,
        life: Life,
        *,
        lines: int = LIMIT,
        size: int = 60,
        begin: str = "",
        end: str = "",
    ) -> None:
        """*begin*, *end*: Python that the container runs before its first and after its last line."""
        self.life, self.size = life, size
        self.count = life.directory / "count"  # appears when all is written
        self._stop = life.directory / "stop"
        script = life.directory / "load.py"
        script.write_text(
            CONTAINER.format(
                line=inspect.getsource(line),
                stop=str(self._stop),
                count=str(self.count),
                size=size,
                lines=lines,
                begin=begin,
                end=f"{end}\nos._exit(3)",
            )
        )
        self.container = f"exec {sys.executable} -IS {script}"

    def stop(self) -> None:
        """Let the container end."""
        self._stop.touch()

    def texts(self) -> tuple[bytes, bytes]:
        """Return what the container has written on stdout and stderr; it has ended."""
        text = self.text(int(self.count.read_text()))
        return text, text

    def text(self, lines: int) -> bytes:
        """Return the first lines of either stream."""
        return b"".join(line(number, self.size) for number in range(1, lines + 1))
