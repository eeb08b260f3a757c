"""The attach socket: packets, several clients, the end of stdin, slow clients, the end of a life."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import select
import signal
import socket
import stat
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support import SLOWNESS
from tests.support.life import (
    DEADLINE,
    Gate,
    Life,
    assert_idle,
    attach_accepted,
    packets,
    private_kib,
    read_if_there,
    sockets_of,
    wait_until,
)

KIB, MIB = 1 << 10, 1 << 20
MAX_CLIENTS = 64
MAX_INPUT = 32768
BACKLOG = 10


@pytest.fixture
def socket_dir(life: Life) -> Path:
    """Make a directory for links to attach sockets."""
    directory = life.directory / "sockets"
    directory.mkdir()
    return directory


def python(life: Life, code: str) -> str:
    """Return a container that runs Python code."""
    script = life.directory / "container.py"
    script.write_text("import hashlib, os, select, signal, sys, time\n" + code)
    return f"exec {sys.executable} -IS {script}"


def without_full_attach(life: Life, *extra: str) -> list[str]:
    """Return the usual arguments without `--full-attach`."""
    return [*(word for word in life.arguments() if word != "--full-attach"), *extra]


def read_until(client: socket.socket, end: bytes) -> bytes:
    """Read packets until what came on stdout ends so."""
    text = b""
    while not text.endswith(end):
        packet = client.recv(8193)
        assert packet, text[-200:]
        if packet[0] == 2:
            text += packet[1:]
    return text


def wait_log(life: Life, text: bytes) -> None:
    """Wait until this is all of stdout in the log."""
    wait_until(lambda: (life.log.exists() and life.text()) == text, f"{text!r} in the log")


class Reader(threading.Thread):
    """Reads a client to its end beside the test."""

    def __init__(self, client: socket.socket) -> None:
        super().__init__(daemon=True)
        self.client = client
        self.out = self.err = b""
        self.failure: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Read."""
        try:
            self.out, self.err = packets(self.client)
        except BaseException as failure:  # noqa: BLE001 - told by `end`
            self.failure = failure

    def end(self) -> tuple[bytes, bytes]:
        """Wait for the end of both streams and return them."""
        self.join(60)
        assert not self.is_alive()
        self.client.close()
        if self.failure:
            raise self.failure
        return self.out, self.err


# The socket


@pytest.mark.contract("ATT-1", "ATT-2")
@pytest.mark.parametrize("umask", [0, 0o077])
def test_the_socket_is_in_the_bundle_and_ours_alone(life: Life, gate: Gate, umask: int) -> None:
    life.stub(f"read x <{gate.path}").start(umask=umask)
    life.pid()
    status = (life.bundle / "attach").lstat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o700
    for kind, expected in ((socket.SOCK_SEQPACKET, 0), (socket.SOCK_STREAM, errno.EPROTOTYPE)):
        with socket.socket(socket.AF_UNIX, kind) as client:
            assert client.connect_ex(str(life.bundle / "attach")) == expected
    gate.open()
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-1")
def test_clients_that_the_monitor_has_no_time_for_wait_in_a_backlog_of_ten(
    life: Life, gate: Gate
) -> None:
    life.stub(f"read x <{gate.path}; echo bye").start()
    life.pid()
    monitor = life.monitor_pid()
    clients = []
    os.kill(monitor, signal.SIGSTOP)
    try:
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            client.setblocking(False)
            if client.connect_ex(str(life.bundle / "attach")) == errno.EAGAIN:
                client.close()
                break
            clients.append(client)
            assert len(clients) < 2 * MAX_CLIENTS
    finally:
        before = sockets_of(monitor)
        os.kill(monitor, signal.SIGCONT)
    assert len(clients) == BACKLOG + 1  # Linux counts from zero
    wait_until(lambda: sockets_of(monitor) == before + len(clients), "all are accepted")
    gate.open()
    for client in clients:
        client.settimeout(DEADLINE)
        assert packets(client) == (b"bye\n", b"")
        client.close()


@pytest.mark.contract("ATT-3", "ATT-5", "ATT-6", "CLI-26")
def test_without_full_attach_a_link_in_the_socket_directory_leads_to_it(
    life: Life, gate: Gate, socket_dir: Path
) -> None:
    life.stub(f"read x <{gate.path}; echo bye")
    life.start(raw=without_full_attach(life, "--socket-dir-path", str(socket_dir)))
    life.pid()
    link = socket_dir / life.cid
    assert link.is_symlink()
    assert link.resolve() == life.bundle
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as client:
        client.settimeout(DEADLINE)
        before = sockets_of(life.monitor_pid())
        client.connect(str(link / "attach"))
        wait_until(lambda: sockets_of(life.monitor_pid()) > before, "it is accepted")
        gate.open()
        assert packets(client) == (b"bye\n", b"")
        assert list(socket_dir.iterdir()) == []
        assert not (life.bundle / "attach").exists()
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-2", "CLI-53")
def test_with_full_attach_there_is_no_link(life: Life, gate: Gate, socket_dir: Path) -> None:
    life.stub(f"read x <{gate.path}").start("--socket-dir-path", str(socket_dir))
    life.pid()
    assert list(socket_dir.iterdir()) == []
    gate.open()
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-4", "ATT-6", "CASE-907")
@pytest.mark.parametrize("length", [105, 106, 107, 108])
def test_a_link_of_exactly_107_bytes_loses_its_last_byte(
    life: Life, gate: Gate, length: int
) -> None:
    socket_dir = life.directory / ("s" * (length - len(str(life.directory)) - 2 - len(life.cid)))
    socket_dir.mkdir()
    link = socket_dir / life.cid
    assert len(str(link)) == length
    life.stub(f"read x <{gate.path}")
    life.start(raw=without_full_attach(life, "--socket-dir-path", str(socket_dir)))
    life.pid()
    name = life.cid[:-1] if length == 107 else life.cid
    assert [path.name for path in socket_dir.iterdir()] == [name]
    assert (socket_dir / name).resolve() == life.bundle
    life.attach().close()
    gate.open()
    assert life.exit_status() == 0
    life.wait_gone()
    assert list(socket_dir.iterdir()) == []


@pytest.mark.contract("ATT-3")
@pytest.mark.parametrize("stale", ["link", "file"])
def test_a_stale_link_and_a_stale_socket_are_replaced(
    life: Life, gate: Gate, socket_dir: Path, stale: str
) -> None:
    if stale == "link":
        (socket_dir / life.cid).symlink_to("/nowhere")
    else:
        (socket_dir / life.cid).write_bytes(b"")
    (life.bundle / "attach").write_bytes(b"old")
    life.stub(f"read x <{gate.path}")
    life.start(raw=without_full_attach(life, "--socket-dir-path", str(socket_dir)))
    life.pid()
    assert (socket_dir / life.cid).resolve() == life.bundle
    life.attach().close()
    gate.open()
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-5", "END-6")
def test_when_a_client_sees_the_end_the_exit_files_are_there_and_the_socket_is_gone(
    life: Life, gate: Gate
) -> None:
    life.stub(f"read x <{gate.path}; exit 4").start()
    life.pid()
    client = attach_accepted(life)
    gate.open()
    assert packets(client) == (b"", b"")
    assert (life.exit_dir / life.cid).read_bytes() == b"4"
    assert (life.persist_dir / "exit").read_bytes() == b"4"
    assert not (life.bundle / "attach").exists()
    client.close()


@pytest.mark.contract("ATT-7", "SYNC-16")
def test_an_exec_without_a_bundle_has_no_socket_and_no_fifos(
    life: Life, gate: Gate, socket_dir: Path
) -> None:
    cwd = life.directory / "cwd"
    cwd.mkdir()
    usual = life.arguments(exec_session=True)
    at = usual.index("-b")
    life.stub(f"echo hello; read x <{gate.path}; exit 2")
    extra = ["--socket-dir-path", str(socket_dir)]
    life.start(raw=[*usual[:at], *usual[at + 2 :], *extra], cwd=cwd)
    life.pid()
    assert list(cwd.iterdir()) == []
    assert list(life.bundle.iterdir()) == []
    assert list(socket_dir.iterdir()) == []
    gate.open()
    assert life.message() == {"data": 2}
    assert life.text() == b"hello\n"


# Packets


@pytest.mark.contract("ATT-8")
def test_packets_are_a_type_and_at_most_8192_bytes(life: Life, gate: Gate) -> None:
    code = (
        f"open({str(gate.path)!r}).readline()\n"
        "data = bytes(i * 7 % 251 for i in range(300000))\n"
        "for fd in (1, 2):\n"
        "    rest = data\n"
        "    while rest: rest = rest[os.write(fd, rest):]\n"
    )
    life.stub(python(life, code)).start()
    life.pid()
    client = attach_accepted(life)
    gate.open()
    found = {2: b"", 3: b""}
    while packet := client.recv(65536):
        assert 2 <= len(packet) <= 8193
        found[packet[0]] += packet[1:]
    client.close()
    expected = bytes(i * 7 % 251 for i in range(300000))
    assert found[2] == expected
    assert found[3] == expected


@pytest.mark.contract("ATT-9", "ATT-10")
@pytest.mark.parametrize("size", [1, 8193, 32767, 32768, 32769, 40000, 100_000])
def test_packets_from_clients_are_cut_at_32768_bytes(life: Life, size: int) -> None:
    life.stub("cat").start("-i")
    life.pid()
    client = attach_accepted(life)
    data = bytes(i % 253 for i in range(size))
    client.send(data)
    client.send(b"next")
    client.shutdown(socket.SHUT_WR)
    out, _ = packets(client)
    client.close()
    assert out == data[:MAX_INPUT] + b"next"
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-11")
def test_a_packet_of_length_zero_is_an_end(life: Life) -> None:
    life.stub("cat; echo end").start("-i")
    life.pid()
    client = attach_accepted(life)
    client.send(b"text\n")
    client.send(b"")
    assert packets(client) == (b"text\nend\n", b"")
    client.close()
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-12")
def test_without_stdin_what_clients_send_is_read_and_dropped(life: Life, gate: Gate) -> None:
    life.stub(f"cat; read x <{gate.path}; echo bye").start()
    life.pid()
    client = attach_accepted(life)
    for _ in range(300):
        client.send(b"x" * MAX_INPUT)  # fails after a while if nobody reads
    client.shutdown(socket.SHUT_WR)
    gate.open()
    assert packets(client) == (b"bye\n", b"")
    client.close()
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-13")
def test_a_client_gets_everything_from_when_it_came_and_nothing_older(
    life: Life, gate: Gate
) -> None:
    life.stub(f"echo 0; for i in 1 2 3; do read x <{gate.path}; echo $i; done").start()
    life.pid()
    wait_log(life, b"0\n")
    clients, text = [], b"0\n"
    for number in (1, 2, 3):
        clients.append(attach_accepted(life))
        gate.open()
        text += b"%d\n" % number
        wait_log(life, text)
    assert [packets(client)[0] for client in clients] == [b"1\n2\n3\n", b"2\n3\n", b"3\n"]
    for client in clients:
        client.close()


@pytest.mark.contract("ATT-13", "RT-27")
def test_a_client_that_came_before_the_start_gets_all_of_the_output(life: Life, gate: Gate) -> None:
    before = f"read x <{gate.path}; echo runtime; echo words >&2"
    life.stub("echo container", before=before).start()
    wait_until((life.bundle / "attach").exists, "the socket")
    client = attach_accepted(life)
    gate.open()
    life.pid()
    assert packets(client) == (b"runtime\ncontainer\n", b"words\n")
    client.close()


@pytest.mark.contract("ATT-9", "ATT-13")
def test_what_a_client_sends_before_the_start_waits_for_the_container(
    life: Life, gate: Gate
) -> None:
    life.stub("cat", before=f"read x <{gate.path}").start("-i")
    wait_until((life.bundle / "attach").exists, "the socket")
    client = attach_accepted(life)
    client.send(b"early\n")
    client.shutdown(socket.SHUT_WR)
    gate.open()
    life.pid()
    assert packets(client) == (b"early\n", b"")
    client.close()


# The end of stdin


@pytest.mark.contract("ATT-14", "CLI-36")
@pytest.mark.parametrize("way", ["half-closes", "goes away", "says nothing and half-closes"])
def test_stdin_ends_when_the_client(life: Life, way: str) -> None:
    life.stub("cat; echo end").start("-i")
    life.pid()
    client = attach_accepted(life)
    if "nothing" not in way:
        client.send(b"text\n")
    if "half" in way:
        client.shutdown(socket.SHUT_WR)
        assert packets(client)[0].endswith(b"end\n")
    client.close()
    assert life.exit_status() == 0
    assert life.text() == (b"" if "nothing" in way else b"text\n") + b"end\n"


@pytest.mark.contract("ATT-14", "ATT-16")
def test_all_that_a_client_sent_before_it_went_away_is_delivered(life: Life, gate: Gate) -> None:
    life.stub(f"read x <{gate.path}; sha256sum").start("-i")
    life.pid()
    client = attach_accepted(life)
    # More than the pipe takes: some waits in the monitor and some in the socket.
    data = [bytes([i]) * 20000 for i in range(7)]
    for packet in data:
        client.send(packet)
    client.close()
    gate.open()
    assert life.exit_status() == 0
    expected = hashlib.sha256(b"".join(data)).hexdigest()
    assert life.text().decode() == f"{expected}  -\n"


@pytest.mark.contract("ATT-14", "ATT-16")
def test_what_a_client_sent_is_delivered_though_it_went_away_with_output_unread(
    life: Life, gate: Gate
) -> None:
    """A close with unread output is a reset to the monitor, told before what was sent is read."""
    life.stub(f"read x <{gate.path}; echo hello; cat; echo end").start("-i")
    life.pid()
    client = attach_accepted(life)
    gate.open()
    wait_log(life, b"hello\n")
    assert select.select([client], [], [], DEADLINE)[0], "there is output"
    monitor = life.monitor_pid()
    os.kill(monitor, signal.SIGSTOP)
    try:
        for number in range(5):
            client.send(b"text %d\n" % number)
        client.close()
    finally:
        os.kill(monitor, signal.SIGCONT)
    assert life.exit_status() == 0
    assert life.text() == b"hello\ntext 0\ntext 1\ntext 2\ntext 3\ntext 4\nend\n"


@pytest.mark.contract("ATT-14", "CLI-36")
@pytest.mark.parametrize("half", [True, False], ids=["half-closed", "closed"])
def test_with_leave_stdin_open_later_clients_can_still_send(life: Life, half: bool) -> None:  # noqa: FBT001
    life.stub("for i in 1 2 3; do read x; echo got $x; done").start("-i", "--leave-stdin-open")
    life.pid()
    text = b""
    for word in (b"one", b"two", b"three"):
        client = attach_accepted(life)
        client.send(word + b"\n")
        if half:
            client.shutdown(socket.SHUT_WR)
        text += b"got " + word + b"\n"
        wait_log(life, text)
        if word == b"three":  # then the life ends, and the monitor with it
            client.close()
            break
        monitor, before = life.monitor_pid(), sockets_of(life.monitor_pid())
        client.close()
        wait_until(lambda n=before, m=monitor: sockets_of(m) < n, "it is gone")
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-15")
@pytest.mark.parametrize("flags", [("-t",), ("-t", "-i"), ("-t", "-i", "--leave-stdin-open")])
def test_with_a_terminal_later_clients_can_still_type(life: Life, flags: tuple[str, ...]) -> None:
    container = "stty -echo; echo ready; for i in 1 2 3; do read x; echo got $x; done"
    life.terminal_stub(container).start(*flags)
    life.pid()
    wait_log(life, b"ready\r\n")
    text = b"ready\r\n"
    for word, half in ((b"one", True), (b"two", False), (b"three", False)):
        client = attach_accepted(life)
        client.send(word + b"\n")
        if half:
            client.shutdown(socket.SHUT_WR)
        text += b"got " + word + b"\r\n"
        wait_log(life, text)
        if word == b"three":  # then the life ends, and the monitor with it
            client.close()
            break
        before = sockets_of(life.monitor_pid())
        client.close()
        wait_until(lambda n=before: sockets_of(life.monitor_pid()) < n, "it is gone")
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-16")
def test_stdin_stays_open_while_another_client_that_has_sent_is_there(life: Life) -> None:
    life.stub("read a; echo $a; read b; echo $b; read c; echo $c; read d || echo end").start("-i")
    life.pid()
    first, second = attach_accepted(life), attach_accepted(life)
    first.send(b"a\n")
    read_until(first, b"a\n")
    second.send(b"b\n")
    read_until(first, b"b\n")
    first.shutdown(socket.SHUT_WR)
    before = sockets_of(life.monitor_pid())
    first.close()
    wait_until(lambda: sockets_of(life.monitor_pid()) < before, "the first is gone")
    second.send(b"c\n")
    wait_log(life, b"a\nb\nc\n")
    second.shutdown(socket.SHUT_WR)
    assert packets(second)[0] == b"a\nb\nc\nend\n"
    second.close()
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-17")
def test_a_client_that_never_sent_ends_nothing_while_one_that_has_is_there(life: Life) -> None:
    life.stub("read a; echo $a; read b; echo $b; read c || echo end").start("-i")
    life.pid()
    sender, silent = attach_accepted(life), attach_accepted(life)
    sender.send(b"a\n")
    read_until(sender, b"a\n")
    before = sockets_of(life.monitor_pid())
    silent.shutdown(socket.SHUT_WR)
    silent.close()
    wait_until(lambda: sockets_of(life.monitor_pid()) < before, "the silent one is gone")
    sender.send(b"b\n")
    read_until(sender, b"b\n")
    sender.close()
    assert life.exit_status() == 0
    assert life.text() == b"a\nb\nend\n"


@pytest.mark.contract("ATT-16", "ATT-17")
def test_a_client_that_never_sends_holds_nothing_open(life: Life) -> None:
    life.stub("cat; echo end").start("-i")
    life.pid()
    silent, sender = attach_accepted(life), attach_accepted(life)
    sender.send(b"text\n")
    sender.shutdown(socket.SHUT_WR)
    assert packets(sender) == (b"text\nend\n", b"")
    assert packets(silent) == (b"text\nend\n", b"")
    sender.close()
    silent.close()
    assert life.exit_status() == 0


@pytest.mark.contract("ATT-16")
def test_two_senders_that_go_at_once_are_both_delivered(life: Life, gate: Gate) -> None:
    life.stub(f"read x <{gate.path}; tr -d '\\n' | wc -c").start("-i")
    life.pid()
    clients = [attach_accepted(life), attach_accepted(life)]
    for client in clients:
        client.settimeout(None)  # with a timeout Python asks poll, which says no much earlier
        for _ in range(4):
            client.send(b"x" * 30000)
    for client in clients:
        client.close()
    gate.open()
    assert life.exit_status() == 0
    assert int(life.text()) == 240_000


@pytest.mark.contract("CASE-601")
def test_a_container_that_closes_its_stdin_costs_neither_time_nor_the_client(
    life: Life, gate: Gate
) -> None:
    """Acceptable: what is sent is dropped, and output goes on.

    Not acceptable: a spin, a log of complaints, a client that is detached.
    """
    life.stub(f"read x; exec 0<&-; echo closed; read y <{gate.path}; echo bye; exit 6").start("-i")
    life.pid()
    client = attach_accepted(life)
    client.send(b"first\n")
    read_until(client, b"closed\n")
    for _ in range(200):
        client.send(b"x" * MAX_INPUT)
    assert_idle(life.monitor_pid())
    assert life.records() == [("stdout", "F", b"closed")]
    gate.open()
    assert packets(client) == (b"bye\n", b"")
    client.close()
    assert life.exit_status() == 6
    assert not (life.bundle / "conmon-crash").exists()


@pytest.mark.contract("CASE-602", "ATT-9")
def test_a_gigabyte_goes_to_a_slow_reader_whole(life: Life) -> None:
    """Acceptable: a client that waits for the reader.

    Not acceptable: another checksum, an end of input that comes early or never, a log of
    anything but the answer.
    """
    life.stub("read go; exec sha256sum").start("-i")
    life.pid()
    client = attach_accepted(life)
    client.send(b"go\n")
    packet = bytes(i * 11 % 251 for i in range(MAX_INPUT))
    expected = hashlib.sha256()
    for _ in range(MIB * 1024 // MAX_INPUT):
        client.send(packet)
        expected.update(packet)
    client.shutdown(socket.SHUT_WR)
    out, _ = packets(client)
    client.close()
    assert out.decode() == f"{expected.hexdigest()}  -\n"
    assert life.exit_status() == 0
    assert len(life.records()) == 1


@pytest.mark.contract("CASE-602", "ATT-9")
def test_a_container_that_does_not_read_makes_its_client_wait_and_nothing_spins(
    life: Life, gate: Gate
) -> None:
    life.stub(f"read x <{gate.path}; exec wc -c").start("-i")
    life.pid()
    client = attach_accepted(life)
    client.setblocking(False)
    sent = 0
    while sent < 4 * MIB:
        _, writable, _ = select.select([], [client], [], 0.5)
        if not writable:
            break
        try:
            sent += client.send(b"x" * 1000)
        except BlockingIOError:
            continue
    assert sent < 2 * MIB, "nobody makes the client wait"
    assert_idle(life.monitor_pid())
    gate.open()
    client.settimeout(DEADLINE)
    client.shutdown(socket.SHUT_WR)
    assert int(packets(client)[0]) == sent
    client.close()


# Slow clients

# Writes patterns on both streams for ever (or for so many bytes) and keeps a count of what it wrote.
FLOOD = """
size, status = {size}, {status}
open({gate!r}).readline()
count = os.open({count!r}, os.O_RDWR | os.O_CREAT)
block = b"".join(b"%099d\\n" % i for i in range(163))
written = [0, 0]
while min(written) < size:
    for stream in (0, 1):
        if written[stream] < size:
            written[stream] += os.write(stream + 1, block[:size - written[stream]])
            os.pwrite(count, b"%15d %15d" % tuple(written), 0)
sys.exit(status)
"""
BLOCK = b"".join(b"%099d\n" % i for i in range(163))


def flood(life: Life, gate: Gate, size: int, status: int = 0) -> str:
    """Return a container that writes *size* bytes on each stream, when the gate is open."""
    code = FLOOD.format(
        size=size, status=status, gate=str(gate.path), count=str(life.directory / "count")
    )
    return python(life, code)


def flooded(life: Life) -> list[int]:
    """Return how much the container has written on stdout and stderr so far."""
    content = read_if_there(life.directory / "count")
    return [int(word) for word in (content or b"0 0").split()]


def pattern(size: int) -> str:
    """Return the checksum of what a flood of so many bytes is."""
    whole, rest = divmod(size, len(BLOCK))
    return hashlib.sha256(BLOCK * whole + BLOCK[:rest]).hexdigest()


def wait_stuck(life: Life) -> list[int]:
    """Wait until the container writes no more; return how much it has written."""
    monitor = life.monitor_pid()
    while True:
        before = flooded(life)
        assert_idle(monitor)
        if sum(before) and flooded(life) == before:
            return before


def checksum(data: bytes) -> str:
    """Return a checksum."""
    return hashlib.sha256(data).hexdigest()


@pytest.mark.contract("ATT-19", "ATT-21", "ATT-22", "CASE-101", "CASE-102", "ATT-18")
def test_a_client_that_never_reads_makes_only_the_containers_writing_wait(
    life: Life, gate: Gate
) -> None:
    """Acceptable: the container waits as on a pipe, control and timers live, and once it is
    killed its exit file is there within a second. Not acceptable: a log that is short of what it
    wrote, a monitor that waits or grows with the client.
    """
    life.stub(flood(life, gate, 100 * MIB)).start()
    pid = life.pid()
    client = attach_accepted(life)
    gate.open()
    written = wait_stuck(life)
    # The queue is 1 MiB; pipes and socket buffers hold a little more.
    assert MIB // 2 < sum(written) < 3 * MIB
    old = life.log.rename(life.directory / "old.log")
    life.control(b"2 0 0\n")
    wait_until(life.log.exists, "control messages are read")
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    assert life.exit_status() == 137
    assert time.monotonic() - killed < 1 * SLOWNESS
    # All that the container could write is in the log.
    out = b"".join(
        record[45:] + (b"\n" if record[43:44] == b"F" else b"")
        for record in (old.read_bytes() + life.log.read_bytes()).split(b"\n")
        if record[36:42] == b"stdout"
    )
    assert len(out) >= flooded(life)[0]
    assert (BLOCK * (len(out) // len(BLOCK) + 1)).startswith(out)
    life.wait_gone(10)
    client.close()


@pytest.mark.contract("ATT-22", "CASE-101", "END-5")
def test_the_timeout_comes_though_a_client_does_not_read(life: Life, gate: Gate) -> None:
    life.stub(flood(life, gate, 100 * MIB)).start("--timeout", "2")
    life.pid()
    client = attach_accepted(life)
    gate.open()
    assert life.exit_status() == -1
    assert flooded(life)[0] < 3 * MIB
    life.wait_gone(10)
    client.close()


@pytest.mark.contract("ATT-21", "CASE-103")
def test_a_client_that_goes_on_reading_gets_every_byte(life: Life, gate: Gate) -> None:
    """Acceptable: a pause.

    Not acceptable: a byte that the client, the other client or the log lacks.
    """
    size = 100 * MIB
    life.stub(flood(life, gate, size, 5)).start("--no-sync-log")
    life.pid()
    client, second = attach_accepted(life), attach_accepted(life)
    reader = Reader(second)
    gate.open()
    wait_stuck(life)
    expected = pattern(size)
    out, err = packets(client)
    client.close()
    assert (checksum(out), checksum(err)) == (expected, expected)
    out, err = reader.end()
    assert (checksum(out), checksum(err)) == (expected, expected)
    assert life.exit_status() == 5
    assert checksum(life.text("stdout")) == expected
    assert checksum(life.text("stderr")) == expected


@pytest.mark.contract("ATT-25", "CASE-104")
def test_with_a_stall_timeout_a_client_that_never_reads_is_detached(life: Life, gate: Gate) -> None:
    """Acceptable: the one that takes nothing is let go.

    Not acceptable: a byte that the log or the other client lacks, another status than 7.
    """
    size = 100 * MIB
    life.environment["LOWCONMON_ATTACH_STALL_TIMEOUT"] = "1"
    life.stub(flood(life, gate, size, 7)).start("--no-sync-log")
    life.pid()
    stalled, second = attach_accepted(life), attach_accepted(life)
    reader = Reader(second)
    gate.open()
    out, err = reader.end()
    expected = pattern(size)
    assert (checksum(out), checksum(err)) == (expected, expected)
    assert life.exit_status() == 7
    for stream in (b"stdout", b"stderr"):
        found = hashlib.sha256()
        with life.log.open("rb") as file:
            for record in file:
                if record[36:42] == stream:
                    found.update(record[45:] if record[43:44] == b"F" else record[45:-1])
        assert found.hexdigest() == expected
    stalled.close()


@pytest.mark.contract("ATT-25")
@pytest.mark.parametrize("value", ["", "0", "soon", "-1"])
def test_no_or_a_bad_stall_timeout_detaches_nobody(life: Life, gate: Gate, value: str) -> None:
    life.environment["LOWCONMON_ATTACH_STALL_TIMEOUT"] = value
    life.stub(flood(life, gate, 2 * MIB, 7)).start()
    life.pid()
    client = attach_accepted(life)
    gate.open()
    wait_stuck(life)
    out, err = packets(client)
    client.close()
    assert (len(out), len(err)) == (2 * MIB, 2 * MIB)
    assert life.exit_status() == 7


@pytest.mark.contract("ATT-21", "ATT-19")
def test_a_slow_client_that_goes_away_sets_the_container_free(life: Life, gate: Gate) -> None:
    life.stub(flood(life, gate, 4 * MIB, 3)).start()
    life.pid()
    client = attach_accepted(life)
    gate.open()
    wait_stuck(life)
    client.close()
    assert life.exit_status() == 3
    assert len(life.text("stdout")) == 4 * MIB
    assert len(life.text("stderr")) == 4 * MIB


@pytest.mark.contract("ATT-21")
def test_a_client_that_has_half_closed_and_does_not_read_makes_the_container_wait_too(
    life: Life, gate: Gate
) -> None:
    life.stub(flood(life, gate, 4 * MIB, 3)).start("-i")
    life.pid()
    client = attach_accepted(life)
    client.shutdown(socket.SHUT_WR)
    gate.open()
    wait_stuck(life)
    out, err = packets(client)
    client.close()
    assert (checksum(out), checksum(err)) == (pattern(4 * MIB), pattern(4 * MIB))
    assert life.exit_status() == 3


@pytest.mark.contract("ATT-19", "ATT-20")
def test_many_slow_clients_hold_no_more_than_their_queues(life: Life, gate: Gate) -> None:
    life.stub(flood(life, gate, 100 * MIB)).start()
    pid = life.pid()
    clients = [attach_accepted(life) for _ in range(MAX_CLIENTS)]
    before = private_kib(life.monitor_pid())
    gate.open()
    wait_stuck(life)
    # They share the bytes that are queued for all of them.
    assert private_kib(life.monitor_pid()) - before < 16 * KIB
    os.kill(pid, signal.SIGKILL)
    assert life.exit_status() == 137
    for client in clients:
        client.close()


@pytest.mark.contract("ATT-20")
def test_the_65th_client_is_accepted_and_closed_and_the_others_are_served(
    life: Life, gate: Gate
) -> None:
    life.stub(f"read x <{gate.path}; echo bye; read x <{gate.path}").start()
    life.pid()
    clients = [attach_accepted(life) for _ in range(MAX_CLIENTS)]
    extra = life.attach()
    assert extra.recv(8193) == b""
    extra.close()
    clients.pop().close()
    before = MAX_CLIENTS
    wait_until(lambda: sockets_of(life.monitor_pid()) >= before, "the monitor goes on")

    def attached() -> bool:
        client = life.attach()
        client.setblocking(False)
        # One that is too many sees its end at once.
        ready, _, _ = select.select([client], [], [], 0.1)
        if ready:
            client.close()
            return False
        client.settimeout(DEADLINE)
        clients.append(client)
        return True

    wait_until(attached, "there is room for one again")
    gate.open()
    for client in clients:
        assert client.recv(8193) == b"\2bye\n"
    gate.open()
    for client in clients:
        assert client.recv(8193) == b""
        client.close()


# The end of a life


@pytest.mark.contract("ATT-23", "ATT-18", "END-6")
def test_what_is_queued_at_the_end_is_delivered_after_the_exit_files(
    life: Life, gate: Gate
) -> None:
    size = 300 * KIB
    life.stub(flood(life, gate, size, 9)).start()
    life.pid()
    client = attach_accepted(life)
    gate.open()
    assert life.exit_status() == 9
    out, err = packets(client)
    client.close()
    assert (checksum(out), checksum(err)) == (pattern(size), pattern(size))


@pytest.mark.contract("ATT-23", "END-6", "END-8")
def test_a_client_that_never_reads_delays_neither_exit_file_nor_exit_command_nor_the_end(
    life: Life, gate: Gate
) -> None:
    done = life.directory / "done"
    life.stub(flood(life, gate, 400 * KIB, 9))
    life.start("--exit-command", "/bin/touch", "--exit-command-arg", str(done))
    life.pid()
    client = attach_accepted(life)
    gate.open()
    assert life.exit_status() == 9
    wait_until(done.exists, "the exit command")
    life.wait_gone(8)
    # What the socket took is still there, and the end is an end.
    out, err = packets(client)
    assert out + err
    client.close()


@pytest.mark.contract("ATT-23", "ATT-5")
@pytest.mark.parametrize("reads", [True, False], ids=["-i", "no -i"])
def test_the_end_is_an_end_though_the_client_sent_what_nobody_read(
    life: Life,
    gate: Gate,
    reads: bool,  # noqa: FBT001
) -> None:
    extra = ("-i",) if reads else ()
    life.stub(f"read x <{gate.path}; seq 1 20000; exit 2").start(*extra)
    life.pid()
    client = attach_accepted(life)
    client.setblocking(False)
    sent = 0
    while sent < MIB:
        _, writable, _ = select.select([], [client], [], 0.3)
        if not writable:
            break
        try:
            sent += client.send(b"x" * 4096)
        except BlockingIOError:
            continue
    gate.open()
    assert life.exit_status() == 2
    client.settimeout(DEADLINE)
    out, _ = packets(client)  # raises ConnectionResetError if there is no clean end
    assert out == b"".join(b"%d\n" % i for i in range(1, 20001))
    client.close()


@pytest.mark.contract("ATT-23")
def test_a_client_in_the_backlog_at_the_end_sees_an_end(life: Life, gate: Gate) -> None:
    """Acceptable: an end, or a reset (it was never accepted). Not: waiting for ever."""
    life.stub(f"read x <{gate.path}").start()
    life.pid()
    monitor = life.monitor_pid()
    os.kill(monitor, signal.SIGSTOP)
    try:
        client = life.attach()
        gate.open()
        folder = Path(f"/proc/{int(life.pid_file.read_bytes())}/stat")
        wait_until(
            lambda: (read_if_there(folder) or b") Z").rpartition(b")")[2][1:2] == b"Z", "its end"
        )
    finally:
        os.kill(monitor, signal.SIGCONT)
    assert life.exit_status() == 0
    try:
        assert client.recv(8193) == b""
    except ConnectionResetError:
        pass
    client.close()


# Out of descriptors


@pytest.mark.contract("ATT-24")
def test_out_of_descriptors_a_client_waits_and_is_served_later(life: Life, gate: Gate) -> None:
    life.stub(f"read x <{gate.path}; echo bye; exit 3").start()
    life.pid()
    monitor = life.monitor_pid()
    usual = resource.prlimit(monitor, resource.RLIMIT_NOFILE)
    before = sockets_of(monitor)
    resource.prlimit(monitor, resource.RLIMIT_NOFILE, (3, usual[1]))
    client = life.attach()
    assert_idle(monitor)
    assert sockets_of(monitor) == before
    old = life.log.rename(life.directory / "old.log")
    life.control(b"1 1 1\n")  # the rest of the life goes on
    old.rename(life.log)
    resource.prlimit(monitor, resource.RLIMIT_NOFILE, usual)
    wait_until(lambda: sockets_of(monitor) > before, "the client is accepted")
    gate.open()
    assert packets(client) == (b"bye\n", b"")
    client.close()
    assert life.exit_status() == 3


@pytest.mark.contract("ATT-24", "END-26")
def test_out_of_descriptors_for_good_the_output_is_logged_and_typing_goes_on(
    life: Life, gate: Gate
) -> None:
    """The exit file needs a descriptor: those of the pipes are free by then."""
    life.stub("read x; echo got $x; exit 3").start("-i")
    life.pid()
    monitor = life.monitor_pid()
    client = attach_accepted(life)
    used = max(int(fd) for fd in os.listdir(f"/proc/{monitor}/fd"))
    resource.prlimit(
        monitor,
        resource.RLIMIT_NOFILE,
        (used, resource.prlimit(monitor, resource.RLIMIT_NOFILE)[1]),
    )
    waiting = life.attach()
    client.send(b"it\n")
    assert packets(client) == (b"got it\n", b"")
    client.close()
    waiting.close()
    assert life.exit_status() == 3
    assert life.text() == b"got it\n"
    assert gate.path.exists()
