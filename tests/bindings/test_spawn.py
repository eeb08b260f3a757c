"""spawn: what the child finds, what the caller hears, and that nothing but C runs in between."""

from __future__ import annotations

import errno
import itertools
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from lowconmon import syscalls
from tests.support import (
    ROOT,
    SLOWNESS,
    is_cloexec,
    open_fds,
    read_all,
    read_line,
    run_python,
    signals_in,
    status_of,
    wait_for,
)

if TYPE_CHECKING:
    from .conftest import Own, Spawner


def status_fields(output: bytes) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in output.decode().splitlines())


# What the caller hears


def test_a_program_that_starts_is_told_by_the_end_of_error_fd(spawner: Spawner) -> None:
    child = spawner.start("true")
    assert is_cloexec(child.error_fd)
    assert not os.get_blocking(child.error_fd)
    wait_for(child.error_fd)
    assert os.read(child.error_fd, 100) == b""
    assert spawner.exec_error(child) is None
    assert spawner.wait(child) == 0


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/nonexistent/program", errno.ENOENT),
        ("/", errno.EACCES),
        ("/etc/passwd", errno.EACCES),
        ("/etc/passwd/below", errno.ENOTDIR),
        ("/" + "x" * 300, errno.ENAMETOOLONG),
    ],
    ids=["not there", "a folder", "no program", "below a file", "too long"],
)
def test_a_program_that_cannot_start_is_told_by_its_errno(
    spawner: Spawner, path: str, expected: int
) -> None:
    child = spawner.start(path)
    assert spawner.exec_error(child) == expected
    assert spawner.wait(child) == 127


def test_a_file_that_is_no_program_is_told_by_its_errno(spawner: Spawner, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_bytes(b"\x7fnothing")
    junk.chmod(0o755)
    child = spawner.start(str(junk))
    assert spawner.exec_error(child) == errno.ENOEXEC
    assert spawner.wait(child) == 127


@pytest.mark.parametrize("code", [0, 1, 126, 127, 128, 255])
def test_the_exit_code_is_the_programs_own(spawner: Spawner, code: int) -> None:
    assert spawner.run("sh", b"-c", b"exit %d" % code) == (None, code, b"")


def test_arguments_arrive_byte_for_byte(spawner: Spawner) -> None:
    arguments = [b"", b" a  b ", b"\xff\xfe", b"'\"\\$x\n", b"-" * 100_000]
    _, _, output = spawner.run("cat", b"/proc/self/cmdline")
    zeroth = output.split(b"\0")[0]
    script = b'for i in "$@"; do printf "%s\\0" "$i"; done'
    assert zeroth == b"cat"
    _, code, output = spawner.run("sh", b"-c", script, b"sh", *arguments)
    assert code == 0
    assert output == b"".join(argument + b"\0" for argument in arguments)


def test_a_full_descriptor_table_is_an_error_of_the_call(spawner: Spawner) -> None:
    before = open_fds()
    old = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, old[1]))
    try:
        with pytest.raises(OSError, match=r".") as caught:
            spawner.start("true")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, old)
    assert caught.value.errno == errno.EMFILE
    assert set(open_fds()) == set(before)


def test_no_process_is_left_when_fork_fails() -> None:
    # Root is not counted, so this is about a user of its own.
    done = run_python(
        """
import errno, os, resource
from lowconmon import syscalls
if os.getuid() == 0:
    os.setgroups([])
    os.setresgid(54321, 54321, 54321)
    os.setresuid(54321, 54321, 54321)
resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
before = os.listdir("/proc/self/fd")
try:
    syscalls.spawn(b"/bin/true", [b"true"], [])
except BlockingIOError as error:
    assert error.errno == errno.EAGAIN
    assert os.listdir("/proc/self/fd") == before
    print("refused")
"""
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")


# Descriptors

MATRIX = """
import itertools, json, os, sys
from lowconmon import syscalls
from tests.support import program, status_of, wait_for

report = os.fdopen(os.dup(1), "w")
path, name = program("sleep")
folder, step = sys.argv[1], int(sys.argv[2])
found = []

def links(pid):
    folder = f"/proc/{pid}/fd"
    return {int(fd): os.readlink(f"{folder}/{fd}").rpartition("/")[2] for fd in os.listdir(folder)}

def observe(stdio):
    pid, error_fd = syscalls.spawn(path, [name, b"1000"], [], stdio=stdio)
    os.set_blocking(error_fd, True)
    error = os.read(error_fd, 4)
    os.close(error_fd)
    if error:
        found_links = int.from_bytes(error, sys.byteorder)
    else:
        # The loader opens libraries for a moment: look when the program sleeps.
        wait_for(lambda: status_of(pid)["State"].startswith("S"))
        found_links = links(pid)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    return found_links

def refill(closed):
    for fd in range(3):
        new = os.open(f"{folder}/{'abc'[fd]}", os.O_RDWR)
        if new != fd:
            os.dup2(new, fd, inheritable=True)
            os.close(new)
        os.set_inheritable(fd, True)
    for fd in closed:
        os.close(fd)

for count in range(4):
    for closed in itertools.combinations(range(3), count):
        refill(closed)
        for stdio in list(itertools.product((-1, 0, 1, 2), repeat=3))[::step]:
            found.append((closed, stdio, observe(stdio)))
        # Sources made now take the lowest free numbers.
        made = [os.open(f"{folder}/{name}", os.O_RDWR) for name in "xyz"]
        for stdio in itertools.permutations(made):
            names = [ "xyz"[made.index(fd)] for fd in stdio]
            found.append(("made", names, observe(stdio)))
        for fd in made:
            os.close(fd)
json.dump(found, report)
"""


def test_stdio_is_mapped_whatever_its_sources_are_and_whatever_was_closed(tmp_path: Path) -> None:
    # acceptable: each of 0-2 is what was asked for, or EBADF for a source that is not open.
    # Not acceptable: the error pipe or a source that was overwritten before its turn in 0-2, or
    # any descriptor above 2 in the program.
    for name in "abcxyz":
        (tmp_path / name).touch()
    step = 1 if SLOWNESS < 2 else 5  # no divisor of 4: every source comes at every place
    done = run_python(MATRIX, str(tmp_path), str(step), timeout_s=100)
    assert done.stderr == ""
    cases = json.loads(done.stdout)
    assert len(cases) == 8 * (len(range(0, 64, step)) + 6)
    for closed, stdio, observed in cases:
        if closed == "made":
            open_there = dict.fromkeys(range(3))
            expected: Any = {str(fd): stdio[fd] for fd in open_there}
        elif any(source in closed for source in stdio):
            expected = errno.EBADF
        else:
            here = {fd: "abc"[fd] for fd in range(3) if fd not in closed}
            expected = {
                str(fd): here[source if source >= 0 else fd]
                for fd, source in enumerate(stdio)
                if source >= 0 or fd in here
            }
        assert observed == expected, (closed, stdio)


def test_inheritable_descriptors_pass_and_the_others_do_not(spawner: Spawner, own: Own) -> None:
    reader, writer = own(os.pipe())
    os.set_inheritable(writer, True)
    child = spawner.start("sleep", b"1000")
    assert spawner.exec_error(child) is None
    handed_down = {fd for fd in open_fds() if fd > 2 and not cloexec_or_gone(fd)}
    assert writer in handed_down
    assert reader not in handed_down
    # The loader opens libraries for a moment.
    wait_for(
        lambda: {int(fd) for fd in os.listdir(f"/proc/{child.pid}/fd")} - {0, 1, 2} == handed_down
    )


def cloexec_or_gone(fd: int) -> bool:
    try:
        return is_cloexec(fd)
    except OSError:
        return True


# Terminal and session


def test_the_terminal_is_stdio_and_controls_the_session(spawner: Spawner, own: Own) -> None:
    master, slave = own(syscalls.openpty())
    name = os.fsencode(os.ttyname(slave))
    script = (
        b"for i in 0 1 2; do readlink /proc/$$/fd/$i; done; echo yes >/dev/tty; exec sleep 1000"
    )
    child = spawner.start("sh", b"-c", script, terminal=slave, new_session=True)
    assert [read_line(master).rstrip() for _ in range(4)] == [name, name, name, b"yes"]
    assert spawner.exec_error(child) is None
    assert os.getsid(child.pid) == os.getpgid(child.pid) == child.pid
    os.write(master, b"\x03")  # Ctrl-C
    assert spawner.wait(child) == -signal.SIGINT


def test_without_a_new_session_the_terminal_is_refused(spawner: Spawner, own: Own) -> None:
    _, slave = own(syscalls.openpty())
    child = spawner.start("true", terminal=slave)
    assert spawner.exec_error(child) == errno.EPERM
    assert spawner.wait(child) == 127


def test_something_else_as_the_terminal_is_refused(spawner: Spawner, own: Own) -> None:
    reader, _ = own(os.pipe())
    child = spawner.start("true", terminal=reader, new_session=True)
    assert spawner.exec_error(child) == errno.ENOTTY


def test_the_session_is_the_callers_unless_a_new_one_is_asked_for(spawner: Spawner) -> None:
    for new in (False, True):
        child = spawner.start("sleep", b"1000", new_session=new)
        assert spawner.exec_error(child) is None
        assert os.getsid(child.pid) == (child.pid if new else os.getsid(0))


# Before exec


def test_the_child_waits_until_wait_fd_was_read(spawner: Spawner, own: Own) -> None:
    reader, writer = own(os.pipe())
    child = spawner.start("sleep", b"1000", wait_fd=reader)
    wait_for(lambda: status_of(child.pid)["State"].startswith("S"))
    assert status_of(child.pid)["Name"] == status_of("self")["Name"]  # no exec yet
    with pytest.raises(BlockingIOError):
        os.read(child.error_fd, 4)
    os.write(writer, b"all of this is taken")
    assert spawner.exec_error(child) is None
    # The kernel closes descriptors first and names the program afterwards.
    wait_for(lambda: status_of(child.pid)["Name"] == "sleep")
    os.set_blocking(reader, False)
    with pytest.raises(BlockingIOError):
        os.read(reader, 1)


def test_the_end_of_wait_fd_counts_as_read(spawner: Spawner, own: Own) -> None:
    reader, writer = os.pipe()
    own(reader)
    child = spawner.start("true", wait_fd=reader)
    os.close(writer)  # the child has a copy of it: close-on-exec, but there is no exec yet
    os.kill(child.pid, signal.SIGKILL)
    assert spawner.wait(child) == -signal.SIGKILL
    done_reader, done_writer = os.pipe()
    os.close(done_writer)
    own(done_reader)
    child = spawner.start("true", wait_fd=done_reader)
    assert spawner.exec_error(child) is None
    assert spawner.wait(child) == 0


WAIT_FD_BELOW_3 = """
import json, os, sys
from lowconmon import syscalls
from tests.support import program, read_all, wait_for

report = os.dup(1)
path, name = program("true")
null = os.open("/dev/null", os.O_RDWR)
out, end = os.pipe()
found = []
for fd in range(3):
    for stdio in ((null, end, null), (end, fd, -1), (-1, -1, -1)):
        reader, writer = os.pipe()
        os.dup2(reader, fd)
        os.close(reader)
        pid, error_fd = syscalls.spawn(path, [name], [], stdio=stdio, wait_fd=fd)
        try:
            os.read(error_fd, 4)
            found.append("did not wait")
        except BlockingIOError:
            os.write(writer, b"go")
            found.append(len(read_all(error_fd)) + os.waitpid(pid, 0)[1])
        os.close(error_fd)
        os.close(writer)
os.write(report, json.dumps(found).encode())
"""


def test_a_wait_fd_below_3_is_waited_for_whatever_stdio_becomes() -> None:
    done = run_python(WAIT_FD_BELOW_3, timeout_s=100)
    assert (json.loads(done.stdout), done.stderr) == ([0] * 9, "")


def test_a_wait_fd_below_3_that_is_closed_is_told() -> None:
    # Not acceptable: that the error pipe, which takes the lowest free numbers, is waited for.
    done = run_python(
        """
import os, sys
from lowconmon import syscalls
from tests.support import program, read_all
path, name = program("true")
os.close(0)
pid, error_fd = syscalls.spawn(path, [name], [], wait_fd=0)
print(os.strerror(int.from_bytes(read_all(error_fd), sys.byteorder)))
os.waitpid(pid, 0)
"""
    )
    assert (done.stdout, done.stderr) == (os.strerror(errno.EBADF) + "\n", "")


def test_a_wait_fd_that_cannot_be_read_is_told(spawner: Spawner, own: Own) -> None:
    _, writer = own(os.pipe())
    assert spawner.exec_error(spawner.start("true", wait_fd=writer)) == errno.EBADF
    assert spawner.exec_error(spawner.start("true", wait_fd=10_000)) == errno.EBADF


def test_nothing_but_c_runs_between_fork_and_exec() -> None:
    # Python's own fork hooks would write; another thread that has the interpreter's lock at the
    # moment of the fork would stop any Python in the child for ever.
    done = run_python(
        """
import os, threading
from lowconmon import syscalls
from tests.support import program, read_all
reader, writer = os.pipe()
for when in ("before", "after_in_child", "after_in_parent"):
    os.register_at_fork(**{when: lambda when=when: os.write(writer, when.encode())})
stop = False
def busy():
    while not stop:
        pass
thread = threading.Thread(target=busy)
thread.start()
path, name = program("true")
for number in range(20):
    target = path if number % 2 else b"/nonexistent"
    pid, error_fd = syscalls.spawn(target, [name], [])
    assert len(read_all(error_fd)) == (0 if number % 2 else 4)
    os.close(error_fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (0 if number % 2 else 127)
stop = True
thread.join()
os.set_blocking(reader, False)
try:
    print(os.read(reader, 1000))
except BlockingIOError:
    print("silence")
""",
        timeout_s=100,
    )
    assert (done.stdout, done.stderr) == ("silence\n", "")


# The environment

ENTRIES = [
    b"A=1",
    b"A=2",
    b"\xff\xfe=\x80 not UTF-8",
    b"no equals sign",
    b"=",
    b"EMPTY=",
    b"A=1",
    b"LISTEN_PID=1",
    b"LISTEN_PID=2",
    b"LISTEN_FDS=1",
    b"LONG=" + b"x" * 50_000,
]


def test_the_environment_arrives_byte_for_byte(spawner: Spawner) -> None:
    _, _, output = spawner.run("cat", b"/proc/self/environ", environment=ENTRIES)
    assert output == b"".join(entry + b"\0" for entry in ENTRIES)
    _, _, output = spawner.run("cat", b"/proc/self/environ", environment=[])
    assert output == b""


@pytest.mark.parametrize("index", [0, 2, 7, 8, len(ENTRIES) - 1])
def test_the_entry_at_listen_pid_index_and_no_other_names_the_child(
    spawner: Spawner, own: Own, index: int
) -> None:
    reader, writer = os.pipe()
    own(reader)
    child = spawner.start(
        "cat",
        b"/proc/self/environ",
        environment=ENTRIES,
        listen_pid_index=index,
        stdio=(-1, writer, -1),
    )
    os.close(writer)
    expected = list(ENTRIES)
    expected[index] = b"LISTEN_PID=%d" % child.pid
    assert read_all(reader) == b"".join(entry + b"\0" for entry in expected)
    assert ENTRIES[7] == b"LISTEN_PID=1"  # the caller's list is its own


@pytest.mark.parametrize("index", [1, 2, 2**20])
def test_a_listen_pid_index_beyond_the_environment_is_refused(index: int) -> None:
    before = open_fds()
    with pytest.raises(IndexError, match="listen_pid_index"):
        syscalls.spawn(b"/bin/true", [b"true"], [b"A=1"], listen_pid_index=index)
    with pytest.raises(IndexError, match="listen_pid_index"):
        syscalls.spawn(b"/bin/true", [b"true"], [], listen_pid_index=0)
    assert set(open_fds()) == set(before)


# Attributes


def test_the_oom_score_is_set_before_exec(spawner: Spawner) -> None:
    own_score = int(Path("/proc/self/oom_score_adj").read_bytes())
    wanted = min(own_score + 100, 1000)
    path = b"/proc/self/oom_score_adj"
    _, _, output = spawner.run("cat", path, oom_score_adj=b"%d" % wanted)
    assert int(output) == wanted
    _, _, output = spawner.run("cat", path)
    assert int(output) == own_score


def test_an_oom_score_that_is_refused_does_not_matter(spawner: Spawner) -> None:
    score = Path("/proc/self/oom_score_adj").read_bytes()
    path = b"/proc/self/oom_score_adj"
    for refused in (b"junk", b"", b"100000"):
        assert spawner.run("cat", path, oom_score_adj=refused) == (None, 0, score)


def test_cwd_is_where_the_program_starts(spawner: Spawner, tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    _, _, output = spawner.run("readlink", b"/proc/self/cwd", cwd=os.fsencode(folder))
    assert output.rstrip(b"\n") == os.fsencode(folder.resolve())
    _, _, output = spawner.run("readlink", b"/proc/self/cwd")
    assert output.rstrip(b"\n") == os.fsencode(Path.cwd())


def test_a_cwd_that_fails_is_told_by_its_errno(spawner: Spawner, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for cwd, expected in ((tmp_path / "no", errno.ENOENT), (tmp_path / "file", errno.ENOTDIR)):
        child = spawner.start("true", cwd=os.fsencode(cwd))
        assert spawner.exec_error(child) == expected
        assert spawner.wait(child) == 127


def test_the_mask_is_what_was_asked_for_and_not_the_callers(spawner: Spawner) -> None:
    old = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGCHLD])
    try:
        for blocked in ([], [signal.SIGUSR1, signal.SIGWINCH, signal.SIGRTMAX]):
            _, _, output = spawner.run("cat", b"/proc/self/status", blocked=blocked)
            assert signals_in(status_fields(output)["SigBlk"]) == set(blocked)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, old)


def test_dispositions_are_inherited_unless_they_were_asked_for(spawner: Spawner) -> None:
    def ignored(**how: Any) -> set[int]:
        _, _, output = spawner.run("cat", b"/proc/self/status", **how)
        fields = status_fields(output)
        assert signals_in(fields["SigCgt"]) & set(range(1, 32)) == set()
        return signals_in(fields["SigIgn"])

    pythons = {signal.SIGPIPE, signal.SIGXFSZ}
    old = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        assert ignored() >= pythons
        assert not ignored(defaulted=[signal.SIGPIPE, signal.SIGXFSZ]) & pythons
        found = ignored(ignored=[signal.SIGUSR1, signal.SIGHUP], defaulted=list(pythons))
        assert found >= {signal.SIGUSR1, signal.SIGHUP}
        assert not found & pythons
    finally:
        signal.signal(signal.SIGUSR1, old)
    assert syscalls.get_disposition(syscalls.SIGPIPE) == "ignored"  # ours are as they were


def test_a_mask_that_cannot_be_is_told_by_its_errno(spawner: Spawner) -> None:
    assert spawner.exec_error(spawner.start("true", blocked=[10_000])) == errno.EINVAL


def test_the_child_ends_with_its_parent_if_it_shall(own: Own) -> None:
    code = """
import signal
from lowconmon import syscalls
from tests.support import program, read_all
path, name = program("sleep")
pid, error_fd = syscalls.spawn(path, [name, b"1000"], [], death_signal=syscalls.SIGKILL)
assert read_all(error_fd) == b""
print(pid, flush=True)
signal.pause()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT) as parent:
        try:
            assert parent.stdout is not None
            pid = int(read_line(parent.stdout.fileno()))
            pidfd = own(syscalls.pidfd_open(pid))
            wait_for(lambda: status_of(pid)["Name"] == "sleep")  # see above
        finally:
            parent.kill()
        wait_for(pidfd)


def test_a_death_signal_that_cannot_be_is_told_by_its_errno(spawner: Spawner) -> None:
    assert spawner.exec_error(spawner.start("true", death_signal=10_000)) == errno.EINVAL


def test_many_children_at_once_are_told_apart(spawner: Spawner) -> None:
    children = [spawner.start("sh", b"-c", b"exit %d" % number) for number in range(30)]
    assert len({child.pid for child in children}) == 30
    assert [spawner.wait(child) for child in children] == list(range(30))
    assert [spawner.exec_error(child) for child in children] == [None] * 30
    assert all(itertools.starmap(lambda pid, _: pid > 0, children))
