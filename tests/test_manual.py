"""The manual page and the completions say what the parser's table says."""

from __future__ import annotations

import argparse
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lowconmon.pure import log_drivers
from lowconmon.pure.options import ALIASES, LOG_LEVELS, TABLE, Options, help_text
from lowconmon_tools.operators import command_lines
from lowconmon_tools.reader import command_line
from tests.support import ROOT, SLOWNESS, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = ROOT / "docs" / "lowconmon.8"
COMPLETIONS = ROOT / "ci" / "completions.py"
INTEGERS = ("int", "int64")
MACHINE_DEPENDENT = "referenced manual not found"  # of what is installed here
WORDS = {word for row in TABLE for word in (row[0], row[1]) if word} | {*ALIASES, "?"}


def section(title: str) -> list[str]:
    """Return the lines of a section of the page."""
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(f"\n.Sh {title}\n") == 1
    return text.partition(f"\n.Sh {title}\n")[2].partition("\n.Sh ")[0].split("\n")


def items(title: str) -> dict[str, str]:
    """Return the text of each item of a section's lists, by the item's macros."""
    found: dict[str, str] = {}
    head = ""
    for line in section(title):
        if line.startswith(".It "):
            head = line.removeprefix(".It ")
            assert head not in found, head
            found[head] = ""
        elif head:
            found[head] += line + "\n"
    return found


def macros(long: str, short: str, metavar: str) -> str:
    """Return how the page names an option."""
    names = (f"Fl {short} , " if short else "") + f"Fl -{long}"
    return names + (f" Ns = Ns Ar {metavar}" if metavar else "")


def default_in(text: str) -> str | None:
    """Return the default that an item tells."""
    match = re.search(r"^Default: (.+)\.$", text, re.MULTILINE)
    return match[1] if match else None


PROGRAMS = {"logs": command_line(), **command_lines()}
SECTIONS = {"logs": "READING LOGS", "status": "STATUS", "attach": "ATTACHING"}


def arguments_of(program: str) -> list[argparse.Action]:
    """Return the arguments of `lowconmon logs` or another."""
    return PROGRAMS[program]._actions  # noqa: SLF001 - argparse shows them nowhere else


# The page


def test_every_option_of_the_table_and_nothing_else_is_an_item_of_the_page() -> None:
    wanted = [macros(long, short, metavar) for long, short, _, metavar, _ in TABLE]
    assert sorted(items("OPTIONS")) == sorted(wanted)


def test_the_items_stand_in_the_order_of_the_table() -> None:
    found = [re.findall(r"Fl -(\S+)", head)[0] for head in items("OPTIONS")]
    assert found == [row[0] for row in TABLE]


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_option_of_a_program_and_nothing_else_is_an_item_of_the_page(program: str) -> None:
    wanted = []
    for action in arguments_of(program):
        if not action.option_strings:
            continue
        short = "".join(n[1:] for n in action.option_strings if not n.startswith("--"))
        long = action.option_strings[-1].removeprefix("--")
        metavar = "WHEN" if action.choices else action.metavar if action.nargs != 0 else ""
        wanted.append(macros(long, short, str(metavar)))
    assert list(items(SECTIONS[program])) == wanted


def test_the_page_knows_no_option_that_the_program_does_not_know() -> None:
    # The monitor's options; those of the other programs stand in sections of their own.
    text = PAGE.read_text(encoding="utf-8")
    for title in ("SYNOPSIS", *SECTIONS.values()):
        text = text.replace("\n".join(section(title)), "")
    said = {word.replace("\\&", "") for word in re.findall(r"\bFl (\S+)", text)}
    assert said == {word if len(word) == 1 else f"-{word}" for word in WORDS}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_a_default_that_the_page_tells_is_the_one_the_program_has(
    row: tuple[str, str, str, str, str],
) -> None:
    long, short, kind, metavar, _ = row
    default = getattr(Options, long.replace("-", "_"))
    told = default_in(items("OPTIONS")[macros(long, short, metavar)])
    if kind == "flag":
        assert (default, told) == (False, None)
    elif kind in INTEGERS:
        assert told == str(default)
    else:
        assert told == (default.decode() if default else None)


def test_the_defaults_of_logs_are_told() -> None:
    told = {head: default_in(text) for head, text in items("READING LOGS").items()}
    said = command_line().parse_args(["FILE"])
    assert {head: value for head, value in told.items() if value} == {
        macros("tail", "n", "N"): str(said.tail),
        macros("color", "", "WHEN"): said.color,
    }


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row[0])
def test_what_may_be_repeated_is_said_to_be_so(row: tuple[str, str, str, str, str]) -> None:
    long, short, kind, metavar, _ = row
    text = items("OPTIONS")[macros(long, short, metavar)]
    assert ("ay be repeated" in text) == (kind == "strings")


@pytest.mark.contract("CLI-20")
def test_the_help_tells_the_same_options_arguments_and_defaults() -> None:
    lines = re.findall(
        r"^  (?:-(.), )?--([a-z-]+)(?:=(\S+))? +(.*)$", help_text(b"x").decode(), re.MULTILINE
    )
    assert len(lines) == len(TABLE)
    told = items("OPTIONS")
    for short, long, metavar, text in lines:
        default = re.search(r" \((\S+)\)$", text)
        if default:
            assert default[1] == default_in(told[macros(long, short, metavar)])
        assert macros(long, short, metavar) in told


def test_the_page_names_every_log_level() -> None:
    text = items("OPTIONS")[macros("log-level", "", "LEVEL")]
    line = re.search(r"^\.Cm (error .*)\nor\n\.Cm (\w+) ,", text, re.MULTILINE)
    assert line is not None
    assert [*line[1].split(" , "), line[2]] == [level.decode() for level in LOG_LEVELS]


def test_the_page_names_every_environment_variable_that_the_program_reads() -> None:
    read: set[str] = set()
    for path in ROOT.glob("lowconmon*/**/*.py"):
        if path.name != "hostrun.py":
            text = path.read_text(encoding="utf-8")
            read.update(re.findall(r"b?\"((?:LOWCONMON|_OCI|XDG|LISTEN)_[A-Z_]+|TMPDIR)\"", text))
            read.update(re.findall(r"os\.environ\.get\(\"([A-Z_]+)\"", text))
    assert {"LOWCONMON_LOG_ON_ERROR", "_OCI_SYNCPIPE", "LISTEN_PID", "NO_COLOR"} <= read
    named = {name for head in items("ENVIRONMENT") for name in re.findall(r"Ev (\S+)", head)}
    assert named == read | {"LISTEN_FDS", "NOTIFY_SOCKET"}


def test_mandoc_has_nothing_to_say_about_the_page() -> None:
    done = subprocess.run(
        ["mandoc", "-Tlint", str(PAGE)], capture_output=True, text=True, timeout=60 * SLOWNESS
    )
    lines = [line for line in done.stdout.splitlines() if MACHINE_DEPENDENT not in line]
    assert lines == []


def test_the_page_is_shown_with_every_option_in_it() -> None:
    done = subprocess.run(
        ["mandoc", "-Tmarkdown", str(PAGE)],
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
    )
    text = re.sub(r"[*\\]", "", done.stdout)
    for long, short, _, metavar, _ in TABLE:
        assert (f"-{short}, " if short else "") + f"--{long}" in text
        assert not metavar or f"--{long}={metavar}\n" in text


# Completions


def completions(shell: str) -> str:
    done = subprocess.run(
        [sys.executable, str(COMPLETIONS), shell],
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
        check=True,
    )
    return done.stdout


class Shell:
    """An interactive shell on a terminal of its own, in a directory with a few files.

    The program is a function of the shell that shows its arguments.
    """

    SETUP = """
        lowconmon() {{ printf '<%s>' "$@"; echo '<end>'; }}
        PS1= PS2= PROMPT_COMMAND=
    """
    BASH = """
        bind 'set bell-style none' 'set enable-bracketed-paste off' 'set page-completions off'
        bind 'set completion-query-items 0' '"\\C-x": insert-completions'
        . /usr/share/bash-completion/bash_completion
        . {file}
    """
    ZSH = """
        unsetopt beep auto_remove_slash
        unset zle_bracketed_paste
        fpath=({directory} $fpath)
        autoload -Uz compinit; compinit -u -D
        zle -C insert-all complete-word insert_all
        insert_all() {{ _main_complete; compstate[insert]=all; compstate[list]= }}
        bindkey '^X' insert-all
        bindkey '^I' complete-word
    """

    def __init__(self, name: str, directory: Path) -> None:
        (directory / "files").mkdir()
        home = directory / "files"
        for folder in ("bundle", "a folder"):
            (home / folder).mkdir()
        (home / "ctr.log").touch()
        (home / "crun").touch(mode=0o755)
        file = directory / "_lowconmon"
        file.write_text(completions(name))
        setup = (self.SETUP + (self.BASH if name == "bash" else self.ZSH)).format(
            file=file, directory=directory
        )
        (directory / "setup").write_text(setup)
        flags = ["--norc", "--noprofile"] if name == "bash" else ["-f", "-o", "no_prompt_cr"]
        environment = {"PATH": os.environ["PATH"], "HOME": str(directory), "TERM": "dumb"}
        environment["LC_ALL"] = "C.UTF-8"
        self.fd, slave = pty.openpty()
        self.process = subprocess.Popen(
            [name, *flags, "-i"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=home,
            env=environment,
            start_new_session=True,
        )
        os.close(slave)
        self.said("PS1=; . ../setup; lowconmon ready")

    def said(self, keys: str) -> list[str]:
        """Type *keys* and return the arguments that the program got."""
        os.write(self.fd, keys.encode() + b"\r")
        text = b""
        while not (match := re.search(rb"(?:\r|\n)((?:<[^\r\n]*>)?)<end>\r?\n", text)):
            wait_for(self.fd)
            text += os.read(self.fd, 65536)
        return re.findall("<([^>]*)>", match[1].decode())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.fd)


@pytest.fixture(scope="module", params=["bash", "zsh"])
def shell(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Shell]:
    del scratch  # it must be there first
    directory = Path(tempfile.mkdtemp(prefix="lc-shell-", dir="/tmp"))
    one = Shell(request.param, directory)
    yield one
    one.close()
    shutil.rmtree(directory)


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_the_shell_can_parse_its_completions(name: str) -> None:
    done = subprocess.run(
        [name, "-n"], input=completions(name), capture_output=True, text=True, timeout=60 * SLOWNESS
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_all_long_options_are_offered(shell: Shell) -> None:
    said = {word.removesuffix("=") for word in shell.said("lowconmon --\x18")}
    assert said == {f"--{row[0]}" for row in TABLE}


@pytest.mark.parametrize("program", PROGRAMS)
def test_all_options_of_a_program_are_offered(shell: Shell, program: str) -> None:
    said = {word.removesuffix("=") for word in shell.said(f"lowconmon {program} --\x18")[1:]}
    names = [action.option_strings[-1:] for action in arguments_of(program)]
    assert said >= {name for pair in names for name in pair if name.startswith("--")}
    assert said <= {name for action in arguments_of(program) for name in action.option_strings}


@pytest.mark.parametrize(
    ("typed", "arguments"),
    [
        ("--cu\tX", ["--cuuid=X"]),
        ("--api\tX", ["--api-version", "X"]),
        ("-b bu\t", ["-b", "bundle/"]),
        ("--bundle=bu\t", ["--bundle=bundle/"]),
        ("--bundle bu\t", ["--bundle", "bundle/"]),
        ("--bundle a\t", ["--bundle", "a folder/"]),
        ("-r cr\t", ["-r", "crun"]),
        ("-p ct\t", ["-p", "ctr.log"]),
        ("--log-level=tr\t", ["--log-level=trace"]),
        ("-l jour\t", ["-l", "journald"]),
        ("-l k8\tct\t", ["-l", "k8s-file:ctr.log"]),
        ("--log-path=js\tct\t", ["--log-path=json-file:ctr.log"]),
        ("-l :ct\t", ["-l", ":ctr.log"]),
        ("-l ct\t", ["-l", "ctr.log"]),
        ("lo\tct\t", ["logs", "ctr.log"]),
        ("logs --col\tne\t", ["logs", "--color=never"]),
        ("st\t--js\tbu\t", ["status", "--json", "bundle/"]),
        ("att\t--det\tX", ["attach", "--detach-keys=X"]),
        ("logs -f --t\tX", ["logs", "-f", "--tX"]),  # tail, timestamps
        ("-c lo\t", ["-c", "lo"]),
        ("-t --sync --exit-di\tbu\t", ["-t", "--sync", "--exit-dir=bundle/"]),
    ],
)
def test_what_was_begun_is_completed(shell: Shell, typed: str, arguments: list[str]) -> None:
    assert shell.said("lowconmon " + typed) == arguments


@pytest.mark.parametrize(
    "shell", ["bash"], indirect=True
)  # zsh then offers any file, as everywhere
@pytest.mark.parametrize("typed", ["-b ct", "--exit-dir=ct", "--exit-command=ct", "-r bundle/x"])
def test_a_file_that_cannot_serve_is_not_offered(shell: Shell, typed: str) -> None:
    assert shell.said(f"lowconmon {typed}\t") == typed.split()


def test_all_log_levels_are_offered(shell: Shell) -> None:
    said = shell.said("lowconmon --log-level \x18")
    assert set(said[1:]) == {level.decode() for level in LOG_LEVELS}


def test_each_driver_that_is_offered_is_one(shell: Shell) -> None:
    for typed in ("j", "k", "pas", "no"):
        said = shell.said(f"lowconmon -l {typed}\x18")[1:]
        assert said
        for word in said:
            opened: list[log_drivers.LogPlan] = []
            spec = (word + "/x.log" if word.endswith(":") else word).encode()
            plan = log_drivers.plan(
                [spec], cid=b"0" * 64, log_tag=None, log_label=[], open_file=opened.append
            )
            assert bool(opened) == word.endswith(":")
            assert opened or plan.journald or plan.passthrough or plan.off
