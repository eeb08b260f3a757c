"""The k8s-file log: where it goes, what its records are, and what befalls it."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.life import (
    Gate,
    Life,
    assert_idle,
    attach_accepted,
    packets,
    read_if_there,
    wait_until,
)

MAX_TEXT = 8192
STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d")
MEGA = 1 << 20


def arguments(life: Life, *specs: str) -> list[str]:
    """Return the usual arguments with these `--log-path` values in the place of the usual one."""
    usual = life.arguments()
    at = usual.index("-l")
    return [*usual[:at], *(word for spec in specs for word in ("-l", spec)), *usual[at + 2 :]]


def start_with(life: Life, *specs: str, cwd: Path | None = None) -> Life:
    """Start with these log specifications."""
    return life.start(raw=arguments(life, *specs), cwd=cwd or life.directory)


def refusal(life: Life, *specs: str, extra: tuple[str, ...] = ()) -> str:
    """Return what the launcher says as it refuses to start."""
    life.stub("exit 0")
    life.start(raw=[*arguments(life, *specs), *extra], cwd=life.directory)
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    assert life.launcher.returncode == 1
    assert not life.pid_file.exists(), "the runtime was started"
    return life.launcher.stderr.read().decode().rstrip("\n")


def printing(life: Life, data: bytes, *, stream: int = 1) -> str:
    """Return a container that writes *data* with one write."""
    source = life.directory / "data"
    source.write_bytes(data)
    # One write of it all: a pipe takes up to 64 KiB at once, and the monitor then reads it at once.
    script = life.directory / "printer"
    script.write_text(
        "import os, sys\n"
        f"data = open({str(source)!r}, 'rb').read()\n"
        "while data:\n"
        f"    data = data[os.write({stream}, data):]\n"
    )
    return f"exec {sys.executable} -IS {script}"


def stamps(life: Life, stream: str = "stdout") -> list[bytes]:
    """Return the time stamps of a stream's records."""
    mark = b" " + stream.encode() + b" "
    lines = life.log.read_bytes().split(b"\n")
    return [line.split(b" ", 1)[0] for line in lines if mark in line[:50]]


def check_records(life: Life, stream: str = "stdout") -> None:
    """Check the rules that every record keeps."""
    before: tuple[str, bytes] | None = None
    for name, kind, text in life.records():
        assert len(text) <= MAX_TEXT
        if name == stream:
            # An empty F is an empty line, or the newline after a P that held all its text.
            assert not (kind == "P" and not text), "an empty P"
            before = (kind, text)
    for stamp in stamps(life, stream):
        assert STAMP.fullmatch(stamp), stamp
    assert before is not None


# Drivers


@pytest.mark.contract("LOG-1", "LOG-6", "LOG-8")
@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("{d}/a.log", "a.log"),
        (":{d}/a.log", "a.log"),
        ("k8s-file:{d}/a.log", "a.log"),
        ("k8s-file:a.log", "a.log"),
        (":a.log", "a.log"),
        ("a.log", "a.log"),
        (":journald", "journald"),
        (":none", "none"),
        ("k8s-file:none", "none"),
        ("k8s-file:{d}/a:b.log", "a:b.log"),
        ("k8s-file:a:b:c", "a:b:c"),
        (":{d}/a:b.log", "a:b.log"),
        (":a:b", "a:b"),
        ("{d}/a:b.log", "a:b.log"),
        ("./a:b", "a:b"),
        ("./journald:x", "journald:x"),
        ("k8s-file:{d}/white space\tand ü", "white space\tand ü"),
    ],
)
def test_a_specification_chooses_a_file(life: Life, spec: str, name: str) -> None:
    life.stub("echo hello")
    start_with(life, spec.format(d=life.directory))
    life.pid()
    assert life.exit_status() == 0
    life.wait_gone()
    life.log = life.directory / name
    assert life.text() == b"hello\n"


@pytest.mark.contract("LOG-4", "LOG-5")
@pytest.mark.parametrize("spec", ["none", "off", "null", "none:", "off:x", "null:/x/y", "none:a:b"])
def test_without_a_log_clients_get_the_output_all_the_same(life: Life, spec: str) -> None:
    before = {path.name for path in life.directory.iterdir()}
    life.stub("read x; echo got $x; exit 3")
    life.start(raw=[*arguments(life, spec), "-i"], cwd=life.directory)
    life.pid()
    client = life.attach()
    client.send(b"it\n")
    assert packets(client) == (b"got it\n", b"")
    client.close()
    assert life.exit_status() == 3
    life.wait_gone()
    new = {path.name for path in life.directory.iterdir()} - before
    assert new == {"runtime", "pidfile", "conmon.pid"}


@pytest.mark.contract("LOG-7")
def test_of_several_files_the_last_is_written_and_there_is_a_warning(life: Life) -> None:
    first, last = life.directory / "first", life.directory / "last"
    life.stub("echo hello")
    start_with(life, f"k8s-file:{first}", str(last))
    life.pid()
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    assert life.launcher.stderr.read().startswith(b"[conmon:w]: ")
    assert life.exit_status() == 0
    life.wait_gone()
    assert (read_if_there(first) or b"") == b""
    life.log = last
    assert life.text() == b"hello\n"


@pytest.mark.contract("LOG-7")
@pytest.mark.parametrize("specs", [("none", "{log}"), ("{log}", "off"), ("null", "{log}", "none")])
def test_none_among_several_adds_and_takes_nothing(life: Life, specs: tuple[str, ...]) -> None:
    life.stub("echo hello")
    start_with(life, *(spec.format(log=life.log) for spec in specs))
    life.pid()
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    assert life.launcher.stderr.read() == b""
    assert life.exit_status() == 0
    life.wait_gone()
    assert life.text() == b"hello\n"


@pytest.mark.contract("LOG-9", "LOG-10", "LOG-11", "LOG-12", "LOG-8", "CLI-59")
@pytest.mark.parametrize(
    ("specs", "text"),
    [
        ((), "Log driver not provided. Use --log-path"),
        (("",), "log-path must not be empty"),
        ((":",), "log-path must not be empty"),
        (("k8s-file",), "k8s-file requires a filename"),
        (("k8s-file:",), "k8s-file requires a filename"),
        (("invalid:/x",), "No such log driver invalid"),
        (("syslog:x:y",), "No such log driver syslog"),
    ],
)
def test_a_bad_specification_is_refused(life: Life, specs: tuple[str, ...], text: str) -> None:
    assert refusal(life, *specs) == f"[conmon:e]: {text}"


@pytest.mark.contract("LOG-13", "LOG-35", "CLI-60", "START-9")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere/log", "No such file or directory"),
        ("exits", "Is a directory"),
        ("runtime/log", "Not a directory"),
        ("fifo", "No such device or address"),
        ("socket", "No such device or address"),
        ("x" * 256, "File name too long"),
    ],
)
def test_a_log_that_cannot_be_opened_is_refused(life: Life, name: str, why: str) -> None:
    os.mkfifo(life.directory / "fifo")
    subprocess.run(
        [sys.executable, "-c", "import socket; socket.socket(socket.AF_UNIX).bind('socket')"],
        cwd=life.directory,
        check=True,
    )
    said = refusal(life, f"k8s-file:{life.directory / name}")
    assert said == f"[conmon:e]: Failed to open log file {why}"


@pytest.mark.contract("LOG-14")
@pytest.mark.parametrize("option", ["--log-tag", "--log-label"])
def test_a_file_takes_no_tag_and_no_label(life: Life, option: str) -> None:
    said = refusal(life, str(life.log), extra=(option, "A=b"))
    assert said == f"[conmon:e]: k8s-file doesn't support {option}"


@pytest.mark.contract("LOG-15", "LOG-16", "LOG-17", "LOG-18", "LOG-2", "LOG-5")
@pytest.mark.parametrize("driver", ["journald", "journald:", "journald:x"])
@pytest.mark.parametrize(
    ("cid", "label", "text"),
    [
        ("123456789012", "A=b", "Container ID must be longer than 12 characters"),
        (
            "1234567890123",
            "=b",
            "Container labels must be in format LABEL=VALUE (no LABEL present in '=b')",
        ),
        (
            "1234567890123",
            "A",
            "Container labels must be in format LABEL=VALUE"
            " (none or more than one '=' present in 'A')",
        ),
        (
            "1234567890123",
            "A=b=c",
            "Container labels must be in format LABEL=VALUE"
            " (none or more than one '=' present in 'A=b=c')",
        ),
        (
            "1234567890123",
            "a=b",
            "Container label names must contain only uppercase letters, numbers and underscore"
            " (in 'a=b')",
        ),
    ],
)
def test_journald_refuses(life: Life, driver: str, cid: str, label: str, text: str) -> None:
    life.cid = cid
    assert refusal(life, driver, extra=("--log-label", label)) == f"[conmon:e]: {text}"


# The file


@pytest.mark.contract("LOG-29")
@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_a_new_log_has_mode_0640_whatever_the_umask(life: Life, umask: int) -> None:
    life.stub("echo hello").start(umask=umask)
    life.pid()
    assert life.exit_status() == 0
    assert life.log.stat().st_mode & 0o7777 == 0o640
    assert life.text() == b"hello\n"


@pytest.mark.contract("LOG-29")
def test_an_older_log_is_appended_to_and_keeps_its_mode(life: Life) -> None:
    old = b"2020-01-01T00:00:00.000000000+00:00 stdout F old\n"
    life.log.write_bytes(old)
    life.log.chmod(0o604)
    life.stub("echo new").start()
    life.pid()
    assert life.exit_status() == 0
    assert life.log.read_bytes().startswith(old)
    assert life.text() == b"old\nnew\n"
    assert life.log.stat().st_mode & 0o7777 == 0o604


@pytest.mark.contract("LOG-29")
def test_what_others_append_meanwhile_is_not_written_over(life: Life) -> None:
    gate = Gate(life.directory / "go")
    other = b"2020-01-01T00:00:00.000000000+00:00 stderr F other\n"
    try:
        life.stub(f"echo one; read x <{gate.path}; echo two").start()
        life.pid()
        wait_until(lambda: life.text() == b"one\n", "the first line")
        with life.log.open("ab") as file:
            file.write(other)
        gate.open()
        assert life.exit_status() == 0
    finally:
        gate.close()
    assert [text for _, _, text in life.records()] == [b"one", b"other", b"two"]


@pytest.mark.contract("LOG-33")
@pytest.mark.parametrize(
    ("left", "made_whole"),
    [
        (b"2020-01-01T00:00:00.000000000+00:00 stdout F torn", True),
        (b"2020-01-01T00:00:00.000000000+00:00 stderr P torn text of", True),
        (b"2020-01-01T00:00:00.000000000+00:00 stdout F ", True),
        (b"2020-01-01T00:00:00.000000000+00:00 stdout F", False),
        (b"2020-01-01T00:00:00.000000000+00:00 std", False),
        (b"2020-01-01T00:00:00.0000000", False),
        (b"2", False),
        (b"2020-01-01T00:00:00.000000000+00:00 stdout F " + b"x" * 8192, True),
    ],
)
def test_a_torn_last_record_is_made_whole_or_cut(life: Life, left: bytes, made_whole: bool) -> None:  # noqa: FBT001
    whole = b"2020-01-01T00:00:00.000000000+00:00 stdout F whole\n" * 2000
    life.log.write_bytes(whole + left)
    life.stub("echo new").start()
    life.pid()
    assert life.exit_status() == 0
    content = life.log.read_bytes()
    expected = whole + left + b"\n" if made_whole else whole
    assert content.startswith(expected)
    rest = content[len(expected) :]
    assert rest.endswith(b" stdout F new\n")
    assert rest.count(b"\n") == 1
    assert STAMP.match(rest)


@pytest.mark.contract("LOG-33")
@pytest.mark.parametrize(
    "left",
    [
        b"2020-01-01T00:00:00.000000000+00:00 stdout F only",
        b"2020-01-01T00:",
        b"no record at all",
        b"x" * 100_000,
        b"x" * 70_000 + b"\n2020-01-01T00:",
    ],
)
def test_whatever_the_file_ends_with_the_next_record_is_not_glued_to_it(
    life: Life, left: bytes
) -> None:
    life.log.write_bytes(left)
    life.stub("echo new").start()
    life.pid()
    assert life.exit_status() == 0
    last = life.log.read_bytes().split(b"\n")[-2]
    assert STAMP.match(last)
    assert last.endswith(b" stdout F new")


# Records


@pytest.mark.contract("LOG-19", "LOG-21", "LOG-22")
def test_each_line_is_a_record_of_its_stream(life: Life) -> None:
    life.stub("echo one; echo two >&2; echo; echo ' three  '").start()
    life.pid()
    assert life.exit_status() == 0
    check_records(life)
    assert sorted(life.records()) == [
        ("stderr", "F", b"two"),
        ("stdout", "F", b""),
        ("stdout", "F", b" three  "),
        ("stdout", "F", b"one"),
    ]
    assert life.text() == b"one\n\n three  \n"


@pytest.mark.contract("LOG-20")
@pytest.mark.parametrize(
    ("zone", "offset"),
    [
        ("UTC", "+00:00"),
        ("XXX-5:45", "+05:45"),
        ("YYY3:30", "-03:30"),
        ("ZZZ-14", "+14:00"),
        ("AAA12", "-12:00"),
        ("BBB0:30", "-00:30"),
        ("no zone at all", "+00:00"),
        ("", "+00:00"),
    ],
)
def test_time_stamps_are_local_time_with_its_offset(life: Life, zone: str, offset: str) -> None:
    life.environment["TZ"] = zone
    before = datetime.datetime.now(datetime.UTC)
    life.stub("echo hello").start()
    life.pid()
    assert life.exit_status() == 0
    after = datetime.datetime.now(datetime.UTC)
    (stamp,) = stamps(life)
    assert STAMP.fullmatch(stamp)
    assert stamp.decode().endswith(offset)
    # Python knows microseconds: cut the last three digits.
    when = datetime.datetime.fromisoformat(f"{stamp[:26].decode()}{stamp[29:].decode()}")
    slack = datetime.timedelta(milliseconds=20)  # a coarser clock may stand behind the stamp
    assert before - slack <= when <= after + slack


@pytest.mark.contract("LOG-22", "LOG-24", "LOG-25", "CASE-1001", "CASE-1004")
@pytest.mark.parametrize("newline", [True, False], ids=["newline", "no newline"])
@pytest.mark.parametrize("size", [1, 8190, 8191, 8192, 8193, 16383, 16384, 16385, 65535, 65536])
def test_long_lines_are_partial_records_and_a_last_one(
    life: Life,
    size: int,
    newline: bool,  # noqa: FBT001
) -> None:
    """Acceptable: P records of 8192 bytes at most and a last one.

    Not acceptable: a byte more or less, a newline that nobody wrote.
    """
    line = bytes(33 + i % 90 for i in range(size))
    data = line + b"\n" if newline else line
    life.stub(printing(life, data)).start()
    life.pid()
    assert life.exit_status() == 0
    check_records(life)
    assert life.text() == data
    kinds = [kind for _, kind, _ in life.records()]
    assert kinds.count("F") == newline
    assert not newline or kinds[-1] == "F"
    texts = [text for _, _, text in life.records()]
    if size < MAX_TEXT:
        assert len(texts) == 1
    assert all(len(text) > MAX_TEXT - 2 for text in texts[:-2])


@pytest.mark.contract("LOG-23", "CASE-1002", "CASE-1003")
@pytest.mark.parametrize(
    "data",
    [
        b"one\r\ntwo\r\n\r\n",
        b"a\0b\n\0\n\0\0",
        b"\xff\xfe\n\xc3\n\x80 \xed\xa0\x80\n",
        bytes(byte for byte in range(256) if byte != 10) + b"\n",
        b" leading\n trailing \n\ttab\t\n",
        b"\n\n\n",
        b"\x1b[31mred\x1b[0m\n",
        b"stdout F not a record\n",
    ],
)
def test_every_byte_is_kept(life: Life, data: bytes) -> None:
    """Acceptable: the bytes as they came, between newlines.

    Not acceptable: a NUL that ends a record, a CR that goes missing, a line that is mended.
    """
    life.stub(printing(life, data)).start()
    life.pid()
    assert life.exit_status() == 0
    check_records(life)
    assert life.text() == data


@pytest.mark.contract("LOG-26", "LOG-28", "CASE-1004")
def test_a_prompt_is_logged_when_it_appears_and_a_lone_newline_follows_it(life: Life) -> None:
    """Acceptable: a P record at once.

    Not acceptable: a prompt that waits for its newline, an F record that nobody wrote.
    """
    gate = Gate(life.directory / "go")
    try:
        life.stub(f"printf prompt; read x <{gate.path}; echo; echo next").start()
        life.pid()
        wait_until(lambda: life.records() == [("stdout", "P", b"prompt")], "the prompt")
        gate.open()
        assert life.exit_status() == 0
    finally:
        gate.close()
    assert life.records() == [
        ("stdout", "P", b"prompt"),
        ("stdout", "F", b""),
        ("stdout", "F", b"next"),
    ]


@pytest.mark.contract("LOG-28")
def test_a_newline_after_a_whole_line_is_an_empty_line_and_nothing_else_is(life: Life) -> None:
    gate = Gate(life.directory / "go")
    try:
        life.stub(f"printf 'a\\n'; read x <{gate.path}; printf 'b\\n'; read x <{gate.path}").start()
        life.pid()
        wait_until(lambda: life.text() == b"a\n", "the first line")
        gate.open()
        wait_until(lambda: life.text() == b"a\nb\n", "the second line")
        gate.open()
        assert life.exit_status() == 0
    finally:
        gate.close()
    assert life.records() == [("stdout", "F", b"a"), ("stdout", "F", b"b")]


@pytest.mark.contract("LOG-27")
def test_the_records_of_one_read_share_a_time_stamp(life: Life) -> None:
    gate = Gate(life.directory / "go")
    data = b"line\n" * 100 + b"x" * 9000 + b"\nend"
    printer = printing(life, data)
    try:
        life.stub(f"read x <{gate.path}; {printer}").start()
        life.pid()
        gate.open()  # not earlier: from here on every read goes to the log at once
        assert life.exit_status() == 0
    finally:
        gate.close()
    assert life.text() == data
    assert len(set(stamps(life))) == 1


@pytest.mark.contract("LOG-27")
def test_two_reads_have_two_time_stamps_in_order(life: Life) -> None:
    gate = Gate(life.directory / "go")
    try:
        life.stub(f"echo one; read x <{gate.path}; echo two").start()
        life.pid()
        wait_until(lambda: life.text() == b"one\n", "the first line")
        gate.open()
        assert life.exit_status() == 0
    finally:
        gate.close()
    first, second = stamps(life)
    assert first < second


@pytest.mark.contract("LOG-19", "LOG-23")
def test_64_mib_arrive_whole(life: Life) -> None:
    size = 64 * MEGA
    container = (
        f"yes 0123456789abcdef0123456789abcdef0123456789abcdef0123456789ABCDEF | head -c {size}"
    )
    life.stub(f"{container}; echo; echo done >&2").start("--no-sync-log")
    life.pid()
    assert life.exit_status(60) == 0
    life.wait_gone()
    line = b"0123456789abcdef" * 3 + b"0123456789ABCDEF\n"
    expected = hashlib.sha256((line * (size // len(line) + 1))[:size] + b"\n")
    found, length = hashlib.sha256(), 0
    with life.log.open("rb") as file:
        for record in file:
            if record[36:43] == b"stdout ":
                text = record[45:] if record[43:44] == b"F" else record[45:-1]
                found.update(text)
                length += len(text)
    assert length == size + 1
    assert found.digest() == expected.digest()
    assert life.log.read_bytes().count(b" stderr F done\n") == 1


@pytest.mark.contract("LOG-21")
def test_two_streams_at_once_keep_their_own_order(life: Life) -> None:
    life.stub("(seq 1 20000 >&2) & seq 1 20000; wait").start("--no-sync-log")
    life.pid()
    assert life.exit_status() == 0
    expected = b"".join(b"%d\n" % i for i in range(1, 20001))
    assert life.text("stdout") == expected
    assert life.text("stderr") == expected
    check_records(life)


@pytest.mark.contract("END-6", "END-2")
@pytest.mark.parametrize("size", [1, 4096, 65536, 1_000_000])
def test_what_was_written_just_before_the_end_is_there(life: Life, size: int) -> None:
    data = b"x" * (size - 1) + b"\n"
    life.stub(printing(life, data, stream=2)).start()
    life.pid()
    assert life.exit_status() == 0
    # Not later than the exit file: whoever waits for that may read the log.
    assert life.text("stderr") == data


# What is no regular file


@pytest.mark.contract("LOG-34", "CASE-908")
def test_a_fifo_with_a_slow_reader_gets_everything(life: Life) -> None:
    os.mkfifo(life.log)
    reading = os.open(life.log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        written = life.directory / "written"
        life.stub(f"seq 1 100000; : >{written}; exit 2").start()
        life.pid()
        monitor = life.monitor_pid()
        assert_idle(monitor)
        assert not written.exists(), "the container must wait for the log's reader"
        os.set_blocking(reading, True)
        pieces = []
        while piece := os.read(reading, 65536):
            pieces.append(piece)
    finally:
        os.close(reading)
    records = b"".join(pieces).split(b"\n")
    assert records.pop() == b"", "the last record is torn"
    fields = [record.split(b" ", 3) for record in records]
    text = b"".join(text + b"\n" * (kind == b"F") for _, _, kind, text in fields)
    assert text == b"".join(b"%d\n" % i for i in range(1, 100001))
    assert life.exit_status() == 2


@pytest.mark.contract("LOG-34", "LOG-31", "CASE-908", "END-8", "END-14")
def test_a_fifo_whose_reader_never_reads_does_not_keep_the_exit_file(life: Life) -> None:
    """Acceptable: what the reader does not take is lost at the end.

    Not acceptable: an exit file that waits for it.
    """
    os.mkfifo(life.log)
    reading = os.open(life.log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        life.stub("exec yes").start()
        pid = life.pid()
        assert_idle(life.monitor_pid())
        os.kill(pid, signal.SIGKILL)
        assert life.exit_status(6) == 128 + 9
        life.wait_gone(8)
    finally:
        os.close(reading)


@pytest.mark.contract("LOG-34", "LOG-31", "CASE-908")
def test_a_fifo_whose_reader_goes_away_does_not_end_the_life(life: Life) -> None:
    os.mkfifo(life.log)
    reading = os.open(life.log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        life.stub("echo one; read x; seq 1 50000; echo end; exit 4").start("-i")
        life.pid()
        client = attach_accepted(life)
    finally:
        os.close(reading)
    client.send(b"go\n")
    out, _ = packets(client)
    client.close()
    assert out.endswith(b"\n50000\nend\n")
    assert life.exit_status() == 4


@pytest.mark.contract("LOG-31", "LOG-34")
@pytest.mark.parametrize("device", ["/dev/full", "/dev/null"])
def test_a_device_for_a_log_does_not_disturb_the_life(life: Life, device: str) -> None:
    life.log = Path(device)
    life.stub("read x; seq 1 50000; echo end; echo err >&2; exit 3").start("-i")
    life.pid()
    client = attach_accepted(life)
    client.send(b"go\n")
    out, err = packets(client)
    client.close()
    assert out.startswith(b"1\n2\n")
    assert out.endswith(b"\n50000\nend\n")
    assert err == b"err\n"
    assert life.exit_status() == 3
    assert Path(device).is_char_device()


# A disk that takes no more


def limit_files(pid: int, size: int) -> None:
    """Let no file of a process grow beyond *size*: a write is short, and the next one fails."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@pytest.mark.contract("LOG-30", "LOG-31", "LOG-36", "CASE-401")
@pytest.mark.parametrize("limit", [0, 1, 40, 100, 4096, 5000])
def test_what_the_disk_does_not_take_is_written_when_it_can_be(life: Life, limit: int) -> None:
    """Acceptable: the container waits for the disk, then everything is written, whole.

    Not acceptable: a torn record at any time, a line lost, a life that ends.
    """
    gate = Gate(life.directory / "go")
    try:
        life.stub(f"read x; seq 1 50000; echo part; read x <{gate.path}; echo again; exit 5")
        life.start("-i")
        life.pid()
        client = attach_accepted(life)
        limit_files(life.monitor_pid(), limit)
        client.send(b"go\n")
        got = client.recv(8193)[1:]
        assert got.startswith(b"1\n2\n")
        # What is in the file is whole records from the beginning, in order.
        kept = [text for _, _, text in life.records()]
        assert kept == [b"%d" % i for i in range(1, len(kept) + 1)]
        assert life.log.stat().st_size <= limit
        limit_files(life.monitor_pid(), resource.RLIM_INFINITY)
        while not got.endswith(b"\npart\n"):
            got += client.recv(8193)[1:]
        gate.open()
        assert packets(client)[0] == b"again\n"
        client.close()
    finally:
        gate.close()
    assert life.exit_status() == 5
    expected = b"".join(b"%d\n" % i for i in range(1, 50001)) + b"part\nagain\n"
    assert life.text() == expected
    assert not life.text("stderr")


@pytest.mark.contract("LOG-31", "LOG-37", "CASE-401", "END-23")
def test_a_disk_that_stays_full_does_not_change_the_status(life: Life) -> None:
    life.stub("read x; seq 1 1000000; exit 6").start("-i")
    pid = life.pid()
    client = attach_accepted(life)
    # The exit file needs three bytes.
    limit_files(life.monitor_pid(), 100)
    client.send(b"go\n")
    assert client.recv(8193)[1:].startswith(b"1\n2\n")
    os.kill(pid, signal.SIGKILL)  # it waits for the disk, as it would for a full pipe
    client.close()
    assert life.exit_status(5) == 137
    life.wait_gone()
    assert [text for _, _, text in life.records()] == [b"1", b"2"]
