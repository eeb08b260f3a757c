"""What strangers write is met with the documented answers, in bounded time and memory.

`ci/fuzz` does the same with a million inputs a target.
"""

from __future__ import annotations

import pytest

from .harness import GROWTH, FeedError, fuzz, growth, minimised
from .targets import TARGETS, Target

COUNT, SEED = 10_000, 1
REPEATED = 500


@pytest.mark.contract("CTL-6", "CTL-9", "ATT-20", "NOT-11", "CASE-1201")
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_any_input_gets_a_documented_answer_in_time(target: type[Target]) -> None:
    """Acceptable: a value that holds what it promises, or a documented exception, within a second."""
    try:
        fuzz(target(), SEED, COUNT)
    except FeedError as failure:
        shortest = minimised(target, failure.data)
        pytest.fail(f"{failure}\nminimised: {shortest!r}", pytrace=False)


@pytest.mark.contract("CASE-1201")
@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_the_same_inputs_once_more_leave_nothing_in_memory(target: type[Target]) -> None:
    assert growth(target(), SEED, REPEATED) < GROWTH
