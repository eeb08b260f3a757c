"""Watch a container's memory cgroup; when memory runs out, empty files tell the manager.

All of it is advisory: what fails is said, and the life goes on. The cgroup is the runtime's choice;
one that moves on, as systemd does, moves to one below, whose events are told here too.
"""

import errno
import posix as os

from .. import _syscalls
from ..pure.cgroups import MOUNT, event_files, ooms

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Diagnostics, Loop

# None of these is a FIFO, unless somebody plays tricks: then it blocks nobody.
_READ, _WRITE = (mode | os.O_NONBLOCK | os.O_CLOEXEC for mode in (os.O_RDONLY, os.O_WRONLY))
_SIZE = 4096  # of all the events, and of what a cgroup's file says


class Oom:
    """The watch over one cgroup. It is over when the files of *paths* are made."""

    __slots__ = ("_diagnostics", "_file_fd", "_loop", "_notice_fd", "_paths", "_seen", "ran_out")

    def __init__(self, loop: "Loop", diagnostics: "Diagnostics", paths: list[bytes]) -> None:
        self._loop, self._diagnostics, self._paths = loop, diagnostics, paths
        self._file_fd = self._notice_fd = -1
        self._seen: frozenset[bytes] = frozenset()
        self.ran_out = False

    def watch(self, theirs: bytes, ours: bytes, *, fresh: bool) -> None:
        """Watch the cgroup of *theirs*, a /proc/PID/cgroup, if there is one; *ours*: of our own.

        *fresh*: it was made for this life, so that all it has seen counts, unless it is ours too.
        """
        files = event_files(theirs)
        paths = (MOUNT + file for file in files)
        path = next((it for it in paths if os.access(it, os.F_OK)), None)
        if path is None or not self._paths:
            self._diagnostics.debug("no memory cgroup to watch")
            return
        try:
            self._file_fd = _syscalls.open(path, _READ)
            if path.endswith(b".events"):
                self._notice_fd = _syscalls.inotify_init1()
                _syscalls.inotify_add_watch(self._notice_fd, path, _syscalls.IN_MODIFY)
            else:
                self._notice_fd = _syscalls.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                control = path.rpartition(b"/")[0] + b"/cgroup.event_control"
                control_fd = _syscalls.open(control, _WRITE)
                try:
                    _syscalls.write(control_fd, b"%d %d" % (self._notice_fd, self._file_fd))
                finally:
                    _syscalls.close(control_fd)
            if not fresh or files == event_files(ours):
                self._seen = ooms(_syscalls.pread(self._file_fd, _SIZE, 0))
            self._loop.add_reader(self._notice_fd, self.look)
        except OSError as error:
            self._diagnostics.warn("Failed to watch the memory cgroup", error)
            self.detach()
        self.look()  # what came before is not told

    def look(self) -> None:
        """Make the files if memory has run out since the last look."""
        if self._notice_fd < 0:
            return
        try:
            try:
                notice = _syscalls.read(self._notice_fd, _SIZE)
            except BlockingIOError:
                notice = b""
            now = ooms(_syscalls.pread(self._file_fd, _SIZE, 0))
        except OSError as error:
            if error.errno != errno.ENODEV:  # the cgroup was removed: of that v1 gives notice too
                self._diagnostics.warn("Failed to read the memory cgroup", error)
            self.detach()
            return
        # v1, an eventfd's 8 bytes, gives notice of nothing else, and may count a little later.
        self.ran_out |= len(notice) == 8 or bool(now - self._seen)
        self._seen = now
        for path in self._paths[:] if self.ran_out else ():
            try:
                _syscalls.close(_syscalls.open(path, _WRITE | os.O_CREAT | os.O_NOFOLLOW, 0o644))
                self._paths.remove(path)
            except OSError as error:
                self._diagnostics.warn(f"Failed to make {path.decode('utf-8', 'replace')}", error)
        if not self._paths:
            self.detach()

    def finish(self) -> None:
        """Look for the last time: what others' memory does from now on is not of this life."""
        self.look()
        self._loop.remove(self._notice_fd)

    def detach(self) -> None:
        """End the watch."""
        self._notice_fd = self._loop.discard(self._notice_fd)
        self._file_fd = self._loop.discard(self._file_fd)
