"""A thousand calls of each function leave the descriptors and the private memory as they were.

Where it is slow, fewer: what leaks once a call, or a page at a time, shows all the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import syscalls
from tests.support import SLOWNESS, open_fds, private_bytes, program, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Call = Callable[[], object]
    Case = Callable[["Things"], Call]

CALLS = int(1000 // max(1, SLOWNESS))
WARM_UP = CALLS // 10
TOLERANCE = 256 * 1024

CASES: dict[str, Case] = {}


class Things:
    """What the calls work on; closed after the test."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder, self.stack = folder, stack
        self.path = os.fsencode(folder / "file")
        self.socket_path = b"\0lowconmon-leaks-%d" % os.getpid()

    def own(self, *fds: int) -> Any:
        for fd in fds:
            self.stack.callback(os.close, fd)
        return fds if len(fds) > 1 else fds[0]

    def file(self) -> int:
        fd: int = self.own(os.open(self.path, os.O_CREAT | os.O_RDWR))
        os.write(fd, bytes(4096))
        return fd

    def pair(self, kind: int = syscalls.SOCK_SEQPACKET) -> Any:
        return self.own(*syscalls.socketpair(syscalls.AF_UNIX, kind))

    def listener(self) -> int:
        fd: int = self.own(syscalls.socket(syscalls.AF_UNIX, syscalls.SOCK_STREAM))
        syscalls.bind(fd, self.socket_path)
        syscalls.listen(fd, 5)
        return fd

    def child(self) -> int:
        pid = os.fork()
        if pid == 0:
            signal.pause()
            os._exit(0)
        self.stack.callback(os.waitpid, pid, 0)
        self.stack.callback(os.kill, pid, signal.SIGKILL)
        return pid


def case(function: Case) -> Case:
    """Enter a function that makes the call to try, named as the call with _ before it."""
    CASES[function.__name__.removeprefix("_")] = function
    return function


def closing(make: Callable[..., int | tuple[int, int]], *arguments: object) -> Call:
    """Return a call that closes what it makes."""

    def call() -> None:
        made = make(*arguments)
        for fd in (made,) if isinstance(made, int) else made:
            os.close(fd)

    return call


def failing(function: Callable[..., Any], *arguments: object) -> Call:
    """Return a call that must fail."""

    def call() -> None:
        try:
            function(*arguments)
        except OSError:
            return
        raise AssertionError("did not fail")

    return call


def both(*calls: Call) -> Call:
    """Return a call that does several."""
    return lambda: [call() for call in calls]


@case
def _epoll_create1(_: Things) -> Call:
    return closing(syscalls.epoll_create1)


@case
def _epoll_ctl(things: Things) -> Call:
    epoll_fd, fd = things.own(syscalls.epoll_create1(), os.eventfd(0))
    return both(
        lambda: syscalls.epoll_ctl(
            epoll_fd, syscalls.EPOLL_CTL_ADD, fd, syscalls.EPOLLIN, 2**64 - 1
        ),
        failing(syscalls.epoll_ctl, epoll_fd, syscalls.EPOLL_CTL_ADD, fd),
        lambda: syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_DEL, fd),
    )


@case
def _epoll_wait(things: Things) -> Call:
    epoll_fd = things.own(syscalls.epoll_create1())
    for number in range(40):
        fd = things.own(os.eventfd(1))
        syscalls.epoll_ctl(epoll_fd, syscalls.EPOLL_CTL_ADD, fd, syscalls.EPOLLIN, number << 40)
    return both(lambda: syscalls.epoll_wait(epoll_fd, 0), failing(syscalls.epoll_wait, -1))


@case
def _signalfd(_: Things) -> Call:
    return both(
        closing(syscalls.signalfd, [1, 2, 3, 10, 15]), failing(syscalls.signalfd, [1, 10_000])
    )


@case
def _read_signal(things: Things) -> Call:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    things.stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, old)
    fd = things.own(syscalls.signalfd([signal.SIGUSR1]))
    return both(
        lambda: signal.raise_signal(signal.SIGUSR1),
        lambda: syscalls.read_signal(fd),
        failing(syscalls.read_signal, fd),
    )


@case
def _sigprocmask(_: Things) -> Call:
    numbers = [signal.SIGUSR1, signal.SIGWINCH]
    return both(
        lambda: syscalls.sigprocmask(syscalls.SIG_BLOCK, numbers),
        lambda: syscalls.sigprocmask(syscalls.SIG_UNBLOCK, numbers),
        failing(syscalls.sigprocmask, syscalls.SIG_BLOCK, [10_000]),
    )


@case
def _get_disposition(_: Things) -> Call:
    return lambda: syscalls.get_disposition(signal.SIGUSR1)


@case
def _set_disposition(_: Things) -> Call:
    return both(
        lambda: syscalls.set_disposition(signal.SIGUSR1, "ignored"),
        lambda: syscalls.set_disposition(signal.SIGUSR1, "default"),
    )


@case
def _pidfd_open(_: Things) -> Call:
    return both(closing(syscalls.pidfd_open, os.getpid()), failing(syscalls.pidfd_open, -1))


@case
def _pidfd_send_signal(things: Things) -> Call:
    pidfd = things.own(syscalls.pidfd_open(os.getpid()))
    return both(
        lambda: syscalls.pidfd_send_signal(pidfd, 0),
        failing(syscalls.pidfd_send_signal, pidfd, 10_000),
    )


@case
def _pidfd_get_info(things: Things) -> Call:
    pidfd = things.own(syscalls.pidfd_open(os.getpid()))

    def call() -> None:
        with contextlib.suppress(OSError):
            syscalls.pidfd_get_info(pidfd)

    return both(call, failing(syscalls.pidfd_get_info, -1))


@case
def _waitid(things: Things) -> Call:
    pidfd = things.own(syscalls.pidfd_open(things.child()))
    return lambda: syscalls.waitid(syscalls.P_PIDFD, pidfd, syscalls.WEXITED | syscalls.WNOHANG)


@case
def _waitid_rusage(things: Things) -> Call:
    pidfd = things.own(syscalls.pidfd_open(things.child()))
    now = syscalls.WEXITED | syscalls.WNOHANG
    return both(
        lambda: syscalls.waitid_rusage(syscalls.P_PIDFD, pidfd, now),
        failing(syscalls.waitid_rusage, syscalls.P_PIDFD, -1, now),
    )


@case
def _set_child_subreaper(_: Things) -> Call:
    return lambda: syscalls.set_child_subreaper(False)


@case
def _get_child_subreaper(_: Things) -> Call:
    return syscalls.get_child_subreaper


@case
def _set_pdeathsig(_: Things) -> Call:
    return both(lambda: syscalls.set_pdeathsig(0), failing(syscalls.set_pdeathsig, 10_000))


@case
def _set_name(things: Things) -> Call:
    with open("/proc/thread-self/comm", "rb") as file:
        things.stack.callback(syscalls.set_name, file.read().strip())
    return lambda: syscalls.set_name(b"leak test")


@case
def _mallopt(_: Things) -> Call:
    wrong = failing(syscalls.mallopt, syscalls.M_MXFAST, 1_000_000)
    return both(lambda: syscalls.mallopt(syscalls.M_TRIM_THRESHOLD, 128 * 1024), wrong)


@case
def _malloc_trim(_: Things) -> Call:
    return lambda: syscalls.malloc_trim(1 << 20)


@case
def _keep_effective(_: Things) -> Call:
    return lambda: syscalls.keep_effective(range(64))


@case
def _spawn(_: Things) -> Call:
    path, name = program("true")
    turn = [0]

    def call() -> None:
        turn[0] += 1
        target = path if turn[0] % 4 == 0 else b"/nonexistent"
        pid, error_fd = syscalls.spawn(
            target,
            [name, b"x" * 1000],
            [b"A=" + b"y" * 1000] * 10,
            stdio=(0, 1, 2),
            oom_score_adj=b"1000",
            cwd=b"/",
            blocked=[1, 2, 3],
            ignored=[10],
            defaulted=[13],
            listen_pid_index=3,
        )
        wait_for(error_fd)
        assert len(os.read(error_fd, 4)) == (0 if target == path else 4)
        os.close(error_fd)
        os.waitpid(pid, 0)

    return call


@case
def _openpty(_: Things) -> Call:
    return closing(syscalls.openpty)


def terminal(things: Things, call: Callable[[int], object]) -> Call:
    master, slave = things.own(*syscalls.openpty())
    reader, _ = things.own(*os.pipe())
    return both(lambda: call(master), lambda: call(slave), failing(call, reader))


@case
def _get_oflag(things: Things) -> Call:
    return terminal(things, syscalls.get_oflag)


@case
def _set_oflag(things: Things) -> Call:
    return terminal(things, lambda fd: syscalls.set_oflag(fd, syscalls.ONLCR))


@case
def _get_winsize(things: Things) -> Call:
    return terminal(things, syscalls.get_winsize)


@case
def _set_winsize(things: Things) -> Call:
    return terminal(things, lambda fd: syscalls.set_winsize(fd, 24, 80))


@case
def _socket(_: Things) -> Call:
    return both(
        closing(syscalls.socket, syscalls.AF_UNIX, syscalls.SOCK_STREAM),
        failing(syscalls.socket, 10_000, syscalls.SOCK_STREAM),
    )


@case
def _socketpair(_: Things) -> Call:
    return closing(syscalls.socketpair, syscalls.AF_UNIX, syscalls.SOCK_STREAM)


@case
def _bind(things: Things) -> Call:
    def call() -> None:
        fd = syscalls.socket(syscalls.AF_UNIX, syscalls.SOCK_STREAM)
        syscalls.bind(fd, things.socket_path)
        failing(syscalls.bind, fd, b"x" * 200)()
        os.close(fd)

    return call


@case
def _connect(things: Things) -> Call:
    server = things.listener()

    def call() -> None:
        client = syscalls.socket(syscalls.AF_UNIX, syscalls.SOCK_STREAM)
        syscalls.connect(client, things.socket_path)
        failing(syscalls.connect, client, b"/nonexistent")()
        os.close(syscalls.accept4(server))
        os.close(client)

    return call


@case
def _listen(things: Things) -> Call:
    fd = things.listener()
    return both(lambda: syscalls.listen(fd, 3), failing(syscalls.listen, -1, 3))


@case
def _accept4(things: Things) -> Call:
    return _connect(things)


@case
def _shutdown(things: Things) -> Call:
    fd, _ = things.pair()
    return both(lambda: syscalls.shutdown(fd), failing(syscalls.shutdown, -1))


@case
def _peer_uid(things: Things) -> Call:
    fd, _ = things.pair()
    return both(lambda: syscalls.peer_uid(fd), failing(syscalls.peer_uid, -1))


@case
def _send(things: Things) -> Call:
    a, b = things.pair()
    data, room = bytes(60_000), bytearray(65536)
    return both(
        lambda: syscalls.send(a, data),
        lambda: syscalls.readv(b, [room]),
        failing(syscalls.send, -1, data),
    )


@case
def _send_fds(things: Things) -> Call:
    a, b = things.pair()

    def call() -> None:
        syscalls.send_fds(a, bytes(10_000), [a, b, 0])
        for fd in syscalls.recv_fds(b, 10_000, 2)[1]:  # the third is closed unseen
            os.close(fd)

    return both(call, failing(syscalls.send_fds, a, b"x", [-1]))


@case
def _recv_fds(things: Things) -> Call:
    _, b = things.pair()
    wait = syscalls.MSG_DONTWAIT
    return both(_send_fds(things), failing(syscalls.recv_fds, b, 65536, 10, wait))


@case
def _read_all(things: Things) -> Call:
    a, b = things.pair()
    os.set_blocking(b, False)

    def call() -> None:
        syscalls.send(a, b"data")
        assert syscalls.read_all(b, 65536) == b"data"

    return both(call, failing(syscalls.read_all, b, 10))


@case
def _read_only_data(things: Things) -> Call:
    a, b = things.pair()
    os.set_blocking(b, False)

    def call() -> None:
        syscalls.send_fds(a, b"data", [a])
        assert syscalls.read_only_data(b, 65536) == b"data"

    return both(call, failing(syscalls.read_only_data, b, 10))


@case
def _send_pieces(things: Things) -> Call:
    a, b = things.pair()

    def call() -> None:
        assert syscalls.send_pieces(a, bytes(10_000), b"\x02", 1000) == 10_000
        for _ in range(10):
            os.read(b, 2000)

    return both(call, failing(syscalls.send_pieces, a, b"x", b"", 0))


@case
def _send_lines(things: Things) -> Call:
    a, b = things.pair()

    def call() -> None:
        assert syscalls.send_lines(a, b"1234567\n" * 10, b"\x02") == 80
        for _ in range(10):
            os.read(b, 2000)

    return both(call, failing(syscalls.send_lines, a, bytes(1 << 20), b""))


@case
def _sendmmsg(things: Things) -> Call:
    a, b = things.pair()
    messages = [[b"\x02", bytes(1000)] for _ in range(10)]

    def call() -> None:
        for _ in range(syscalls.sendmmsg(a, messages)):
            os.read(b, 2000)

    return both(call, failing(syscalls.sendmmsg, a, [[bytes(1 << 20)]]))


@case
def _inotify_init1(_: Things) -> Call:
    return closing(syscalls.inotify_init1)


@case
def _inotify_add_watch(things: Things) -> Call:
    fd = things.own(syscalls.inotify_init1())
    folder = os.fsencode(things.folder)

    def call() -> None:
        watch = syscalls.inotify_add_watch(fd, folder, syscalls.IN_CREATE)
        syscalls.inotify_rm_watch(fd, watch)
        os.read(fd, 1000)

    return both(call, failing(syscalls.inotify_add_watch, fd, b"/nonexistent", 1))


@case
def _inotify_rm_watch(things: Things) -> Call:
    fd = things.own(syscalls.inotify_init1())
    return both(_inotify_add_watch(things), failing(syscalls.inotify_rm_watch, fd, 99))


@case
def _inotify_events(_: Things) -> Call:
    event = bytes(12) + (16).to_bytes(4, sys.byteorder) + b"name".ljust(16, b"\0")
    return lambda: syscalls.inotify_events(event * 20)


@case
def _fcntl(things: Things) -> Call:
    reader, _ = things.own(*os.pipe())
    return both(
        lambda: syscalls.fcntl(reader, syscalls.F_SETPIPE_SZ, 8192),
        failing(syscalls.fcntl, reader, 10_000),
    )


@case
def _is_locked(things: Things) -> Call:
    fd = things.own(os.open(things.path, os.O_CREAT | os.O_RDWR))
    return both(lambda: syscalls.is_locked(fd), failing(syscalls.is_locked, -1))


@case
def _close_range(_: Things) -> Call:
    def call() -> None:
        fd = os.dup(0)
        syscalls.close_range(fd, fd)

    return both(call, failing(syscalls.close_range, 2, 1))


# What os has


@case
def _readlink(_: Things) -> Call:
    return both(
        lambda: syscalls.readlink(b"/proc/self/exe"),
        failing(syscalls.readlink, b"/nonexistent"),
    )


@case
def _open(things: Things) -> Call:
    path = things.path
    return both(
        closing(syscalls.open, path, os.O_CREAT | os.O_RDWR),
        failing(syscalls.open, path + b"x", os.O_RDONLY),
    )


@case
def _close(_: Things) -> Call:
    return both(lambda: syscalls.close(os.dup(0)), failing(syscalls.close, -1))


@case
def _eventfd(_: Things) -> Call:
    return closing(syscalls.eventfd, 0)


@case
def _eventfd_write(things: Things) -> Call:
    fd = things.own(os.eventfd(0))
    return both(lambda: syscalls.eventfd_write(fd, 1), lambda: syscalls.eventfd_read(fd))


@case
def _eventfd_read(things: Things) -> Call:
    return _eventfd_write(things)


@case
def _memfd_create(_: Things) -> Call:
    return closing(syscalls.memfd_create, "leak")


@case
def _pipe2(_: Things) -> Call:
    return closing(syscalls.pipe2, os.O_CLOEXEC)


@case
def _fstat(things: Things) -> Call:
    fd = things.file()
    return lambda: syscalls.fstat(fd)


@case
def _stat(things: Things) -> Call:
    return both(
        lambda: syscalls.stat(things.folder), failing(syscalls.stat, things.path + b"nowhere")
    )


@case
def _fsync(things: Things) -> Call:
    fd = things.own(os.memfd_create("leak"))
    return lambda: syscalls.fsync(fd)


@case
def _ftruncate(things: Things) -> Call:
    fd = things.file()
    return lambda: syscalls.ftruncate(fd, 100)


@case
def _pread(things: Things) -> Call:
    fd = things.file()
    return lambda: syscalls.pread(fd, 65536, 0)


@case
def _read(things: Things) -> Call:
    fd = things.own(os.open("/dev/zero", os.O_RDONLY))
    return lambda: syscalls.read(fd, 65536)


@case
def _readv(things: Things) -> Call:
    fd = things.own(os.open("/dev/zero", os.O_RDONLY))
    return lambda: syscalls.readv(fd, [bytearray(100), bytearray(65536)])


@case
def _write(things: Things) -> Call:
    fd = things.own(os.open("/dev/null", os.O_WRONLY))
    return lambda: syscalls.write(fd, bytes(65536))


@case
def _mkdir(things: Things) -> Call:
    path = things.path + b"d"
    return both(
        lambda: syscalls.mkdir(path), failing(syscalls.mkdir, path), lambda: syscalls.rmdir(path)
    )


@case
def _rmdir(things: Things) -> Call:
    return _mkdir(things)


@case
def _mkfifo(things: Things) -> Call:
    path = things.path + b"f"
    return both(lambda: syscalls.mkfifo(path), lambda: syscalls.unlink(path))


@case
def _symlink(things: Things) -> Call:
    path = things.path + b"s"
    return both(lambda: syscalls.symlink(b"anywhere", path), lambda: syscalls.unlink(path))


@case
def _unlink(things: Things) -> Call:
    return _mkfifo(things)


@case
def _rename(things: Things) -> Call:
    things.file()
    one, two = things.path, things.path + b"2"
    return both(lambda: syscalls.rename(one, two), lambda: syscalls.rename(two, one))


def test_every_function_has_its_case() -> None:
    public = {name for name, value in vars(syscalls).items() if name[0] != "_" and callable(value)}
    assert set(CASES) == public


@pytest.mark.parametrize("name", sorted(CASES))
def test_many_calls_leave_nothing_behind(name: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        call = CASES[name](Things(tmp_path, stack))
        for _ in range(WARM_UP):
            call()
        before = open_fds()
        # What leaks, leaks each time; what the allocator keeps for later, it keeps once.
        for _ in range(3):
            memory = private_bytes()
            for _ in range(CALLS):
                call()
            growth = private_bytes() - memory
            if growth <= TOLERANCE:
                break
        assert growth <= TOLERANCE
        assert open_fds() == before
