"""Lives about where the container's output goes: files and their limits, journald, passthrough.

2.1.6 has no --log-rotate, no --log-label and no --no-container-partial-message
(OPTIONS_THAT_THE_ORACLE_LACKS): with those there is nothing to compare.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import sys
from typing import Any, NamedTuple

from tests.differential.stage import CID, Stage, life
from tests.support.life import wait_until
from tests.support.rotation import old_log, size
from tests.support.witness import odd

# Drivers


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
def of_three_logs_the_last_is_written(stage: Stage) -> None:
    second, third = stage.directory / "second.log", stage.directory / "third.log"
    stage.logs += [second, third]
    stage.life.stub("echo out")
    stage.start("-l", f"k8s-file:{second}", "-l", f":{third}")


@life()
def a_log_is_given_twice(stage: Stage) -> None:
    stage.life.stub("echo out")
    stage.start("-l", f"k8s-file:{stage.life.log}")


@life("none", "off:x", "null")
def a_log_beside_a_file_adds_nothing(stage: Stage, driver: str) -> None:
    stage.life.stub("echo out")
    stage.start("-l", driver)


@life("none", "null")
def a_file_beside_a_log_gets_everything(stage: Stage, driver: str) -> None:
    stage.life.stub("echo out")
    stage.start("-l", driver, "-l", f":{stage.life.log}", omit=("-l",))


@life()
def a_log_is_kept_without_a_sync(stage: Stage) -> None:
    stage.life.stub("echo out")
    stage.start("--no-sync-log")


# What is said, piece by piece


class Piece(NamedTuple):
    """What a container writes in one piece, to *stream*."""

    data: bytes
    stream: int = 1


def text(length: int, letter: bytes = b"x") -> bytes:
    """Return a line whose record has so many bytes."""
    return letter * (length - size(b"")) + b"\n"


def saying(stage: Stage, *pieces: Piece, begin: str = ":", end: str = "exit 3") -> None:
    """Make a container that writes *pieces*, waiting at the gate before each but the first."""
    words = []
    wait = stage.gate()
    for number, piece in enumerate(pieces):
        path = stage.directory / f"scenery-said-{number}"
        path.write_bytes(piece.data)
        words += [f"cat {path}{' >&2' * (piece.stream == 2)}", wait]
    stage.life.stub("; ".join([begin, *words[:-1], end]))


def say(stage: Stage, *pieces: Piece, options: tuple[str, ...] = ()) -> None:
    """Play a life that writes *pieces*, each when the one before is in the log."""
    stage.exact = True
    saying(stage, *pieces)
    stage.start(*options)
    for piece in pieces[:-1]:
        *_, line, rest = (b"\n" + piece.data).split(b"\n")
        record = b" P " + rest if rest else b" F " + line
        stage.logged(record[-100:] + b"\n")
        stage.open_gate()


# A file's limit


class Limit(NamedTuple):
    """A limit, what is in the log before, and what is said."""

    limit: int
    pieces: tuple[Piece, ...]
    old: bytes = b""


OLD = old_log([b"o" * 54])  # of 100 bytes
A, B, C, D = (text(100, letter) for letter in (b"a", b"b", b"c", b"d"))
LIMITS = {
    "with a record that just fits": Limit(200, (Piece(A), Piece(B))),
    "with a record that is one byte too long": Limit(200, (Piece(A), Piece(text(101)))),
    "within a read": Limit(200, (Piece(A + B + C),)),
    "twice within a read": Limit(200, (Piece(A + B + C + D + text(100)),)),
    "with each record": Limit(100, (Piece(A), Piece(B + C), Piece(D))),
    "with a record that is longer itself": Limit(100, (Piece(b"a\n"), Piece(text(101)))),
    "after a record that is longer itself": Limit(100, (Piece(text(101)), Piece(b"a\n"))),
    "around a record that is longer itself": Limit(100, (Piece(b"a\n" + text(101) + b"b\n"),)),
    "with an empty line": Limit(100, (Piece(text(55)), Piece(b"\n"))),
    "of an empty line": Limit(46, (Piece(b"\n\n"),)),
    "of less than an empty line": Limit(45, (Piece(b"\n\n"),)),
    "of 1": Limit(1, (Piece(A), Piece(b"\n"), Piece(B))),
    "that is none, 0": Limit(0, (Piece(A), Piece(B)), OLD),
    "that is none, -1": Limit(-1, (Piece(A), Piece(B)), OLD),
    "that is none, -5": Limit(-5, (Piece(A), Piece(B)), OLD),
    "with what was there just fitting": Limit(200, (Piece(A),), OLD),
    "with what was there one byte too long": Limit(200, (Piece(text(101)),), OLD),
    "by what was there": Limit(100, (Piece(A),), OLD),
    "beyond by what was there": Limit(99, (Piece(b"\n"), Piece(b"\n")), OLD),
    "with a partial record that just fits": Limit(200, (Piece(A), Piece(B[:-1]))),
    "with a partial record that is one byte too long": Limit(200, (Piece(A), Piece(b"b" + B[:-1]))),
    "with the newline of a partial record": Limit(200, (Piece(A), Piece(B[:-1]), Piece(b"\n"))),
    "with the rest of a line": Limit(200, (Piece(A + b"b" * 10), Piece(B), Piece(C))),
    "in the middle of a long line": Limit(10000, (Piece(b"x" * 20000 + b"\n"),)),
    "with a long line that just fits": Limit(20138, (Piece(b"x" * 20000 + b"\n"),)),
    "with a long line that is one byte too long": Limit(20137, (Piece(b"x" * 20000 + b"\n"),)),
    "with each record of a long line": Limit(8238, (Piece(b"x" * 20000 + b"\n"),)),
    "with a line of as many bytes as a record": Limit(8238, (Piece(b"x" * 8192 + b"\n"),)),
    "with both streams": Limit(250, (Piece(A), Piece(B, 2), Piece(C, 2), Piece(D))),
}


@life(*LIMITS)
def a_log_reaches_its_limit(stage: Stage, how: str) -> None:
    limit, pieces, old = LIMITS[how]
    if old:
        stage.life.log = stage.directory / "kept"  # no *.log: its mode is as it was
        stage.life.log.write_bytes(old)
        stage.logs = [stage.life.log]
    say(stage, *pieces, options=("--log-size-max", str(limit)))


@life("reached", "not reached")
def a_file_stands_where_the_fresh_log_is_made_and_the_limit_is(stage: Stage, how: str) -> None:
    stage.logs.append(stage.directory / "ctr.log.tmp")
    stage.logs[1].write_bytes(OLD)
    options = ("--log-size-max", "200" if how == "reached" else "300")
    say(stage, Piece(A), Piece(B), Piece(C), options=options)


@life()
def an_empty_file_stands_where_the_fresh_log_would_be_made(stage: Stage) -> None:
    (stage.directory / "ctr.log.tmp").touch()
    say(stage, Piece(A), options=("--log-size-max", "200"))


@life()
def backups_beside_a_log_with_a_limit_stay(stage: Stage) -> None:
    stage.logs.append(stage.directory / "ctr.log.1")
    stage.logs[1].write_bytes(OLD)
    say(stage, Piece(A), Piece(B), options=("--log-size-max", "100"))


@life()
def a_log_with_a_limit_is_a_symlink(stage: Stage) -> None:
    target = stage.directory / "target.log"
    stage.logs.append(target)
    stage.life.log.symlink_to(target)
    say(stage, Piece(A), Piece(B), options=("--log-size-max", "100"))


@life()
def a_log_with_a_limit_is_a_device(stage: Stage) -> None:
    stage.life.log.symlink_to("/dev/null")
    stage.life.stub("echo one; echo two; exit 3")
    stage.start("--log-size-max", "50")


def reopened(stage: Stage, what: str, *options: str) -> None:
    """Play a life of four records whose log is reopened in the middle."""
    stage.exact = True
    saying(stage, Piece(A), Piece(B), Piece(C), Piece(D))
    stage.start(*options)
    stage.logged(A)
    stage.open_gate()
    stage.logged(B)
    if what == "renamed":
        stage.logs.append(stage.life.log.rename(stage.directory / "old.log"))
    elif what == "removed":
        stage.life.log.unlink()
    stage.life.control(b"2 0 0\n")
    stage.control_is_read()
    if what != "left":
        wait_until(stage.life.log.exists, "the fresh log")
    stage.open_gate()
    stage.logged(C)
    stage.open_gate()


@life("renamed", "removed", "left")
def a_log_is_reopened_that_was(stage: Stage, what: str) -> None:
    reopened(stage, what)


@life("renamed", "removed", "left")
def a_log_with_a_limit_is_reopened_that_was(stage: Stage, what: str) -> None:
    reopened(stage, what, "--log-size-max", "350")


@life("renamed", "removed", "left")
def a_log_with_a_global_limit_is_reopened_that_was(stage: Stage, what: str) -> None:
    reopened(stage, what, "--log-global-size-max", "300")


# The limit of all files


GLOBAL_LIMITS = {
    "by a record": Limit(100, (Piece(A + B),)),
    "but for one byte": Limit(101, (Piece(A + B + C),)),
    "by one of two records": Limit(150, (Piece(A + B + C),)),
    "by the first read": Limit(200, (Piece(A + B), Piece(C))),
    "but for one byte by the first read": Limit(201, (Piece(A + B), Piece(C))),
    "of 1": Limit(1, (Piece(A + B),)),
    "that is none, 0": Limit(0, (Piece(A), Piece(B)), OLD),
    "that is none, -1": Limit(-1, (Piece(A), Piece(B)), OLD),
    "by what was there": Limit(100, (Piece(A + B),), OLD),
    "but for one byte by what was there": Limit(101, (Piece(A + B),), OLD),
    "by a partial record": Limit(200, (Piece(A), Piece(B[:-1]), Piece(b"\n"))),
    "but for one byte by a partial record": Limit(201, (Piece(A), Piece(B[:-1]), Piece(b"\n"))),
    "in a long line": Limit(8239, (Piece(b"x" * 30000 + b"\n" + A),)),
    "by both streams": Limit(250, (Piece(A), Piece(B, 2), Piece(C), Piece(D, 2))),
}


@life(*GLOBAL_LIMITS)
def all_logs_reach_their_limit(stage: Stage, how: str) -> None:
    limit, pieces, old = GLOBAL_LIMITS[how]
    if old:
        stage.life.log = stage.directory / "kept"
        stage.life.log.write_bytes(old)
        stage.logs = [stage.life.log]
    say(stage, *pieces, options=("--log-global-size-max", str(limit)))


@life()
def all_logs_reach_their_limit_and_one_its_own(stage: Stage) -> None:
    options = ("--log-size-max", "200", "--log-global-size-max", "401")
    say(stage, *map(Piece, (A, B, C, D, A + B)), options=options)


@life(100, 101, 1 << 24)
def a_client_gets_what_a_global_limit_keeps_out(stage: Stage, limit: int) -> None:
    stage.exact = True
    wait, both = stage.gate("come"), stage.gate("both")
    data = stage.directory / "scenery-data"
    data.write_bytes(A + B + b"partial")
    stage.life.stub(f"{wait}; cat {data}; {both}; cat {data} >&2; exit 3")
    stage.start("--log-global-size-max", str(limit))
    client = stage.attach()
    stage.open_gate("come")
    assert client.recv(8193, socket.MSG_PEEK)
    stage.open_gate("both")


# passthrough


def passthrough(stage: Stage, *extra: str, file: bool = False, **how: Any) -> None:
    """Start a life with passthrough; with *file*, a log file is asked for as well."""
    stage.logs = [stage.life.log] if file else []
    stage.start(*extra, "-l", "passthrough", omit=() if file else ("-l",), **how)


SAYS = "cat; echo out; echo err >&2; exit 6"


def with_input(stage: Stage, *extra: str, **how: Any) -> None:
    """Start a life with passthrough and a pipe, with a line in it, as stdin."""
    reading, writing = os.pipe()
    os.write(writing, b"input\n")
    os.close(writing)
    try:
        passthrough(stage, *extra, stdin=reading, **how)
    finally:
        os.close(reading)


@life((), ("-i",), ("-i", "--leave-stdin-open"), ("--sync",), ("--log-size-max", "1"))
def pipes_are_passed_through(stage: Stage, more: tuple[str, ...]) -> None:
    stage.life.stub(SAYS)
    with_input(stage, *more, *stage.exit_command())


@life()
def pipes_are_passed_through_beside_a_file(stage: Stage) -> None:
    stage.life.stub(SAYS)
    with_input(stage, file=True)


@life()
def pipes_are_passed_through_beside_a_journal(stage: Stage) -> None:
    stage.journal()
    stage.life.stub(SAYS)
    with_input(stage, "-l", "journald")


@life("passthrough:", "passthrough:x")
def pipes_are_passed_through_by(stage: Stage, driver: str) -> None:
    stage.logs = []
    stage.life.stub(SAYS)
    stage.start("-l", driver, omit=("-l",))


@life()
def files_are_passed_through(stage: Stage) -> None:
    stage.life.stub(SAYS)
    paths = [stage.directory / f"scenery-{name}" for name in ("in", "out", "err")]
    paths[0].write_bytes(b"input\n")
    for path in paths[1:]:
        path.write_bytes(b"what was there\n")
    fds = [os.open(path, os.O_RDWR | os.O_APPEND) for path in paths]
    try:
        passthrough(stage, stdin=fds[0], stdout=fds[1], stderr=fds[2])
        wait_until((stage.life.exit_dir / CID).exists, "the end")
    finally:
        for fd in fds:
            os.close(fd)
    for path in paths:
        stage.seen[f"content of {path.name}"] = path.read_bytes()


# A runtime for which no descriptor need be open; the container writes down what it has.
LOOKS = """#!{python} -IS
import os, sys
def target(fd):
    try:
        return os.readlink("/proc/self/fd/%d" % fd)
    except FileNotFoundError:
        return "closed"
pid_file = sys.argv[sys.argv.index("--pid-file") + 1]
pid = os.fork()
if pid == 0:
    found = " ".join(map(target, range(3)))
    with open("{path}", "w") as file:
        file.write(found)
    os._exit(6)
with open(pid_file, "w") as file:
    file.write(str(pid))
os._exit(0)
"""


@life((0,), (1,), (2,), (0, 1, 2))
def descriptors_are_passed_through_but_for(stage: Stage, closed: tuple[int, ...]) -> None:
    path = stage.directory / "scenery-found"
    stage.life.script(LOOKS.format(python=sys.executable, path=path))
    stage.life.command = odd(block=None, closed=closed, command=stage.life.command)
    passthrough(stage, watched=False)
    wait_until((stage.life.exit_dir / CID).exists, "the end")
    stage.seen["descriptors"] = stage.plain(path.read_bytes())


@life((), ("-i",))
def a_terminal_is_asked_for_beside_passthrough(stage: Stage, more: tuple[str, ...]) -> None:
    stage.life.terminal_stub("test -t 0; echo $? >&2; echo out; exit 6")
    passthrough(stage, "-t", *more)


@life((0,), (1,), (2,), (0, 1, 2))
def a_terminal_is_passed_through_as(stage: Stage, which: tuple[int, ...]) -> None:
    stage.life.stub("test -t 0; echo out $?; test -t 1; echo err $? >&2; exit 6")
    master, slave = os.openpty()
    stage.cleanups.append(lambda: os.close(master))
    ours: dict[str, Any] = {("stdin", "stdout", "stderr")[fd]: slave for fd in which}
    try:
        passthrough(stage, **ours)
    finally:
        os.close(slave)
    assert stage.life.launcher is not None
    if stage.life.launcher.returncode == 0:
        wait_until((stage.life.exit_dir / CID).exists, "the end")
    stage.seen["on the terminal"] = b""
    while select.select([master], [], [], 0)[0]:
        try:
            stage.seen["on the terminal"] += os.read(master, 4096)
        except OSError as error:
            assert error.errno == errno.EIO, error  # nobody has it open
            break


@life("with words", "without a pid file", "in an exec", "in a legacy exec")
def a_start_fails_beside_passthrough(stage: Stage, how: str) -> None:
    stage.life.script(f"#!/bin/sh\necho broken >&2\nexit {int(how != 'without a pid file')}\n")
    omit = ("--api-version",) if "legacy" in how else ()
    stage.logs = []
    stage.start(
        *stage.exit_command(), "-l", "passthrough", omit=("-l", *omit), exec_session="exec" in how
    )


@life((), ("--sync",), ("-i",))
def an_exec_session_is_passed_through(stage: Stage, more: tuple[str, ...]) -> None:
    stage.life.stub(SAYS)
    with_input(stage, *more, exec_session=True)


@life()
def an_attached_exec_session_is_passed_through(stage: Stage) -> None:
    stage.life.stub(SAYS)
    passthrough(stage, "--exec-attach", exec_session=True, attach_pipe=True)


@life()
def a_legacy_exec_is_passed_through(stage: Stage) -> None:
    stage.logs = []
    stage.life.stub(SAYS)
    stage.start("-l", "passthrough", omit=("-l", "--api-version"), exec_session=True)


@life()
def a_timeout_is_reached_beside_passthrough(stage: Stage) -> None:
    stage.life.stub("echo out; exec setsid tail -f /dev/null >/dev/null 2>&1")
    passthrough(stage, "-T", "1")


@life()
def a_bundle_has_no_sockets_beside_passthrough(stage: Stage) -> None:
    wait = stage.gate()
    stage.life.stub(f"{wait}; exit 6")
    passthrough(stage)
    stage.message()
    stage.seen["in the bundle"] = [path.name for path in stage.in_bundle()]
    stage.open_gate()


# journald


def journal(stage: Stage, *extra: str, file: bool = False, **how: Any) -> None:
    """Start a life whose output goes to journald; with *file*, to a log file as well."""
    stage.journal()
    stage.logs = [stage.life.log] if file else []
    stage.start(*extra, "-l", "journald", omit=() if file else ("-l",), **how)


@life()
def the_journal_gets_entries(stage: Stage) -> None:
    """As they are sent, without the normalisation of all other lives."""
    stage.journal_detail = "as sent"
    stage.life.stub("echo out; printf end; exit 3")
    journal(stage)


IDENTITIES = {
    "nobody": (),
    "a name": ("-n", "box"),
    "a tag": ("--log-tag", "a tag"),
    "a name and a tag": ("-n", "box", "--log-tag", "tag"),
    "an empty name": ("-n", ""),
    "an empty tag": ("--log-tag", ""),
    "a name that is not ASCII": ("-n", "bäx"),
    "a name with a newline": ("-n", "a\nPRIORITY=0"),
    "a tag with a newline": ("--log-tag", "a\nPRIORITY=0"),
}


@life(*IDENTITIES)
def the_journal_is_told_of(stage: Stage, whom: str) -> None:
    stage.life.stub("echo out; echo err >&2; exit 3")
    journal(stage, *IDENTITIES[whom])


@life("0123456789abc", "0123456789ab", "x" * 64)
def the_journal_is_told_the_id(stage: Stage, cid: str) -> None:
    stage.life.stub("echo out; exit 3")
    stage.life.cid = cid
    journal(stage)


@life("journald:", "journald:x")
def the_journal_is_asked_for_by(stage: Stage, driver: str) -> None:
    stage.journal()
    stage.logs = []
    stage.life.stub("echo out; exit 3")
    stage.start("-l", driver, omit=("-l",))


ENTRIES = {
    "both streams": "echo out; echo err >&2; echo more; echo less >&2",
    "no final newline": "printf 'one\\ntwo'",
    "no final newline on both": "printf one; printf two >&2",
    "empty lines": "echo; echo; echo x; echo; printf '\\n\\n' >&2",
    "one newline": "echo",
    "nothing": ":",
    "CRLF": "printf 'a\\r\\nb\\r\\n\\r\\nc\\r'",
    "NUL": "printf 'a\\000b\\n\\000\\n\\000'",
    "invalid UTF-8": "printf '\\377\\376\\n\\303\\n\\355\\240\\200\\n'",
    "control characters": "printf '\\033[1mx\\010\\177\\n\\t\\n \\n'",
    "what looks like fields": "printf '=\\nA=b\\nPRIORITY=0\\nMESSAGE\\n'",
    "what is no prefix": "printf '<9>a\\n<>b\\n<44>c\\n<4\\n <4>d\\nx<4>e\\n<\\n<-1>f\\n'",
    "prefixes": "printf '<0>a\\n<4>b\\n<7>\\n<5>end'; printf '<6>c\\n' >&2",
    "a hundred lines": "seq 1 100",
}


@life(*ENTRIES)
def the_journal_gets(stage: Stage, what: str) -> None:
    stage.life.stub(f"{ENTRIES[what]}; exit 3")
    journal(stage)


@life()
def the_journal_gets_the_streams_in_their_order(stage: Stage) -> None:
    pieces = [Piece(b"one\n"), Piece(b"two\n", 2), Piece(b"three\n"), Piece(b"four", 2)]
    stage.journal_detail = "messages"
    saying(stage, *pieces)
    journal(stage)
    for number in range(1, 4):
        stage.entries(number)
        stage.open_gate()


@life()
def the_journal_gets_a_line_when_it_ends(stage: Stage) -> None:
    saying(stage, Piece(b"before\nlogin: "), Piece(b"err\n", 2), Piece(b"me\nend"))
    journal(stage)
    stage.entries(1)
    stage.open_gate()
    stage.entries(2)
    stage.open_gate()


PARTS = (8190, 8191, 8192, 8193, 16383, 16384, 16385, 20000)


@life(*PARTS)
def the_journal_gets_a_line_as_long_as(stage: Stage, length: int) -> None:
    stage.journal_detail = "messages"
    saying(stage, Piece(b"x" * length + b"\nx\n"))
    journal(stage)


@life(*PARTS)
def the_journal_gets_an_unfinished_line_as_long_as(stage: Stage, length: int) -> None:
    stage.journal_detail = "messages"
    saying(stage, Piece(b"x\n" + b"x" * length))
    journal(stage)


@life((100, 9000), (8191, 8192), (8192, 1), (8192, 8192))
def the_journal_gets_a_line_in_two_pieces_of(stage: Stage, sizes: tuple[int, ...]) -> None:
    stage.journal_detail = "messages"
    come = stage.gate("come")
    first, second = sizes
    saying(stage, Piece(b"x" * first), Piece(b"x" * second + b"\n"), begin=come)
    journal(stage)
    client = stage.attach()
    stage.open_gate("come")
    assert client.recv(8193, socket.MSG_PEEK)  # the first piece was read; both were held back
    stage.open_gate()


@life()
def the_journal_is_read_late(stage: Stage) -> None:
    """JRN-13: it may take nothing for 5 s; here only half a second more when all has ended."""
    stage.life.stub("seq 1 400; exit 3")
    journal(stage)
    assert stage.journald
    wait_until((stage.life.exit_dir / CID).exists, "the end")
    select.select([stage.monitor_fd], [], [], 0.5)
    while not select.select([stage.monitor_fd], [], [], 0.005)[0]:
        stage.journald.read()


@life()
def a_client_gets_what_the_journal_gets(stage: Stage) -> None:
    wait = stage.gate()
    stage.life.stub(f"{wait}; echo '<4>out'; echo err >&2; printf end; exit 3")
    journal(stage)
    stage.attach()
    stage.open_gate()


@life()
def a_file_and_the_journal_get_everything(stage: Stage) -> None:
    stage.exact = True
    saying(stage, Piece(b"one\n\n<4>two\nthree"), Piece(b"err\n", 2), Piece(b"end"))
    journal(stage, file=True)
    stage.logged(b"three\n")
    stage.open_gate()
    stage.logged(b"err\n")
    stage.open_gate()


@life("-n", "--log-tag")
def a_file_beside_the_journal_has_a(stage: Stage, option: str) -> None:
    stage.life.stub("echo out; exit 3")
    journal(stage, option, "word", file=True)


@life("none", "k8s-file:")
def the_journal_is_asked_for_beside(stage: Stage, driver: str) -> None:
    stage.life.stub("echo out; exit 3")
    journal(stage, "-l", f"{driver}{stage.life.log if driver != 'none' else ''}")


@life("--log-size-max", "--log-global-size-max")
def a_file_beside_the_journal_reaches_its_limit(stage: Stage, option: str) -> None:
    stage.exact = True
    saying(stage, Piece(A + B + C))
    journal(stage, option, "100", file=True)


@life()
def a_log_beside_the_journal_is_reopened(stage: Stage) -> None:
    saying(stage, Piece(A), Piece(B))
    journal(stage, file=True)
    stage.logged(A)
    stage.logs.append(stage.life.log.rename(stage.directory / "old.log"))
    stage.life.control(b"2 0 0\n")
    wait_until(stage.life.log.exists, "the fresh log")
    stage.open_gate()


@life()
def only_the_journal_is_there_to_be_reopened(stage: Stage) -> None:
    saying(stage, Piece(A), Piece(B))
    journal(stage)
    stage.entries(1)
    stage.life.control(b"2 0 0\n")
    stage.control_is_read()
    stage.open_gate()


@life()
def the_runtime_talks_to_the_journal(stage: Stage) -> None:
    stage.life.stub("echo out; exit 3", before="echo 'runtime: out'; echo 'runtime: err' >&2")
    journal(stage)


@life()
def a_start_fails_beside_the_journal(stage: Stage) -> None:
    stage.life.script("#!/bin/sh\necho broken >&2\nexit 1\n")
    journal(stage)


@life()
def an_exec_session_talks_to_the_journal(stage: Stage) -> None:
    stage.life.stub("echo out; echo err >&2; exit 3")
    journal(stage, exec_session=True)


@life()
def a_terminal_talks_to_the_journal(stage: Stage) -> None:
    stage.life.terminal_stub("echo out; printf end; exit 3")
    journal(stage, "-t")


@life()
def there_is_no_journal(stage: Stage) -> None:
    stage.journal().stop()
    stage.life.stub("echo out; exit 3")
    stage.start("-l", "journald", "--sync")
