"""Passthrough: the container has the manager's own stdin, stdout and stderr, and nobody is between.

Acceptable: the very same open files, as they were given. Not acceptable: a copy of what passes, a
changed flag or mode, or a monitor that holds an end open and keeps a reader from seeing the end.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import read_all, read_line
from tests.support.journald import FakeJournald, connect
from tests.support.life import DEADLINE, Gate, Life, assert_idle, wait_until
from tests.support.witness import Witness, gone, kill, messages, odd, parent

KINDS = ["pipe", "file", "append", "terminal", "socket", "null"]
DAEMON_OR_SYNC = pytest.mark.parametrize("more", [[], ["--sync"]], ids=["daemon", "sync"])
SAY = "echo out; echo err >&2"


class Given:
    """What the monitor gets as stdin, stdout and stderr: `fds` are those, `far` our other ends."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.fds: list[int] = []
        self.far: list[int] = []
        self._terminal: tuple[int, int] | None = None

    def add(self, kind: str) -> None:
        """Make the next one; a file's far end is at its beginning, all of a terminal are one."""
        number = len(self.fds)
        if kind == "pipe":
            far, near = os.pipe() if number else os.pipe()[::-1]
        elif kind == "socket":
            far, near = (one.detach() for one in socket.socketpair())
        elif kind == "terminal":
            self._terminal = self._terminal or os.openpty()
            far, near = map(os.dup, self._terminal)
        elif kind == "null":
            far, near = (os.open("/dev/null", os.O_RDWR) for _ in range(2))
        else:
            path = self.directory / f"file{number}"
            path.write_bytes(b"" if number else b"input\n")
            path.chmod(0o604)
            near = os.open(path, os.O_RDWR | (os.O_APPEND if kind == "append" else 0))
            far = os.open(path, os.O_RDONLY)
        self.fds.append(near)
        self.far.append(far)

    def as_stdio(self) -> dict[str, Any]:
        """Return what `Life.start` wants."""
        return dict(zip(("stdin", "stdout", "stderr"), self.fds, strict=True))

    def let_go(self) -> None:
        """Close what the monitor got: the readers wait for the others alone."""
        for fd in (*self.fds, *(self._terminal or ())[1:]):
            os.close(fd)
        self.fds = []
        self._terminal = self._terminal and (self._terminal[0], os.dup(self._terminal[0]))

    def close(self) -> None:
        for fd in (*self.fds, *self.far, *(self._terminal or ())):
            os.close(fd)


@pytest.fixture
def given(life: Life) -> Iterator[Given]:
    one = Given(life.directory)
    yield one
    one.close()


@pytest.fixture
def gate(life: Life) -> Iterator[Gate]:
    one = Gate(life.directory / "go")
    yield one
    one.close()


def arguments(life: Life, *extra: str, exec_session: bool = False) -> list[str]:
    """Return the usual arguments, with passthrough in the place of the log file, *extra* last."""
    usual = life.arguments(exec_session=exec_session)
    usual[usual.index("-l") + 1] = "passthrough"
    return [*usual, *extra]


def start(
    life: Life, given: Given | None, *extra: str, exec_session: bool = False, **how: Any
) -> Life:
    """Start with what is *given*, three pipes otherwise."""
    if given and not given.fds:
        for _ in range(3):
            given.add("pipe")
    stdio = given.as_stdio() if given else {}
    raw = arguments(life, *extra, exec_session=exec_session)
    return life.start(raw=raw, **{"stdin": subprocess.DEVNULL, **stdio, **how})


def held_at(gate: Gate) -> str:
    """Return what a shell does to tell that it is there and wait at *gate*, its stdio untouched."""
    return f"touch {gate.path}.here; (read x <{gate.path})"


def pid_at(gate: Gate, life: Life) -> int:
    """Return the pid of a container that waits at *gate* by now."""
    pid = life.pid()
    wait_until(Path(f"{gate.path}.here").exists, "the container at the gate")
    return pid


def is_the_same(pid: int, number: int, ours: int) -> bool:
    """Tell whether a process's descriptor and ours are one open file: they share their flags."""

    def theirs() -> int:
        lines = Path(f"/proc/{pid}/fdinfo/{number}").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("flags:")).split()[1], 8)

    before = theirs()
    flags = fcntl.fcntl(ours, fcntl.F_GETFL)
    fcntl.fcntl(ours, fcntl.F_SETFL, flags ^ os.O_APPEND)
    changed = theirs()
    fcntl.fcntl(ours, fcntl.F_SETFL, flags)
    return changed == before ^ os.O_APPEND


def finish(life: Life, status: int) -> None:
    assert life.exit_status() == status
    assert (life.persist_dir / "exit").read_text() == str(status)
    life.wait_gone()


# The very same


@pytest.mark.contract("PASS-1", "PASS-5", "RT-10", "LOG-3")
@DAEMON_OR_SYNC
@pytest.mark.parametrize("blocking", [True, False], ids=["blocking", "nonblocking"])
@pytest.mark.parametrize(
    "kinds",
    [
        *((kind,) * 3 for kind in KINDS),
        ("null", "file", "pipe"),
        ("terminal", "pipe", "append"),
        ("pipe", "terminal", "terminal"),
        ("socket", "null", "terminal"),
    ],
    ids=" ".join,
)
def test_the_container_has_our_open_files_as_they_were(
    life: Life, given: Given, gate: Gate, kinds: list[str], blocking: bool, more: list[str]
) -> None:
    for kind in kinds:
        given.add(kind)
    for fd in given.fds:
        os.set_blocking(fd, blocking)
    flags = [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in given.fds]
    modes = [os.fstat(fd).st_mode for fd in given.fds]
    life.stub(f"{held_at(gate)}; exit 7")
    start(life, given, *more, wait=False)
    pid = pid_at(gate, life)
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)]
    assert links == [os.readlink(f"/proc/self/fd/{fd}") for fd in given.fds]
    assert all(is_the_same(pid, number, fd) for number, fd in enumerate(given.fds))
    gate.open()
    finish(life, 7)
    assert [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in given.fds] == flags
    assert [os.fstat(fd).st_mode for fd in given.fds] == modes


@pytest.mark.contract("PASS-1", "PASS-5")
@pytest.mark.parametrize("more", [[], ["-i"], ["-i", "--leave-stdin-open"]], ids=" ".join)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "null"])
def test_input_reaches_the_container_and_its_output_us(
    life: Life, given: Given, kind: str, more: list[str]
) -> None:
    for _ in range(3):
        given.add(kind)
    life.stub(f"read x; echo got $x; {SAY}; exit 3")
    start(life, given, *more)
    life.pid()
    if kind in ("pipe", "socket", "terminal"):
        os.write(given.far[0], b"input\n")
    finish(life, 3)
    if kind == "terminal":
        assert [read_line(given.far[1]) for _ in range(4)] == [
            *(b"input\r\n", b"got input\r\n", b"out\r\n", b"err\r\n")  # the first one is the echo
        ]
    else:
        given.let_go()
        assert read_all(given.far[1]) == b"got input\nout\n"
        assert read_all(given.far[2]) == b"err\n"


@pytest.mark.contract("PASS-1")
def test_one_file_for_all_is_written_in_order_and_input_ends_where_the_managers_does(
    life: Life, given: Given
) -> None:
    given.add("pipe")
    given.add("append")
    given.fds.append(os.dup(given.fds[1]))
    os.write(given.far[0], b"a\nb\n")
    os.close(given.far.pop(0))
    life.stub("while read x; do echo $x; echo e$x >&2; done; echo end; exit 1")
    start(life, given, "-i")
    life.pid()
    finish(life, 1)
    assert read_all(given.far[0]) == b"a\nea\nb\neb\nend\n"


@pytest.mark.contract("PASS-5")
def test_a_monitor_started_on_a_terminal_gives_the_container_that_terminal(
    life: Life, given: Given, gate: Gate
) -> None:
    # As from a login shell: it leads the session that the terminal controls, and lives on.
    for _ in range(3):
        given.add("terminal")
    shell = ["setsid", "--ctty", "sh", "-c", f'"$@"; read x <{gate.path}', "sh"]
    life.command = [*shell, *life.command]
    life.stub("test -t 0 && test -t 1 && test -t 2 && echo all; read x; echo got $x; exit 7")
    start(life, given, wait=False)
    life.pid()
    assert read_line(given.far[1]) == b"all\r\n"
    os.write(given.far[0], b"text\n")
    assert [read_line(given.far[1]) for _ in range(2)] == [b"text\r\n", b"got text\r\n"]
    assert life.exit_status() == 7
    gate.open()  # the shell holds the sync pipe too
    finish(life, 7)


@pytest.mark.contract("PASS-5", "CASE-903")
@DAEMON_OR_SYNC
@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)])
def test_what_was_closed_is_null_and_the_others_are_passed(
    life: Life, given: Given, gate: Gate, closed: tuple[int, ...], more: list[str]
) -> None:
    life.command = odd(closed=closed)
    life.stub(f"read x; echo out $x; echo err >&2; {held_at(gate)}; exit 7")
    start(life, given, *more, wait=False)
    if 0 not in closed:
        os.write(given.far[0], b"input\n")
    pid = pid_at(gate, life)
    links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)]
    own = [os.readlink(f"/proc/self/fd/{fd}") for fd in given.fds]
    assert links == ["/dev/null" if number in closed else own[number] for number in range(3)]
    gate.open()
    finish(life, 7)
    given.let_go()
    text = b"out\n" if 0 in closed else b"out input\n"
    assert read_all(given.far[1]) == (b"" if 1 in closed else text)
    assert read_all(given.far[2]) == (b"" if 2 in closed else b"err\n")


@pytest.mark.contract("PASS-1", "ENV-11", "ENV-3")
def test_the_runtime_gets_the_three_what_the_manager_preserved_and_nothing_else(
    life: Life, given: Given
) -> None:
    seen = Witness(life)
    reading, writing = os.pipe()
    life.stub("exit 0", before=seen.shell())
    start(life, given, pass_fds=(reading, writing))
    targets = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in (reading, writing)}
    targets.update((number, os.readlink(f"/proc/self/fd/{given.fds[number]}")) for number in (1, 2))
    os.close(reading)
    os.close(writing)
    life.pid()
    found = seen.wait().fds()
    assert found.pop(0) == os.readlink(f"/proc/self/fd/{given.fds[0]}")
    assert found == targets
    finish(life, 0)


# Nobody is between


def hung_up(writer: int) -> bool:
    """Tell whether nobody has the reading end of a pipe."""
    poll = select.poll()
    poll.register(writer, 0)
    return poll.poll(0) == [(writer, select.POLLERR)]


@pytest.mark.contract("PASS-1", "START-11", "END-18")
@DAEMON_OR_SYNC
def test_the_monitor_holds_none_of_them_and_a_reader_sees_the_end_with_the_container(
    life: Life, given: Given, gate: Gate, more: list[str]
) -> None:
    # The exit command keeps the monitor for long after the container has ended.
    after = Gate(life.directory / "after")
    command = life.directory / "exit-command"
    command.write_text(f"#!/bin/sh\nread x <{after.path}\n")
    command.chmod(0o755)
    life.stub(f"{SAY}; {held_at(gate)}; exit 7")
    start(life, given, *more, "--exit-command", str(command), wait=False)
    monitor = parent(pid_at(gate, life))
    ends = {os.readlink(f"/proc/self/fd/{fd}") for fd in (*given.fds, *given.far)}
    held = {path.name: os.readlink(path) for path in Path(f"/proc/{monitor}/fd").iterdir()}
    assert [held[name] for name in "012"] == ["/dev/null"] * 3
    assert not ends & set(held.values())
    given.let_go()
    gate.open()
    assert read_all(given.far[1]) == b"out\n"
    assert read_all(given.far[2]) == b"err\n"
    wait_until(lambda: hung_up(given.far[0]), "the end of stdin's reader")
    assert not gone(monitor)
    assert life.exit_status() == 7
    after.open()
    wait_until(lambda: gone(monitor), "the monitor's end")
    after.close()


@pytest.mark.contract("PASS-1", "END-20")
def test_a_delayed_exit_command_does_not_delay_the_readers(life: Life, given: Given) -> None:
    life.stub(f"{SAY}; exit 2")
    start(life, given, "--exit-command", "/bin/true", "--exit-delay", "60")
    given.let_go()
    assert [read_all(fd) for fd in given.far[1:]] == [b"out\n", b"err\n"]
    assert life.exit_status() == 2
    assert not gone(life.monitor_pid())


@pytest.mark.contract("PASS-1")
def test_a_reader_that_waits_holds_the_container_alone(life: Life, given: Given) -> None:
    life.stub("head -c 1000000 /dev/zero; exit 4")
    start(life, given)
    pid, monitor = life.pid(), life.monitor_pid()
    given.let_go()
    assert_idle(pid)
    assert_idle(monitor)
    assert not gone(pid)
    assert len(read_all(given.far[1])) == 1_000_000
    finish(life, 4)


@pytest.mark.contract("PASS-1", "SIG-2")
def test_a_reader_that_goes_away_ends_a_container_that_writes_on_and_nothing_else(
    life: Life, given: Given
) -> None:
    life.stub("exec yes")
    start(life, given)
    life.pid()
    given.let_go()
    os.close(given.far.pop(1))
    finish(life, 128 + signal.SIGPIPE)


@pytest.mark.contract("PASS-1", "END-2")
def test_a_grandchild_that_holds_the_output_keeps_neither_exit_file_nor_monitor(
    life: Life, given: Given, gate: Gate
) -> None:
    life.stub(f"(read x <{gate.path}; echo late) & echo early; exit 5")
    begin = time.monotonic()
    start(life, given)
    life.pid()
    finish(life, 5)
    assert time.monotonic() - begin < DEADLINE
    given.let_go()
    assert read_line(given.far[1]) == b"early\n"
    gate.open()
    assert read_all(given.far[1]) == b"late\n"


# What is not there


@pytest.mark.contract("PASS-2", "PASS-3", "PASS-4", "ATT-3")
@pytest.mark.parametrize(
    "more", [[], ["-i"], ["--log-size-max", "10", "--log-rotate"], ["--log-tag", "t"]], ids=" ".join
)
def test_there_is_no_socket_no_fifo_and_no_log(
    life: Life, given: Given, gate: Gate, more: list[str]
) -> None:
    sockets = life.directory / "sockets"
    sockets.mkdir()
    life.stub(f"{SAY}; {held_at(gate)}")
    raw = [*arguments(life, *more), "--socket-dir-path", str(sockets)]
    raw.remove("--full-attach")
    for _ in range(3):
        given.add("pipe")
    before = {gate.path.name + ".here"} | {path.name for path in life.directory.iterdir()}
    life.start(raw=raw, **given.as_stdio())
    life.pid()
    given.let_go()
    assert read_line(given.far[1]) == b"out\n"
    assert set(os.listdir(life.bundle)) <= {"status"}  # ours
    assert list(sockets.iterdir()) == []
    gate.open()
    finish(life, 0)
    assert list(life.bundle.iterdir()) == []
    made = {path.name for path in life.directory.iterdir()} - before
    assert made == {"pidfile", "conmon.pid"}


@pytest.mark.contract("PASS-4", "LOG-7")
@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
@pytest.mark.parametrize("last", [True, False])
def test_a_file_that_was_asked_for_as_well_is_made_and_stays_empty(
    life: Life, given: Given, driver: str, last: bool
) -> None:
    life.stub(f"{SAY}; exit 7")
    for _ in range(3):
        given.add("pipe")
    specs = ["passthrough", f"{driver}:{life.log}"][:: 1 if last else -1]
    usual = arguments(life)
    at = usual.index("-l")
    words = [word for spec in specs for word in ("-l", spec)]
    life.start(raw=[*usual[:at], *words, *usual[at + 2 :]], **given.as_stdio())
    life.pid()
    finish(life, 7)
    assert life.log.read_bytes() == b""
    given.let_go()
    assert [read_all(fd) for fd in given.far[1:]] == [b"out\n", b"err\n"]


@pytest.mark.contract("PASS-4", "PASS-1")
def test_a_journal_that_was_asked_for_as_well_gets_nothing(life: Life, given: Given) -> None:
    life.stub(f"{SAY}; exit 7")
    with FakeJournald(life.directory / "journal") as journal:
        journal.start()
        connect(life, journal.path)
        start(life, given, "-l", "journald", "--log-label", "A=b")
        life.pid()
        finish(life, 7)
        assert journal.read() == []
    given.let_go()
    assert [read_all(fd) for fd in given.far[1:]] == [b"out\n", b"err\n"]


@pytest.mark.contract("PASS-4", "LOG-13")
def test_a_file_that_cannot_be_made_is_refused_as_ever(life: Life, given: Given) -> None:
    life.stub("exit 7")
    start(life, given, "-l", f"k8s-file:{life.directory}/none/log")
    given.let_go()
    said = b"[conmon:e]: Failed to open log file No such file or directory\n"
    assert read_all(given.far[2]) == said
    assert messages(life) == []


@pytest.mark.contract("PASS-6")
@pytest.mark.parametrize("stdin", [[], ["-i"]], ids=["t", "ti"])
def test_with_a_terminal_the_container_has_that_and_nobody_sees_its_output(
    life: Life, given: Given, stdin: list[str]
) -> None:
    # Acceptable: it is read and thrown away, so that the container never waits.
    life.terminal_stub("test -t 0 && test -t 1 && head -c 1000000 /dev/zero && exit 7")
    start(life, given, "-t", *stdin)
    life.pid()
    given.let_go()
    finish(life, 7)
    assert [read_all(fd) for fd in given.far[1:]] == [b"", b""]
    assert list(life.bundle.iterdir()) == []


@pytest.mark.contract("PASS-6", "RT-10")
def test_with_a_terminal_the_runtime_still_speaks_to_us(life: Life, given: Given) -> None:
    # Its own end of the pipes goes with it, though the container lives.
    life.terminal_stub("exec sleep 60", after='os.write(1, b"words")\nos.write(2, b"more")')
    start(life, given, "-t")
    pid = life.pid()
    given.let_go()
    assert [read_all(fd) for fd in given.far[1:]] == [b"words", b"more"]
    assert [os.readlink(f"/proc/{pid}/fd/{fd}")[:9] for fd in range(3)] == ["/dev/pts/"] * 3
    kill(pid)
    finish(life, 137)


# Starts that fail


@pytest.mark.contract("RT-11", "RT-10", "RT-19", "SYNC-11", "START-17", "END-22")
@DAEMON_OR_SYNC
@pytest.mark.parametrize("terminal", [[], ["-t"]], ids=["", "t"])
def test_a_runtime_that_fails_speaks_to_our_stderr_and_the_answer_has_no_text(
    life: Life, given: Given, terminal: list[str], more: list[str]
) -> None:
    done = life.directory / "done"
    life.script("#!/bin/sh\necho no such image >&2; echo on stdout; exit 125\n")
    command = ["--exit-command", "/usr/bin/touch", "--exit-command-arg", str(done)]
    start(life, given, *more, *terminal, *command)
    assert messages(life) == [{"data": -1}]
    given.let_go()
    assert [read_all(fd) for fd in given.far[1:]] == [b"on stdout\n", b"no such image\n"]
    wait_until(done.exists, "the exit command")
    assert not (life.exit_dir / life.cid).exists()
    assert life.launcher is not None
    assert life.launcher.returncode == (1 if more else 0)


@pytest.mark.contract("RT-20", "RT-18", "SYNC-11", "RT-11")
@pytest.mark.parametrize(
    ("script", "part"),
    [("#!/bin/sh\necho fine >&2\n", "pidfile"), ("#!/no/such/shell\n", "execute runtime")],
    ids=["no pid file", "cannot be executed"],
)
def test_a_start_that_fails_otherwise_has_one_answer_that_says_why(
    life: Life, given: Given, script: str, part: str
) -> None:
    life.script(script)
    start(life, given)
    (answer,) = messages(life)
    assert answer["data"] == -1
    assert part in answer["message"]
    given.let_go()
    assert read_all(given.far[2]) in (b"", b"fine\n")


# Everything else is as always


@pytest.mark.contract("PASS-1", "END-3", "END-9", "CLI-32", "END-16")
@DAEMON_OR_SYNC
def test_status_exit_files_and_exit_command_are_as_always(
    life: Life, given: Given, more: list[str]
) -> None:
    seen = Witness(life, "exit-command")
    program = seen.program(life.directory / "exit-command")
    life.stub(f"{SAY}; exit 42")
    start(life, given, *more, "--exit-command", str(program))
    life.pid()
    finish(life, 42)
    assert seen.wait().fds() == {0: "/dev/null", 1: "/dev/null", 2: "/dev/null"}
    assert life.launcher is not None
    assert life.launcher.returncode == (42 if more else 0)


@pytest.mark.contract("PASS-1", "END-5", "CLI-56")
def test_a_timeout_is_as_always(life: Life, given: Given) -> None:
    life.stub(f"{SAY}; exec sleep 60")
    start(life, given, "--timeout", "1")
    life.pid()
    finish(life, -1)
    given.let_go()
    assert [read_all(fd) for fd in given.far[1:]] == [b"out\n", b"err\n"]


@pytest.mark.contract("PASS-1", "SIG-1")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_signals_are_as_always(life: Life, given: Given, number: signal.Signals) -> None:
    script = life.directory / "container.py"
    script.write_text(
        "import os, signal\n"
        f"signal.signal({number:d}, lambda *_: os.write(1, b'caught\\n') and os._exit(9))\n"
        "os.write(1, b'ready\\n')\n"
        "while True:\n"
        "    signal.pause()\n"
    )
    life.stub(f"exec {sys.executable} -IS {script}")
    start(life, given)
    life.pid()
    given.let_go()
    assert read_line(given.far[1]) == b"ready\n"
    os.kill(life.monitor_pid(), number)
    assert read_line(given.far[1]) == b"caught\n"
    finish(life, 9)


@pytest.mark.contract("PASS-1", "SYNC-7", "SYNC-8", "RT-3")
@pytest.mark.parametrize("api", [True, False], ids=["api 1", "legacy"])
def test_an_exec_session_has_them_too(life: Life, given: Given, api: bool) -> None:
    life.stub(f"read x; echo got $x; {SAY}; exit 3")
    for _ in range(3):
        given.add("pipe")
    raw = arguments(life, exec_session=True)
    if not api:
        at = raw.index("--api-version")
        del raw[at : at + 2]
    life.start(raw=raw, **given.as_stdio())
    os.write(given.far[0], b"input\n")
    given.let_go()
    assert read_all(given.far[1]) == b"got input\nout\n"
    assert read_all(given.far[2]) == b"err\n"
    answers = messages(life)
    if api:
        assert answers.pop(0)["data"] > 0
    assert answers == [{"data" if api else "exit_code": 3}]
    finish(life, 3)


@pytest.mark.contract("PASS-1", "PASS-2", "SYNC-16", "RT-17")
def test_an_exec_with_attach_waits_twice_and_tells_nobody_to_attach(
    life: Life, given: Given
) -> None:
    second = life.directory / "second"
    life.stub(f"{SAY}; exit 4", before=f"[ -e {second} ] || exit 42")
    pipes = {"start_pipe": True, "attach_pipe": True, "wait": False}
    start(life, given, "--exec-attach", exec_session=True, **pipes)
    os.write(life.start_pipe, b"1")
    assert life.message(life.attach_pipe) is None
    assert set(os.listdir(life.bundle)) <= {"status"}  # ours
    second.touch()
    os.write(life.start_pipe, b"2")
    life.pid()
    assert life.message() == {"data": 4}
    given.let_go()
    assert [read_all(fd) for fd in given.far[1:]] == [b"out\n", b"err\n"]
    finish(life, 4)


@pytest.mark.contract("PASS-1", "START-5")
def test_nothing_is_read_from_stdin_by_anybody_but_the_container(life: Life, given: Given) -> None:
    # What is there before the monitor starts is still there when the container does.
    for _ in range(3):
        given.add("pipe")
    os.write(given.far[0], b"early\n")
    life.stub("read x; echo $x; read x; echo $x")
    start(life, given, "-i", start_pipe=True, wait=False)
    os.write(life.start_pipe, b"go")
    life.pid()
    os.write(given.far[0], b"late\n")
    given.let_go()
    assert read_all(given.far[1]) == b"early\nlate\n"
    finish(life, 0)
