"""Cases of section 12 that need a stage of their own: every step of start-up, everything odd at once."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import read_all, steps
from tests.support.life import (
    Gate,
    Life,
    assert_idle,
    attach_accepted,
    packets,
    read_if_there,
    wait_until,
)
from tests.support.witness import Witness, gone, kill, messages, odd

BATCH = 6


# Case 8


@pytest.fixture
def stage() -> Iterator[list[Life]]:
    """Keep lives; end them all."""
    lives: list[Life] = []
    try:
        yield lives
    finally:
        clear(lives)


def clear(lives: list[Life]) -> None:
    """End all lives."""
    while lives:
        life = lives.pop()
        life.end()
        # A runtime that was killed leaves a shell behind, which is about to remove its gate.
        wait_until(lambda life=life: remove(life.directory), "the directory's end")


def remove(directory: Path) -> bool:
    """Tell whether a directory could be removed."""
    shutil.rmtree(directory, ignore_errors=True)
    return not directory.exists()


def marker(life: Life) -> Path:
    """Return what is there when the step was reached."""
    return life.directory / "step"


def begin(nth: int, who: str, options: list[str], *, exec_session: bool) -> Life:
    """Start a life that gets SIGTERM at its Nth step."""
    life = Life(Path(tempfile.mkdtemp(prefix="life-", dir="/tmp")))
    life.command = steps.command(signal.SIGTERM, nth, who, str(marker(life)))
    container = "exec sleep 20"  # not long: nobody ends it where its runtime is killed half-way
    if "-t" in options:
        life.terminal_stub(container)
    else:
        life.stub(container)
    return life.start(*options, exec_session=exec_session, wait=False)


def settled(life: Life, monitor: int) -> bool:
    """Tell whether the step was reached, or the monitor waits and has nothing to do."""
    waits = read_if_there(Path(f"/proc/{monitor}/wchan")) or b"gone"
    return marker(life).exists() or b"ep" in waits or waits == b"gone"


def judge(life: Life, *, sync: bool, exec_session: bool, ends: bool) -> None:
    """See a life to its end; *ends*: SIGTERM at the step was for the monitor."""
    assert life.launcher is not None
    answer = life.message()
    answers = [answer["data"]] if answer else []
    if answers and answers[0] > 0:
        monitor = life.launcher.pid if sync else life.monitor_pid()
        wait_until(lambda: settled(life, monitor), "the step, or nothing more to do")
        if not ends or not marker(life).exists():
            kill(monitor, signal.SIGTERM)
    answers += [message["data"] for message in messages(life)]
    status = life.launcher.wait(20)
    recorded = read_if_there(life.exit_dir / life.cid)
    where = read_if_there(marker(life)), answers, status
    if answers and answers[0] > 0:
        assert answers[1:] == ([143] if exec_session else []), where
        assert (recorded, status) == (b"143", 143 if sync else 0), where
    else:
        assert answers in ([], [-1]), where
        assert status == 1 or (answers == [-1] and not sync), where
        assert recorded is None, where
    left = [path.name for path in life.bundle.iterdir() if path.name not in ("ctl", "winsz")]
    assert left == [], where


@pytest.mark.timeout(100)
@pytest.mark.contract("CASE-805", "START-4", "SIG-1", "SYNC-11", "END-9", "TTY-5")
@pytest.mark.parametrize(
    ("who", "options", "exec_session", "stride"),
    [
        ("first", ["--sync"], False, 1),
        ("first", [], False, 1),
        ("forked", [], False, 1),
        ("first", ["--sync", "-t"], False, 3),
        ("forked", ["-i"], True, 3),
    ],
    ids=["sync", "launcher", "monitor", "terminal", "exec"],
)
def test_sigterm_at_every_step_is_an_end_with_status_1_or_goes_to_who_is_there_to_get_it(
    stage: list[Life], who: str, options: list[str], exec_session: bool, stride: int
) -> None:
    """Acceptable: status 1 and no answer, a failed start, or a container that SIGTERM has ended.

    Not acceptable: a signal that is lost once there is something to end, two answers, an answer and
    no record, a record and no answer, a socket that stays, a monitor that lives on. The steps are
    the program's calls, one after the other, until a life ends before it comes to the next one.
    """
    sync, nth, more = "--sync" in options, 1, True
    while more:
        for _ in range(BATCH):
            stage.append(begin(nth, who, options, exec_session=exec_session))
            nth += stride
        for life in stage:
            judge(life, sync=sync, exec_session=exec_session, ends=sync or who == "forked")
        more = all(marker(life).exists() for life in stage)
        clear(stage)
    assert nth > 20  # or it was not the program that was stepped through


@pytest.mark.contract("CASE-806", "END-4", "SYNC-9", "SYNC-7")
@pytest.mark.parametrize("terminal", [[], ["-t"]], ids=["pipes", "terminal"])
def test_a_timeout_and_an_exit_that_are_met_in_one_turn_are_an_exit(
    life: Life, gate: Gate, terminal: list[str]
) -> None:
    """Acceptable: 7, which is how it ended. Not acceptable: -1, a signal to whoever has the pid now,
    two messages.
    """
    # The monitor is stopped while both happen, so that it finds both when it goes on.
    script = f"read x < {gate.path}; exit 7"
    (life.terminal_stub if terminal else life.stub)(script)
    life.start("-T", "1", *terminal, exec_session=True)
    begun = time.monotonic()
    pid, monitor = life.pid(), life.monitor_pid()
    os.kill(monitor, signal.SIGSTOP)
    try:
        gate.open()
        wait_until(lambda: gone(pid), "the exit")
        wait_until(lambda: time.monotonic() - begun > 1.1, "the timeout")
    finally:
        os.kill(monitor, signal.SIGCONT)
    assert messages(life) == [{"data": 7}]
    assert life.exit_status() == 7


# Case 9


# What Python would take for its own modules; each tells that it was asked for.
POISON = "open({told!r}, 'a').write(__name__ + chr(10)); raise SystemExit('poison')"
MODULES = ["os", "errno", "time", "posixpath", "site", "sitecustomize", "usercustomize", "codecs"]
MODULES += ["_cffi_backend", "signal", "lowconmon/__init__", "encodings/__init__"]


def poisoned(life: Life) -> tuple[Path, Path]:
    """Make a directory of modules that nobody may import; return it and where they would tell."""
    home, told = life.directory / "poison", life.directory / "told"
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    for folder in (home, home / "lib" / version):
        for name in MODULES:
            path = folder / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(POISON.format(told=str(told)))
    return home, told


def long_path(directory: Path, length: int) -> Path:
    """Return a path of so many bytes below *directory*, whose parents exist."""
    while length - len(os.fsencode(directory)) > 120:
        directory /= "d" * 100
    directory.mkdir(parents=True, exist_ok=True)
    return directory / ("p" * (length - len(os.fsencode(directory)) - 1))


@pytest.mark.contract(
    *("CASE-901", "CASE-902", "CASE-903", "CASE-904", "CASE-905", "CASE-906", "CASE-907"),
    *("CASE-908", "ENV-7", "ENV-8", "TTY-11", "TTY-3"),
)
@pytest.mark.parametrize("length", [107, 108, 300])
@pytest.mark.parametrize("exec_session", [False, True], ids=["create", "exec"])
@pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
def test_everything_that_may_be_odd_about_the_surroundings_at_once(  # noqa: PLR0915 - everything
    life: Life, length: int, exec_session: bool, terminal: bool
) -> None:
    """Acceptable: a life as any. Not acceptable: anything else, and a byte of the environment less.

    Poisoned modules and a home without any, locales that do not exist, descriptors 0-2 closed, 32 of
    them, no TMPDIR, HOME or PATH, long paths, a FIFO for a log, and the cwd removed under the life.
    """
    home, told = poisoned(life)
    for name in ("bundle", "exit_dir", "persist_dir", "pid_file", "conmon_pid_file", "log"):
        setattr(life, name, long_path(life.directory / f"the-{name}", length))
    for path in (life.bundle, life.exit_dir, life.persist_dir):
        path.mkdir()
    os.mkfifo(life.log)
    log = os.open(life.log, os.O_RDONLY | os.O_NONBLOCK)
    cwd = life.directory / "cwd"
    cwd.mkdir()
    block = [b"PYTHONPATH=%b" % os.fsencode(home), b"PYTHONHOME=%b" % os.fsencode(home)]
    block += [b"PYTHONSTARTUP=%b" % os.fsencode(home / "os.py"), b"LC_ALL=nonsense.XYZ-8"]
    block += [b"LANG=\xff\xfe", b"LANGUAGE=??", b"XDG_RUNTIME_DIR=relative"]
    script = "read word; echo said $word; echo err >&2; exit 9"
    seen = Witness(life)
    if terminal:
        life.terminal_stub(script)
        life.runtime.rename(life.directory / "terminal")
        life.script(f'#!/bin/sh\n{seen.shell()}exec {life.directory}/terminal "$@"\n')
    else:
        life.stub(script, before=seen.shell())
    ran = life.directory / "ran"
    options = ["-t"] if terminal else ["-i"]
    options += ["--exit-command", "/bin/touch", "--exit-command-arg", str(ran)]
    life.command = odd(block=block, closed=(0, 1, 2), files=32)
    life.start(*options, exec_session=exec_session, cwd=cwd)
    try:
        assert life.launcher is not None
        assert life.launcher.returncode == 0
        life.pid()
        cwd.rmdir()
        clients = [attach_accepted(life) for _ in range(3)]
        life.control(b"1 30 90\n")
        life.control(b"2 0 0\n")
        clients[0].send(b"word\n")
        out = [packets(client)[0] for client in clients]
        assert life.exit_status() == 9
        assert life.message() == ({"data": 9} if exec_session else None)
        wait_until(ran.exists, "the exit command")
        life.wait_gone()
        logged = read_all(log)
    finally:
        os.close(log)
    assert all(
        text.replace(b"\r", b"").endswith(b"said word\n" + b"err\n" * terminal) for text in out
    )
    # A terminal hands out a line and its end apart where the read comes between.
    assert b" stdout F said word" in logged or (terminal and b" stdout P said word\n" in logged)
    assert b" F err" in logged
    assert (life.persist_dir / "exit").read_bytes() == b"9"
    assert [entry for entry in seen.environment() if not entry.startswith(b"_OCI_")] == block
    assert sorted(seen.fds()) == [0, 1, 2]
    assert not told.exists()
    assert sorted(path.name for path in life.bundle.iterdir()) == ["ctl", "winsz"]


@pytest.mark.contract("CASE-904", "ATT-24", "END-8", "END-9", "REOPEN-1")
@pytest.mark.parametrize("files", [24, 32])
def test_where_clients_have_taken_every_descriptor_control_and_the_end_go_on(
    life: Life, files: int
) -> None:
    """Acceptable: clients that wait to be accepted. Not acceptable: no exit file, for want of a
    descriptor, or one that waits for a client to go; a spin.
    """
    gate = life.directory / "gate"
    life.command = odd(files=files)
    life.stub(f"mkfifo {gate}.new; mv {gate}.new {gate}; read x < {gate}; exit 7")
    ran = life.directory / "ran"
    life.start("--exit-command", "/bin/touch", "--exit-command-arg", str(ran))
    life.pid()
    wait_until(gate.exists, "the container")
    monitor = life.monitor_pid()
    for _ in range(files + 20):
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        life.clients.append(client)
        client.setblocking(False)
        wait_until(
            lambda client=client: (
                client.connect_ex(str(life.bundle / "attach")) == 0 or full(monitor, files)
            ),
            "a connection, or no more room",
        )
        if full(monitor, files):
            break
    assert_idle(monitor)
    old = life.log.rename(life.directory / "old.log")
    life.control(b"2 0 0\n")
    gate.write_text("go\n")
    begun = time.monotonic()
    assert life.exit_status() == 7
    assert time.monotonic() - begun < 4
    assert (life.persist_dir / "exit").read_bytes() == b"7"
    assert old.exists()
    wait_until(ran.exists, "the exit command")
    life.wait_gone()


def full(pid: int, files: int) -> bool:
    """Tell whether a process has as many descriptors as it may."""
    return len(os.listdir(f"/proc/{pid}/fd")) >= files
