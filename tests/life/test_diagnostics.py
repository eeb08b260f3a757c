"""What the program says: errors of the command line, help and version, stderr, syslog.

Error texts are compared as a manager sees them: status, stderr to the byte, nothing on stdout.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.life import Life, wait_until
from tests.support.syslog import Syslog
from tests.support.witness import Witness, kill, messages, number_in

PARSING = "conmon: option parsing failed: "
ERROR = "[conmon:e]: "
CID = ["-c", "0123456789abcdef"]
OK = [*CID, "-u", "u", "-r", "/bin/true", "-l", "none"]


def run(life: Life, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run the program to its end; no pipes."""
    return subprocess.run(
        [*life.command, *arguments],
        env={name: value for name, value in life.environment.items() if "_OCI_" not in name},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=20,
    )


PARSE_ERRORS = [
    ("CLI-14", ["--foo"], "Unknown option --foo"),
    ("CLI-14", ["--foo=bar", *OK], "Unknown option --foo=bar"),
    ("CLI-8", ["--ci", "x"], "Unknown option --ci"),
    ("CLI-3", ["-T5", "7"], "Unknown option -T5"),
    ("CLI-14", ["-x"], "Unknown option -x"),
    ("CLI-18", [os.fsdecode(b"--\xff\xfe")], os.fsdecode(b"Unknown option --\xff\xfe")),
    ("CLI-15", ["--cid"], "Missing argument for --cid"),
    ("CLI-15", ["-c"], "Missing argument for -c"),
    ("CLI-15", ["-ic"], "Missing argument for -c"),
    ("CLI-15", ["--pidfile"], "Missing argument for --pidfile"),
    ("CLI-16", ["--timeout", "abc"], "Cannot parse integer value \u201cabc\u201d for --timeout"),
    ("CLI-16", ["-T", ""], "Cannot parse integer value \u201c\u201d for -T"),
    ("CLI-16", ["--exit-delay=08"], "Cannot parse integer value \u201c08\u201d for --exit-delay"),
    (
        "CLI-17",
        ["--log-max-files=4294967296"],
        "Integer value \u201c4294967296\u201d for --log-max-files out of range",
    ),
    (
        "CLI-17",
        ["--log-size-max=9223372036854775808"],
        "Integer value \u201c9223372036854775808\u201d for --log-size-max out of range",
    ),
    ("CLI-17", ["-T", "-2147483649"], "Integer value \u201c-2147483649\u201d for -T out of range"),
    ("CLI-14", ["--cid", "--foo", "--bar"], "Unknown option --bar"),
    ("CLI-14", ["--version", "--foo"], "Unknown option --foo"),
]


@pytest.mark.contract("CLI-13")
@pytest.mark.parametrize(
    ("arguments", "text"),
    [pytest.param(*row, marks=pytest.mark.contract(shown)) for shown, *row in PARSE_ERRORS],
)
def test_what_cannot_be_parsed(life: Life, arguments: list[str], text: str) -> None:
    done = run(life, *arguments)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == os.fsencode(PARSING + text + "\n")


LOG = ["-l", "none"]
CHECKS: list[tuple[str, list[str], str]] = [
    ("CLI-62", ["--log-max-files=-1"], "conmon: log-max-files must be non-negative, got -1"),
    (
        "CLI-63",
        ["--log-rotate", "--log-max-files=0"],
        "conmon: log-max-files must be at least 1 when log-rotate is enabled, got 0",
    ),
    ("CLI-64", [], "conmon: Container ID not provided. Use --cid"),
    ("CLI-65", [*CID, "--log-level", "loud"], ERROR + "No such log level loud"),
    (
        "CLI-66",
        [*CID, "-e", "--restore", "/x"],
        ERROR + "Cannot use 'exec' and 'restore' at the same time",
    ),
    ("CLI-67", [*CID, "--exec-attach"], ERROR + "Attach can only be specified with exec"),
    (
        "CLI-68",
        [*CID, "-e", "--exec-attach"],
        ERROR + "Attach can only be specified for a non-legacy exec session",
    ),
    ("CLI-69", [*CID], ERROR + "Container UUID not provided. Use --cuuid"),
    ("CLI-69", [*CID, "-e", "--api-version"], ERROR + "Container UUID not provided. Use --cuuid"),
    ("CLI-70", [*CID, "-u", "u"], ERROR + "Runtime path not provided. Use --runtime"),
    ("CLI-70", [*CID, "-e"], ERROR + "Runtime path not provided. Use --runtime"),
    (
        "CLI-71",
        [*CID, "-u", "u", "-r", "/nonexistent"],
        ERROR + "Runtime path /nonexistent is not valid No such file or directory",
    ),
    (
        "CLI-71",
        [*CID, "-u", "u", "-r", "/etc/passwd"],
        ERROR + "Runtime path /etc/passwd is not valid Permission denied",
    ),
    (
        "CLI-71",
        [*CID, "-u", "u", "-r", "/etc/passwd/x"],
        ERROR + "Runtime path /etc/passwd/x is not valid Not a directory",
    ),
    (
        "CLI-72",
        [*CID, "-u", "u", "-r", "/bin/true", "-e"],
        ERROR + "Exec process spec path not provided. Use --exec-process-spec",
    ),
    (
        "CLI-74",
        [*OK, "--exit-delay", "-1"],
        ERROR + "Delay before invoking exit command must be greater than or equal to 0",
    ),
    (
        "NOT-9",
        [*CID, "-e", "-r", "/bin/true", "--exec-process-spec", "s", "--sdnotify-socket=", "-l", ""],
        ERROR + "Bundle path not provided. Use --bundle",
    ),
    ("LOG-9", OK[:-2], ERROR + "Log driver not provided. Use --log-path"),
    ("LOG-10", [*OK, "-l", ""], ERROR + "log-path must not be empty"),
    ("LOG-11", [*OK, "-l", "k8s-file:"], ERROR + "k8s-file requires a filename"),
    ("LOG-12", [*OK, "-l", "loud:x"], ERROR + "No such log driver loud"),
    (
        "LOG-13",
        [*OK, "-l", "/nonexistent/log"],
        ERROR + "Failed to open log file No such file or directory",
    ),
]


# What else a row of CHECKS shows: which option it is about, and what all of its kind have in common.
ALSO = {
    "CLI-64": ("CLI-25", "CLI-59"),
    "CLI-65": ("CLI-38", "CLI-59"),
    "CLI-69": ("CLI-26",),
    "CLI-70": ("CLI-46",),
    "CLI-71": ("CLI-46", "CLI-60"),
    "LOG-9": ("CLI-37", "CLI-61"),
    "LOG-13": ("CLI-60", "CLI-61"),
}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        pytest.param(*row, marks=pytest.mark.contract(shown, *ALSO.get(shown, ())), id=shown)
        for shown, *row in CHECKS
    ],
)
def test_what_is_refused(life: Life, arguments: list[str], text: str) -> None:
    done = run(life, *arguments)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr == (text + "\n").encode()


@pytest.mark.contract("CLI-58")
@pytest.mark.parametrize("index", range(4))
def test_of_several_errors_the_first_is_told(life: Life, index: int) -> None:
    mistakes = [
        (["--log-max-files=-1"], "log-max-files must be non-negative, got -1"),
        (["--log-level", "loud"], "No such log level loud"),
        (["--exec-attach"], "Attach can only be specified with exec"),
        (["-r", "/nonexistent"], "Runtime path /nonexistent is not valid"),
    ]
    arguments = [*CID, "-u", "u", "-l", "bad:x"]
    for more, _ in mistakes[index:]:
        arguments = [*more, *arguments]
    assert mistakes[index][1].encode() in run(life, *arguments).stderr


@pytest.mark.contract("CLI-22", "CLI-21", "CLI-57")
@pytest.mark.parametrize(
    "arguments", [["--version"], ["stray", "--version", "--log-level", "loud"], ["--version=no"]]
)
def test_the_version_is_two_lines_and_nothing_else(life: Life, arguments: list[str]) -> None:
    done = run(life, *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.fullmatch(rb"conmon version 2\.2\.1\ncommit: lowconmon-\d+\.\d+\.\d+\n", done.stdout)


@pytest.mark.contract("CLI-19", "CLI-20", "CALL-13")
@pytest.mark.parametrize("arguments", [["-h"], ["-?"], ["--help"], ["-ih"], ["--help", "--foo"]])
def test_the_help_names_what_managers_look_for(life: Life, arguments: list[str]) -> None:
    done = run(life, *arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    for word in (b"--exec", b"journald", b"--log-global-size-max"):
        assert word in done.stdout


@pytest.mark.contract("CLI-19")
def test_an_error_before_the_help_comes_first(life: Life) -> None:
    done = run(life, "--foo", "--help")
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["--foo"]])
def test_a_full_device_or_a_closed_pipe_does_not_hang_it(life: Life, arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*life.command, *arguments], stdout=full, stderr=full, timeout=20)
    assert done.returncode == 1


@pytest.mark.contract("CLI-5")
@pytest.mark.contract("CLI-4", "CLI-6", "CLI-7", "CLI-9", "CLI-10", "CLI-11", "CLI-12", "CLI-51")
def test_an_odd_command_line_starts_a_life(life: Life) -> None:
    life.stub("exit 7")
    odd = ["stray", "--cid=first"]
    odd += ["-ic", life.cid, "--seccomp-notify-socket", "x", "--seccomp-notify-plugins=", "--name="]
    odd += ["--timeout", "0x10", "-T", " +010", "--full-attach=", "-u", "--foo", "-l", "none"]
    odd += ["-r", "/nonexistent", "-r", str(life.runtime), "-b", str(life.bundle), "--exit-dir"]
    odd += [str(life.exit_dir), "-p", str(life.pid_file), "--api-version", "1", "--", "--unknown"]
    life.start(raw=odd)
    life.pid()
    assert life.exit_status() == 7


# stderr


@pytest.mark.contract("DIAG-1", "CLI-38", "LOG-7")
@pytest.mark.parametrize(
    ("level", "said"),
    [
        *((name, False) for name in ("error", "fatal", "panic", "ERROR", "Fatal")),
        *(
            (name, True)
            for name in ("warn", "warning", "info", "debug", "trace", "WARNING", "dEbUg")
        ),
    ],
)
def test_the_level_decides_what_is_said(life: Life, level: str, said: bool) -> None:
    other = life.directory / "other.log"
    life.stub("exit 0").start("-l", f"k8s-file:{other}", "--log-level", level)
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    lines = life.launcher.stderr.read().splitlines()
    assert any(line.startswith(b"[conmon:w]: ") for line in lines) is said
    allowed = {"warn": b"ew", "info": b"ewi", "debu": b"ewid", "trac": b"ewid"}
    letters = allowed.get(level.lower()[:4], b"e")
    assert all(re.match(rb"\[conmon:[%b]\]: " % letters, line) for line in lines)
    life.pid()
    assert life.exit_status() == 0


@pytest.mark.contract("DIAG-1", "LOG-7")
def test_a_warning_is_said_at_the_default_level(life: Life) -> None:
    life.stub("exit 0")
    raw = [*OK[:4], "-r", str(life.runtime), "-b", str(life.bundle), "--full-attach"]
    raw += ["-l", str(life.log), "-l", f"{life.log}.2", "-p", str(life.pid_file)]
    life.start(raw=raw)
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    assert re.fullmatch(rb"\[conmon:w\]: [^\n]+\n", life.launcher.stderr.read())
    assert messages(life)[0]["pid"] > 0


@pytest.mark.contract("CLI-75", "DIAG-1")
def test_no_partial_message_without_journald_is_a_warning(life: Life) -> None:
    life.stub("exit 7").start("--no-container-partial-message")
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    text = "--no-container-partial-message has no effect without journald log driver\n"
    assert life.launcher.stderr.read().decode() == "[conmon:w]: " + text
    life.pid()
    assert life.exit_status() == 7


@pytest.mark.contract("DIAG-1", "START-11")
def test_after_the_fork_stderr_is_silent_at_any_level(life: Life) -> None:
    life.exit_dir.rmdir()
    life.stub("exit 7").start("--log-level", "trace", "--sync", wait=False)
    assert life.launcher is not None
    life.pid()
    wait_until((life.persist_dir / "exit").exists, "the other exit file")
    life.exit_dir.mkdir()
    assert life.launcher.wait(20) == 7
    assert life.launcher.stderr is not None
    assert b"exit file" not in life.launcher.stderr.read()


def test_a_stderr_nobody_reads_ends_nothing(life: Life) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        life.stub("exit 7").start("-l", f"{life.log}.2", "--log-level", "trace", stderr=writing)
    finally:
        os.close(writing)
    life.pid()
    assert life.exit_status() == 7


# syslog

HEAD = rb"<(\d+)>[A-Z][a-z][a-z] [ \d]\d \d\d:\d\d:\d\d conmon(?:\[\d+\])?: "


def parts(line: bytes) -> tuple[int, str]:
    """Return priority and text of a datagram as syslog(3) makes them."""
    match = re.match(HEAD, line)
    assert match, line
    return int(match[1]) & 7, line[match.end() :].decode()


@pytest.mark.contract("DIAG-2", "DIAG-3", "DIAG-4", "CLI-55")
def test_warnings_go_to_syslog_as_conmon_writes_them(life: Life) -> None:
    life.cid = "0123456789abcdefghijklmnop"
    with Syslog(life) as syslog:
        life.stub("exit 7").start("--syslog", "-l", str(life.directory / "second.log"))
        line = syslog.wait(b"nwarn")
    priority, text = parts(line)
    assert priority == 6
    assert text.startswith("conmon 0123456789abcdefghij <nwarn>: ")
    life.pid()
    assert life.exit_status() == 7


@pytest.mark.contract("DIAG-2")
def test_the_name_in_syslog_has_the_log_tag(life: Life) -> None:
    # `none` knows no tags and does not mind them.
    life.cid = "abc"
    with Syslog(life) as syslog:
        life.stub("exit 7")
        raw = ["-c", life.cid, "-u", "u", "-r", str(life.runtime), "-b", str(life.bundle)]
        raw += ["-l", "none", "--syslog", "--log-tag", "a tag that is long", "--full-attach"]
        raw += ["--log-level", "debug", "-p", str(life.pid_file), "--exit-dir", str(life.exit_dir)]
        life.start(raw=raw)
        line = syslog.wait(b"ndebug")
    assert parts(line)[1].startswith("conmon abc: a tag that is l <ndebug>: ")
    assert life.exit_status() == 7


@pytest.mark.contract("DIAG-2", "DIAG-3", "DIAG-4")
def test_an_error_after_the_fork_is_in_syslog(life: Life) -> None:
    with Syslog(life) as syslog:
        life.script("#!/bin/sh\nexit 3\n").start("--syslog")
        assert [answer["data"] for answer in messages(life)] == [-1]
        priority, text = parts(syslog.wait(b"<error>"))
    assert priority == 3
    assert text.startswith(f"conmon {life.cid} <error>: ")


@pytest.mark.contract("DIAG-5", "DIAG-3", "DIAG-7", "END-12")
def test_a_complaint_about_a_system_call_is_said_once_with_its_error(life: Life) -> None:
    # The exit file is tried again every 100 ms; the gate of the exit command comes after the last.
    seen = Witness(life, "exit-command")
    command = seen.program(life.directory / "exit-command")
    life.exit_dir.rmdir()
    with Syslog(life) as syslog:
        life.stub("exit 7").start("--syslog", "--exit-command", str(command))
        life.pid()
        priority, text = parts(syslog.wait(b"pwarn"))
        seen.wait()
        again = [line for line in syslog.lines() if b"exit file" in line]
    assert priority == 6
    assert text.startswith(f"conmon {life.cid} <pwarn>: ")
    assert text.removesuffix("\n").endswith(": No such file or directory")
    assert len(again) == 1
    life.exit_dir.mkdir()


@pytest.mark.contract("DIAG-2", "CLI-55")
def test_without_the_option_nothing_goes_to_syslog(life: Life) -> None:
    with Syslog(life) as syslog:
        life.script("#!/bin/sh\nexit 3\n").start("--log-level", "trace")
        assert [answer["data"] for answer in messages(life)] == [-1]
        assert syslog.lines() == []


@pytest.mark.contract("DIAG-2", "DIAG-6")
def test_a_syslog_that_does_not_keep_up_holds_up_nothing(life: Life) -> None:
    # Its queue is full before the monitor says a word.
    with Syslog(life) as syslog:
        sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sender.setblocking(False)
        try:
            while True:
                sender.sendto(b"full", str(life.directory / "log"))
        except BlockingIOError:
            sender.close()
        life.stub("exit 7").start("--syslog", "--log-level", "trace", "-l", f"{life.log}.2")
        life.pid()
        assert life.exit_status() == 7
        assert set(syslog.lines()) == {b"full"}


@pytest.mark.contract("CLI-55")
def test_no_syslog_daemon_is_no_obstacle(life: Life) -> None:
    with Syslog(life) as syslog:
        (life.directory / "log").unlink()
        life.stub("exec sleep 60").start("--syslog", "--log-level", "trace")
        pid = number_in(life.pid_file)
        kill(pid)
        assert life.exit_status() == 137
        assert syslog.lines() == []
