"""A container's life under a real runtime, on whatever architecture and kernel this is."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from tests.containers.conftest import REAL, RUNTIMES, memory_limit
from tests.life.test_hostrun_lives import Container
from tests.support import ROOT
from tests.support.life import Life, attach_accepted, packets, read_if_there, wait_until
from tests.support.operators import exit_json
from tests.support.rotation import backups
from tests.support.witness import gone, number_in, parent

every = pytest.mark.parametrize("container", RUNTIMES, indirect=True)
real = pytest.mark.parametrize("container", [REAL], indirect=True)


@pytest.mark.contract("RT-1", "SYNC-6", "END-9")
@pytest.mark.parametrize(
    ("container", "status"),
    [*((name, status) for name in RUNTIMES for status in (0, 7, 255)), ("runc", 3)],
    indirect=["container"],
)
def test_a_container_is_created_started_logged_and_recorded(
    life: Life, container: Container, status: int
) -> None:
    container.configure(f"echo out $WHO; echo err >&2; printf end; exit {status}")
    life.start()
    pid = life.pid()
    assert container.state()["pid"] == pid
    container.start()
    assert life.exit_status() == status
    life.wait_gone()
    assert life.text() == b"out container\nend"
    assert life.text("stderr") == b"err\n"
    assert (life.persist_dir / "exit").read_text() == str(status)


@every
@pytest.mark.contract("CTL-5", "ATT-9")
def test_a_terminal_is_sized_and_typed_on(life: Life, container: Container) -> None:
    wait = "until [ \"$(stty size)\" = '33 99' ]; do sleep 0.05; done; echo sized; "
    container.configure(wait + "read x; echo got $x; exit 4", terminal=True)
    life.start("-t", "-i")
    life.pid()
    container.start()
    client = attach_accepted(life)
    life.control(b"1 33 99\n")
    wait_until(lambda: b"sized" in life.log.read_bytes(), "the size")
    client.send(b"hello\n")
    assert b"got hello\r\n" in packets(client)[0]
    assert life.exit_status() == 4


@every
@pytest.mark.contract("ATT-8", "ATT-9")
def test_what_a_client_sends_comes_back(life: Life, container: Container) -> None:
    container.configure("cat; echo done >&2")
    life.start("-i")
    life.pid()
    container.start()
    client = attach_accepted(life)
    client.send(b"one\ntwo\n")
    client.shutdown(1)
    assert packets(client) == (b"one\ntwo\n", b"done\n")
    assert life.exit_status() == 0


@every
@pytest.mark.contract("RT-1")
def test_a_process_is_executed_in_a_running_container(life: Life, container: Container) -> None:
    container.configure("exec tail -f /dev/null")
    life.start()
    life.pid()
    container.start()
    directory = life.directory / "session"
    directory.mkdir()
    session = Life(directory, life.cid)
    session.runtime = life.runtime
    process = {"args": ["/bin/sh", "-c", "echo from $WHO; exit 9"], "cwd": "/", "terminal": False}
    process |= {"env": ["PATH=/usr/bin:/bin", "WHO=session"], "user": {"uid": 0, "gid": 0}}
    (directory / "process.json").write_text(json.dumps(process))
    try:
        session.start(exec_session=True)
        session.pid()
        message = session.message()
        assert message is not None
        assert message == {"data": 9}
        assert session.text() == b"from session\n"
        session.wait_gone()
    finally:
        session.end()
    assert container.run("kill", life.cid, "KILL").returncode == 0
    assert life.exit_status() == 137


@every
@pytest.mark.contract("SIG-1")
def test_a_signal_to_the_monitor_reaches_the_container(life: Life, container: Container) -> None:
    container.configure("trap 'echo bye; exit 6' TERM; echo ready; while :; do sleep 0.05; done")
    life.start()
    life.pid()
    container.start()
    wait_until(lambda: b"ready" in life.log.read_bytes(), "the trap")
    os.kill(life.monitor_pid(), 15)
    assert life.exit_status() == 6
    assert life.text() == b"ready\nbye\n"


@every
@pytest.mark.contract("ROT-6", "REOPEN-2")
def test_records_go_on_over_rotation_and_reopening(life: Life, container: Container) -> None:
    container.configure("seq 2000; read x; seq 2001 2100")
    life.start("-i", "--log-size-max", "20000", "--log-rotate", "--log-max-files", "9")
    life.pid()
    container.start()
    wait_until(lambda: (read_if_there(life.log) or b"").endswith(b" 2000\n"), "the last")
    aside = life.directory / "aside"
    life.log.rename(aside)
    life.control(b"2 0 0\n")
    wait_until(life.log.exists, "a fresh file")
    client = attach_accepted(life)
    client.send(b"on\n")
    assert life.exit_status() == 0
    life.wait_gone()
    found = backups(life.log)
    files: list[Path] = [found[number] for number in sorted(found, reverse=True)]
    life.log.write_bytes(b"".join(path.read_bytes() for path in [*files, aside, life.log]))
    assert found
    assert life.text() == b"".join(b"%d\n" % number for number in range(1, 2101))


@real
@pytest.mark.contract("OOM-3", "END-3", "REC-2")
@pytest.mark.parametrize(
    ("script", "cause", "number"),
    [("exec tail /dev/zero", "oom", 9), ("tail /dev/zero & wait $!; exit $?", "exited", None)],
    ids=["its first process", "another process"],
)
def test_a_container_over_its_memory_is_told_so(
    life: Life, container: Container, script: str, cause: str, number: int | None
) -> None:
    container.configure(script, memory=16 << 20)
    life.start()
    life.pid()
    assert memory_limit(life) == 16 << 20  # the kernel's word for it
    container.start()
    assert life.exit_status() == 137
    assert (life.persist_dir / "oom").exists()
    assert (life.bundle / "oom").exists()
    life.wait_gone()
    record = exit_json(life)
    assert (record["status"], record["cause"], record["signal"]) == (137, cause, number)


# It adopts what the runtime leaves, tells the runtime's status, and keeps its children until told.
KEEPER = """
import os, sys
sys.path.insert(0, {root!r})
from lowconmon import syscalls
leave, done, *command = sys.argv[1:]
syscalls.set_child_subreaper(True)
pid = os.fork()
if pid == 0:
    os.execv(command[0], command)
status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
for fd in range(3):  # the container's streams
    os.close(fd)
with open(done, "w") as file:
    file.write(f"{{status}} {{os.getpid()}}\\n")
open(leave).read()
"""


@every
@pytest.mark.contract("END-25", "END-3", "CASE-802")
@pytest.mark.parametrize("first", ["its parent", "the container"])
def test_a_container_that_is_another_processes_child_has_its_own_status(
    life: Life, container: Container, first: str
) -> None:
    """Acceptable: 5, as soon as nobody else can reap it. Not acceptable: -1, or waiting for ever."""
    container.configure("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    plain, program, keeper = (life.directory / name for name in ("plain", "program", "keeper"))
    leave, done = life.directory / "leave", life.directory / "done"
    for path in (leave, done):
        os.mkfifo(path)
    program.write_text(KEEPER.format(root=str(ROOT)))
    life.runtime.rename(plain)
    life.script(f"""#!/bin/sh
case " $* " in *" create "*) ;; *) exec {plain} "$@" ;; esac
{sys.executable} {program} {leave} {done} {plain} "$@" &
read status pid < {done}
echo "$pid" > {keeper}
exit "$status"
""")
    life.start()
    pid = life.pid()
    assert parent(pid) == number_in(keeper)
    container.start()
    wait_until(lambda: b"ready" in life.log.read_bytes(), "the trap")
    if first == "its parent":
        leave.write_text("")
        wait_until(lambda: parent(pid) == life.monitor_pid(), "the inheritance")
        os.kill(pid, 15)
    else:
        os.kill(pid, 15)
        wait_until(lambda: gone(pid), "the zombie")
        leave.write_text("")
    assert life.exit_status() == 5
