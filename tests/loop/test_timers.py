"""The loop's timers. Where the time itself does not matter, it passes only while the loop waits."""

from __future__ import annotations

import gc
import os
import random
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon.loop import Loop, Timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.loop.conftest import Clock

    Own = Callable[[Any], Any]
    Run = Callable[[Loop], None]


def run_all(loop: Loop, last_ms: float = 10**9) -> None:
    """Run until after the last timer."""
    loop.call_later(last_ms, loop.stop)
    loop.run()


def timers_alive() -> int:
    gc.collect()
    return sum(isinstance(thing, Timer) for thing in gc.get_objects())


def test_timers_run_in_the_order_in_which_they_are_due(loop: Loop, clock: Clock) -> None:
    ran: list[float] = []
    for delay_ms in (30, 10, 20, 0.5, 10.5, 0, 29.999):
        loop.call_later(delay_ms, lambda delay_ms=delay_ms: ran.append(delay_ms))  # type: ignore[misc]
    run_all(loop, 100)
    assert ran == [0, 0.5, 10, 10.5, 20, 29.999, 30]
    assert clock.now_ns == 10**15 + 100 * 10**6


def test_timers_due_at_the_same_time_run_in_the_order_of_their_making(
    loop: Loop, clock: Clock
) -> None:
    ran: list[str] = []
    for name in "abc":
        loop.call_later(5, lambda name=name: ran.append(name))  # type: ignore[misc]
    loop.call_later(1, lambda: loop.call_later(4, lambda: ran.append("d")))
    loop.call_later(2, lambda: loop.call_later(3, lambda: ran.append("e")))
    loop.call_later(2, lambda: loop.call_later(3, lambda: ran.append("f")))
    run_all(loop)
    assert "".join(ran) == "abcdef"
    assert len(clock.waits) == 4  # at 1, 2, 5 and the end


@pytest.mark.parametrize("delay_ms", [0, -1, -(10**6), 0.0, 1e-9])
def test_a_timer_in_the_past_runs_at_the_next_turn(
    loop: Loop, clock: Clock, delay_ms: float
) -> None:
    loop.call_later(1000, lambda: pytest.fail("too late"))
    loop.call_later(delay_ms, loop.stop)
    loop.run()
    assert clock.waits == [0]


def test_timers_in_the_past_run_in_the_order_of_their_times(loop: Loop, clock: Clock) -> None:
    ran: list[int] = []
    for delay_ms in (0, -2, -1, -3):
        loop.call_later(delay_ms, lambda delay_ms=delay_ms: ran.append(delay_ms))  # type: ignore[misc]
    run_all(loop)
    assert ran == [-3, -2, -1, 0]
    assert clock.waits[0] == 0


def test_ten_thousand_timers_run_in_order_and_in_time(loop: Loop, run: Run) -> None:
    shuffled = random.Random(1)  # noqa: S311 - the same each time
    ran: list[float] = []
    for _ in range(10_000):
        delay_ms = shuffled.uniform(0, 200)
        timer = loop.call_later(delay_ms, int)
        timer.handler = lambda due_ns=timer.due_ns: ran.append(due_ns)
    loop.call_later(250, loop.stop)
    run(loop)
    assert len(ran) == 10_000
    assert ran == sorted(ran)


class Due(int):
    """A time that counts how often it is compared: what sorting costs, on any machine."""

    compared = 0

    def __lt__(self, other: int) -> bool:
        Due.compared += 1
        return int(self) < int(other)


def test_a_timer_made_by_each_of_hundreds_costs_little(loop: Loop, clock: Clock) -> None:
    # Each turn makes one: the list must not be sorted from scratch each time.
    ran: list[int] = []

    def call_later(delay_ms: int, handler: Callable[[], object]) -> None:
        timer = loop.call_later(delay_ms, handler)
        timer.due_ns = Due(timer.due_ns)

    def again() -> None:
        call_later(600, lambda: ran.append(clock.now_ns))

    for number in range(300):
        call_later(number, again)
    Due.compared = 0
    run_all(loop, 2_000)
    assert len(ran) == 300
    assert ran == sorted(ran)
    # 600 turns with 225 timers in the middle: one comparison each, and those that find a new one's
    # place. From scratch they would be 8 each.
    assert 0 < Due.compared < 600 * 225 * 3


# Cancelling


def test_a_cancelled_timer_does_not_run(loop: Loop, clock: Clock) -> None:
    ran: list[str] = []
    timers = {name: loop.call_later(5, lambda name=name: ran.append(name)) for name in "abcd"}  # type: ignore[misc]
    timers["a"].cancel()
    timers["a"].cancel()
    loop.call_later(1, timers["c"].cancel)
    run_all(loop)
    assert ran == ["b", "d"]
    for timer in timers.values():
        timer.cancel()  # too late, and no harm done
    run_all(loop)
    assert ran == ["b", "d"]
    assert clock.waits


def test_a_handler_may_cancel_itself_and_others_that_are_due(loop: Loop, clock: Clock) -> None:
    ran: list[str] = []

    def first() -> None:
        ran.append("first")
        timers[0].cancel()
        timers[1].cancel()

    timers = [loop.call_later(5, first), loop.call_later(5, lambda: ran.append("second"))]
    loop.call_later(5, lambda: ran.append("third"))
    run_all(loop)
    assert ran == ["first", "third"]
    assert clock.waits[0] == 5


def test_nobody_wakes_for_a_cancelled_timer(loop: Loop, clock: Clock) -> None:
    for _ in range(10):
        loop.call_later(5, lambda: pytest.fail("ran")).cancel()
    later = [loop.call_later(10 + number, lambda: pytest.fail("ran")) for number in range(10)]
    for timer in later:
        loop.call_later(1, timer.cancel)
    run_all(loop, 1000)
    assert clock.waits == [1, 999]


class Room:
    """Something that a timer's handler belongs to."""

    def handler(self) -> None:
        """Do nothing."""


@pytest.mark.parametrize("end", ["cancelled", "run", "loop closed"])
def test_a_timer_that_is_over_lets_go_of_its_handler(loop: Loop, end: str) -> None:
    room = Room()
    timer = loop.call_later(0, room.handler)
    watched = weakref.ref(room)
    del room
    gc.collect()
    assert watched() is not None
    if end == "cancelled":
        timer.cancel()
    elif end == "run":
        loop.call_later(0, loop.stop)
        loop.run()
    else:
        del timer
        loop.close()
    gc.collect()
    assert watched() is None


def test_cancelled_timers_do_not_pile_up(loop: Loop, clock: Clock) -> None:
    # A time limit that is set anew at each event, and hardly ever reached.
    before = timers_alive()
    most: list[int] = []
    limit = [loop.call_later(10**6, int)]

    def event() -> None:
        limit[0].cancel()
        limit[0] = loop.call_later(10**6, int)
        most.append(len(most) % 100 or timers_alive())
        if len(most) < 1_000:
            loop.call_later(1, event)
        else:
            loop.stop()

    loop.call_later(1, event)
    loop.run()
    assert max(most[::100]) - before < 10
    assert len(clock.waits) == 1_000


# Handlers that add, raise, stop


def test_a_timer_made_in_a_handler_waits_for_the_next_turn(
    loop: Loop, own: Own, clock: Clock
) -> None:
    # Endless work in timers starves no descriptor.
    ready = own(os.eventfd(1))
    ran: list[str] = []

    def again() -> None:
        ran.append("timer")
        loop.call_later(0, again)

    def event() -> None:
        ran.append("event")
        if len(ran) >= 6:
            loop.stop()

    loop.add_reader(ready, event)
    loop.call_later(0, again)
    loop.run()
    assert ran == ["timer", "event"] * 3
    assert clock.waits == []


class Oops(Exception):  # noqa: N818 - it is no error
    """What a handler raises."""


def raises() -> None:
    raise Oops


def test_without_on_error_a_timer_that_raises_loses_no_other(loop: Loop, clock: Clock) -> None:
    ran: list[str] = []
    loop.call_later(1, lambda: ran.append("a"))
    loop.call_later(1, raises)
    loop.call_later(1, lambda: ran.append("b"))
    loop.call_later(1, lambda: ran.append("c"))
    with pytest.raises(Oops):
        loop.run()
    assert ran == ["a"]
    run_all(loop)
    assert ran == ["a", "b", "c"]
    assert clock.waits[0] == 1


def test_with_on_error_a_timer_that_raises_is_told_of(clock: Clock) -> None:
    ran: list[object] = []
    loop = Loop(lambda handler, error: ran.append((handler, type(error))))
    loop.call_later(1, lambda: ran.append("a"))
    loop.call_later(1, raises)
    loop.call_later(1, lambda: ran.append("b"))
    run_all(loop)
    loop.close()
    assert ran == ["a", (raises, Oops), "b"]
    assert clock.waits[0] == 1


def test_a_stop_among_due_timers_loses_none_of_them(loop: Loop, clock: Clock) -> None:
    ran: list[str] = []

    def say(name: str) -> None:
        ran.append(name)
        loop.stop()

    for name in "abc":
        loop.call_later(1, lambda name=name: say(name))  # type: ignore[misc]
    for count in range(1, 4):
        loop.run()
        assert "".join(ran) == "abc"[:count]
    assert clock.waits == [1, 0, 0]


def test_a_timer_that_stops_the_loop_loses_no_event(loop: Loop, own: Own, clock: Clock) -> None:
    ran: list[str] = []

    def event() -> None:
        ran.append("event")
        loop.stop()

    loop.add_reader(own(os.eventfd(1)), event)
    loop.call_later(0, loop.stop)
    loop.run()
    assert ran == []
    loop.run()
    assert ran == ["event"]
    assert clock.waits == []


def test_a_timer_may_stop_and_close_the_loop() -> None:
    loop = Loop()

    def end() -> None:
        loop.stop()
        loop.close()

    loop.call_later(0, end)
    loop.call_later(0, lambda: pytest.fail("ran"))
    loop.run()


# Time


def test_a_timer_is_never_early_and_the_loop_does_not_spin(
    loop: Loop, run: Run, waits: list[int]
) -> None:
    early: list[int] = []
    count = 50

    def again() -> None:
        early.append(due_ns[0] - time.monotonic_ns())
        if len(early) < count:
            due_ns[0] = time.monotonic_ns() + 1_500_000
            loop.call_later(1.5, again)
        else:
            loop.stop()

    due_ns = [time.monotonic_ns() + 1_500_000]
    loop.call_later(1.5, again)
    run(loop)
    assert max(early) <= 0
    assert len(waits) == count  # rounded down, each would cost a millisecond of spinning


@pytest.mark.parametrize(
    ("delay_ms", "timeout_ms"),
    [(1.5, 2), (0.000_001, 1), (1, 1), (1.000_01, 2), (999.999_999, 1000)],
)
def test_timeouts_are_rounded_up(
    loop: Loop, clock: Clock, delay_ms: float, timeout_ms: int
) -> None:
    loop.call_later(delay_ms, loop.stop)
    loop.run()
    assert clock.waits == [timeout_ms]


def test_a_timer_may_be_further_away_than_the_kernel_waits(loop: Loop, clock: Clock) -> None:
    loop.call_later(2**32, loop.stop)
    loop.run()
    assert clock.now_ns == 10**15 + 2**32 * 10**6
    assert clock.waits == [2**31 - 1, 2**31 - 1, 2]


def test_without_timers_the_loop_waits_for_ever(
    loop: Loop, own: Own, run: Run, waits: list[int]
) -> None:
    ready = own(os.eventfd(1))
    loop.add_reader(ready, loop.stop)
    loop.run()
    assert waits == [-1]
    loop.call_later(50, int).cancel()
    loop.run()
    assert waits == [-1, -1]
    run(loop)
    assert waits[2] > 0
