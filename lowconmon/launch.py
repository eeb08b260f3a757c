"""Read the command line, become a daemon, monitor, leave.

Order is everything here (section 3 of the contract): signals are blocked first, and what the
manager must see fail fails before the fork.
"""

import errno
import posix as os
import sys

from . import _syscalls
from .loop import Loop
from .pure.runtime import find_variable
from .rooms import process
from .rooms.diagnostics import Diagnostics, leave
from .rooms.reports import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._typing import Any, Callable, Iterable, Logs, Monitor, NoReturn, Options


def launch(blocked: "Iterable[int]", count: int, load: "Callable[[], type[Monitor]]") -> "NoReturn":
    """Live one container's life.

    *blocked*: the signals that were blocked when we were started; *count*: of arguments, at the
    end of our command line; *load* imports the monitor.
    """
    try:
        _launch(blocked, count, load)
    except OSError as error:  # out of descriptors or memory, mostly
        leave(1, f"[conmon:e]: Failed to start: {error.strerror}\n".encode())


def _launch(
    blocked: "Iterable[int]", count: int, load: "Callable[[], type[Monitor]]"
) -> "NoReturn":
    fds = [int(name) for name in os.listdir("/proc/self/fd")]  # its own, closed now, among them
    inherited_fds = [fd for fd in fds if fd > 2 and os.access(f"/proc/self/fd/{fd}", os.F_OK)]
    environment = _words("/proc/self/environ")
    # CPython ignores two of them, and has a handler for one, which would act between fork and exec.
    defaulted = [_syscalls.SIGPIPE, _syscalls.SIGXFSZ]
    if _syscalls.get_disposition(_syscalls.SIGINT) == "handler":
        defaulted.append(_syscalls.SIGINT)
    as_started: dict[str, Any] = {
        "environment": environment,
        "blocked": list(blocked),
        "defaulted": defaulted,
    }
    _syscalls.sigprocmask(_syscalls.SIG_BLOCK, process.SIGNALS)
    if _syscalls.get_disposition(_syscalls.SIGCHLD) == "ignored":
        as_started["ignored"] = [_syscalls.SIGCHLD]  # it would reap our children behind our back
        _syscalls.set_disposition(_syscalls.SIGCHLD, "default")
    _syscalls.set_name(b"conmon")
    os.umask(0o022)
    loop, diagnostics = Loop(), Diagnostics()
    options, logs = _configured(loop, diagnostics, as_started, count)
    new_monitor = load()  # into the memory of what is done
    given = (environment, inherited_fds, diagnostics)
    sync_fd = _pipe(b"_OCI_SYNCPIPE", *given)
    start_fd = _pipe(b"_OCI_STARTPIPE", *given)
    attach_fd = _pipe(b"_OCI_ATTACHPIPE", *given) if options.exec_attach else -1
    if options.exec_attach and attach_fd < 0:
        _fail(diagnostics, "--attach specified but _OCI_ATTACHPIPE was not")
    _lower_oom_score(diagnostics, as_started)
    passed_fds = [os.dup(fd) for fd in range(3)] if logs.passthrough else []
    null_fd = os.open("/dev/null", os.O_RDWR)  # opened while somebody may still hear that it fails
    pipes = (sync_fd, start_fd, attach_fd)
    monitor = new_monitor(options, diagnostics, loop, logs, as_started, pipes, passed_fds)
    monitor.inherited_fds = [fd for fd in inherited_fds if fd not in pipes]
    _wait_for_start(start_fd)  # podman makes a cgroup meanwhile: what is above takes no time
    go_fd = -1 if options.sync else _become_daemon(options, diagnostics)
    for fd in range(3):
        os.dup2(null_fd, fd)
    os.close(null_fd)
    diagnostics.on_stderr = False
    try:
        os.setsid()
    except PermissionError:  # with --sync, when we lead a process group already
        diagnostics.debug("setsid failed")
    _syscalls.set_child_subreaper(True)
    if go_fd >= 0:  # setsid, which takes a third of a ms, went on beside the parent's work
        if not _syscalls.read(go_fd, 1):
            os._exit(1)
        _syscalls.close(go_fd)
    os._exit(monitor.run() & 0xFF)


def _configured(
    loop: Loop, diagnostics: Diagnostics, as_started: "dict[str, Any]", count: int
) -> "tuple[Options, Logs]":
    """Return what `configure` does, and free it with the parser: the monitor takes the memory."""
    from .configure import configure

    words = _words("/proc/self/cmdline")
    found = configure(loop, diagnostics, as_started, words[len(words) - count :])
    for name in ("configure", "pure.options", "pure.log_drivers"):
        parent, _, own = f"{__package__}.{name}".rpartition(".")
        delattr(sys.modules[parent], own)
        vars(sys.modules.pop(f"{parent}.{own}")).clear()  # its functions hold it, as it does them
    return found


def _lower_oom_score(diagnostics: Diagnostics, as_started: "dict[str, Any]") -> None:
    """Be killed last when memory runs out; what we start gets the old score."""
    try:
        fd = _syscalls.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
        try:
            score = _syscalls.read(fd, 16).strip()
            _syscalls.write(fd, b"-1000")
        finally:
            _syscalls.close(fd)
        as_started["oom_score_adj"] = score
    except OSError as error:
        diagnostics.debug("failed to write to /proc/self/oom_score_adj", error)


def _words(path: str) -> list[bytes]:
    """Return the NUL-ended words of a file of /proc: our arguments and environment as they came."""
    fd, text = _syscalls.open(path, os.O_RDONLY | os.O_CLOEXEC), b""
    while piece := _syscalls.read(fd, 65536):
        text += piece
    _syscalls.close(fd)
    return text.split(b"\0")[:-1]


def _fail(diagnostics: Diagnostics, text: str, error: OSError | None = None) -> "NoReturn":
    diagnostics.error(text, error)
    os._exit(1)


def _pipe(
    name: bytes, environment: list[bytes], inherited_fds: list[int], diagnostics: Diagnostics
) -> int:
    """Return the manager's pipe that *name* tells, now CLOEXEC; -1 when none is given."""
    index, value = find_variable(environment, name)
    if index < 0:
        return -1
    if not value.isdigit() or len(value) > 9:
        _fail(diagnostics, f"unable to parse {name.decode()}")
    if int(value) not in inherited_fds:  # closed, or by now one of ours
        error = OSError(errno.EBADF, os.strerror(errno.EBADF))
        _fail(diagnostics, f"unable to make {name.decode()} CLOEXEC", error)
    os.set_inheritable(int(value), False)  # noqa: FBT003 - os's own argument
    return int(value)


def _wait_for_start(fd: int) -> None:
    """Read the start pipe once, for as long as it takes; a signal to end ends us meanwhile."""
    loop = Loop()
    loop.add_signals(process.FORWARDED, lambda _: os._exit(1))
    if fd >= 0:
        try:
            loop.add_reader(fd, loop.stop)
            loop.run()
        except PermissionError:  # a regular file, which never blocks
            pass
        _syscalls.read(fd, 8192)
    loop.call_later(0, lambda: loop.call_later(0, loop.stop))  # a signal that came before counts
    loop.run()
    loop.close()


def _become_daemon(options: "Options", diagnostics: Diagnostics) -> int:
    """Fork; the parent writes the pid file and leaves; return where the child hears that it has."""
    go_fd, done_fd = _syscalls.pipe2(os.O_CLOEXEC)
    doing = "fork the create command"
    try:
        pid = os.fork()
        doing = "write conmon pidfile"
        if pid and options.conmon_pidfile is not None:
            replace_file(options.conmon_pidfile, b"%d" % pid)
    except OSError as error:
        _fail(diagnostics, f"Failed to {doing}", error)  # the child, if there is one, reads an end
    if pid:
        _syscalls.write(done_fd, b"1")
        os._exit(0)
    _syscalls.close(done_fd)
    return go_fd
