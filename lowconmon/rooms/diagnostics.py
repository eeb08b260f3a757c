"""Say what went wrong: on stderr until it goes to /dev/null, and to syslog if wanted.

The same complaint is said at most once a minute, with a count of what was held back.
"""

import errno
import posix as os
import time

from .. import _syscalls

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import NoReturn

ERROR, WARNING, INFO, DEBUG, TRACE = range(5)
LEVELS = {b"error": ERROR, b"fatal": ERROR, b"panic": ERROR, b"warn": WARNING}
LEVELS |= {b"warning": WARNING, b"info": INFO, b"debug": DEBUG, b"trace": TRACE}
_TAGS = ("error", "nwarn", "ninfo", "ndebug", "ntrace")
_QUIET_NS, _MAX_REMEMBERED = 60_000_000_000, 64
_MAX_RECENT, _MAX_RECENT_BYTES = 8, 256
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC


def leave(status: int, text: bytes, fd: int = 2) -> "NoReturn":
    """Print *text* and end at once, past the interpreter's shutdown."""
    try:
        os.write(fd, text)
    except OSError:
        status = status or 1
    os._exit(status)


class Diagnostics:
    """The monitor's own words; every method returns None and never raises."""

    __slots__ = ("_identity", "_level", "_said", "bundle_fd", "on_stderr", "recent", "to_syslog")

    def __init__(self) -> None:
        self._level, self._identity = WARNING, b""
        self._said: dict[str, tuple[int, int]] = {}  # text -> (when last said, held back since)
        self.on_stderr, self.to_syslog = True, False
        self.recent: list[tuple[int, bytes]] = []  # the last warnings and errors, with times in ns
        self.bundle_fd = -1  # where a crash report goes

    def configure(self, level: bytes, cid: bytes, tag: bytes | None) -> None:
        """Say nothing below *level* (of `LEVELS`); name the container in syslog."""
        self._level = LEVELS[level]
        self._identity = (cid if tag is None else cid + b": " + tag)[:20]

    def error(self, text: str, error: OSError | None = None) -> None:
        """Say what made something impossible."""
        self._say(ERROR, text, error)

    def warn(self, text: str, error: OSError | None = None) -> None:
        """Say what is wrong but not fatal; at most once a minute for the same text."""
        now = time.monotonic_ns()
        last, held_back = self._said.get(text, (now - _QUIET_NS, 0))
        if now - last < _QUIET_NS:
            self._said[text] = last, held_back + 1
            return
        if len(self._said) >= _MAX_REMEMBERED:
            self._said.clear()
        self._said[text] = now, 0
        self._say(WARNING, f"{text} ({held_back} more like it)" if held_back else text, error)

    def debug(self, text: str, error: OSError | None = None) -> None:
        """Say what only someone who looks for a fault wants to know."""
        self._say(DEBUG, text, error)

    def remove(self, what: str, name: bytes, directory_fd: int | None = None) -> None:
        """Remove a file that may be there; say why it stays."""
        try:
            _syscalls.unlink(name, dir_fd=directory_fd)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self.warn(f"Failed to remove {what}", error)

    def crash(self, error: BaseException) -> None:
        """Leave the traceback of an unexpected exception in syslog and the bundle."""
        text, step = f"unexpected {type(error).__name__}: {error}", error.__traceback__
        while step is not None:
            code = step.tb_frame.f_code
            text += f" < {code.co_filename}:{step.tb_lineno} {code.co_name}"
            step = step.tb_next
        self._say(ERROR, text, None, crash=True)
        if self.bundle_fd >= 0:
            try:
                fd = _syscalls.open(b"conmon-crash", _APPEND, 0o600, dir_fd=self.bundle_fd)
                _syscalls.write(fd, text.encode("utf-8", "replace") + b"\n")
                _syscalls.close(fd)
            except OSError as failure:
                self.debug("no crash report", failure)

    def _say(self, level: int, text: str, error: OSError | None, *, crash: bool = False) -> None:
        line = text.encode("utf-8", "surrogateescape")
        reason = b"" if error is None else os.strerror(error.errno or 0).encode()
        if level <= WARNING:
            recent = (line + b": " + reason if reason else line)[:_MAX_RECENT_BYTES]
            self.recent = [*self.recent[1 - _MAX_RECENT :], (time.time_ns(), recent)]
        if level > self._level:
            return
        try:
            if self.on_stderr:
                said = line + b" " + reason if reason else line
                _syscalls.write(2, b"[conmon:%c]: %s\n" % (b"ewidd"[level], said))
        except OSError:
            self.on_stderr = False  # nobody reads it any more
        if self.to_syslog or crash:
            tag = "pwarn" if error and level == WARNING else _TAGS[level]
            line += b": " + reason if reason else b""
            self._syslog(11 if level == ERROR else 14, tag, line)  # LOG_USER with LOG_ERR, LOG_INFO

    def _syslog(self, priority: int, tag: str, line: bytes) -> None:
        fd = -1
        try:
            when = time.strftime("%b %e %H:%M:%S")  # in English: nobody has called setlocale
            head = f"<{priority}>{when} conmon: conmon ".encode() + self._identity
            fd = _syscalls.socket(_syscalls.AF_UNIX, _syscalls.SOCK_DGRAM)
            _syscalls.connect(fd, b"/dev/log")
            _syscalls.send(fd, head + f" <{tag}>: ".encode() + line, _syscalls.MSG_DONTWAIT)
        except (OSError, OverflowError):  # past 2038 on a 32-bit machine
            pass  # no syslog daemon, or it does not keep up: a diagnostic line may be lost
        if fd >= 0:
            _syscalls.close(fd)
