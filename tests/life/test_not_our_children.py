"""Containers that are not the monitor's children, and pids that are not, or no more, a container's.

Acceptable: a status that somebody knows, else -1, within two seconds; a failed start where the pid
file names nobody. Not acceptable: 0 for what nobody knows; a signal to a process that has nothing to
do with the container, or to the monitor itself; a life that waits for a stranger.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import SLOWNESS, faults, wait_for
from tests.support.life import Life, assert_idle, read_if_there, wait_until
from tests.support.pids import Reincarnation, free_pid, halting
from tests.support.witness import gone, isolated, kill, messages, number_in, parent

RELEASE = tuple(int(part) for part in os.uname().release.split(".")[:2])
KERNEL_TELLS = RELEASE >= (6, 15)  # PIDFD_GET_INFO with the exit status of others' children
SECONDS = ["-T", "1"]  # who is taken for the container is killed after it

# A runtime that waits until it is told what to leave in its pid file.
TOLD = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --pid-file ] && pid_file=$2; shift; done
mkfifo {gate}.new; mv {gate}.new {gate}
read content < {gate}
[ "$content" = nothing ] || printf %s "$content" > "$pid_file"
"""

# A process that is nobody's container, with a thread besides its first.
BYSTANDER = """
import os, signal, sys, threading
if len(sys.argv) > 1:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
threading.Thread(target=sys.stdin.read).start()
print(*sorted(map(int, os.listdir("/proc/self/task"))), flush=True)
"""

# A container's parent that is no runtime: tells the pid, does not reap, ends when told.
NEGLECTS = """
import os, sys
pid_file, end, leave = sys.argv[1:]
pid = os.fork()
if pid == 0:
    os.read(os.open(end, os.O_RDONLY), 1)
    os._exit(5)
with open(pid_file + ".new", "w") as file:
    file.write(str(pid))
os.rename(pid_file + ".new", pid_file)
for fd in range(3):
    os.close(fd)
os.read(os.open(leave, os.O_RDONLY), 1)
"""


@pytest.fixture
def told(life: Life) -> Iterator[Life]:
    """Give a life whose runtime is told by the test what to leave in its pid file."""
    life.command = isolated()
    life.script(TOLD.format(gate=gate_of(life)))
    yield life
    life.pid_file.unlink(missing_ok=True)  # whoever is named there is not the life's to kill


def gate_of(life: Life) -> Path:
    return life.directory / "told"


def tell(life: Life, content: object) -> None:
    """Have the runtime leave *content* (nothing: leave the file alone) and succeed."""
    wait_for(gate_of(life))
    gate_of(life).write_text(f"{content}\n")


class Bystander:
    """A process that has nothing to do with any container; `threads`: its first is its pid."""

    def __init__(self, user: str = "") -> None:
        words = [user] if user else []
        self.process = subprocess.Popen(
            [sys.executable, "-IS", "-c", BYSTANDER, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # or it is the tests' group that a monitor in error kills
        )
        assert self.process.stdout is not None
        self.threads = [int(word) for word in self.process.stdout.readline().split()]

    def __enter__(self) -> Bystander:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> int:
        """Let it end; return its status."""
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()
        return self.process.wait(20)


def sleeping() -> subprocess.Popen[bytes]:
    """Return a container that is our child, and not the monitor's."""
    return subprocess.Popen(["sleep", "60"], process_group=0)


def reading() -> subprocess.Popen[bytes]:
    """Return another, which ends with 6 when its input does."""
    command = ["sh", "-c", "read x; exit 6"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)


def passed(seconds: float, what: str) -> None:
    """Wait until so much time has passed: what is awaited is a time itself."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, what)


def failed(life: Life) -> None:
    """Check that the start failed: one answer, no record, and the monitor has gone."""
    assert [answer["data"] for answer in messages(life)] == [-1]
    life.wait_gone()
    assert list(life.exit_dir.iterdir()) == list(life.persist_dir.iterdir()) == []


# Who is no container


@pytest.mark.contract("RT-20", "RT-29", "END-28", "CASE-802")
@pytest.mark.parametrize("more", [[], ["--sync"]], ids=["daemon", "sync"])
@pytest.mark.parametrize("exec_session", [False, True], ids=["create", "exec"])
@pytest.mark.parametrize("who", ["init", "the monitor", "the monitor's manager"])
def test_a_pid_file_that_names_who_cannot_be_the_container_is_a_failed_start(
    told: Life, who: str, exec_session: bool, more: list[str]
) -> None:
    """Acceptable: one negative answer. Not acceptable: a monitor that watches, or kills, itself."""
    told.start(*SECONDS, *more, exec_session=exec_session, wait=False)
    wait_for(gate_of(told))
    assert told.launcher is not None
    monitor = told.launcher.pid if more else told.monitor_pid()
    tell(told, {"init": 1, "the monitor": monitor}.get(who, os.getpid()))
    failed(told)
    assert told.launcher.wait(20) == (1 if more else 0)


@pytest.mark.contract("RT-20", "RT-23", "END-24", "CASE-802")
@pytest.mark.parametrize("exec_session", [False, True], ids=["create", "exec"])
def test_a_pid_file_that_names_the_runtime_itself_is_never_status_0(
    life: Life, exec_session: bool
) -> None:
    """Acceptable: a failed start, or -1. Not acceptable: the runtime's status as the container's."""
    life.script('#!/bin/sh\necho $$ > "$PID_FILE"\n')
    life.environment["PID_FILE"] = str(life.pid_file)
    life.command = isolated()
    life.start(exec_session=exec_session)
    answers = [answer["data"] for answer in messages(life)]
    recorded = read_if_there(life.exit_dir / life.cid)
    life.pid_file.unlink()
    assert (answers, recorded) == ([-1], None) or (answers[-1] == -1 or recorded == b"-1")


@pytest.mark.contract("RT-20", "RT-29", "END-28")
@pytest.mark.parametrize("exec_session", [False, True], ids=["create", "exec"])
def test_a_pid_file_that_names_a_thread_is_a_failed_start_and_its_process_lives(
    told: Life, exec_session: bool
) -> None:
    """Acceptable: one negative answer. Not acceptable: SIGKILL to the thread's whole process."""
    told.start(*SECONDS, exec_session=exec_session, wait=False)
    wait_for(gate_of(told))
    with Bystander() as bystander:
        tell(told, bystander.threads[1])
        failed(told)
        assert bystander.end() == 0


@pytest.mark.contract("RT-24", "RT-29", "END-28")
@pytest.mark.parametrize("exec_session", [False, True], ids=["create", "exec"])
@pytest.mark.parametrize("writes", ["nothing", "the same again"])
def test_another_users_process_that_was_there_before_the_runtime_is_not_its_container(
    told: Life, writes: str, exec_session: bool
) -> None:
    with Bystander("nobody") as bystander:
        told.pid_file.write_text(str(bystander.process.pid))
        told.start(*SECONDS, exec_session=exec_session, wait=False)
        tell(told, "nothing" if writes == "nothing" else bystander.process.pid)
        failed(told)
        assert bystander.end() == 0


# Pids that are used again

ROOT = os.geteuid() == 0  # only root may choose a pid


@pytest.mark.contract("RT-24", "RT-29", "END-28", "CASE-802")
@pytest.mark.parametrize("exec_session", [False, True], ids=["create", "exec"])
@pytest.mark.parametrize("alive", [True, False], ids=["used again", "gone"])
def test_an_old_pid_file_that_nobody_wrote_to_names_nobody_whoever_has_the_pid_by_now(
    told: Life, alive: bool, exec_session: bool
) -> None:
    """Acceptable: one negative answer. Not acceptable: who got the pid after the runtime was started,
    and so is younger than it, taken for the container.
    """
    pid = free_pid()
    told.pid_file.write_text(str(pid))
    told.start(*SECONDS, exec_session=exec_session, wait=False)
    wait_for(gate_of(told))
    other = Reincarnation(pid) if alive and ROOT else None
    try:
        tell(told, "nothing")
        failed(told)
        assert other is None or other.lives()
    finally:
        if other:
            other.close()


@pytest.mark.contract("END-28", "END-24", "END-25", "CASE-802")
@pytest.mark.parametrize("exec_session", [False, True], ids=["create", "exec"])
def test_a_pid_that_is_used_again_before_it_is_watched_is_not_watched(
    told: Life, exec_session: bool
) -> None:
    """Acceptable: the container, of which nobody knows how it ended, has ended with -1. Not acceptable:
    a record that waits for a stranger's end, or a stranger that the timeout kills.
    """
    at, gate = told.directory / "at", told.directory / "gate"
    os.mkfifo(gate)
    told.command = halting("pidfd_open", 2, at, gate)
    told.start(*SECONDS, exec_session=exec_session, wait=False)
    wait_for(gate_of(told))
    container = sleeping()
    tell(told, container.pid)
    wait_for(at)
    container.kill()
    container.wait()
    # Its start time is in ticks of 10 ms: the next one has another.
    passed(0.03, "a few ticks")
    other = Reincarnation(container.pid) if ROOT else None
    try:
        gate.write_bytes(b"")
        assert told.message() == {"data": container.pid}
        assert told.exit_status() == -1
        assert other is None or other.lives()
    finally:
        if other:
            other.close()


@pytest.mark.contract("END-24", "END-25", "CASE-801", "CASE-802")
@pytest.mark.parametrize("exec_session", [False, True], ids=["create", "exec"])
def test_a_strangers_child_that_is_gone_before_the_pid_file_is_read_has_an_unknown_status(
    told: Life, exec_session: bool
) -> None:
    told.start(exec_session=exec_session, wait=False)
    wait_for(gate_of(told))
    tell(told, pid := free_pid())
    assert [answer["data"] for answer in messages(told)] == ([pid, -1] if exec_session else [pid])
    assert told.exit_status() == -1


# Strangers' children


@pytest.mark.contract("END-25", "END-24", "END-8", "CASE-802")
def test_a_zombie_that_its_parent_keeps_is_given_up_after_two_seconds(told: Life) -> None:
    """Acceptable: -1, after two seconds. Not acceptable: sooner, while the parent may still reap it; a
    spin meanwhile; later, or never.
    """
    told.start(wait=False)
    wait_for(gate_of(told))
    container = sleeping()
    tell(told, container.pid)
    told.pid()
    monitor = told.monitor_pid()
    container.kill()
    killed = time.monotonic()
    assert_idle(monitor)
    assert not (told.exit_dir / told.cid).exists()
    assert told.exit_status() == -1
    assert 1.9 < time.monotonic() - killed < 3 * SLOWNESS
    container.wait()


@pytest.mark.contract("END-25", "END-24", "CASE-802")
@pytest.mark.parametrize("spec", ["", "pidfd_get_info:errno=ENOSYS"], ids=["kernel", "old kernel"])
def test_a_zombie_that_is_reaped_late_has_its_status_where_the_kernel_tells(
    told: Life, spec: str
) -> None:
    told.command = faults.command(spec, python=(sys.executable, "-I"))
    told.start(wait=False)
    wait_for(gate_of(told))
    container = reading()
    assert container.stdin is not None
    tell(told, container.pid)
    told.pid()
    monitor = told.monitor_pid()
    container.stdin.close()
    wait_until(lambda: gone(container.pid), "the zombie")
    assert_idle(monitor)  # it has seen that
    assert not (told.exit_dir / told.cid).exists()
    container.wait()
    assert told.exit_status() == (6 if KERNEL_TELLS and not spec else -1)


@pytest.mark.contract("END-25", "END-3", "SIG-5", "CASE-802")
@pytest.mark.parametrize("first", ["the container", "its parent"])
def test_a_container_whose_parent_is_not_the_monitor_may_become_the_monitors_own(
    life: Life, first: str
) -> None:
    """Acceptable: 5, on any kernel: who inherits a child can reap it. Not acceptable: -1."""
    end, leave = life.directory / "end", life.directory / "leave"
    for path in (end, leave):
        os.mkfifo(path)
    program = life.directory / "neglects.py"
    program.write_text(NEGLECTS)
    life.script(f"""#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --pid-file ] && pid_file=$2; shift; done
{sys.executable} -IS {program} "$pid_file" {end} {leave} &
echo $! > {life.directory}/parent
while [ ! -e "$pid_file" ]; do :; done
""").start()
    pid, monitor = life.pid(), life.monitor_pid()
    keeper = number_in(life.directory / "parent")
    assert parent(pid) == keeper
    if first == "the container":
        end.write_text("x")
        wait_until(lambda: gone(pid), "the zombie")
        assert parent(pid) == keeper
        leave.write_text("x")
    else:
        leave.write_text("x")
        wait_until(lambda: parent(pid) == monitor, "the inheritance")
        end.write_text("x")
    assert life.exit_status() == 5


@pytest.mark.contract("END-5", "END-25", "SYNC-9", "CASE-802")
def test_a_strangers_child_that_takes_too_long_is_killed_too(told: Life) -> None:
    told.start(*SECONDS, exec_session=True, wait=False)
    wait_for(gate_of(told))
    container = sleeping()
    tell(told, container.pid)
    told.pid()
    assert container.wait(20) == -signal.SIGKILL
    assert messages(told) == [{"data": -1, "message": "command timed out"}]
    assert told.exit_status() == -1


@pytest.mark.contract("SIG-1", "END-25", "CASE-802")
def test_signals_go_on_to_a_strangers_child(told: Life) -> None:
    told.start(wait=False)
    wait_for(gate_of(told))
    container = sleeping()
    tell(told, container.pid)
    told.pid()
    kill(told.monitor_pid(), signal.SIGTERM)
    assert container.wait(20) == -signal.SIGTERM
    assert told.exit_status() == (143 if KERNEL_TELLS else -1)


@pytest.mark.contract("END-5", "END-3", "END-8", "CASE-802")
def test_a_container_of_another_user_that_may_not_be_killed_does_not_keep_the_record(
    told: Life,
) -> None:
    """Acceptable: -1 and a warning; the process goes on. Not acceptable: a monitor that dies of EPERM,
    or waits for what it cannot end.
    """
    for path in (told.directory, told.bundle, told.exit_dir, told.persist_dir):
        path.chmod(0o777)
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all"]
    told.command = [*(drop if ROOT else []), *isolated()]
    told.start(*SECONDS, wait=False)
    wait_for(gate_of(told))
    container = reading()
    assert container.stdin is not None
    tell(told, container.pid)
    told.pid()
    assert told.exit_status() == -1
    told.wait_gone()
    assert not ROOT or container.poll() is None
    container.stdin.close()
    assert container.wait(20) == (6 if ROOT else -signal.SIGKILL)
