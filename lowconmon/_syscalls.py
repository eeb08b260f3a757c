"""The Linux calls of a supervisor: one function a call, named as its man page, no policy.

Laws: a descriptor made here is CLOEXEC; a descriptor argument is an int or has `fileno()`; a failure
raises OSError with the call's errno; a call broken by a signal is begun again (PEP 475). All I/O of
the program goes through this module, os functions included, so that a test can fail any of it.
"""

import errno as _errno
import sys as _sys

if _sys.platform != "linux":
    raise ImportError("lowconmon needs Linux 5.9 or newer, this is " + _sys.platform)
import posix as _os  # os and what it needs cost 0.25 MB

_release = _os.uname().release  # Linux 5.9 is the first with close_range
if [int(part) for part in _release.replace("-", ".").split(".")[:2] if part.isdigit()] < [5, 9]:
    raise ImportError("lowconmon needs Linux 5.9 or newer, this is " + _release)

from ._ffi import ffi as _ffi, lib as _lib  # noqa: E402 - only where it can work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from _typeshed import FileDescriptorLike as Fd, ReadableBuffer as Buffer

    from ._ffi import *  # noqa: F403 - the constants
del TYPE_CHECKING  # no part of the interface

# The constants that build_ffi.py lists and _ffi.pyi declares
globals().update({name: getattr(_lib, name) for name in dir(_lib) if name.isupper()})

# What os has is handed on unchanged.
close, fstat, fsync, ftruncate = _os.close, _os.fstat, _os.fsync, _os.ftruncate
mkdir, mkfifo, rename, rmdir = _os.mkdir, _os.mkfifo, _os.rename, _os.rmdir
open, pread, read, readv = _os.open, _os.pread, _os.read, _os.readv  # noqa: A001 - open(2)
readlink = _os.readlink
stat, symlink, unlink, write = _os.stat, _os.symlink, _os.unlink, _os.write
eventfd, eventfd_read, eventfd_write = _os.eventfd, _os.eventfd_read, _os.eventfd_write
memfd_create, pidfd_open = _os.memfd_create, _os.pidfd_open
P_PIDFD, WEXITED, WNOHANG, WNOWAIT = _os.P_PIDFD, _os.WEXITED, _os.WNOHANG, _os.WNOWAIT

_events = _ffi.new("uint64_t[]", 2 * 64)
_signals = _ffi.new("int[]", _lib.NSIG)
_pair = _ffi.new("int[2]")
_new_buffer = _ffi.new_allocator(should_clear_after_alloc=False)


def _fd(fd: "Fd") -> int:
    return fd if isinstance(fd, int) else fd.fileno()


def _call(function: "Callable[..., int]", *arguments: object) -> int:
    """Call a shim, again after EINTR (Python's own handlers run in between); raise its errno."""
    while True:
        result = function(*arguments)
        if result >= 0:
            return result
        if result != -_errno.EINTR:
            raise OSError(-result, _os.strerror(-result))


def epoll_create1() -> int:
    """Return a new epoll descriptor (epoll_create1(2))."""
    return _call(_lib.lc_epoll_create1)


def epoll_ctl(epoll_fd: "Fd", operation: int, fd: "Fd", events: int = 0, data: int = 0) -> None:
    """Add, change or remove *fd*; *data* (64 bits) comes back. EPERM: a file without readiness."""
    _call(_lib.lc_epoll_ctl, _fd(epoll_fd), operation, _fd(fd), events, data)


def epoll_wait(epoll_fd: "Fd", timeout_ms: int = -1) -> "list[tuple[int, int]]":
    """Return up to 64 pairs of (events, data); none after *timeout_ms* or a signal (epoll_wait(2))."""
    count = _call(_lib.lc_epoll_wait, _fd(epoll_fd), _events, timeout_ms)
    numbers = iter(_ffi.unpack(_events, 2 * count))
    return list(zip(numbers, numbers, strict=True))


def signalfd(signals: "Sequence[int]") -> int:
    """Return a non-blocking descriptor that reads *signals*; block them first (signalfd(2))."""
    return _call(_lib.lc_signalfd, list(signals), len(signals))


def read_signal(signal_fd: "Fd") -> int:
    """Return the number of the next pending signal. Raises BlockingIOError when there is none."""
    data = _os.read(_fd(signal_fd), _ffi.sizeof("struct signalfd_siginfo"))
    return int(_ffi.from_buffer("struct signalfd_siginfo[]", data)[0].ssi_signo)


def sigprocmask(how: int, signals: "Sequence[int]") -> list[int]:
    """Change the mask of blocked signals by *how* and return the old one (sigprocmask(2))."""
    count = _call(_lib.lc_sigprocmask, how, list(signals), len(signals), _signals)
    return list(_ffi.unpack(_signals, count)) if count else []


def get_disposition(signal: int) -> str:
    """Return "default", "ignored" or "handler" (sigaction(2)); Python's own handlers count."""
    return ("default", "ignored", "handler")[_call(_lib.lc_get_disposition, signal)]


def set_disposition(signal: int, disposition: str) -> None:
    """Set *signal* to "default" or "ignored" behind Python's back (sigaction(2))."""
    _call(_lib.lc_set_disposition, signal, ("default", "ignored").index(disposition))


def waitid(id_type: int, target: "Fd", options: int) -> "_os.waitid_result | None":
    """Wait for a child; None when WNOHANG is among *options* and nothing happened (waitid(2))."""
    return _os.waitid(id_type, _fd(target), options)


def waitid_rusage(
    id_type: int, target: "Fd", options: int
) -> "tuple[_os.waitid_result, dict[str, int]] | None":
    """As `waitid`, and the child's `user_us`, `system_us` and `max_rss_kb` (getrusage(2))."""
    values = _ffi.new("int64_t[8]")
    if not _call(_lib.lc_waitid_rusage, id_type, _fd(target), options, values):
        return None
    *result, user, system, rss = _ffi.unpack(values, 8)
    usage = {"user_us": user, "system_us": system, "max_rss_kb": rss}
    return _os.waitid_result(result), usage


def pidfd_send_signal(pidfd: "Fd", signal: int) -> None:
    """Send *signal* to the process (pidfd_send_signal(2)). Raises OSError: ESRCH, EPERM."""
    _call(_lib.lc_pidfd_send_signal, _fd(pidfd), signal)


def pidfd_get_info(pidfd: "Fd") -> int | None:
    """Return any process's wait status, None until reaped; ENOSYS before Linux 6.15."""
    status = _ffi.new("int *")
    try:
        return status[0] if _call(_lib.lc_pidfd_get_info, _fd(pidfd), status) else None
    except OSError as error:
        if error.errno == _errno.ENOSYS:
            error.strerror = "PIDFD_GET_INFO is not available: it needs Linux 6.15"
        raise


def set_child_subreaper(on: bool) -> None:  # noqa: FBT001 - as prctl's argument
    """Become (or stop being) the parent of orphaned descendants (PR_SET_CHILD_SUBREAPER)."""
    _call(_lib.lc_set_child_subreaper, int(on))


def get_child_subreaper() -> bool:
    """Tell whether this process is a subreaper (PR_GET_CHILD_SUBREAPER)."""
    return bool(_call(_lib.lc_get_child_subreaper))


def set_pdeathsig(signal: int) -> None:
    """Ask for *signal* when the parent dies, 0 for none (PR_SET_PDEATHSIG)."""
    _call(_lib.lc_set_pdeathsig, signal)


def set_name(name: bytes) -> None:
    """Set the name in /proc/self/comm, cut to 15 bytes (PR_SET_NAME)."""
    _call(_lib.lc_set_name, name)


def keep_effective(capabilities: "Sequence[int]") -> None:
    """Put this thread's capabilities but those out of effect; they stay permitted (capset(2))."""
    _call(_lib.lc_keep_effective, sum(1 << capability for capability in capabilities))


def spawn(  # noqa: PLR0913 - a process has that many sides
    path: bytes,
    arguments: "Sequence[bytes]",
    environment: "Sequence[bytes]",
    *,
    stdio: "tuple[int, int, int]" = (-1, -1, -1),
    terminal: int = -1,
    new_session: bool = False,
    death_signal: int = 0,
    wait_fd: int = -1,
    vfork: bool = False,
    listen_pid_index: int = -1,
    oom_score_adj: bytes | None = None,
    cwd: bytes | None = None,
    blocked: "Sequence[int]" = (),
    ignored: "Sequence[int]" = (),
    defaulted: "Sequence[int]" = (),
) -> tuple[int, int]:
    """Start *path* and return at once with (pid, error_fd); nothing but C runs before exec.

    error_fd is non-blocking: it reads the errno of what failed as a native int (the child ends with
    status 127), or EOF once exec worked. *environment*: entries as in environ(7); the one at
    *listen_pid_index* becomes LISTEN_PID=<pid of the child>. *stdio*: descriptors for 0-2, -1 for
    inherited; *terminal* stands for all three and becomes the controlling terminal. *death_signal*:
    sent when the caller's thread dies. Before exec the child blocks until *wait_fd* was read once;
    without one, *vfork* makes the caller block until exec, and saves it the copies of its pages.
    Raises OSError: EAGAIN, ENOMEM, EMFILE; IndexError.
    """
    if listen_pid_index >= len(environment):
        raise IndexError("listen_pid_index is beyond the environment")
    how, error_fd = _ffi.new("struct lc_spawn *"), _ffi.new("int *")
    how.fds = (*(stdio if terminal < 0 else (terminal,) * 3), wait_fd)
    how.new_session, how.terminal, how.vfork = new_session, terminal >= 0, vfork
    how.death_signal, how.listen_pid_index = death_signal, listen_pid_index
    # What only C points to has a name here, or cffi would free it before the call.
    argv = [*(_ffi.new("char[]", argument) for argument in arguments), _ffi.NULL]
    envp = [*(_ffi.new("char[]", entry) for entry in environment), _ffi.NULL]
    texts = [_ffi.new("char[]", it) if it is not None else _ffi.NULL for it in (oom_score_adj, cwd)]
    lists = [_ffi.new("int[]", list(signals)) for signals in (blocked, ignored, defaulted)]
    how.oom_score_adj, how.cwd = texts
    how.blocked, how.ignored, how.defaulted = lists
    how.blocked_count, how.ignored_count, how.defaulted_count = map(len, lists)
    return _call(_lib.lc_spawn, path, argv, envp, how, error_fd), error_fd[0]


def openpty() -> tuple[int, int]:
    """Return (master, slave) of a new terminal (posix_openpt(3), TIOCGPTPEER)."""
    _call(_lib.lc_openpty, _pair)
    return _pair[0], _pair[1]


def get_oflag(fd: "Fd") -> int:
    """Return the output flags (c_oflag, ONLCR among them) of a terminal (tcgetattr(3))."""
    return _call(_lib.lc_oflag, _fd(fd), -1)


def set_oflag(fd: "Fd", flags: int) -> None:
    """Set the output flags of a terminal, at once (tcsetattr(3)). Raises OSError: ENOTTY."""
    _call(_lib.lc_oflag, _fd(fd), flags)


def set_winsize(fd: "Fd", rows: int, columns: int) -> None:
    """Resize a terminal; its foreground processes get SIGWINCH (TIOCSWINSZ)."""
    _call(_lib.lc_set_winsize, _fd(fd), rows, columns)


def get_winsize(fd: "Fd") -> tuple[int, int]:
    """Return (rows, columns) of a terminal (TIOCGWINSZ)."""
    columns, rows = _os.get_terminal_size(_fd(fd))
    return rows, columns


def socket(family: int, kind: int) -> int:
    """Return a new socket; *kind* may hold SOCK_NONBLOCK (socket(2))."""
    return _call(_lib.lc_socket, family, kind)


def socketpair(family: int, kind: int) -> tuple[int, int]:
    """Return two connected sockets (socketpair(2))."""
    _call(_lib.lc_socketpair, family, kind, _pair)
    return _pair[0], _pair[1]


def bind(fd: "Fd", path: bytes) -> None:
    """Bind to *path*, abstract if it starts with NUL (bind(2)). ENAMETOOLONG past SUN_PATH_MAX."""
    _call(_lib.lc_at_path, 0, _fd(fd), path, len(path))


def connect(fd: "Fd", path: bytes) -> None:
    """Connect to *path*, abstract if it starts with NUL (connect(2))."""
    _call(_lib.lc_at_path, 1, _fd(fd), path, len(path))


def listen(fd: "Fd", backlog: int) -> None:
    """Accept connections from now on (listen(2))."""
    _call(_lib.lc_listen, _fd(fd), backlog)


def accept4(fd: "Fd", flags: int = 0) -> int:
    """Return the next connection; *flags* may be SOCK_NONBLOCK (accept4(2))."""
    return _call(_lib.lc_accept4, _fd(fd), flags)


def shutdown(fd: "Fd") -> None:
    """End a connection in both directions; what was sent can still be read (shutdown(2))."""
    _call(_lib.lc_shutdown, _fd(fd))


def peer_uid(fd: "Fd") -> int:
    """Return the user id of the process at the other end (SO_PEERCRED)."""
    return _call(_lib.lc_peer_uid, _fd(fd))


def send(fd: "Fd", data: "Buffer", flags: int = 0) -> int:
    """Send and return how many bytes were taken; never SIGPIPE (send(2))."""
    return send_fds(fd, data, (), flags)


def send_fds(fd: "Fd", data: "Buffer", fds: "Sequence[int]", flags: int = 0) -> int:
    """Send *data* with descriptors attached (sendmsg(2), SCM_RIGHTS); they stay the caller's."""
    view = _ffi.from_buffer(data)
    return _call(_lib.lc_send_fds, _fd(fd), view, len(view), list(fds), len(fds), flags)


def recv_fds(fd: "Fd", size: int, max_fds: int, flags: int = 0) -> "tuple[bytes, list[int], int]":
    """Return (data, fds, flags) (recvmsg(2)); fds beyond *max_fds* are closed; no data: the end."""
    data, fds = _ffi.new("char[]", size), _ffi.new("int[]", _lib.SCM_MAX_FD)
    count, out = _ffi.new("int *"), _ffi.new("int *", flags)
    got = _call(_lib.lc_recv_fds, _fd(fd), data, size, fds, count, out)
    received = _ffi.unpack(fds, count[0])
    for beyond in received[max_fds:]:
        _os.close(beyond)
    return _ffi.buffer(data, got)[:], received[:max_fds], out[0]


def read_only_data(fd: "Fd", size: int) -> bytes:
    """Read as read(2); sockets that were sent along do not linger when the kernel closes them."""
    data = _ffi.new("char[]", size)
    return bytes(_ffi.buffer(data, _call(_lib.lc_read_only_data, _fd(fd), data, size)))


def read_all(fd: "Fd", size: int) -> bytes:
    """Read until there is no more, or *size* bytes (read(2)). OSError: the first read failed."""
    data = _new_buffer("char[]", size)
    return bytes(_ffi.buffer(data, _call(_lib.lc_read_all, _fd(fd), data, size)))


def sendmmsg(fd: "Fd", messages: "Sequence[Sequence[Buffer]]", flags: int = 0) -> int:
    """Send messages of one or more parts; return how many, 64 at most, went out (sendmmsg(2))."""
    whole = [b"".join(message) for message in messages[:64]]
    sizes = list(map(len, whole))
    return _call(_lib.lc_sendmmsg, _fd(fd), b"".join(whole), sizes, len(sizes), flags)


def send_lines(fd: "Fd", lines: "Buffer", head: bytes, flags: int = 0, skip: int = 0) -> int:
    """Send up to 512 *lines* behind *head*, each less *skip* bytes; return what went (sendmmsg(2))."""
    view = _ffi.from_buffer(lines)
    return _call(_lib.lc_send_lines, _fd(fd), view, len(view), head, len(head), skip, flags)


def send_pieces(fd: "Fd", data: "Buffer", prefix: bytes, size: int, flags: int = 0) -> int:
    """Send *data* in messages of *prefix* and at most *size* bytes, up to 64 (sendmmsg(2)).

    Returns how many bytes of *data* went out. Raises OSError: EINVAL for a size below 1.
    """
    view = _ffi.from_buffer(data)
    rest = prefix, len(prefix), max(size, 0), flags
    return _call(_lib.lc_send_pieces, _fd(fd), view, len(view), *rest)


def inotify_init1() -> int:
    """Return a non-blocking inotify descriptor (inotify_init1(2))."""
    return _call(_lib.lc_inotify_init1)


def inotify_add_watch(fd: "Fd", path: bytes, mask: int) -> int:
    """Watch *path* for the events of *mask* and return the watch (inotify_add_watch(2))."""
    return _call(_lib.lc_inotify_add_watch, _fd(fd), path, mask)


def inotify_rm_watch(fd: "Fd", watch: int) -> None:
    """End a watch (inotify_rm_watch(2))."""
    _call(_lib.lc_inotify_rm_watch, _fd(fd), watch)


def inotify_events(data: bytes) -> "list[tuple[int, int, int, bytes]]":
    """Return (watch, mask, cookie, name) of each event in *data*, as read from the descriptor."""
    found, start, head = [], 0, _ffi.sizeof("struct inotify_event")
    while start + head <= len(data):
        event = _ffi.from_buffer("struct inotify_event *", data[start : start + head])
        name, start = start + head, start + head + event.len
        if start <= len(data):
            found.append((event.wd, event.mask, event.cookie, data[name:start].partition(b"\0")[0]))
    return found


def pipe2(flags: int = 0) -> tuple[int, int]:
    """Return (reader, writer) of a new pipe; O_CLOEXEC need not be among the flags (pipe2(2))."""
    return _os.pipe2(flags | _os.O_CLOEXEC)


def fcntl(fd: "Fd", command: int, argument: int = 0) -> int:
    """Do one of the `F_` commands that take an int, such as F_SETPIPE_SZ (fcntl(2))."""
    return _call(_lib.lc_fcntl, _fd(fd), command, argument)


def is_locked(fd: "Fd") -> bool:
    """Tell whether another process has locked a part of the file (fcntl(2), F_GETLK)."""
    return bool(_call(_lib.lc_is_locked, _fd(fd)))


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Close (or with CLOSE_RANGE_CLOEXEC mark) all descriptors of a range (close_range(2))."""
    _call(_lib.lc_close_range, first, last, flags)


def mallopt(parameter: int, value: int) -> None:
    """Tune the C library's allocator by one of the `M_` parameters (mallopt(3)). OSError: EINVAL."""
    _call(_lib.lc_mallopt, parameter, value)


def malloc_trim(pad: int = 0) -> bool:
    """Give freed memory but *pad* bytes back to the kernel; tell whether any was (malloc_trim(3))."""
    return bool(_call(_lib.lc_malloc_trim, pad))


def _frame_lines(data: bytes, full: bytes, partial: bytes, limit: int) -> memoryview:
    """As pure.records.frame_lines, in one pass; nothing where lines are too short or a head too long.

    Both heads have the same length. No call of the kernel, so no part of the interface.
    """
    room = 3 * len(data) + 8 * len(full)
    out = _new_buffer("char[]", room)
    size = _lib.lc_frame_lines(data, len(data), full, partial, len(full), limit, out, room)
    return memoryview(_ffi.buffer(out, max(size, 0)))
