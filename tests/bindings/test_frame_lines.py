"""Framing lines in C: as pure.records does it, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import example, given, strategies as st

from lowconmon import _syscalls
from lowconmon.pure.records import MAX_TEXT, frame_lines

HEADS = (
    b"2026-11-23T14:30:00.776455356+00:00 stdout F ",
    b"2026-11-23T14:30:00.776455356+00:00 stdout P ",
)


def quick(data: bytes, full: bytes, partial: bytes, limit: int) -> bytes:
    return bytes(_syscalls._frame_lines(data, full, partial, limit))  # noqa: SLF001 - tested


@given(st.lists(st.binary(max_size=40)).map(b"\n".join), st.integers(1, 12), st.binary(max_size=9))
@example(b"", 1, b"")
@example(b"\n", 1, b"x")
@example(b"aa\n", 2, b"x")
@example(b"aaa\n", 2, b"x")
def test_what_is_framed_is_framed_as_the_reference_does(
    data: bytes, limit: int, head: bytes
) -> None:
    given = data, b"F" + head, b"P" + head, limit
    assert quick(*given) in (frame_lines(*given), b"")


@pytest.mark.parametrize(
    "size", [*range(MAX_TEXT - 1, MAX_TEXT + 3), 2 * MAX_TEXT, 2 * MAX_TEXT + 1]
)
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n", b"\nmore"])
def test_long_lines_are_cut_where_the_reference_cuts_them(size: int, end: bytes) -> None:
    data = b"x" * size + end
    assert quick(data, *HEADS, MAX_TEXT) == frame_lines(data, *HEADS, MAX_TEXT)


@pytest.mark.parametrize("line", [b"x" * 79, b"x" * 30, b""])
def test_only_very_short_lines_are_left_to_the_reference(line: bytes) -> None:
    data = (line + b"\n") * 800
    assert quick(data, *HEADS, MAX_TEXT) == (frame_lines(data, *HEADS, MAX_TEXT) if line else b"")


def test_heads_that_are_too_long_for_it_are_left_to_the_other() -> None:
    assert quick(b"text\n", b"F" * 64, b"P" * 64, 8192) == b"F" * 64 + b"text\n"
    assert quick(b"text\n", b"F" * 65, b"P" * 65, 8192) == b""
