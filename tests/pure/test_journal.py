"""Journal entries: fields, lines and partial messages, prefixes, what waits and what is lost."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings, strategies as st

from lowconmon.pure.journal import MAX_QUEUED, MAX_TEXT, Entries, common_fields, field
from tests.support.journald import parse

CID = b"0123456789abcdef"
PARTIAL = (b"CONTAINER_PARTIAL_MESSAGE", b"true")
BOUNDARIES = [
    *(0, 1, 2, 3, 4, MAX_TEXT - 1, MAX_TEXT, MAX_TEXT + 1, MAX_TEXT + 3, 2 * MAX_TEXT - 1),
    *(2 * MAX_TEXT, 2 * MAX_TEXT + 1, 3 * MAX_TEXT),
]
FILLINGS = [b"x", b"\0", b"\r", b"\xff\xfe", "ä€😀".encode(), b"=", b"<", b"<3>", b"<3>x", b"<8>"]

Message = tuple[bytes, bytes, bool, bytes]  # stream's priority, prefix, partial, text


def make(*, mark_partial: bool = True, prefix_is_priority: bool = False) -> Entries:
    return Entries(b"A=b\n", mark_partial=mark_partial, prefix_is_priority=prefix_is_priority)


def messages(datagrams: list[bytes]) -> list[Message]:
    """Return what a reader of the journal sees."""
    found = []
    for datagram in datagrams:
        fields = parse(datagram)
        single = dict(fields)
        assert len(single) == len(fields), fields
        assert single.pop(b"A") == b"b"
        partial = single.pop(b"CONTAINER_PARTIAL_MESSAGE", b"") == b"true"
        prefix = single.pop(b"SYSLOG_PRIORITY_PREFIX", b"")
        found.append((single.pop(b"PRIORITY"), prefix, partial, single.pop(b"MESSAGE")))
        assert single == {}
    return found


def batch_of(entries: Entries) -> list[bytes]:
    """Take the next datagrams out."""
    head, lines, skip = entries.take()
    assert not lines or lines.endswith(b"\n")
    return [head + line[skip:] + b"\n" for line in lines.split(b"\n")[:-1]]


def taken(entries: Entries) -> list[Message]:
    """Take everything out."""
    datagrams = []
    while batch := batch_of(entries):
        datagrams += batch
    assert entries.size == 0
    return messages(datagrams)


class Naive:
    """Make messages byte by byte, as the contract reads."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.texts: dict[bytes, bytearray] = {}
        self.prefixes: dict[bytes, bytes | None] = {b"stdout": None, b"stderr": None}

    def read(self, stream: bytes, data: bytes) -> None:
        text = self.texts.setdefault(stream, bytearray())
        for byte in data:
            if byte == ord("\n"):
                self.put(stream, partial=False)
            else:
                if len(text) == MAX_TEXT:
                    self.put(stream, partial=True)
                text.append(byte)
        if len(text) == MAX_TEXT:
            self.put(stream, partial=True)

    def end(self) -> None:
        for stream in self.texts:
            if self.texts[stream]:
                self.put(stream, partial=True)

    def put(self, stream: bytes, *, partial: bool) -> None:
        text, prefix = bytes(self.texts[stream]), self.prefixes[stream]
        if prefix is None:
            prefix = b""
            if text[:3] in [b"<%d>" % number for number in range(8)]:
                prefix, text = text[1:2], text[3:]
        self.messages.append(({b"stdout": b"6", b"stderr": b"3"}[stream], prefix, partial, text))
        self.texts[stream].clear()
        self.prefixes[stream] = prefix if partial else None


@st.composite
def reads(draw: st.DrawFn) -> list[tuple[bytes, bytes]]:
    """Make what reads may bring: lines about the boundaries, cut anywhere, of two streams."""
    sizes = st.one_of(st.integers(0, 40), st.sampled_from(BOUNDARIES))
    found = []
    for _ in range(draw(st.integers(1, 4))):
        lines = []
        for size in draw(st.lists(sizes, max_size=4)):
            filling = draw(st.sampled_from(FILLINGS))
            start = draw(st.sampled_from([b"", b"<0>", b"<7>", b"<", b"<1"]))
            lines.append((start + filling * (size // len(filling) + 1))[:size])
        data = b"\n".join(lines) + draw(st.sampled_from([b"", b"\n"]))
        stream = draw(st.sampled_from([b"stdout", b"stderr"]))
        at = draw(st.integers(0, len(data)))
        found += [(stream, data[:at]), (stream, data[at:])]
    return found


@pytest.mark.contract("JRN-2", "JRN-6", "JRN-7", "JRN-9", "JRN-10", "JRN-11")
@given(reads())
@example([(b"stdout", b"\n\n"), (b"stderr", b"\n")])
@example([(b"stdout", b"x" * MAX_TEXT), (b"stdout", b"\n")])
@example([(b"stdout", b"<3>" + b"x" * MAX_TEXT), (b"stdout", b"<4>\n<5>\n")])
@example([(b"stdout", b"a\n" + b"x" * MAX_TEXT + b"\nb\n" + b"y" * (MAX_TEXT + 1) + b"\n\nc")])
def test_entries_are_those_of_the_naive_formatter(found: list[tuple[bytes, bytes]]) -> None:
    entries, naive = make(), Naive()
    for stream, data in found:
        entries.add(stream, data)
        naive.read(stream, data)
    entries.finish()
    naive.end()
    assert taken(entries) == naive.messages
    assert entries.lost == 0


@pytest.mark.contract("JRN-7", "JRN-9", "JRN-11")
@given(reads())
def test_entries_do_not_depend_on_when_they_are_taken(found: list[tuple[bytes, bytes]]) -> None:
    late, early, seen = make(), make(), []
    for stream, data in found:
        late.add(stream, data)
        early.add(stream, data)
        seen += taken(early)
    assert taken(late) == seen


@pytest.mark.contract("JRN-9")
@settings(max_examples=15)
@given(reads())
def test_a_text_fed_byte_by_byte_is_the_same_text(found: list[tuple[bytes, bytes]]) -> None:
    entries, seen = make(), []
    whole = b"".join(data for _, data in found)
    for at in range(len(whole)):
        entries.add(b"stdout", whole[at : at + 1])
        seen += taken(entries)
    entries.finish()
    text, starts = b"", True
    for _, prefix, partial, part in [*seen, *taken(entries)]:
        assert len(part) <= MAX_TEXT
        text += (b"<%b>" % prefix if prefix and starts else b"") + part
        text += b"" if partial else b"\n"
        starts = not partial
    assert text == whole


@pytest.mark.contract("JRN-9", "CASE-1001")
@pytest.mark.parametrize(
    ("size", "at_once", "later"),
    [
        (8191, [(8191, False)], [(8191, False)]),
        (8192, [(8192, False)], [(8192, True), (0, False)]),
        (8193, [(8192, True), (1, False)], [(8192, True), (1, False)]),
        (16383, [(8192, True), (8191, False)], [(8192, True), (8191, False)]),
        (16384, [(8192, True), (8192, False)], [(8192, True), (8192, True), (0, False)]),
        (16385, [(8192, True)] * 2 + [(1, False)], [(8192, True)] * 2 + [(1, False)]),
        (65536, [(8192, True)] * 7 + [(8192, False)], [(8192, True)] * 8 + [(0, False)]),
    ],
)
def test_a_long_line_is_cut_into_partial_messages(
    size: int, at_once: list[tuple[int, bool]], later: list[tuple[int, bool]]
) -> None:
    entries = make()
    entries.add(b"stdout", b"x" * size + b"\n")
    assert [(len(text), partial) for *_, partial, text in taken(entries)] == at_once
    entries.add(b"stdout", b"x" * size)
    entries.add(b"stdout", b"\n")
    assert [(len(text), partial) for *_, partial, text in taken(entries)] == later
    entries.finish()
    assert taken(entries) == []


@pytest.mark.contract("JRN-9")
def test_what_ends_no_line_is_held_back_for_the_rest_or_the_end() -> None:
    entries = make()
    entries.add(b"stdout", b"prompt> ")
    entries.add(b"stderr", b"whole\nand a ")
    assert taken(entries) == [(b"3", b"", False, b"whole")]
    entries.add(b"stdout", b"")
    entries.add(b"stdout", b"typed\nnext")
    assert taken(entries) == [(b"6", b"", False, b"prompt> typed")]
    entries.finish()
    assert taken(entries) == [(b"6", b"", True, b"next"), (b"3", b"", True, b"and a ")]
    entries.finish()
    assert taken(entries) == []


@pytest.mark.contract("JRN-9")
@pytest.mark.parametrize("at", range(1, 12))
def test_a_read_that_ends_within_a_character_or_a_prefix_cuts_neither(at: int) -> None:
    line = "<3>ä€😀".encode()
    entries = make()
    entries.add(b"stdout", line[:at])
    assert taken(entries) == []
    entries.add(b"stdout", line[at:] + b"\n")
    assert taken(entries) == [(b"6", b"3", False, "ä€😀".encode())]


@pytest.mark.contract("JRN-11")
@pytest.mark.parametrize(
    ("line", "prefix", "text"),
    [
        (b"<0>text", b"0", b"text"),
        (b"<7>text", b"7", b"text"),
        (b"<3>", b"3", b""),
        (b"<3><4>text", b"3", b"<4>text"),
        *((line, b"", line) for line in (b"<8>text", b"</>text", b"<:>text", b" <3>text", b"<3")),
        *((line, b"", line) for line in (b"<", b"<>", b"<13>text", b"<3text", b"< >", b"3>text")),
        (b"<\0>text", b"", b"<\0>text"),
    ],
)
def test_a_prefix_of_0_to_7_is_cut_and_told(line: bytes, prefix: bytes, text: bytes) -> None:
    entries = make()
    entries.add(b"stdout", b"before\n" + line + b"\nafter\n")
    assert taken(entries)[1:2] == [(b"6", prefix, False, text)]


@pytest.mark.contract("JRN-11", "JRN-12", "JRN-17")
@pytest.mark.parametrize(("sets", "priority"), [(False, b"3"), (True, b"5")])
def test_all_parts_of_a_line_carry_the_number_that_it_starts_with(
    sets: bool, priority: bytes
) -> None:
    entries = make(prefix_is_priority=sets)
    entries.add(b"stderr", b"<5>" + b"x" * (2 * MAX_TEXT - 3) + b"<1>y\n<8>plain\n")
    assert taken(entries) == [
        (priority, b"5", True, b"x" * (MAX_TEXT - 3)),
        (priority, b"5", True, b"x" * MAX_TEXT),
        (priority, b"5", False, b"<1>y"),
        (b"3", b"", False, b"<8>plain"),
    ]


@pytest.mark.contract("JRN-11")
def test_a_prefix_counts_only_where_a_line_starts() -> None:
    entries = make()
    entries.add(b"stdout", b"x" * MAX_TEXT)
    entries.add(b"stdout", b"<3>more\n<4>next\n")
    assert taken(entries)[1:] == [(b"6", b"", False, b"<3>more"), (b"6", b"4", False, b"next")]


@pytest.mark.contract("JRN-6")
def test_partial_messages_are_marked_unless_that_is_switched_off() -> None:
    for mark in (True, False):
        entries = make(mark_partial=mark)
        entries.add(b"stdout", b"x" * (MAX_TEXT + 1))
        entries.finish()
        assert [partial for *_, partial, _ in taken(entries)] == [mark, mark]


# Fields


@pytest.mark.contract("JRN-2", "JRN-3", "JRN-4", "JRN-5")
@pytest.mark.parametrize(
    ("name", "tag", "identifier"),
    [
        (None, None, b"0123456789ab"),
        (b"box", None, b"box"),
        (None, b"tag", b"tag"),
        (b"box", b"tag", b"tag"),
        (b"box", b"", b""),
        (b"", None, b""),
    ],
)
def test_the_common_fields_say_whose_entry_it_is(
    name: bytes | None, tag: bytes | None, identifier: bytes
) -> None:
    fields = parse(common_fields(CID, name, tag, [b"ONE=1", b"TWO=", b"ONE=again"]))
    expected = [(b"CONTAINER_ID_FULL", CID), (b"CONTAINER_ID", CID[:12])]
    expected += [(b"CONTAINER_TAG", tag)] if tag is not None else []
    expected += [(b"CONTAINER_NAME", name)] if name is not None else []
    expected += [(b"SYSLOG_IDENTIFIER", identifier), (b"ONE", b"1"), (b"TWO", b"")]
    assert fields == [*expected, (b"ONE", b"again")]


@pytest.mark.contract("JRN-1")
@given(st.lists(st.tuples(st.sampled_from([b"A", b"B_2"]), st.binary(max_size=300))))
@example([(b"A", b"\n")])
@example([(b"A", b"B=c\nMESSAGE=forged\n")])
def test_no_value_can_forge_another_field(pairs: list[tuple[bytes, bytes]]) -> None:
    assert parse(b"".join(field(key, value) for key, value in pairs)) == pairs


@pytest.mark.contract("JRN-1")
def test_a_value_with_newlines_has_its_length_in_little_endian_before_it() -> None:
    value = b"\n" * 0x0102
    assert field(b"A", value) == b"A\n\x02\x01\0\0\0\0\0\0" + value + b"\n"


# Batches, memory and losses


@pytest.mark.contract("JRN-8")
def test_lines_go_together_and_in_order() -> None:
    entries = make()
    numbers = [b"%d" % number for number in range(10_000)]
    for number in numbers[:5000]:
        entries.add(b"stdout", number + b"\n")
    entries.add(b"stdout", b"".join(number + b"\n" for number in numbers[5000:]))
    sizes, texts = [], []
    while batch := batch_of(entries):
        sizes.append(len(batch))
        texts += [text for *_, text in messages(batch)]
    assert len(sizes) < 10
    assert texts == numbers


@pytest.mark.contract("JRN-8", "JRN-11")
def test_lines_with_the_same_number_or_none_go_together() -> None:
    entries = make()
    text = b"one\n<two>\n<3>three\n<4>four\n<8>five\nsix\n<5>seven\n<5>\n<5>eight\n\n"
    entries.add(b"stdout", text)
    found = [messages(batch_of(entries)) for _ in range(5)]
    assert [[text for *_, text in batch] for batch in found] == [
        [b"one", b"<two>"],
        [b"three"],
        [b"four"],
        [b"<8>five", b"six"],
        [b"seven", b"", b"eight"],
    ]
    assert taken(entries) == [(b"6", b"", False, b"")]


def test_what_is_joined_keeps_its_order_and_its_marks() -> None:
    entries, long = make(), b"x" * MAX_TEXT
    for stream, data in (
        *((b"stdout", it) for it in (b"<3>one\n", b"two\n", long + b"y", b"\n", b"three\n")),
        *((b"stderr", it) for it in (b"four\n", b"<1>", b"five\n", b"six")),
    ):
        entries.add(stream, data)
    assert messages(batch_of(entries)) == [(b"6", b"3", False, b"one")]
    entries.add(b"stderr", b"\nseven\n")
    assert taken(entries) == [
        (b"6", b"", False, b"two"),
        (b"6", b"", True, long),
        *((b"6", b"", False, text) for text in (b"y", b"three")),
        (b"3", b"", False, b"four"),
        (b"3", b"1", False, b"five"),
        *((b"3", b"", False, text) for text in (b"six", b"seven")),
    ]


def test_a_read_of_newlines_waits_as_small_as_it_came() -> None:
    entries = make()
    entries.add(b"stdout", b"\n" * 65536)
    assert entries.size < 66000
    assert len(taken(entries)) == 65536


@pytest.mark.contract("JRN-14")
@pytest.mark.parametrize("size", [1, 100, 8192])
def test_what_waits_is_bounded_and_the_rest_is_told_once(size: int) -> None:
    """Acceptable: what comes too late is missing, and in its place an entry says how much.

    Not acceptable: growth, a wrong number, a notice for each line.
    """
    entries = make()
    line = b"x" * (size - 1) + b"\n"
    fed = 0
    while not entries.lost:
        entries.add(b"stdout", line)
        fed += 1
        assert entries.size < MAX_QUEUED + size + 200
    for _ in range(9):
        entries.add(b"stdout", line)
    entries.add(b"stderr", line * 3)
    entries.add(b"stderr", b"held back")
    assert entries.lost == 13
    text = b"[lowconmon: 10 messages (%d bytes) of stdout and 3 messages (%d bytes) of stderr"
    text = text % (10 * size, 3 * size) + b" could not be written here]"
    kept = [(b"6", b"", False, line[:-1])] * (fed - 1)
    assert taken(entries) == [*kept, (b"3", b"", False, text)]
    entries.add(b"stdout", b"later\n")
    entries.finish()
    assert [text for *_, text in taken(entries)] == [b"later", b"held back"]


def test_what_comes_while_half_of_the_queue_is_free_stands_behind_the_notice() -> None:
    entries = make()
    block = b"x" * 1023 + b"\n"
    while not entries.lost:
        entries.add(b"stdout", block * 64)
    sizes = []
    while entries.size > MAX_QUEUED // 2:
        sizes.append(len(batch_of(entries)))
    entries.add(b"stdout", b"next\n")
    texts = [text for *_, text in taken(entries)]
    assert texts[-1] == b"next"
    assert texts[-2].startswith(b"[lowconmon: 64 messages (65536 bytes) of stdout could")
    assert set(texts[:-2]) == {block[:-1]}
    assert entries.lost == 64


def test_what_waits_at_the_end_is_counted() -> None:
    entries = make()
    entries.add(b"stdout", b"one\ntwo\n" + b"x" * 9000)
    entries.finish()
    entries.drop()
    assert (entries.lost, entries.size) == (4, 0)
