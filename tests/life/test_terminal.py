"""The terminal: how it is handed over, sized, hung up, and what is left of the handing over."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.life import (
    HAND_OVER,
    Gate,
    Life,
    assert_idle,
    attach_accepted,
    packets,
    read_if_there,
    wait_until,
)

SUN_PATH_MAX = 107
NOBODY = 65534

# Puts the console socket's whereabouts into a file before it hands the terminal over.
WITNESS = """
directory = os.path.dirname(console)
with open({path!r}, "w") as file:
    mode = stat.S_IMODE(os.stat(directory).st_mode)
    kind = stat.S_ISSOCK(os.stat(console).st_mode)
    print(console, oct(mode), os.stat(directory).st_uid, kind, sep="\\n", file=file)
"""


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """Give a short directory beside the life's own."""
    path = Path(tempfile.mkdtemp(prefix="else-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def witness(life: Life) -> str:
    """Return the code that writes down where the console socket is."""
    return WITNESS.format(path=str(life.directory / "witness"))


def witnessed(life: Life) -> list[str]:
    """Return the socket's path, its directory's mode and owner, and whether it is a socket."""
    content = wait_until(lambda: read_if_there(life.directory / "witness"), "the witness")
    return str(content.decode()).split("\n")


def consoles(life: Life, *more: Path) -> list[Path]:
    """Return what is left of console sockets in the bundle, and in *more* that is ours alone."""
    return [path for place in (life.bundle, *more) for path in place.glob(".conmon-*")]


def size_of(path: str) -> tuple[int, int]:
    """Return the rows and columns of a terminal."""
    fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        rows, columns, *_ = struct.unpack("4H", fcntl.ioctl(fd, termios.TIOCGWINSZ, bytes(8)))
    finally:
        os.close(fd)
    return rows, columns


def line_of(path: Path) -> str:
    """Return the first line of a file as soon as it is whole."""

    def whole() -> bytes | None:
        content = read_if_there(path)
        return content if content and content.endswith(b"\n") else None

    return str(wait_until(whole, f"a line in {path.name}").decode().split("\n")[0])


def move_bundle(life: Life, length: int) -> None:
    """Give the life a bundle whose path has *length* bytes."""
    base = str(life.directory)
    rest = length - len(base)
    parts = []
    while rest > 0:
        size = min(rest - 1, 100)
        if rest - 1 - size == 1:
            size -= 1  # no room for a component after the next slash
        parts.append("b" * size)
        rest -= size + 1
    life.bundle = life.directory.joinpath(*parts)
    life.bundle.mkdir(parents=True)
    assert len(str(life.bundle)) == length


# The handing over


@pytest.mark.contract("TTY-1", "TTY-6", "TTY-7", "RT-21")
def test_a_terminal_is_received_and_what_the_container_prints_is_logged(life: Life) -> None:
    life.terminal_stub("tty; echo two; exit 7").start("-t")
    life.pid()
    assert life.exit_status() == 7
    life.wait_gone()
    name, rest = life.text().split(b"\r\n", 1)
    assert name.startswith(b"/dev/pts/")
    assert rest == b"two\r\n"
    assert life.text("stderr") == b""


@pytest.mark.contract("TTY-6")
def test_onlcr_is_set_even_if_the_runtime_has_cleared_it(life: Life) -> None:
    clear = (
        "settings = termios.tcgetattr(slave); settings[1] &= ~termios.ONLCR\n"
        "termios.tcsetattr(slave, termios.TCSANOW, settings)\n"
    )
    # The container may start before the monitor has the terminal: it waits for its flag.
    wait = "until stty -a | grep -q ' onlcr'; do :; done; echo line"
    life.terminal_stub(wait, how=clear + HAND_OVER).start("-t")
    life.pid()
    assert life.exit_status() == 0
    assert life.text() == b"line\r\n"


@pytest.mark.contract("TTY-2", "TTY-3", "TTY-5")
def test_the_console_socket_is_in_a_private_directory_of_the_bundle_and_goes(life: Life) -> None:
    gate = Gate(life.directory / "go")
    try:
        life.terminal_stub(f"read x <{gate.path}", how=witness(life) + HAND_OVER).start("-t")
        life.pid()
        path, mode, uid, is_socket, _ = witnessed(life)
        assert Path(path).parent.parent == life.bundle
        assert mode == "0o700"
        assert int(uid) == os.geteuid()
        assert is_socket == "True"
        assert not Path(path).exists()
        assert not Path(path).parent.exists()
        names = {entry.name for entry in life.bundle.iterdir()} - {"status"}  # ours
        assert names == {"attach", "ctl", "winsz"}
        gate.open()
        assert life.exit_status() == 0
    finally:
        gate.close()


@pytest.mark.contract("TTY-3")
def test_every_life_has_a_console_directory_of_its_own(life: Life) -> None:
    paths = []
    for _ in range(2):
        life.terminal_stub("exit 0", how=witness(life) + HAND_OVER).start("-t")
        life.pid()
        life.wait_gone()
        paths.append(witnessed(life)[0])
        (life.directory / "witness").unlink()
        (life.exit_dir / life.cid).unlink()
        life.end()
    assert paths[0] != paths[1]


@pytest.mark.contract("TTY-3", "TTY-11", "CASE-907")
@pytest.mark.parametrize("length", [60, 83, 84, 106, 107, 108, 300])
def test_a_bundle_path_of_any_length_gets_terminal_and_attach_socket(
    life: Life, elsewhere: Path, length: int
) -> None:
    """Acceptable: sockets at other, shorter paths.

    Not acceptable: a path that is cut off, or an error.
    """
    move_bundle(life, length)
    life.environment["XDG_RUNTIME_DIR"] = str(elsewhere)
    # The container starts without a client, and ends when one has typed.
    life.terminal_stub("stty -echo; read x; echo got $x", how=witness(life) + HAND_OVER)
    life.start("-t")
    life.pid()
    path = Path(witnessed(life)[0])
    assert len(str(path)) <= SUN_PATH_MAX
    assert path.parent.parent in (life.bundle, elsewhere)
    if length >= SUN_PATH_MAX:
        assert path.parent.parent == elsewhere
    assert consoles(life, elsewhere) == []
    client = life.attach()
    client.send(b"hello\n")
    out, _ = packets(client)
    client.close()
    assert b"got hello\r\n" in out
    assert life.exit_status() == 0


@pytest.mark.contract("TTY-3")
@pytest.mark.parametrize("runtime_dir", ["", "/nowhere/at/all", "relative", "/tmp/" + "x" * 110])
def test_the_console_directory_goes_to_run_where_xdg_runtime_dir_does_not_serve(
    life: Life, runtime_dir: str
) -> None:
    move_bundle(life, 200)
    life.environment["XDG_RUNTIME_DIR"] = runtime_dir
    life.terminal_stub("echo hello", how=witness(life) + HAND_OVER).start("-t", cwd=life.directory)
    life.pid()
    assert life.exit_status() == 0
    path = Path(witnessed(life)[0])
    assert path.parent.parent == Path("/run")
    assert not path.parent.exists()
    assert life.text() == b"hello\r\n"


@pytest.mark.contract("TTY-8", "RT-8", "RT-9")
def test_the_runtime_has_dev_null_for_stdout_and_a_pipe_for_stderr(life: Life) -> None:
    where = life.directory / "where"
    how = (
        f"with open({str(where)!r}, 'w') as file:\n"
        "    print(*(os.readlink(f'/proc/self/fd/{fd}') for fd in range(3)), file=file)\n"
        "os.write(1, b'nowhere\\n')\n"
        "os.write(2, b'words\\n')\n"
    )
    life.terminal_stub("echo out; echo err >&2", how=how + HAND_OVER).start("-t")
    life.pid()
    assert life.exit_status() == 0
    stdin, stdout, stderr = line_of(where).split()
    assert (stdin, stdout) == ("/dev/null", "/dev/null")
    assert stderr.startswith("pipe:")
    assert life.text("stderr") == b"words\n"
    assert life.text("stdout") == b"out\r\nerr\r\n"


@pytest.mark.contract("TTY-8", "RT-25")
def test_what_the_runtime_says_on_stderr_after_the_handover_reaches_clients_as_stderr(
    life: Life,
) -> None:
    gate = Gate(life.directory / "go")
    # A child of the runtime lives on with its stderr, and speaks when a client is there.
    how = (
        "if os.fork() == 0:\n"
        f"    open({str(gate.path)!r}).readline()\n"
        "    os.write(2, b'late words\\n')\n"
        "    os._exit(0)\n"
    )
    try:
        life.terminal_stub("read x; echo typed", how=how + HAND_OVER).start("-t")
        life.pid()
        client = attach_accepted(life)
        gate.open()
        assert client.recv(8193) == b"\3late words\n"
        client.send(b"\n")
        out, err = packets(client)
        client.close()
        assert out == b"\r\ntyped\r\n"
        assert err == b""
        assert life.exit_status() == 0
    finally:
        gate.close()


# Bad handovers

BAD = {
    "no connection": "",
    "a connection that closes": "connect().close()",
    "a connection that only speaks": "connect().send(b'/dev/pts/0')",
    "a pipe": "reading, writing = os.pipe()\nsend(connect(), reading)",
    "/dev/null": "send(connect(), os.open('/dev/null', os.O_RDWR))",
    "a socket": "pair = socket.socketpair()\nsend(connect(), pair[0].fileno())",
}


@pytest.mark.contract("TTY-5", "RT-21", "SYNC-11", "START-16", "START-17", "END-22")
@pytest.mark.parametrize("how", BAD)
def test_a_runtime_that_hands_over_no_terminal_is_a_failed_start(life: Life, how: str) -> None:
    done = life.directory / "done"
    life.terminal_stub("exec cat", how=BAD[how])
    life.start("-t", "--exit-command", "/bin/touch", "--exit-command-arg", str(done))
    assert life.launcher is not None
    assert life.launcher.returncode == 0
    message = life.message()
    assert message == {"data": -1, "message": "Runtime did not set up terminal"}
    assert life.message() is None
    wait_until(done.exists, "the exit command")
    life.wait_gone()
    assert consoles(life) == []
    assert not (life.exit_dir / life.cid).exists()
    assert not (life.persist_dir / "exit").exists()


@pytest.mark.contract("RT-28", "RT-21", "SYNC-11")
@pytest.mark.parametrize("status", [0, 1])
def test_of_a_failed_handover_the_runtimes_words_are_reported(life: Life, status: int) -> None:
    how = "os.write(2, b'no terminal today\\n')"
    life.terminal_stub("exec cat", how=how, status=status).start("-t")
    message = life.message()
    assert message is not None
    assert message["data"] == -1
    assert "no terminal today" in message["message"]
    life.wait_gone()
    assert consoles(life) == []


@pytest.mark.contract("TTY-1", "TTY-2")
def test_of_two_descriptors_no_second_one_is_kept(life: Life) -> None:
    """Acceptable: the first one serves, or a failed start. Not: no answer, a descriptor kept."""
    how = "other, _ = os.openpty()\nsend(connect(), master, other)\nos.close(other)"
    life.terminal_stub("read x; echo got $x", how=how).start("-t")
    message = life.message()
    assert message is not None
    if message["data"] == -1:
        life.wait_gone()
        return
    folder = f"/proc/{life.monitor_pid()}/fd"
    held = [os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)]
    assert sum("ptmx" in target for target in held) in (1, 2)  # one, and a dup of it for stdout
    client = life.attach()
    client.send(b"this\n")
    assert b"got this\r\n" in packets(client)[0]
    client.close()
    assert life.exit_status() == 0


@pytest.mark.contract("TTY-1", "TTY-2")
def test_a_terminal_sent_long_after_the_connection_is_received(life: Life) -> None:
    there = life.directory / "there"
    how = (
        "import time\n"
        "connection, until = connect(), time.monotonic() + 2\n"
        "while os.path.exists(console) and time.monotonic() < until: pass\n"
        f"if os.path.exists(console): open({str(there)!r}, 'w').close()\n"
        "send(connection, master)\n"
    )
    life.terminal_stub("echo late", how=how).start("-t")
    life.pid()
    assert life.exit_status() == 0
    assert life.text() == b"late\r\n"
    assert not there.exists(), "the socket's name was still there two seconds after the connection"


STRANGER = """
os.chmod(os.path.dirname(console), 0o711)
os.chmod(console, 0o777)
if os.fork() == 0:
    os.setgid({nobody})
    os.setuid({nobody})
    strange, _ = os.openpty()
    try:
        connection = connect()
        send(connection, strange)
        connection.recv(1)
    finally:
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)  # a refusal may break the connection
        os._exit(0)
os.wait()
"""


@pytest.mark.contract("TTY-4")
@pytest.mark.parametrize("comes_too", [True, False], ids=["and the runtime", "alone"])
def test_a_strangers_terminal_is_not_taken(life: Life, comes_too: bool) -> None:  # noqa: FBT001
    if os.geteuid():
        pytest.skip("needs root to become nobody")
    life.directory.chmod(0o755)
    how = STRANGER.format(nobody=NOBODY) + (HAND_OVER if comes_too else "")
    life.terminal_stub("read x; echo got $x", how=how).start("-t", wait=False)
    message = life.message()
    assert message is not None
    if not comes_too:
        assert message == {"data": -1, "message": "Runtime did not set up terminal"}
        life.wait_gone()
        assert consoles(life) == []
        return
    assert message["data"] > 0
    client = life.attach()
    client.send(b"mine\n")
    assert b"got mine\r\n" in packets(client)[0]
    client.close()
    assert life.exit_status() == 0


@pytest.mark.contract("TTY-5", "SYNC-11")
@pytest.mark.parametrize("end", ["fails", "is killed", "is terminated", "leaves no pid file"])
def test_no_console_directory_is_left_by_a_runtime_that(life: Life, end: str) -> None:
    started = life.directory / "started"
    ends = {
        "fails": "os._exit(3)",
        "is killed": "os.kill(os.getpid(), 9)",
        "is terminated": f"open({str(started)!r}, 'w').close()\nselect.select([], [], [])",
        "leaves no pid file": HAND_OVER + "\nos._exit(0)",
    }
    life.terminal_stub("exec cat", how=ends[end]).start("-t")
    if end == "is terminated":
        wait_until(started.exists, "the runtime runs")
        os.kill(life.monitor_pid(), signal.SIGTERM)
    message = life.message()
    assert message is not None
    assert message["data"] == -1
    assert life.message() is None
    life.wait_gone()
    assert consoles(life) == []


@pytest.mark.contract("TTY-5", "START-15")
def test_no_console_directory_is_left_when_the_launcher_fails(life: Life) -> None:
    life.conmon_pid_file = life.directory / "nowhere" / "pid"
    life.terminal_stub("exec cat").start("-t")
    assert life.launcher is not None
    assert life.launcher.returncode == 1
    life.wait_gone()
    assert consoles(life) == []
    assert not life.pid_file.exists()


# Size


@pytest.mark.contract("CTL-13", "CTL-5", "CTL-7")
@pytest.mark.parametrize(("fifo", "line"), [("ctl", b"1 21 83\n"), ("winsz", b"21 83\n")])
def test_a_size_that_comes_before_the_terminal_is_kept_for_it(
    life: Life, fifo: str, line: bytes
) -> None:
    # The runtime sends it, sees it taken, and only then hands over.
    how = (
        f"fd = os.open(os.path.join(bundle, {fifo!r}), os.O_RDWR | os.O_NONBLOCK)\n"
        f"os.write(fd, {line!r})\n"
        "while fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) != bytes(4): pass\n"
        "os.close(fd)\n"
    )
    life.terminal_stub(
        "until [ \"$(stty size)\" = '21 83' ]; do :; done; echo yes", how=how + HAND_OVER
    )
    life.start("-t")
    life.pid()
    assert life.exit_status() == 0
    assert life.text() == b"yes\r\n"


@pytest.mark.contract("CTL-5", "CTL-7")
def test_a_size_that_comes_later_is_set_and_the_container_is_told(life: Life) -> None:
    name = life.directory / "tty"
    container = f"trap 'stty size; exit 0' WINCH; tty >{name}; while :; do read x; done"
    life.terminal_stub(container).start("-t")
    life.pid()
    tty = line_of(name)
    assert size_of(tty) == (0, 0)
    life.control(b"1 33 120\n")
    assert life.exit_status() == 0
    assert life.text() == b"33 120\r\n"


# Hang-up and end


@pytest.mark.contract("TTY-9", "ATT-15")
def test_a_terminal_that_nobody_has_open_just_now_is_not_at_its_end(life: Life) -> None:
    gate = Gate(life.directory / "go")
    closed = life.directory / "closed"
    container = (
        "stty -echo; t=$(tty); echo before; exec </dev/null >/dev/null 2>&1; "
        f": >{closed}; read x <{gate.path}; exec <$t >$t 2>&1; echo after; read y; echo got $y; "
        "exit 5"
    )
    try:
        life.terminal_stub(container).start("-t")
        life.pid()
        client = attach_accepted(life)
        wait_until(closed.exists, "the container has closed its terminal")
        wait_until(lambda: life.text() == b"before\r\n", "what it said before")
        assert_idle(life.monitor_pid())
        assert not (life.exit_dir / life.cid).exists()
        gate.open()
        wait_until(lambda: life.text() == b"before\r\nafter\r\n", "what it says afterwards")
        client.send(b"typed\n")
        assert life.exit_status() == 5
        assert packets(client)[0].endswith(b"after\r\ngot typed\r\n")
        client.close()
    finally:
        gate.close()


@pytest.mark.contract("TTY-9")
def test_a_terminal_hangs_up_and_comes_back_again_and_again(life: Life) -> None:
    container = (
        "t=$(tty); exec </dev/null >/dev/null 2>&1; "
        "for i in 1 2 3 4 5 6 7 8 9; do echo $i >$t; done"
    )
    life.terminal_stub(container).start("-t")
    life.pid()
    assert life.exit_status() == 0
    # A hang-up throws away what nobody has read, but the master's side keeps what came to it.
    assert life.text() == b"".join(b"%d\r\n" % i for i in range(1, 10))


@pytest.mark.contract("TTY-10", "END-2", "END-14")
def test_all_that_was_printed_before_the_end_is_there(life: Life) -> None:
    life.terminal_stub("seq 1 5000; exit 4").start("-t")
    life.pid()
    assert life.exit_status() == 4
    assert life.text() == b"".join(b"%d\r\n" % i for i in range(1, 5001))


@pytest.mark.contract("TTY-10", "END-2", "END-14")
def test_a_grandchild_that_keeps_the_terminal_does_not_keep_the_exit_file(life: Life) -> None:
    gate = Gate(life.directory / "go")
    try:
        # Without a hang-up signal of its own: the session leader's end sends one.
        container = f"trap '' HUP; (read x <{gate.path}) & echo bye; exit 6"
        life.terminal_stub(container).start("-t")
        life.pid()
        assert life.exit_status(8) == 6
        assert life.text() == b"bye\r\n"
        life.wait_gone()
        gate.open()
    finally:
        gate.close()


@pytest.mark.contract("TTY-7", "ATT-15")
def test_typing_the_end_of_file_character_ends_a_read_and_not_the_terminal(life: Life) -> None:
    life.terminal_stub("stty -echo; cat; echo first; cat; echo second").start("-t")
    life.pid()
    client = attach_accepted(life)
    wait_until(lambda: b" -echo " in stty(life), "echo is off")
    client.send(b"one\n\4")
    wait_until(lambda: b"first" in life.text(), "the first cat has ended")
    client.send(b"two\n\4")
    out, _ = packets(client)
    client.close()
    assert out == b"one\r\nfirst\r\ntwo\r\nsecond\r\n"
    assert life.exit_status() == 0


def stty(life: Life) -> bytes:
    """Return the settings of the container's terminal."""
    pid = int(life.pid_file.read_bytes())
    name = os.readlink(f"/proc/{pid}/fd/0")
    return subprocess.run(["stty", "-a", "-F", name], capture_output=True, check=True).stdout


@pytest.mark.contract("TTY-1", "TTY-8", "SYNC-7")
@pytest.mark.parametrize("flags", [("-t",), ("-t", "-i")])
def test_an_exec_with_a_terminal_reports_pid_and_status(life: Life, flags: tuple[str, ...]) -> None:
    life.terminal_stub("tty; exit 9").start(*flags, exec_session=True)
    message = life.message()
    assert message is not None
    assert message["data"] > 0
    assert life.message() == {"data": 9}
    life.wait_gone()
    assert life.text().startswith(b"/dev/pts/")
    assert consoles(life) == []


@pytest.mark.contract("END-4", "END-5", "TTY-10")
def test_a_timeout_ends_a_container_with_a_terminal(life: Life) -> None:
    begun = time.monotonic()
    life.terminal_stub("trap '' HUP TERM INT; echo here; cat").start("-t", "--timeout", "1")
    life.pid()
    assert life.exit_status() == -1
    assert time.monotonic() - begun >= 1
    assert life.text() == b"here\r\n"
