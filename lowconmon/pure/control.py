"""Split and read the lines of the control FIFOs (section 8 of the contract)."""

MAX_LINE = 200  # bytes, newline included: a line of that size or more is ignored whole
RESIZE, REOPEN = 1, 2
_MAX_NUMBER = 1000


class LineBuffer:
    """Turn bytes, however they arrive, into lines; holds less than MAX_LINE bytes of an open one."""

    __slots__ = ("_open",)

    def __init__(self) -> None:
        self._open = b""

    def feed(self, data: bytes) -> "list[bytes | None]":
        """Return the lines that *data* completes, without newline; None for one too long."""
        *lines, rest = (self._open + data).split(b"\n")
        self._open = rest[: MAX_LINE - 1]  # no more is needed to know a line that is too long
        return [line if len(line) + 1 < MAX_LINE else None for line in lines]


def parse_control(line: bytes) -> tuple[int, int, int] | None:
    """Return (RESIZE, rows, columns) or (REOPEN, x, y) of a ctl line, read as by scanf, or None."""
    numbers: list[int] = []
    for _ in range(3):
        line = line.lstrip(b" \t\r\v\f")
        digits = end = 1 if line[:1] in (b"+", b"-") else 0
        while line[end : end + 1].isdigit():
            end += 1
        if not digits < end < 300:  # no good number is so long, and int() would refuse 5,000 digits
            return None
        numbers.append(int(line[:end]))
        line = line[end:]
    command, first, second = numbers
    in_range = 0 <= first <= _MAX_NUMBER and 0 <= second <= _MAX_NUMBER
    return (command, first, second) if in_range and command in (RESIZE, REOPEN) else None
