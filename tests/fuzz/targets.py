"""What is fuzzed, each with its corpus, its words, and an oracle that is not the code itself.

A new target is a class here with a line in TARGETS.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import sys
import tempfile
import zlib
from typing import TYPE_CHECKING, ClassVar

from lowconmon import _syscalls
from lowconmon.loop import Loop
from lowconmon.pure import answers, cgroups, log_drivers, notify
from lowconmon.pure.control import MAX_LINE, REOPEN, RESIZE, LineBuffer, parse_control
from lowconmon.pure.journal import MAX_TEXT, Entries, common_fields
from lowconmon.pure.json_records import JsonRecords
from lowconmon.pure.options import CheckError, OptionError, check, parse
from lowconmon.pure.processes import parse_pid, start_time
from lowconmon.pure.records import K8sRecords
from lowconmon.rooms.attach import Attach
from lowconmon.rooms.diagnostics import Diagnostics
from lowconmon.rooms.fifos import ControlFifos
from lowconmon_tools import log_chain
from tests.support import json_log

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW_NS = 1_700_000_000_123_456_789
LONG = (b"x" * 8191, b"y" * 16385)


class Target:
    """Takes inputs, one after the other; `close` ends it."""

    name: ClassVar[str]
    corpus: ClassVar[list[bytes]]
    words: ClassVar[list[bytes]]
    state_limit = 0  # bytes

    def run(self, data: bytes) -> None:
        """Take one input; AssertionError: it was answered wrongly."""
        raise NotImplementedError

    def state_size(self) -> int:
        """Return how many bytes it holds between two inputs."""
        return 0

    def close(self) -> None:
        """Let go of what it holds."""


def pieces(data: bytes) -> Iterator[bytes]:
    """Cut *data* as its own first byte says: 0 is whole, 1 byte by byte if it is not too long."""
    size = max((data[0] if data else 0) or len(data), len(data) // 200, 1)
    for at in range(0, len(data), size):
        yield data[at : at + size]


# Control lines

_NUMBERS = re.compile(rb"[ \t\r\v\f]*([+-]?[0-9]++)" * 3)


def control_messages(data: bytes) -> list[tuple[int, ...] | None]:
    """Return what the contract says about the whole lines of a ctl FIFO's bytes."""
    found: list[tuple[int, ...] | None] = []
    for line in data.split(b"\n")[:-1]:
        match = _NUMBERS.match(line) if len(line) + 1 < MAX_LINE else None
        numbers = tuple(map(int, match.groups())) if match else (0, 0, 0)
        good = numbers[0] in (1, 2) and all(0 <= number <= 1000 for number in numbers[1:])
        found.append(numbers if good else None)
    return found


class Control(Target):
    """The lines of a control FIFO."""

    name = "control"
    corpus: ClassVar = [b"1 24 80\n", b"2 0 0\n", b"1 10 20abc\n2 2 3\n", b"1 " + b"9" * 190]
    words: ClassVar = [b"\n", b" ", b"\t", b"+", b"-", b"0", b"1001", b"1000", b"\0", b"1 2 3\n"]
    state_limit = sys.getsizeof(b"") + MAX_LINE

    def __init__(self) -> None:
        self.buffer = LineBuffer()

    def run(self, data: bytes) -> None:
        data += b"\n"
        lines = [line for piece in pieces(data) for line in self.buffer.feed(piece)]
        found = [None if line is None else parse_control(line) for line in lines]
        assert found == control_messages(data), (found, control_messages(data))

    def state_size(self) -> int:
        return sys.getsizeof(self.buffer._open)


class Quiet(Diagnostics):
    """Says nothing, and counts."""

    __slots__ = ("warnings",)

    def __init__(self) -> None:
        super().__init__()
        self.on_stderr, self.warnings = False, 0

    def warn(self, text: str, error: OSError | None = None) -> None:  # noqa: ARG002
        self.warnings += 1


class Room(Target):
    """A room with a loop and a directory of its own; what its handlers raise comes out of `run`."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="fuzz-").encode()
        self.directory_fd = os.open(self.directory, os.O_PATH | os.O_DIRECTORY)
        self.loop, self.quiet = Loop(), Quiet()

    def turn(self, times: int = 1) -> None:
        """Let the loop handle what has come."""
        for _ in range(times):
            self.loop.call_later(0, lambda: self.loop.call_later(0, self.loop.stop))
            self.loop.run()

    def close(self) -> None:
        self.loop.close()
        os.close(self.directory_fd)
        shutil.rmtree(self.directory)


class ControlRoom(Room):
    """The room that reads the control FIFOs."""

    name = "control-room"
    corpus, words = Control.corpus, Control.words

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[int, ...]] = []
        self.room = ControlFifos(
            self.loop,
            self.quiet,
            lambda rows, columns: self.calls.append((RESIZE, rows, columns)),
            lambda: self.calls.append((REOPEN,)),
        )
        self.room.open(b"ctl", self.directory_fd, b"")
        self.fd = os.open(self.directory + b"/ctl", os.O_WRONLY | os.O_NONBLOCK)

    def run(self, data: bytes) -> None:
        data = data[:8192] + b"\n"
        self.calls, self.quiet.warnings = [], 0
        for at in range(0, len(data), 4096):
            os.write(self.fd, data[at : at + 4096])
        self.turn(len(data) // 4096 + 1)
        wanted = control_messages(data)
        good = [message if message[0] == RESIZE else (REOPEN,) for message in wanted if message]
        assert self.calls == good, (self.calls, good)
        assert self.quiet.warnings == wanted.count(None)

    def close(self) -> None:
        os.close(self.fd)
        self.room.close()
        super().close()


# Attach clients


class AttachRoom(Room):
    """Clients that come, send, half-close, read and go, in any order; two bytes an act."""

    name = "attach"
    corpus: ClassVar = [
        b"\0\0\1\5\2\0\3\0\4\0",
        b"\0\0\0\0\5\xff\3\0\3\1\1\x20\4\0\4\1",
        b"\0\0\1\1\4\0\0\0\1\1\2\0",
        b"\0\0\5\1\6\0\5\1\2\0\3\0",
    ]
    words: ClassVar = [bytes((act, which)) for act in range(8) for which in (0, 1, 2, 255)]

    def run(self, data: bytes) -> None:
        wrong: list[Exception] = []
        self.loop.on_error = lambda _, error: wrong.append(error)
        attach = Attach(self.loop, self.quiet, lambda: None)
        attach.listen(self.directory_fd, self.directory, b"", 0)
        stdin, ours = _syscalls.pipe2(os.O_NONBLOCK)
        attach.stdin.open(ours, terminal=False)
        attach.ends_stdin = bool(data[:1] > b"\x80")
        clients: list[socket.socket] = []
        sent, got, delivered, before = b"", b"", 0, self.quiet.warnings
        acts = memoryview(data[:200])
        for at in range(0, len(acts) - 1, 2):
            act, which = acts[at] % 8, acts[at + 1]
            client = clients[which % len(clients)] if clients else None
            with contextlib.suppress(OSError):  # of clients that have gone
                if act == 0 and len(clients) < 100:
                    clients.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
                    clients[-1].setblocking(False)
                    clients[-1].connect(self.directory + b"/attach")
                elif client and act == 1:
                    sent += b"i" * client.send(b"i" * which * 300)
                elif client and act == 2:
                    client.shutdown(socket.SHUT_WR)
                elif client and act == 3:
                    client.close()
                elif client and act == 4:
                    for _ in range(which):
                        packet = client.recv(8193)
                        assert packet[:1] in (b"\2", b"\3", b""), packet[:10]
                elif act == 5 and not attach.full():
                    attach.deliver(b"\2\3"[which & 1 :][:1], b"o" * (which + 1) * 500)
                    delivered += 1
                elif act == 6:
                    got += os.read(stdin, 65536)
            if act in (7, 5):
                self.turn()
        ended: list[bool] = []
        for client in clients:
            client.close()
        self.turn(3)
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(stdin, 65536):
                got += piece
                self.turn()
        attach.unlink()
        attach.flush(lambda: ended.append(True))
        attach.detach()
        os.close(stdin)
        for timer in self.loop._timers:  # of the flush: nobody is left
            timer.cancel()
        assert not wrong, repr(wrong[0])
        assert ended, "a client is left"
        assert len(got) <= len(sent), "more arrived than was sent"
        assert not set(self.loop._watches), "a watch is left"
        assert self.quiet.warnings - before <= len(clients)

    def state_size(self) -> int:
        return len(os.listdir("/proc/self/fd")) - self.fds

    def __init__(self) -> None:
        super().__init__()
        self.fds = len(os.listdir("/proc/self/fd"))


# Texts


class CommandLine(Target):
    """Options, NUL between them; checked, and the log drivers planned."""

    name = "options"
    corpus: ClassVar = [
        b"--api-version\0" + b"1\0-c\0id\0-u\0id\0-r\0/r\0-l\0k8s-file:/log\0-b\0/b\0-t",
        b"-e\0--exec-process-spec\0/s\0-c\0id\0-r\0/r\0-l\0none\0--exec-attach\0-T\0" + b"0x10",
        b"-c\0" + b"0" * 64 + b"\0-u\0x\0-r\0/r\0-l\0journald\0--log-label\0A=b\0--log-tag\0t",
        b"--log-size-max=100\0--log-rotate\0--log-max-files\0" + b"3",
    ]
    words: ClassVar = [
        *(b"\0", b"--", b"-", b"=", b"\0--help\0", b"--timeout", b"9" * 5000, b"-0x80000000"),
        *(b"\xff", b":", b"k8s-file:", b"json-file::", b"invalid:/x", b"--exit-delay\0-1", b"-it"),
        *(b"--log-path", b"--version", b"\0--log-level\0INFO\0", b"--restore\0"),
    ]

    def run(self, data: bytes) -> None:
        arguments = data.split(b"\0")
        try:
            options = parse(arguments)
        except OptionError as error:
            assert b"option" in error.text or b"alue" in error.text or b"Missing" in error.text
            return
        assert isinstance(options.timeout, int)
        assert -(2**31) <= options.timeout < 2**31
        assert -(2**63) <= options.log_size_max < 2**63
        flags = [name for name, value in vars(options).items() if value is True]
        assert options.help or len(flags) <= sum(map(len, arguments))
        try:
            check(options, self.access, lambda: b"/cwd")
            plan = log_drivers.plan(
                options.log_path,
                cid=options.cid or b"",
                log_tag=options.log_tag,
                log_label=options.log_label,
                open_file=lambda _: None,
            )
        except CheckError as error:
            assert error.text
            return
        assert options.log_path
        assert plan.path or plan.journald or plan.passthrough or plan.off
        assert options.exit_delay >= 0

    @staticmethod
    def access(path: bytes) -> None:
        if path != b"/r":
            raise FileNotFoundError(2, "No such file or directory")


class PidFile(Target):
    """What a runtime, or anybody, leaves in a pid file, and what /proc tells."""

    name = "pid-file"
    corpus: ClassVar = [b"1234\n", b"2147483647", b" 77 ", b"12 (a) b) S 1 " + b"2 " * 17 + b"99 0"]
    words: ClassVar = [b"0", b"9", b"-", b"\n", b"\0", b"\xb2", b")", b" ", b"9" * 5000]

    def run(self, data: bytes) -> None:
        pid = parse_pid(data)
        good = re.fullmatch(rb"[ \t\n\r\v\f]*([0-9]{1,10})[ \t\n\r\v\f]*", data)
        number = int(good[1]) if good else 0
        assert pid == (number if 0 < number < 2**31 else None)
        fields = data.rpartition(b")")[2].split()
        if len(fields) > 19 and len(fields[19]) > 20:
            return  # the kernel writes no such number
        ticks = start_time(data)
        assert ticks == (
            int(fields[19]) if re.match(rb"[0-9]+\Z", b" ".join(fields[19:20])) else None
        )


class Cgroups(Target):
    """/proc/PID/cgroup and the files that count OOMs."""

    name = "cgroups"
    corpus: ClassVar = [
        b"0::/user.slice/a\n",
        b"12:memory:/docker/x\n4:cpu,cpuacct:/y\n1:name=systemd:/\n0::/\n",
        b"low 0\nhigh 0\nmax 1\noom 1\noom_kill 1\noom_group_kill 0\n",
        b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
    ]
    words: ClassVar = [
        b"..",
        b"/",
        b":",
        b"\n",
        b"memory",
        b"oom ",
        b"oom_kill 00\n",
        b",",
        b"\xff",
    ]

    def run(self, data: bytes) -> None:
        paths = cgroups.event_files(data)
        assert 1 <= len(paths) <= 2
        for path in paths:
            assert path.startswith(b"/")
            assert b".." not in path.split(b"/"), path
            assert path.endswith((b"/memory.events", b"/memory.oom_control"))
            assert b"\n" not in path
        lines = data.split(b"\n")
        for line in cgroups.ooms(data):
            assert line in lines
            assert line.split(b" ")[1].strip(b"0")


class Notify(Target):
    """Datagrams of sd_notify(3) that a container sends."""

    name = "notify"
    corpus: ClassVar = [b"READY=1\nSTATUS=up\n", b"MAINPID=1\nERRNO=2\r\nFDSTORE=1", b"WATCHDOG=1"]
    words: ClassVar = [b"\n", b"\r", b"\0", b"READY=1", b"STATUS=", b"BUSERROR=", b"\xff", b"="]
    allowed = re.compile(
        rb"(READY|RELOADING|STOPPING|WATCHDOG)=1|WATCHDOG=trigger"
        rb"|(STATUS|ERRNO|BUSERROR|MONOTONIC_USEC|EXTEND_TIMEOUT_USEC)=[^\0\r\n]*"
    )

    def run(self, data: bytes) -> None:
        passed = notify.passed_on(data)
        assert passed is None or (passed and len(passed) <= len(data))
        for line in passed.split(b"\n") if passed else ():
            assert self.allowed.fullmatch(line), line
            assert line in data
        assert notify.passed_on(passed or b"") == passed, "what passed does not pass again"


class Message(Target):
    """What a runtime said, in the answer about a failed start."""

    name = "message"
    corpus: ClassVar = [b'container_linux.go: "exec"\n', b"\xc3\xa4" * 3000, b"\\" * 4096]
    words: ClassVar = [b'"', b"\\", b"\0", b"\n", b"\xff", b"\xe2\x82", b"\x7f", b"</", *LONG]

    def run(self, data: bytes) -> None:
        line = answers.message("data", -1, data)
        assert len(line) <= answers.MAX_MESSAGE
        assert line.count(b"\n") == 1
        value = json.loads(line)
        assert value["data"] == -1
        text = data.rstrip(b"\0").decode("utf-8", "replace")
        assert text.endswith(value.get("message", "")[8:]) or not text


# Logs

OUTPUT = [
    b"\0one\ntwo\nthree",
    b"\1a\n\n\nb",
    b"\x40" + b"x" * 8192 + b"\n" + b"y" * 8193,
    b"\x60" + "äöü€𝄞".encode() * 50 + b"\n",
    b"\0<3>error\n<9>x\n<0>" + b"z" * 9000,
    b'\0{"log":"x","stream":"stdout","time":"Z"}\n',
]
OUTPUT_WORDS = [
    *(
        b"\n",
        b"\r\n",
        b"\0",
        b"\xff",
        b"\xe2\x82",
        b"\xf0\x9d",
        b'"',
        b"\\",
        b"<7>",
        b"\xe2\x80\xa8",
    ),
    *(b"2026-11-23T14:30:00.776455356+00:00 stdout F x\n", b" ", *LONG),
]


class K8s(Target):
    """What a container writes, as k8s-file records; and the log cut off anywhere."""

    name = "k8s-file"
    corpus, words = OUTPUT, OUTPUT_WORDS
    record = re.compile(rb"\d{4}-\d\d-\d\dT[\d:]{8}\.\d{9}\+00:00 stdout ([FP]) ([^\n]*)\n")

    def run(self, data: bytes) -> None:
        records, log = K8sRecords(), b""
        for piece in pieces(data):
            log += records.format(b"stdout", NOW_NS, 0, piece)
        log += records.finish(NOW_NS)
        assert self.text(log) == data
        at = zlib.crc32(data) % (len(log) + 1)
        cut, added = records.mend_tail(log[:at][-(1 << 17) :])
        mended = log[: at - cut] + added
        assert log.startswith(mended) or data.startswith(self.text(mended).removesuffix(b"\n"))
        assert records.mend_tail(mended[-(1 << 17) :]) == (0, b"")
        cut, added = records.mend_tail(data)  # anyone's file
        assert 0 <= cut <= len(data)
        assert added in (b"", b"\n")

    def text(self, log: bytes) -> bytes:
        found, end = [], 0
        for match in self.record.finditer(log):
            assert match.start() == end, log[end:][:80]
            assert len(match[2]) <= 8192
            end = match.end()
            found.append(match[2] + (b"\n" if match[1] == b"F" else b""))
        assert end == len(log), log[end:][:80]
        return b"".join(found)


class JsonFile(Target):
    """What a container writes, as json-file records; and the log cut off anywhere."""

    name = "json-file"
    corpus, words = OUTPUT, OUTPUT_WORDS
    state_limit = 3

    def __init__(self) -> None:
        self.held = 0

    def run(self, data: bytes) -> None:
        records, log = JsonRecords(), b""
        for piece in pieces(data):
            log += records.format(b"stdout", NOW_NS, 0, piece)
            self.held = sum(map(len, records._held.values()))
        log += records.finish(NOW_NS)
        assert json_log.texts(log)[0] == data.decode("utf-8", "replace").encode()
        at = zlib.crc32(data) % (len(log) + 1)
        cut, added = records.mend_tail(log[:at])
        mended = log[: at - cut] + (
            added if at - cut and log[at - cut - 1 : at - cut] != b"\n" else b""
        )
        assert log.startswith(mended)
        json_log.records(mended)

    def state_size(self) -> int:
        return self.held


class Journal(Target):
    """What a container writes, as datagrams for journald."""

    name = "journal"
    corpus, words = OUTPUT, OUTPUT_WORDS
    state_limit = 2 * MAX_TEXT

    def __init__(self) -> None:
        self.fields = common_fields(b"0123456789abcdef", b"name", None, [b"A=x"])
        self.held = 0

    @staticmethod
    def taken(entries: Entries) -> Iterator[bytes]:
        """Take all datagrams out."""
        while (batch := entries.take())[1]:
            head, lines, skip = batch
            yield from (head + line[skip:] + b"\n" for line in lines.split(b"\n")[:-1])

    def run(self, data: bytes) -> None:
        entries = Entries(self.fields, mark_partial=True, prefix_is_priority=False)
        datagrams: list[bytes] = []
        for piece in pieces(data):
            entries.add(b"stdout", piece)
            self.held = sum(len(text) for _, text in entries._held.values())
            datagrams += self.taken(entries)
        entries.finish()
        datagrams += self.taken(entries)
        assert entries.size == 0
        assert entries.lost == 0
        text, begins = b"", True
        for datagram in datagrams:
            fields = self.parsed(datagram)
            assert fields[b"PRIORITY"] == b"6"
            assert len(fields[b"MESSAGE"]) <= MAX_TEXT
            prefix = fields.get(b"SYSLOG_PRIORITY_PREFIX")
            text += b"<%b>" % prefix if prefix and begins else b""
            begins = b"CONTAINER_PARTIAL_MESSAGE" not in fields
            text += fields[b"MESSAGE"] + (b"\n" if begins else b"")
        assert text == data, (text[:200], data[:200])

    @staticmethod
    def parsed(datagram: bytes) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        at = 0
        while at < len(datagram):
            end = datagram.index(b"\n", at)
            name, equals, value = datagram[at:end].partition(b"=")
            at = end + 1
            if not equals:
                size = int.from_bytes(datagram[at : at + 8], "little")
                value, at = datagram[at + 8 : at + 8 + size], at + 9 + size
            assert re.fullmatch(rb"[A-Z0-9_]+", name), name
            assert name not in found
            found[name] = value
        assert at == len(datagram)
        return found

    def state_size(self) -> int:
        return self.held


class Reader(Target):
    """Anyone's file, read as a log."""

    name = "reader"
    corpus: ClassVar = [
        b"2026-11-23T14:30:00.776455356+00:00 stdout F one\n" * 3,
        b'{"log":"x\\n","stream":"stderr","time":"2026-11-23T14:30:00.776455356Z"}\n',
        b"no record\n2026-11-23T14:30:00.776455356+00:00 stderr P two\n\n",
    ]
    words: ClassVar = [
        *(
            b"\n",
            b" ",
            b"{",
            b"}",
            b'"',
            b"\\u0000",
            b"\\ud800",
            b"[" * 2000,
            b"null",
            b"\xff",
            b"\0",
        ),
        *(b'"log":', b'"time":1', b" stdout F ", b"2026-11-23T14:30:00+01:00", b"\r", b"1e999"),
    ]

    def run(self, data: bytes) -> None:
        end = data.rfind(b"\n") + 1
        whole, rest = data[:end], data[end:]
        found = log_chain.records(whole)
        lines = whole.split(b"\n")[:-1]
        assert len(found) == len(lines)
        for line, (stamp, stream, tag, text) in zip(lines, found, strict=True):
            assert tag in (b"F", b"P")
            assert text.endswith(b"\n")
            assert stream in ((b"stdout", b"stderr") if stamp else (b"",))
            if not stamp:
                assert text == line + b"\n"
            elif line[:1] != b"{":
                assert b"%b %b %b %b" % (stamp, stream, tag, text) == line + b"\n"
        for last in (True, False):
            torn = log_chain._mended(rest, last=last)
            assert torn == b"" or len(log_chain.records(torn)) == 1


TARGETS: list[type[Target]] = [
    *(Control, ControlRoom, AttachRoom, CommandLine, PidFile, Cgroups, Notify, Message),
    *(K8s, JsonFile, Journal, Reader),
]
