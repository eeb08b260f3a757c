"""k8s-file records: formatting, time stamps, and mending what a crash left."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, strategies as st

from lowconmon.pure.records import (
    MAX_TEXT,
    K8sRecords,
    civil,
    frame_lines,
    mend_tail,
    stamp,
)

STAMP = b"2026-11-23T14:30:00.776455356+00:00"
RECORD = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d std(?:out|err) [FP] [^\n]{0,8192}"
)
BOUNDARIES = [
    *(0, 1, 2, MAX_TEXT - 1, MAX_TEXT, MAX_TEXT + 1, 2 * MAX_TEXT - 1, 2 * MAX_TEXT),
    *(2 * MAX_TEXT + 1, 3 * MAX_TEXT - 1, 3 * MAX_TEXT),
]
FILLINGS = [b"x", b"\0", b"\r", b"\xff\xfe", b" F ", "ä€😀".encode(), bytes(range(11, 256))]
DAY_NS = 86_400_000_000_000


def format_records(data: bytes, time_stamp: bytes, stream: bytes) -> bytes:
    head = time_stamp + b" " + stream
    return frame_lines(data, head + b" F ", head + b" P ", MAX_TEXT)


def naive(data: bytes, stream: bytes) -> bytes:
    """Format byte by byte, as the contract reads."""
    output, text = [], bytearray()

    def put(tag: bytes) -> None:
        output.append(b"%s %s %s %s\n" % (STAMP, stream, tag, text))
        text.clear()

    for byte in data:
        if byte == ord("\n"):
            put(b"F")
        else:
            if len(text) == MAX_TEXT:
                put(b"P")
            text.append(byte)
    if text:
        put(b"P")
    return b"".join(output)


def joined(records: bytes) -> bytes:
    """Return what the container wrote."""
    text = b""
    for record in records.split(b"\n")[:-1]:
        _, _, tag, part = record.split(b" ", 3)
        text += part + (b"\n" if tag == b"F" else b"")
    return text


@st.composite
def outputs(draw: st.DrawFn) -> bytes:
    """Make what one read may bring: lines about the boundaries, with or without a last newline."""
    sizes = st.one_of(st.integers(0, 40), st.sampled_from(BOUNDARIES), st.integers(0, 3 * MAX_TEXT))
    lines = []
    for size in draw(st.lists(sizes, max_size=6)):
        filling = draw(st.sampled_from(FILLINGS))
        lines.append((filling * (size // len(filling) + 1))[:size])
    return b"\n".join(lines) + draw(st.sampled_from([b"", b"\n"]))


@pytest.mark.contract("LOG-19", "LOG-21", "LOG-22", "LOG-23", "LOG-24", "LOG-25", "LOG-27")
@given(outputs(), st.sampled_from([b"stdout", b"stderr"]))
@example(b"", b"stdout")
@example(b"\n", b"stderr")
@example(b"\n\n", b"stdout")
def test_records_are_those_of_the_naive_formatter(data: bytes, stream: bytes) -> None:
    records = format_records(data, STAMP, stream)
    assert records == naive(data, stream)
    assert joined(records) == data
    assert all(map(RECORD.fullmatch, records.split(b"\n")[:-1]))
    assert records.endswith(b"\n") == bool(data)
    tags = [record.split(b" ", 3)[2] for record in records.split(b"\n")[:-1]]
    assert tags.count(b"F") == data.count(b"\n")


@pytest.mark.contract("LOG-24", "LOG-25", "LOG-26", "CASE-1001", "CASE-1004")
@pytest.mark.parametrize("newline", [b"", b"\n"])
@pytest.mark.parametrize("before", [b"", b"\n", b"short\n", b"y" * MAX_TEXT + b"\n"])
@pytest.mark.parametrize("size", [*BOUNDARIES, 65535, 65536])
def test_a_line_of_any_size_is_cut_at_8192_bytes(size: int, before: bytes, newline: bytes) -> None:
    data = before + b"x" * size + newline
    records = format_records(data, STAMP, b"stdout")
    assert records == naive(data, b"stdout")
    assert records.count(b"\n") == records.count(STAMP)


@pytest.mark.contract("LOG-23", "CASE-1002", "CASE-1003")
def test_text_is_kept_exactly() -> None:
    records = format_records(b"a\r\n\0b\n\xff", STAMP, b"stderr")
    head = STAMP + b" stderr "
    assert records == head + b"F a\r\n" + head + b"F \0b\n" + head + b"P \xff\n"


@pytest.mark.contract("LOG-28")
def test_an_empty_record_is_a_lone_newline_and_nothing_else() -> None:
    assert format_records(b"", STAMP, b"stdout") == b""
    assert format_records(b"\n", STAMP, b"stdout") == STAMP + b" stdout F \n"
    full = format_records(b"x" * MAX_TEXT + b"\n", STAMP, b"stdout")
    assert full == STAMP + b" stdout F " + b"x" * MAX_TEXT + b"\n"


@given(st.integers(0, 2**16))
def test_many_short_lines_are_as_many_full_records(count: int) -> None:
    records = format_records(b"\n" * count, STAMP, b"stdout")
    assert records == (STAMP + b" stdout F \n") * count


# Time stamps


def iso(now_ns: int, minutes: int) -> bytes:
    """Return what datetime makes of the same moment."""
    seconds, nanoseconds = divmod(now_ns, 10**9)
    there = timezone(timedelta(minutes=minutes))
    moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).astimezone(there)
    text = moment.isoformat(timespec="seconds")
    return f"{text[:19]}.{nanoseconds:09}{text[19:]}".encode()


@pytest.mark.contract("LOG-20")
@given(
    st.integers(0, int(datetime(2201, 1, 1, tzinfo=UTC).timestamp()) * 10**9 - 1),
    st.integers(-14 * 60, 14 * 60),
)
@example(0, 0)
@example(0, -1)
@example(0, -11 * 60)
@example(951_782_400 * 10**9 - 1, 5 * 60 + 45)  # the leap day of 2000
@example(951_868_800 * 10**9 - 1, 0)
@example(4_107_542_400 * 10**9 - 1, -3 * 60 - 30)  # 2100 has none
@example(2**31 * 10**9, 345)
@example(2**32 * 10**9 + 999_999_999, -570)
def test_a_stamp_is_what_datetime_says(now_ns: int, minutes: int) -> None:
    assert stamp(now_ns, minutes * 60) == iso(now_ns, minutes)


@pytest.mark.contract("LOG-20")
@pytest.mark.parametrize(
    ("offset", "text"),
    [
        (0, b"1970-01-02T00:00:00.000000001+00:00"),
        (20700, b"1970-01-02T05:45:00.000000001+05:45"),
        (-1800, b"1970-01-01T23:30:00.000000001-00:30"),
        (-86340, b"1970-01-01T00:01:00.000000001-23:59"),
        (3208, b"1970-01-02T00:53:28.000000001+00:53"),  # local mean time: the stamp has no seconds
        (-1172, b"1970-01-01T23:40:28.000000001-00:19"),
    ],
)
def test_offsets_may_be_negative_and_odd(offset: int, text: bytes) -> None:
    assert stamp(DAY_NS + 1, offset) == text


@given(st.integers(date.min.toordinal(), date.max.toordinal()))
def test_civil_agrees_with_date_before_and_after_1970(ordinal: int) -> None:
    day = date.fromordinal(ordinal)
    assert civil(ordinal - date(1970, 1, 1).toordinal()) == (day.year, day.month, day.day)


@given(st.integers(-(10**9), 10**9))
def test_the_calendar_repeats_after_400_years(days: int) -> None:
    year, month, day = civil(days)
    assert civil(days + 146097) == (year + 400, month, day)
    assert civil(days - 146097) == (year - 400, month, day)


def test_civil_counts_every_day_from_1600_to_2400() -> None:
    first, epoch = date(1600, 1, 1).toordinal(), date(1970, 1, 1).toordinal()
    for ordinal in range(first, date(2400, 12, 31).toordinal() + 1):
        day = date.fromordinal(ordinal)
        assert civil(ordinal - epoch) == (day.year, day.month, day.day)


# Mending


FILES = [
    format_records(first, STAMP, stream) + format_records(second, STAMP, b"stdout")
    for first in (b"one two\n", b"\n", b"a F b")
    for second in (b"three  four\n", b"\n", b"\0\xff P ")
    for stream in (b"stdout", b"stderr")
]


def mended(content: bytes) -> bytes:
    cut, append = mend_tail(content)
    assert 0 <= cut <= len(content)
    return content[: len(content) - cut] + append


def check_mended(before: bytes) -> None:
    after = mended(before)
    whole = before[: before.rfind(b"\n") + 1]
    assert after.startswith(whole)  # no whole record is lost
    assert after == b"" or after.endswith(b"\n")
    assert all(map(RECORD.fullmatch, after.split(b"\n")[:-1]))
    assert mend_tail(after) == (0, b"")


@pytest.mark.contract("LOG-33")
@pytest.mark.parametrize("content", FILES)
def test_a_file_torn_in_its_second_record_is_made_whole(content: bytes) -> None:
    for size in range(content.index(b"\n") + 1, len(content) + 1):
        check_mended(content[:size])


@pytest.mark.contract("LOG-33")
@pytest.mark.parametrize("content", FILES)
def test_a_file_torn_in_the_text_of_its_first_record_is_made_whole(content: bytes) -> None:
    for size in range(len(STAMP + b" stdout F "), content.index(b"\n") + 1):
        check_mended(content[:size])


@pytest.mark.contract("LOG-33")
def test_a_file_torn_in_the_head_of_its_first_record_is_made_whole() -> None:
    for size in range(1, len(STAMP + b" stdout F")):
        check_mended(FILES[0][:size])


@pytest.mark.contract("LOG-33")
def test_an_open_record_gets_its_newline_and_an_open_head_is_cut_off() -> None:
    whole = format_records(b"one\n", STAMP, b"stdout")
    assert mend_tail(b"") == (0, b"")
    assert mend_tail(whole) == (0, b"")
    assert mend_tail(whole + STAMP + b" stdout P te") == (0, b"\n")
    assert mend_tail(whole + STAMP + b" stdout P ") == (0, b"\n")
    assert mend_tail(whole + STAMP + b" stdout P") == (len(STAMP) + 9, b"")
    assert mend_tail(whole + STAMP + b" stdlog P text") == (len(STAMP) + 14, b"")
    assert mend_tail(whole + STAMP + b" stdout X text") == (len(STAMP) + 14, b"")
    assert mend_tail(whole + b"2") == (1, b"")


@pytest.mark.contract("LOG-33")
def test_what_is_no_log_of_ours_keeps_its_bytes() -> None:
    assert mend_tail(b"somebody else's text") == (0, b"\n")


@pytest.mark.contract("LOG-33")
@given(st.binary(max_size=200))
def test_mending_twice_is_mending_once(content: bytes) -> None:
    once = mended(content)
    assert mend_tail(once) == (0, b"")
    assert once.startswith(content[: content.rfind(b"\n") + 1])


@pytest.mark.contract("LOG-33", "LOG-21")
@pytest.mark.parametrize("stream", [b"stdout", b"stderr"])
@pytest.mark.parametrize("tag", [b"F", b"P"])
def test_an_open_record_of_either_stream_is_one(stream: bytes, tag: bytes) -> None:
    record = b"%b %b %b text" % (STAMP, stream, tag)
    assert mend_tail(b"before\n" + record) == (0, b"\n")
    assert mend_tail(b"before\n" + record[:-6]) == (len(record) - 6, b"")
    assert mend_tail(b"before\n" + record.replace(b"std", b"etc")) == (len(record), b"")


@pytest.mark.contract("LOG-20")
@pytest.mark.parametrize("second", [0, 59, 60, 3599, 3600, 7199, 7200, 43199, 86398, 86399])
@pytest.mark.parametrize("nanoseconds", [0, 1, 999_999_999])
def test_a_stamp_is_right_at_the_ends_of_minutes_and_hours(second: int, nanoseconds: int) -> None:
    moment = datetime(2026, 11, 23, tzinfo=UTC) + timedelta(seconds=second)
    now_ns = int(moment.timestamp()) * 1_000_000_000 + nanoseconds
    text = moment.strftime("%Y-%m-%dT%H:%M:%S") + f".{nanoseconds:09d}+00:00"
    assert stamp(now_ns, 0) == text.encode()


@pytest.mark.contract("LOG-20")
@given(
    st.lists(
        st.tuples(
            st.integers(0, 4 * 10**20) | st.integers(0, 3 * 60 * 10**9),
            st.sampled_from([0, 3600, -12600, 20700, 1172]),
        ),
        min_size=1,
    )
)
@example([(59_999_999_999, 0), (60_000_000_000, 0), (60_000_000_000, 3600), (59_999_999_999, 0)])
def test_the_stamps_of_one_log_do_not_depend_on_those_before(
    moments: list[tuple[int, int]],
) -> None:
    records = K8sRecords()
    for now_ns, offset in moments:
        record = records.format(b"stdout", now_ns, offset, b"text\n")
        assert record == stamp(now_ns, offset) + b" stdout F text\n"


@pytest.mark.contract("LOG-24", "LOG-27")
def test_the_format_of_logs_is_all_of_this() -> None:
    assert MAX_TEXT == 8192
    records = K8sRecords()
    now_ns, offset = 1_795_444_200_776_455_356, 3600
    for stream in (b"stdout", b"stderr"):
        record = bytes(records.format(stream, now_ns, offset, b"text\n"))
        assert record == format_records(b"text\n", stamp(now_ns, offset), stream)
        assert records.stream_of(record) == stream
    assert records.finish(now_ns) == b""
    assert records.mend_tail(STAMP[:7]) == mend_tail(STAMP[:7]) == (7, b"")


def test_what_is_quick_formats_where_it_can_and_is_counted_alike() -> None:
    given = []

    def quick(*how: object) -> bytes:
        given.append(how)
        return frame_lines(*how) if len(given) == 1 else b""  # type: ignore[arg-type]

    ours, quicker = K8sRecords(), K8sRecords(quick)
    for data in (b"one\ntwo", b"three\nfour\n"):
        assert quicker.format(b"stdout", 0, 0, data) == ours.format(b"stdout", 0, 0, data)
    head = stamp(0, 0) + b" stdout"
    assert given[0] == (b"one\ntwo", head + b" F ", head + b" P ", MAX_TEXT)
    assert (len(given), quicker.counts) == (2, ours.counts)
