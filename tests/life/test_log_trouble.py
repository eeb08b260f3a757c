"""What might stop a monitor through its log: endless numbers, names that turned, its own faults."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.kubelet import REOPEN
from tests.support.life import Gate, Life, wait_until

# The log fails as a full disk does for a while, then once as nobody expects.
FAILS = """
import os, sys
sys.path.insert(0, {root!r})
from lowconmon import _syscalls
write, left = os.write, [{full}, 1]
def fail(fd, data):
    if os.readlink("/proc/self/fd/%d" % fd).endswith("ctr.log"):
        if left[0]:
            left[0] -= 1
            raise OSError(28, "full")
        if left[1]:
            left[1] -= 1
            raise MemoryError
    return write(fd, data)
_syscalls.write = fail
from lowconmon.__main__ import main
main()
"""


@pytest.mark.contract("LOG-31", "CASE-1101")
@pytest.mark.parametrize("full", [0, 5])
def test_a_log_that_fails_as_nobody_expects_lets_the_container_go_on(life: Life, full: int) -> None:
    life.command = [sys.executable, "-c", FAILS.format(root=str(ROOT), full=full)]
    life.stub("seq 1 100000; exit 3").start("--no-sync-log")
    life.pid()
    assert life.exit_status() == 3
    life.wait_gone()
    assert b"MemoryError" in (life.bundle / "conmon-crash").read_bytes()


@pytest.mark.contract("ROT-6", "GZ-2")
def test_as_many_backups_as_an_int_holds_cost_no_time(life: Life) -> None:
    life.environment["LOWCONMON_LOG_COMPRESS"] = "1"
    limits = ["--log-size-max", "200", "--log-rotate", "--log-max-files", str(2**31 - 1)]
    life.stub("seq 1 20; exit 3").start("--no-sync-log", *limits)
    life.pid()
    assert life.exit_status() == 3
    life.wait_gone()
    assert life.records()[-1] == ("stdout", "F", b"20")


@pytest.mark.contract("END-10", "ROT-6")
def test_a_fifo_in_the_place_of_a_backup_does_not_stop_the_end(
    life: Life, logs: Path, gate: Gate
) -> None:
    life.stub(f"seq 1 20; read x <{gate.path}; exit 3")
    life.start("--log-size-max", "200", "--log-rotate")
    life.pid()
    backup = logs / "ctr.log.1"
    wait_until(lambda: b" 20\n" in life.log.read_bytes(), "the last line")
    backup.unlink()
    os.mkfifo(backup)
    gate.open()
    assert life.exit_status() == 3
    life.wait_gone()


@pytest.mark.contract("ROT-22", "END-4")
def test_a_flood_into_tiny_files_delays_no_timeout(life: Life, logs: Path) -> None:
    life.stub("exec tr '\\0' '\\n' </dev/zero")
    limits = ["--log-size-max", "100", "--log-rotate", "--timeout", "1"]
    life.start("--no-sync-log", *limits)
    life.pid()
    assert life.exit_status(12) == -1
    life.wait_gone()
    assert len(list(logs.iterdir())) == 2


@pytest.mark.contract("ROT-16", "REOPEN-3")
def test_a_symlink_that_appears_at_the_path_is_not_followed(
    life: Life, logs: Path, gate: Gate
) -> None:
    precious = life.directory / "precious"
    precious.write_bytes(b"root:x\nkey without newline")
    life.stub(f"echo one; read x <{gate.path}; echo two; exit 3").start("--log-rotate")
    life.pid()
    wait_until(lambda: life.records(), "the first line")
    old = life.log.rename(logs / "old")
    life.log.symlink_to(precious)
    life.control(REOPEN)
    gate.open()
    assert life.exit_status() == 3
    life.wait_gone()
    assert precious.read_bytes() == b"root:x\nkey without newline"
    assert old.read_bytes().endswith(b" stdout F two\n")


@pytest.mark.contract("LOG-33")
def test_a_last_line_that_is_no_record_is_ended_and_kept(life: Life) -> None:
    life.log.write_bytes(b"line one\nlast line without newline")
    life.stub("echo hello").start()
    life.pid()
    life.wait_gone()
    content = life.log.read_bytes()
    assert content.startswith(b"line one\nlast line without newline\n2")
    assert content.endswith(b" stdout F hello\n")
