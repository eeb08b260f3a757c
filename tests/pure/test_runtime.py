"""The runtime's command line and environment."""

from __future__ import annotations

import ctypes
import itertools

import pytest
from hypothesis import example, given, strategies as st

from lowconmon.pure.options import Options, check, parse
from lowconmon.pure.runtime import command_line, find_variable, listen_pid_index

LIBC = ctypes.CDLL(None)
LIBC.strtol.restype = ctypes.c_long
FLAGS = ["--systemd-cgroup", "--no-pivot", "--no-new-keyring", "--terminal"]
SWITCHES = [set(chosen) for count in range(5) for chosen in itertools.combinations(FLAGS, count)]
EXTRA = {
    "none": ([], []),
    "some": (["--root=X", "--debug"], ["--preserve-fds", "2"]),
    "empty": ([""], [""]),
}


def said(*arguments: str) -> Options:
    """Parse and check as the program does, which fills in the defaults."""
    options = parse([argument.encode() for argument in arguments])
    check(options, lambda _: None, lambda: b"/cwd")
    return options


def given_on_command_line(switches: set[str], extra: str) -> list[str]:
    arguments, opts = EXTRA[extra]
    words = ["-c", "ID", "-u", "UUID", "-r", "/bin/runc", *sorted(switches)]
    words += [word for argument in arguments for word in ("--runtime-arg", argument)]
    return words + [word for opt in opts for word in ("--runtime-opt", opt)]


def console(switches: set[str]) -> bytes | None:
    return b"/run/x/console" if "--terminal" in switches else None


def expected(words: str, switches: set[str], extra: str) -> list[bytes]:
    """Fill in a line of the contract; a word in brackets is there if asked for."""
    arguments, opts = EXTRA[extra]
    line: list[str] = []
    for word in words.split():
        if word == "RUNTIME-ARGS":
            line += arguments
        elif word == "RUNTIME-OPTS":
            line += opts
        elif word == "CONSOLE":
            line += ["--console-socket", "/run/x/console"] if "--terminal" in switches else []
        elif not word.startswith("[") or word[1:-1] in switches:
            line.append(word.strip("[]"))
    return [word.encode() for word in line]


@pytest.mark.contract("RT-1")
@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize(
    "switches", SWITCHES, ids=lambda chosen: " ".join(sorted(chosen)) or "plain"
)
def test_the_command_line_of_create(switches: set[str], extra: str) -> None:
    options = said(*given_on_command_line(switches, extra), "-b", "B", "-p", "P")
    words = (
        "/bin/runc [--systemd-cgroup] RUNTIME-ARGS create --bundle B --pid-file P"
        " [--no-pivot] [--no-new-keyring] RUNTIME-OPTS CONSOLE ID"
    )
    assert command_line(options, console(switches)) == expected(words, switches, extra)


@pytest.mark.contract("RT-2")
def test_the_command_line_of_restore() -> None:
    for switches, extra in itertools.product(SWITCHES, EXTRA):
        words = given_on_command_line(switches, extra)
        options = said(*words, "-b", "B", "-p", "P", "--restore", "/ckpt")
        line = (
            "/bin/runc [--systemd-cgroup] RUNTIME-ARGS restore --bundle B --pid-file P"
            " [--no-pivot] [--no-new-keyring] --detach --image-path /ckpt --work-path B"
            " RUNTIME-OPTS CONSOLE ID"
        )
        assert command_line(options, console(switches)) == expected(line, switches, extra)


@pytest.mark.contract("RT-3", "RT-4")
@pytest.mark.parametrize("bundle", [[], ["-b", "B"]])
@pytest.mark.parametrize("extra", EXTRA)
@pytest.mark.parametrize(
    "switches", SWITCHES, ids=lambda chosen: " ".join(sorted(chosen)) or "plain"
)
def test_the_command_line_of_exec(switches: set[str], extra: str, bundle: list[str]) -> None:
    options = said(
        *given_on_command_line(switches, extra),
        *bundle,
        "-p",
        "P",
        "-e",
        "--exec-process-spec",
        "S",
    )
    words = "/bin/runc RUNTIME-ARGS exec --pid-file P --process S --detach RUNTIME-OPTS CONSOLE ID"
    assert command_line(options, console(switches)) == expected(words, switches, extra)


@pytest.mark.contract("RT-1", "CLI-24", "CLI-29")
def test_bundle_and_pid_file_have_their_defaults() -> None:
    assert command_line(said("-c", "ID", "-u", "UUID", "-r", "/bin/runc"), None) == (
        [b"/bin/runc", b"create", b"--bundle", b"/cwd", b"--pid-file", b"/cwd/pidfile-ID", b"ID"]
    )


@pytest.mark.contract("CLI-18")
def test_arguments_need_not_be_utf_8() -> None:
    options = parse([b"-c", b"\xff", b"-r", b"/\xfe", b"-b", b"\xfd", b"-p", b"\xfc"])
    assert command_line(options, None) == (
        [b"/\xfe", b"create", b"--bundle", b"\xfd", b"--pid-file", b"\xfc", b"\xff"]
    )


def test_what_was_never_checked_still_gives_a_line() -> None:
    assert command_line(parse([]), None) == [
        b"",
        b"create",
        b"--bundle",
        b"",
        b"--pid-file",
        b"",
        b"",
    ]
    line = [b"", b"exec", b"--pid-file", b"", b"--process", b"", b"--detach", b""]
    assert command_line(parse([b"-e"]), None) == line


# The environment


@pytest.mark.contract("RT-14")
def test_the_first_of_duplicate_variables_counts() -> None:
    block = [
        b"LISTEN_PIDS=9",
        b"no equals sign",
        b"",
        b"X=\xff=1",
        b"LISTEN_PID=1",
        b"LISTEN_PID=2",
    ]
    assert find_variable(block, b"LISTEN_PID") == (4, b"1")
    assert find_variable(block, b"X") == (3, b"\xff=1")
    assert find_variable(block, b"no equals sign") == (-1, b"")
    assert find_variable(block, b"LISTEN") == (-1, b"")
    assert find_variable([b"X="], b"X") == (0, b"")


def strtol(value: bytes) -> int:
    return int(LIBC.strtol(ctypes.c_char_p(value), None, 10))


VALUES = st.one_of(
    st.builds(
        lambda blanks, sign, zeros, number, tail: f"{blanks}{sign}{zeros}{number}{tail}".encode(),
        st.text(" \t\n\r\v\f", max_size=3),
        st.sampled_from(["", "", "+", "-", "+-"]),
        st.sampled_from(["", "0", "0000000"]),
        st.one_of(st.integers(0, 2**31 - 1), st.sampled_from([0, 1, 4711, 2**31 - 1])),
        st.sampled_from(["", "", " ", "x", ".5", "\n", "é"]),
    ),
    st.binary(max_size=12).map(lambda value: value.replace(b"\0", b"")),
)


@pytest.mark.contract("RT-15", "RT-16")
@given(VALUES, st.integers(1, 2**31 - 1))
@example(b"4711", 4711)
@example(b"", 1)
@example(b"0x10", 16)
@example(b"1_0", 10)
@example("٤".encode(), 4)
def test_listen_pid_is_read_as_strtol_reads_it(value: bytes, other: int) -> None:
    block = [b"A=1", b"LISTEN_PID=" + value, b"LISTEN_FDS=3"]
    pid = strtol(value)
    if not 0 < pid < 2**31:
        for replace in (False, True):
            with pytest.raises(ValueError, match=r"^Invalid LISTEN_PID "):
                listen_pid_index(block, other, replace=replace)
        return
    assert listen_pid_index(block, pid, replace=False) == 1
    assert listen_pid_index(block, other, replace=False) == (1 if other == pid else -1)
    assert listen_pid_index(block, other, replace=True) == 1


@pytest.mark.contract("RT-15")
@pytest.mark.parametrize("replace", [False, True])
def test_without_listen_pid_there_is_nothing_to_rewrite(*, replace: bool) -> None:
    assert listen_pid_index([b"LISTEN_FDS=3", b"LISTEN_PIDS=4"], 4, replace=replace) == -1
    assert listen_pid_index([], 4, replace=replace) == -1


@pytest.mark.contract("RT-16")
@pytest.mark.parametrize("value", [b"", b"x", b"0", b"-5", b"2147483648", b"9" * 5000, b"\xff\xfe"])
def test_an_invalid_listen_pid_is_refused_with_its_first_ten_bytes(value: bytes) -> None:
    with pytest.raises(ValueError, match=r"^Invalid LISTEN_PID ") as caught:
        listen_pid_index([b"LISTEN_PID=" + value], 1, replace=True)
    assert str(caught.value) == "Invalid LISTEN_PID " + value[:10].decode("utf-8", "replace")


def test_listen_pid_may_have_any_number_of_leading_zeros() -> None:
    assert listen_pid_index([b"LISTEN_PID=" + b"0" * 30 + b"7"], 7, replace=False) == 0
