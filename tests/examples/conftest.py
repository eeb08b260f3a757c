"""Fixtures of the examples' tests: the programs of docs/examples, run as a reader would run them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import IO, TYPE_CHECKING, Any

import pytest

from tests.support import ROOT, SLOWNESS, read_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Start = Callable[..., "Process"]

IGNORING = 'set -- env --ignore-signal=CHLD "$@"'  # for *first*: by whom it is started


class Process(subprocess.Popen[bytes]):
    """A process whose streams are pipes, or not used."""

    stdin: IO[bytes]
    stdout: IO[bytes]
    stderr: IO[bytes]

    def line(self) -> str:
        """Return the next line of stdout, without its end."""
        return read_line(self.stdout.fileno()).decode().rstrip("\r\n")

    def end(self) -> tuple[int, str, str]:
        """Wait for the end; return the status and what was written to stdout and stderr since."""
        out, error = self.communicate(timeout=30 * SLOWNESS)
        return self.returncode, (out or b"").decode(), (error or b"").decode()

    def clean_up(self) -> None:
        """Kill it, if it has not ended."""
        self.kill()
        self.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream:
                stream.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Give a function that starts an example: by a shell, if it is to do something *first*."""
    started: list[Process] = []

    def start(name: str, *arguments: object, first: str = "", **how: Any) -> Process:
        program = ROOT / "docs/examples" / f"{name}.py"
        command = [sys.executable, "-W", "error", program, *arguments]
        if first:
            command = ["sh", "-c", f'{first}; exec "$@"', "sh", *command]
        pipe = subprocess.PIPE
        streams = {"stdin": subprocess.DEVNULL, "stdout": pipe, "stderr": pipe, **how}
        path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
        environment = {**os.environ, "PYTHONPATH": path}
        process = Process([*map(str, command)], env=environment, bufsize=0, **streams)
        started.append(process)
        return process

    yield start
    for process in started:
        process.clean_up()
