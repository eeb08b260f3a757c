"""Logs of more than 2 and 4 GiB: their holes are nowhere on the disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from .writer import Follower, Writer, records, said, stdout_of


@pytest.fixture(params=[2**31, 2**32, 2**40])
def large(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Give a log with records of 1 to 5 at its end, a little before what 32 bits hold."""
    log = tmp_path / "ctr.log"
    end = b"\n" + records(1, 5)
    with open(log, "wb") as file:
        file.truncate(request.param - 10 - len(end))
        file.seek(0, os.SEEK_END)
        file.write(end)
    return log


def test_the_end_of_a_large_log_is_shown_and_followed(large: Path) -> None:
    with Writer(large) as writer:
        writer.number = 5
        with Follower("-n", "2", large) as follower:
            follower.wait(said(4, 5))
            for number in range(6, 9):  # the first of them lies across the border
                writer.say()
                follower.wait(said(4, number))
            writer.rotate()
            writer.say()
            follower.wait(said(4, 9))


def test_what_lies_behind_the_border_is_shown(large: Path) -> None:
    with Writer(large) as writer:
        writer.number = 5
        writer.say(5)
    assert stdout_of("-n", "6", large) == said(5, 10)
