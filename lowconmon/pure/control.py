"""Split and read the lines of the control FIFOs (section 8 of the contract)."""

MAX_LINE = 200  # bytes, newline included: a line of that size or more is ignored whole
RESIZE, REOPEN = 1, 2
_MAX_NUMBER = 1000


class LineBuffer:
    """Turn bytes, however they arrive, into lines; holds less than MAX_LINE bytes of an open one."""

    __slots__ = ("_open", "_skipping")

    def __init__(self) -> None:
        self._open = b""
        self._skipping = False

    def feed(self, data: bytes) -> "list[bytes | None]":
        """Return the lines that *data* completes, without newline; None for one too long."""
        *ended, rest = data.split(b"\n")
        lines: list[bytes | None] = []
        for line in ended:
            whole = self._open + line
            too_long = self._skipping or len(whole) + 1 >= MAX_LINE
            lines.append(None if too_long else whole)
            self._open, self._skipping = b"", False
        self._open += rest[:MAX_LINE]
        if len(self._open) + 1 >= MAX_LINE:
            self._open, self._skipping = b"", True
        return lines


def _numbers(line: bytes, wanted: int) -> list[int]:
    """Return up to *wanted* decimal integers as scanf's %d finds them; what follows is ignored."""
    found: list[int] = []
    while len(found) < wanted:
        line = line.lstrip(b" \t\r\v\f")
        digits = 1 if line[:1] in (b"+", b"-") else 0
        end = digits
        while line[end : end + 1].isdigit():
            end += 1
        if end == digits:
            break
        # More digits than any good number has: too large, and int() would refuse 5,000 of them.
        found.append(int(line[:end]) if end < 300 else _MAX_NUMBER + 1)
        line = line[end:]
    return found


def parse_control(line: bytes) -> tuple[int, int, int] | None:
    """Return (RESIZE, rows, columns) or (REOPEN, x, y) of a ctl line, None for a bad one."""
    numbers = _numbers(line, 3)
    if len(numbers) < 3 or numbers[0] not in (RESIZE, REOPEN):
        return None
    in_range = all(0 <= number <= _MAX_NUMBER for number in numbers)
    return (numbers[0], numbers[1], numbers[2]) if in_range else None
