"""What a podman user sees of the monitor, shown with a real podman, runc and busybox.

The monitor under test is the program that LOWCONMON_PROGRAM names, Debian's conmon for instance:

    LOWCONMON_PROGRAM=/usr/bin/conmon python -m pytest tests/podman
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import re
import signal
import stat
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.podman.podman_house import HOME, IDLE, IMAGE, Terminal, read_until, wait_until
from tests.support import SLOWNESS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.podman.podman_house import Podman

PROMPT = rb"# "
MEGABYTE = 1024 * 1024
RECORD = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d (stdout|stderr) ([FP]) (.*)"
)
WAIT_FOR_GATE = "read line < /share/gate"
# The shell's wait, unlike its read, cannot miss a signal that comes just before it blocks.
WAIT_FOR_SIGNALS = "sleep 100000 & while :; do wait; done"


def reach(terminal: Terminal, command: str, wanted: bytes, seconds: float = 15) -> None:
    """Type *command* at each prompt until *wanted* is among what it prints."""
    deadline = time.monotonic() + seconds * SLOWNESS
    while True:
        terminal.type(f"{command}; echo do''ne\n")
        seen = terminal.expect(rb"(?s)(.*?\r\n)done\r\n")[1]
        if wanted in seen:
            return
        assert time.monotonic() < deadline, (wanted, terminal.transcript)


# -- podman run ----------------------------------------------------------------------------------


@pytest.mark.contract("CALL-1")
def test_run_keeps_stdout_and_stderr_apart(podman: Podman) -> None:
    done = podman("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; printf end")
    assert done == (0, b"out\nend", b"err\n")


@pytest.mark.parametrize("code", [0, 1, 42, 125, 126, 127, 128, 137, 255])
def test_run_returns_the_exit_code_of_the_container(podman: Podman, code: int) -> None:
    done = podman("run", "--rm", IMAGE, "sh", "-c", f"echo text; exit {code}")
    assert (done.code, done.out) == (code, b"text\n")


@pytest.mark.parametrize(
    ("command", "code", "complaint"),
    [
        ("/etc/passwd", 126, b"permission denied"),
        ("/no/such/command", 127, b"no such file or directory"),
    ],
)
@pytest.mark.parametrize("mode", ["-i", "-d", "-t"])
def test_run_of_what_cannot_start_tells_why_and_leaves_nothing_running(
    podman: Podman, mode: str, command: str, code: int, complaint: bytes
) -> None:
    done = podman("run", mode, "--name", "failed", IMAGE, command)
    assert done.code == code
    assert complaint in done.err.lower()
    assert podman.ok("ps", "-q") == b""
    wait_until(lambda: not podman.house.processes(), "an end of all processes")


def test_run_of_an_unknown_image_is_podmans_own_error(podman: Podman) -> None:
    assert podman("run", "--pull", "never", "localhost/none", "true").code == 125


def test_run_without_stdin_gives_the_container_an_empty_one(podman: Podman) -> None:
    done = podman("run", "--rm", IMAGE, "sh", "-c", "cat; echo end", data=b"not for you\n")
    assert (done.code, done.out) == (0, b"end\n")


def test_run_passes_sigterm_on_to_the_container(podman: Podman) -> None:
    # podman 4.3 prints what the container says before it passes signals on, and a signal in between
    # ends podman alone, with conmon too: then try again.
    for number in range(8):
        process = podman.start(
            "run", "--name", f"box{number}", *podman.shared, IMAGE, "sh", "-c",
            f"trap 'echo caught; exit 9' TERM; echo ready; {WAIT_FOR_SIGNALS}",
        )  # fmt: skip
        assert process.stdout is not None
        read_until(process.stdout, b"ready\n")
        os.kill(podman.child(process), signal.SIGTERM)
        if process.wait(15) != 0:
            break
        podman.ok("rm", "-f", "-t", "0", f"box{number}")
    assert process.returncode == 9
    assert podman.ok("logs", f"box{number}") == b"ready\ncaught\n"


def test_run_kills_the_container_when_its_timeout_is_over(podman: Podman) -> None:
    seconds = round(2 * SLOWNESS)  # it counts before podman has the runtime start the container
    begin = time.monotonic()
    done = podman("run", "--name", "box", "--timeout", str(seconds), IMAGE, *IDLE)
    elapsed = time.monotonic() - begin
    assert done.code == 255
    # conmon counts in whole seconds and may be early by almost one.
    assert seconds - 1 < elapsed < 10 * SLOWNESS
    state = podman.state("box")
    assert (state["Status"], state["ExitCode"]) == ("exited", -1)


def test_run_hands_preserved_descriptors_to_the_container(podman: Podman) -> None:
    podman.share.joinpath("three").write_text("from descriptor 3\n")
    opened = ("sh", "-c", f'exec "$@" 3< {HOME}/share/three', "sh")
    done = podman("run", "--rm", "--preserve-fds", "1", IMAGE, "sh", "-c", "cat <&3", before=opened)
    assert done.out == b"from descriptor 3\n", done.err


def test_run_without_a_log_still_shows_the_output(podman: Podman) -> None:
    done = podman("run", "--name", "box", "--log-driver", "none", IMAGE, "echo", "text")
    assert (done.code, done.out) == (0, b"text\n")
    assert not podman.bundle("box").joinpath("ctr.log").exists()


def test_run_with_json_file_logs_as_a_k8s_file_for_podman_itself_puts_that_in_its_place(
    podman: Podman,
) -> None:
    script = "echo out; echo err >&2"
    done = podman("run", "--name", "box", "--log-driver", "json-file", IMAGE, "sh", "-c", script)
    assert done == (0, b"out\n", b"err\n")
    records = [RECORD.fullmatch(line) for line in podman.log_file("box").read_bytes().splitlines()]
    assert {match.groups() for match in records if match} == {
        (b"stdout", b"F", b"out"), (b"stderr", b"F", b"err"),
    }  # fmt: skip
    assert podman("logs", "box") == (0, b"out\n", b"err\n")


@pytest.mark.contract("PASS-1", "PASS-2", "PASS-3", "PASS-4")
def test_run_with_passthrough_gives_the_container_our_own_descriptors(podman: Podman) -> None:
    done = podman(
        "run", "--name", "box", "--log-driver", "passthrough", IMAGE,
        "sh", "-c", "echo out; echo err >&2; exit 3",
    )  # fmt: skip
    assert done == (3, b"out\n", b"err\n")
    assert not {"ctr.log", "attach", "ctl", "winsz"} & {
        path.name for path in podman.bundle("box").iterdir()
    }
    assert podman("logs", "box").out == b""


@pytest.mark.contract("PASS-1", "PASS-5")
def test_with_passthrough_input_comes_from_us_and_output_goes_into_our_file(
    podman: Podman, tmp_path: Path
) -> None:
    data = os.urandom(3 * MEGABYTE)
    with tmp_path.joinpath("out").open("wb") as out:
        out.write(b"before\n")
        out.flush()
        done = podman(
            "run", "-i", "--rm", "--log-driver", "passthrough", IMAGE,
            "sh", "-c", "stat -L -c %F /proc/self/fd/1; cat", data=data, stdout=out,
        )  # fmt: skip
    assert (done.code, done.err) == (0, b"")
    assert tmp_path.joinpath("out").read_bytes() == b"before\nregular file\n" + data


@pytest.mark.contract("PASS-1")
def test_with_passthrough_exec_stop_and_wait_are_as_always(podman: Podman) -> None:
    process = podman.start(
        "run", "--name", "box", "--log-driver", "passthrough", IMAGE, "sh", "-c",
        f"trap 'echo bye; exit 9' TERM; echo ready; {WAIT_FOR_SIGNALS}",
    )  # fmt: skip
    assert process.stdout is not None
    read_until(process.stdout, b"ready\n")
    done = podman("exec", "-i", "box", "sh", "-c", "cat; echo err >&2; exit 5", data=b"text")
    assert done == (5, b"text", b"err\n")
    podman.ok("stop", "box")
    assert process.stdout.read() == b"bye\n"
    assert process.wait(15) == 9
    assert podman.ok("wait", "box") == b"9\n"


@pytest.mark.timeout(180)
def test_a_hundred_megabytes_come_through_stdin_and_back_unchanged(
    podman: Podman, tmp_path: Path
) -> None:
    block = os.urandom(MEGABYTE)
    sent = hashlib.sha256()
    with (
        tmp_path.joinpath("data").open("wb+") as data,
        tmp_path.joinpath("back").open("wb") as back,
    ):
        for number in range(100):
            part = number.to_bytes(4, "big") + block[4:]
            data.write(part)
            sent.update(part)
        data.seek(0)
        done = podman("run", "-i", "--rm", IMAGE, "cat", stdin=data, stdout=back, seconds=150)
    assert (done.code, done.err) == (0, b"")
    with tmp_path.joinpath("back").open("rb") as back:
        assert back.seek(0, os.SEEK_END) == 100 * MEGABYTE
        back.seek(0)
        assert hashlib.file_digest(back, "sha256").digest() == sent.digest()


def test_a_container_reads_its_input_to_the_end_and_answers_afterwards(podman: Podman) -> None:
    data = os.urandom(300_000)
    done = podman("run", "-i", "--rm", IMAGE, "sha256sum", data=data)
    assert done.out.split()[:1] == [hashlib.sha256(data).hexdigest().encode()]


# -- run -d, logs --------------------------------------------------------------------------------


def test_logs_shows_what_a_detached_container_wrote_on_both_streams(podman: Podman) -> None:
    podman.shell("box", "echo out; echo err >&2; printf unfinished; exit 4")
    assert podman.ok("wait", "box") == b"4\n"
    done = podman("logs", "box")
    # podman ends the unfinished line itself.
    assert (done.out.rstrip(b"\n"), done.err) == (b"out\nunfinished", b"err\n")


@pytest.mark.contract("CALL-7")
def test_every_line_of_the_log_file_is_a_record(podman: Podman) -> None:
    podman.shell("box", "echo out; echo err >&2; printf '\\000\\377\\r\\n\\nrest'")
    podman.ok("wait", "box")
    records = podman.log_file("box").read_bytes().split(b"\n")
    assert records.pop() == b""
    found = [match.groups() for record in records if (match := RECORD.fullmatch(record))]
    assert len(found) == len(records)
    assert [(kind, text) for stream, kind, text in found if stream == b"stdout"] == [
        (b"F", b"out"), (b"F", b"\x00\xff\r"), (b"F", b""), (b"P", b"rest"),
    ]  # fmt: skip
    assert [(kind, text) for stream, kind, text in found if stream == b"stderr"] == [(b"F", b"err")]


def test_logs_follows_a_container_to_its_end(podman: Podman) -> None:
    gate = podman.gate()
    podman.shell("box", f"echo one; {WAIT_FOR_GATE}; echo $line; {WAIT_FOR_GATE}; echo three")
    follower = podman.start("logs", "-f", "box")
    assert follower.stdout is not None
    assert read_until(follower.stdout, b"one\n") == b"one\n"
    gate.open("two")
    assert read_until(follower.stdout, b"two\n") == b"two\n"
    gate.open()
    assert read_until(follower.stdout, b"three\n") == b"three\n"
    assert follower.wait(15) == 0


def test_a_prompt_without_newline_is_in_the_log_at_once(podman: Podman) -> None:
    podman.gate()
    podman.shell("box", f"printf 'name? '; {WAIT_FOR_GATE}")
    podman.wait_for_log("box", b" stdout P name? \n")


@pytest.mark.parametrize("count", [0, 1, 7, 500])
def test_logs_tail_shows_the_last_lines(podman: Podman, count: int) -> None:
    podman.shell("box", "seq 300")
    podman.ok("wait", "box")
    lines = podman.ok("logs", "--tail", str(count), "box").split()
    assert lines == [b"%d" % number for number in range(max(1, 301 - count), 301)]


def test_logs_since_leaves_out_what_is_older(podman: Podman) -> None:
    gate = podman.gate()
    podman.shell("box", f"echo one; {WAIT_FOR_GATE}; echo two")
    podman.wait_for_log("box", b"one")
    between = time.time_ns()
    gate.open()
    podman.ok("wait", "box")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(between // 10**9))
    since = f"{stamp}.{between % 10**9:09}Z"
    assert podman.ok("logs", "--since", since, "box") == b"two\n"
    assert podman.ok("logs", "--until", since, "box") == b"one\n"


@pytest.mark.timeout(180)
def test_fifty_megabytes_of_output_are_in_the_log_unchanged(podman: Podman, tmp_path: Path) -> None:
    lines = [b"%07d " % number + b"x" * (number * 37 % 400) for number in range(250_000)]
    lines[1000:1004] = [b"a" * 8191, b"b" * 8192, b"c" * 8193, b"d" * 65536]
    data = b"\n".join(lines) + b"\n"
    assert len(data) > 50_000_000
    podman.share.joinpath("data").write_bytes(data)
    podman.shell("box", "cat /share/data")
    assert podman.ok("wait", "box", seconds=60) == b"0\n"
    with tmp_path.joinpath("logs").open("wb+") as logs:
        done = podman("logs", "box", stdout=logs, seconds=120)
        assert (done.code, done.err) == (0, b"")
        logs.seek(0)
        found = logs.read()
    assert len(found) == len(data)
    assert hashlib.sha256(found).digest() == hashlib.sha256(data).digest()


# -- logs with a limit ---------------------------------------------------------------------------


@pytest.mark.contract("ROT-4", "ROT-5", "CALL-1")
def test_a_limited_log_keeps_below_its_limit_and_has_the_newest_line(podman: Podman) -> None:
    podman.shell("box", "seq 5000", "--log-opt", "max-size=10kb")
    podman.ok("wait", "box")
    log = podman.log_file("box")
    assert 0 < log.stat().st_size <= 10 * 1024
    assert podman.ok("logs", "--tail", "1", "box") == b"5000\n"
    shown = podman.ok("logs", "box").split()
    assert shown == [b"%d" % number for number in range(5001 - len(shown), 5001)]
    assert [path.name for path in log.parent.glob("ctr.log*")] == ["ctr.log"]


@pytest.mark.contract("ROT-4", "ROT-5", "REOPEN-5")
def test_who_follows_a_log_is_told_what_comes_after_it_was_begun_anew(podman: Podman) -> None:
    gate = podman.gate()
    script = f"while {WAIT_FOR_GATE} && test $line != end; do echo $line; done"
    podman.shell("box", script, "--log-opt", "max-size=1kb")
    follower = podman.start("logs", "-f", "box")
    assert follower.stdout is not None
    log = podman.log_file("box")
    inodes = set()
    for number in range(1, 8):
        line = f"{number}".ljust(400, "x")
        gate.open(line)
        read_until(follower.stdout, line.encode() + b"\n")
        inodes.add(log.stat().st_ino)
    assert len(inodes) > 2
    assert log.stat().st_size <= 1000
    gate.open("end")
    assert podman.ok("wait", "box") == b"0\n"
    assert follower.wait(15) == 0
    assert podman.ok("logs", "box").split()[-1] == b"7".ljust(400, b"x")


@pytest.mark.contract("ROT-2", "ROT-4")
def test_a_restarted_container_goes_on_in_its_limited_log(podman: Podman) -> None:
    podman.shell("box", "seq 1 30", "--log-opt", "max-size=10kb")
    podman.ok("wait", "box")
    for _ in range(9):  # 1.4 kB each
        podman.ok("start", "box")
        podman.ok("wait", "box")
    assert podman.log_file("box").stat().st_size <= 10 * 1024
    shown = podman.ok("logs", "box").split()
    assert shown == ([b"%d" % number for number in range(1, 31)] * 10)[-len(shown) :]
    assert len(shown) > 30


# -- terminals -----------------------------------------------------------------------------------


@pytest.mark.contract("CALL-6")
def test_run_on_a_terminal_is_an_interactive_shell(podman: Podman) -> None:
    terminal = podman.terminal("run", "-it", "--name", "box", IMAGE, "sh", size=(31, 97))
    terminal.expect(PROMPT)
    terminal.type("echo he''llo; test -t 0 && test -t 1 && test -t 2 && echo is a ''tty\n")
    terminal.expect(rb"echo he''llo.*\r\nhello\r\nis a tty\r\n")
    reach(terminal, "stty size", b"31 97\r\n")
    terminal.resize(44, 133)
    reach(terminal, "stty size", b"44 133\r\n")
    terminal.type("exit 7\n")
    assert terminal.wait() == 7
    assert podman.state("box")["ExitCode"] == 7


def test_ctrl_c_and_ctrl_d_work_on_a_terminal(podman: Podman) -> None:
    terminal = podman.terminal("run", "-it", "--rm", IMAGE, "sh")
    terminal.expect(PROMPT)
    terminal.type("echo be''gun; cat\n")
    terminal.expect(rb"begun\r\n")
    terminal.type("text\n")
    terminal.expect(rb"text\r\ntext\r\n")
    terminal.type("\x03")
    terminal.expect(PROMPT)
    terminal.type("echo still ''here\n")
    terminal.expect(rb"still here\r\n")
    terminal.expect(PROMPT)
    terminal.type("\x04")
    assert terminal.wait() == 0


def test_the_output_of_a_terminal_is_in_the_log_with_carriage_returns(podman: Podman) -> None:
    podman.ok("run", "-dt", "--name", "box", IMAGE, "sh", "-c", "echo one; echo two >&2")
    podman.ok("wait", "box")
    records = podman.log_file("box").read_bytes().split(b"\n")
    assert records.pop() == b""
    text = b""
    for record in records:  # a terminal hands over a line and its end apart, if it likes
        match = RECORD.fullmatch(record)
        assert match
        stream, kind, part = match.groups()
        assert stream == b"stdout"
        text += part + (b"\n" if kind == b"F" else b"")
    assert text == b"one\r\ntwo\r\n"


def test_attach_detach_and_attach_again_meet_the_same_shell(podman: Podman) -> None:
    podman.ok("run", "-dit", "--name", "box", IMAGE, "sh")
    monitor = podman.monitor_pid("box")

    first = podman.terminal("attach", "box", size=(30, 90))
    reach(first, "value=kept; stty size", b"30 90\r\n")
    first.press("\x10\x11")  # ctrl-p, ctrl-q
    assert first.wait() == 0
    assert podman.state("box")["Running"] is True

    second = podman.terminal("attach", "--sig-proxy=false", "box", size=(40, 120))
    reach(second, "echo $value; stty size", b"kept\r\n40 120\r\n")
    assert podman.monitor_pid("box") == monitor
    second.type("exit 5\n")
    assert second.wait() == 0  # podman attach returns no other
    assert podman.ok("wait", "box") == b"5\n"


def test_attach_with_detach_keys_of_our_own(podman: Podman) -> None:
    podman.ok("run", "-dit", "--name", "box", IMAGE, "sh")
    terminal = podman.terminal("attach", "--detach-keys", "ctrl-x,x", "box")
    reach(terminal, "echo al''ive", b"alive\r\n")
    terminal.press("\x18x")
    assert terminal.wait() == 0
    assert podman.state("box")["Running"] is True


def test_two_attached_terminals_see_the_same(podman: Podman) -> None:
    podman.ok("run", "-dit", "--name", "box", IMAGE, "sh")
    first = podman.terminal("attach", "box")
    reach(first, "echo fi''rst", b"first\r\n")
    second = podman.terminal("attach", "box")
    reach(second, "echo sec''ond", b"second\r\n")
    first.expect(rb"\r\nsecond\r\n")
    first.type("exit\n")
    assert (first.wait(), second.wait()) == (0, 0)


# -- attach without a terminal, start --attach ---------------------------------------------------


@pytest.mark.contract("CALL-5")
def test_attach_shows_what_comes_from_now_on(podman: Podman) -> None:
    gate = podman.gate()
    script = f"{WAIT_FOR_GATE}; echo out; echo err >&2; {WAIT_FOR_GATE}; echo end; exit 6"
    podman.shell("box", script)
    client = podman.start("attach", "--no-stdin", "box")
    podman.wait_for_client(client)
    gate.open()
    assert client.stdout is not None
    assert client.stderr is not None
    assert read_until(client.stdout, b"out\n") == b"out\n"
    assert read_until(client.stderr, b"err\n") == b"err\n"
    gate.open()
    assert read_until(client.stdout, b"end\n").startswith(b"end\n")  # podman adds a newline
    assert client.wait(15) == 0  # podman attach returns no other
    assert podman.ok("wait", "box") == b"6\n"


def test_the_end_of_an_attached_clients_input_ends_the_containers(podman: Podman) -> None:
    podman.ok("run", "-di", "--name", "box", IMAGE, "sh", "-c", "cat; echo end; exit 8")
    client = podman.start("attach", "box", stdin=subprocess.PIPE)
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write(b"some text\n")
    assert read_until(client.stdout, b"\n") == b"some text\n"
    client.stdin.close()
    assert read_until(client.stdout, b"end\n").startswith(b"end\n")  # podman adds a newline
    assert client.wait(15) == 0  # podman attach returns no other
    assert podman.ok("wait", "box") == b"8\n"


def test_a_client_that_is_killed_harms_neither_container_nor_log(podman: Podman) -> None:
    gate = podman.gate()
    podman.shell("box", f"{WAIT_FOR_GATE}; seq 20000; {WAIT_FOR_GATE}; echo end")
    client = podman.start("attach", "--no-stdin", "box")
    podman.wait_for_client(client)
    os.kill(podman.child(client), signal.SIGKILL)
    client.wait(15)
    gate.open()
    podman.wait_for_log("box", b" 20000\n")
    gate.open()
    assert podman.ok("wait", "box") == b"0\n"
    assert podman.ok("logs", "box").split() == [*(b"%d" % n for n in range(1, 20001)), b"end"]


def test_start_attach_shows_output_and_exit_code(podman: Podman) -> None:
    script = "echo out; echo err >&2; exit 11"
    podman.ok("create", "--name", "box", IMAGE, "sh", "-c", script)
    for _ in range(2):
        done = podman("start", "--attach", "box")
        assert done == (11, b"out\n", b"err\n")


def test_start_attach_with_input(podman: Podman) -> None:
    podman.ok("create", "-i", "--name", "box", IMAGE, "tr", "a-z", "A-Z")
    done = podman("start", "--attach", "--interactive", "box", data=b"some text\n")
    assert (done.code, done.out) == (0, b"SOME TEXT\n")


# -- exec ----------------------------------------------------------------------------------------


def test_exec_keeps_stdout_and_stderr_apart(podman: Podman) -> None:
    podman.idle("box")
    done = podman("exec", "box", "sh", "-c", "echo out; echo err >&2; printf end")
    assert done == (0, b"out\nend", b"err\n")


@pytest.mark.contract("CALL-4")
def test_exec_returns_the_exit_code_of_the_command(podman: Podman) -> None:
    podman.idle("box")
    for code in (0, 1, 42, 126, 127, 128, 255):
        assert podman("exec", "box", "sh", "-c", f"exit {code}").code == code
    for name, number in (("KILL", 9), ("TERM", 15), ("SEGV", 11)):
        assert podman("exec", "box", "sh", "-c", f"kill -{name} $$").code == 128 + number


@pytest.mark.parametrize("mode", ["-i", "-it", "-t"])
def test_exec_of_what_cannot_start_tells_why(podman: Podman, mode: str) -> None:
    podman.idle("box")
    for command, code, complaint in (
        ("/etc/passwd", 126, b"permission denied"),
        ("/no/such/command", 127, b"no such file or directory"),
    ):
        done = podman("exec", mode, "box", command)
        assert (done.code, complaint in done.err.lower()) == (code, True), done.err
    assert podman.ok("exec", "box", "echo", "fine") == b"fine\n"


def test_exec_reads_its_input_to_the_end(podman: Podman) -> None:
    podman.idle("box")
    data = os.urandom(5 * MEGABYTE)
    done = podman("exec", "-i", "box", "sha256sum", data=data)
    assert done.out.split()[:1] == [hashlib.sha256(data).hexdigest().encode()]
    done = podman("exec", "-i", "box", "cat", data=data)
    assert (len(done.out), done.out == data) == (len(data), True)


def test_exec_on_a_terminal_is_an_interactive_shell(podman: Podman) -> None:
    podman.idle("box")
    terminal = podman.terminal("exec", "-it", "box", "sh", size=(31, 97))
    terminal.expect(PROMPT)
    terminal.type("test -t 0 && echo is a ''tty\n")
    terminal.expect(rb"\r\nis a tty\r\n")
    reach(terminal, "stty size", b"31 97\r\n")
    terminal.resize(44, 133)
    reach(terminal, "stty size", b"44 133\r\n")
    terminal.type("exit 7\n")
    assert terminal.wait() == 7


def test_exec_with_a_terminal_but_no_input_prints_as_a_terminal_does(podman: Podman) -> None:
    podman.idle("box")
    done = podman("exec", "-t", "box", "sh", "-c", "test -t 1; echo $?; echo err >&2; exit 3")
    assert (done.code, done.out) == (3, b"0\r\nerr\r\n")


def test_exec_in_the_background_runs_on_its_own(podman: Podman) -> None:
    podman.idle("box")
    podman.ok("exec", "-d", "box", "sh", "-c", "echo text > /share/new; mv /share/new /share/done")
    wait_until(podman.share.joinpath("done").exists, "what the command makes")
    assert podman.share.joinpath("done").read_text() == "text\n"


@pytest.mark.contract("CALL-2")
def test_exec_hands_preserved_descriptors_to_the_command(podman: Podman) -> None:
    podman.idle("box")
    podman.share.joinpath("three").write_text("from descriptor 3\n")
    opened = ("sh", "-c", f'exec "$@" 3< {HOME}/share/three', "sh")
    done = podman("exec", "--preserve-fds", "1", "box", "sh", "-c", "cat <&3", before=opened)
    assert done.out == b"from descriptor 3\n", done.err


def test_an_exec_on_a_terminal_outlives_its_client(podman: Podman) -> None:
    podman.idle("box")
    terminal = podman.terminal("exec", "-it", "box", "sh")
    reach(terminal, "echo al''ive", b"alive\r\n")
    os.kill(podman.child(terminal.process), signal.SIGKILL)
    terminal.process.wait(15)
    assert podman.ok("exec", "box", "echo", "fine") == b"fine\n"
    seen = podman.ok("exec", "box", "ps", "-o", "comm").split()
    assert seen == [b"COMMAND", b"sleep", b"sh", b"ps"]


def test_an_exec_ends_with_its_container(podman: Podman) -> None:
    podman.idle("box")
    client = podman.start("exec", "box", "sh", "-c", "echo ready; sleep 1000")
    assert client.stdout is not None
    read_until(client.stdout, b"ready\n")
    podman.ok("kill", "box")
    assert client.wait(15) == 137
    wait_until(lambda: not podman.house.processes(), "the end of both monitors")


def test_ten_execs_at_once_each_get_their_own_output(podman: Podman) -> None:
    podman.idle("box")

    def probe(number: int) -> tuple[int, bytes]:
        done = podman("exec", "box", "sh", "-c", f"echo {number}; exit {number}", seconds=60)
        return done.code, done.out

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        found = list(pool.map(probe, range(10)))
    assert found == [(number, b"%d\n" % number) for number in range(10)]
    wait_until(lambda: len(podman.house.processes()) == 2, "only the container and its monitor")


# -- stop, kill, restart, rm, wait ---------------------------------------------------------------


def test_stop_lets_the_container_end_in_its_own_way(podman: Podman) -> None:
    podman.shell("box", f"trap 'echo bye; exit 3' TERM; echo ready; {WAIT_FOR_SIGNALS}")
    podman.wait_for_log("box", b"ready")
    podman.ok("stop", "box")
    state = podman.state("box")
    assert (state["Status"], state["ExitCode"]) == ("exited", 3)
    assert podman.ok("logs", "box") == b"ready\nbye\n"


def test_stop_kills_a_container_that_will_not_end(podman: Podman) -> None:
    podman.shell("box", f"trap 'echo no' TERM; echo ready; {WAIT_FOR_SIGNALS}")
    podman.wait_for_log("box", b"ready")
    begin = time.monotonic()
    podman.ok("stop", "--time", "1", "box")
    assert 1 <= time.monotonic() - begin < 10 * SLOWNESS
    assert podman.state("box")["ExitCode"] == 137
    assert podman.ok("logs", "box").startswith(b"ready\nno\n")


def test_kill_sends_the_signal_that_is_named(podman: Podman) -> None:
    podman.shell("box", f"trap 'echo usr1' USR1; echo ready; {WAIT_FOR_SIGNALS}")
    podman.wait_for_log("box", b"ready")
    podman.ok("kill", "--signal", "USR1", "box")
    podman.wait_for_log("box", b"usr1")
    assert podman.state("box")["Running"] is True
    podman.ok("kill", "--signal", "KILL", "box")
    assert podman.ok("wait", "box") == b"137\n"


def test_run_in_the_foreground_returns_137_when_the_container_is_killed(podman: Podman) -> None:
    process = podman.start("run", "--name", "box", IMAGE, "sh", "-c", "echo ready; sleep 1000")
    assert process.stdout is not None
    read_until(process.stdout, b"ready\n")
    podman.ok("kill", "box")
    assert process.wait(15) == 137


def test_sigterm_to_the_monitor_goes_on_to_the_container(podman: Podman) -> None:
    podman.shell("box", f"trap 'echo caught; exit 9' TERM; echo ready; {WAIT_FOR_SIGNALS}")
    podman.wait_for_log("box", b"ready")
    podman.house.kill(podman.monitor_pid("box"), signal_name="TERM")
    assert podman.ok("wait", "box") == b"9\n"
    assert podman.ok("logs", "box") == b"ready\ncaught\n"


def test_restart_gives_a_new_process_a_new_monitor_and_the_old_log(podman: Podman) -> None:
    podman.shell("box", "echo ready; exec sleep 1000")
    podman.wait_for_log("box", b"ready")
    before = podman.state("box")["Pid"], podman.monitor_pid("box")
    podman.ok("restart", "--time", "0", "box")
    wait_until(lambda: podman.log_file("box").read_bytes().count(b"ready") == 2, "a second line")
    after = podman.state("box")["Pid"], podman.monitor_pid("box")
    assert not set(before) & set(after)
    assert not any(podman.lives(pid) for pid in before)
    assert all(podman.lives(pid) for pid in after)
    assert podman.ok("logs", "box") == b"ready\nready\n"


def test_rm_force_removes_a_running_container_and_everything_of_it(podman: Podman) -> None:
    podman.ok("run", "-dit", "--name", "box", IMAGE, "sh")
    bundle, monitor = podman.bundle("box"), podman.monitor_pid("box")
    assert podman.ok("exec", "box", "echo", "text") == b"text\n"
    kinds = {name: stat.S_IFMT(bundle.joinpath(name).stat().st_mode) for name in ("attach", "ctl")}
    assert kinds == {"attach": stat.S_IFSOCK, "ctl": stat.S_IFIFO}
    podman.ok("rm", "--force", "--time", "0", "box")
    wait_until(lambda: not podman.house.processes(), "an end of all processes, zombies too")
    assert not podman.lives(monitor)
    assert not bundle.exists()
    assert podman("container", "exists", "box").code == 1


def test_the_attach_socket_goes_when_the_container_ends(podman: Podman) -> None:
    gate = podman.gate()
    podman.shell("box", WAIT_FOR_GATE)
    attach = podman.bundle("box") / "attach"
    assert attach.is_socket()
    gate.open()
    podman.ok("wait", "box")
    wait_until(lambda: not podman.house.processes(), "the monitor's end")
    assert not attach.exists()


def test_wait_returns_when_the_container_ends(podman: Podman) -> None:
    gate = podman.gate()
    podman.shell("box", f"{WAIT_FOR_GATE}; exit 42")
    waiting = podman.start("wait", "box")
    gate.open()
    assert waiting.stdout is not None
    assert read_until(waiting.stdout, b"\n") == b"42\n"
    assert waiting.wait(15) == 0


# -- the monitor itself --------------------------------------------------------------------------


def test_the_monitor_of_a_container_is_named_conmon(podman: Podman) -> None:
    podman.idle("box")
    pid = podman.monitor_pid("box")
    assert podman.house.path(f"/proc/{pid}/comm").read_text() == "conmon\n"
    state = podman.state("box")
    assert state["ConmonPid"] == pid
    container = podman.house.path(f"/proc/{state['Pid']}/status").read_text()
    assert f"\nPPid:\t{pid}\n" in container


def test_info_shows_path_and_version_of_the_monitor(podman: Podman, monitor_program: Path) -> None:
    said = subprocess.run(
        [monitor_program, "--version"], capture_output=True, text=True, check=True, timeout=15
    )
    fields = podman.ok("info", "--format", "{{.Host.Conmon.Path}}\n{{.Host.Conmon.Version}}")
    assert fields.decode().splitlines() == [
        str(monitor_program), ", ".join(said.stdout.splitlines()),
    ]  # fmt: skip


def test_inspect_follows_a_container_through_its_life(podman: Podman) -> None:
    gate = podman.gate()
    podman.ok(
        "create", "--name", "box", *podman.shared, IMAGE, "sh", "-c", f"{WAIT_FOR_GATE}; exit 33"
    )
    assert podman.state("box")["Status"] == "created"
    podman.ok("start", "box")
    state = podman.state("box")
    assert (state["Status"], state["Running"], podman.lives(state["Pid"])) == (
        "running",
        True,
        True,
    )
    gate.open()
    podman.ok("wait", "box")
    state = podman.state("box")
    keys = ("Status", "Running", "ExitCode", "Pid", "OOMKilled", "Error")
    assert [state[key] for key in keys] == ["exited", False, 33, 0, False, ""]
    assert state["FinishedAt"] > state["StartedAt"]


def test_top_and_ps_show_a_running_container(podman: Podman) -> None:
    podman.idle("box")
    assert podman.ok("top", "box", "pid", "args").split() == [
        b"PID", b"COMMAND", b"1", *(word.encode() for word in IDLE),
    ]  # fmt: skip
    columns = ("--format", "{{.Names}} {{.ExitCode}}")
    assert podman.ok("ps", "--filter", "status=running", *columns) == b"box 0\n"
    podman.ok("kill", "box")
    podman.ok("wait", "box")
    assert podman.ok("ps", "--filter", "status=exited", *columns) == b"box 137\n"


def test_a_container_with_rm_vanishes_by_itself(podman: Podman) -> None:
    gate = podman.gate()
    podman.shell("box", WAIT_FOR_GATE, "--rm")
    bundle = podman.bundle("box")
    gate.open()
    wait_until(lambda: not bundle.exists(), "what podman container cleanup does")
    wait_until(lambda: not podman.house.processes(), "an end of all processes")
    assert podman("container", "exists", "box").code == 1
    assert not [path for path in podman.house.mounts() if path.endswith("/merged")]


def test_a_container_that_fails_is_started_again_as_often_as_told(podman: Podman) -> None:
    podman.shell("box", "echo run; exit 2", "--restart", "on-failure:2")
    log = podman.log_file("box")
    wait_until(lambda: log.read_bytes().count(b"stdout F run\n") == 3, "a third run")
    wait_until(lambda: not podman.house.processes(), "the last cleanup's end")
    state = podman.state("box")
    assert (state["Status"], state["ExitCode"]) == ("exited", 2)
    assert podman.inspect("box")["RestartCount"] == 2
    assert podman.ok("logs", "box") == b"run\nrun\nrun\n"


# -- many ----------------------------------------------------------------------------------------


@pytest.mark.timeout(180)
def test_twenty_containers_at_once_each_have_their_own_log_and_exit_code(podman: Podman) -> None:
    def run(number: int) -> tuple[int, bytes]:
        name, script = f"box{number}", f"echo number {number}; exit {number}"
        done = podman("run", "--name", name, IMAGE, "sh", "-c", script, seconds=120)
        return done.code, done.out

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        found = list(pool.map(run, range(20)))
    wanted = [(number, b"number %d\n" % number) for number in range(20)]
    assert found == wanted
    for number, (code, text) in enumerate(wanted):
        assert podman.ok("logs", f"box{number}") == text
        assert podman.ok("wait", f"box{number}") == b"%d\n" % code


def test_what_a_test_leaves_behind_is_noticed(podman: Podman) -> None:
    """The check that guards all the others must itself be able to fail."""
    podman.check_nothing_is_left()
    podman.house.call("sh", "-c", "setsid sleep 1000 &")
    with pytest.raises(AssertionError, match=r"processes are left: .*sleep"):
        podman.check_nothing_is_left(seconds=0.1)
    podman.house.kill(*podman.house.processes())
    podman.check_nothing_is_left()
    podman.ok("create", IMAGE, "true")
    with pytest.raises(AssertionError, match=r"/userdata|-containers/"):
        podman.check_nothing_is_left()
