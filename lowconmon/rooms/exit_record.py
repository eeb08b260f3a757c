"""Write the exit files: each on its own, whole, and tried again for 5 s where a disk fails."""

import os

from .reports import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Callable, Diagnostics, Loop

_RETRY_MS, _TRIES = 100, 50


class ExitRecord:
    """What managers read when a container has ended; *paths* are those still to be written."""

    __slots__ = ("_diagnostics", "_loop", "paths")

    def __init__(self, loop: "Loop", diagnostics: "Diagnostics", paths: list[bytes]) -> None:
        self._loop, self._diagnostics, self.paths = loop, diagnostics, paths

    def write(self, status: int, then: "Callable[[], object]", tries: int = _TRIES) -> None:
        """Write *status* everywhere; call *then* when that is done, or was tried long enough."""
        self.try_once(status)
        if self.paths and tries > 1:
            again = tries - 1
            self._loop.call_later(_RETRY_MS, lambda: self.write(status, then, again))
        else:
            then()

    def try_once(self, status: int) -> None:
        """Write *status* where it is not written yet."""
        self.paths = [path for path in self.paths if not self._put(path, b"%d" % status)]

    def _put(self, path: bytes, content: bytes) -> bool:
        try:
            replace_file(path, content)
        except OSError as error:
            self._diagnostics.warn(f"Failed to write {os.fsdecode(path)} to exit file", error)
            return False
        return True
