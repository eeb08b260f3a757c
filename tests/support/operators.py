"""Ask monitors as operators do: the status socket, and the programs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support import SLOWNESS
from tests.support.life import DEADLINE, IN_TREE, Life

if TYPE_CHECKING:
    pass


def connect(bundle: Path, name: str = "status") -> socket.socket:
    """Return a connection to a socket of *bundle*, however long its path is."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    directory = os.open(bundle, os.O_PATH)
    try:
        client.connect(f"/proc/self/fd/{directory}/{name}")  # blocks while the backlog is full
        client.settimeout(DEADLINE)
    except OSError:
        client.close()
        raise
    finally:
        os.close(directory)
    return client


def ask(bundle: Path, request: bytes = b"status") -> dict[str, Any]:
    """Return the answer to one request; it must be one line of JSON, and the end must follow."""
    with connect(bundle) as client:
        client.send(request)
        packet = client.recv(1 << 20)
        assert packet.endswith(b"\n")
        assert packet.count(b"\n") == 1
        assert client.recv(1) == b""
    return dict(json.loads(packet))


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of `lowconmon ARGUMENTS`: the installed one if there is one."""
    installed = os.environ.get("LOWCONMON_PROGRAM")
    ours = [str(Path(installed).parents[2] / "bin/lowconmon")] if installed else []
    return [*(ours or [sys.executable, "-c", IN_TREE]), *map(str, arguments)]


def run(*arguments: str | Path, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run `lowconmon ARGUMENTS` to its end."""
    how.setdefault("stdin", subprocess.DEVNULL)
    words = command(*arguments)
    return subprocess.run(words, capture_output=True, text=True, timeout=DEADLINE * SLOWNESS, **how)


def exit_json(life: Life) -> dict[str, Any]:
    """Return what exit.json holds, when the life is over."""
    life.wait_gone()
    text = (life.persist_dir / "exit.json").read_text()
    assert text.endswith("}\n")
    assert text.count("\n") == 1
    return dict(json.loads(text))
