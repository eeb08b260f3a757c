"""What all tests share: waiting with a deadline, and seeing what a process holds.

Nothing here sleeps blindly: every wait ends with its event or fails with TimeoutError.
TEST_SLOWNESS in the environment multiplies the deadlines (emulated machines).
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Protocol

    class HasFileno(Protocol):
        def fileno(self) -> int: ...

    Waitable = int | HasFileno | Path | Callable[[], object]

ROOT = Path(__file__).resolve().parent.parent.parent
SLOWNESS = float(os.environ.get("TEST_SLOWNESS", "1"))
STEP_MS = 5  # between two looks at what cannot be polled: a path, a predicate


def wait_for(thing: Waitable, timeout_s: float = 20.0, *, writable: bool = False) -> object:
    """Wait until *thing* comes true and return it, or raise TimeoutError.

    A descriptor (or an object that has one) must get readable, or hung up: a pidfd does so when
    its process ends. A path must exist. A function must return something true, which is returned.
    """
    deadline = time.monotonic() + timeout_s * SLOWNESS
    poll = select.poll()
    if isinstance(thing, int) or hasattr(thing, "fileno"):
        poll.register(thing, select.POLLOUT if writable else select.POLLIN)
        if poll.poll(timeout_s * SLOWNESS * 1000):
            return thing
        raise TimeoutError(f"descriptor {thing!r} was not ready within {timeout_s} s")
    while True:
        found = thing.exists() if isinstance(thing, Path) else thing()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{thing!r} did not come true within {timeout_s} s")
        poll.poll(STEP_MS)


def read_line(fd: int, timeout_s: float = 20.0) -> bytes:
    """Return the next line of *fd*, or what stands before its end; reads nothing beyond it."""
    line = b""
    while not line.endswith(b"\n"):
        wait_for(fd, timeout_s)
        byte = os.read(fd, 1)
        if not byte:
            break
        line += byte
    return line


def read_all(fd: int, timeout_s: float = 20.0) -> bytes:
    """Return what *fd* holds up to its end; each piece must come before the deadline."""
    data = b""
    while True:
        wait_for(fd, timeout_s)
        piece = os.read(fd, 65536)
        if not piece:
            return data
        data += piece


def open_fds() -> dict[int, str]:
    """Return the descriptors of this process, each with what it refers to."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except FileNotFoundError:  # the one that listed the directory
            continue
    return found


def children() -> set[int]:
    """Return the children of this process, zombies among them."""
    found: set[int] = set()
    try:
        for thread in os.listdir("/proc/self/task"):
            text = Path(f"/proc/self/task/{thread}/children").read_text(encoding="ascii")
            found.update(map(int, text.split()))
    except FileNotFoundError:  # no CONFIG_PROC_CHILDREN: look at every process
        for entry in filter(str.isdigit, os.listdir("/proc")):
            if status_of(int(entry)).get("PPid") == str(os.getpid()):
                found.add(int(entry))
    return found


def status_of(pid: int | str) -> dict[str, str]:
    """Return the fields of /proc/<pid>/status; none when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    return {
        key: value.strip() for key, _, value in (line.partition(":") for line in text.split("\n"))
    }


def signals_in(mask: str) -> set[int]:
    """Return the signal numbers of a mask such as SigBlk of /proc/<pid>/status."""
    bits = int(mask, 16)
    return {number + 1 for number in range(bits.bit_length()) if bits >> number & 1}


def private_bytes() -> int:
    """Return how much memory is this process's alone."""
    total = 0
    for line in Path("/proc/self/smaps_rollup").read_bytes().splitlines():
        if line.startswith(b"Private_Dirty"):
            total += int(line.split()[1])
    return total * 1024


def is_cloexec(fd: int) -> bool:
    """Tell whether *fd* is closed by exec."""
    return bool(fcntl.fcntl(fd, fcntl.F_GETFD) & fcntl.FD_CLOEXEC)


def program(name: str) -> tuple[bytes, bytes]:
    """Return (path, argv[0]) of a small program, or of the busybox that stands in for it."""
    path = shutil.which(name) or shutil.which("busybox")
    if path is None:
        raise FileNotFoundError(f"neither {name} nor busybox is on PATH")
    return os.fsencode(path), os.fsencode(name)


def run_python(
    code: str,
    *arguments: str,
    flags: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run *code* in a Python of its own, where lowconmon and tests can be imported."""
    prelude = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    return subprocess.run(  # noqa: S603 - the tests' own code
        [sys.executable, *flags, "-c", prelude + code, *arguments],
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s * SLOWNESS,
        check=False,
    )
