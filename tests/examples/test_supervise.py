"""docs/examples/supervise.py: statuses, signals, orphans, starts."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import read_line, signals_in, status_of, wait_for

from .conftest import IGNORING

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Start

# A shell that tells each signal and goes on; one that comes just before `wait` is told after it
TELLS = "; ".join(f'trap "echo {name}" {name}' for name in ("HUP", "INT", "QUIT", "TERM", "USR1"))
WAITS = "while :; do sleep 0.1 & wait; done"


def is_over(pid: int) -> bool:
    """Tell whether a process has ended, reaped or not."""
    return status_of(pid).get("State", "Z").startswith("Z")


def test_it_ends_as_the_program_ended(start: Start) -> None:
    codes = (0, 1, 126, 127, 128, 255)
    ends = {f"exit {code}": code for code in codes}
    ends |= {f"kill -{number} $$": 128 + number for number in (signal.SIGKILL, signal.SIGTERM)}
    running = [start("supervise", "sh", "-c", script) for script in ends]
    assert [process.end() for process in running] == [(code, "", "") for code in ends.values()]


def test_what_cannot_be_started_is_told_from_what_failed(start: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    commands = {
        "no-such-program": (127, "supervise.py: no-such-program: not found\n"),
        "/no/such": (127, "supervise.py: /no/such: No such file or directory\n"),
        str(tmp_path): (126, f"supervise.py: {tmp_path}: Permission denied\n"),
        f"{tmp_path}/file": (126, f"supervise.py: {tmp_path}/file: Permission denied\n"),
    }
    running = [start("supervise", "--restart", 0, "--", name) for name in commands]
    assert [process.end()[::2] for process in running] == [*commands.values()]


@pytest.mark.parametrize(
    ("arguments", "status"), [(["--help"], 0), ([], 2), (["--restart", "nan", "true"], 2)]
)
def test_the_command_line_is_explained(start: Start, arguments: list[str], status: int) -> None:
    found, out, error = start("supervise", *arguments).end()
    assert found == status
    assert (out + error).startswith("usage: supervise.py ")


def test_signals_reach_the_whole_group_of_the_program(start: Start) -> None:
    inner = f"{TELLS}; trap 'exit 5' USR2; echo ready; {WAITS}"
    outer = f"trap : HUP INT QUIT TERM USR1 USR2; ({inner}); exit $?"
    process = start("supervise", "sh", "-c", outer)
    assert process.line() == "ready"
    for name in ("HUP", "INT", "QUIT", "USR1", "TERM"):
        process.send_signal(signal.Signals[f"SIG{name}"])
        assert process.line() == name
    process.send_signal(signal.SIGUSR2)
    assert process.end() == (5, "", "")


def test_a_signal_at_any_moment_of_the_start_ends_the_program(start: Start) -> None:
    """Acceptable: it is forwarded as soon as there is somebody. Not acceptable: it is lost."""
    process = start("supervise", "sleep", 1000)
    wait_for(lambda: signal.SIGTERM in signals_in(status_of(process.pid).get("SigBlk", "0")))
    process.terminate()
    assert process.end() == (143, "", "")


def test_the_program_gets_nothing_of_ours_but_its_streams(start: Start) -> None:
    process = start("supervise", "sh", "-c", "ls /proc/self/fd; cat /proc/self/status")
    status, out, _ = process.end()
    fds, _, rest = out.partition("Name:")
    assert status == 0
    assert len(fds.split()) == 4  # and the directory itself
    facts = dict(line.split(":\t") for line in rest.splitlines()[1:])
    assert signals_in(facts["SigBlk"]) == set()
    assert signals_in(facts["SigIgn"]).isdisjoint({signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM})


def test_orphans_become_ours_and_are_reaped(start: Start, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    orphan = f'echo $$; read x <"{tmp_path}/gate"'
    process = start(
        "supervise", "sh", "-c", f"(sh -c '{orphan}' &); exec cat", stdin=subprocess.PIPE
    )
    pid = int(process.line())
    wait_for(lambda: status_of(pid)["PPid"] == str(process.pid))
    (tmp_path / "gate").write_text("end\n")
    wait_for(lambda: not status_of(pid))
    assert process.end() == (0, "", "")


def test_its_starter_may_ignore_the_ends_of_children(start: Start) -> None:
    assert start("supervise", "sh", "-c", "exit 3", first=IGNORING).end() == (3, "", "")


def test_what_the_program_leaves_in_its_group_is_told_to_end(start: Start) -> None:
    process = start("supervise", "sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $!; exit 3")
    pid = int(process.line())
    assert process.end()[0] == 3
    wait_for(lambda: is_over(pid))


def test_it_tells_the_program_when_it_is_killed_itself(start: Start) -> None:
    process = start("supervise", "sh", "-c", f"trap 'echo told; exit' TERM; echo ready; {WAITS}")
    assert process.line() == "ready"
    process.kill()
    assert process.line() == "told"


def test_what_failed_is_started_again_until_it_succeeds(start: Start, tmp_path: Path) -> None:
    script = f"cd {tmp_path}; echo x >>starts; [ $(wc -l <starts) = 3 ] || exit 9"
    status, _, error = start("supervise", "--restart", 0, "sh", "-c", script).end()
    assert status == 0
    assert error.count("status 9, once more in 0 s\n") == 2
    assert (tmp_path / "starts").read_text() == "x\n" * 3


def test_what_was_told_to_end_is_not_started_again(start: Start) -> None:
    script = f"trap 'exit 9' TERM; echo ready; {WAITS}"
    running = start("supervise", "--restart", 0, "sh", "-c", script)
    between = start("supervise", "--restart", 1000, "false")
    assert running.line() == "ready"
    running.terminate()
    assert running.end() == (9, "", "")
    assert b"once more in 1000 s" in read_line(between.stderr.fileno())
    between.terminate()
    assert between.end() == (143, "", "")
