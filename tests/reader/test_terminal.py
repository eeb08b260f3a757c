"""The reader on a terminal, and where its stdout and stderr are one: colours, order, hang-up."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support import SLOWNESS, wait_for

from .writer import DEADLINE_S, Follower, Writer, command, environment, record, run, said, stamp

RED, DIM, NORMAL = b"\x1b[91m", b"\x1b[2m", b"\x1b[0m"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give a log of both streams, the last line of which has not ended."""
    path = tmp_path / "ctr.log"
    path.write_bytes(
        record(1)
        + record(2, b"oh", "stderr")
        + record(3)
        + record(4, b"", "stderr")
        + record(5, b"ah", "stderr", "P")
    )
    return path


def on_terminal(*arguments: str | Path, redirect: str = "", **variables: str) -> bytes:
    """Return what the reader shows on a terminal; *redirect*: "stdout" or "stderr" goes elsewhere."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.DEVNULL if redirect == "stdout" else theirs,
        stderr=subprocess.DEVNULL if redirect == "stderr" else theirs,
        env=environment(**variables),
    )
    os.close(theirs)
    shown = b""
    try:
        while True:
            wait_for(ours, DEADLINE_S)
            shown += os.read(ours, 65536)
    except OSError:  # EIO: the reader has ended
        return shown.replace(b"\r\n", b"\n")
    finally:
        os.close(ours)
        assert process.wait(DEADLINE_S * SLOWNESS) == 0


COLOURED = b"line 1\n%(red)boh%(end)b\nline 3\n%(red)b%(end)b\n%(red)bah%(end)b" % {
    b"red": RED,
    b"end": NORMAL,
}
PLAIN = b"line 1\noh\nline 3\n\nah"


def test_on_a_terminal_stderr_is_red_and_lines_stand_in_order(log: Path) -> None:
    assert on_terminal(log) == COLOURED


@pytest.mark.parametrize(
    ("arguments", "variables", "expected"),
    [
        (["--color", "never"], {}, PLAIN),
        ([], {"NO_COLOR": "1"}, PLAIN),
        ([], {"TERM": "dumb"}, PLAIN),
        ([], {"NO_COLOR": ""}, COLOURED),
        (["--color=auto"], {}, COLOURED),
        (["--color=always"], {"NO_COLOR": "1", "TERM": "dumb"}, COLOURED),
    ],
)
def test_colours_are_a_matter_of_choice(
    log: Path, arguments: list[str], variables: dict[str, str], expected: bytes
) -> None:
    assert on_terminal(*arguments, log, **variables) == expected


def test_without_a_terminal_colours_are_asked_for(log: Path) -> None:
    stdout, stderr, _ = run("--color=always", "-t", log)
    assert stderr.startswith(b"%b%b%b %boh%b\n" % (DIM, stamp(2).encode(), NORMAL, RED, NORMAL))
    assert stdout.startswith(b"%b%b%b line 1\n" % (DIM, stamp(1).encode(), NORMAL))
    assert run(log)[:2] == (said(1, 1) + said(3, 3), b"oh\n\nah")


def test_only_the_stream_that_is_a_terminal_has_colours(log: Path) -> None:
    assert on_terminal("-t", log, redirect="stderr") == b"".join(
        b"%b%b%b line %d\n" % (DIM, stamp(number).encode(), NORMAL, number) for number in (1, 3)
    )
    red = [RED + text + NORMAL for text in (b"oh", b"", b"ah")]
    assert on_terminal(log, redirect="stdout") == b"\n".join(red)


def test_names_and_times_stand_before_the_colour(log: Path) -> None:
    other = log.with_name("other.log")
    other.write_bytes(record(9, b"o", "stderr"))
    shown = on_terminal("-t", log, other)
    time = b"%b%b%b " % (DIM, stamp(9).encode(), NORMAL)
    assert shown.endswith(b"\nother.log | " + time + RED + b"o" + NORMAL + b"\n")


def test_lines_of_both_streams_stand_in_order_in_one_pipe(tmp_path: Path) -> None:
    streams = ["stdout", "stderr"] * 3000
    with Writer(tmp_path / "log") as writer, Follower(writer.path) as follower:
        for number, stream in enumerate(streams, 1):
            writer.write(record(number, stream=stream))
        follower.wait(said(1, len(streams)))


def test_following_ends_with_its_terminal(log: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("-f", log), stdin=theirs, stdout=theirs, stderr=theirs, env=environment()
    )
    os.close(theirs)
    shown = b""
    while not shown.endswith(b"ah" + NORMAL):
        wait_for(ours, DEADLINE_S)
        shown += os.read(ours, 65536)
    os.close(ours)
    assert process.wait(DEADLINE_S * SLOWNESS) < 0
