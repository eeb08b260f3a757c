"""Backups are compressed beside the log's life, by a helper that may be slow, killed or missing.

Acceptable: each backup is there as `.N`, as a whole `.N.gz`, or, where a crash came between two
steps, as both with the same content. Not acceptable: a record lost or doubled, a monitor that waits
for its helper, or a helper that outlives it.
"""

from __future__ import annotations

import gzip
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT, SLOWNESS, faults, json_log, kubelet
from tests.support.disk import PAGE, Disk
from tests.support.echo import Echo
from tests.support.journald import UNSHARE
from tests.support.kubelet import REOPEN, content_of
from tests.support.life import (
    DEADLINE,
    Gate,
    Life,
    assert_idle,
    private_kib,
    read_if_there,
    wait_until,
)
from tests.support.load import Load
from tests.support.rotation import old_log
from tests.support.syslog import Syslog
from tests.support.witness import gone, kill, parent

DRIVERS = ["k8s-file", "json-file"]
BOTH = pytest.mark.parametrize("driver", DRIVERS)
IN_TIME = 3 * SLOWNESS  # seconds from the container's end to its exit file
BE_IDLE = "    be_idle()\n"
# The helper tells its pid and waits at a gate; it may be told to end there with a status.
WAIT = """    with open({pid!r} + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename({pid!r} + ".new", {pid!r})
    with open({gate!r}) as file:
        word, _, status = file.readline().partition(" ")
    if word == "exit":
        os._exit(int(status))
"""
ABOUT = re.compile(r'ctr\.log(\.tmp|\.1|\.1\.gz|\.gz\.tmp)"')
BIND = 'mount --bind "$1" "$2"; shift 2; exec "$@"'


def package() -> Path:
    """Return the directory of the package that the monitor runs from."""
    path = os.environ.get("LOWCONMON_PROGRAM")
    if not path:
        return ROOT / "lowconmon_tools"
    (program,) = Path(path).resolve().parents[2].glob("lib/lowconmon/**/compress.py")
    return program.parent


class Helpers:
    """The helpers of one life, whose monitor runs from a copy of the package, `copy`.

    They are not idle: on a busy machine an idle process may wait for minutes.
    """

    def __init__(self, life: Life) -> None:
        self.life = life
        self.copy = life.directory / "package"
        self.program = self.copy / "compress.py"
        self.gate = Gate(life.directory / "helpers")
        self._pid = life.directory / "helper"
        self._source = ""
        self._run(package(), life.command)
        life.environment["LOWCONMON_LOG_COMPRESS"] = "1"

    def meet(self, spec: str) -> None:
        """Let calls of this tree's program fail: see tests/support/faults.py."""
        shutil.rmtree(self.copy)
        self._run(ROOT / "lowconmon_tools", faults.command(spec))

    def _run(self, package: Path, command: list[str]) -> None:
        """Let the life's program be *command*, which finds the copy in the place of *package*."""
        shutil.copytree(package, self.copy)
        self._source = self.program.read_text()
        assert self._source.count(BE_IDLE) == 1
        self.put("")
        mounted = [*UNSHARE, "sh", "-c", BIND, "sh", str(self.copy), str(package)]
        self.life.command = [*mounted, *command]

    def put(self, first: str) -> None:
        """Let the helpers that start from now on do *first* what is not theirs."""
        self.program.write_text(self._source.replace(BE_IDLE, first))

    def hold(self, *, idle: bool = False) -> None:
        """Hold each helper that starts from now on at the gate; *idle*: after it has become so."""
        wait = WAIT.format(pid=str(self._pid), gate=str(self.gate.path))
        self.put(BE_IDLE * idle + wait)

    def held(self) -> int:
        """Return the pid of the next helper that waits at the gate."""
        pid = int(wait_until(lambda: read_if_there(self._pid), "a helper at the gate"))
        self._pid.unlink()
        return pid

    def release(self, word: str = "go") -> None:
        """Let the helper that is held, or the next one, do its work (or `exit STATUS`)."""
        os.write(self.gate.fd, word.encode() + b"\n")

    def running(self, monitor: int) -> list[int]:
        """Return the pids of a monitor's helpers."""
        children = Path(f"/proc/{monitor}/task/{monitor}/children").read_text().split()
        lines = {int(pid): read_if_there(Path(f"/proc/{pid}/cmdline")) or b"" for pid in children}
        return [pid for pid, line in lines.items() if line.endswith(b"/compress.py\0")]


@pytest.fixture
def logs(life: Life) -> Path:
    """Put the log in a directory of its own and return that."""
    directory = life.directory / "logs"
    directory.mkdir()
    life.log = directory / "ctr.log"
    return directory


@pytest.fixture
def helpers(life: Life, logs: Path) -> Iterator[Helpers]:
    assert logs.is_dir()
    one = Helpers(life)
    yield one
    one.gate.close()


@pytest.fixture
def echo(life: Life, helpers: Helpers) -> Callable[..., Echo]:
    """Start a container each of whose lines gets a file for itself, with *kept* backups."""
    assert helpers.life is life

    def start(kept: int = 100, driver: str = "k8s-file", *more: str, **how: Any) -> Echo:
        life.stub(Echo.CONTAINER)
        life.start(*options(life, driver, 1, kept), "-i", *more, **how)
        return Echo(life)

    return start


def options(life: Life, driver: str, limit: int, kept: int) -> list[str]:
    words = ["-l", f"{driver}:{life.log}", "--log-size-max", str(limit), "--no-sync-log"]
    return [*words, "--log-rotate", "--log-max-files", str(kept)]


def lines(first: int, last: int) -> list[bytes]:
    return [b"%04d\n" % number for number in range(first, last + 1)]


def names(log: Path) -> set[str]:
    """Return what there is beside the log, without the log's own name."""
    names = {path.name for path in log.parent.iterdir() if path.name != ".ballast"}
    return {name.removeprefix(log.name) for name in names - {log.name}}


def endings(first: int, last: int, end: str = ".gz") -> set[str]:
    return {f".{number}{end}" for number in range(first, last + 1)}


def files(log: Path) -> list[Path]:
    """Return each backup once, the oldest first, and the log; of two files of one, the second."""
    numbers = {int(name.split(".")[1]) for name in names(log) if name[1].isdigit()}
    found = []
    for number in sorted(numbers, reverse=True):
        plain, packed = (
            log.with_name(f"{log.name}.{number}"),
            log.with_name(f"{log.name}.{number}.gz"),
        )
        if plain.exists() and packed.exists():
            assert content_of(packed) == plain.read_bytes()
        found.append(packed if packed.exists() else plain)
    return [*found, log] if log.exists() else found


def read(log: Path, driver: str = "k8s-file") -> list[tuple[bytes, bytes]]:
    """Return what each file says was written on stdout and stderr, the oldest first."""
    texts = kubelet.texts if driver == "k8s-file" else json_log.texts
    contents = [content_of(path) if path != log else log.read_bytes() for path in files(log)]
    return list(map(texts, contents))


def said(log: Path, driver: str = "k8s-file") -> list[bytes]:
    """Return what each file says was written on stdout, the oldest first."""
    return [out for out, _ in read(log, driver)]


def together(log: Path, driver: str) -> tuple[bytes, bytes]:
    """Return all that was written on stdout and stderr."""
    found = read(log, driver)
    return b"".join(out for out, _ in found), b"".join(err for _, err in found)


def wait_for_names(log: Path, expected: set[str]) -> None:
    wait_until(lambda: names(log) == expected, f"{expected} beside the log")


# What is made


@pytest.mark.contract("GZ-1", "GZ-2", "GZ-3", "JSON-6")
@BOTH
def test_each_backup_becomes_a_gzip_file_of_the_same_content(
    life: Life, echo: Callable[..., Echo], driver: str
) -> None:
    container = echo(5, driver)
    container.say(b"first\n")
    life.log.chmod(0o604)
    inode = life.log.stat().st_ino
    with life.log.open("rb") as plain:
        container.say(b"second\n")
        wait_for_names(life.log, {".1.gz"})
        packed = Path(f"{life.log}.1.gz")
        assert os.fstat(plain.fileno()).st_ino == inode
        assert gzip.decompress(packed.read_bytes()) == plain.read()
    assert packed.stat().st_mode & 0o7777 == 0o604
    subprocess.run(["gzip", "-t", packed], check=True, timeout=20)
    zcat = subprocess.run(["zcat", packed], check=True, timeout=20, capture_output=True)
    assert b"first" in zcat.stdout
    container.end()
    assert said(life.log, driver) == [b"first\n", b"second\n"]
    assert names(life.log) == {".1.gz"}


@pytest.mark.contract("GZ-1", "GZ-3")
@BOTH
@pytest.mark.parametrize("kept", [1, 3])
def test_compressed_files_are_shifted_and_count_among_the_backups(
    life: Life, echo: Callable[..., Echo], driver: str, kept: int
) -> None:
    container = echo(kept, driver)
    all_ = lines(1, 8)
    for number, text in enumerate(all_):
        container.say(text)
        wait_for_names(life.log, endings(1, min(number, kept)))
        assert said(life.log, driver) == all_[max(0, number - kept) : number + 1]
    container.end()
    assert said(life.log, driver) == all_[-kept - 1 :]


@pytest.mark.contract("GZ-1", "GZ-2", "GZ-3", "GZ-4")
@BOTH
def test_under_load_every_compressed_file_is_whole_at_all_times(
    life: Life, helpers: Helpers, driver: str
) -> None:
    end = Gate(life.directory / "end")
    load = Load(life, lines=4000, end=f"open({str(end.path)!r}).readline()")
    life.stub(load.container)
    life.start(*options(life, driver, 20_000, 1000))
    life.pid()
    monitor = life.monitor_pid()
    while not load.count.exists():
        assert len(helpers.running(monitor)) <= 1
        for path in life.log.parent.glob("*.gz"):
            content = read_if_there(path)
            assert content is None or gzip.decompress(content).endswith(b"\n")
    assert len(names(life.log)) > 20
    wait_until(lambda: names(life.log) == endings(1, len(names(life.log))), "the last helper")
    end.open()
    assert life.exit_status() == 3
    life.wait_gone()
    end.close()
    assert together(life.log, driver) == load.texts()


@pytest.mark.contract("GZ-1", "GZ-2")
@BOTH
def test_a_life_with_helpers_that_are_idle_goes_the_same_way(
    life: Life, logs: Path, driver: str
) -> None:
    # The program as it is. No wait: nobody knows when there is time that nobody wants.
    assert logs.is_dir()
    life.environment["LOWCONMON_LOG_COMPRESS"] = "1"
    load = Load(life, lines=2000)
    life.stub(load.container)
    life.start(*options(life, driver, 20_000, 1000))
    life.pid()
    assert life.exit_status() == 3
    life.wait_gone()
    assert together(life.log, driver) == load.texts()
    assert ".gz.tmp" not in names(life.log)


@pytest.mark.contract("GZ-1")
@pytest.mark.parametrize(
    ("value", "rotate"),
    [("0", True), ("", True), ("yes", True), ("11", True), (None, True), ("1", False)],
)
def test_without_the_word_or_without_backups_nothing_is_compressed(
    life: Life, helpers: Helpers, value: str | None, rotate: bool
) -> None:
    helpers.hold()
    del life.environment["LOWCONMON_LOG_COMPRESS"]
    if value is not None:
        life.environment["LOWCONMON_LOG_COMPRESS"] = value
    words = options(life, "k8s-file", 1, 9)
    life.stub(Echo.CONTAINER).start("-i", *(words if rotate else words[:4]))
    container = Echo(life)
    container.say(*lines(1, 3))
    assert helpers.running(life.monitor_pid()) == []
    container.end()
    assert names(life.log) == (endings(1, 2, "") if rotate else set())


@pytest.mark.contract("GZ-1", "ROT-6")
def test_what_was_compressed_is_shifted_by_a_life_that_does_not_compress(
    life: Life, echo: Callable[..., Echo]
) -> None:
    Path(f"{life.log}.1.gz").write_bytes(gzip.compress(old_log([b"b"])))
    Path(f"{life.log}.2.gz").write_bytes(gzip.compress(old_log([b"a"])))
    life.log.write_bytes(old_log([b"c"]))
    del life.environment["LOWCONMON_LOG_COMPRESS"]
    container = echo(3)
    container.say(b"d\n", b"e\n")
    container.end()
    assert names(life.log) == {".1", ".2", ".3.gz"}
    assert said(life.log) == [b"b\n", b"c\n", b"d\n", b"e\n"]


@pytest.mark.contract("GZ-1", "REOPEN-2")
def test_what_a_message_rotates_is_compressed_too(life: Life, helpers: Helpers) -> None:
    life.stub(Echo.CONTAINER).start("-i", "--log-rotate", "--log-max-files", "2")
    container = Echo(life)
    assert helpers.running(life.monitor_pid()) == []
    container.say(b"old\n")
    kubelet.reopen(life, REOPEN)
    wait_for_names(life.log, {".1.gz"})
    container.say(b"new\n")
    container.end()
    assert said(life.log) == [b"old\n", b"new\n"]


@pytest.mark.contract("GZ-1", "GZ-2")
def test_what_earlier_lives_left_plain_is_compressed_with_the_next_backup(
    life: Life, helpers: Helpers, echo: Callable[..., Echo]
) -> None:
    for number, text in ((1, b"c"), (2, b"b"), (4, b"a")):  # with a gap
        Path(f"{life.log}.{number}").write_bytes(old_log([text]))
    life.log.write_bytes(old_log([b"d"]))
    container = echo(4)
    assert helpers.running(life.monitor_pid()) == []
    container.say(b"e\n")  # which fills the gap
    wait_for_names(life.log, endings(1, 4))
    container.end()
    assert said(life.log) == [b"a\n", b"b\n", b"c\n", b"d\n", b"e\n"]


@pytest.mark.contract("GZ-1")
@pytest.mark.parametrize("name", [b"a b.log", b"\xff\xfe.log", b"x.gz", b"-n", b"n" * 240])
def test_the_log_may_be_called_anything(
    life: Life, helpers: Helpers, logs: Path, name: bytes
) -> None:
    assert helpers.copy.is_dir()
    life.log = logs / os.fsdecode(name)
    life.stub(Echo.CONTAINER).start("-i", *options(life, "k8s-file", 1, 9))
    container = Echo(life)
    container.say(b"1\n", b"2\n")
    wait_for_names(life.log, {".1.gz"})
    container.end()
    assert said(life.log) == [b"1\n", b"2\n"]


# While a helper works


@pytest.mark.contract("GZ-2", "GZ-3")
def test_a_backup_that_moves_while_it_is_compressed_is_found_again(
    life: Life, helpers: Helpers, echo: Callable[..., Echo]
) -> None:
    helpers.hold()
    container = echo()
    container.say(*lines(1, 2))
    helpers.held()
    container.say(*lines(3, 6))
    assert names(life.log) == {*endings(1, 5, ""), ".gz.tmp"}
    helpers.release()
    # Then the others, the oldest first, one at a time.
    for number in (4, 3, 2, 1):
        pid = helpers.held()
        assert helpers.running(life.monitor_pid()) == [pid]
        assert names(life.log) == {*endings(number + 1, 5), *endings(1, number, ""), ".gz.tmp"}
        assert said(life.log) == lines(1, 6)
        helpers.release()
    wait_for_names(life.log, endings(1, 5))
    container.end()
    assert said(life.log) == lines(1, 6)


@pytest.mark.contract("GZ-2", "GZ-3", "ROT-9")
@pytest.mark.parametrize("further", [1, 2, 5])
def test_a_backup_that_is_dropped_while_it_is_compressed_leaves_nothing(
    life: Life, helpers: Helpers, echo: Callable[..., Echo], further: int
) -> None:
    helpers.hold()
    container = echo(2)
    container.say(*lines(1, 2))
    helpers.held()
    container.say(*lines(3, 3 + further))
    assert names(life.log) == {".1", ".2", ".gz.tmp"}
    helpers.put("")
    helpers.release()
    wait_for_names(life.log, {".1.gz", ".2.gz"})
    container.end()
    assert said(life.log) == lines(1 + further, 3 + further)


@pytest.mark.contract("GZ-2", "GZ-3", "ROT-9")
def test_a_helper_that_never_gets_on_holds_up_neither_rotation_nor_end(
    life: Life, helpers: Helpers, echo: Callable[..., Echo]
) -> None:
    helpers.hold()
    container = echo(20)
    container.say(*lines(1, 2))
    pid = helpers.held()
    os.kill(pid, signal.SIGSTOP)
    container.say(*lines(3, 40))
    assert_idle(life.monitor_pid())
    container.client.close()
    assert life.exit_status(IN_TIME) == 0
    life.wait_gone(IN_TIME)
    wait_until(lambda: gone(pid), "the helper's end")
    assert names(life.log) == endings(1, 20, "")
    assert said(life.log) == lines(20, 40)


@pytest.mark.contract("GZ-2", "END-6", "END-18")
def test_the_helper_is_ended_before_the_exit_command_and_reaped(
    life: Life, helpers: Helpers, echo: Callable[..., Echo]
) -> None:
    helpers.hold()
    container = echo(9, "k8s-file", "--exit-command", "/bin/true", "--exit-delay", "60")
    container.say(*lines(1, 2))
    pid = helpers.held()
    monitor = life.monitor_pid()
    container.client.close()
    assert life.exit_status(IN_TIME) == 0
    children = Path(f"/proc/{monitor}/task/{monitor}/children")
    wait_until(lambda: str(pid) not in children.read_text().split(), "the helper is reaped")
    assert not gone(monitor)
    wait_for_names(life.log, {".1"})
    assert said(life.log) == lines(1, 2)


@pytest.mark.contract("GZ-2", "END-7")
def test_a_listening_socket_that_the_manager_left_is_not_the_helpers(
    life: Life, helpers: Helpers, echo: Callable[..., Echo]
) -> None:
    # Acceptable: the port is free as soon as the exit file is there.
    helpers.hold()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        container = echo(9, pass_fds=(server.fileno(),))
    container.say(*lines(1, 2))
    pid = helpers.held()
    held = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
    assert not [target for target in held if target.startswith("socket:")]
    container.client.close()
    assert life.exit_status() == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 20)


@pytest.mark.contract("GZ-2")
def test_the_helper_has_the_two_files_and_takes_only_time_that_nobody_wants(
    life: Life, helpers: Helpers, echo: Callable[..., Echo]
) -> None:
    helpers.hold(idle=True)
    container = echo()
    container.say(*lines(1, 2))
    # It may take its time: lift it until it is there.
    monitor = life.monitor_pid()
    (pid,) = wait_until(lambda: helpers.running(monitor), "the helper")
    wait_until(lambda: os.sched_getscheduler(pid) == os.SCHED_IDLE, "an idle helper")
    wait_until(lambda: lifted(pid) and (life.directory / "helper").exists(), "the helper's gate")
    assert helpers.held() == pid
    assert parent(pid) == monitor
    assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == [
        *(f"{life.log}.1", f"{life.log}.gz.tmp", "/dev/null")
    ]
    # The fourth is the gate.
    assert len(list(Path(f"/proc/{pid}/fd").iterdir())) == 4
    helpers.release()
    wait_for_names(life.log, {".1.gz"})
    container.end()


def lifted(pid: int) -> bool:
    """Give a process that was idle time as any other."""
    os.sched_setscheduler(pid, os.SCHED_OTHER, os.sched_param(0))
    return True


@pytest.mark.contract("GZ-2", "END-3", "SIG-5")
@pytest.mark.parametrize("status", [0, 7])
@pytest.mark.parametrize("word", ["go", "exit 1", "exit 2", "exit 9", "killed"])
@pytest.mark.parametrize("helper_first", [True, False])
def test_a_helper_that_ends_with_the_container_does_not_lend_it_its_status(
    life: Life, helpers: Helpers, status: int, word: str, helper_first: bool
) -> None:
    # Both have ended when the monitor, which was stopped, looks.
    helpers.hold()
    gate = Gate(life.directory / "end")
    life.stub(f"echo 1; echo 2; read x <{gate.path}; exit {status}")
    life.start(*options(life, "k8s-file", 1, 9))
    pid, monitor = life.pid(), life.monitor_pid()
    helper = helpers.held()
    os.kill(monitor, signal.SIGSTOP)

    def end_helper() -> None:
        if word == "killed":
            os.kill(helper, signal.SIGKILL)
        else:
            helpers.release(word)
        wait_until(lambda: gone(helper), "the helper's end")

    def end_container() -> None:
        gate.open()
        wait_until(lambda: gone(pid), "the container's end")

    for end in (end_helper, end_container)[:: 1 if helper_first else -1]:
        end()
    os.kill(monitor, signal.SIGCONT)
    assert life.exit_status() == status
    life.wait_gone()
    gate.close()
    assert names(life.log) in ({".1"}, {".1.gz"})
    assert said(life.log) == [b"1\n", b"2\n"]


@pytest.mark.contract("GZ-2")
def test_many_compressions_take_no_memory_and_no_time(
    life: Life, echo: Callable[..., Echo]
) -> None:
    container = echo(200)
    monitor = life.monitor_pid()
    before = 0
    for number in range(1, 61):
        container.say(b"%04d\n" % number)
        wait_for_names(life.log, endings(1, number - 1))
        before = before or (private_kib(monitor) if number > 10 else 0)
    assert private_kib(monitor) - before < 512
    assert_idle(monitor)
    fds = len(list(Path(f"/proc/{monitor}/fd").iterdir()))
    container.say(b"last\n")
    wait_for_names(life.log, endings(1, 60))
    assert len(list(Path(f"/proc/{monitor}/fd").iterdir())) == fds
    container.end()


# What goes wrong


@pytest.mark.contract("GZ-2", "GZ-3", "DIAG-7")
@pytest.mark.parametrize("how", ["killed", "fails", "removed", "spoilt", "empty"])
def test_a_helper_that_fails_is_told_and_leaves_the_plain_backup(
    life: Life, helpers: Helpers, how: str
) -> None:
    if how in ("killed", "fails"):
        helpers.hold()
    elif how == "spoilt":
        helpers.program.write_bytes(b"\0garbage(\n")
    elif how == "empty":  # Python ends it with status 0, and 3.11 the garbage too
        helpers.program.write_bytes(b"")
    with Syslog(life) as syslog:
        life.stub(Echo.CONTAINER).start("-i", "--syslog", *options(life, "k8s-file", 1, 9))
        container = Echo(life)
        if how == "removed":  # a package is removed under its containers
            helpers.program.unlink()
        container.say(*lines(1, 2))
        if how == "killed":
            os.kill(helpers.held(), signal.SIGKILL)
        elif how == "fails":
            helpers.held()
            helpers.release("exit 1")
        status = {
            "killed": b"137",
            "fails": b"1",
            "removed": b"2",
            "spoilt": b"[01]",
            "empty": b"0",
        }
        line = syslog.wait(b" <nwarn>: ")
        assert re.search(b"Compressing a rotated log failed with status %b$" % status[how], line)
        wait_for_names(life.log, {".1"})
        assert_idle(life.monitor_pid())
        assert helpers.running(life.monitor_pid()) == []
        # Another one is tried with the next backup.
        helpers.put("")
        container.say(*lines(3, 3))
        wait_for_names(life.log, endings(1, 2))
        container.end()
        assert len([line for line in syslog.lines() if b"nwarn" in line]) == 1
    assert said(life.log) == lines(1, 3)


@pytest.mark.contract("GZ-2", "GZ-3")
@pytest.mark.parametrize(
    "fault",
    [
        "spawn:errno=EAGAIN:nth=2",  # the first one is the runtime
        "open:errno=EMFILE:file=gz.tmp",
        "open:errno=EACCES:nth=1:file=ctr.log.1",
        "rename:errno=EIO:file=gz.tmp",
        "fstat:errno=EIO:file=ctr.log.1",
    ],
)
def test_a_call_that_fails_leaves_the_plain_backup_until_the_next(
    life: Life, helpers: Helpers, fault: str
) -> None:
    helpers.meet(fault)
    life.stub(Echo.CONTAINER).start("-i", *options(life, "k8s-file", 1, 9))
    container = Echo(life)
    container.say(*lines(1, 2))
    wait_for_names(life.log, {".1"})
    assert_idle(life.monitor_pid())
    assert names(life.log) == {".1"}
    container.say(*lines(3, 3))
    wait_for_names(life.log, endings(1, 2))
    container.end()
    assert said(life.log) == lines(1, 3)
    assert helpers.copy.is_dir()


@pytest.mark.contract("GZ-2", "GZ-3", "DIAG-7")
def test_where_a_result_can_never_be_put_in_place_helper_does_not_follow_helper(
    life: Life, helpers: Helpers
) -> None:
    starts = life.directory / "starts"
    helpers.meet("rename:errno=EROFS:times=forever:file=gz.tmp")
    helpers.put(f"    open({str(starts)!r}, 'ab').write(b'x')\n")
    life.stub(Echo.CONTAINER).start("-i", *options(life, "k8s-file", 1, 9))
    container = Echo(life)
    container.say(*lines(1, 2))
    wait_until(lambda: read_if_there(starts), "the helper")
    wait_for_names(life.log, {".1"})
    assert_idle(life.monitor_pid())
    container.end()
    assert starts.read_bytes() == b"x"
    assert said(life.log) == lines(1, 2)


@pytest.mark.contract("GZ-3", "GZ-4")
@pytest.mark.parametrize("times", [1, 3])
def test_a_kubelet_that_removes_the_temporary_file_delays_the_compression(
    life: Life, helpers: Helpers, echo: Callable[..., Echo], times: int
) -> None:
    helpers.hold()
    container = echo()
    for number in range(1, times + 1):
        container.say(*lines(number, number))
        if number == 1:
            container.say(b"next\n")
        helpers.held()
        Path(f"{life.log}.gz.tmp").unlink()
        helpers.release()
        wait_until(lambda: not helpers.running(life.monitor_pid()), "the helper's end")
        assert names(life.log) == endings(1, number, "")
    helpers.put("")
    container.say(b"last\n")
    wait_for_names(life.log, endings(1, times + 1))
    container.end()
    assert said(life.log) == [b"0001\n", b"next\n", *lines(2, times), b"last\n"]


@pytest.mark.contract("GZ-3", "GZ-4")
@BOTH
def test_under_load_a_kubelet_that_removes_temporary_files_all_the_time_costs_nothing(
    life: Life, helpers: Helpers, driver: str
) -> None:
    load = Load(life, lines=3000)
    life.stub(load.container)
    life.start(*options(life, driver, 20_000, 1000))
    life.pid()
    removed = 0
    while not load.count.exists():
        for path in life.log.parent.glob("*.gz.tmp"):
            path.unlink(missing_ok=True)
            removed += 1
    assert removed
    assert life.exit_status() == 3
    life.wait_gone()
    assert helpers.copy.is_dir()
    assert together(life.log, driver) == load.texts()
    assert ".gz.tmp" not in names(life.log)


@pytest.mark.contract("GZ-3", "GZ-4", "ROT-10")
@pytest.mark.parametrize("limited", [True, False], ids=["limit", "message"])
@pytest.mark.parametrize("what", ["empty", "full", "read-only", "link", "dangling", "hard", "fifo"])
def test_a_stale_temporary_file_is_no_obstacle_and_no_trap(
    life: Life, helpers: Helpers, what: str, limited: bool
) -> None:
    """Not acceptable: that it stays, that what a link points to is touched."""
    stale = Path(f"{life.log}.gz.tmp")
    victim = life.directory / "victim"
    victim.write_bytes(b"precious")
    if what == "link":
        stale.symlink_to(victim)
    elif what == "dangling":
        stale.symlink_to(life.directory / "new")
    elif what == "hard":
        stale.hardlink_to(victim)
    elif what == "fifo":
        os.mkfifo(stale)
    else:
        stale.write_bytes(b"" if what == "empty" else gzip.compress(b"stale"))
        stale.chmod(0 if what == "read-only" else 0o640)
    words = options(life, "k8s-file", 1, 9)
    del words[2 : 2 if limited else 4]
    life.stub(Echo.CONTAINER).start("-i", *words)
    container = Echo(life)
    assert names(life.log) == (set() if limited else {".gz.tmp"})
    container.say(b"old\n")
    kubelet.reopen(life, REOPEN)
    wait_for_names(life.log, {".1.gz"})
    container.say(b"new\n")
    container.end()
    assert said(life.log) == [b"old\n", b"new\n"]
    assert victim.read_bytes() == b"precious"
    assert not (life.directory / "new").exists()
    assert helpers.copy.is_dir()


@pytest.mark.contract("GZ-2", "GZ-3")
@pytest.mark.parametrize("what", ["link", "dangling", "directory", "fifo", "socket"])
def test_what_is_no_file_among_the_backups_is_left_alone_and_holds_up_nothing(
    life: Life, helpers: Helpers, echo: Callable[..., Echo], what: str
) -> None:
    strange = Path(f"{life.log}.3")
    victim = life.directory / "victim"
    victim.write_bytes(b"precious")
    if what == "link":
        strange.symlink_to(victim)
    elif what == "dangling":
        strange.symlink_to(life.directory / "new")
    elif what == "directory":
        strange.mkdir()
    elif what == "fifo":
        os.mkfifo(strange)
    else:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(str(strange))
    container = echo(9)
    container.say(*lines(1, 2))
    wait_until(lambda: not helpers.running(life.monitor_pid()), "the helper's end")
    assert_idle(life.monitor_pid())
    container.say(*lines(3, 3))
    container.client.close()
    assert life.exit_status(IN_TIME) == 0
    life.wait_gone(IN_TIME)
    assert victim.read_bytes() == b"precious"
    assert ".3" in names(life.log)
    assert names(life.log) - {".3"} <= {".1", ".2", ".1.gz", ".2.gz"}


@pytest.mark.contract("GZ-3", "GZ-1", "ROT-21")
@pytest.mark.parametrize("doubled", [(1,), (2,), (3,), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("kept", [3, 4])
def test_a_plain_backup_beside_its_compressed_one_goes_with_the_next_rotation(
    life: Life, echo: Callable[..., Echo], kept: int, doubled: tuple[int, ...]
) -> None:
    for number in range(1, 4):
        content = old_log([b"%d" % number])
        Path(f"{life.log}.{number}.gz").write_bytes(gzip.compress(content))
        if number in doubled:
            Path(f"{life.log}.{number}").write_bytes(content)
    life.log.write_bytes(old_log([b"0"]))
    container = echo(kept)
    assert len(names(life.log)) == 3 + len(doubled)
    container.say(b"new\n")
    wait_for_names(life.log, endings(1, kept))
    container.end()
    assert said(life.log) == [b"3\n", b"2\n", b"1\n", b"0\n", b"new\n"][4 - kept :]


@pytest.mark.contract("GZ-2", "GZ-3")
@pytest.mark.parametrize("change", ["grows", "is cut", "is replaced", "is removed"])
def test_a_backup_that_another_changes_meanwhile_is_not_replaced(
    life: Life, helpers: Helpers, echo: Callable[..., Echo], change: str
) -> None:
    # The helper has the file open, but has not looked at it yet: it compresses what it finds.
    helpers.hold()
    container = echo()
    container.say(*lines(1, 2))
    helpers.held()
    backup = Path(f"{life.log}.1")
    more = old_log([b"more"])
    if change == "grows":
        with backup.open("ab") as file:
            file.write(more)
    elif change == "is cut":
        os.truncate(backup, 0)
    else:
        backup.unlink()
    if change == "is replaced":
        backup.write_bytes(more)
    helpers.put("")
    helpers.release()
    expected = {
        "grows": [b"0001\nmore\n"],
        "is cut": [b""],
        "is replaced": [b"more\n"],
        "is removed": [],
    }
    wait_for_names(life.log, {".1.gz"} if expected[change] else set())
    container.end()
    assert said(life.log) == [*expected[change], b"0002\n"]


# A full disk


@pytest.mark.contract("GZ-2", "GZ-3", "LOG-36", "CASE-401")
@BOTH
@pytest.mark.parametrize("pages", [0, 1, 10])
def test_a_disk_that_is_full_for_the_helper_costs_nothing(
    life: Life, helpers: Helpers, driver: str, pages: int
) -> None:
    """Acceptable: the helper fails and gives back what it took; the log waits no longer than that."""
    text = os.urandom(150_000).hex().encode()
    with Disk(life) as disk:
        helpers.hold()
        life.stub(Echo.CONTAINER)
        words = options(life, driver, 350_000, 9)
        disk.start(*words, "-i")
        container = Echo(life)
        container.say(*(text[at : at + 5000] + b"\n" for at in range(0, 300_000, 5000)))
        container.say(*[b"x" * 7_500 + b"\n"] * 8)
        helpers.held()
        assert names(life.log) == {".1", ".gz.tmp"}
        disk.fill(leave=pages * PAGE)
        helpers.release()
        wait_for_names(life.log, {".1"})
        container.say(b"more\n")
        disk.free()
        wait_until(lambda: b"more" in life.log.read_bytes(), "what waited for space")
        before = together(life.log, driver)
        helpers.put("")
        kubelet.reopen(life, REOPEN)
        wait_for_names(life.log, {".1.gz", ".2.gz"})
        container.end()
        assert together(life.log, driver) == before
        assert before[0].replace(b"\n", b"") == text + b"x" * 60_000 + b"more"
        life.end()


# Kills


@pytest.mark.contract("GZ-2", "GZ-3")
def test_the_helper_dies_with_the_monitor_and_the_next_one_goes_on(
    life: Life, helpers: Helpers, echo: Callable[..., Echo]
) -> None:
    helpers.hold()
    container = echo()
    container.say(*lines(1, 3))
    pid, monitor = helpers.held(), life.monitor_pid()
    kill(monitor)
    wait_until(lambda: gone(pid), "the helper's end")
    assert names(life.log) == {".1", ".2", ".gz.tmp"}
    life.end()
    helpers.put("")
    container = Echo(next_life(life))
    assert names(life.log) == {".1", ".2"}
    container.say(b"next\n")
    wait_for_names(life.log, endings(1, 3))
    container.end()
    assert said(life.log) == [*lines(1, 3), b"next\n"]


def next_life(life: Life) -> Life:
    """Start a monitor with the options of `echo` on the log of a life that has ended."""
    life.conmon_pid_file.unlink(missing_ok=True)
    life.pid_file.unlink(missing_ok=True)
    return life.stub(Echo.CONTAINER).start("-i", *options(life, "k8s-file", 1, 100))


@pytest.mark.contract("GZ-2", "GZ-3", "GZ-4", "ROT-21")
def test_killed_at_any_call_of_a_compression_the_next_monitor_goes_on(
    life: Life, helpers: Helpers
) -> None:
    """The monitor is killed before each system call from a rotation to the end of its compression.

    Acceptable: the backup is there plain or compressed, or as both; the next monitor goes on.
    Not acceptable: it is there in neither way, or as a part; a leftover after the next rotation.
    """
    command = life.command
    trace = life.directory / "trace"
    seen: list[set[str]] = []

    def live(*inject: str, until: set[str] | None) -> list[str]:
        """Live until the monitor is killed; return its calls about files."""
        for path in life.log.parent.iterdir():
            path.unlink()
        life.command = ["strace", "-qq", "-o", str(trace), "-e", "trace=file", *inject, *command]
        life.stub(Echo.CONTAINER)
        # With --sync the process that is started, and that strace follows, is the monitor itself.
        life.start("-i", "--sync", *options(life, "k8s-file", 1, 100), wait=False)
        monitor = parent(life.pid())
        container = life.attach()
        container.send(b"0001\n0002\n")
        if until is not None:
            wait_for_names(life.log, until)
            kill(monitor)
        assert life.launcher is not None
        life.launcher.wait(DEADLINE)
        container.close()
        life.end()
        return trace.read_text().splitlines()

    calls = live(until={".1.gz"})
    begun = next(index for index, call in enumerate(calls) if 'ctr.log.tmp", O_' in call)
    counts: dict[str, int] = {}
    for index, call in enumerate(calls):
        name = call.partition("(")[0]
        counts[name] = counts.get(name, 0) + 1
        if index < begun or not ABOUT.search(call):
            continue
        live("-e", f"inject={name}:signal=SIGKILL:when={counts[name]}", until=None)
        found = names(life.log)
        whole = [text for text in said(life.log) if text]
        assert whole in ([b"0001\n"], lines(1, 2)), call
        if found in seen:
            continue
        seen.append(found)
        life.command = command
        container = Echo(next_life(life))
        container.say(b"next\n", b"last\n")
        wait_for_names(life.log, endings(1, len(whole) + 1))
        container.end()
        life.end()
        assert said(life.log) == [*whole, b"next\n", b"last\n"], call
    assert [
        names for names in ({".1"}, {".1", ".gz.tmp"}, {".1", ".1.gz"}) if names not in seen
    ] == []
    assert helpers.copy.is_dir()
