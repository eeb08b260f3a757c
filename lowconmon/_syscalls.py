"""The Linux calls of a supervisor: one function a call, named as its man page, no policy.

Laws: a descriptor made here is CLOEXEC; a descriptor argument is an int or has `fileno()`; a failure
raises OSError with the call's errno; a call broken by a signal is begun again (PEP 475). All I/O of
the program goes through this module, os functions included, so that a test can fail any of it.
"""

import errno as _errno
import os as _os
import sys as _sys

if _sys.platform != "linux":
    raise ImportError("lowconmon needs Linux 5.9 or newer, this is " + _sys.platform)

from os import (  # after the check: elsewhere os lacks some
    P_PIDFD as P_PIDFD,
    WEXITED as WEXITED,
    WNOHANG as WNOHANG,
    WNOWAIT as WNOWAIT,
    close as close,
    eventfd as eventfd,
    eventfd_read as eventfd_read,
    eventfd_write as eventfd_write,
    fstat as fstat,
    fsync as fsync,
    ftruncate as ftruncate,
    memfd_create as memfd_create,
    mkdir as mkdir,
    mkfifo as mkfifo,
    open as open,  # noqa: A004 - open(2), as everywhere in os
    pipe2 as pipe2,
    pread as pread,
    read as read,
    readv as readv,
    rename as rename,
    rmdir as rmdir,
    stat as stat,
    symlink as symlink,
    unlink as unlink,
    write as write,
)


def _check_kernel(release: str) -> None:
    """Raise ImportError when *release* (of uname(2)) is older than 5.9, the first with close_range."""
    numbers = [
        int("0" + part.partition("-")[0]) for part in release.split(".")[:2] if part[:1].isdigit()
    ]
    if numbers < [5, 9]:
        raise ImportError("lowconmon needs Linux 5.9 or newer, this is " + release)


_check_kernel(_os.uname().release)

from ._ffi import ffi as _ffi, lib as _lib  # noqa: E402 - only where it can work

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from typing_extensions import Buffer

    class HasFileno(Protocol):
        def fileno(self) -> int: ...

    Fd = int | HasFileno

EPOLLIN, EPOLLOUT, EPOLLERR = _lib.EPOLLIN, _lib.EPOLLOUT, _lib.EPOLLERR
EPOLLHUP, EPOLLRDHUP = _lib.EPOLLHUP, _lib.EPOLLRDHUP
EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLL_CTL_DEL = (
    _lib.EPOLL_CTL_ADD,
    _lib.EPOLL_CTL_MOD,
    _lib.EPOLL_CTL_DEL,
)
SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGKILL = (
    _lib.SIGCHLD,
    _lib.SIGCONT,
    _lib.SIGHUP,
    _lib.SIGINT,
    _lib.SIGKILL,
)
SIGPIPE, SIGQUIT, SIGSTOP, SIGTERM = _lib.SIGPIPE, _lib.SIGQUIT, _lib.SIGSTOP, _lib.SIGTERM
SIGUSR1, SIGUSR2, SIGWINCH, SIGXFSZ = _lib.SIGUSR1, _lib.SIGUSR2, _lib.SIGWINCH, _lib.SIGXFSZ
SIG_BLOCK, SIG_UNBLOCK, SIG_SETMASK, NSIG = (
    _lib.SIG_BLOCK,
    _lib.SIG_UNBLOCK,
    _lib.SIG_SETMASK,
    _lib.NSIG,
)
AF_UNIX, SOCK_STREAM, SOCK_DGRAM = _lib.AF_UNIX, _lib.SOCK_STREAM, _lib.SOCK_DGRAM
SOCK_SEQPACKET, SOCK_NONBLOCK = _lib.SOCK_SEQPACKET, _lib.SOCK_NONBLOCK
MSG_DONTWAIT, MSG_CTRUNC, MSG_TRUNC = _lib.MSG_DONTWAIT, _lib.MSG_CTRUNC, _lib.MSG_TRUNC
IN_CREATE, IN_MODIFY, IN_ATTRIB = _lib.IN_CREATE, _lib.IN_MODIFY, _lib.IN_ATTRIB
IN_MOVED_FROM, IN_MOVED_TO, IN_CLOSE_WRITE = (
    _lib.IN_MOVED_FROM,
    _lib.IN_MOVED_TO,
    _lib.IN_CLOSE_WRITE,
)
IN_DELETE, IN_DELETE_SELF, IN_IGNORED = _lib.IN_DELETE, _lib.IN_DELETE_SELF, _lib.IN_IGNORED
F_SETPIPE_SZ, F_GETPIPE_SZ = _lib.F_SETPIPE_SZ, _lib.F_GETPIPE_SZ
F_ADD_SEALS, F_GET_SEALS, F_SEAL_SEAL = _lib.F_ADD_SEALS, _lib.F_GET_SEALS, _lib.F_SEAL_SEAL
F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE = _lib.F_SEAL_SHRINK, _lib.F_SEAL_GROW, _lib.F_SEAL_WRITE
CLOSE_RANGE_CLOEXEC, ONLCR = _lib.CLOSE_RANGE_CLOEXEC, _lib.ONLCR
SUN_PATH_MAX = _lib.LC_SUN_PATH_MAX

_events = _ffi.new("uint64_t[]", 2 * 64)
_signals = _ffi.new("int[]", NSIG)
_pair = _ffi.new("int[2]")


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


# epoll(7)


def epoll_create1() -> int:
    """Return a new epoll descriptor (epoll_create1(2))."""
    return _call(_lib.lc_epoll_create1)


def epoll_ctl(epoll_fd: "Fd", operation: int, fd: "Fd", events: int = 0, data: int = 0) -> None:
    """Add, change or remove *fd*; *data* (64 bits) comes back with each event (epoll_ctl(2)).

    Raises OSError: EEXIST, ENOENT, EBADF; EPERM where the file knows no readiness (regular files).
    """
    _call(_lib.lc_epoll_ctl, _fd(epoll_fd), operation, _fd(fd), events, data)


def epoll_wait(epoll_fd: "Fd", timeout_ms: int = -1) -> "list[tuple[int, int]]":
    """Return up to 64 pairs of (events, data); none after *timeout_ms* or a signal (epoll_wait(2))."""
    count = _lib.lc_epoll_wait(_fd(epoll_fd), _events, 64, timeout_ms)
    if count == -_errno.EINTR:
        return []
    if count < 0:
        raise OSError(-count, _os.strerror(-count))
    return [(_events[2 * i], _events[2 * i + 1]) for i in range(count)]


# Signals


def signalfd(signals: "Sequence[int]") -> int:
    """Return a non-blocking descriptor that reads *signals*; block them first (signalfd(2))."""
    return _call(_lib.lc_signalfd, list(signals), len(signals))


def read_signal(signal_fd: "Fd") -> int:
    """Return the number of the next pending signal. Raises BlockingIOError when there is none."""
    return _call(_lib.lc_read_signal, _fd(signal_fd))


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


# Processes


def pidfd_open(pid: int) -> int:
    """Return a pidfd for *pid* (pidfd_open(2)). Raises OSError: ESRCH, EINVAL, ENOSYS."""
    return _call(_lib.lc_pidfd_open, pid)


def pidfd_send_signal(pidfd: "Fd", signal: int) -> None:
    """Send *signal* to the process (pidfd_send_signal(2)). Raises OSError: ESRCH, EPERM."""
    _call(_lib.lc_pidfd_send_signal, _fd(pidfd), signal)


def pidfd_get_info(pidfd: "Fd") -> int | None:
    """Return the wait status of any process, None until its parent has reaped it.

    The way to the exit status of a process that is not our child (PIDFD_GET_INFO, Linux 6.15).
    Raises OSError: ENOSYS on an older kernel ("not available"), ESRCH.
    """
    status = _ffi.new("int *")
    try:
        return status[0] if _call(_lib.lc_pidfd_get_info, _fd(pidfd), status) else None
    except OSError as error:
        if error.errno != _errno.ENOSYS:
            raise
        text = "PIDFD_GET_INFO is not available: it needs Linux 6.15"
        raise OSError(_errno.ENOSYS, text) from None


def waitid(id_type: int, target: "Fd", options: int) -> "_os.waitid_result | None":
    """Return what became of a child, None with WNOHANG when nothing did (waitid(2))."""
    return _os.waitid(id_type, _fd(target), options)


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
    listen_pid_index: int = -1,
    oom_score_adj: bytes | None = None,
    cwd: bytes | None = None,
    blocked: "Sequence[int]" = (),
    ignored: "Sequence[int]" = (),
    defaulted: "Sequence[int]" = (),
) -> tuple[int, int]:
    """Start *path* and return at once with (pid, error_fd); nothing but C runs before exec.

    error_fd is non-blocking: it reads exec's errno as a native int, or EOF once exec worked; the
    child then ended with status 127. *environment* holds entries as in environ(7), byte for byte;
    the one at *listen_pid_index* becomes LISTEN_PID=<pid of the child>. *stdio*: descriptors for 0-2
    (-1: inherited); *terminal* stands for all three and becomes the controlling terminal. Before
    exec the child blocks until *wait_fd* has been read once. *blocked*, *ignored*, *defaulted*:
    its signal mask and dispositions. *death_signal*: what it gets when the caller's thread dies.
    Raises OSError: EAGAIN, ENOMEM, EMFILE.
    """
    argv = [_ffi.new("char[]", argument) for argument in arguments]
    envp = [_ffi.new("char[]", entry) for entry in environment]
    how = _ffi.new("struct lc_spawn *")
    how.stdio = stdio
    how.terminal, how.new_session, how.death_signal = terminal, new_session, death_signal
    how.wait_fd, how.listen_pid_index = wait_fd, listen_pid_index
    score = _ffi.NULL if oom_score_adj is None else _ffi.new("char[]", oom_score_adj)
    directory = _ffi.NULL if cwd is None else _ffi.new("char[]", cwd)
    lists = [_ffi.new("int[]", list(signals)) for signals in (blocked, ignored, defaulted)]
    how.oom_score_adj, how.cwd = score, directory
    how.blocked, how.ignored, how.defaulted = lists
    how.blocked_count, how.ignored_count = len(blocked), len(ignored)
    how.defaulted_count = len(defaulted)
    error_fd = _ffi.new("int *")
    vectors = _ffi.new("char *[]", [*argv, _ffi.NULL]), _ffi.new("char *[]", [*envp, _ffi.NULL])
    return _call(_lib.lc_spawn, path, *vectors, how, error_fd), error_fd[0]


# Terminals


def openpty() -> tuple[int, int]:
    """Return (master, slave) of a new terminal (posix_openpt(3), TIOCGPTPEER)."""
    _call(_lib.lc_openpty, _pair)
    return _pair[0], _pair[1]


def get_oflag(fd: "Fd") -> int:
    """Return the output flags (c_oflag, ONLCR among them) of a terminal (tcgetattr(3))."""
    flags = _ffi.new("unsigned int *")
    _call(_lib.lc_get_oflag, _fd(fd), flags)
    return int(flags[0])


def set_oflag(fd: "Fd", flags: int) -> None:
    """Set the output flags of a terminal, at once (tcsetattr(3)). Raises OSError: ENOTTY."""
    _call(_lib.lc_set_oflag, _fd(fd), flags)


def set_winsize(fd: "Fd", rows: int, columns: int) -> None:
    """Resize a terminal; its foreground processes get SIGWINCH (TIOCSWINSZ)."""
    _call(_lib.lc_set_winsize, _fd(fd), rows, columns)


def get_winsize(fd: "Fd") -> tuple[int, int]:
    """Return (rows, columns) of a terminal (TIOCGWINSZ)."""
    _call(_lib.lc_get_winsize, _fd(fd), _pair)
    return _pair[0], _pair[1]


# Sockets: unix(7)


def socket(family: int, kind: int) -> int:
    """Return a new socket; *kind* may hold SOCK_NONBLOCK (socket(2))."""
    return _call(_lib.lc_socket, family, kind)


def socketpair(family: int, kind: int) -> tuple[int, int]:
    """Return two connected sockets (socketpair(2))."""
    _call(_lib.lc_socketpair, family, kind, _pair)
    return _pair[0], _pair[1]


def bind(fd: "Fd", path: bytes) -> None:
    """Bind to *path*, abstract if it starts with NUL (bind(2)). ENAMETOOLONG past SUN_PATH_MAX."""
    _call(_lib.lc_bind, _fd(fd), path, len(path))


def connect(fd: "Fd", path: bytes) -> None:
    """Connect to *path*, abstract if it starts with NUL (connect(2))."""
    _call(_lib.lc_connect, _fd(fd), path, len(path))


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
    uid = _ffi.new("uint32_t *")
    _call(_lib.lc_peer_uid, _fd(fd), uid)
    return int(uid[0])


def send(fd: "Fd", data: "Buffer", flags: int = 0) -> int:
    """Send and return how many bytes were taken; never SIGPIPE (send(2))."""
    view = _ffi.from_buffer(data)
    return _call(_lib.lc_send, _fd(fd), view, len(view), flags)


def send_fds(fd: "Fd", data: "Buffer", fds: "Sequence[int]", flags: int = 0) -> int:
    """Send *data* with descriptors attached (sendmsg(2), SCM_RIGHTS); they stay the caller's."""
    view = _ffi.from_buffer(data)
    return _call(_lib.lc_send_fds, _fd(fd), view, len(view), list(fds), len(fds), flags)


def recv_fds(fd: "Fd", size: int, max_fds: int, flags: int = 0) -> "tuple[bytes, list[int], int]":
    """Return (data, descriptors, flags); what is attached beyond *max_fds* is closed (recvmsg(2)).

    The flags tell MSG_TRUNC and MSG_CTRUNC. No data is the end of a stream.
    """
    data = _ffi.new("char[]", size)
    fds = _ffi.new("int[]", max_fds + 1)
    count, out = _ffi.new("int *", max_fds), _ffi.new("int *", flags)
    got = _call(_lib.lc_recv_fds, _fd(fd), data, size, fds, count, out)
    return _ffi.buffer(data, got)[:], [fds[i] for i in range(count[0])], out[0]


def sendmmsg(fd: "Fd", messages: "Sequence[Sequence[Buffer]]", flags: int = 0) -> int:
    """Send several messages, each of one or more parts; return how many went out (sendmmsg(2)).

    At most 64 messages or 128 parts go out in one call: a short count is normal.
    """
    parts = [_ffi.from_buffer(part) for message in messages for part in message]
    vector = _ffi.new("char *[]", parts)
    lengths = [len(part) for part in parts]
    each = [len(message) for message in messages]
    return _call(_lib.lc_sendmmsg, _fd(fd), vector, lengths, each, len(each), flags)


# inotify(7), fcntl(2)


def inotify_init1() -> int:
    """Return a non-blocking inotify descriptor (inotify_init1(2))."""
    return _call(_lib.lc_inotify_init1, _lib.IN_NONBLOCK | _lib.IN_CLOEXEC)


def inotify_add_watch(fd: "Fd", path: bytes, mask: int) -> int:
    """Watch *path* for the events of *mask* and return the watch (inotify_add_watch(2))."""
    return _call(_lib.lc_inotify_add_watch, _fd(fd), path, mask)


def inotify_rm_watch(fd: "Fd", watch: int) -> None:
    """End a watch (inotify_rm_watch(2))."""
    _call(_lib.lc_inotify_rm_watch, _fd(fd), watch)


def inotify_events(data: bytes) -> "list[tuple[int, int, int, bytes]]":
    """Return (watch, mask, cookie, name) of each event in *data*, as read from the descriptor."""
    found = []
    fields, start = _ffi.new("uint32_t[4]"), 0
    while size := _lib.lc_inotify_next(data[start:], len(data) - start, _pair, fields):
        name = start + fields[2]
        found.append((_pair[0], fields[0], fields[1], data[name : name + fields[3]]))
        start += size
    return found


def fcntl(fd: "Fd", command: int, argument: int = 0) -> int:
    """Do one of the F_ commands that take an int, such as F_SETPIPE_SZ (fcntl(2))."""
    return _call(_lib.lc_fcntl, _fd(fd), command, argument)


def close_range(first: int, last: int = 0xFFFFFFFF, flags: int = 0) -> None:
    """Close (or with CLOSE_RANGE_CLOEXEC mark) all descriptors of a range (close_range(2))."""
    _call(_lib.lc_close_range, first, last, flags)
