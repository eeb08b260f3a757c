"""Decide what happens when a runtime, a container, its output, a timer or the monitor's work ends.

Every transition is in TABLE. Nothing here touches an fd, a clock or a process: `advance` answers
with the names of actions, to be done in that order, and the rooms do them. Whatever the order of
events, a life gives exactly one answer about its start, writes its exit record at most once (never
after a failed start) and only after the output was drained, and runs the exit command after both.
"""

AWAITING_TERMINAL = "awaiting_terminal"  # the runtime runs and has not handed over a terminal
REFUSED = "refused"  # the runtime runs, but what it handed over is no terminal
CREATING = "creating"  # the runtime runs; terminal, if wanted, is here
RUNNING = "running"  # the container's pid is known and reported
DRAINING = "draining"  # the container process ended (or was killed); its last output is read
RECORDING = "recording"  # the exit files are being written
LEAVING = "leaving"  # exit command and the clients' last bytes
GONE = "gone"
UNREPORTED = (AWAITING_TERMINAL, REFUSED, CREATING)  # before the answer about the start

_FAIL = (LEAVING, ("report_failure", "close_all", "run_exit_command"))
_PUBLISH = ("report_exit", "unlink_attach", "sync_log", "close_all", "run_exit_command")

TABLE: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    (AWAITING_TERMINAL, "terminal_received"): (CREATING, ("adopt_terminal",)),
    (AWAITING_TERMINAL, "terminal_refused"): (REFUSED, ()),
    (AWAITING_TERMINAL, "runtime_succeeded"): _FAIL,
    (REFUSED, "runtime_succeeded"): _FAIL,
    (CREATING, "runtime_succeeded"): (
        RUNNING,
        ("report_start", "release_output", "confine", "watch"),
    ),
    (RUNNING, "container_exited"): (DRAINING, ("drain",)),
    (RUNNING, "timed_out"): (DRAINING, ("kill_container", "drain")),
    (RUNNING, "terminate"): (RUNNING, ("signal_container",)),
    (DRAINING, "drained"): (RECORDING, ("close_inputs", "write_exit_files")),
    (RECORDING, "recorded"): (LEAVING, _PUBLISH),
    (LEAVING, "finished"): (GONE, ("leave",)),
}
for _state in UNREPORTED:
    TABLE[_state, "runtime_failed"] = _FAIL
    TABLE[_state, "terminate"] = (_state, ("signal_runtime",))
# What may still come when it no longer matters: the killed container's end, a timer that was due
# in the same turn, a signal for a process that is gone.
for _state in (DRAINING, RECORDING, LEAVING, GONE):
    for _event in ("container_exited", "timed_out", "terminate"):
        TABLE[_state, _event] = (_state, ())


class Lifecycle:
    """Where one container's life stands."""

    __slots__ = ("state",)

    def __init__(self, *, terminal: bool) -> None:
        self.state = AWAITING_TERMINAL if terminal else CREATING

    def advance(self, event: str) -> tuple[str, ...]:
        """Take *event*, return the actions; ValueError (and no change): a pair not in TABLE."""
        if (self.state, event) not in TABLE:
            raise ValueError(f"event {event} in state {self.state}")
        self.state, actions = TABLE[self.state, event]
        return actions


def judge_start(*, exec_session: bool, runtime_status: int, pid: int | None) -> str:
    """Return the event of a runtime's end: a create must end with 0, an exec must leave a pid."""
    started = pid is not None and (runtime_status == 0 or exec_session)
    return "runtime_succeeded" if started else "runtime_failed"
