"""Run the process of an OCI bundle on the host, by the command line of an OCI runtime.

Laws: nothing is isolated (no namespace, root directory, cgroup); no Python process stays: what
`create` made waits in C for the byte that `start` writes; a process is known by pid and start time,
so a reused pid is never signalled; bad input raises ValueError or OSError: one line, status 1.
"""

import json
import os
import sys
import time

from . import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NOTICE = "hostrun isolates nothing: what it runs is a process of the host and of your user\n"
HELP = f"""usage: hostrun [--root DIR] [--log FILE] [--log-format text|json] COMMAND
  create [--bundle DIR] [--pid-file FILE] [--console-socket PATH] [--preserve-fds N] ID
  exec [--process FILE] [--detach] [--pid-file FILE] [--console-socket PATH] [--preserve-fds N] ID
  start ID | state ID | kill [--all] ID [SIGNAL] | delete [--force] ID
{NOTICE}"""
ENDING = (_syscalls.SIGHUP, _syscalls.SIGINT, _syscalls.SIGQUIT, _syscalls.SIGTERM)
ALL = range(1, _syscalls.NSIG)


def _load(path: str) -> "dict[str, Any]":
    """Return the JSON object in a file; bytes that are no UTF-8 become surrogates."""
    try:
        with open(path, "rb") as file:
            return {**json.loads(file.read().decode("utf-8", "surrogateescape"))}
    except (TypeError, ValueError, RecursionError) as error:  # TypeError: it is no object
        raise ValueError(f"{path}: {error}") from None


def _publish(path: str, text: str) -> None:
    """Make a file appear with all of its text or not at all."""
    temporary = os.path.join(os.path.dirname(path), f".{os.urandom(8).hex()}")
    fd = _syscalls.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    try:
        _syscalls.write(fd, text.encode())
        _syscalls.rename(temporary, path)
    except OSError:
        _syscalls.unlink(temporary)
        raise


def _start_time(pid: int) -> int:
    """Return when a process began, in ticks since boot, or 0 when it has ended (proc(5))."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in b"ZX" else int(fields[19])


def _find(home: str) -> "dict[str, Any]":
    """Return the OCI state of a container; what ended, or has another's pid now, has pid 0."""
    if not os.path.lexists(f"{home}/state.json"):
        raise FileNotFoundError(f'container "{os.path.basename(home)}" does not exist')
    state = _load(f"{home}/state.json")
    state["status"] = "created" if os.path.lexists(f"{home}/exec.fifo") else "running"
    if not (began := state.get("start_time")) or _start_time(state.get("pid", 0)) != began:
        state.update(status="stopped", pid=0)
    return state


def _signal(home: str, signal: int, *, group: bool) -> int:
    """Signal the container process, or its process group; return its pidfd."""
    pid = _find(home)["pid"]
    pidfd = _syscalls.pidfd_open(pid) if pid else -1
    if not _find(home)["pid"]:  # if it lives still, the pidfd can be of no other process
        raise ProcessLookupError("the container is not running")
    if group:
        os.killpg(pid, signal)
    else:
        _syscalls.pidfd_send_signal(pidfd, signal)
    return pidfd


def _strings(key: str, values: object) -> list[bytes]:
    if not isinstance(values, list) or any(type(v) is not str or "\0" in v for v in values):
        raise ValueError(f"process.{key}: not strings, or one with a NUL")
    return [value.encode("utf-8", "surrogateescape") for value in values]


def _program(name: bytes, env: list[bytes]) -> bytes:
    """Return the absolute path of a program, found as Go's exec.LookPath does."""
    search = [entry[5:] for entry in env if entry.startswith(b"PATH=")][-1:]
    for part in [b"."] if b"/" in name else b"".join(search).split(b":"):
        path = os.path.abspath(os.path.join(part, name))
        if part and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    why = "permission denied" if os.path.exists(name) else "no such file or directory"
    why = why if b"/" in name else "executable file not found in $PATH"
    raise ValueError(f'exec: "{os.fsdecode(name)}": {why}')


def _terminal(process: "dict[str, Any]", console: str | None) -> int:
    """Return the slave of a new terminal whose master went over the console socket, -1 for none."""
    if bool(process.get("terminal")) != bool(console):
        raise ValueError("process.terminal and --console-socket: one is given without the other")
    if console is None:
        return -1
    master, slave = _syscalls.openpty()
    connection = _syscalls.socket(_syscalls.AF_UNIX, _syscalls.SOCK_STREAM)
    size = process.get("consoleSize") or {"height": 0, "width": 0}
    try:
        _syscalls.set_winsize(master, size["height"], size["width"])
        os.chdir(os.path.dirname(console))  # so that only the name must fit into an address
        _syscalls.connect(connection, os.fsencode(os.path.basename(console)))
        _syscalls.send_fds(connection, os.ttyname(slave).encode(), [master])
    except (OSError, LookupError, OverflowError, TypeError) as error:
        raise ValueError(f"terminal of size {size} for {console}: {error}") from None
    _syscalls.close(connection)  # a created process would hold it, and the master, until its start
    _syscalls.close(master)
    return slave


def _launch(process: object, options: dict[str, str], home: str = "") -> int:
    """Check and spawn a process (with *home*: to wait for its start) and return its pid."""
    if not isinstance(process, dict) or not process.get("args"):
        raise ValueError("process.args: missing or empty")
    argv, env = _strings("args", process["args"]), _strings("env", process.get("env", []))
    (cwd,) = _strings("cwd", [process.get("cwd", "/")])
    os.chdir(os.fsdecode(cwd))
    program = _program(argv[0], env)
    slave = _terminal(process, options.get("--console-socket"))
    # Read and write: opening waits for no `start`, and the process, a writer too, meets no EOF.
    fifo = _syscalls.open(f"{home}/exec.fifo", os.O_RDWR) if home else -1
    pid, error_fd = _syscalls.spawn(
        program, argv, env, terminal=slave, new_session=True, wait_fd=fifo, cwd=cwd, defaulted=ALL
    )
    os.set_blocking(error_fd, True)
    try:
        if home:
            state: dict[str, object] = {"ociVersion": "1.0.2", "id": options["ID"], "pid": pid}
            state |= {"start_time": _start_time(pid), "bundle": options["--bundle"]}
            _publish(f"{home}/state.json", json.dumps(state))
        elif failure := _syscalls.read(error_fd, 4):
            text = os.strerror(int.from_bytes(failure, sys.byteorder)).lower()
            raise ValueError(f'exec: "{process["args"][0]}": {text}')
        if "--pid-file" in options:
            _publish(options["--pid-file"], str(pid))
    except (OSError, ValueError):
        os.kill(pid, _syscalls.SIGKILL)
        os.waitpid(pid, 0)
        raise
    return pid


def _create(home: str, options: dict[str, str]) -> None:
    options.setdefault("--bundle", os.path.abspath("."))
    process = _load(f"{options['--bundle']}/config.json").get("process")
    os.makedirs(home, 0o700)
    try:
        _syscalls.mkfifo(f"{home}/exec.fifo", 0o600)
        _launch(process, options, home)
    except (OSError, ValueError):
        _delete(home, {"--force": ""})
        raise
    if os.isatty(2):  # only there: monitors log a runtime's stderr as the container's
        _syscalls.write(2, NOTICE.encode())


def _start(home: str, _options: dict[str, str]) -> None:
    if (status := _find(home)["status"]) != "created":
        raise ValueError(f"a container that is {status} cannot be started")
    fd = _syscalls.open(f"{home}/exec.fifo", os.O_WRONLY | os.O_NONBLOCK)
    _syscalls.unlink(f"{home}/exec.fifo")  # of two starts at once one succeeds here
    _syscalls.write(fd, b"0")


def _state(home: str, _options: dict[str, str]) -> None:
    _syscalls.write(1, json.dumps(_find(home), indent=2).encode() + b"\n")


def _kill(home: str, options: dict[str, str]) -> None:
    from signal import Signals  # brings enum: for this command alone

    name = options.get("SIGNAL", "TERM").upper().removeprefix("SIG")
    kind = int(name) if name.isdecimal() else Signals.__members__.get(f"SIG{name}", _syscalls.NSIG)
    if kind >= _syscalls.NSIG:
        raise ValueError(f'unknown signal "{name}"')
    _signal(home, kind, group="--all" in options)


def _delete(home: str, options: dict[str, str]) -> None:
    if "--force" not in options and _find(home)["status"] == "running":
        raise ValueError("a container that is running cannot be deleted")
    try:
        pidfd = _signal(home, _syscalls.SIGKILL, group=True)
        epoll_fd = _syscalls.epoll_create1()
        _syscalls.epoll_ctl(epoll_fd, _syscalls.EPOLL_CTL_ADD, pidfd, _syscalls.EPOLLIN)
        if not _syscalls.epoll_wait(epoll_fd, 10_000):
            raise TimeoutError("the container does not die")
    except (ProcessLookupError, FileNotFoundError, ValueError):
        pass  # it has ended, or its `create` was killed half-way, or with --force it never was
    for name in os.listdir(home) if os.path.lexists(home) else ():
        _syscalls.unlink(f"{home}/{name}")
    if os.path.lexists(home):
        _syscalls.rmdir(home)


def _exec(home: str, options: dict[str, str]) -> int:
    if not _find(home)["pid"]:
        raise ValueError("a container that is stopped can run no process")
    pid = _launch(_load(options.get("--process", "process.json")), options)
    _syscalls.sigprocmask(_syscalls.SIG_UNBLOCK, ENDING)
    code = 0 if "--detach" in options else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code if code >= 0 else 128 - code


PLAIN = ("--preserve-fds", "--log-format")  # of the options with a value ("="): those without path
GLOBAL = ("--root=", "--log=", "--log-format=", "--systemd-cgroup", "--debug", "--help")
SPAWN = ("--pid-file=", "--console-socket=", "--preserve-fds=", "--help")
COMMANDS = {
    "create": (_create, ("ID",), ("--bundle=", "--no-pivot", "--no-new-keyring", *SPAWN)),
    "start": (_start, ("ID",), ("--help",)),
    "state": (_state, ("ID",), ("--help",)),
    "kill": (_kill, ("ID", "SIGNAL"), ("--all", "--help")),
    "delete": (_delete, ("ID",), ("--force", "--help")),
    "exec": (_exec, ("ID",), ("--process=", "--detach", *SPAWN)),
}


def _parse(rest: list[str], known: tuple[str, ...], options: dict[str, str]) -> None:
    """Move the options in front of *rest* to *options*; what is a path becomes absolute."""
    while rest and rest[0].startswith("-"):
        name, equals, value = rest.pop(0).partition("=")
        if f"{name}=" in known and (equals or rest):
            value = value if equals else rest.pop(0)
            options[name] = value if name in PLAIN else os.path.abspath(value)
        elif name in known and not equals:
            options[name] = ""
        else:
            raise ValueError(f"option {name} is unknown here, or lacks a value or has one too many")


def _run(rest: list[str], options: dict[str, str]) -> int:
    _parse(rest, GLOBAL, options)
    command = rest.pop(0) if rest else ""
    function, arguments, known = COMMANDS.get(command, (None, (), GLOBAL))
    _parse(rest, known, options)
    if "--help" in options:
        _syscalls.write(1, HELP.encode())
        return 0
    if function is None or not 1 <= len(rest) <= len(arguments):
        raise ValueError(f'no such command, or not as many arguments: "{command}": see --help')
    options.update(zip(arguments, rest, strict=False))
    name, uid, preserve = rest[0], os.geteuid(), options.get("--preserve-fds", "0")
    if not name.strip(".") or not all(c.isascii() and (c.isalnum() or c in "_+-.") for c in name):
        raise ValueError(f'invalid container ID format: "{name}"')
    if not preserve.isdecimal():
        raise ValueError(f'--preserve-fds: "{preserve}" is no number')
    _syscalls.close_range(3 + min(int(preserve), 1 << 20))
    base = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{uid}") if uid else "/run"
    return function(os.path.join(options.get("--root", f"{base}/hostrun"), name), options) or 0


def main(argv: list[str] | None = None) -> None:
    """Do what the command line (*argv*: without the program's name) says, and leave."""
    _syscalls.set_disposition(_syscalls.SIGINT, "default")  # no KeyboardInterrupt
    _syscalls.sigprocmask(_syscalls.SIG_BLOCK, ENDING)  # none parts a process from its pid file
    while _syscalls.open("/dev/null", os.O_RDWR) < 3:
        pass
    options: dict[str, str] = {}
    try:
        os._exit(_run(list(sys.argv[1:] if argv is None else argv), options))
    except (OSError, ValueError) as error:
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(error))
        if "--log" in options:
            now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            line = json.dumps({"level": "error", "msg": text, "time": now})
            line = line if options.get("--log-format") == "json" else f"{now} error: {text}"
            try:
                fd = _syscalls.open(options["--log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
                _syscalls.write(fd, line.encode() + b"\n")
            except OSError as failure:
                text += f" (and {failure})"
        _syscalls.write(2, f"hostrun: {text}\n".encode())
        os._exit(1)


if __name__ == "__main__":
    main()
