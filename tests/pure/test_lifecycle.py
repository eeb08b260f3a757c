"""What ends when: the table, pair by pair, and whole lives in every order the rooms can produce."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, strategies as st

from lowconmon.monitor import Monitor
from lowconmon.pure import lifecycle
from lowconmon.pure.lifecycle import TABLE, Lifecycle, judge_start

if TYPE_CHECKING:
    from collections.abc import Callable

EVENTS = {event for _, event in TABLE}
# Once more, and by hand: what may come in which state, and where it leads.
EXPECTED = """
awaiting_terminal terminal_received creating
awaiting_terminal terminal_refused refused
awaiting_terminal runtime_succeeded leaving
awaiting_terminal runtime_failed leaving
awaiting_terminal terminate awaiting_terminal
refused runtime_succeeded leaving
refused runtime_failed leaving
refused terminate refused
creating runtime_succeeded running
creating runtime_failed leaving
creating terminate creating
running container_exited draining
running timed_out draining
running terminate running
draining drained recording
draining container_exited draining
draining timed_out draining
draining terminate draining
recording recorded leaving
recording container_exited recording
recording timed_out recording
recording terminate recording
leaving finished gone
leaving container_exited leaving
leaving timed_out leaving
leaving terminate leaving
gone container_exited gone
gone timed_out gone
gone terminate gone
"""
NEXT = {(state, event): after for state, event, after in map(str.split, EXPECTED.split("\n")[1:-1])}
STATES = sorted({state for state, _ in NEXT})
# For each state, events that lead there from a fresh life (with a terminal or not).
PATHS: dict[str, tuple[bool, tuple[str, ...]]] = {
    "awaiting_terminal": (True, ()),
    "refused": (True, ("terminal_refused",)),
    "creating": (False, ()),
    "running": (False, ("runtime_succeeded",)),
    "draining": (False, ("runtime_succeeded", "container_exited")),
    "recording": (False, ("runtime_succeeded", "timed_out", "drained")),
    "leaving": (False, ("runtime_failed",)),
    "gone": (True, ("terminal_received", "runtime_failed", "finished")),
}


def life_in(state: str) -> Lifecycle:
    terminal, events = PATHS[state]
    life = Lifecycle(terminal=terminal)
    for event in events:
        life.advance(event)
    assert life.state == state
    return life


def test_the_pairs_that_can_be_reached_are_those_expected() -> None:
    reached: set[tuple[str, str]] = set()
    states = [Lifecycle(terminal=True).state, Lifecycle(terminal=False).state]
    for state in states:  # grows while we go
        pairs = {pair for pair in TABLE if pair[0] == state}
        reached |= pairs
        states += {TABLE[pair][0] for pair in pairs} - set(states)
    assert reached == set(NEXT)
    assert reached == set(TABLE)  # no row that nobody can meet


@pytest.mark.parametrize(("state", "event"), sorted(NEXT))
def test_an_expected_event_leads_to_its_state(state: str, event: str) -> None:
    life = life_in(state)
    assert life.advance(event) == TABLE[state, event][1]
    assert life.state == NEXT[state, event]


@pytest.mark.parametrize(
    ("state", "event"),
    sorted(set(itertools.product(STATES, (*EVENTS, "no_such_event"))) - set(NEXT)),
)
def test_any_other_event_is_refused_by_name_and_changes_nothing(state: str, event: str) -> None:
    life = life_in(state)
    with pytest.raises(ValueError, match=f"^event {event} in state {state}$"):
        life.advance(event)
    assert life.state == state


def test_the_monitor_can_do_what_the_table_asks_for_and_nothing_else() -> None:
    asked = {action for _, actions in TABLE.values() for action in actions}
    assert {name.removeprefix("_do_") for name in vars(Monitor) if name[:4] == "_do_"} == asked


@pytest.mark.contract("SIG-1")
def test_a_signal_goes_to_the_runtime_while_it_creates_and_then_to_the_container() -> None:
    takers = {state: TABLE[state, "terminate"][1] for state, event in NEXT if event == "terminate"}
    runtime, container = ("signal_runtime",), ("signal_container",)
    assert takers == {
        "awaiting_terminal": runtime,
        "refused": runtime,
        "creating": runtime,
        "running": container,
        "draining": (),
        "recording": (),
        "leaving": (),
        "gone": (),
    }


@pytest.mark.contract("RT-19", "RT-20", "RT-22")
@pytest.mark.parametrize("status", [0, 1, 126, 127, 128, 137, 255, -1])
@pytest.mark.parametrize("pid", [None, 1, 4711])
@pytest.mark.parametrize("exec_session", [False, True])
def test_a_start_is_judged_by_status_and_pid(
    status: int, pid: int | None, *, exec_session: bool
) -> None:
    good = pid is not None and (exec_session or status == 0)
    event = judge_start(exec_session=exec_session, runtime_status=status, pid=pid)
    assert event == ("runtime_succeeded" if good else "runtime_failed")


class Rooms:
    """What the rooms guarantee, no more: each happening as often, and as early, as it can come.

    Where a room may answer at once, in the middle of an action, *choose* decides whether it does.
    """

    def __init__(
        self, choose: Callable[[int], int], *, terminal: bool, exec_session: bool, timeout: bool
    ) -> None:
        self.choose = choose
        self.terminal, self.exec_session, self.timeout = terminal, exec_session, timeout
        self.life = Lifecycle(terminal=terminal)
        self.actions: list[str] = []
        self.doable: list[Callable[[], None]] = [self.runtime_ends]
        if terminal:
            self.doable += [self.terminal_comes, self.terminal_is_refused]
        self.terminal_told = self.started = self.container_over = False
        self.unfinished: set[str] = set()

    def post(self, event: str) -> None:
        for action in self.life.advance(event):
            self.actions.append(action)
            getattr(self, "do_" + action, lambda: None)()

    def now_or_later(self, happening: Callable[[], None]) -> None:
        if self.choose(2):
            happening()
        else:
            self.doable.append(happening)

    # What happens

    def signal_comes(self) -> None:
        self.post("terminate")

    def _tell_of_terminal(self, event: str) -> None:
        self.doable.remove(self.terminal_comes)
        self.doable.remove(self.terminal_is_refused)
        self.post(event)

    def terminal_comes(self) -> None:
        self._tell_of_terminal("terminal_received")

    def terminal_is_refused(self) -> None:
        self._tell_of_terminal("terminal_refused")

    def runtime_ends(self) -> None:
        self.doable.remove(self.runtime_ends)
        if self.terminal_comes in self.doable:  # what it left in the socket is taken first, if any
            left = self.choose(3)
            if left == 1:
                self.terminal_comes()
            elif left == 2:
                self.terminal_is_refused()
            else:
                self.doable.remove(self.terminal_comes)
                self.doable.remove(self.terminal_is_refused)
        status, pid = self.choose(2), [None, 4711][self.choose(2)]
        event = judge_start(exec_session=self.exec_session, runtime_status=status, pid=pid)
        has_terminal = not self.terminal or self.life.state == lifecycle.CREATING
        self.started = has_terminal and event == "runtime_succeeded"
        self.post(event)

    def container_ends(self) -> None:
        self.doable.remove(self.container_ends)
        self.post("container_exited")

    def time_is_up(self) -> None:
        self.doable.remove(self.time_is_up)
        self.post("timed_out")

    def drain_is_over(self) -> None:
        self._forget(self.drain_is_over)
        self.post("drained")

    def files_are_written(self) -> None:
        self._forget(self.files_are_written)
        self.post("recorded")

    def clients_are_served(self) -> None:
        self._forget(self.clients_are_served)
        self._finished("clients")

    def exit_command_ends(self) -> None:
        self._forget(self.exit_command_ends)
        self._finished("exit command")

    def _forget(self, happening: Callable[[], None]) -> None:
        if happening in self.doable:
            self.doable.remove(happening)

    def _finished(self, part: str) -> None:
        self.unfinished.remove(part)
        if not self.unfinished:
            self.post("finished")

    # What the actions set going

    def do_watch(self) -> None:
        if self.timeout:
            self.doable.append(self.time_is_up)
        self.doable.append(self.container_ends)
        if self.choose(2):  # it had ended before we looked
            self.container_ends()

    def do_drain(self) -> None:
        self.now_or_later(self.drain_is_over)

    def do_write_exit_files(self) -> None:
        self.now_or_later(self.files_are_written)

    def do_close_all(self) -> None:
        self.unfinished = {"clients", "exit command"}
        self.now_or_later(self.clients_are_served)

    def do_run_exit_command(self) -> None:
        self.now_or_later(self.exit_command_ends)

    # The whole life

    def live(self) -> None:
        while self.life.state != lifecycle.GONE:
            happenings = [*self.doable, self.signal_comes]
            happenings[self.choose(len(happenings))]()
        # What was on its way comes too late, and does nothing.
        before = list(self.actions)
        for happening in [*self.doable, self.signal_comes]:
            happening()
        assert self.actions == before
        assert self.life.state == lifecycle.GONE


def check_life(rooms: Rooms) -> None:
    actions = rooms.actions
    count = {action: actions.count(action) for action in set(actions)}
    reports = ("report_start", "report_failure")
    assert [action for action in actions if action in reports] == [reports[not rooms.started]]
    assert count["run_exit_command"] == count["close_all"] == count["leave"] == 1
    assert actions[-1] == "leave"
    assert count.get("adopt_terminal", 0) in ({1} if rooms.terminal and rooms.started else {0, 1})
    assert rooms.terminal or "adopt_terminal" not in actions
    ends = ["drain", "close_inputs", "write_exit_files", "report_exit", "unlink_attach"]
    ends += ["sync_log", "close_all", "run_exit_command"]
    if rooms.started:
        assert [action for action in actions if action in ends] == ends
        assert actions.index("report_start") < actions.index("watch") < actions.index("drain")
        assert "signal_runtime" not in actions[actions.index("report_start") :]
        assert count.get("kill_container", 0) <= int(rooms.timeout)
        if "kill_container" in actions:
            assert actions.index("kill_container") == actions.index("drain") - 1
        if "signal_container" in actions:
            assert actions[: actions.index("drain")].count("signal_container") == count.get(
                "signal_container"
            )
    else:
        told = [name for name in actions if name not in {"adopt_terminal", "signal_runtime"}]
        assert told == ["report_failure", "close_all", "run_exit_command", "leave"]


@pytest.mark.contract(
    "SYNC-11", "START-17", "RT-21", "END-6", "END-7", "END-13", "END-22", "ATT-5", "CASE-801"
)
@given(st.booleans(), st.booleans(), st.booleans(), st.data())
def test_every_life_gives_one_answer_and_one_record_in_order(
    terminal: bool,  # noqa: FBT001 - hypothesis passes them
    exec_session: bool,  # noqa: FBT001
    timeout: bool,  # noqa: FBT001
    data: st.DataObject,
) -> None:
    left = iter(range(60))  # then the last happening but a signal, until the life is over

    def choose(count: int) -> int:
        if next(left, None) is None:
            return max(count - 2, 0)
        return data.draw(st.integers(0, count - 1))

    rooms = Rooms(choose, terminal=terminal, exec_session=exec_session, timeout=timeout)
    rooms.live()
    check_life(rooms)


def all_lives(depth: int, **kind: bool) -> int:
    """Live every life whose first *depth* choices differ; return how many there were."""
    lives = 0
    prefixes: list[list[int]] = [[]]
    while prefixes:
        prefix = prefixes.pop()
        chosen: list[int] = []

        def choose(count: int, prefix: list[int] = prefix, chosen: list[int] = chosen) -> int:
            place = len(chosen)
            if place < len(prefix):
                choice = prefix[place]
            elif place < depth:
                prefixes.extend([*chosen, other] for other in range(1, count))
                choice = 0
            else:
                choice = max(count - 2, 0)
            chosen.append(choice)
            return choice

        rooms = Rooms(choose, **kind)
        rooms.live()
        check_life(rooms)
        lives += 1
    return lives


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("exec_session", [False, True])
@pytest.mark.parametrize("timeout", [False, True])
def test_every_short_life_is_a_good_one(
    *, terminal: bool, exec_session: bool, timeout: bool
) -> None:
    assert all_lives(10, terminal=terminal, exec_session=exec_session, timeout=timeout) > 100
