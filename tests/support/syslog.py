"""A /dev/log of one life's own, to see what the monitor says once it is a daemon."""

from __future__ import annotations

import os
import socket

from tests.support.life import Life, wait_until

# `unshare` needs root, or a user namespace.
FAKE_DEV = """
set -e
mkdir "$1/dev"
mount -t tmpfs tmpfs "$1/dev"
touch "$1/dev/null"
mount --bind /dev/null "$1/dev/null"
ln -s "$1/log" "$1/dev/log"
mount --rbind "$1/dev" /dev
shift
exec "$@"
"""


class Syslog:
    """The /dev/log of one life; `lines` returns what came so far."""

    def __init__(self, life: Life) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(life.directory / "log"))
        self.socket.setblocking(False)
        self.seen: list[bytes] = []
        unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
        command = [*unshare, "sh", "-c", FAKE_DEV, "sh", str(life.directory)]
        life.command = [*command, *life.command]

    def __enter__(self) -> Syslog:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def lines(self) -> list[bytes]:
        try:
            while True:
                self.seen.append(self.socket.recv(65536))
        except BlockingIOError:
            return self.seen

    def wait(self, part: bytes) -> bytes:
        """Return the first line that holds *part*."""
        found: list[bytes] = wait_until(
            lambda: [line for line in self.lines() if part in line], repr(part)
        )
        return found[0]
