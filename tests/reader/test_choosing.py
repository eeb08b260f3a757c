"""Which lines are shown: --tail, --since, --until, each at its boundaries."""

from __future__ import annotations

import gzip
import resource
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from .writer import compress, record, records, run, said, stamp, stdout_of


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the path of a log."""
    return tmp_path / "ctr.log"


# --tail


@pytest.mark.parametrize("json_file", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 100, -1])
def test_tail_shows_the_last_lines_of_all_files(
    log: Path, packed: bool, json_file: bool, count: int
) -> None:
    for path, first in ((log.with_name("ctr.log.2"), 1), (log.with_name("ctr.log.1"), 4), (log, 7)):
        path.write_bytes(records(first, first + 2, json_file=json_file))
        if packed and path != log:
            compress(path)
    first = 1 if count < 0 else max(10 - count, 1)
    assert stdout_of("--tail", str(count), log) == said(first, 9)


# Three lines a file; each entry is (stream, tag, text).
MIXED = [
    *[("stderr", "P", b"e1 "), ("stdout", "F", b"o1"), ("stdout", "P", b"o2 ")],
    *[("stderr", "P", b"e1 "), ("stdout", "P", b"o2 "), ("stdout", "F", b"o2")],
    *[("stdout", "F", b"o3"), ("stderr", "F", b"e1"), ("stdout", "P", b"o4")],
]
# As they end; the last one has not ended.
LINES = [("o", b"o1\n"), ("o", b"o2 o2 o2\n"), ("o", b"o3\n"), ("e", b"e1 e1 e1\n"), ("o", b"o4")]


@pytest.mark.parametrize("cuts", [(9,), (1, 9), (3, 6, 9), (5, 8, 9), tuple(range(1, 10))])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("count", range(7))
def test_tail_counts_joined_lines_and_shows_them_from_their_beginning(
    log: Path, cuts: tuple[int, ...], packed: bool, count: int
) -> None:
    lines = [record(i, text, stream, tag) for i, (stream, tag, text) in enumerate(MIXED)]
    for number, (begin, end) in enumerate(zip((0, *cuts), cuts, strict=False)):
        path = log.with_name(f"ctr.log.{len(cuts) - 1 - number}") if end < 9 else log
        path.write_bytes(b"".join(lines[begin:end]))
        if packed and path != log:
            compress(path)
    wanted = LINES[len(LINES) - count :] if count < len(LINES) else LINES
    stdout, stderr = (b"".join(text for kind, text in wanted if kind == it) for it in "oe")
    assert run("-n", str(count), log) == (stdout, stderr, 0)


@pytest.mark.parametrize(
    ("cut", "expected"), [(1, b"line 5\nline 6"), (3, b"line 5\nline"), (40, b"line 4\nline 5\n")]
)
def test_tail_counts_a_torn_record_if_its_text_is_shown(
    log: Path, cut: int, expected: bytes
) -> None:
    log.write_bytes(records(1, 5) + record(6)[:-cut])
    assert stdout_of("-n", "2", log) == expected


def test_tail_goes_back_over_many_blocks(log: Path) -> None:
    log.with_name("ctr.log.1").write_bytes(records(1, 20000))
    log.write_bytes(records(20001, 40000))
    for count in (1, 19999, 20000, 20001, 39999, 40000, 40001):
        assert stdout_of("-n", str(count), log) == said(max(40001 - count, 1), 40000)


@pytest.mark.parametrize("size", [65535, 65536, 65537, 131072, 200_000, 1_000_000])
@pytest.mark.parametrize("piece", [8192, 1_000_000])
def test_tail_finds_the_beginning_of_a_line_that_is_longer_than_a_block(
    log: Path, size: int, piece: int
) -> None:
    text = b"x" * size
    pieces = [text[at : at + piece] for at in range(0, size, piece)]
    parts = [record(2, part, tag="P") for part in pieces[:-1]]
    log.write_bytes(record(1) + b"".join(parts) + record(3, pieces[-1]) + record(4))
    assert stdout_of("-n", "2", log) == text + b"\nline 4\n"


def test_tail_looks_no_farther_than_a_mib_for_the_beginning_of_a_line(log: Path) -> None:
    parts = record(2, b"x" * 8192, tag="P") * 512
    log.write_bytes(record(1) + parts + record(3, b"end") + record(4))
    end = b"xend\nline 4\n"
    shown = stdout_of("-n", "2", log)
    assert shown.endswith(end)
    assert 1 << 20 <= len(shown) - len(end) < 2 << 20


def test_a_small_tail_of_a_huge_log_is_not_a_matter_of_its_size(log: Path) -> None:
    """A file of 8 GiB, all but its end a hole."""
    with log.open("wb") as file:
        file.seek(8 << 30)
        file.write(b"\n" + records(1, 3000))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert stdout_of("-n", "2999", log) == said(2, 3000)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2


def test_a_stream_that_says_little_does_not_make_tail_read_everything(log: Path) -> None:
    with log.open("wb") as file:
        file.seek(8 << 30)
        file.write(b"\n" + records(1, 30000) + record(30001, b"oh", "stderr"))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert run("-n", "2", log) == (said(30000, 30000), b"oh\n", 0)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2


@pytest.mark.parametrize("count", [3, 5, 5000])
def test_tail_goes_back_into_a_damaged_file(log: Path, count: int) -> None:
    log.with_name("ctr.log.2").write_bytes(records(1, 9))
    packed = gzip.compress(records(10, 20000), 1)
    log.with_name("ctr.log.1.gz").write_bytes(packed[: len(packed) // 2])
    log.write_bytes(records(20001, 20003))
    everything = run(log)[0]
    assert everything.startswith(said(1, 5000))
    shown, stderr, status = run("-n", str(count), log)
    assert everything.endswith(shown)
    assert (shown.count(b"\n"), stderr.count(b"\n"), status) == (count, 1, 1)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
def test_tail_counts_what_is_longer_than_any_record_as_one_line(log: Path, count: int) -> None:
    huge = stamp(3).encode() + b" stdout F " + b"x" * (3 << 20)
    log.with_name("ctr.log.1").write_bytes(records(1, 2) + huge + b"\n" + record(4))
    log.write_bytes(records(5, 5))
    shown = run("-n", str(count), log)[0]
    assert shown.endswith(said(4, 5)[-7 * count :])
    assert shown.startswith(said(1, 2)[-7 * (count - 3) :] if count > 3 else b"")
    assert shown.count(b"\n") == count
    assert len(shown) > 1 << 20 or count < 3


def test_tail_goes_back_over_a_hole_only_as_far_as_a_line_is_long(log: Path) -> None:
    with log.open("wb") as file:
        file.seek(8 << 30)
        file.write(b"\n" + records(1, 3000))
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    assert stdout_of("-n", "3000", log) == said(1, 3000)
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2


def test_tail_is_of_each_log(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(records(1, 5))
    two.write_bytes(records(3, 8))
    assert stdout_of("-n", "1", one, two) == b"one | line 5\ntwo | line 8\n"


# --since, --until


TIMES = [
    "2026-11-23T14:30:00.004000000+00:00",
    "2026-11-23T14:30:00.004Z",
    "2026-11-23T15:30:00.004+01:00",
    "2026-11-23T09:00:00.004-05:30",
    "2026-11-23 14:30:00.004",  # local, which is UTC here
    "2026-11-23t14:30:00.004z",
    "1795444200.004",
]


@pytest.mark.parametrize("time_text", TIMES)
def test_since_and_until_include_their_instant(log: Path, time_text: str) -> None:
    log.write_bytes(records(1, 6))
    assert stdout_of("--since", time_text, log) == said(4, 6)
    assert stdout_of("--until", time_text, log) == said(1, 4)


@pytest.mark.parametrize("json_file", [False, True])
@pytest.mark.parametrize(
    ("since", "first"),
    [("0.003999999", 4), ("0.004", 4), ("0.004000000", 4), ("0.004000001", 5), ("0.0040000009", 4)],
)
def test_a_nanosecond_counts_and_less_does_not(
    log: Path, since: str, first: int, json_file: bool
) -> None:
    log.write_bytes(records(1, 6, json_file=json_file))
    fraction = since[1:]
    assert stdout_of("--since", f"2026-11-23T14:30:00{fraction}Z", log) == said(first, 6)
    assert stdout_of("--since", f"1795444200{fraction}", log) == said(first, 6)


@pytest.mark.parametrize(
    ("since", "first"),
    [
        ("2026-11-23", 1),
        ("2026-11-24", 4),
        ("2026-11-23T23:59", 1),
        ("2026-11-23T23:59:59", 1),
        ("2026-11-24T00:00", 4),
        ("2026-11-24T00:00:01", 5),
        ("2026-11-25", 9),
    ],
)
def test_a_day_without_offset_is_a_local_one(log: Path, since: str, first: int) -> None:
    lines = [b"2026-11-23T20:59:59.9-02:00"] * 3  # in Vienna: 23:59:59.9
    lines += [b"2026-11-23T23:00:00Z", b"2026-11-23T18:00:01-05:00"]
    lines += [b"2026-11-24T00:30:00Z"] * 3
    log.write_bytes(b"".join(b"%b stdout F line %d\n" % (at, n) for n, at in enumerate(lines, 1)))
    assert stdout_of("--since", since, log, TZ="Europe/Vienna") == said(first, 8)


@pytest.mark.parametrize("ago", ["90s", "1m30s", "1m", "10m", "1h30m", "2d", "1d2h3m4s"])
def test_a_duration_is_counted_back_from_now(log: Path, ago: str) -> None:
    seconds = {"90s": 90, "1m30s": 90, "1m": 60, "10m": 600, "1h30m": 5400, "2d": 172800}.get(ago)
    seconds = seconds or 86400 + 2 * 3600 + 3 * 60 + 4
    now = int(time.time())
    lines = [now - seconds - 1000, now - seconds - 1, now - seconds + 50, now]
    log.write_bytes(
        b"".join(
            b"%b stdout F line %d\n" % (datetime.fromtimestamp(at, UTC).isoformat().encode(), n)
            for n, at in enumerate(lines)
        )
    )
    assert stdout_of("--since", ago, log) == said(2, 3)
    assert stdout_of("--until", ago, log) == said(0, 1)


@pytest.mark.parametrize(
    "wrong",
    ["", "x", "1w", "s", "1.5h", "-1", "2026-13-01", "2026-11-23T25:00", "99999-01-01", "١"],
)
def test_what_is_no_time_is_an_error(log: Path, wrong: str) -> None:
    log.write_bytes(records(1, 1))
    stdout, stderr, status = run(f"--since={wrong}", log)
    assert (stdout, status) == (b"", 2)
    assert f"argument --since: not a time: {wrong}\n".encode() in stderr


def test_a_line_has_the_time_at_which_it_began(log: Path) -> None:
    log.write_bytes(record(1, b"a", tag="P") + record(5, b"b") + record(6, b"c"))
    assert stdout_of("--since", stamp(2), log) == b"c\n"
    assert stdout_of("--until", stamp(2), log) == b"ab\n"
    assert stdout_of("-t", log) == f"{stamp(1)} ab\n{stamp(6)} c\n".encode()


def test_a_line_without_a_time_is_shown_with_the_one_before(log: Path) -> None:
    odd = b"2026-99-23T14:30:00.000000000+00:00 stdout F odd\n"
    log.write_bytes(b"first\n" + record(1) + b"strange\n" + odd + record(3) + b"{}\n" + odd)
    assert run("--since", stamp(2), log)[0] == b"line 3\n{}\nodd\n"
    assert run("--until", stamp(2), log)[0] == b"first\nline 1\nstrange\nodd\n"


def test_since_and_until_choose_among_the_lines_that_tail_leaves(log: Path) -> None:
    log.write_bytes(records(1, 9))
    assert stdout_of("-n", "5", "--since", stamp(3), "--until", stamp(7), log) == said(5, 7)


# All of it


texts = st.binary(max_size=12).map(lambda text: text.replace(b"\n", b" "))
entries = st.tuples(st.sampled_from(["stdout", "stderr"]), st.sampled_from("PFF"), texts)


def shown(chosen: list[tuple[str, str, bytes]], tail: int) -> dict[str, bytes]:
    """Return what each stream should show: the slow way."""
    lines: list[tuple[int, str, bytes]] = []  # with the number of the last record
    begun: dict[str, tuple[int, str, bytes]] = {}
    for number, (stream, tag, text) in enumerate(chosen):
        _, _, before = begun.pop(stream, (0, "", b""))
        line = number, stream, before + text + b"\n" * (tag == "F")
        if tag == "F":
            lines.append(line)
        else:
            begun[stream] = line
    lines = sorted([*lines, *begun.values()])
    lines = lines[max(len(lines) - tail, 0) :] if tail >= 0 else lines
    return {
        it: b"".join(text for _, stream, text in lines if stream == it)
        for it in ("stdout", "stderr")
    }


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    chosen=st.lists(st.tuples(entries, st.booleans(), st.booleans()), max_size=30),
    packed=st.lists(st.booleans(), min_size=31, max_size=31),
    tail=st.integers(-1, 12),
)
@example(chosen=[], packed=[False] * 31, tail=-1)
def test_any_records_cut_into_any_files_show_the_same_text(
    tmp_path: Path,
    chosen: list[tuple[tuple[str, str, bytes], bool, bool]],
    packed: list[bool],
    tail: int,
) -> None:
    """Each entry: a record, whether a new file begins with it, and its format."""
    files = [b""]
    for number, ((stream, tag, text), cut, json_file) in enumerate(chosen):
        files += [b""] if cut and files[-1] else []
        files[-1] += record(number, text, stream, tag, json_file=json_file)
    for old in tmp_path.iterdir():
        old.unlink()
    for number, content in enumerate(reversed(files)):
        path = tmp_path / (f"log.{number}" if number else "log")
        path.write_bytes(content)
        if packed[number] and number:
            compress(path)
    expected = shown([entry for entry, _, _ in chosen], tail)
    assert run("-n", str(tail), tmp_path / "log") == (expected["stdout"], expected["stderr"], 0)
