"""Wait statuses, /proc/PID/stat and pid files."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from lowconmon.pure.processes import (
    ending,
    exit_code,
    parse_pid,
    start_time,
    wait_status,
)

EXIT_CODES = [0, 1, 2, 126, 127, 128, 137, 255]
# MIPS has 127 of them: the same tests everywhere, and the last one by its name.
SIGNALS = [
    *(number for number in sorted(signal.valid_signals()) if number < 64),
    pytest.param(int(signal.SIGRTMAX), id="SIGRTMAX"),
]
STAT = (
    b"4711 (%b) S 1 4711 4711 0 -1 4194560 100 0 0 0 1 2 3 4 20 0 1 0 %b 2490368 99 18446744073\n"
)


@pytest.mark.contract("END-3")
@pytest.mark.parametrize("code", EXIT_CODES)
def test_an_exit_code_is_itself(code: int) -> None:
    assert wait_status(os.CLD_EXITED, code) == code << 8
    assert exit_code(code << 8) == code


@pytest.mark.contract("END-3")
@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_128_and_its_number(number: int) -> None:
    assert wait_status(os.CLD_KILLED, number) == number
    assert wait_status(os.CLD_DUMPED, number) == number | 0x80
    assert exit_code(number) == 128 + number
    assert exit_code(number | 0x80) == 128 + number  # with a core dump


@pytest.mark.contract("REC-2")
@pytest.mark.parametrize(
    ("status", "how", "timed_out", "oom", "signal_number", "dumped", "cause"),
    [
        (0, 0, False, False, None, False, "exited"),
        (137, 137 << 8, False, False, None, False, "exited"),
        (255, 255 << 8, False, True, None, False, "exited"),
        (137, 9, False, False, 9, False, "signalled"),
        (139, 11 | 0x80, False, False, 11, True, "signalled"),
        (137, 9, False, True, 9, False, "oom"),
        (-1, 9, True, False, 9, False, "timed out"),
        (-1, 0, True, False, None, False, "timed out"),
        (-1, None, True, True, None, False, "timed out"),
        (-1, None, False, False, None, False, "unknown"),
        (-1, None, False, True, None, False, "unknown"),
    ],
)
def test_an_end_has_one_cause(status, how, timed_out, oom, signal_number, dumped, cause) -> None:
    assert ending(status, how, timed_out=timed_out, oom=oom) == {
        "version": 1,
        "status": status,
        "signal": signal_number,
        "core_dumped": dumped,
        "cause": cause,
    }


@given(st.integers(0, 0xFFFF))
def test_wait_statuses_are_read_as_python_reads_them(status: int) -> None:
    if status & 0xFF in {0x7F, 0xFF} or (status & 0x7F and status >> 8):
        return  # stopped, continued, or no status at all: no end
    code = os.waitstatus_to_exitcode(status)
    assert exit_code(status) == (code if code >= 0 else 128 - code)


@pytest.mark.contract("END-3")
@pytest.mark.parametrize(
    "script", ["exit 0", "exit 7", "exit 255", "kill -TERM $$", "kill -KILL $$"]
)
def test_a_real_end_reads_the_same_both_ways(script: str) -> None:
    with subprocess.Popen(["/bin/sh", "-c", script]) as process:
        found = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert found
        _, status = os.waitpid(process.pid, 0)
        process.returncode = 0  # reaped here
    assert wait_status(found.si_code, found.si_status) == status
    assert exit_code(status) in {0, 7, 255, 128 + 15, 128 + 9}


@pytest.mark.contract("RT-20", "RT-23")
@pytest.mark.parametrize(
    ("content", "pid"),
    [
        (b"4711", 4711),
        (b"4711\n", 4711),
        (b" 4711 \r\n", 4711),
        (b"1", 1),
        (b"0004711", 4711),
        (b"2147483647", 2**31 - 1),
        (b"2147483648", None),
        (b"9" * 5000, None),
        (b"", None),
        (b"\n", None),
        (b"0", None),
        (b"-1", None),
        (b"-4711\n", None),
        (b"+4711", None),
        (b"garbage", None),
        (b"4711x", None),
        (b"47 11", None),
        (b"4711\n4712\n", None),
        (b"4711\0", None),
        (b"0x10", None),
        ("٤٧".encode(), None),  # digits, but not ours
        (b"\xff\xfe", None),
    ],
)
def test_a_pid_file_holds_one_good_number_or_no_pid(content: bytes, pid: int | None) -> None:
    assert parse_pid(content) == pid


@pytest.mark.contract("RT-23")
@given(st.one_of(st.binary(max_size=12), st.integers().map(lambda n: b"%d" % n)))
def test_whatever_a_pid_file_holds_a_pid_is_a_good_one(content: bytes) -> None:
    pid = parse_pid(content)
    assert pid is None or 0 < pid < 2**31
    assert pid is None or int(content) == pid


@given(st.integers(1, 2**31 - 1), st.sampled_from([b"", b"\n", b"\r\n", b" "]))
def test_every_pid_is_found(pid: int, end: bytes) -> None:
    assert parse_pid(b"%d" % pid + end) == pid


@pytest.mark.contract("RT-24")
@given(st.binary(min_size=0, max_size=15), st.integers(0, 2**64 - 1))
@example(b"sh", 0)
@example(b") R 1 2 3 (", 77)
@example(b"a b c\n) ", 77)
def test_the_start_time_is_found_behind_any_name(name: bytes, ticks: int) -> None:
    assert start_time(STAT % (name, b"%d" % ticks)) == ticks


def test_the_start_time_of_a_real_process_is_that_of_its_22nd_field() -> None:
    text = Path("/proc/self/stat").read_bytes()
    assert start_time(text) == int(text.rpartition(b")")[2].split()[22 - 3])


def test_the_start_time_may_be_the_last_field() -> None:
    whole = STAT % (b"sh", b"123456")
    assert start_time(whole[: whole.index(b"123456") + 6]) == 123456


@pytest.mark.parametrize(
    "content", [b"", b"4711", b"4711 (sh)", b"4711 (sh) S 1", STAT % (b"x", b"y")]
)
def test_a_malformed_stat_has_no_start_time(content: bytes) -> None:
    assert start_time(content) is None


@given(st.integers(0, 140))
def test_a_stat_cut_short_never_gives_a_wrong_name(size: int) -> None:
    whole = STAT % (b"sh", b"123456")
    found = start_time(whole[:size])
    assert found is None or b"123456".startswith(b"%d" % found)
