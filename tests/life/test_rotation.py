"""Limits of the k8s-file log: when a fresh file begins, what is kept, what is refused, reopening."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import faults
from tests.support.life import (
    Life,
    attach_accepted,
    packets,
    read_if_there,
    wait_until,
)
from tests.support.rotation import (
    HEAD,
    Feed,
    Model,
    backups,
    lines,
    old_log,
    segments,
    size,
    strangers,
    texts,
)
from tests.support.syslog import Syslog
from tests.support.witness import Inotify

REOPEN = b"2 0 0\n"
LENGTH = 4  # of a line's text where it does not matter
RECORD = HEAD + LENGTH
MODES = [0, 1, 3]  # backups; 0: without --log-rotate


@pytest.fixture
def feed(life: Life, logs: Path) -> Iterator[Feed]:
    """Give a container that says what it is told to."""
    assert logs.is_dir()
    one = Feed(life)
    yield one
    one.close()


def rotating(kept: int, limit: int | None = None) -> list[str]:
    """Return the options for a limit and so many backups, 0: without --log-rotate."""
    options = [] if limit is None else ["--log-size-max", str(limit)]
    return [*options, "--log-rotate", "--log-max-files", str(kept)] if kept else options


def end_as(feed: Feed, model: Model) -> None:
    """End the container and compare the files with what the model says."""
    feed.end()
    assert segments(feed.life.log) == model.segments
    assert strangers(feed.life.log) == set()
    assert sorted(backups(feed.life.log)) == list(range(1, len(model.segments)))


# When a fresh file begins


@pytest.mark.contract("ROT-1", "ROT-4", "ROT-5", "ROT-6", "ROT-7", "CLI-39")
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one by one"])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
@pytest.mark.parametrize("kept", MODES)
def test_a_record_that_would_exceed_the_limit_goes_to_a_fresh_file(
    feed: Feed, kept: int, beyond: int, at_once: bool
) -> None:
    limit = 3 * RECORD + beyond
    feed.start(*rotating(kept, limit))
    said = lines(1, 11)
    if at_once:
        feed.see(*said)
    else:
        for text in said:
            feed.see(text)
    model = Model(limit, kept).write(*said)
    assert model.rotations == (5 if beyond < 0 else 3)
    end_as(feed, model)


@pytest.mark.contract("ROT-3")
@pytest.mark.parametrize("kept", [0, 2])
@pytest.mark.parametrize("limit", [None, 0, -1, -4096])
def test_without_a_limit_the_file_grows(feed: Feed, limit: int | None, kept: int) -> None:
    feed.start(*rotating(kept, limit), "--log-global-size-max", str(limit or 0))
    feed.say(*lines(1, 3000))
    end_as(feed, Model(0, kept).write(*lines(1, 3000)))


@pytest.mark.contract("ROT-2", "ROT-4")
@pytest.mark.parametrize("room", [RECORD + 1, RECORD, RECORD - 1, 1, 0, -1, -500])
@pytest.mark.parametrize("kept", MODES)
def test_what_is_in_the_file_already_counts(feed: Feed, kept: int, room: int) -> None:
    before = lines(1, 12)
    feed.life.log.write_bytes(old_log(before))
    limit = 12 * RECORD + room
    feed.start(*rotating(kept, limit))
    feed.see(b"next")
    end_as(feed, Model(limit, kept, [before]).write(b"next"))


@pytest.mark.contract("ROT-2", "LOG-33")
@pytest.mark.parametrize("kept", MODES)
@pytest.mark.parametrize(
    "torn", [b"2020-01-01T00:00", b"2020-01-01T00:00:00.000000000+00:00 stdout F "]
)
def test_a_torn_end_counts_as_what_it_is_made(feed: Feed, torn: bytes, kept: int) -> None:
    before = lines(1, 3)
    feed.life.log.write_bytes(old_log(before) + torn)
    made = [*before, b""] if torn.endswith(b" ") else before
    limit = sum(map(size, made)) + RECORD  # room for just one more
    feed.start(*rotating(kept, limit))
    for text in (b"four", b"five"):
        feed.see(text)
    end_as(feed, Model(limit, kept, [made]).write(b"four", b"five"))


@pytest.mark.contract("ROT-7", "ROT-4", "LOG-25")
@pytest.mark.parametrize("kept", [0, 50])
def test_the_records_of_a_long_line_are_not_split_either(feed: Feed, kept: int) -> None:
    limit = 10_000  # one full record, and a little
    feed.start(*rotating(kept, limit))
    long = lines(1, 1, 20_000)[0]
    feed.say(*(long for _ in range(3)))
    feed.see(b"last")
    feed.end()
    found = segments(feed.life.log)
    assert b"".join(text for segment in found for text in segment) == (
        long * 3 + b"last" if kept else b"".join(found[0])
    )
    assert all(sum(map(size, segment)) <= limit for segment in found)
    assert len(found) == (1 if not kept else len(found))


@pytest.mark.contract("ROT-4", "ROT-8", "ROT-7")
@pytest.mark.parametrize("kept", MODES)
@pytest.mark.parametrize("limit", [1, RECORD, RECORD + 19])
def test_a_record_larger_than_the_limit_goes_alone_into_a_file(
    feed: Feed, limit: int, kept: int
) -> None:
    # The log is empty as the first one comes: no empty file becomes a backup.
    feed.start(*rotating(kept, limit))
    said = [*lines(1, 1, LENGTH + 20), *lines(2, 2, 300), *lines(3, 4), *lines(5, 5, 3000)]
    for text in said:
        feed.see(text)
    end_as(feed, Model(limit, kept).write(*said))


@pytest.mark.contract("ROT-4", "LOG-21")
def test_both_streams_count(life: Life, logs: Path) -> None:
    assert logs.is_dir()
    life.stub("(seq 10001 10300 >&2) & seq 10001 10300; wait")
    life.start("--no-sync-log", *rotating(100, 20 * (HEAD + 5)))
    life.pid()
    assert life.exit_status() == 0
    life.wait_gone()
    assert {len(segment) for segment in segments(life.log)[:-1]} == {20}
    content = b"".join(path.read_bytes() for path in logs.iterdir())
    assert content.count(b" stdout F ") == content.count(b" stderr F ") == 300


# The fresh file


@pytest.mark.contract("ROT-5", "ROT-11", "LOG-29")
@pytest.mark.parametrize("kept", MODES)
def test_the_fresh_file_is_another_one_and_what_others_append_stays(feed: Feed, kept: int) -> None:
    feed.start(*rotating(kept, 2 * RECORD))
    feed.see(*lines(1, 2))
    old = feed.life.log.stat().st_ino
    with feed.life.log.open("rb") as held:  # a reader goes on reading the old one
        feed.see(*lines(3, 3))
        assert len(held.read().splitlines()) == 2
        assert os.fstat(held.fileno()).st_ino == old != feed.life.log.stat().st_ino
    assert feed.life.log.stat().st_mode & 0o7777 == 0o640
    with feed.life.log.open("ab") as other:
        other.write(old_log([b"other"]))
    feed.see(*lines(4, 4))
    feed.end()
    assert segments(feed.life.log)[-1] in ([b"0003", b"other", b"0004"], [b"0004"])
    assert read_if_there(feed.life.log.with_name("ctr.log.tmp")) is None


@pytest.mark.contract("LOG-29")
@pytest.mark.parametrize("kept", [0, 2])
def test_the_fresh_file_has_mode_0640_and_is_not_handed_to_the_exit_command(
    feed: Feed, kept: int
) -> None:
    command = feed.life.directory / "exit-command"
    command.write_text(f"#!/bin/sh\nls -l /proc/$$/fd >{command}.fds\n")
    command.chmod(0o755)
    feed.life.log.touch(0o604)
    feed.start(*rotating(kept, RECORD), "--exit-command", str(command))
    feed.see(*lines(1, 2))
    feed.end()
    assert feed.life.log.stat().st_mode & 0o7777 == 0o640
    assert "ctr.log" not in Path(f"{command}.fds").read_text()


@pytest.mark.contract("ROT-10")
@pytest.mark.parametrize("kept", [0, 2])
@pytest.mark.parametrize("what", ["empty", "full", "read-only", "link", "dangling", "hard", "fifo"])
def test_a_stale_temporary_file_is_no_obstacle_and_no_trap(
    feed: Feed, what: str, kept: int
) -> None:
    """Not acceptable: that it stays, that rotation waits, that what a link points to is touched."""
    stale = feed.life.log.with_name("ctr.log.tmp")
    victim = feed.life.directory / "victim"
    victim.write_bytes(b"precious")
    if what == "link":
        stale.symlink_to(victim)
    elif what == "dangling":
        stale.symlink_to(feed.life.directory / "new")
    elif what == "hard":
        stale.hardlink_to(victim)
    elif what == "fifo":
        os.mkfifo(stale)
    else:
        stale.write_bytes(b"" if what == "empty" else old_log(lines(7, 9)))
        stale.chmod(0 if what == "read-only" else 0o640)
    feed.start(*rotating(kept, 2 * RECORD))
    for text in lines(1, 5):
        feed.see(text)
    end_as(feed, Model(2 * RECORD, kept).write(*lines(1, 5)))
    assert victim.read_bytes() == b"precious"
    assert not (feed.life.directory / "new").exists()


# Backups


@pytest.mark.contract("ROT-6", "ROT-9", "CLI-42")
@pytest.mark.parametrize("given", [None, 1, 2, 5, 12])
def test_there_are_exactly_as_many_backups_as_asked_for(feed: Feed, given: int | None) -> None:
    options = ["--log-size-max", str(RECORD), "--log-rotate"]
    feed.start(*options, *([] if given is None else ["--log-max-files", str(given)]))
    for text in lines(1, 16):
        feed.see(text)
        assert len(backups(feed.life.log)) <= (given or 1)
    end_as(feed, Model(RECORD, given or 1).write(*lines(1, 16)))


@pytest.mark.contract("ROT-6", "ROT-5")
def test_without_log_rotate_the_number_of_files_means_nothing(feed: Feed) -> None:
    feed.start("--log-size-max", str(RECORD), "--log-max-files", "5")
    feed.see(*lines(1, 3))
    end_as(feed, Model(RECORD, 0).write(*lines(1, 3)))


@pytest.mark.contract("ROT-6")
@pytest.mark.parametrize("there", [(1,), (1, 2), (1, 2, 3), (2,), (3,), (1, 3), (2, 3)])
def test_backups_of_an_earlier_life_move_on_and_a_gap_is_filled_first(
    feed: Feed, there: tuple[int, ...]
) -> None:
    before = {number: b"old%d" % number for number in there}
    for number, text in before.items():
        feed.life.log.with_name(f"ctr.log.{number}").write_bytes(old_log([text]))
    feed.life.log.write_bytes(old_log(lines(1, 1)))
    oldest_first = [[before[number]] for number in sorted(there, reverse=True)]
    model = Model(RECORD, 3, [*oldest_first, lines(1, 1)])
    feed.start(*rotating(3, RECORD))
    for text in lines(2, 4):
        feed.see(text)
        model.write(text)
        assert segments(feed.life.log) == model.segments
    end_as(feed, model)


@pytest.mark.contract("ROT-6", "LOG-31")
@pytest.mark.parametrize("number", [1, 2])
def test_a_directory_in_the_place_of_a_backup_costs_no_record(feed: Feed, number: int) -> None:
    """Acceptable: it moves on like a backup, or nothing is rotated; not: a record lost, an end."""
    blocking = feed.life.log.with_name(f"ctr.log.{number}")
    (blocking / "inside").mkdir(parents=True)
    feed.start(*rotating(2, 2 * RECORD))
    for text in lines(1, 5):
        feed.say(text)
    feed.end()
    files = [path for path in feed.life.log.parent.iterdir() if path.is_file()]
    found = [texts(path) for path in sorted(files, reverse=True)]
    assert list(itertools.chain.from_iterable(found)) == lines(1, 5)
    assert list(feed.life.log.parent.rglob("inside"))
    assert strangers(feed.life.log) == set()


@pytest.mark.contract("ROT-4", "LOG-31")
@pytest.mark.parametrize("length", [249, 250, 251, 252, 255])
@pytest.mark.parametrize("kept", [0, 1, 11])
def test_names_that_are_almost_too_long_cost_no_record(feed: Feed, kept: int, length: int) -> None:
    feed.life.log = feed.life.log.with_name("l" * length)
    feed.start(*rotating(kept, RECORD))
    said = lines(1, 4)
    for text in said:
        feed.see(text)
    feed.end()
    found = list(itertools.chain.from_iterable(segments(feed.life.log)))
    assert found == (said[-len(found) :] if length <= 251 else said)
    assert strangers(feed.life.log) == set()


# The path is another's


@pytest.mark.contract("ROT-4", "REOPEN-3")
@pytest.mark.parametrize("kept", MODES)
def test_a_log_that_was_renamed_is_left_when_the_limit_is_reached(feed: Feed, kept: int) -> None:
    feed.start(*rotating(kept, 2 * RECORD))
    feed.see(*lines(1, 1))
    moved = feed.life.log.rename(feed.life.log.with_name("moved"))
    feed.see(*lines(2, 2), where=moved)
    feed.see(*lines(3, 3))
    feed.see(*lines(4, 4))
    feed.see(*lines(5, 5))
    feed.end()
    assert texts(moved) == lines(1, 2)
    assert segments(feed.life.log) == ([lines(3, 4), lines(5, 5)] if kept else [lines(5, 5)])
    assert strangers(feed.life.log) == {"moved"}


@pytest.mark.contract("ROT-2", "ROT-4", "REOPEN-3")
@pytest.mark.parametrize("kept", MODES)
def test_another_file_at_the_path_is_appended_to_and_its_size_counts(feed: Feed, kept: int) -> None:
    feed.start(*rotating(kept, 3 * RECORD))
    feed.see(*lines(1, 3))
    moved = feed.life.log.rename(feed.life.log.with_name("moved"))
    feed.life.log.write_bytes(old_log([b"mine"]))
    model = Model(3 * RECORD, kept, [[b"mine"]])
    for text in lines(4, 7):
        feed.see(text)
        model.write(text)
    feed.end()
    assert texts(moved) == lines(1, 3)
    assert segments(feed.life.log) == model.segments
    assert strangers(feed.life.log) == {"moved"}


@pytest.mark.contract("LOG-31", "CASE-504")
@pytest.mark.parametrize("kept", MODES)
def test_without_its_directory_the_log_goes_on_in_the_old_file(feed: Feed, kept: int) -> None:
    feed.start(*rotating(kept, 2 * RECORD))
    feed.see(*lines(1, 1))
    moved = feed.life.log.parent.rename(feed.life.directory / "moved")
    for text in lines(2, 4):
        feed.see(text, where=moved / "ctr.log")
    feed.end()
    assert texts(moved / "ctr.log") == lines(1, 4)
    assert [path.name for path in moved.iterdir()] == ["ctr.log"]


# The limit of all


@pytest.mark.contract("ROT-12", "ROT-13", "ROT-14", "ROT-2")
@pytest.mark.parametrize("before", [0, 3])
@pytest.mark.parametrize("beyond", [-1, 0, 1])
def test_beyond_the_global_limit_nothing_is_written_and_clients_get_everything(
    feed: Feed, before: int, beyond: int
) -> None:
    old, said = lines(1, before), lines(before + 1, 9)
    feed.life.log.write_bytes(old_log(old))
    feed.start("--log-global-size-max", str(5 * RECORD + beyond))
    client = attach_accepted(feed.life)
    for text in said:
        feed.say(text)
        assert client.recv(8193) == b"\2" + text + b"\n"
    feed.end()
    assert packets(client) == (b"", b"")
    client.close()
    assert texts(feed.life.log) == lines(1, 5 if beyond <= 0 else 6)


@pytest.mark.contract("ROT-12", "ROT-2")
@pytest.mark.parametrize("room", [1, 0, -1])
def test_a_log_as_long_as_the_global_limit_gets_nothing(feed: Feed, room: int) -> None:
    feed.life.log.write_bytes(old_log(lines(1, 4)))
    feed.start("--log-global-size-max", str(4 * RECORD + room))
    feed.say(*lines(5, 6))
    feed.end()
    assert texts(feed.life.log) == lines(1, 5 if room > 0 else 4)


@pytest.mark.contract("ROT-12", "ROT-14")
@pytest.mark.parametrize("kept", MODES)
def test_the_global_limit_counts_what_went_to_all_files(feed: Feed, kept: int) -> None:
    feed.start(*rotating(kept, 2 * RECORD), "--log-global-size-max", str(5 * RECORD - 3))
    for text in lines(1, 5):
        feed.see(text)
    feed.say(*lines(6, 9))
    end_as(feed, Model(2 * RECORD, kept).write(*lines(1, 5)))


@pytest.mark.contract("ROT-12", "ROT-14", "LOG-30", "CLI-39")
def test_what_crosses_the_global_limit_in_one_read_is_written_up_to_a_whole_record(
    feed: Feed,
) -> None:
    feed.start("--log-global-size-max", "1000")
    feed.say(*lines(1, 1000))
    feed.end()
    assert texts(feed.life.log) == lines(1, -(-1000 // RECORD))


@pytest.mark.contract("ROT-12", "LOG-36")
def test_a_flood_beyond_the_global_limit_is_read_to_its_end(life: Life, logs: Path) -> None:
    assert logs.is_dir()
    life.stub("yes | head -c 1000000; echo end; exit 3")
    life.start("--no-sync-log", "--log-global-size-max", "100000")
    life.pid()
    assert life.exit_status() == 3
    life.wait_gone()
    assert 100_000 <= life.log.stat().st_size < 100_000 + HEAD + 1
    assert set(texts(life.log)) == {b"y"}


# Refusals


def log_in(life: Life, name: str, mode: int = 0o755) -> Path:
    directory = life.directory / name
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(mode)
    return directory / "ctr.log"


REFUSED = {
    "dots": "ROT-15",
    "dots that lead nowhere": "ROT-15",
    "symlink": "ROT-16",
    "symlink in its own directory": "ROT-16",
    "outside": "ROT-18",
    "outside, the same letters": "ROT-18",
    "outside of all": "ROT-18",
    "outside by a symlink": "ROT-18",
    "outside of what does not exist": "ROT-18",
    "world-writable": "ROT-19",
    "world-writable and allowed": "ROT-19",
}


def refused(life: Life, why: str) -> list[str]:
    """Put the log where it may not be rotated; return the options that say so."""
    options: list[str] = []
    allow = "--log-allowlist-dir"
    if why.startswith("dots"):
        log_in(life, "logs/sub")
        dots = "logs/sub/.." if why == "dots" else "logs/../logs"
        life.log = life.directory / dots / "ctr.log"
    elif why.startswith("symlink"):
        target = log_in(life, "logs" if "own" in why else "elsewhere").with_name("real.log")
        target.touch()
        life.log.symlink_to(target)
    elif why == "outside":
        options = [allow, str(log_in(life, "other").parent)]
    elif why == "outside, the same letters":
        options = [allow, str(log_in(life, "lo").parent)]
    elif why == "outside of all":
        options = [allow, str(log_in(life, "other").parent), allow, str(life.log.parent / "sub")]
    elif why == "outside by a symlink":
        inside = log_in(life, "allowed").parent
        (inside / "link").symlink_to(life.log.parent)
        life.log = inside / "link" / "ctr.log"
        options = [allow, str(inside)]
    elif why == "outside of what does not exist":
        options = [allow, str(life.directory / "nowhere")]
    else:
        life.log = log_in(life, "open", 0o777)
        options = [allow, str(life.log.parent)] if "allowed" in why else []
    return options


@pytest.mark.contract("ROT-20", "CLI-43")
@pytest.mark.contract("ROT-15", "ROT-16", "ROT-18", "ROT-19", "LOG-31", "REOPEN-2")
@pytest.mark.parametrize("how", ["by size", "by message"])
@pytest.mark.parametrize("why", REFUSED)
def test_where_rotation_is_refused_there_is_a_warning_and_the_file_grows(
    feed: Feed, why: str, how: str
) -> None:
    options = refused(feed.life, why)
    before = sorted(feed.life.log.parent.iterdir())
    with Syslog(feed.life) as syslog:
        feed.start(*rotating(3, RECORD if how == "by size" else None), *options, "--syslog")
        for text in lines(1, 3):
            feed.see(text)
            if how == "by message":
                feed.life.control(REOPEN)
        line = syslog.wait(b"Refusing")
        assert f"<nwarn>: Refusing to rotate log file {feed.life.log}: ".encode() in line
        feed.see(b"last")
        feed.end()
        assert len([line for line in syslog.lines() if b"Refusing" in line]) == 1
    assert texts(feed.life.log) == [*lines(1, 3), b"last"]
    after = [path for path in sorted(feed.life.log.parent.iterdir()) if path.name != "ctr.log"]
    assert after == [path for path in before if path.name != "ctr.log"]


ALLOWED = [
    "the directory",
    "the directory and a slash",
    "its parent",
    "the root",
    "a symlink to it",
    "one of three",
    "behind a loop",
    "behind a name too long",
    "by a symlink",
    "relative",
    "dots in a name",
    "relative log",
    "sticky",
    "group-writable",
]


@pytest.mark.contract("ROT-15", "ROT-16", "ROT-18", "ROT-19", "CLI-43")
@pytest.mark.parametrize("why", ALLOWED)
def test_what_only_looks_forbidden_is_rotated(feed: Feed, why: str) -> None:
    life = feed.life
    allow, directory = "--log-allowlist-dir", life.log.parent
    link = life.directory / "link"
    link.symlink_to(directory)
    loop = life.directory / "loop"
    loop.symlink_to(loop)
    options = {
        "the directory": [allow, str(directory)],
        "the directory and a slash": [allow, f"{directory}//"],
        "its parent": [allow, str(directory.parent)],
        "the root": [allow, "/"],
        "a symlink to it": [allow, str(link)],
        "one of three": [allow, "/nowhere", allow, str(directory), allow, str(life.bundle)],
        "behind a loop": [allow, str(loop), allow, str(directory)],
        "behind a name too long": [allow, "/" + "x" * 300, allow, str(directory)],
        "relative": [allow, "logs"],
    }.get(why, [])
    if why == "by a symlink":
        life.log = link / "ctr.log"
        options = [allow, str(directory)]
    elif why == "dots in a name":
        life.log = log_in(life, "..logs..").with_name("..ctr..log..")
    elif why == "sticky":
        life.log = log_in(life, "tmp", 0o1777)
    elif why == "group-writable":
        life.log = log_in(life, "group", 0o775)
    usual = life.arguments(*rotating(3, RECORD), *options)
    if why == "relative log":
        usual[usual.index("-l") + 1] = "k8s-file:logs/ctr.log"
    feed.start(raw=usual, cwd=life.directory)
    for text in lines(1, 3):
        feed.see(text)
    end_as(feed, Model(RECORD, 3).write(*lines(1, 3)))


@pytest.mark.contract("ROT-5", "ROT-16")
def test_a_relative_log_without_any_directory_is_rotated_where_the_monitor_was_started(
    feed: Feed,
) -> None:
    life = feed.life
    usual = life.arguments(*rotating(2, RECORD))
    usual[usual.index("-l") + 1] = "k8s-file:ctr.log"
    feed.start(raw=usual, cwd=life.log.parent)
    feed.see(*lines(1, 4))
    end_as(feed, Model(RECORD, 2).write(*lines(1, 4)))


LOCKER = """
import fcntl, struct, sys
file = open(sys.argv[1], "r+b")
kind = {"write": fcntl.F_WRLCK, "read": fcntl.F_RDLCK}[sys.argv[2].split()[0]]
if "description" in sys.argv[2]:
    F_OFD_SETLK = 37
    fcntl.fcntl(file, F_OFD_SETLK, struct.pack("hhqqi4x", kind, 0, 0, 0, 0))
else:
    fcntl.lockf(file, {fcntl.F_WRLCK: fcntl.LOCK_EX, fcntl.F_RDLCK: fcntl.LOCK_SH}[kind])
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.contract("ROT-17", "LOG-31")
@pytest.mark.parametrize("lock", ["write", "read", "write of a description"])
def test_while_another_has_locked_the_log_it_grows_and_later_it_is_rotated(
    feed: Feed, lock: str
) -> None:
    with Syslog(feed.life) as syslog:
        feed.start(*rotating(9, 2 * RECORD), "--syslog")
        feed.see(*lines(1, 1))
        command = [sys.executable, "-c", LOCKER, str(feed.life.log), lock]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as locker:
            assert locker.stdout is not None and locker.stdin is not None
            assert locker.stdout.readline() == b"locked\n"
            for text in lines(2, 5):
                feed.see(text)
            assert b"locked" in syslog.wait(b"Refusing to rotate log file").split(b"ctr.log: ")[1]
            assert segments(feed.life.log) == [lines(1, 5)]
            locker.stdin.close()
        number = itertools.count(6)
        last = 0

        def rotated() -> bool:
            nonlocal last
            last = next(number)
            feed.see(*lines(last, last))
            return bool(backups(feed.life.log))

        wait_until(rotated, "a rotation once the lock is gone")
        feed.end()
    found = segments(feed.life.log)
    assert list(itertools.chain.from_iterable(found)) == lines(1, last)
    assert strangers(feed.life.log) == set()


@pytest.mark.contract("ROT-5")
@pytest.mark.parametrize("why", [why for why in REFUSED if not why.startswith("symlink")])
def test_without_log_rotate_nothing_of_this_is_refused(feed: Feed, why: str) -> None:
    options = refused(feed.life, why)
    feed.start(*rotating(0, 2 * RECORD), *options)
    for text in lines(1, 3):
        feed.see(text)
    feed.end()
    assert texts(feed.life.log) == lines(3, 3)


# What is no regular file


@pytest.mark.contract("LOG-34", "ROT-4")
@pytest.mark.parametrize("kept", MODES)
def test_a_fifo_is_not_rotated(feed: Feed, kept: int) -> None:
    os.mkfifo(feed.life.log)
    reading = os.open(feed.life.log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        feed.start(*rotating(kept, RECORD))
        os.set_blocking(reading, True)
        feed.say(*lines(1, 50))
        feed.life.control(REOPEN)
        feed.say(*lines(51, 60))
        feed.close()
        got = b""
        while piece := os.read(reading, 65536):
            got += piece
        feed.end()
    finally:
        os.close(reading)
    assert [line.split(b" ", 3)[3] for line in got.splitlines()] == lines(1, 60)
    assert os.listdir(feed.life.log.parent) == ["ctr.log"]
    assert feed.life.log.is_fifo()


@pytest.mark.contract("LOG-34", "ROT-4")
@pytest.mark.parametrize("kept", MODES)
def test_a_device_is_not_rotated(feed: Feed, kept: int) -> None:
    feed.life.log = Path("/dev/null")
    before = sorted(os.listdir("/dev"))
    feed.start(*rotating(kept, RECORD))
    feed.say(*lines(1, 50))
    feed.life.control(REOPEN)
    feed.say(*lines(51, 60))
    feed.end()
    assert Path("/dev/null").is_char_device()
    assert [name for name in sorted(os.listdir("/dev")) if name.startswith("null")] == [
        name for name in before if name.startswith("null")
    ]


# Reopening


@pytest.mark.contract("REOPEN-2", "ROT-6", "ROT-9", "CTL-6")
@pytest.mark.parametrize("limit", [None, 100 * RECORD])
@pytest.mark.parametrize("kept", [1, 3])
def test_the_message_rotates_and_wakes_who_waits_for_the_path(
    feed: Feed, kept: int, limit: int | None
) -> None:
    feed.start(*rotating(kept, limit))
    model = Model(0, kept)
    for text in lines(1, 5):
        feed.see(text)
        model.write(text).rotate()
        with Inotify(feed.life.log.parent) as watch:
            feed.life.control(REOPEN)
            came = ((Inotify.CREATE, "ctr.log"), (Inotify.MOVED_TO, "ctr.log"))
            wait_until(lambda: set(came) & set(watch.events()), "a fresh log")  # noqa: B023
        wait_until(lambda: segments(feed.life.log) == model.segments, "the rotation")
    end_as(feed, model)


@pytest.mark.contract("REOPEN-2", "ROT-8")
def test_the_message_makes_no_backup_of_an_empty_log(feed: Feed) -> None:
    feed.start(*rotating(3))
    for _ in range(5):
        feed.life.control(REOPEN)
    feed.see(*lines(1, 1))
    for _ in range(5):
        feed.life.control(REOPEN)
    wait_until(lambda: backups(feed.life.log), "the rotation")
    feed.see(*lines(2, 2))
    end_as(feed, Model(0, 3, [lines(1, 1), lines(2, 2)]))


@pytest.mark.contract("REOPEN-2", "ROT-2", "ROT-4")
def test_after_the_message_the_size_counts_from_nothing(feed: Feed) -> None:
    feed.start(*rotating(5, 3 * RECORD))
    model = Model(3 * RECORD, 5).write(*lines(1, 2)).rotate()
    feed.see(*lines(1, 2))
    feed.life.control(REOPEN)
    wait_until(lambda: segments(feed.life.log) == model.segments, "the rotation")
    for text in lines(3, 6):
        feed.see(text)
        model.write(text)
    end_as(feed, model)


@pytest.mark.contract("REOPEN-3", "CASE-501")
@pytest.mark.parametrize("kept", [0, 3])
@pytest.mark.parametrize("limit", [None, 3 * RECORD])
def test_after_a_rename_the_message_only_opens_a_fresh_file(
    feed: Feed, limit: int | None, kept: int
) -> None:
    earlier = feed.life.log.with_name("ctr.log.1")
    earlier.write_bytes(old_log([b"earlier"]))
    feed.start(*rotating(kept, limit))
    feed.see(*lines(1, 2))
    moved = feed.life.log.rename(feed.life.log.with_name("ctr.log.20261123"))
    feed.life.control(REOPEN)
    wait_until(feed.life.log.exists, "the fresh file")
    for text in lines(3, 5):
        feed.see(text)
    feed.end()
    assert texts(moved) == lines(1, 2)
    assert texts(earlier) == [b"earlier"]
    assert texts(feed.life.log) == lines(3, 5)


@pytest.mark.contract("REOPEN-3", "ROT-2")
def test_after_the_message_the_size_of_anothers_file_counts(feed: Feed) -> None:
    feed.start(*rotating(3, 3 * RECORD))
    feed.see(*lines(1, 1))
    moved = feed.life.log.rename(feed.life.log.with_name("moved"))
    feed.life.log.write_bytes(old_log([b"mine", b"also"]))
    inode = feed.life.log.stat().st_ino
    feed.life.control(REOPEN)
    monitor = Path(f"/proc/{feed.life.monitor_pid()}/fd")

    def reopened() -> bool:
        return inode in {os.stat(path).st_ino for path in monitor.iterdir() if path.exists()}

    wait_until(reopened, "the reopening")
    feed.see(b"more")
    feed.see(b"next")
    feed.end()
    assert segments(feed.life.log) == [[b"mine", b"also", b"more"], [b"next"]]
    assert texts(moved) == lines(1, 1)


@pytest.mark.contract("REOPEN-4")
def test_without_log_rotate_the_message_keeps_a_log_that_has_a_limit(feed: Feed) -> None:
    feed.start(*rotating(0, 3 * RECORD))
    feed.see(*lines(1, 2))
    inode = feed.life.log.stat().st_ino
    with Inotify(feed.life.log.parent) as watch:
        feed.life.control(REOPEN)
        feed.see(*lines(3, 3))
        assert not {kind for kind, _ in watch.events()} & {Inotify.CREATE, Inotify.MOVED_TO}
    assert feed.life.log.stat().st_ino == inode
    feed.see(*lines(4, 4))
    end_as(feed, Model(3 * RECORD, 0).write(*lines(1, 4)))


@pytest.mark.contract("REOPEN-2", "CASE-505", "ROT-7")
@pytest.mark.parametrize("limit", [None, 200_000])
def test_nothing_is_lost_when_messages_rotate_a_log_under_load(
    feed: Feed, limit: int | None
) -> None:
    feed.start(*rotating(1000, limit))
    for turn in range(8):
        feed.say(*lines(turn * 1000 + 1, turn * 1000 + 1000, 60))
        feed.life.control(REOPEN)
    feed.end()
    found = segments(feed.life.log)
    # Seen as text: where a read ended in mid-line the line is two records.
    assert b"".join(itertools.chain.from_iterable(found)) == b"".join(lines(1, 8000, 60))
    assert [] not in found[:-1]
    assert strangers(feed.life.log) == set()


# Disks that fail


def with_faults(feed: Feed, spec: str) -> None:
    feed.life.command = faults.command(spec)


@pytest.mark.contract("CASE-402", "LOG-31", "LOG-36")
@pytest.mark.parametrize("kept", MODES)
@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT", "EIO", "EROFS"])
@pytest.mark.parametrize(
    "call", ["open:file=.tmp", "rename:file=ctr.log:nth=1", "rename:file=ctr.log:nth=2"]
)
def test_a_rotation_for_which_there_is_no_room_is_made_up_for(
    feed: Feed, call: str, error: str, kept: int
) -> None:
    """Acceptable: what was read waits for the disk; not: a record lost, a limit passed, an end."""
    name, rest = call.split(":", 1)
    with_faults(feed, f"{name}:errno={error}:times=3:{rest}")
    feed.start(*rotating(kept, 2 * RECORD))
    for text in lines(1, 7):
        feed.see(text)
    end_as(feed, Model(2 * RECORD, kept).write(*lines(1, 7)))


@pytest.mark.contract("CASE-402", "LOG-31")
@pytest.mark.parametrize("kept", [0, 9])
@pytest.mark.parametrize("error", ["EACCES", "EMFILE", "ENAMETOOLONG", "ELOOP"])
@pytest.mark.parametrize("call", ["open:file=.tmp", "rename:file=ctr.log:nth=1"])
def test_what_stands_against_a_rotation_costs_no_record(
    feed: Feed, call: str, error: str, kept: int
) -> None:
    """Acceptable: a warning, and the file grows until the rotation works."""
    name, rest = call.split(":", 1)
    with_faults(feed, f"{name}:errno={error}:times=forever:{rest}")
    feed.start(*rotating(kept, 2 * RECORD))
    for text in lines(1, 7):
        feed.say(text)
    feed.end()
    found = segments(feed.life.log)
    assert list(itertools.chain.from_iterable(found)) == lines(1, 7)
    assert strangers(feed.life.log) == set()


@pytest.mark.contract("CASE-402", "LOG-31")
@pytest.mark.parametrize("kept", MODES)
def test_a_rotation_that_was_not_possible_is_tried_again(feed: Feed, kept: int) -> None:
    with_faults(feed, "open:errno=EACCES:times=1:file=.tmp")
    feed.start(*rotating(kept, 2 * RECORD))
    feed.see(*lines(1, 4))
    assert segments(feed.life.log) == [lines(1, 4)]
    number = itertools.count(5)
    last, inode = 0, feed.life.log.stat().st_ino

    def rotated() -> bool:
        nonlocal last
        last = next(number)
        feed.see(*lines(last, last))
        return feed.life.log.stat().st_ino != inode

    wait_until(rotated, "the rotation")
    feed.end()
    found = list(itertools.chain.from_iterable(segments(feed.life.log)))
    assert found == (lines(1, last) if kept else lines(last, last))


@pytest.mark.contract("CASE-402", "LOG-31", "LOG-37", "END-26")
@pytest.mark.parametrize("kept", [0, 2])
def test_a_rotation_that_is_never_possible_does_not_keep_the_exit_file(
    feed: Feed, kept: int
) -> None:
    with_faults(feed, "open:errno=ENOSPC:times=forever:file=.tmp")
    feed.start(*rotating(kept, 2 * RECORD))
    feed.see(*lines(1, 2))
    feed.say(*lines(3, 3))
    feed.close()
    assert feed.life.exit_status(5) == 0
    feed.life.wait_gone()
    # What the disk had no file for may be there beyond the limit, or be lost; not what was written.
    assert segments(feed.life.log) in ([lines(1, 2)], [lines(1, 3)])


# What it costs


@pytest.mark.contract("ROT-4", "ROT-6", "ROT-7", "ROT-11")
@pytest.mark.parametrize("kept", [0, 3])
def test_rotations_in_a_flood_open_one_file_each_and_nothing_twice(feed: Feed, kept: int) -> None:
    trace = feed.life.directory / "trace"
    feed.life.command = ["strace", "-qq", "-s", "60", "-o", str(trace), *feed.life.command]
    # With --sync the process that strace follows is the monitor itself.
    feed.start(*rotating(kept, 500 * RECORD), "--sync", wait=False)
    said = lines(1, 1250)
    feed.see(*said)
    feed.end()
    assert feed.life.launcher is not None
    assert feed.life.launcher.wait(20) == 0
    calls = trace.read_text().splitlines()
    opened = [line for line in calls if line.startswith("openat(") and "O_CREAT" in line]
    assert len([line for line in opened if 'ctr.log"' in line]) == 1
    fresh = [line for line in opened if 'ctr.log.tmp"' in line]
    assert len(fresh) == 2
    assert all(f"O_{flag}" in line for line in fresh for flag in ("EXCL", "NOFOLLOW", "APPEND"))
    assert len([line for line in calls if line.startswith("rename") and 'ctr.log"' in line]) == (
        4 if kept else 2
    )
    # From one piece written to the next there is nothing but the rotation.
    stamp = re.compile(r'write\(\d+, "\d{4}-\d\d-\d\dT')
    written = [index for index, line in enumerate(calls) if stamp.match(line)]
    gaps = [after - before - 1 for before, after in itertools.pairwise(written)]
    print(f"system calls of a rotation, {kept} backups: {max(gaps)}")
    assert max(gaps) <= (16 if kept == 0 else 40)  # a wait and a read may come between
    model = Model(500 * RECORD, kept).write(*said)
    assert segments(feed.life.log) == model.segments
