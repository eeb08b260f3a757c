"""Set up the rooms, run one container's life through them, and leave.

The only module that knows all rooms. What happens when is decided by pure.lifecycle; each action it
names is a method `_do_<action>` here. Set-up order: terminal or pipes, attach, FIFOs, runtime.
"""

import os

from . import _syscalls
from .loop import Loop
from .pure import answers
from .pure.lifecycle import DRAINING, GONE, LEAVING, RECORDING, RUNNING, Lifecycle, judge_start
from .pure.runtime import command_line, find_variable, listen_pid_index
from .rooms import process
from .rooms.attach import Attach
from .rooms.fifos import ControlFifos
from .rooms.process import Children, Launcher, Process
from .rooms.reports import ExitRecord, MessagePipe, replace_file
from .rooms.stdio import Stdio, Stream
from .rooms.terminal import Terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .pure.options import Options
    from .rooms.diagnostics import Diagnostics
    from .rooms.logs import LogFile

_FORWARDED = (_syscalls.SIGTERM, _syscalls.SIGINT, _syscalls.SIGQUIT)
# SIGPIPE stops with a scope of CRI-O's, SIGHUP with a terminal: both only wake us, as SIGUSR1 does.
SIGNALS = (
    *(*_FORWARDED, _syscalls.SIGCHLD, _syscalls.SIGPIPE),
    *(_syscalls.SIGHUP, _syscalls.SIGUSR1, _syscalls.SIGXFSZ),
)


class Start:
    """What the monitor is started with; the monitor takes over every descriptor."""

    __slots__ = (
        *("attach_fd", "diagnostics", "go_fd", "inherited_fds", "launcher", "log", "options"),
        *("start_fd", "sync_fd"),
    )

    def __init__(self, options: "Options", diagnostics: "Diagnostics", launcher: Launcher) -> None:
        self.options = options
        self.diagnostics = diagnostics
        self.launcher = launcher
        self.log: LogFile | None = None
        self.sync_fd = self.start_fd = self.attach_fd = -1
        self.go_fd = -1  # reads a byte when the launcher has done its part, -1: at once
        self.inherited_fds: list[int] = []  # of the manager, from 3 up: kept until the end


class Monitor:
    """One container's monitor."""

    __slots__ = (
        *("attach", "bundle_fd", "children", "container", "fifos", "launcher", "lifecycle", "link"),
        *("loop", "runtime", "runtime_started", "signal_number", "stale_pid_file", "start"),
        *("status", "stdio", "sync_pipe", "terminal", "timed_out", "unfinished"),
        *("child_fds", "diagnostics", "error_fd", "failure", "log", "options", "pid"),
    )

    def __init__(self, start: Start) -> None:
        self.start = start
        self.options = options = start.options
        self.diagnostics = diagnostics = start.diagnostics
        self.launcher = start.launcher
        self.log = start.log
        self.loop = loop = Loop(self._handler_failed)
        self.lifecycle = Lifecycle(terminal=options.terminal)
        self.children = Children()
        self.runtime: Process | None = None
        self.container: Process | None = None
        self.terminal = Terminal(loop, diagnostics, self._terminal_came)
        self.stdio = Stdio(loop, self._deliver)
        self.attach = Attach(loop, diagnostics, self._balance)
        self.fifos = ControlFifos(loop, diagnostics, self.terminal.resize, self._reopen_log)
        self.sync_pipe = MessagePipe(loop, diagnostics, start.sync_fd)
        self.bundle_fd = -1
        self.link = b""  # from the socket directory to the bundle
        self.child_fds = [-1, -1, -1]
        self.error_fd = -1
        self.runtime_started: int | None = None
        self.stale_pid_file: bytes | None = None
        self.failure = ""  # why the start failed, where the runtime does not say
        self.status = -1
        self.timed_out = False
        self.signal_number = 0  # to pass on
        self.pid = -1  # of the container
        self.unfinished: set[str] = set()

    def run(self) -> int:
        """Live the container's life; return the exit status for our own process."""
        self.loop.add_signals(SIGNALS, self._signalled)
        try:
            console = self._set_up()
            arguments = command_line(self.options, console)
            index = listen_pid_index(
                self.launcher.environment,
                os.getpid(),
                replace=self.options.replace_listen_pid,
            )
        except OSError as error:
            return self._refuse(f"{self.failure}: {error.strerror}")
        except ValueError as error:
            return self._refuse(str(error))
        if self.start.go_fd >= 0:
            self.loop.add_reader(self.start.go_fd, lambda: self._go(arguments, index))
        else:
            self.loop.call_later(0, lambda: self._go(arguments, index))
        self.loop.run()
        return self.status

    # Set-up

    def _set_up(self) -> bytes | None:
        """Make everything the runtime and the clients need. `failure` says what did not work."""
        options, console = self.options, None
        if self.log:
            self.log.watch(self.loop, self._balance)
        if options.bundle is not None:
            self.failure = "Failed to open bundle"
            flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
            self.bundle_fd = _syscalls.open(options.bundle, flags)
            self.diagnostics.bundle_fd = self.bundle_fd
        if options.terminal:
            self.failure = "Failed to create console socket"
            console = self.terminal.listen(self._console_directories())
            self.attach.input.expected = True
        else:
            self.failure = "Failed to create !terminal stdio pipe"
            if options.stdin:
                self.child_fds[0], writing_fd = _syscalls.pipe2(os.O_CLOEXEC)
                self.attach.input.open(writing_fd, terminal=False)
                self.attach.ends_stdin = not options.leave_stdin_open
            self._add_pipe(1, b"stdout", b"\2")
        self._add_pipe(2, b"stderr", b"\3")
        if self.bundle_fd >= 0:
            self.failure = "Failed to create attach socket"
            self._link_bundle()
            self.attach.listen(self.bundle_fd, self._stall_ms())
            self.failure = "Failed to create control fifo"
            self.fifos.open(self.bundle_fd)
            attach_pipe = MessagePipe(self.loop, self.diagnostics, self.start.attach_fd)
            attach_pipe.send(answers.message("data", 0))
            attach_pipe.close()
        self.failure = "Failed to create container"
        self.stale_pid_file = process.read_small(self._pid_path())
        return console

    def _add_pipe(self, number: int, name: bytes, packet_type: bytes) -> None:
        reading_fd, self.child_fds[number] = _syscalls.pipe2(os.O_CLOEXEC)
        os.fchmod(self.child_fds[number], 0o777)  # a container's user may reopen /dev/stdout
        self.stdio.add(name, packet_type, reading_fd)

    def _console_directories(self) -> list[bytes]:
        def variable(name: bytes) -> bytes:
            return find_variable(self.launcher.environment, name)[1]

        bundle = os.path.abspath(self.options.bundle) if self.options.bundle else b""
        return [bundle, variable(b"XDG_RUNTIME_DIR"), b"/run", variable(b"TMPDIR"), b"/tmp"]  # noqa: S108

    def _link_bundle(self) -> None:
        """Make the short way to the bundle that clients of a socket directory take."""
        options = self.options
        try:  # a stale one of an earlier life
            _syscalls.unlink(b"attach", dir_fd=self.bundle_fd)
        except FileNotFoundError:
            pass
        if options.full_attach or options.cuuid is None:
            return
        link = options.socket_dir_path.rstrip(b"/") + b"/" + options.cuuid
        # Exactly this long, the link would stand where the socket's path is cut off.
        self.link = link[:-1] if len(link) == _syscalls.SUN_PATH_MAX else link
        try:
            _syscalls.unlink(self.link)
        except FileNotFoundError:
            pass
        _syscalls.symlink(options.bundle or b".", self.link)

    def _stall_ms(self) -> int:
        name = b"LOWCONMON_ATTACH_STALL_TIMEOUT"
        index, value = find_variable(self.launcher.environment, name)
        if index >= 0 and not value.isdigit():
            self.diagnostics.warn(f"{name.decode()} must be a number of seconds")
            return 0
        return int(value or 0) * 1000

    def _pid_path(self) -> bytes:
        return self.options.container_pidfile or b""

    def _refuse(self, text: str) -> int:
        """Answer for a start that failed before there was a runtime."""
        self.diagnostics.error(text)
        self._answer(-1, text.encode("utf-8", "surrogateescape"))
        self.terminal.close()
        self._do_unlink_attach()
        return 1

    def _go(self, arguments: list[bytes], index: int) -> None:
        """Start the runtime."""
        if self.start.go_fd >= 0:
            go = _syscalls.read(self.start.go_fd, 1)
            self.loop.remove(self.start.go_fd)
            _syscalls.close(self.start.go_fd)
            if not go:  # the launcher failed, and has said so
                self.terminal.close()
                self._do_unlink_attach()
                self._end(1)
                return
        waits = self.options.exec_attach
        try:
            pid, self.error_fd = self.launcher.start(
                arguments,
                (self.child_fds[0], self.child_fds[1], self.child_fds[2]),
                death_signal=_syscalls.SIGKILL,
                wait_fd=self.start.start_fd if waits else -1,
                listen_pid_index=index,
            )
            self.runtime_started = process.started_at(pid)
            self.runtime = Process(self.loop, pid, self._runtime_ended)
        except OSError as error:
            self._end(self._refuse(f"Failed to fork the create command: {error.strerror}"))
            return
        for fd in (*self.child_fds, self.start.start_fd):
            if fd >= 0:
                _syscalls.close(fd)

    # What the rooms tell

    def _post(self, event: str) -> None:
        for action in self.lifecycle.advance(event):
            getattr(self, "_do_" + action)()

    def _signalled(self, number: int) -> None:
        if number == _syscalls.SIGCHLD:
            if self.lifecycle.state in (RUNNING, DRAINING, RECORDING, LEAVING):
                self.children.reap()
        elif number in _FORWARDED:
            if self.runtime is None:
                self._end(self._refuse("terminated before the runtime was started"))
                return
            self.signal_number = number
            self._post("terminate")

    def _terminal_came(self, good: bool) -> None:  # noqa: FBT001 - a room's call
        self._post("terminal_received" if good else "terminal_refused")

    def _runtime_ended(self, code: int) -> None:
        self.terminal.collect()
        error = process.exec_error(self.error_fd)
        if error:
            self.failure = f"Failed to execute runtime: {error.strerror}"
        elif code:
            self.failure = ""
        else:
            self.failure = "Runtime did not set up terminal"
        pid = None
        if self.terminal.master_fd >= 0 or not self.options.terminal:
            pid = process.pid_in(self._pid_path(), self.runtime_started, self.stale_pid_file)
            if pid is None and not code:
                self.failure = "Failed to read pidfile: no usable pid"
        event = judge_start(exec_session=self.options.exec, runtime_status=code, pid=pid)
        if event == "runtime_failed":
            self.diagnostics.error(
                self.failure or f"Failed to create container: exit status {code}"
            )
        gone = False
        if event == "runtime_succeeded" and pid:
            try:
                self.container = Process(self.loop, pid, self._container_ended)
                self.children.known[pid] = self.container
            except ProcessLookupError:
                gone = True  # somebody else's child, and reaped: it ran, how it ended nobody knows
            self.diagnostics.debug(f"container PID: {pid}")
            self.pid = pid
        self._post(event)
        if gone:
            self._container_ended(-1)

    def _container_ended(self, code: int) -> None:
        if not self.timed_out:
            self.status = code
        self._post("container_exited")

    def _timed_out(self) -> None:
        if self.container:
            self.container.poll()  # ended at this very moment: then that is how it ended
        if self.lifecycle.state == RUNNING:
            self.timed_out = True
        self._post("timed_out")

    def _deliver(self, stream: Stream, now_ns: int, data: bytes) -> None:
        if self.log:
            self.log.write(stream.name, now_ns, data)
            if self.log.full():
                self._balance()
        self.attach.deliver(stream.packet_type, data)

    def _balance(self) -> None:
        """Let the container write only while log and clients can take it."""
        self.stdio.pause(self.attach.full() or (self.log is not None and self.log.full()))

    def _reopen_log(self) -> None:
        if self.log:
            self.log.reopen()

    def _answer(self, number: int, text: bytes = b"") -> None:
        name = answers.key(api_version=self.options.api_version, exec_session=self.options.exec)
        self.sync_pipe.send(answers.message(name, number, text))

    def _finished(self, part: str) -> None:
        self.unfinished.discard(part)
        if not self.unfinished:
            self._post("finished")

    # What lifecycle asks for

    def _do_signal_runtime(self) -> None:
        if self.runtime:
            self.runtime.signal(self.signal_number)

    def _do_signal_container(self) -> None:
        if self.container:
            self.container.signal(self.signal_number)

    def _do_adopt_terminal(self) -> None:
        self.stdio.add(b"stdout", b"\2", self.terminal.master_fd, terminal=True)
        self.attach.input.open(self.terminal.master_fd, terminal=True)

    def _do_report_start(self) -> None:
        if self.options.api_version or not self.options.exec:
            self._answer(self.pid)

    def _do_report_failure(self) -> None:
        self.status = 1
        text = self.stdio.held_tail(answers.MAX_MESSAGE) or self.failure.encode()
        self._answer(-1, text)
        self.stdio.close()
        self.terminal.close()
        self._do_close_inherited()
        self._do_close_listener()
        self._do_unlink_attach()

    def _do_release_output(self) -> None:
        self.stdio.release()

    def _do_watch(self) -> None:
        if self.options.timeout > 0:
            self.loop.call_later(self.options.timeout * 1000, self._timed_out)
        self.children.reap()

    def _do_kill_container(self) -> None:
        if self.container:
            self.container.kill_group()

    def _do_drain(self) -> None:
        self.stdio.drain(lambda: self._post("drained"))

    def _do_close_output(self) -> None:
        self.stdio.close()

    def _do_close_inherited(self) -> None:
        for fd in self.start.inherited_fds:
            try:
                _syscalls.close(fd)
            except OSError as error:
                self.diagnostics.debug(f"closing inherited descriptor {fd}", error)
        self.start.inherited_fds = []

    def _do_close_listener(self) -> None:
        self.attach.close_listener()

    def _do_write_exit_files(self) -> None:
        record = ExitRecord(self.loop, self.diagnostics, self._exit_paths())
        record.write(self.status, lambda: self._post("recorded"))

    def _exit_paths(self) -> list[bytes]:
        options, paths = self.options, []
        if options.persist_dir is not None:
            paths.append(options.persist_dir + b"/exit")
        if options.exit_dir is not None:
            paths.append(options.exit_dir + b"/" + (options.cid or b""))
        return paths

    def _do_report_exit(self) -> None:
        if self.options.exec:
            self._answer(self.status, b"command timed out" if self.timed_out else b"")

    def _do_unlink_attach(self) -> None:
        try:
            if self.link:
                _syscalls.unlink(self.link)
            if self.bundle_fd >= 0:
                _syscalls.unlink(b"attach", dir_fd=self.bundle_fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            self.diagnostics.warn("Failed to remove attach socket", error)

    def _do_sync_log(self) -> None:
        if self.log and not self.options.no_sync_log:
            self.log.sync()

    def _do_close_all(self) -> None:
        self.unfinished = {"clients", "exit command"}
        if self.log:
            self.log.close()
        self.fifos.close()
        self.terminal.close()
        if self.sync_pipe.idle():
            self.sync_pipe.close()
        if self.bundle_fd >= 0:
            self.diagnostics.bundle_fd = -1
            _syscalls.close(self.bundle_fd)
            self.bundle_fd = -1
        self.attach.flush(lambda: self._finished("clients"))

    def _do_run_exit_command(self) -> None:
        if self.options.exit_command is None:
            self._finished("exit command")
        else:
            self.loop.call_later(self.options.exit_delay * 1000, self._run_exit_command)

    def _run_exit_command(self) -> None:
        options = self.options
        arguments = [options.exit_command or b"", *options.exit_command_arg]
        try:
            _syscalls.set_child_subreaper(False)  # noqa: FBT003 - as prctl's argument
            pid, error_fd = self.launcher.start(arguments)
            _syscalls.close(error_fd)
            self.children.known[pid] = Process(
                self.loop, pid, lambda _: self._finished("exit command")
            )
        except OSError as error:
            self.diagnostics.warn("Failed to execute exit command", error)
            self._finished("exit command")

    def _do_leave(self) -> None:
        self._end(self.status)

    def _end(self, status: int) -> None:
        self.status = status
        self.lifecycle.state = GONE
        self.loop.stop()

    # What nobody expected

    def _handler_failed(self, _: object, error: Exception) -> None:
        """Detach the room that *error* came from; if it was ours, save the exit record."""
        self.diagnostics.crash(error)
        rooms = (self.attach, self.fifos, self.log, self.stdio, self.sync_pipe, self.terminal)
        step, room = error.__traceback__, None
        while step is not None:
            owner = step.tb_frame.f_locals.get("self")
            room = owner if any(owner is one for one in rooms if one) else room
            step = step.tb_next
        if room is not None:
            room.detach()
        elif self.container is None:
            self._end(self._refuse(f"unexpected {error!r}"))
        else:
            self._last_resort(self.container)

    def _last_resort(self, container: Process) -> None:
        """Wait for the container alone, write its exit files, leave."""
        loop = Loop()
        if not container.ended:
            last = Process(loop, container.pid, lambda code: self._last_word(code, loop))
            last.poll()
            if not last.ended:
                loop.run()
        for path in self._exit_paths():
            replace_file(path, b"%d" % self.status)
        self._end(self.status)

    def _last_word(self, code: int, loop: Loop) -> None:
        self.status = code
        loop.stop()
