"""The command line: CONTRACT, section 1. The comparison with conmon itself is in differential/."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from lowconmon.pure import options
from lowconmon.pure.options import ALIASES, TABLE, CheckError, OptionError, Options, check, parse

READY = [b"-c", b"id", b"-u", b"uuid", b"-r", b"/bin/true"]

# The table of CONTRACT, section 1, once more: long name, letter, kind, default.
CONTRACT_TABLE = """
api-version . flag False
bundle b path None
cid c string None
cuuid u string None
name n string None
conmon-pidfile P path None
container-pidfile p path None
persist-dir 0 path None
exit-dir . path None
exit-command . path None
exit-command-arg . strings ()
exit-delay . int 0
exec e flag False
exec-attach . flag False
exec-process-spec . path None
stdin i flag False
leave-stdin-open . flag False
terminal t flag False
log-path l strings ()
log-level . string b'warning'
log-size-max . int64 -1
log-global-size-max . int64 -1
log-tag . string None
log-label . strings ()
no-container-partial-message . flag False
log-rotate . flag False
log-max-files . int 1
log-allowlist-dir . strings ()
no-sync-log . flag False
no-new-keyring . flag False
no-pivot . flag False
systemd-cgroup s flag False
runtime r path None
runtime-arg . strings ()
runtime-opt . strings ()
restore . path None
replace-listen-pid . flag False
sdnotify-socket . path None
seccomp-notify-socket . string None
seccomp-notify-plugins . string None
socket-dir-path . path b'/var/run/crio'
full-attach . flag False
sync . flag False
syslog . flag False
timeout T int 0
version . flag False
"""
CONTRACT_ROWS = [tuple(line.split()) for line in CONTRACT_TABLE.strip().splitlines()]
VALUED = [row for row in TABLE if row[2] in {"string", "path"}]


def attribute(row: options.Row) -> str:
    return row[0].replace("-", "_")


def as_dict(said: Options) -> dict[str, object]:
    return {attribute(row): getattr(said, attribute(row)) for row in TABLE}


def allow(path: bytes) -> None:
    assert path


def checked(*arguments: bytes) -> Options:
    said = parse(arguments)
    check(said, allow, lambda: b"/cwd")
    return said


def test_the_table_is_that_of_the_contract() -> None:
    rows = {row[0]: (row[1] or ".", row[2]) for row in TABLE if row[0] != "help"}
    assert rows == {long: (letter, kind) for long, letter, kind, _ in CONTRACT_ROWS}
    assert ALIASES == {"pidfile": "container-pidfile", "restore-arg": "runtime-opt"}


def test_no_name_and_no_letter_stands_twice_in_the_table() -> None:
    assert len({row[0] for row in TABLE} | set(ALIASES)) == len(TABLE) + len(ALIASES)
    letters = [row[1] for row in TABLE if row[1]]
    assert len(set(letters)) == len(letters)


def test_each_option_has_an_attribute_of_its_kind_and_nothing_else_has_one() -> None:
    text = (bytes, type(None))
    types: dict[str, Any] = {"flag": bool, "int": int, "int64": int, "strings": tuple}
    types |= {"string": text, "path": text}
    for row in TABLE:
        assert isinstance(getattr(Options, attribute(row)), types[row[2]]), row
    attributes = {name for name in vars(Options) if not name.startswith("__")}
    assert attributes == {attribute(row) for row in TABLE}


@pytest.mark.parametrize(("long", "letter", "kind", "default"), CONTRACT_ROWS)
def test_an_option_that_is_not_given_has_its_default(
    long: str, letter: str, kind: str, default: str
) -> None:
    assert letter
    assert kind
    assert repr(getattr(parse([]), long.replace("-", "_"))) == default


def test_two_parses_share_no_list() -> None:
    assert parse([b"--runtime-arg", b"x"]).runtime_arg == (b"x",)
    assert parse([]).runtime_arg == ()


@pytest.mark.contract("CLI-1", "CLI-2")
@pytest.mark.parametrize("row", VALUED, ids=lambda row: row[0])
def test_a_valued_option_takes_the_next_argument_or_what_follows_its_equals_sign(
    row: options.Row,
) -> None:
    long = b"--" + row[0].encode()
    assert getattr(parse([long, b"--sync"]), attribute(row)) == b"--sync"
    assert getattr(parse([long + b"=a=b"]), attribute(row)) == b"a=b"
    assert getattr(parse([long + b"="]), attribute(row)) == b""
    assert getattr(parse([long, b"first", long, b"last"]), attribute(row)) == b"last"
    if row[1]:
        said = parse([b"-" + row[1].encode(), b"--"])
        assert getattr(said, attribute(row)) == b"--"


@pytest.mark.contract("CLI-10")
@pytest.mark.parametrize("row", [row for row in TABLE if row[2] == "flag"], ids=lambda row: row[0])
def test_a_flag_is_set_by_itself_by_anything_after_its_equals_sign_and_by_its_letter(
    row: options.Row,
) -> None:
    long = b"--" + row[0].encode()
    forms = [long] if row[0] == "help" else [long, long + b"=", long + b"=false"]
    for form in [*forms, *([b"-" + row[1].encode()] if row[1] else [])]:
        expected = as_dict(Options()) | {attribute(row): True}
        assert as_dict(parse([form])) == expected


@pytest.mark.parametrize(
    "row", [row for row in TABLE if row[2] == "strings"], ids=lambda row: row[0]
)
def test_a_repeated_list_option_keeps_every_value_in_order(row: options.Row) -> None:
    long = b"--" + row[0].encode()
    said = parse([long, b"a", long + b"=", long, b"a"])
    assert getattr(said, attribute(row)) == (b"a", b"", b"a")


def test_an_alias_adds_to_the_list_of_its_option() -> None:
    said = parse([b"--runtime-opt=1", b"--restore-arg=2", b"--runtime-opt=3"])
    assert said.runtime_opt == (b"1", b"2", b"3")
    assert parse([b"--pidfile", b"/p"]).container_pidfile == b"/p"
    assert parse([b"--pidfile=", b"/p"]).container_pidfile == b""
    assert parse([b"--restore-arg", b"a", b"--restore-arg="]).runtime_opt == (b"a", b"")


@pytest.mark.contract("CLI-4")
def test_letters_bundle_and_one_of_them_may_take_the_next_argument() -> None:
    said = parse([b"-icte", b"ID", b"-T", b"5"])
    assert (said.stdin, said.cid, said.terminal, said.exec) == (True, b"ID", True, True)
    assert said.timeout == 5


@pytest.mark.contract("CLI-6")
def test_positionals_are_ignored_wherever_they_stand() -> None:
    said = parse([b"stray", b"--api-version", b"1", b"", b"-", b"-c", b"ID", b"x"])
    assert as_dict(said) == as_dict(Options()) | {"api_version": True, "cid": b"ID"}


@pytest.mark.contract("CLI-7")
def test_two_dashes_end_the_options() -> None:
    assert as_dict(parse([b"--sync", b"--", b"--foo", b"--help", b"-c"])) == as_dict(
        parse([b"--sync"])
    )


@pytest.mark.contract("CLI-19")
@pytest.mark.parametrize("form", [b"-h", b"-?", b"--help", b"--help-all", b"-ih", b"-h=3", b"-?z"])
def test_help_is_met_at_its_place_in_the_parse(form: bytes) -> None:
    assert parse([form]).help
    said = parse([b"-c", b"ID", form, b"--foo"])
    assert (said.help, said.cid) == (True, b"ID")
    with pytest.raises(OptionError):
        parse([b"--foo", form])
    assert parse([b"--cid", form]).cid == form
    assert not parse([b"--cid", form]).help


INTEGERS = [
    (b"0", 0),
    (b"0x10", 16),
    (b"0XfF", 255),
    (b"010", 8),
    (b" \t\n\v\f\r+7", 7),
    (b"-5", -5),
    (b"-0x80000000", -(1 << 31)),
    (b"-2147483648", -(1 << 31)),
    (b"2147483647", (1 << 31) - 1),
    (b"017777777777", (1 << 31) - 1),
    (b"0" * 5000 + b"17", 15),
    (b"-0", 0),
]


@pytest.mark.contract("CLI-12")
@pytest.mark.parametrize(("text", "value"), INTEGERS)
@pytest.mark.parametrize("option", ["timeout", "exit-delay", "log-max-files", "log-size-max"])
def test_an_integer_is_read_as_strtol_with_base_0_reads_it(
    option: str, text: bytes, value: int
) -> None:
    said = parse([b"--%b=%b" % (option.encode(), text)])
    assert getattr(said, option.replace("-", "_")) == value


@pytest.mark.parametrize("value", [(1 << 63) - 1, -(1 << 63)])
def test_sizes_have_64_bits(value: int) -> None:
    assert parse([b"--log-size-max", b"%d" % value]).log_size_max == value
    assert parse([b"--log-global-size-max", b"%d" % value]).log_global_size_max == value


JUNK = [b"", b" ", b"abc", b"5 ", b"0x", b"08", b"0b1", b"0o7", b"0x0x1", b"1_0", b"+-5", b"- 5"]
JUNK += [b"-", b"1e3", b"0x1g", b"\xff", b"\xc2\xa05", "\u0665".encode(), b"5\n", b"99999999999x"]

PARSE_ERRORS = [
    ([b"--foo"], "Unknown option --foo"),
    ([b"--foo=bar"], "Unknown option --foo=bar"),
    ([b"--ci", b"x"], "Unknown option --ci"),
    ([b"--=x"], "Unknown option --=x"),
    ([b"---"], "Unknown option ---"),
    ([b"--help=x"], "Unknown option --help=x"),
    ([b"--help-conmon"], "Unknown option --help-conmon"),
    ([b"-z"], "Unknown option -z"),
    ([b"-izh"], "Unknown option -izh"),
    ([b"-cz", b"ID"], "Unknown option -cz"),
    ([b"-T5", b"5"], "Unknown option -T5"),
    ([b"--cid"], "Missing argument for --cid"),
    ([b"--pidfile"], "Missing argument for --pidfile"),
    ([b"-c"], "Missing argument for -c"),
    ([b"-T5"], "Missing argument for -T"),
    ([b"-cT", b"5"], "Error parsing option -T"),
    ([b"-Tc", b"5"], "Error parsing option -c"),
    ([b"-cc", b"5"], "Error parsing option -c"),
    ([b"--timeout", b"abc"], "Cannot parse integer value \u201cabc\u201d for --timeout"),
    ([b"-T", b"--sync"], "Cannot parse integer value \u201c--sync\u201d for -T"),
    ([b"-Tz", b"x"], "Cannot parse integer value \u201cx\u201d for -T"),
    (
        [b"--log-max-files=2147483648"],
        "Integer value \u201c2147483648\u201d for --log-max-files out of range",
    ),
    ([b"-T", b"-2147483649"], "Integer value \u201c-2147483649\u201d for -T out of range"),
    ([b"-T", b"0x80000000"], "Integer value \u201c0x80000000\u201d for -T out of range"),
    (
        [b"--log-size-max", b"9223372036854775808"],
        "Integer value \u201c9223372036854775808\u201d for --log-size-max out of range",
    ),
    (
        [b"--log-size-max", b"-9223372036854775809"],
        "Integer value \u201c-9223372036854775809\u201d for --log-size-max out of range",
    ),
]


@pytest.mark.contract("CLI-13")
@pytest.mark.parametrize(("arguments", "text"), PARSE_ERRORS)
def test_a_line_that_cannot_be_parsed_is_refused_in_the_words_of_glib(
    arguments: list[bytes], text: str
) -> None:
    with pytest.raises(OptionError) as caught:
        parse(arguments)
    assert caught.value.text == text.encode()


@pytest.mark.parametrize("text", JUNK)
@pytest.mark.parametrize("option", [b"--timeout", b"--log-size-max"])
def test_an_integer_with_anything_else_around_it_is_refused(option: bytes, text: bytes) -> None:
    with pytest.raises(OptionError) as caught:
        parse([option, text])
    quoted = b"\xe2\x80\x9c" + text + b"\xe2\x80\x9d"
    assert caught.value.text == b"Cannot parse integer value " + quoted + b" for " + option


def test_a_number_of_thousands_of_digits_is_out_of_range() -> None:
    for digits in (b"9" * 10_000, b"-" + b"9" * 10_000, b"0x" + b"f" * 10_000, b"7" * 31):
        with pytest.raises(OptionError, match="out of range"):
            parse([b"--log-size-max", digits])


@pytest.mark.contract("CLI-18")
def test_arguments_need_not_be_valid_utf_8() -> None:
    assert parse([b"-b", b"/\xff\xfe", b"--name=\x80"]).bundle == b"/\xff\xfe"
    with pytest.raises(OptionError) as caught:
        parse([b"--\xff=\xfe"])
    assert caught.value.text == b"Unknown option --\xff=\xfe"
    with pytest.raises(OptionError) as caught:
        parse([b"-\xff"])
    assert caught.value.text == b"Unknown option -\xff"


WORDS = [
    *(b"--" + name.encode() for name in (*(row[0] for row in TABLE), *ALIASES)),
    *(b"-" + row[1].encode() for row in TABLE if row[1]),
    *(b"--", b"-", b"=", b"5", b"x", b"-ic"),
]
anything = st.lists(
    st.one_of(
        st.sampled_from(WORDS),
        st.builds(lambda word, value: word + b"=" + value, st.sampled_from(WORDS), st.binary()),
        st.builds(lambda word: b"-" + word, st.binary(max_size=4)),
        st.binary(max_size=12),
    ),
    max_size=8,
)


@given(anything)
def test_the_parser_raises_nothing_but_its_own_error(arguments: list[bytes]) -> None:
    try:
        said = parse(arguments)
    except OptionError:
        return
    for row in TABLE:
        value = getattr(said, attribute(row))
        if row[2] == "flag":
            assert value in {True, False}
        elif row[2] == "strings":
            assert all(isinstance(item, bytes) for item in value)
        elif row[2] in {"int", "int64"}:
            bits = 31 if row[2] == "int" else 63
            assert -(1 << bits) <= value < 1 << bits


@given(anything)
def test_the_checks_raise_nothing_but_their_own_error(arguments: list[bytes]) -> None:
    try:
        said = parse(arguments)
        check(said, lambda _path: None, lambda: b"/cwd")
    except (OptionError, CheckError):
        return
    assert said.cid is not None
    assert said.runtime is not None
    assert said.container_pidfile is not None
    assert said.exit_delay >= 0


@st.composite
def values(draw: st.DrawFn) -> dict[str, object]:
    """Draw a value for some of the options, by attribute."""
    texts = st.binary(max_size=8).filter(lambda text: b"\0" not in text)
    of_kind = {
        "flag": st.just(value=True),
        "string": texts,
        "path": texts,
        "int": st.integers(-(1 << 31), (1 << 31) - 1),
        "int64": st.integers(-(1 << 63), (1 << 63) - 1),
        "strings": st.lists(texts, max_size=3).map(tuple),
    }
    chosen = draw(st.lists(st.sampled_from(TABLE[1:]), unique=True))
    return {attribute(row): draw(of_kind[row[2]]) for row in chosen}


def written(given_values: dict[str, Any], pick: st.DataObject) -> list[bytes]:
    """Write the options in one of the ways there are to write them, in any order."""
    pieces = []
    for row in TABLE:
        value = given_values.get(attribute(row))
        for item in value if isinstance(value, tuple) else [value]:
            if item is None:
                continue
            long = b"--" + row[0].encode()
            text = item if isinstance(item, bytes) else b"%d" % item
            forms = [[long]] if row[2] == "flag" else [[long, text], [long + b"=" + text]]
            if row[1]:
                forms.append([b"-" + row[1].encode(), *forms[0][1:]])
            pieces.append((isinstance(value, tuple), pick.draw(st.sampled_from(forms))))
    lists = [piece for is_list, piece in pieces if is_list]  # their order is meant
    others = pick.draw(st.permutations([piece for is_list, piece in pieces if not is_list]))
    pieces_in_order = (
        [*others, [b"stray"], *lists] if pick.draw(st.booleans()) else [*lists, *others]
    )
    return [word for piece in pieces_in_order for word in piece]


@given(values(), st.data())
def test_what_is_written_is_what_is_read_in_any_order_and_form(
    given_values: dict[str, object], data: st.DataObject
) -> None:
    said = parse(written(given_values, data))
    assert as_dict(said) == as_dict(Options()) | given_values


def test_the_help_names_every_option_that_is_not_hidden_and_its_letter() -> None:
    text = options.help_text(b"some-name").decode()
    head = (
        "Usage:\n  some-name [OPTION\u2026] - container monitor\n\nHelp Options:\n  -h, --help   "
    )
    assert text.startswith(head)
    assert [line for line in text.split("\n") if line[:1] != " "] == [
        *("Usage:", "", "Help Options:", "", "Application Options:", "", "")
    ]
    assert text.index("--help") < text.index("Application Options:") < text.index("--api-version")
    lines = [line for line in text.splitlines() if line.startswith("  -")]
    for row, line in zip(TABLE, lines, strict=True):
        letter = f"-{row[1]}, " if row[1] else ""
        value = f"={row[3]} " if row[3] else " "
        assert line.startswith(f"  {letter}--{row[0]}{value}")
        assert line.endswith(f" {row[4]}")
    for word in ("--exec ", "journald", "--log-global-size-max", "Help Options:"):
        assert word in text


def test_each_valued_option_has_a_metavar_and_a_flag_has_none() -> None:
    assert all(bool(row[3]) == (row[2] != "flag") for row in TABLE)
    assert all(row[4] for row in TABLE)


CHECK_ERRORS = [
    ("--log-max-files -1", True, "log-max-files must be non-negative, got -1"),
    (
        "--log-max-files 0 --log-rotate",
        True,
        "log-max-files must be at least 1 when log-rotate is enabled, got 0",
    ),
    ("", True, "Container ID not provided. Use --cid"),
    ("--log-level loud -c x", False, "No such log level loud"),
    ("--log-level= -c x", False, "No such log level "),
    ("-c x -e --restore=", False, "Cannot use 'exec' and 'restore' at the same time"),
    ("-c x --exec-attach --api-version", False, "Attach can only be specified with exec"),
    (
        "-c x -e --exec-attach",
        False,
        "Attach can only be specified for a non-legacy exec session",
    ),
    ("-c x", False, "Container UUID not provided. Use --cuuid"),
    ("-c x -e --api-version", False, "Container UUID not provided. Use --cuuid"),
    ("-c x -u u", False, "Runtime path not provided. Use --runtime"),
    ("-c x -e", False, "Runtime path not provided. Use --runtime"),
    ("-c x -u u -r /no", False, "Runtime path /no is not valid Permission denied"),
    (
        "-c x -e -r /bin/true",
        False,
        "Exec process spec path not provided. Use --exec-process-spec",
    ),
    (
        "-c x -e -r /bin/true --exec-process-spec p --exit-delay -1",
        False,
        "Delay before invoking exit command must be greater than or equal to 0",
    ),
    (
        "-c x -u u -r /bin/true --exit-delay -0x7",
        False,
        "Delay before invoking exit command must be greater than or equal to 0",
    ),
    (
        "-c x -e -r /bin/true --exec-process-spec p --sdnotify-socket /S",
        False,
        "Bundle path not provided. Use --bundle",
    ),
]


@pytest.mark.parametrize(("line", "plain", "text"), CHECK_ERRORS)
def test_a_line_that_makes_no_sense_is_refused_in_the_words_of_conmon(
    line: str, *, plain: bool, text: str
) -> None:
    def refuse_no(path: bytes) -> None:
        if path == b"/no":
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    with pytest.raises(CheckError) as caught:
        check(parse(line.encode().split()), refuse_no, lambda: b"/cwd")
    assert (caught.value.text, caught.value.plain) == (text.encode(), plain)


@pytest.mark.contract("CLI-58")
def test_the_checks_come_in_the_order_of_the_contract() -> None:
    """Begin with a line wrong in every way and mend what is complained of, one at a time."""

    def refuse(path: bytes) -> None:
        if path == b"/no":
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    def no_cwd() -> bytes:
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))

    wrong = b"--log-max-files -1 --log-rotate --log-level x -e --restore r --exec-attach".split()
    wrong += [b"--exit-delay", b"-1", b"--sdnotify-socket", b"/S"]
    mends: list[tuple[bytes, str, object]] = [
        (b"log-max-files must be non-negative, got -1", "log_max_files", 0),
        (
            b"log-max-files must be at least 1 when log-rotate is enabled, got 0",
            "log_max_files",
            1,
        ),
        (b"Container ID not provided. Use --cid", "cid", b"x"),
        (b"No such log level x", "log_level", b"Info"),
        (b"Cannot use 'exec' and 'restore' at the same time", "exec", False),
        (b"Attach can only be specified with exec", "exec", True),
        (b"Cannot use 'exec' and 'restore' at the same time", "restore", None),
        (b"Attach can only be specified for a non-legacy exec session", "api_version", True),
        (b"Container UUID not provided. Use --cuuid", "cuuid", b"u"),
        (b"Runtime path not provided. Use --runtime", "runtime", b"/no"),
        (b"Runtime path /no is not valid No such file or directory", "runtime", b"/bin/true"),
        (b"Exec process spec path not provided. Use --exec-process-spec", "exec_process_spec", b""),
    ]
    said = parse(wrong)
    for text, name, value in mends:
        with pytest.raises(CheckError) as caught:
            check(said, refuse, no_cwd)
        assert caught.value.text == text
        setattr(said, name, value)
    with pytest.raises(CheckError, match="Failed to get working directory No such file"):
        check(said, refuse, no_cwd)
    with pytest.raises(CheckError, match="Delay before invoking exit command"):
        check(said, refuse, lambda: b"/cwd")
    said.exit_delay = 0
    with pytest.raises(CheckError, match="Bundle path not provided. Use --bundle"):
        check(said, refuse, lambda: b"/cwd")
    said.bundle = b"/b"
    check(said, refuse, lambda: b"/cwd")


@pytest.mark.contract("CLI-26", "CLI-24")
def test_a_legacy_exec_needs_no_uuid_and_gets_no_bundle() -> None:
    said = checked(*b"-c x -e -r /bin/true --exec-process-spec p".split())
    assert (said.bundle, said.container_pidfile) == (None, b"/cwd/pidfile-x")


@pytest.mark.contract("CLI-24", "CLI-29")
def test_bundle_and_pid_file_come_from_the_working_directory_unless_given() -> None:
    said = checked(*READY)
    assert (said.bundle, said.container_pidfile) == (b"/cwd", b"/cwd/pidfile-id")
    said = checked(*READY, b"-b", b"", b"-p", b"p")
    assert (said.bundle, said.container_pidfile) == (b"", b"p")


def test_no_rotated_file_at_all_is_fine_without_rotation() -> None:
    assert checked(*READY, b"--log-max-files", b"0").log_max_files == 0
    assert checked(*READY, b"--log-rotate").log_max_files == 1


@pytest.mark.contract("CLI-38")
@pytest.mark.parametrize("level", options.LOG_LEVELS)
def test_a_log_level_may_be_in_any_case_and_is_kept_in_lower_case(level: bytes) -> None:
    for form in (level, level.upper(), level.title()):
        assert checked(*READY, b"--log-level", form).log_level == level


def test_the_runtime_is_what_is_looked_at() -> None:
    seen: list[bytes] = []
    check(parse([*READY, b"-r", b"/other"]), seen.append, lambda: b"/cwd")
    assert seen == [b"/other"]


def test_the_parser_imports_nothing_that_the_interpreter_had_not() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); before = set(sys.modules); "
        "import lowconmon.pure.options, lowconmon.pure.log_drivers; "
        "print(*sorted(set(sys.modules) - before))"
    )
    root = str(Path(options.__file__).parents[2])
    command = [sys.executable, "-ISc", code, root]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=True, timeout=30
    )
    names = {"lowconmon", "lowconmon.pure", "lowconmon.pure.log_drivers", "lowconmon.pure.options"}
    assert set(done.stdout.split()) == names
