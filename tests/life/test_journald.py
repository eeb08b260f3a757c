"""Lives whose output goes to journald: a fake one, which reads when it likes, and the real one."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.journald import FakeJournald, Journald, arguments, connect
from tests.support.life import (
    Gate,
    Life,
    assert_idle,
    attach_accepted,
    packets,
    private_kib,
    wait_until,
)
from tests.support.syslog import Syslog

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_TEXT = 8192
SHORT_ID = b"0123456789ab"
BASIC = {b"CONTAINER_ID_FULL": b"0123456789abcdef", b"CONTAINER_ID": SHORT_ID}


@pytest.fixture
def fake(life: Life) -> Iterator[FakeJournald]:
    """Give what stands in journald's place for the life; `start` it."""
    path = life.directory / "journald"
    connect(life, path)
    with FakeJournald(path) as fake:
        yield fake


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Journald]:
    with Journald(tmp_path_factory.mktemp("journald")) as real:
        yield real


def start(life: Life, container: str, *extra: str) -> Life:
    life.stub(container).start(raw=arguments(life, *extra))
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    assert life.launcher.returncode == 0, life.launcher.stderr.read()
    assert life.pid() > 0
    return life


def finished(life: Life, container: str, *extra: str) -> Life:
    """Live a whole life."""
    start(life, container, *extra).exit_status()
    life.wait_gone()
    return life


def printing(life: Life, data: bytes, *, stream: int = 1) -> str:
    """Return a container that writes *data* with as few writes as can be."""
    (life.directory / "data").write_bytes(data)
    code = (
        f"import os\ndata = open({str(life.directory / 'data')!r}, 'rb').read()\n"
        f"while data:\n    data = data[os.write({stream}, data):]"
    )
    return f"{sys.executable} -IS -c {shlex.quote(code)}"


def lines(count: int) -> str:
    """Return a command that prints so many numbered lines of 100 bytes."""
    return f"seq -f %099.0f {count}"


def numbers(fake: FakeJournald) -> list[int]:
    return [int(text) for _, text, _ in fake.messages() if text[:1] == b"0"]


# What is sent


@pytest.mark.contract("JRN-1", "JRN-2", "JRN-3", "JRN-4", "JRN-5", "LOG-2", "CLI-40", "CLI-27")
@pytest.mark.parametrize(
    ("options", "fields"),
    [
        ([], {b"SYSLOG_IDENTIFIER": SHORT_ID}),
        (["-n", "box"], {b"CONTAINER_NAME": b"box", b"SYSLOG_IDENTIFIER": b"box"}),
        (["--log-tag", "a tag"], {b"CONTAINER_TAG": b"a tag", b"SYSLOG_IDENTIFIER": b"a tag"}),
        (
            ["-n", "box", "--log-tag", "tag"],
            {
                b"CONTAINER_TAG": b"tag",
                b"CONTAINER_NAME": b"box",
                b"SYSLOG_IDENTIFIER": b"tag",
            },
        ),
        (
            ["--log-label", "ONE=1", "--log-label", "TWO_2="],
            {b"SYSLOG_IDENTIFIER": SHORT_ID, b"ONE": b"1", b"TWO_2": b""},
        ),
        (
            ["--log-tag", "a\nMESSAGE=b", "--log-label", "EVIL=c\nPRIORITY"],
            {
                b"CONTAINER_TAG": b"a\nMESSAGE=b",
                b"SYSLOG_IDENTIFIER": b"a\nMESSAGE=b",
                b"EVIL": b"c\nPRIORITY",
            },
        ),
    ],
)
def test_entries_have_the_fields_that_say_whose_they_are(
    life: Life, fake: FakeJournald, options: list[str], fields: dict[bytes, bytes]
) -> None:
    fake.start()
    finished(life, "echo out; read x < /dev/null; echo err >&2", *options)
    entries = fake.read()
    found = sorted([dict(entry) for entry in entries], key=lambda entry: entry[b"MESSAGE"])
    err = {**BASIC, **fields, b"PRIORITY": b"3", b"MESSAGE": b"err"}
    assert found == [err, {**BASIC, **fields, b"PRIORITY": b"6", b"MESSAGE": b"out"}]
    assert all(len(entry) == len(dict(entry)) for entry in entries)


@pytest.mark.contract("JRN-7", "JRN-10", "CASE-1002", "CASE-1003")
def test_each_line_comes_without_its_newline_and_with_all_its_bytes(
    life: Life, fake: FakeJournald
) -> None:
    texts = [b"one", b"", b"cr\r", b"nul\0", b"\xff\xfe", "ä€😀".encode(), b"=", b"", b"A=b", b" "]
    fake.start(100)
    finished(life, printing(life, b"\n".join(texts) + b"\n"))
    assert fake.messages() == [(b"6", text, False) for text in texts]


@pytest.mark.contract("JRN-11", "JRN-12")
@pytest.mark.parametrize(
    ("value", "sets"), [(None, False), ("1", True), ("0", False), ("", False), ("yes", False)]
)
def test_a_priority_prefix_is_told_and_obeyed_only_where_that_is_wanted(
    life: Life, fake: FakeJournald, value: str | None, sets: bool
) -> None:
    if value is not None:
        life.environment["LOWCONMON_JOURNAL_PRIORITY"] = value
    fake.start()
    finished(life, printing(life, b"<4>four\nplain\n<9>nine\n", stream=2))
    entries = [dict(entry) for entry in fake.read()]
    assert [entry.pop(b"SYSLOG_PRIORITY_PREFIX", None) for entry in entries] == [b"4", None, None]
    assert [(entry[b"PRIORITY"], entry[b"MESSAGE"]) for entry in entries] == [
        (b"4" if sets else b"3", b"four"),
        (b"3", b"plain"),
        (b"3", b"<9>nine"),
    ]


@pytest.mark.contract("JRN-6", "JRN-9", "CLI-41", "CASE-1001")
@pytest.mark.parametrize("marked", [True, False])
@pytest.mark.parametrize("size", [8191, 8192, 8193, 16384, 65536])
def test_a_long_line_comes_in_parts(
    life: Life, fake: FakeJournald, size: int, marked: bool
) -> None:
    fake.start(100)
    option = [] if marked else ["--no-container-partial-message"]
    finished(life, printing(life, b"x" * size + b"\ny" * 2 + b"\n"), *option)
    *parts, middle, last = fake.messages()
    # The newline after a full text may come in a read of its own: then it is an empty message.
    texts = [text for _, text, _ in parts if text]
    sizes = [MAX_TEXT] * (size // MAX_TEXT) + [size % MAX_TEXT] * (size % MAX_TEXT > 0)
    assert [len(text) for text in texts] == sizes
    assert (middle, last) == ((b"6", b"y", False), (b"6", b"y", False))
    partial = [partial for *_, partial in parts]
    assert partial == [marked] * (len(parts) - 1) + [False]


@pytest.mark.contract("JRN-9", "CASE-1004")
def test_what_ends_no_line_comes_with_the_rest_of_it_or_at_the_end(
    life: Life, fake: FakeJournald, gate: Gate
) -> None:
    fake.start()
    start(life, f"printf 'login: '; echo err >&2; read x < {gate.path}; echo me; printf end")
    client = attach_accepted(life)
    fake.wait(len, "the error's entry")
    assert fake.messages() == [(b"3", b"err", False)]
    gate.open()
    life.exit_status()
    assert fake.messages()[1:] == [(b"6", b"login: me", False), (b"6", b"end", True)]
    assert packets(client)[0].endswith(b"me\nend")  # clients get it when it appears
    life.wait_gone()


@pytest.mark.contract("JRN-1")
def test_labels_that_no_datagram_holds_arrive(life: Life, fake: FakeJournald) -> None:
    big = ["x" * 120_000, "y" * 120_000, "z" * 120_000]
    labels = [word for n, text in enumerate(big) for word in ("--log-label", f"BIG_{n}={text}")]
    fake.start(512)
    finished(life, "echo one; echo two", *labels)
    assert [text for _, text, _ in fake.messages()] == [b"one", b"two"]
    assert fake.files == 2
    for entry in map(dict, fake.read()):
        assert [entry[b"BIG_%d" % n].decode() for n in range(3)] == big


@pytest.mark.contract("LOG-7", "ROT-13", "CLI-37")
@pytest.mark.parametrize("limit", [None, 1000])
def test_journal_and_file_each_get_everything(
    life: Life, fake: FakeJournald, limit: int | None
) -> None:
    fake.start(512)
    option = [] if limit is None else ["--log-global-size-max", str(limit)]
    life.stub(f"{lines(150)}; echo err >&2; printf end")
    life.start("-l", "journald", "--log-tag", "tag", *option)
    assert life.exit_status() == 0
    life.wait_gone()
    text = b"".join(b"%099d\n" % number for number in range(1, 151))
    assert fake.text() == text + b"end"
    assert fake.text(b"3") == b"err\n"
    if limit is None:
        assert (life.text(), life.text("stderr")) == (text + b"end", b"err\n")
    else:
        assert text.startswith(life.text())
        assert limit <= life.log.stat().st_size < limit + 200


# No journald, or another one


@pytest.mark.contract("JRN-1", "JRN-15")
def test_a_journald_that_comes_late_gets_everything(
    life: Life, fake: FakeJournald, gate: Gate
) -> None:
    start(life, f"echo one; read x < {gate.path}; echo two; read x < {gate.path}; exit 7")
    client = attach_accepted(life)
    gate.open()
    while not client.recv(8193).endswith(b"two\n"):
        pass  # by now it has tried
    fake.start()
    fake.wait(lambda entries: len(entries) == 2, "both entries, with nothing new written")
    gate.open()
    assert life.exit_status() == 7
    assert [text for _, text, _ in fake.messages()] == [b"one", b"two"]
    life.wait_gone()


@pytest.mark.contract("END-8", "JRN-14")
def test_a_life_without_journald_is_like_any_other_and_says_what_is_lost(life: Life) -> None:
    """Acceptable: 2.5 MB go their way, the exit is recorded in time, syslog tells the loss.

    Not acceptable: a container that waits, a start that fails, an exit file that is late.
    """
    connect(life, life.directory / "missing")
    with Syslog(life) as syslog:
        begin = time.monotonic()
        start(life, f"{lines(25000)}; exit 7", "--syslog")
        assert life.exit_status() == 7
        assert time.monotonic() - begin < 5
        first = syslog.wait(b"journal")
        assert first.endswith(b"<pwarn>: Failed to write to the journal: No such file or directory")
        syslog.wait(b"The journal takes nothing: messages are lost")
        last = syslog.wait(b"messages could not be written to the journal")
        assert int(last.split()[-9]) == 25000
        life.wait_gone()


@pytest.mark.contract("JRN-1", "JRN-15")
def test_a_journald_that_is_started_anew_misses_nothing(
    life: Life, fake: FakeJournald, gate: Gate
) -> None:
    fake.start()
    start(life, f"for i in 1 2 3 4 5; do echo $i; read x < {gate.path}; done; exit 7")
    for number in range(1, 6):
        fake.wait_for(b"%d" % number)
        assert len(fake.entries) == number
        fake.stop()
        if number % 2:
            fake.start()  # before the next line
            gate.open()
        else:
            client = attach_accepted(life)
            gate.open()
            assert number == 5 or client.recv(8193) == b"\2%d\n" % (number + 1)
            client.close()
            fake.start()  # after it
    assert life.exit_status() == 7
    assert [text for _, text, _ in fake.messages()] == [b"1", b"2", b"3", b"4", b"5"]
    life.wait_gone()


# A journald that is slow, or hangs


@pytest.mark.contract("JRN-13")
def test_a_slow_journald_holds_the_container_up_and_nothing_is_lost(
    life: Life, fake: FakeJournald
) -> None:
    """Acceptable: the container waits as on a full pipe, all else goes on, every line arrives.

    Not acceptable: a lost line, a monitor that waits with it or spins.
    """
    fake.start()
    done = life.directory / "done"
    start(life, f"echo begin; {lines(7000)}; touch {done}; exit 7")
    fake.wait(len, "the first entry")
    assert_idle(life.monitor_pid())
    assert not done.exists()
    client = attach_accepted(life)  # the monitor still has its turns
    fake.wait_for(b"%099d" % 7000)
    assert numbers(fake) == list(range(1, 7001))
    assert life.exit_status() == 7
    assert packets(client)[0].endswith(b"%099d\n" % 7000)
    life.wait_gone()


@pytest.mark.contract("JRN-16")
def test_what_a_slow_journald_has_not_taken_at_the_exit_it_gets_behind_the_exit_files(
    life: Life, fake: FakeJournald
) -> None:
    fake.start()
    start(life, f"{lines(700)}; exit 7")
    assert life.exit_status() == 7
    fake.wait_for(b"%099d" % 700)
    assert numbers(fake) == list(range(1, 701))
    life.wait_gone()


@pytest.mark.contract("END-8")
def test_an_exit_is_recorded_in_time_while_journald_takes_nothing(
    life: Life, fake: FakeJournald
) -> None:
    fake.start()
    start(life, f"echo begin; exec {lines(1000000)}")
    pid = int(life.pid_file.read_text())
    fake.wait(len, "the first entry")
    assert_idle(life.monitor_pid())
    begin = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    assert life.exit_status() == 137
    assert time.monotonic() - begin < 4
    life.wait_gone()


@pytest.mark.contract("JRN-13", "JRN-14")
def test_a_journald_that_hangs_holds_the_container_up_for_5_s_and_is_told_the_loss(
    life: Life, fake: FakeJournald, gate: Gate
) -> None:
    """Acceptable: after 5 s the container goes on; 1 MiB is kept, and the number of the rest.

    Not acceptable: a container that hangs with it, a loss that nobody tells.
    """
    fake.start()
    done = life.directory / "done"
    begin = time.monotonic()
    start(life, f"{lines(25000)}; touch {done}; read x < {gate.path}; echo after; exit 7")
    wait_until(done.exists, "the container goes on")
    assert 5 <= time.monotonic() - begin < 10
    assert_idle(life.monitor_pid())
    fake.wait_for(b"[lowconmon: ")
    gate.open()
    fake.wait_for(b"after")
    assert life.exit_status() == 7
    kept = numbers(fake)
    assert kept == list(range(1, len(kept) + 1))
    assert 450_000 < len(kept) * 100 < (1 << 20) + 200_000  # each read has its overhead
    lost = 25000 - len(kept)
    text = b"[lowconmon: %d messages (%d bytes) of stdout could not be written here]"
    rest = fake.messages()[len(kept) :]
    assert rest == [(b"3", text % (lost, lost * 100), False), (b"6", b"after", False)]
    life.wait_gone()


@pytest.mark.contract("CASE-1201")
@pytest.mark.parametrize("there", [True, False])
def test_a_flood_of_newlines_costs_little_memory(
    life: Life, fake: FakeJournald, gate: Gate, there: bool
) -> None:
    if there:
        fake.start()
    start(life, f"read x < {gate.path}; head -c 30000000 /dev/zero | tr '\\0' '\\n'")
    pid = life.monitor_pid()
    before = private_kib(pid)
    gate.open()
    peak = 0
    end = time.monotonic() + 3
    while time.monotonic() < end and not (life.exit_dir / life.cid).exists():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            peak = max(peak, private_kib(pid))
        fake.read(100)
    assert peak - before < 8192
    assert peak >= before
    os.kill(life.monitor_pid(), 9) if there else life.exit_status()


# The real one


@pytest.mark.contract("JRN-1", "JRN-2", "JRN-3", "JRN-4", "JRN-5", "JRN-6", "JRN-7", "JRN-10")
def test_journalctl_shows_what_the_container_wrote(life: Life, real: Journald) -> None:
    connect(life, real.socket)
    data = b"one\n\n<4>four\n" + b"x" * 10_000 + b"\nn\0l\n"
    options = ["-n", "box", "--log-tag", "a\ntag", "--log-label", "COLOUR=red"]
    finished(life, f"{printing(life, data)}; sleep 0.2; printf err >&2", *options)
    entries = real.wait(lambda found: len(found) == 7, "CONTAINER_NAME=box", "COLOUR=red")
    common = {
        "CONTAINER_ID_FULL": "0123456789abcdef",
        "CONTAINER_ID": "0123456789ab",
        "CONTAINER_TAG": "a\ntag",
        "CONTAINER_NAME": "box",
        "SYSLOG_IDENTIFIER": "a\ntag",
        "COLOUR": "red",
        "_TRANSPORT": "journal",
    }
    assert all(common.items() <= entry.items() for entry in entries)
    keys = ("PRIORITY", "MESSAGE", "SYSLOG_PRIORITY_PREFIX", "CONTAINER_PARTIAL_MESSAGE")
    assert [tuple(entry.get(key) for key in keys) for entry in entries] == [
        ("6", "one", None, None),
        ("6", "", None, None),
        ("6", "four", "4", None),
        ("6", "x" * 8192, None, "true"),
        ("6", "x" * 1808, None, None),
        ("6", list(b"n\0l"), None, None),
        ("3", "err", None, "true"),
    ]


@pytest.mark.contract("JRN-1")
def test_the_real_one_takes_the_sealed_file(life: Life, real: Journald) -> None:
    connect(life, real.socket)
    big = ["x" * 120_000, "y" * 120_000]
    labels = [word for n, text in enumerate(big) for word in ("--log-label", f"BIG_{n}={text}")]
    finished(life, "echo one; echo two", "-n", "large", *labels)
    entries = real.wait(lambda found: len(found) == 2, "CONTAINER_NAME=large")
    assert [entry["MESSAGE"] for entry in entries] == ["one", "two"]
    assert all([entry["BIG_0"], entry["BIG_1"]] == big for entry in entries)


@pytest.mark.contract("JRN-1", "JRN-8")
def test_the_real_one_gets_a_flood_whole_and_in_order(
    life: Life, real: Journald, gate: Gate
) -> None:
    connect(life, real.socket)
    life.stub(f"seq 10000; read x < {gate.path}").start("-l", "journald", "-n", "flood")
    real.wait(len, "CONTAINER_NAME=flood", "MESSAGE=10000")
    entries = real.entries("CONTAINER_NAME=flood")
    assert [int(entry["MESSAGE"]) for entry in entries] == list(range(1, 10001))
    gate.open()
    assert life.exit_status() == 0
    assert life.text() == b"".join(b"%d\n" % number for number in range(1, 10001))
    life.wait_gone()


@pytest.mark.contract("JRN-1")
def test_the_real_one_may_be_stopped_for_a_while(life: Life, gate: Gate, tmp_path: Path) -> None:
    with Journald(tmp_path) as real:
        connect(life, real.socket)
        start(life, f"echo one; read x < {gate.path}; seq 5000; exit 7", "-n", "box")
        real.wait(len, "CONTAINER_NAME=box")
        os.kill(real.pid, signal.SIGSTOP)
        gate.open()
        assert_idle(life.monitor_pid())
        os.kill(real.pid, signal.SIGCONT)
        assert life.exit_status() == 7
        entries = real.wait(lambda found: len(found) == 5001, "CONTAINER_NAME=box")
        assert [entry["MESSAGE"] for entry in entries[1:]] == [str(n) for n in range(1, 5001)]
        life.wait_gone()
