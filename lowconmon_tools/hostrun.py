"""hostrun isolates nothing: it runs the process of an OCI bundle as a process of the host.

usage: hostrun [--root DIR] [--log FILE] COMMAND
  create [--bundle DIR] [--pid-file FILE] [--console-socket PATH] [--preserve-fds N] ID
  exec --process FILE --detach [--pid-file FILE] [--console-socket PATH] [--preserve-fds N] ID
  start ID | state ID | kill ID [SIGNAL] | delete [--force] ID

Laws: what `create` made waits in C, not in Python, for the byte that `start` writes; a process is
known by pid and start time, so a reused pid is never signalled; bad input: one line and status 1.
"""

import getopt
import json
import os
import re
import select
import signal
import sys
from typing import Any

from lowconmon import _syscalls

COMMANDS = ("create", "delete", "exec", "kill", "start", "state")
# For getopt. Each is taken with any command; those of the last line change nothing.
OPTIONS = ["root=", "log=", "bundle=", "pid-file=", "console-socket=", "preserve-fds=", "process="]
OPTIONS += ["force", "help"]
OPTIONS += ["detach", "debug", "log-format=", "systemd-cgroup", "no-pivot", "no-new-keyring"]


def _load(path: str) -> dict[str, Any]:
    with open(path, "rb") as file:
        try:
            return {**json.load(file)}
        except (TypeError, ValueError, RecursionError) as error:  # TypeError: it is no object
            raise ValueError(f"{path}: {error}") from None


def _publish(path: str, text: str) -> None:
    """Make a file appear with all of its text or not at all."""
    temporary = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}")
    with open(temporary, "xb") as file:
        file.write(text.encode())
    _syscalls.rename(temporary, path)


def _start_time(pid: int) -> int:
    """Return when a process began, in ticks since boot, or 0 when it has ended (proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in b"ZX" else int(fields[19])


def _strings(key: str, values: object) -> list[bytes]:
    if not isinstance(values, list) or any(type(v) is not str or "\0" in v for v in values):
        raise ValueError(f"process.{key}: not strings, or one with a NUL")
    return [value.encode("utf-8", "surrogateescape") for value in values]


def _program(name: bytes, env: list[bytes], cwd: bytes) -> bytes:
    """Return the path of a program, found as Go's exec.LookPath does."""
    search = b"".join([entry[5:] for entry in env if entry.startswith(b"PATH=")][-1:])
    for part in [b"."] if b"/" in name else search.split(b":"):
        path = os.path.abspath(os.path.join(cwd, part, name))
        if part and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    why = "permission denied" if os.path.exists(path) else "no such file or directory"
    why = why if b"/" in name else "executable file not found in $PATH"
    raise ValueError(f'exec: "{os.fsdecode(name)}": {why}')


def _terminal(console: str) -> int:
    """Return the slave of a new terminal whose master went over the console socket."""
    master, slave = _syscalls.openpty()
    connection = _syscalls.socket(_syscalls.AF_UNIX, _syscalls.SOCK_STREAM)
    os.stat(console)  # an error of connect names no file
    _syscalls.connect(connection, os.fsencode(console))
    _syscalls.send_fds(connection, os.ttyname(slave).encode(), [master])
    _syscalls.close(connection)  # a created process would hold it, and the master, until its start
    _syscalls.close(master)
    return slave


class _Container:
    """A directory with the state and, until the start, the FIFO on which the process waits."""

    def __init__(self, root: str, name: str, options: dict[str, str]) -> None:
        self.name, self.home, self.options = name, f"{root}/{name}", options
        self.record, self.fifo = f"{self.home}/state.json", f"{self.home}/exec.fifo"

    def _find(self) -> dict[str, Any]:
        """Return the OCI state; what ended, or has another's pid now, has pid 0."""
        if not os.path.lexists(self.record):
            raise FileNotFoundError(f'container "{self.name}" does not exist')
        state = _load(self.record)
        state["status"] = "created" if os.path.lexists(self.fifo) else "running"
        if not (began := state.get("start_time")) or _start_time(state.get("pid", 0)) != began:
            state.update(status="stopped", pid=0)
        return state

    def _signal(self, number: int) -> int:
        """Signal the process; return its pidfd."""
        pid = self._find()["pid"]
        pidfd = _syscalls.pidfd_open(pid) if pid else -1
        if not self._find()["pid"]:  # if it lives still, the pidfd can be of no other process
            raise ProcessLookupError("the container is not running")
        _syscalls.pidfd_send_signal(pidfd, number)
        return pidfd

    def _launch(self, process: object, *, wait: bool) -> None:
        """Check and spawn a process, which may have to wait for the start."""
        if not isinstance(process, dict) or not process.get("args"):
            raise ValueError("process.args: missing or empty")
        argv, env = _strings("args", process["args"]), _strings("env", process.get("env", []))
        (cwd,) = _strings("cwd", [process.get("cwd", "/")])
        _syscalls.close(_syscalls.open(cwd, os.O_PATH | os.O_DIRECTORY))  # else OSError
        program, console = _program(argv[0], env, cwd), self.options.get("--console-socket")
        if bool(process.get("terminal")) != bool(console):
            raise ValueError("process.terminal and --console-socket: one without the other")
        how: Any = {"terminal": _terminal(console) if console else -1, "new_session": True}
        # Read and write: opening waits for no start, and the process, a writer too, meets no EOF.
        how["wait_fd"] = _syscalls.open(self.fifo, os.O_RDWR) if wait else -1
        how["defaulted"] = range(1, signal.NSIG)
        pid, error_fd = _syscalls.spawn(program, argv, env, cwd=cwd, **how)
        try:
            if wait:
                state = {"ociVersion": "1.0.2", "id": self.name, "pid": pid}
                state |= {"start_time": _start_time(pid), "bundle": self.options["--bundle"]}
                _publish(self.record, json.dumps(state))
            elif select.select([error_fd], [], []) and (failure := _syscalls.read(error_fd, 4)):
                text = os.strerror(int.from_bytes(failure, sys.byteorder)).lower()
                raise ValueError(f'exec: "{process["args"][0]}": {text}')
            if "--pid-file" in self.options:
                _publish(self.options["--pid-file"], str(pid))
        except (OSError, ValueError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def create(self) -> None:
        bundle = self.options["--bundle"] = os.path.abspath(self.options.get("--bundle", "."))
        process = _load(f"{bundle}/config.json").get("process")
        os.makedirs(self.home, 0o700)
        try:
            _syscalls.mkfifo(self.fifo, 0o600)
            self._launch(process, wait=True)
        except (OSError, ValueError):
            self.options["--force"] = ""
            self.delete()
            raise
        if os.isatty(2):  # only there: monitors log a runtime's stderr as the container's
            _syscalls.write(2, f"{__doc__}".partition("\n")[0].encode() + b"\n")

    def start(self) -> None:
        if (status := self._find()["status"]) != "created":
            raise ValueError(f"a container that is {status} cannot be started")
        fd = _syscalls.open(self.fifo, os.O_WRONLY | os.O_NONBLOCK)
        _syscalls.unlink(self.fifo)  # of two starts at once one succeeds here
        _syscalls.write(fd, b"0")

    def state(self) -> None:
        _syscalls.write(1, json.dumps(self._find(), indent=2).encode() + b"\n")

    def kill(self) -> None:
        name = self.options["SIGNAL"].upper().removeprefix("SIG")
        number = name if name.isdecimal() else getattr(signal, f"SIG{name}", signal.NSIG)
        if int(number) >= signal.NSIG:
            raise ValueError(f'unknown signal "{name}"')
        self._signal(int(number))

    def delete(self) -> None:
        if "--force" not in self.options and self._find()["status"] == "running":
            raise ValueError("a container that is running cannot be deleted")
        try:
            select.select([self._signal(signal.SIGKILL)], [], [], 10)  # until it is dead
        except (ProcessLookupError, FileNotFoundError, ValueError):
            pass  # it has ended, or its `create` was killed half-way, or with --force it never was
        if os.path.lexists(self.home):
            for name in os.listdir(self.home):
                _syscalls.unlink(f"{self.home}/{name}")
            _syscalls.rmdir(self.home)

    def exec(self) -> None:
        if not self._find()["pid"]:
            raise ValueError("a container that is stopped can run no process")
        self._launch(_load(self.options.get("--process", "process.json")), wait=False)


def main() -> None:
    """Do what the command line says, and leave."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no KeyboardInterrupt
    while _syscalls.open("/dev/null", os.O_RDWR) < 3:
        pass
    rest, words, options = sys.argv[1:], list[str](), dict[str, str]()
    try:
        while rest:  # options may stand before and after the command
            pairs, rest = getopt.getopt(rest, "", OPTIONS)
            options |= pairs
            words, rest = words + rest[:1], rest[1:]
        if "--help" in options:
            _syscalls.write(1, f"{__doc__}".encode())
            os._exit(0)
        command, name, options["SIGNAL"] = (*words, *("", "", "TERM")[len(words) :])[:3]
        if command not in COMMANDS or len(words) > 2 + (command == "kill"):
            raise ValueError(f"no such command, or too many arguments: {words}: see --help")
        if not re.fullmatch(r"\w[\w+.-]*", name, re.ASCII):
            raise ValueError(f'{command}: invalid container ID format: "{name}"')
        _syscalls.close_range(3 + max(0, int(options.get("--preserve-fds", "0"))))
        base = os.environ.get("XDG_RUNTIME_DIR", "/run") if os.geteuid() else "/run"
        getattr(_Container(options.get("--root", f"{base}/hostrun"), name, options), command)()
    except (OSError, OverflowError, ValueError, getopt.GetoptError) as error:
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(error))
        _syscalls.write(2, f"hostrun: {text}\n".encode())
        if "--log" in options:  # as JSON, whatever --log-format is
            fd = _syscalls.open(options["--log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            _syscalls.write(fd, json.dumps({"level": "error", "msg": text}).encode() + b"\n")
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    main()
