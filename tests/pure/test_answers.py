"""The messages of the sync pipe: always JSON, always UTF-8, never more than 4096 bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given, strategies as st

from lowconmon.pure.answers import MAX_MESSAGE, json as to_json, key, message

NAMED = {'"': '\\"', "\\": "\\\\", "/": "\\/"}
NAMED |= {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\b": "\\b", "\f": "\\f"}
KEYS = st.sampled_from(["data", "exit_code", "pid"])
REPEATED = st.builds(
    lambda word, count, tail: word * count + tail,
    st.sampled_from(
        [b"x", b'"', b"\1", b"\xff", "é".encode(), "€".encode(), "😀".encode(), b"a\n"]
    ),
    st.integers(0, 5000),
    st.binary(max_size=5),
)
TEXTS = st.one_of(st.binary(max_size=300), REPEATED, st.text(max_size=100).map(str.encode))


def escaped(character: str) -> str:
    """Escape as SYNC-13 says, character by character."""
    if character in NAMED:
        return NAMED[character]
    return f"\\u00{ord(character):02x}" if ord(character) < 32 or character == "\x7f" else character


@pytest.mark.contract("SYNC-4")
@pytest.mark.parametrize(
    ("api_version", "exec_session", "name"),
    [
        (True, True, "data"),
        (True, False, "data"),
        (False, True, "exit_code"),
        (False, False, "pid"),
    ],
)
def test_the_key_depends_on_api_and_session(
    *, api_version: bool, exec_session: bool, name: str
) -> None:
    assert key(api_version=api_version, exec_session=exec_session) == name


@pytest.mark.contract("SYNC-3", "SYNC-5", "SYNC-15")
@pytest.mark.parametrize("number", [-1, 0, 1, 255, 4711, 2**31 - 1])
def test_without_text_there_is_no_message_key(number: int) -> None:
    assert message("data", number) == b'{"data": %d}\n' % number
    assert message("exit_code", number, b"\0\0") == b'{"exit_code": %d}\n' % number


@pytest.mark.contract("SYNC-3", "SYNC-9")
def test_with_text_the_message_follows_the_number() -> None:
    expected = b'{"exit_code": -1, "message": "command timed out"}\n'
    assert message("exit_code", -1, b"command timed out") == expected


@pytest.mark.contract("SYNC-13")
@pytest.mark.parametrize("code", range(1, 256))
def test_every_character_has_its_exact_escape(code: int) -> None:
    character = chr(code)
    expected = f'{{"pid": -1, "message": "<{escaped(character)}>"}}\n'
    assert message("pid", -1, f"<{character}>".encode()).decode() == expected


@pytest.mark.contract("SYNC-13")
def test_a_nul_within_the_text_is_escaped_and_those_at_its_end_go() -> None:
    assert message("pid", -1, b"a\0b\0\0") == b'{"pid": -1, "message": "a\\u0000b"}\n'


@pytest.mark.contract("SYNC-2", "SYNC-3", "SYNC-13", "SYNC-14", "RT-28", "CASE-201")
@given(KEYS, st.integers(-1, 2**31 - 1), TEXTS)
@example("pid", -1, b'"\0\xff' * 70_000)
@example("exit_code", 2**31 - 1, b"\x7f" * 5000)
@example("data", -1, b"x" * 4096)
def test_any_bytes_give_one_valid_message_that_keeps_the_tail(
    name: str, number: int, text: bytes
) -> None:
    line = message(name, number, text)
    assert len(line) <= MAX_MESSAGE
    assert line.endswith(b"}\n")
    assert line.count(b"\n") == 1
    said = json.loads(line.decode("utf-8", "strict"))
    assert said.pop(name) == number
    kept = said.pop("message", "")
    assert said == {}
    whole = text.rstrip(b"\0").decode("utf-8", "replace")
    assert whole.endswith(kept)
    assert f'"{"".join(map(escaped, kept))}"}}\n'.encode() in line or not kept
    if kept != whole:  # nothing that would have fitted was left out
        next_one = escaped(whole[-len(kept) - 1]).encode()
        assert len(line) + len(next_one) > MAX_MESSAGE


@pytest.mark.contract("SYNC-2")
@pytest.mark.parametrize("size", range(4040, 4100))
def test_a_text_that_just_fits_is_kept_whole(size: int) -> None:
    text = b"x" * size
    line = message("pid", -1, text)
    assert MAX_MESSAGE == 4096
    assert len(line) == min(size + len(b'{"pid": -1, "message": ""}\n'), MAX_MESSAGE)
    assert line.count(b"x") == min(size, MAX_MESSAGE - len(b'{"pid": -1, "message": ""}\n'))


@pytest.mark.contract("SYNC-14")
@pytest.mark.parametrize("text", [b"\xff", b"\xe2\x82", b"\xed\xa0\x80", b"\xc0\x80", b"\xf5"])
def test_invalid_bytes_become_replacement_characters(text: bytes) -> None:
    said = json.loads(message("pid", -1, b"a" + text + b"b"))["message"]
    assert said == "a" + text.decode("utf-8", "replace") + "b"
    assert "\ufffd" in said


@pytest.mark.contract("RT-28")
def test_nuls_at_the_end_do_not_push_the_text_out() -> None:
    assert message("pid", -1, b"why it failed" + b"\0" * 5000) == message(
        "pid", -1, b"why it failed"
    )
    assert message("pid", -1, "é".encode() + b"\0" * 4095) == message("pid", -1, "é".encode())


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@given(VALUES)
def test_any_value_is_read_back_by_json(value: object) -> None:
    assert json.loads(to_json(value)) == value


@given(TEXTS)
def test_any_bytes_are_a_text_without_control_characters(text: bytes) -> None:
    made = to_json(text)
    assert json.loads(made) == text.decode("utf-8", "replace")
    assert not any(ord(one) < 32 or one == "\x7f" for one in made)
    assert to_json(text.decode("utf-8", "surrogateescape")) == made
    made.encode()
