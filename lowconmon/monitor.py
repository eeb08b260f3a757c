"""Set up the rooms, run one container's life through them, and leave.

The only module that knows all rooms. What happens when is decided by pure.lifecycle; each action it
names is a method `_do_<action>` here. Set-up order: notify socket, terminal or pipes, attach, FIFOs,
runtime.
"""

import errno
import gc
import posix as os

from . import _syscalls
from .loop import Loop
from .pure import answers, lifecycle
from .pure.runtime import find_variable
from .rooms import process
from .rooms.attach import Attach
from .rooms.fifos import ControlFifos
from .rooms.notify import Notify
from .rooms.process import Process
from .rooms.reports import MessagePipe
from .rooms.runtime import Runtime
from .rooms.stdio import Stdio, Stream
from .rooms.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._typing import Any, Callable, Diagnostics, Logs, Options, Sequence

_STALL_VARIABLE = b"LOWCONMON_ATTACH_STALL_TIMEOUT"


class Monitor:
    """One container's monitor. It takes over every descriptor it is given."""

    __slots__ = (
        *("_as_started", "_attach", "_attach_fd", "_container", "_crashed", "_diagnostics"),
        *("_exit_record", "_fifos", "_lifecycle", "_logs", "_loop", "_notify", "_oom", "_options"),
        *("_passthrough", "_pid", "_runtime", "_signal", "_start_fd", "_status"),
        *("_status_socket", "_stdio", "_sync_pipe", "_terminal", "_timed_out", "_todo"),
        *("_unfinished", "inherited_fds"),
    )

    def __init__(  # noqa: PLR0913 - what it is started with
        self,
        options: "Options",
        diagnostics: "Diagnostics",
        loop: Loop,
        logs: "Logs",
        as_started: "dict[str, Any]",
        pipes: "Sequence[int]",
        passed_fds: "Sequence[int]" = (),
    ) -> None:
        """*as_started*: how, as `spawn` takes it; *pipes*: sync, start, attach, -1: not given.

        *passed_fds*: what passes for the container's stdio, if not pipes or a terminal of ours.
        """
        self._options, self._as_started = options, as_started
        self._diagnostics, self._loop, self._logs = diagnostics, loop, logs
        sync_fd, self._start_fd, self._attach_fd = pipes
        self.inherited_fds: list[int] = []  # of the manager, from 3 up: kept until the end
        loop.on_error = self._handler_failed
        logs.watch_room(self._balance)
        self._lifecycle = lifecycle.Lifecycle(terminal=options.terminal)
        self._runtime = Runtime(loop, diagnostics, options, as_started, passed_fds)
        self._container: Process | None = None
        self._terminal = Terminal(loop, diagnostics, self._post)
        self._stdio = Stdio(loop, self._deliver, lambda: process.spares_memory(self._pid))
        self._attach = Attach(loop, diagnostics, self._balance)
        self._fifos = ControlFifos(loop, diagnostics, self._terminal.resize, logs.reopen)
        self._notify = Notify(loop, diagnostics)
        self._sync_pipe = MessagePipe(loop, diagnostics, sync_fd)
        self._passthrough = bool(passed_fds)
        self._pid = self._status = -1
        self._timed_out = self._crashed = False
        self._signal = 0  # to pass on
        self._todo: list[Callable[[], object]] = []  # what lifecycle asked for
        self._unfinished = {"clients", "exit command", "logs"}

    def run(self) -> int:
        """Live the container's life; return the exit status for our own process."""
        try:
            self._loop.add_signals(process.SIGNALS, self._signalled)
            console = self._set_up()
            self._runtime.start(console, self._start_fd, self._runtime_ended)
        except (OSError, ValueError, RuntimeError) as error:
            self._runtime.fail(f"{self._runtime.failure}: {getattr(error, 'strerror', error)}")
            if isinstance(error, OSError):
                self._do_report_failure()
                return self._status
            self._post("runtime_failed")  # as if the runtime had found out
        self._prepare_life()
        for fd in self.inherited_fds:  # they were for the runtime alone
            os.set_inheritable(fd, False)  # noqa: FBT003 - os's own argument
        self._loop.run()
        return self._status

    # Set-up

    def _set_up(self) -> bytes | None:
        """Make what runtime and clients need (the runtime's `failure`: what); return the console's path."""
        options, console = self._options, None
        if options.sdnotify_socket is not None:
            self._runtime.failure = "Failed to create notify socket"
            self._notify.listen(options.bundle or b"", options.sdnotify_socket)
        if options.terminal:
            self._runtime.failure = "Failed to create console socket"
            bundle = options.bundle or b"."
            bundle = bundle if bundle.startswith(b"/") else os.getcwdb() + b"/" + bundle
            parents = [bundle, self._variable(b"XDG_RUNTIME_DIR")]
            parents += [b"/run", self._variable(b"TMPDIR"), b"/tmp"]
            console = self._terminal.listen(parents)
            self._attach.stdin.expected = True
        elif not self._passthrough:
            self._runtime.failure = "Failed to create !terminal stdio pipe"
            if options.stdin:
                self._attach.stdin.open(self._runtime.pipe(0), terminal=False)
                self._attach.ends_stdin = not options.leave_stdin_open
            self._stdio.add(b"stdout", b"\2", self._runtime.pipe(1))
        if not self._passthrough:
            self._stdio.add(b"stderr", b"\3", self._runtime.pipe(2))
        attach_pipe = MessagePipe(self._loop, self._diagnostics, self._attach_fd)
        if options.bundle is not None:
            self._runtime.failure = "Failed to open bundle"
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            bundle_fd = self._diagnostics.bundle_fd = _syscalls.open(options.bundle, flags)
        if options.bundle is not None and not self._passthrough:
            self._runtime.failure = "Failed to create attach socket"
            stall = self._variable(_STALL_VARIABLE) or b"0"
            if not stall.isdigit() or len(stall) > 9:
                self._diagnostics.warn(f"{_STALL_VARIABLE.decode()} must be a number of seconds")
                stall = b"0"
            link = b""
            if not options.full_attach and options.cuuid is not None:
                link = options.socket_dir_path.rstrip(b"/") + b"/" + options.cuuid
            self._attach.listen(bundle_fd, options.bundle, link, int(stall) * 1000)
            self._runtime.failure = "Failed to create control fifo"
            self._fifos.open(b"winsz", bundle_fd, b"1 ")  # H W is the ctl line 1 H W
            self._fifos.open(b"ctl", bundle_fd, b"")
            attach_pipe.send(answers.message("data", 0))
        attach_pipe.close()
        return console

    def _prepare_life(self) -> None:
        """Make what only a life needs, for the runtime takes longer than that."""
        from .rooms.exit_record import ExitRecord
        from .rooms.oom import Oom
        from .rooms.status import StatusSocket

        loop, diagnostics, options = self._loop, self._diagnostics, self._options
        places = [place for place in (options.persist_dir, options.bundle) if place is not None]
        self._oom = Oom(loop, diagnostics, [place + b"/oom" for place in places])
        self._exit_record = ExitRecord(loop, diagnostics, options, self._describe_end)
        self._status_socket = StatusSocket(loop, diagnostics, options, self._describe)
        self._status_socket.listen(diagnostics.bundle_fd)

    def _variable(self, name: bytes) -> bytes:
        return find_variable(self._as_started["environment"], name)[1]

    # What the rooms tell

    def _post(self, event: str) -> None:
        actions = () if self._crashed else self._lifecycle.advance(event)
        self._todo += [getattr(self, "_do_" + action) for action in actions]
        if self._lifecycle.state in (lifecycle.DRAINING, lifecycle.RECORDING):
            self._act()  # no turn of the loop more until the exit files are there
        else:
            self._loop.call_later(0, self._act)

    def _act(self) -> None:
        while self._todo:  # where one fails, those after it are still done
            self._loop.call(self._todo.pop(0))

    def _signalled(self, number: int) -> None:
        if number == _syscalls.SIGCHLD and self._lifecycle.state not in lifecycle.UNREPORTED:
            process.reap()
        elif number in process.FORWARDED:
            if self._runtime.process:
                self._runtime.process.poll()  # ended in this very turn: then the container is meant
            self._signal = number
            self._post("terminate")

    def _runtime_ended(self, code: int) -> None:
        """Judge the start; nobody has reaped the container yet, so its pid is still its own."""
        self._terminal.collect()
        has_terminal = self._lifecycle.state == lifecycle.CREATING
        found = self._runtime.container_pid(code, has_terminal=has_terminal)
        event = "runtime_succeeded" if found else "runtime_failed"
        if found:
            self._pid, started = found
            try:
                self._container = Process(self._loop, self._pid, self._container_ended, started)
            except ProcessLookupError:  # another's child, reaped: how it ended nobody knows
                self._loop.call_later(0, lambda: self._container_ended(-1))
            except OSError as error:
                self._runtime.fail(f"Failed to watch container: {error.strerror}")
                if error.errno not in {errno.EINVAL, errno.ENOENT}:  # those: a thread of anyone's
                    os.kill(self._pid, _syscalls.SIGKILL)
                event = "runtime_failed"
        self._post(event)
        if self._container:  # what was posted is done behind this, whatever happens here
            paths = b"/proc/%d/cgroup" % self._pid, b"/proc/self/cgroup"
            theirs, ours = (process.read_small(path) or b"" for path in paths)
            self._oom.watch(theirs, ours, fresh=not self._options.exec)
            self._act()

    def _container_ended(self, code: int) -> None:
        if not self._timed_out:
            self._status = code
        self._loop.call(self._oom.finish)
        self._post("container_exited")
        if self._crashed:
            self._record_after_crash()

    def _time_out(self) -> None:
        if self._container:
            self._container.poll()  # ended at this very moment: then that is how it ended
        self._timed_out = self._lifecycle.state == lifecycle.RUNNING
        self._post("timed_out")
        if self._crashed:
            self._do_kill_container()

    def _deliver(self, stream: Stream, now_ns: int, data: bytes) -> bool:
        if self._logs.write(stream.name, now_ns, data):
            self._balance()
        return self._attach.deliver(stream.packet_type, data)

    def _balance(self) -> None:
        """Let the container write only while log and clients can take it."""
        self._stdio.pause(self._attach.full() or self._logs.full())

    def _describe(self) -> "dict[str, Any]":
        """Return what the status socket tells of this moment."""
        return {
            **process.describe(self._container),
            "state": self._lifecycle.state,
            "clients": self._attach.queues(),
            "log": self._logs.facts(self._stdio.sizes),
        }

    def _describe_end(self) -> "dict[str, Any]":
        """Return what exit.json tells."""
        how = {"timed_out": self._timed_out, "oom": self._oom.ran_out}
        log = self._logs.facts(self._stdio.sizes)
        return {**process.describe_end(self._container, self._status, **how), "log": log}

    def _answer(self, number: int, text: bytes = b"") -> None:
        name = answers.key(api_version=self._options.api_version, exec_session=self._options.exec)
        self._sync_pipe.send(answers.message(name, number, text))

    def _finished(self, part: str) -> None:
        if self._unfinished == {part}:
            self._post("finished")
        self._unfinished.discard(part)

    # What lifecycle asks for

    def _do_signal_runtime(self) -> None:
        self._send_signal(self._runtime.process, self._signal)

    def _do_signal_container(self) -> None:
        self._send_signal(self._container, self._signal)

    def _send_signal(self, target: Process | None, number: int, *, group: bool = False) -> None:
        try:
            if target:
                target.signal(number, group=group)
        except OSError as error:  # EPERM: it has changed its user
            self._diagnostics.warn(f"Failed to send signal {number}", error)

    def _do_adopt_terminal(self) -> None:
        self._stdio.add(b"stdout", b"\2", self._terminal.master_fd, terminal=True)
        self._attach.stdin.open(self._terminal.master_fd, terminal=True)

    def _do_report_start(self) -> None:
        if self._options.api_version or not self._options.exec:
            self._answer(self._pid)

    def _do_report_failure(self) -> None:
        self._status = 1
        self._terminal.close()
        self._answer(
            -1, self._stdio.held_tail(answers.MAX_MESSAGE) or self._runtime.failure.encode()
        )
        self._do_close_inputs()
        self._attach.unlink()

    def _do_release_output(self) -> None:
        self._stdio.release()

    def _do_confine(self) -> None:
        process.confine(self._diagnostics)

    def _do_watch(self) -> None:
        self._loop.call_later(100, gc.enable)  # whose first look goes through all that there is
        if self._options.timeout > 0:
            self._loop.call_later(self._options.timeout * 1000, self._time_out)
        if self._signal:  # the runtime got it, and has succeeded all the same
            self._do_signal_container()
        process.reap()

    def _do_kill_container(self) -> None:
        self._send_signal(self._container, _syscalls.SIGKILL, group=True)

    def _do_drain(self) -> None:
        self._stdio.drain(lambda: self._logs.finish(lambda: self._post("drained")))

    def _do_close_inputs(self) -> None:
        """Close what the container wrote to, what the manager left in us, and who listens."""
        self._stdio.close()
        self._attach.close_listener()
        while self.inherited_fds:
            self._loop.discard(self.inherited_fds.pop())
        self._notify.close()

    def _do_write_exit_files(self) -> None:
        self._loop.call(self._status_socket.close)  # behind exit files it may be another life's
        self._exit_record.write(self._status, lambda: self._post("recorded"))

    def _do_report_exit(self) -> None:
        if self._options.exec:
            self._answer(self._status, b"command timed out" if self._timed_out else b"")

    def _do_unlink_attach(self) -> None:
        self._attach.unlink()

    def _do_sync_log(self) -> None:
        if not self._options.no_sync_log:
            self._logs.sync()

    def _do_close_all(self) -> None:
        self._loop.call(self._status_socket.close)
        self._logs.close(lambda: self._finished("logs"))
        for close in (self._fifos.close, self._notify.detach):
            self._loop.call_later(0, close)
        self._loop.call_later(0, lambda: self._attach.flush(lambda: self._finished("clients")))
        self._loop.call_later(1, self._oom.detach)  # an inotify's end takes milliseconds
        if self._sync_pipe.idle():
            self._sync_pipe.close()
        self._diagnostics.bundle_fd = self._loop.discard(self._diagnostics.bundle_fd)

    def _do_run_exit_command(self) -> None:
        if self._options.exit_command is None:
            self._finished("exit command")
        else:
            self._loop.call_later(self._options.exit_delay * 1000, self._run_exit_command)

    def _run_exit_command(self) -> None:
        options = self._options
        try:
            _syscalls.set_child_subreaper(False)
            command = [options.exit_command or b"", *options.exit_command_arg]
            alone = self._unfinished == {"exit command"} and self._sync_pipe.idle()
            process.start(self._loop, self._as_started, command, self._command_ended, vfork=alone)
        except OSError as error:
            self._command_ended(-1, error)

    def _command_ended(self, _: int, error: OSError | None) -> None:
        if error:
            self._diagnostics.warn("Failed to execute exit command", error)
        self._finished("exit command")

    def _do_leave(self) -> None:
        self._loop.stop()

    # What nobody expected

    def _handler_failed(self, handler: object, error: Exception) -> None:
        """Detach the room that *error* came from; if it was ours, live on for the exit record."""
        self._diagnostics.crash(error)
        rooms: list[Any] = [self._attach, self._fifos, self._notify, self._oom, self._status_socket]
        rooms += [self._stdio, self._sync_pipe, self._terminal, *self._logs.rooms()]
        owner: Any = None
        step = error.__traceback__
        while step is not None:
            part = step.tb_frame.f_locals.get("self")
            owner = part if part is self or part in rooms else owner
            step = step.tb_next
        if owner in rooms:
            if handler != owner.detach:  # that is tried once, and a failure of it met here too
                self._loop.call_later(0, owner.detach)
        elif self._lifecycle.state in lifecycle.UNREPORTED:
            self._runtime.failure = f"unexpected {error!r}"
            self._send_signal(self._runtime.process, _syscalls.SIGKILL)
            self._post("runtime_failed")
        elif self._lifecycle.state in (lifecycle.LEAVING, lifecycle.GONE):
            if handler in (self._do_run_exit_command, self._run_exit_command):
                self._finished("exit command")
        elif self._crashed or not self._container or self._container.pidfd < 0:
            self._record_after_crash()
        else:
            self._crashed = True  # from now on only the container's end counts

    def _record_after_crash(self) -> None:
        """Write the exit files, and go on behind them: report, exit command, leave."""
        self._loop.call(self._status_socket.close)
        self._exit_record.try_once(self._status)
        self._crashed, self._lifecycle.state = False, lifecycle.RECORDING
        self._post("recorded")
