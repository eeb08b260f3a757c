"""Both ends of the sd-notify relay: the manager's socket, and a sender in the container's place."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import termios
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tests.support import wait_for
from tests.support.life import Life, read_if_there, wait_until


class Manager:
    """A service manager's notification socket at *path* (`@` begins an abstract one)."""

    def __init__(self, path: Path | str) -> None:
        self.path = str(path)
        name = "\0" + self.path[1:] if self.path.startswith("@") else self.path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def option(self) -> list[str]:
        """The monitor's option for it."""
        return ["--sdnotify-socket", self.path]

    def receive(self) -> bytes:
        """Return the next datagram."""
        wait_for(self.socket)
        return self.socket.recv(1 << 18)

    def waiting(self) -> list[bytes]:
        """Return what is there now."""
        found = []
        try:
            while True:
                found.append(self.socket.recv(1 << 18, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return found

    def fill(self) -> int:
        """Send to it ourselves until it takes no more; return how many it took."""
        count = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(self.socket.getsockname())
            while True:
                try:
                    sender.send(b"filling", socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return count
                count += 1

    def close(self) -> None:
        """Close it; a file stays."""
        self.socket.close()


def folder(life: Life) -> Path:
    """Make the directory that podman makes, and return the path of the socket in it."""
    path = life.bundle / "notify"
    path.mkdir()
    return path / "notify.sock"


class Sender:
    """One that sends to a life's notify socket, as its container does."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        directory = os.open(path.parent, os.O_PATH)
        try:
            self.socket.connect(f"/proc/self/fd/{directory}/{path.name}")
        finally:
            os.close(directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, *datagrams: bytes, fds: Sequence[int] = ()) -> None:
        """Send each datagram, *fds* attached, when it is taken."""
        for datagram in datagrams:
            wait_for(self.socket, writable=True)
            socket.send_fds(self.socket, [datagram], list(fds))

    def unread(self) -> bool:
        """Tell whether something that was sent has not been read yet."""
        size = fcntl.ioctl(self.socket, termios.TIOCOUTQ, bytes(4))
        return size != bytes(4)

    def flood(self, datagrams: Sequence[bytes], fds: Sequence[int] = ()) -> int:
        """Send as many as are taken without waiting; return how many."""
        count = 0
        try:
            for datagram in datagrams:
                socket.send_fds(self.socket, [datagram], list(fds), socket.MSG_DONTWAIT)
                count += 1
        except OSError as error:
            # ETOOMANYREFS: descriptors that nobody has taken yet
            if error.errno not in (errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS):
                raise
        return count


def exit_status_and_no_socket(life: Life, path: Path) -> int:
    """Return the exit status, once it is there; from then on the socket is not."""
    status = wait_until(lambda: read_if_there(life.exit_dir / life.cid), "the exit file")
    assert not os.path.lexists(path), "the socket is there after the exit file"
    return int(status)
