"""docs/examples/wait_pid.py: the end of a process that is not the waiter's child."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support import status_of, wait_for

from .conftest import Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Start

RELEASE = tuple(int(part) for part in os.uname().release.split(".")[:2])
KERNEL_TELLS = RELEASE >= (6, 15)  # PIDFD_GET_INFO with the exit status of others' children


@pytest.fixture
def child() -> Iterator[Callable[[str], Process]]:
    """Give a function that starts a shell, which runs a script once its stdin ends."""
    started: list[Process] = []

    def child(script: str = "exit 0") -> Process:
        started.append(Process(["sh", "-c", f"read x; {script}"], stdin=subprocess.PIPE))
        return started[-1]

    yield child
    for process in started:
        process.clean_up()


def watching(process: Process) -> None:
    """Wait until the waiter has found its process: it makes the epoll descriptor after that."""

    def is_watching() -> bool:
        folder = f"/proc/{process.pid}/fd"
        for fd in os.listdir(folder):
            with contextlib.suppress(FileNotFoundError):  # Python has just closed it
                if "eventpoll" in os.readlink(f"{folder}/{fd}"):
                    return True
        return False

    wait_for(is_watching)


def zombie(process: Process) -> int:
    """Let it end, without reaping it; return its pid."""
    process.stdin.close()
    wait_for(lambda: status_of(process.pid)["State"].startswith("Z"))
    return process.pid


def test_it_tells_how_a_strangers_child_has_ended(start: Start, child) -> None:
    """Acceptable: the status, or "ended" where the kernel is too old to tell. Not acceptable: a guess."""
    ends = {f"exit {code}": f"exited {code}" for code in (0, 1, 126, 127, 128, 255)}
    ends |= {f"kill -{number} $$": f"killed {number}" for number in (9, 15)}
    children = [child(script) for script in ends]
    waiters = [start("wait_pid", process.pid) for process in children]
    for waiter, process in zip(waiters, children, strict=True):
        watching(waiter)
        process.stdin.close()
        process.wait()
    told = [said if KERNEL_TELLS else "ended" for said in ends.values()]
    assert [waiter.end() for waiter in waiters] == [(0, f"{said}\n", "") for said in told]


def test_a_zombie_that_nobody_reaps_has_ended(start: Start, child) -> None:
    pid = zombie(child("exit 3"))
    # A time that is up before anything happens: that it has ended is seen all the same.
    waiters = [start("wait_pid", pid), start("wait_pid", "--timeout", 0, pid)]
    assert [waiter.end() for waiter in waiters] == [(0, "ended\n", "")] * 2


def test_the_time_that_it_waits_is_limited(start: Start, child) -> None:
    pid = child().pid
    waiters = [start("wait_pid", "--timeout", limit, pid) for limit in (0, 0.2)]
    assert [waiter.end() for waiter in waiters] == [(124, "", "")] * 2


def test_a_note_names_one_process_and_no_later_one(start: Start, child) -> None:
    process = child()
    status, note, _ = start("wait_pid", "--note", process.pid).end()
    assert status == 0
    pid, began = map(int, note.split(":"))
    assert pid == process.pid
    later = start("wait_pid", f"{pid}:{began + 1}").end()
    assert later == (1, "", f"wait_pid.py: {pid}: No such process\n")
    waiter = start("wait_pid", note.strip())
    watching(waiter)
    process.stdin.close()
    process.wait()
    assert waiter.end()[0] == 0
    assert start("wait_pid", note.strip()).end() == later


def test_a_thread_is_no_process(start: Start) -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    status, out, error = start("wait_pid", "--timeout", 0, thread.native_id).end()
    done.set()
    thread.join()
    assert (status, out) == (1, "")
    assert error.startswith(f"wait_pid.py: {thread.native_id}: ")
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["--help"], 0),
        (["0"], 2),
        ([str(2**31)], 2),
        (["1:x"], 2),
        (["--timeout", "-1", "1"], 2),
    ],
)
def test_the_command_line_is_explained(start: Start, arguments: list[str], status: int) -> None:
    found, out, error = start("wait_pid", *arguments).end()
    assert found == status
    assert (out + error).startswith("usage: wait_pid.py ")


def test_it_can_be_interrupted(start: Start, child) -> None:
    waiter = start("wait_pid", child().pid)
    watching(waiter)
    waiter.send_signal(signal.SIGINT)
    assert waiter.end() == (-signal.SIGINT, "", "")
