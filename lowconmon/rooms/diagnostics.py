"""Say what went wrong: on stderr until it goes to /dev/null, and to syslog if wanted.

The same complaint is said at most once a minute, with a count of what was held back.
"""

import os
import time

from .. import _syscalls

ERROR, WARNING, INFO, DEBUG, TRACE = range(5)
LEVELS = {
    **dict.fromkeys((b"error", b"fatal", b"panic"), ERROR),
    **dict.fromkeys((b"warn", b"warning"), WARNING),
    b"info": INFO,
    b"debug": DEBUG,
    b"trace": TRACE,
}
_TAGS = ("error", "nwarn", "ninfo", "ndebug", "ntrace")
_QUIET_NS = 60_000_000_000
_MAX_REMEMBERED = 64
_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


class Diagnostics:
    """The monitor's own words; every method returns None and never raises."""

    __slots__ = ("_identity", "_said", "bundle_fd", "level", "on_stderr", "to_syslog")

    def __init__(self) -> None:
        self.level = WARNING
        self._identity = b""
        self.to_syslog = False
        self.on_stderr = True
        self.bundle_fd = -1  # where a crash report goes
        self._said: dict[str, tuple[int, int]] = {}  # text -> (when last said, held back since)

    def configure(self, level: int, cid: bytes, tag: bytes | None) -> None:
        """Say nothing below *level*; name the container in syslog."""
        self.level = level
        self._identity = (cid if tag is None else cid + b": " + tag)[:20]

    def error(self, text: str, error: OSError | None = None) -> None:
        """Say what made something impossible."""
        self._say(ERROR, text, error)

    def warn(self, text: str, error: OSError | None = None) -> None:
        """Say what is wrong but not fatal; at most once a minute for the same text."""
        now = time.monotonic_ns()
        last, held_back = self._said.get(text, (-_QUIET_NS, 0))
        if now - last < _QUIET_NS:
            self._said[text] = last, held_back + 1
            return
        if len(self._said) >= _MAX_REMEMBERED:
            self._said.clear()
        self._said[text] = now, 0
        self._say(WARNING, f"{text} ({held_back} more like it)" if held_back else text, error)

    def info(self, text: str) -> None:
        """Say what an operator may want to know."""
        self._say(INFO, text, None)

    def debug(self, text: str, error: OSError | None = None) -> None:
        """Say what only someone who looks for a fault wants to know."""
        self._say(DEBUG, text, error)

    def crash(self, error: BaseException) -> None:
        """Leave the traceback of an unexpected exception in syslog and the bundle."""
        lines = [f"{type(error).__name__}: {error}"]
        step = error.__traceback__
        while step is not None:
            code = step.tb_frame.f_code
            lines.append(f"  {code.co_filename}:{step.tb_lineno} in {code.co_name}")
            step = step.tb_next
        self._say(ERROR, "unexpected " + " <".join(lines), None)
        self._syslog(ERROR, "unexpected " + " <".join(lines))
        if self.bundle_fd < 0:
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = _syscalls.open(b"conmon-crash", flags, 0o600, dir_fd=self.bundle_fd)
        except OSError as failure:
            self.debug("no crash report", failure)
            return
        try:
            _syscalls.write(fd, "\n".join([*lines, ""]).encode("utf-8", "replace"))
        except OSError as failure:
            self.debug("no crash report", failure)
        finally:
            _syscalls.close(fd)

    def _say(self, level: int, text: str, error: OSError | None) -> None:
        if level > self.level:
            return
        if error is not None:
            text += f": {os.strerror(error.errno or 0)}"
        if self.on_stderr:
            letter = "ewidd"[level]
            self._write_stderr(f"[conmon:{letter}]: {text}\n")
        if self.to_syslog:
            self._syslog(level, text, "pwarn" if error and level == WARNING else _TAGS[level])

    def _write_stderr(self, line: str) -> None:
        try:
            _syscalls.write(2, line.encode("utf-8", "surrogateescape"))
        except OSError:
            self.on_stderr = False  # nobody reads it any more

    def _syslog(self, level: int, text: str, tag: str = "error") -> None:
        now = time.localtime()
        priority = 11 if level == ERROR else 14  # LOG_USER with LOG_ERR, LOG_INFO
        when = f"{_MONTHS[now.tm_mon - 1]} {now.tm_mday:2} {now.tm_hour:02}:{now.tm_min:02}"
        head = f"<{priority}>{when}:{now.tm_sec:02} conmon: conmon ".encode()
        body = f" <{tag}>: {text}".encode("utf-8", "surrogateescape")
        try:
            fd = _syscalls.socket(_syscalls.AF_UNIX, _syscalls.SOCK_DGRAM)
        except OSError:
            return  # out of descriptors: nowhere to say it
        try:
            _syscalls.connect(fd, b"/dev/log")
            _syscalls.send(fd, head + self._identity + body, _syscalls.MSG_DONTWAIT)
        except OSError:
            return  # no syslog daemon, or it does not keep up: losing a diagnostic line is all right
        finally:
            _syscalls.close(fd)
