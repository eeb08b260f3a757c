"""unix(7): addresses, descriptors that travel, many messages at once."""

from __future__ import annotations

import array
import contextlib
import errno
import os
import resource
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import syscalls
from lowconmon.syscalls import AF_UNIX, MSG_DONTWAIT, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM
from tests.support import is_cloexec, open_fds

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Own

KINDS = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET]


@pytest.fixture
def pair(own: Own) -> Callable[[int], tuple[int, int]]:
    """Give a function that makes two connected sockets."""
    return lambda kind: own(syscalls.socketpair(AF_UNIX, kind))


def fill(fd: int, data: bytes = b"x" * 1024) -> int:
    """Send until the peer's buffer is full; return how many bytes went."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += syscalls.send(fd, data, MSG_DONTWAIT)
    return sent


def drain(fd: int) -> bytes:
    """Return all that waits in a socket."""
    data = b""
    with contextlib.suppress(BlockingIOError):
        while True:
            data += syscalls.recv_fds(fd, 65536, 0, MSG_DONTWAIT)[0]
    return data


# Making and naming


@pytest.mark.parametrize("kind", KINDS, ids=["stream", "datagram", "packets"])
def test_sockets_are_close_on_exec_and_of_the_kind(own: Own, kind: int) -> None:
    for fd in (own(syscalls.socket(AF_UNIX, kind)), *own(syscalls.socketpair(AF_UNIX, kind))):
        assert is_cloexec(fd)
        assert os.get_blocking(fd)
        with socket.socket(fileno=os.dup(fd)) as twin:
            assert (twin.family, twin.type) == (socket.AF_UNIX, kind)


def test_sockets_can_be_made_non_blocking(own: Own) -> None:
    one = own(syscalls.socket(AF_UNIX, SOCK_STREAM | syscalls.SOCK_NONBLOCK))
    two = own(syscalls.socketpair(AF_UNIX, SOCK_STREAM | syscalls.SOCK_NONBLOCK))
    assert not any(map(os.get_blocking, (one, *two)))


def test_socket_and_socketpair_raise_the_errno_of_the_call() -> None:
    for call in (syscalls.socket, syscalls.socketpair):
        with pytest.raises(OSError, match=r".") as caught:
            call(10_000, SOCK_STREAM)
        assert caught.value.errno in (errno.EAFNOSUPPORT, errno.EINVAL)


def listener(own: Own, path: bytes, kind: int = SOCK_STREAM) -> int:
    fd: int = own(syscalls.socket(AF_UNIX, kind))
    syscalls.bind(fd, path)
    syscalls.listen(fd, 8)
    return fd


@pytest.mark.parametrize("flags", [0, syscalls.SOCK_NONBLOCK], ids=["blocking", "non-blocking"])
def test_a_connection_is_accepted_close_on_exec(
    own: Own, handle: Callable[[int], Any], short_tmp: Path, flags: int
) -> None:
    path = os.fsencode(short_tmp / "socket")
    server, client = (
        listener(own, path, SOCK_SEQPACKET),
        own(syscalls.socket(AF_UNIX, SOCK_SEQPACKET)),
    )
    syscalls.connect(handle(client), path)
    accepted = own(syscalls.accept4(handle(server), flags))
    assert is_cloexec(accepted)
    assert os.get_blocking(accepted) is not bool(flags)
    assert syscalls.peer_uid(handle(accepted)) == os.getuid()
    assert syscalls.send(client, b"hello") == 5
    assert syscalls.recv_fds(accepted, 10, 0)[0] == b"hello"


def test_an_abstract_address_has_no_file(own: Own) -> None:
    path = b"\0lowconmon-test-%d" % os.getpid()
    server, client = listener(own, path), own(syscalls.socket(AF_UNIX, SOCK_STREAM))
    with socket.socket(fileno=os.dup(server)) as twin:
        assert twin.getsockname() == path
    syscalls.connect(client, path)
    own(syscalls.accept4(server))


def test_a_path_may_be_as_long_as_the_kernel_takes(own: Own, short_tmp: Path) -> None:
    longest = os.fsencode(short_tmp) + b"/"
    longest += b"x" * (syscalls.SUN_PATH_MAX - len(longest))
    assert len(longest) == syscalls.SUN_PATH_MAX == 107
    server, client = listener(own, longest), own(syscalls.socket(AF_UNIX, SOCK_STREAM))
    assert os.path.exists(longest)
    syscalls.connect(client, longest)
    own(syscalls.accept4(server))
    fd = own(syscalls.socket(AF_UNIX, SOCK_STREAM))
    for call in (syscalls.bind, syscalls.connect):
        with pytest.raises(OSError, match=r".") as caught:
            call(fd, longest + b"x")
        assert caught.value.errno == errno.ENAMETOOLONG


def test_naming_raises_the_errno_of_the_call(own: Own, short_tmp: Path) -> None:
    path = os.fsencode(short_tmp / "socket")
    fd = own(syscalls.socket(AF_UNIX, SOCK_STREAM))
    with pytest.raises(FileNotFoundError):
        syscalls.connect(fd, path)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.listen(fd, 1)
    assert caught.value.errno == errno.EINVAL
    syscalls.bind(fd, path)
    with pytest.raises(ConnectionRefusedError):
        syscalls.connect(own(syscalls.socket(AF_UNIX, SOCK_STREAM)), path)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.bind(own(syscalls.socket(AF_UNIX, SOCK_STREAM)), path)
    assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.accept4(fd)
    assert caught.value.errno == errno.EINVAL


def test_accept4_without_a_connection_would_block(own: Own, short_tmp: Path) -> None:
    server = own(syscalls.socket(AF_UNIX, SOCK_STREAM | syscalls.SOCK_NONBLOCK))
    syscalls.bind(server, os.fsencode(short_tmp / "socket"))
    syscalls.listen(server, 1)
    with pytest.raises(BlockingIOError):
        syscalls.accept4(server)


def test_peer_uid_refuses_what_is_no_socket(own: Own) -> None:
    reader, _ = own(os.pipe())
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.peer_uid(reader)
    assert caught.value.errno == errno.ENOTSOCK


# Sending


def test_shutdown_ends_both_directions_and_keeps_what_was_sent(
    pair: Callable[[int], tuple[int, int]], handle: Callable[[int], Any], own: Own
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    syscalls.send(a, b"last words")
    syscalls.shutdown(handle(a))
    assert syscalls.recv_fds(b, 100, 0)[0] == b"last words"
    assert syscalls.recv_fds(b, 100, 0)[0] == syscalls.recv_fds(a, 100, 0)[0] == b""
    with pytest.raises(BrokenPipeError):
        syscalls.send(b, b"x")
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.shutdown(own(os.open("/dev/null", os.O_RDONLY)))
    assert caught.value.errno == errno.ENOTSOCK


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"array"), memoryview(b"a view")[2:], b""])
def test_send_takes_any_buffer(pair: Callable[[int], tuple[int, int]], data: bytes) -> None:
    a, b = pair(SOCK_SEQPACKET)
    assert syscalls.send(a, data) == len(data)
    assert syscalls.recv_fds(b, 100, 0)[0] == bytes(data)


def test_send_and_send_fds_to_nobody_raise_and_send_no_sigpipe(
    pair: Callable[[int], tuple[int, int]],
) -> None:
    a, b = pair(SOCK_STREAM)
    with socket.socket(fileno=os.dup(b)) as twin:
        twin.shutdown(socket.SHUT_RDWR)
    old = signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # it would end us
    try:
        calls: list[Callable[[], int]] = [
            lambda: syscalls.send(a, b"x"),
            lambda: syscalls.send_fds(a, b"x", [0]),
            lambda: syscalls.sendmmsg(a, [[b"x"]]),
        ]
        for call in calls:
            with pytest.raises(BrokenPipeError):
                call()
    finally:
        signal.signal(signal.SIGPIPE, old)


def test_send_to_a_full_peer_is_short_and_then_would_block(
    pair: Callable[[int], tuple[int, int]],
) -> None:
    a, b = pair(SOCK_STREAM)
    data = bytes(range(256)) * 8192
    sent = syscalls.send(a, data, MSG_DONTWAIT)
    assert 0 < sent < len(data)
    fill(a)
    calls: list[Callable[[], int]] = [
        lambda: syscalls.send(a, b"x", MSG_DONTWAIT),
        lambda: syscalls.send_fds(a, b"x", [a], MSG_DONTWAIT),
        lambda: syscalls.sendmmsg(a, [[b"x"]], MSG_DONTWAIT),
    ]
    for call in calls:
        with pytest.raises(BlockingIOError):
            call()
    assert drain(b).startswith(data[:sent])


# Descriptors that travel


def test_a_descriptor_arrives_close_on_exec_and_stays_ours(
    pair: Callable[[int], tuple[int, int]],
    own: Own,
    handle: Callable[[int], Any],
) -> None:
    a, b = pair(SOCK_STREAM)
    reader, writer = own(os.pipe())
    assert syscalls.send_fds(handle(a), b"name", [writer, reader]) == 4
    data, fds, flags = syscalls.recv_fds(handle(b), 100, 10)
    own(fds)
    assert data == b"name"
    assert not flags & (syscalls.MSG_CTRUNC | syscalls.MSG_TRUNC)
    assert len(fds) == 2
    assert all(map(is_cloexec, fds))
    os.write(fds[0], b"through the copy")
    assert os.read(fds[1], 100) == b"through the copy"
    assert os.fstat(writer).st_ino == os.fstat(fds[0]).st_ino


def test_no_descriptors_is_a_plain_message(pair: Callable[[int], tuple[int, int]]) -> None:
    a, b = pair(SOCK_SEQPACKET)
    assert syscalls.send_fds(a, b"alone", []) == 5
    assert syscalls.recv_fds(b, 100, 5)[:2] == (b"alone", [])


@pytest.mark.parametrize(("sent", "room"), [(1, 0), (3, 1), (3, 2), (3, 3), (253, 1), (253, 253)])
def test_descriptors_beyond_the_room_are_closed(
    pair: Callable[[int], tuple[int, int]], own: Own, sent: int, room: int
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    before = open_fds()
    syscalls.send_fds(a, b"x", [0] * sent)
    data, fds, _ = syscalls.recv_fds(b, 10, room)
    own(fds)
    assert data == b"x"
    assert len(fds) == min(sent, room)
    assert set(open_fds()) - set(before) == set(fds)


def test_a_full_descriptor_table_is_told_as_ctrunc(
    pair: Callable[[int], tuple[int, int]], own: Own
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    syscalls.send_fds(a, b"x", [0, 0, 0])
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + 1, old[1]))
    try:
        data, fds, flags = syscalls.recv_fds(b, 10, 3)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    own(fds)
    assert data == b"x"
    assert flags & syscalls.MSG_CTRUNC
    assert fds == [lowest_free]


def test_a_message_that_was_cut_is_told_as_trunc(pair: Callable[[int], tuple[int, int]]) -> None:
    a, b = pair(SOCK_SEQPACKET)
    syscalls.send(a, b"longer than that")
    data, _, flags = syscalls.recv_fds(b, 6, 0)
    assert data == b"longer"
    assert flags & syscalls.MSG_TRUNC


@pytest.mark.parametrize("how", [signal.SIG_BLOCK, signal.SIG_UNBLOCK], ids=["block", "unblock"])
def test_reading_only_data_leaves_signal_and_timer_as_they_were(
    pair: Callable[[int], tuple[int, int]], how: int
) -> None:
    ours, theirs = pair(syscalls.SOCK_DGRAM | syscalls.SOCK_NONBLOCK)
    old_mask = signal.pthread_sigmask(how, [signal.SIGALRM])
    old_handler = signal.signal(signal.SIGALRM, signal.SIG_IGN)
    old_timer = signal.setitimer(signal.ITIMER_REAL, 1000, 2000)
    try:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
        syscalls.send_fds(ours, b"data", [ours])
        assert syscalls.read_only_data(theirs, 2) == b"da"
        with pytest.raises(BlockingIOError):
            syscalls.read_only_data(theirs, 2)
        assert syscalls.get_disposition(signal.SIGALRM) == "ignored"
        assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
        left, interval = signal.getitimer(signal.ITIMER_REAL)
        assert 900 < left <= 1000.1
        assert interval == 2000
    finally:
        signal.setitimer(signal.ITIMER_REAL, *old_timer)
        signal.signal(signal.SIGALRM, old_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, old_mask)


def test_the_end_of_a_stream_is_no_data(pair: Callable[[int], tuple[int, int]]) -> None:
    a, b = pair(SOCK_STREAM)
    with socket.socket(fileno=os.dup(a)) as twin:
        twin.shutdown(socket.SHUT_WR)
    assert syscalls.recv_fds(b, 10, 1)[:2] == (b"", [])
    with pytest.raises(BlockingIOError):
        syscalls.recv_fds(a, 10, 1, MSG_DONTWAIT)


def test_descriptors_of_pythons_own_send_arrive(own: Own) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rights = array.array("i", [0, 0])
        ours.sendmsg([b"ab", b"cd"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        data, fds, _ = syscalls.recv_fds(theirs, 10, 4)
        own(fds)
        assert (data, len(fds)) == (b"abcd", 2)


def test_send_fds_raises_the_errno_of_the_call(pair: Callable[[int], tuple[int, int]]) -> None:
    a, _ = pair(SOCK_STREAM)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.send_fds(a, b"x", [-1])
    assert caught.value.errno == errno.EBADF
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.send_fds(a, b"x", [0] * 254)
    assert caught.value.errno == errno.EINVAL


# Many messages


def test_sendmmsg_joins_the_parts_of_each_message(
    pair: Callable[[int], tuple[int, int]], handle: Callable[[int], Any]
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    parts: Any = [[b"\x02", bytearray(b"one")], [memoryview(b"two")], [b"", b"three", b"!"]]
    assert syscalls.sendmmsg(handle(a), parts) == 3
    received = [syscalls.recv_fds(b, 100, 0)[0] for _ in parts]
    assert received == [b"\x02one", b"two", b"three!"]
    assert syscalls.sendmmsg(a, []) == 0


def test_sendmmsg_stops_where_the_peer_is_full_and_can_go_on(
    pair: Callable[[int], tuple[int, int]],
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    with socket.socket(fileno=os.dup(a)) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    messages = [[b"\x02", b"%04d" % number + bytes(8188)] for number in range(40)]
    sent = syscalls.sendmmsg(a, messages, MSG_DONTWAIT)
    assert 0 < sent < len(messages)
    with pytest.raises(BlockingIOError):
        syscalls.sendmmsg(a, messages[sent:], MSG_DONTWAIT)
    received: list[bytes] = []
    while len(received) < len(messages):
        received.append(syscalls.recv_fds(b, 10_000, 0, MSG_DONTWAIT)[0])
        if sent < len(messages):
            with contextlib.suppress(BlockingIOError):
                sent += syscalls.sendmmsg(a, messages[sent:], MSG_DONTWAIT)
    assert received == [b"".join(message) for message in messages]


@pytest.mark.parametrize(
    ("messages", "parts", "expected"),
    [
        (63, 1, 63),
        (64, 1, 64),
        (65, 1, 64),
        (100, 1, 64),
        (64, 2, 64),
        (100, 2, 64),
        (64, 3, 64),
        (3, 128, 3),
        (2, 1024, 2),
    ],
)
def test_at_most_64_messages_go_at_once(
    pair: Callable[[int], tuple[int, int]], messages: int, parts: int, expected: int
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    batch = [[bytes([number])] * parts for number in range(messages)]
    assert syscalls.sendmmsg(a, batch, MSG_DONTWAIT) == expected
    for number in range(expected):
        assert syscalls.recv_fds(b, 2000, 0, MSG_DONTWAIT)[0] == bytes([number]) * parts
    with pytest.raises(BlockingIOError):
        syscalls.recv_fds(b, 1000, 0, MSG_DONTWAIT)


def test_a_message_may_have_more_parts_than_the_kernel_takes(
    pair: Callable[[int], tuple[int, int]],
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    assert syscalls.sendmmsg(a, [[b"x"], [b"x", bytearray(b"y")] * 1025]) == 2
    assert syscalls.recv_fds(b, 3000, 0, MSG_DONTWAIT)[0] == b"x"
    assert syscalls.recv_fds(b, 3000, 0, MSG_DONTWAIT)[0] == b"xy" * 1025


def test_a_message_that_is_too_long_is_refused_where_it_comes_first(
    pair: Callable[[int], tuple[int, int]],
) -> None:
    a, _ = pair(SOCK_SEQPACKET)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.sendmmsg(a, [[bytes(1 << 24)]])
    assert caught.value.errno == errno.EMSGSIZE
    assert syscalls.sendmmsg(a, [[b"x"], [bytes(1 << 24)]]) == 1


@pytest.mark.parametrize("size", [1, 7, 8, 9, 63, 64, 65, 200])
def test_pieces_are_cut_and_prefixed(pair: Callable[[int], tuple[int, int]], size: int) -> None:
    a, b = pair(SOCK_SEQPACKET)
    data = bytes(range(64))
    sent = syscalls.send_pieces(a, memoryview(bytearray(data)), b"\x02\0", size, MSG_DONTWAIT)
    assert sent == 64
    pieces = [data[start : start + size] for start in range(0, 64, size)]
    assert [syscalls.recv_fds(b, 300, 0)[0] for _ in pieces] == [b"\x02\0" + it for it in pieces]
    with pytest.raises(BlockingIOError):
        syscalls.recv_fds(b, 300, 0, MSG_DONTWAIT)


def test_at_most_64_pieces_go_at_once_and_the_rest_can_follow(
    pair: Callable[[int], tuple[int, int]], handle: Callable[[int], Any]
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    data = bytes(range(200))
    assert syscalls.send_pieces(handle(a), data, b"", 2, MSG_DONTWAIT) == 128
    assert syscalls.send_pieces(a, data[128:], b"", 2, MSG_DONTWAIT) == 72
    assert b"".join(syscalls.recv_fds(b, 9, 0, MSG_DONTWAIT)[0] for _ in range(100)) == data
    assert syscalls.send_pieces(a, b"", b"x", 2) == 0


def test_pieces_stop_where_the_peer_is_full(pair: Callable[[int], tuple[int, int]]) -> None:
    a, b = pair(SOCK_SEQPACKET)
    with socket.socket(fileno=os.dup(a)) as twin:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    data = os.urandom(400_000)
    sent = syscalls.send_pieces(a, data, b"\x02", 8192, MSG_DONTWAIT)
    assert 0 < sent < len(data)
    assert sent % 8192 == 0
    with pytest.raises(BlockingIOError):
        syscalls.send_pieces(a, data[sent:], b"\x02", 8192, MSG_DONTWAIT)
    received = b""
    while len(received) < len(data):
        received += syscalls.recv_fds(b, 10_000, 0, MSG_DONTWAIT)[0][1:]
        if sent < len(data):
            with contextlib.suppress(BlockingIOError):
                sent += syscalls.send_pieces(a, data[sent:], b"\x02", 8192, MSG_DONTWAIT)
    assert received == data


@pytest.mark.parametrize("size", [0, -1])
def test_pieces_have_a_size(pair: Callable[[int], tuple[int, int]], size: int) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.send_pieces(pair(SOCK_SEQPACKET)[0], b"x", b"", size)
    assert caught.value.errno == errno.EINVAL


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\na", b"one\n\ntwo\n", b"\0\n" * 64, b"x" * 9000])
def test_each_line_goes_out_behind_the_head(
    pair: Callable[[int], tuple[int, int]], handle: Callable[[int], Any], data: bytes
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    assert syscalls.send_lines(handle(a), memoryview(bytearray(data)), b"\x02\0") == len(data)
    lines = data.split(b"\n")
    lines = [line + b"\n" for line in lines[:-1]] + [lines[-1]] * bool(lines[-1])
    assert [syscalls.read(b, 10_000) for _ in lines] == [b"\x02\0" + line for line in lines]
    with pytest.raises(BlockingIOError):
        syscalls.recv_fds(b, 300, 0, MSG_DONTWAIT)


def test_of_each_line_the_first_bytes_can_be_left_out(
    pair: Callable[[int], tuple[int, int]],
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    lines = [b"<3>one\n", b"<3>\n", b"<3\n", b"\n", b"<3>two\n", b"<"]
    assert syscalls.send_lines(a, b"".join(lines), b"=", skip=3) == sum(map(len, lines))
    assert [syscalls.read(b, 99) for _ in lines] == [b"=" + line[3:] for line in lines]


@pytest.mark.parametrize("count", [63, 64, 65, 128, 150, 511, 512, 513, 600])
def test_at_most_512_lines_go_at_once_and_in_order(
    pair: Callable[[int], tuple[int, int]], count: int
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    lines, received = [b"%d\n" % number for number in range(count)], list[bytes]()
    expected = lines[:512]

    def receive() -> None:
        received.extend(syscalls.read(b, 10) for _ in expected)

    reader = threading.Thread(target=receive)
    reader.start()
    sent = syscalls.send_lines(a, b"".join(lines), b"=")
    reader.join()
    assert sent == sum(map(len, expected))
    assert received == [b"=" + line for line in expected]


def test_lines_stop_where_the_peer_is_full_and_can_go_on(
    pair: Callable[[int], tuple[int, int]],
) -> None:
    a, b = pair(SOCK_SEQPACKET)
    lines = [b"x" * (number % 500) + b"\n" for number in range(3000)]
    rest, received = memoryview(b"".join(lines)), list[bytes]()
    with contextlib.suppress(BlockingIOError):
        while rest:
            rest = rest[syscalls.send_lines(a, rest, b"", MSG_DONTWAIT) :]
    assert 0 < len(rest) < sum(map(len, lines))
    while len(received) < len(lines):
        with contextlib.suppress(BlockingIOError):
            while True:
                received.append(syscalls.recv_fds(b, 1000, 0, MSG_DONTWAIT)[0])
        rest = rest[syscalls.send_lines(a, rest, b"", MSG_DONTWAIT) if rest else 0 :]
    assert received == lines
    syscalls.shutdown(b)
    with pytest.raises(BrokenPipeError):
        syscalls.send_lines(a, b"\n", b"", MSG_DONTWAIT)


def test_a_line_that_is_too_long_is_refused_where_it_comes_first(
    pair: Callable[[int], tuple[int, int]],
) -> None:
    a, _ = pair(SOCK_SEQPACKET)
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.send_lines(a, bytes(1 << 24), b"")
    assert caught.value.errno == errno.EMSGSIZE
    assert syscalls.send_lines(a, b"x\n" * 65 + bytes(1 << 24), b"", MSG_DONTWAIT) == 130


# Signals


@pytest.fixture
def full(pair: Callable[[int], tuple[int, int]]) -> tuple[int, int]:
    a, b = pair(SOCK_STREAM)
    fill(a)
    return a, b


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda fd: syscalls.send(fd, b"end"), 3),
        (lambda fd: syscalls.send_fds(fd, b"end", [0]), 3),
        (lambda fd: syscalls.sendmmsg(fd, [[b"end"]]), 1),
        (lambda fd: syscalls.send_lines(fd, b"end", b""), 3),
        (lambda fd: syscalls.send_pieces(fd, b"end", b"", 3), 3),
    ],
)
def test_sending_goes_on_after_signals(
    full: tuple[int, int],
    interrupted: Callable[..., Any],
    call: Callable[[int], int],
    expected: int,
) -> None:
    with interrupted(lambda: drain(full[1])):
        assert call(full[0]) == expected
    assert drain(full[1]).endswith(b"end")


def test_receiving_goes_on_after_signals_and_loses_no_descriptor(
    pair: Callable[[int], tuple[int, int]],
    own: Own,
    interrupted: Callable[..., Any],
) -> None:
    a, b = pair(SOCK_STREAM)
    with interrupted(lambda: syscalls.send_fds(a, b"late", [0, 0])):
        data, fds, _ = syscalls.recv_fds(b, 10, 2)
    own(fds)
    assert (data, len(fds)) == (b"late", 2)


def test_accepting_goes_on_after_signals(
    own: Own, interrupted: Callable[..., Any], short_tmp: Path
) -> None:
    path = os.fsencode(short_tmp / "socket")
    server, client = listener(own, path), own(syscalls.socket(AF_UNIX, SOCK_STREAM))
    with interrupted(lambda: syscalls.connect(client, path)):
        own(syscalls.accept4(server))


def test_connecting_goes_on_after_signals(
    own: Own, interrupted: Callable[..., Any], short_tmp: Path
) -> None:
    path = os.fsencode(short_tmp / "socket")
    server = own(syscalls.socket(AF_UNIX, SOCK_STREAM))
    syscalls.bind(server, path)
    syscalls.listen(server, 0)  # one may wait, the next one blocks
    syscalls.connect(own(syscalls.socket(AF_UNIX, SOCK_STREAM)), path)
    with interrupted(lambda: own(syscalls.accept4(server))):
        syscalls.connect(own(syscalls.socket(AF_UNIX, SOCK_STREAM)), path)
    own(syscalls.accept4(server))
