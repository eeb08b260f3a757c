# ruff: noqa: PYI017 - chains of names
"""Types of the compiled module; tests compare the names of constants and shims with it.

The constants are attributes of `lib`; they stand outside because `_syscalls` makes them its own.
"""

from typing import Any

ffi: Any
lib: Any  # a shim is called through `_call`, which passes on what it got, and returns an int

EPOLLIN = EPOLLOUT = EPOLLERR = EPOLLHUP = EPOLLRDHUP = EPOLL_CTL_ADD = EPOLL_CTL_MOD = 0
EPOLL_CTL_DEL = SIGCHLD = SIGCONT = SIGHUP = SIGINT = SIGKILL = SIGPIPE = SIGQUIT = SIGSTOP = 0
SIGTERM = SIGUSR1 = SIGUSR2 = SIGWINCH = SIGXFSZ = SIG_BLOCK = SIG_UNBLOCK = SIG_SETMASK = NSIG = 0
AF_UNIX = SOCK_STREAM = SOCK_DGRAM = SOCK_SEQPACKET = SOCK_NONBLOCK = SUN_PATH_MAX = SCM_MAX_FD = 0
MSG_DONTWAIT = MSG_CTRUNC = MSG_TRUNC = CLOSE_RANGE_CLOEXEC = ONLCR = IN_CREATE = IN_MODIFY = 0
IN_MOVED_FROM = IN_MOVED_TO = IN_DELETE = IN_DELETE_SELF = IN_ATTRIB = IN_CLOSE_WRITE = 0
IN_IGNORED = F_SETPIPE_SZ = F_GETPIPE_SZ = F_ADD_SEALS = F_GET_SEALS = F_SEAL_SEAL = 0
F_SEAL_SHRINK = F_SEAL_GROW = F_SEAL_WRITE = CAP_DAC_OVERRIDE = CAP_DAC_READ_SEARCH = 0
CAP_FOWNER = CAP_KILL = CAP_SYS_RESOURCE = 0
M_TRIM_THRESHOLD = M_MMAP_THRESHOLD = M_MXFAST = 0
