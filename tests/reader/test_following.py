"""Following: every line once and in order, whatever is renamed, compressed or cut under the reader."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import SLOWNESS, wait_for

from .writer import (
    DEADLINE_S,
    Follower,
    Writer,
    command,
    compress,
    environment,
    record,
    records,
    run,
    said,
)


@pytest.fixture(params=[False, True], ids=["k8s-file", "json-file"])
def writer(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Writer]:
    """Give a log of either format."""
    with Writer(tmp_path / "ctr.log", json_file=request.param) as one:
        yield one


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Give the path of a log."""
    return tmp_path / "ctr.log"


def test_what_comes_is_shown_as_it_comes(writer: Writer) -> None:
    writer.say(3)
    with Follower(writer.path) as follower:
        follower.wait(said(1, 3))
        for number in range(4, 20):
            writer.say()
            follower.wait(said(1, number))
        assert follower.end() == -signal.SIGINT


@pytest.mark.parametrize("count", [0, 1, 5])
def test_it_begins_where_tail_says(writer: Writer, count: int) -> None:
    writer.say(3).rotate()
    writer.say(3)
    with Follower("-n", str(count), writer.path) as follower:
        follower.settle(writer.path)
        follower.wait(said(7 - count, 6))
        writer.say()
        follower.wait(said(7 - count, 7))


def test_a_log_that_does_not_exist_yet_is_waited_for(log: Path) -> None:
    other = log.with_name("other.log")
    other.write_bytes(records(1, 1))
    with Follower(log, other) as follower:
        follower.wait(b"other.log | line 1\n")
        with Writer(log) as writer:
            writer.say(2)
            expected = b"other.log | line 1\nctr.log | line 1\nctr.log | line 2\n"
            follower.wait(expected)
            writer.rotate()
            writer.say()
            follower.wait(expected + b"ctr.log | line 3\n")


def test_a_log_may_be_moved_to_its_place(log: Path) -> None:
    with Follower(log, log.with_name("other")) as follower:
        log.with_name("other").write_bytes(records(1, 1))
        follower.wait(b"other | line 1\n")
        log.with_name("new").write_bytes(records(2, 3))
        log.with_name("new").rename(log)
        follower.wait(b"other | line 1\nctr.log | line 2\nctr.log | line 3\n")


# Rotation


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_rotation_by_the_monitor_is_followed(writer: Writer, keep: int) -> None:
    writer.say(2)
    with Follower(writer.path) as follower:
        follower.wait(said(1, 2))
        for _ in range(6):
            writer.say(2).rotate(keep)
            follower.wait(said(1, writer.number))
            writer.say()
            follower.wait(said(1, writer.number))
        assert follower.end() == -signal.SIGINT


def test_rotation_by_the_kubelet_is_followed(writer: Writer) -> None:
    old = None
    with Follower(writer.path) as follower:
        for _ in range(5):
            writer.say(2)
            follower.wait(said(1, writer.number))
            new = writer.rename()
            writer.say()
            follower.wait(said(1, writer.number))
            if old:
                compress(old)
            writer.say().reopen()
            old = new
            writer.say()
        follower.wait(said(1, writer.number))


@pytest.mark.parametrize("rotations", [1, 2, 4])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("how", ["monitor", "kubelet"])
def test_rotations_between_two_looks_lose_nothing_and_double_nothing(
    writer: Writer, how: str, packed: bool, rotations: int
) -> None:
    def rotate() -> None:
        if how == "monitor":
            writer.rotate()
            path = writer.rotated(1)
        else:
            path = writer.rename()
            writer.say().reopen()
        if packed:
            compress(path)

    for _ in range(2):
        writer.say(3)
        rotate()
    writer.say(2)
    with Follower(writer.path) as follower:
        follower.wait(said(1, writer.number))
        for _ in range(3):
            follower.pause()
            writer.say(2)
            for _ in range(rotations):
                rotate()
                writer.say(3)
            follower.go_on()
            follower.wait(said(1, writer.number))


def test_older_files_that_are_compressed_meanwhile_are_not_shown_again(writer: Writer) -> None:
    for _ in range(3):
        writer.say(2).rotate()
    with Follower(writer.path) as follower:
        follower.wait(said(1, 6))
        follower.pause()
        for number in (3, 2, 1):
            compress(writer.rotated(number))
        writer.say(2).rotate()
        compress(writer.rotated(1))
        writer.say()
        follower.go_on()
        follower.wait(said(1, 9))
        writer.say(2)
        follower.wait(said(1, 11))


def test_backups_that_lie_there_are_not_shown_again_when_the_log_is_replaced(
    writer: Writer,
) -> None:
    for _ in range(3):
        writer.say(2).rotate()
    with Follower(writer.path) as follower:
        writer.say()
        follower.wait(said(1, 7))
        for _ in range(3):
            follower.pause()
            writer.rotate(keep=0)
            writer.say()
            follower.go_on()
            follower.wait(said(1, writer.number))


def test_backups_that_came_meanwhile_are_not_shown_again_when_the_log_is_replaced(
    writer: Writer,
) -> None:
    with Follower(writer.path) as follower:
        for keep in (9, 9, 0, 9, 0):
            writer.say(2)
            follower.wait(said(1, writer.number))
            writer.rotate(keep)
            writer.say()
            follower.wait(said(1, writer.number))


def test_what_was_dropped_before_it_was_seen_is_all_that_is_lost(writer: Writer) -> None:
    writer.say(2)
    with Follower(writer.path) as follower:
        follower.wait(said(1, 2))
        follower.pause()
        for _ in range(4):
            writer.say().rotate(keep=2)
        writer.say()
        follower.go_on()
        follower.wait(said(1, 3) + said(5, 7))  # 3: in the file that was held


def test_a_log_may_be_removed_and_made_anew(writer: Writer) -> None:
    with Follower(writer.path) as follower:
        for _ in range(3):
            writer.say()
            follower.wait(said(1, writer.number))
            writer.path.unlink()
            writer.say().reopen()
            follower.wait(said(1, writer.number))


@pytest.mark.parametrize("how", ["monitor", "kubelet"])
def test_a_load_with_rotation_all_the_time_is_shown_line_by_line(writer: Writer, how: str) -> None:
    """Not acceptable: a line that is missing, twice, torn or early."""
    total = 40_000

    def load() -> None:
        old: Path | None = None
        while writer.number < total:
            writer.say(1000)
            if how == "monitor":
                writer.rotate(keep=50)
                old = writer.rotated(2)
                new = old
            else:
                new = writer.rename()
                writer.say(1000).reopen()
            if old and old.exists() and writer.number % 3000:
                compress(old)
            old = new

    with Follower(writer.path) as follower:
        thread = threading.Thread(target=load)
        thread.start()
        try:
            follower.wait(said(1, total))
        finally:
            thread.join()


@pytest.mark.parametrize("how", ["monitor", "kubelet"])
def test_a_reader_that_comes_in_the_midst_of_rotations_sees_one_moment(
    writer: Writer, how: str
) -> None:
    """Not acceptable: a gap, or a line twice, because files were renamed while they were opened."""
    pace = threading.Event()

    def rotate() -> None:
        for _ in range(150):
            writer.say()
            if how == "monitor":
                writer.rotate(keep=1000)
            else:
                path = writer.rename()
                writer.reopen()
                compress(path)
            pace.wait(0.005)  # time for what is rotated, too

    thread = threading.Thread(target=rotate)
    thread.start()
    try:
        while thread.is_alive():
            shown, stderr, status = run(writer.path)
            assert (stderr, status) == (b"", 0)
            assert shown == said(1, shown.count(b"\n"))
    finally:
        thread.join()


# What is not whole


def test_a_record_that_is_half_written_is_waited_for(writer: Writer) -> None:
    with Follower(writer.path) as follower:
        writer.say()
        for cut in (1, 5, -1):
            follower.wait(said(1, writer.number))
            whole = records(writer.number + 1, writer.number + 1, json_file=writer.json_file)
            writer.number += 1
            writer.write(whole[:cut])
            follower.pause()
            follower.go_on()
            writer.write(whole[cut:])
        follower.wait(said(1, writer.number))


def test_a_record_that_was_begun_and_cut_off_again_leaves_no_trace(writer: Writer) -> None:
    with Follower(writer.path) as follower:
        for length in (1, 10, 45, 50):
            writer.say()
            follower.wait(said(1, writer.number))
            size = writer.path.stat().st_size
            writer.write(record(99999, b"never whole" * 20, json_file=writer.json_file)[:length])
            follower.pause()
            if length > 10:
                follower.go_on()  # and may read it, or not
            os.ftruncate(writer.fd, size)
            follower.go_on()
            writer.say()
            follower.wait(said(1, writer.number))


def test_a_log_that_is_truncated_in_place_is_read_from_its_start(writer: Writer) -> None:
    with Follower(writer.path) as follower:
        for _ in range(3):
            writer.say(5)
            follower.wait(said(1, writer.number))
            os.ftruncate(writer.fd, 0)
            writer.say(2)
            follower.wait(said(1, writer.number))


def test_a_torn_record_in_a_rotated_file_is_not_glued_to_the_next(writer: Writer) -> None:
    with Follower(writer.path) as follower:
        writer.say()
        writer.write(record(1, b"torn", json_file=writer.json_file)[:30])
        follower.wait(said(1, 1))
        writer.rotate()
        writer.say()
        follower.wait(said(1, 2))


def test_a_prompt_is_shown_and_its_line_goes_on(log: Path) -> None:
    with Writer(log) as writer, Follower("-t", log) as follower:
        shown = b""
        for name in (b"one", b"two"):
            for text, tag in ((b"name", "P"), (b": ", "P"), (name, "P"), (b"", "F")):
                writer.write(record(1, text, tag=tag))
                shown += record(1)[:36] * (text == b"name") + text + b"\n" * (tag == "F")
                follower.wait(shown)


def test_another_line_comes_on_a_line_of_its_own(log: Path) -> None:
    with Writer(log) as writer, Follower(log) as follower:
        writer.write(record(1, b"name: ", tag="P"))
        follower.wait(b"name: ")
        writer.write(record(2, b"oh", "stderr"))
        follower.wait(b"name: \noh\n")
        writer.write(record(3, b"one"))
        follower.wait(b"name: \noh\none\n")


def test_a_partial_record_goes_on_after_the_rotation(writer: Writer) -> None:
    with Follower(writer.path) as follower:
        writer.write(record(1, b"a", tag="P", json_file=writer.json_file))
        follower.wait(b"a")
        writer.rotate()
        writer.write(record(2, b"b", json_file=writer.json_file))
        follower.wait(b"ab\n")


# The end


def test_several_logs_are_followed_at_once(tmp_path: Path) -> None:
    (tmp_path / "two").mkdir()
    one, two = tmp_path / "a.log", tmp_path / "two/b.log"
    with Writer(one) as first, Writer(two) as second, Follower(one, two) as follower:
        shown = b""
        for number in range(1, 10):
            for writer in (first, second):
                writer.say()
                shown += writer.path.name.encode() + b" | line %d\n" % number
                follower.wait(shown)
                if number % 3 == 0:
                    writer.rotate()
        assert follower.end() == -signal.SIGINT


def test_following_ends_at_until(log: Path) -> None:
    log.write_bytes(records(1, 3))
    with Follower("--until", "2026-11-23T14:30:00.002Z", log) as follower:
        follower.wait(said(1, 2))
        assert follower.process.wait(DEADLINE_S * SLOWNESS) == 0
        assert os.read(follower.fd, 1) == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly(writer: Writer, number: int) -> None:
    writer.say()
    with Follower(writer.path) as follower:
        follower.wait(said(1, 1))
        assert follower.end(number) == -number  # for a shell: 130, 143


def test_a_reader_in_the_background_is_not_interrupted(writer: Writer) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell without job control does
    try:
        follower = Follower(writer.path)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with follower:
        writer.say()
        follower.wait(said(1, 1))
        follower.process.send_signal(signal.SIGINT)
        writer.say()
        follower.wait(said(1, 2))


def test_it_ends_when_nobody_reads_it_though_nothing_comes(log: Path) -> None:
    log.write_bytes(records(1, 3))
    done = subprocess.run(
        ["bash", "-c", '"$@" | head -n 1; echo ${PIPESTATUS[0]}', "sh", *command("-f", log)],
        capture_output=True,
        env=environment(),
        timeout=DEADLINE_S * SLOWNESS,
        check=True,
    )
    assert (done.stdout, done.stderr) == (b"line 1\n141\n", b"")


def test_what_is_written_after_the_directory_is_gone_is_shown(tmp_path: Path) -> None:
    directory = tmp_path / "ctr"
    directory.mkdir()
    with Writer(directory / "ctr.log") as writer:
        writer.say(2)
        with Follower(writer.path) as follower:
            follower.wait(said(1, 2))
            shutil.rmtree(directory)
            writer.say(2)
            follower.wait(said(1, 4))


def test_a_directory_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with Follower(tmp_path / "no/ctr.log") as follower:
        told = f"lowconmon logs: {tmp_path}/no/ctr.log: No such file or directory\n".encode()
        follower.wait(told)
        assert follower.process.wait(DEADLINE_S * SLOWNESS) == 1


def test_a_reader_that_is_slow_loses_nothing(writer: Writer) -> None:
    """Its output is a pipe that does not block, and is full most of the time."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    try:
        process = subprocess.Popen(
            command("-f", writer.path), stdout=writing, env=environment(), stdin=subprocess.DEVNULL
        )
    finally:
        os.close(writing)
    try:
        writer.say(30_000)
        text, expected = b"", said(1, 30_000)
        while len(text) < len(expected):
            wait_for(reading, DEADLINE_S)
            piece = os.read(reading, 3000)
            assert piece
            text += piece
        assert text == expected
    finally:
        process.kill()
        process.wait()
        os.close(reading)
