"""A log, and exit files, on a disk that takes nothing for a while, or never again.

Acceptable: the container waits as at a full pipe while the monitor does everything else, and all is
written, once and in order, when it can be; or, where LOWCONMON_LOG_ON_ERROR=drop asks for it, the
container never waits, and the log says in its place exactly what is missing. The end is recorded in
time. Not acceptable: a torn record, a line lost or doubled untold, a monitor that grows, spins or dies.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import SLOWNESS, faults
from tests.support.disk import PAGE, Disk
from tests.support.kubelet import Record, logged, records, reopen, texts
from tests.support.life import (
    DEADLINE,
    Gate,
    Life,
    assert_idle,
    attach_accepted,
    exit_files,
    private_kib,
    read_if_there,
    sockets_of,
    wait_until,
)
from tests.support.load import Load
from tests.support.syslog import Syslog
from tests.support.witness import Inotify, kill

DROP = {"LOWCONMON_LOG_ON_ERROR": "drop"}
IN_TIME = 3 * SLOWNESS  # seconds from the container's end to its exit file
GROWTH = 4096  # KiB that a monitor may grow by while a disk is full
RECORD = 46  # bytes of a record beside its text
HOLD_OR_DROP = pytest.mark.parametrize("mode", ["hold", "drop"])
# Backups: so many that none is ever too many.
ROTATE = ["--log-rotate", "--log-max-files", "1000"]


@pytest.fixture
def disk(life: Life) -> Iterator[Disk]:
    """Put the log on a disk of its own."""
    with Disk(life, mib=8) as one:
        yield one
        life.end()  # before the look at what is left: the disk goes with it


def whole(log: Path) -> bytes:
    """Return a log's content, which is whole records but for the moment of a try."""
    found: bytes = wait_until(
        lambda: (content := b"\n" + log.read_bytes()).endswith(b"\n") and content, "whole records"
    )
    records(found[1:])
    return found[1:]


def loaded(life: Life, disk: Disk, *options: str, lines: int = 3000, end: str = "") -> Load:
    """Start a container that writes more than there is space for, if any is missing."""
    load = Load(life, lines=lines, end=end)
    life.stub(load.container)
    disk.start("--no-sync-log", *options)
    life.pid()
    return load


def stuck(load: Load) -> bytes:
    """Wait until the container waits for the disk; return what is in the log."""
    assert_idle(int(load.life.pid_file.read_text()))
    assert not load.count.exists(), "the container did not wait"
    content = whole(load.life.log)
    for text in texts(content):
        assert load.text(3000).startswith(text)
    return content


def ended(load: Load) -> None:
    assert load.life.exit_status() == 3
    load.life.wait_gone()


# Hold: a disk that is really full


@pytest.mark.contract("LOG-30", "LOG-31", "LOG-36", "CASE-401")
@pytest.mark.parametrize("pages", [0, 1, 2, 3, 40])
def test_a_full_disk_is_waited_for_and_nothing_is_lost(life: Life, disk: Disk, pages: int) -> None:
    disk.fill(leave=pages * PAGE)
    load = loaded(life, disk)
    content = stuck(load)
    assert len(content) <= pages * PAGE
    disk.free()
    ended(load)
    assert life.log.read_bytes().startswith(content)
    assert texts(life.log.read_bytes()) == load.texts()


@pytest.mark.contract("LOG-30", "LOG-36", "CASE-401")
def test_space_that_comes_bit_by_bit_is_used_up_in_order(life: Life, disk: Disk) -> None:
    disk.fill()
    load = loaded(life, disk, lines=1000)
    while not load.count.exists():
        size = life.log.stat().st_size
        disk.give(3 * max(PAGE, 4096))  # room for the longest record
        wait_until(
            lambda size=size: life.log.stat().st_size != size or load.count.exists(), "some more"
        )
    disk.free()
    ended(load)
    assert texts(life.log.read_bytes()) == load.texts()


@pytest.mark.contract("LOG-36", "CASE-401")
def test_what_was_read_before_the_end_is_written_when_space_comes_after_it(
    life: Life, disk: Disk
) -> None:
    # The container has ended and its whole output is in the pipes and the monitor.
    disk.fill()
    life.stub("seq 1 500; seq 1 500 >&2; exit 3")
    disk.start()
    pid = life.pid()
    wait_until(lambda: not Path(f"/proc/{pid}").exists() or zombie(pid), "the container's end")
    disk.free()
    assert life.exit_status() == 3
    life.wait_gone()
    text = b"".join(b"%d\n" % number for number in range(1, 501))
    assert texts(life.log.read_bytes()) == (text, text)


def zombie(pid: int) -> bool:
    return b"\nState:\tZ" in (read_if_there(Path(f"/proc/{pid}/status")) or b"\nState:\tZ")


@pytest.mark.contract("LOG-31", "LOG-36", "LOG-39", "END-6", "CASE-401", "LOG-32")
def test_what_a_drain_brings_beyond_what_can_be_held_is_told(life: Life, disk: Disk) -> None:
    # The container ends at once; a child of its own writes more than a MiB, which nobody delays.
    disk.fill()
    load = Load(life, lines=3000, size=400, begin="if os.fork(): os._exit(3)")
    life.stub(load.container)
    disk.start()
    wait_until(load.count.exists, "all that is written")
    disk.free()
    ended(load)
    assert account(life.log.read_bytes(), *load.texts()) > 0


@pytest.mark.contract("LOG-31", "LOG-37", "END-8", "CASE-401")
@HOLD_OR_DROP
@pytest.mark.parametrize(
    "options", [[], ["--log-size-max", "20000"], ["--log-size-max", "20000", *ROTATE]]
)
def test_a_disk_that_never_comes_back_does_not_keep_the_exit_file(
    life: Life, disk: Disk, options: list[str], mode: str
) -> None:
    life.environment["LOWCONMON_LOG_ON_ERROR"] = mode
    disk.fill(leave=6 * PAGE)
    life.stub("yes 0123456789 & exec yes 9876543210 >&2")
    disk.start(*options)
    pid = life.pid()
    if mode == "hold" and (not options or ROTATE[0] in options):
        assert_idle(life.monitor_pid())
    else:
        wait_until(lambda: read_if_there(life.log), "some records")
    kill(pid)
    assert life.exit_status(IN_TIME) == 137
    life.wait_gone()
    records(logged(life.log))


@pytest.mark.contract("LOG-31", "LOG-36", "CTL-6", "SIG-1", "CASE-401", "REOPEN-4")
def test_while_the_disk_is_full_all_else_goes_on(life: Life, disk: Disk) -> None:
    heard = life.directory / "heard"
    script = life.directory / "container.py"
    script.write_text(
        "import os, signal, sys\n"
        "def note(text):\n"
        f"    with open({str(heard)!r}, 'a') as file:\n"
        "        file.write(text)\n"
        "signal.signal(signal.SIGTERM, lambda *_: note('SIGTERM\\n'))\n"
        "sys.stdin.readline()\n"
        "child = os.fork()\n"
        "while child == 0:\n"
        "    os.write(1, b'x' * 99 + b'\\n')\n"
        "for line in sys.stdin:\n"
        "    note(line)\n"
        "os.kill(child, 9)\n"
        "os._exit(5)\n"
    )
    disk.fill(leave=10 * PAGE)
    life.stub(f"exec {sys.executable} -IS {script}")
    disk.start("-i")
    life.pid()
    monitor = life.monitor_pid()
    first = attach_accepted(life)
    first.send(b"go\n")
    wait_until(disk.is_full, "a full disk")
    assert_idle(monitor)
    assert first.recv(8193)[1:10] == b"xxxxxxxxx"
    second = attach_accepted(life)
    second.send(b"second\n")
    wait_until(lambda: read_if_there(heard) == b"second\n", "what the second client sent")
    first.send(b"first\n")
    wait_until(lambda: read_if_there(heard) == b"second\nfirst\n", "what the first client sent")
    os.kill(monitor, signal.SIGTERM)
    wait_until(lambda: (read_if_there(heard) or b"").endswith(b"SIGTERM\n"), "the signal")
    reopen(life)
    life.control(b"1 10 10\n")
    clients = sockets_of(monitor)
    second.close()
    wait_until(lambda: sockets_of(monitor) < clients, "the second client's end is seen")
    first.shutdown(socket.SHUT_WR)  # ends stdin, and with it the container
    assert life.exit_status(IN_TIME) == 5
    life.wait_gone()
    records(life.log.read_bytes())


@pytest.mark.contract("LOG-36", "CTL-1", "CASE-401")
def test_while_the_disk_is_full_a_terminal_is_resized(life: Life, disk: Disk) -> None:
    size = life.directory / "size"
    seen = f"stty size >{size}.new; mv {size}.new {size}"
    disk.fill()
    ready = life.directory / "ready"
    life.terminal_stub(f"trap '{seen}' WINCH; : >{ready}; yes & while :; do wait; done")
    disk.start("-t")
    pid = life.pid()
    wait_until(ready.exists, "the trap")
    assert_idle(life.monitor_pid())
    life.control(b"1 33 77\n")
    wait_until(lambda: read_if_there(size) == b"33 77\n", "the new size")
    kill(pid)
    assert life.exit_status(IN_TIME) == 137


@pytest.mark.contract("LOG-31", "LOG-40", "END-4", "END-8", "CASE-401", "DIAG-7")
@HOLD_OR_DROP
def test_a_timeout_comes_while_the_disk_is_full_and_one_warning_was_enough(
    life: Life, mode: str
) -> None:
    life.environment["LOWCONMON_LOG_ON_ERROR"] = mode
    with Syslog(life) as syslog, Disk(life) as disk:
        disk.fill()
        life.stub("echo first; exec sleep 600")
        disk.start("--syslog", "--timeout", "1")
        life.pid()
        # A second and more: about ten tries.
        assert life.exit_status(1 + IN_TIME) == -1
        life.wait_gone()
        lines = syslog.lines()
    assert len([line for line in lines if b"write failed: No space left on device" in line]) == 1
    assert len([line for line in lines if b"1 records could not be written" in line]) == 1
    assert life.log.exists() is False  # the disk is gone with its last user


@pytest.mark.contract("LOG-36", "CASE-401", "CASE-1202")
def test_a_monitor_that_waits_for_a_disk_neither_grows_nor_spins(life: Life, disk: Disk) -> None:
    life.stub("read x; yes 0123456789 & exec yes 9876543210 >&2")
    disk.start("-i")
    life.pid()
    monitor = life.monitor_pid()
    client = attach_accepted(life)
    disk.fill()
    before = private_kib(monitor)
    client.send(b"go\n")
    client.recv(8193)
    assert_idle(monitor, 1.0)
    assert private_kib(monitor) - before <= GROWTH
    client.close()


# Hold: rotation on a full disk


@pytest.mark.contract("LOG-31", "LOG-36", "ROT-4", "ROT-5", "ROT-7", "ROT-24", "CASE-402")
@pytest.mark.parametrize("pages", [0, 3, 12, 30])
@pytest.mark.parametrize("limit", [20_000, 60_000])
def test_a_log_with_a_limit_on_a_full_disk_goes_on_by_itself_or_when_there_is_space(
    life: Life, disk: Disk, limit: int, pages: int
) -> None:
    # Without --log-rotate the old content gives way: with space for a whole log it needs no more.
    disk.fill(leave=pages * PAGE)
    load = loaded(life, disk, "--log-size-max", str(limit))
    if pages * PAGE < limit:
        stuck(load)
        disk.give(limit)
    ended(load)
    content = life.log.read_bytes()
    assert 0 < len(content) <= limit
    for text, expected in zip(texts(content), load.texts(), strict=True):
        assert expected.endswith(text)
    assert [path.name for path in disk.path.iterdir() if path.suffix == ".tmp"] == []


@pytest.mark.contract("LOG-31", "LOG-36", "ROT-4", "ROT-6", "ROT-7", "CASE-402")
@pytest.mark.parametrize("pages", [0, 1, 9, 10, 11, 30])
def test_with_log_rotate_on_a_full_disk_nothing_is_lost(life: Life, disk: Disk, pages: int) -> None:
    limit = 9 * 4096  # the disk is full within a log, at its end, at the beginning of the next
    disk.fill(leave=pages * PAGE)
    load = loaded(life, disk, "--log-size-max", str(limit), *ROTATE)
    assert_idle(int(life.pid_file.read_text()))
    assert not load.count.exists(), "the container did not wait"
    for step in range(4):
        disk.give((step + 1) * 5 * PAGE)
        wait_until(disk.is_full, "a full disk")
        assert_idle(life.monitor_pid())
    disk.free()
    ended(load)
    logs = [path for path in disk.path.iterdir() if path.name.startswith("ctr.log")]
    assert all(path.stat().st_size <= limit for path in logs)
    assert texts(logged(life.log)) == load.texts()


@pytest.mark.contract("LOG-30", "LOG-31", "LOG-36", "ROT-7", "ROT-10", "CASE-402")
@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("open", "ENOSPC"),
        ("open", "EDQUOT"),
        ("rename", "ENOSPC"),
        ("rename", "EROFS"),
        ("unlink", "EIO"),
        ("ftruncate", "EDQUOT"),
        ("fstat", "EIO"),
        ("stat", "EIO"),
    ],
)
@pytest.mark.parametrize("options", [[], ROTATE], ids=["no backups", "backups"])
def test_a_rotation_that_fails_for_a_while_loses_nothing(
    life: Life, call: str, error: str, options: list[str]
) -> None:
    # The first calls are those of the start.
    logs = life.directory / "logs"
    logs.mkdir()
    life.log = logs / "ctr.log"
    life.command = faults.command(f"{call}:errno={error}:nth=4:times=5:file=ctr.log")
    load = Load(life, lines=3000)
    life.stub(load.container).start("--no-sync-log", "--log-size-max", "50000", *options)
    life.pid()
    ended(load)
    for text, expected in zip(texts(logged(life.log)), load.texts(), strict=True):
        assert expected.endswith(text)
        assert text == expected or not options
    assert not list(logs.glob("*.tmp"))


# Hold: at the start


@pytest.mark.contract("LOG-29", "LOG-36")
def test_on_a_disk_that_is_full_from_the_start_the_first_record_waits(
    life: Life, disk: Disk
) -> None:
    disk.fill()
    life.stub("echo first; exit 3")
    disk.start()
    life.pid()
    assert life.log.read_bytes() == b""
    disk.free()
    assert life.exit_status() == 3
    life.wait_gone()
    assert texts(life.log.read_bytes()) == (b"first\n", b"")


@pytest.mark.contract("LOG-13", "CLI-60", "START-9")
@pytest.mark.parametrize(
    ("options", "why"),
    [("nr_inodes=1", "No space left on device"), ("ro", "Read-only file system")],
)
def test_a_disk_that_takes_no_file_is_refused_before_anything_starts(
    life: Life, options: str, why: str
) -> None:
    with Disk(life, options=options) as disk:
        life.stub("exit 0")
        disk.start()
        assert life.launcher is not None
        assert life.launcher.stderr is not None
        assert life.launcher.returncode == 1
        assert (
            life.launcher.stderr.read().decode() == f"[conmon:e]: Failed to open log file {why}\n"
        )
        assert not life.pid_file.exists()


@pytest.mark.contract("LOG-30", "LOG-33", "LOG-36")
@HOLD_OR_DROP
def test_a_torn_record_that_a_full_disk_lets_nobody_mend_is_mended_later(
    life: Life, disk: Disk, gate: Gate, mode: str
) -> None:
    # It ends where a page ends: its newline needs another one.
    life.environment["LOWCONMON_LOG_ON_ERROR"] = mode
    head = b"2020-01-01T00:00:00.000000000+00:00 stdout F "
    torn = head + b"x" * (PAGE - len(head))
    life.log.write_bytes(torn)
    disk.fill()
    life.stub(f"echo first; read x <{gate.path}; echo last; exit 3")
    disk.start()
    life.pid()
    assert_idle(life.monitor_pid())
    assert life.log.read_bytes() == torn
    disk.free()
    wait_until(lambda: life.log.read_bytes() != torn, "the first record")
    gate.open()
    assert life.exit_status() == 3
    life.wait_gone()
    content = life.log.read_bytes()
    content = content.removeprefix(torn + b"\n")  # made whole, or cut off
    assert not content.startswith(torn)
    out, _ = texts(content)
    assert out.endswith(b"last\n")
    assert mode == "drop" or out == b"first\nlast\n"


# Hold: what a call says


@pytest.mark.contract("LOG-30", "LOG-31", "LOG-36", "CASE-401")
@pytest.mark.parametrize("cut", ["can be cut", "cannot be cut"])
@pytest.mark.parametrize(
    ("size", "error"),
    [(1, "EIO"), (44, "EDQUOT"), (46, "ENOSPC"), (200, "EROFS"), (5000, "ENOSPC")],
)
def test_after_a_short_write_and_errors_everything_is_written(
    life: Life, size: int, cut: str, error: str
) -> None:
    spec = [f"write:shorten={size}:nth=2:file=ctr.log"]
    spec += [f"write:errno={error}:nth=3:times=3:file=ctr.log"]
    spec += [f"write:shorten={size}:nth=8:times=2:file=ctr.log"]
    spec += [f"write:errno={error}:nth=10:times=2:file=ctr.log"]
    if cut == "cannot be cut":
        spec += ["ftruncate:errno=EDQUOT:times=forever:file=ctr.log"]
    life.command = faults.command(",".join(spec))
    load = Load(life, lines=600)
    life.stub(load.container).start("--no-sync-log")
    life.pid()
    ended(load)
    assert texts(life.log.read_bytes()) == load.texts()


@pytest.mark.contract("LOG-30", "REOPEN-1")
@HOLD_OR_DROP
def test_a_torn_record_that_cannot_be_cut_is_whole_in_the_fresh_file(
    life: Life, gate: Gate, mode: str
) -> None:
    life.environment["LOWCONMON_LOG_ON_ERROR"] = mode
    # The file that is renamed never takes anything again, the fresh one a little later.
    spec = ["write:shorten=60:nth=2:file=ctr.log", "write:errno=EIO:nth=3:times=15:file=ctr.log"]
    spec += ["write:errno=EIO:times=forever:file=broken", "ftruncate:errno=EIO:file=ctr.log"]
    life.command = faults.command(",".join(spec))
    text = b"x" * 100
    life.stub(f"echo first; read x <{gate.path}; echo {text.decode()}; read x <{gate.path}; exit 3")
    life.start()
    life.pid()
    first = wait_until(lambda: read_if_there(life.log), "the first record")
    gate.open()
    wait_until(lambda: life.log.read_bytes() != first, "a torn record")
    old = life.log.rename(life.directory / "broken")
    reopen(life)
    wait_until(lambda: read_if_there(life.log), "the fresh log")
    gate.open()
    assert life.exit_status() == 3
    life.wait_gone()
    assert old.read_bytes()[:-60] == first
    account(first + life.log.read_bytes(), b"first\n" + text + b"\n", b"")
    assert mode == "drop" or texts(life.log.read_bytes()) == (text + b"\n", b"")


@pytest.mark.contract("LOG-31", "LOG-36", "CASE-401")
@pytest.mark.parametrize(
    ("when", "error"), [("1..3", "ENOSPC"), ("2..6", "EDQUOT"), ("3", "EIO"), ("4+3", "EROFS")]
)
def test_the_kernels_own_errors_lose_nothing(life: Life, error: str, when: str) -> None:
    # strace makes them: whatever the program is, it meets them.
    life.log.touch()
    inject = f"inject=write:error={error}:when={when}"
    strace = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-P", str(life.log)]
    life.command = [*strace, "-e", "trace=write", "-e", inject, *life.command]
    load = Load(life, lines=600)
    life.stub(load.container).start()
    life.pid()
    ended(load)
    assert texts(life.log.read_bytes()) == load.texts()


@pytest.mark.contract("REOPEN-1", "LOG-36", "CASE-401", "CASE-504")
def test_a_directory_that_is_removed_while_the_disk_is_full_takes_nothing_with_it(
    life: Life, disk: Disk
) -> None:
    logs = disk.path / "logs"
    logs.mkdir()
    life.log = logs / "ctr.log"
    disk.fill(leave=8 * PAGE)
    load = loaded(life, disk)
    stuck(load)
    with life.log.open("rb") as old:
        shutil.rmtree(logs)
        life.control(b"2 0 0\n")
        logs.mkdir()
        reopen(life)
        wait_until(life.log.exists, "the fresh log")
        disk.free()
        ended(load)
        content = old.read()
    assert texts(content + life.log.read_bytes()) == load.texts()


# Drop


NOTICE = re.compile(rb"\[lowconmon: (.*) could not be written here\]")
PART = re.compile(rb"(\d+) records \((\d+) bytes\) of (stdout|stderr)")


def notices(content: bytes) -> list[dict[str, tuple[int, int]]]:
    """Return what each notice of a log says is missing: records and bytes by stream."""
    found = []
    for record in records(content):
        match = NOTICE.fullmatch(record.text)
        if match:
            assert (record.stream, record.partial) == ("stderr", False)
            parts = [PART.fullmatch(part) for part in match[1].split(b" and ")]
            told = [(part[3].decode(), (int(part[1]), int(part[2]))) for part in parts if part]
            assert len(told) == len(parts), match[1]
            assert [name for name, _ in told] in (["stdout", "stderr"], ["stdout"], ["stderr"])
            assert all(count and size for _, (count, size) in told)
            found.append(dict(told))
    return found


def account(content: bytes, *expected: bytes) -> int:
    """Check that what a log tells is missing is what is missing; return how many records it is."""
    told = notices(content)
    lines = [line for line in content.splitlines(keepends=True) if not NOTICE.search(line)]
    present = dict(zip(("stdout", "stderr"), texts(b"".join(lines)), strict=True))
    total = 0
    for stream, written in zip(("stdout", "stderr"), expected, strict=True):
        count = sum(notice.get(stream, (0, 0))[0] for notice in told)
        size = sum(notice.get(stream, (0, 0))[1] for notice in told)
        missing = len(written) - len(present[stream])
        newlines = written.count(b"\n") - present[stream].count(b"\n")
        assert count >= newlines
        # A record's newline stands for one of the container's, or is the log's own after a P.
        assert size == RECORD * count + missing - newlines
        total += count
    # Where the text stops and goes on a notice stands: between two of them nothing is missing.
    pieces = [b""]
    for line in content.splitlines(keepends=True):
        if NOTICE.search(line):
            pieces.append(b"")
        else:
            pieces[-1] += line
    at = [0, 0]
    for piece in pieces:
        for index, text in enumerate(texts(piece)):
            found = expected[index].find(text, at[index])
            assert found >= 0, text[:100]
            at[index] = found + len(text)
    assert texts(pieces[0])[0] == expected[0][: len(texts(pieces[0])[0])]
    return total


@pytest.fixture
def drops(life: Life) -> Life:
    """Let the log drop what it cannot write."""
    life.environment |= DROP
    return life


AFTER = "with open({path!r}) as gate:\n    gate.readline()\nfor fd in (1, 2):\n    os.write(fd, b'after\\n')"


@pytest.mark.contract("LOG-38", "DIAG-1")
@pytest.mark.parametrize(
    ("value", "warned"), [("hold", False), ("drop", False), ("", False), ("Drop", True)]
)
def test_only_hold_and_drop_are_known(life: Life, disk: Disk, value: str, warned: bool) -> None:
    life.environment["LOWCONMON_LOG_ON_ERROR"] = value
    disk.fill()
    load = loaded(life, disk)
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    said = life.launcher.stderr.read().decode()
    assert said == "[conmon:w]: LOWCONMON_LOG_ON_ERROR must be hold or drop\n" * warned
    if value == "drop":
        wait_until(load.count.exists, "all that the container writes")
    else:
        stuck(load)
    disk.free()
    ended(load)
    assert value == "drop" or texts(life.log.read_bytes()) == load.texts()


@pytest.mark.contract("LOG-30", "LOG-31", "LOG-38", "LOG-39", "CASE-401")
@pytest.mark.parametrize("pages", [0, 1, 40])
@pytest.mark.parametrize(
    "options", [[], ["--log-size-max", "50000", *ROTATE]], ids=["plain", "rotation"]
)
def test_with_drop_the_container_never_waits_and_the_log_tells_what_is_missing(
    drops: Life, disk: Disk, gate: Gate, pages: int, options: list[str]
) -> None:
    life = drops
    disk.fill(leave=pages * PAGE)
    load = loaded(life, disk, *options, end=AFTER.format(path=str(gate.path)))
    wait_until(load.count.exists, "all that the container writes")
    assert_idle(life.monitor_pid())
    before = logged(life.log)
    disk.free()
    # Where a page had room for one there may be a notice already.
    wait_until(lambda: len(logged(life.log)) > len(before), "the notice")
    gate.open()
    ended(load)
    content = logged(life.log)
    assert content.startswith(before)
    assert account(content, *(text + b"after\n" for text in load.texts())) > 0
    assert [text.endswith(b"after\n") for text in texts(content)] == [True, True]


@pytest.mark.contract("LOG-38", "LOG-39", "CASE-401", "LOG-32")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("count", [1, 2, 60])
def test_the_notice_is_exact(drops: Life, disk: Disk, count: int, stream: str) -> None:
    life = drops
    out = " >&2" if stream == "stderr" else ""
    life.stub(f"exec cat{out}")
    disk.start("-i")
    life.pid()
    client = attach_accepted(life)
    packet = b"\2" if stream == "stdout" else b"\3"

    def say(text: bytes) -> None:
        client.send(text)
        assert client.recv(8193) == packet + text  # what a client has got, the log had before

    before = to_page_end(life)
    say(before)
    disk.fill()
    lost = [b"%d\n" % 10**number for number in range(count)]
    for text in lost:
        say(text)
    disk.free()
    wait_until(lambda: notices(life.log.read_bytes()), "the notice")
    say(b"after\n")
    client.close()
    assert life.exit_status() == 0
    life.wait_gone()
    size = sum(RECORD + len(text) - 1 for text in lost)
    notice = f"[lowconmon: {count} records ({size} bytes) of {stream} could not be written here]"
    assert records(life.log.read_bytes()) == [
        Record(stream, partial=False, text=before[:-1]),
        Record("stderr", partial=False, text=notice.encode()),
        Record(stream, partial=False, text=b"after"),
    ]


def to_page_end(life: Life) -> bytes:
    """Return a line whose record ends with a page of the log: behind it a full disk takes nothing."""
    room = PAGE - life.log.stat().st_size % PAGE
    return b"x" * ((room if room >= RECORD else room + PAGE) - RECORD) + b"\n"


@pytest.mark.contract("LOG-38", "LOG-39", "CASE-401")
def test_each_time_the_disk_was_full_has_a_notice_of_its_own(drops: Life, disk: Disk) -> None:
    life = drops
    life.stub("exec cat")
    disk.start("-i")
    life.pid()
    client = attach_accepted(life)
    said = b""
    for turn in range(1, 5):
        for number in range(turn + 1):
            text = b"%d %d\n" % (turn, number) if number else to_page_end(life)
            client.send(text)
            assert client.recv(8193)[1:] == text
            said += text
            if number == 0:
                disk.fill()
        disk.free()
        wait_until(lambda turn=turn: len(notices(life.log.read_bytes())) == turn, "the notice")
    client.close()
    assert life.exit_status() == 0
    life.wait_gone()
    content = life.log.read_bytes()
    assert len(notices(content)) == 4
    account(content, said, b"")


@pytest.mark.contract("LOG-30", "LOG-38", "LOG-39", "CASE-401")
@pytest.mark.parametrize("cut", ["can be cut", "cannot be cut"])
@pytest.mark.parametrize(
    ("size", "error"), [(1, "EROFS"), (46, "EDQUOT"), (100, "ENOSPC"), (200, "EIO")]
)
def test_with_drop_short_writes_and_errors_add_up(
    drops: Life, size: int, cut: str, error: str
) -> None:
    # The notice itself meets some of them.
    life, spec = drops, []
    for nth in (3, 7, 13, 14, 15, 20, 30):
        spec += [f"write:shorten={size}:nth={nth}:file=ctr.log"]
        spec += [f"write:errno={error}:nth={nth + 1}:times={1 + nth % 3}:file=ctr.log"]
    if cut == "cannot be cut":
        spec += ["ftruncate:errno=EDQUOT:times=forever:file=ctr.log"]
    life.command = faults.command(",".join(spec))
    life.stub('while read line; do echo "$line"; echo "$line" >&2; done').start("-i")
    life.pid()
    client = attach_accepted(life)
    said = b""
    for number in range(40):  # each turn makes a write at least
        text = b"%d-" % number + b"x" * (number * 37 % 300) + b"\n"
        client.send(text)
        assert {client.recv(8193), client.recv(8193)} == {b"\2" + text, b"\3" + text}
        said += text
        wait_until(lambda said=said: accounted(life.log, said), "all is written or told")
    client.close()
    assert life.exit_status() == 0
    life.wait_gone()
    assert account(life.log.read_bytes(), said, said) > 0


def accounted(log: Path, written: bytes) -> bool:
    """Tell whether all of *written*, on either stream, is in the log by now or told to be missing."""
    try:
        account(log.read_bytes(), written, written)
    except AssertionError:
        return False
    return True


@pytest.mark.contract("LOG-31", "LOG-38", "LOG-39", "REOPEN-1", "CASE-401", "CASE-504")
def test_with_drop_the_notice_goes_to_the_log_that_can_be_written_first(
    drops: Life, disk: Disk, gate: Gate
) -> None:
    life = drops
    disk.fill(leave=8 * PAGE)
    load = loaded(life, disk, end=AFTER.format(path=str(gate.path)))
    wait_until(load.count.exists, "all that the container writes")
    old = life.log.rename(disk.path / "old")
    reopen(life)
    assert notices(old.read_bytes()) == []
    disk.free()
    wait_until(lambda: notices(life.log.read_bytes()), "the notice")
    gate.open()
    ended(load)
    assert notices(old.read_bytes()) == []
    assert NOTICE.search(life.log.read_bytes().splitlines()[0])
    account(old.read_bytes() + life.log.read_bytes(), *(text + b"after\n" for text in load.texts()))


@pytest.mark.contract("LOG-31", "LOG-38", "LOG-39", "CASE-1202")
def test_with_drop_a_flood_on_a_full_disk_does_not_make_the_monitor_grow(
    drops: Life, disk: Disk
) -> None:
    life = drops
    yes = f"yes {'x' * 99} | head -c {8 << 20}"
    life.stub(f"read x; {yes}; {yes} >&2; exit 3")
    disk.start("-i", "--no-sync-log")
    life.pid()
    monitor = life.monitor_pid()
    client = attach_accepted(life)
    disk.fill()
    before = private_kib(monitor)
    client.send(b"go\n")
    packets_seen, most = 0, 0
    while client.recv(8193):
        packets_seen += 1
        if packets_seen % 100 == 0:
            most = max(most, private_kib(monitor) - before)
    client.close()
    assert packets_seen > 1000
    assert 0 < most <= 2 * GROWTH  # the client has a queue, too
    assert life.exit_status() == 3


# Exit files


def exits_on(disk: Disk, life: Life, *names: str) -> None:
    """Put the exit directories of these names on the disk, and the log elsewhere."""
    life.log = life.directory / "ctr.log"
    for name in names:
        directory = disk.path / name
        directory.mkdir()
        setattr(life, {"exits": "exit_dir", "persist": "persist_dir"}[name], directory)


@pytest.mark.contract("CASE-403", "END-9", "END-10", "END-11", "END-12")
@pytest.mark.parametrize("name", ["exits", "persist"])
def test_an_exit_file_on_a_full_disk_appears_when_there_is_space(
    life: Life, disk: Disk, name: str
) -> None:
    exits_on(disk, life, name)
    disk.fill()
    life.stub("exit 137")
    files = {"exits": life.exit_dir / life.cid, "persist": life.persist_dir / "exit"}
    with Inotify(files[name].parent) as watch:
        disk.start()
        life.pid()
        other = files["persist" if name == "exits" else "exits"]
        assert wait_until(lambda: read_if_there(other), "the other exit file", IN_TIME) == b"137"
        assert not files[name].exists()
        disk.free()
        assert wait_until(lambda: read_if_there(files[name]), "the exit file", IN_TIME) == b"137"
        life.wait_gone()
        final = [kind for kind, entry in watch.events() if entry == files[name].name]
    assert final == [Inotify.MOVED_TO]
    assert exit_files(files[name].parent) == [files[name].name]


@pytest.mark.contract("CASE-403", "END-11", "END-12", "LOG-37")
def test_where_nothing_can_be_written_ever_the_monitor_still_ends(life: Life, disk: Disk) -> None:
    exits_on(disk, life, "exits", "persist")
    life.log = disk.path / "ctr.log"
    disk.fill()
    life.stub("echo lost; exit 7")
    disk.start("--sync", wait=False)
    life.pid()
    assert life.launcher is not None
    started = time.monotonic()
    assert life.launcher.wait(DEADLINE) == 7
    assert time.monotonic() - started < (1 + 5 + 3) * SLOWNESS
    assert os.listdir(life.exit_dir) == os.listdir(life.persist_dir) == []
    assert life.log.read_bytes() == b""


@pytest.mark.contract("CASE-403", "END-12", "LOG-37")
def test_log_and_exit_files_on_one_full_disk_are_there_when_it_has_space(
    life: Life, disk: Disk
) -> None:
    exits_on(disk, life, "exits", "persist")
    life.log = disk.path / "ctr.log"
    disk.fill()
    life.stub("echo kept; exit 7")
    disk.start()
    pid = life.pid()
    wait_until(lambda: zombie(pid), "the container's end")
    disk.free()
    assert life.exit_status() == 7
    life.wait_gone()
    assert (life.persist_dir / "exit").read_bytes() == b"7"
    assert texts(life.log.read_bytes()) == (b"kept\n", b"")
