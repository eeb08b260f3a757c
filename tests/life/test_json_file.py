"""The driver json-file: docker's records in the file, everything else as with a k8s-file."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support.disk import PAGE, Disk
from tests.support.echo import Echo
from tests.support.journald import FakeJournald, connect
from tests.support.json_log import Record, old_record, records, size, texts
from tests.support.kubelet import REOPEN, reopen
from tests.support.life import (
    Gate,
    Life,
    assert_idle,
    attach_accepted,
    private_kib,
    wait_until,
)
from tests.support.load import Load
from tests.support.rotation import backups
from tests.support.witness import gone

KEPT = [0, 1, 3]  # backups; 0: without --log-rotate
ROTATE = ["--log-rotate", "--log-max-files", "1000"]  # so many that none is ever too many
NOTICE = re.compile(r"\[lowconmon: (\d+) records \((\d+) bytes\) of (stdout|stderr) ")


@pytest.fixture
def gate(life: Life) -> Iterator[Gate]:
    one = Gate(life.directory / "go")
    yield one
    one.close()


@pytest.fixture
def disk(life: Life) -> Iterator[Disk]:
    """Put the log on a disk of its own, of 1 MiB."""
    with Disk(life) as one:
        yield one
        life.end()  # before the look at what is left: the disk goes with it


@pytest.fixture
def logs(life: Life) -> Path:
    """Put the log in a directory of its own and return that."""
    directory = life.directory / "logs"
    directory.mkdir()
    life.log = directory / "ctr.log"
    return directory


def start(life: Life, *extra: str, **how: Any) -> Life:
    return life.start("-l", f"json-file:{life.log}", *extra, **how)


def echoing(life: Life, *extra: str) -> Echo:
    """Start a container that says what it is told to."""
    start(life.stub(Echo.CONTAINER), "-i", *extra)
    return Echo(life)


def finish(life: Life, status: int = 0) -> None:
    assert life.exit_status() == status
    life.wait_gone()


def lived(life: Life, data: bytes, *extra: str) -> list[Record]:
    """Return the records of a life that writes *data*."""
    source = life.directory / "data"
    source.write_bytes(data)
    life.stub(f"exec cat {source}")
    start(life, *extra)
    life.pid()
    finish(life)
    return records(life.log.read_bytes())


# The format


@pytest.mark.contract("JSON-1", "JSON-2", "JSON-3", "LOG-29")
def test_both_streams_are_in_one_file_as_docker_writes_them(life: Life, gate: Gate) -> None:
    life.stub(f"echo out; echo err >&2; read x <{gate.path}; printf 'a\\n\\nprompt? '")
    start(life)
    life.pid()
    wait_until(lambda: life.log.read_bytes().count(b"\n") == 2, "the first two lines")
    gate.open()
    finish(life)
    found = sorted(record[:2] for record in records(life.log.read_bytes()))
    assert found == [
        ("stderr", "err\n"),
        *(("stdout", "\n"), ("stdout", "a\n"), ("stdout", "out\n"), ("stdout", "prompt? ")),
    ]
    shape = rb'\{"log":"out\\n","stream":"stdout","time":"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{9}Z"\}'
    assert any(re.fullmatch(shape, line) for line in life.log.read_bytes().splitlines())
    assert life.log.stat().st_mode & 0o7777 == 0o640


@pytest.mark.contract("JSON-2", "LOG-27")
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
def test_the_time_is_utc_wherever_the_monitor_is(life: Life, zone: str) -> None:
    life.environment["TZ"] = zone
    before = time.time()
    (record,) = lived(life, b"text\n")
    stamp = datetime.fromisoformat(record.time[:26] + "+00:00").timestamp()
    assert before - 1 <= stamp <= time.time() + 1


@pytest.mark.contract("JSON-2", "JSON-4")
def test_jq_reads_what_the_container_wrote(life: Life) -> None:
    text = 'quote " backslash \\ tab \t del \x7f ä€😀 \u2028 nul \0 cr \r\nnext <&>\nlast'
    found = lived(life, text.encode())
    assert "".join(record.text for record in found) == text
    done = subprocess.run(
        ["jq", "--join-output", ".log", life.log], capture_output=True, timeout=20, check=True
    )
    assert done.stdout.decode() == text


@pytest.mark.contract("JSON-4", "LOG-23")
@pytest.mark.parametrize(
    "data",
    [
        bytes(range(256)) * 3,
        bytes(reversed(range(256))) + b"\n",
        b"\xff\xfe\xc0\xaf\xed\xa0\x80\xf4\x90\x80\x80\n\xe2\x82",
        "äöü€😀".encode() * 30_000 + b"\n",
        b"\xe2\x82" * 50_000,
        b"\r\n" * 1000,
        b"\n" * 100_000,
        b"\0" * 40_000 + b"\n",
    ],
    ids=["all", "reversed", "invalid", "wide", "cut", "crlf", "newlines", "nul"],
)
def test_what_is_no_utf_8_becomes_u_fffd_and_nothing_else_changes(life: Life, data: bytes) -> None:
    text = data.decode("utf-8", "replace")
    assert "".join(record.text for record in lived(life, data)) == text


@pytest.mark.contract("JSON-3", "JSON-5")
@pytest.mark.parametrize("length", [0, 1, 16383, 16384, 16385, 32768, 32769, 65536, 200_000])
@pytest.mark.parametrize("end", [b"\n", b"\nafter\n", b""], ids=["line", "two lines", "no newline"])
def test_long_lines_are_cut_and_go_on(life: Life, length: int, end: bytes) -> None:
    # `parse` looks at the length of each.
    found = [record.text for record in lived(life, b"x" * length + end)]
    assert "".join(found) == "x" * length + end.decode()
    assert [text for text in found if text.endswith("\n")] == [
        *([found[-2 if b"after" in end else -1]] if end else []),
        *(["after\n"] if b"after" in end else []),
    ]


@pytest.mark.contract("JSON-4", "JSON-3", "ATT-8", "LOG-26")
def test_a_character_that_reads_have_cut_is_one_and_clients_get_its_bytes(life: Life) -> None:
    echo = echoing(life)
    for byte in "a😀".encode():
        assert "😀" not in life.log.read_text()
        echo.say(bytes((byte,)))
    wait_until(lambda: life.log.read_bytes().count(b"\n") == 2, "the character")
    for part in (b"\xe2", b"\x82", b"x", b"\xc3", b"\xa4\xc3", b"\xa4\n", b"\xf0\x9f"):
        echo.say(part)
    echo.end()
    found = [record.text for record in records(life.log.read_bytes())]
    assert found == ["a", "😀", "�x", "ä", "ä\n", "�"]


@pytest.mark.contract("JSON-4", "JSON-3")
def test_each_stream_waits_for_its_own_characters(life: Life, gate: Gate) -> None:
    steps = [(1, r"\303"), (2, r"\342\202"), (1, r"\244"), (2, r"\254"), (1, r"\303")]
    life.stub("; ".join(f"read x <{gate.path}; printf '{octal}' >&{fd}" for fd, octal in steps))
    start(life)
    life.pid()
    client = attach_accepted(life)
    for fd, _ in steps:
        gate.open()
        assert client.recv(8193)[0] == fd + 1
    client.close()
    finish(life)
    assert texts(life.log.read_bytes()) == ("ä�".encode(), "€".encode())


@pytest.mark.contract("JSON-2", "TTY-7")
def test_a_terminals_output_has_its_carriage_returns(life: Life) -> None:
    life.terminal_stub("echo one; echo two >&2; exit 7")
    start(life, "-t")
    life.pid()
    finish(life, 7)
    assert texts(life.log.read_bytes()) == (b"one\r\ntwo\r\n", b"")


@pytest.mark.contract("JSON-1", "SYNC-7")
def test_an_exec_session_logs_so_too(life: Life) -> None:
    life.stub("echo out; echo err >&2; exit 3")
    start(life, exec_session=True)
    life.pid()
    assert life.message() == {"data": 3}
    finish(life, 3)
    assert texts(life.log.read_bytes()) == (b"out\n", b"err\n")


@pytest.mark.contract("JSON-2", "JSON-3")
def test_much_on_both_streams_arrives_whole(life: Life) -> None:
    load = Load(life, lines=20_000)
    life.stub(load.container)
    start(life, "--no-sync-log")
    life.pid()
    finish(life, 3)
    assert texts(life.log.read_bytes()) == load.texts()


# Which file


@pytest.mark.contract("JSON-1", "LOG-11", "LOG-13", "LOG-14")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-l", "json-file"], "json-file requires a filename"),
        (["-l", "json-file:"], "json-file requires a filename"),
        (["-l", "json-file::"], "json-file requires a filename"),
        (["-l", "json-file:{d}/no/log"], "Failed to open log file No such file or directory"),
        (["-l", "json-file:{d}"], "Failed to open log file Is a directory"),
        (["-l", "json-file:{d}/fifo"], "Failed to open log file No such device or address"),
        (["-l", "json-file:{d}/log", "--log-tag", "t"], "json-file doesn't support --log-tag"),
        (
            ["-l", "json-file:{d}/log", "--log-label", "A=b"],
            "json-file doesn't support --log-label",
        ),
        (["-l", "json-files:{d}/log"], "No such log driver json-files"),
        (["-l", "jsonfile:x"], "No such log driver jsonfile"),
        (["-l", "JSON-FILE:x"], "No such log driver JSON-FILE"),
    ],
)
def test_what_is_wrong_is_told_as_for_a_k8s_file(life: Life, words: list[str], text: str) -> None:
    os.mkfifo(life.directory / "fifo")
    life.stub("exit 0")
    usual = life.arguments()
    at = usual.index("-l")
    del usual[at : at + 2]
    life.start(raw=[*usual, *(word.format(d=life.directory) for word in words)])
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    assert life.launcher.stderr.read().decode() == f"[conmon:e]: {text}\n"
    assert life.launcher.returncode == 1
    assert not life.pid_file.exists()


@pytest.mark.contract("JSON-1", "LOG-7")
@pytest.mark.parametrize("json_last", [True, False])
def test_of_two_files_the_last_is_written_whatever_their_formats(
    life: Life, json_last: bool
) -> None:
    life.stub("echo text")
    other = life.directory / "other"
    first, last = ("k8s-file", "json-file")[:: 1 if json_last else -1]
    usual = [word.replace("k8s-file:", f"{last}:") for word in life.arguments()]
    at = usual.index("-l")
    life.start(raw=[*usual[:at], "-l", f"{first}:{other}", *usual[at:]])
    life.pid()
    finish(life)
    assert not other.exists()
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    said = f"[conmon:w]: Only the last log file is written, not {other}\n"
    assert life.launcher.stderr.read().decode() == said
    content = life.log.read_bytes()
    assert (texts(content) if json_last else (life.text(), b"")) == (b"text\n", b"")


@pytest.mark.contract("JSON-1", "LOG-14", "JRN-2", "JRN-5", "JRN-9")
def test_file_and_journal_get_the_same_each_in_its_way(life: Life) -> None:
    data = "line\nä€😀 no end".encode() + b"\xff"
    source = life.directory / "data"
    source.write_bytes(data)
    life.stub(f"cat {source}; echo err >&2")
    with FakeJournald(life.directory / "journal") as journal:
        journal.start()
        connect(life, journal.path)
        start(life, "-l", "journald", "--log-tag", "tag", "--log-label", "A=b")
        life.pid()
        finish(life)
        # The journal has the bytes as they are; the last of them ends no line.
        assert journal.text(b"6") == data
        assert journal.text(b"3") == b"err\n"
    out = data.decode("utf-8", "replace").encode()
    assert texts(life.log.read_bytes()) == (out, b"err\n")


@pytest.mark.contract("JSON-6", "LOG-34")
def test_a_fifo_gets_everything_in_its_readers_time(life: Life) -> None:
    os.mkfifo(life.log)
    reading = os.open(life.log, os.O_RDONLY | os.O_NONBLOCK)
    with open(reading, "rb") as reader:
        load = Load(life, lines=3000)
        life.stub(load.container)
        start(life)
        pid = life.pid()
        assert_idle(pid)  # it waits: a full FIFO and what may be held is less than all
        assert not load.count.exists()
        os.set_blocking(reading, True)
        content = reader.read()
    finish(life, 3)
    assert texts(content) == load.texts()


# What an earlier life left


@pytest.mark.contract("JSON-6", "LOG-33", "LOG-29")
@pytest.mark.parametrize(
    ("left", "cut"),
    [
        (b"", 0),
        (b"{", 1),
        (b'{"lo', 4),
        (b'{"log":"', 8),
        (b'{"log":"half of it', 18),
        (old_record("text\n")[:-1], 0),  # whole but for its newline
        (old_record("text\n")[:-2], 10_000),
        (old_record("text\n")[:-3], 10_000),
        (old_record("\0" * 16384)[:-1], 0),  # longer than 64 KiB
        (old_record("\0" * 16384)[:-2], 10_000_000),
        (old_record("\0" * 16384)[:90_000], 10_000_000),
        (old_record('"' * 16384)[:30_000], 10_000_000),
        (b"somebody else's", 0),
    ],
    ids=lambda value: value[:20].decode() + f"+{len(value)}" if isinstance(value, bytes) else "",
)
@pytest.mark.parametrize("before", [0, 3])
def test_a_torn_last_record_is_made_whole_or_cut(
    life: Life, left: bytes, cut: int, before: int
) -> None:
    kept = b"".join(old_record(f"old {number}\n") for number in range(before))
    life.log.write_bytes(kept + left)
    life.stub("echo new")
    start(life)
    life.pid()
    finish(life)
    content = life.log.read_bytes()
    mended = left[: len(left) - cut] if cut <= len(left) else b""
    mended += b"\n" if mended else b""
    assert content.startswith(kept + mended)
    (record,) = records(content[len(kept + mended) :])
    assert record[:2] == ("stdout", "new\n")


@pytest.mark.contract("JSON-6", "LOG-33")
def test_a_log_longer_than_the_look_at_its_end_is_appended_to(life: Life) -> None:
    old = b"".join(old_record(f"{number} " + "\0" * 16000) for number in range(5))
    life.log.write_bytes(old + old_record("torn" + "\0" * 16000)[:80_000])
    life.stub("echo new")
    start(life)
    life.pid()
    finish(life)
    content = life.log.read_bytes()
    assert content.startswith(old)
    assert [record.text for record in records(content[len(old) :])] == ["new\n"]


# Limits, rotation, reopening


def rotating(kept: int, limit: int) -> list[str]:
    options = ["--log-size-max", str(limit)]
    return [*options, "--log-rotate", "--log-max-files", str(kept)] if kept else options


def segments(log: Path) -> list[list[str]]:
    """Return the texts of all files, the oldest backup first."""
    found = backups(log)
    files = [*(found[number] for number in sorted(found, reverse=True)), log]
    return [[record.text for record in records(path.read_bytes())] for path in files]


@pytest.mark.contract("JSON-6", "ROT-1", "ROT-4", "ROT-5", "ROT-6", "ROT-7", "ROT-9")
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("end", ['"\\\t\0ä', "xyz"], ids=["escaped", "plain"])
def test_a_record_that_would_exceed_the_limit_goes_to_a_fresh_file(
    life: Life, logs: Path, kept: int, beyond: int, at_once: bool, end: str
) -> None:
    said = [f"{number:04}{end}\n" for number in range(1, 12)]
    one = old_record(said[0])
    if end != "xyz":  # two bytes for each of three, and six for NUL
        assert b'0001\\"\\\\\\t\\u0000\xc3\xa4\\n' in one
    limit = 3 * len(one) + beyond
    echo = echoing(life, *rotating(kept, limit))
    for text in ["".join(said)] if at_once else said:
        echo.say(text.encode())
    echo.end()
    fit = 2 if beyond < 0 else 3
    expected = [said[at : at + fit] for at in range(0, len(said), fit)]
    assert segments(life.log) == expected[-kept - 1 :]
    assert {path.name for path in logs.iterdir()} - {"ctr.log"} == {
        f"ctr.log.{number}" for number in range(1, min(kept, len(expected) - 1) + 1)
    }


@pytest.mark.contract("JSON-6", "ROT-2", "ROT-22")
@pytest.mark.parametrize("kept", KEPT)
def test_what_is_there_counts_and_a_record_larger_than_the_limit_is_alone(
    life: Life, logs: Path, kept: int
) -> None:
    assert logs.is_dir()
    life.log.write_bytes(old_record("old\n"))
    echo = echoing(life, *rotating(kept, size("old\n") + size("new\n") - 1))
    for text in ("new\n", "x" * 500 + "\n", "end\n"):
        echo.say(text.encode())
    echo.end()
    expected = [["old\n"], ["new\n"], ["x" * 500 + "\n"], ["end\n"]]
    assert segments(life.log) == expected[-kept - 1 :]


@pytest.mark.contract("JSON-6", "ROT-12", "ROT-13", "ROT-14", "ROT-2")
@pytest.mark.parametrize("room", [0, 1, -1])
def test_the_global_limit_keeps_further_records_out_of_the_file_alone(
    life: Life, room: int
) -> None:
    life.log.write_bytes(old_record("0000\n"))
    echo = echoing(life, "--log-global-size-max", str(4 * size("0000\n") + room))
    said = [f"{number:04}\n" for number in range(1, 9)]
    for text in said:
        echo.say(text.encode())
    echo.end()
    found = [record.text for record in records(life.log.read_bytes())]
    assert found == ["0000\n", *said[: 4 if room > 0 else 3]]


@pytest.mark.contract("JSON-6", "ROT-6", "ROT-7", "CASE-505", "REOPEN-2")
@pytest.mark.parametrize("options", [rotating(0, 0), rotating(1000, 50_000)], ids=["", "rotating"])
def test_under_load_nothing_is_lost_between_files(
    life: Life, logs: Path, options: list[str]
) -> None:
    load = Load(life)
    life.stub(load.container)
    start(life, "--no-sync-log", *options)
    life.pid()
    aside: list[bytes] = []
    for number in range(3):
        if "--log-rotate" in options:
            wait_until(lambda number=number: len(backups(life.log)) > number, "a rotation")
        else:  # a kubelet's way
            wait_until(lambda: life.log.exists() and life.log.stat().st_size > 10_000, "records")
            life.log.rename(logs / f"aside{number}")
        reopen(life)
    load.stop()
    finish(life, 3)
    for path in sorted(logs.glob("aside*")):
        aside.append(path.read_bytes())
    found = backups(life.log)
    aside += [found[number].read_bytes() for number in sorted(found, reverse=True)]
    assert texts(b"".join(aside) + life.log.read_bytes()) == load.texts()
    assert len(aside) >= 3
    assert all(content.endswith(b"\n") for content in aside)


@pytest.mark.contract("JSON-6", "JSON-4", "REOPEN-1")
def test_a_character_cut_by_a_reopening_is_in_the_fresh_file(life: Life, logs: Path) -> None:
    echo = echoing(life)
    echo.say(b"old\n\xe2\x82")
    life.log.rename(logs / "aside")
    reopen(life)
    echo.say(b"\xac new\n")
    echo.end()
    assert texts((logs / "aside").read_bytes()) == (b"old\n", b"")
    assert texts(life.log.read_bytes()) == ("€ new\n".encode(), b"")


@pytest.mark.contract("JSON-6", "REOPEN-4", "REOPEN-2")
@pytest.mark.parametrize("options", [[], ROTATE], ids=["", "rotating"])
def test_the_message_alone_keeps_or_rotates_the_file(
    life: Life, logs: Path, options: list[str]
) -> None:
    assert logs.is_dir()
    echo = echoing(life, *options)
    echo.say(b"old\n")
    reopen(life, REOPEN)
    echo.say(b"new\n")
    echo.end()
    assert segments(life.log) == ([["old\n"], ["new\n"]] if options else [["old\n", "new\n"]])


# A full disk


def loaded(life: Life, disk: Disk, *options: str, end: str = "") -> Load:
    """Start a container that writes more than there is space for, if any is missing."""
    load = Load(life, lines=2500, size=40, end=end)
    life.stub(load.container)
    disk.start("-l", f"json-file:{life.log}", "--no-sync-log", *options)
    life.pid()
    return load


@pytest.mark.contract("JSON-6", "LOG-30", "LOG-36", "CASE-401")
@pytest.mark.parametrize("pages", [0, 1, 40])
@pytest.mark.parametrize("options", [[], rotating(1000, 60_000)], ids=["", "rotating"])
def test_a_full_disk_is_waited_for_and_nothing_is_lost(
    life: Life, disk: Disk, pages: int, options: list[str]
) -> None:
    disk.fill(leave=pages * PAGE)
    load = loaded(life, disk, *options)
    assert_idle(int(life.pid_file.read_text()))
    assert_idle(life.monitor_pid())
    assert not load.count.exists(), "the container did not wait"
    disk.free()
    finish(life, 3)
    found = "".join(text for segment in segments(life.log) for text in segment)
    assert len(found) == sum(map(len, load.texts()))
    contents = [path.read_bytes() for path in sorted(backups(life.log).values(), key=newest_last)]
    assert texts(b"".join(contents) + life.log.read_bytes()) == load.texts()


def newest_last(path: Path) -> int:
    return -int(path.suffix[1:])


@pytest.mark.contract("JSON-6", "LOG-38", "LOG-39", "CASE-401")
@pytest.mark.parametrize("pages", [0, 40])
def test_with_drop_a_record_on_stderr_tells_what_is_missing(
    life: Life, disk: Disk, gate: Gate, pages: int
) -> None:
    life.environment["LOWCONMON_LOG_ON_ERROR"] = "drop"
    disk.fill(leave=pages * PAGE)
    end = f"with open({str(gate.path)!r}) as gate:\n    gate.readline()\nos.write(1, b'after\\n')"
    load = loaded(life, disk, end=end)
    wait_until(load.count.exists, "all that the container writes")
    disk.free()
    gate.open()
    finish(life, 3)
    content = life.log.read_bytes()
    found = records(content)
    told = [record for record in found if NOTICE.match(record.text)]
    assert told
    assert all(record.stream == "stderr" for record in told)
    assert all(record.text.endswith(" could not be written here]\n") for record in told)
    lost = {"stdout": [0, 0], "stderr": [0, 0]}
    for record in told:
        for count, size_, stream in re.findall(
            r"(\d+) records \((\d+) bytes\) of (\w+)", record.text
        ):
            lost[stream][0] += int(count)
            lost[stream][1] += int(size_)
    for stream, written in zip(("stdout", "stderr"), load.texts(), strict=True):
        texts_ = [it.text for it in found if it.stream == stream and it not in told]
        if stream == "stdout":
            assert texts_.pop() == "after\n"
        missing = len(written) - sum(map(len, texts_))
        newlines = written.count(b"\n") - sum(text.endswith("\n") for text in texts_)
        count, bytes_ = lost[stream]
        assert count >= newlines > 0
        # A newline is two bytes in a record; its own end is the third.
        assert bytes_ == count * size("", stream) + missing + newlines


@pytest.mark.contract("JSON-6", "LOG-39")
@pytest.mark.parametrize(("stream", "packet"), [("stdout", b"\2"), ("stderr", b"\3")])
@pytest.mark.parametrize("count", [1, 30])
def test_the_notice_is_exact(
    life: Life, disk: Disk, count: int, stream: str, packet: bytes
) -> None:
    life.environment["LOWCONMON_LOG_ON_ERROR"] = "drop"
    life.stub(f"exec cat >&{1 if stream == 'stdout' else 2}")
    disk.start("-l", f"json-file:{life.log}", "-i")
    echo = Echo(life)
    # Records up to a page's end: behind it a full disk takes nothing.
    first = "x" * (PAGE - size("\n", stream))
    echo.say(first.encode() + b"\n", packet=packet)
    wait_until(lambda: life.log.stat().st_size == PAGE, "a full page")
    disk.fill()
    said = [f'{10**number} "ä"\n' for number in range(count)]
    for text in said:
        echo.say(text.encode(), packet=packet)
    disk.free()
    wait_until(lambda: b"lowconmon" in life.log.read_bytes(), "the notice")
    echo.say(b"after\n", packet=packet)
    echo.end()
    bytes_ = sum(size(text, stream) for text in said)
    notice = (
        f"[lowconmon: {count} records ({bytes_} bytes) of {stream} could not be written here]\n"
    )
    assert [record[:2] for record in records(life.log.read_bytes())] == [
        (stream, first + "\n"),
        ("stderr", notice),
        (stream, "after\n"),
    ]


@pytest.mark.contract("JSON-6", "LOG-36")
def test_a_character_that_waits_at_the_end_on_a_full_disk_is_written_when_there_is_space(
    life: Life, disk: Disk
) -> None:
    disk.fill()
    life.stub("printf 'text\\342\\202'; exit 3")
    disk.start("-l", f"json-file:{life.log}")
    life.pid()
    disk.free()
    finish(life, 3)
    assert texts(life.log.read_bytes()) == ("text�".encode(), b"")


# Memory


@pytest.mark.contract("CASE-1201")
def test_a_line_without_end_of_what_must_be_escaped_does_not_make_the_monitor_grow(
    life: Life,
) -> None:
    life.stub("head -c 30000000 /dev/zero; exit 5")
    # The delay keeps the monitor there to be looked at.
    later = ["--exit-command", "/bin/true", "--exit-delay", "60"]
    start(life, "--log-size-max", "200000", "--no-sync-log", *later)
    pid, monitor = life.pid(), life.monitor_pid()
    before, peak = private_kib(monitor), 0
    while not gone(pid):
        peak = max(peak, private_kib(monitor))
    assert peak - before < 8 << 10
    assert life.exit_status() == 5
    found = records(life.log.read_bytes())
    assert {(record.stream, record.text.strip("\0")) for record in found} == {("stdout", "")}
