"""What monitors hold in memory, in KiB: idle ones, one that has worked much, and what for."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.cgroups import MOUNT, V1, Group
from tests.support.costs import IMPORTS, idle_python, memory_kib
from tests.support.life import attach_accepted, sockets_of, wait_until

from .lives import IDLE, PRIVATE, PROGRAMS, SECONDS, Measured, life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Work = tuple[str, Callable[[Measured], object], str]

_COUNTS = (1, 10, 100, 300)
_KINDS = ("Rss", "Pss", "Anonymous", PRIVATE)
_QUIET_S = 3.0  # a monitor gives back what it has freed when a second was quiet
_TRACED = Path(__file__).with_name("traced.py")


def idle() -> Iterator[str]:
    """Give a table of what each of some idle monitors holds."""
    yield "| idle containers | monitor | Rss | Pss | Anonymous | private | in its cgroup |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for program in PROGRAMS:
        with contextlib.ExitStack() as stack:
            group = stack.enter_context(Group(MOUNT / "memory" if V1 else MOUNT)).path
            pids = list[int]()
            for count in _COUNTS:
                while len(pids) < count:
                    one = stack.enter_context(life(program, IDLE, group=group))
                    pids.append(one.monitor_pid())
                sizes = [sum(memory_kib(pid, kind) for pid in pids) for kind in _KINDS]
                sizes.append(_charged_kib(group))
                cells = [str(count), program, *(f"{size / count:.0f}" for size in sizes)]
                yield f"| {' | '.join(cells)} |"


def _charged_kib(group: Path) -> int:
    """Return what a cgroup is charged with: the kernel's share too, no file read before."""
    if V1:  # each processor has charged some in advance: have them give it back
        (group / "memory.force_empty").write_text("0")
    name = "memory.usage_in_bytes" if V1 else "memory.current"
    return int((group / name).read_text()) // 1024


def _write(one: Measured) -> None:
    one.go()
    one.logged_at()


def _tick(one: Measured) -> None:
    count = one.ticks_logged() + 3600
    one.go()
    wait_until(lambda: one.ticks_logged() >= count, "the log", SECONDS)


def _attach(one: Measured) -> None:
    pid = one.monitor_pid()
    before = sockets_of(pid)
    for _ in range(100):
        client = attach_accepted(one)
        one.go()
        client.recv(8193)
        client.close()
        one.go()  # conmon sees that a client has gone when it writes to it
        wait_until(lambda: sockets_of(pid) == before, "the client is forgotten")


def _resize(one: Measured) -> None:
    terminal_fd = os.open(f"/proc/{one.pid_file.read_text()}/fd/0", os.O_RDWR | os.O_NOCTTY)
    for size in range(1, 1001):
        one.control(b"1 %d %d\n" % (size, size))
        wait_until(lambda size=size: os.get_terminal_size(terminal_fd)[0] == size, "the size")
    os.close(terminal_fd)


_WORKS: dict[str, Work] = {
    "1 GiB of log": ("lines 65536 16384 4", _write, ""),
    "100 attach sessions": ("lines 1 80 1", _attach, ""),
    "1,000 resizes": (IDLE, _resize, "-t"),
    "3,600 lines, 10 ms apart": ("ticks 3600 0 10", _tick, ""),
}


def endurance() -> Iterator[str]:
    """Give a table of what a monitor holds before and after much work, and when it did it again."""
    yield f"| Anonymous, KiB | {' | '.join(f'{it}: before | after | again' for it in PROGRAMS)} |"
    yield f"|{' --- |' * (1 + 3 * len(PROGRAMS))}"
    for text, (job, work, option) in _WORKS.items():
        cells = [text]
        for program in PROGRAMS:
            with life(program, job, *option.split()) as one:
                for act in (lambda _: None, work, work):
                    act(one)
                    time.sleep(_QUIET_S)
                    cells.append(str(memory_kib(one.monitor_pid(), "Anonymous")))
        yield f"| {' | '.join(cells)} |"


def heap() -> Iterator[str]:
    """Give a table of where an idle monitor's private memory lies, and one of what it is for."""
    with life("lowconmon", IDLE), life("lowconmon", IDLE) as one:
        time.sleep(_QUIET_S)
        ours = _mapped(one.monitor_pid())
    without_os = IMPORTS.replace("os, ", "")  # as the monitor, which has posix alone
    with idle_python(without_os), idle_python(without_os) as pid:
        bare = _mapped(pid)
    yield "| private, KiB | bare Python | lowconmon |\n| --- | --- | --- |"
    for name, size in (ours | Counter(all=ours.total())).most_common():
        yield f"| {name} | {bare[name] if name != 'all' else bare.total()} | {size} |"
    yield "\n| what for | KiB |\n| --- | --- |"
    with life("lowconmon", IDLE, start=False) as one:
        report = one.directory / "report"
        python = [
            "/usr/bin/python3",
            "-OOIS",
            "-X",
            "no_debug_ranges",
        ]  # as the executable is frozen
        one.command = [*python, str(_TRACED), str(report)]
        one.start()
        wait_until(report.exists, "the report")
        parts: dict[str, int] = json.loads(report.read_text())
    parts = {"a bare Python": bare.total() * 1024, **parts}
    parts["the rest: libraries' data, stack, holes"] = ours.total() * 1024 - sum(parts.values())
    for name, size in parts.items():
        yield f"| {name} | {size / 1024:.0f} |"


def _mapped(pid: int) -> Counter[str]:
    """Return the private memory of a process by what is mapped."""
    found, name = Counter[str](), ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head, *rest = line.split()
        if not head.endswith(":"):  # address, permissions, offset, device, inode and a path
            name = Path(rest[4]).name if len(rest) > 4 else "anonymous"
        elif re.fullmatch(f"{PRIVATE}:", head):
            found[name] += int(rest[0])
    return +found
