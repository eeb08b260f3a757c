"""Lives whose memory runs out, in a real cgroup.

2.1.6 makes the file of the bundle in its working directory, so that is the bundle here. It looks at
events alone, which may come too late for a container that is killed itself: a child is.
"""

from __future__ import annotations

from tests.differential.stage import Stage, life
from tests.support.cgroups import HUNGRY, MOUNT, V1, MemoryGroup
from tests.support.life import wait_until


def limited(stage: Stage, script: str) -> MemoryGroup:
    """Make a container that runs in a cgroup with little memory."""
    group = MemoryGroup()
    stage.cleanups.append(lambda: group.__exit__())
    stage.life.stub(script, after=group.enter())
    return group


def told(stage: Stage) -> None:
    """Wait until the monitor has made its last file of two."""
    wait_until((stage.life.bundle / "oom").exists, "the file `oom`")


@life("a create", "an exec")
def a_child_runs_out_of_memory_in(stage: Stage, what: str) -> None:
    limited(stage, f"{HUNGRY}; echo child $?; {stage.gate()}; exit 3")
    stage.start(cwd=stage.life.bundle, exec_session=what == "an exec")
    told(stage)
    stage.open_gate()


@life()
def a_child_runs_out_of_memory_without_a_persist_dir(stage: Stage) -> None:
    limited(stage, f"{HUNGRY}; {stage.gate()}; exit 3")
    stage.start(omit=("--persist-dir",), cwd=stage.life.bundle)
    told(stage)
    stage.open_gate()


@life()
def a_child_runs_out_of_memory_twice(stage: Stage) -> None:
    limited(stage, f"{HUNGRY}; {HUNGRY}; {stage.gate()}; exit 3")
    stage.start(cwd=stage.life.bundle)
    told(stage)
    stage.open_gate()


@life()
def a_file_oom_is_there_before_memory_runs_out(stage: Stage) -> None:
    for directory in (stage.life.bundle, stage.life.persist_dir):
        (directory / "oom").write_bytes(b"old")
    group = limited(stage, f"{HUNGRY}; {stage.gate()}; exit 3")
    stage.start(cwd=stage.life.bundle)
    wait_until(group.counted, "a process that was killed")
    stage.open_gate()


@life()
def a_container_has_little_memory_and_needs_no_more(stage: Stage) -> None:
    limited(stage, "exit 3")
    stage.start(cwd=stage.life.bundle)


@life()
def the_cgroup_of_a_container_is_removed(stage: Stage) -> None:
    group = limited(stage, f"{stage.gate()}; exit 3")
    stage.start(cwd=stage.life.bundle)
    stage.created()
    pid = stage.life.pid_file.read_text()
    (MOUNT / "memory" if V1 else MOUNT).joinpath("cgroup.procs").write_text(pid)
    wait_until(group.remove, "an empty cgroup")
    stage.open_gate()
