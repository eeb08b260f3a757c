"""Play the same lives under Debian's conmon and under lowconmon; both must leave the same.

Each life is a function that plays on a `Stage`, once with the oracle and once with ours, in two
directories of the same layout. Compared is all that a manager can see: the launcher, each message,
each file, the log, what clients got, what the runtime and the exit command were given.

Acceptable: a difference that stands in LIFE_DIFFERENCES (oracle_differences.py), exactly as it
stands there. Not acceptable: any other difference, and a row there that is true no more.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
import os
import re
import select
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import oracle_differences
import pytest

from tests.support import ROOT
from tests.support.life import (
    DEADLINE,
    HAND_OVER,
    Gate,
    Life,
    attach_accepted,
    packets,
    program,
    read_if_there,
    wait_until,
)
from tests.support.witness import Witness, number_in, odd

CONMON = "/usr/bin/conmon"
CID = "0123456789abcdef"
RECORD = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d (stdout|stderr) ([FP]) (.*)", re.DOTALL
)
PLAIN = (  # what has another name or number each time
    (re.compile(rb"conmon-term\.\w{6}"), b"conmon-term.*"),
    (re.compile(rb"\.conmon-[^/]+"), b".conmon-*"),
    (re.compile(rb"(pipe|socket|anon_inode):\[[0-9]+\]"), rb"\1"),
    (re.compile(rb"(_OCI_[A-Z]+PIPE=)\d+"), rb"\1N"),
    (re.compile(rb"^(COVERAGE_PROCESS_CONFIG=).*", re.DOTALL), rb"\1"),
)
SCENERY = ("runtime*", "seen-*", "*.gate", "tmp", "scenery*", "hostrun")  # files that the test made
ABSENT = oracle_differences.ABSENT
LONG = 400  # characters of a value that a failure shows

Play = Callable[["Stage"], None]
LIVES: dict[str, Play] = {}


def life(*values: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Enter a function into LIVES, its name the sentence; once for each of *values*, if any."""

    def enter(function: Callable[..., None]) -> Callable[..., None]:
        sentence = function.__name__.replace("_", " ")
        if not values:
            LIVES[sentence] = function
        for value in values:
            words = value if isinstance(value, str) else " ".join(map(str, _listed(value)))

            def played(stage: Stage, value: Any = value) -> None:
                function(stage, value)

            LIVES[f"{sentence} {words.strip()}"] = played
        return function

    return enter


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


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
        self.gates: dict[str, Gate] = {}
        self.monitor_fd = -1
        self.cleanups: list[Callable[[], object]] = []
        (directory / "tmp").mkdir()
        for name in ("LISTEN_PID", "LISTEN_FDS", "NOTIFY_SOCKET", "XDG_RUNTIME_DIR"):
            self.life.environment.pop(name, None)
        # A locale, since CPython under `C` would add LC_CTYPE to the block of an in-tree program.
        self.life.environment |= {"TMPDIR": str(directory / "tmp"), "LC_ALL": "C.UTF-8"}

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
        client = attach_accepted(self.life)
        self.clients.append(client)
        return client

    def logged(self, text: bytes) -> None:
        """Wait until the log has a text."""
        wait_until(lambda: text in (read_if_there(self.life.log) or b""), f"{text!r} in the log")

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
        if pid and int(pid) > 1:
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
        for line in content.split(b"\n")[:-1]:
            record = RECORD.fullmatch(line)
            assert record, line[:200]
            stream, kind, text = record.groups()
            assert len(text) <= 8192, line[:100]
            texts[stream.decode()] += text + (b"\n" if kind == b"F" else b"")
        for stream, text in texts.items():
            self.seen[f"{log.name}: {stream}"] = self.plain(text)

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
        environment = [text(entry) for entry in witness.environment()]
        self.seen[f"{name}: environment"] = [
            "LISTEN_PID=PID" if entry == f"LISTEN_PID={pid}" else entry for entry in environment
        ]
        fds = witness.fds()
        for fd, line in enumerate(witness.stdio()):
            kind, mode, _ = line.rsplit(" ", 2)
            target = text(fds.get(fd, "closed"))
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


# Ends


@life(0, 1, 126, 127, 128, 255)
def a_container_exits_with(stage: Stage, status: int) -> None:
    stage.life.stub(f"echo said; exit {status}")
    stage.start()


@life("TERM", "KILL", "SEGV", "HUP", "RTMIN")
def a_container_is_killed_by(stage: Stage, name: str) -> None:
    stage.life.stub(f"ulimit -c 0; exec sh -c 'kill -{name} $$'")
    stage.start()


@life()
def a_container_says_nothing(stage: Stage) -> None:
    stage.life.stub("exit 0")
    stage.start()


@life()
def a_container_is_gone_before_the_runtime(stage: Stage) -> None:
    stage.life.script(
        '#!/bin/sh\nwhile [ "$1" != --pid-file ]; do shift; done\n'
        'sh -c "echo early; exit 3" &\nprintf %s $! >"$2"\nexec sh -c "read x </dev/null; exit 0"\n'
    )
    stage.start()


# Output

OUTPUTS = {
    "both streams": "echo out; echo err >&2; echo more; echo less >&2",
    "no final newline": "printf 'one\\ntwo'",
    "no final newline on both": "printf one; printf two >&2",
    "empty lines": "echo; echo; echo x; echo; printf '\\n\\n' >&2",
    "one newline": "echo",
    "CRLF": "printf 'a\\r\\nb\\r\\n\\r\\nc\\r'",
    "NUL": "printf 'a\\000b\\n\\000\\n\\000'",
    "invalid UTF-8": "printf '\\377\\376\\n\\303\\n\\355\\240\\200\\n'",
    "control characters": "printf '\\033[1mx\\010\\177\\n\\t\\n \\n'",
    "what looks like a record": "echo '2020-01-01T00:00:00.000000000+00:00 stdout F x'",
    "a megabyte of lines": "seq 1 150000",
    "a megabyte without a newline": "head -c 1000000 /dev/zero | tr '\\0' x",
}


@life(*OUTPUTS)
def a_container_prints(stage: Stage, what: str) -> None:
    stage.life.stub(f"{OUTPUTS[what]}; exit 5")
    stage.start()


@life(8190, 8191, 8192, 8193, 16384, 65536)
def a_container_prints_a_line_as_long_as(stage: Stage, length: int) -> None:
    line = f"head -c {length} /dev/zero | tr '\\0' x; echo; echo next"
    stage.life.stub(f"{line}; ({line}) >&2")
    stage.start()


@life()
def a_prompt_without_a_newline_is_answered_later(stage: Stage) -> None:
    wait = stage.gate()
    stage.life.stub(f"printf 'name? '; {wait}; echo Bob; printf end")
    stage.start()
    stage.logged(b"stdout P name? \n")
    stage.open_gate()


@life()
def a_newline_comes_after_its_line(stage: Stage) -> None:
    wait = stage.gate()
    stage.life.stub(f"printf line; {wait}; echo; echo next")
    stage.start()
    stage.logged(b"stdout P line\n")
    stage.open_gate()


@life()
def the_runtime_talks_and_succeeds(stage: Stage) -> None:
    stage.life.stub(
        "echo out", before="echo 'runtime: out'; echo 'runtime: err' >&2", after="printf tail >&2"
    )
    stage.start()


@life()
def a_log_that_exists_is_appended_to(stage: Stage) -> None:
    old = b"2020-01-01T00:00:00.000000000+00:00 stdout F old\n"
    stage.life.log.write_bytes(old)
    stage.life.stub("echo new")
    stage.start()


# The logs


@life("none", "off", "null", "none:x")
def a_life_without_a_log(stage: Stage, driver: str) -> None:
    stage.logs = []
    stage.life.stub("echo lost; exit 4")
    stage.start("-l", driver, omit=("-l",))


@life()
def a_log_path_stands_without_a_driver(stage: Stage) -> None:
    stage.life.stub("echo out")
    stage.start("-l", str(stage.life.log), omit=("-l",))


@life()
def of_two_logs_the_last_is_written(stage: Stage) -> None:
    second = stage.directory / "second.log"
    stage.logs.append(second)
    stage.life.stub("echo out")
    stage.start("-l", f"k8s-file:{second}")


@life()
def a_log_none_beside_a_file_adds_nothing(stage: Stage) -> None:
    stage.life.stub("echo out")
    stage.start("-l", "none")


@life()
def a_passed_through_log(stage: Stage) -> None:
    stage.logs = []
    stage.life.stub("cat; echo out; echo err >&2; exit 6")
    reading, writing = os.pipe()
    os.write(writing, b"input\n")
    os.close(writing)
    try:
        stage.start("-l", "passthrough", omit=("-l",), stdin=reading)
    finally:
        os.close(reading)


@life()
def a_passed_through_start_fails(stage: Stage) -> None:
    stage.logs = []
    stage.life.script("#!/bin/sh\necho broken >&2\nexit 1\n")
    stage.start("-l", "passthrough", omit=("-l",))


@life()
def a_log_reaches_its_size(stage: Stage) -> None:
    wait = stage.gate()
    stage.life.stub(f"seq 1 4; {wait}; seq 5 9")
    stage.start("--log-size-max", "250")
    stage.logged(b"4\n")
    stage.open_gate()


@life()
def all_logs_reach_their_size(stage: Stage) -> None:
    stage.life.stub("seq 1 9; seq 11 19 >&2; exit 3")
    stage.start("--log-global-size-max", "130")


@life("renamed", "removed")
def a_log_is_reopened_that_was(stage: Stage, what: str) -> None:
    wait = stage.gate()
    old = stage.directory / "old.log"
    stage.life.stub(f"echo before; {wait}; echo after; printf end")
    stage.start()
    stage.logged(b"before")
    if what == "renamed":
        stage.logs.append(stage.life.log.rename(old))
    else:
        stage.life.log.unlink()
    stage.life.control(b"2 0 0\n")
    wait_until(stage.life.log.exists, "the fresh log")
    stage.open_gate()


@life()
def a_log_is_kept_without_a_sync(stage: Stage) -> None:
    stage.life.stub("echo out")
    stage.start("--no-sync-log")


# Stdin


@life()
def stdin_ends_when_the_client_half_closes(stage: Stage) -> None:
    stage.life.stub("cat; echo ended; exit 3")
    stage.start("-i")
    client = stage.attach()
    client.send(b"one\n")
    client.send(b"two")
    client.shutdown(socket.SHUT_WR)


@life()
def stdin_ends_when_the_client_goes(stage: Stage) -> None:
    stage.life.stub("cat; echo ended; exit 3")
    stage.start("-i")
    client = stage.attach()
    client.send(b"one\n")
    stage.logged(b"one")
    client.close()


@life()
def stdin_is_left_open(stage: Stage) -> None:
    stage.life.stub("read a; echo 1 $a; read b; echo 2 $b; cat; exit 3")
    stage.start("-i", "--leave-stdin-open")
    first = stage.attach()
    first.send(b"first\n")
    stage.logged(b"1 first")
    first.shutdown(socket.SHUT_WR)
    second = stage.attach()
    second.send(b"second\n")
    stage.logged(b"2 second")
    second.shutdown(socket.SHUT_WR)
    assert select.select([stage.monitor_fd], [], [], 0)[0] == []
    os.kill(number_in(stage.life.pid_file), signal.SIGKILL)


@life()
def stdin_is_not_asked_for(stage: Stage) -> None:
    wait = stage.gate()
    stage.life.stub(f"cat; echo ended; {wait}; exit 3")
    stage.start()
    client = stage.attach()
    client.send(b"dropped\n")
    client.shutdown(socket.SHUT_WR)
    stage.logged(b"ended")
    stage.open_gate()


@life(1, 8192, 32768)
def a_client_sends_packets_of(stage: Stage, size: int) -> None:
    stage.life.stub("wc -c; exit 3")
    stage.start("-i")
    client = stage.attach()
    for _ in range(5):
        client.send(b"x" * size)
    client.shutdown(socket.SHUT_WR)


@life()
def nobody_attaches_to_an_open_stdin(stage: Stage) -> None:
    wait = stage.gate()
    stage.life.stub(f"{wait}; echo out; exit 3")
    stage.start("-i")
    stage.open_gate()


# Attach


@life()
def two_clients_get_everything_from_when_they_came(stage: Stage) -> None:
    first, second = stage.gate("first"), stage.gate("second")
    stage.life.stub(f"{first}; echo one; echo err >&2; {second}; echo two; printf three; exit 3")
    stage.start()
    stage.attach()
    stage.open_gate("first")
    stage.logged(b"err")
    stage.attach()
    stage.open_gate("second")


@life()
def a_client_gets_long_output(stage: Stage) -> None:
    wait = stage.gate()
    stage.life.stub(f"{wait}; seq 1 9000; printf '\\377\\000\\r\\n'; exit 3")
    stage.start()
    stage.attach()
    stage.open_gate()


@life()
def the_attach_socket_and_the_fifos_have_their_modes(stage: Stage) -> None:
    wait = stage.gate()
    stage.life.stub(wait)
    stage.start()
    stage.message()
    for path in sorted(stage.life.bundle.iterdir()):
        mode = stat.filemode(path.lstat().st_mode)
        stage.seen[f"mode while it lives: {path.name}"] = mode
    stage.open_gate()


@life()
def the_attach_socket_is_reached_by_a_link(stage: Stage) -> None:
    wait = stage.gate()
    sockets = stage.directory / "sockets"
    sockets.mkdir()
    stage.life.stub(f"{wait}; echo out; exit 3")
    stage.start("--socket-dir-path", str(sockets), omit=("--full-attach",))
    stage.message()
    link = sockets / CID
    stage.seen["link while it lives"] = stage.plain(os.fsencode(os.readlink(link)))
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stage.life.clients.append(client)
    client.settimeout(DEADLINE)
    client.connect(str(link / "attach"))
    stage.attach()  # accepted in turn: the first one has been, too
    stage.clients.append(client)
    stage.open_gate()


@life()
def an_old_link_is_in_the_way_of_the_new_one(stage: Stage) -> None:
    sockets = stage.directory / "sockets"
    sockets.mkdir()
    (sockets / CID).symlink_to("/nonexistent")
    stage.life.stub("exit 3")
    stage.start("--socket-dir-path", str(sockets), omit=("--full-attach",))


@life()
def an_old_socket_and_old_fifos_are_in_the_way(stage: Stage) -> None:
    for name in ("attach", "ctl", "winsz"):
        (stage.life.bundle / name).write_text("old")
    stage.life.stub("exit 3")
    stage.start()


@life()
def the_attach_pipe_tells_when_the_socket_is_there(stage: Stage) -> None:
    stage.life.stub("echo out; exit 3")
    stage.start("--exec-attach", exec_session=True, attach_pipe=True)


@life()
def the_attach_pipe_is_missing(stage: Stage) -> None:
    stage.life.stub("echo out; exit 3")
    stage.start("--exec-attach", exec_session=True)


# The terminal


@life()
def a_terminal_prints(stage: Stage) -> None:
    stage.life.terminal_stub("test -t 0 && test -t 1 && test -t 2; echo $?; echo x >&2; exit 7")
    stage.start("-t")


@life()
def a_terminal_is_not_handed_over(stage: Stage) -> None:
    stage.life.stub("echo out; exit 3")
    stage.start("-t")


@life()
def a_terminal_fails_with_words(stage: Stage) -> None:
    stage.life.script("#!/bin/sh\necho no terminal >&2\nexit 1\n")
    stage.start("-t")


@life((), ("-i",), ("-i", "--leave-stdin-open"))
def a_client_types_into_a_terminal(stage: Stage, more: tuple[str, ...]) -> None:
    wait = stage.gate()
    stage.life.terminal_stub(
        f"stty -echo; {wait}; echo ready; read a; echo got $a; read b; echo got $b; exit 3"
    )
    stage.start("-t", *more)
    client = stage.attach()
    stage.open_gate()
    stage.logged(b"ready")
    client.send(b"first\n")
    stage.logged(b"got first")
    client.send(b"second\n")


@life()
def a_terminal_outlives_its_first_client(stage: Stage) -> None:
    stage.life.terminal_stub("stty -echo; echo ready; read a; echo got $a; read b; echo got $b")
    stage.start("-t", "-i")
    stage.logged(b"ready")
    first = stage.attach()
    first.send(b"first\n")
    stage.logged(b"got first")
    first.close()
    stage.clients.remove(first)
    stage.attach().send(b"second\n")


@life("ctl", "winsz")
def a_terminal_is_resized_through(stage: Stage, name: str) -> None:
    sizes = ((24, 80), (1, 1000), (0, 0), (50, 132))
    waits = "; ".join(
        f'until [ "$(stty size)" = "{rows} {columns}" ]; do :; done; echo {rows} by {columns}'
        for rows, columns in sizes
    )
    stage.life.terminal_stub(waits)
    stage.start("-t")
    stage.message()
    for rows, columns in sizes:
        line = f"{rows} {columns}\n" if name == "winsz" else f"1 {rows} {columns}\n"
        stage.life.control(line.encode(), name)
        stage.logged(f"{rows} by {columns}".encode())


@life()
def bad_control_lines_change_nothing(stage: Stage) -> None:
    wait = stage.gate()
    stage.life.terminal_stub(f"until stty size | grep -q '24 80'; do :; done; {wait}; stty size")
    stage.start("-t")
    stage.message()
    stage.life.control(b"1 24 80\n")
    for line in (b"1 10\n", b"3 1 1\n", b"1 2000 5\n", b"x\n", b"\n", b"1 10.5 20\n"):
        stage.life.control(line)
    stage.life.control(b"2 0 0\n")  # the sign that all was read
    stage.life.log.rename(stage.directory / "old.log")
    stage.life.control(b"2 0 0\n")
    wait_until(stage.life.log.exists, "the reopened log")
    stage.open_gate()


@life()
def control_lines_end_in_all_sorts_of_words(stage: Stage) -> None:
    wait = "until [ \"$(stty size)\" = '%s' ]; do :; done; echo %s"
    sizes = ("10 20", "11 21", "12 22", "13 23")
    stage.life.terminal_stub("; ".join(wait % (size, size) for size in sizes))
    stage.start("-t")
    stage.message()
    lines = (b"1 10 20abc\n", b"1 11 21 3\n", b"1  +12\t022\n", b" 1 13 23\r\n")
    for size, line in zip(sizes, lines, strict=True):
        stage.life.control(line)
        stage.logged(size.encode())


@life()
def a_size_that_came_before_the_terminal(stage: Stage) -> None:
    wait = "until [ \"$(stty size)\" = '33 99' ]; do :; done; echo fits"
    gate = stage.gate()
    del gate
    path = str(stage.gates["go"].path)
    stage.life.terminal_stub(wait, how=f"open({path!r}).readline()\n" + HAND_OVER)
    stage.start("-t")
    wait_until(lambda: (stage.life.bundle / "ctl").exists(), "the FIFO")
    wait_until(lambda: Witness(stage.life).been(), "the runtime")
    stage.life.control(b"1 33 99\n")
    stage.open_gate()


@life()
def an_exec_session_has_a_terminal(stage: Stage) -> None:
    stage.life.terminal_stub("test -t 0; echo $?; exit 9")
    stage.start("-t", "-i", exec_session=True)


@life()
def an_exec_session_with_a_terminal_fails(stage: Stage) -> None:
    stage.life.script("#!/bin/sh\necho no such binary >&2\nexit 255\n")
    stage.start("-t", "-i", exec_session=True)


# Starts that fail

FAILURES = {
    "with words": "echo 'cannot do it' >&2; exit 1",
    "with words on stdout": "echo 'cannot do it'; exit 1",
    "without words": "exit 1",
    "without a final newline": "printf oops >&2; exit 126",
    "with quotes and controls": "printf 'say \"no\\\\\"\\t\\001\\177/\\n\\r' >&2; exit 1",
    "by a signal": "echo dying >&2; kill -KILL $$",
    "with 127": "exit 127",
    "after its pid file": "{pid}; echo late >&2; exit 1",
    "without a pid file": "exit 0",
    "without a pid file but with words": "echo hm >&2; exit 0",
    "with an empty pid file": ': > "$pid_file"; exit 0',
    "with garbage in its pid file": 'echo garbage > "$pid_file"; exit 0',
}
FAILING = """#!/bin/sh
while [ $# -gt 0 ]; do
    case $1 in --pid-file) pid_file=$2 ;; esac
    shift
done
{how}
"""
PID_FILE = 'sh -c "exit 0" & printf %s $! > "$pid_file"'


def failing(stage: Stage, how: str) -> None:
    text = FAILURES[how].replace("{pid}", PID_FILE)
    stage.life.script(FAILING.format(how=text))


@life(*FAILURES)
def a_runtime_fails(stage: Stage, how: str) -> None:
    failing(stage, how)
    stage.start(*stage.exit_command())


@life(*FAILURES)
def a_runtime_fails_in_an_exec(stage: Stage, how: str) -> None:
    failing(stage, how)
    stage.start(*stage.exit_command(), exec_session=True)


@life("with words", "without words", "by a signal", "after its pid file", "without a pid file")
def a_runtime_fails_in_a_legacy_exec(stage: Stage, how: str) -> None:
    failing(stage, how)
    stage.start(*stage.exit_command(), exec_session=True, omit=("--api-version",))


@life("with words", "without words", "without a pid file")
def a_runtime_fails_in_a_legacy_create(stage: Stage, how: str) -> None:
    failing(stage, how)
    stage.start(*stage.exit_command(), omit=("--api-version",))


@life("with words", "without a pid file")
def a_runtime_fails_in_the_foreground(stage: Stage, how: str) -> None:
    failing(stage, how)
    stage.start("--sync", *stage.exit_command())


@life()
def a_runtime_cannot_be_executed(stage: Stage) -> None:
    stage.life.script("no program at all\n")
    stage.start(watched=False)


@life()
def a_runtime_has_no_interpreter(stage: Stage) -> None:
    stage.life.script("#!/nonexistent/interpreter\n")
    stage.start(watched=False)


@life()
def the_bundle_is_missing(stage: Stage) -> None:
    stage.life.stub("exit 3")
    stage.life.bundle.rmdir()
    stage.start(*stage.exit_command())


@life()
def the_log_cannot_be_opened(stage: Stage) -> None:
    stage.logs = []
    stage.life.stub("exit 3")
    stage.start("-l", "k8s-file:/nonexistent/log", omit=("-l",))


@life("word", "99")
def the_sync_pipe_is_not_there(stage: Stage, value: str) -> None:
    stage.life.stub("exit 3")
    stage.life.command = ["env", f"_OCI_SYNCPIPE={value}", *stage.life.command]
    stage.start(*stage.exit_command())


@life()
def the_monitors_pid_file_cannot_be_written(stage: Stage) -> None:
    stage.life.stub("exit 3")
    stage.start("--conmon-pidfile", "/nonexistent/pid", omit=("--conmon-pidfile",))


# The pipes and the kinds of life


@life()
def a_legacy_create(stage: Stage) -> None:
    stage.life.stub("echo out; exit 3")
    stage.start(omit=("--api-version",))


@life()
def a_create_as_cri_o_does_it(stage: Stage) -> None:
    one = stage.life
    wait = stage.gate()
    one.stub(f"cat; {wait}; echo out; exit 3")
    sockets = stage.directory / "sockets"
    sockets.mkdir()
    one.conmon_pid_file = one.bundle / "conmon-pidfile"
    one.pid_file = one.bundle / "pidfile"
    arguments = ["-b", str(one.bundle), "-c", CID, "--exit-dir", str(one.exit_dir)]
    arguments += ["-l", str(one.log), "--log-level", "info", "-n", "k8s_name"]
    arguments += ["-P", str(one.conmon_pid_file), "-p", str(one.pid_file)]
    arguments += ["--persist-dir", str(one.persist_dir), "-r", str(one.runtime)]
    arguments += ["--runtime-arg", f"--root={stage.directory}/state"]
    arguments += ["--socket-dir-path", str(sockets), "-u", CID, "--leave-stdin-open", "-i"]
    stage.start(raw=arguments, cwd=one.bundle, sync_kind=socket.SOCK_STREAM, start_pipe=True,
                wait=False)  # fmt: skip
    os.write(one.start_pipe, b"\0")
    assert one.launcher is not None
    one.launcher.wait(DEADLINE)
    stage.message()
    client = stage.attach()
    client.send(b"typed\n")
    stage.logged(b"typed")
    stage.open_gate()
    os.kill(number_in(one.pid_file), signal.SIGKILL)


def exec_sync(stage: Stage, *more: str) -> list[str]:
    """Return the arguments of CRI-O's ExecSync."""
    one = stage.life
    one.conmon_pid_file.unlink(missing_ok=True)
    one.pid_file.touch()
    spec = stage.directory / "scenery-process.json"
    spec.write_text("{}")
    arguments = ["-c", CID, "-n", "name", "-r", str(one.runtime), "-p", str(one.pid_file), "-e"]
    arguments += ["-l", str(one.log), "--runtime-arg", "--root=/x", "--log-level", "info"]
    arguments += ["--socket-dir-path", "/nonexistent", "--log-global-size-max", "16777216"]
    return [*arguments, "--exec-process-spec", str(spec), *more]


@life((0,), (42,), (0, "--sync"), (42, "--sync"))
def an_exec_as_cri_o_does_it_exits_with(stage: Stage, how: tuple[Any, ...]) -> None:
    status, *more = how
    stage.life.stub(f"echo out; echo err >&2; exit {status}")
    stage.start(
        raw=exec_sync(stage, *more), sync_kind=socket.SOCK_STREAM, wait=False, cwd=stage.life.bundle
    )


@life((), ("--sync",))
def an_exec_as_cri_o_does_it_fails(stage: Stage, more: tuple[str, ...]) -> None:
    stage.life.script("#!/bin/sh\necho 'no such binary' >&2\nexit 255\n")
    stage.start(
        raw=exec_sync(stage, *more), sync_kind=socket.SOCK_STREAM, wait=False, cwd=stage.life.bundle
    )


@life((), ("--sync",))
def an_exec_as_cri_o_does_it_times_out(stage: Stage, more: tuple[str, ...]) -> None:
    stage.life.stub("echo out; exec setsid tail -f /dev/null")
    stage.start(
        raw=exec_sync(stage, "-T", "1", *more), sync_kind=socket.SOCK_STREAM, wait=False,
        cwd=stage.life.bundle,
    )  # fmt: skip


@life(0, 1, 42, 127, 255)
def an_exec_session_exits_with(stage: Stage, status: int) -> None:
    stage.life.stub(f"echo out; echo err >&2; exit {status}")
    stage.start(exec_session=True)


@life()
def an_exec_session_is_killed(stage: Stage) -> None:
    stage.life.stub("exec sh -c 'kill -KILL $$'")
    stage.start(exec_session=True)


@life()
def a_legacy_exec_with_a_bundle(stage: Stage) -> None:
    stage.life.stub("echo out; exit 42")
    stage.start(exec_session=True, omit=("--api-version",))


@life()
def an_exec_session_reads_its_stdin(stage: Stage) -> None:
    stage.life.stub("cat; exit 4")
    stage.start("-i", exec_session=True)
    client = stage.attach()
    client.send(b"typed")
    client.shutdown(socket.SHUT_WR)


@life()
def an_attached_exec_waits_for_both_starts(stage: Stage) -> None:
    stage.life.stub("echo out; exit 4")
    stage.start("--exec-attach", exec_session=True, attach_pipe=True, start_pipe=True, wait=False)
    one = stage.life
    os.write(one.start_pipe, b"\0")
    assert one.attach_pipe is not None
    one.attach_pipe.settimeout(DEADLINE)
    stage.seen["attach pipe at once"] = one.attach_pipe.recv(100)
    stage.find_monitor()
    stage.attach()
    stage.seen["started before the second start"] = Witness(one).been()
    os.write(one.start_pipe, b"\0")


@life()
def a_start_pipe_holds_the_launcher(stage: Stage) -> None:
    stage.life.stub("echo out; exit 4")
    stage.start(start_pipe=True, wait=False)
    one = stage.life
    assert one.launcher is not None
    stage.seen["pid file before"] = one.conmon_pid_file.exists()
    stage.seen["launcher before"] = one.launcher.poll()
    os.write(one.start_pipe, b"\0")


@life()
def a_start_pipe_is_closed_unwritten(stage: Stage) -> None:
    stage.life.stub("echo out; exit 4")
    stage.start(start_pipe=True, wait=False)
    os.close(stage.life.start_pipe)
    stage.life.start_pipe = -1


@life(0, 7, 255)
def a_create_in_the_foreground_exits_with(stage: Stage, status: int) -> None:
    stage.life.stub(f"echo out; exit {status}")
    stage.start("--sync", wait=False)


@life()
def a_create_in_the_foreground_is_killed(stage: Stage) -> None:
    stage.life.stub("exec sh -c 'kill -TERM $$'")
    stage.start("--sync", wait=False)


@life((), ("--sync",), ("-i",))
def a_create_times_out(stage: Stage, more: tuple[str, ...]) -> None:
    stage.life.stub("echo out; exec setsid tail -f /dev/null")
    stage.start("-T", "1", *more, *stage.exit_command(), wait=False)


@life()
def an_exec_session_times_out(stage: Stage) -> None:
    stage.life.stub("echo out; exec setsid tail -f /dev/null")
    stage.start("--timeout=1", exec_session=True)


@life()
def a_timeout_is_not_reached(stage: Stage) -> None:
    stage.life.stub("echo out; exit 7")
    stage.start("--timeout=60")


@life()
def a_restore(stage: Stage) -> None:
    stage.life.stub("echo out; exit 7")
    stage.start("--restore", "/images", "--restore-arg", "--tcp", "--runtime-opt", "-x")


@life()
def a_restore_fails(stage: Stage) -> None:
    stage.life.script("#!/bin/sh\necho no images >&2\nexit 1\n")
    stage.start("--restore", "/images")


# The files


@life()
def a_life_without_an_exit_directory(stage: Stage) -> None:
    stage.life.stub("exit 7")
    stage.start(omit=("--exit-dir",))


@life()
def a_life_without_a_persist_directory(stage: Stage) -> None:
    stage.life.stub("exit 7")
    stage.start(omit=("--persist-dir",))


@life()
def a_life_with_neither(stage: Stage) -> None:
    stage.life.stub("exit 7")
    stage.start(omit=("--persist-dir", "--exit-dir"))


@life()
def an_old_exit_file_is_replaced(stage: Stage) -> None:
    (stage.life.exit_dir / CID).write_text("12345")
    (stage.life.persist_dir / "exit").write_text("12345")
    stage.life.stub("exit 7")
    stage.start()


@life()
def a_life_without_a_pid_file_option(stage: Stage) -> None:
    stage.life.pid_file = stage.directory / f"pidfile-{CID}"
    stage.life.stub("exit 7")
    stage.start(omit=("-p",))


@life()
def a_life_in_the_cwd_as_bundle(stage: Stage) -> None:
    stage.life.stub("exit 7")
    stage.start(omit=("-b",), cwd=stage.life.bundle)


# The exit command


@life()
def an_exit_command_with_arguments(stage: Stage) -> None:
    words = ("one", "two words", "", "--three", "", "é")
    options = [f"--exit-command-arg={word}" for word in words]
    stage.life.stub("echo out; exit 7")
    stage.start(*stage.exit_command(), *options)


@life()
def an_exit_command_that_fails_in_the_foreground(stage: Stage) -> None:
    stage.life.stub("exit 7")
    stage.start("--sync", *stage.exit_command("exit 3"), wait=False)


@life()
def an_exit_command_that_is_not_there(stage: Stage) -> None:
    stage.life.stub("exit 7")
    stage.start("--sync", "--exit-command", "/nonexistent", wait=False)


@life()
def an_exit_command_after_a_delay(stage: Stage) -> None:
    stage.life.stub("exit 7")
    stage.start("--exit-delay", "1", *stage.exit_command())
    exit_file = stage.life.exit_dir / CID
    wait_until(exit_file.exists, "the exit file")
    Witness(stage.life, "exit-command").wait()
    began = (stage.directory / "seen-exit-command" / "cmdline").stat().st_mtime_ns
    stage.seen["delay"] = 0.9 < (began - exit_file.stat().st_mtime_ns) / 1e9 < 5


@life()
def an_exit_command_that_talks(stage: Stage) -> None:
    stage.life.stub("echo out; exit 7")
    stage.start(*stage.exit_command("echo said; echo err >&2; cat"))


@life()
def an_exit_command_of_an_exec_session(stage: Stage) -> None:
    stage.life.stub("echo out; exit 7")
    stage.start(*stage.exit_command(), exec_session=True, signals=True)


# Signals


LISTENS = """import os, signal, sys
numbers = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR2
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
os.write(1, b"ready\\n")
number = signal.sigwait(numbers)
os.write(1, b"got %d\\n" % number)
os._exit(100 + number)
"""


def listening(stage: Stage) -> int:
    """Start a life whose container tells the first signal; return its pid."""
    path = stage.directory / "scenery-listens.py"
    path.write_text(LISTENS)
    stage.life.stub(f"exec {sys.executable} -IS {path}")
    stage.start()
    stage.logged(b"ready")
    return number_in(stage.life.pid_file)


@life("TERM", "INT", "QUIT")
def the_monitor_passes_on(stage: Stage, name: str) -> None:
    listening(stage)
    stage.signal(getattr(signal, f"SIG{name}"))


@life("PIPE", "USR1", "HUP")
def the_monitor_lives_on_after(stage: Stage, name: str) -> None:
    pid = listening(stage)
    stage.signal(getattr(signal, f"SIG{name}"))
    if select.select([stage.monitor_fd], [], [], 0.3)[0]:
        stage.seen["the monitor died"] = True
    os.kill(pid, signal.SIGTERM)


@life("TERM", "INT")
def the_runtime_gets_while_it_creates(stage: Stage, name: str) -> None:
    path = stage.directory / "scenery-ready"
    stage.life.script(
        f"#!{sys.executable} -IS\nimport os, signal\n"
        "numbers = signal.SIGTERM, signal.SIGINT\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, numbers)\n"
        f"os.mkdir({str(path)!r})\n"
        "number = signal.sigwait(numbers)\nos.write(2, b'got %d' % number)\nos._exit(5)\n"
    )
    stage.start(*stage.exit_command())
    wait_until(path.exists, "the runtime")
    stage.signal(getattr(signal, f"SIG{name}"))


# The environment


@life()
def the_runtime_gets_every_option(stage: Stage) -> None:
    options = ["-s", "--no-pivot", "--no-new-keyring", "--runtime-arg", "--log", "--runtime-arg=x"]
    options += ["--runtime-opt", "--preserve-fds", "--runtime-opt=1", "--runtime-arg", ""]
    stage.life.stub("exit 3")
    stage.start(*options)


@life()
def the_runtime_of_an_exec_gets_every_option(stage: Stage) -> None:
    options = ["-s", "--no-pivot", "--no-new-keyring", "--runtime-arg", "--log", "--runtime-arg=x"]
    options += ["--runtime-opt", "--preserve-fds", "--runtime-opt=1", "--runtime-arg", ""]
    stage.life.stub("exit 3")
    stage.start(*options, exec_session=True)


@life()
def the_runtime_has_a_stdin(stage: Stage) -> None:
    stage.life.stub("exit 3")
    stage.start("-i", signals=True)


@life()
def descriptors_are_preserved_for_the_runtime(stage: Stage) -> None:
    path = stage.directory / "scenery-preserved"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    high = os.dup2(fd, 77)
    os.close(fd)
    stage.life.stub("exit 3")
    try:
        stage.start(*stage.exit_command(), pass_fds=(high,))
    finally:
        os.close(high)


BLOCK = [
    b"PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    b"LC_ALL=C.UTF-8",
    b"TWICE=1",
    b"TWICE=2",
    b"no equals sign",
    b"BAD=\xff\xfe",
    b"=odd",
    b"",
    b"EMPTY=",
    b"NEWLINE=a\nb",
    b"LISTEN_FDS=1",
    b"LISTEN_FDNAMES=x",
]


@life((), ("4711",), ("@PID@",), ("4711", "--replace-listen-pid"))
def an_odd_environment_and_LISTEN_PID(stage: Stage, how: tuple[str, ...]) -> None:  # noqa: N802
    block = [*BLOCK, *(b"LISTEN_PID=" + how[0].encode() for _ in how[:1])]
    block.append(f"TMPDIR={stage.directory}/tmp".encode())
    stage.life.command = odd(block=block, command=stage.life.command)
    stage.life.stub("exit 3")
    stage.start(*how[1:], *stage.exit_command())


@life()
def an_invalid_LISTEN_PID(stage: Stage) -> None:  # noqa: N802
    stage.life.environment |= {"LISTEN_PID": "nonsense", "LISTEN_FDS": "1"}
    stage.life.stub("exit 3")
    stage.start(*stage.exit_command())


@life()
def blocked_and_ignored_signals_are_given_on(stage: Stage) -> None:
    numbers = (signal.SIGUSR2, signal.SIGTERM, signal.SIGHUP)
    stage.life.command = odd(
        block=None, blocked=numbers, ignored=(signal.SIGWINCH, signal.SIGINT),
        command=stage.life.command,
    )  # fmt: skip
    stage.life.stub("exit 3")
    options = stage.exit_command()
    Witness(stage.life, "exit-command").signals_first(Path(options[1]))
    stage.start(*options, signals=True)


# sd-notify


@life()
def notifications_are_filtered_and_passed_on(stage: Stage) -> None:
    wait = stage.gate()
    (stage.life.bundle / "notify").mkdir()
    target = stage.directory / "scenery-notified"
    lines = (
        *(b"READY=1", b"STATUS=well\n", b"READY=1\nFDSTORE=1\nSTATUS=x\n", b"MAINPID=1"),
        *(b"RELOADING=1\rMONOTONIC_USEC=5", b"WATCHDOG=1\nWATCHDOG=trigger\nWATCHDOG=2"),
        *(b"ERRNO=2\n\nBUSERROR=a.b", b"READY=0", b" READY=1", b"STOPPING=1"),
    )
    stage.life.stub(wait)
    got = []
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(str(target))
        receiver.settimeout(DEADLINE)
        stage.start("--sdnotify-socket", str(target))
        stage.message()
        own = stage.life.bundle / "notify" / "notify.sock"
        stage.seen["mode of the notify socket"] = stat.filemode(own.lstat().st_mode)
        sender.connect(str(own))
        for line in lines:
            sender.send(line)
            if got and got[-1].startswith(b"STOPPING"):
                break
        while not got or got[-1] != b"STOPPING=1":
            got.append(receiver.recv(4096).rstrip(b"\n"))
    stage.seen["notified"] = got
    stage.open_gate()


@life()
def the_notify_directory_is_missing(stage: Stage) -> None:
    stage.life.stub("exit 3")
    stage.start("--sdnotify-socket", str(stage.directory / "nobody"), *stage.exit_command())


# Other runtimes


def host_runtime(stage: Stage, script: str, *, terminal: bool = False) -> list[str]:
    """Make hostrun the runtime and a shell script the container; return hostrun's command."""
    installed = os.environ.get("LOWCONMON_HOSTRUN")
    run = installed or f"env PYTHONPATH={ROOT} {sys.executable} -P -m lowconmon.hostrun"
    command = [*run.split(), "--root", str(stage.directory / "hostrun")]
    stage.life.script(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
    (stage.life.bundle / "config.json").write_text(json.dumps(spec(script, terminal=terminal)))
    stage.cleanups.append(lambda: run_quietly([*command, "delete", "--force", CID]))
    return command


def spec(script: str, *, terminal: bool = False) -> dict[str, Any]:
    described = {"args": ["/bin/sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "cwd": "/"}
    return {"ociVersion": "1.0.2", "process": {**described, "terminal": terminal}}


def run_quietly(command: list[str]) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=DEADLINE, check=False
    )


def let_run(stage: Stage, command: list[str]) -> None:
    """Start what was created, once its creation is reported."""
    answer = stage.message()
    assert answer is not None
    assert answer["data"] > 0, answer
    done = run_quietly([*command, "start", CID])
    assert done.returncode == 0, done.stderr


@life(0, 42)
def a_container_of_hostrun_exits_with(stage: Stage, status: int) -> None:
    command = host_runtime(stage, f"echo out; echo err >&2; exit {status}")
    stage.start()
    let_run(stage, command)


@life()
def a_container_of_hostrun_has_a_terminal(stage: Stage) -> None:
    command = host_runtime(stage, "tty | cut -c1-9; read a; echo got $a; exit 4", terminal=True)
    stage.start("-t", "-i")
    client = stage.attach()
    let_run(stage, command)
    stage.logged(b"/dev/pts/")
    client.send(b"typed\n")


@life()
def hostrun_fails(stage: Stage) -> None:
    host_runtime(stage, "exit 0")
    (stage.life.bundle / "config.json").write_text("{}")
    stage.start(*stage.exit_command())


def runc_container(stage: Stage, script: str) -> list[str]:
    """Make runc the runtime and busybox the container; return runc's command."""
    runc, busybox = shutil.which("runc"), shutil.which("busybox")
    assert runc, "runc is missing: install it"
    assert busybox, "busybox is missing: install busybox-static"
    bundle = stage.life.bundle
    root = stage.directory / "scenery-runc"
    command = [runc, "--root", str(root)]
    (bundle / "rootfs" / "bin").mkdir(parents=True)
    shutil.copy(busybox, bundle / "rootfs" / "bin")
    (bundle / "rootfs" / "bin" / "sh").symlink_to("busybox")
    made = subprocess.run([runc, "spec"], cwd=bundle, timeout=DEADLINE, check=False)
    assert made.returncode == 0
    config = json.loads((bundle / "config.json").read_text())
    process = config["process"] | {"terminal": False, "args": ["/bin/sh", "-c", script]}
    process.pop("rlimits")  # raising them needs CAP_SYS_RESOURCE
    linux = config["linux"]
    linux["namespaces"] = [one for one in linux["namespaces"] if one["type"] != "network"]
    linux["cgroupsPath"] = f"/lowconmon-{os.getpid()}-{stage.directory.name}"
    linux.pop("resources", None)
    (bundle / "config.json").write_text(json.dumps(config | {"process": process}))
    stage.life.script(f'#!/bin/sh\nexec {" ".join(command)} "$@"\n')
    stage.cleanups.append(lambda: run_quietly([*command, "delete", "--force", CID]))
    return command


@life(0, 42)
def a_container_of_runc_exits_with(stage: Stage, status: int) -> None:
    command = runc_container(stage, f"echo out; echo err >&2; exit {status}")
    stage.start(*stage.exit_command())
    let_run(stage, command)


@life()
def an_exec_in_a_container_of_runc(stage: Stage) -> None:
    command = runc_container(stage, "tail -f /dev/null")
    bundle = str(stage.life.bundle)
    created = run_quietly([*command, "create", "--bundle", bundle, CID])
    assert created.returncode == 0, created.stderr
    assert run_quietly([*command, "start", CID]).returncode == 0
    process = json.loads((stage.life.bundle / "config.json").read_text())["process"]
    process["args"] = ["/bin/sh", "-c", "echo out; echo err >&2; exit 9"]
    (stage.directory / "process.json").write_text(json.dumps(process))
    stage.start(exec_session=True)


@life()
def an_exec_in_a_container_of_runc_finds_no_program(stage: Stage) -> None:
    command = runc_container(stage, "tail -f /dev/null")
    bundle = str(stage.life.bundle)
    created = run_quietly([*command, "create", "--bundle", bundle, CID])
    assert created.returncode == 0, created.stderr
    assert run_quietly([*command, "start", CID]).returncode == 0
    process = json.loads((stage.life.bundle / "config.json").read_text())["process"]
    (stage.directory / "process.json").write_text(json.dumps(process | {"args": ["/bin/none"]}))
    stage.start(exec_session=True)


# The comparison


def perform(sentence: str, directory: Path, command: list[str]) -> dict[str, Any]:
    """Play a life under one monitor and return what was seen."""
    stage = Stage(directory, command)
    try:
        LIVES[sentence](stage)
        return stage.finish()
    finally:
        stage.end()


def rows_for(sentence: str) -> list[oracle_differences.LifeDifference]:
    return [
        row
        for row in oracle_differences.LIFE_DIFFERENCES
        if any(fnmatch.fnmatchcase(sentence, pattern) for pattern in row.lives)
    ]


def shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONG else f"{text[:LONG]}... ({len(text)} characters)"


@pytest.fixture
def home() -> Iterator[Path]:
    assert os.access(CONMON, os.X_OK), f"the oracle is missing: install Debian's conmon ({CONMON})"
    path = Path(tempfile.mkdtemp(prefix="lives-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


@pytest.mark.parametrize("sentence", LIVES)
def test_both_monitors_leave_the_same(sentence: str, home: Path) -> None:
    oracle = perform(sentence, home / "a", [CONMON])
    ours = perform(sentence, home / "b", program())
    wrong = []
    expected = {row.field: row for row in rows_for(sentence)}
    for field in sorted({*oracle, *ours, *expected}):
        pair = oracle.get(field, ABSENT), ours.get(field, ABSENT)
        row = expected.get(field)
        if row is None and pair[0] != pair[1]:
            wrong.append(f"{field}\n  oracle {shown(pair[0])}\n  ours   {shown(pair[1])}")
        elif row and pair == (ABSENT, ABSENT) and "*" in row.lives:
            continue
        elif row and pair != (row.oracle, row.ours):
            wrong.append(
                f"{field}: the row of {row.lives} does not hold\n"
                f"  oracle {shown(pair[0])}\n  row    {shown(row.oracle)}\n"
                f"  ours   {shown(pair[1])}\n  row    {shown(row.ours)}"
            )
    assert not wrong, f"{sentence}:\n" + "\n".join(wrong)


def test_every_row_is_about_some_life() -> None:
    for row in oracle_differences.LIFE_DIFFERENCES:
        for pattern in row.lives:
            assert fnmatch.filter(LIVES, pattern), row
        assert row.oracle != row.ours, row
    for sentence in LIVES:
        fields = [row.field for row in rows_for(sentence)]
        assert len(fields) == len(set(fields)), (sentence, fields)
