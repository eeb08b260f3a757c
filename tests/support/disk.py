"""A small disk for one life, that a test can fill and free again.

It is a tmpfs in a mount namespace of its own, which ends with the life: nothing is left mounted,
and no user but the test sees it. The monitor lives in that namespace; the test looks in from outside.
"""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.support.life import DEADLINE, Life

PAGE = os.sysconf("SC_PAGE_SIZE")
# unshare and nsenter need root, or a user namespace.
_USER = os.geteuid() != 0
_MOUNT = 'mount -t tmpfs -o "$1" tmpfs "$2" && echo there && read end'


class Disk:
    """A file system over a directory of the life; starts the life's monitor where it is mounted."""

    def __init__(self, life: Life, *, mib: int = 1, options: str = "rw") -> None:
        """*mib*: its size; *options*: more of mount(8) for a tmpfs."""
        self.life = life
        place = life.directory / "disk"
        place.mkdir()
        unshare = ["unshare", *(["--map-root-user"] if _USER else []), "--mount"]
        self._holder = subprocess.Popen(
            [*unshare, "sh", "-c", _MOUNT, "sh", f"size={mib}m,{options}", str(place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"there\n":
            self.close()
            raise AssertionError("tmpfs cannot be mounted")
        self._root = f"/proc/{self._holder.pid}/root"
        self.path = Path(f"{self._root}{place}")  # as the test sees it
        self._ballast = self.path / ".ballast"
        user = ["--user", "--preserve-credentials"] if _USER else []
        life.command = ["nsenter", f"--target={self._holder.pid}", "--mount", *user, *life.command]
        life.log = self.path / "ctr.log"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the namespace; the disk goes with the last process that is in it."""
        self._holder.communicate(timeout=DEADLINE)

    def start(self, *extra: str, **named: Any) -> Life:
        """Start the monitor; it is told the paths on the disk as it sees them."""
        words = [word.replace(self._root, "") for word in self.life.arguments(*extra)]
        return self.life.start(raw=words, **named)

    def fill(self, leave: int = 0) -> None:
        """Fill the disk up; *leave* so many bytes, a whole number of pages."""
        with self._ballast.open("ab", buffering=0) as file:
            try:
                while file.write(bytes(65536)):
                    continue
            except OSError as error:
                assert error.errno == errno.ENOSPC, error
            size = file.tell() // PAGE * PAGE
            assert size >= leave, "the disk was fuller than that"
            file.truncate(size - leave)

    def give(self, size: int) -> None:
        """Give back so many bytes, or all that is left to give."""
        pages = -(-size // PAGE)
        os.truncate(self._ballast, max(self._ballast.stat().st_size - pages * PAGE, 0))

    def free(self) -> None:
        """Give back all that was filled up."""
        self._ballast.unlink()

    def is_full(self) -> bool:
        """Tell whether there is no room for a long record (a page comes and goes with a torn one)."""
        return os.statvfs(self.path).f_bfree * PAGE < 3 * 4096
