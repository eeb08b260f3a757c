"""System calls of the installed program fail, from outside: strace makes them, or watches.

Of each call the first, the second and the last that a monitor makes from the start pipe on. With
--sync, so that strace follows one process, and neither runtime nor container meets the fault.
"""

from __future__ import annotations

import functools
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.life import Life, attach_accepted, program, read_if_there, wait_until
from tests.support.walk import Walk

# What else is acceptable (see Walk.judge): which of the calls it is, is not known here.
FAULTS = {
    "write": ("ENOSPC", "lost crash"),  # a pipe never says so: then its room may be detached
    "openat": ("EMFILE", "lost"),
    "rename|renameat|renameat2": ("EIO", ""),
    "fsync": ("EIO", ""),
    "epoll_wait|epoll_pwait": ("EINTR", ""),
    "recvmsg": ("ECONNRESET", ""),
    "sendmmsg": ("ENOBUFS", ""),
}


def waits_for_start(pid: int) -> bool:
    """Tell whether a process watches two descriptors: its signals and the start pipe."""
    return any(
        (read_if_there(path) or b"").count(b"tfd:") == 2
        for path in Path(f"/proc/{pid}/fdinfo").iterdir()
    )


def lived(kind: str, calls: str, inject: str, tolerated: str = "") -> tuple[list[str], int]:
    """Live a life under strace; return what is not acceptable, and how many of *calls* it made."""
    with Walk(kind, inject, "--sync", command=program()) as one:
        log, traced = one.directory / "strace", f"/^({calls})$"
        command = ["strace", "-q", "-o", str(log), "-e", f"trace={traced}"]
        command += ["-e", f"inject={traced}:{inject}"] if inject else []
        tracers: list[subprocess.Popen[bytes]] = []

        def trace(pid: int) -> None:
            wait_until(lambda: waits_for_start(pid), "the start pipe is watched")
            tracers.append(subprocess.Popen([*command, "-p", str(pid)]))
            status = Path(f"/proc/{pid}/status")
            wait_until(lambda: "TracerPid:\t0\n" not in status.read_text(), "strace")

        one.before_going = trace
        wrong = one.run().judge(*tolerated.split())
        for tracer in tracers:
            tracer.wait(20)
        return wrong, len(re.findall(rf"^(?:{calls})\(", log.read_text(), re.MULTILINE))


@functools.cache
def count(kind: str, calls: str) -> int:
    wrong, calls_made = lived(kind, calls, "")
    assert wrong == []
    return calls_made


@pytest.mark.contract("CASE-401", "END-9", "END-11", "END-26", "LOG-30", "SYNC-11")
@pytest.mark.parametrize("which", ["first", "second", "last"])
@pytest.mark.parametrize("calls", FAULTS, ids=lambda calls: calls.partition("|")[0])
def test_a_call_that_the_kernel_refuses_once(calls: str, which: str) -> None:
    """Acceptable and not acceptable: as in test_fault_walk.py."""
    kind = "terminal" if calls == "recvmsg" else "pipes"
    made = count(kind, calls)
    error, tolerated = FAULTS[calls]
    when = {"first": 1, "second": 2, "last": made}[which]
    assert made >= 1
    assert lived(kind, calls, f"error={error}:when={when}", tolerated)[0] == []


@pytest.mark.contract("ATT-23")
@pytest.mark.parametrize("served", [False, True], ids=["alone", "a client is served"])
def test_the_monitor_waits_for_the_exec_of_the_exit_command_only_where_it_serves_nobody(
    life: Life, *, served: bool
) -> None:
    """Not acceptable: a client that gets nothing while the exit command's program cannot be read."""
    size = 400_000 if served else 1  # more than the socket takes
    life.stub(f"read word; head -c {size} /dev/zero; exit 9")
    life.start("-i", "--exit-command", "/bin/true")
    life.pid()
    client, log, pid = attach_accepted(life), life.directory / "strace", life.monitor_pid()
    tracer = subprocess.Popen(["strace", "-q", "-o", str(log), "-p", str(pid)])
    status = Path(f"/proc/{pid}/status")
    wait_until(lambda: "TracerPid:\t0\n" not in status.read_text(), "strace")
    client.send(b"go\n")
    assert life.exit_status() == 9
    wait_until(lambda: "fork(" in log.read_text() or "clone" in log.read_text(), "the exit command")
    assert bool(re.search(r"vfork\(|CLONE_VFORK", log.read_text())) != served
    client.close()
    life.wait_gone()
    tracer.wait(20)
