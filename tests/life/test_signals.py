"""What signals do to the monitor: passed on, ignored, or an end, at every step of a life."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from tests.support.life import Life, read_if_there, wait_until
from tests.support.witness import Witness, gone, isolated, kill, messages, number_in, odd

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
HARMLESS = (signal.SIGHUP, signal.SIGPIPE, signal.SIGUSR1)

# A container that writes down which signals come, in Python: a shell's background processes
# cannot catch SIGINT and SIGQUIT.
LISTENS = """import os, signal, sys
def tell(number, _):
    os.write(1, b"got %d\\n" % number)
    number == signal.SIGUSR2 and os._exit(7)
for number in {numbers}:
    signal.signal(number, tell)
os.write(1, b"ready\\n")
while True:
    signal.pause()
"""


def listening(life: Life, *more: str, **popen: object) -> tuple[int, int]:
    """Start a life whose container tells its signals; return the pids of it and of the monitor."""
    import sys

    program = life.directory / "listens.py"
    numbers = [int(number) for number in (*FORWARDED, *HARMLESS, signal.SIGUSR2)]
    program.write_text(LISTENS.format(numbers=numbers))
    life.stub(f"exec {sys.executable} -IS {program}").start(*more, **popen)  # type: ignore[arg-type]
    pid = life.pid()
    wait_until(lambda: b"ready" in (read_if_there(life.log) or b""), "the container")
    return pid, life.monitor_pid()


@pytest.mark.contract("SIG-1")
@pytest.mark.parametrize("number", FORWARDED)
def test_ending_signals_go_on_to_the_container(life: Life, number: int) -> None:
    pid, monitor = listening(life)
    os.kill(monitor, number)
    wait_until(lambda: b"got %d\n" % number in life.log.read_bytes(), "the signal")
    os.kill(monitor, number)
    wait_until(lambda: life.log.read_bytes().count(b"got %d\n" % number) == 2, "it again")
    os.kill(pid, signal.SIGUSR2)
    assert life.exit_status() == 7


@pytest.mark.contract("SIG-1", "RT-6")
def test_they_go_on_to_the_container_though_the_manager_had_blocked_or_ignored_them(
    life: Life,
) -> None:
    life.command = odd(blocked=FORWARDED, ignored=FORWARDED)
    life.stub("echo x; exec sleep 60").start()
    pid = life.pid()
    os.kill(life.monitor_pid(), signal.SIGTERM)
    # The container inherited both, so it does not end: SIGTERM waits in its mask, or is ignored.
    os.kill(life.monitor_pid(), signal.SIGUSR1)
    kill(pid)
    assert life.exit_status() == 137


@pytest.mark.contract("SIG-2", "SIG-3", "SIG-4")
@pytest.mark.parametrize("number", HARMLESS)
def test_harmless_signals_reach_nobody(life: Life, number: int) -> None:
    # Proven by a later signal that does arrive.
    pid, monitor = listening(life)
    for _ in range(3):
        os.kill(monitor, number)
    os.kill(monitor, signal.SIGTERM)
    wait_until(lambda: b"got 15\n" in life.log.read_bytes(), "SIGTERM")
    os.kill(pid, signal.SIGUSR2)
    assert life.exit_status() == 7
    assert life.text() == b"ready\ngot 15\ngot 12\n".replace(b"12", b"%d" % signal.SIGUSR2)


@pytest.mark.contract("SIG-1", "END-3")
def test_a_container_that_dies_of_a_forwarded_signal_is_recorded_so(life: Life) -> None:
    life.stub("exec sleep 60").start()
    life.pid()
    os.kill(life.monitor_pid(), signal.SIGTERM)
    assert life.exit_status() == 143


@pytest.mark.contract("CALL-12", "SIG-1")
def test_an_exec_with_sync_is_stopped_by_sigint(life: Life) -> None:
    # As CRI-O does; Python, for a shell cannot be interrupted in the background.
    code = "import signal; signal.signal(2, signal.SIG_DFL); print(flush=True); signal.pause()"
    life.command = isolated()
    life.stub(f"exec /usr/bin/env python3 -IS -c '{code}'")
    life.start("--sync", exec_session=True, wait=False)
    assert life.launcher is not None
    life.pid()
    wait_until(lambda: read_if_there(life.log), "the container")
    os.kill(life.launcher.pid, signal.SIGINT)
    assert life.message() == {"data": 130}
    assert life.launcher.wait(20) == 130


@pytest.mark.contract("SIG-1", "CASE-805")
@pytest.mark.parametrize("number", FORWARDED)
@pytest.mark.parametrize("terminal", [[], ["-t"]], ids=["pipes", "terminal"])
def test_ending_signals_go_on_to_the_runtime_while_it_creates(
    life: Life, number: int, terminal: list[str]
) -> None:
    # The runtime catches them and says so. Its own end then fails the start.
    code = (
        "import os, signal, sys\n"
        "def tell(number, _):\n"
        "    os.write(2, b'runtime got %d' % number); os._exit(1)\n"
        f"signal.signal({int(number)}, tell)\n"
        f"open('{life.directory}/ready', 'w').close()\n"
        "while True: signal.pause()\n"
    )
    life.script(f"#!/usr/bin/env -S python3 -IS\n{code}").start(*terminal)
    wait_until((life.directory / "ready").exists, "the runtime")
    os.kill(life.monitor_pid(), number)
    assert messages(life) == [{"data": -1, "message": f"runtime got {int(number)}"}]
    assert not (life.exit_dir / life.cid).exists()


@pytest.mark.contract("SIG-1", "CASE-304", "CASE-805", "END-22")
def test_a_runtime_that_dies_of_a_forwarded_signal_is_a_failed_start(life: Life) -> None:
    seen = Witness(life, "exit-command")
    command = seen.program(life.directory / "exit-command")
    started = life.directory / "started"
    life.script(f"#!/bin/sh\necho $$ > {started}\nexec sleep 60\n")
    life.start("--exit-command", str(command))
    number_in(started)
    os.kill(life.monitor_pid(), signal.SIGTERM)
    assert [answer["data"] for answer in messages(life)] == [-1]
    seen.wait()


@pytest.mark.contract("SIG-2", "SIG-3", "SIG-4")
@pytest.mark.parametrize("number", HARMLESS)
def test_harmless_signals_do_not_disturb_a_runtime_that_creates(life: Life, number: int) -> None:
    gate = life.directory / "gate"
    life.stub("exit 7", before=f"mkfifo {gate}.new; mv {gate}.new {gate}; read x < {gate}").start()
    wait_until(gate.exists, "the runtime")
    os.kill(life.monitor_pid(), number)
    gate.write_text("x\n")
    life.pid()
    assert life.exit_status() == 7


@pytest.mark.contract("SIG-2", "SIG-3", "SIG-4", "START-5")
@pytest.mark.parametrize("number", HARMLESS)
def test_harmless_signals_do_not_end_the_wait_for_the_start_pipe(life: Life, number: int) -> None:
    life.stub("exit 7").start(start_pipe=True, wait=False)
    assert life.launcher is not None
    wait_until(life.log.exists, "the log")
    os.kill(life.launcher.pid, number)
    os.write(life.start_pipe, b"x")
    assert life.launcher.wait(20) == 0
    life.pid()
    assert life.exit_status() == 7


@pytest.mark.contract("CASE-805", "START-4", "SIG-1", "SYNC-11")
@pytest.mark.parametrize("delay", range(0, 60, 4))
def test_sigterm_at_any_time_of_start_up_leaves_one_answer_or_none_and_no_process(
    life: Life, delay: int
) -> None:
    """Acceptable: an end with status 1 (or by SIGTERM, before Python is up), or a life that SIGTERM
    ends. Not acceptable: a monitor that lives on with nothing to monitor, two answers.
    """  # noqa: D205
    import select

    life.stub("exec sleep 60").start("--sync", wait=False)
    assert life.launcher is not None
    select.select([], [], [], delay / 1000)  # not a wait for something: a place in the start-up
    life.launcher.send_signal(signal.SIGTERM)
    status = life.launcher.wait(20)
    answers = [message["data"] for message in messages(life)]
    recorded = read_if_there(life.exit_dir / life.cid)
    if answers and answers[0] > 0:
        assert (status, recorded) == (143, b"143")
        assert len(answers) == 1
    else:
        assert answers in ([], [-1])
        assert status in (1, -signal.SIGTERM)
        assert recorded is None


@pytest.mark.contract("SIG-1")
def test_a_signal_after_the_containers_end_ends_nothing(life: Life) -> None:
    # The exit command is awaited all the same.
    gate = life.directory / "gate"
    seen = Witness(life, "exit-command")
    end = f"mkfifo {gate}.new; mv {gate}.new {gate}; read x < {gate}"
    command = seen.program(life.directory / "exit-command", end)
    life.stub("exit 7").start("--sync", "--exit-command", str(command), wait=False)
    assert life.launcher is not None
    life.pid()
    wait_until(gate.exists, "the exit command")
    for number in (*FORWARDED, *HARMLESS):
        life.launcher.send_signal(number)
    assert life.launcher.poll() is None
    gate.write_text("x\n")
    assert life.launcher.wait(20) == 7


@pytest.mark.contract("SIG-5")
def test_many_orphans_at_once_are_all_reaped(life: Life) -> None:
    # One SIGCHLD may stand for many.
    life.stub(
        "i=0; while [ $i -lt 200 ]; do (sh -c : &) ; i=$((i+1)); done; echo done; exec sleep 60"
    ).start()
    pid = life.pid()
    monitor = life.monitor_pid()
    wait_until(lambda: b"done" in life.log.read_bytes(), "the orphans")
    children = Path(f"/proc/{monitor}/task/{monitor}/children")
    wait_until(lambda: children.read_text().split() == [str(pid)], "the reaping")
    kill(pid)
    assert life.exit_status() == 137


@pytest.mark.contract("SIG-4", "CASE-805")
def test_the_end_of_the_managers_session_is_not_the_monitors(life: Life) -> None:
    life.stub("exec sleep 60").start(start_new_session=True)
    pid = life.pid()
    assert life.launcher is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(life.launcher.pid, signal.SIGKILL)  # nobody is left in the launcher's group
    assert not gone(pid)
    kill(pid)
    assert life.exit_status() == 137


@pytest.mark.contract("SIG-2")
def test_writing_to_a_client_that_went_away_raises_no_sigpipe(life: Life) -> None:
    life.stub("read x; echo $x; read x; exit 7").start("-i", "--leave-stdin-open")
    life.pid()
    for _ in range(2):
        client = life.attach()
        client.send(b"word\n")
        client.shutdown(socket.SHUT_RD)
        client.close()
    assert life.exit_status() == 7


@pytest.mark.contract("SIG-1", "CASE-805")
@pytest.mark.parametrize("first", ["the signal", "the runtime's end"])
def test_a_signal_and_the_runtimes_end_in_the_same_turn_lose_nothing(
    life: Life, first: str
) -> None:
    """Not acceptable: SIGTERM goes to a runtime that has ended already, and so to nobody.

    The monitor is stopped while both happen, so that it finds both when it goes on.
    """
    gate = life.directory / "gate"
    before = f"echo $$ > {gate}.pid; mkfifo {gate}.new; mv {gate}.new {gate}; read x < {gate}"
    life.stub("exec sleep 60", before=before).start()
    wait_until(gate.exists, "the runtime")
    monitor, runtime = life.monitor_pid(), number_in(Path(f"{gate}.pid"))
    os.kill(monitor, signal.SIGSTOP)
    wait_until(
        lambda: b"State:\tT" in (read_if_there(Path(f"/proc/{monitor}/status")) or b""), "the stop"
    )
    try:
        if first == "the signal":
            os.kill(monitor, signal.SIGTERM)
        gate.write_text("x\n")
        wait_until(lambda: gone(runtime), "the runtime's end")
        if first != "the signal":
            os.kill(monitor, signal.SIGTERM)
    finally:
        os.kill(monitor, signal.SIGCONT)
    life.pid()
    assert life.exit_status() == 143
