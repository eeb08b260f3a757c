#!/usr/bin/env python3
"""Print what completes lowconmon's command line, for bash or zsh.

Made from the table that the parser reads (lowconmon/pure/options.py) and from the arguments of
`lowconmon logs`, `status` and `attach`. The package is the one on sys.path, else the checkout's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parent.parent))

from lowconmon.pure.options import ALIASES, LOG_LEVELS, TABLE
from lowconmon_tools.operators import command_lines
from lowconmon_tools.reader import command_line

if TYPE_CHECKING:
    import argparse

# What a value is, by the name that the help gives it. Other values are the user's own.
BASH = {
    "DIR": "_filedir -d",
    "FILE": "_filedir",
    "SOCKET": "_filedir",
    "PROGRAM": "_lowconmon_program",
    "SPEC": "_lowconmon_log",
    "LEVEL": "COMPREPLY=($(compgen -W '{levels}' -- \"$cur\"))",
    "WHEN": "COMPREPLY=($(compgen -W '{colors}' -- \"$cur\"))",
}
ZSH = {
    "DIR": "_files -/",
    "FILE": "_files",
    "SOCKET": "_files",
    "PROGRAM": "_files -g '*(-*)'",
    "SPEC": "_lowconmon_log",
    "LEVEL": "({levels})",
    "WHEN": "({colors})",
}
ACTIONS = command_line()._actions  # noqa: SLF001 - argparse shows them nowhere else
PROGRAMS = {"logs": command_line(), **command_lines()}
TOLD = {
    "logs": "show the logs of containers",
    "status": "tell how a container is",
    "attach": "attach to a container",
}
PATH_DRIVERS = ("k8s-file", "json-file")  # have a path behind a colon
OTHER_DRIVERS = ("journald", "passthrough", "none")

BASH_TEXT = r"""# Completes lowconmon; made by ci/completions.py.

_lowconmon_program() { # executable files, and directories on the way to them
    local name
    local -a names
    _filedir
    for name in "${COMPREPLY[@]}"; do
        [[ ! -d ${name/#\~/$HOME} && ! -x ${name/#\~/$HOME} ]] || names+=("$name")
    done
    COMPREPLY=("${names[@]}")
}

_lowconmon_log() { # a driver, or a file with or without one before it
    local driver=
    if [[ $cur =~ ^(@path_drivers_re@|): ]]; then
        driver=${BASH_REMATCH[0]}
        cur=${cur#"$driver"}
        _filedir
        # bash replaces what stands behind the colon, where a colon ends a word for it
        [[ $COMP_WORDBREAKS == *:* ]] || COMPREPLY=("${COMPREPLY[@]/#/$driver}")
        return
    fi
    _filedir
    COMPREPLY+=($(compgen -W '@drivers@' -- "$cur"))
    [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *: ]] || compopt -o nospace
}

_lowconmon() {
    local cur prev words cword split=false
    _init_completion -s -n : || return
    local options='@options@' word
    if [[ ${words[1]} =~ ^(@programs_re@)$ && $cword -gt 1 ]]; then
        case ${words[1]}:$prev in
@program_cases@
        esac
        case ${words[1]} in
@program_options@
        esac
        if [[ $cur != -* ]]; then
            if [[ ${words[1]} == logs ]]; then _filedir; else _filedir -d; fi
            return
        fi
    else
        case $prev in
@cases@
        esac
        [[ $cword -ne 1 ]] || options+=' @programs@'
    fi
    $split && return
    for word in "${words[@]:1:cword-1}"; do
        [[ $word != -- ]] || return
    done
    COMPREPLY=($(compgen -W "$options" -- "$cur"))
    [[ ${#COMPREPLY[@]} -ne 1 || ${COMPREPLY[0]} != *= ]] || compopt -o nospace
} &&
    complete -F _lowconmon lowconmon
"""

ZSH_TEXT = r"""#compdef lowconmon
# Completes lowconmon; made by ci/completions.py.

_lowconmon_log() { # a driver, or a file with or without one before it
    if compset -P '(@path_drivers_re@|):'; then
        _files
    else
        _alternative 'drivers:log driver:(@other_drivers@)' \
            'drivers:log driver:compadd -S ":" @path_drivers@' 'files:file:_files'
    fi
}

_lowconmon() {
    if [[ ${words[2]} =~ '^(@programs_re@)$' && $CURRENT -gt 2 ]]; then
        shift words
        (( CURRENT-- ))
        case ${words[1]} in
@program_specs@
        esac
        return
    fi
    _arguments -s -S : \
@specs@
        '1:command:((@programs_told@))'
}

_lowconmon "$@"
"""

Row = tuple[list[str], str, bool, str]  # names, metavar, may be repeated, help


def monitor_rows() -> list[Row]:
    """Return the options of the monitor."""
    rows = []
    for long, short, kind, metavar, text in TABLE:
        names = [f"-{short}"] if short else []
        rows.append(([*names, f"--{long}"], metavar, kind == "strings", text))
    return rows


def program_rows(name: str) -> list[Row]:
    """Return the options of one of the other programs, each by its first long name at the end."""
    return [
        (list(action.option_strings), metavar_of(action), False, action.help or "")
        for action in PROGRAMS[name]._actions  # noqa: SLF001 - as above
        if action.option_strings
    ]


def metavar_of(action: argparse.Action) -> str:
    """Return the name of an option's value, empty for a flag."""
    if action.nargs == 0:
        return ""
    return "WHEN" if action.choices else str(action.metavar)


def filled(template: str) -> str:
    """Put the words into the braces."""
    colors = next(action.choices for action in ACTIONS if action.choices)
    levels = [level.decode() for level in LOG_LEVELS]
    return template.format(levels=" ".join(levels), colors=" ".join(colors))


def bash_cases(rows: list[Row], indent: str, before: str = "") -> str:
    """Return what completes the value of each option that has one; *before*: before its names."""
    lines = []
    for names, metavar, _, _ in rows:
        if metavar:
            long = names[-1].removeprefix("--")
            hidden = [f"--{alias}" for alias, name in ALIASES.items() if name == long]
            lines.append(f"{indent}{' | '.join([before + it for it in [*names, *hidden]])})")
            if metavar in BASH:
                lines.append(f"{indent}    {filled(BASH[metavar])}")
            lines += [f"{indent}    return", f"{indent}    ;;"]
    return "\n".join(lines)


def bash_options(rows: list[Row]) -> str:
    """Return the words that bash offers: long names, a `=` behind one that has a value."""
    return " ".join(names[-1] + ("=" if metavar else "") for names, metavar, _, _ in rows)


def zsh_specs(rows: list[Row], indent: str) -> str:
    """Return a line for each option, as _arguments of zsh wants them."""
    lines = []
    for names, metavar, repeats, text in rows:
        shown = text.translate({ord(c): f"\\{c}" for c in "[]\\"}).replace("'", "'\\''")
        value = f":{metavar}:{filled(ZSH.get(metavar, ' '))}".replace("'", "'\\''")
        tail = f"[{shown}]{value if metavar else ''}"
        repeat = "*" if repeats else "" if len(names) == 1 else f"({' '.join(names)})"
        for name in names:
            equals = "=" if metavar and name.startswith("--") else ""
            lines.append(f"{indent}'{repeat}{name}{equals}{tail}' \\")
    return "\n".join(lines)


def completions(shell: str) -> str:
    """Return the file for a shell."""
    monitor, others = monitor_rows(), {name: program_rows(name) for name in PROGRAMS}
    arguments = dict.fromkeys(PROGRAMS, "1:container:_files -/") | {"logs": "*:FILE:_files"}
    text = {"bash": BASH_TEXT, "zsh": ZSH_TEXT}[shell]
    words = {
        "path_drivers_re": "|".join(PATH_DRIVERS),
        "path_drivers": " ".join(PATH_DRIVERS),
        "other_drivers": " ".join(OTHER_DRIVERS),
        "drivers": " ".join([*OTHER_DRIVERS, *(f"{driver}:" for driver in PATH_DRIVERS)]),
        "options": bash_options(monitor),
        "programs_re": "|".join(PROGRAMS),
        "programs": " ".join(PROGRAMS),
        "programs_told": " ".join(f'{name}\\:"{text}"' for name, text in TOLD.items()),
        "program_options": "\n".join(
            f"            {name}) options='{bash_options(rows)}' ;;"
            for name, rows in others.items()
        ),
        "cases": bash_cases(monitor, " " * 12),
        "program_cases": "\n".join(
            filter(None, [bash_cases(rows, " " * 12, f"{name}:") for name, rows in others.items()])
        ),
        "specs": zsh_specs(monitor, " " * 8),
        "program_specs": "\n".join(
            f"        {name})\n            _arguments -s -S : \\\n"
            f"{zsh_specs(rows, ' ' * 16)}\n                '{arguments[name]}'\n            ;;"
            for name, rows in others.items()
        ),
    }
    for word, value in words.items():
        text = text.replace(f"@{word}@", value)
    return text


if __name__ == "__main__":
    if sys.argv[1:] not in (["bash"], ["zsh"]):
        sys.exit("usage: ci/completions.py bash|zsh")
    sys.stdout.write(completions(sys.argv[1]))
