"""Which call of the monitor can fail how, where, and what else is acceptable then.

A row: call, a part of the site without its lines (see `faults.site`; of several rows the first that
fits counts), errnos (`=1`: one byte, message or event instead), and words of `Walk.judge`. What no
row fits must stand in CANNOT_FAIL with its reason: so every call that a life makes has been thought
about.
"""

from __future__ import annotations

import re

DISK = "ENOSPC EDQUOT EIO EROFS"
FULL = "EMFILE ENFILE ENOMEM"
UNEXPECTED = "ENOTSUP"  # an errno that nobody expects anywhere

ROWS: tuple[tuple[str, str, str, str], ...] = (
    ("accept4", "", f"EAGAIN {FULL} ENOBUFS ECONNABORTED", ""),
    ("bind", "", "EADDRINUSE EACCES ENOENT ENOMEM ENOSPC EROFS", ""),
    # A descriptor that has written to a file may be told late that it failed.
    ("close", "<log_file", DISK, ""),
    ("close", "reports.py-replace_file", DISK, ""),
    ("close", "rotation", DISK, ""),
    ("epoll_create1", "", FULL, ""),
    # Only adding takes memory and counts; the site is that of a change too, which comes second.
    # A client that cannot be watched is let go, and with it what it typed.
    ("epoll_ctl", "loop.py-add_reader<attach", "ENOMEM ENOSPC", "lost"),
    ("epoll_ctl", "loop.py-add_hangup<attach", "ENOMEM ENOSPC", "lost"),
    ("epoll_ctl", "loop.py-add_reader<terminal", "ENOMEM ENOSPC", "crash"),
    ("epoll_ctl", "process.py", "ENOMEM ENOSPC", "no-after"),  # unwatched, it may still work on
    ("epoll_ctl", "loop.py-_set", "ENOMEM ENOSPC", ""),
    ("epoll_wait", "", "=1", ""),
    ("fstat", "log_file", "EIO ESTALE ENOMEM", ""),
    ("fstat", "rotation", "EIO ESTALE", ""),
    ("fstat", "fifos", "EIO ESTALE", ""),
    ("fsync", "", DISK, ""),
    ("ftruncate", "", "EIO ENOSPC EPERM ESTALE", ""),
    ("get_oflag", "", "EIO ENOTTY", ""),
    ("is_locked", "", "EIO EINVAL ENOLCK", ""),
    ("listen", "", "EADDRINUSE ENOBUFS", ""),
    ("mallopt", "", "EINVAL", ""),
    ("mkdir", "", "EACCES EEXIST ENOSPC EROFS", ""),
    ("mkfifo", "", f"{DISK} EACCES EEXIST", ""),
    ("open", "process", f"{FULL} EACCES ENOENT ESRCH", ""),
    ("open", "", f"{FULL} {DISK} EACCES ENOENT ESTALE", ""),
    ("pidfd_open", "process.py-__init__<monitor", f"{FULL} ESRCH", "unknown"),
    ("pidfd_open", "process.py-__init__<process.py-start", FULL, "no-after"),  # unwatched, as above
    ("pidfd_open", "", FULL, ""),
    ("pipe2", "", "EMFILE ENFILE", ""),
    ("eventfd", "", FULL, ""),
    ("pread", "oom", "EIO ENODEV", ""),
    ("pread", "", "EIO ESTALE", ""),
    ("read", "oom", "EAGAIN ENODEV EIO", ""),
    ("keep_effective", "", "EPERM", ""),
    # A pipe cannot fail; if it does, SIGPIPE may end the container. A terminal fails so in time.
    ("read", "stdio", "EAGAIN EIO =1", "lost crash signalled"),
    ("read_all", "", "EAGAIN EIO =1", "lost crash signalled"),
    ("read", "fifos", "EAGAIN =1", ""),
    ("read", "process.py-exec_error", "EAGAIN", ""),
    ("read", "process.py-read_small", "EIO ESRCH ESTALE", ""),
    ("read", "launch.py-_wait_for_start", "EAGAIN ECONNRESET EIO", ""),
    ("read_signal", "", "EAGAIN", ""),
    ("readlink", "", "EACCES ENOENT ENOMEM", ""),
    ("readv", "", "EAGAIN ECONNRESET", ""),
    ("recv_fds", "", "EAGAIN ECONNRESET =1", ""),
    ("rename", "", f"{DISK} EACCES ENOENT", ""),
    ("rmdir", "", "EACCES EBUSY ENOENT ENOTEMPTY", "stray"),
    ("send", "", "EPIPE ECONNRESET ENOBUFS ENOMEM", "mute"),
    ("send_fds", "", "EAGAIN", ""),
    ("send_lines", "", "EAGAIN ECONNRESET ENOBUFS ENOMEM EPIPE =1", ""),
    ("sendmmsg", "", "EAGAIN ECONNRESET ENOBUFS ENOMEM EPIPE =1", ""),
    ("send_pieces", "", "EAGAIN ECONNRESET ENOBUFS ENOMEM EPIPE =1", ""),
    ("set_oflag", "", "EIO ENOTTY", ""),
    ("set_winsize", "", "EIO ENOTTY", ""),
    ("shutdown", "", "ENOTCONN", ""),
    ("signalfd", "", FULL, ""),
    ("socket", "", f"{FULL} EACCES", ""),
    ("spawn", "process", "EAGAIN EMFILE ENOMEM", "no-after"),
    ("spawn", "monitor", "EAGAIN EMFILE ENOMEM", ""),
    ("stat", "rotation", "EACCES EIO ESTALE", ""),  # ENOENT would be a lie, and cost a backup
    ("stat", "", "EACCES EIO ENOENT ESTALE", ""),
    ("symlink", "", f"{DISK} EACCES EEXIST", ""),
    ("unlink", "", "EACCES EBUSY EIO ENOENT EROFS", "stray"),
    ("waitid_rusage", "", "ECHILD", "unknown"),
    # To a pipe or a terminal that nobody reads (any more).
    ("write", "stdin", "EAGAIN EIO EPIPE =1", "lost"),
    ("write", "launch", "EAGAIN EPIPE", ""),
    ("write", "log_file", f"EAGAIN EFBIG {DISK} =1", ""),
    ("write", "", f"EFBIG {DISK} =1", ""),
)

CANNOT_FAIL: dict[tuple[str, str], str] = {
    (
        "close",
        "",
    ): "nothing was written to it: a pipe, socket, pidfd, O_PATH or read-only descriptor",
    ("epoll_wait", ""): "interrupted it is begun again; else it is fatal, and there is no else",
    ("epoll_ctl", ""): "EPOLL_CTL_DEL, or EPOLL_CTL_MOD of what is there, takes no memory",
    ("fstat", "reports"): "a pipe or socket of the manager",
    ("get_disposition", ""): "of a signal that there is",
    ("read", "launch.py"): "a pipe of our own",
    ("set_child_subreaper", ""): "takes any argument",
    ("set_name", ""): "takes any name",
    ("sigprocmask", ""): "takes any mask",
    ("peer_uid", ""): "of a connected socket",
    ("malloc_trim", ""): "no error is told",
    ("send_fds", ""): "is send",
}

_LINES = re.compile("-[0-9]+(?=<|$)")


def row_of(call: str, site: str) -> tuple[str, str] | None:
    """Return (errnos, tolerated words) for a call made at *site*; None: it is not to fail."""
    place = _LINES.sub("", site)
    for name, part, errnos, tolerated in ROWS:
        if name == call and part in place:
            return errnos, tolerated
    return None


def cannot_fail(call: str, site: str) -> bool:
    """Tell whether a reason is given why the call at *site* does not fail."""
    place = _LINES.sub("", site)
    return any(name == call and part in place for name, part in CANNOT_FAIL)
