"""The specifications of `--log-path`: CONTRACT, section 6."""

from __future__ import annotations

import errno
import functools
import os

import pytest
from hypothesis import given, strategies as st

from lowconmon.pure import log_drivers
from lowconmon.pure.log_drivers import LogPlan
from lowconmon.pure.options import CheckError

LONG_ID = b"0123456789abc"  # 13 characters: one more than journald's short id
plan = functools.partial(log_drivers.plan, open_file=lambda _: None)


def planned(*specs: bytes, cid: bytes = LONG_ID, tag: bytes | None = None) -> LogPlan:
    return plan(specs, cid=cid, log_tag=tag, log_label=[])


def refused(*specs: bytes, labels: list[bytes] | None = None, tag: bytes | None = None) -> bytes:
    with pytest.raises(CheckError) as caught:
        plan(specs, cid=LONG_ID, log_tag=tag, log_label=labels or [])
    assert not caught.value.plain
    return caught.value.text


@pytest.mark.contract("JSON-1")
def test_json_file_is_a_file_of_another_format_and_the_last_file_wins() -> None:
    assert (planned(b"/a").path, planned(b"/a").driver) == (b"/a", b"k8s-file")
    assert (planned(b"json-file:/a:b").path, planned(b"json-file:/a").driver) == (
        b"/a:b",
        b"json-file",
    )
    both = planned(b"json-file:/a", b"/b")
    assert (both.path, both.driver, len(both.warnings)) == (b"/b", b"k8s-file", 1)
    assert planned(b"/b", b"json-file:/b").driver == b"json-file"
    assert planned(b":json-file").path == b"json-file"
    assert planned(b"./json-file:x").driver == b"k8s-file"
    assert refused(b"json-file:") == refused(b"json-file") == b"json-file requires a filename"
    assert refused(b"json-file:/a", tag=b"t") == b"json-file doesn't support --log-tag"
    assert refused(b"json-file:/a", labels=[b"A=1"]) == b"json-file doesn't support --log-label"
    assert planned(b"json-file:/a", b"journald", tag=b"t").journald


PATHS = [
    (b"log", b"log"),
    (b"/var/log/x", b"/var/log/x"),
    (b":log", b"log"),
    (b"k8s-file:/var/log/x", b"/var/log/x"),
    (b":journald", b"journald"),
    (b":none", b"none"),
    (b":k8s-file", b"k8s-file"),
    (b"JOURNALD", b"JOURNALD"),
    (b"journald.log", b"journald.log"),
    # ours: colons in a path
    (b"k8s-file:/a:b", b"/a:b"),
    (b"k8s-file:a:b", b"a:b"),
    (b":/a:b", b"/a:b"),
    (b":a:b", b"a:b"),
    (b"/a:b", b"/a:b"),
    (b"./k8s-file:b", b"./k8s-file:b"),
    (b"a/b:c:d", b"a/b:c:d"),
    (b"/a:", b"/a:"),
    (b"\xff/\xfe", b"\xff/\xfe"),
]


@pytest.mark.parametrize(("spec", "path"), PATHS)
def test_a_file_is_named_in_three_ways_and_may_have_colons(spec: bytes, path: bytes) -> None:
    result = planned(spec)
    assert result.path == path
    assert (result.journald, result.passthrough, result.off) == (False, False, False)
    assert result.warnings == []


@pytest.mark.parametrize("rest", [b"", b":", b":x", b"::", b":/a:b"])
def test_a_driver_without_a_file_may_have_anything_after_a_colon(rest: bytes) -> None:
    for name in (b"off", b"null", b"none"):
        result = planned(name + rest)
        assert (result.path, result.journald, result.passthrough) == (None, False, False)
        assert result.off
    assert planned(b"journald" + rest).journald
    assert not planned(b"journald" + rest).off
    assert planned(b"passthrough" + rest).passthrough
    assert not planned(b"passthrough" + rest).off


def test_several_drivers_work_together_and_none_adds_nothing() -> None:
    result = planned(b"none", b"journald", b"/log", b"off", b"passthrough")
    assert (result.path, result.journald, result.passthrough) == (b"/log", True, True)
    assert not result.off


def test_the_last_of_several_files_wins_with_a_warning_for_each_other() -> None:
    result = planned(b"/one", b":two", b"k8s-file:/three")
    assert result.path == b"/three"
    assert [text.rpartition(b" ")[2] for text in result.warnings] == [b"/one", b"two"]


def test_the_same_file_twice_is_worth_no_warning() -> None:
    assert planned(b"/one", b"k8s-file:/one").warnings == []


ERRORS = [
    ((), b"Log driver not provided. Use --log-path"),
    ((b"",), b"log-path must not be empty"),
    ((b":",), b"log-path must not be empty"),
    ((b"::",), b"log-path must not be empty"),
    ((b"k8s-file",), b"k8s-file requires a filename"),
    ((b"k8s-file:",), b"k8s-file requires a filename"),
    ((b"k8s-file::",), b"k8s-file requires a filename"),
    ((b"invalid:/x",), b"No such log driver invalid"),
    ((b"foo:",), b"No such log driver foo"),
    ((b"JOURNALD:x",), b"No such log driver JOURNALD"),
    ((b"\xff:",), b"No such log driver \xff"),
    # the first wrong one is complained of, and before any tag or id
    ((b"none", b"k8s-file", b"foo:"), b"k8s-file requires a filename"),
    ((b"/log", b"foo:", b""), b"No such log driver foo"),
]


@pytest.mark.parametrize(("specs", "text"), ERRORS)
def test_a_wrong_specification_is_refused_in_the_words_of_conmon(
    specs: tuple[bytes, ...], text: bytes
) -> None:
    assert refused(*specs) == text
    assert refused(*specs, labels=[b""], tag=b"x") == text


@pytest.mark.parametrize("tag", [b"", b"tag"])
def test_a_tag_needs_journald_if_there_is_a_file(tag: bytes) -> None:
    assert refused(b"/log", tag=tag) == b"k8s-file doesn't support --log-tag"
    assert refused(b"/log", b"none", tag=tag, labels=[b"A=b"]).endswith(b"--log-tag")
    assert planned(b"/log", b"journald", tag=tag).path == b"/log"
    assert planned(b"none", tag=tag).off
    assert planned(b"passthrough", tag=tag).passthrough


def test_a_label_needs_journald_if_there_is_a_file() -> None:
    assert refused(b"/log", labels=[b"A=b"]) == b"k8s-file doesn't support --log-label"
    labels = [b"A=b", b"_9=", b"LONG_NAME=some text \xff"]
    assert plan([b"journald", b"/l"], cid=LONG_ID, log_tag=None, log_label=labels).journald
    assert plan([b"none"], cid=b"x", log_tag=None, log_label=[b"wrong"]).off


@pytest.mark.parametrize("length", [0, 11, 12, 13, 64])
def test_journald_wants_an_id_longer_than_12_characters(length: int) -> None:
    cid = b"x" * length
    if length > 12:
        assert planned(b"journald", cid=cid).journald
        return
    with pytest.raises(CheckError) as caught:
        plan([b"journald"], cid=cid, log_tag=b"t", log_label=[b"wrong"])
    assert caught.value.text == b"Container ID must be longer than 12 characters"
    assert planned(b"/log", cid=cid).path == b"/log"


FORMAT = b"Container labels must be in format LABEL=VALUE "
NAMES = b"Container label names must contain only uppercase letters, numbers and underscore "
LABEL_ERRORS = [
    (b"=x", FORMAT + b"(no LABEL present in '=x')"),
    (b"=", FORMAT + b"(no LABEL present in '=')"),
    (b"==", FORMAT + b"(no LABEL present in '==')"),
    (b"", FORMAT + b"(none or more than one '=' present in '')"),
    (b"AB", FORMAT + b"(none or more than one '=' present in 'AB')"),
    (b"A=b=c", FORMAT + b"(none or more than one '=' present in 'A=b=c')"),
    (b"a=B", NAMES + b"(in 'a=B')"),
    (b"A-B=c", NAMES + b"(in 'A-B=c')"),
    (b" =c", NAMES + b"(in ' =c')"),
    (b"\xc3\x84=c", NAMES + b"(in '\xc3\x84=c')"),
]


@pytest.mark.parametrize(("label", "text"), LABEL_ERRORS)
def test_a_label_is_an_upper_case_name_and_a_value(label: bytes, text: bytes) -> None:
    assert refused(b"journald", labels=[b"GOOD=1", label, b"="]) == text


def test_the_file_is_opened_after_all_specifications_and_before_tag_label_and_id() -> None:
    opened: list[bytes | None] = []

    def fail(plan: LogPlan) -> None:
        opened.append(plan.path)
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))

    def text_of(*specs: bytes) -> bytes:
        with pytest.raises(CheckError) as caught:
            plan(specs, cid=b"short", log_tag=b"t", log_label=[b"="], open_file=fail)
        return caught.value.text

    assert text_of(b"/one", b"foo:") == b"No such log driver foo"
    assert text_of(b"journald") == b"Container ID must be longer than 12 characters"
    assert opened == []
    assert text_of(b"/one", b"/two") == b"Failed to open log file Is a directory"
    assert text_of(b"/one", b"journald") == b"Failed to open log file Is a directory"
    assert opened == [b"/two", b"/one"]


def test_partial_messages_are_journald_s_affair_and_a_warning_says_so() -> None:
    def warnings(*specs: bytes) -> list[bytes]:
        result = plan(
            specs, cid=LONG_ID, log_tag=None, log_label=[], no_container_partial_message=True
        )
        return result.warnings

    text = b"--no-container-partial-message has no effect without journald log driver"
    assert warnings(b"/log") == [text]
    assert warnings(b"none") == [text]
    assert warnings(b"/log", b"journald") == []


words = st.sampled_from([b"k8s-file", b"journald", b"none", b"passthrough", b":", b"/", b"x"])
specifications = st.lists(st.lists(words | st.binary(max_size=3)).map(b"".join), max_size=4)


@given(specifications, st.lists(st.binary(max_size=5)), st.none() | st.binary(max_size=2))
def test_a_plan_is_made_or_refused_and_is_off_only_if_nothing_is_on(
    specs: list[bytes], labels: list[bytes], tag: bytes | None
) -> None:
    try:
        result = plan(specs, cid=LONG_ID, log_tag=tag, log_label=labels)
    except CheckError:
        return
    assert result.path != b""
    assert result.off == (result.path is None and not result.journald and not result.passthrough)


@given(st.binary(min_size=1).filter(lambda path: path.strip(b":")))
def test_any_path_can_be_given_after_the_driver_s_name(path: bytes) -> None:
    assert planned(b"k8s-file:" + path).path == path
    assert planned(b":" + path).path == path
