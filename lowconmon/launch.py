"""Read the command line, become a daemon, monitor, leave.

Order is everything here (section 3 of the contract): signals are blocked first, and what the
manager must see fail fails before the fork.
"""

import errno
import posix
import sys
from posix import _exit

from . import __version__, _syscalls
from .loop import Loop
from .monitor import FORWARDED, SIGNALS, Monitor
from .pure import log_drivers
from .pure.options import CheckError, OptionError, Options, check, help_text, parse
from .pure.records import K8sRecords
from .pure.runtime import find_variable
from .rooms import process
from .rooms.diagnostics import Diagnostics
from .rooms.log_file import LogFile
from .rooms.logs import Logs
from .rooms.reports import replace_file
from .rooms.rotation import Rotation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._typing import Any, Iterable, NoReturn, Process, Records

_VERSION = f"conmon version 2.2.1\ncommit: lowconmon-{__version__}\n".encode()


def launch(blocked: "Iterable[int]") -> "NoReturn":
    """Live one container's life; *blocked*: the signals that were blocked when we were started."""
    fds = [int(name) for name in posix.listdir("/proc/self/fd")]  # its own, closed now, among them
    inherited_fds = [fd for fd in fds if fd > 2 and posix.access(f"/proc/self/fd/{fd}", posix.F_OK)]
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
    posix.umask(0o022)
    loop, diagnostics = Loop(), Diagnostics()
    options, logs = _configure(loop, diagnostics, as_started)
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
    passed_fds = [posix.dup(fd) for fd in range(3)] if logs.passthrough else []
    null_fd = posix.open(
        "/dev/null", posix.O_RDWR
    )  # opened while somebody may still hear that it fails
    _wait_for_start(start_fd)
    if not options.sync:
        _become_daemon(options, diagnostics)
    for fd in range(3):
        posix.dup2(null_fd, fd)
    posix.close(null_fd)
    diagnostics.on_stderr = False
    try:
        posix.setsid()
    except PermissionError:  # with --sync, when we lead a process group already
        diagnostics.debug("setsid failed")
    _syscalls.set_child_subreaper(True)
    pipes = (sync_fd, start_fd, attach_fd)
    monitor = Monitor(options, diagnostics, loop, logs, as_started, pipes, passed_fds)
    monitor.inherited_fds = [fd for fd in inherited_fds if fd not in pipes]
    _exit(monitor.run() & 0xFF)


def _words(path: str) -> list[bytes]:
    """Return the NUL-ended words of a file of /proc: our arguments and environment as they came."""
    with open(path, "rb", buffering=0) as file:
        return file.readall().split(b"\0")[:-1]


def _leave(status: int, text: bytes, fd: int = 2) -> "NoReturn":
    """Print *text* and end at once, past the interpreter's shutdown."""
    try:
        posix.write(fd, text)
    except OSError:
        status = status or 1
    _exit(status)


def _fail(diagnostics: Diagnostics, text: str, error: OSError | None = None) -> "NoReturn":
    diagnostics.error(text, error)
    _exit(1)


def _configure(
    loop: Loop, diagnostics: Diagnostics, as_started: "dict[str, Any]"
) -> tuple[Options, Logs]:
    """Return the options, parsed and checked, and the logs, opened; leave where they say so."""
    words = _words("/proc/self/cmdline")
    logs = Logs(loop)
    try:
        options = parse(words[len(words) - len(sys.argv) + 1 :])
        if options.help:
            _leave(0, help_text(b"conmon"), 1)
        if options.version:
            _leave(0, _VERSION, 1)
        check(options, _check_executable, posix.getcwdb)
        diagnostics.configure(options.log_level, options.cid or b"", options.log_tag)
        diagnostics.to_syslog = options.syslog
        plan = log_drivers.plan(
            options.log_path,
            cid=options.cid or b"",
            log_tag=options.log_tag,
            log_label=options.log_label,
            open_file=lambda plan: _open_file(plan, options, diagnostics, as_started, logs),
            no_container_partial_message=options.no_container_partial_message,
        )
    except OptionError as error:
        _leave(1, b"conmon: option parsing failed: " + error.text + b"\n")
    except CheckError as error:
        _leave(1, (b"conmon: " if error.plain else b"[conmon:e]: ") + error.text + b"\n")
    for text in plan.warnings:
        diagnostics.warn(text.decode("utf-8", "surrogateescape"))
    logs.passthrough = plan.passthrough
    if plan.journald:
        from .rooms.journal import Journal  # its memory is for those who want it

        names = options.cid or b"", options.name, options.log_tag, options.log_label
        journal = Journal(
            loop,
            diagnostics,
            *names,
            mark_partial=not options.no_container_partial_message,
            prefix_is_priority=_is_set(as_started, b"LOWCONMON_JOURNAL_PRIORITY"),
        )
        logs.drivers.append(journal)
    return options, logs


def _open_file(
    plan: log_drivers.LogPlan,
    options: Options,
    diagnostics: Diagnostics,
    as_started: "dict[str, Any]",
    logs: Logs,
) -> None:
    """Open the log file of *plan* and add it to *logs*. Raises OSError."""
    path = plan.path or b""
    records: Records = K8sRecords(_syscalls._frame_lines)  # noqa: SLF001 - nobody else's
    if plan.driver == b"json-file":
        from .pure.json_records import JsonRecords  # as Journal

        records = JsonRecords()
    on_error = find_variable(as_started["environment"], b"LOWCONMON_LOG_ON_ERROR")[1]
    if on_error not in (b"", b"hold", b"drop"):
        diagnostics.warn("LOWCONMON_LOG_ON_ERROR must be hold or drop")
    backups = options.log_max_files if options.log_rotate else 0
    rotation = Rotation(path, backups, options.log_allowlist_dir)
    limits = {"size_max": options.log_size_max, "total_max": options.log_global_size_max}
    drops = on_error == b"drop"
    file = LogFile(logs.loop, diagnostics, path, records, rotation, drops=drops, **limits)
    logs.drivers.append(file)
    if backups and _is_set(as_started, b"LOWCONMON_LOG_COMPRESS"):
        from .rooms.compression import Compression  # as Journal

        def start(*arguments: "Any", **how: "Any") -> "Process":
            return process.start(logs.loop, as_started, *arguments, **how)

        logs.compression = Compression(logs.loop, diagnostics, path, backups, start)
        rotation.on_backup = logs.compression.start


def _is_set(as_started: "dict[str, Any]", name: bytes) -> bool:
    return find_variable(as_started["environment"], name)[1] == b"1"


def _check_executable(path: bytes) -> None:
    """Raise OSError when *path* cannot be executed, as access(2) with X_OK does."""
    posix.stat(path)
    if not posix.access(path, posix.X_OK):
        raise PermissionError(errno.EACCES, posix.strerror(errno.EACCES))


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
        error = OSError(errno.EBADF, posix.strerror(errno.EBADF))
        _fail(diagnostics, f"unable to make {name.decode()} CLOEXEC", error)
    posix.set_inheritable(int(value), False)  # noqa: FBT003 - os's own argument
    return int(value)


def _wait_for_start(fd: int) -> None:
    """Read the start pipe once, for as long as it takes; a signal to end ends us meanwhile."""
    loop = Loop()
    loop.add_signals(FORWARDED, lambda _: _exit(1))
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
    go_fd, done_fd = _syscalls.pipe2(posix.O_CLOEXEC)
    doing = "fork the create command"
    try:
        pid = posix.fork()
        doing = "write conmon pidfile"
        if pid and options.conmon_pidfile is not None:
            replace_file(options.conmon_pidfile, b"%d" % pid)
    except OSError as error:
        _fail(diagnostics, f"Failed to {doing}", error)  # the child, if there is one, reads an end
    if pid:
        _syscalls.write(done_fd, b"1")
        _exit(0)
    _syscalls.close(done_fd)
    if not _syscalls.read(go_fd, 1):
        _exit(1)
    _syscalls.close(go_fd)
