"""Give Debian's conmon and our parser the same command lines; they must answer the same.

Acceptable: a difference listed in oracle_differences.py. Not acceptable: any other difference in
exit status or stderr. Nothing is ever launched: a line that we would start a container for gets
a log driver that does not exist, and a line of random words never names a usable runtime.
"""

from __future__ import annotations

import ctypes
import os
import random
import subprocess
from typing import TYPE_CHECKING

import pytest

from lowconmon.pure import log_drivers, options
from tests.differential import oracle_differences

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONMON = "/usr/bin/conmon"
BATCHES = 20
LINES_A_BATCH = 500
ERROR = b"[conmon:e]: "
LACKING = {option[2:].decode() for option, _ in oracle_differences.OPTIONS_THAT_THE_ORACLE_LACKS}
# --syslog is left out: the machine's log would get thousands of lines.
ROWS = [row for row in options.TABLE if row[0] not in {"help", "syslog", *LACKING}]
LONGS = [name.encode() for name in (*(row[0] for row in ROWS), *options.ALIASES)]
FLAGS = [b"--" + row[0].encode() for row in ROWS if row[2] == "flag" and row[0] != "version"]
LETTERS = "".join(row[1] for row in ROWS)

# None of these is a usable runtime.
VALUES = (
    *(b"x", b"", b"-", b"--", b"--foo", b"-5", b"5", b"+7", b" 5", b"5 ", b"\t0x10", b"010", b"08"),
    *(b"0x", b"0X1F", b"0x1g", b"-0x80000000", b"0b1", b"1_0", b"abc", b"+-5", b"- 5", b"info"),
    *(b"2147483647", b"2147483648", b"-2147483648", b"-2147483649", b"4294967296", b"1e3"),
    *(b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"0" * 5000),
    *(b"-9223372036854775809", b"9" * 5000, b"00000000000000000000000000000000000000000017"),
    *("\u00e9".encode(), b"/nonexistent", b"/etc/passwd", b"--version", b"--cid", b"-c", b"a=b"),
)
WORDS = (
    *(
        b"--",
        b"-",
        b"",
        b"---",
        b"--=x",
        b"-=",
        b"--foo",
        b"--foo=bar",
        b"--ci",
        b"--cid-",
        b"--CID",
    ),
    *(
        b"--help",
        b"--help-all",
        b"--help-",
        b"--help-x",
        b"--help=x",
        b"--version",
        b"--version=no",
    ),
    *(b"-h", b"-?", b"-ih", b"-V", "-\u00e9".encode(), "--\u00e9".encode(), b"-i-", b"-T5", b"-cx"),
)
SPECS = (
    *(b"", b":", b"::", b"k8s-file", b"k8s-file:", b"k8s-file::", b"bad:", b"bad:x", b"bad::x"),
    *(b"k8s.log", b":k8s.log", b"k8s-file:k8s.log", b":journald", b":none", b":k8s-file", b"NONE"),
    *(b"journald", b"journald:", b"journald:x", b"passthrough", b"passthrough:", b"passthrough:x"),
    *(b"none", b"none:", b"none:x", b"off", b"off:x", b"null", b"null:", b"null::x", b"k8s-filex"),
    *(b"/nonexistent/x", b"k8s-file:/nonexistent/x", b".", b":."),
)

EVERY_ERROR = [
    text.encode()
    for text in (
        *("Unknown option -", "Unknown option --", "Missing argument for -"),
        *("Missing argument for --", "Error parsing option -", "Cannot parse integer value \u201c"),
        *("Integer value \u201c", "Container ID not provided. Use --cid", "No such log level "),
        "Cannot use 'exec' and 'restore' at the same time",
        "Attach can only be specified with exec",
        "Attach can only be specified for a non-legacy exec session",
        *("Container UUID not provided. Use --cuuid", "Runtime path not provided. Use --runtime"),
        *("Runtime path ", "Exec process spec path not provided. Use --exec-process-spec"),
        "Delay before invoking exit command must be greater than or equal to 0",
        *("Log driver not provided. Use --log-path", "log-path must not be empty"),
        *("k8s-file requires a filename", "No such log driver ", "Failed to open log file "),
        "k8s-file doesn't support --log-tag",
        "Container ID must be longer than 12 characters",
    )
]

libc = ctypes.CDLL(None, use_errno=True)


def access(path: bytes) -> None:
    if libc.access(path, os.X_OK) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def open_file(plan: log_drivers.LogPlan) -> None:
    assert plan.path is not None
    os.close(os.open(plan.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640))


def ours(arguments: list[bytes]) -> tuple[int | None, bytes]:
    """Return the exit status and stderr that our parts give; the status None is a start."""
    try:
        said = options.parse(arguments)
        if said.help or said.version:
            return 0, b""
        options.check(said, access, os.getcwdb)
        log_drivers.plan(
            said.log_path,
            cid=said.cid or b"",
            log_tag=said.log_tag,
            log_label=said.log_label,
            open_file=open_file,
        )
    except options.OptionError as error:
        return 1, b"conmon: option parsing failed: " + error.text + b"\n"
    except options.CheckError as error:
        return 1, (b"conmon: " if error.plain else ERROR) + error.text + b"\n"
    return None, b""


def theirs(arguments: list[bytes], locale: str = "C.UTF-8") -> tuple[int, bytes, bytes]:
    """Return the exit status, stdout and stderr of the oracle."""
    done = subprocess.run(  # noqa: S603
        [CONMON, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=10,
        check=False,
        env={"LC_ALL": locale, "PATH": "/usr/bin:/bin"},
    )
    return done.returncode, done.stdout, done.stderr


def random_words(chance: random.Random) -> list[bytes]:
    """Return a line that is mostly wrong; its runtime, if it has one, is never usable."""
    line = []
    for _ in range(chance.choice((0, 1, 1, 2, 2, 3, 4, 6, 9))):
        kind = chance.randrange(9)
        if kind == 0:
            line.append(chance.choice(WORDS))
        elif kind == 1:
            line.append(chance.choice(VALUES))
        elif kind <= 3:
            line.append(b"--" + chance.choice(LONGS))
        elif kind == 4:
            line.append(b"--" + chance.choice(LONGS) + b"=" + chance.choice(VALUES))
        elif kind == 5:
            letters = chance.choices(LETTERS + "iestz", k=chance.randint(1, 4))
            line.append(b"-" + "".join(letters).encode())
        else:
            line += [b"--" + chance.choice(LONGS), chance.choice(VALUES)]
    return line


def nearly_good_line(chance: random.Random) -> list[bytes]:
    """Return a line without a parse error that fails in a check, seldom a line of `--version`."""

    def maybe(likely: float, *words: bytes) -> list[list[bytes]]:
        return [list(words)] if chance.random() < likely else []

    pieces = [
        *maybe(0.97, chance.choice((b"-c", b"--cid")), chance.choice((b"x", b"1" * 12, b"1" * 13))),
        *maybe(0.9, chance.choice((b"-u", b"--cuuid")), b"uuid"),
        *maybe(0.95, b"-r", chance.choice((b"runtime",) * 9 + (b"", b"/etc/passwd", b"nowhere"))),
        *maybe(0.3, chance.choice((b"-e", b"--exec", b"--exec=no", b"-ei"))),
        *maybe(0.3, b"--api-version", *chance.choice(((), (b"1",)))),
        *maybe(0.1, b"--exec-attach"),
        *maybe(0.5, b"--exec-process-spec=spec"),
        *maybe(0.1, b"--restore", b"image"),
        *maybe(0.2, b"--exit-delay", chance.choice((b"-1", b"0", b"-0", b"7", b"-0x7"))),
        *maybe(
            0.3, b"--log-level", chance.choice((*options.LOG_LEVELS, b"", b"INFO", b"Er", b"x"))
        ),
        *maybe(0.2, b"--log-tag", chance.choice((b"", b"tag"))),
        *maybe(0.1, b"--version"),
        *maybe(0.3, chance.choice(FLAGS)),
        *maybe(0.3, chance.choice((b"stray", b"-", b"", b"1"))),
        *maybe(0.2, b"-iP", b"--help"),
        *maybe(0.2, b"-T", chance.choice((b"5", b"-5", b"0x10", b" 010"))),
        *maybe(0.2, b"--log-size-max", chance.choice((b"-1", b"0", b"4611686018427387904"))),
        *([b"-l", chance.choice(SPECS)] for _ in range(chance.choice((0, 1, 1, 1, 2, 3)))),
    ]
    chance.shuffle(pieces)
    line = [word for piece in pieces for word in piece]
    if ours(line)[0] is None:
        line += [b"-l", b"bad:"]
    return line + chance.choice(([], [], [b"--"], [b"--", b"--foo", b"-c"]))


def lines_of_batch(batch: int) -> Iterator[list[bytes]]:
    chance = random.Random(batch)  # noqa: S311
    for _ in range(LINES_A_BATCH):
        yield random_words(chance) if chance.random() < 0.55 else nearly_good_line(chance)


@pytest.fixture
def _scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert os.access(CONMON, os.X_OK), f"the oracle is missing: install Debian's conmon ({CONMON})"
    monkeypatch.chdir(tmp_path)
    runtime = tmp_path / "runtime"
    runtime.write_text("#!/bin/sh\nexit 1\n")
    runtime.chmod(0o755)


@pytest.mark.usefixtures("_scratch")
@pytest.mark.parametrize("batch", range(BATCHES))
def test_conmon_and_we_say_the_same_about_generated_command_lines(batch: int) -> None:
    for line in lines_of_batch(batch):
        status, stderr = ours(line)
        assert status is not None, f"the generator made a line that starts something: {line}"
        oracle_status, *output = theirs(line)
        oracle_stdout, oracle_stderr = oracle_differences.in_our_words(*output)
        assert (status, stderr) == (oracle_status, oracle_stderr), line
        if status == 0:
            version = options.parse(line).version and not options.parse(line).help
            assert oracle_stdout.startswith(b"conmon version" if version else b"Usage:"), line
        else:
            assert oracle_stdout == b"", line


@pytest.mark.usefixtures("_scratch")
def test_the_generated_command_lines_meet_every_error_that_the_oracle_knows() -> None:
    unseen = set(EVERY_ERROR)
    answers = 0
    for batch in range(BATCHES):
        for line in lines_of_batch(batch):
            _, stderr = ours(line)
            answers += not stderr
            said = stderr.removeprefix(b"conmon: option parsing failed: ").removeprefix(ERROR)
            unseen -= {text for text in unseen if said.removeprefix(b"conmon: ").startswith(text)}
    assert not unseen
    assert answers > BATCHES * LINES_A_BATCH // 20, "too few lines that are answered with status 0"


@pytest.mark.usefixtures("_scratch")
@pytest.mark.parametrize(
    "row",
    [row for row in oracle_differences.DIFFERENCES if row.arguments is not None],
    ids=lambda row: row.what,
)
def test_a_listed_difference_is_real(row: oracle_differences.Difference) -> None:
    arguments = list(row.arguments or ())
    assert ours(arguments) == (1, row.ours)
    status, stdout, stderr = theirs(arguments, row.locale)
    assert (status, stdout + stderr) == (1, row.oracle)


@pytest.mark.usefixtures("_scratch")
def test_the_oracle_complains_on_stdout_of_what_it_cannot_parse() -> None:
    assert any("stream" in row.what for row in oracle_differences.DIFFERENCES)
    text = b"conmon: option parsing failed: Unknown option --foo\n"
    assert theirs([b"--foo"]) == (1, text, b"")
    assert ours([b"--foo"]) == (1, text)


@pytest.mark.usefixtures("_scratch")
def test_a_deleted_working_directory_is_an_error_even_if_nothing_needs_it(tmp_path: Path) -> None:
    (row,) = (row for row in oracle_differences.DIFFERENCES if "deleted" in row.what)
    (tmp_path / "gone").mkdir()
    os.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    arguments = b"-c x -u u -b /b -p /p --exit-delay -1 -l bad: -r".split()
    arguments.append(os.fsencode(tmp_path / "runtime"))
    assert ours(arguments) == (1, row.ours)
    assert theirs(arguments) == (1, b"", row.oracle)


@pytest.mark.usefixtures("_scratch")
def test_every_option_in_the_help_of_conmon_is_in_ours_with_the_same_letter() -> None:
    def named(text: bytes) -> set[tuple[bytes, ...]]:
        """Return the option words of each line, without their metavars."""
        lines = (line.split() for line in text.splitlines() if line.startswith(b"  -"))
        return {
            tuple(word.partition(b"=")[0] for word in line[:2] if word.startswith(b"-"))
            for line in lines
        }

    theirs_named = named(theirs([b"--help"])[1])
    ours_named = named(options.help_text(b"conmon"))
    lacking = {(option,) for option, _ in oracle_differences.OPTIONS_THAT_THE_ORACLE_LACKS}
    assert len(theirs_named) > 40
    assert ours_named == theirs_named | lacking
