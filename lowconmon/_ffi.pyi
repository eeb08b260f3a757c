# ruff: noqa: PYI017 - chains of names
"""Types of the compiled module; a test compares the names with it.

The constants are attributes of `lib`; they stand outside because `_syscalls` makes them its own.
"""

from collections.abc import Callable
from typing import Any

ffi: Any

EPOLLIN = EPOLLOUT = EPOLLERR = EPOLLHUP = EPOLLRDHUP = EPOLL_CTL_ADD = EPOLL_CTL_MOD = 0
EPOLL_CTL_DEL = SIGCHLD = SIGCONT = SIGHUP = SIGINT = SIGKILL = SIGPIPE = SIGQUIT = SIGSTOP = 0
SIGTERM = SIGUSR1 = SIGUSR2 = SIGWINCH = SIGXFSZ = SIG_BLOCK = SIG_UNBLOCK = SIG_SETMASK = NSIG = 0
AF_UNIX = SOCK_STREAM = SOCK_DGRAM = SOCK_SEQPACKET = SOCK_NONBLOCK = SUN_PATH_MAX = 0
MSG_DONTWAIT = MSG_CTRUNC = MSG_TRUNC = CLOSE_RANGE_CLOEXEC = ONLCR = IN_CREATE = IN_MODIFY = 0
IN_MOVED_FROM = IN_MOVED_TO = IN_DELETE = IN_DELETE_SELF = IN_ATTRIB = IN_CLOSE_WRITE = 0
IN_IGNORED = F_SETPIPE_SZ = F_GETPIPE_SZ = F_ADD_SEALS = F_GET_SEALS = F_SEAL_SEAL = 0
F_SEAL_SHRINK = F_SEAL_GROW = F_SEAL_WRITE = 0

_shim: Callable[..., int]  # called through `_call`, which passes on what it got

class _Lib:
    NSIG: int
    lc_epoll_create1 = lc_epoll_ctl = lc_epoll_wait = lc_signalfd = lc_sigprocmask = _shim
    lc_get_disposition = lc_set_disposition = lc_pidfd_send_signal = lc_pidfd_get_info = _shim
    lc_set_child_subreaper = lc_get_child_subreaper = lc_set_pdeathsig = lc_set_name = _shim
    lc_openpty = lc_get_oflag = lc_set_oflag = lc_set_winsize = lc_get_winsize = lc_socket = _shim
    lc_socketpair = lc_bind = lc_connect = lc_listen = lc_accept4 = lc_shutdown = _shim
    lc_peer_uid = lc_send = lc_send_fds = lc_recv_fds = lc_sendmmsg = lc_inotify_init1 = _shim
    lc_inotify_add_watch = lc_inotify_rm_watch = lc_fcntl = lc_close_range = lc_spawn = _shim

lib: type[_Lib]
