"""Reading fits the load: wide pipes and rests while much comes, neither where they would hurt."""

from __future__ import annotations

import fcntl
import os
import posix
import tty
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lowconmon import _syscalls
from lowconmon.loop import Loop
from lowconmon.rooms import process, stdio
from lowconmon.rooms.stdio import READ_SIZE, Stdio
from tests.support.cgroups import MemoryGroup
from tests.support.life import Life, wait_until

NARROW, WIDE = 1 << 16, 1 << 18
MUCH = f"yes {'x' * 79} | head -c 2000000"  # 25,000 lines: more than makes a load
SPARES = process.spares_memory(os.getpid())  # where these tests run


class Place:
    """A room that reads one pipe, by a clock that stands still until it is moved."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, awaited: bool = False) -> None:
        self.now_ns = 10**12
        monkeypatch.setattr(stdio, "monotonic_ns", lambda: self.now_ns)
        self.loop, self.seen = Loop(), list[bytes]()
        self.awaited = awaited
        self.after: Callable[[], bool] = bool  # called with each read
        self.room = Stdio(self.loop, self._deliver)
        reader, self.writer = os.pipe()
        self.reader = reader
        self.room.add(b"stdout", b"\2", reader)
        self.room.release()

    def _deliver(self, _: object, __: int, data: bytes) -> bool:
        self.seen.append(data)
        self.loop.stop()
        return self.after() or self.awaited

    def put(self, data: bytes, *, after_ns: int = 1000) -> None:
        """Write, and let the room read it."""
        self.now_ns += after_ns
        os.write(self.writer, data)
        self.loop.run()

    def rests(self) -> bool:
        return self.reader not in self.loop._watches  # noqa: SLF001 - whether it reads

    def end(self) -> None:
        self.room.close()
        self.loop.close()
        os.close(self.writer)


@pytest.fixture
def new_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Place]]:
    places: list[Place] = []

    def make(**how: bool) -> Place:
        places.append(Place(monkeypatch, **how))
        return places[-1]

    yield make
    for place in places:
        place.end()


def test_after_a_small_read_that_came_soon_comes_a_rest_and_then_all_that_has_come(
    new_place: Callable[..., Place],
) -> None:
    place = new_place()
    place.put(b"first\n", after_ns=10**9)
    assert not place.rests()
    place.put(b"second\n")
    assert place.rests()
    os.write(place.writer, b"third\n")
    place.put(b"fourth\n")
    assert place.seen == [b"first\n", b"second\n", b"third\nfourth\n"]


@pytest.mark.parametrize(
    ("data", "after_ns", "awaited"),
    [
        pytest.param(b"x", 999_999, True, id="a client waits"),
        pytest.param(b"x", 1_000_000, False, id="a quiet container"),
        pytest.param(bytes(32768), 1000, False, id="a large read"),
    ],
)
def test_there_is_no_rest_where_it_would_delay_or_not_pay(
    new_place: Callable[..., Place], data: bytes, after_ns: int, awaited: bool
) -> None:
    place = new_place(awaited=awaited)
    place.put(b"first\n", after_ns=10**9)
    place.put(data, after_ns=after_ns)
    assert not place.rests()


@pytest.mark.parametrize("paused_after", [0, 1, 3])
def test_a_flood_is_read_on_for_four_reads_or_until_a_pause(
    new_place: Callable[..., Place], paused_after: int
) -> None:
    place = new_place()
    fcntl.fcntl(place.writer, fcntl.F_SETPIPE_SZ, 8 * READ_SIZE)

    def pause() -> bool:
        if len(place.seen) == paused_after:
            place.room.pause(paused=True)
        return False

    place.after = pause
    place.put(bytes(8 * READ_SIZE))
    assert [len(data) for data in place.seen] == [READ_SIZE] * (paused_after or 4)
    place.room.pause(paused=False)
    while sum(map(len, place.seen)) < 8 * READ_SIZE:
        place.loop.run()


def test_reads_are_as_large_as_what_comes(
    new_place: Callable[..., Place], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, asked, read = new_place(), list[int](), _syscalls.read

    def ask(fd: int, size: int) -> bytes:
        asked.append(size)
        return read(fd, size)

    monkeypatch.setattr(_syscalls, "read", ask)
    small = stdio._SMALL  # noqa: SLF001 - a page, whose size is not everywhere the same
    sizes, rest = [1, small - 1, small + 1000, small, small - 1, 1, small], READ_SIZE - small
    for size in sizes:
        place.put(bytes(size), after_ns=10**9)
    assert asked == [small, small, small, rest, READ_SIZE, READ_SIZE, small, small, rest]
    assert [len(data) for data in place.seen] == sizes  # each in one piece


@pytest.mark.parametrize("terminal", [False, True], ids=["pipe", "terminal"])
@pytest.mark.parametrize("more", [-1, 0, 1])
def test_an_end_behind_what_was_asked_for_first_loses_nothing(*, terminal: bool, more: int) -> None:
    loop, seen, ended = Loop(), list[bytes](), list[bool]()

    def deliver(_: object, __: int, data: bytes) -> bool:
        seen.append(data)
        return False

    room = Stdio(loop, deliver)
    reader, writer = os.openpty() if terminal else os.pipe()
    if terminal:
        tty.setraw(writer)
    room.add(b"stdout", b"\2", reader, terminal=terminal)
    size = stdio._SMALL + more  # noqa: SLF001 - what is asked for first
    if terminal and size > 60_000:
        size = 4096 + more  # a terminal holds no more
    with ThreadPoolExecutor() as pool:
        written = pool.submit(os.write, writer, bytes(size))
        room.release()
        loop.call_later(50, loop.stop)
        loop.run()
        assert written.result() == size
    os.close(writer)
    loop.call_later(50, loop.stop)
    room.drain(lambda: ended.append(True))
    loop.run()
    loop.close()
    assert b"".join(seen) == bytes(size)
    assert ended == [True]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(reader)


def test_a_rest_ends_with_a_pause_a_drain_and_the_end(new_place: Callable[..., Place]) -> None:
    """Acceptable: paused is paused, a drain reads on. Not acceptable: a timer that undoes either."""
    place = new_place()
    place.put(b"first\n", after_ns=10**9)
    place.put(b"second\n")
    place.room.pause(paused=True)
    place.loop.call_later(3, place.loop.stop)  # behind the end of the rest
    place.loop.run()
    assert place.rests()
    place.room.drain(place.loop.stop)
    assert not place.rests()
    place.put(b"third\n")
    place.put(b"fourth\n")
    assert not place.rests()
    os.close(place.writer)
    place.loop.run()
    assert place.seen == [b"first\n", b"second\n", b"third\n", b"fourth\n"]
    place.writer = os.open("/dev/null", os.O_RDONLY)


def pipe_size(pid: int) -> int:
    """Return how much the pipe of the container's stdout holds."""
    fd = os.open(f"/proc/{pid}/fd/1", os.O_WRONLY | os.O_NONBLOCK)
    try:
        return fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    finally:
        os.close(fd)


def logged(life: Life, lines: int) -> Callable[[], bool]:
    return lambda: life.log.read_bytes().count(b"\n") >= lines


def test_a_pipe_is_wide_under_load_and_narrow_again_when_it_is_quiet(life: Life) -> None:
    life.stub(f"{MUCH}; read word; {MUCH}; read word; exit 3").start("-i", "--leave-stdin-open")
    pid = life.pid()
    for turn in (1, 2):
        wait_until(lambda: pipe_size(pid) == (WIDE if SPARES else NARROW), "a wide pipe")
        wait_until(logged(life, turn * 25_000), "the log")
        wait_until(lambda: pipe_size(pid) == NARROW, "a narrow pipe")
        with life.attach() as client:
            client.send(b"go\n")
    assert life.exit_status() == 3
    life.wait_gone()


def test_a_pipe_of_who_has_little_memory_stays_narrow(life: Life) -> None:
    with MemoryGroup() as group:
        life.stub(f"{MUCH}; read word; exit 3", after=group.enter()).start("-i")
        pid = life.pid()
        wait_until(logged(life, 25_000), "the log")
        assert pipe_size(pid) == NARROW
        client = life.attach()
        client.send(b"go\n")
        assert life.exit_status() == 3
        client.close()
        life.wait_gone()


@pytest.mark.parametrize(
    ("files", "spares"),
    [
        ({}, True),
        ({"pod/box/memory.max": b"max\n"}, True),
        ({"pod/box/memory.max": b"67108864\n"}, True),
        ({"pod/box/memory.max": b"67108863\n"}, False),
        ({"pod/memory.max": b"1000\n"}, False),
        ({"memory.max": b"1000\n"}, True),
        ({"pod/box/memory.max": b"max\n", "pod/memory.max": b"garbage"}, True),
        ({"memory/pod/box/memory.limit_in_bytes": b"9223372036854771712\n"}, True),
        ({"memory/pod/box/memory.limit_in_bytes": b"1000\n"}, False),
        ({"memory/pod/memory.limit_in_bytes": b"1000\n"}, False),
    ],
)
def test_any_limit_on_the_way_up_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes], spares: bool
) -> None:
    monkeypatch.setattr(process, "MOUNT", os.fsencode(tmp_path))
    v1 = any(name.startswith("memory/") for name in files)
    said = {
        b"/proc/self/uid_map": b"         0          0 4294967295\n",
        b"/proc/7/cgroup": b"4:memory:/pod/box\n0::/other\n" if v1 else b"0::/pod/box\n",
    }
    read = process.read_small
    monkeypatch.setattr(process, "read_small", lambda path: said.get(path) or read(path))
    monkeypatch.setattr(posix, "geteuid", lambda: 0)
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert process.spares_memory(7) is spares


@pytest.mark.parametrize(
    ("user", "ids"),
    [(1000, b"0 0 4294967295\n"), (0, b"0 1000 1\n1 100000 65536\n"), (0, None)],
    ids=["a user", "a user's namespace", "no /proc"],
)
def test_a_user_keeps_narrow_pipes(
    monkeypatch: pytest.MonkeyPatch, user: int, ids: bytes | None
) -> None:
    monkeypatch.setattr(posix, "geteuid", lambda: user)
    monkeypatch.setattr(
        process, "read_small", lambda path: ids if b"uid_map" in path else b"0::/\n"
    )
    assert process.spares_memory(7) is False
