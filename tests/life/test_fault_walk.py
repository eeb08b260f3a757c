"""Every call of the monitor fails once, in every way that it can, at every place that makes it.

A life without a fault tells which calls there are and where (tests/support/walk.py), a table how each
can fail (tests/support/fault_table.py). `ci/faults` walks further: each call and not the first of each
place alone, and errnos that nobody expects.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import walk
from tests.support.fault_table import ROWS, cannot_fail, row_of

LIVES = 3  # at a time
CALLS = sorted({row[0] for row in ROWS})


@functools.cache
def sites(kind: str) -> dict[tuple[str, str], int]:
    return walk.sites(kind)


@pytest.mark.contract("END-26", "END-27")
@pytest.mark.parametrize("kind", walk.KINDS)
def test_for_every_call_of_a_life_it_is_said_how_it_can_fail(kind: str) -> None:
    """Not acceptable: a call at a new place that nobody has thought about."""
    unknown = [
        f"{call} at {site}"
        for call, site in sites(kind)
        if not row_of(call, site) and not cannot_fail(call, site)
    ]
    assert unknown == []


@pytest.mark.contract(
    *("SYNC-11", "START-15", "END-9", "END-11", "END-26", "END-27", "CASE-401", "CASE-404"),
    *("LOG-30", "LOG-31"),
)
@pytest.mark.parametrize("kind", walk.KINDS)
@pytest.mark.parametrize("call", CALLS)
def test_a_life_in_which_one_call_fails_once(call: str, kind: str) -> None:
    """Acceptable: a start that is reported as failed exactly once, or a life with right exit files.

    And: a log of whole records in order (all of them, where the table does not say otherwise), an
    end in time, an exit command that ran once, and no file left. Not acceptable: anything else, and
    a crash report about an errno that is to be expected.
    """
    walked = sites("pipes") if kind != "pipes" else {}
    steps = [step for step in walk.steps(sites(kind), walked) if step[0] == call]
    with ThreadPoolExecutor(LIVES) as pool:  # a life mostly waits
        verdicts = list(pool.map(lambda step: walk.walk(kind, *step[1:]), steps))
    assert [wrong for verdict in verdicts for wrong in verdict] == []
