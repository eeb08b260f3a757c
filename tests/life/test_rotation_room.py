"""The log file's room alone, driven with files of its own: any records, every kill, every fault.

What the files may hold is told by the Model of tests/support/rotation.py, step by step.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from lowconmon import _syscalls
from lowconmon.loop import Loop, Timer
from lowconmon.pure.records import MAX_TEXT, K8sRecords
from lowconmon.rooms.diagnostics import Diagnostics
from lowconmon.rooms.log_file import LogFile
from lowconmon.rooms.rotation import Rotation
from tests.support.rotation import (
    HEAD,
    Model,
    backups,
    lines,
    old_log,
    segments,
    size,
    strangers,
    texts,
)

RECORD = HEAD + 4
CALLS = ["close", "fstat", "ftruncate", "is_locked", "open", "pread", "readlink", "rename", "stat"]
CALLS += ["unlink", "write"]
REOPEN = None  # among the writes of a life: the control message
Writes = list[list[bytes] | None]  # what is read at once, line by line


class Hasty(Loop):
    """A loop whose timers are due at once."""

    def call_later(self, delay_ms: float, handler: Callable[[], object]) -> Timer:
        return super().call_later(delay_ms / 100, handler)

    @classmethod
    def closing(cls) -> contextlib.closing[Hasty]:
        """Give a loop that is closed in the end."""
        return contextlib.closing(cls())


def opened(loop: Loop, log: Path, limit: int, kept: int) -> LogFile:
    """Begin a log's life. Raises OSError, as the launcher gets it."""
    diagnostics = Diagnostics()
    diagnostics.on_stderr = False
    path = os.fsencode(log)
    return LogFile(loop, diagnostics, path, K8sRecords(), Rotation(path, kept), size_max=limit)


def go_on(loop: Loop, room: LogFile, writes: Writes) -> None:
    """Live a log's life to its end; each read comes when nothing is held any more."""
    for said in writes:
        if said is REOPEN:
            room.reopen()
        else:
            room.write(b"stdout", time.time_ns(), b"".join(text + b"\n" for text in said))
        settle(loop, room)
    room.close()


def live(log: Path, limit: int, kept: int, writes: Writes) -> None:
    """Live a log's life."""
    with Hasty.closing() as loop:
        go_on(loop, opened(loop, log, limit, kept), writes)


def settle(loop: Loop, room: LogFile) -> None:
    def look() -> None:
        if room.holds():
            loop.call_later(10, look)
        else:
            loop.stop()

    look()
    if room.holds():
        loop.run()


class Killed(BaseException):
    """Nobody catches this."""


class Calls:
    """The calls of the bindings: numbers them, from 1, and tells *look* number and name before."""

    def __init__(self, look: Callable[[int, str], object]) -> None:
        self.look, self.number, self.dead = look, 0, False
        self.opened: set[int] = set()
        self.originals = {name: getattr(_syscalls, name) for name in CALLS}

    def __enter__(self) -> Calls:
        for name in CALLS:
            setattr(_syscalls, name, functools.partial(self.call, name))
        return self

    def __exit__(self, *_: object) -> None:
        for name in CALLS:
            setattr(_syscalls, name, self.originals[name])
        for fd in self.opened:
            os.close(fd)

    def call(self, name: str, *arguments: Any, **named: Any) -> Any:
        self.number += 1
        try:
            if not self.dead:
                self.look(self.number, name)
        except Killed:
            self.dead = True
        if self.dead and name != "close":  # which `finally` does where the kernel would
            raise Killed
        result = self.originals[name](*arguments, **named)
        if name == "open":
            self.opened.add(result)
        elif name == "close":
            self.opened.discard(arguments[0])
        return result


def killed(log: Path, limit: int, kept: int, writes: Writes, nth: int) -> bool:
    """Live, killed before the *nth* call; tell whether it came to that."""

    def look(number: int, _name: str) -> None:
        if number == nth:
            raise Killed

    with Calls(look) as calls, contextlib.suppress(Killed):
        live(log, limit, kept, writes)
    return calls.dead


def put(log: Path, before: dict[str, list[bytes]]) -> None:
    """Put these files, by ending, in a directory of their own."""
    shutil.rmtree(log.parent, ignore_errors=True)
    log.parent.mkdir()
    for ending, content in before.items():
        log.with_name(log.name + ending).write_bytes(old_log(content))


def take(log: Path) -> dict[str, list[bytes]]:
    """Return the files by ending."""
    return {path.name.removeprefix(log.name): texts(path) for path in log.parent.iterdir()}


def model_of(log: Path, limit: int, kept: int) -> Model:
    found = segments(log)
    return Model(limit, kept, found if log.exists() else [*found, []])


def play(model: Model, writes: Writes) -> list[list[list[bytes]]]:
    """Play a life; return what the files hold (but for empty ones) after each step."""
    states = [model.held()]
    for said in writes:
        if said is REOPEN and model.kept:
            states.append(model.rotate().held())
        for text in said or []:
            if not model.fits(text):
                states.append(model.rotate().held())
            states.append(model.write(text).held())
    return states


# Any records


@pytest.mark.contract("ROT-1", "ROT-4", "ROT-5", "ROT-6", "ROT-7", "ROT-8", "ROT-9", "REOPEN-2")
@settings(max_examples=60)
@given(
    sizes=st.lists(
        st.none() | st.lists(st.integers(4, 200) | st.sampled_from([MAX_TEXT]), max_size=12),
        max_size=8,
    ),
    limit=st.integers(-1, 700) | st.just(9000),
    kept=st.integers(0, 4),
    old=st.lists(st.integers(0, 3), max_size=5),
)
def test_whatever_is_said_the_files_are_the_last_of_it(
    sizes: list[list[int] | None], limit: int, kept: int, old: list[int]
) -> None:
    directory = Path(tempfile.mkdtemp())
    try:
        log = directory / "ctr.log"
        number = itertools.count(1)
        earlier = [[b"old%d.%d" % (which, i) for i in range(n + 1)] for which, n in enumerate(old)]
        for which, content in enumerate(reversed(earlier[-kept - 1 :])):
            name = f"ctr.log.{which}" if which else "ctr.log"
            log.with_name(name).write_bytes(old_log(content))
        writes: Writes = [
            None if read is None else [b"%0*d" % (length, next(number)) for length in read]
            for read in sizes
        ]
        model = model_of(log, limit, kept)
        said = list(itertools.chain.from_iterable(model.segments))
        live(log, limit, kept, writes)
        states = play(model, writes)
        assert [segment for segment in segments(log) if segment] == states[-1]
        # The same in words
        said += [text for read in writes for text in read or []]
        found = segments(log)
        flat = list(itertools.chain.from_iterable(found))
        assert flat == said[len(said) - len(flat) :]
        assert len(found) - 1 <= kept
        assert [] not in found[:-1]
        for segment in found if limit > 0 else []:
            earlier_ones = any(text.startswith(b"old") for text in segment)
            assert earlier_ones or sum(map(size, segment)) <= limit or len(segment) == 1
        assert strangers(log) == set()
    finally:
        shutil.rmtree(directory)


# Every kill

BEFORE: dict[str, dict[str, list[bytes]]] = {
    "nothing": {},
    "a log": {"": lines(1, 2)},
    "all": {".3": [b"old3"], ".2": [b"old2"], ".1": [b"old1"], "": lines(1, 2)},
    "a gap": {".3": [b"old3"], ".1": [b"old1"], "": lines(1, 2)},
    "cut off": {".2": [b"old2"], ".1": lines(1, 2), ".tmp": []},
    "cut off before": {".1": [b"old1"], "": lines(1, 2), ".tmp": []},
}


def writes_from(first: int) -> Writes:
    """Return what a life writes: with a limit of two records, rotations in every way there is."""
    return [
        lines(first, first),
        lines(first + 1, first + 4),  # two rotations in one go
        REOPEN,
        [b"%04d" % (first + 5) + b"x" * 100],  # larger than a file
        lines(first + 6, first + 7),
    ]


@pytest.mark.contract("ROT-4", "ROT-6", "ROT-7", "ROT-8", "ROT-9", "ROT-10", "LOG-30", "LOG-33")
@pytest.mark.parametrize("kept", [0, 1, 3])
@pytest.mark.parametrize("before", BEFORE)
def test_killed_again_and_again_wherever_it_may_be(tmp_path: Path, before: str, kept: int) -> None:
    """One monitor is killed before any call of its life, the next one likewise, the third lives.

    Acceptable: at any time the files hold what they hold after one of the steps of a life without a
    kill, an empty temporary file beside them; the third life ends as any life on those files does.
    Not acceptable: a record lost or doubled, but for the oldest file where all were there; a torn
    record; an empty or supernumerary backup; a temporary file that stays.
    """
    log, limit = tmp_path / "logs" / "ctr.log", 2 * RECORD
    usual = BEFORE[before]
    if kept < len([ending for ending in usual if ending[1:].isdigit()]):
        usual = {ending: usual[ending] for ending in usual if not ending[1:].isdigit()}
    lives = 0

    def all_kills(start: dict[str, list[bytes]], writes: Writes) -> list[dict[str, list[bytes]]]:
        nonlocal lives
        ends: list[dict[str, list[bytes]]] = []
        for nth in itertools.count(1):
            put(log, start)
            model = model_of(log, limit, kept)
            was_killed = killed(log, limit, kept, writes, nth)
            lives += 1
            held = [segment for segment in segments(log) if segment]
            where = f"from {start}, before call {nth}"
            assert held in play(model, writes), where
            assert all(texts(path) for path in backups(log).values()), where
            assert len(backups(log)) <= kept, where
            left = take(log)
            assert left.get(".tmp", []) == [], where
            assert set(left) <= {"", ".tmp", ".1", ".2", ".3"}, where
            if left not in ends:
                ends.append(left)
            if not was_killed:
                assert held == model.held(), where
                assert strangers(log) == set(), where
                return ends
        raise AssertionError

    first = all_kills(usual, writes_from(10))
    second: list[dict[str, list[bytes]]] = []
    for start in first[:: 1 + len(first) // 12]:
        second += [end for end in all_kills(start, writes_from(20)[:3]) if end not in second]
    for start in second[:: max(1, len(second) // 40)]:
        put(log, start)
        model = model_of(log, limit, kept)
        live(log, limit, kept, writes_from(30))
        last = play(model, writes_from(30))[-1]
        assert [segment for segment in segments(log) if segment] == last
        assert strangers(log) == set()
    print(f"{lives} lives, {len(first)} and {len(second)} ways to end")


# Every fault


@pytest.mark.contract("CASE-402", "LOG-30", "LOG-31", "LOG-36", "ROT-7", "ROT-8")
@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO", "EACCES", "EMFILE"])
@pytest.mark.parametrize("kept", [0, 1, 1000])
def test_whichever_call_fails_no_record_is_lost(
    tmp_path: Path, kept: int, error: str, times: int
) -> None:
    """Acceptable: a log that cannot be opened at all; a file larger than its limit.

    Not acceptable: a record lost, doubled or torn, but for what rotations are entitled to drop; a
    descriptor left open; a temporary file that outlives the next rotation.
    """
    log, limit = tmp_path / "logs" / "ctr.log", 2 * RECORD
    start = {".1": [b"old1"], "": lines(1, 2)} if kept else {"": lines(1, 2)}
    writes = writes_from(10)
    said = [*start.get(".1", []), *lines(1, 2), *(text for read in writes for text in read or [])]
    put(log, start)
    perfect = play(model_of(log, limit, kept), writes)[-1]
    for nth in itertools.count(1):
        put(log, start)

        def look(number: int, name: str, nth: int = nth) -> None:
            # Nothing is left to fail when a file that was only looked at is closed.
            if nth <= number < nth + times and name != "close":
                raise OSError(getattr(errno, error), "injected")

        where = f"call {nth} fails"
        with Calls(look) as calls:
            with Hasty.closing() as loop:
                try:
                    room = opened(loop, log, limit, kept)
                except OSError:
                    assert take(log) == start, where
                    continue
                go_on(loop, room, writes)
            assert calls.opened == set(), where
        flat = list(itertools.chain.from_iterable(segments(log)))
        assert flat == said[-len(flat) :], where
        assert len(flat) >= (len(said) if kept > 1 else sum(map(len, perfect))), where
        assert len(backups(log)) <= kept, where
        assert all(texts(path) for path in backups(log).values()), where
        assert strangers(log) <= {"ctr.log.tmp"}, where
        live(log, limit, kept, writes_from(20))
        assert strangers(log) == set(), where
        if nth > calls.number:
            break
