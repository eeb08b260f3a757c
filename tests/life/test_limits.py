"""Beyond what 32 bits hold: logs of more than 4 GiB, counters that large, times after 2038 and 2106.

The logs are sparse: nothing of their holes is on the disk.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from lowconmon.loop import Loop
from lowconmon.pure.json_records import JsonRecords
from lowconmon.pure.records import K8sRecords
from lowconmon.rooms.diagnostics import Diagnostics
from lowconmon.rooms.log_file import LogFile
from lowconmon.rooms.rotation import Rotation
from tests.support import ROOT, SLOWNESS
from tests.support.life import Gate, Life, read_if_there, wait_until
from tests.support.operators import ask

BORDERS = [2**31, 2**32]
MOMENTS = [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**37]  # 2038, 2106 and 6325
STAMP = b"2026-11-23T14:30:00.776455356+00:00"
RECORD = STAMP + b" stdout F old line\n"


def sparse(path: Path, size: int, end: bytes) -> None:
    """Make a file of *size* bytes, of which the last are a line's end and *end*."""
    with open(path, "wb") as file:
        file.truncate(size - len(end) - 1)
        file.seek(0, os.SEEK_END)
        file.write(b"\n" + end)
    assert path.stat().st_size == size


def last(path: Path, count: int) -> bytes:
    """Return the last *count* bytes of a file."""
    with open(path, "rb") as file:
        file.seek(-count, os.SEEK_END)
        return file.read()


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "ctr.log"


@pytest.fixture
def room(log: Path) -> Iterator[Callable[..., LogFile]]:
    """Give a function that opens the log; *backups* as in --log-max-files."""
    with closing(Loop()) as loop:
        opened = list[LogFile]()

        def open_log(backups: int = 0, records: Any = K8sRecords, **limits: Any) -> LogFile:
            diagnostics = Diagnostics()
            diagnostics.on_stderr = False
            path = os.fsencode(log)
            rotation = Rotation(path, backups)
            opened.append(LogFile(loop, diagnostics, path, records(), rotation, **limits))
            return opened[-1]

        yield open_log
        for one in opened:
            one.close()


def write(room: LogFile, text: bytes) -> bytes:
    """Log a line and return its record."""
    now_ns = time.time_ns()
    room.write(b"stdout", now_ns, text + b"\n")
    return bytes(K8sRecords().format(b"stdout", now_ns, time.localtime().tm_gmtoff, text + b"\n"))


# Logs


@pytest.mark.contract("LOG-33")
@pytest.mark.parametrize("border", [*BORDERS, 2**40])
@pytest.mark.parametrize(
    ("torn", "mended"),
    [
        (STAMP[:20], b""),
        (STAMP + b" stdo", b""),
        (STAMP + b" stdout F torn text", STAMP + b" stdout F torn text\n"),
        (b"of somebody else", b"of somebody else\n"),
    ],
)
def test_a_torn_end_is_mended_where_it_stands(
    log: Path, room: Callable[..., LogFile], border: int, torn: bytes, mended: bytes
) -> None:
    size = border + 9  # it lies across the border
    sparse(log, size, RECORD + torn)
    one = room()
    end = RECORD + mended
    assert log.stat().st_size == size - len(torn) + len(mended)
    assert last(log, len(end) + 1) == b"\n" + end
    end += write(one, b"new line")
    assert last(log, len(end) + 1) == b"\n" + end
    assert log.stat().st_size == size - len(RECORD + torn) + len(end)


@pytest.mark.contract("LOG-30", "LOG-36")
@pytest.mark.parametrize("border", BORDERS)
def test_what_a_full_disk_takes_of_a_record_is_cut_off_where_it_stands(
    log: Path, room: Callable[..., LogFile], inject: Callable[..., Any], border: int
) -> None:
    size = border - 7
    sparse(log, size, RECORD)
    one = room()
    inject("write", shorten=20)
    inject("write", errno=errno.ENOSPC, nth=2, times=2)
    record = write(one, b"new line")
    assert one.holds()
    assert log.stat().st_size == size
    one._flush()  # noqa: SLF001 - what its timer does; still full
    assert log.stat().st_size == size
    one._flush()  # noqa: SLF001
    assert not one.holds()
    assert log.stat().st_size == size + len(record)
    assert last(log, len(RECORD + record)) == RECORD + record


@pytest.mark.contract("ROT-1", "ROT-2", "ROT-4", "ROT-5", "ROT-6")
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("backups", [0, 2])
def test_a_limit_beyond_32_bits_is_kept_to_the_byte(
    log: Path, room: Callable[..., LogFile], border: int, backups: int
) -> None:
    sparse(log, border - 10, RECORD)
    record = write(room(), b"line 0")
    limit = border - 10 + 3 * len(record)
    one = room(backups, size_max=limit)
    records = [record, *(write(one, b"line %d" % number) for number in range(1, 5))]
    assert log.read_bytes() == b"".join(records[3:])
    rotated = log.with_name("ctr.log.1")
    if backups:
        assert rotated.stat().st_size == limit
        end = RECORD + b"".join(records[:3])
        assert last(rotated, len(end)) == end
    assert one.tally()[3] == 1
    assert rotated.exists() == bool(backups)


@pytest.mark.contract("ROT-12", "ROT-14")
@pytest.mark.parametrize("border", BORDERS)
def test_a_limit_of_all_beyond_32_bits_is_kept(
    log: Path, room: Callable[..., LogFile], border: int
) -> None:
    sparse(log, border - 10, RECORD)
    one = room(total_max=border + 60)
    records = [write(one, b"line %d" % number) for number in range(5)]
    assert log.stat().st_size == border - 10 + 2 * len(records[0])  # the second one crosses it
    assert last(log, len(records[0])) == records[1]
    assert one.tally()[0] == {b"stdout": 2}


@pytest.mark.contract("ROT-4", "ROT-12")
@pytest.mark.parametrize("size", [0, 2**32 + 5, 2**40])
def test_limits_as_large_as_can_be_are_no_limits(
    log: Path, room: Callable[..., LogFile], size: int
) -> None:
    if size:
        sparse(log, size, RECORD)
    one = room(1, size_max=2**63 - 1, total_max=2**63 - 1)
    end = b"".join(write(one, b"line %d" % number) for number in range(3))
    assert log.stat().st_size == size + len(end)
    assert last(log, len(end)) == end
    assert one.tally()[3] == 0


@pytest.mark.contract("REOPEN-4")
@pytest.mark.parametrize("border", BORDERS)
def test_waking_who_watches_a_large_log_changes_nothing(
    log: Path, room: Callable[..., LogFile], border: int
) -> None:
    sparse(log, border + 5, RECORD)
    one = room()
    one.reopen()
    assert log.stat().st_size == border + 5
    record = write(one, b"new line")
    assert last(log, len(RECORD + record)) == RECORD + record


@pytest.mark.contract("ROT-4", "ROT-6", "LOG-33")
@pytest.mark.parametrize("limit", [2**32 + 150, 2**63 - 1])
def test_a_life_goes_on_in_a_log_of_more_than_4_gib(life: Life, logs: Path, limit: int) -> None:
    sparse(life.log, 2**32 + 20, RECORD + STAMP[:20])
    life.stub("seq 11 15; exit 3")
    life.start("--log-size-max", str(limit), "--log-rotate", "--no-sync-log").pid()
    assert life.exit_status() == 3
    life.wait_gone()
    record = len(STAMP) + len(b" stdout F 11\n")
    if limit == 2**63 - 1:
        assert [path.name for path in logs.iterdir()] == ["ctr.log"]
        assert life.log.stat().st_size == 2**32 + 5 * record
        assert last(life.log, 4) == b" 15\n"
    else:
        rotated = logs / "ctr.log.1"
        assert rotated.stat().st_size == 2**32 + 150 // record * record
        assert last(rotated, 4) == b" 13\n"
        assert [text for _, _, text in life.records()] == [b"14", b"15"]
    facts = json.loads((life.persist_dir / "exit.json").read_bytes())
    assert facts["log"]["rotations"] == (limit != 2**63 - 1)


# Counters

COUNTED = """
import sys
sys.path.insert(0, {root!r})
from lowconmon.pure.records import K8sRecords
from lowconmon.rooms.stdio import Stdio
def begin(kind, name, count):
    begun = kind.__init__
    def init(self, *arguments):
        begun(self, *arguments)
        getattr(self, name)[b"stdout"] = count
    kind.__init__ = init
begin(Stdio, "sizes", {bytes})
begin(K8sRecords, "counts", {records})
from lowconmon.__main__ import main
main()
"""


@pytest.mark.contract("STAT-4", "REC-3")
@pytest.mark.parametrize("count", [2**31 - 1, 2**32 - 1, 2**53, 2**63 - 1])
def test_bytes_and_records_are_counted_beyond_32_bits(life: Life, gate: Gate, count: int) -> None:
    code = COUNTED.format(root=str(ROOT), bytes=count, records=count + 7)
    life.command = [sys.executable, "-c", code]
    life.stub(f"echo one; echo two; read x <{gate.path}").start("--no-sync-log").pid()
    wait_until(lambda: b" two\n" in (read_if_there(life.log) or b""), "the last line")
    expected = {"bytes": count + 8, "records": count + 9}
    assert ask(life.bundle)["log"]["stdout"] == expected
    gate.open()
    life.exit_status()
    life.wait_gone()
    facts = json.loads((life.persist_dir / "exit.json").read_bytes())
    assert facts["log"]["stdout"] == expected


# Times

LATER = """
import sys, time
sys.path.insert(0, {root!r})
now, begun, format = time.time_ns, time.time_ns(), time.strftime
time.time_ns = lambda: {moment} * 10**9 + now() - begun
time.strftime = lambda text: format(text, time.localtime(time.time_ns() // 10**9))
from lowconmon.__main__ import main
main()
"""
ZONE, OFFSET = "XYZ-05:30", timedelta(hours=5, minutes=30)


@pytest.fixture
def _zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be 5:30 hours east of UTC."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", ZONE)
        time.tzset()
        yield
    time.tzset()


def offset_at(moment: int) -> timedelta:
    """Return the offset that a stamp of *moment* has: that of UTC where time_t is too short."""
    try:
        time.localtime(moment)
    except OverflowError:
        assert sys.maxsize < 2**31 <= moment
        return timedelta(0)
    return OFFSET


def of(stamp: bytes | str) -> tuple[int, timedelta | None]:
    """Return the seconds since the epoch, and the offset, that a stamp says."""
    text = stamp if isinstance(stamp, str) else stamp.decode()
    when = datetime.fromisoformat(text[:19] + text[29:])
    return (when - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1), when.utcoffset()


@pytest.mark.contract("LOG-20")
@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_record_has_the_time_it_was_read_at_for_all_times(
    log: Path, room: Callable[..., LogFile], moment: int
) -> None:
    one = room()
    for seconds in (moment, moment + 1):
        one.write(b"stdout", seconds * 10**9 + 123, b"text\n")
    for seconds, line in zip((moment, moment + 1), log.read_bytes().splitlines(), strict=True):
        asked = moment if seconds // 60 == moment // 60 else seconds  # once a minute
        assert of(line[:35]) == (seconds, offset_at(asked))
        assert line[19:29] == b".000000123"


@pytest.mark.contract("LOG-20")
@pytest.mark.usefixtures("_zone")
@pytest.mark.parametrize("records", [K8sRecords, JsonRecords])
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_log_is_mended_whatever_times_it_is_of(
    log: Path, room: Callable[..., LogFile], moment: int, records: Any
) -> None:
    one = room(records=records)
    for text in (b"first\n", b"second\n"):
        one.write(b"stdout", moment * 10**9, text)
    content = log.read_bytes()
    os.truncate(log, len(content) - 1)
    room(records=records)
    assert log.read_bytes() == content
    os.truncate(log, content.rindex(b"\n", 0, -1) + 12)
    room(records=records)
    assert log.read_bytes() == content[: content.rindex(b"\n", 0, -1) + 1]


@pytest.mark.contract("LOG-20", "STAT-3", "REC-3")
@pytest.mark.parametrize("moment", MOMENTS)
def test_a_life_after_2038_is_told_as_any(life: Life, gate: Gate, moment: int) -> None:
    life.command = [sys.executable, "-c", LATER.format(root=str(ROOT), moment=moment)]
    life.environment["TZ"] = ZONE
    life.stub(f"echo one; read x <{gate.path}; exit 3").start("--syslog", "--log-level", "debug")
    life.pid()
    wait_until(lambda: read_if_there(life.log), "the first line")
    facts = ask(life.bundle)
    gate.open()
    assert life.exit_status() == 3
    life.wait_gone()
    ended = json.loads((life.persist_dir / "exit.json").read_bytes())
    stamp = life.log.read_bytes()[:35]
    slow = 60 * SLOWNESS
    for told in (facts["started_at"], ended["started_at"], ended["ended_at"]):
        assert moment <= of(told)[0] <= moment + slow
        assert of(told)[1] == timedelta(0)
    assert moment <= of(stamp)[0] <= moment + slow
    assert of(stamp)[1] == offset_at(of(stamp)[0])
    assert ended["status"] == 3
    assert not (life.bundle / "conmon-crash").exists()


@pytest.mark.parametrize("error", [OverflowError, OSError(errno.EOVERFLOW, "")])
def test_a_clock_that_time_t_does_not_hold_costs_syslog_its_lines_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, error: Any
) -> None:
    def strftime(_text: str) -> str:
        raise error

    monkeypatch.setattr(time, "strftime", strftime)
    monkeypatch.setattr(time, "time_ns", lambda: 2**32 * 10**9)
    diagnostics = Diagnostics()
    diagnostics.on_stderr, diagnostics.to_syslog = False, True
    diagnostics.warn("what happened")
    assert diagnostics.recent == [(2**32 * 10**9, b"what happened")]
