"""/proc/PID/cgroup, memory.events and memory.oom_control."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given, strategies as st

from lowconmon.pure.cgroups import event_files, ooms

V1 = b"""\
12:pids:/user.slice
11:hugetlb:/
9:memory:/machine.slice/libpod-1.scope
4:cpu,cpuacct:/user.slice
1:name=systemd:/user.slice/user-0.slice
"""
HYBRID = V1 + b"0::/user.slice/of-v2\n"
V1_FILE = b"/memory/machine.slice/libpod-1.scope/memory.oom_control"


def v2(path: bytes) -> list[bytes]:
    """Return where the events of a cgroup of v2 may be."""
    return [path + b"/memory.events", b"/unified" + path + b"/memory.events"]


NOWHERE = v2(b"/")  # where no machine has a file: the root has none

MEMBERSHIPS = {
    "v2": (b"0::/a/b.scope\n", v2(b"/a/b.scope")),
    "v2 without a newline": (b"0::/a", v2(b"/a")),
    "v1": (V1, [V1_FILE]),
    "v1 beside v2": (HYBRID, [V1_FILE]),
    "v1 behind v2": (b"0::/a\n3:memory:/b\n", [b"/memory/b/memory.oom_control"]),
    "v1 with other controllers": (b"3:cpu,memory:/b\n", [b"/memory/b/memory.oom_control"]),
    "v1 without memory beside v2": (b"3:cpu:/b\n1:name=systemd:/c\n0::/a\n", v2(b"/a")),
    "a hierarchy that is only named memory": (b"3:name=memory:/b\n0::/a\n", v2(b"/a")),
    "a controller that is only called alike": (b"3:memory2,my-memory:/b\n0::/a\n", v2(b"/a")),
    "v1 of a process that has ended": (b"3:memory:/\n0::/a\n", v2(b"/a")),
    "a colon in the path": (b"3:memory:/a:b::c\n", [b"/memory/a:b::c/memory.oom_control"]),
    "blanks in the path": (b"0::/a b/\tc\n", v2(b"/a b/\tc")),
    "what looks like an escape": (b"0::/a\\040b\n", v2(b"/a\\040b")),
    "no UTF-8 in the path": (b"0::/\xff\n", v2(b"/\xff")),
    "dots that lead nowhere": (b"0::/..a/b../...\n", v2(b"/..a/b../...")),
    "a removed cgroup": (b"0::/a (deleted)\n", v2(b"/a (deleted)")),
    "above our namespace": (b"0::/..\n", NOWHERE),
    "beside our namespace": (b"0::/../../a\n", NOWHERE),
    "v1 beside our namespace": (b"3:memory:/../a\n", NOWHERE),
    "dots on the way": (b"0::/a/../../etc\n", NOWHERE),
    "the root": (b"0::/\n", NOWHERE),
    "no absolute path": (b"0::a\n", NOWHERE),
    "no path": (b"0::\n3:memory:\n", NOWHERE),
    "half a line": (b"0:", NOWHERE),
    "nothing": (b"", NOWHERE),
    "garbage": (b"\xff\0:::\n\n::\n", NOWHERE),
}


@pytest.mark.contract("OOM-1", "OOM-5", "OOM-12", "OOM-13")
@pytest.mark.parametrize("what", MEMBERSHIPS)
def test_the_events_stand_in_the_cgroup_that_has_the_memory(what: str) -> None:
    content, files = MEMBERSHIPS[what]
    assert event_files(content) == files


@given(st.binary(max_size=200))
@example(b"0::/a/../b")
@example(b"memory:memory:/..")
def test_whatever_is_read_no_path_leads_out_of_the_mount(content: bytes) -> None:
    files = event_files(content)
    assert len(files) in {1, 2}
    for file in files:
        assert file.startswith(b"/")
        assert os.path.normpath(b"/mount" + file).startswith(b"/mount/")
        assert b"\n" not in file


@given(st.lists(st.text("abc:,.é ", min_size=1).map(lambda text: f"/{text}".encode()), max_size=4))
def test_one_line_of_memory_decides_wherever_it_stands(paths: list[bytes]) -> None:
    paths = [path for path in paths if path != b"/.."]
    others = b"".join(b"%d:cpu%d:%b\n" % (n, n, path) for n, path in enumerate(paths))
    for content in (b"99:memory:/x\n" + others, others + b"99:memory:/x\n0::/y\n"):
        assert event_files(content) == [b"/memory/x/memory.oom_control"]


def test_our_own_cgroups_are_read_as_they_are() -> None:
    content = Path("/proc/self/cgroup").read_bytes()
    lines = content.splitlines()
    memory = [line.split(b":", 2)[2] for line in lines if b":memory:" in line]
    unified = [line[3:] for line in lines if line.startswith(b"0::")]
    if memory and memory != [b"/"]:
        assert event_files(content) == [b"/memory%b/memory.oom_control" % memory[0]]
    else:
        assert event_files(content) == v2(unified[0])


# Counts

EVENTS = b"low 1\nhigh 22\nmax 333\noom %d\noom_kill %d\noom_group_kill 1\n"


@pytest.mark.contract("OOM-2")
@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (EVENTS % (0, 0), []),
        (EVENTS % (1, 0), [b"oom 1"]),
        (EVENTS % (0, 1), [b"oom_kill 1"]),
        (EVENTS % (12, 10), [b"oom 12", b"oom_kill 10"]),
        (EVENTS % (2**64 - 1, 0), [b"oom 18446744073709551615"]),
        (b"oom_kill_disable 1\nunder_oom 1\noom_kill 0\n", []),
        (b"oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", [b"oom_kill 3"]),
        (b"oom_kill 3", [b"oom_kill 3"]),
        (b"oom 00\noom_kill 0", []),
        (b"oom\noom_kill \noom -1\noom +1\noom 0x1\noom 1.0\noom  1\noom 1 \noom 1 2\n", []),
        ("oom ٤\n".encode(), []),
        (b" oom 1\nOOM 1\noom\t1\noom=1\nxoom 1\noom_killed 1\n", []),
        (b"oom 1\0\n", []),
        (b"", []),
        (b"\n\n", []),
        (b"\xff\xfe garbage\noom 1\n", [b"oom 1"]),
    ],
)
def test_counts_other_than_0_are_found_among_all_the_others(
    content: bytes, lines: list[bytes]
) -> None:
    assert ooms(content) == set(lines)


@pytest.mark.contract("OOM-2")
@pytest.mark.parametrize(
    ("before", "after", "happened"),
    [
        ((0, 0), (0, 0), False),
        ((0, 0), (1, 0), True),
        ((0, 0), (0, 1), True),
        ((3, 2), (3, 2), False),
        ((3, 2), (4, 2), True),
        ((3, 2), (3, 3), True),
        ((9, 9), (10, 9), True),
        ((3, 2), (2, 2), True),  # other than last seen
        ((3, 2), (0, 0), False),
    ],
)
def test_an_oom_is_a_count_that_was_not_seen(
    before: tuple[int, int], after: tuple[int, int], *, happened: bool
) -> None:
    assert bool(ooms(EVENTS % after) - ooms(EVENTS % before)) is happened


@given(st.binary(max_size=300))
@example(b"oom " + b"9" * 250)
def test_whatever_is_read_is_a_count_or_none(content: bytes) -> None:
    for line in ooms(content):
        name, count = line.split(b" ")
        assert name in {b"oom", b"oom_kill"}
        assert int(count) > 0


@given(
    st.integers(0, 2**64),
    st.integers(0, 2**64),
    st.lists(st.sampled_from([b"high 9", b"max 1", b"sock_throttled 7", b"", b"oom_group_kill 5"])),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_lines_does_not_matter(oom, kill, others, random) -> None:
    lines = [b"oom %d" % oom, b"oom_kill %d" % kill, *others]
    random.shuffle(lines)
    assert len(ooms(b"\n".join(lines))) == bool(oom) + bool(kill)
