"""What a process costs, and a Python with nothing in it to compare it with."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Iterator

# What no program on the bindings can do without
IMPORTS = "import sys; sys.path.append('/usr/lib/python3/dist-packages'); import os, _cffi_backend"
BARE = ["/usr/bin/python3", "-ISB", "-c", IMPORTS]


def instructions(command: list[str]) -> int:
    """Return the instructions of a command and of what it forks (but not executes)."""
    with tempfile.TemporaryDirectory() as directory:
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        subprocess.run(
            [*valgrind, f"--log-file={directory}/%p", *command],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=60 * SLOWNESS,
        )
        texts = [path.read_text() for path in Path(directory).iterdir()]
        return sum(int(re.findall(r"Collected : (\d+)", text)[0]) for text in texts)


def memory_kib(pid: int, kind: str) -> int:
    r"""Return the memory of a process; *kind* is a pattern of smaps_rollup(5)'s names: `Private_\w+`."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(rf"^{kind}:\s+(\d+)", text, re.MULTILINE))


@contextlib.contextmanager
def idle_python() -> Iterator[int]:
    """Give the pid of a bare Python that has imported what it needs, and waits."""
    command = [*BARE[:-1], f"{IMPORTS}; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        next(process.stdout or iter(()))
        yield process.pid
        process.communicate()
