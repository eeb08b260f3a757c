"""Calls that fail under a living monitor: disks, descriptors, memory, at the worst moment.

The program runs with faults put into its own bindings (tests/support/faults.py). Acceptable: what
failed is tried again, or lost and said; the life goes on to its exit record. Not acceptable: a torn
or wrong exit file, no answer, two answers, a monitor that dies or stays for ever.
"""

from __future__ import annotations

import contextlib
import errno as errno_names
import os
import signal
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.life import Life, exit_files, read_if_there, wait_until
from tests.support.witness import Inotify, Witness, kill, messages

DISK = ("ENOSPC", "EDQUOT", "EIO")


def with_faults(life: Life, spec: str) -> Life:
    life.command = faults.command(spec)
    return life


def exit_witness(life: Life) -> tuple[Witness, list[str]]:
    seen = Witness(life, "exit-command")
    return seen, ["--exit-command", str(seen.program(life.directory / "exit-command"))]


def ended_well(life: Life, seen: Witness, status: int = 7) -> None:
    """Check that the life came to its end: both exit files, the exit command, no monitor left."""
    assert life.exit_status() == status
    path = life.persist_dir / "exit"
    assert wait_until(lambda: read_if_there(path), "the other exit file") == b"%d" % status
    seen.wait()
    life.wait_gone()


# Exit files


@pytest.mark.contract("CASE-403", "END-9", "END-11", "END-12", "END-26")
@pytest.mark.parametrize("error", DISK)
@pytest.mark.parametrize("folder", ["exits", "persist"])
@pytest.mark.parametrize("call", ["write", "rename", "open"])
def test_an_exit_file_whose_disk_fails_for_a_while_appears_whole(
    life: Life, call: str, folder: str, error: str
) -> None:
    # `rename` and `open` get a name without a directory: with --sync, which writes no pid file, the
    # first files that are renamed and opened so are the exit files.
    spec = {
        "write": f"write:errno={error}:times=5:file=/{folder}/",
        "rename": f"rename:errno={error}:times=5",
        "open": f"open:errno={error}:times=5:file=.conmon-",
    }[call]
    seen, option = exit_witness(life)
    with Inotify(life.exit_dir) as exits, Inotify(life.persist_dir) as persist:
        with_faults(life, spec).stub("exit 7").start("--sync", *option, wait=False)
        life.pid()
        ended_well(life, seen)
        finals = [
            [kind for kind, name in directory.events() if name == final]
            for directory, final in ((exits, life.cid), (persist, "exit"))
        ]
    assert finals == [[Inotify.MOVED_TO], [Inotify.MOVED_TO]]
    assert os.listdir(life.exit_dir) == [life.cid]
    assert exit_files(life.persist_dir) == ["exit"]


@pytest.mark.contract("CASE-403", "END-9")
@pytest.mark.parametrize("folder", ["exits", "persist"])
def test_a_short_write_never_makes_a_short_exit_file(life: Life, folder: str) -> None:
    # Of 137 one byte is taken at a time: acceptable is 137 or, while that fails, nothing.
    seen, option = exit_witness(life)
    spec = f"write:shorten=1:times=4:file=/{folder}/"
    with_faults(life, spec).stub("exec sleep 60").start(*option)
    kill(life.pid())
    ended_well(life, seen, 137)


@pytest.mark.contract("CASE-403", "END-11", "END-26")
@pytest.mark.parametrize("error", DISK)
def test_of_an_exit_file_that_never_works_the_other_is_there_and_the_life_ends(
    life: Life, error: str
) -> None:
    """Acceptable: one exit file, and the end.

    Not acceptable: none, half a one, a monitor that tries for ever.
    """
    seen, option = exit_witness(life)
    spec = f"write:errno={error}:times=forever:file=/exits/"
    with_faults(life, spec).stub("exit 7").start("--sync", *option, wait=False)
    assert life.launcher is not None
    life.pid()
    path = life.persist_dir / "exit"
    assert wait_until(lambda: read_if_there(path), "the other exit file") == b"7"
    assert life.launcher.wait(30) == 7
    seen.wait()
    assert os.listdir(life.exit_dir) == []


@pytest.mark.contract("CASE-404", "START-15")
@pytest.mark.parametrize("error", DISK)
@pytest.mark.parametrize("call", ["write", "rename"])
def test_a_disk_that_fails_at_the_monitors_pid_file_starts_nothing(
    life: Life, call: str, error: str
) -> None:
    """Acceptable: a launcher that fails.

    Not acceptable: a runtime that was started, half a pid file.
    """
    # Its temporary file is the first to be renamed; it lies in the life's own directory.
    seen = Witness(life)
    spec = f"rename:errno={error}" if call == "rename" else f"write:errno={error}:file=/.conmon-"
    with_faults(life, spec).stub("exit 7", before=seen.shell()).start()
    assert life.launcher is not None
    assert life.launcher.returncode == 1
    assert [message for message in messages(life) if message["data"] != -1] == []
    assert not seen.been()
    assert not life.conmon_pid_file.exists()
    assert [path.name for path in life.directory.iterdir() if ".conmon" in path.name] == []


# Watching processes


@pytest.mark.contract("END-26", "SYNC-11", "RT-20", "END-22")
@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOMEM"])
def test_a_runtime_that_cannot_be_watched_is_a_failed_start(life: Life, error: str) -> None:
    # Acceptable: one answer, the exit command, and no runtime that works on behind it.
    seen, option = exit_witness(life)
    with_faults(life, f"pidfd_open:errno={error}").stub("exec sleep 60").start(*option)
    assert [answer["data"] for answer in messages(life)] == [-1]
    assert list(life.exit_dir.iterdir()) == []
    life.wait_gone()
    assert seen.been()


@pytest.mark.contract("END-26", "SYNC-11", "END-24", "END-22")
@pytest.mark.parametrize("error", ["EMFILE", "ENFILE", "ENOMEM"])
def test_a_container_that_cannot_be_watched_is_one_answer_and_never_status_0(
    life: Life, error: str
) -> None:
    """Acceptable: a failed start, or a life that is recorded all the same.

    Not acceptable: a container that was reported and whose end nobody records.
    """
    seen, option = exit_witness(life)
    with_faults(life, f"pidfd_open:errno={error}:nth=2").stub("exec sleep 60").start(*option)
    first = life.message()
    assert first is not None
    if first["data"] == -1:
        assert life.message() is None
        assert list(life.exit_dir.iterdir()) == []
    else:
        kill(first["data"])
        assert life.exit_status() == 137
    life.wait_gone()
    assert seen.been()


@pytest.mark.contract("SYNC-11", "END-26")
@pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM", "EMFILE"])
def test_a_runtime_that_cannot_be_forked_is_one_answer(life: Life, error: str) -> None:
    with_faults(life, f"spawn:errno={error}").stub("exit 0").start()
    answers = messages(life)
    assert [answer["data"] for answer in answers] == [-1]
    assert os.strerror(getattr(errno_names, error)) in answers[0]["message"]
    assert list(life.exit_dir.iterdir()) == []


@pytest.mark.contract("END-23", "END-26")
@pytest.mark.parametrize("error", ["EAGAIN", "ENOMEM", "EMFILE"])
def test_an_exit_command_that_cannot_be_forked_is_no_obstacle(life: Life, error: str) -> None:
    seen, option = exit_witness(life)
    with_faults(life, f"spawn:errno={error}:nth=2").stub("exit 7").start("--sync", *option)
    assert life.launcher is not None
    assert life.launcher.returncode == 7
    assert life.exit_status() == 7
    assert not seen.been()


@pytest.mark.contract("END-26", "END-21")
@pytest.mark.parametrize("error", ["EMFILE", "ENOMEM"])
def test_an_exit_command_that_cannot_be_watched_does_not_keep_the_monitor_for_ever(
    life: Life, error: str
) -> None:
    _, option = exit_witness(life)
    spec = f"pidfd_open:errno={error}:nth=3"
    with_faults(life, spec).stub("exit 7").start("--sync", *option)
    assert life.launcher is not None
    assert life.launcher.returncode == 7
    assert life.exit_status() == 7


# The log


@pytest.mark.contract("CASE-401", "LOG-30", "LOG-31", "END-26")
@pytest.mark.parametrize("error", DISK)
@pytest.mark.parametrize("nth", [1, 2])
def test_a_log_write_that_fails_tears_nothing_and_ends_nothing(
    life: Life, nth: int, error: str
) -> None:
    seen, option = exit_witness(life)
    with_faults(life, f"write:errno={error}:nth={nth}:times=2:file=ctr.log")
    life.stub("cat; exit 7").start("-i", *option)
    life.pid()
    client = life.attach()
    for number in range(1, 7):  # what a client has got, the log had before
        client.send(b"line %d\n" % number)
        assert client.recv(100) == b"\2line %d\n" % number
    client.close()
    ended_well(life, seen)
    lines = life.text().splitlines()
    assert lines == [line for line in (b"line %d" % n for n in range(1, 7)) if line in lines]


@pytest.mark.contract("CASE-401", "LOG-30")
@pytest.mark.parametrize("size", [1, 10, 60])
def test_short_writes_to_the_log_are_made_up_for(life: Life, size: int) -> None:
    seen, option = exit_witness(life)
    with_faults(life, f"write:shorten={size}:times=forever:file=ctr.log")
    life.stub("echo one; echo two >&2; printf three; exit 7").start(*option)
    life.pid()
    ended_well(life, seen)
    assert life.text("stdout") == b"one\nthree"
    assert life.text("stderr") == b"two\n"


@pytest.mark.contract("CASE-401", "LOG-31", "END-26", "END-13")
@pytest.mark.parametrize("error", DISK)
def test_an_fsync_that_fails_comes_after_the_exit_files_and_ends_nothing(
    life: Life, error: str
) -> None:
    seen, option = exit_witness(life)
    with_faults(life, f"fsync:errno={error}:times=forever").stub("echo x; exit 7").start(*option)
    life.pid()
    ended_well(life, seen)
    assert life.text() == b"x\n"


# Reading and writing elsewhere


@pytest.mark.contract("END-26", "SYNC-11")
@pytest.mark.parametrize("call", ["pipe2", "socket", "bind", "listen", "mkfifo"])
@pytest.mark.parametrize("error", ["EMFILE", "ENOSPC"])
def test_a_set_up_that_fails_for_want_of_something_is_one_answer(
    life: Life, call: str, error: str
) -> None:
    # The first pipe is made before the fork: then it is the launcher that fails, and no answer.
    nth = 2 if call == "pipe2" else 1
    seen = Witness(life)
    with_faults(life, f"{call}:errno={error}:nth={nth}").stub("exit 0", before=seen.shell()).start()
    assert life.launcher is not None
    assert life.launcher.returncode == 0
    answers = messages(life)
    assert [answer["data"] for answer in answers] == [-1]
    assert not seen.been()
    assert not (life.bundle / "attach").exists()
    assert list(life.exit_dir.iterdir()) == []


@pytest.mark.contract("END-26", "END-27")
@pytest.mark.parametrize("error", ["EIO", "EBADF"])
def test_an_output_that_cannot_be_read_ends_the_output_and_not_the_life(
    life: Life, error: str
) -> None:
    # The first pipe that is read is the launcher's, the second tells whether exec worked.
    seen, option = exit_witness(life)
    gate = life.directory / "gate"
    with_faults(life, f"read:errno={error}:file=pipe:times=1:nth=3")
    life.stub(f"echo one; mkfifo {gate}.new; mv {gate}.new {gate}; read x < {gate}; exit 7")
    life.start(*option)
    life.pid()
    wait_until(gate.exists, "the gate")
    gate.write_text("x\n")
    ended_well(life, seen)


@pytest.mark.contract("SYNC-12", "END-26")
@pytest.mark.parametrize("error", ["EPIPE", "ECONNRESET", "EIO", "ENOBUFS"])
def test_a_sync_pipe_that_fails_is_closed_and_the_life_goes_on(life: Life, error: str) -> None:
    seen, option = exit_witness(life)
    with_faults(life, f"send:errno={error}").stub("exit 7").start(*option)
    assert messages(life) == []
    ended_well(life, seen)


@pytest.mark.contract("SYNC-1", "DIAG-6")
def test_a_sync_pipe_that_is_busy_once_gets_the_answer_later(life: Life) -> None:
    seen, option = exit_witness(life)
    with_faults(life, "send:errno=EAGAIN:times=3").stub("exit 7").start(*option)
    assert life.pid() > 0
    ended_well(life, seen)


@pytest.mark.contract("SIG-1", "END-26")
def test_a_signal_that_cannot_be_passed_on_ends_nothing(life: Life) -> None:
    seen, option = exit_witness(life)
    with_faults(life, "pidfd_send_signal:errno=EPERM").stub("exec sleep 60").start(*option)
    life.pid()
    monitor = life.monitor_pid()
    os.kill(monitor, signal.SIGTERM)
    os.kill(monitor, signal.SIGUSR1)
    wait_until(
        lambda: (
            b"\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000"
            in Path(f"/proc/{monitor}/status").read_bytes()
        ),
        "the reading of both",
        5,
    )
    os.kill(monitor, signal.SIGTERM)
    ended_well(life, seen, 143)


@pytest.mark.contract("START-2", "DIAG-1")
def test_a_score_that_may_not_be_changed_is_a_debug_line(life: Life) -> None:
    spec = "write:errno=EACCES:file=oom_score_adj"
    with_faults(life, spec).stub("exit 7").start("--log-level", "debug")
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    lines = life.launcher.stderr.read().splitlines()
    assert [line[:12] for line in lines if b"oom_score_adj" in line] == [b"[conmon:d]: "]
    life.pid()
    assert life.exit_status() == 7


@pytest.mark.contract("END-26", "END-27", "END-3")
@pytest.mark.parametrize("call", ["accept4", "read", "set_winsize"])
def test_an_unexpected_error_in_a_part_leaves_a_trace_and_the_life(life: Life, call: str) -> None:
    """Acceptable: the part is detached, its traceback is in the bundle or the error was expected."""
    seen, option = exit_witness(life)
    spec = {
        "accept4": "accept4:errno=ENOTSUP",
        "read": "read:errno=ENOTSUP:file=/ctl",
        "set_winsize": "set_winsize:errno=ENOTSUP",
    }[call]
    gate = life.directory / "gate"
    with_faults(life, spec)
    life.stub(f"mkfifo {gate}.new; mv {gate}.new {gate}; read x < {gate}; exit 7").start(*option)
    life.pid()
    wait_until(gate.exists, "the gate")
    if call == "accept4":
        client = life.attach()
        with contextlib.suppress(ConnectionResetError):
            assert client.recv(10) == b""
        client.close()
    else:
        life.control(b"1 10 10\n")
    if call != "set_winsize":
        crash = life.bundle / "conmon-crash"
        assert b"OSError" in wait_until(lambda: read_if_there(crash), "the traceback")
    gate.write_text("x\n")
    ended_well(life, seen)


@pytest.mark.contract("END-26", "END-9", "END-24")
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_whatever_fails_in_waiting_for_events_the_exit_is_recorded(life: Life, nth: int) -> None:
    # epoll_ctl fails at one of the last registrations before the container runs, and after.
    spec = f"epoll_ctl:errno=ENOSPC:nth={nth + 7}"
    with_faults(life, spec).stub("exec sleep 60").start()
    first = life.message()
    assert first is not None
    if first["data"] > 0:
        kill(first["data"])
        assert life.exit_status() == 137
    else:
        assert life.message() is None
        assert list(life.exit_dir.iterdir()) == []
    life.wait_gone()
