"""The monitor and its runtime as nobody: create, log, attach, terminal, exec, exit files, rotation.

What is shown of root's lives elsewhere is shown of a user's here, by the same tests where they are
said for any life, with hostrun where a runtime counts. Whoever runs the tests as a user is nobody
enough. A machine that gives users namespaces shows podman's list as well: tests/podman.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.life.test_hostrun_lives import Container
from tests.support import ROOT
from tests.support.life import (
    DEADLINE,
    Gate,
    Life,
    attach_accepted,
    packets,
    program,
    read_if_there,
    wait_until,
)
from tests.support.witness import Witness, gone, kill, messages

NOBODY = 65534
AS_NOBODY: dict[str, Any] = (
    {} if os.geteuid() else {"user": NOBODY, "group": NOBODY, "extra_groups": []}
)

LIST = {
    "test_hostrun_lives": """
        test_a_container_is_created_started_logged_and_recorded
        test_a_client_attaches_between_create_and_start_as_podman_run_does
        test_a_container_with_a_terminal
        test_a_container_that_a_signal_ends_has_128_and_its_number
        test_what_the_runtime_says_of_a_failed_create_is_reported
        test_the_exit_command_runs_when_the_container_has_ended
        test_an_exec_session_reports_its_pid_and_its_status
        test_an_attached_exec_session_goes_as_podman_exec_does
        test_an_exec_session_that_never_starts_has_one_negative_answer
        test_an_exec_session_that_runs_out_of_time_says_so
    """,
    "test_start": """
        test_the_start_pipe_is_read_before_anything_is_forked_or_started
        test_a_bad_log_is_told_before_the_start_pipe_is_read
        test_the_pid_file_names_the_child_and_appears_whole
        test_the_monitor_leads_a_session_and_has_null_for_stdio
        test_orphans_of_the_container_become_the_monitors_and_are_reaped
        test_the_messages_of_a_life
        test_exec_attach_waits_twice_and_tells_in_between_that_one_may_attach
        test_a_bundle_path_of_any_length_serves
        test_a_log_that_is_a_fifo_nobody_reads_holds_up_the_container_alone
    """,
    "test_log": """
        test_a_new_log_has_mode_0640_whatever_the_umask
        test_an_older_log_is_appended_to_and_keeps_its_mode
        test_each_line_is_a_record_of_its_stream
        test_every_byte_is_kept
        test_what_was_written_just_before_the_end_is_there
    """,
    "test_reopen": """
        test_after_a_rename_a_fresh_file_appears
        test_an_empty_log_is_kept_too
        test_a_second_message_after_a_rename_changes_nothing
        test_a_flood_of_messages_does_not_stop_the_output
    """,
    "test_attach": """
        test_the_socket_is_in_the_bundle_and_ours_alone
        test_without_full_attach_a_link_in_the_socket_directory_leads_to_it
        test_packets_are_a_type_and_at_most_8192_bytes
        test_stdin_ends_when_the_client
        test_with_a_terminal_later_clients_can_still_type
        test_a_slow_client_that_goes_away_sets_the_container_free
    """,
    "test_terminal": """
        test_a_terminal_is_received_and_what_the_container_prints_is_logged
        test_a_size_that_comes_before_the_terminal_is_kept_for_it
        test_a_terminal_that_nobody_has_open_just_now_is_not_at_its_end
        test_an_exec_with_a_terminal_reports_pid_and_status
        test_a_timeout_ends_a_container_with_a_terminal
    """,
    "test_end": """
        test_the_exit_code_is_recorded
        test_an_execs_status_is_reported_and_recorded
        test_an_exit_file_appears_by_rename_and_nothing_else_looks_like_an_id
        test_the_order_is_exit_files_sync_pipe_sockets_exit_command
        test_log_sync_pipe_and_sockets_are_closed_before_the_exit_delay
        test_a_timeout_kills_the_group_and_is_recorded_as_minus_1
        test_the_timeout_of_an_exec_is_reported
        test_what_the_container_said_is_logged_though_a_grandchild_holds_the_output
    """,
    "test_signals": """
        test_ending_signals_go_on_to_the_container
        test_harmless_signals_reach_nobody
        test_an_exec_with_sync_is_stopped_by_sigint
        test_ending_signals_go_on_to_the_runtime_while_it_creates
    """,
}
for _module, _names in LIST.items():
    _tests = importlib.import_module(f"tests.life.{_module}")
    globals().update({name: getattr(_tests, name) for name in _names.split()})


class UserLife(Life):
    """A life whose processes are nobody's, in a directory that is nobody's."""

    def start(self, *arguments: Any, **named: Any) -> Life:
        """Start the monitor as nobody, to whom all that is here now is given."""
        give(self.directory)
        return super().start(*arguments, **AS_NOBODY, **named)


class UserContainer(Container):
    """A container whose runtime is nobody's too."""

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.life.runtime), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
            **AS_NOBODY,
        )


def give(directory: Path) -> None:
    """Make a directory and what is in it nobody's."""
    if AS_NOBODY:
        for path, directories, files in os.walk(directory):
            for name in ("", *directories, *files):
                os.chown(os.path.join(path, name), NOBODY, NOBODY, follow_symlinks=False)


@pytest.fixture(scope="module", autouse=True)
def within_reach() -> Iterator[None]:
    """Install the program where nobody can run it, if what there is lies out of his reach."""
    commands = [[*program(), "--version"], [sys.executable, "-c", f"open('{ROOT}/pyproject.toml')"]]
    through_shell = ["sh", "-c", 'exec "$@"', "sh"]  # which fails where an exec of ours would raise
    done = [
        subprocess.run([*through_shell, *one], capture_output=True, timeout=60, **AS_NOBODY)
        for one in commands
    ]
    if [one.returncode for one in done] == [0, 0]:
        yield
        return
    with (
        tempfile.TemporaryDirectory(prefix="lc-prefix-", dir="/tmp") as directory,
        pytest.MonkeyPatch.context() as patch,
    ):
        Path(directory).chmod(0o755)
        install = [str(ROOT / "ci" / "install"), f"{directory}/usr"]
        subprocess.run(
            install, stdin=subprocess.DEVNULL, capture_output=True, check=True, timeout=200
        )
        patch.setenv("LOWCONMON_PROGRAM", f"{directory}/usr/libexec/podman/conmon")
        patch.setenv("LOWCONMON_HOSTRUN", f"{directory}/usr/libexec/lowconmon/hostrun")
        patch.setattr(sys, "executable", "/usr/bin/python3")
        yield


@pytest.fixture
def life() -> Iterator[Life]:
    """Yield a life of nobody's."""
    directory = Path(tempfile.mkdtemp(prefix="life-", dir="/tmp"))
    one = UserLife(directory)
    # What was root's in the environment is no good for a user.
    one.environment |= {"HOME": str(directory), "TMPDIR": str(directory)}
    one.environment.pop("XDG_RUNTIME_DIR", None)
    try:
        yield one
        if AS_NOBODY and one.conmon_pid_file.exists():  # else a test would show root's life again
            assert one.conmon_pid_file.stat().st_uid == NOBODY
    finally:
        one.end()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def container(life: Life) -> Iterator[Container]:
    """Make a container; delete it."""
    one = UserContainer(life)
    yield one
    one.run("delete", "--force", life.cid)


@pytest.fixture
def session(life: Life, container: Container) -> Iterator[Life]:
    """Run a container that waits, and give the life of an exec session in it."""
    container.configure("exec tail -f /dev/null", terminal=False)
    life.start()
    life.pid()
    container.start()
    directory = life.directory / "session"
    directory.mkdir()
    one = UserLife(directory, life.cid)
    one.runtime = life.runtime
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
def socket_dir(life: Life) -> Path:
    """Make a directory for links to attach sockets."""
    directory = life.directory / "sockets"
    directory.mkdir()
    return directory


def roots(directory: Path) -> Path:
    """Return a directory that nobody may neither enter nor write."""
    directory.mkdir(exist_ok=True)
    if AS_NOBODY:
        os.chown(directory, 0, 0)
    directory.chmod(0o700 if AS_NOBODY else 0)
    return directory


# Who one is


@pytest.mark.contract("START-2", "RT-13", "END-19", "DIAG-1")
@pytest.mark.parametrize("level", ["warning", "debug"])
def test_a_score_that_may_not_be_lowered_stays_and_is_only_a_debug_line(
    life: Life, level: str
) -> None:
    """Acceptable: a monitor, a runtime and an exit command with the score that was given.

    Not acceptable: a word of it to the manager who has not asked for any, or a start that fails.
    """
    seen = Witness(life, "exit-command")
    command = seen.program(life.directory / "exit-command")
    score = Path("/proc/self/oom_score_adj").read_text()
    if AS_NOBODY:  # root's own score may be lower than any that a user is given
        life.command = ["sh", "-c", 'echo 300 > /proc/self/oom_score_adj; exec "$@"', "sh"]
        life.command += program()
        score = "300\n"
    life.stub("exec sleep 60").start("--log-level", level, "--exit-command", str(command))
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    said = life.launcher.stderr.read().decode()
    assert life.launcher.returncode == 0
    line = "[conmon:d]: failed to write to /proc/self/oom_score_adj Permission denied\n"
    assert (line in said) == (level == "debug"), said
    assert level == "debug" or said == ""
    pid = life.pid()
    for one in (pid, life.monitor_pid()):
        assert Path(f"/proc/{one}/oom_score_adj").read_text() == score
    kill(pid)
    assert life.exit_status() == 137
    assert seen.wait().line("oom_score_adj") == score.strip()


@pytest.mark.contract("START-7", "LOG-29", "END-9", "ATT-1", "CTL-2")
def test_all_that_the_monitor_makes_is_the_users(life: Life, gate: Gate) -> None:
    life.stub(f"echo said; read x < {gate.path}; exit 3").start("-i")
    life.pid()
    user = NOBODY if AS_NOBODY else os.geteuid()
    made = [life.bundle / name for name in ("attach", "ctl", "winsz")]
    made += [life.conmon_pid_file, life.log]
    modes = [path.lstat().st_mode & 0o777 for path in made]
    assert modes == [0o700, 0o660, 0o660, 0o644, 0o640]
    gate.open()
    assert life.exit_status() == 3
    wait_until((life.persist_dir / "exit").exists, "the other one")
    made = [*made[1:], life.exit_dir / life.cid, life.persist_dir / "exit"]
    assert {path.lstat().st_uid for path in made} == {user}


# What one may not


@pytest.mark.contract("LOG-13", "START-9")
@pytest.mark.parametrize("what", ["a directory", "a file"])
def test_a_log_that_is_out_of_reach_fails_the_launcher(life: Life, what: str) -> None:
    directory = life.directory / "roots"
    life.log = directory / "ctr.log"
    life.stub("exit 0")
    directory.mkdir()
    if what == "a file":
        life.log.touch()
    give(life.directory)
    if what == "a file":
        life.log.chmod(0)
    else:
        roots(directory)
    Life.start(life, **AS_NOBODY)
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    assert life.launcher.returncode == 1
    text = b"[conmon:e]: Failed to open log file Permission denied\n"
    assert life.launcher.stderr.read() == text
    assert messages(life) == []
    directory.chmod(0o700)


@pytest.mark.contract("END-11", "END-12", "END-8")
@pytest.mark.parametrize("which", ["exit_dir", "persist_dir"])
def test_an_exit_directory_that_may_not_be_written_costs_that_file_alone(
    life: Life, which: str
) -> None:
    """Acceptable: the other file at once, this one when it may be written.

    Not acceptable: an end that waits for ever, a temporary file that stays.
    """
    life.stub("exit 7")
    give(life.directory)
    directory: Path = roots(getattr(life, which))
    Life.start(life, **AS_NOBODY)
    life.pid()
    files = {"exit_dir": life.exit_dir / life.cid, "persist_dir": life.persist_dir / "exit"}
    late = files.pop(which)
    (other,) = files.values()
    assert wait_until(lambda: read_if_there(other), "the other") == b"7"
    directory.chmod(0o700)
    give(directory)
    wait_until(late.exists, "the late one")
    life.wait_gone()
    assert late.read_bytes() == b"7"
    beside = {"exit_dir": [], "persist_dir": ["exit.json"]}
    assert sorted(os.listdir(directory)) == [late.name, *beside[which]]


@pytest.mark.contract("START-15")
def test_a_pid_file_that_may_not_be_written_starts_no_runtime(life: Life) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell())
    give(life.directory)
    life.conmon_pid_file = roots(life.directory / "roots") / "pid"
    Life.start(life, **AS_NOBODY)
    life.conmon_pid_file = life.directory / "none"
    assert life.launcher is not None
    assert life.launcher.returncode == 1
    assert [answer for answer in messages(life) if answer["data"] != -1] == []
    assert not seen.been()
    (life.directory / "roots").chmod(0o700)


@pytest.mark.contract("START-16", "START-17", "SYNC-11")
def test_a_bundle_that_may_not_be_written_is_a_failed_start(life: Life) -> None:
    life.stub("exit 0")
    give(life.directory)
    life.bundle.chmod(0o555)
    if AS_NOBODY:
        os.chown(life.bundle, 0, 0)
    Life.start(life, **AS_NOBODY)
    (answer,) = messages(life)
    assert answer["data"] == -1
    assert "Permission denied" in answer["message"]
    assert list(life.exit_dir.iterdir()) == []
    life.bundle.chmod(0o755)


# Where a console socket lies


@pytest.mark.contract("TTY-3", "TTY-5", "TTY-11", "CASE-905")
@pytest.mark.parametrize("given", ["XDG_RUNTIME_DIR", "TMPDIR", "out of reach", "neither"])
def test_a_console_socket_for_which_the_bundle_is_too_long_lies_where_a_user_may_write(
    life: Life, given: str
) -> None:
    """Acceptable: the first of XDG_RUNTIME_DIR, /run, TMPDIR and /tmp that takes it. Not acceptable: a
    failed start because one of them does not, a directory that is left behind.
    """
    places = {name: life.directory / name.lower() for name in ("XDG_RUNTIME_DIR", "TMPDIR")}
    for name in places:
        life.environment.pop(name, None)
    if given in places:
        life.environment[given] = str(places[given])
        places[given].mkdir()
    life.bundle = life.directory / "b" / ("b" * 200)
    life.bundle.mkdir(parents=True)
    seen = Witness(life)
    life.terminal_stub("echo said; exit 6")
    life.runtime.rename(life.directory / "terminal")
    life.script(f'#!/bin/sh\n{seen.shell()}exec {life.directory}/terminal "$@"\n')
    give(life.directory)
    if given == "out of reach":
        for name, place in places.items():
            life.environment[name] = str(roots(place))
    Life.start(life, "-t", **AS_NOBODY)
    life.pid()
    assert life.exit_status() == 6
    life.wait_gone()
    words = seen.wait().arguments()
    console = Path(os.fsdecode(words[words.index(b"--console-socket") + 1]))
    expected = places.get(given, Path("/tmp"))
    if AS_NOBODY or not os.access("/run", os.W_OK):
        assert console.parent.parent == expected
    assert not console.parent.exists()
    assert b"said" in life.text()
    for place in places.values():
        if place.exists():
            place.chmod(0o700)


# Rotation


def hurry(monitor: int) -> bool:
    """Let the monitor's helper, which works when nobody else does, work now; always true."""
    for pid in Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.sched_setscheduler(int(pid), os.SCHED_OTHER, os.sched_param(0))
    return True


def names(logs: Path) -> list[str]:
    """Return the names of the backups."""
    return sorted(path.name for path in logs.iterdir() if path.name != "ctr.log")


@pytest.mark.contract("ROT-6", "ROT-9", "ROT-18", "GZ-1")
@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gz"])
def test_a_users_log_is_rotated_and_compressed_as_roots(
    life: Life, logs: Path, compressed: bool
) -> None:
    if compressed:
        life.environment["LOWCONMON_LOG_COMPRESS"] = "1"
    life.stub("while read x; do echo $x; done; exit 5")
    options = ["--log-rotate", "--log-max-files", "2", "--log-size-max", "400"]
    life.start("-i", *options, "--log-allowlist-dir", str(logs))
    life.pid()
    client = attach_accepted(life)
    for number in range(60):
        client.send(b"%d\n" % number)
        assert client.recv(100) == b"\2%d\n" % number
    if compressed:
        gz = ["ctr.log.1.gz", "ctr.log.2.gz"]
        wait_until(lambda: hurry(life.monitor_pid()) and names(logs) == gz, "the compression")
    client.shutdown(socket.SHUT_WR)
    assert packets(client) == (b"", b"")
    assert life.exit_status() == 5
    life.wait_gone()
    ending = ".gz" if compressed else ""
    assert names(logs) == [f"ctr.log.1{ending}", f"ctr.log.2{ending}"]
    assert life.records()[-1] == ("stdout", "F", b"59")


@pytest.mark.contract("END-5", "SIG-1")
def test_a_container_of_several_processes_is_killed_by_a_user_too(life: Life) -> None:
    life.stub("exec setsid sh -c 'sleep 60 & echo $! > second; wait'")
    life.start("-T", "1", cwd=life.directory)
    life.pid()
    second = int(wait_until(lambda: read_if_there(life.directory / "second"), "the second"))
    assert life.exit_status() == -1
    wait_until(lambda: gone(second), "its end")
