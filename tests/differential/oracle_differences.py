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


class LifeDifference(NamedTuple):
    """One row: in each life that a pattern of *lives* names, the field differs exactly so.

    A field that neither monitor shows in a life is passed over if "*" is among the patterns.
    """

    lives: tuple[str, ...]
    field: str
    oracle: Any
    ours: Any
    why: str


LIFE_DIFFERENCES: tuple[LifeDifference, ...] = (
    LifeDifference(
        ("*",), "mode of ctr.log", "-rw-------", "-rw-r-----", "LOG-29: 2.2.1 makes logs so"
    ),
)
