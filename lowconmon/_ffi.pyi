"""Types of the compiled module; a test compares the names with it."""

from typing import Any

CPointer = Any  # cffi converts bytes, lists, buffers and NULL

ffi: Any

class _Lib:
    EPOLLIN: int
    EPOLLOUT: int
    EPOLLERR: int
    EPOLLHUP: int
    EPOLLRDHUP: int
    EPOLL_CTL_ADD: int
    EPOLL_CTL_MOD: int
    EPOLL_CTL_DEL: int
    SIGCHLD: int
    SIGCONT: int
    SIGHUP: int
    SIGINT: int
    SIGKILL: int
    SIGPIPE: int
    SIGQUIT: int
    SIGSTOP: int
    SIGTERM: int
    SIGUSR1: int
    SIGUSR2: int
    SIGWINCH: int
    SIGXFSZ: int
    SIG_BLOCK: int
    SIG_UNBLOCK: int
    SIG_SETMASK: int
    NSIG: int
    AF_UNIX: int
    SOCK_STREAM: int
    SOCK_DGRAM: int
    SOCK_SEQPACKET: int
    SOCK_NONBLOCK: int
    SOCK_CLOEXEC: int
    MSG_DONTWAIT: int
    MSG_NOSIGNAL: int
    MSG_CTRUNC: int
    MSG_TRUNC: int
    IN_CREATE: int
    IN_MODIFY: int
    IN_MOVED_FROM: int
    IN_MOVED_TO: int
    IN_DELETE: int
    IN_DELETE_SELF: int
    IN_ATTRIB: int
    IN_CLOSE_WRITE: int
    IN_IGNORED: int
    IN_NONBLOCK: int
    IN_CLOEXEC: int
    F_SETPIPE_SZ: int
    F_GETPIPE_SZ: int
    F_ADD_SEALS: int
    F_GET_SEALS: int
    F_SEAL_SEAL: int
    F_SEAL_SHRINK: int
    F_SEAL_GROW: int
    F_SEAL_WRITE: int
    CLOSE_RANGE_CLOEXEC: int
    ONLCR: int
    LC_SUN_PATH_MAX: int
    def lc_epoll_create1(self) -> int: ...
    def lc_epoll_ctl(
        self, epoll_fd: int, operation: int, fd: int, events: int, data: int, /
    ) -> int: ...
    def lc_epoll_wait(
        self, epoll_fd: int, pairs: CPointer, room: int, timeout_ms: int, /
    ) -> int: ...
    def lc_signalfd(self, signals: CPointer, count: int, /) -> int: ...
    def lc_read_signal(self, fd: int, /) -> int: ...
    def lc_sigprocmask(
        self, how: int, signals: CPointer, count: int, old_signals: CPointer, /
    ) -> int: ...
    def lc_get_disposition(self, signal: int, /) -> int: ...
    def lc_set_disposition(self, signal: int, ignore: int, /) -> int: ...
    def lc_pidfd_open(self, pid: int, /) -> int: ...
    def lc_pidfd_send_signal(self, pidfd: int, signal: int, /) -> int: ...
    def lc_pidfd_get_info(self, pidfd: int, exit_code: CPointer, /) -> int: ...
    def lc_set_child_subreaper(self, on: int, /) -> int: ...
    def lc_get_child_subreaper(self) -> int: ...
    def lc_set_pdeathsig(self, signal: int, /) -> int: ...
    def lc_set_name(self, name: CPointer, /) -> int: ...
    def lc_openpty(self, fds: CPointer, /) -> int: ...
    def lc_get_oflag(self, fd: int, flags: CPointer, /) -> int: ...
    def lc_set_oflag(self, fd: int, flags: int, /) -> int: ...
    def lc_set_winsize(self, fd: int, rows: int, columns: int, /) -> int: ...
    def lc_get_winsize(self, fd: int, sizes: CPointer, /) -> int: ...
    def lc_socket(self, family: int, type: int, /) -> int: ...
    def lc_socketpair(self, family: int, type: int, fds: CPointer, /) -> int: ...
    def lc_bind(self, fd: int, path: CPointer, length: int, /) -> int: ...
    def lc_connect(self, fd: int, path: CPointer, length: int, /) -> int: ...
    def lc_listen(self, fd: int, backlog: int, /) -> int: ...
    def lc_accept4(self, fd: int, flags: int, /) -> int: ...
    def lc_shutdown(self, fd: int, /) -> int: ...
    def lc_peer_uid(self, fd: int, uid: CPointer, /) -> int: ...
    def lc_send(self, fd: int, data: CPointer, length: int, flags: int, /) -> int: ...
    def lc_send_fds(
        self, fd: int, data: CPointer, length: int, fds: CPointer, count: int, flags: int, /
    ) -> int: ...
    def lc_recv_fds(
        self,
        fd: int,
        data: CPointer,
        length: int,
        fds: CPointer,
        count: CPointer,
        flags: CPointer,
        /,
    ) -> int: ...
    def lc_sendmmsg(
        self,
        fd: int,
        parts: CPointer,
        lengths: CPointer,
        parts_each: CPointer,
        count: int,
        flags: int,
        /,
    ) -> int: ...
    def lc_inotify_init1(self, flags: int, /) -> int: ...
    def lc_inotify_add_watch(self, fd: int, path: CPointer, mask: int, /) -> int: ...
    def lc_inotify_rm_watch(self, fd: int, watch: int, /) -> int: ...
    def lc_inotify_next(
        self, data: CPointer, length: int, watch: CPointer, mask_cookie_name: CPointer, /
    ) -> int: ...
    def lc_fcntl(self, fd: int, command: int, argument: int, /) -> int: ...
    def lc_close_range(self, first: int, last: int, flags: int, /) -> int: ...
    def lc_spawn(
        self, path: CPointer, argv: CPointer, envp: CPointer, how: CPointer, error_fd: CPointer, /
    ) -> int: ...

lib: _Lib
