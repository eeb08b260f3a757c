"""What the runtime and the exit command are given: environment, signals, descriptors, score, cwd.

Acceptable: nothing of the monitor's own is seen. Not acceptable: a byte of the environment changed,
a signal that the manager blocked and the runtime does not, a descriptor more or less.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.support import signals_in, status_of
from tests.support.life import Life, wait_until
from tests.support.witness import Witness, gone, isolated, kill, messages, number_in, odd

ODD_BLOCK = [
    b"TWICE=1",
    b"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    b"TWICE=2",
    b"no equals sign",
    b"BAD=\xff\xfe\x80\xc3",
    b"=starts with one",
    b"\xe9",
    b"",
    b"EMPTY=",
    b"NEWLINE=a\nb",
    b"LONG=" + b"x" * 60_000,
    b"TWICE=1",
]
# Whether an oom_score_adj below the old one may be asked for: CAP_SYS_RESOURCE, number 24.
MAY_LOWER = bool(int(status_of("self")["CapEff"], 16) >> 24 & 1)
PIPES = (b"_OCI_SYNCPIPE=", b"_OCI_STARTPIPE=", b"_OCI_ATTACHPIPE=")


def without_pipes(block: list[bytes]) -> list[bytes]:
    return [entry for entry in block if not entry.startswith(PIPES)]


def exit_witness(life: Life, end: str = "") -> tuple[Witness, list[str]]:
    """Return a witness that is the exit command, and the option for it."""
    seen = Witness(life, "exit-command")
    return seen, ["--exit-command", str(seen.program(life.directory / "exit-command", end))]


# The environment block


@pytest.mark.contract("RT-14", "ENV-8", "ENV-9", "END-15")
def test_the_block_reaches_runtime_and_exit_command_byte_for_byte(life: Life) -> None:
    seen = Witness(life)
    after, option = exit_witness(life)
    life.command = odd(block=ODD_BLOCK)
    life.stub("exit 3", before=seen.shell()).start(*option)
    life.pid()
    assert life.exit_status() == 3
    assert without_pipes(seen.wait().environment()) == ODD_BLOCK
    assert without_pipes(after.wait().environment()) == ODD_BLOCK


@pytest.mark.contract("ENV-9", "ENV-10")
def test_an_empty_environment_stays_empty(life: Life) -> None:
    # Without LANG, CPython would run in the C locale and add LC_CTYPE; without PATH and HOME
    # nothing may be looked up there.
    seen = Witness(life)
    life.command = odd(block=[])
    life.stub("exit 4", before=seen.shell()).start()
    life.pid()
    assert life.exit_status() == 4
    assert without_pipes(seen.wait().environment()) == []


@pytest.mark.contract("ENV-7", "ENV-8", "CASE-901", "CASE-902", "CASE-905")
@pytest.mark.parametrize(
    "block",
    [
        [b"PYTHONPATH=/nonexistent", b"PYTHONHOME=/nonexistent"],
        [b"PYTHONSTARTUP=/nonexistent", b"PYTHONMALLOC=debug", b"PYTHONTRACEMALLOC=5"],
        [b"PYTHONVERBOSE=3", b"PYTHONDEVMODE=1", b"PYTHONFAULTHANDLER=1"],
        [b"LC_ALL=nonsense.XYZ", b"LANG=\xff", b"LANGUAGE=??"],
        [b"LC_ALL=C"],
        [b"TMPDIR=/nonexistent", b"HOME=/nonexistent", b"XDG_RUNTIME_DIR=/nonexistent"],
        [b"LOWCONMON_ATTACH_STALL_TIMEOUT=soon"],
    ],
    ids=["pythonhome", "pythonstartup", "pythonverbose", "locale", "c-locale", "tmpdir", "own"],
)
def test_variables_meant_for_others_change_nothing(life: Life, block: list[bytes]) -> None:
    """Acceptable: a life as always, and a runtime that sees these variables as they are.

    Not acceptable: a monitor that does not start, says anything, or hands on less or more.
    """
    seen = Witness(life)
    life.command = odd(block=block)
    life.stub("echo said; exit 5", before=seen.shell()).start()
    assert life.launcher is not None
    assert life.launcher.returncode == 0
    assert life.launcher.stdout is not None
    assert life.launcher.stdout.read() == b""
    life.pid()
    assert life.exit_status() == 5
    life.wait_gone()
    assert life.text() == b"said\n"
    assert without_pipes(seen.wait().environment()) == block


@pytest.mark.contract("ENV-6")
def test_the_variables_of_socket_activation_are_passed_on(life: Life) -> None:
    seen = Witness(life)
    block = [b"LISTEN_FDS=2", b"LISTEN_PID=4711", b"LISTEN_FDNAMES=a:b"]
    life.command = odd(block=block)
    life.stub("exit 0", before=seen.shell()).start()
    life.pid()
    assert without_pipes(seen.wait().environment()) == block
    assert life.exit_status() == 0


# LISTEN_PID


def runtime_pid(seen: Witness) -> bytes:
    return seen.status()["Pid"].encode()


@pytest.mark.contract("RT-14", "RT-15")
def test_listen_pid_of_the_launched_process_becomes_the_runtimes_with_sync(life: Life) -> None:
    seen = Witness(life)
    life.command = odd(block=[b"A=1", b"LISTEN_PID=@PID@", b"LISTEN_FDS=1", b"Z=1"])
    life.stub("exit 0", before=seen.shell()).start("--sync")
    life.pid()
    block = without_pipes(seen.wait().environment())
    assert block == [b"A=1", b"LISTEN_PID=" + runtime_pid(seen), b"LISTEN_FDS=1", b"Z=1"]


@pytest.mark.contract("RT-15")
def test_listen_pid_of_the_launcher_is_not_the_monitors(life: Life) -> None:
    seen = Witness(life)
    life.command = odd(block=[b"LISTEN_PID=@PID@"])
    life.stub("exit 0", before=seen.shell()).start()
    assert life.launcher is not None
    life.pid()
    block = without_pipes(seen.wait().environment())
    assert block == [b"LISTEN_PID=%d" % life.launcher.pid]
    assert life.exit_status() == 0


@pytest.mark.contract("RT-15", "CLI-49")
@pytest.mark.parametrize("value", [b"1", b"4711", b"2147483647"])
@pytest.mark.parametrize("more", [[], ["--sync"]], ids=["daemon", "sync"])
def test_any_listen_pid_is_replaced_where_that_is_asked_for(
    life: Life, value: bytes, more: list[str]
) -> None:
    seen = Witness(life)
    life.command = odd(block=[b"X=", b"LISTEN_PID=" + value])
    life.stub("exit 0", before=seen.shell()).start("--replace-listen-pid", *more)
    life.pid()
    assert without_pipes(seen.wait().environment()) == [b"X=", b"LISTEN_PID=" + runtime_pid(seen)]
    assert life.exit_status() == 0


@pytest.mark.contract("RT-15", "ENV-9")
def test_no_listen_pid_is_made_up(life: Life) -> None:
    seen = Witness(life)
    life.command = odd(block=[b"LISTEN_PIDX=1", b"XLISTEN_PID=1"])
    life.stub("exit 0", before=seen.shell()).start("--replace-listen-pid")
    life.pid()
    assert without_pipes(seen.wait().environment()) == [b"LISTEN_PIDX=1", b"XLISTEN_PID=1"]
    assert life.exit_status() == 0


@pytest.mark.contract("RT-16", "SYNC-11", "START-16", "START-17")
@pytest.mark.parametrize("value", [b"", b"0", b"-1", b"abc", b"99999999999", b"\xff"])
@pytest.mark.parametrize("option", [[], ["--replace-listen-pid"]], ids=["plain", "replace"])
def test_an_invalid_listen_pid_fails_the_start(life: Life, value: bytes, option: list[str]) -> None:
    seen = Witness(life)
    life.command = odd(block=[b"LISTEN_PID=" + value])
    life.stub("exit 0", before=seen.shell()).start(*option)
    assert life.launcher is not None
    assert life.launcher.returncode == 0
    answers = messages(life)
    assert [answer["data"] for answer in answers] == [-1]
    assert "LISTEN_PID" in answers[0]["message"]
    assert not seen.been()
    assert not (life.exit_dir / life.cid).exists()


# Signals

ODD_BLOCKED = (signal.SIGUSR2, signal.SIGALRM, signal.SIGRTMIN + 3)
ODD_IGNORED = (signal.SIGUSR1, signal.SIGTSTP, signal.SIGVTALRM)
OURS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)


@pytest.mark.contract("RT-6", "END-17")
@pytest.mark.parametrize(
    ("blocked", "ignored"),
    [
        ((), ()),
        (ODD_BLOCKED, ODD_IGNORED),
        ((*OURS, signal.SIGCHLD, signal.SIGPIPE), ()),
        ((), OURS),
        (OURS, OURS),
    ],
    ids=["none", "others", "ours-blocked", "ours-ignored", "ours-both"],
)
def test_mask_and_dispositions_are_those_the_monitor_was_started_with(
    life: Life, blocked: tuple[int, ...], ignored: tuple[int, ...]
) -> None:
    seen = Witness(life)
    after, option = exit_witness(life)
    life.command = odd(blocked=blocked, ignored=ignored)
    life.stub("exit 6", before=seen.shell())
    seen.signals_first(life.runtime)
    after.signals_first(Path(option[1]))
    life.start(*option)
    life.pid()
    assert life.exit_status() == 6
    pythons_own = {signal.SIGPIPE, signal.SIGXFSZ}
    for who in (seen.wait(), after.wait()):
        assert who.signals("SigBlk") == set(blocked), who.directory
        assert who.signals("SigIgn") - pythons_own == set(ignored), who.directory


@pytest.mark.contract("RT-6", "START-3")
def test_sigpipe_and_sigxfsz_are_default_for_the_runtime_whatever_was_given(life: Life) -> None:
    seen = Witness(life)
    after, option = exit_witness(life)
    ignored = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR2)
    life.command = odd(ignored=ignored)
    life.stub("exec sleep 60", before=seen.shell()).start(*option)
    kill(life.pid())
    assert life.exit_status() == 137
    for who in (seen.wait(), after.wait()):
        assert signals_in(who.status()["SigIgn"]) == {signal.SIGUSR2}, who.directory


@pytest.mark.contract("RT-6", "SIG-5")
def test_a_life_goes_its_way_where_sigchld_was_ignored(life: Life) -> None:
    # An ignored SIGCHLD would reap the container behind the monitor's back: its status were lost.
    seen = Witness(life)
    after, option = exit_witness(life)
    life.command = odd(ignored=(signal.SIGCHLD,))
    life.stub("exec sleep 60", before=seen.shell())
    seen.signals_first(life.runtime)
    after.signals_first(Path(option[1]))
    life.start(*option)
    kill(life.pid(), signal.SIGTERM)
    assert life.exit_status() == 143
    for who in (seen.wait(), after.wait()):
        assert signal.SIGCHLD in who.signals("SigIgn"), who.directory


@pytest.mark.contract("RT-5")
def test_the_runtime_dies_with_its_monitor(life: Life) -> None:
    started = life.directory / "started"
    life.script(f"#!/bin/sh\necho $$ > {started}\nexec sleep 60\n").start()
    pid = number_in(started)
    kill(life.monitor_pid())
    wait_until(lambda: gone(pid), "the runtime's end")


# Descriptors


@pytest.mark.contract("ENV-11", "ENV-3", "RT-7", "END-18", "END-16")
def test_preserved_descriptors_reach_the_runtime_and_nothing_else_does(life: Life) -> None:
    seen = Witness(life)
    after, option = exit_witness(life)
    reading, writing = os.pipe()
    file = os.open(life.directory, os.O_RDONLY)
    life.stub("exit 0", before=seen.shell())
    life.start(*option, pass_fds=(reading, writing, file))
    expected = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in (reading, writing, file)}
    for fd in (reading, writing, file):
        os.close(fd)
    life.pid()
    assert life.exit_status() == 0
    fds = seen.wait().fds()
    assert {fd: target for fd, target in fds.items() if fd > 2} == expected
    null = {0: "/dev/null", 1: "/dev/null", 2: "/dev/null"}
    assert after.wait().fds() == null


@pytest.mark.contract("ENV-3", "ENV-11", "ENV-1")
def test_the_three_pipes_are_not_for_the_runtime(life: Life) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell()).start(
        "--exec-attach", exec_session=True, start_pipe=True, attach_pipe=True, wait=False
    )
    assert life.launcher is not None
    os.write(life.start_pipe, b"go")
    assert life.launcher.wait(20) == 0
    assert life.message(life.attach_pipe) == {"data": 0}
    os.write(life.start_pipe, b"go")
    life.pid()
    assert sorted(seen.wait().fds()) == [0, 1, 2]
    assert life.exit_status() == 0


@pytest.mark.contract("RT-7", "RT-8", "RT-9", "RT-12")
@pytest.mark.parametrize("stdin", [False, True])
def test_stdio_is_pipes_that_anyone_may_reopen_and_no_stdin_is_null(
    life: Life, stdin: bool
) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell()).start(*(["-i"] if stdin else []))
    life.pid()
    kinds = [line.rsplit(" ", 1)[0] for line in seen.wait().stdio()]
    null_mode = oct(os.stat("/dev/null").st_mode & 0o777)[2:]
    assert kinds[1:] == ["fifo 777", "fifo 777"]
    assert kinds[0] == ("fifo 777" if stdin else f"character special file {null_mode}")
    assert seen.fds()[1] != seen.fds()[2]
    if not stdin:
        assert seen.fds()[0] == "/dev/null"
    assert life.exit_status() == 0


@pytest.mark.contract("RT-8", "RT-9", "RT-12")
@pytest.mark.parametrize("stdin", [[], ["-i"]], ids=["t", "ti"])
def test_with_a_terminal_only_stderr_is_a_pipe(life: Life, stdin: list[str]) -> None:
    seen = Witness(life)
    life.script(f"#!/bin/sh\n{seen.shell()}\necho no terminal >&2\nexit 9\n").start("-t", *stdin)
    assert messages(life) == [{"data": -1, "message": "no terminal\n"}]
    fds = seen.wait().fds()
    assert (fds[0], fds[1]) == ("/dev/null", "/dev/null")
    assert seen.stdio()[2].startswith("fifo 777 ")


@pytest.mark.contract("CASE-903")
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
@pytest.mark.parametrize("more", [[], ["--sync"]], ids=["daemon", "sync"])
def test_closed_standard_descriptors_do_not_become_others(
    life: Life, closed: tuple[int, ...], more: list[str]
) -> None:
    """Acceptable: /dev/null in their place.

    Not acceptable: a pipe, a log or a socket as descriptor 0, 1 or 2, of the monitor, the
    runtime or the exit command.
    """
    seen = Witness(life)
    after, option = exit_witness(life)
    life.command = odd(closed=closed)
    life.stub("echo out; echo err >&2; exit 2", before=seen.shell()).start(*option, *more)
    life.pid()
    assert life.exit_status() == 2
    life.wait_gone()
    assert (life.text("stdout"), life.text("stderr")) == (b"out\n", b"err\n")
    fds = seen.wait().fds()
    assert sorted(fds) == [0, 1, 2]
    assert fds[0] == "/dev/null"
    assert sorted(after.wait().fds()) == [0, 1, 2]


@pytest.mark.contract("CASE-904")
def test_thirty_two_descriptors_are_enough(life: Life) -> None:
    """Acceptable: a life as always. Not acceptable: one that has no descriptor left for its end."""
    life.command = odd(files=32)
    life.stub("cat; exit 7").start("-i")
    life.pid()
    client = life.attach()
    client.send(b"hello\n")
    client.shutdown(1)
    assert client.recv(100) == b"\2hello\n"
    client.close()
    assert life.exit_status() == 7


@pytest.mark.contract("RT-13", "START-2", "END-19")
@pytest.mark.parametrize("score", ["17", "1000", *(["-5"] if MAY_LOWER else [])])
def test_runtime_and_exit_command_have_the_old_score_and_the_monitor_its_own(
    life: Life, score: str
) -> None:
    seen = Witness(life)
    after, option = exit_witness(life)
    life.command = odd(oom_score_adj=score)
    life.stub("exec sleep 60", before=seen.shell()).start(*option)
    pid = life.pid()
    own = Path(f"/proc/{life.monitor_pid()}/oom_score_adj").read_text().strip()
    assert own == ("-1000" if MAY_LOWER else score)
    assert Path(f"/proc/{pid}/oom_score_adj").read_text().strip() == score
    kill(pid)
    assert seen.wait().line("oom_score_adj") == score
    assert after.wait().line("oom_score_adj") == score


# cwd and umask


@pytest.mark.contract("END-15", "START-1")
def test_runtime_and_exit_command_run_in_the_monitors_cwd(life: Life) -> None:
    seen = Witness(life)
    after, option = exit_witness(life)
    cwd = life.directory / "b\u00e9 here"
    cwd.mkdir()
    life.command = isolated()
    life.stub("exit 0", before=seen.shell()).start(*option, cwd=cwd, umask=0)
    life.pid()
    assert life.exit_status() == 0
    for who in (seen.wait(), after.wait()):
        assert who.line("cwd") == str(cwd)
        assert who.status()["Umask"] == "0022"


@pytest.mark.contract("CASE-906")
def test_a_cwd_that_is_deleted_under_a_life_does_not_end_it(life: Life) -> None:
    """Acceptable: an end as always, exit command included.

    Not acceptable: a path that is looked up anew.
    """
    after, option = exit_witness(life)
    cwd = life.directory / "cwd"
    cwd.mkdir()
    life.command = isolated()
    life.stub("exec sleep 60").start(*option, cwd=cwd)
    pid = life.pid()
    cwd.rmdir()
    kill(pid)
    assert life.exit_status() == 137
    assert after.wait().line("cwd").startswith(str(cwd))


@pytest.mark.contract("CASE-906", "CLI-73")
def test_a_cwd_that_is_gone_already_is_told(life: Life) -> None:
    life.command = odd(remove_cwd=True)
    life.stub("exit 0").start(cwd=life.directory)
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    assert life.launcher.returncode == 1
    text = b"[conmon:e]: Failed to get working directory No such file or directory\n"
    assert life.launcher.stderr.read() == text
    assert messages(life) == []


@pytest.mark.contract("END-19")
def test_subreaper_is_off_when_the_exit_command_runs(life: Life) -> None:
    # The exit command leaves an orphan: with a subreaper it were the monitor's child.
    orphan = life.directory / "orphan"
    program = life.directory / "exit-command"
    program.write_text(
        f"#!/bin/sh\n(sh -c 'echo $$ > {orphan}.new; mv {orphan}.new {orphan}; exec sleep 60' &)\n"
        f"while [ ! -e {orphan} ]; do :; done\necho $PPID > {orphan}.monitor\n"
        f"mkfifo {orphan}.gate; read x < {orphan}.gate\n"
    )
    program.chmod(0o755)
    life.stub("exit 0").start("--exit-command", str(program))
    life.pid()
    pid = number_in(orphan)
    try:
        monitor = number_in(Path(f"{orphan}.monitor"))
        text = Path(f"/proc/{pid}/status").read_text()
        assert int(text.partition("PPid:")[2].split()[0]) != monitor
    finally:
        kill(pid)
        wait_until(Path(f"{orphan}.gate").exists, "the gate")
        Path(f"{orphan}.gate").write_text("x\n")


def test_the_odd_prefix_itself_adds_nothing(tmp_path: Path) -> None:
    # The tool of these tests, tested: what it starts has exactly the block it was given.
    command = odd(block=[b"A=1", b"A=2", b"\xff"], command=["/bin/cat", "/proc/self/environ"])
    import subprocess

    done = subprocess.run(command, capture_output=True, check=True, cwd=tmp_path)
    assert done.stdout == b"A=1\0A=2\0\xff\0"
    assert sys.executable in command
