"""A rotation is a sequence of steps, each of which may be the last one that is executed."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.life import DEADLINE, Life, wait_until
from tests.support.rotation import (
    HEAD,
    Feed,
    Model,
    backups,
    lines,
    old_log,
    segments,
    strangers,
    texts,
)
from tests.support.witness import parent

RECORD = HEAD + 4
LIMIT = 2 * RECORD
KEPT = 3
REOPEN = b"2 0 0\n"


class Stage:
    """A log and what an earlier life has left of it; each monitor's life has a directory of its own."""

    def __init__(self, directory: Path, kept: int, old: int, *, by_message: bool = False) -> None:
        self.directory, self.kept, self.by_message = directory, kept, by_message
        self.before = [[b"old%d" % number] for number in range(old, 0, -1)] + [lines(1, 2)]
        self.limit = 0 if by_message else LIMIT
        self.log = directory / "logs" / "ctr.log"
        self.log.parent.mkdir()
        self.lives: list[tuple[Life, Feed]] = []

    def options(self) -> list[str]:
        limit = ["--log-size-max", str(self.limit)] if self.limit else []
        rotate = ["--log-rotate", "--log-max-files", str(self.kept)] if self.kept else []
        return [*limit, *rotate]

    def set(self) -> None:
        """Put the files there anew: the next record (or the message) begins a fresh log."""
        for path in self.log.parent.iterdir():
            path.unlink()
        for number, segment in enumerate(reversed(self.before)):
            name = f"ctr.log.{number}" if number else "ctr.log"
            self.log.with_name(name).write_bytes(old_log(segment))

    def start(self, *command: str) -> tuple[Life, Feed]:
        """Start a monitor (by *command*) on the log."""
        directory = self.directory / str(len(self.lives))
        directory.mkdir()
        life = Life(directory)
        life.log = self.log
        life.command = [*command, *life.command]
        feed = Feed(life)
        self.lives.append((life, feed))
        # With --sync the process that is started, and that strace follows, is the monitor itself.
        feed.start(*self.options(), "--sync", wait=False)
        return life, feed

    def trigger(self, life: Life, feed: Feed) -> None:
        """Let the monitor begin a fresh log."""
        if self.by_message:
            life.control(REOPEN)
        else:
            feed.say(b"0003")

    def rotated(self) -> list[list[bytes]]:
        """Return what the files hold once the fresh log has begun."""
        model = Model(self.limit, self.kept, self.before).rotate()
        return (model if self.by_message else model.write(b"0003")).segments

    def traced(self) -> list[str]:
        """Kill the monitor when the rotation is over; return its system calls."""
        self.set()
        trace = self.directory / "trace"
        life, feed = self.start("strace", "-qq", "-s", "200", "-o", str(trace))
        self.trigger(life, feed)
        done = self.rotated()
        wait_until(lambda: self.log.exists() and segments(self.log) == done, "the rotation")
        if self.by_message:  # who watches the path is woken last
            wait_until(lambda: "\nftruncate(" in trace.read_text(), "the wake")
        os.kill(parent(int(life.pid_file.read_bytes())), signal.SIGKILL)  # adopted by the monitor
        feed.close()
        life.end()
        return trace.read_text().splitlines()

    def killed(self, call: str, nth: int) -> str:
        """Live up to the monitor's *nth* call of that name; return the call as it was to be."""
        self.set()
        trace = self.directory / "trace"
        inject = f"inject={call}:signal=SIGKILL:when={nth}"
        traced = (
            "strace",
            "-qq",
            "-s",
            "200",
            "-o",
            str(trace),
            "-e",
            f"trace={call}",
            "-e",
            inject,
        )
        life, feed = self.start(*traced)
        self.trigger(life, feed)
        assert life.launcher is not None
        assert life.launcher.wait(DEADLINE) == -signal.SIGKILL, (call, nth)
        feed.close()
        life.end()
        calls = [line for line in trace.read_text().splitlines() if line.startswith(call)]
        return calls[-1]

    def go_on(self) -> None:
        """Let the next monitor log more, with two rotations at least."""
        life, feed = self.start()
        if self.by_message:
            feed.see(*lines(4, 4))
            for number in (5, 6):
                before = self.log.stat().st_ino
                life.control(REOPEN)
                wait_until(
                    lambda: self.log.exists() and self.log.stat().st_ino != before,  # noqa: B023
                    "the rotation",
                )
                feed.see(*lines(number, number))
        else:
            for text in lines(4, 8):
                feed.see(text)
        feed.end()
        life.end()

    def expected_after(self, found: list[list[bytes]]) -> list[list[bytes]]:
        """Return what the files must hold after `go_on`, which found that."""
        model = Model(self.limit, self.kept, found)
        if not self.by_message:
            return model.write(*lines(4, 8)).segments
        return model.write(b"0004").rotate().write(b"0005").rotate().write(b"0006").segments

    def close(self) -> None:
        for life, feed in self.lives:
            feed.close()
            life.end()


@pytest.fixture
def stage(short_tmp: Path) -> Iterator[Callable[..., Stage]]:
    made: list[Stage] = []

    def make(kept: int, old: int, *, by_message: bool = False) -> Stage:
        made.append(Stage(short_tmp, kept, old, by_message=by_message))
        return made[-1]

    yield make
    for one in made:
        one.close()


# What leaves the files as they are, so that the end comes to the same on either side of it.
ELSEWHERE = {"brk", "clock_gettime", "futex", "madvise", "mmap", "mremap", "munmap", "read"}


def steps(calls: list[str], begins_after: str, end: str) -> list[tuple[str, int, str]]:
    """Return (name, how manieth of that name, call) from what was read to the last call *end*."""
    first = max(i for i, call in enumerate(calls) if re.match(rf'read\(.*"{begins_after}', call))
    last = max(i for i, call in enumerate(calls) if call.startswith(end + "("))
    counts: dict[str, int] = {}
    found: list[tuple[str, int, str]] = []
    for index, call in enumerate(calls[: last + 1]):
        name = call.partition("(")[0]
        counts[name] = counts.get(name, 0) + 1
        if index > first and name not in ELSEWHERE:
            found.append((name, counts[name], call))
    return found


def about(call: str) -> list[str]:
    """Return the name of a call and the paths (or the record, without its time) in it."""
    return [call.partition("(")[0], *re.findall(r'"(?:\d{4}-\d\d-\d\dT\S+)?([^"]*)"', call)]


@pytest.mark.contract("ROT-4", "ROT-6", "ROT-7", "ROT-8", "ROT-9", "ROT-10", "LOG-30", "LOG-33")
@pytest.mark.parametrize(
    ("kept", "old", "by_message"),
    [(0, 0, False), (KEPT, 0, False), (KEPT, KEPT, False), (KEPT, KEPT, True)],
    ids=["truncated", "first backup", "all backups", "by message"],
)
def test_killed_at_any_call_of_a_rotation_the_next_monitor_goes_on(
    stage: Callable[..., Stage], kept: int, old: int, by_message: bool
) -> None:
    """The monitor is killed before each system call of a rotation: that is after the one before.

    Acceptable: the files hold what they held before the rotation or what they hold after it (the
    record that was read may be lost with the monitor), under whichever of their names, and beside
    them an empty temporary file; the next monitor goes on from there as from any log.
    Not acceptable: a record that was in a file lost or doubled, other than with the oldest backup
    where all were there; an empty or supernumerary backup; a torn record; a file of any other name
    after the next rotation.
    """
    one = stage(kept, old, by_message=by_message)
    calls = one.traced()
    todo = steps(calls, "2 0 0", "ftruncate") if by_message else steps(calls, "0003", "write")
    print(f"calls of a rotation, {old} of {kept} backups there:", *(name for name, _, _ in todo))
    fresh = Model(one.limit, kept, one.before).rotate().segments[:-1]
    seen: list[dict[str, list[bytes]]] = []
    for name, nth, call in [("", 0, "nothing"), *todo]:
        where = f"killed before {call}"
        if name:
            met = about(one.killed(name, nth))  # nothing that only the result would show
            assert met == about(call)[: len(met)], "killed at another call"
        # At the moment of the kill
        files = {path.name: texts(path) for path in one.log.parent.iterdir()}
        found = segments(one.log)
        held = [segment for segment in found if segment]
        assert held in (one.before, fresh, one.rotated()), where
        assert [] not in found[:-1], where
        assert len(backups(one.log)) <= kept, where
        assert strangers(one.log) <= {"ctr.log.tmp"}, where
        assert files.get("ctr.log.tmp", []) == [], where
        if files in seen:  # what the next monitor finds is all that it knows
            continue
        seen.append(files)
        # And afterwards
        if not one.log.exists():
            found.append([])
        one.go_on()
        assert segments(one.log) == one.expected_after(found), where
        assert strangers(one.log) == set(), where
        assert sorted(backups(one.log)) == list(range(1, len(segments(one.log)))), where
    # Both ends were met, and something between them.
    assert len(seen) >= 3, seen
