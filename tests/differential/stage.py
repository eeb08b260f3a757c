"""The stage that test_lives.py plays on: a life under one monitor, and all that was seen of it."""

from __future__ import annotations

import contextlib
import fcntl
import fnmatch
import json
import os
import re
import select
import signal
import socket
import stat
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.differential.oracle_differences import brief, entry_in_our_words
from tests.support.journald import FakeJournald, Fields, connect
from tests.support.life import (
    DEADLINE,
    Gate,
    Life,
    attach_accepted,
    packets,
    read_if_there,
    wait_until,
)
from tests.support.witness import Witness

CID = "0123456789abcdef"
RECORD = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d (stdout|stderr) ([FP]) (.*)", re.DOTALL
)
PLAIN = (  # what has another name or number each time
    (re.compile(rb"conmon-term\.\w{6}"), b"conmon-term.*"),
    (re.compile(rb"\.conmon-[^/]+"), b".conmon-*"),
    (re.compile(rb"(pipe|socket|anon_inode):\[[0-9]+\]"), rb"\1"),
    (re.compile(rb"(/pid)\.\w{6}"), rb"\1.*"),
    (re.compile(rb'time=\\"[^"]+"'), b"TIME"),
    (re.compile(rb"(_OCI_[A-Z]+PIPE=)\d+"), rb"\1N"),
    (re.compile(rb"^(COVERAGE_PROCESS_CONFIG=).*", re.DOTALL), rb"\1"),
)
SCENERY = ["runtime*", "seen-*", "*.gate", "tmp", "scenery*", "hostrun"]  # files that the test made
SCENERY += ["exit.json"]  # and what conmon does not write, nor anybody expects of it (REC-1)
JOURNAL_QUEUE = 512  # datagrams, as systemd has it: the oracle waits when it is full

Play = Callable[["Stage"], None]
LIVES: dict[str, Play] = {}


def life(*values: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enter a function into LIVES, its name the sentence; once for each of *values*, if any."""

    def enter(function: Callable[..., None]) -> Callable[..., None]:
        sentence = function.__name__.replace("_", " ")
        if not values:
            LIVES[sentence] = function
        for value in values:
            words = value if isinstance(value, tuple) else (value,)

            def played(stage: Stage, value: Any = value) -> None:
                function(stage, value)

            LIVES[" ".join(map(str, (sentence, *words)))] = played
        return function

    return enter


class Stage:
    """A life in a directory of its own, and all that was seen of it, field by field."""

    def __init__(self, directory: Path, command: list[str]) -> None:
        directory.mkdir()
        self.life = Life(directory, CID)
        self.life.command = command
        self.directory = directory
        self.seen: dict[str, Any] = {}
        self.messages: list[bytes] = []
        self.clients: list[socket.socket] = []
        self.logs = [self.life.log]
        self.exact = False  # whether the records of a log are compared, not only its text
        self.journald: FakeJournald | None = None
        self.journal_detail = ""  # or "messages", or "as sent": what else of it is compared
        self.gates: dict[str, Gate] = {}
        self.monitor_fd = -1
        self.cleanups: list[Callable[[], object]] = []
        (directory / "tmp").mkdir()
        # A locale, since CPython under `C` would add LC_CTYPE to the block of an in-tree program.
        self.life.environment = {
            **{key: value for key, value in os.environ.items() if key.startswith("COVERAGE_")},
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LC_ALL": "C.UTF-8",
            "TMPDIR": str(directory / "tmp"),
        }

    # Props

    def gate(self, name: str = "go") -> str:
        """Return shell words that wait until `open_gate` is called."""
        self.gates[name] = Gate(self.directory / f"{name}.gate")
        return f"read x <{self.gates[name].path}"

    def open_gate(self, name: str = "go") -> None:
        self.gates[name].open()

    def exit_command(self, end: str = "") -> list[str]:
        """Return the option for an exit command that writes down what it was given."""
        path = self.directory / "scenery-exit-command"
        return ["--exit-command", str(Witness(self.life, "exit-command").program(path, end))]

    def journal(self) -> FakeJournald:
        """Put a journald in the way of the life, its entries to be compared at the end."""
        path = self.directory / "scenery-journald"
        connect(self.life, path)
        self.journald = FakeJournald(path).start(JOURNAL_QUEUE)
        self.cleanups.append(self.journald.stop)
        return self.journald

    def watch_runtime(self, *, signals: bool = False) -> None:
        """Put a program before the runtime that writes down what it was given."""
        runtime = self.life.runtime
        real = runtime.rename(runtime.with_name("runtime-itself"))
        seen = Witness(self.life)
        seen.program(runtime, f'exec {real} "$@"')
        if signals:
            seen.signals_first(runtime)

    # The play

    def start(
        self,
        *extra: str,
        omit: tuple[str, ...] = (),
        watched: bool = True,
        signals: bool = False,
        raw: list[str] | None = None,
        exec_session: bool = False,
        **how: Any,
    ) -> Stage:
        """Start the monitor with podman's usual options but for those in *omit*; *extra* last."""
        if self.life.runtime.exists() and watched:
            self.watch_runtime(signals=signals)
        arguments = raw if raw is not None else self.life.arguments(exec_session=exec_session)
        flags = {"--full-attach", "--exec"}
        for option in omit:
            at = arguments.index(option)
            del arguments[at : at + (1 if option in flags else 2)]
        how.setdefault("cwd", self.directory)
        self.life.start(raw=[*arguments, *extra], **how)
        self.find_monitor()
        return self

    def find_monitor(self) -> None:
        """Hold on to the monitor, if it still is there."""
        content = read_if_there(self.life.conmon_pid_file) or b""
        if self.monitor_fd < 0 and content.strip().isdigit():
            with contextlib.suppress(ProcessLookupError):
                self.monitor_fd = os.pidfd_open(int(content))

    def created(self) -> None:
        """Wait until the container's pid is reported."""
        if not self.messages:
            self.message()
        assert re.match(rb'\{"(data|pid)": [1-9]', b"".join(self.messages)), self.messages

    def message(self) -> dict[str, Any] | None:
        """Return the next message of the sync pipe, None at its end."""
        data = self.receive(self.life.sync)
        if data:
            self.messages += data.splitlines(keepends=True)
        return json.loads(data) if data else None

    @staticmethod
    def receive(pipe: socket.socket | None) -> bytes:
        assert pipe is not None
        pipe.settimeout(DEADLINE)
        try:
            return pipe.recv(1 << 20)
        except ConnectionResetError:
            return b""

    def attach(self) -> socket.socket:
        """Return a client that the monitor has accepted; what it gets is compared at the end."""
        if not self.messages and self.life.start_pipe < 0:
            self.created()  # before it there may be no socket
        client = attach_accepted(self.life)
        self.clients.append(client)
        return client

    def logged(self, text: bytes) -> None:
        """Wait until the log has a text."""
        assert self.life.conmon_pid_file.exists(), "there is no monitor"
        wait_until(lambda: text in (read_if_there(self.life.log) or b""), f"{text!r} in the log")

    def entries(self, count: int) -> None:
        """Wait until the journal has so many entries."""
        assert self.journald
        self.journald.wait(lambda entries: len(entries) >= count, f"{count} entries")

    def control_is_read(self) -> None:
        """Wait until the monitor has read what was written to ctl."""
        fd = os.open(self.life.bundle / "ctl", os.O_RDONLY | os.O_NONBLOCK)
        try:
            wait_until(lambda: fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) == bytes(4), "a read")
        finally:
            os.close(fd)

    def in_bundle(self) -> list[Path]:
        """Return what is in the bundle, but for the socket that conmon has not (STAT-1)."""
        return sorted(path for path in self.life.bundle.iterdir() if path.name != "status")

    def soon(self, text: bytes) -> bool:
        """Tell whether the log has a text in 1.5 s: the oracle may never write it."""
        with contextlib.suppress(AssertionError):
            wait_until(lambda: text in self.life.log.read_bytes(), "the text", 1.5)
            return True
        return False

    def signal(self, number: int) -> None:
        """Signal the monitor."""
        signal.pidfd_send_signal(self.monitor_fd, number)

    # What is left of it

    def finish(self) -> dict[str, Any]:
        """Wait for the end of everything and return what was seen."""
        one = self.life
        assert one.launcher is not None
        one.launcher.wait(DEADLINE)
        self.find_monitor()
        for number, client in enumerate(self.clients):
            if client.fileno() >= 0:
                out, err = packets(client)
                self.seen[f"client {number}: stdout"] = self.plain(out)
                self.seen[f"client {number}: stderr"] = self.plain(err)
        while self.message() is not None:
            pass
        if self.monitor_fd >= 0:
            ended = select.select([self.monitor_fd], [], [], DEADLINE)[0]
            assert ended, "the monitor does not end"
        self.seen["sync pipe"] = [self.without_pid(message) for message in self.messages]
        if one.attach_pipe is not None:
            self.seen["attach pipe"] = self.receive(one.attach_pipe)
        self.seen["launcher: status"] = one.launcher.returncode
        for name in ("stdout", "stderr"):
            stream = getattr(one.launcher, name)
            if stream is not None:
                self.seen[f"launcher: {name}"] = self.plain(stream.read())
        self.see_files()
        for log in self.logs:
            self.see_log(log)
        if self.journald:
            self.see_journal(self.journald.read())
        self.see_witness("runtime", Witness(one))
        self.see_witness("exit command", Witness(one, "exit-command"))
        if "--console-socket" in (words := self.seen.get("runtime: arguments", [])):
            at = words.index("--console-socket") + 1
            self.seen["runtime: console socket"], words[at] = words[at], "SOCKET"
        return self.seen

    def plain(self, data: bytes) -> bytes:
        """Return data without what must differ: paths, random names, numbers of descriptors."""
        data = data.replace(os.fsencode(self.directory), b"@")
        for pattern, word in PLAIN:
            data = pattern.sub(word, data)
        return data

    def without_pid(self, message: bytes) -> bytes:
        """Return a message with PID for the pid that is in the pid file."""
        pid = (read_if_there(self.life.pid_file) or b"").strip()
        if pid.isdigit() and int(pid) > 1:
            message = re.sub(rb'^(\{"(?:data|pid)": )%s\b' % pid, rb"\1PID", message)
        return self.plain(message)

    def see_files(self) -> None:
        """Note every file that is left, but for those that the test made: kind, mode, content."""
        for path in sorted(self.directory.rglob("*")):
            relative = path.relative_to(self.directory)
            if any(fnmatch.fnmatch(part, p) for p in SCENERY for part in relative.parts):
                continue
            name = self.plain(os.fsencode(relative)).decode()
            kind = stat.filemode(path.lstat().st_mode)
            self.seen[f"mode of {name}"] = kind
            if kind.startswith("l"):
                self.seen[f"link {name}"] = self.plain(os.fsencode(os.readlink(path)))
            elif kind.startswith("-") and path.parent.name in {"exits", "persist"}:
                self.seen[f"content of {name}"] = path.read_bytes()
        for path in (self.life.pid_file, self.life.conmon_pid_file):
            content = read_if_there(path)
            if content is not None:
                self.seen[f"content of {path.name}"] = re.sub(rb"^[1-9]\d*", b"PID", content)
        left = sorted(os.listdir(self.directory / "tmp"))
        self.seen["left in TMPDIR"] = [self.plain(os.fsencode(name)) for name in left]

    def see_log(self, log: Path) -> None:
        """Check the form of each record of a log, and note the text of each stream."""
        content = read_if_there(log)
        if content is None:
            self.seen[f"{log.name}"] = None
            return
        assert content == b"" or content.endswith(b"\n"), content[-80:]
        texts: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        records: list[bytes] = []
        for line in content.split(b"\n")[:-1]:
            record = RECORD.fullmatch(line)
            assert record, line[:200]
            stream, kind, text = record.groups()
            assert len(text) <= 8192, line[:100]
            texts[stream.decode()] += text + (b"\n" if kind == b"F" else b"")
            records.append(b"%b %b %b" % (stream, kind, brief(text)))
        for stream, text in texts.items():
            self.seen[f"{log.name}: {stream}"] = self.plain(text)
        if self.exact:
            self.seen[f"{log.name}: records"] = records

    def see_journal(self, entries: list[Fields]) -> None:
        """Note the text of each stream, the fields beside it, and the messages if they are asked for.

        As in a file, the parts of a line are joined: where a line is cut depends on the reads.
        """
        streams = {b"6": "stdout", b"3": "stderr"}
        texts = dict.fromkeys(streams.values(), b"")
        beside: dict[str, set[tuple[tuple[bytes, bytes], ...]]] = {name: set() for name in texts}
        messages = []
        names: set[bytes] = set()
        for fields in entries:
            entry = dict(fields)
            assert len(entry) == len(fields), fields
            names |= entry.keys()
            partial = entry.pop(b"CONTAINER_PARTIAL_MESSAGE", b"")
            if self.journal_detail != "as sent":
                entry = entry_in_our_words(entry, partial=bool(partial))
            message = entry.pop(b"MESSAGE")
            stream = streams[entry[b"PRIORITY"]]
            messages.append((stream, brief(message), partial))
            texts[stream] += message + (b"" if partial else b"\n")
            beside[stream].add(tuple(sorted(entry.items())))
        if self.journal_detail == "as sent":
            self.seen["journal: messages"] = messages
            self.seen["journal: names"] = sorted(names)
            return
        for stream in texts:
            self.seen[f"journal: {stream}"] = texts[stream]
            self.seen[f"journal: beside {stream}"] = sorted(beside[stream])
        if self.journal_detail:
            self.seen["journal: messages"] = messages

    def see_witness(self, name: str, witness: Witness) -> None:
        """Note what a program was given."""
        if not witness.been():
            self.seen[f"{name}: was started"] = False
            return
        witness.wait()

        def text(word: bytes | str) -> str:
            return self.plain(os.fsencode(word)).decode(errors="backslashreplace")

        pid = witness.status()["Pid"]
        self.seen[f"{name}: arguments"] = [text(word) for word in witness.arguments()]
        self.seen[f"{name}: cwd"] = text(witness.line("cwd"))
        self.seen[f"{name}: oom_score_adj"] = witness.line("oom_score_adj")
        launcher = self.life.launcher.pid if self.life.launcher else 0
        known = {f"LISTEN_PID={pid}": "LISTEN_PID=PID", f"LISTEN_PID={launcher}": "LISTEN_PID=OLD"}
        environment = [text(entry) for entry in witness.environment()]
        self.seen[f"{name}: environment"] = [known.get(entry, entry) for entry in environment]
        fds = witness.fds()
        for fd, line in enumerate(witness.stdio()):
            kind, mode, _ = line.rsplit(" ", 2)
            target = text(fds.get(fd, "closed"))
            if kind == "fifo":  # the mode is apart, being the same for each of them
                self.seen[f"{name}: kind of its pipes"] = [f"{kind} {mode} {target}"]
                mode = "ANY"
            self.seen[f"{name}: descriptor {fd}"] = f"{kind} {mode} {target}"
        self.seen[f"{name}: more descriptors"] = sorted(
            text(target) for fd, target in fds.items() if fd > 2
        )
        if Path(f"{witness.directory}.signals").exists():
            for field in ("SigBlk", "SigIgn"):
                self.seen[f"{name}: {field}"] = sorted(witness.signals(field))

    def end(self) -> None:
        """Leave nothing, whatever happened."""
        self.find_monitor()
        for cleanup in reversed(self.cleanups):
            cleanup()
        self.life.end()
        if self.monitor_fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.monitor_fd, signal.SIGKILL)
            os.close(self.monitor_fd)
        for gate in self.gates.values():
            gate.close()
