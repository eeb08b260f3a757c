"""The OOM watch's room alone: files of ours in the place of a cgroup's, real notices.

Acceptable: `oom` files where memory ran out, else none; at most a warning. Not acceptable: an
exception, a wait, a descriptor that is left.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lowconmon.loop import Loop
from lowconmon.rooms import oom
from lowconmon.rooms.diagnostics import Diagnostics
from lowconmon.rooms.oom import Oom
from tests.support import is_cloexec, open_fds
from tests.support.cgroups import MOUNT, QUIET, UNIFIED, V1, Group, MemoryGroup, tell
from tests.support.faults import Fault
from tests.support.life import DEADLINE

THEIRS, OURS = b"0::/pod/box\n", b"0::/monitor\n"
Inject = Callable[..., Fault]


class Said(Diagnostics):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.warnings: list[str] = []
        self.debugged: list[str] = []

    def warn(self, text: str, error: OSError | None = None) -> None:
        self.warnings.append(f"{text} {error and error.errno}")

    def debug(self, text: str, error: OSError | None = None) -> None:
        self.debugged.append(f"{text} {error and error.errno}")


class Place:
    """A room in a directory of its own, which stands in for /sys/fs/cgroup."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mount, self.persist, self.bundle = (
            directory / name for name in ("mount", "persist", "bundle")
        )
        for path in (self.mount, self.persist, self.bundle):
            path.mkdir()
        monkeypatch.setattr(oom, "MOUNT", os.fsencode(self.mount))
        self.loop, self.said = Loop(), Said()
        self.paths = [os.fsencode(path / "oom") for path in (self.persist, self.bundle)]
        self.room = Oom(self.loop, self.said, self.paths)
        self.events = self.mount / "pod/box/memory.events"

    def put(self, content: bytes = QUIET, name: str = "pod/box/memory.events") -> Path:
        path = self.mount / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def watch(self, theirs: bytes = THEIRS, ours: bytes = OURS, *, fresh: bool = True) -> None:
        self.room.watch(theirs, ours, fresh=fresh)

    def turn(self) -> None:
        """Let the loop do what is due now."""
        self.loop.call_later(0, lambda: self.loop.call_later(0, self.loop.stop))
        self.loop.run()

    def until(self, check: Callable[[], object]) -> None:
        """Run the loop until a notice has made *check* true."""

        def look() -> None:
            if check():
                self.loop.stop()
            else:
                self.loop.call_later(5, look)

        deadline = self.loop.call_later(DEADLINE * 1000, self.loop.stop)
        look()
        self.loop.run()
        deadline.cancel()
        assert check()

    def count_looks(self) -> list[None]:
        """Return a list that grows with each notice."""
        looks: list[None] = []

        def look() -> None:
            looks.append(None)
            self.room.look()

        self.loop.add_reader(self.room._notice_fd, look)  # noqa: SLF001
        return looks

    def told(self) -> bool:
        """Tell whether there was an OOM; both places must say the same."""
        made = [path.exists() for path in (self.persist / "oom", self.bundle / "oom")]
        assert made[0] == made[1]
        if made[0]:
            assert [(path / "oom").read_bytes() for path in (self.persist, self.bundle)] == [
                b""
            ] * 2
        return made[0]

    def watching(self) -> bool:
        return self.room._notice_fd >= 0  # noqa: SLF001


@pytest.fixture
def place(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    one = Place(short_tmp, monkeypatch)
    yield one
    one.room.finish()
    one.room.detach()
    one.loop.close()


# v2


@pytest.mark.contract("OOM-1", "OOM-2", "OOM-3", "OOM-8")
@pytest.mark.parametrize("count", ["oom", "oom_kill"])
def test_an_oom_is_told_after_a_burst_of_other_events(place: Place, count: str) -> None:
    place.put()
    place.watch()
    for number in range(1, 200):
        tell(place.events, high=number, max=number // 2, low=number // 3)
        if number % 7 == 0:
            place.turn()
    place.turn()
    assert place.watching()
    assert not place.told()
    tell(place.events, **{count: 1})
    place.turn()
    assert place.told()
    assert not place.said.warnings


@pytest.mark.contract("OOM-2")
def test_events_that_are_no_oom_are_not_told_at_the_end_either(place: Place) -> None:
    place.put()
    place.watch()
    tell(place.events, high=7, max=9, low=1, oom_group_kill=0)
    place.room.finish()
    place.room.detach()
    assert not place.told()
    assert not place.watching()


@pytest.mark.contract("OOM-17")
def test_when_an_oom_was_told_the_watch_is_over(place: Place) -> None:
    before = open_fds().keys()
    place.put()
    place.watch()
    assert len(open_fds().keys() - before) == 2
    tell(place.events, oom_kill=1)
    place.turn()
    assert open_fds().keys() == before
    (place.persist / "oom").unlink()
    tell(place.events, oom_kill=2)
    place.turn()
    place.room.finish()
    place.room.detach()
    assert not (place.persist / "oom").exists()


@pytest.mark.contract("OOM-9")
@pytest.mark.parametrize("fresh", [True, False])
def test_what_the_cgroup_had_seen_counts_for_a_fresh_one_alone(
    place: Place, *, fresh: bool
) -> None:
    place.put(b"oom 3\noom_kill 2\n")
    place.watch(fresh=fresh)
    assert place.told() is fresh
    tell(place.events, high=1)
    place.turn()
    assert place.told() is fresh
    tell(place.events, oom_kill=3)
    place.turn()
    assert place.told()


@pytest.mark.contract("OOM-14")
def test_what_our_own_cgroup_had_seen_does_not_count(place: Place) -> None:
    place.put(b"oom 3\noom_kill 2\n")
    place.watch(THEIRS, b"5:pids:/x\n" + THEIRS)
    place.turn()
    assert not place.told()
    tell(place.events, oom=4)
    place.turn()
    assert place.told()


@pytest.mark.contract("OOM-4")
def test_the_last_look_finds_what_no_notice_told(place: Place) -> None:
    place.put()
    place.watch()
    with place.events.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:] = QUIET.replace(b"oom_kill 0", b"oom_kill 1")  # of which inotify knows nothing
    place.turn()
    assert not place.told()
    place.room.finish()
    place.room.detach()
    assert place.told()


@pytest.mark.contract("OOM-4")
def test_the_last_look_needs_no_turn_of_the_loop(place: Place) -> None:
    place.put()
    place.watch()
    tell(place.events, oom=1)
    place.room.finish()
    place.room.detach()
    assert place.told()


@pytest.mark.contract("OOM-12")
def test_on_a_hybrid_machine_v2_is_below_unified(place: Place) -> None:
    events = place.put(name="unified/pod/box/memory.events")
    place.watch(b"1:name=systemd:/pod/box\n" + THEIRS)
    tell(events, oom_kill=1)
    place.turn()
    assert place.told()


@pytest.mark.contract("OOM-2", "OOM-8")
def test_real_events_of_a_real_cgroup_that_are_no_oom_are_not_told(place: Place) -> None:
    # It needs no memory controller: each cgroup has events, here under another name.
    with Group(UNIFIED) as group, subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        place.events.parent.mkdir(parents=True)
        place.events.symlink_to(group.path / "cgroup.events")
        place.watch()
        looks = place.count_looks()
        (group.path / "cgroup.procs").write_text(str(process.pid))  # populated 1
        place.until(lambda: looks)
        assert process.stdin
        process.stdin.close()
        process.wait(DEADLINE)
        place.until(lambda: len(looks) >= 2)
    assert place.watching()
    assert not place.told()
    place.room.finish()
    place.room.detach()
    assert not place.said.warnings


@pytest.mark.contract("OOM-11")
def test_a_cgroup_that_is_removed_before_the_last_look_is_no_oom_and_no_complaint(
    place: Place,
) -> None:
    with Group(UNIFIED) as group:
        place.events.parent.mkdir(parents=True)
        place.events.symlink_to(group.path / "cgroup.events")
        place.watch()
        assert group.remove()
        place.turn()
        place.room.finish()
        place.room.detach()
    assert not place.told()
    assert not place.said.warnings


@pytest.mark.contract("OOM-7")
def test_a_descriptor_of_the_watch_is_for_nobody_else_and_waits_for_nothing(place: Place) -> None:
    place.put()
    before = open_fds()
    place.watch()
    for fd in open_fds().keys() - before.keys():
        assert is_cloexec(fd)
        assert not os.get_blocking(fd)


# v1: an eventfd of our own process, named in what is written to event_control


def watched_v1(
    place: Place, control: bytes = b"oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"
) -> int:
    """Watch a cgroup of v1 whose files are ours; return the eventfd."""
    place.put(control, "memory/pod/box/memory.oom_control")
    said = place.put(b"", "memory/pod/box/cgroup.event_control")
    place.watch(b"4:memory:/pod/box\n0::/elsewhere\n")
    assert place.watching()
    event_fd, control_fd = map(int, said.read_bytes().split(b" "))
    assert os.readlink(f"/proc/self/fd/{control_fd}").endswith("/pod/box/memory.oom_control")
    assert os.readlink(f"/proc/self/fd/{event_fd}") == "anon_inode:[eventfd]"
    return event_fd


@pytest.mark.contract("OOM-3", "OOM-5", "OOM-17")
def test_an_event_of_v1_is_an_oom_before_anything_is_counted(place: Place) -> None:
    event_fd = watched_v1(place)
    place.turn()
    assert not place.told()
    os.eventfd_write(event_fd, 1)
    place.turn()
    assert place.told()
    assert not place.watching()


@pytest.mark.contract("OOM-4", "OOM-5")
@pytest.mark.parametrize("events", [1, 2, 1000])
def test_events_of_v1_are_found_at_the_end_too(place: Place, events: int) -> None:
    os.eventfd_write(watched_v1(place), events)
    place.room.finish()
    place.room.detach()
    assert place.told()


@pytest.mark.contract("OOM-15")
def test_a_process_of_v1_that_was_killed_without_an_event_is_found_at_the_end(place: Place) -> None:
    # So it is when the whole machine has no memory left.
    watched_v1(place)
    (place.mount / "memory/pod/box/memory.oom_control").write_bytes(b"under_oom 0\noom_kill 1\n")
    place.room.finish()
    place.room.detach()
    assert place.told()


@pytest.mark.contract("OOM-6")
def test_an_event_of_v1_together_with_a_removed_cgroup_is_no_oom(
    place: Place, inject: Inject
) -> None:
    os.eventfd_write(watched_v1(place), 1)
    inject("pread", errno=errno.ENODEV)
    place.turn()
    assert not place.watching()
    assert not place.told()
    assert not place.said.warnings


@pytest.mark.contract("OOM-6")
def test_the_removal_of_a_real_cgroup_of_v1_is_no_oom(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not V1:
        pytest.skip("this machine has no memory controller of v1")
    monkeypatch.setattr(oom, "MOUNT", os.fsencode(MOUNT))
    with MemoryGroup() as group:
        place.watch(b"4:memory:/%b\n" % group.path.name.encode())
        assert place.watching()
        assert group.remove()
    place.until(lambda: not place.watching())
    assert not place.told()
    assert not place.said.warnings


# What is not as it should be


@pytest.mark.contract("OOM-13")
@pytest.mark.parametrize(
    "theirs", [b"", b"0::/nowhere\n", b"0::/../pod/box\n", b"4:memory:/pod/box\n", b"\0\xff::::\n"]
)
def test_where_there_is_no_memory_cgroup_only_a_debug_line_says_so(
    place: Place, theirs: bytes
) -> None:
    place.put(b"oom 1\n")
    before = open_fds()
    place.watch(theirs)
    assert open_fds() == before
    place.room.finish()
    place.room.detach()
    assert not place.told()
    assert place.said.debugged == ["no memory cgroup to watch None"]
    assert not place.said.warnings


def fifo(path: Path) -> None:
    os.mkfifo(path)


def loop_of_links(path: Path) -> None:
    path.symlink_to(path.name)


def dangling(path: Path) -> None:
    path.symlink_to("nothing")


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.write(b"high 1\n" * 3_000_000)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def garbage(path: Path) -> None:
    path.write_bytes(os.urandom(100_000).replace(b"oom", b"moo"))


def one_long_line(path: Path) -> None:
    path.write_bytes(b"oom_kill " + b"1" * 1_000_000)


@pytest.mark.contract("OOM-7")
@pytest.mark.parametrize(
    ("make", "name", "warnings"),
    [
        (Path.mkdir, "pod/box/memory.events", 1),
        (fifo, "pod/box/memory.events", 1),
        (loop_of_links, "pod/box/memory.events", 0),
        (dangling, "pod/box/memory.events", 0),
        (huge, "pod/box/memory.events", 0),
        (sparse, "pod/box/memory.events", 0),
        (garbage, "pod/box/memory.events", 0),
        (Path.mkdir, "memory/pod/box/memory.oom_control", 1),
        (fifo, "memory/pod/box/memory.oom_control", 1),
        (Path.mkdir, "memory/pod/box/cgroup.event_control", 1),
        (fifo, "memory/pod/box/cgroup.event_control", 1),
        (dangling, "memory/pod/box/cgroup.event_control", 1),
    ],
)
def test_strange_files_are_a_warning_at_most(
    place: Place, make: Callable[[Path], object], name: str, warnings: int
) -> None:
    theirs = b"4:memory:/pod/box\n" if name.startswith("memory/") else THEIRS
    if name.endswith("cgroup.event_control"):
        place.put(name="memory/pod/box/memory.oom_control")
    path = place.mount / name
    path.parent.mkdir(parents=True, exist_ok=True)
    make(path)
    before = open_fds()
    place.watch(theirs)
    place.turn()
    place.room.finish()
    place.room.detach()
    assert open_fds() == before
    assert not place.told()
    assert len(place.said.warnings) == warnings


@pytest.mark.contract("OOM-7")
def test_a_count_in_a_line_without_end_is_no_reason_to_fall(place: Place) -> None:
    place.put()
    one_long_line(place.events)
    place.watch()
    assert place.told()  # its number is cut, and other than 0


@pytest.mark.contract("OOM-7")
@pytest.mark.parametrize("kind", ["v1", "v2"])
@pytest.mark.parametrize("error", ["EMFILE", "EIO", "EACCES", "ENOSPC", "ENOENT", "ENODEV"])
@pytest.mark.parametrize("nth", [1, 2])
@pytest.mark.parametrize(
    "call",
    [
        "open",
        "read",
        "pread",
        "write",
        "eventfd",
        "inotify_init1",
        "inotify_add_watch",
        "epoll_ctl",
    ],
)
def test_any_call_may_fail_at_any_time(
    place: Place, inject: Inject, call: str, nth: int, error: str, kind: str
) -> None:
    before = open_fds()
    fault = inject(call, errno=getattr(errno, error), nth=nth)
    counts = place.put(name="pod/box/memory.events")
    if kind == "v1":
        counts = place.put(name="memory/pod/box/memory.oom_control")
        place.put(b"", name="memory/pod/box/cgroup.event_control")
    place.watch(b"4:memory:/pod/box\n" if kind == "v1" else THEIRS)
    for number in (1, 2):
        tell(counts, high=number)
        place.turn()
    tell(counts, oom_kill=1)
    place.room.finish()
    place.room.detach()
    if fault.fired and call != "write" and nth == 1:
        assert len(place.said.warnings) <= 1
    if not fault.fired:
        assert place.told()
        assert not place.said.warnings
    assert open_fds() == before


# The files


@pytest.mark.contract("OOM-7", "OOM-16")
@pytest.mark.parametrize("obstacle", [Path.mkdir, fifo, loop_of_links, dangling])
def test_a_file_that_cannot_be_made_does_not_hinder_the_other(
    place: Place, obstacle: Callable[[Path], object]
) -> None:
    obstacle(place.persist / "oom")
    place.put(b"oom_kill 1\n")
    place.watch()
    assert (place.bundle / "oom").read_bytes() == b""
    (warning,) = place.said.warnings
    assert warning.startswith(f"Failed to make {place.persist}/oom ")
    place.room.finish()
    place.room.detach()
    assert not (place.persist / "nothing").exists()


@pytest.mark.contract("OOM-16")
@pytest.mark.parametrize("again", ["at the next event", "at the end"])
def test_a_file_that_cannot_be_made_is_tried_again(place: Place, again: str) -> None:
    place.persist.rename(place.persist.with_name("gone"))
    place.put(b"oom_kill 1\n")
    place.watch()
    assert len(place.said.warnings) == 1
    place.persist.mkdir()
    if again == "at the next event":
        tell(place.events, oom_kill=1)  # the same counts
        place.turn()
    else:
        place.room.finish()
        place.room.detach()
    assert place.told()
    assert not place.watching()


@pytest.mark.contract("OOM-3")
def test_a_file_that_is_there_stays_as_it_is(place: Place) -> None:
    (place.persist / "oom").write_bytes(b"what the manager made")
    place.put(b"oom_kill 1\n")
    place.watch()
    assert (place.persist / "oom").read_bytes() == b"what the manager made"
    assert (place.bundle / "oom").exists()
    assert not place.said.warnings


@pytest.mark.contract("OOM-3")
def test_the_files_are_plain_files_that_all_can_read(place: Place) -> None:
    old = os.umask(0o022)
    with contextlib.ExitStack() as after:
        after.callback(os.umask, old)
        place.put(b"oom_kill 1\n")
        place.watch()
    assert oct((place.persist / "oom").stat().st_mode) == "0o100644"


def test_who_wants_no_files_watches_nothing(place: Place) -> None:
    place.room = Oom(place.loop, place.said, [])
    place.put(b"oom_kill 1\n")
    before = open_fds()
    place.watch()
    assert open_fds() == before


@pytest.mark.parametrize("times", [1, 2])
def test_a_room_that_watches_nothing_may_look_and_end(place: Place, times: int) -> None:
    for _ in range(times):
        place.room.look()
        place.room.detach()
        place.room.finish()
        place.room.detach()
    assert not place.told()
    assert not place.said.warnings
