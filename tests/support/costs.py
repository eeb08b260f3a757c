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
    from collections.abc import Callable, Iterator

# What no program on the bindings can do without
IMPORTS = "import sys; sys.path.append('/usr/lib/python3/dist-packages'); import os, _cffi_backend"
BARE = ["/usr/bin/python3", "-ISB", "-c", IMPORTS]


@contextlib.contextmanager
def counting() -> Iterator[tuple[list[str], Callable[[], int]]]:
    """Give what to put before a command, and a function that returns its instructions, at its end.

    Those of what it executes do not count. A fork goes on with its parent's count: the highest is
    that of all that was done one after the other.
    """
    with tempfile.TemporaryDirectory() as directory:

        def counted() -> int:
            texts = [path.read_text() for path in Path(directory).iterdir()]
            return max(int(it) for text in texts for it in re.findall(r"Collected : (\d+)", text))

        # --vgdb=no: with it a fork loses a descriptor that a monitor takes for its manager's
        valgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--vgdb=no"]
        yield [*valgrind, f"--log-file={directory}/%p"], counted


def instructions(command: list[str]) -> int:
    """Return the instructions of a command."""
    with counting() as (before, counted):
        subprocess.run(
            [*before, *command], check=True, stdout=subprocess.DEVNULL, timeout=60 * SLOWNESS
        )
        return counted()


def memory_kib(pid: int, kind: str) -> int:
    r"""Return the memory of a process; *kind* is a pattern of smaps_rollup(5)'s names: `Private_\w+`."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(rf"^{kind}:\s+(\d+)", text, re.MULTILINE))


@contextlib.contextmanager
def idle_python(imports: str = IMPORTS) -> Iterator[int]:
    """Give the pid of a bare Python that has imported what it needs, and waits."""
    command = [*BARE[:-1], f"{imports}; print(flush=True); sys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        next(process.stdout or iter(()))
        yield process.pid
        process.communicate()
