"""Which lines of a container's sd_notify datagrams pass."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from lowconmon.pure.notify import passed_on

PASSING = [b"READY=1", b"RELOADING=1", b"STOPPING=1", b"WATCHDOG=1", b"WATCHDOG=trigger"]
PASSING += [
    b"STATUS=",
    b"STATUS=all is well",
    b"STATUS=\xff\xfe",
    b"STATUS== READY=1 \t",
    b"ERRNO=2",
]
PASSING += [b"BUSERROR=org.freedesktop.DBus.Error.TimedOut", b"MONOTONIC_USEC=17", b"ERRNO=x"]
PASSING += [b"EXTEND_TIMEOUT_USEC=5000000"]
STOPPED = [b"", b"x", b"READY=0", b"READY=1 ", b" READY=1", b"READY=11", b"ready=1", b"READY", b"="]
STOPPED += [b"WATCHDOG=2", b"WATCHDOG=trigger ", b"WATCHDOG_USEC=1", b"STATUS", b"XSTATUS=x"]
STOPPED += [b"MAINPID=1", b"MAINPIDFDID=1", b"FDSTORE=1", b"FDNAME=x", b"FDPOLL=0", b"BARRIER=1"]
STOPPED += [
    b"FDSTOREREMOVE=1",
    b"NOTIFYACCESS=all",
    b"X_READY=1",
    b"RESTART_RESET=1",
    b"STOPPING=0",
]
STOPPED += [
    b"VARLINKERROR=x",
    b"EXIT_STATUS=0",
    b"\xff",
    b" STATUS=x",
    b"STATUS=a\0b",
    b"READY=\x001",
]


@pytest.mark.contract("NOT-4", "NOT-5")
@pytest.mark.parametrize("line", PASSING)
def test_a_line_that_the_contract_names_passes_as_it_is(line: bytes) -> None:
    assert passed_on(line) == line
    assert passed_on(b"MAINPID=1\n" + line + b"\nFDSTORE=1\n") == line


@pytest.mark.contract("NOT-4", "NOT-6", "NOT-11")
@pytest.mark.parametrize("line", STOPPED)
def test_any_other_line_does_not_and_alone_it_is_no_datagram(line: bytes) -> None:
    assert passed_on(line) is None
    assert passed_on(line + b"\nREADY=1\n" + line) == b"READY=1"


@pytest.mark.contract("NOT-3", "NOT-6", "NOT-7", "NOT-11")
@pytest.mark.parametrize(
    ("datagram", "message"),
    [
        (b"", None),
        (b"\n", None),
        (b"\r\n\n\r", None),
        (b"\0", None),
        (b"READY=1\n", b"READY=1"),
        (b"READY=1\r\n", b"READY=1"),
        (b"\n\nREADY=1\n\n\nSTATUS=x\n", b"READY=1\nSTATUS=x"),
        (b"READY=1\rSTATUS=x\rMAINPID=1", b"READY=1\nSTATUS=x"),
        (b"STATUS=a\nSTATUS=b\nSTATUS=a", b"STATUS=a\nSTATUS=b\nSTATUS=a"),
        (b"READY=1\0", b"READY=1"),
        (b"READY=1\n\0\0", b"READY=1"),
        (b"READY=1\0\nSTOPPING=1", b"STOPPING=1"),
        (b"\0READY=1\nSTOPPING=1", b"STOPPING=1"),
        (b"READY=1\x0bSTOPPING=1", None),
        (b"STATUS=1\x85STOPPING=1\xe2\x80\xa8", b"STATUS=1\x85STOPPING=1\xe2\x80\xa8"),
        (b"STATUS=" + b"x" * 65529, b"STATUS=" + b"x" * 65529),
    ],
)
def test_a_datagram_is_split_and_what_passes_joined(datagram: bytes, message: bytes | None) -> None:
    assert passed_on(datagram) == message


ANY_LINE = st.one_of(st.sampled_from(PASSING + STOPPED), st.binary(max_size=20))
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b"\0\n", b"\0"])


@given(st.lists(st.tuples(ANY_LINE, ENDS), max_size=12))
def test_what_passes_is_made_of_lines_that_came_in_their_order(
    pairs: list[tuple[bytes, bytes]],
) -> None:
    datagram = b"".join(line + end for line, end in pairs)
    message = passed_on(datagram)
    if message is None:
        return
    assert message
    assert not set(message) & {0, ord("\r")}
    came = iter(datagram.rstrip(b"\0").replace(b"\r", b"\n").split(b"\n"))
    for line in message.split(b"\n"):
        assert passed_on(line) == line
        assert line in came, "in the order they came"  # uses up what it looks at
    assert passed_on(message) == message


@given(st.lists(st.sampled_from(PASSING), min_size=1), st.sampled_from([b"\n", b"\r", b"\r\n"]))
def test_good_lines_all_pass_whatever_ends_them(lines: list[bytes], end: bytes) -> None:
    assert passed_on(end.join(lines)) == b"\n".join(lines)


@given(st.binary(max_size=300))
def test_garbage_never_raises_and_never_grows(datagram: bytes) -> None:
    assert len(passed_on(datagram) or b"") <= len(datagram)
