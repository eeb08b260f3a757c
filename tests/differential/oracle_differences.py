"""Where Debian's conmon 2.1.6, the oracle, and lowconmon differ on purpose.

Every difference that a differential test looks past is a row here. A row with *arguments* is an
example: test_command_lines.py runs it and finds exactly these two answers.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Difference(NamedTuple):
    """One row; if there are *arguments*, *oracle* and *ours* are what is said, word for word."""

    what: str
    oracle: bytes
    ours: bytes
    why: str
    arguments: tuple[bytes, ...] | None = None
    locale: str = "C.UTF-8"


OPTIONS_THAT_THE_ORACLE_LACKS = (
    (b"--log-rotate", b""),
    (b"--log-max-files", b"3"),
    (b"--log-allowlist-dir", b"/var/log"),
    (b"--log-label", b"A=b"),
    (b"--no-container-partial-message", b""),
)

_PARSING = b"conmon: option parsing failed: "
_NO_CID = b"conmon: Container ID not provided. Use --cid\n"
_READY = (b"-c", b"x", b"-u", b"u", b"-r", b"/bin/true")

DIFFERENCES = (
    Difference(
        "the prefix of an error without arguments",
        b"[conmon:e] Container UUID not provided. Use --cuuid\n",
        b"[conmon:e]: Container UUID not provided. Use --cuuid\n",
        "2.2.1 has the colon in both forms (CONTRACT, authority paragraph)",
        (b"-c", b"x"),
    ),
    *(
        Difference(
            f"the option {option.decode()}",
            _PARSING + b"Unknown option " + option + b"=" + value + b"\n",
            _NO_CID,
            "newer than 2.1.6",
            (option + b"=" + value,),
        )
        for option, value in OPTIONS_THAT_THE_ORACLE_LACKS
    ),
    Difference(
        "a string that is not valid UTF-8",
        _PARSING + b"Invalid byte sequence in conversion input\n",
        _NO_CID,
        "ours: arguments are bytes (CONTRACT, section 1)",
        (b"-b", b"/\xff"),
    ),
    Difference(
        "a string that is not ASCII, in the C locale",
        _PARSING + b"Invalid byte sequence in conversion input\n",
        _NO_CID,
        "ours: arguments are bytes, and no locale is looked at",
        (b"-n", b"\xc3\xa9"),
        "C",
    ),
    Difference(
        "quotation marks in the C locale",
        _PARSING + b"Cannot parse integer value ?x? for -T\n",
        _PARSING + b"Cannot parse integer value \xe2\x80\x9cx\xe2\x80\x9d for -T\n",
        "CONTRACT names the marks, and no locale is looked at",
        (b"-T", b"x"),
        "C",
    ),
    Difference(
        "a log path with a slash before its first colon",
        b"[conmon:e]: No such log driver /a\n",
        b"[conmon:e]: No such log driver bad\n",
        "ours: such a spec is a path (CONTRACT, section 6)",
        (*_READY, b"-l", b"/a:b", b"-l", b"bad:"),
    ),
    Difference(
        "a log path with a colon after a leading colon",
        b"[conmon:e]: No such log driver a\n",
        b"[conmon:e]: No such log driver bad\n",
        "ours: such a spec is a path (CONTRACT, section 6)",
        (*_READY, b"-l", b":a:b", b"-l", b"bad:"),
    ),
    Difference(
        "a log path with a colon after k8s-file: (2.1.6 opens /dev, ours opens /dev:/x)",
        b"[conmon:e]: Failed to open log file Is a directory\n",
        b"[conmon:e]: Failed to open log file No such file or directory\n",
        "ours: such a spec is a path (CONTRACT, section 6)",
        (*_READY, b"-l", b"k8s-file:/dev:/x"),
    ),
    Difference(
        "the stream that parse errors go to",
        b"stdout, re-encoded for the locale",
        b"stderr",
        "CONTRACT, section 1: on stderr",
    ),
    Difference(
        "a working directory that was deleted",
        b"[conmon:e] Failed to get working directory\n",
        b"[conmon:e]: Failed to get working directory No such file or directory\n",
        "CONTRACT, section 1: where a system call failed, its error text follows",
    ),
    Difference("help", b"", b"", "our own descriptions, and the names of the values"),
    Difference(
        "the driver json-file",
        b"[conmon:e]: No such log driver json-file\n",
        b"[conmon:e]: json-file requires a filename\n",
        "JSON-1, ours: an own driver",
        (*_READY, b"-l", b"json-file:"),
    ),
    Difference("the mode of a log file", b"0600", b"0640", "CONTRACT, section 6"),
    Difference(
        "more than one log file", b"says nothing", b"a warning", "ours: CONTRACT, section 6"
    ),
)


def in_our_words(stdout: bytes, stderr: bytes) -> tuple[bytes, bytes]:
    """Return stdout and stderr of 2.2.1 where the oracle printed these."""
    if stdout.startswith(_PARSING):
        stdout, stderr = b"", stdout + stderr
    colonless = b"[conmon:e] "
    if stderr.startswith(colonless):
        stderr = b"[conmon:e]: " + stderr.removeprefix(colonless)
    return stdout, stderr


def brief(text: bytes) -> bytes:
    """Return a text, a long one with its length in the place of most of it."""
    return text if len(text) <= LONG else b"%b... (%d bytes)" % (text[:10], len(text))


def entry_in_our_words(entry: dict[bytes, bytes], *, partial: bool) -> dict[bytes, bytes]:
    """Return an entry of the journal as ours where the oracle sent this.

    The rows of the life "the journal gets entries" say why, and that it is so: it does without this.
    """
    entry = {name: value for name, value in entry.items() if not name.startswith(b"CODE_")}
    if not partial:
        entry[b"MESSAGE"] = entry[b"MESSAGE"].removesuffix(b"\n")
    return entry


# Lives: test_lives.py plays them under both and finds exactly these values.

LONG = 120  # bytes of a record or message that are compared as they are
ABSENT = "absent"  # in the place of a field that was not seen at all
ANY = "any value"


class LifeDifference(NamedTuple):
    """One row: in each life that a pattern of *lives* names, the field differs exactly so.

    *field* may be a pattern: then all that match differ so. In the lives that a pattern of *but*
    names, the row does not hold. A field that is not seen in a life is passed over if "*" is among
    the patterns.
    """

    lives: tuple[str, ...]
    field: str
    oracle: Any
    ours: Any
    why: str
    but: tuple[str, ...] = ()


def _exit_files(
    lives: tuple[str, ...], oracle: bytes | str, ours: bytes | str, why: str
) -> list[LifeDifference]:
    """Return the rows of two exit files of which one monitor makes none."""
    modes = [value if value == ABSENT else "-rw-r--r--" for value in (oracle, ours)]
    return [
        LifeDifference(lives, f"{what} of {name}", theirs, own, why)
        for name in ("exits/*", "persist/exit")
        for what, theirs, own in (("content", oracle, ours), ("mode", *modes))
    ]


def _log(
    lives: tuple[str, ...], name: str, oracle: list[bytes], ours: list[bytes], why: str
) -> list[LifeDifference]:
    """Return the rows of a log, in a life whose records are compared: the lines of stdout."""
    records = [[b"stdout F " + brief(line) for line in lines] for lines in (oracle, ours)]
    texts = [b"".join(line + b"\n" for line in lines) for lines in (oracle, ours)]
    return [
        LifeDifference(lives, f"{name}: records", records[0], records[1], why),
        LifeDifference(lives, f"{name}: stdout", texts[0], texts[1], why),
    ]


def _sent(*lengths: int) -> list[tuple[str, bytes, bytes]]:
    """Return messages on stdout of so many x; a negative length is that of a partial message."""
    return [
        ("stdout", brief(b"x" * abs(length)), b"true" if length < 0 else b"") for length in lengths
    ]


_RUNC_FAILS = (
    b'{"data": -1, "message": "TIME level=error msg=\\"exec failed: unable to start container '
    b'process: exec: \\\\\\"/bin/none\\\\\\": stat /bin/none: no such file or directory\\"\\n"}\n'
)
_NO_PID = b'"message": "Failed to read pidfile: it holds no pid of this start"}\n'
_LINES = "NOT-4: 2.1.6 looks for READY=1 and WATCHDOG=1 alone, anywhere in a datagram"
_ANSWER = "SYNC-11, ours: a failed start gets an answer"
_FAILED = (
    *("a runtime fails*", "a runtime cannot be executed", "a runtime has no interpreter"),
    *("a terminal is not handed over", "a terminal fails with words"),
    *("an exec session with a terminal fails", "hostrun fails"),
    *("an exec in a container of runc /bin/none", "an invalid LISTEN PID"),
    "a start fails beside the journal",
    "the runtime gets while it creates *",
    "a restore fails*",
)
_SEEM_TO_START = (  # to the oracle
    "a runtime fails with an empty pid file",
    "a runtime fails with garbage in its pid file",
    "a runtime fails in an exec with an empty pid file",
    "a runtime fails in an exec with garbage in its pid file",
)
_LATE = (
    "a runtime fails in an exec after its pid file",
    "a runtime fails in a legacy exec after its pid file",
)
_HUP = ("the monitor lives on after HUP",)
_NO_MONITOR_PID_FILE = ("the monitors pid file cannot be written",)
_BAD_PIPES = ("the attach pipe is missing", "the sync pipe is not there *")
_EXEC = ["@/runtime", "exec", "--pid-file", "@/pidfile", "--process", "@/process.json", "--detach"]
_CONSOLE = ["--console-socket", "SOCKET", "0123456789abcdef"]
_A, _B, _C, _D, _O = (letter * 54 for letter in (b"a", b"b", b"c", b"d", b"o"))
_COUNTED = "ROT-2: 2.1.6 counts only what it has written itself"
_KEPT = "REOPEN-4, ours: the file is kept, nothing is lost"
_RESTARTED = "ROT-4: the size is the file's; 2.1.6 counts on from that of the old one"
_CUT = (
    "JRN-9: a message is of 8192 bytes, newline or not; 2.1.6 counts the newline, and cuts by reads"
)
_IDENTITY = (b"CONTAINER_ID", b"0123456789ab"), (b"CONTAINER_ID_FULL", b"0123456789abcdef")
_IDENTIFIER = (b"SYSLOG_IDENTIFIER", b"0123456789ab")
_PLAIN_ENTRY = (*_IDENTITY, (b"PRIORITY", b"6"), _IDENTIFIER)
_PLAIN_ERROR = (*_IDENTITY, (b"PRIORITY", b"3"), _IDENTIFIER)
_NAMES = [
    *(b"CONTAINER_ID", b"CONTAINER_ID_FULL", b"CONTAINER_PARTIAL_MESSAGE", b"MESSAGE"),
    *(b"PRIORITY", b"SYSLOG_IDENTIFIER"),
]
_PREFIX = "JRN-11, ours: the prefix is a field; 2.1.6 leaves it in the line"
_TTY_REFUSED = ("a terminal is passed through as *",)
_NO_TTY = b"cannot use a tty with passthrough logging mode to prevent attacks via TIOCSTI"
_TTY = "PASS-5: to pass a terminal on is the manager's decision"
_LINKED = (
    "the attach socket is reached by a link",
    "an old link is in the way of the new one",
    "a create as cri o does it",
)

# The first row whose field matches counts.
LIFE_DIFFERENCES: tuple[LifeDifference, ...] = (
    # What answers a failed start gets
    *(
        LifeDifference(lives, "sync pipe", [], [b'{"' + key + b'": -1' + text], _ANSWER)
        for lives, key, text in (
            (
                tuple(
                    f"a runtime fails {where}{how}"
                    for where in ("", "in an exec ")
                    for how in ("with words on stdout", "without words", "with 127")
                ),
                b"data",
                b"}\n",
            ),
            (("a runtime fails in a legacy exec without words",), b"exit_code", b"}\n"),
            (
                tuple(
                    f"a start fails beside passthrough {how}"
                    for how in ("with words", "in an exec")
                ),
                b"data",
                b"}\n",
            ),
            (("a start fails beside passthrough in a legacy exec",), b"exit_code", b"}\n"),
            (("a runtime fails in a legacy create without words",), b"pid", b"}\n"),
            (
                (
                    "a runtime fails without a pid file",
                    "a start fails beside passthrough without a pid file",
                    "a runtime fails in an exec without a pid file",
                    "a runtime fails in the foreground without a pid file",
                ),
                b"data",
                b", " + _NO_PID,
            ),
            (
                ("a runtime fails in a legacy exec without a pid file",),
                b"exit_code",
                b", " + _NO_PID,
            ),
            (
                ("a runtime fails in a legacy create without a pid file",),
                b"pid",
                b", " + _NO_PID,
            ),
            (
                ("a runtime fails* without a pid file but with words",),
                b"data",
                b', "message": "hm\\n"}\n',
            ),
            (
                ("a terminal is not handed over",),
                b"data",
                b', "message": "Runtime did not set up terminal"}\n',
            ),
            (
                ("a runtime cannot be executed",),
                b"data",
                b', "message": "Failed to execute runtime: Exec format error"}\n',
            ),
            (
                ("a runtime has no interpreter",),
                b"data",
                b', "message": "Failed to execute runtime: No such file or directory"}\n',
            ),
            (
                ("the bundle is missing",),
                b"data",
                b', "message": "Failed to open bundle: No such file or directory"}\n',
            ),
        )
    ),
    *(
        LifeDifference(
            (life,),
            "sync pipe",
            [b'{"data": 0}\n', b'{"data": -1}\n'][: 1 + ("exec" in life)],
            [b'{"data": -1, ' + _NO_PID],
            "RT-23: 2.1.6 takes such a file for one of pid 0",
        )
        for life in _SEEM_TO_START
    ),
    *_exit_files(_SEEM_TO_START, b"-1", ABSENT, "RT-23, START-17: nothing was started"),
    LifeDifference(
        _LATE[:1],
        "sync pipe",
        [b'{"data": -1, "message": "late\\n"}\n'],
        [b'{"data": PID}\n', b'{"data": 0}\n'],
        "RT-22: it counts as started",
    ),
    LifeDifference(
        _LATE[1:],
        "sync pipe",
        [b'{"exit_code": -1, "message": "late\\n"}\n'],
        [b'{"exit_code": 0}\n'],
        "RT-22: it counts as started",
    ),
    LifeDifference(_LATE, "ctr.log: stderr", b"", b"late\n", "RT-22, RT-25"),
    *_exit_files(_LATE, ABSENT, b"0", "RT-22: it counts as started"),
    LifeDifference(
        ("a runtime fails* with quotes and controls",),
        "sync pipe",
        [b'{"data": -1, "message": "say \\"no\\\\\\"\\t\\u0001\\u007f/\\n\\u000d"}\n'],
        [b'{"data": -1, "message": "say \\"no\\\\\\"\\t\\u0001\\u007f\\/\\n\\r"}\n'],
        "SYNC-13: 2.1.6 writes / as it is, and \\r as \\u000d",
    ),
    LifeDifference(
        ("an exec in a container of runc /bin/none",),
        "sync pipe",
        [_RUNC_FAILS],
        [_RUNC_FAILS.replace(b"/", b"\\/")],
        "SYNC-13: 2.1.6 writes / as it is",
    ),
    *(
        LifeDifference(
            (f"an exec session {how}",),
            "runtime: arguments",
            [*_EXEC, "--tty", *_CONSOLE],
            [*_EXEC, *_CONSOLE],
            "RT-3: a process file tells itself whether there is a terminal",
        )
        for how in ("has a terminal", "with a terminal fails")
    ),
    LifeDifference(
        ("an invalid LISTEN PID",),
        "sync pipe",
        [b'{"data": -1, "message": "[conmon:e]: Invalid LISTEN_PID nonsense Success\\n"}\n'],
        [b'{"data": -1, "message": "Failed to create container: Invalid LISTEN_PID nonsense"}\n'],
        "RT-16: found before the fork, not in the child, whose stderr 2.1.6 reports",
    ),
    LifeDifference(
        _FAILED,
        "mode of bundle/attach",
        "srwx------",
        ABSENT,
        "ATT-5: ours leaves no socket behind when a start fails either",
        _SEEM_TO_START,
    ),
    LifeDifference(
        (
            "a terminal is not handed over",
            "a terminal fails with words",
            "an exec session with a terminal fails",
            "a restore fails with a terminal",
        ),
        "left in TMPDIR",
        [b"conmon-term.*"],
        [],
        "TTY-5, ours: the console socket is removed on every way out",
    ),
    # The sd-notify relay
    LifeDifference(
        (
            *(
                "a container notifies *",
                "an exec session notifies",
                "the notify socket has its mode",
            ),
            *("the runtime of a container that notifies", "nobody is there to be notified"),
            "a notify socket takes the place of *",
        ),
        "mode of bundle/notify/notify.sock",
        "srwxrwxrwx",
        ABSENT,
        "NOT-8, ours: the socket is removed",
    ),
    *(
        LifeDifference((f"a container notifies {what}",), "the manager gets", oracle, ours, why)
        for what, oracle, ours, why in (
            (
                "lines that all pass",
                b"READY=1 | READY=1",
                b"READY=1\nSTATUS=x\nSTOPPING=1 | READY=1",
                _LINES,
            ),
            ("that it is nearly ready", b"READY=1 | READY=1", b"READY=1", _LINES),
            ("blanks", b"READY=1 | READY=1", b"READY=1", _LINES),
            ("its status", b"READY=1", b"STATUS=warming up | READY=1", _LINES),
            ("that it stops", b"READY=1", b"STOPPING=1 | READY=1", _LINES),
            (
                "that it takes longer",
                b"READY=1",
                b"EXTEND_TIMEOUT_USEC=1 | READY=1",
                "NOT-5, ours",
            ),
        )
    ),
    *(
        LifeDifference(
            (f"a notify socket cannot be made for {what}",), field, oracle, ours, _ANSWER
        )
        for what, words, reason in (
            ("no directory", b"Failed to bind to console-socket", b"No such file or directory"),
            (
                "a directory in its place",
                b"Failed to remove existing socket: @/bundle/notify/notify.sock",
                b"Is a directory",
            ),
        )
        for field, oracle, ours in (
            ("launcher: stderr", b"[conmon:e]: " + words + b" " + reason + b"\n", b""),
            (
                "sync pipe",
                [],
                [
                    b'{"data": -1, "message": "Failed to create notify socket: ' + reason + b'"}\n',
                ],
            ),
        )
    ),
    # What fails the launcher
    *(
        LifeDifference(_BAD_PIPES, field, oracle, ours, "ENV-4, ours: before the fork")
        for field, oracle, ours in (
            ("launcher: status", 0, 1),
            ("content of conmon.pid", b"PID", ABSENT),
            ("mode of conmon.pid", "-rw-r--r--", ABSENT),
        )
    ),
    *(
        LifeDifference(
            (life,),
            "launcher: stderr",
            b"[conmon:e]: " + text + b" Success\n",
            b"[conmon:e]: " + text + b"\n",
            "CLI-60: an error text follows where a system call failed",
        )
        for life, text in (
            ("the attach pipe is missing", b"--attach specified but _OCI_ATTACHPIPE was not"),
            ("the sync pipe is not there word", b"unable to parse _OCI_SYNCPIPE"),
        )
    ),
    LifeDifference(
        _NO_MONITOR_PID_FILE,
        "launcher: stderr",
        b"[conmon:e]: Failed to write conmon pidfile: Failed to create file "
        b"\xe2\x80\x9c/nonexistent/pid.*\xe2\x80\x9d: No such file or directory "
        b"No such file or directory\n",
        b"[conmon:e]: Failed to write conmon pidfile No such file or directory\n",
        "the oracle's words are GLib's",
    ),
    *_exit_files(_NO_MONITOR_PID_FILE, b"3", ABSENT, "START-15, ours: no runtime is started"),
    *(
        LifeDifference(_NO_MONITOR_PID_FILE, field, oracle, ours, "START-15, ours: as above")
        for field, oracle, ours in (
            ("runtime: was started", ABSENT, False),
            ("runtime: *", ANY, ABSENT),
            ("sync pipe", [b'{"data": PID}\n'], []),
            ("content of pidfile", b"PID", ABSENT),
            ("mode of pidfile", "-rw-r--r--", ABSENT),
            ("mode of bundle/ctl", ANY, ABSENT),
            ("mode of bundle/winsz", ANY, ABSENT),
        )
    ),
    LifeDifference(
        ("of two logs the last is written",),
        "launcher: stderr",
        b"",
        b"[conmon:w]: Only the last log file is written, not @/ctr.log\n",
        "LOG-7, ours: a warning",
    ),
    LifeDifference(
        ("of three logs the last is written",),
        "launcher: stderr",
        b"",
        b"[conmon:w]: Only the last log file is written, not @/ctr.log\n"
        b"[conmon:w]: Only the last log file is written, not @/second.log\n",
        "LOG-7, ours: a warning",
    ),
    LifeDifference(
        ("the journal is told the id 0123456789ab",),
        "launcher: stderr",
        b"[conmon:e] Container ID must be longer than 12 characters\n",
        b"[conmon:e]: Container ID must be longer than 12 characters\n",
        "DIAG-1: 2.2.1 has the colon in both forms",
    ),
    # Limits of log files
    *_log(
        ("a log reaches its limit with what was there one byte too long",),
        *("kept", [_O, b"x" * 55], [b"x" * 55], _COUNTED),
    ),
    *_log(("a log reaches its limit by what was there",), "kept", [_O, _A], [_A], _COUNTED),
    *_log(
        ("a log reaches its limit beyond by what was there",),
        *("kept", [_O, b"", b""], [b"", b""], _COUNTED),
    ),
    LifeDifference(
        (
            "a log reaches its limit with what was there one byte too long",
            "a log reaches its limit by what was there",
            "a log reaches its limit beyond by what was there",
        ),
        "mode of kept",
        "-rw-r--r--",
        "-rw-r-----",
        _COUNTED,
    ),
    *_log(("all logs reach their limit by what was there",), "kept", [_O, _A], [_O], _COUNTED),
    *_log(
        ("all logs reach their limit but for one byte by what was there",),
        *("kept", [_O, _A, _B], [_O, _A], _COUNTED),
    ),
    *_log(
        ("a log reaches its limit with a line of as many bytes as a record",),
        *("ctr.log", [b""], [b"x" * 8192], "LOG-24: for 2.1.6 it is a P of 8192 bytes and an F"),
    ),
    *(
        row
        for how in ("renamed", "removed")
        for row in _log(
            (f"a log with a limit is reopened that was {how}",),
            *("ctr.log", [_D], [_C, _D], _RESTARTED),
        )
    ),
    *_log(("a log is reopened that was left",), "ctr.log", [_C, _D], [_A, _B, _C, _D], _KEPT),
    *_log(
        ("a log with a global limit is reopened that was left",),
        *("ctr.log", [_C], [_A, _B, _C], _KEPT),
    ),
    LifeDifference(
        ("a file stands where the fresh log is made and the limit is reached",),
        "mode of ctr.log",
        "-rw-r--r--",
        "-rw-r-----",
        "ROT-10, ours: that file goes; 2.1.6 truncates and keeps it",
    ),
    LifeDifference(
        ("an empty file stands where the fresh log would be made",),
        "mode of ctr.log.tmp",
        "-rw-r--r--",
        ABSENT,
        "ROT-21, ours: an empty temporary file goes at the start",
    ),
    *(
        LifeDifference(
            ("a log with a limit is a device",),
            field,
            oracle,
            ours,
            "LOG-34, ours: a device is never rotated",
        )
        for field, oracle, ours in (
            ("mode of ctr.log", "-rw-------", "lrwxrwxrwx"),
            ("link ctr.log", ABSENT, b"/dev/null"),
            ("ctr.log: stdout", b"two\n", b""),
        )
    ),
    # passthrough
    *(
        LifeDifference(
            (f"descriptors are passed through but for {closed}",),
            "descriptors",
            oracle,
            oracle.replace(b"closed", b"/dev/null"),
            "PASS-5: one that was closed is /dev/null",
        )
        for closed, oracle in (
            ("0", b"closed pipe pipe"),
            ("1", b"/dev/null closed pipe"),
            ("2", b"/dev/null pipe closed"),
            ("0 1 2", b"closed closed closed"),
        )
    ),
    *_exit_files(_TTY_REFUSED, ABSENT, b"6", _TTY),
    *(
        LifeDifference(_TTY_REFUSED, field, oracle, ours, _TTY)
        for field, oracle, ours in (
            ("launcher: status", 1, 0),
            ("runtime: was started", False, ABSENT),
            ("runtime: *", ABSENT, ANY),
            ("sync pipe", [], [b'{"data": PID}\n']),
            ("content of *pid*", ABSENT, b"PID"),
            ("mode of *pid*", ABSENT, "-rw-r--r--"),
        )
    ),
    *(
        LifeDifference((f"a terminal is passed through as {which}",), field, oracle, ours, _TTY)
        for which, field, oracle, ours in (
            ("0", "launcher: stdout", b"", b"out 0\n"),
            ("0", "launcher: stderr", b"[conmon:e]: " + _NO_TTY + b"\n", b"err 1\n"),
            ("1", "on the terminal", b"", b"out 1\r\n"),
            ("1", "launcher: stderr", b"[conmon:e]: " + _NO_TTY + b"\n", b"err 0\n"),
            ("2", "launcher: stdout", b"", b"out 1\n"),
            ("2", "on the terminal", b"[conmon:e]: " + _NO_TTY + b"\r\n", b"err 1\r\n"),
            (
                *("0 1 2", "on the terminal"),
                *(b"[conmon:e]: " + _NO_TTY + b"\r\n", b"out 0\r\nerr 0\r\n"),
            ),
        )
    ),
    # journald; as `entry_in_our_words` makes them all but in the first of these lives
    LifeDifference(
        ("the journal gets entries",),
        "journal: messages",
        [("stdout", b"out\n", b""), ("stdout", b"end", b"true")],
        [("stdout", b"out", b""), ("stdout", b"end", b"true")],
        "JRN-7, ours: a line is sent without its newline",
    ),
    LifeDifference(
        ("the journal gets entries",),
        "journal: names",
        [b"CODE_FILE", b"CODE_FUNC", b"CODE_LINE", *_NAMES],
        _NAMES,
        "JRN-2: 2.1.6 adds the place in its own source",
    ),
    *(
        LifeDifference(
            (f"the journal gets {what}",), "journal: messages", _sent(*oracle), _sent(*ours), _CUT
        )
        for what, oracle, ours in (
            ("a line as long as 8192", (-8192, 0, 1), (8192, 1)),
            ("a line as long as 16384", (-8192, -8192, 0, 1), (-8192, 8192, 1)),
            ("an unfinished line as long as 8193", (1, -8193), (1, -8192, -1)),
            ("an unfinished line as long as 16383", (1, -16382, -1), (1, -8192, -8191)),
            ("an unfinished line as long as 16384", (1, -16382, -2), (1, -8192, -8192)),
            ("an unfinished line as long as 16385", (1, -16382, -3), (1, -8192, -8192, -1)),
            ("an unfinished line as long as 20000", (1, -16382, -3618), (1, -8192, -8192, -3616)),
            ("a line in two pieces of 100 9000", (-8292, 808), (-8192, 908)),
            ("a line in two pieces of 8191 8192", (-16383, 0), (-8192, 8191)),
            ("a line in two pieces of 8192 8192", (-8192, -8192, 0), (-8192, 8192)),
        )
    ),
    *(
        LifeDifference((life,), f"journal: {field}", oracle, ours, _PREFIX)
        for life, field, oracle, ours in (
            (
                *("the journal gets prefixes", "stdout"),
                *(b"<0>a\n<4>b\n<7>\n<5>end", b"a\nb\n\nend"),
            ),
            ("the journal gets prefixes", "stderr", b"<6>c\n", b"c\n"),
            (
                *("the journal gets prefixes", "beside stdout", [_PLAIN_ENTRY]),
                [
                    (*_PLAIN_ENTRY, (b"SYSLOG_PRIORITY_PREFIX", number))
                    for number in (b"0", b"4", b"5", b"7")
                ],
            ),
            (
                *("the journal gets prefixes", "beside stderr", [_PLAIN_ERROR]),
                [(*_PLAIN_ERROR, (b"SYSLOG_PRIORITY_PREFIX", b"6"))],
            ),
        )
    ),
    *(
        LifeDifference((life,), f"journal: {field}", oracle, ours, _PREFIX)
        for life, oracle_text, our_text in (
            ("a client gets what the journal gets", b"<4>out\nend", b"out\nend"),
            (
                "a file and the journal get everything",
                *(b"one\n\n<4>two\nthreeend", b"one\n\ntwo\nthreeend"),
            ),
        )
        for field, oracle, ours in (
            ("stdout", oracle_text, our_text),
            (
                "beside stdout",
                [_PLAIN_ENTRY],
                [_PLAIN_ENTRY, (*_PLAIN_ENTRY, (b"SYSLOG_PRIORITY_PREFIX", b"4"))],
            ),
        )
    ),
    # What lives on
    *_exit_files(_HUP, ABSENT, b"115", "SIG-4, ours: HUP kills conmon"),
    LifeDifference(
        _HUP, "ctr.log: stdout", b"ready\n", b"ready\ngot 15\n", "SIG-4, ours: HUP kills conmon"
    ),
    LifeDifference(_HUP, "mode of bundle/attach", "srwx------", ABSENT, "SIG-4, ours: as above"),
    LifeDifference(_HUP, "the monitor died", True, ABSENT, "SIG-4, ours: HUP kills conmon"),
    *(
        LifeDifference(
            ("a terminal outlives its first client -i",),
            field,
            oracle,
            oracle + b"got second\r\n" if isinstance(oracle, bytes) else True,
            "ATT-15, ours: later clients can still type",
        )
        for field, oracle in (
            ("the second is heard", False),
            ("client 0: stdout", b""),
            ("ctr.log: stdout", b"ready\r\ngot first\r\n"),
        )
    ),
    *(
        LifeDifference(
            ("a good control line comes together with a bad one of *",),
            field,
            oracle,
            ours,
            "CTL-14, ours: a bad line spoils only itself",
            ("a good control line comes together with a bad one of nothing",),
        )
        for field, oracle, ours in (
            ("the good line is heard", False, True),
            ("ctr.log: stdout", b"", b"24 by 80\r\n"),
        )
    ),
    # What the others are given, and what is left
    LifeDifference(_LINKED, "link sockets/*", b"@/bundle", ABSENT, "ATT-6: 2.1.6 leaves the link"),
    LifeDifference(
        _LINKED, "mode of sockets/*", "lrwxrwxrwx", ABSENT, "ATT-6: 2.1.6 leaves the link"
    ),
    LifeDifference(
        ("blocked and ignored signals are given on",),
        "exit command: SigBlk",
        [1, 10, 12, 15, 17],
        [1, 12, 15],
        "END-17: 2.1.6 adds what it blocks itself",
    ),
    LifeDifference(
        ("blocked and ignored signals are given on",),
        "exit command: SigIgn",
        [13, 25, 28],
        [2, 13, 25, 28],
        "END-17: in 2.1.6 SIGINT is default, since it forwards it",
    ),
    # What differs in every life
    LifeDifference(
        ("*",), "mode of *.log", "-rw-------", "-rw-r-----", "LOG-29: 2.1.6 makes logs so"
    ),
    LifeDifference(
        ("*",), "mode *ctl", "prw-r-----", "prw-rw----", "CTL-2, ours: by fchmod, umask or not"
    ),
    LifeDifference(
        ("*",), "mode *winsz", "prw-r-----", "prw-rw----", "CTL-2, ours: by fchmod, umask or not"
    ),
    LifeDifference(
        ("*",),
        "runtime: kind of its pipes",
        ["fifo 600 pipe"],
        ["fifo 777 pipe"],
        "RT-12: newer than 2.1.6",
        ("*passthrough*", "* passed through*"),  # these are not the monitor's
    ),
    LifeDifference(
        ("*",),
        "runtime: console socket",
        "@/tmp/conmon-term.*",
        "@/bundle/.conmon-*/console",
        "TTY-3, ours: in a private directory",
    ),
)
