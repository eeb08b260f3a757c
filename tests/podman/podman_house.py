"""A podman of our own: storage, namespaces and processes that nobody else sees.

Everything podman writes lives on a tmpfs over /run that only the holder's mount namespace has, and
every process it starts lives in the holder's pid namespace. The tests look in from outside,
through /proc/HOLDER/root. Closing the holder's standard input leaves nothing behind.
"""

from __future__ import annotations

import contextlib
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
import tarfile
import termios
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from tests.support import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

HOME = Path(os.environ.get("PODMAN_TEST_HOME", "/run/podman-test"))  # as seen inside
IMAGE = "localhost/box"
HOLDER = Path(__file__).with_name("namespace_holder.py")
IDLE = ("sleep", "100000")
POLL_SECONDS = 0.01
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=5000:5000"]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = [{program}]
[network]
network_config_dir = "{home}/networks"
"""


class Result(NamedTuple):
    """How a podman ended."""

    code: int
    out: bytes
    err: bytes


def wait_until(holds: Callable[[], object], what: str, seconds: float = 15) -> None:
    """Look every 10 ms until *holds* answers true; fail, naming *what*, after *seconds*."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while not holds():
        if time.monotonic() > deadline:
            message = f"waited {seconds} s in vain: {what}"
            raise AssertionError(message)
        time.sleep(POLL_SECONDS)


def read_until(stream: IO[bytes], wanted: bytes, seconds: float = 15) -> bytes:
    """Read an unbuffered *stream* until *wanted* has come; return everything up to its end."""
    deadline = time.monotonic() + seconds * SLOWNESS
    seen = b""
    while wanted not in seen:
        ready, _, _ = select.select([stream], [], [], max(0, deadline - time.monotonic()))
        data = os.read(stream.fileno(), 65536) if ready else b""
        if not data:
            message = f"{wanted!r} did not come ({'end' if ready else 'deadline'}); seen: {seen!r}"
            raise AssertionError(message)
        seen += data
    return seen


class Process(subprocess.Popen[bytes]):
    """One that has more time where the machine is slow."""

    def wait(self, timeout: float | None = None) -> int:
        return super().wait(timeout and timeout * SLOWNESS)


class Gate:
    """A FIFO that containers wait at: ``read line < /share/NAME``. Close it."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        # Read and write: opening never blocks on either side, and no reader ever sees an end.
        self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)

    def open(self, line: str = "go") -> None:
        """Let one waiting container pass, handing it *line*."""
        os.write(self._fd, line.encode() + b"\n")

    def close(self) -> None:
        os.close(self._fd)


class Terminal:
    """A command on a pseudo-terminal of its own, with job control as in a login shell."""

    def __init__(
        self, command: list[str], environment: Mapping[str, str], size: tuple[int, int]
    ) -> None:
        self._master, slave = os.openpty()
        self._slave_name = os.ttyname(slave)
        self._seen = b""
        self._transcript = b""
        try:
            self.resize(*size)
            # setsid makes no new process here, so the pid is the command's.
            self.process = Process(
                ["setsid", "--ctty", *command],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                env=environment,
            )
        finally:
            os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size; the kernel sends SIGWINCH to the foreground process group."""
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def press(self, keys: str) -> None:
        """Type *keys* one by one: podman knows its detach keys only if each comes alone."""
        slave = os.open(self._slave_name, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            for key in keys:
                self.type(key)
                wait_until(lambda: not select.select([slave], [], [], 0)[0], f"{key!r} is read")
        finally:
            os.close(slave)

    def expect(self, pattern: bytes, seconds: float = 15) -> re.Match[bytes]:
        """Return the first match of *pattern*; what came up to its end is used up."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while not (match := re.search(pattern, self._seen)):
            if not self._read(max(0, deadline - time.monotonic())):
                message = f"{pattern!r} did not come; all that was seen: {self._transcript!r}"
                raise AssertionError(message)
        self._seen = self._seen[match.end() :]
        return match

    def wait(self, seconds: float = 15) -> int:
        """Read to the end, wait for the command, return its exit status."""
        deadline = time.monotonic() + seconds * SLOWNESS
        while self._read(max(0, deadline - time.monotonic())):
            pass
        return self.process.wait(max(0.1, deadline - time.monotonic()))

    @property
    def transcript(self) -> bytes:
        return self._transcript

    def close(self) -> None:
        _kill_group(self.process)
        os.close(self._master)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # EIO: the last slave end has closed
            return False
        self._seen += data
        self._transcript += data
        return True


class House:
    """The namespaces, and podman's files in them. Use as a context manager, once."""

    driver = "overlay"
    user: tuple[str, ...] = ()  # what stands between us and podman, if it is another user's

    def __init__(self, program: Path) -> None:
        self._build()
        try:
            self._move_in()
            self.environment = {
                "CONTAINERS_CONF": str(HOME / "containers.conf"),
                "HOME": str(HOME / "home"),
                "LANG": "C.UTF-8",
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "TERM": "xterm",
                "TMPDIR": str(HOME / "tmp"),
            }
            self._furnish(program)
        except BaseException:
            self.close()
            raise

    def _build(self) -> None:
        """Make the namespaces."""
        self._cgroup = f"lowconmon-test-{os.getpid()}"
        self._holder = subprocess.Popen(
            [sys.executable, "-I", HOLDER, self._cgroup],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )

    def _move_in(self) -> None:
        """Find out how they are entered."""
        assert self._holder.stdout is not None
        pid = int(read_until(self._holder.stdout, b"\n"))
        self._root = Path(f"/proc/{pid}/root")
        self._enter = ["nsenter", "--target", str(pid), "--mount", "--pid"]
        # conmon 2.1.6 leaves a file in its working directory, which is podman's.
        self._enter.append(f"--wd={self.path(HOME / 'work')}")
        self.cgroup_parent = f"/{self._cgroup}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def path(self, inside: Path | str) -> Path:
        """Return the name by which we reach a file of the house."""
        return self._root / Path(inside).relative_to("/")

    def command(self, *arguments: str, before: tuple[str, ...] = ()) -> list[str]:
        """Return the command line of a podman inside, *before* standing between it and us."""
        options = ["--storage-driver", self.driver]
        for option in ("root", "runroot", "tmpdir"):
            options += [f"--{option}", str(HOME / option)]
        return [*self._enter, "--", *self.user, *before, "podman", *options, *arguments]

    def processes(self) -> dict[int, str]:
        """Return what lives inside, but for the holder: name and state by (inner) pid."""
        found = {}
        for directory in self.path("/proc").iterdir():
            if directory.name.isdigit() and directory.name != "1":
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    head, _, tail = directory.joinpath("stat").read_text().rpartition(")")
                    found[int(directory.name)] = f"{head.partition('(')[2]} {tail.split()[0]}"
        return found

    def kill(self, *pids: int, signal_name: str = "KILL") -> None:
        """Signal processes of the house by their inner pids; those already gone do not matter."""
        if pids:
            numbers = [str(pid) for pid in pids]
            self.call("kill", f"-{signal_name}", *numbers)

    def call(self, *command: str) -> None:
        """Run another program than podman inside, whatever it returns."""
        subprocess.run(
            [*self._enter, "--", *command], env=self.environment, check=False, timeout=10 * SLOWNESS
        )

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start another program than podman inside; it dies with the house, if not before."""
        return subprocess.Popen(
            [*self._enter, "--", *command],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def mounts(self) -> list[str]:
        """Return the mount points below podman's directories."""
        lines = self.path("/proc/1/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if line.split()[4].startswith(f"{HOME}/")]

    def close(self) -> None:
        """Let the holder go, and with it every process, mount and file."""
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait(30)

    def configuration(self, program: Path) -> str:
        """Return podman's configuration."""
        return CONFIGURATION.format(program=json.dumps(str(program)), home=HOME)

    def _furnish(self, program: Path) -> None:
        home = self.path(HOME)
        for name in ("home", "networks", "share", "tmp", "tree", "work"):
            home.joinpath(name).mkdir(parents=True, exist_ok=True)
        home.joinpath("containers.conf").write_text(self.configuration(program))
        _plant_tree(home / "tree")
        with tarfile.open(home / "tree.tar", "w") as archive:
            archive.add(home / "tree", ".")
        shutil.rmtree(home / "tree")
        self._podman("import", "--quiet", str(HOME / "tree.tar"), IMAGE)
        # podman passes over a monitor whose --version it does not like, and takes another.
        taken = self._podman("info", "--format", "{{.Host.Conmon.Path}}")
        assert taken == f"{program}\n", f"podman refuses {program} and takes {taken}"

    def _podman(self, *arguments: str) -> str:
        command = self.command(*arguments)
        done = subprocess.run(
            command,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60 * SLOWNESS,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


class Podman:
    """What a test does with podman. Remembers what it started; *close* leaves a clean house."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._terminals: list[Terminal] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._gates: list[Gate] = []

    # -- commands -------------------------------------------------------------------------------

    def __call__(
        self,
        *arguments: str,
        stdin: IO[bytes] | int | None = None,
        data: bytes | None = None,
        stdout: IO[bytes] | int = subprocess.PIPE,
        seconds: float = 30,
        before: tuple[str, ...] = (),
    ) -> Result:
        """Run ``podman ARGUMENTS`` to its end; the input is *stdin*, or *data*, or empty."""
        process = self.start(
            *arguments,
            stdin=subprocess.PIPE if data is not None else stdin,
            stdout=stdout,
            before=before,
        )
        out, err = process.communicate(data, timeout=seconds * SLOWNESS)
        return Result(process.returncode, out or b"", err or b"")

    def ok(self, *arguments: str, seconds: float = 30) -> bytes:
        """Run ``podman ARGUMENTS``, which must succeed, and return its standard output."""
        done = self(*arguments, seconds=seconds)
        assert done.code == 0, (arguments, done)
        return done.out

    def start(
        self,
        *arguments: str,
        stdin: IO[bytes] | int | None = None,
        stdout: IO[bytes] | int = subprocess.PIPE,
        before: tuple[str, ...] = (),
    ) -> subprocess.Popen[bytes]:
        """Start ``podman ARGUMENTS`` with unbuffered pipes; it dies with the test."""
        process = Process(
            self.house.command(*self._with_cgroup(arguments), before=before),
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=self.house.environment,
            bufsize=0,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def terminal(self, *arguments: str, size: tuple[int, int] = (24, 80)) -> Terminal:
        """Start ``podman ARGUMENTS`` on a pseudo-terminal."""
        command = self.house.command(*self._with_cgroup(arguments))
        terminal = Terminal(command, self.house.environment, size)
        self._terminals.append(terminal)
        return terminal

    def shell(self, name: str, script: str, *options: str) -> None:
        """Start the container *name* in the background: a shell with *script*, and /share."""
        self.ok("run", "-d", "--name", name, *self.shared, *options, IMAGE, "sh", "-c", script)

    def idle(self, name: str, *options: str) -> None:
        """Start the container *name* in the background: it does nothing, for long."""
        self.ok("run", "-d", "--name", name, *self.shared, *options, IMAGE, *IDLE)

    # -- what there is to see -------------------------------------------------------------------

    @property
    def share(self) -> Path:
        """The directory that containers see as /share."""
        return self.house.path(HOME / "share")

    @property
    def shared(self) -> tuple[str, str]:
        return ("--volume", f"{HOME}/share:/share")

    def gate(self, name: str = "gate") -> Gate:
        gate = Gate(self.share / name)
        self._gates.append(gate)
        return gate

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ok("container", "inspect", name))[0]
        return found

    def state(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.inspect(name)["State"]
        return found

    def bundle(self, name: str) -> Path:
        return self.house.path(self.inspect(name)["OCIConfigPath"]).parent

    def monitor_pid(self, name: str) -> int:
        """Return the monitor's pid inside the house."""
        return int(self.house.path(self.inspect(name)["ConmonPidFile"]).read_text())

    def lives(self, pid: int) -> bool:
        return pid in self.house.processes()

    def child(self, process: subprocess.Popen[bytes]) -> int:
        """Return the (outer) pid of podman itself: nsenter stands between it and us."""
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        wait_until(lambda: children.read_text().split(), "the podman below nsenter")
        return int(children.read_text())

    def wait_for_client(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until *process*, a ``podman attach``, is connected to the monitor."""
        unix = Path("/proc/net/unix")  # the house has no network namespace of its own

        def connected() -> bool:
            links = set()
            with contextlib.suppress(FileNotFoundError):  # next time
                for path in Path(f"/proc/{self.child(process)}/fd").iterdir():
                    links.add(str(path.readlink()))
            rows = [line.split() for line in unix.read_text().splitlines()[1:]]
            # Type 5 is SOCK_SEQPACKET, state 3 is connected.
            inodes = {f"socket:[{row[6]}]" for row in rows if row[4:6] == ["0005", "03"]}
            return bool(links & inodes)

        wait_until(connected, "a podman that is attached")

    def log_file(self, name: str) -> Path:
        return self.house.path(self.inspect(name)["HostConfig"]["LogConfig"]["Path"])

    def wait_for_log(self, name: str, text: bytes, seconds: float = 15) -> None:
        """Wait until *text* stands in the container's log file."""
        path = self.log_file(name)
        wait_until(
            lambda: path.exists() and text in path.read_bytes(), f"{text!r} in {path}", seconds
        )

    # -- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """End what the test started; raise AssertionError if something stays behind."""
        for terminal in self._terminals:
            terminal.close()
        for process in self._processes:
            _kill_group(process)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        for gate in self._gates:
            gate.close()
        if self._bundles():
            self.ok("rm", "--all", "--force", "--time", "0")
        self.check_nothing_is_left()
        for directory in (self.share, self.house.path(HOME / "work")):
            for path in directory.iterdir():
                path.unlink()

    def check_nothing_is_left(self, seconds: float = 10) -> None:
        """Raise AssertionError unless all processes end within *seconds* and nothing is left."""
        house = self.house
        deadline = time.monotonic() + seconds * SLOWNESS
        while processes := house.processes():
            assert time.monotonic() < deadline, f"processes are left: {processes}"
            time.sleep(POLL_SECONDS)
        left = [
            *self._bundles(),
            *house.path(HOME / "tmpdir/exits").glob("*"),
            *house.path(HOME / "tmpdir/socket").glob("*"),
            *house.path("/run/runc").glob("*"),
            *(mount for mount in house.mounts() if mount.endswith("/merged")),
        ]
        assert not left, left

    def _bundles(self) -> list[Path]:
        containers = self.house.path(HOME / f"root/{self.house.driver}-containers")
        return [path for path in containers.iterdir() if path.is_dir()]

    def _with_cgroup(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        if arguments[0] not in {"run", "create"}:
            return arguments
        return (arguments[0], "--cgroup-parent", self.house.cgroup_parent, *arguments[1:])


def innermost(pid: int) -> int:
    """Return the podman that *pid*, a user's, has made in the user namespace it needs, or *pid*."""
    below = [pid]
    while below:
        (pid, *_), below, children = below, [], list[int]()
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            for path in Path(f"/proc/{pid}/task").glob("*/children"):
                children += [int(word) for word in path.read_text().split()]
            below = [one for one in children if Path(f"/proc/{one}/comm").read_text() == "podman\n"]
    return pid


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a session leader that we started and its group, unless it has ended."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def _plant_tree(tree: Path) -> None:
    """Make the smallest root file system: a static busybox and its names."""
    for name in ("bin", "dev", "etc", "proc", "share", "sys", "tmp"):
        tree.joinpath(name).mkdir()
    shutil.copy2("/bin/busybox", tree / "bin/busybox")
    applets = subprocess.check_output(["/bin/busybox", "--list"], text=True, timeout=10).split()
    for name in set(applets) - {"busybox"}:
        tree.joinpath("bin", name).symlink_to("busybox")
    tree.joinpath("etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    tree.joinpath("etc/group").write_text("root:x:0:\n")
