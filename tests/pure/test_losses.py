"""What a log could not take, counted and worded."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from lowconmon.pure.losses import Losses

STREAMS = st.sampled_from([b"stdout", b"stderr"])
COUNTS = st.integers(0, 2**33)


@pytest.mark.contract("LOG-39")
def test_both_streams_are_told_of_in_one_line() -> None:
    losses = Losses()
    losses.add(b"stderr", 1, 3)
    losses.add(b"stdout", 2, 10)
    losses.add(b"stdout", 1, 7)
    assert losses.notice(b"records") == (
        b"[lowconmon: 3 records (17 bytes) of stdout and 1 records (3 bytes) of stderr"
        b" could not be written here]\n"
    )


@pytest.mark.contract("LOG-39")
def test_a_stream_that_lost_nothing_is_not_told_of() -> None:
    losses = Losses()
    losses.add(b"stdout", 0, 0)
    assert not losses
    losses.add(b"stderr", 1, 0)
    losses.add(b"stdout", 0, 5)
    assert losses == {b"stderr": (1, 0)}
    assert losses.notice(b"messages") == (
        b"[lowconmon: 1 messages (0 bytes) of stderr could not be written here]\n"
    )


@given(st.lists(st.tuples(STREAMS, COUNTS, COUNTS)))
def test_nothing_is_counted_twice_or_not_at_all(added: list[tuple[bytes, int, int]]) -> None:
    losses = Losses()
    for stream, count, size in added:
        losses.add(stream, count, size)
    for stream in (b"stdout", b"stderr"):
        counted = [(count, size) for name, count, size in added if name == stream and count]
        sums = (sum(count for count, _ in counted), sum(size for _, size in counted))
        assert losses.get(stream, (0, 0)) == sums
