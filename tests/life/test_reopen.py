"""Reopening the log on control message 2: nothing is lost, and whoever watches is woken."""

from __future__ import annotations

import os
import select
import shutil
import signal
from pathlib import Path

import pytest

from tests.support.kubelet import REOPEN, Watch
from tests.support.life import DEADLINE, Gate, Life, read_if_there, wait_until


def echoing(life: Life, gate: Gate, *extra: str) -> Life:
    """Start a container that says 1, 2, ... each time the gate opens, and ends after "end"."""
    life.stub(f"i=0; while read x <{gate.path}; do i=$((i+1)); echo $i; done").start(*extra)
    life.pid()
    return life


def say(life: Life, gate: Gate, number: int, where: Path | None = None) -> None:
    """Let the container say the next number, and see it in the log."""
    gate.open()
    path = where or life.log
    wanted = b" stdout F %d\n" % number
    wait_until(lambda: (read_if_there(path) or b"").endswith(wanted), f"{number} in {path.name}")


def finish(life: Life) -> None:
    """End the container."""
    os.kill(int(life.pid_file.read_bytes()), signal.SIGKILL)
    assert life.exit_status() == 137
    life.wait_gone()


def numbers(*paths: Path) -> list[bytes]:
    """Return the texts of the records of these logs in order."""
    lines = b"".join(path.read_bytes() for path in paths).split(b"\n")
    assert lines.pop() == b""
    return [line.split(b" ", 3)[3] for line in lines]


@pytest.mark.contract("REOPEN-1", "CTL-6", "CASE-501")
@pytest.mark.parametrize("line", [REOPEN, b"2 1 1\n", b" 2 1000 7 rest\n"])
def test_after_a_rename_a_fresh_file_appears(
    life: Life, gate: Gate, logs: Path, line: bytes
) -> None:
    echoing(life, gate)
    say(life, gate, 1)
    old = life.log.rename(logs / "ctr.log.20261123")
    say(life, gate, 2, old)
    with Watch(logs) as watcher:
        life.control(line)
        watcher.wait(life.log.name)
    wait_until(life.log.exists, "the fresh file")
    say(life, gate, 3)
    finish(life)
    assert numbers(old) == [b"1", b"2"]
    assert numbers(life.log) == [b"3"]
    assert life.log.stat().st_mode & 0o7777 == 0o640


@pytest.mark.contract("REOPEN-4", "CASE-502")
def test_an_empty_log_is_kept_too(life: Life, gate: Gate, logs: Path) -> None:
    assert logs.is_dir()
    echoing(life, gate)
    inode = life.log.stat().st_ino
    with Watch(life.log) as watcher:
        life.control(REOPEN)
        say(life, gate, 1)
        watcher.wait()
    assert life.log.stat().st_ino == inode
    finish(life)


@pytest.mark.contract("REOPEN-1", "REOPEN-4", "CASE-503")
def test_a_second_message_after_a_rename_changes_nothing(
    life: Life, gate: Gate, logs: Path
) -> None:
    echoing(life, gate)
    say(life, gate, 1)
    old = life.log.rename(logs / "old")
    life.control(REOPEN + REOPEN)
    wait_until(life.log.exists, "the fresh file")
    with Watch(life.log) as watcher:
        life.control(REOPEN)
        watcher.wait()
    say(life, gate, 2)
    finish(life)
    assert numbers(old) == [b"1"]
    assert numbers(life.log) == [b"2"]
    assert sorted(path.name for path in logs.iterdir()) == ["ctr.log", "old"]


@pytest.mark.contract("REOPEN-3", "CASE-501")
def test_another_file_at_the_path_is_appended_to(life: Life, gate: Gate, logs: Path) -> None:
    echoing(life, gate)
    say(life, gate, 1)
    old = life.log.rename(logs / "old")
    mine = b"2020-01-01T00:00:00.000000000+00:00 stdout F mine\n"
    life.log.write_bytes(mine)
    life.control(REOPEN)
    life.control(b"1 9 9\n")
    gate.open()
    wait_until(lambda: b" F 2\n" in life.log.read_bytes() + old.read_bytes(), "the next line")
    finish(life)
    # The message came before the gate opened, but through another pipe: the line may be in either.
    assert numbers(old, life.log) in ([b"1", b"mine", b"2"], [b"1", b"2", b"mine"])
    assert life.log.read_bytes().startswith(mine)


@pytest.mark.contract("CASE-504", "REOPEN-1")
def test_with_the_directory_gone_the_old_file_is_kept_until_it_is_back(
    life: Life, gate: Gate, logs: Path
) -> None:
    echoing(life, gate)
    say(life, gate, 1)
    moved = logs.rename(life.directory / "moved") / life.log.name
    life.control(REOPEN)
    say(life, gate, 2, moved)
    logs.mkdir()
    life.control(REOPEN)
    wait_until(life.log.exists, "the fresh file")
    say(life, gate, 3)
    finish(life)
    assert numbers(moved) == [b"1", b"2"]
    assert numbers(life.log) == [b"3"]


@pytest.mark.contract("CASE-504")
def test_a_directory_that_was_removed_for_good_does_not_end_the_life(
    life: Life, gate: Gate, logs: Path
) -> None:
    echoing(life, gate)
    say(life, gate, 1)
    shutil.rmtree(logs)
    life.control(REOPEN)
    life.control(REOPEN)
    gate.open()
    finish(life)
    assert not logs.exists()


@pytest.mark.contract("REOPEN-1")
@pytest.mark.parametrize("what", ["directory", "fifo", "dangling link"])
def test_what_cannot_be_opened_at_the_path_leaves_the_old_file(
    life: Life, gate: Gate, logs: Path, what: str
) -> None:
    echoing(life, gate)
    say(life, gate, 1)
    old = life.log.rename(logs / "old")
    if what == "directory":
        life.log.mkdir()
    elif what == "fifo":
        os.mkfifo(life.log)
    else:
        life.log.symlink_to(life.directory / "nowhere" / "log")
    life.control(REOPEN)
    say(life, gate, 2, old)
    finish(life)
    assert numbers(old) == [b"1", b"2"]


@pytest.mark.contract("REOPEN-1", "CASE-505")
def test_a_flood_of_messages_does_not_stop_the_output(life: Life, gate: Gate, logs: Path) -> None:
    echoing(life, gate)
    say(life, gate, 1)
    old = life.log.rename(logs / "old")
    for _ in range(200):
        life.control(REOPEN * 20)
    wait_until(life.log.exists, "the fresh file")
    say(life, gate, 2)
    finish(life)
    assert numbers(old, life.log) == [b"1", b"2"]


@pytest.mark.contract("LOG-34", "REOPEN-4")
def test_a_log_that_is_a_fifo_is_left_alone(life: Life, gate: Gate, logs: Path) -> None:
    assert logs.is_dir()
    os.mkfifo(life.log)
    reading = os.open(life.log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        echoing(life, gate)
        life.control(REOPEN)
        gate.open()
        ready, _, _ = select.select([reading], [], [], DEADLINE)
        assert ready
        assert os.read(reading, 65536).endswith(b" stdout F 1\n")
        finish(life)
    finally:
        os.close(reading)


@pytest.mark.contract("REOPEN-4", "LOG-4", "CTL-6")
def test_without_a_log_the_message_does_nothing(life: Life, gate: Gate) -> None:
    usual = life.arguments()
    at = usual.index("-l")
    life.stub(f"read x <{gate.path}; exit 8")
    life.start(raw=[*usual[:at], "-l", "none", *usual[at + 2 :]])
    life.pid()
    life.control(REOPEN)
    gate.open()
    assert life.exit_status() == 8
    assert not life.log.exists()
