"""Hostile containers and crowds: memory and processor stay bounded, every life gets its record.

The floods are endless: a test lets them run until so much has come through, and ends them.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.life import (
    DEADLINE,
    Life,
    assert_idle,
    attach_accepted,
    packets,
    private_kib,
    read_if_there,
    ticks_of,
    wait_until,
)
from tests.support.notify import Manager, Sender, folder

KIB, MIB = 1 << 10, 1 << 20
GROWTH_KIB = 8 * KIB
PROBES = 300


def no_log(life: Life, *extra: str) -> list[str]:
    """Return the usual arguments without a log file."""
    usual = life.arguments()
    at = usual.index("-l")
    return [*usual[:at], "-l", "none", *usual[at + 2 :], *extra]


class Memory:
    """The highest growth of a process's private memory since the beginning."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.before = private_kib(pid)
        self.highest = 0

    def look(self) -> bool:
        """Measure; always true, for use among conditions. A process that has ended has nothing."""
        try:
            self.highest = max(self.highest, private_kib(self.pid) - self.before)
        except (FileNotFoundError, ProcessLookupError):
            return True
        return True

    def check(self) -> None:
        """Fail if it grew by more than is allowed."""
        self.look()
        assert self.highest <= GROWTH_KIB, f"grew by {self.highest} KiB"


def count_until(client: socket.socket, size: int, memory: Memory) -> int:
    """Read packets until so many bytes came; measure on the way."""
    found, turn = 0, 0
    while found < size:
        found += len(client.recv(8193)) - 1
        turn += 1
        if turn % 500 == 0:
            memory.look()
    return found


@pytest.mark.contract("CASE-1202")
def test_what_a_flood_needed_is_given_back_when_it_is_over(life: Life) -> None:
    """Acceptable: some memory is kept while the flood lasts. Not acceptable: for ever."""
    life.stub("read line; head -c 64000000 /dev/zero | tr '\\0' '\\n'; echo done >&2; read line")
    life.start("-i")
    life.pid()
    monitor, client = life.monitor_pid(), attach_accepted(life)
    before = private_kib(monitor)
    client.send(b"go\n")
    while client.recv(8193)[:1] != b"\3":
        continue
    wait_until(lambda: private_kib(monitor) - before < 256, "memory is given back")
    client.send(b"end\n")
    assert life.exit_status() == 0


@pytest.mark.contract("CASE-1201", "CASE-1202")
@pytest.mark.parametrize("line", ["y", "x" * 4000, ""], ids=["short", "long", "empty"])
def test_a_flood_of_lines_through_a_terminal(life: Life, line: str) -> None:
    """Acceptable: the container waits for who reads.

    Not acceptable: more than 8 MB of memory for it, a processor that is busy once the flood
    stands.
    """
    life.terminal_stub(f"trap '' HUP; read x; exec yes '{line}'").start("-t", "--no-sync-log")
    pid = life.pid()
    memory = Memory(life.monitor_pid())
    client = attach_accepted(life)
    client.send(b"\n")
    count_until(client, 8 * MIB, memory)
    memory.check()
    # A client that reads no more stops the flood, and the processor.
    assert_idle(life.monitor_pid())
    memory.check()
    os.kill(pid, signal.SIGKILL)
    assert life.exit_status() == 137
    client.close()


@pytest.mark.contract("CASE-1201", "CASE-1202")
@pytest.mark.parametrize("log", [True, False], ids=["log", "no log"])
def test_a_flood_without_newline_through_both_pipes(life: Life, log: bool) -> None:  # noqa: FBT001
    life.stub("read x; cat /dev/zero >&2 & exec cat /dev/zero")
    life.start(raw=life.arguments("-i", "--no-sync-log") if log else no_log(life, "-i"))
    pid = life.pid()
    memory = Memory(life.monitor_pid())
    client = attach_accepted(life)
    client.send(b"\n")
    count_until(client, 64 * MIB, memory)
    memory.check()
    assert_idle(life.monitor_pid())
    memory.check()
    os.kill(pid, signal.SIGKILL)
    assert life.exit_status() == 137
    client.close()


@pytest.mark.contract("CASE-1201", "END-5", "END-4")
def test_a_flood_with_nobody_attached_ends_with_the_timeout(life: Life) -> None:
    life.stub("exec cat /dev/zero")
    life.start(raw=no_log(life, "--timeout", "1"))
    life.pid()
    memory = Memory(life.monitor_pid())
    path = life.exit_dir / life.cid
    assert wait_until(lambda: memory.look() and read_if_there(path), "the exit file") == b"-1"
    assert memory.highest <= GROWTH_KIB


@pytest.mark.contract("CASE-1201", "CTL-4")
def test_during_a_flood_control_messages_are_done(life: Life) -> None:
    life.stub("read x; exec yes").start("-i", "--no-sync-log")
    pid = life.pid()
    client = attach_accepted(life)
    client.send(b"\n")
    old = life.directory / "old"
    for _ in range(3):
        # A client that does not read holds the container up, so it reads until there is output.
        wait_until(lambda: client.recv(8193) and life.log.stat().st_size > 0, "output")
        life.log.rename(old)
        life.control(b"2 0 0\n")
        wait_until(lambda: client.recv(8193) and life.log.exists(), "a new log")
    os.kill(pid, signal.SIGKILL)
    client.close()
    assert life.exit_status() == 137


@pytest.mark.contract("CASE-1201", "CASE-1202", "ATT-15")
@pytest.mark.parametrize("reads", [True, False], ids=["read", "not read"])
@pytest.mark.parametrize("chunk", [b"x" * 1000, b"line\n" * 200], ids=["no newline", "lines"])
def test_a_flood_of_typing_whose_echo_is(life: Life, chunk: bytes, reads: bool) -> None:  # noqa: FBT001
    """The container never reads its terminal, which echoes as much as it takes."""
    life.terminal_stub("echo ready; while :; do wait; exec tail -f /dev/null; done").start("-t")
    pid = life.pid()
    monitor = life.monitor_pid()
    client = attach_accepted(life)
    memory = Memory(monitor)
    client.setblocking(False)
    sent = got = 0
    until = time.monotonic() + 5
    while sent < 4 * MIB and time.monotonic() < until:
        watched = [client] if reads else []
        readable, writable, _ = select.select(watched, [client], [], 0.3)
        if readable:
            got += len(client.recv(8193))
        if writable:
            try:
                sent += client.send(chunk)
            except BlockingIOError:
                continue
        elif not readable:
            break  # the monitor takes no more: that is one way to bound it
    memory.check()
    assert sent > 0
    # Whatever became of the typing, control goes on and the processor has nothing to do.
    if reads:
        client.settimeout(0.3)
        try:
            while client.recv(8193):
                memory.look()
        except TimeoutError:
            pass
    life.control(b"2 0 0\n")
    assert_idle(monitor)
    memory.check()
    os.kill(pid, signal.SIGKILL)
    assert life.exit_status() == 137
    client.close()


@pytest.mark.contract("CASE-1201", "CASE-1202")
def test_an_echo_of_all_that_a_client_sends_while_it_reads_nothing(life: Life) -> None:
    """The container is cat, the client only writes: everything fills up, nothing grows or spins."""
    life.stub("exec cat").start("-i")
    pid = life.pid()
    monitor = life.monitor_pid()
    client = attach_accepted(life)
    memory = Memory(monitor)
    client.setblocking(False)
    sent = 0
    while sent < 64 * MIB:
        _, writable, _ = select.select([], [client], [], 0.5)
        if not writable:
            break
        try:
            sent += client.send(b"x" * 8000)
        except BlockingIOError:
            continue
    assert sent < 8 * MIB, "nobody makes the client wait"
    assert_idle(monitor)
    memory.check()
    # It reads after all, and gets back what it sent.
    client.settimeout(DEADLINE)
    client.shutdown(socket.SHUT_WR)
    out, _ = packets(client)
    client.close()
    assert len(out) == sent
    assert life.exit_status() == 0
    assert pid > 0


@pytest.mark.contract("CASE-1202", "TTY-9")
def test_a_terminal_that_is_opened_and_closed_all_the_time(life: Life) -> None:
    container = (
        "t=$(tty); exec </dev/null >/dev/null 2>&1; trap '' HUP; while :; do echo x >$t; done"
    )
    life.terminal_stub(container).start("-t", "--no-sync-log")
    pid = life.pid()
    monitor = life.monitor_pid()
    memory = Memory(monitor)
    wait_until(lambda: life.log.exists() and life.log.stat().st_size > 20_000, "a lot of output")
    memory.check()
    life.log.rename(life.directory / "old")
    life.control(b"2 0 0\n")
    wait_until(life.log.exists, "control goes on")
    os.kill(pid, signal.SIGKILL)
    assert life.exit_status() == 137


@pytest.mark.contract("CASE-1202", "SIG-5")
def test_thousands_of_orphans_are_reaped(life: Life) -> None:
    life.stub("for i in $(seq 2000); do ( : & ); done; echo done; read x").start("-i")
    life.pid()
    monitor = life.monitor_pid()
    memory = Memory(monitor)
    wait_until(lambda: life.log.exists() and life.text() == b"done\n", "all orphans")

    def children() -> list[str]:
        return Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()

    wait_until(lambda: len(children()) == 1, "the container alone")
    memory.check()
    assert_idle(monitor)
    client = life.attach()
    client.send(b"\n")
    assert life.exit_status() == 0
    client.close()


@pytest.mark.contract("CASE-1201", "CASE-1202", "NOT-13", "NOT-14", "CTL-4", "ATT-15")
@pytest.mark.parametrize("line", ["y", "x" * 4000], ids=["short", "long"])
def test_a_container_that_floods_terminal_echo_and_notify_socket_at_once(
    life: Life, line: str
) -> None:
    """Acceptable: its own words to the service manager are lost, and its output waits for readers.

    Not acceptable: more than 8 MB of memory, a descriptor that stays, control that waits, a busy
    processor behind it, a wrong exit file.
    """
    path = folder(life)
    life.terminal_stub(f"trap '' HUP; read x; exec yes '{line}'")
    null = os.open("/dev/null", os.O_RDONLY)
    with Manager(life.directory / "S") as manager:
        life.start("-t", "--no-sync-log", *manager.option)
        pid, monitor = life.pid(), life.monitor_pid()
        client = attach_accepted(life)
        memory, fds = Memory(monitor), Path(f"/proc/{monitor}/fd")
        before = len(os.listdir(fds))
        client.send(b"\n")
        typed = told = 0
        with Sender(path) as container:
            for turn in range(100):
                count_until(client, 100 * KIB, memory)
                told += container.flood([b"STATUS=" + b"x" * 65529, b"MAINPID=1"], [null] * 253)
                if turn % 2:  # a manager that is slow
                    manager.waiting()
                while typed < 4 * MIB and select.select([], [client], [], 0)[1]:
                    typed += client.send(b"typed\n" * 1000)
                memory.look()
            old = life.directory / "old"
            life.log.rename(old)
            life.control(b"1 30 100\n2 0 0\n")
            while not life.log.exists():
                count_until(client, 8 * KIB, memory)
            assert_idle(monitor)
            memory.check()
            wait_until(lambda: len(os.listdir(fds)) <= before, "nothing that was attached stays")
    os.close(null)
    assert min(typed, told) > 0
    os.kill(pid, signal.SIGKILL)
    assert life.exit_status() == 137
    client.close()


def attach_patiently(life: Life) -> socket.socket:
    """Attach even if the backlog is full just now."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect(str(life.bundle / "attach"))  # without a timeout, so that it waits
    client.settimeout(DEADLINE)
    return client


@pytest.mark.contract("CASE-1202", "ATT-20")
def test_clients_that_come_and_go_leave_nothing(life: Life) -> None:
    life.stub("read x; exit 5").start("-i", "--leave-stdin-open")
    life.pid()
    monitor = life.monitor_pid()

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{monitor}/fd"))

    before = descriptors()
    memory = Memory(monitor)
    for turn in range(1000):
        client = attach_patiently(life)
        if turn % 2:
            client.shutdown(socket.SHUT_WR)
        client.close()
    wait_until(lambda: descriptors() == before, "all are gone")
    memory.check()
    assert_idle(monitor)
    client = life.attach()
    client.send(b"\n")
    assert life.exit_status() == 5
    client.close()


@pytest.mark.contract("CASE-1202")
def test_an_idle_life_costs_nothing(life: Life) -> None:
    life.stub("read x").start("-i")
    life.pid()
    monitor = life.monitor_pid()
    client = attach_accepted(life)
    assert_idle(monitor)
    used = ticks_of(monitor)
    status = Path(f"/proc/{monitor}/status")

    def switches() -> int:
        text = status.read_text()
        return int(text.split("\nvoluntary_ctxt_switches:")[1].split()[0])

    wakings = switches()
    assert_idle(monitor, 1.0)
    assert switches() == wakings, "it woke without a reason"
    assert ticks_of(monitor) == used
    client.send(b"\n")
    assert life.exit_status() == 0
    client.close()


# A crowd


@pytest.fixture
def crowd() -> Iterator[list[Life]]:
    """Make many lives; end them all."""
    directories = [Path(tempfile.mkdtemp(prefix="life-", dir="/tmp")) for _ in range(PROBES)]
    lives = [Life(directory) for directory in directories]
    try:
        yield lives
    finally:
        for life in lives:
            life.end()
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.timeout(100)
@pytest.mark.contract("CASE-1005", "SYNC-7", "SYNC-8", "CALL-11")
@pytest.mark.parametrize("sync", [True, False], ids=["--sync", "daemons"])
def test_300_exec_probes_at_once_are_all_answered(crowd: list[Life], sync: bool) -> None:  # noqa: FBT001
    for number, life in enumerate(crowd):
        life.stub(f"echo probe {number}; exit {number % 200}")
        life.start(*(("--sync",) if sync else ()), exec_session=True, wait=False)
    for number, life in enumerate(crowd):
        assert life.sync is not None
        life.sync.settimeout(80)
        message = life.message()
        assert message is not None
        assert message["data"] > 0, message
        assert life.message() == {"data": number % 200}
        assert life.exit_status(60) == number % 200
        assert life.text() == b"probe %d\n" % number
        assert life.launcher is not None
        assert life.launcher.wait(60) == (number % 200 if sync else 0)
