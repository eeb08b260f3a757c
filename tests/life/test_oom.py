"""Lives whose memory runs out: in real cgroups, and in stand-ins for what this machine has not.

Acceptable: the empty files `oom` where it ran out, and nothing where it did not; a warning when that
cannot be known. Not acceptable: a life that ends otherwise, or later, for what cgroups are like.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.life.test_hostrun_lives import Container
from tests.support import ROOT, faults
from tests.support.cgroups import HUNGRY, QUIET, V1, MemoryGroup, StandIn
from tests.support.life import Gate, Life, program, read_if_there, wait_until
from tests.support.operators import exit_json
from tests.support.syslog import Syslog
from tests.support.witness import Inotify


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    with MemoryGroup() as one:
        yield one


def places(life: Life) -> list[Path]:
    return [life.persist_dir / "oom", life.bundle / "oom"]


def told(life: Life) -> bool:
    """Tell whether the files are there; both or none, and empty."""
    found = [read_if_there(path) for path in places(life)]
    assert found in ([None, None], [b"", b""])
    return found[0] is not None


def wait_told(life: Life) -> None:
    wait_until(lambda: all(path.exists() for path in places(life)), "the files `oom`")


def watches(life: Life, pid: int = 0) -> list[str]:
    """Return what of a watch the monitor has open."""
    folder = Path(f"/proc/{pid or life.monitor_pid()}/fd")
    links = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            links.append(os.readlink(path))
    return sorted(link for link in links if link.endswith(("inotify", ":[eventfd]", ".events")))


# Real memory


@pytest.mark.contract("OOM-3", "OOM-4", "END-3", "END-6", "REC-2")
def test_a_container_that_is_killed_for_its_memory_has_its_oom_before_its_exit(
    life: Life, group: MemoryGroup
) -> None:
    with Inotify(life.persist_dir) as persist, Inotify(life.exit_dir) as exits:
        life.stub(f"exec {HUNGRY}", after=group.enter()).start()
        life.pid()
        assert life.exit_status() == 137
        assert told(life)
        names = [name for _, name in persist.events()]
        assert names.index("oom") < names.index("exit")
        assert exits.events()
    record = exit_json(life)
    assert (record["cause"], record["signal"]) == ("oom", signal.SIGKILL)
    assert group.counted() == 1


@pytest.mark.contract("OOM-3", "OOM-5", "OOM-8")
def test_a_child_that_is_killed_for_its_memory_is_told_while_the_container_lives(
    life: Life, gate: Gate, group: MemoryGroup
) -> None:
    script = f"read x <{gate.path}; {HUNGRY}; echo child $?; read x <{gate.path}; exit 3"
    life.stub(script, after=group.enter()).start()
    life.pid()
    assert not told(life)
    gate.open()
    wait_told(life)
    assert not life.exit_dir.joinpath(life.cid).exists()
    gate.open()
    assert life.exit_status() == 3
    assert life.text() == b"child 137\n"
    assert exit_json(life)["cause"] == "exited"


def test_a_container_that_stays_below_its_limit_has_no_oom(life: Life, group: MemoryGroup) -> None:
    # Acceptable where it must give back what it can: a file's pages count too, and are no OOM.
    big = life.directory / "big"
    big.write_bytes(bytes(40 << 20))
    life.stub(f"cat {big} | wc -c", after=group.enter()).start()
    life.pid()
    assert life.exit_status() == 0
    assert life.text() == b"%d\n" % (40 << 20)
    assert not told(life)
    assert group.counted() == 0


@pytest.mark.contract("OOM-6", "OOM-11")
def test_the_removal_of_a_real_cgroup_of_v1_under_a_container_is_no_oom(
    life: Life, gate: Gate
) -> None:
    if not V1:
        pytest.skip("this machine has no memory controller of v1")
    with MemoryGroup() as group:
        life.stub(f"read x <{gate.path}; exit 3", after=group.enter()).start()
        pid = life.pid()
        assert watches(life) == ["anon_inode:[eventfd]"]
        group.path.parent.joinpath("cgroup.procs").write_text(str(pid))
        wait_until(group.remove, "the container has left")
    wait_until(lambda: not watches(life), "the end of the watch")
    assert not told(life)
    gate.open()
    assert life.exit_status() == 3
    assert not told(life)


@pytest.mark.contract("OOM-9")
def test_an_exec_session_does_not_inherit_what_happened_before(
    life: Life, group: MemoryGroup
) -> None:
    life.stub(f"exec {HUNGRY}", after=group.enter()).start()
    life.pid()
    assert life.exit_status() == 137
    assert group.counted() == 1
    life.wait_gone()
    directory = life.directory / "exec"
    directory.mkdir()
    session = Life(directory, life.cid)
    try:
        for script, happened in (("exit 3", False), (HUNGRY, True)):
            session.stub(script, after=group.enter()).start(exec_session=True)
            session.pid()
            while session.message():
                continue
            assert told(session) is happened
            session.end()
    finally:
        session.end()


@pytest.mark.contract("OOM-3")
def test_a_container_of_hostrun_that_moves_into_its_cgroup_itself_is_watched_in_ours(
    life: Life, group: MemoryGroup
) -> None:
    # A cgroup that a process enters behind the runtime's back is nobody's to know; no harm is done.
    container = Container(life).configure(f"{group.enter('$$')}; exec {HUNGRY}")
    life.start()
    life.pid()
    container.start()
    assert life.exit_status() == 137
    assert not told(life)
    container.run("delete", "--force", life.cid)


@pytest.mark.contract("OOM-3", "OOM-10")
def test_a_container_of_hostrun_in_a_cgroup_below_our_own_is_watched(
    life: Life, group: MemoryGroup
) -> None:
    container = Container(life).configure(HUNGRY)
    real = life.runtime.rename(life.runtime.with_name("runtime-itself"))
    life.script(
        f'#!/bin/sh\n{real} "$@" || exit\n'
        f"[ -s {life.pid_file} ] && {group.enter(f'$(cat {life.pid_file})')}\n"
    )
    life.start()
    life.pid()
    life.runtime = real
    container.start()
    assert life.exit_status() == 137
    assert told(life)
    container.run("delete", "--force", life.cid)


# A stand-in for v2


@pytest.mark.contract("OOM-1", "OOM-2", "OOM-3", "OOM-8", "OOM-10")
def test_of_many_events_of_v2_the_oom_is_told_while_the_container_lives(
    life: Life, gate: Gate
) -> None:
    stand_in = StandIn(life)
    life.stub(f"read x <{gate.path}; exit 3", after=stand_in.after).start()
    life.pid()
    assert "anon_inode:inotify" in watches(life)  # it stands already
    for number in range(1, 300):
        stand_in.tell(high=number, max=number // 2)
    life.attach()  # behind the events: they are read
    assert not told(life)
    stand_in.tell(oom_kill=1)
    wait_told(life)
    gate.open()
    assert life.exit_status() == 3


@pytest.mark.contract("OOM-9", "OOM-10")
@pytest.mark.parametrize("exec_session", [False, True])
def test_what_v2_counted_before_is_told_of_a_fresh_container_alone(
    life: Life, gate: Gate, *, exec_session: bool
) -> None:
    stand_in = StandIn(life, events=QUIET.replace(b"oom_kill 0", b"oom_kill 1"))
    life.stub(f"read x <{gate.path}; exit 3", after=stand_in.after)
    life.start(exec_session=exec_session)
    life.pid()
    assert told(life) is not exec_session  # before the pid was reported
    stand_in.tell(oom_kill=2)
    wait_told(life)
    gate.open()
    assert life.exit_status() == 3


@pytest.mark.contract("OOM-14")
def test_what_v2_counted_in_a_cgroup_that_is_ours_too_is_not_told(life: Life, gate: Gate) -> None:
    stand_in = StandIn(life, events=QUIET.replace(b"oom_kill 0", b"oom_kill 1"))
    life.command = [
        *life.command[: -len(program())],
        *("sh", "-c", 'mount --bind "$1" /proc/$$/cgroup && shift && exec "$@"', "sh"),
        *(str(life.directory / "membership"), *program()),
    ]
    life.stub(f"read x <{gate.path}; exit 3", after=stand_in.after).start("--sync", wait=False)
    life.pid()
    assert life.launcher
    assert watches(life, life.launcher.pid)
    gate.open()
    assert life.exit_status() == 3
    assert not told(life)


@pytest.mark.contract("OOM-4", "OOM-11", "END-6")
def test_the_last_look_comes_before_the_exit_files(life: Life, gate: Gate) -> None:
    stand_in = StandIn(life)
    life.stub(f"read x <{gate.path}; exit 3", after=stand_in.after).start()
    life.pid()
    with stand_in.events.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:] = QUIET.replace(b"oom 0", b"oom 1")  # no inotify event
    with Inotify(life.persist_dir) as persist:
        gate.open()
        assert life.exit_status() == 3
        assert told(life)
        names = [name for _, name in persist.events()]
    assert names.index("oom") < names.index("exit")


@pytest.mark.contract("OOM-4", "END-5")
def test_a_container_that_runs_out_of_time_has_its_last_look_too(life: Life) -> None:
    stand_in = StandIn(life)
    life.stub("exec sleep 60", after=stand_in.after).start("--timeout", "1")
    life.pid()
    with stand_in.events.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[:] = QUIET.replace(b"oom 0", b"oom 1")
    assert life.exit_status() == -1
    life.wait_gone()
    assert told(life)


@pytest.mark.contract("OOM-11")
def test_a_cgroup_that_is_gone_at_the_last_look_is_no_oom(life: Life, gate: Gate) -> None:
    # The file is there still, and can no more be read: as with a cgroup that systemd has removed.
    stand_in = StandIn(life)
    life.command[-len(program()) :] = faults.command(
        "pread:errno=ENODEV:nth=2:times=forever:file=memory.events"
    )
    with Syslog(life) as syslog:
        life.stub(f"read x <{gate.path}; exit 3", after=stand_in.after).start("--syslog")
        life.pid()
        stand_in.tell(oom_kill=1)
        wait_until(lambda: not watches(life), "the end of the watch")
        gate.open()
        assert life.exit_status() == 3
        life.wait_gone()
        assert syslog.lines() == []
    assert not told(life)


MEMBERSHIPS = {
    "nothing": b"",
    "garbage": os.urandom(3000),
    "huge": b"5:x:/y\n" * 1_000_000,
    "another's": b"0::/../../pod/box\n",
    "gone": b"0::/pod/box (deleted)\n",
    "the root": b"0::/\n",
    "v1 that is not mounted": b"4:memory:/pod/box\n",
}


@pytest.mark.contract("OOM-7", "OOM-13")
@pytest.mark.parametrize("what", MEMBERSHIPS)
def test_strange_memberships_change_nothing(life: Life, what: str) -> None:
    stand_in = StandIn(life, MEMBERSHIPS[what], QUIET.replace(b"oom 0", b"oom 1"))
    with Syslog(life) as syslog:
        life.stub("exit 3", after=stand_in.after).start("--syslog")
        life.pid()
        assert life.exit_status() == 3
        life.wait_gone()
        assert syslog.lines() == []
    assert not told(life)


@pytest.mark.contract("OOM-7")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_strange_files_are_a_warning_and_the_life_goes_on(
    life: Life, make: Callable[[Path], None]
) -> None:
    stand_in = StandIn(life)
    stand_in.events.unlink()
    make(stand_in.events)
    with Syslog(life) as syslog:
        life.stub("exit 3", after=stand_in.after).start("--syslog")
        life.pid()
        assert life.exit_status() == 3
        life.wait_gone()
        (line,) = syslog.lines()
        assert b" <pwarn>: Failed to " in line
    assert not told(life)


@pytest.mark.contract("OOM-7")
def test_a_file_of_events_that_may_not_be_read_is_a_warning(life: Life) -> None:
    stand_in = StandIn(life)
    life.command[-len(program()) :] = faults.command("open:errno=EACCES:file=memory.events")
    with Syslog(life) as syslog:
        life.stub("exit 3", after=stand_in.after).start("--syslog")
        life.pid()
        assert life.exit_status() == 3
        assert b"Failed to watch the memory cgroup: Permission denied" in syslog.wait(b"<pwarn>")


@pytest.mark.contract("OOM-7", "OOM-16")
def test_a_persist_dir_that_cannot_be_written_costs_a_warning(life: Life, gate: Gate) -> None:
    stand_in = StandIn(life)
    (life.persist_dir / "oom").mkdir()
    with Syslog(life) as syslog:
        script = f"read x <{gate.path}; exit 3"
        life.stub(script, after=stand_in.after).start("--syslog")
        life.pid()
        stand_in.tell(oom_kill=1)
        assert b"/persist/oom: Is a directory" in syslog.wait(b"<pwarn>: Failed to make ")
        wait_until((life.bundle / "oom").exists, "the other file")
        gate.open()
        assert life.exit_status() == 3
        assert (life.persist_dir / "exit").read_bytes() == b"3"


@pytest.mark.contract("OOM-3")
def test_a_life_without_a_persist_dir_tells_it_in_its_bundle(
    life: Life, group: MemoryGroup
) -> None:
    arguments = life.arguments()
    at = arguments.index("--persist-dir")
    del arguments[at : at + 2]
    life.stub(f"exec {HUNGRY}", after=group.enter()).start(raw=arguments)
    life.pid()
    assert life.exit_status() == 137
    assert (life.bundle / "oom").read_bytes() == b""
    assert os.listdir(life.persist_dir) == []


# What nobody expected

BROKEN = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from lowconmon.__main__ import main
from lowconmon.rooms import oom
count = 0
def ooms(content):
    global count
    count += 1
    if count >= NTH:
        raise ZeroDivisionError("the watch is broken")
    return frozenset()
oom.ooms = ooms
main()
"""


@pytest.mark.contract("END-26", "END-27", "OOM-7")
@pytest.mark.parametrize("nth", [1, 2])
def test_a_watch_that_breaks_is_ended_and_the_life_goes_on(
    life: Life, gate: Gate, nth: int
) -> None:
    stand_in = StandIn(life)
    life.command[-len(program()) :] = [sys.executable, "-c", BROKEN.replace("NTH", str(nth))]
    life.stub(f"read x <{gate.path}; exit 3", after=stand_in.after).start()
    life.pid()
    stand_in.tell(oom_kill=1)
    wait_until(lambda: not watches(life), "the end of the watch")
    assert b"ZeroDivisionError" in (life.bundle / "conmon-crash").read_bytes()
    life.attach()
    gate.open()
    assert life.exit_status() == 3
    life.wait_gone()
    assert not told(life)


@pytest.mark.contract("END-26", "OOM-7")
def test_a_watch_that_breaks_at_the_end_loses_no_exit_file(life: Life, gate: Gate) -> None:
    stand_in = StandIn(life)
    life.command[-len(program()) :] = [sys.executable, "-c", BROKEN.replace("NTH", "2")]
    life.stub(f"read x <{gate.path}; exit 3", after=stand_in.after).start()
    os.kill(life.pid(), signal.SIGKILL)
    assert life.exit_status() == 137
    life.wait_gone()
    assert (life.persist_dir / "exit").read_bytes() == b"137"


@pytest.mark.contract("OOM-7")
def test_a_container_that_is_gone_before_anyone_looks_is_no_matter(life: Life) -> None:
    for _ in range(5):
        life.script(
            f"#!{sys.executable} -IS\nimport os, sys\n"
            "pid = os.fork()\n"
            "if pid == 0:\n    os._exit(3)\n"
            "os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n"
            "with open(sys.argv[sys.argv.index('--pid-file') + 1], 'w') as file:\n"
            "    file.write(str(pid))\n"
            "os._exit(0)\n"
        )
        life.start()
        life.pid()
        assert life.exit_status() == 3
        life.wait_gone()
        assert not told(life)
        (life.exit_dir / life.cid).unlink()
        life.end()
