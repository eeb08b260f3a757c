"""Read the command line, become a daemon, monitor, leave.

Order is everything here (section 3 of the contract): signals are blocked first, and what the
manager must see fail fails before the fork.
"""

import errno
import os
import sys

from . import __version__, _syscalls
from .loop import Loop
from .monitor import FORWARDED, SIGNALS, Monitor
from .pure import log_drivers
from .pure.options import CheckError, OptionError, Options, check, help_text, parse
from .pure.runtime import find_variable
from .rooms.diagnostics import Diagnostics
from .rooms.logs import LogFile
from .rooms.reports import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._typing import Any, Iterable, NoReturn

_VERSION = f"conmon version 2.2.1\ncommit: lowconmon-{__version__}\n".encode()


def launch(blocked: "Iterable[int]") -> "NoReturn":
    """Live one container's life; *blocked*: the signals that were blocked when we were started."""
    fds = [int(name) for name in os.listdir("/proc/self/fd")]  # its own, closed now, among them
    inherited_fds = [fd for fd in fds if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}")]
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
    _syscalls.sigprocmask(_syscalls.SIG_BLOCK, SIGNALS)
    if _syscalls.get_disposition(_syscalls.SIGCHLD) == "ignored":
        as_started["ignored"] = [_syscalls.SIGCHLD]  # it would reap our children behind our back
        _syscalls.set_disposition(_syscalls.SIGCHLD, "default")
    _syscalls.set_name(b"conmon")
    os.umask(0o022)
    loop, diagnostics = Loop(), Diagnostics()
    options, log = _configure(loop, diagnostics)
    given = (environment, inherited_fds, diagnostics)
    sync_fd = _pipe(b"_OCI_SYNCPIPE", *given)
    start_fd = _pipe(b"_OCI_STARTPIPE", *given)
    attach_fd = _pipe(b"_OCI_ATTACHPIPE", *given) if options.exec_attach else -1
    if options.exec_attach and attach_fd < 0:
        _fail(diagnostics, "--attach specified but _OCI_ATTACHPIPE was not")
    try:  # to be killed last when memory runs out; what we start gets the old score
        with open("/proc/self/oom_score_adj", "r+b", buffering=0) as file:
            old_score = file.read(16).strip()
            file.write(b"-1000")
            as_started["oom_score_adj"] = old_score
    except OSError as error:
        diagnostics.debug("failed to write to /proc/self/oom_score_adj", error)
    _wait_for_start(start_fd)
    if not options.sync:
        _become_daemon(options, diagnostics)
    null_fd = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null_fd, fd)
    os.close(null_fd)
    diagnostics.on_stderr = False
    try:
        os.setsid()
    except PermissionError:  # with --sync, when we lead a process group already
        diagnostics.debug("setsid failed")
    _syscalls.set_child_subreaper(True)
    pipes = (sync_fd, start_fd, attach_fd)
    monitor = Monitor(options, diagnostics, loop, log, as_started, pipes)
    monitor.inherited_fds = [fd for fd in inherited_fds if fd not in pipes]
    os._exit(monitor.run() & 0xFF)


def _words(path: str) -> list[bytes]:
    """Return the NUL-ended words of a file of /proc: our arguments and environment as they came."""
    with open(path, "rb", buffering=0) as file:
        return file.readall().split(b"\0")[:-1]


def _leave(status: int, text: bytes, fd: int = 2) -> "NoReturn":
    """Print *text* and end at once, past the interpreter's shutdown."""
    try:
        os.write(fd, text)
    except OSError:
        status = status or 1
    os._exit(status)


def _fail(diagnostics: Diagnostics, text: str, error: OSError | None = None) -> "NoReturn":
    diagnostics.error(text, error)
    os._exit(1)


def _configure(loop: Loop, diagnostics: Diagnostics) -> tuple[Options, LogFile]:
    """Return the options, parsed and checked, and the log, opened; leave where they say so."""
    words = _words("/proc/self/cmdline")
    logs = [LogFile(loop, diagnostics, None)]
    try:
        options = parse(words[len(words) - len(sys.argv) + 1 :])
        if options.help:
            _leave(0, help_text(b"conmon"), 1)
        if options.version:
            _leave(0, _VERSION, 1)
        check(options, _check_executable, os.getcwdb)
        diagnostics.configure(options.log_level, options.cid or b"", options.log_tag)
        diagnostics.to_syslog = options.syslog
        plan = log_drivers.plan(
            options.log_path,
            cid=options.cid or b"",
            log_tag=options.log_tag,
            log_label=options.log_label,
            open_file=lambda path: logs.append(LogFile(loop, diagnostics, path)),
            no_container_partial_message=options.no_container_partial_message,
        )
    except OptionError as error:
        _leave(1, b"conmon: option parsing failed: " + error.text + b"\n")
    except CheckError as error:
        _leave(1, (b"conmon: " if error.plain else b"[conmon:e]: ") + error.text + b"\n")
    for text in plan.warnings:
        diagnostics.warn(text.decode("utf-8", "surrogateescape"))
    to_come = {
        b"restore": options.restore is not None,
        b"sdnotify-socket": options.sdnotify_socket is not None,
        b"log-size-max": options.log_size_max > 0,
        b"log-global-size-max": options.log_global_size_max > 0,
        b"log-rotate": options.log_rotate,
        b"log-path journald": plan.journald,
        b"log-path passthrough": plan.passthrough,
    }
    for name, given in to_come.items():
        if given:
            _leave(1, b"conmon: --" + name + b" is not supported yet\n")
    return options, logs[-1]


def _check_executable(path: bytes) -> None:
    """Raise OSError when *path* cannot be executed, as access(2) with X_OK does."""
    os.stat(path)
    if not os.access(path, os.X_OK):
        raise PermissionError(13, os.strerror(13))


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
    loop.add_signals(FORWARDED, lambda _: os._exit(1))
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


def _become_daemon(options: Options, diagnostics: Diagnostics) -> None:
    """Fork; the parent writes the pid file and leaves, the child goes on when that has worked."""
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
    if not _syscalls.read(go_fd, 1):
        os._exit(1)
    _syscalls.close(go_fd)
