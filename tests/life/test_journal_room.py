"""The journal's room in this process: a real loop, a socket in journald's place, faults."""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import _syscalls
from lowconmon.loop import Loop
from lowconmon.pure.journal import MAX_QUEUED
from lowconmon.rooms import journal
from lowconmon.rooms.logs import Logs
from tests.support import open_fds
from tests.support.journald import FakeJournald
from tests.support.life import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CID = b"0123456789abcdef"
KIB = 1024
REFUSED = "Failed to write to the journal"
LOST = "The journal takes nothing: messages are lost"


class Room:
    """A journal room, what it said, and the loop that it lives in."""

    def __init__(self, path: Path, labels: tuple[bytes, ...] = ()) -> None:
        self.before = set(open_fds().values())
        self.fake = FakeJournald(path)
        self.loop = Loop()
        self.warnings: list[str] = []
        self.errors: list[int | None] = []
        self.rooms = 0  # how often it told that there is room
        self.journal = journal.Journal(
            self.loop,
            self,  # type: ignore[arg-type]
            CID,
            None,
            None,
            labels,
            mark_partial=True,
            prefix_is_priority=False,
        )
        self.journal.on_room = self.on_room

    def warn(self, text: str, error: OSError | None = None) -> None:
        self.warnings.append(text)
        self.errors.append(error.errno if error else None)

    def on_room(self) -> None:
        assert not self.journal.full()
        self.rooms += 1

    def write(self, data: bytes, stream: bytes = b"stdout") -> None:
        self.journal.write(stream, 0, data)

    def run(self, holds: Callable[[], object], seconds: float = DEADLINE) -> None:
        """Run the loop until *holds* is true; it is asked every millisecond."""
        late: list[bool] = []

        def look() -> None:
            if holds() or late:
                self.loop.stop()
            else:
                self.loop.call_later(1, look)

        deadline = self.loop.call_later(seconds * 1000, lambda: late.append(True))
        self.loop.call_later(0, look)
        self.loop.run()
        deadline.cancel()
        assert not late

    def texts(self) -> list[bytes]:
        return [text for _, text, _ in self.fake.messages()]

    def expect(self, texts: list[bytes]) -> None:
        """Run until these are all messages that ever came, and nothing waits."""
        self.drain()
        assert self.texts() == texts

    def drain(self) -> None:
        """Read until nothing waits."""
        self.run(lambda: self.fake.read() and not self.journal.holds())
        self.fake.read()

    def fill(self) -> int:
        """Write lines of 1 KiB until the container should wait; return how many."""
        count = 0
        while not self.journal.full():
            self.write(b"%7d " % count + b"x" * 1015 + b"\n")
            count += 1
            assert count < 2 * MAX_QUEUED // KIB, "it never gets full"
        return count

    def numbers(self) -> list[int]:
        return [int(text[:7]) for text in self.texts()]


@pytest.fixture
def make(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Room]]:
    path = short_tmp / "socket"
    monkeypatch.setattr(journal, "SOCKET", os.fsencode(path))
    rooms = []

    def make_room(*, missing: bool = False, queue: int | None = None, **how: Any) -> Room:
        room = Room(path, **how)
        rooms.append(room)
        if not missing:
            room.fake.start(queue)
        return room

    yield make_room
    for room in rooms:
        room.journal.detach()
        room.loop.close()
        room.fake.stop()


@pytest.fixture
def room(make: Callable[..., Room]) -> Room:
    """Give one whose socket takes 10 datagrams, and then those that somebody reads."""
    return make()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up after 0.2 s instead of 5."""
    monkeypatch.setattr(journal, "_HANG_MS", 200)


def open_sockets(room: Room) -> int:
    """Return how many sockets the room and its fake have open."""
    ours = {target for target in open_fds().values() if target.startswith("socket:")}
    return len(ours - room.before)


def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list that gets (offered, taken) of each send from now on."""
    seen: list[tuple[int, int]] = []
    original = _syscalls.send_lines

    def send(fd: int, lines: memoryview, head: bytes, flags: int, skip: int) -> int:
        assert flags == _syscalls.MSG_DONTWAIT
        offered = bytes(lines)
        seen.append((offered.count(b"\n"), 0))
        size = original(fd, lines, head, flags, skip)
        seen[-1] = (offered.count(b"\n"), offered.count(b"\n", 0, size))
        return size

    monkeypatch.setattr(_syscalls, "send_lines", send)
    return seen


@pytest.mark.contract("JRN-1", "JRN-7", "JRN-10")
def test_each_line_is_a_datagram(room: Room) -> None:
    room.write(b"one\n\ntwo\nthr")
    room.write(b"ee\n")
    room.write(b"err\n", b"stderr")
    assert room.fake.messages() == [
        (b"6", b"one", False),
        (b"6", b"", False),
        (b"6", b"two", False),
        (b"6", b"three", False),
        (b"3", b"err", False),
    ]
    assert not room.journal.holds()
    assert room.warnings == []


@pytest.mark.contract("JRN-9")
def test_what_was_held_back_goes_out_at_the_end(room: Room) -> None:
    room.write(b"prompt> ")
    assert room.texts() == []
    assert not room.journal.holds()
    room.journal.finish()
    assert room.fake.messages() == [(b"6", b"prompt> ", True)]


@pytest.mark.contract("JRN-8")
def test_many_lines_are_sent_with_few_calls(
    make: Callable[..., Room], monkeypatch: pytest.MonkeyPatch
) -> None:
    room, seen = make(queue=512), batches(monkeypatch)
    lines = [b"%d" % number for number in range(150)]
    room.write(b"\n".join(lines) + b"\n")
    assert seen == [(150, 150)]
    assert room.texts() == lines


@pytest.mark.contract("JRN-8", "JRN-11")
def test_lines_with_a_number_are_sent_with_few_calls_and_hold_up_no_end(
    make: Callable[..., Room], monkeypatch: pytest.MonkeyPatch
) -> None:
    room, seen = make(queue=512), batches(monkeypatch)
    room.write(b"".join(b"<6>%d\n" % number for number in range(150)))
    assert seen == [(150, 150)]
    assert len(room.texts()) == 150  # so there is room for as many
    mixed = b"".join(b"<%d>%d\n" % (number % 8, number) for number in range(150, 300))
    room.write(mixed)
    room.run(lambda: not room.journal.holds(), seconds=0.1)  # no retry, whose time is as long
    assert room.texts() == [b"%d" % number for number in range(300)]


def test_a_flood_leaves_others_their_turn(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [0]

    def send(_fd: int, lines: memoryview, *_how: object) -> int:
        turns[-1] += 1
        return min(len(lines), 512)

    monkeypatch.setattr(_syscalls, "send_lines", send)
    room.write(b"\n" * 65536)
    turns.append(0)

    def next_turn() -> None:
        turns.append(0)
        room.loop.call_later(0, next_turn if room.journal.holds() else room.loop.stop)

    room.loop.call_later(0, next_turn)
    room.loop.run()
    assert sum(turns) == 65536 // 512
    assert max(turns) == 8


@pytest.mark.contract("JRN-8")
def test_a_socket_that_takes_one_at_a_time_gets_all_in_order(
    room: Room, inject: Callable[..., Any]
) -> None:
    fault = inject("send_lines", shorten=1, times=None)
    lines = [b"%d" % number for number in range(300)]
    room.write(b"\n".join(lines) + b"\n")
    room.expect(lines)
    assert fault.fired >= 300


# Large entries


@pytest.mark.contract("JRN-1")
def test_an_entry_that_is_too_large_for_a_datagram_goes_as_a_sealed_file(
    make: Callable[..., Room],
) -> None:
    labels = (b"BIG=" + b"x" * 120_000, b"LARGE=" + b"y" * 120_000)
    room = make(labels=labels)
    lines = [b"%d" % number for number in range(30)]
    room.write(b"\n".join(lines) + b"\n")
    room.expect(lines)
    assert room.fake.files == 30
    assert all(
        {(b"BIG", b"x" * 120_000), (b"LARGE", b"y" * 120_000)} <= set(fields)
        for fields in room.fake.read()
    )
    assert room.warnings == []


@pytest.mark.contract("JRN-1")
@pytest.mark.parametrize("number", [errno.EMSGSIZE, errno.ENOBUFS])
def test_what_the_socket_calls_too_large_goes_as_a_file_and_the_rest_does_not(
    room: Room, inject: Callable[..., Any], number: int
) -> None:
    inject("send_lines", errno=number)
    inject("write", shorten=7, times=None)
    room.write(b"one\ntwo\n")
    assert room.texts() == [b"one", b"two"]
    assert room.fake.files == 1


@pytest.mark.contract("JRN-1")
@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("memfd_create", errno.EMFILE),
        ("memfd_create", errno.ENOSYS),
        ("write", errno.ENOSPC),
        ("fcntl", errno.EPERM),
        ("send_fds", errno.EAGAIN),
        ("send_fds", errno.ETOOMANYREFS),
        ("send_fds", errno.ECONNREFUSED),
    ],
)
def test_a_file_that_cannot_be_made_or_sent_is_tried_again(
    room: Room, inject: Callable[..., Any], call: str, number: int
) -> None:
    inject("send_lines", errno=errno.EMSGSIZE, times=2)
    inject(call, errno=number)
    room.write(b"one\ntwo\n")
    assert room.journal.holds()
    room.expect([b"one", b"two"])
    assert room.errors == ([] if number == errno.EAGAIN else [number])


# No journald, or another one


@pytest.mark.contract("JRN-15")
def test_a_socket_that_is_missing_is_looked_for_again_and_again(make: Callable[..., Room]) -> None:
    room = make(missing=True)
    room.write(b"one\n")
    room.write(b"two\n")
    room.run(lambda: len(room.warnings) > 2)  # the diagnostics say it once a minute
    assert set(room.warnings) == {REFUSED}
    assert set(room.errors) == {errno.ENOENT}
    room.fake.start()
    room.expect([b"one", b"two"])  # nothing new is written
    room.write(b"three\n")
    assert room.texts()[2:] == [b"three"]


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("socket", errno.EMFILE),
        ("connect", errno.EACCES),
        ("connect", errno.ECONNREFUSED),
        ("send_lines", errno.EPERM),
        ("send_lines", errno.ENOMEM),
    ],
)
def test_a_failure_is_told_and_tried_again(
    room: Room, inject: Callable[..., Any], call: str, number: int
) -> None:
    inject(call, errno=number)
    room.write(b"one\ntwo\n")
    room.write(b"three\n")
    assert room.journal.holds() == (
        call == "send_lines"
    )  # at the end, only one that was met counts
    assert (room.warnings, room.errors) == ([REFUSED], [number])
    room.expect([b"one", b"two", b"three"])


@pytest.mark.parametrize(
    "number", [errno.ECONNREFUSED, errno.ENOTCONN, errno.ECONNRESET, errno.EPIPE, errno.ENOENT]
)
def test_a_connection_that_has_gone_is_made_anew_at_once(
    room: Room, inject: Callable[..., Any], number: int
) -> None:
    room.write(b"one\n")
    inject("send_lines", errno=number)
    room.write(b"two\n")
    assert room.texts() == [b"one", b"two"]
    assert room.warnings == []


def test_a_journald_that_was_started_anew_gets_what_follows_at_once(room: Room) -> None:
    for number in range(3):
        room.write(b"%d\n" % number)
        assert room.texts()[-1] == b"%d" % number
        room.fake.stop()
        room.fake.start()
    assert room.warnings == []


@pytest.mark.contract("JRN-14")
def test_while_there_is_no_journald_the_container_goes_on_and_the_loss_is_told(
    make: Callable[..., Room],
) -> None:
    """Acceptable: the first 1 MiB is there, then one entry says what is missing, then the rest.

    Not acceptable: a container that waits, memory that grows, a gap that nobody tells.
    """
    room = make(missing=True)
    line = b"x" * 1023 + b"\n"
    for _ in range(60):
        room.write(line * 50)
        room.write(line * 10, b"stderr")
        assert not room.journal.full()
    room.run(lambda: LOST in room.warnings)
    room.fake.start()
    room.drain()
    room.write(b"later\n")
    room.run(lambda: room.texts()[-1] == b"later")
    *kept, notice, later = room.fake.messages()
    assert {text for _, text, _ in kept} == {line[:-1]}
    assert MAX_QUEUED / KIB <= len(kept) < MAX_QUEUED / KIB + 100
    out, err = (3600 * share // 6 - sum(entry[0] == number for entry in kept)
                for share, number in ((5, b"6"), (1, b"3")))  # fmt: skip
    assert notice == (
        b"3",
        b"[lowconmon: %d messages (%d bytes) of stdout and %d messages (%d bytes) of stderr"
        b" could not be written here]" % (out, out * KIB, err, err * KIB),
        False,
    )
    assert later == (b"6", b"later", False)


# A journald that is slow, or hangs


@pytest.mark.contract("JRN-13")
def test_while_journald_is_slow_the_container_waits_and_nothing_is_lost(room: Room) -> None:
    count = room.fill()
    assert 64 <= count < 150
    room.run(lambda: len(room.fake.read(5)) > count / 2 and not room.journal.full())
    assert room.rooms == 1
    room.drain()
    assert room.numbers() == list(range(count))
    assert room.warnings == []


@pytest.mark.contract("JRN-13")
@pytest.mark.usefixtures("impatient")
def test_a_journald_that_takes_nothing_holds_the_container_up_for_so_long_and_no_longer(
    room: Room,
) -> None:
    count = room.fill()
    room.run(lambda: room.rooms)
    assert not room.journal.full()
    while not room.warnings:
        room.write(b"%7d " % count + b"x" * 1015 + b"\n")
        count += 1
        assert not room.journal.full()
    assert room.warnings == [LOST]
    assert room.numbers() == list(range(len(room.numbers())))  # it reads again
    room.run(room.journal.full)  # so it is waited for again
    room.drain()
    notice = room.texts()[-1]
    assert notice.startswith(b"[lowconmon: 1 messages (1024 bytes) of stdout could not")
    assert [int(text[:7]) for text in room.texts()[:-1]] == list(range(count - 1))
    assert room.rooms >= 2


@pytest.mark.contract("JRN-13")
@pytest.mark.usefixtures("impatient")
def test_a_journald_that_takes_one_now_and_then_is_waited_for(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = batches(monkeypatch)
    for _ in range(4):  # 4 times 0.15 s: longer than the patience
        room.fill()
        room.loop.call_later(150, room.loop.stop)
        room.loop.run()
        assert room.journal.full()
        seen.clear()
        room.fake.read(1)
        room.run(lambda: any(taken for _, taken in seen))


def test_a_journald_that_dies_while_it_is_waited_for_is_followed_by_the_next(room: Room) -> None:
    count = room.fill()
    room.fake.stop()
    room.run(lambda: room.rooms)
    assert (set(room.warnings), set(room.errors)) == ({REFUSED}, {errno.ENOENT})
    assert not room.journal.full()
    room.fake.start()
    room.drain()
    numbers = room.numbers()
    assert numbers == list(range(numbers[0], count))
    assert numbers[0] in (10, 11)  # those that the first one has taken died with it


def test_what_waits_costs_the_processor_nothing(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.fill()
    seen = batches(monkeypatch)
    room.loop.call_later(300, room.loop.stop)
    room.loop.run()
    assert seen == []


# The end


@pytest.mark.contract("JRN-16")
def test_the_end_waits_for_a_journald_that_is_slow(room: Room) -> None:
    count = room.fill()
    room.journal.close()
    room.write(b"too late\n")
    assert room.journal.holds()
    room.drain()
    assert room.numbers() == list(range(count))
    assert room.warnings == []
    assert open_sockets(room) == 1  # the fake's


@pytest.mark.contract("JRN-16")
@pytest.mark.usefixtures("impatient")
def test_the_end_waits_for_so_long_and_no_longer_and_counts_what_is_lost(room: Room) -> None:
    count = room.fill()
    room.journal.close()
    room.run(lambda: not room.journal.holds())
    lost = count - len(room.fake.read())
    assert room.warnings == [f"{lost} messages could not be written to the journal"]
    assert room.numbers() == list(range(count - lost))
    assert not room.journal.full()
    assert room.rooms == 1
    assert open_sockets(room) == 1


@pytest.mark.contract("JRN-16")
@pytest.mark.usefixtures("impatient")
def test_the_end_does_not_wait_for_a_journald_that_hangs(room: Room) -> None:
    room.fill()
    room.run(lambda: room.rooms)
    room.journal.close()
    assert not room.journal.holds()


def test_the_end_does_not_wait_for_a_journald_that_dies_meanwhile(room: Room) -> None:
    room.fill()
    room.journal.close()
    room.fake.stop()
    room.run(lambda: not room.journal.holds(), 3)
    assert len(room.warnings) == 2


def test_a_room_that_is_detached_keeps_nothing_and_lets_the_container_go_on(room: Room) -> None:
    count = room.fill()
    room.journal.detach()
    assert not room.journal.holds()
    assert (room.rooms, open_sockets(room)) == (1, 1)
    lost = count - len(room.fake.read())
    room.journal.detach()
    room.journal.close()
    assert room.warnings == [f"{lost} messages could not be written to the journal"]


def test_after_the_end_nothing_is_sent_or_kept(room: Room) -> None:
    room.write(b"held back")
    room.journal.close()
    room.write(b"too late\n")
    room.journal.finish()
    room.journal.reopen()
    room.journal.sync()
    room.journal.close()
    assert not room.journal.holds()
    assert room.texts() == []


def test_an_end_without_journald_leaves_no_timer_behind(make: Callable[..., Room]) -> None:
    room = make(missing=True)
    room.write(b"text\n")
    room.journal.close()
    assert not room.journal.holds()
    assert room.warnings == [REFUSED] * 2 + ["1 messages could not be written to the journal"]
    room.loop.call_later(250, room.loop.stop)
    room.loop.run()
    assert len(room.warnings) == 3


@pytest.mark.contract("END-8")
def test_the_end_waits_for_a_turn_of_the_journal_hardly_longer_than_that() -> None:
    """Acceptable: a look every 10 ms. Not acceptable: a tenth of a second for each turn it takes."""
    delays, looks = list[float](), iter([True, True, False])

    def call_later(delay_ms: float, handler: Callable[[], object]) -> None:
        delays.append(delay_ms)
        handler()

    loop: Any = SimpleNamespace(call=lambda handler: handler(), call_later=call_later)
    driver: Any = SimpleNamespace(finish=int, holds=lambda: next(looks))
    logs, ended = Logs(loop), list[bool]()
    logs.drivers.append(driver)
    logs.finish(lambda: ended.append(True))
    assert ended == [True]
    assert sum(delays) <= 20
