"""The lines of the control FIFOs: split however they arrive, read as scanf reads them."""

from __future__ import annotations

import ctypes
import re
import tracemalloc

import pytest
from hypothesis import example, given, strategies as st

from lowconmon.pure.control import (
    MAX_LINE,
    REOPEN,
    RESIZE,
    LineBuffer,
    parse_control,
)

LIBC = ctypes.CDLL(None)


def reference(data: bytes) -> list[bytes | None]:
    """Return the lines that a stream holds, None for those of 200 bytes or more."""
    lines = data.split(b"\n")[:-1]
    return [line if len(line + b"\n") < 200 else None for line in lines]


def fed(pieces: list[bytes]) -> list[bytes | None]:
    buffer = LineBuffer()
    return [line for piece in pieces for line in buffer.feed(piece)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(data) + 1) for place in places)
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


STREAMS = st.lists(
    st.one_of(
        st.sampled_from([b"1 10 20", b"2 0 0", b"", b"\r", b"\0", b"x" * 5]),
        st.integers(190, 210).map(lambda size: b"y" * size),
        st.sampled_from([398, 399, 400, 401, 5000]).map(lambda size: b"z" * size),
    ),
    max_size=12,
).map(b"\n".join)


@pytest.mark.contract("CTL-12", "CTL-14", "CASE-701", "CASE-702", "CASE-704")
@given(STREAMS, st.lists(st.integers(0, 20000), max_size=20), st.sampled_from([b"", b"\n"]))
def test_lines_do_not_depend_on_how_they_arrive(data: bytes, places: list[int], end: bytes) -> None:
    data += end
    assert fed([data]) == reference(data)
    assert fed([data[i : i + 1] for i in range(len(data))]) == reference(data)
    assert fed(cut(data, places)) == reference(data)


@pytest.mark.contract("CTL-12")
@pytest.mark.parametrize("size", [198, 199, 200, 201])
@pytest.mark.parametrize("step", [1, 7, 100, 199, 200, 1000])
def test_a_line_of_200_bytes_with_its_newline_is_too_long(size: int, step: int) -> None:
    data = b"a" * (size - 1) + b"\n1 2 3\n"
    lines = fed([data[start : start + step] for start in range(0, len(data), step)])
    assert lines == [b"a" * (size - 1) if size < MAX_LINE else None, b"1 2 3"]


@pytest.mark.contract("CTL-14", "CASE-702", "CASE-704")
def test_a_bad_line_spoils_only_itself() -> None:
    long = b"9" * 500
    lines = fed([b"1 1 1\n" + long, b"\n2 0 0\nbad\n1 2", b" 3\n" + long + b"\n\n1 4 4\n"])
    assert lines == [b"1 1 1", None, b"2 0 0", b"bad", b"1 2 3", None, b"", b"1 4 4"]
    numbers = [line and parse_control(line) for line in lines]
    assert [n for n in numbers if n] == [(1, 1, 1), (2, 0, 0), (1, 2, 3), (1, 4, 4)]


@pytest.mark.contract("CTL-16", "CASE-703")
@pytest.mark.parametrize("step", [1, 50, 199, 200, 4096, 65536])
def test_what_has_no_newline_takes_no_memory(step: int) -> None:
    piece, buffer = b"x" * step, LineBuffer()
    tracemalloc.start()
    try:
        for _ in range(min(65536 // step, 8192)):  # under tracemalloc, each takes its time
            assert buffer.feed(piece) == []
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 4096
    assert buffer.feed(b"\n1 2 3\n1 4") == [None, b"1 2 3"]
    assert buffer.feed(b" 5\n") == [b"1 4 5"]


# Numbers


def scanned(line: bytes, wanted: int) -> list[int]:
    """Return what sscanf of this machine's C library finds."""
    numbers = [ctypes.c_long() for _ in range(wanted)]
    form = b" ".join([b"%ld"] * wanted)  # as %d, but never wraps: it stops at the largest long
    count = LIBC.sscanf(ctypes.c_char_p(line), form, *map(ctypes.byref, numbers))
    found = [number.value for number in numbers[: max(count, 0)]]
    if all(len(digits) < 10 for digits in re.findall(rb"[0-9]+", line)):
        plain = [ctypes.c_int() for _ in range(wanted)]
        form = b" ".join([b"%d"] * wanted)
        assert LIBC.sscanf(ctypes.c_char_p(line), form, *map(ctypes.byref, plain)) == count
        assert [number.value for number in plain[: max(count, 0)]] == found
    return found


def control_by_scanf(line: bytes) -> tuple[int, int, int] | None:
    found = scanned(line, 3)
    if len(found) < 3 or found[0] not in {1, 2} or not all(0 <= n <= 1000 for n in found[1:]):
        return None
    return found[0], found[1], found[2]


def winsize_by_scanf(line: bytes) -> tuple[int, int] | None:
    found = scanned(line, 2)
    if len(found) < 2 or not all(0 <= n <= 1000 for n in found):
        return None
    return found[0], found[1]


BLANKS = st.text(" \t\r\v\f", max_size=3)
NUMBERS = st.one_of(
    st.sampled_from([0, 1, 2, 3, 999, 1000, 1001, -1, 2**31 - 1, 2**31, 2**32 + 1, 2**63, 10**30]),
    st.integers(0, 1100),
    st.integers(-(2**65), 2**65),
).map(str)
WORDS = st.builds(
    lambda blanks, sign, zeros, number, tail: f"{blanks}{sign}{zeros}{number}{tail}",
    BLANKS,
    st.sampled_from(["", "", "", "+", "-"]),
    st.sampled_from(["", "", "0", "0000"]),
    NUMBERS,
    st.sampled_from(["", " ", " ", "\t", "abc", ".5", ",", "x1", "\0"]),
)
LINES = st.one_of(
    st.lists(WORDS, max_size=5).map(lambda words: "".join(words).encode()),
    st.lists(NUMBERS, min_size=2, max_size=4).map(lambda words: " ".join(words).encode()),
    st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")),
    st.text("012 \t+-.x", max_size=12).map(str.encode),
)


@pytest.mark.contract("CTL-5", "CTL-6", "CTL-8", "CTL-9", "CTL-10", "CTL-11")
@given(LINES)
@example(b"1 24 80")
@example(b"1+2-0")
@example(b"2 0 0")
@example(b"1 0 1000")
@example(b"1 1000 0")
@example(b"1 -1 1")
@example(b"1 1 1001")
@example(b"1 + 2 3")
@example(b"--1 2 3")
@example(b"1 2\x003 4")
def test_a_ctl_line_is_read_as_scanf_reads_it(line: bytes) -> None:
    assert parse_control(line) == control_by_scanf(line)


@pytest.mark.contract("CTL-7", "CTL-8", "CTL-9", "CTL-10", "CTL-11")
@given(LINES)
@example(b"24 80")
@example(b"24 80 what follows")
@example(b"-0 +000")
def test_a_winsz_line_is_read_as_scanf_reads_it(line: bytes) -> None:
    # What the FIFO does: a winsz line is a ctl line without its 1.
    size = winsize_by_scanf(line)
    assert parse_control(b"1 " + line) == (size and (RESIZE, *size))


@pytest.mark.contract("CTL-8", "CTL-9", "CTL-10", "CTL-11", "CASE-704")
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"1 24 80", (RESIZE, 24, 80)),
        (b"2 0 0", (REOPEN, 0, 0)),
        (b" \t1 \t+0024 080", (RESIZE, 24, 80)),
        (b"1 10 20abc", (RESIZE, 10, 20)),
        (b"1 2 2 3", (RESIZE, 2, 2)),
        (b"1 0 1000\r", (RESIZE, 0, 1000)),
        (b"1 10.5 20.3", None),
        (b"0x10", None),
        (b"1,2,3", None),
        (b"1 1001 1", None),
        (b"1 1 1001", None),
        (b"2 1001 1", None),
        (b"1 -1 1", None),
        (b"1 1", None),
        (b"1", None),
        (b"", None),
        (b"   ", None),
        (b"0 1 1", None),
        (b"3 1 1", None),
        (b"-1 1 1", None),
        (b"a 1 1", None),
        (b"1 4294967297 1", None),  # in conmon, %d makes a 1 of it
    ],
)
def test_ctl_lines_good_and_bad(line: bytes, message: tuple[int, int, int] | None) -> None:
    assert parse_control(line) == message


def test_more_digits_than_python_converts_are_just_too_large() -> None:
    assert parse_control(b"1 1 " + b"9" * 5000) is None
    assert parse_control(b"1 " + b"9" * 5000 + b" 1") is None
