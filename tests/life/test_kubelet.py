"""The log under a kubelet: renamed, reopened, compressed and deleted while the container writes.

Acceptable: every line that the container wrote stands once, whole and in order, in the files that
there are and were, and whoever waits for the reopening is woken, every time. Not acceptable: a line
that the kubelet's reader refuses, a watcher that is left waiting.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.disk import Disk
from tests.support.kubelet import (
    REOPEN,
    Kubelet,
    Watch,
    content_of,
    history,
    logged,
    records,
    reopen,
    texts,
)
from tests.support.life import Gate, Life, assert_idle, read_if_there, wait_until
from tests.support.load import Load
from tests.support.rotation import backups
from tests.support.witness import gone

ROUNDS = 10
# With --log-rotate the log is rotated when the path is still the monitor's; under a kubelet it never
# is. The limit is such that a load passes it a few times.
PLAIN: list[str] = []
ROTATE = ["--log-rotate", "--log-max-files", "100"]
LIMIT = [*ROTATE, "--log-size-max", "400000"]
OPTIONS = pytest.mark.parametrize("options", [PLAIN, ROTATE], ids=["plain", "log-rotate"])


@pytest.fixture
def load(life: Life, logs: Path) -> Iterator[Load]:
    """Give a container that writes until it is stopped."""
    assert logs.is_dir()
    one = Load(life)
    life.stub(one.container)
    yield one
    one.stop()


def start(life: Life, options: list[str]) -> Life:
    life.start("--no-sync-log", *options)
    life.pid()
    return life


def look(log: Path) -> tuple[int, int] | None:
    """Return inode and size of a log that has something in it."""
    try:
        found = log.stat()
    except FileNotFoundError:
        return None
    return (found.st_ino, found.st_size) if found.st_size else None


def more(life: Life) -> None:
    """Wait until the log has something that it had not."""
    before = look(life.log)
    wait_until(lambda: look(life.log) not in (before, None), "more of the log")


def finish(load: Load) -> None:
    """Stop the container and see the life to its end."""
    load.stop()
    assert load.life.exit_status() == 3
    load.life.wait_gone()


def joined(*paths: Path) -> bytes:
    """Return what was logged to files that were set aside, in this order."""
    return b"".join(map(content_of, paths))


# A round of the kubelet


@pytest.mark.contract("REOPEN-1", "REOPEN-3", "CASE-501", "CASE-505", "LOG-24", "LOG-25")
@OPTIONS
def test_under_load_a_kubelet_rotates_again_and_again(load: Load, options: list[str]) -> None:
    """Acceptable: every line once, whole and in order, over all files.

    Not acceptable: a line lost, torn or twice, a watcher that is not woken.
    """
    life = start(load.life, options)
    kubelet = Kubelet(life)
    for _ in range(ROUNDS):
        more(life)
        kubelet.rotate()
        assert life.log.stat().st_mode & 0o7777 == 0o640
    more(life)
    finish(load)
    assert texts(kubelet.content()) == load.texts()
    # What one round leaves: three old ones, of which the youngest is not compressed yet.
    assert [path.suffix == ".gz" for path in kubelet.rotated()] == [True, True, True, False]
    assert kubelet.removed


@pytest.mark.contract("REOPEN-1", "REOPEN-3", "CASE-503", "CASE-505")
@OPTIONS
@pytest.mark.parametrize("at_once", [True, False], ids=["one write", "two writes"])
def test_two_messages_after_a_rename_lose_nothing(
    load: Load, logs: Path, options: list[str], at_once: bool
) -> None:
    """Acceptable: one fresh log or two. Not acceptable: a line lost, torn or twice."""
    life = start(load.life, options)
    for turn in range(ROUNDS):
        more(life)
        life.log.rename(logs / f"old.{turn}")
        with Watch(logs) as watch:
            for message in [2 * REOPEN] if at_once else [REOPEN, REOPEN]:
                life.control(message)
            watch.wait(life.log.name)
    more(life)
    finish(load)
    assert texts(history(logs)) == load.texts()


@pytest.mark.contract("REOPEN-1", "CASE-501")
@OPTIONS
def test_while_nothing_is_written_the_watcher_is_woken_too(
    life: Life, logs: Path, options: list[str]
) -> None:
    """Acceptable: a fresh, empty log after each rename.

    Not acceptable: a watcher that waits for output.
    """
    life.stub("echo first; read x; echo last; exit 3").start("-i", *options)
    life.pid()
    wait_until(lambda: b" first\n" in (read_if_there(life.log) or b""), "the first line")
    kubelet = Kubelet(life)
    for _ in range(2 * ROUNDS):
        kubelet.rotate()
        assert life.log.read_bytes() == b""
    client = life.attach()
    client.send(b"go\n")
    assert life.exit_status() == 3
    life.wait_gone()
    assert texts(kubelet.content()) == (b"first\nlast\n", b"")
    assert texts(life.log.read_bytes()) == (b"last\n", b"")
    assert life.log.parent == logs


# The path is still the monitor's


@pytest.mark.contract("REOPEN-4", "CASE-502", "CASE-505")
@pytest.mark.parametrize("where", ["directory", "log"])
def test_without_a_rename_whoever_watches_is_woken_and_the_file_kept(
    life: Life, logs: Path, where: str
) -> None:
    # Nothing is written: it is the message that wakes.
    life.stub("echo first; read x; exit 3").start("-i")
    life.pid()
    wait_until(lambda: b" first\n" in (read_if_there(life.log) or b""), "the first line")
    before, content = life.log.stat(), life.log.read_bytes()
    for _ in range(2 * ROUNDS):
        with Watch(logs if where == "directory" else life.log) as watch:
            life.control(REOPEN)
            watch.wait(life.log.name if where == "directory" else "")
    after = life.log.stat()
    assert (after.st_ino, life.log.read_bytes()) == (before.st_ino, content)
    assert os.listdir(logs) == [life.log.name]


@pytest.mark.contract("REOPEN-4", "CASE-502", "CASE-505")
def test_without_a_rename_nothing_is_lost_under_load(load: Load, logs: Path) -> None:
    """Acceptable: the file stays. Not acceptable: a line that was in it and is not."""
    life = start(load.life, PLAIN)
    for _ in range(ROUNDS):
        more(life)
        reopen(life)
    finish(load)
    assert texts(life.log.read_bytes()) == load.texts()
    assert os.listdir(logs) == [life.log.name]


@pytest.mark.contract("REOPEN-2", "ROT-6", "ROT-8", "CASE-502", "CASE-505")
@pytest.mark.parametrize("options", [ROTATE, LIMIT], ids=["log-rotate", "with a limit"])
def test_without_a_rename_the_log_is_rotated_with_log_rotate(
    load: Load, options: list[str]
) -> None:
    life = start(load.life, options)
    for _ in range(ROUNDS):
        before = wait_until(lambda: look(life.log), "something in the log")
        reopen(life)
        wait_until(lambda before=before: (look(life.log) or before)[0] != before[0], "a fresh log")
    finish(load)
    found = backups(life.log)
    assert len(found) >= ROUNDS
    assert all(path.stat().st_size for path in found.values())
    assert texts(logged(life.log)) == load.texts()
    assert not list(life.log.parent.glob("*.tmp"))


@pytest.mark.contract("REOPEN-5", "ROT-8", "CASE-502")
def test_an_empty_log_is_not_rotated_but_its_watcher_is_woken(life: Life, logs: Path) -> None:
    life.stub("read x; exit 3").start("-i", *ROTATE)
    life.pid()
    for _ in range(ROUNDS):
        reopen(life)
    assert os.listdir(logs) == [life.log.name]


@pytest.mark.contract("REOPEN-2", "REOPEN-3", "ROT-6", "ROT-23", "CASE-505")
def test_a_kubelet_and_a_limit_of_the_monitors_own_lose_nothing_together(
    load: Load, logs: Path
) -> None:
    # What the monitor sets aside is a rotated log to the kubelet, which compresses it; here it is
    # never too many of them.
    life = start(load.life, LIMIT)
    for turn in range(ROUNDS):
        more(life)
        with contextlib.suppress(FileNotFoundError):  # it is being rotated
            life.log.rename(logs / f"ctr.log.2026-{turn}")
        reopen(life)
    finish(load)
    assert texts(history(logs)) == load.texts()


# The path is nobody's


@pytest.mark.contract("REOPEN-1", "REOPEN-3", "CASE-501", "CASE-505")
@OPTIONS
def test_after_a_removal_only_the_removed_file_is_gone(load: Load, options: list[str]) -> None:
    life = start(load.life, options)
    held: list[int] = []  # by our descriptors the removed files can be read to the end
    try:
        for _ in range(ROUNDS):
            more(life)
            held.append(os.open(life.log, os.O_RDONLY))
            life.log.unlink()
            reopen(life)  # perhaps woken by a last write to the file that has no name any more
            wait_until(life.log.exists, "the fresh log")
        finish(load)
        removed = b"".join(Path(f"/proc/self/fd/{fd}").read_bytes() for fd in held)
    finally:
        for fd in held:
            os.close(fd)
    assert texts(removed + logged(life.log)) == load.texts()


@pytest.mark.contract("REOPEN-1", "REOPEN-3", "CASE-504", "CASE-505")
@OPTIONS
def test_in_a_directory_that_was_replaced_a_fresh_log_appears(
    load: Load, logs: Path, options: list[str]
) -> None:
    life = start(load.life, options)
    old: list[Path] = []
    for turn in range(ROUNDS):
        more(life)
        aside = logs.rename(logs.with_name(f"logs.{turn}"))
        old.append(aside / life.log.name)
        logs.mkdir()
        reopen(life)
    finish(load)
    assert texts(joined(*old) + logged(life.log)) == load.texts()


@pytest.mark.contract("REOPEN-1", "CASE-504", "CASE-505")
@OPTIONS
def test_while_the_directory_is_gone_the_old_file_takes_the_lines(
    load: Load, logs: Path, options: list[str]
) -> None:
    """Acceptable: the lines stand in the file that has no place any more.

    Not acceptable: a line lost, an end of the life.
    """
    life = start(load.life, options)
    more(life)
    aside = logs.rename(logs.with_name("aside")) / life.log.name
    for _ in range(ROUNDS):
        life.control(REOPEN)  # nobody can watch the path
        size = aside.stat().st_size
        wait_until(lambda size=size: aside.stat().st_size > size, "more of the old log")
    logs.mkdir()
    reopen(life)
    finish(load)
    assert texts(joined(aside) + logged(life.log)) == load.texts()


@pytest.mark.contract("REOPEN-1", "REOPEN-3")
@OPTIONS
def test_a_file_that_somebody_made_meanwhile_is_gone_on_in(
    load: Load, logs: Path, options: list[str]
) -> None:
    # As when the kubelet itself touches it. The create has happened before the watch: a write wakes.
    life = start(load.life, options)
    old: list[Path] = []
    for turn in range(ROUNDS):
        more(life)
        old.append(life.log.rename(logs / f"old.{turn}"))
        life.log.touch()
        reopen(life)
    finish(load)
    assert texts(joined(*old) + logged(life.log)) == load.texts()


# The disk is full


@pytest.mark.contract("REOPEN-1", "REOPEN-3", "LOG-36", "CASE-401", "CASE-505")
@OPTIONS
def test_on_a_full_disk_the_kubelets_rounds_make_room_and_lose_nothing(
    life: Life, options: list[str]
) -> None:
    gate = Gate(life.directory / "go")
    try:
        with Disk(life) as disk:
            load = Load(life, lines=12_000, end=f"open({str(gate.path)!r}).readline()")
            life.stub(load.container)
            disk.start("--no-sync-log", *options)
            life.pid()
            kubelet, rounds = Kubelet(life), 0
            while not load.count.exists():
                wait_until(lambda: load.count.exists() or disk.is_full(), "a full disk")
                for path in kubelet.rotated():  # there is no space to compress it
                    kubelet.removed.append(content_of(path))
                    path.unlink()
                kubelet.rotate()
                rounds += 1
            gate.open()
            assert life.exit_status() == 3
            life.wait_gone()
            assert rounds > 2
            assert texts(kubelet.content()) == load.texts()
    finally:
        gate.close()


@pytest.mark.contract("REOPEN-1", "REOPEN-2", "REOPEN-4", "REOPEN-5", "LOG-36", "CASE-401")
@OPTIONS
@pytest.mark.parametrize("before", ["renamed", "kept", "removed"])
def test_on_a_full_disk_the_watcher_is_woken(life: Life, options: list[str], before: str) -> None:
    with Disk(life, mib=8) as disk:
        load = Load(life, lines=6000)
        life.stub(load.container)
        disk.fill(leave=65536)
        disk.start("--no-sync-log", *options)
        pid = life.pid()
        assert_idle(pid)  # it waits for the log
        first = os.open(life.log, os.O_RDONLY)
        try:
            if before == "renamed":
                life.log.rename(life.log.with_name("old"))
            elif before == "removed":
                life.log.unlink()  # which gives no space back: it is open
            for _ in range(3):
                reopen(life)
            assert not load.count.exists()
            old = Path(f"/proc/self/fd/{first}").read_bytes()
            assert records(old)
            disk.free()
            assert life.exit_status() == 3
            life.wait_gone()
        finally:
            os.close(first)
        new = logged(life.log)
        assert texts(new if before == "kept" else old + new) == load.texts()


# The container has ended


@pytest.mark.contract("REOPEN-1", "REOPEN-3", "END-2", "END-6", "CASE-505")
@OPTIONS
def test_in_a_drain_a_kubelet_rotates_too(life: Life, logs: Path, options: list[str]) -> None:
    # The container ends while a child of its own writes on: for a second that is drained.
    load = Load(life, lines=3000)
    # It ends when nobody reads it, and says no more than the test can check in seconds.
    talk = "while echo drained; do sleep 0.001; done"
    flood = f"os.fork() or os.execvp('sh', ['sh', '-c', '{talk}'])"
    script = life.directory / "load.py"
    script.write_text(script.read_text().replace("os._exit(3)", f"{flood}\nos._exit(3)"))
    life.stub(load.container)
    start(life, options)
    kubelet = Kubelet(life)
    pid = int(life.pid_file.read_text())
    wait_until(lambda: gone(pid), "the container's end")
    assert not (life.exit_dir / life.cid).exists(), "too late: the drain is over"
    kubelet.rotate()
    more(life)
    kubelet.rotate()
    assert life.exit_status() == 3
    life.wait_gone()
    out, err = texts(kubelet.content())
    expected = load.texts()
    assert err == expected[1]
    assert out.startswith(expected[0])
    rest = out.removeprefix(expected[0])
    assert rest == (b"drained\n" * len(rest))[: len(rest)]
    assert logs.is_dir()
