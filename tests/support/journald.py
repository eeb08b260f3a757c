"""A systemd-journald for one life: a fake one that shows what was sent, and the real one.

The life gets a mount namespace of its own, where journald's socket is a link: to the fake's socket
in the life's directory, or into the namespace that the real one lives in.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.life import DEADLINE, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.life import Life

Fields = list[tuple[bytes, bytes]]

UNSHARE = ["unshare", "--mount", "--propagation", "private"]
if os.geteuid():
    UNSHARE.append("--map-root-user")
DAEMON = "/lib/systemd/systemd-journald"
# /run of our own, where journald's socket leads to $1.
ENTER = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal
ln -s "$1" /run/systemd/journal/socket
shift
exec "$@"
"""
# /etc of our own, for a machine id; what the daemon must not do is read the kernel's log. Its sockets
# are in $2, not behind /proc/PID/root, which a monitor without its capabilities may not pass.
LIVE = """
set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /etc
mkdir -p /run/systemd/journal /run/log/journal /etc/systemd
mount --bind "$2" /run/systemd/journal
echo 0123456789abcdef0123456789abcdef > /etc/machine-id
cat > /etc/systemd/journald.conf << END
[Journal]
Storage=volatile
RateLimitIntervalSec=0
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToWall=no
END
exec "$1"
"""
SEALED = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def parse(data: bytes) -> Fields:
    """Return the fields of an entry of the native protocol; fails on anything else."""
    fields = []
    while data:
        line, newline, rest = data.partition(b"\n")
        assert newline, line[:100]
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(rest[:8], "little")
            value, end = rest[8 : 8 + size], rest[8 + size : 9 + size]
            assert end == b"\n", (name, size)
            rest = rest[9 + size :]
        assert name and not name.strip(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"), name[:100]
        fields.append((name, value))
        data = rest
    return fields


def unshare_network() -> None:
    """Give the calling thread a network namespace of its own."""
    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000):  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "unshare")


def connect(life: Life, target: Path) -> None:
    """Let the program of *life* find journald's socket at *target*."""
    life.command = [*UNSHARE, "sh", "-c", ENTER, "sh", str(target), *life.command]


class FakeJournald:
    """A socket at *path* in journald's place; reads only when asked to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Fields] = []  # all that was read
        self.files = 0  # how many of them came as sealed files
        self.socket: socket.socket | None = None

    def __enter__(self) -> FakeJournald:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, queue: int | None = None) -> FakeJournald:
        """Bind the socket, which takes *queue* unread datagrams (systemd: 512; the kernel: 10)."""

        def make() -> None:
            if queue is not None:  # it is the network namespace's, which is the thread's
                unshare_network()
                Path("/proc/sys/net/unix/max_dgram_qlen").write_text(str(queue))
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

        thread = threading.Thread(target=make)
        thread.start()
        thread.join()
        assert self.socket
        self.socket.bind(str(self.path))
        self.socket.setblocking(False)
        return self

    def stop(self) -> None:
        """Close the socket, with what nobody has read, and remove it."""
        if self.socket:
            self.path.unlink()
            self.socket.close()
            self.socket = None

    def read(self, limit: int = -1) -> list[Fields]:
        """Read what is there, at most *limit* datagrams; return all entries so far."""
        while self.socket and limit:
            try:
                data, fds, flags, _ = socket.recv_fds(self.socket, 1 << 20, 1)
            except BlockingIOError:
                break
            assert not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
            for fd in fds:
                assert data == b""
                assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == SEALED
                data = os.pread(fd, os.fstat(fd).st_size, 0)
                os.close(fd)
                self.files += 1
            self.entries.append(parse(data))
            limit -= 1
        return self.entries

    def wait(self, wanted: Callable[[list[Fields]], object], what: str) -> list[Fields]:
        """Read as fast as we can until *wanted*, which gets all entries so far, is true."""
        end = time.monotonic() + DEADLINE
        while not wanted(self.read()):
            assert time.monotonic() < end, f"not within {DEADLINE} s: {what}"
            select.select([self.socket] if self.socket else [], [], [], 0.01)
        return self.entries

    def wait_for(self, text: bytes) -> None:
        """Read until the last message begins with *text*."""
        self.wait(lambda all_: all_ and dict(all_[-1])[b"MESSAGE"].startswith(text), repr(text))

    def messages(self) -> list[tuple[bytes, bytes, bool]]:
        """Return (PRIORITY, MESSAGE, partial) of all entries so far."""
        entries = [dict(fields) for fields in self.read()]
        return [
            (entry[b"PRIORITY"], entry[b"MESSAGE"], b"CONTAINER_PARTIAL_MESSAGE" in entry)
            for entry in entries
        ]

    def text(self, priority: bytes = b"6") -> bytes:
        """Return the text of one stream as the container wrote it."""
        return b"".join(
            text + (b"" if partial else b"\n")
            for number, text, partial in self.messages()
            if number == priority
        )


class Journald:
    """A real systemd-journald in a mount namespace of its own, with nothing in its journal."""

    def __init__(self, directory: Path) -> None:
        """Let its sockets be in *directory*."""
        self._process = subprocess.Popen(
            [*UNSHARE, "sh", "-c", LIVE, "sh", DAEMON, str(directory)],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._process.pid
        self.socket = directory / "socket"
        self._directory = Path(f"/proc/{self.pid}/root/run/log/journal")
        try:
            wait_until(self.socket.exists, "journald's socket")
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Journald:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End it; the journal goes with it."""
        self._process.terminate()
        self._process.wait(DEADLINE)

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """Return what `journalctl -o json` finds, oldest first."""
        command = ["journalctl", f"--directory={self._directory}", "--all", "-o", "json"]
        done = subprocess.run(
            [*command, *matches], capture_output=True, timeout=DEADLINE, check=True
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def wait(self, wanted: Callable[[list[Any]], object], *matches: str) -> list[dict[str, Any]]:
        """Look until *wanted*, which gets the entries that match, is true; return them."""
        found: list[list[Any]] = [[]]

        def look() -> object:
            found[0] = self.entries(*matches)
            return wanted(found[0])

        wait_until(look, f"entries with {matches}")
        return found[0]


def arguments(life: Life, *extra: str) -> list[str]:
    """Return the usual arguments, with journald in the place of the log file, *extra* last."""
    usual = life.arguments()
    usual[usual.index("-l") + 1] = "journald"
    return [*usual, *extra]
