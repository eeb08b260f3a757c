"""Live one life for a measurement, under either monitor, with a runtime that costs next to nothing.

Processor time is what the scheduler has counted for the monitor (proc(5), schedstat), in seconds: a
busy machine bends it less than it bends the clock.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lowconmon import syscalls
from tests.podman.podman_house import HOME, IMAGE, House, wait_until as wait_in_house
from tests.support import journald
from tests.support.costs import counting, idle_python, memory_kib
from tests.support.life import Life, attach_accepted, wait_until

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".work/bench"
STUB = WORK / "stub"
MEMORY, DISK = "/dev/shm", "/var/tmp"  # noqa: S108 - where tempfile makes directories
PROGRAMS = {
    "conmon": "/usr/bin/conmon",
    "lowconmon": str(ROOT / ".work/prefix/libexec/podman/conmon"),
}
# systemd lets a socket queue 512 datagrams, where the kernel's own limit is 10.
QUEUE = 'echo 512 >/proc/sys/net/unix/max_dgram_qlen && exec "$@"'
SYSTEMD = ["unshare", "--net", "sh", "-c", QUEUE, "sh"]
PRIVATE = r"Private_\w+"
IDLE = "none 0 1 1"
SECONDS = 300.0  # a row that takes longer hangs
REST = 0.02  # s
RECORD = "2001-01-01T00:00:00.000000000+00:00 stdout F 0000000000000000000\n"  # of a tick


def make_stub() -> None:
    """Compile the runtime."""
    WORK.mkdir(parents=True, exist_ok=True)
    source = Path(__file__).with_name("stub.c")
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", STUB, source], check=True)


def cpu_s(pid: int) -> float:
    """Return the processor time of all threads of a process."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


class Cost(NamedTuple):
    """What passing on a job's text takes: the monitor's processor time, and until it is through."""

    cpu_s: float
    wall_s: float


class Measured(Life):
    """A life whose container does a job (see stub.c) each time it is let go."""

    def __init__(self, directory: Path, program: str, job: str) -> None:
        super().__init__(directory)
        self.command = [program]
        self.runtime = STUB
        os.mkfifo(directory / "gate")
        self.gate = os.open(directory / "gate", os.O_RDWR)
        self.environment |= {"BENCH_JOB": job, "BENCH_GATE": str(directory / "gate")}
        kind, count, size, _ = job.split()
        self.size = int(count) * int(size) * (kind != "none")  # of the job's text, in bytes
        self.total = 0  # of the text that the container was let write

    def enter(self, group: Path) -> None:
        """Start the monitor in a cgroup, and the runtime and its container outside of it."""
        enter = 'echo 0 >"$0/cgroup.procs" && exec "$@"'
        self.command = ["sh", "-c", enter, str(group), *self.command]
        self.environment["BENCH_LEAVE"] = str(group.parent / "cgroup.procs")

    def go(self) -> None:
        """Let the container do its job."""
        self.total += self.size
        os.write(self.gate, b"g")

    def quit(self) -> None:
        """Let the container end, with 7."""
        os.write(self.gate, b"q")

    def ticks_logged(self) -> int:
        """Return how many lines of the kind "ticks" the log has."""
        return self.log.stat().st_size // len(RECORD)

    def logged_at(self) -> float:
        """Wait until the log is longer than the job's text, and at rest; return when it came to it."""
        size, since, end = -1, 0.0, time.monotonic() + SECONDS
        while size < self.total or time.monotonic() - since < REST:
            time.sleep(0.002)
            if (now := self.log.stat().st_size) != size:
                size, since = now, time.monotonic()
            if time.monotonic() > end:
                raise TimeoutError(f"{size} bytes of {self.total} are logged")
        return since


@contextlib.contextmanager
def life(
    program: str,
    job: str,
    *options: str,
    start: bool = True,
    group: Path | None = None,
    place: str = MEMORY,
) -> Iterator[Measured]:
    """Give a life in a directory (in memory), started, its monitor in a cgroup, and end it."""
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=place))
    one = Measured(directory, PROGRAMS[program], job)
    try:
        if group:
            one.enter(group)
        if start:
            one.start(*options)
            one.pid()
        yield one
        if start:
            one.quit()
            one.exit_status()
            one.wait_gone()
    finally:
        one.end()
        os.close(one.gate)
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def apart() -> Iterator[Callable[[], None]]:
    """Let what is started keep off a processor; give what takes us there, once all is started.

    Where it shares ours, it may have to wait for some milliseconds until our turn is over.
    """
    every = os.sched_getaffinity(0)
    ours = min(every)
    os.sched_setaffinity(0, every - {ours} or every)
    try:
        yield lambda: os.sched_setaffinity(0, [ours])
    finally:
        os.sched_setaffinity(0, every)


def logging_s(program: str, job: str, *options: str) -> Cost:
    """Return what logging a job costs."""
    with life(program, job, *options) as one:
        pid = one.monitor_pid()
        before, begun = cpu_s(pid), time.monotonic()
        one.go()
        wall = one.logged_at() - begun
        return Cost(cpu_s(pid) - before, wall)


def journal_s(program: str, job: str) -> Cost:
    """Return what sending a job's lines to the journal costs."""
    with life(program, job, start=False) as one:
        path = one.directory / "journal"
        with subprocess.Popen([*SYSTEMD, STUB, "drain", path, job.split()[1]]) as drain:
            wait_until(path.exists, "the journal's socket")
            journald.connect(one, path)
            one.start(raw=journald.arguments(one))
            one.pid()
            pid = one.monitor_pid()
            before, begun = cpu_s(pid), time.monotonic()
            one.go()
            drain.wait()  # with a timeout, subprocess looks every 50 ms
            taken = Cost(cpu_s(pid) - before, time.monotonic() - begun)
        one.quit()
        one.exit_status()
        one.wait_gone()
    return taken


def copying_s(job: str) -> float:
    """Return the processor time of a bare copy of a job by read and write, 64 KiB at a time."""
    kind, count, size, batch = job.split()
    source = subprocess.Popen([STUB, "write", kind, count, size, batch], stdout=subprocess.PIPE)
    with tempfile.NamedTemporaryFile(dir=MEMORY) as file, source:
        copy = subprocess.Popen([STUB, "copy"], stdin=source.stdout, stdout=file)
        _, _, usage = os.wait4(copy.pid, 0)
        copy.returncode = 0
    return usage.ru_utime + usage.ru_stime


def attached_s(program: str, job: str, count: int) -> Cost:
    """Return what logging a job and sending it to some clients costs."""

    def read(client: socket.socket) -> None:
        packet, left = bytearray(8193), one.size
        client.settimeout(SECONDS)
        while left > 0:
            left -= client.recv_into(packet) - 1

    with life(program, job) as one:
        readers = [
            threading.Thread(target=read, args=(attach_accepted(one),)) for _ in range(count)
        ]
        for reader in readers:
            reader.start()
        pid = one.monitor_pid()
        before, begun = cpu_s(pid), time.monotonic()
        one.go()
        for reader in readers:
            reader.join(SECONDS)
        wall = max(time.monotonic(), one.logged_at()) - begun
        return Cost(cpu_s(pid) - before, wall)


def starting_s(program: str) -> float:
    """Return the time from the start of the program to the container's pid on the sync pipe."""
    with life(program, IDLE, start=False) as one:
        begun = time.monotonic()
        one.start(wait=False)
        one.pid()
        taken = time.monotonic() - begun
        one.quit()
        one.exit_status()
    return taken


@functools.cache
def _house() -> House:
    """Return where podman lives, with its storage and image, until we end."""
    house = House(Path(PROGRAMS["conmon"]))
    atexit.register(house.close)
    return house


def podman_s(program: str) -> float:
    """Return the wall time of `podman run --rm` with runc, of a container that does nothing."""
    house = _house()
    configuration = house.configuration(Path(PROGRAMS[program]))
    house.path(HOME / "containers.conf").write_text(configuration)
    run = ["run", "--rm", "--cgroup-parent", house.cgroup_parent, IMAGE, "true"]
    begun = time.monotonic()
    # No timeout: with one, subprocess looks every 50 ms.
    subprocess.run(house.command(*run), env=house.environment, check=True)
    taken = time.monotonic() - begun
    wait_in_house(lambda: not house.processes(), "monitor and exit command have ended")
    return taken


def creating(program: str) -> int:
    """Return the instructions of a monitor whose container ends at once, the runtime's left out."""
    source, shim = Path(__file__).with_name("pidfd_open.c"), WORK / "pidfd_open.so"
    subprocess.run(["gcc", "-O2", "-shared", "-fPIC", "-o", shim, source], check=True)
    with life(program, IDLE, start=False) as one, counting() as (before, counted):
        one.command = [*before, *one.command]
        if program != "conmon":  # which has no use for it
            one.environment["LD_PRELOAD"] = str(shim)
        one.start("--no-sync-log", wait=False)
        one.pid()
        one.quit()
        one.wait_gone()
        return counted()


def many(program: str, count: int, lines: int = 600) -> dict[str, float]:
    """Live *count* lives at once, each writing ten lines a second; return what they cost.

    Raises RuntimeError for a line or a status that is lost.
    """
    figures: dict[str, float] = {}
    with contextlib.ExitStack() as stack:
        lives, starts = list[Measured](), list[float]()
        for number in range(count):
            one = stack.enter_context(life(program, f"ticks {lines} 0 100", start=False))
            one.cid = f"{number:016x}"
            begun = time.monotonic()
            one.start("--no-sync-log", wait=False)
            one.pid()
            starts.append(time.monotonic() - begun)
            lives.append(one)
        pids = [one.monitor_pid() for one in lives]
        for one in lives:
            one.go()
        for one in lives:
            while one.ticks_logged() < lines:
                time.sleep(0.1)
        figures["CPU of all, s"] = sum(map(cpu_s, pids))
        figures["private memory of each, KiB"] = (
            sum(memory_kib(pid, PRIVATE) for pid in pids) / count
        )
        with exits_watched(lives) as ended_at:
            for one in lives:
                one.quit()
            ended = ended_at()
        statuses = [one.exit_status() for one in lives]
        for one in lives:
            one.wait_gone(SECONDS)
        written = [ticks(one) for one in lives]
        if statuses != [7] * count or {len(said) for said in written} != {lines + 1}:
            raise RuntimeError(f"{program} has lost a status or a line")
        ends = [(at - said[-1][1]) / 1e9 for at, said in zip(ended, written, strict=True)]
        delays = [(read - told) / 1e9 for said in written for read, told in said]
    for name, seconds in (
        ("start", starts),
        ("a line to the log", delays),
        ("end to exit file", ends),
    ):
        ordered = sorted(seconds)
        for percent in (50, 99):
            figures[f"{name}, p{percent}, ms"] = ordered[len(ordered) * percent // 100] * 1000
    return figures


@contextlib.contextmanager
def exits_watched(lives: list[Measured]) -> Iterator[Callable[[], list[int]]]:
    """Give a function that returns when each life's exit file appeared, in ns since 1970."""
    fd = syscalls.inotify_init1()
    os.set_blocking(fd, True)
    watches = [
        syscalls.inotify_add_watch(fd, os.fsencode(one.exit_dir), syscalls.IN_MOVED_TO)
        for one in lives
    ]

    def ended_at() -> list[int]:
        found: dict[int, int] = {}
        while len(found) < len(lives):
            events = syscalls.inotify_events(os.read(fd, 65536))
            found |= {event[0]: time.time_ns() for event in events}
        return [found[watch] for watch in watches]

    # Before all others: else it waits in line with hundreds of monitors, and tells its own turn.
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    yield ended_at
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    os.close(fd)


def ticks(one: Measured) -> list[tuple[int, int]]:
    """Return of each line when it was read, and when the container wrote it, in ns since 1970."""
    found = []
    for record in one.log.read_text().splitlines():
        stamp, _, _, text = record.split(" ")
        whole = datetime.fromisoformat(stamp[:19] + stamp[29:]).timestamp()
        found.append((int(whole) * 10**9 + int(stamp[20:29]), int(text)))
    return found


def running_s(command: list[str]) -> float:
    """Return the time that a command takes."""
    begun = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begun


def latency_s(program: str, lines: int = 200) -> float:
    """Return the mean time of a line from an idle container until it is in the log."""
    with apart() as leave, life(program, "lines 1 80 1") as one:
        one.monitor_pid()
        leave()
        taken, size = 0.0, 0
        for _ in range(lines):
            time.sleep(0.005)
            begun = time.monotonic()
            one.go()
            while (now := one.log.stat().st_size) == size:
                continue
            taken, size = taken + time.monotonic() - begun, now
    return taken / lines


def recording_s(program: str) -> float:
    """Return the time from a container's end to its exit file, on a disk, the log synced."""
    with apart() as leave, life(program, "lines 12500 80 100", place=DISK) as one:
        one.go()
        one.logged_at()
        leave()
        return _until_recorded(one.exit_dir / one.cid, one.quit)


def bare_recording_s(program: str) -> float:
    """Return the same of an idle container, in memory, without fsync."""
    with apart() as leave, life(program, IDLE, "--no-sync-log") as one:
        one.monitor_pid()
        leave()
        return _until_recorded(one.exit_dir / one.cid, one.quit)


def least_recording_s() -> float:
    """Return the same of a program in C that does nothing else."""
    with apart() as leave, life("conmon", IDLE, start=False) as one:
        path = one.directory / "record"
        with subprocess.Popen([STUB, "record", path], env=one.environment):
            leave()
            return _until_recorded(path, one.quit)


def _until_recorded(path: Path, end: Callable[[], None]) -> float:
    """Return the time until a file is in its place; to look for it there would lock the directory."""
    fd = syscalls.inotify_init1()
    syscalls.inotify_add_watch(fd, os.fsencode(path.parent), syscalls.IN_MOVED_TO)
    name, found = os.fsencode(path.name), b""
    time.sleep(0.02)  # all is quiet
    begun = time.monotonic()
    end()
    while name not in found:
        with contextlib.suppress(BlockingIOError):
            found = os.read(fd, 4096)
    taken = time.monotonic() - begun
    os.close(fd)
    return taken


# A file's pages are private as long as one process alone maps them. Most of a program's are, and
# are not what a monitor more costs: where one is measured, another of its kind runs beside it.


def idle_kib(program: str) -> float:
    """Return the private memory of an idle monitor beside another."""
    with life(program, IDLE), life(program, IDLE) as one:
        return memory_kib(one.monitor_pid(), PRIVATE)


def bare_kib() -> float:
    """Return the private memory of a Python with what the monitor imports of others."""
    with idle_python(), idle_python() as pid:
        return memory_kib(pid, PRIVATE)
