"""Live a container's life under the monitor, from outside: command line, pipes, files, sockets.

The program is $LOWCONMON_PROGRAM where it is set (an installed one, or Debian's conmon as the
oracle), else this tree's own. Runtimes are small shell programs (`stub`) or
hostrun. Nothing here sleeps: it waits for files, messages and ends, each with a deadline.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.support import SLOWNESS

_ROOT = str(Path(__file__).parents[2])
IN_TREE = f"import sys; sys.path.insert(0, {_ROOT!r}); from lowconmon.__main__ import main; main()"
DEADLINE = 20.0 * SLOWNESS  # seconds; generous, for slow machines

STUB = """#!/bin/sh
# A runtime that starts CONTAINER as a child of its own and leaves its pid. As after a real create,
# the container goes on when the runtime has ended: a shell would reap one that ends before.
while [ $# -gt 0 ]; do
    case $1 in
        --pid-file) pid_file=$2; shift ;;
        --console-socket) console=$2; shift ;;
        --process) process=$2; shift ;;
    esac
    shift
done
{before}
mkfifo "$pid_file.gate"
exec 9<&0 8<> "$pid_file.gate"
( exec 7< "$pid_file.gate" 8<&-; rm "$pid_file.gate"; read gone <&7; exec 7<&- <&9 9<&-; {container} ) &
printf %s $! > "$pid_file"
{after}
exit {status}
"""

# A runtime in Python that makes a terminal, as `how` says, and hands it over.
TERMINAL_STUB = """#!{python} -IS
import fcntl, os, select, socket, stat, sys, termios
arguments = dict(zip(sys.argv, sys.argv[1:]))
console = arguments["--console-socket"]
bundle = arguments.get("--bundle", ".")
master, slave = os.openpty()
name = os.ttyname(slave)
def connect():
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(console)
    return connection
def send(connection, *fds):
    socket.send_fds(connection, [name.encode()], fds)
{how}
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in range(3):
        os.dup2(slave, fd)
    os.closerange(3, 256)
    os.execv("/bin/sh", ["sh", "-c", {container!r}])
with open(arguments["--pid-file"], "w") as file:
    file.write(str(pid))
{after}
os._exit({status})
"""
HAND_OVER = "send(connect(), master)"


def program() -> list[str]:
    """Return the command that starts the monitor."""
    path = os.environ.get("LOWCONMON_PROGRAM")
    return [path] if path else [sys.executable, "-c", IN_TREE]


def wait_until(check: Any, what: str, seconds: float = DEADLINE) -> Any:
    """Return check()'s first true value; looks every few milliseconds until the deadline."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        select.select([], [], [], 0.005)


def read_if_there(path: Path) -> bytes | None:
    """Return a file's content, None while it does not exist."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # the latter: of /proc, gone while it is read
        return None


def exit_files(directory: Path) -> list[str]:
    """Return the names in an exit or persist directory, but for `exit.json`, which conmon lacks."""
    return [name for name in os.listdir(directory) if name != "exit.json"]


class Life:
    """One monitored life in a directory of its own (make it short: sockets live there)."""

    def __init__(self, directory: Path, cid: str = "0123456789abcdef") -> None:
        self.directory = directory
        self.cid = cid
        self.bundle = directory / "bundle"
        self.exit_dir = directory / "exits"
        self.persist_dir = directory / "persist"
        for path in (self.bundle, self.exit_dir, self.persist_dir):
            path.mkdir(exist_ok=True)
        self.log = directory / "ctr.log"
        self.pid_file = directory / "pidfile"
        self.conmon_pid_file = directory / "conmon.pid"
        self.runtime = directory / "runtime"
        self.environment: dict[str, str] = {**os.environ}
        self.command: list[str] = program()
        self.sync: socket.socket | None = None
        self.attach_pipe: socket.socket | None = None
        self.start_pipe: int = -1  # our writing end
        self.clients: list[socket.socket] = []  # closed at the end, if not before
        self.launcher: subprocess.Popen[bytes] | None = None

    def stub(
        self, container: str, *, before: str = "", after: str = "", status: int | str = 0
    ) -> Life:
        """Make the runtime one that runs *container*, a shell script, as the container process."""
        text = STUB.format(container=container, before=before, after=after, status=status)
        return self.script(text)

    def terminal_stub(
        self, container: str, *, how: str = HAND_OVER, after: str = "", status: int = 0
    ) -> Life:
        """Make the runtime one in Python that gives *container*, a shell script, a terminal.

        *how* hands the terminal over; see TERMINAL_STUB for what it may use.
        """
        text = TERMINAL_STUB.format(
            python=sys.executable, container=container, how=how, after=after, status=status
        )
        return self.script(text)

    def script(self, text: str) -> Life:
        """Make the runtime any program of your own."""
        self.runtime.write_text(text)
        self.runtime.chmod(0o755)
        return self

    def arguments(self, *extra: str, exec_session: bool = False) -> list[str]:
        """Return podman's usual options, *extra* last."""
        common = ["--api-version", "1", "-c", self.cid, "-u", self.cid, "-r", str(self.runtime)]
        common += ["-b", str(self.bundle), "-p", str(self.pid_file), "--exit-dir"]
        common += [str(self.exit_dir), "--persist-dir", str(self.persist_dir), "--full-attach"]
        common += ["-l", f"k8s-file:{self.log}", "--log-level", "warning"]
        common += ["--conmon-pidfile", str(self.conmon_pid_file)]
        if exec_session:
            spec = self.directory / "process.json"
            spec.write_text(spec.read_text() if spec.exists() else "{}")
            common += ["--exec", "--exec-process-spec", str(spec)]
        return [*common, *extra]

    def start(
        self,
        *extra: str,
        exec_session: bool = False,
        raw: list[str] | None = None,
        sync_kind: int = socket.SOCK_SEQPACKET,
        sync_ends: tuple[socket.socket, socket.socket] | None = None,
        start_pipe: bool = False,
        attach_pipe: bool = False,
        wait: bool = True,
        **popen: Any,
    ) -> Life:
        """Start the monitor with pipes as podman makes them; *raw* stands for all arguments.

        Sets `launcher` (its stderr is a pipe); with *wait*, waits for it to end. *sync_ends* are
        (ours, the monitor's), to be used and closed in the place of a new pair.
        """
        ours, theirs = sync_ends or socket.socketpair(socket.AF_UNIX, sync_kind)
        self.sync = ours
        pass_fds = [theirs.fileno(), *popen.pop("pass_fds", ())]
        environment = {**self.environment, "_OCI_SYNCPIPE": str(theirs.fileno())}
        opened = [theirs]
        if start_pipe:
            reading, self.start_pipe = os.pipe()
            pass_fds.append(reading)
            environment["_OCI_STARTPIPE"] = str(reading)
        if attach_pipe:
            self.attach_pipe, theirs = socket.socketpair(socket.AF_UNIX, sync_kind)
            opened.append(theirs)
            pass_fds.append(theirs.fileno())
            environment["_OCI_ATTACHPIPE"] = str(theirs.fileno())
        arguments = raw if raw is not None else self.arguments(*extra, exec_session=exec_session)
        popen.setdefault("stdin", subprocess.DEVNULL)
        popen.setdefault("stdout", subprocess.PIPE)
        popen.setdefault("stderr", subprocess.PIPE)
        self.launcher = subprocess.Popen(
            [*self.command, *arguments], env=environment, pass_fds=pass_fds, **popen
        )
        for end in opened:
            end.close()
        if start_pipe:
            os.close(reading)
        if wait:
            self.launcher.wait(DEADLINE)
        return self

    def message(self, pipe: socket.socket | None = None) -> dict[str, Any] | None:
        """Return the next message of the sync pipe (or *pipe*), None at its end."""
        pipe = pipe or self.sync
        assert pipe is not None
        pipe.settimeout(DEADLINE)
        try:
            data = pipe.recv(65536)
        except ConnectionResetError:
            data = b""
        if not data:
            return None
        assert len(data) <= 4096, "longer than podman reads"
        assert data.endswith(b"\n"), data
        return json.loads(data)  # type: ignore[no-any-return]

    def pid(self) -> int:
        """Return the container's pid from the next message."""
        message = self.message()
        assert message is not None, "the sync pipe ended without an answer"
        assert message["data"] > 0, message
        return int(message["data"])

    def monitor_pid(self) -> int:
        """Return the monitor's pid from its pid file."""
        return int(
            wait_until(lambda: read_if_there(self.conmon_pid_file), "the monitor's pid file")
        )

    def exit_status(self, seconds: float = DEADLINE) -> int:
        """Wait for the exit file and return what it says."""
        path = self.exit_dir / self.cid
        return int(wait_until(lambda: read_if_there(path), "the exit file", seconds))

    def wait_gone(self, seconds: float = DEADLINE) -> None:
        """Wait until the monitor has ended (the sync pipe's end is the sign without a pid file)."""
        if self.conmon_pid_file.exists():
            pid = self.monitor_pid()
            status = Path(f"/proc/{pid}/status")

            def gone() -> bool:
                text = read_if_there(status)
                return text is None or b"\nState:\tZ" in text

            wait_until(gone, "the monitor's end", seconds)
        while self.sync is not None and self.message() is not None:
            pass

    def records(self) -> list[tuple[str, str, bytes]]:
        """Return the log's records as (stream, F or P, text); every line must be a whole record."""
        content = self.log.read_bytes()
        assert content == b"" or content.endswith(b"\n"), content[-80:]
        records = []
        for line in content.split(b"\n")[:-1]:
            stamp, stream, kind, text = line.split(b" ", 3)
            assert len(stamp) == 35, line
            assert stream in (b"stdout", b"stderr"), line
            assert kind in (b"F", b"P"), line
            records.append((stream.decode(), kind.decode(), text))
        return records

    def text(self, stream: str = "stdout") -> bytes:
        """Return the stream's text as the container wrote it: P records joined."""
        return b"".join(
            text + (b"\n" if kind == "F" else b"")
            for name, kind, text in self.records()
            if name == stream
        )

    def attach(self) -> socket.socket:
        """Return a client connected to the attach socket, as podman connects."""
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.clients.append(client)
        client.settimeout(DEADLINE)
        directory = os.open(self.bundle, os.O_PATH)
        try:
            client.connect(f"/proc/self/fd/{directory}/attach")
        finally:
            os.close(directory)
        return client

    def control(self, line: bytes, name: str = "ctl") -> None:
        """Write to a control FIFO as podman does."""
        fd = os.open(self.bundle / name, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)

    def end(self) -> None:
        """Kill what is left of the life and close our ends; for the tests' teardown."""
        pids = []
        for path in (self.pid_file, self.conmon_pid_file):
            content = (read_if_there(path) or b"").strip()
            if content.isdigit():
                pids.append(int(content))
        if self.launcher and self.launcher.poll() is None:
            pids.append(self.launcher.pid)
        for pid in pids:
            if pid > 1:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
        if self.launcher:
            self.launcher.wait(DEADLINE)
            for stream in (self.launcher.stdout, self.launcher.stderr):
                if stream:
                    stream.close()
        for pipe in (self.sync, self.attach_pipe, *self.clients):
            if pipe:
                pipe.close()
        if self.start_pipe >= 0:
            os.close(self.start_pipe)
            self.start_pipe = -1


def packets(client: socket.socket) -> tuple[bytes, bytes]:
    """Read an attach client to its end; return what came on (stdout, stderr)."""
    streams = {2: b"", 3: b""}
    chunks: dict[int, list[bytes]] = {2: [], 3: []}
    while True:
        packet = client.recv(8193)
        if not packet:
            break
        assert packet[0] in streams, packet[:20]
        chunks[packet[0]].append(packet[1:])
    return b"".join(chunks[2]), b"".join(chunks[3])


def socket_names(pid: int) -> set[str]:
    """Return the names of the sockets that a process holds."""
    names = set()
    for entry in os.listdir(f"/proc/{pid}/fd"):
        try:
            names.add(os.readlink(f"/proc/{pid}/fd/{entry}"))
        except FileNotFoundError:  # closed meanwhile
            continue
    return {name for name in names if name.startswith("socket:")}


def sockets_of(pid: int) -> int:
    """Return how many sockets a process holds: a monitor that has accepted a client has one more."""
    return len(socket_names(pid))


def attach_accepted(life: Life) -> socket.socket:
    """Return a client that the monitor has accepted: from here on it gets everything."""
    pid = life.monitor_pid()
    before = socket_names(pid)
    client = life.attach()
    wait_until(lambda: socket_names(pid) - before, "the client is accepted")
    return client


def ticks_of(pid: int) -> int:
    """Return the CPU time that a process has used, in clock ticks (usually of 10 ms)."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return int(fields[11]) + int(fields[12])


def private_kib(pid: int) -> int:
    """Return how much memory is a process's alone and in no file, in KiB.

    What it maps of a file becomes its alone when another monitor ends.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(b"Private_Dirty"))


def assert_idle(pid: int, window_s: float = 0.3) -> None:
    """Fail if a process is busy; the window is what is measured, not a wait for anything.

    A process that still works off what came before may need a few windows; one that spins never
    passes.
    """

    def idle() -> bool:
        before = ticks_of(pid)
        select.select([], [], [], window_s)
        return ticks_of(pid) - before <= 2  # noqa: PLR2004 - of about 30

    wait_until(idle, f"process {pid} is idle")


class Gate:
    """A FIFO that a container waits at (`read x <PATH`) until the test opens it.

    What is written is for one reader at a time; the path may be used again and again.
    """

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.fd = os.open(path, os.O_RDWR)

    def open(self) -> None:
        """Let the container go on."""
        os.write(self.fd, b"go\n")

    def close(self) -> None:
        """Close our end."""
        os.close(self.fd)
