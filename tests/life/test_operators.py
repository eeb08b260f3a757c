"""`lowconmon status` and `lowconmon attach`, the latter on real terminals and on pipes."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from lowconmon_tools import operators
from tests.support import SLOWNESS, wait_for
from tests.support.life import (
    DEADLINE,
    IN_TREE,
    Gate,
    Life,
    assert_idle,
    attach_accepted,
    wait_until,
)
from tests.support.operators import ask, command, connect, run

SHELL = 'stty -echo; echo ready; while read -r line; do echo "<$line>"; done; exit 9'


@pytest.fixture(autouse=True)
def own_id(life: Life) -> None:
    """Give the life an id that no other monitor of this machine has."""
    life.cid = os.urandom(8).hex()


@pytest.fixture
def other() -> Iterator[Life]:
    """Give a second life."""
    directory = Path(tempfile.mkdtemp(prefix="life-", dir="/tmp"))
    one = Life(directory, os.urandom(8).hex())
    try:
        yield one
    finally:
        one.end()
        shutil.rmtree(directory)


# status


@pytest.mark.contract("STAT-9")
def test_a_container_is_found_by_bundle_by_id_and_by_its_beginning(life: Life) -> None:
    life.stub("exec sleep 100").start("-n", "web").pid()
    shown = [run("status", what) for what in (str(life.bundle), life.cid, life.cid[:5])]
    assert {done.returncode for done in shown} == {0}
    for done in shown:
        lines = dict(line.split(None, 1) for line in done.stdout.splitlines())
        assert (lines["cid"], lines["name"], lines["state"]) == (life.cid, "web", "running")
        assert lines["monitor_pid"] == str(life.monitor_pid())
        assert lines["log.stdout.records"] == "0"
    facts = json.loads(run("status", "--json", life.cid).stdout)
    assert (facts["version"], facts["cid"]) == (1, life.cid)
    relative = run("status", "./bundle", cwd=life.directory)
    assert (relative.returncode, relative.stderr) == (0, "")


@pytest.mark.contract("STAT-9", "ATC-1")
@pytest.mark.parametrize("program", ["status", "attach"])
def test_who_does_not_run_is_an_error(life: Life, program: str) -> None:
    done = run(program, "no-such-id")
    text = f"lowconmon {program}: no-such-id: no such container runs\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", text)
    for bundle in (life.bundle, life.directory / "nowhere"):
        done = run(program, bundle)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"lowconmon {program}: {bundle}/status: No such file")
        assert done.stderr.count("\n") == 1


@pytest.mark.contract("STAT-9")
def test_an_id_that_several_have_must_be_longer_unless_it_is_one(life: Life, other: Life) -> None:
    other.cid = life.cid[:8]
    for one in (life, other):
        one.stub("exec sleep 100").start().pid()
    done = run("status", life.cid[:7])
    text = f"lowconmon status: {life.cid[:7]}: several have an id like that\n"
    assert (done.returncode, done.stderr) == (1, text)
    assert json.loads(run("status", "--json", other.cid).stdout)["cid"] == other.cid
    assert json.loads(run("status", "--json", life.cid[:9]).stdout)["cid"] == life.cid


@pytest.mark.contract("STAT-9")
def test_an_exec_session_is_found_by_its_own_id(life: Life, other: Life) -> None:
    other.cid = life.cid
    arguments = other.arguments(exec_session=True)
    session = os.urandom(8).hex()
    arguments[arguments.index("-u") + 1] = session
    life.stub("exec sleep 100").start().pid()
    other.stub("exec sleep 100").start(raw=arguments).pid()
    facts = json.loads(run("status", "--json", life.cid).stdout)
    assert (facts["exec"], facts["monitor_pid"]) == (False, life.monitor_pid())
    facts = json.loads(run("status", "--json", session[:9]).stdout)
    assert (facts["exec"], facts["monitor_pid"]) == (True, other.monitor_pid())


@pytest.mark.contract("STAT-9")
def test_a_bundle_may_be_the_monitors_directory_or_relative_to_it(life: Life) -> None:
    for bundle in ([], ["-b", "../bundle"]):
        arguments = life.arguments()
        at = arguments.index("-b")
        arguments[at : at + 2] = bundle
        life.stub("exec sleep 100").start(raw=arguments, cwd=life.bundle).pid()
        assert json.loads(run("status", "--json", life.cid).stdout)["state"] == "running"
        os.kill(int(life.pid_file.read_text()), signal.SIGKILL)
        life.wait_gone()
        for path in (life.pid_file, life.conmon_pid_file):
            path.unlink()
        assert life.launcher is not None
        for stream in (life.launcher.stdout, life.launcher.stderr, life.sync):
            assert stream is not None
            stream.close()


@pytest.mark.contract("STAT-10", "STAT-11")
def test_all_are_listed_also_who_does_not_answer(life: Life, other: Life) -> None:
    life.stub("exec sleep 100").start("-n", "we\x1bb\u202e").pid()
    arguments = other.arguments(exec_session=True)
    at = arguments.index("-b")
    del arguments[at : at + 2]
    arguments[arguments.index("-u") + 1] = "5e55108"
    other.stub("exec sleep 100").start(raw=arguments).pid()
    done = run("status")
    assert (done.returncode, done.stderr) == (0, "")
    rows = done.stdout.splitlines()
    assert rows[0].split() == ["ID", "MONITOR", "STATE", "UPTIME", "CLIENTS", "NAME"]
    found = {row.split()[1]: row for row in rows[1:]}
    mine = found[str(life.monitor_pid())].split()
    assert (mine[0], mine[2], mine[4], mine[5]) == (life.cid[:12], "running", "0", r"we\x1bb\u202e")
    assert "no answer" in found[str(other.monitor_pid())]
    facts = {
        one["monitor_pid"]: one
        for one in map(json.loads, run("status", "--json").stdout.splitlines())
    }
    assert facts[life.monitor_pid()]["name"] == "we\x1bb\u202e"
    assert facts[other.monitor_pid()]["state"] == "no answer"


LIAR = """#!/usr/bin/python3 -I
import os, socket, sys

server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.bind("status")
server.listen(0)
print("ready", flush=True)
answer = sys.stdin.buffer.readline()
while answer:
    with server.accept()[0] as connection:
        connection.recv(99)
        connection.send(answer)
sys.stdin.buffer.read()
"""


@pytest.fixture
def liar(life: Life) -> Iterator[subprocess.Popen[bytes]]:
    """Give a process that looks like a monitor; the line it gets is its answer to all."""
    program = life.directory / "conmon"
    program.write_text(LIAR)
    program.chmod(0o755)
    process = subprocess.Popen(
        [program, "-c", life.cid, "-b", life.bundle],
        cwd=life.bundle,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.contract("STAT-10")
@pytest.mark.parametrize(
    "answer",
    [
        b"[" * 100_000,
        b'{"state": {}, "uptime_s": [1], "clients": 5, "name": ["x"]}',
        b'{"cid": 1, "state": "\\u001b[2J", "clients": null, "uptime_s": "9999999999999"}',
        b"[1, 2]",
        b"\xff\xfe",
    ],
    ids=["nested", "of other types", "of a terminal", "list", "no text"],
)
def test_what_only_looks_like_a_monitor_may_answer_anything(
    life: Life, liar: subprocess.Popen[bytes], answer: bytes
) -> None:
    assert liar.stdin is not None
    liar.stdin.write(answer + b"\n")
    liar.stdin.flush()
    listing = run("status")
    assert (listing.returncode, listing.stderr) == (0, "")
    assert any(line.split()[1:2] == [str(liar.pid)] for line in listing.stdout.splitlines())
    assert "\x1b" not in listing.stdout
    told = run("status", life.bundle)
    assert "Traceback" not in told.stderr
    assert told.returncode == (0 if answer.startswith(b"{") else 1)


@pytest.mark.contract("STAT-10")
@pytest.mark.parametrize("program", ["status", "attach"])
def test_who_never_accepts_is_waited_for_a_while_only(
    life: Life, liar: subprocess.Popen[bytes], program: str
) -> None:
    with connect(life.bundle):  # all that may wait
        done = run(program, life.bundle)
    text = f"lowconmon {program}: {life.bundle}/status: no answer\n"
    assert (done.returncode, done.stderr) == (1, text)
    assert liar.poll() is None


def test_the_monitors_own_program_knows_no_such_words() -> None:
    code = "import sys; sys.argv[0] = '/x/conmon'; " + IN_TREE
    done = subprocess.run(
        [sys.executable, "-c", code, "status"], capture_output=True, text=True, timeout=DEADLINE
    )
    assert (done.returncode, done.stderr) == (
        1,
        "conmon: Container ID not provided. Use --cid\n",
    )


# attach, without a terminal


def attached(life: Life, *more: str, **how: object) -> subprocess.Popen[bytes]:
    """Return an attached program, its stdio pipes, when the monitor has accepted it."""
    before = json.loads(run("status", "--json", life.bundle).stdout)["clients"]
    how = {"stdin": -1, "stdout": -1, "stderr": -1, **how}
    process = subprocess.Popen(command("attach", *more, life.bundle), **how)  # type: ignore[call-overload]

    def accepted() -> bool:
        clients = json.loads(run("status", "--json", life.bundle).stdout)["clients"]
        return len(clients) > len(before)

    wait_until(accepted, "the client is accepted")
    return process  # type: ignore[no-any-return]


@pytest.mark.contract("ATC-1", "ATC-2")
def test_both_streams_and_stdin_are_copied_byte_for_byte(life: Life) -> None:
    life.stub("cat; echo err >&2; exit 3").start("-i").pid()
    data = os.urandom(300_000) + b"\x10\x11" + bytes(range(256))  # detach keys among them
    with attached(life) as process:
        out, err = process.communicate(data, DEADLINE * SLOWNESS)
    assert out == data
    assert err == b"err\n"
    assert process.returncode == 0
    assert life.exit_status() == 3


@pytest.mark.contract("ATC-2")
def test_the_end_of_stdin_ends_only_the_input(life: Life, gate: Gate) -> None:
    life.stub(f"cat; read x <{gate.path}; echo later").start("-i").pid()
    with attached(life) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"word")
        process.stdin.close()
        wait_for(process.stdout)
        assert os.read(process.stdout.fileno(), 100) == b"word"
        gate.open()
        assert process.stdout.read() == b"later\n"
    assert process.returncode == 0


@pytest.mark.contract("ATC-6")
@pytest.mark.parametrize("option", ["--read-only", "--no-stdin"])
def test_read_only_sends_nothing_and_ends_nothing(life: Life, gate: Gate, option: str) -> None:
    life.stub(f"read x <{gate.path}; echo out; cat").start("-i").pid()
    with attached(life, option) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"never\n")
        process.stdin.close()
        gate.open()
        wait_for(process.stdout)
        assert os.read(process.stdout.fileno(), 100) == b"out\n"
        client = attach_accepted(life)
        client.send(b"mine\n")
        wait_for(process.stdout)
        assert os.read(process.stdout.fileno(), 100) == b"mine\n"
        client.close()
        assert process.stdout.read() == b""
    assert life.text() == b"out\nmine\n"


@pytest.mark.contract("ATC-7")
def test_a_container_that_takes_no_input_holds_up_no_output(life: Life, gate: Gate) -> None:
    """Not acceptable: a program that waits to send, and reads no output meanwhile; a spin."""
    life.stub(f"read x <{gate.path}; head -c 3000000 /dev/zero; sleep 100").start("-i").pid()
    with open("/dev/zero", "rb") as zeros, attached(life, stdin=zeros) as process:
        assert_idle(process.pid)
        gate.open()
        assert process.stdout is not None
        got = 0
        while got < 3_000_000:
            wait_for(process.stdout)
            got += len(os.read(process.stdout.fileno(), 1 << 20))
        assert_idle(process.pid)
        process.terminate()
    assert process.returncode == -signal.SIGTERM


@pytest.mark.contract("ATC-1")
def test_who_shows_nothing_any_more_ends_with_a_text(life: Life, gate: Gate) -> None:
    life.stub(f"read x <{gate.path}; echo out; exec sleep 100").start("-i").pid()
    with attached(life) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        gate.open()
        assert process.stderr.read() == b"lowconmon attach: output: Broken pipe\n"
    assert process.returncode == 1


@pytest.mark.contract("ATC-1")
def test_a_long_path_can_be_attached_to(life: Life) -> None:
    life.bundle /= "d" * 200
    life.bundle.mkdir()
    life.stub("read line; echo $line; exit 3").start("-i").pid()
    done = run("attach", life.bundle, input="word\n", stdin=None)
    assert (done.returncode, done.stdout, done.stderr) == (0, "word\n", "")


# attach, on a terminal


class Terminal:
    """A terminal of ours, and `lowconmon attach` on it."""

    def __init__(self, life: Life, *arguments: str, size: tuple[int, int] = (33, 77)) -> None:
        self.master, self.slave = os.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""

        def take() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            command("attach", *arguments, life.bundle),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=take,  # noqa: PLW1509 - no threads here
        )

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of our terminal."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, data: bytes) -> None:
        """Type on the keyboard."""
        os.write(self.master, data)

    def expect(self, pattern: bytes) -> re.Match[bytes]:
        """Read on until what is shown matches."""
        while not (match := re.search(pattern, self.shown)):
            wait_for(self.master)
            self.shown += os.read(self.master, 65536)
        self.shown = self.shown[match.end() :]
        return match

    def is_raw(self) -> bool:
        """Tell whether the terminal is in raw mode."""
        return not termios.tcgetattr(self.slave)[3] & (termios.ICANON | termios.ECHO | termios.ISIG)

    def end(self) -> int:
        """Wait for the program's end; the terminal must be as it was. Return the status."""
        status = self.process.wait(DEADLINE * SLOWNESS)
        assert termios.tcgetattr(self.slave) == self.before
        return status

    def close(self) -> None:
        """Kill what is left, and close our ends."""
        self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def shell(life: Life) -> Life:
    """Give a life with a terminal, whose container repeats lines."""
    life.terminal_stub(SHELL).start("-t", "-i").pid()
    wait_until(lambda: b"ready" in life.log.read_bytes(), "the container")
    return life


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    """Hold terminals, to be closed at the end."""
    held: list[Terminal] = []
    yield held
    for one in held:
        one.close()


@pytest.mark.contract("ATC-1", "ATC-3", "ATC-4")
def test_on_a_terminal_it_is_raw_and_restored_at_the_end(
    shell: Life, terminals: list[Terminal]
) -> None:
    terminals.append(terminal := Terminal(shell))
    wait_until(terminal.is_raw, "raw mode")
    terminal.type(b"word\r")
    terminal.expect(rb"<word>\r\n")
    terminal.type(b"\x04")
    assert terminal.end() == 0
    assert shell.exit_status() == 9


@pytest.mark.contract("ATC-1", "ATC-4", "ATC-5")
@pytest.mark.parametrize(
    ("keys", "typed"),
    [
        (None, [b"\x10\x11"]),
        (None, [b"\x10", b"\x11"]),
        (None, [b"one\r\x10", b"\x11more"]),
        (None, [b"\x10\x10\x11"]),
        ("ctrl-x,d", [b"\x10\x11\x18", b"\x18d"]),
        ("a,b,c", [b"ab", b"aab", b"c"]),
        ("ctrl-@", [b"\0"]),
    ],
)
def test_the_detach_keys_end_it_and_the_container_lives(
    shell: Life, terminals: list[Terminal], keys: str | None, typed: list[bytes]
) -> None:
    option = [] if keys is None else ["--detach-keys", keys]
    terminals.append(terminal := Terminal(shell, *option))
    wait_until(terminal.is_raw, "raw mode")
    for part in typed:
        terminal.type(part)
        select.select([], [], [], 0.02)  # pieces, mostly: a whole is as good
    assert terminal.end() == 0
    terminals.append(again := Terminal(shell))
    wait_until(again.is_raw, "raw mode")
    again.type(b"\x15still here\r")
    again.expect(rb"<still here>")


@pytest.mark.contract("ATC-5")
@pytest.mark.parametrize(
    ("keys", "typed", "shown"),
    [
        (None, b"\x10a\r", rb"<\x10a>"),
        ("x,y,z", b"xxyxyxya\r", rb"<xxyxyxya>"),
        ("", b"\x10\x10\r", rb"<\x10\x10>"),
    ],
)
def test_what_only_begins_the_keys_reaches_the_container(
    shell: Life, terminals: list[Terminal], keys: str | None, typed: bytes, shown: bytes
) -> None:
    option = [] if keys is None else ["--detach-keys", keys]
    terminals.append(terminal := Terminal(shell, *option))
    wait_until(terminal.is_raw, "raw mode")
    for byte in typed:
        terminal.type(bytes([byte]))
    terminal.expect(shown)


@pytest.mark.contract("ATC-3")
def test_the_container_gets_the_size_at_once_and_whenever_it_changes(
    life: Life, terminals: list[Terminal]
) -> None:
    script = "trap 'stty size' WINCH; stty size; while :; do sleep 0.01; done"
    life.terminal_stub(script).start("-t").pid()
    wait_until(life.log.exists, "the container")
    terminals.append(terminal := Terminal(life, size=(11, 222)))
    terminal.expect(rb"11 222\r\n")
    terminal.resize(44, 55)
    terminal.expect(rb"44 55\r\n")


@pytest.mark.contract("ATC-4")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP])
def test_a_signal_that_ends_it_restores_the_terminal(
    shell: Life, terminals: list[Terminal], number: int
) -> None:
    terminals.append(terminal := Terminal(shell))
    wait_until(terminal.is_raw, "raw mode")
    terminal.process.send_signal(number)
    assert terminal.end() == 128 + number


@pytest.mark.contract("ATC-4")
def test_the_monitors_death_restores_the_terminal(shell: Life, terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(shell))
    wait_until(terminal.is_raw, "raw mode")
    os.kill(shell.monitor_pid(), signal.SIGKILL)
    assert terminal.end() == 0


@pytest.mark.contract("ATC-4")
def test_continued_it_takes_the_terminal_again(shell: Life, terminals: list[Terminal]) -> None:
    terminals.append(terminal := Terminal(shell))
    wait_until(terminal.is_raw, "raw mode")
    terminal.process.send_signal(signal.SIGSTOP)
    wait_until(
        lambda: b" T " in Path(f"/proc/{terminal.process.pid}/stat").read_bytes(), "it is stopped"
    )
    termios.tcsetattr(terminal.slave, termios.TCSANOW, terminal.before)  # as a shell does
    terminal.process.send_signal(signal.SIGCONT)
    wait_until(terminal.is_raw, "raw mode")
    terminal.type(b"\x10\x11")
    assert terminal.end() == 0


@pytest.mark.contract("ATC-3", "ATC-6")
def test_read_only_leaves_both_terminals_alone(life: Life, terminals: list[Terminal]) -> None:
    life.terminal_stub("while read -r line; do stty size; echo $line; done").start("-t").pid()
    terminals.append(terminal := Terminal(life, "--read-only"))
    wait_until(lambda: len(ask(life.bundle)["clients"]) == 1, "it is attached")
    client = attach_accepted(life)
    life.control(b"1 12 34\n")
    terminal.type(b"typed\r")
    client.send(b"sent\n")
    terminal.expect(rb"12 34\r+\n")
    assert not terminal.is_raw()
    assert b"typed" not in life.log.read_bytes()
    terminal.type(b"\x03")  # its own terminal makes a signal of it
    assert terminal.end() == -signal.SIGINT


@pytest.mark.contract("ATC-5")
@pytest.mark.parametrize("keys", ["ctrl-", "ctrl-aa", "ctrl-A", "ab", "a,,b", "é", ",", "ctrl-1"])
def test_keys_that_are_none_are_refused(keys: str) -> None:
    done = run("attach", "--detach-keys", keys, "x")
    assert done.returncode == 2
    assert "not keys" in done.stderr


class FakeConnection:
    """Takes what is sent."""

    def __init__(self) -> None:
        self.sent = b""

    def send(self, data: bytes) -> None:
        self.sent += data

    def shutdown(self, _how: int) -> None:
        self.sent += b"|"


@pytest.mark.contract("ATC-5")
@given(
    pieces=st.lists(st.text("abc", min_size=1, max_size=5).map(str.encode), max_size=6),
    keys=st.text("ab", max_size=4).map(str.encode),
)
def test_however_it_is_cut_all_before_the_keys_goes_out_and_nothing_behind(
    pieces: list[bytes], keys: bytes
) -> None:
    connection, reading = FakeConnection(), iter([*pieces, b""])
    session = operators._Session(connection, keys)  # type: ignore[arg-type]  # noqa: SLF001
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "read", lambda *_: next(reading))
        detached = False
        for _ in range(len(pieces) + 1):
            detached = session._read()  # noqa: SLF001
            if detached:
                break
    whole = b"".join(pieces)
    before, found, _ = whole.partition(keys) if keys else (whole, b"", b"")
    assert detached == bool(found)
    assert connection.sent == (before if found else whole + b"|")
