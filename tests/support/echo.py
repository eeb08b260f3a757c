"""A container that says what its client sends, step by step."""

from __future__ import annotations

from tests.support.life import Life, attach_accepted


class Echo:
    """The client of a container that echoes; begin when the monitor has been started with -i."""

    CONTAINER = "exec cat"

    def __init__(self, life: Life) -> None:
        self.life = life
        life.pid()
        self.client = attach_accepted(life)

    def say(self, *texts: bytes, packet: bytes = b"\2") -> None:
        """Let the container say each of *texts* at once; then it has been given to the log."""
        for text in texts:
            self.client.send(text)
            got = b""
            while len(got) < len(text):
                received = self.client.recv(8193)
                assert received[:1] == packet, received[:100]
                got += received[1:]
            assert got == text, "a client gets the very bytes"

    def end(self) -> None:
        """Let the container end, and wait until the monitor has gone."""
        self.client.close()
        assert self.life.exit_status() == 0
        self.life.wait_gone()
