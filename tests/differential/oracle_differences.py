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


# Lives: test_lives.py plays them under both and finds exactly these values.

ABSENT = "absent"  # in the place of a field that was not seen at all
ANY = "any value"


class LifeDifference(NamedTuple):
    """One row: in each life that a pattern of *lives* names, the field differs exactly so.

    *field* may be a pattern: then all that match differ so. *but* are lives in which the row does
    not hold. A field that is not seen in a life is passed over if "*" is among the patterns.
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


_RUNC_FAILS = (
    b'{"data": -1, "message": "TIME level=error msg=\\"exec failed: unable to start container '
    b'process: exec: \\\\\\"/bin/none\\\\\\": stat /bin/none: no such file or directory\\"\\n"}\n'
)
_NO_PID = b'"message": "Failed to read pidfile: it holds no pid of this start"}\n'
_ANSWER = "SYNC-11, ours: a failed start gets an answer"
_FAILED = (
    *("a runtime fails*", "a runtime cannot be executed", "a runtime has no interpreter"),
    *("a terminal is not handed over", "a terminal fails with words"),
    *("an exec session with a terminal fails", "hostrun fails"),
    *("an exec in a container of runc /bin/none", "an invalid LISTEN PID"),
    "the runtime gets while it creates *",
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
            (("a runtime fails in a legacy create without words",), b"pid", b"}\n"),
            (
                (
                    "a runtime fails without a pid file",
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
        ),
        "left in TMPDIR",
        [b"conmon-term.*"],
        [],
        "TTY-5, ours: the console socket is removed on every way out",
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
    ),
    LifeDifference(
        ("*",),
        "runtime: console socket",
        "@/tmp/conmon-term.*",
        "@/bundle/.conmon-*/console",
        "TTY-3, ours: in a private directory",
    ),
)
