"""What the reader makes of files that rest: formats, partial records, rotated files, damage."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

import pytest

from tests.support import SLOWNESS, run_python, status_of

from .writer import (
    DEADLINE_S,
    command,
    compress,
    environment,
    record,
    records,
    run,
    said,
    stamp,
    stdout_of,
)

BYTES = [b"", b" ", b"\0\1\x7f", b"a\rb\r", b"\xff\xfe\x80", "ä€😀\u2028".encode(), b" stdout F x"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the path of a log."""
    return tmp_path / "ctr.log"


@pytest.mark.parametrize("json_file", [False, True])
@pytest.mark.parametrize("text", BYTES)
def test_text_goes_out_byte_for_byte_to_its_own_stream(
    log: Path, text: bytes, json_file: bool
) -> None:
    log.write_bytes(
        record(1, text, json_file=json_file)
        + record(2, b"<" + text, "stderr", json_file=json_file)
        + record(3, text + b">", json_file=json_file)
    )
    assert run(log) == (text + b"\n" + text + b">\n", b"<" + text + b"\n", 0)


def test_formats_may_stand_side_by_side(log: Path) -> None:
    log.write_bytes(record(1) + record(2, json_file=True) + record(3) + record(4, json_file=True))
    assert stdout_of(log) == said(1, 4)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (
            rb'{"log":"a\u003cb\u2028\t\"\\\n","stream":"stdout","time":"2026-11-23T14:30:00Z"}',
            None,
        ),
        (rb'{"stream":"stdout", "time":"2026-11-23T14:30:00.5+01:00", "log":"x\n"}', b"x\n"),
        (
            rb'{"log":"x\n","stream":"stdout","attrs":{"a":"b"},"time":"2026-11-23T14:30:00Z"}',
            b"x\n",
        ),
        (
            rb'{"log":"two\nlines\n","stream":"stdout","time":"2026-11-23T14:30:00Z"}',
            b"two\nlines\n",
        ),
    ],
)
def test_what_json_allows_is_read(log: Path, line: bytes, text: bytes | None) -> None:
    log.write_bytes(line + b"\n")
    assert stdout_of(log) == text if text else 'a<b\u2028\t"\\\n'.encode()


STRANGE = [
    b"",
    b"hello",
    b"2026-11-23T14:30:00.000000000+00:00 stdout F",
    b"2026-11-23T14:30:00.000000000+00:00 stdin F x",
    b"2026-11-23T14:30:00.000000000+00:00 stdout X x",
    b" 2026-11-23T14:30:00.000000000+00:00 stdout F x",
    b'{"log":"x"}',
    b'{"log":1,"stream":"stdout","time":"2026-11-23T14:30:00Z"}',
    b'{"log":"x\\n","stream":"stdin","time":"2026-11-23T14:30:00Z"}',
    b'{"log":"\\ud800\\n","stream":"stdout","time":"2026-11-23T14:30:00Z"}',
    b'{"log":"torn',
    b"{" * 5000,
    b'{"a":' * 5000,
    b"\0" * 100,
    b"\xff\xfe",
]


@pytest.mark.parametrize("line", STRANGE, ids=lambda line: line[:40].decode("latin-1"))
def test_a_line_that_is_no_record_is_shown_as_it_is_and_told_once_at_the_end(
    log: Path, line: bytes
) -> None:
    log.write_bytes(record(1) + line + b"\n" + record(2) + line + b"\n" + record(3))
    stdout, stderr, status = run(log)
    assert stdout == b"line 1\n" + line + b"\nline 2\n" + line + b"\nline 3\n"
    told = f"lowconmon logs: {log}: lines that are no records, shown as they are: 2\n"
    assert (stderr.decode(), status) == (told, 0)


def test_a_line_that_is_no_record_does_not_come_into_a_partial_one(log: Path) -> None:
    log.write_bytes(record(1, b"one ", tag="P") + b"strange\n" + record(2, b"line"))
    assert run(log)[0] == b"strange\none line\n"


# Partial records


@pytest.mark.parametrize("json_file", [False, True])
def test_partial_records_of_two_streams_are_joined_and_lines_come_as_they_end(
    log: Path, json_file: bool
) -> None:
    def one(number: int, text: bytes, stream: str, tag: str) -> bytes:
        return record(number, text, stream, tag, json_file=json_file)

    log.write_bytes(
        one(1, b"a", "stdout", "P")
        + one(2, b"A", "stderr", "P")
        + one(3, b"b", "stdout", "P")
        + one(4, b"B", "stderr", "F")
        + one(5, b"", "stdout", "F")
        + one(6, b"", "stdout", "F")
    )
    assert run("-t", log)[:2] == (
        f"{stamp(1, json_file=json_file)} ab\n{stamp(6, json_file=json_file)} \n".encode(),
        f"{stamp(2, json_file=json_file)} AB\n".encode(),
    )
    both = subprocess.run(
        command(log),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        timeout=DEADLINE_S * SLOWNESS,
        check=True,
    )
    assert both.stdout == b"AB\nab\n\n"


def test_a_line_that_has_not_ended_is_shown_without_newline(log: Path) -> None:
    log.write_bytes(record(1) + record(2, b"name", tag="P") + record(3, b": ", tag="P"))
    assert stdout_of(log) == b"line 1\nname: "


def test_two_lines_that_have_not_ended_stand_on_lines_of_their_own_in_one_place(log: Path) -> None:
    log.write_bytes(record(1, b"out", tag="P") + record(2, b"err", "stderr", "P"))
    both = subprocess.run(
        [*command(log)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(),
        timeout=DEADLINE_S * SLOWNESS,
        check=True,
    )
    assert both.stdout == b"out\nerr"
    assert run(log) == (b"out", b"err", 0)


@pytest.mark.parametrize("ended", [True, False])
def test_a_line_without_bounds_takes_bounded_memory(log: Path, ended: bool) -> None:
    """Acceptable: a few blocks; not acceptable: the line, which has 96 MiB."""
    piece, count = b"x" * 8192, 96 * 128
    part = record(1, piece, tag="P")
    with log.open("wb") as file:
        for _ in range(count):
            file.write(part)
        if ended:
            file.write(record(2, b"end"))
    assert_shows_within_64_mib(log, count * len(piece), b"xend\n" if ended else b"xxxxx")


@pytest.mark.parametrize("packed", [True, False])
def test_a_record_without_bounds_takes_bounded_memory(tmp_path: Path, packed: bool) -> None:
    log = tmp_path / ("log.gz" if packed else "log")
    with gzip.open(log, "wb", 1) if packed else log.open("wb") as file:
        file.write(b"y" * 7)
        for _ in range(96):
            file.write(b"x" * (1 << 20))
        file.write(b"\n" + record(1, b"after"))
    assert_shows_within_64_mib(log, (96 << 20) + 7, b"x\nafter\n")


def assert_shows_within_64_mib(log: Path, size: int, end: bytes) -> None:
    process = subprocess.Popen(command(log), stdout=subprocess.PIPE, env=environment())
    assert process.stdout
    count, last, peak_kib = 0, b"", 0
    while piece := process.stdout.read(1 << 20):
        count, last = count + len(piece), (last + piece)[-len(end) :]
        peak = status_of(process.pid).get("VmHWM", "0 kB")  # a zombie has none
        peak_kib = max(peak_kib, int(peak.split()[0]))
    process.stdout.close()
    assert process.wait(DEADLINE_S * SLOWNESS) == 0
    assert last == end
    assert count == size + len(end.lstrip(b"x"))
    assert 0 < peak_kib < 64 << 10


# Rotated files


def write_chain(log: Path, *endings: str, first: int = 1) -> bytes:
    """Write files with three lines each, in the order given; return what they say."""
    for number, ending in enumerate(endings):
        path = log.with_name(log.name + ending.removesuffix(".gz"))
        start = first + 3 * number
        path.write_bytes(records(start, start + 2))
        if ending.endswith(".gz"):
            compress(path)
    return said(first, first + 3 * len(endings) - 1)


@pytest.mark.parametrize(
    "endings",
    [
        (".1", ""),
        (".12", ".10", ".9", ".2", ".1", ""),
        (".3.gz", ".2.gz", ".1.gz", ""),
        (".3.gz", ".2", ".1", ""),
        (".7", ".4.gz", ".2", ""),  # gaps
        (".20251231-235959", ".20261123-143000.gz", ".20261123-143001", ""),
        (".20251231-235959.gz", ".2", ".1", ""),
        (".2", ".1"),  # renamed just now
    ],
    ids=" ".join,
)
def test_rotated_files_come_in_the_order_of_time(log: Path, endings: tuple[str, ...]) -> None:
    expected = write_chain(log, *endings)
    assert stdout_of(log) == expected


def test_of_a_file_and_its_compression_only_one_is_read(log: Path) -> None:
    expected = write_chain(log, ".2", ".1", "")
    both = log.with_name("ctr.log.2").read_bytes()
    compress(log.with_name("ctr.log.2"))
    log.with_name("ctr.log.2").write_bytes(both)
    assert stdout_of(log) == expected


@pytest.mark.parametrize(
    "name",
    "ctr.log.tmp ctr.log.gz ctr.log.gz.tmp ctr.log.1.tmp ctr.log.1.gz.tmp ctr.log.0 ctr.log.01"
    " ctr.log.20261123-143000.tmp ctr.log.20261123 ctr.log.x ctr.log1 actr.log.1 ctr-log.1".split(),
)
def test_other_files_beside_the_log_are_not_read(log: Path, name: str) -> None:
    log.write_bytes(records(1, 2))
    log.with_name(name).write_bytes(records(3, 4))
    assert stdout_of(log) == said(1, 2)


def test_lines_go_on_from_file_to_file(log: Path) -> None:
    log.with_name("ctr.log.2").write_bytes(record(1, b"a", tag="P"))
    log.with_name("ctr.log.1").write_bytes(record(2, b"b", tag="P") + record(3, b"E", "stderr"))
    compress(log.with_name("ctr.log.2"))
    log.write_bytes(record(4, b"c"))
    assert run(log) == (b"abc\n", b"E\n", 0)


def test_a_symlink_is_read_where_it_leads_to(log: Path, tmp_path: Path) -> None:
    expected = write_chain(log, ".1", "")
    (tmp_path / "links").mkdir()
    link = tmp_path / "links" / "web.log"
    link.symlink_to(log)
    assert stdout_of(link) == expected


def test_a_rotated_file_can_be_read_alone(log: Path) -> None:
    write_chain(log, ".2.gz", ".1", "")
    assert stdout_of(log.with_name("ctr.log.2.gz")) == said(1, 3)
    assert stdout_of(log.with_name("ctr.log.1")) == said(4, 6)


# Damage


def test_a_last_record_that_a_crash_cut_short_shows_its_text(log: Path) -> None:
    whole = record(2, b"last words")
    for cut in range(1, len(b"words") + 1):
        log.write_bytes(record(1) + whole[:-cut])
        assert stdout_of(log) == b"line 1\n" + b"last words\n"[:-cut]


@pytest.mark.parametrize("json_file", [False, True])
def test_a_stub_of_a_record_is_left_out(log: Path, json_file: bool) -> None:
    whole = record(2, b"x", json_file=json_file)
    for length in range(1, len(whole) - 3, 5):
        log.write_bytes(records(1, 1, json_file=json_file) + whole[:length])
        assert stdout_of(log) == b"line 1\n", length


def test_json_without_its_last_newline_is_whole(log: Path) -> None:
    log.write_bytes(records(1, 2, json_file=True)[:-1])
    assert stdout_of(log) == said(1, 2)


def test_a_torn_record_of_a_rotated_file_is_not_glued_to_the_next(log: Path) -> None:
    log.with_name("ctr.log.2").write_bytes(record(1, b"torn")[:-1])
    log.with_name("ctr.log.1").write_bytes(record(2) + record(3)[:20])
    log.write_bytes(record(4))
    assert stdout_of(log) == b"torn\nline 2\nline 4\n"


@pytest.mark.parametrize("damage", ["cut", "garbage", "empty"])
def test_of_a_damaged_compressed_file_what_can_be_read_is_shown(log: Path, damage: str) -> None:
    write_chain(log, ".1", "", first=20001)
    packed = log.with_name("ctr.log.2.gz")
    data = gzip.compress(records(1, 20000), 1)
    half = len(data) // 2
    packed.write_bytes(
        {"cut": data[:half], "garbage": data[:half] + b"x" * 99, "empty": b"x"}[damage]
    )
    stdout, stderr, status = run(log)
    assert stderr.startswith(f"lowconmon logs: {packed}: ".encode())
    assert stderr.count(b"\n") == 1
    assert status == 1
    assert stdout.endswith(said(20001, 20006))
    begin = stdout.removesuffix(said(20001, 20006))
    shown = begin.count(b"\n")
    assert said(1, 20000).startswith(begin[: begin.rfind(b"\n", 0, -1) + 1])
    assert shown > 5000 or damage == "empty"


def test_a_log_that_is_not_there_is_an_error_and_the_others_are_shown(log: Path) -> None:
    log.write_bytes(records(1, 2))
    missing = log.with_name("missing.log")
    stdout, stderr, status = run(missing, log)
    told = f"lowconmon logs: {missing}: No such file or directory\n"
    assert (stdout, stderr.decode(), status) == (b"ctr.log | line 1\nctr.log | line 2\n", told, 1)


@pytest.mark.parametrize("name", ["no/such/directory.log", "directory"])
def test_what_cannot_be_read_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    stdout, stderr, status = run(tmp_path / name)
    assert (stdout, status) == (b"", 1)
    assert stderr.startswith(f"lowconmon logs: {tmp_path}/".encode())
    assert stderr.count(b"\n") == 1


# Several logs


def test_several_logs_are_merged_by_time_and_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    web, base = tmp_path / "a/web.log", tmp_path / "b/db.log"
    web.with_name("web.log.1").write_bytes(record(1) + record(4))
    web.write_bytes(record(5, b"no", tag="P") + record(9, b"w"))
    base.write_bytes(
        record(2, json_file=True) + record(3, json_file=True) + record(5, json_file=True)
        + b"strange\n" + record(10, b"open", tag="P", json_file=True)
    )  # fmt: skip
    assert run(web, base)[0] == (
        b"web.log | line 1\ndb.log | line 2\ndb.log | line 3\nweb.log | line 4\n"
        b"web.log | now\ndb.log | line 5\ndb.log | strange\ndb.log | open"
    )


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.log", "y/b.log"], ["a.log", "b.log"]),
        (["x/ctr.log", "y/ctr.log"], ["x/ctr.log", "y/ctr.log"]),
        (["x/d/ctr.log", "y/d/ctr.log"], ["x/d/ctr.log", "y/d/ctr.log"]),
        (["a.log", "./a.log"], [""]),
    ],
)
def test_names_are_the_shortest_that_tell_logs_apart(
    tmp_path: Path, paths: list[str], names: list[str]
) -> None:
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(records(1, 1))
    expected = b"".join(f"{name} | ".encode() * bool(name) + b"line 1\n" for name in names)
    assert stdout_of(*(f"{tmp_path}/{path}" for path in paths)) == expected


def test_a_clock_that_was_set_back_changes_no_logs_order(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(record(5) + record(1) + record(6))
    two.write_bytes(record(2) + record(7))
    lines = stdout_of(one, two).decode().splitlines()
    assert [line for line in lines if line.startswith("one")] == [
        "one | line 5", "one | line 1", "one | line 6"
    ]  # fmt: skip
    assert lines[0] == "two | line 2"


# The program


def test_head_ends_it_quietly(log: Path) -> None:
    log.write_bytes(records(1, 50000))
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -n 1; echo ${PIPESTATUS[0]}', "sh", *command(log)],
        capture_output=True,
        env=environment(),
        timeout=DEADLINE_S * SLOWNESS,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"line 1\n141\n", b"")


def test_a_full_disk_under_the_output_is_an_error(log: Path) -> None:
    log.write_bytes(records(1, 3))
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command(log),
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(),
            timeout=DEADLINE_S * SLOWNESS,
            check=False,
        )
    assert done.stderr == b"lowconmon logs: output: No space left on device\n"
    assert done.returncode == 1


def test_help_has_a_line_for_each_option_and_a_wrong_one_is_an_error() -> None:
    text = stdout_of("--help").decode()
    for option in "--follow --since --until --tail --timestamps --color FILE".split():
        assert option in text
    assert text.startswith("usage: lowconmon logs ")
    for wrong in (["--colour"], ["--tail", "x", "f"], ["--since", "now", "f"], []):
        stdout, stderr, status = run(*wrong)
        assert (stdout, status) == (b"", 2)
        assert b"lowconmon logs: error: " in stderr


def test_conmon_is_never_the_reader(log: Path) -> None:
    log.write_bytes(records(1, 1))
    done = run_python(
        f"sys.argv = ['/usr/libexec/podman/conmon', 'logs', {str(log)!r}]\n"
        "from lowconmon.__main__ import main\nmain()"
    )
    assert (done.stdout, done.returncode) == ("", 1)
    assert done.stderr.startswith("[conmon:e]: Container ")
