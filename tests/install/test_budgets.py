"""The program stays small: lines, modules, instructions, memory, what is open under a container."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ci.benchmark import lives
from tests.support import ROOT, SLOWNESS, wait_for
from tests.support.costs import BARE, idle_python, instructions, memory_kib
from tests.support.life import Life, packets, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

# conmon 2.1.13 has 4,648 lines of C in src/.
PACKAGE_LINES = 5000  # of bindings, loop, monitor
TOOLS_LINES = 1100  # of what operators run, hostrun, and the program that compresses
MODULE_LINES = 400
TABLES = ("_syscalls.py",)  # one entry a call: longer, and read like a table

# Instructions, times a bare Python's, 3 % more than when this was written: 0.997, 0.619 and 0.908
SCRIPT_VERSION, EXECUTABLE_HELP, LIFE = 1.03, 0.637, 0.935
MEMORY_KIB = 448  # of an idle monitor, in no file, more than a bare Python: 384 then

# Runs the installed program, and says what was loaded when it left.
DUMP = """
import os, posix, sys
sys.path.insert(0, {home!r})
leave = os._exit
def say_and_leave(status):
    fd = os.open({dump!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(fd, (" ".join(sys.modules) + "\\n").encode())
    os.close(fd)
    leave(status)
os._exit = posix._exit = say_and_leave
{load}
"""


def sources(pattern: str = "lowconmon*") -> list[Path]:
    """Return the files of the packages."""
    return [*ROOT.glob(pattern + "/**/*.py")]


def lines_of(path: Path) -> int:
    """Count the lines of a file."""
    return path.read_bytes().count(b"\n")


@pytest.mark.parametrize(
    ("package", "limit"), [("lowconmon", PACKAGE_LINES), ("lowconmon_tools", TOOLS_LINES)]
)
def test_a_package_stays_small(package: str, limit: int) -> None:
    counts = {str(path.relative_to(ROOT)): lines_of(path) for path in sources(package)}
    assert len(counts) > 4
    assert sum(counts.values()) < limit, counts


def test_no_module_but_the_tables_is_longer_than_400_lines() -> None:
    long = {path.name: lines_of(path) for path in sources() if lines_of(path) > MODULE_LINES}
    assert long.keys() <= set(TABLES), long


def modules_after(home: Path, dump: Path, load: str, *arguments: str) -> list[set[str]]:
    """Run code in a Python like the installed program's; return what each process had loaded."""
    code = DUMP.format(home=str(home), dump=str(dump), load=load)
    subprocess.run(
        ["/usr/bin/python3", "-ISB", "-c", code, *arguments],
        timeout=20 * SLOWNESS,
        check=True,
    )
    return read_dump(dump)


def read_dump(dump: Path) -> list[set[str]]:
    return [set(line.split()) for line in dump.read_text().splitlines()]


@pytest.mark.contract("CASE-1102")
def test_a_monitor_loads_only_what_it_was_allowed(
    prefix: Path, new_life: Callable[..., Life]
) -> None:
    """Acceptable: os and what os brings, errno, gc, time, the cffi backend, ourselves."""
    home = prefix / "lib/lowconmon"
    life = new_life(prefix)
    load = "import errno, gc, time, _cffi_backend\nos._exit(0)"
    (allowed,) = modules_after(home, life.directory / "bare", load)
    # A launcher of the same name as the program, so that Life can start it.
    dump = life.directory / "dump"
    launcher = life.directory / "launcher"
    code = DUMP.format(
        home=str(home), dump=str(dump), load="from lowconmon.__main__ import main\nmain()"
    )
    launcher.write_text(f"#!/usr/bin/python3 -ISB\n{code}")
    launcher.chmod(0o755)
    life.command = [str(launcher)]
    live_fully(life)
    dumps = read_dump(dump)
    assert len(dumps) == 2, "the launcher and the monitor have left by os._exit"
    for loaded in dumps:
        foreign = {
            name
            for name in loaded - allowed
            if name.partition(".")[0] not in ("lowconmon", "__main__")
        }
        assert not foreign


def live_fully(life: Life, *, wait: bool = True) -> None:
    """Live a life with a client, a log that is opened again, and an exit command."""
    life.stub("echo ready; read line; echo $line; exit 3")
    ran = life.directory / "ran"
    life.start("-i", "--exit-command", "/bin/touch", "--exit-command-arg", str(ran), wait=wait)
    life.pid()
    client = life.attach()
    life.log.rename(life.directory / "old.log")
    life.control(b"2 0 0\n")
    wait_for(life.log)
    client.send(b"word\n")
    stdout, _ = packets(client)
    assert stdout.endswith(b"word\n")
    client.close()
    assert life.exit_status() == 3
    wait_for(ran)
    life.wait_gone()


@pytest.mark.contract("CASE-1102")
def test_nothing_of_the_tree_is_opened_after_the_pid_was_reported(
    prefix: Path, new_life: Callable[..., Life]
) -> None:
    """Acceptable: the manager's and the container's files.

    Not acceptable: a module, or a file that Python would look for, read under a container.
    """
    life = new_life(prefix)
    trace = life.directory / "trace"
    tracer = life.directory / "tracer"
    tracer.write_text(
        "#!/bin/sh\n"
        f"exec strace -f -qq -s 64 -e trace=%file,write,sendto,sendmsg -o {trace} "
        f'{life.command[0]} "$@"\n'
    )
    tracer.chmod(0o755)
    life.command = [str(tracer)]
    live_fully(life, wait=False)  # strace stays until the last of its processes has gone
    assert life.launcher is not None
    life.launcher.wait(20 * SLOWNESS)
    pid = life.monitor_pid()
    everything = trace.read_text(errors="replace").splitlines()
    lines = [line.split(None, 1)[1] for line in everything if line.startswith(f"{pid} ")]
    reported = [index for index, line in enumerate(lines) if '"{\\"data\\": ' in line]
    assert len(reported) == 1, lines
    after = lines[reported[0] :]
    home = str(prefix / "lib/lowconmon")
    assert any(home in line for line in everything), "the trace shows what is opened"
    assert any(life.cid in line for line in after), "the trace goes on to the end"
    assert [line for line in after if home in line or ".py" in line] == []


def test_a_start_takes_few_instructions_more_than_python_s_own(
    prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A life: from the start to the end of a container that ends at once, the runtime left out."""
    bare = instructions(BARE)
    assert instructions([str(prefix / "bin/lowconmon"), "--version"]) < SCRIPT_VERSION * bare
    executable = str(prefix / "libexec/podman/conmon")
    assert instructions([executable, "--help"]) < EXECUTABLE_HELP * bare
    if platform.machine() == "x86_64":  # what pidfd_open needs under valgrind is for no other
        monkeypatch.setitem(lives.PROGRAMS, "lowconmon", executable)
        lives.make_stub()
        assert lives.creating("lowconmon") < LIFE * bare


def test_an_idle_monitor_has_little_memory_of_its_own(
    prefix: Path, new_life: Callable[..., Life]
) -> None:
    life = new_life(prefix)
    life.stub("exec sleep 60").start()
    pid = life.pid()
    ours = memory_kib(life.monitor_pid(), "Anonymous")
    with idle_python() as python:
        bare = memory_kib(python, "Anonymous")
    os.kill(pid, signal.SIGKILL)
    assert life.exit_status() == 137
    life.wait_gone()
    assert ours < bare + MEMORY_KIB


def test_a_line_now_and_then_leaves_no_memory_behind(
    prefix: Path, new_life: Callable[..., Life]
) -> None:
    """Many times as many as are here take no more: what freed reads leave is used again."""
    life = new_life(prefix)
    writer = "import os, time\n"
    writer += "for _ in range(1200): os.write(1, bytes(20) + b'\\n'); time.sleep(.003)\n"
    writer += "time.sleep(60)"
    life.environment["WRITER"] = writer
    life.stub('exec /usr/bin/python3 -ISc "$WRITER"').start()
    pid = life.pid()
    wait_until(lambda: life.log.read_bytes().count(b"\n") > 50, "the first lines")
    before = memory_kib(life.monitor_pid(), "Anonymous")
    wait_until(lambda: life.log.read_bytes().count(b"\n") == 1200, "the lines")
    after = memory_kib(life.monitor_pid(), "Anonymous")
    os.kill(pid, signal.SIGKILL)
    assert life.exit_status() == 137
    life.wait_gone()
    assert after <= before + 32
