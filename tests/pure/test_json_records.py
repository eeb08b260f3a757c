"""json-file records: formatting, whatever the chunking, and mending what a crash left."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, strategies as st

from lowconmon.pure.json_records import MAX_TEXT, JsonRecords
from lowconmon.pure.records import K8sRecords
from tests.support import run_python

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW_NS, TIME = 1_795_444_200_776_455_356, "2026-11-23T14:30:00.776455356Z"
HERE = 3600  # seconds east of UTC, of which the records know nothing
RECORD = re.compile(
    rb'\{"log":"(?:[^"\\\n\x00-\x1f]|\\["\\nrt]|\\u[0-9a-f]{4})+","stream":"(stdout|stderr)",'
    rb'"time":"2026-11-23T14:30:00\.776455356Z"\}'
)
LONGEST = 6 * MAX_TEXT + 71
BOUNDARIES = [0, 1, 2, *(n * MAX_TEXT + by for n in (1, 2, 3) for by in (-1, 0, 1))]
FILLINGS = ["x", '"', "\\", "\0", "\r", "\t\x1b", "\x7f", "\u2028", "ä€😀", "😀", "<&>"]
BAD = [
    *(b"\xff", b"\xc0\xaf", b"\x80", b"\xbf\xbf", b"\xfe\xff"),
    *(b"\xed\xa0\x80", b"\xed\xb0\x80", b"\xed\xa0\xbd\xed\xb8\x80"),  # surrogates
    *(b"\xf4\x90\x80\x80", b"\xf5", b"\xe2\x82", b"\xe2\x82x", b"\xf0\x9f\x98", b"\xf0\x9f"),
]


def feed(chunks: Iterable[bytes], stream: bytes = b"stdout") -> bytes:
    """Return all records of what several reads brought."""
    records = JsonRecords()
    formatted = [records.format(stream, NOW_NS, HERE, chunk) for chunk in chunks]
    return b"".join(formatted) + records.finish(NOW_NS)


def texts(records: bytes, stream: str = "stdout") -> list[str]:
    """Return the texts of *stream*; every line must be a whole record as docker writes it."""
    assert records == b"" or records.endswith(b"\n")
    found = []
    for record in records.split(b"\n")[:-1]:
        assert RECORD.fullmatch(record), record[:200]
        assert len(record) < LONGEST
        value = json.loads(record)
        assert list(value) == ["log", "stream", "time"]
        assert value["time"] == TIME
        text = value["log"]
        assert text, "an empty record"
        assert "\n" not in text[:-1]
        assert len(text.removesuffix("\n").encode()) <= MAX_TEXT
        if value["stream"] == stream:
            found.append(text)
    return found


def check(chunks: list[bytes]) -> list[str]:
    """Fail unless the records of *chunks* are those of their bytes; return their texts."""
    found = texts(feed(chunks))
    assert "".join(found) == b"".join(chunks).decode("utf-8", "replace")
    return found


@st.composite
def outputs(draw: st.DrawFn) -> bytes:
    """Make what a container may write: lines about the boundaries, bad UTF-8 anywhere."""
    parts = []
    for size in draw(st.lists(st.one_of(st.integers(0, 40), st.sampled_from(BOUNDARIES)))):
        filling = draw(st.sampled_from(FILLINGS)).encode()
        parts.append((filling * (size // len(filling) + 1))[:size])
        parts.append(draw(st.sampled_from([b"\n", b"", *BAD])))
    return b"".join(parts)


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return *data* in pieces."""
    ends = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in itertools.pairwise(ends)] or [b""]


def test_a_record_is_as_docker_writes_it() -> None:
    assert feed([b"text\n"]) == b'{"log":"text\\n","stream":"stdout","time":"%s"}\n' % TIME.encode()
    assert feed([b"$ "], b"stderr") == b'{"log":"$ ","stream":"stderr","time":"%s"}\n' % (
        TIME.encode()
    )


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (b'say "a\\b"', rb"say \"a\\b\""),
        (b"\\n\\u0041", rb"\\n\\u0041"),
        (b"a\r\tb", rb"a\r\tb"),
        (b"\0\x01\x08\x0b\x0c\x1b\x1f", rb"\u0000\u0001\u0008\u000b\u000c\u001b\u001f"),
        (b" /\x7f<>&'", b" /\x7f<>&'"),
        ("äß€😀\x80\u2027\u202a".encode(), "äß€😀\x80\u2027\u202a".encode()),
        ("a\u2028\u2029b".encode(), rb"a\u2028\u2029b"),
        (b"a\xffb\xfe", "a\ufffdb\ufffd".encode()),
    ],
)
def test_only_what_must_be_escaped_is(text: bytes, written: bytes) -> None:
    assert feed([text]).startswith(b'{"log":"' + written + b'","stream"')


@pytest.mark.parametrize("byte", range(256))
def test_every_byte_is_read_back(byte: int) -> None:
    check([bytes((byte,)) * 3 + b"x\n"])
    check([b"x", bytes((byte,)), b"\n"])


@pytest.mark.parametrize("ns", [0, 1, 999_999_999, 86_399 * 10**9, 253_402_300_799_999_999_999])
def test_the_time_is_utc_with_nine_digits(ns: int) -> None:
    record = JsonRecords().format(b"stdout", ns, -34_200, b"x")
    assert record.endswith(b'.%09dZ"}\n' % (ns % 10**9))
    there = bytes(K8sRecords().format(b"stdout", ns, 0, b"x")[:29])
    assert json.loads(record)["time"].encode() == there + b"Z"


@pytest.mark.contract("LOG-25", "LOG-26", "LOG-27", "LOG-28")
@given(outputs(), st.lists(st.integers(0, 4 * MAX_TEXT), max_size=8))
@example(b"", [])
@example(b"\n", [])
@example(b"\n\n", [1])
def test_nothing_is_lost_whatever_a_read_brings(data: bytes, cuts: list[int]) -> None:
    found = check(split(data, cuts))
    assert sum(text.endswith("\n") for text in found) == data.count(b"\n")


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
def test_any_bytes_are_read_back_as_python_decodes_them(data: bytes, cuts: list[int]) -> None:
    check(split(data, cuts))


@given(
    st.lists(st.one_of(st.sampled_from(BAD), st.sampled_from(["\n", *FILLINGS]).map(str.encode)))
)
def test_byte_by_byte_the_text_is_the_same(parts: list[bytes]) -> None:
    data = b"".join(parts)
    check(split(data, range(len(data))))


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("after", [b"", b"x", b"\n", "ä".encode()])
def test_what_is_no_utf_8_becomes_replacement_characters(bad: bytes, after: bytes) -> None:
    data = b"x" + bad + after
    for cut in range(len(data) + 1):
        check([data[:cut], data[cut:]])


@pytest.mark.contract("LOG-26")
@pytest.mark.parametrize("character", ["ä", "€", "😀"])
def test_a_character_that_two_reads_brought_is_one(character: str) -> None:
    data = character.encode()
    for cut in range(1, len(data)):
        records = JsonRecords()
        first = records.format(b"stdout", NOW_NS, HERE, b"a" + data[:cut])
        assert texts(first) == ["a"]  # what can be told is written at once
        other = records.format(b"stderr", NOW_NS, HERE, data)  # between two reads of its stream
        assert texts(other, "stderr") == [character]
        last = records.format(b"stdout", NOW_NS, HERE, data[cut:] + b"b\n")
        assert texts(last) == [character + "b\n"]
        assert records.finish(NOW_NS) == b""


def test_a_character_without_its_end_comes_out_at_the_end_once() -> None:
    records = JsonRecords()
    assert records.format(b"stdout", NOW_NS, HERE, b"\xf0\x9f\x98") == b""
    assert records.format(b"stderr", NOW_NS, HERE, b"\xc3") == b""
    left = records.finish(NOW_NS)
    assert texts(left) == ["\ufffd"]
    assert texts(left, "stderr") == ["\ufffd"]
    assert records.finish(NOW_NS) == b""


# Long lines


@pytest.mark.contract("LOG-25", "LOG-28")
@pytest.mark.parametrize("filling", ["x", '"', "\0"])
@pytest.mark.parametrize("newline", ["", "\n"])
@pytest.mark.parametrize("before", ["", "\n", "short\n", "y" * MAX_TEXT + "\n"])
@pytest.mark.parametrize("size", [*BOUNDARIES, 65535, 65536])
def test_a_line_of_any_size_is_cut_at_16384_bytes(
    size: int, before: str, newline: str, filling: str
) -> None:
    data = before + filling * size + newline
    expected = before.splitlines(keepends=True)
    assert MAX_TEXT == 16384
    pieces = [filling * min(MAX_TEXT, size - at) for at in range(0, size, MAX_TEXT)] or [""]
    pieces[-1] += newline
    assert check([data.encode()]) == expected + [piece for piece in pieces if piece]


@pytest.mark.parametrize("character", ["ä", "€", "😀"])
@pytest.mark.parametrize("shift", range(5))
def test_a_long_line_is_cut_between_two_characters(character: str, shift: int) -> None:
    found = check([("x" * shift + character * MAX_TEXT).encode()])
    assert "\ufffd" not in "".join(found)
    size = len(character.encode())
    assert all(len(text.encode()) > MAX_TEXT - size for text in found[:-1])


def test_the_longest_record_is_as_long_as_the_module_says() -> None:
    records = feed([b"\0" * MAX_TEXT + b"\n"])
    assert records.count(b"\n") == 1
    assert len(records) == LONGEST


def test_many_short_lines_are_as_many_records() -> None:
    one = feed([b"\n"])
    assert feed([b"\n" * 65536]) == one * 65536


# Other readers


def test_jq_reads_what_json_reads() -> None:
    data = b"".join(filling.encode() for filling in FILLINGS) + b"".join(BAD)
    data += bytes(range(256)) + b"\n" + b'"\\' * MAX_TEXT
    done = subprocess.run(
        ["jq", "-j", ".log"], input=feed([data, data]), capture_output=True, timeout=20, check=True
    )
    assert done.stdout == data.decode("utf-8", "replace").encode() * 2


@pytest.mark.parametrize("stream", [b"stdout", b"stderr"])
@pytest.mark.parametrize("text", [b"x", b'"stream":"stdfoo","time":"', b"\n", b'"' * 9 + b"\n"])
def test_a_record_tells_its_stream_with_its_newline_and_without(stream: bytes, text: bytes) -> None:
    record = feed([text], stream)
    assert JsonRecords.stream_of(record) == stream
    assert JsonRecords.stream_of(record.removesuffix(b"\n")) == stream


# Mending


HARD = [
    b"x",
    b"line\n",
    b'{"log":"x","stream":"stdout","time":"Z"}',  # a record as a text
    b'Z"}\n',
    b'\\Z"}\\',
    b'"' * 20,
    b"\0" * 20,
]


def mended(content: bytes, tail: int = 1 << 17) -> bytes:
    """Return what a file becomes whose last *tail* bytes are looked at."""
    cut, append = JsonRecords.mend_tail(content[-tail:])
    assert 0 <= cut <= len(content[-tail:])
    return content[: len(content) - cut] + append


@pytest.mark.contract("LOG-33")
@pytest.mark.parametrize("before", [b"", feed([b"before\n"]), b"someone else's\n", b"\n"])
@pytest.mark.parametrize("text", HARD)
def test_every_beginning_of_a_record_is_made_whole_or_cut_off(before: bytes, text: bytes) -> None:
    record = feed([text])
    for size in range(len(record) - 1):
        assert mended(before + record[:size]) == before
    for size in (len(record) - 1, len(record)):
        assert mended(before + record[:size]) == before + record


@pytest.mark.contract("LOG-33")
@pytest.mark.parametrize("control", [b"x", b'"', b"\0"])
def test_of_a_record_longer_than_the_tail_only_its_end_decides(control: bytes) -> None:
    record = feed([control * MAX_TEXT + b"\n"])
    for tail in (100, 1000, 4096):
        assert mended(record[:-1], tail) == record
        assert mended(record, tail) == record
        assert mended(record[:-2], tail) == record[:-2] + b"\n"  # nothing of it can be taken back


@pytest.mark.contract("LOG-33")
@pytest.mark.parametrize("tail", [LONGEST, 1 << 17])
@pytest.mark.parametrize("left_out", [0, 1, 2, 3, 60, 71, 50_000, LONGEST - 1])
def test_the_longest_record_is_mended_in_a_tail_as_long(tail: int, left_out: int) -> None:
    first, record = feed([b"first\n"]), feed([b"\0" * MAX_TEXT + b"\n"])
    expected = record if left_out < 2 else b""  # noqa: PLR2004 - but for its newline it is there
    assert mended(first + record[: LONGEST - left_out], tail) == first + expected


@pytest.mark.contract("LOG-33")
@pytest.mark.parametrize("text", [b"somebody else's", b'{"time":1', b"\0\0", b"Z", b'x{"log":"'])
def test_what_another_wrote_keeps_its_bytes(text: bytes) -> None:
    assert mended(text) == text + b"\n"
    assert mended(b"line\n" + text) == b"line\n" + text + b"\n"


@pytest.mark.contract("LOG-33")
def test_a_record_of_docker_with_a_shorter_time_is_whole() -> None:
    record = b'{"log":"x\\n","stream":"stdout","attrs":{"a":"b"},"time":"2026-11-23T14:30:00.7Z"}'
    assert mended(record) == record + b"\n"


@pytest.mark.contract("LOG-33")
@given(st.one_of(st.binary(max_size=200), st.builds(lambda a: feed([a]), st.binary(max_size=50))))
def test_mending_twice_is_mending_once(content: bytes) -> None:
    once = mended(content)
    assert JsonRecords.mend_tail(once) == (0, b"")
    assert once.startswith(content[: content.rfind(b"\n") + 1])


# The process


def test_the_format_imports_nothing_that_the_interpreter_had_not() -> None:
    code = (
        "before = set(sys.modules)\nimport lowconmon.pure.json_records\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = run_python(code, flags=["-IS"])
    names = {"lowconmon", "lowconmon.pure", "lowconmon.pure.json_records"}
    assert set(done.stdout.split()) == names | {"lowconmon.pure.records"}, done.stderr


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"stdout", b"stderr"]),
            st.one_of(
                st.binary(max_size=300),
                st.builds(
                    lambda filling, count, end: (filling.encode() * count)[:65536] + end,
                    st.sampled_from([*FILLINGS, "\n", "x\n", "\n\n\\"]),
                    st.integers(0, 65536),
                    st.sampled_from([b"", b"\n", b"\xe2"]),
                ),
            ),
        ),
        max_size=5,
    )
)
def test_records_are_counted_as_they_are_made(reads: list[tuple[bytes, bytes]]) -> None:
    for records in (K8sRecords(), JsonRecords()):
        made: dict[bytes, int] = {}
        for stream, data in reads:
            found = bytes(records.format(stream, NOW_NS, HERE, data[:65536]))
            made[stream] = made.get(stream, 0) + found.count(b"\n")
        for record in records.finish(NOW_NS).splitlines(keepends=True):
            made[records.stream_of(record)] += 1
        counts = {stream: count for stream, count in records.counts.items() if count}
        assert counts == {stream: count for stream, count in made.items() if count}
