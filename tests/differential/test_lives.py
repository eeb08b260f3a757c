"""Play the same lives under Debian's conmon and under lowconmon; both must leave the same.

Each life is a function that plays on a `Stage`, once with the oracle and once with ours, in two
directories of the same layout; more of them are in log_lives.py, notify_lives.py and oom_lives.py.
Compared is all that a manager can see: the launcher, each message, each file, the log, the journal,
what clients got, what the runtime and the exit command were given.

Acceptable: a difference that stands in LIFE_DIFFERENCES (oracle_differences.py), exactly as it
stands there. Not acceptable: any other difference, and a row there that is true no more.
"""

from __future__ import annotations

import fnmatch
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.differential import log_lives, notify_lives, oom_lives  # noqa: F401 - enter their lives
from tests.differential.oracle_differences import ABSENT, ANY, LIFE_DIFFERENCES, LifeDifference
from tests.differential.stage import CID, LIVES, Stage, life
from tests.support import ROOT
from tests.support.life import DEADLINE, HAND_OVER, program, wait_until
from tests.support.witness import Witness, number_in, odd

CONMON = "/usr/bin/conmon"
LONG = 400  # characters of a value that a failure shows

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
        f"#!{sys.executable} -IS\nimport os, sys\n"
        "pid = os.fork()\n"
        "if pid == 0:\n    os.write(1, b'early\\n')\n    os._exit(3)\n"
        "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n"
        "with open(sys.argv[sys.argv.index('--pid-file') + 1], 'w') as file:\n"
        "    file.write(str(pid))\n"
        "os._exit(0)\n"
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
    stage.life.log = stage.directory / "kept"
    stage.logs = [stage.life.log]
    stage.life.log.write_bytes(old)
    stage.life.stub("echo new")
    stage.start()


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
    come, go = stage.gate("come"), stage.gate("go")
    stage.life.stub(f"{come}; cat; echo ended; {go}; exit 3")
    stage.start()
    client = stage.attach()
    client.send(b"dropped\n")
    client.shutdown(socket.SHUT_WR)
    stage.open_gate("come")
    stage.logged(b"ended")
    stage.open_gate("go")


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
    for path in stage.in_bundle():
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


@life((), ("-i",))
def a_terminal_outlives_its_first_client(stage: Stage, more: tuple[str, ...]) -> None:
    script = "stty -echo; echo ready; read a; echo got $a; read b; echo got $b; exec tail -f"
    stage.life.terminal_stub(f"{script} /dev/null")
    stage.start("-t", *more)
    stage.logged(b"ready")
    first = stage.attach()
    first.send(b"first\n")
    stage.logged(b"got first")
    first.close()
    stage.clients.remove(first)
    stage.attach().send(b"second\n")
    stage.seen["the second is heard"] = stage.soon(b"got second")
    os.kill(number_in(stage.life.pid_file), signal.SIGKILL)


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


BAD_LINES = {
    "one number": b"1 10\n",
    "another type": b"3 1 1\n",
    "too large a number": b"1 2000 5\n",
    "words": b"x\n",
    "nothing": b"\n",
    "fractions": b"1 10.5 20\n",
}


def bad_and_good_lines(stage: Stage, what: str, *, together: bool) -> None:
    wait = "until stty size | grep -q '24 80'; do :; done; echo 24 by 80"
    stage.life.terminal_stub(f"{wait}; exec tail -f /dev/null")
    stage.start("-t")
    stage.message()
    stage.life.control(BAD_LINES[what] + b"1 24 80\n" * together)
    stage.control_is_read()
    if not together:
        stage.life.control(b"1 24 80\n")
    stage.seen["the good line is heard"] = stage.soon(b"24 by 80")
    os.kill(number_in(stage.life.pid_file), signal.SIGKILL)


@life(*BAD_LINES)
def a_good_control_line_follows_a_bad_one_of(stage: Stage, what: str) -> None:
    bad_and_good_lines(stage, what, together=False)


@life(*BAD_LINES)
def a_good_control_line_comes_together_with_a_bad_one_of(stage: Stage, what: str) -> None:
    bad_and_good_lines(stage, what, together=True)


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
    "after its pid file": "",
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


def failing(stage: Stage, how: str) -> None:
    if how == "after its pid file":
        stage.life.stub("exit 0", after="echo late >&2", status=1)
    else:
        stage.life.script(FAILING.format(how=FAILURES[how]))


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


@life(100, 101, 16777216)
def an_exec_as_cri_o_does_it_has_a_global_limit_of(stage: Stage, limit: int) -> None:
    stage.exact = True
    log_lives.saying(stage, log_lives.Piece(log_lives.A + log_lives.B))
    arguments = exec_sync(stage, "--log-global-size-max", str(limit))
    stage.start(raw=arguments, sync_kind=socket.SOCK_STREAM, wait=False, cwd=stage.life.bundle)


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
    wait = stage.gate()
    stage.life.stub(f"{wait}; echo out; exit 4")
    stage.start("--exec-attach", exec_session=True, attach_pipe=True, start_pipe=True, wait=False)
    one = stage.life
    os.write(one.start_pipe, b"\0")
    assert one.attach_pipe is not None
    one.attach_pipe.settimeout(DEADLINE)
    stage.seen["attach pipe at once"] = one.attach_pipe.recv(100)
    stage.clients.append(one.attach())
    stage.seen["started before the second start"] = Witness(one).been()
    os.write(one.start_pipe, b"\0")
    stage.message()
    stage.find_monitor()
    stage.attach()  # accepted in turn: the first one has been, too
    stage.open_gate()


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


@life((), ("4711",), ("@PID@",), ("@PID@", "--sync"), ("4711", "--replace-listen-pid"))
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


# Other runtimes


def host_runtime(stage: Stage, script: str, *, terminal: bool = False) -> list[str]:
    """Make hostrun the runtime and a shell script the container; return hostrun's command."""
    installed = os.environ.get("LOWCONMON_HOSTRUN")
    run = installed or f"env PYTHONPATH={ROOT} {sys.executable} -P -m lowconmon_tools.hostrun"
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
    stage.created()
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


@life(("/bin/sh", "-c", "echo out; echo err >&2; exit 9"), ("/bin/none",))
def an_exec_in_a_container_of_runc(stage: Stage, arguments: tuple[str, ...]) -> None:
    command = runc_container(stage, "tail -f /dev/null")
    bundle = str(stage.life.bundle)
    for words in (["create", "--bundle", bundle, CID], ["start", CID]):
        done = subprocess.run(  # without pipes: the container would hold them open
            [*command, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            timeout=DEADLINE, check=False,
        )  # fmt: skip
        assert done.returncode == 0
    process = json.loads((stage.life.bundle / "config.json").read_text())["process"]
    (stage.directory / "process.json").write_text(json.dumps(process | {"args": arguments}))
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


def is_among(sentence: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(sentence, pattern) for pattern in patterns)


def rows_for(sentence: str) -> list[LifeDifference]:
    """Return the rows of the table that are about a life."""
    return [
        row
        for row in LIFE_DIFFERENCES
        if is_among(sentence, row.lives) and not is_among(sentence, row.but)
    ]


def shown(value: Any) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= LONG else f"{text[:LONG]}... ({len(text)} characters)"


def unexpected(sentence: str, oracle: dict[str, Any], ours: dict[str, Any]) -> list[str]:
    """Return what differs and is in no row, and the rows that do not hold."""
    wrong = []
    rows = rows_for(sentence)
    unseen = {at for at, row in enumerate(rows) if "*" not in row.lives}
    for field in sorted({*oracle, *ours}):
        pair = oracle.get(field, ABSENT), ours.get(field, ABSENT)
        said = f"{field}\n  oracle {shown(pair[0])}\n  ours   {shown(pair[1])}"
        at = next((at for at, row in enumerate(rows) if fnmatch.fnmatchcase(field, row.field)), -1)
        unseen.discard(at)
        if at < 0:
            wrong += [said] * (pair[0] != pair[1])
        elif not all(map(meets, pair, (rows[at].oracle, rows[at].ours))):
            wrong.append(said + f"\n  but the table says so: {shown(rows[at][2:4])}")
    return wrong + [f"nobody saw {rows[at].field}: {rows[at].why}" for at in sorted(unseen)]


def meets(seen: Any, row: Any) -> bool:
    return row is ANY or bool(seen == row)


@pytest.fixture
def home() -> Iterator[Path]:
    assert os.access(CONMON, os.X_OK), f"the oracle is missing: install Debian's conmon ({CONMON})"
    path = Path(tempfile.mkdtemp(prefix="lives-", dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.mark.parametrize("sentence", LIVES)
def test_both_monitors_leave_the_same(sentence: str, home: Path) -> None:
    oracle = perform(sentence, home / "a", [CONMON])
    ours = perform(sentence, home / "b", program())
    wrong = unexpected(sentence, oracle, ours)
    if wrong:
        pytest.fail(f"{sentence}:\n" + "\n".join(wrong), pytrace=False)


def test_every_row_is_about_some_life() -> None:
    for row in LIFE_DIFFERENCES:
        for pattern in (*row.lives, *row.but):
            assert fnmatch.filter(LIVES, pattern), row
        assert row.oracle != row.ours, row
