"""Cgroups for tests: real ones with a limit of memory, and files that stand in for those of a life."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import signal
from pathlib import Path
from typing import Self

from tests.support.journald import UNSHARE
from tests.support.life import Life, wait_until

MOUNT = Path("/sys/fs/cgroup")
V1 = (MOUNT / "memory").is_dir()
UNIFIED = MOUNT if (MOUNT / "cgroup.controllers").exists() else MOUNT / "unified"
HUNGRY = "tail /dev/zero"  # keeps all that it reads, for the last line
MEBIBYTE = 1024 * 1024
QUIET = b"low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"
_ENTER = 'mount --bind "$1" /sys/fs/cgroup && shift && exec "$@"'
_numbers = itertools.count()


class Group:
    """A real cgroup below *parent*; what is left in it at the end is killed."""

    def __init__(self, parent: Path) -> None:
        self.path = parent / f"lowconmon-test-{os.getpid()}-{next(_numbers)}"
        self.path.mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.path.exists():
            for pid in (self.path / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            wait_until(self.remove, "an empty cgroup")

    def enter(self, pid: str = "$!") -> str:
        """Return a line of shell that moves a process in; as a runtime does before it ends."""
        return f"echo {pid} > {self.path}/cgroup.procs"

    def remove(self) -> bool:
        """Remove the cgroup; False: a process has not quite left it."""
        try:
            self.path.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
            return False
        return True


class MemoryGroup(Group):
    """A real cgroup that has little memory: of v1 where that has the controller, else of v2."""

    def __init__(self, mebibytes: int = 20) -> None:
        super().__init__(MOUNT / "memory" if V1 else MOUNT)
        names = ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")
        limits = dict.fromkeys(names, mebibytes * MEBIBYTE)
        if not V1:
            limits = {"memory.max": mebibytes * MEBIBYTE, "memory.swap.max": 0}
        for name, limit in limits.items():
            if (self.path / name).exists():  # swap may not be counted
                (self.path / name).write_text(str(limit))

    def counted(self) -> int:
        """Return how many processes were killed for want of memory."""
        name = "memory.oom_control" if V1 else "memory.events"
        words = (self.path / name).read_text().split()
        return int(words[words.index("oom_kill") + 1])


class StandIn:
    """A directory in the place of a life's /sys/fs/cgroup, and a file for /proc/PID/cgroup.

    `after` is the line of shell with which a runtime puts the latter in its place.
    """

    def __init__(
        self, life: Life, membership: bytes = b"0::/pod/box\n", events: bytes = QUIET
    ) -> None:
        self.root, file = life.directory / "cgroups", life.directory / "membership"
        self.events = self.root / "pod/box/memory.events"
        self.events.parent.mkdir(parents=True)
        self.events.write_bytes(events)
        file.write_bytes(membership)
        self.after = f"mount --bind {file} /proc/$!/cgroup"
        life.command = [*UNSHARE, "sh", "-c", _ENTER, "sh", str(self.root), *life.command]

    def tell(self, **counts: int) -> None:
        """Write other counts, in the place, as the kernel does."""
        tell(self.events, **counts)


def tell(events: Path, **counts: int) -> None:
    """Change counts of a memory.events, by one write."""
    lines = dict(line.split() for line in events.read_text().splitlines())
    lines |= {name: str(count) for name, count in counts.items()}
    text = "".join(f"{name} {count}\n" for name, count in lines.items()).encode()
    fd = os.open(events, os.O_WRONLY)
    try:
        assert os.pwrite(fd, text, 0) == len(text)
    finally:
        os.close(fd)
