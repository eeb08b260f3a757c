"""docs/examples/record.py: what passes through, what is recorded, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import termios
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import syscalls
from tests.support import SLOWNESS, read_all, wait_for

from .conftest import IGNORING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Process, Start


@pytest.fixture
def cast(tmp_path: Path) -> Path:
    """Give the path of the recording."""
    return tmp_path / "it.cast"


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    """Give both ends of the terminal that the recorder is started on."""
    master, slave = syscalls.openpty()
    syscalls.set_winsize(master, 33, 99)
    yield master, slave
    os.close(master)
    os.close(slave)


def read(cast: Path) -> tuple[dict[str, Any], list[list[Any]]]:
    """Return the head and the events of a recording, which must be whole."""
    text = cast.read_bytes()
    assert text.endswith(b"\n")
    head, *events = map(json.loads, text.decode("ascii").splitlines())
    times = [event[0] for event in events]
    assert times == sorted(times)
    return head, events


def shown(cast: Path) -> str:
    """Return what was shown in all."""
    return "".join(text for _, kind, text in read(cast)[1] if kind == "o")


def read_until(fd: int, end: bytes) -> bytes:
    """Return what a terminal shows up to *end*, which must come."""
    data = b""
    while not data.endswith(end):
        wait_for(fd)
        data += os.read(fd, 1)
    return data


def test_it_ends_as_the_program_ended_and_records_what_it_showed(
    start: Start, tmp_path: Path
) -> None:
    ends = {f"exit {code}": code for code in (0, 1, 126, 127, 128, 255)} | {
        f"kill -{number} $$": 128 + number for number in (signal.SIGKILL, signal.SIGPIPE)
    }
    running = [
        start("record", tmp_path / str(number), "sh", "-c", f"echo it; {script}")
        for number, script in enumerate(ends)
    ]
    found = [process.end() for process in running]
    assert found == [(code, "it\r\n", "") for code in ends.values()]
    for number, script in enumerate(ends):
        head, events = read(tmp_path / str(number))
        assert (head["version"], head["width"], head["height"]) == (2, 80, 24)
        assert head["command"] == f"sh -c echo it; {script}"
        assert [event[1] for event in events] == ["o"] * len(events)
        assert shown(tmp_path / str(number)) == "it\r\n"


def test_what_cannot_be_started_is_told_from_a_failure_of_its_own(
    start: Start, cast: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    runs = {
        (cast, "no-such-program"): (127, "no-such-program: not found"),
        (cast, "/no/such"): (127, "/no/such: No such file or directory"),
        (cast, f"{tmp_path}/file"): (126, f"{tmp_path}/file: Permission denied"),
        ("/no/such/file", "true"): (125, "[Errno 2] No such file or directory: '/no/such/file'"),
    }
    running = [start("record", *words) for words in runs]
    expected = [(status, "", f"record.py: {text}\n") for status, text in runs.values()]
    assert [process.end() for process in running] == expected


@pytest.mark.parametrize(("arguments", "status"), [(["--help"], 0), ([], 2)])
def test_the_command_line_is_explained(start: Start, arguments: list[str], status: int) -> None:
    found, out, error = start("record", *arguments).end()
    assert found == status
    assert (out + error).startswith("usage: record.py ")


def test_every_key_goes_to_the_program_and_the_terminal_is_as_before(
    start: Start, cast: Path, terminal: tuple[int, int]
) -> None:
    master, slave = terminal
    before = termios.tcgetattr(slave)
    script = "trap 'echo; echo interrupted' INT; echo ready; until read x; do :; done; read y; echo got $y; exit 4"
    process = start("record", cast, "sh", "-c", script, stdin=slave, stdout=slave)
    assert read_until(master, b"ready\r\n") == b"ready\r\n"
    os.write(master, b"\x03")  # to the program, and not to the recorder
    assert read_until(master, b"interrupted\r\n") == b"^C\r\ninterrupted\r\n"
    os.write(master, b"one\rtwo\r")
    assert read_until(master, b"got two\r\n") == b"one\r\ntwo\r\ngot two\r\n"
    assert process.end()[0] == 4
    assert termios.tcgetattr(slave) == before
    assert shown(cast) == "ready\r\n^C\r\ninterrupted\r\none\r\ntwo\r\ngot two\r\n"


def test_the_programs_terminal_has_the_size_of_ours_and_follows_it(
    start: Start, cast: Path, terminal: tuple[int, int]
) -> None:
    master, slave = terminal
    script = "stty size; trap 'n=$n.; stty size' WINCH; echo ready; "
    script += "until [ x$n = x.. ]; do sleep 0.02; done"
    # A session without a terminal makes the first that it opens its own: it is told of changes.
    name = os.ttyname(slave)
    both = {"first": f"exec <{name} >{name}", "start_new_session": True}
    process = start("record", cast, "sh", "-c", script, **both)
    assert read_until(master, b"ready\r\n") == b"33 99\r\nready\r\n"
    syscalls.set_winsize(master, 44, 111)
    assert read_until(master, b"\n") == b"44 111\r\n"
    syscalls.set_winsize(master, 33, 99)
    assert read_until(master, b"\n") == b"33 99\r\n"
    assert process.end()[0] == 0
    head, events = read(cast)
    assert (head["height"], head["width"]) == (33, 99)
    assert [text for _, kind, text in events if kind == "r"] == ["111x44", "99x33"]


@pytest.mark.parametrize("typed", [b"", b"whole\n", b"whole\npart"])
def test_the_end_of_what_is_typed_is_told(start: Start, cast: Path, typed: bytes) -> None:
    process = start(
        "record", cast, "sh", "-c", "stty -echo; echo ready; cat; exit 3", stdin=subprocess.PIPE
    )
    assert process.line() == "ready"
    process.stdin.write(typed)
    assert process.end() == (3, typed.decode().replace("\n", "\r\n"), "")


@pytest.mark.parametrize("redirection", ["</dev/null", "<&-", "<{}/file"])
def test_a_standard_input_without_readiness_has_an_end_too(
    start: Start, cast: Path, tmp_path: Path, redirection: str
) -> None:
    (tmp_path / "file").write_text("line\n")
    script = "stty -echo; cat; echo end"
    process = start(
        "record", cast, "sh", "-c", script, first=f"exec {redirection.format(tmp_path)}"
    )
    status, out, error = process.end()
    assert (status, error) == (0, "")
    assert out.endswith("end\r\n")
    assert ("line" in out) == ("file" in redirection)


def test_a_reader_that_is_slow_slows_the_program_and_gets_all(start: Start, cast: Path) -> None:
    """Acceptable: the program waits. Not acceptable: a lost byte, or a queue that grows."""
    script = "stty -onlcr; head -c 300000 /dev/zero | tr '\\0' x; exit 3"
    process = start("record", cast, "sh", "-c", script)
    # Where a page has 64 KiB, a pipe would take all of it.
    syscalls.fcntl(process.stdout, syscalls.F_SETPIPE_SZ, 65536)
    wait_for(lambda: is_full(process))
    assert cast.stat().st_size < 150_000  # a pipe, a terminal's buffers, and a piece
    assert process.end() == (3, "x" * 300_000, "")
    assert shown(cast) == "x" * 300_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_told_to_end_it_hangs_up_though_nobody_reads(
    start: Start, cast: Path, number: signal.Signals
) -> None:
    """Acceptable: what was not read is not delivered. Not acceptable: waiting for the reader."""
    process = start("record", cast, "sh", "-c", "echo line; tr '\\0' x </dev/zero")
    wait_for(lambda: is_full(process))
    process.send_signal(number)
    process.wait(20 * SLOWNESS)
    assert process.returncode == 128 + signal.SIGHUP
    assert shown(cast).startswith("line\r\nxxxx")


def test_a_program_that_does_not_mind_is_killed_the_second_time(start: Start, cast: Path) -> None:
    script = "trap '' HUP; echo ready; while :; do sleep 0.1; done"
    process = start("record", cast, "sh", "-c", script)
    assert process.line() == "ready"
    process.terminate()
    wait_for(lambda: "/dev/ptmx" not in files(process.pid))
    process.terminate()
    assert process.end() == (137, "", "")


def test_without_a_reader_the_program_is_hung_up_on(start: Start, cast: Path) -> None:
    process = start("record", cast, "sh", "-c", "echo first; while :; do echo more; done")
    assert process.line() == "first"
    process.stdout.close()
    assert process.wait(20 * SLOWNESS) == 128 + signal.SIGHUP
    assert process.stderr.read() == b""
    assert shown(cast).startswith("first\r\nmore\r\n")


@pytest.mark.parametrize("redirection", [">&-", "0<&- >&- 2>&-"])
def test_a_closed_standard_output_is_not_the_recording(
    start: Start, cast: Path, redirection: str
) -> None:
    """Acceptable: it is shown nowhere. Not acceptable: it is written into the file besides."""
    process = start("record", cast, "sh", "-c", "echo it; exit 3", first=f"exec {redirection}")
    assert process.end() == (3, "", "")
    assert shown(cast) == "it\r\n"


def test_a_full_disk_ends_the_recording_and_not_the_program(start: Start) -> None:
    running = [
        start("record", "/dev/full", "sh", "-c", f"echo one; sleep 0.1; echo two; exit {code}")
        for code in (0, 3)
    ]
    error = "record.py: /dev/full: No space left on device\n"
    expected = [(code, "one\r\ntwo\r\n", error) for code in (1, 3)]
    assert [process.end() for process in running] == expected


def test_a_character_may_come_in_pieces_and_need_not_be_one(start: Start, cast: Path) -> None:
    script = "printf '\\303'; sleep 0.2; printf '\\251\\377\\342\\202'"
    process = start("record", cast, "sh", "-c", script)
    assert read_all(process.stdout.fileno()) == b"\303\251\377\342\202"
    assert process.end() == (0, "", "")
    assert shown(cast) == "\xe9\ufffd\ufffd"


def test_who_stays_on_the_terminal_does_not_keep_it(start: Start, cast: Path) -> None:
    script = "trap '' HUP; sleep 1000 & echo $!; exit 4"
    process = start("record", cast, "sh", "-c", script)
    status, out, _ = process.end()
    os.kill(int(out), signal.SIGKILL)
    assert status == 4
    assert shown(cast) == out


def test_its_starter_may_ignore_the_ends_of_children(start: Start, cast: Path) -> None:
    process = start("record", cast, "sh", "-c", "echo it; exit 3", first=IGNORING)
    assert process.end() == (3, "it\r\n", "")


def test_a_program_that_closes_its_terminal_lives_on(start: Start, cast: Path) -> None:
    """Not acceptable: to take that for the end, or to spin until the end."""
    script = "echo bye; exec <&- >&- 2>&-; sleep 0.5; exit 6"
    process = start("record", cast, "sh", "-c", script)
    pidfd = os.pidfd_open(process.pid)
    wait_for(pidfd)
    os.close(pidfd)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 6
    assert usage.ru_nvcsw < 200, "it has waited, and not looked again and again"
    assert shown(cast) == "bye\r\n"


def is_full(process: Process) -> bool:
    """Tell whether the pipe to which a process writes takes no more."""
    writer = os.open(f"/proc/{process.pid}/fd/1", os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not select.select([], [writer], [], 0)[1]
    finally:
        os.close(writer)


def files(pid: int) -> set[str]:
    """Return what the descriptors of a process refer to."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            found.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return found
