"""Run the OCI runtime, and find out what it has left: the container's pid, or why there is none."""

import posix as os

from .. import _syscalls
from ..pure.lifecycle import judge_start
from ..pure.runtime import command_line, listen_pid_index
from .process import Process, exec_error, pid_file, pid_in, started_at

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Any, Callable, Diagnostics, Loop, Options, Sequence


class Runtime:
    """One call of the runtime, for a create, restore or exec."""

    __slots__ = (
        *("_as_started", "_diagnostics", "_error_fd", "_loop", "_options", "_stale", "_started"),
        *("failure", "process", "stdio"),
    )

    def __init__(
        self,
        loop: "Loop",
        diagnostics: "Diagnostics",
        options: "Options",
        as_started: "dict[str, Any]",
        stdio: "Sequence[int]",
    ) -> None:
        """*as_started*: as for `spawn`; *stdio*: what passes for the runtime's stdio, if anything."""
        self._loop, self._diagnostics = loop, diagnostics
        self._options, self._as_started = options, as_started
        self.stdio = list(stdio) or [-1, -1, -1]  # -1: /dev/null, as our own
        self.process: Process | None = None
        self.failure = "Failed to watch signals"  # why a start failed, if the runtime is silent

    def pipe(self, number: int) -> int:
        """Make the pipe for descriptor *number* of the runtime; return our end."""
        ends = _syscalls.pipe2(os.O_CLOEXEC)
        ours, self.stdio[number] = ends if number else ends[::-1]
        os.fchmod(self.stdio[number], 0o777)  # a container's user may reopen /dev/stdout
        return ours

    def start(
        self, console: bytes | None, start_fd: int, on_end: "Callable[[int], object]"
    ) -> None:
        """Start it; an exec that is attached to reads *start_fd* first.

        Raises OSError when it was not started, ValueError for a LISTEN_PID that holds no pid, and
        RuntimeError for a runtime that was killed again, because it cannot be watched.
        """
        self.failure = "Failed to create container"
        options, environment = self._options, self._as_started["environment"]
        self._stale = pid_file(options.container_pidfile or b"")
        replace = options.replace_listen_pid
        command = command_line(options, console)
        pid, self._error_fd = _syscalls.spawn(
            command[0],
            command,
            **self._as_started,
            stdio=(self.stdio[0], self.stdio[1], self.stdio[2]),
            death_signal=_syscalls.SIGKILL,
            wait_fd=start_fd if options.exec_attach else -1,
            vfork=True,  # nobody waits for us but for the pid
            listen_pid_index=listen_pid_index(environment, os.getpid(), replace=replace),
        )
        for fd in (*self.stdio, start_fd):
            self._loop.discard(fd)
        self._started = started_at(pid)
        try:
            self.process = Process(self._loop, pid, on_end)
        except OSError as error:
            os.kill(pid, _syscalls.SIGKILL)
            raise RuntimeError(f"Failed to watch the runtime: {error.strerror}") from error

    def container_pid(self, code: int, *, has_terminal: bool) -> tuple[int, int | None] | None:
        """Return pid and start time of what the runtime, ended with *code*, left; None: it failed."""
        error, found = exec_error(self._error_fd), None
        if error:
            self.failure = f"Failed to execute runtime: {error.strerror}"
        elif not has_terminal:
            self.failure = "Runtime did not set up terminal"
        else:
            found = pid_in(self._options.container_pidfile or b"", self._started, self._stale)
            self.failure = "Failed to read pidfile: it holds no pid of this start"
        pid = found and found[0]
        event = judge_start(exec_session=self._options.exec, runtime_status=code, pid=pid)
        if event == "runtime_succeeded":
            return found
        text = f"Failed to create container: exit status {code}" if code else self.failure
        self._diagnostics.error(text)
        self.failure = "" if code and not error else self.failure
        return None

    def fail(self, text: str) -> None:
        """Say why the start failed, here and later in the answer."""
        self.failure = text
        self._diagnostics.error(text)
