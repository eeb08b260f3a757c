"""Read the command line, become a daemon, monitor, leave.

Order is everything here (section 3 of the contract): descriptors 0-2 are filled and signals blocked
before anything else; what the manager must see fail fails before the fork.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from .pure.options import Options
    from .rooms.diagnostics import Diagnostics

_NULL = "/dev/null"


def _fill_standard_descriptors() -> None:
    """Put /dev/null where 0, 1 or 2 is closed, or the next file opened would become stdio."""
    fd = os.open(_NULL, os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)  # noqa: FBT003 - os's own argument
        fd = os.open(_NULL, os.O_RDWR)
    os.close(fd)


def _inherited_fds() -> list[int]:
    """Return the open descriptors from 3 up; to be called before any is opened."""
    with os.scandir("/proc/self/fd") as entries:
        fds = [int(entry.name) for entry in entries]
    inherited = []
    for fd in fds:
        if fd > 2:
            try:
                if os.get_inheritable(fd):  # the directory's own is CLOEXEC, and closed by now
                    inherited.append(fd)
            except OSError:  # the directory's own
                continue
    return inherited


def _arguments() -> list[bytes]:
    """Return our arguments as the bytes they were: no decoding is exact in every locale."""
    count = len(sys.argv) - 1
    with open("/proc/self/cmdline", "rb", buffering=0) as file:
        words = file.readall().split(b"\0")[:-1]
    return words[len(words) - count :]


def _environment() -> list[bytes]:
    """Return the environment block as we were given it: os.environ decodes, sorts out and adds."""
    with open("/proc/self/environ", "rb", buffering=0) as file:
        return file.readall().split(b"\0")[:-1]


def _leave(status: int, text: bytes = b"", fd: int = 2) -> "NoReturn":
    """Print *text* and end at once, past the interpreter's shutdown."""
    if text:
        try:
            os.write(fd, text)
        except OSError:
            os._exit(status or 1)
    os._exit(status)


def _pipe_from(environment: list[bytes], name: bytes, diagnostics: "Diagnostics") -> int:
    """Return the manager's descriptor named in the environment, now CLOEXEC; -1 without one."""
    from .pure.runtime import find_variable

    index, value = find_variable(environment, name)
    if index < 0:
        return -1
    try:
        fd = int(value) if value.isdigit() else -1
        os.set_inheritable(fd, False)  # noqa: FBT003 - os's own argument
    except (OSError, OverflowError) as error:
        text = (
            f"unable to make {name.decode()} CLOEXEC"
            if value.isdigit()
            else f"unable to parse {name.decode()}"
        )
        diagnostics.error(text, error if isinstance(error, OSError) else None)
        _leave(1)
    return fd


def _wait_for_start(fd: int) -> None:
    """Read the start pipe once, for as long as it takes; SIGTERM and its like end us meanwhile."""
    from . import _syscalls
    from .loop import Loop

    loop = Loop()
    loop.add_signals((_syscalls.SIGTERM, _syscalls.SIGINT, _syscalls.SIGQUIT), lambda _: _leave(1))
    try:
        loop.add_reader(fd, loop.stop)
    except PermissionError:  # a regular file, which never blocks
        pass
    else:
        loop.run()
    loop.close()
    _syscalls.read(fd, 8192)


def _read_score() -> bytes | None:
    """Ask not to be killed first when memory runs out; return the old score if that worked."""
    from . import _syscalls

    fd = _syscalls.open("/proc/self/oom_score_adj", os.O_RDWR | os.O_CLOEXEC)
    try:
        old = _syscalls.read(fd, 16)
        _syscalls.write(fd, b"-1000")
    finally:
        _syscalls.close(fd)
    return old.strip()


def _not_supported(options: "Options") -> bytes:
    """Return the first option that is given and does nothing yet."""
    given = (
        (options.restore is not None, b"restore"),
        (options.sdnotify_socket is not None, b"sdnotify-socket"),
        (options.log_size_max > 0, b"log-size-max"),
        (options.log_global_size_max > 0, b"log-global-size-max"),
        (options.log_rotate, b"log-rotate"),
    )
    return next((name for is_given, name in given if is_given), b"")


def main() -> "NoReturn":
    """Run the program conmon."""
    _fill_standard_descriptors()
    try:
        from . import __version__, _syscalls
    except ImportError as error:
        _leave(1, b"conmon: " + str(error).encode() + b"\n")
    from .monitor import SIGNALS, Monitor, Start
    from .pure import log_drivers, options as options_module
    from .rooms.diagnostics import LEVELS, Diagnostics
    from .rooms.logs import LogFile
    from .rooms.process import Launcher

    inherited_fds = _inherited_fds()
    environment = _environment()
    launcher = Launcher(environment)
    launcher.blocked = _syscalls.sigprocmask(_syscalls.SIG_BLOCK, SIGNALS)
    if _syscalls.get_disposition(_syscalls.SIGCHLD) == "ignored":
        launcher.ignored = (_syscalls.SIGCHLD,)  # it would reap our children behind our back
        _syscalls.set_disposition(_syscalls.SIGCHLD, "default")
    _syscalls.set_name(b"conmon")
    os.umask(0o022)

    try:
        options = options_module.parse(_arguments())
    except options_module.OptionError as error:
        _leave(1, b"conmon: option parsing failed: " + error.text + b"\n")
    if options.help:
        _leave(0, options_module.help_text(b"conmon"), 1)
    if options.version:
        version = f"conmon version 2.2.1\ncommit: lowconmon-{__version__}\n"
        _leave(0, version.encode(), 1)

    diagnostics = Diagnostics()
    log: LogFile | None = None

    def open_log(path: bytes) -> None:
        nonlocal log
        if log:
            log.close()
        log = LogFile(diagnostics, path)

    try:
        options_module.check(options, lambda path: _check_executable(path), os.getcwdb)
        diagnostics.level = LEVELS[options.log_level]
        diagnostics.to_syslog = options.syslog
        diagnostics.identity = options.cid or b""
        if options.log_tag:
            diagnostics.identity += b": " + options.log_tag
        plan = log_drivers.plan(
            options.log_path,
            cid=options.cid or b"",
            log_tag=options.log_tag,
            log_label=options.log_label,
            open_file=open_log,
            no_container_partial_message=options.no_container_partial_message,
        )
    except options_module.CheckError as error:
        _leave(1, (b"conmon: " if error.plain else b"[conmon:e]: ") + error.text + b"\n")
    for text in plan.warnings:
        diagnostics.warn(text.decode("utf-8", "surrogateescape"))
    missing = _not_supported(options)
    if plan.journald or plan.passthrough:
        missing = b"log-path " + (b"journald" if plan.journald else b"passthrough")
    if missing:
        _leave(1, b"conmon: --" + missing + b" is not supported yet\n")

    start = Start(options, diagnostics, launcher)
    start.log = log
    start.sync_fd = _pipe_from(environment, b"_OCI_SYNCPIPE", diagnostics)
    start.start_fd = _pipe_from(environment, b"_OCI_STARTPIPE", diagnostics)
    if options.exec_attach:
        start.attach_fd = _pipe_from(environment, b"_OCI_ATTACHPIPE", diagnostics)
        if start.attach_fd < 0:
            diagnostics.error("--attach specified but _OCI_ATTACHPIPE was not")
            _leave(1)
    ours = {start.sync_fd, start.start_fd, start.attach_fd}
    start.inherited_fds = [fd for fd in inherited_fds if fd not in ours]
    try:
        launcher.oom_score_adj = _read_score()
    except OSError as error:
        diagnostics.debug("failed to write to /proc/self/oom_score_adj", error)
    if start.start_fd >= 0:
        _wait_for_start(start.start_fd)
        if not options.exec_attach:
            _syscalls.close(start.start_fd)
            start.start_fd = -1
    if not options.sync:
        start.go_fd = _become_daemon(options, diagnostics)
    null_fd = os.open(_NULL, os.O_RDWR)
    for fd in range(3):
        os.dup2(null_fd, fd)
    os.close(null_fd)
    diagnostics.on_stderr = False
    try:
        os.setsid()
    except PermissionError:  # with --sync, when we lead a process group already
        diagnostics.debug("setsid failed")
    _syscalls.set_child_subreaper(True)  # noqa: FBT003 - as prctl's argument
    _leave(Monitor(start).run() & 0xFF)


def _check_executable(path: bytes) -> None:
    """Raise OSError when *path* cannot be executed, as access(2) with X_OK does."""
    os.stat(path)
    if not os.access(path, os.X_OK):
        raise PermissionError(13, os.strerror(13))


def _become_daemon(options: "Options", diagnostics: "Diagnostics") -> int:
    """Fork; the parent writes the pid file and leaves, the child returns what tells it so."""
    from . import _syscalls
    from .rooms.reports import replace_file

    go_fd, done_fd = _syscalls.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError as error:
        diagnostics.error("Failed to fork the create command", error)
        _leave(1)
    if pid == 0:
        _syscalls.close(done_fd)
        return go_fd
    if options.conmon_pidfile is not None:
        try:
            replace_file(options.conmon_pidfile, b"%d" % pid)
        except OSError as error:
            diagnostics.error("Failed to write conmon pidfile", error)
            _leave(1)  # the child reads an end and starts nothing
    _syscalls.write(done_fd, b"1")
    _leave(0)


if __name__ == "__main__":
    main()
