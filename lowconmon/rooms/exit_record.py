"""Write the exit files: each on its own, whole, and tried again for 5 s where a disk fails.

`exit.json` tells more than the plain ones; it comes behind them, and nobody waits for its retries.
"""

from ..pure.answers import json
from .reports import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Any, Callable, Diagnostics, Loop, Options

_RETRY_MS, _TRIES = 100, 50


class ExitRecord:
    """What managers read when a container has ended; *paths* are those still to be written."""

    __slots__ = ("_describe", "_diagnostics", "_directory", "_loop", "paths")

    def __init__(
        self,
        loop: "Loop",
        diagnostics: "Diagnostics",
        options: "Options",
        describe: "Callable[[], dict[str, Any]]",
    ) -> None:
        """*describe* gives what goes to exit.json."""
        self._loop, self._diagnostics, self._describe = loop, diagnostics, describe
        self._directory = options.persist_dir
        files = (options.persist_dir, b"/exit"), (options.exit_dir, b"/" + (options.cid or b""))
        self.paths = [directory + name for directory, name in files if directory is not None]

    def write(self, status: int, then: "Callable[[], object]", tries: int = _TRIES) -> None:
        """Write *status* everywhere; call *then* when that is done, or was tried long enough."""
        self.try_once(status)
        if self.paths and tries > 1:
            again = tries - 1
            self._loop.call_later(_RETRY_MS, lambda: self.write(status, then, again))
        else:
            if self._directory is not None:
                path = self._directory + b"/exit.json"
                self._put_json(path, json(self._describe()).encode() + b"\n")
            then()

    def _put_json(self, path: bytes, content: bytes, tries: int = _TRIES) -> None:
        if not self._put(path, content) and tries > 1:
            self._loop.call_later(_RETRY_MS, lambda: self._put_json(path, content, tries - 1))

    def try_once(self, status: int) -> None:
        """Write *status* where it is not written yet."""
        self.paths = [path for path in self.paths if not self._put(path, b"%d" % status)]

    def _put(self, path: bytes, content: bytes) -> bool:
        try:
            replace_file(path, content)
        except OSError as error:
            self._diagnostics.warn(
                f"Failed to write {path.decode('utf-8', 'replace')} to exit file", error
            )
            return False
        return True
