"""A package upgrade under a running container: the monitor needs nothing of its tree any more."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support import wait_for

from .conftest import Hosted, install, run

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.life import Life


def spoil(prefix: Path) -> None:
    """Put garbage in the place of every file."""
    for path in list(prefix.rglob("*")):
        if path.is_file():
            new = path.with_name("garbage")
            new.write_bytes(b"\0garbage(\n")
            new.rename(path)


def remove(prefix: Path) -> None:
    """Uninstall."""
    assert run("uninstall", prefix).returncode == 0
    assert not prefix.exists()


def wipe(prefix: Path) -> None:
    """Take everything away at once."""
    shutil.rmtree(prefix)


def upgrade(prefix: Path) -> None:
    """Install again."""
    install(prefix)


CHANGES = pytest.mark.parametrize("change", [spoil, remove, wipe, upgrade])


def read_until(client: socket.socket, text: bytes) -> bytes:
    """Read an attach client's packets until *text* has come."""
    data = b""
    while text not in data:
        packet = client.recv(8193)
        assert packet, data
        data += packet[1:]
    return data


@pytest.mark.contract("CASE-1101")
@CHANGES
def test_a_terminal_lives_on(
    prefix: Path,
    own_prefix: Path,
    new_life: Callable[..., Life],
    change: Callable[[Path], None],
) -> None:
    """Acceptable: attach, resize, reopen, exit status and exit command as if nothing had happened.

    Not acceptable: anything else.
    """
    life = new_life(own_prefix)
    script = "trap 'stty size' WINCH; echo ready; until read word; do :; done; echo :$word; exit 9"
    hosted = Hosted(life, prefix / "libexec/lowconmon/hostrun", script)
    ran = life.directory / "ran"
    hosted.create("--exit-command", "/bin/touch", "--exit-command-arg", str(ran))
    change(own_prefix)
    client = life.attach()
    hosted.call("start", life.cid)
    read_until(client, b"ready")
    life.control(b"1 40 120\n")
    read_until(client, b"40 120")
    life.log.rename(life.directory / "old.log")
    life.control(b"2 0 0\n")
    wait_for(life.log)
    client.send(b"word\n")
    read_until(client, b":word")
    client.close()
    assert life.exit_status() == 9
    wait_for(ran)
    life.wait_gone()
    assert b":word" in life.text()
    assert not (life.bundle / "attach").exists()
    assert not (life.bundle / "conmon-crash").exists()
    hosted.call("delete", life.cid)


@pytest.mark.contract("CASE-1101")
@pytest.mark.parametrize("change", [spoil, wipe])
def test_a_timeout_kills_and_the_record_is_written(
    prefix: Path,
    own_prefix: Path,
    new_life: Callable[..., Life],
    change: Callable[[Path], None],
) -> None:
    life = new_life(own_prefix)
    hosted = Hosted(life, prefix / "libexec/lowconmon/hostrun", "while :; do sleep 10; done")
    hosted.create("--timeout", "1")
    change(own_prefix)
    hosted.call("start", life.cid)
    assert life.exit_status() == -1
    life.wait_gone()
    hosted.call("delete", life.cid)
