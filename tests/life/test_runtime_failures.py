"""Runtimes that fail, lie, talk too much or leave no pid; what they say on success.

Acceptable: one answer, -1 and the last words. Not acceptable: none, two, a hang, an exit file.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess

import pytest

from tests.support.life import Life, wait_until
from tests.support.witness import Witness, kill, messages, number_in

# A runtime that leaves in its pid file what it likes.
LEAVES = """#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --pid-file ] && pid_file=$2; shift; done
{leave}
"""
# What is easy to get wrong in JSON, and the same as the contract wants it.
HARD = b'q" b\\ s/ \n\r\t\b\f \x01\x1f\x7f \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 end'
HARD_ESCAPED = (
    rb"q\" b\\ s\/ \n\r\t\b\f \u0001\u001f\u007f " + b"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 end"
)


def failed(life: Life, key: str = "data") -> str:
    """Check that there is one answer, -1, and no exit file; return the text."""
    answers = messages(life)
    assert [answer[key] for answer in answers] == [-1], answers
    assert list(life.exit_dir.iterdir()) == list(life.persist_dir.iterdir()) == []
    return str(answers[0].get("message", ""))


def witness_option(life: Life) -> tuple[Witness, list[str]]:
    seen = Witness(life, "exit-command")
    return seen, ["--exit-command", str(seen.program(life.directory / "exit-command"))]


# Ways to fail


@pytest.mark.contract("RT-19", "START-16", "START-17", "SYNC-6", "SYNC-11", "END-22")
@pytest.mark.parametrize("status", [1, 2, 126, 127, 128, 255])
def test_a_create_that_ends_non_zero_failed_even_with_a_pid(life: Life, status: int) -> None:
    seen, option = witness_option(life)
    life.stub("exec sleep 60", before="echo words >&2", status=status).start(*option)
    assert life.launcher is not None
    assert life.launcher.returncode == 0
    assert failed(life) == "words\n"
    seen.wait()


@pytest.mark.contract("RT-19", "SYNC-5", "CASE-304")
@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV"])
def test_a_create_that_is_killed_failed(life: Life, name: str) -> None:
    life.stub("exec sleep 60", after=f"kill -{name} $$").start()
    failed(life)


@pytest.mark.contract("RT-18", "SYNC-11")
@pytest.mark.parametrize("exec_session", [False, True])
@pytest.mark.parametrize("terminal", [[], ["-t"]], ids=["", "t"])
def test_a_runtime_that_cannot_be_executed_is_told(
    life: Life, exec_session: bool, terminal: list[str]
) -> None:
    # It is there and executable, so it passes the checks; its interpreter is not.
    life.script("#!/nonexistent/interpreter\n").start(*terminal, exec_session=exec_session)
    assert life.launcher is not None
    assert life.launcher.returncode == 0
    assert "No such file or directory" in failed(life)


@pytest.mark.contract("RT-20", "RT-23")
@pytest.mark.parametrize(
    "content", ["", "0", "-5", "garbage", "12x", "99999999999", "1.5", "+", "-", r"\0", r"1\0002"]
)
@pytest.mark.parametrize("exec_session", [False, True])
def test_a_pid_file_that_holds_no_pid_is_a_failed_start(
    life: Life, content: str, exec_session: bool
) -> None:
    life.script(LEAVES.format(leave=f"printf '{content}' > \"$pid_file\""))
    life.start(exec_session=exec_session)
    assert failed(life) != ""
    life.pid_file.unlink()


@pytest.mark.contract("RT-20", "CASE-404")
@pytest.mark.parametrize("exec_session", [False, True])
@pytest.mark.parametrize("leave", [":", 'mkdir "$pid_file"', 'ln -s nowhere "$pid_file"'])
def test_no_pid_file_is_a_failed_start(life: Life, leave: str, exec_session: bool) -> None:
    """Acceptable: one negative answer that says why.

    Not acceptable: a life with no process, a hang.
    """
    life.script(LEAVES.format(leave=leave)).start(exec_session=exec_session)
    assert failed(life) != ""
    life.pid_file = life.directory / "none"


@pytest.mark.contract("RT-23", "CALL-10")
@pytest.mark.parametrize("exec_session", [False, True])
def test_an_empty_pid_file_that_is_there_before_is_no_pid(life: Life, exec_session: bool) -> None:
    # As CRI-O makes it before ExecSync.
    life.pid_file.write_bytes(b"")
    life.script(LEAVES.format(leave="echo sorry >&2; exit 1")).start(exec_session=exec_session)
    assert failed(life) == "sorry\n"


@pytest.mark.contract("RT-23")
def test_an_empty_pid_file_that_is_there_before_is_written_to(life: Life) -> None:
    life.pid_file.write_bytes(b"")
    life.stub("exit 3").start(exec_session=True)
    assert life.pid() > 0
    assert life.exit_status() == 3


@pytest.mark.contract("RT-24")
@pytest.mark.parametrize("exec_session", [False, True])
@pytest.mark.parametrize("status", [0, 1])
def test_the_pid_of_a_stranger_in_an_old_pid_file_is_no_pid(
    life: Life, status: int, exec_session: bool
) -> None:
    # Not acceptable: to take it for the container, or to signal it.
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        life.pid_file.write_text(str(stranger.pid))
        life.script(LEAVES.format(leave=f"exit {status}")).start(
            "-T", "1", exec_session=exec_session
        )
        failed(life)
        life.wait_gone()
        assert stranger.poll() is None
    finally:
        life.pid_file.unlink()
        stranger.kill()
        stranger.wait()


@pytest.mark.contract("RT-24")
def test_the_pid_of_a_process_that_is_gone_in_an_old_pid_file_is_no_pid(life: Life) -> None:
    stranger = subprocess.Popen(["true"])
    stranger.wait()
    life.pid_file.write_text(str(stranger.pid))
    life.script(LEAVES.format(leave="exit 0")).start()
    failed(life)
    life.pid_file.unlink()


@pytest.mark.contract("RT-24")
def test_an_old_pid_file_that_is_written_anew_is_good(life: Life) -> None:
    life.pid_file.write_text(str(os.getpid()))
    life.stub("exit 5").start()
    assert life.pid() != os.getpid()
    assert life.exit_status() == 5


@pytest.mark.contract("RT-23")
def test_a_pid_with_a_newline_is_a_pid(life: Life) -> None:
    life.stub("exit 5", after='echo $! > "$pid_file"').start()
    assert life.pid() > 0
    assert life.exit_status() == 5


@pytest.mark.contract("RT-22", "SYNC-7")
@pytest.mark.parametrize("api", [True, False])
def test_an_exec_that_ends_non_zero_with_a_pid_has_started(life: Life, api: bool) -> None:
    # The runtime ends with 255 and the container process with 6: that is the session's status.
    life.stub("exit 6", status=255)
    arguments = life.arguments(exec_session=True)
    life.start(raw=arguments if api else arguments[2:])
    answers = messages(life)
    if api:
        assert answers == [{"data": int(life.pid_file.read_text())}, {"data": 6}]
    else:
        assert answers == [{"exit_code": 6}]
    assert life.exit_status() == 6


@pytest.mark.contract("RT-21")
@pytest.mark.parametrize("exec_session", [False, True])
def test_a_runtime_that_hands_over_no_terminal_failed(life: Life, exec_session: bool) -> None:
    life.stub("exec sleep 60").start("-t", exec_session=exec_session)
    assert failed(life) == "Runtime did not set up terminal"


@pytest.mark.contract("RT-21", "SYNC-11", "TTY-5")
@pytest.mark.parametrize(
    "send",
    [
        "s.close()",
        's.send(b"no descriptor")',
        's.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", 0))])',
    ],
    ids=["nothing", "data alone", "no terminal"],
)
def test_a_bad_handover_of_the_terminal_gets_one_answer(life: Life, send: str) -> None:
    seen, option = witness_option(life)
    code = f"import socket, struct, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); {send}"
    life.stub("exec sleep 60", before=f"/usr/bin/env python3 -c '{code}' \"$console\"")
    life.start("-t", *option)
    failed(life)
    seen.wait()
    life.wait_gone()
    assert [path.name for path in life.bundle.iterdir() if "conmon" in path.name] == []


@pytest.mark.contract("END-23", "CLI-54")
@pytest.mark.parametrize("exec_session", [False, True])
def test_the_status_of_a_failed_start_with_sync_is_1_whatever_the_exit_command_says(
    life: Life, exec_session: bool
) -> None:
    seen = Witness(life, "exit-command")
    command = seen.program(life.directory / "exit-command", "exit 77")
    life.script(LEAVES.format(leave="exit 9"))
    life.start("--sync", "--exit-command", str(command), exec_session=exec_session)
    assert life.launcher is not None
    assert life.launcher.returncode == 1
    assert seen.been()


# Case 3


@pytest.mark.contract("CASE-301", "CASE-302", "CASE-303", "CASE-304", "SYNC-8", "END-22")
@pytest.mark.parametrize("sync", [[], ["--sync"]], ids=["daemon", "sync"])
@pytest.mark.parametrize("api", [True, False], ids=["api-1", "api-0"])
@pytest.mark.parametrize("terminal", [[], ["-t"]], ids=["pipes", "terminal"])
@pytest.mark.parametrize(
    ("leave", "text"),
    [
        ("echo 'exec: no such file' >&2; exit 127", "exec: no such file\n"),
        (
            "echo 'chdir to cwd: no such directory' >&2; exit 126",
            "chdir to cwd: no such directory\n",
        ),
        ("exit 0", None),
        ("echo a few words >&2; kill -KILL $$", "a few words\n"),
    ],
    ids=["no-binary", "bad-cwd", "no-pid-file", "killed"],
)
def test_an_exec_that_never_starts(
    life: Life, leave: str, text: str | None, terminal: list[str], api: bool, sync: list[str]
) -> None:
    """Acceptable: one negative answer, with the runtime's words if it had any, then the exit
    command. Not acceptable: no answer, two, one that promises a pid, an exit file, an exit
    command that is left out.
    """
    seen, option = witness_option(life)
    life.script(LEAVES.format(leave=leave))
    arguments = life.arguments(*terminal, *sync, *option, exec_session=True)
    life.start(raw=arguments if api else arguments[2:])
    said = failed(life, "data" if api else "exit_code")
    assert said == text if text is not None else said
    seen.wait()
    assert life.launcher is not None
    assert life.launcher.returncode == (1 if sync else 0)


# Words


def raw_message(life: Life) -> bytes:
    assert life.sync is not None
    life.sync.settimeout(20)
    data: bytes = life.sync.recv(65536)
    assert life.sync.recv(65536) == b""
    return data


def says(life: Life, words: bytes, leave: str) -> None:
    """Make the runtime one that writes *words* to stderr and then does *leave*."""
    said = life.directory / "said"
    said.write_bytes(words)
    life.script(LEAVES.format(leave=f"cat {said} >&2\n{leave}"))


@pytest.mark.contract("SYNC-13", "SYNC-1", "SYNC-3")
def test_the_text_is_escaped_as_conmon_does(life: Life) -> None:
    says(life, HARD, "exit 1")
    life.start()
    assert raw_message(life) == b'{"data": -1, "message": "' + HARD_ESCAPED + b'"}\n'


@pytest.mark.contract("SYNC-13")
def test_every_control_character_is_escaped_alone(life: Life) -> None:
    words = bytes(range(1, 128))
    says(life, words, "exit 1")
    life.start()
    message = raw_message(life)
    assert json.loads(message)["message"] == words.decode()
    assert all(byte >= 32 and byte != 127 for byte in message[:-1])


@pytest.mark.contract("SYNC-14")
@pytest.mark.parametrize(
    "words",
    [b"\xff", b"a\x80b", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"],
)
def test_bytes_that_are_no_utf_8_become_replacement_characters(life: Life, words: bytes) -> None:
    says(life, b"before " + words + b" after", "exit 1")
    life.start()
    text = json.loads(raw_message(life))["message"]
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert "\ufffd" in text


@pytest.mark.contract("SYNC-14", "SYNC-13")
def test_nul_does_not_end_the_text(life: Life) -> None:
    says(life, b"before\0after", "exit 1")
    life.start()
    assert json.loads(raw_message(life))["message"] == "before\0after"


@pytest.mark.contract("SYNC-5")
@pytest.mark.parametrize("exec_session", [False, True])
def test_a_silent_failure_has_an_answer_of_one_number_or_a_reason(
    life: Life, exec_session: bool
) -> None:
    life.script(LEAVES.format(leave="exit 1")).start(exec_session=exec_session)
    answer = json.loads(raw_message(life))
    assert answer["data"] == -1
    assert answer.get("message") != ""


MUCH = (b'line "with" quotes \\ and\0NUL and \xff\xfe bad UTF-8 \xc3\xa9\n' * 4000)[:204_800]


@pytest.mark.contract("CASE-201", "CASE-202", "SYNC-2", "RT-26", "RT-28")
@pytest.mark.parametrize("leave", ["exit 1", 'echo 1 > "$pid_file"; exit 1'], ids=["201", "202"])
@pytest.mark.parametrize("terminal", [[], ["-t"]], ids=["pipes", "terminal"])
@pytest.mark.parametrize("kind", ["create", "exec"])
def test_of_200_kib_the_last_words_are_reported(
    life: Life, leave: str, terminal: list[str], kind: str
) -> None:
    """Acceptable: one valid message of at most 4096 bytes. Not acceptable: a hang at 64 KiB."""
    if kind == "exec":
        leave = leave.replace('echo 1 > "$pid_file"; ', 'echo rubbish > "$pid_file"; ')
    says(life, MUCH + b"the last words", leave)
    life.start(*terminal, exec_session=kind == "exec")
    message = raw_message(life)
    assert len(message) <= 4096
    assert len(message) > 3000
    assert json.loads(message)["message"].endswith("bad UTF-8 \xe9\nthe last words")
    assert list(life.exit_dir.iterdir()) == []
    life.pid_file = life.directory / "none"


@pytest.mark.contract("SYNC-2", "SYNC-13")
@pytest.mark.parametrize("letter", [b"\x01", b'"', b"\xc3\xa9", b"\xff", b"a"])
@pytest.mark.parametrize("count", [4000, 4060, 4064, 4065, 4096, 9000])
def test_a_long_text_is_cut_between_characters(life: Life, letter: bytes, count: int) -> None:
    says(life, letter * count, "exit 1")
    life.start()
    message = raw_message(life)
    assert len(message) <= 4096
    text = json.loads(message)["message"]
    assert set(text) == set(letter.decode("utf-8", "replace"))


# What the runtime says when all went well


@pytest.mark.contract("RT-25", "RT-27")
def test_what_the_runtime_says_stands_in_the_log_before_the_container(life: Life) -> None:
    before = "echo runtime out; echo runtime err >&2"
    life.stub("echo container out; echo container err >&2; exit 3", before=before).start()
    life.pid()
    assert life.exit_status() == 3
    life.wait_gone()
    assert life.text("stdout") == b"runtime out\ncontainer out\n"
    assert life.text("stderr") == b"runtime err\ncontainer err\n"


@pytest.mark.contract("RT-26", "RT-27")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_runtime_that_says_200_kib_and_succeeds_is_logged_whole_and_in_order(
    life: Life, stream: str
) -> None:
    said = life.directory / "said"
    said.write_bytes(b"".join(b"%d\n" % number for number in range(35_000)))
    direction = ">&2" if stream == "stderr" else ""
    life.stub(f"echo last {direction}; exit 3", before=f"cat {said} {direction}").start()
    life.pid()
    assert life.exit_status() == 3
    life.wait_gone()
    assert life.text(stream) == said.read_bytes() + b"last\n"


@pytest.mark.contract("RT-25", "RT-27", "CALL-2")
def test_a_client_gets_the_runtimes_words_too(life: Life) -> None:
    life.stub("echo container; exit 0", before="echo runtime")
    life.start("--exec-attach", exec_session=True, start_pipe=True, attach_pipe=True, wait=False)
    os.write(life.start_pipe, b"1")
    assert life.message(life.attach_pipe) == {"data": 0}
    client = life.attach()
    os.write(life.start_pipe, b"2")
    said = b""
    while packet := client.recv(8193):
        assert packet[:1] == b"\2"
        said += packet[1:]
    client.close()
    assert said == b"runtime\ncontainer\n"


@pytest.mark.contract("RT-27")
def test_of_a_start_that_failed_nothing_is_logged(life: Life) -> None:
    life.script(LEAVES.format(leave="echo out; echo err >&2; exit 1")).start()
    assert failed(life) == "err\n"
    life.wait_gone()
    assert life.log.read_bytes() == b""


@pytest.mark.contract("RT-26", "CASE-304")
def test_a_runtime_that_floods_and_never_ends_is_ended_by_sigterm(life: Life) -> None:
    # Held output is bounded: the flood waits (or is thrown away), the monitor goes on.
    flooding = life.directory / "flooding"
    life.script(
        "#!/bin/sh\ni=0\nwhile :; do echo xxxxxxxxxxxxxxxxxxxxx; echo yyyyyyyyyy >&2\n"
        f"i=$((i+1)); [ $i -ne 5000 ] || : > {flooding}; done\n"
    ).start()
    wait_until(flooding.exists, "the flood")
    os.kill(life.monitor_pid(), 15)
    assert failed(life) != ""


@pytest.mark.contract("RT-26", "RT-27")
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_runtime_that_says_3_mib_and_succeeds_has_started(life: Life, stream: str) -> None:
    # Acceptable: what is kept is bounded. Not acceptable: that the runtime can never end.
    direction = ">&2" if stream == "stderr" else ""
    life.stub(f"echo last {direction}; exit 3", before=f"seq 1 450000 {direction}").start()
    life.pid()
    assert life.exit_status() == 3
    life.wait_gone()
    assert life.text(stream).endswith(b"\nlast\n")


@pytest.mark.contract("SYNC-11", "RT-28", "END-14", "END-22")
@pytest.mark.parametrize("what", ["exec sleep 60", "yes >&2 & yes >&2 & yes >&2 & exec yes >&2"])
def test_what_a_failed_runtime_leaves_behind_holds_up_no_answer(life: Life, what: str) -> None:
    """Acceptable: one answer, while a child of the runtime holds its stderr, silent or flooding.

    Not acceptable: to read on for as long as something comes.
    """
    seen, option = witness_option(life)
    name = life.directory / "left"
    leave = f"echo words >&2; sh -c 'echo $$ > {name}; {what}' &\n"
    leave += f"while [ ! -s {name} ]; do :; done; exit 1"
    life.script(LEAVES.format(leave=leave)).start(*option)
    try:
        assert life.sync is not None
        life.sync.settimeout(8)
        assert json.loads(life.sync.recv(65536))["data"] == -1
        seen.wait()
    finally:
        kill(number_in(name))


# Whole command lines


@pytest.mark.contract("CALL-9", "CLI-52", "ATT-3")
def test_cri_os_create_works_as_it_is_called(life: Life) -> None:
    sockets = life.directory / "sockets"
    sockets.mkdir()
    life.stub("cat; exit 3")
    raw = ["-b", str(life.bundle), "-c", life.cid, "--exit-dir", str(life.exit_dir)]
    raw += ["-l", str(life.log), "--log-level", "info", "-n", "k8s_name", "-P"]
    raw += [f"{life.bundle}/conmon-pidfile", "-p", f"{life.bundle}/pidfile", "--persist-dir"]
    raw += [str(life.persist_dir), "-r", str(life.runtime), "--runtime-arg", "--root=/x"]
    raw += ["--socket-dir-path", str(sockets), "--syslog", "-u", life.cid, "-s"]
    raw += ["--leave-stdin-open", "-i"]
    life.conmon_pid_file = life.bundle / "conmon-pidfile"
    life.pid_file = life.bundle / "pidfile"
    life.start(raw=raw, start_pipe=True, wait=False, sync_kind=socket.SOCK_STREAM)
    assert life.launcher is not None
    os.write(life.start_pipe, b"x")
    assert life.launcher.wait(20) == 0
    answer = life.message()
    assert answer == {"pid": number_in(life.pid_file)}
    assert (sockets / life.cid).resolve() == life.bundle
    kill(answer["pid"], 15)
    assert life.exit_status() == 143
    life.wait_gone()
    assert list(sockets.iterdir()) == []


@pytest.mark.contract("CALL-10", "CALL-11")
@pytest.mark.parametrize("sync", [[], ["--sync"]], ids=["daemon", "sync"])
def test_cri_os_exec_sync_works_as_it_is_called(life: Life, sync: list[str]) -> None:
    # No bundle, no uuid, no exit dir; the pid file is there and empty; the answer is one.
    life.stub("echo out; echo err >&2; exit 3")
    spec = life.directory / "spec"
    spec.write_text("{}")
    life.pid_file.write_bytes(b"")
    raw = [
        "-c",
        life.cid,
        "-n",
        "k8s_name",
        "-r",
        str(life.runtime),
        "-p",
        str(life.pid_file),
        "-e",
    ]
    raw += ["-l", str(life.log), "--runtime-arg", "--root=/x", "--socket-dir-path", "/nonexistent"]
    raw += ["--log-level", "info", "-T", "30", "--exec-process-spec", str(spec), *sync]
    life.start(raw=raw, sync_kind=socket.SOCK_STREAM)
    assert messages(life) == [{"exit_code": 3}]
    assert life.launcher is not None
    assert life.launcher.returncode == (3 if sync else 0)
    assert (life.text("stdout"), life.text("stderr")) == (b"out\n", b"err\n")
