"""How a life ends: status, exit files, their order, exit command, timeout, drain.

Acceptable: the status is the process's own, or -1 when nobody can know it. Not acceptable: 0 for an
unknown one, a torn exit file, an exit command before the exit files, a life that does not end.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ROOT, faults
from tests.support.life import Life, exit_files, read_if_there, wait_until
from tests.support.operators import exit_json
from tests.support.witness import Inotify, Witness, gone, kill, messages, number_in, parent

KILLS = ("HUP", "INT", "QUIT", "ABRT", "KILL", "SEGV", "PIPE", "TERM", "USR1", "SYS")

# The exit command of many tests: it waits until told, so that what is true before it ends is seen.
HELD = """
mkfifo {gate}.new && mv {gate}.new {gate}
read word < {gate}
"""

# A runtime whose container is not the monitor's child: the keeper, which was there before, is the
# parent. It forks, tells the pid, and reaps (or does not) when told.
KEEPER = """
import os, sys, time
folder, status, reaps = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "reaps"
requests = os.open(folder + "/requests", os.O_RDONLY)
os.read(requests, 100)
pid = os.fork()
if pid == 0:
    gate = os.open(folder + "/end", os.O_RDONLY)
    os.read(gate, 1)
    if status < 0:
        os.kill(os.getpid(), -status)
    os._exit(status)
with open(folder + "/pid.new", "w") as file:
    file.write(str(pid))
os.rename(folder + "/pid.new", folder + "/pid")
if reaps:
    os.waitpid(pid, 0)
os.read(os.open(folder + "/stop", os.O_RDONLY), 1)
"""


def held(life: Life) -> tuple[Witness, Path, list[str]]:
    """Return an exit command that waits at a gate: its witness, the gate and the option."""
    gate = life.directory / "gate"
    seen = Witness(life, "exit-command")
    program = seen.program(life.directory / "exit-command", HELD.format(gate=gate))
    return seen, gate, ["--exit-command", str(program)]


def open_gate(gate: Path) -> None:
    wait_until(gate.exists, "the gate")
    gate.write_text("go\n")


# Status


@pytest.mark.contract("END-3", "END-9", "END-1")
@pytest.mark.parametrize("status", [0, 1, 2, 125, 126, 127, 128, 129, 255])
@pytest.mark.parametrize("more", [[], ["--sync"]], ids=["daemon", "sync"])
def test_the_exit_code_is_recorded(life: Life, status: int, more: list[str]) -> None:
    life.stub(f"exit {status}").start(*more)
    life.pid()
    assert life.exit_status() == status
    life.wait_gone()
    for path in (life.exit_dir / life.cid, life.persist_dir / "exit"):
        assert path.read_bytes() == b"%d" % status
    if more:
        assert life.launcher is not None
        assert life.launcher.returncode == status


@pytest.mark.contract("END-3", "END-23")
@pytest.mark.parametrize("name", KILLS)
@pytest.mark.parametrize("more", [[], ["--sync"]], ids=["daemon", "sync"])
def test_a_signal_is_recorded_as_128_and_its_number(life: Life, name: str, more: list[str]) -> None:
    # A shell starts its background processes with SIGINT and SIGQUIT ignored, for ever.
    code = f"import os, signal; n = signal.SIG{name}; n == 9 or signal.signal(n, signal.SIG_DFL)"
    life.stub(f"ulimit -c 0; exec {sys.executable} -IS -c '{code}; os.kill(os.getpid(), n)'")
    life.start(*more)
    life.pid()
    expected = 128 + signal.Signals[f"SIG{name}"]
    assert life.exit_status() == expected
    if more:
        assert life.launcher is not None
        assert life.launcher.wait(20) == expected


@pytest.mark.contract("END-3", "SYNC-7", "SYNC-8")
@pytest.mark.parametrize("api", [True, False])
@pytest.mark.parametrize("end", ["exit 0", "exit 255", "exec sh -c 'kill -KILL $$'"])
def test_an_execs_status_is_reported_and_recorded(life: Life, end: str, api: bool) -> None:
    life.stub(end)
    arguments = life.arguments(exec_session=True)
    life.start(raw=arguments if api else arguments[2:])
    expected = {"exit 0": 0, "exit 255": 255}.get(end, 137)
    assert messages(life)[-1] == {"data" if api else "exit_code": expected}
    assert life.exit_status() == expected


@pytest.mark.contract("CASE-801", "END-1")
@pytest.mark.parametrize("status", [0, 7])
def test_a_container_that_is_gone_before_its_runtime_is_recorded(life: Life, status: int) -> None:
    """Acceptable: its own status. Not acceptable: a failed start, -1, the status of another."""
    # The monitor is a subreaper: the container is a zombie of its when it looks for the pid.
    life.script(f"""#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --pid-file ] && pid_file=$2; shift; done
mkfifo $0.gate
(sh -c 'echo $$ > "$1.new"; mv "$1.new" "$1"; read x < "$2"; exit {status}' sh "$pid_file" $0.gate &)
while [ ! -e "$pid_file" ]; do :; done
read pid < "$pid_file"
echo x > $0.gate
while :; do
    read line < /proc/$pid/stat || exit 1
    case ${{line##*) }} in Z*) exit 0 ;; esac
done
""").start()
    life.pid()
    assert life.exit_status() == status


@pytest.mark.contract("CASE-802", "END-24", "END-25", "REC-2", "REC-3")
@pytest.mark.parametrize("status", [0, 3, 255, -9, -15])
def test_the_status_of_a_strangers_child_comes_from_its_pidfd(life: Life, status: int) -> None:
    """Acceptable: its status where the kernel tells, else -1.

    Not acceptable: 0 for what nobody knows.
    """
    recorded = stranger(life, status, "reaps")
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    known = 128 - status if status < 0 else status
    assert recorded == (known if release >= (6, 15) else -1)
    record = exit_json(life)  # nobody can tell what it has used
    assert (record["status"], record["rusage"]) == (recorded, None)
    told = "unknown" if recorded == -1 else "signalled" if status < 0 else "exited"
    assert (record["cause"], record["signal"]) == (told, -status if told == "signalled" else None)


@pytest.mark.contract("CASE-802", "END-24", "END-25")
def test_the_status_of_a_child_that_its_parent_never_reaps_is_unknown_not_0(life: Life) -> None:
    assert stranger(life, 0, "leaves") == -1


@pytest.mark.contract("CASE-802", "END-24", "END-25")
@pytest.mark.parametrize("error", ["ENOSYS", "ESRCH", "ENOTTY"])
@pytest.mark.parametrize("status", [0, 3])
def test_the_status_of_a_strangers_child_is_unknown_on_an_older_kernel(
    life: Life, status: int, error: str
) -> None:
    life.command = faults.command(f"pidfd_get_info:errno={error}:times=forever")
    assert stranger(life, status, "reaps") == -1


def stranger(life: Life, status: int, reaps: str) -> int:
    """Live a life whose container is a child of a process outside; return what is recorded."""
    for name in ("requests", "end", "stop"):
        os.mkfifo(life.directory / name)
    arguments = [str(life.directory), str(status), reaps]
    keeper = subprocess.Popen([sys.executable, "-IS", "-c", KEEPER, *arguments])
    try:
        life.script(f"""#!/bin/sh
while [ $# -gt 0 ]; do [ "$1" = --pid-file ] && pid_file=$2; shift; done
cd {life.directory}
echo start > requests
while [ ! -e pid ]; do :; done
cp pid "$pid_file"
""").start()
        pid = life.pid()
        assert parent(pid) == keeper.pid
        (life.directory / "end").write_text("x")
        return life.exit_status()
    finally:
        stop = os.open(life.directory / "stop", os.O_RDWR)
        os.write(stop, b"x")
        keeper.kill()
        keeper.wait()
        os.close(stop)
        life.pid_file.unlink()


# Exit files


@pytest.mark.contract("END-10", "END-9")
def test_an_exit_file_appears_by_rename_and_nothing_else_looks_like_an_id(life: Life) -> None:
    with Inotify(life.exit_dir) as exits, Inotify(life.persist_dir) as persist:
        life.stub("exit 7").start()
        life.pid()
        assert life.exit_status() == 7
        life.wait_gone()
        for directory, final in ((exits, life.cid), (persist, "exit")):
            events = directory.events()
            assert [kind for kind, name in events if name == final] == [Inotify.MOVED_TO]
            others = {name for _, name in events} - {final, "exit.json"}  # ours, in the latter
            assert others
            assert all(name.startswith(".") for name in others)
    assert os.listdir(life.exit_dir) == [life.cid]
    assert exit_files(life.persist_dir) == ["exit"]


@pytest.mark.contract("END-9", "CLI-30", "CLI-31")
@pytest.mark.parametrize("which", ["--exit-dir", "--persist-dir", ""])
def test_either_or_no_directory_will_do(life: Life, which: str) -> None:
    seen, gate, option = held(life)
    life.stub("exit 7")
    raw = [
        "-c",
        life.cid,
        "-u",
        "u",
        "-r",
        str(life.runtime),
        "-b",
        str(life.bundle),
        "--full-attach",
    ]
    raw += ["-l", "none", "-p", str(life.pid_file), *option]
    if which:
        raw += [which, str(life.exit_dir if which == "--exit-dir" else life.persist_dir)]
    life.start(raw=raw)
    seen.wait()
    open_gate(gate)
    messages(life)
    assert os.listdir(life.exit_dir) == ([life.cid] if which == "--exit-dir" else [])
    assert exit_files(life.persist_dir) == (["exit"] if which == "--persist-dir" else [])


@pytest.mark.contract("END-9")
def test_an_old_exit_file_is_replaced(life: Life) -> None:
    (life.exit_dir / life.cid).write_text("old and longer than the new one")
    with Inotify(life.exit_dir) as exits:
        life.stub("exit 7").start()
        life.pid()
        wait_until(lambda: (Inotify.MOVED_TO, life.cid) in exits.events(), "the new one")
    assert (life.exit_dir / life.cid).read_bytes() == b"7"


@pytest.mark.contract("END-11", "END-12", "END-8", "CASE-403")
@pytest.mark.parametrize("broken", ["exit_dir", "persist_dir"])
@pytest.mark.parametrize("how", ["missing", "directory in the place"])
def test_an_exit_file_is_tried_again_and_the_other_does_not_wait(
    life: Life, broken: str, how: str
) -> None:
    """Acceptable: the good one is there at once, the other when its directory can be written.

    Not acceptable: that one waits for the other, half a file, an exit command before both.
    """
    directory = getattr(life, broken)
    paths = {"exit_dir": life.exit_dir / life.cid, "persist_dir": life.persist_dir / "exit"}
    good = next(path for name, path in paths.items() if name != broken)
    if how == "missing":
        directory.rmdir()
    else:
        paths[broken].mkdir()
    seen, gate, option = held(life)
    life.stub("exit 7").start(*option)
    life.pid()
    assert wait_until(lambda: read_if_there(good), "the good one") == b"7"
    assert not seen.been()
    if how == "missing":
        directory.mkdir()
    else:
        paths[broken].rmdir()
    seen.wait()
    assert paths[broken].read_bytes() == b"7"
    open_gate(gate)
    life.wait_gone()
    assert exit_files(directory) == [paths[broken].name]


@pytest.mark.contract("END-12", "CASE-403")
def test_an_exit_file_that_can_never_be_written_is_given_up_and_the_life_ends(life: Life) -> None:
    seen, gate, option = held(life)
    life.exit_dir.rmdir()
    life.stub("exit 7").start("--sync", *option, wait=False)
    life.pid()
    assert life.launcher is not None
    seen.wait()
    open_gate(gate)
    assert life.launcher.wait(20) == 7
    assert (life.persist_dir / "exit").read_bytes() == b"7"
    life.exit_dir.mkdir()


@pytest.mark.contract("END-9")
def test_the_exit_files_hold_out_against_a_cid_with_odd_bytes(life: Life) -> None:
    life.cid = os.fsdecode(b"id with blank \xff 0123456789")
    life.stub("exit 7").start()
    life.pid()
    assert life.exit_status() == 7


# Order


@pytest.mark.contract("END-6", "END-7", "END-10", "ATT-5", "SYNC-7", "END-18")
def test_the_order_is_exit_files_sync_pipe_sockets_exit_command(life: Life) -> None:
    seen, gate, option = held(life)
    exit_command = Path(option[1])
    # The command itself tells what was there when it was started.
    text = exit_command.read_text().replace(
        "#!/bin/sh\n",
        f"#!/bin/sh\ncd {life.directory}\nls exits persist bundle > there.new; mv there.new there\n",
    )
    exit_command.write_text(text)
    life.stub("exit 7").start(*option, exec_session=True)
    life.pid()
    assert life.message() == {"data": 7}
    assert (life.exit_dir / life.cid).read_bytes() == b"7"
    assert (life.persist_dir / "exit").read_bytes() == b"7"
    there = wait_until(lambda: read_if_there(life.directory / "there"), "the exit command").decode()
    words = there.split()
    assert life.cid in words
    assert "exit" in words
    assert "attach" not in words
    assert life.message() is None  # the pipe is closed while the exit command runs
    open_gate(gate)
    assert seen.wait().line("cwd") == str(life.directory)
    life.wait_gone()


@pytest.mark.contract("END-6", "END-7")
def test_the_exit_files_come_before_the_message(life: Life) -> None:
    # With the exit file held up, no message comes; with the message here, the file is.
    life.exit_dir.rmdir()
    life.stub("exit 7").start(exec_session=True)
    life.pid()
    assert wait_until(lambda: read_if_there(life.persist_dir / "exit"), "the other") == b"7"
    assert life.sync is not None
    life.sync.setblocking(False)
    with pytest.raises(BlockingIOError):
        life.sync.recv(100)
    life.exit_dir.mkdir()
    assert life.message() == {"data": 7}
    assert (life.exit_dir / life.cid).read_bytes() == b"7"


@pytest.mark.contract("END-6", "END-13", "END-2")
def test_the_log_is_complete_when_the_exit_file_is_there(life: Life) -> None:
    life.stub("seq 1 20000; exit 7").start()
    life.pid()
    assert life.exit_status() == 7
    assert life.text() == b"".join(b"%d\n" % number for number in range(1, 20001))


@pytest.mark.contract("END-7")
def test_a_listening_socket_that_the_manager_left_is_closed_before_the_exit_files(
    life: Life,
) -> None:
    seen, gate, option = held(life)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        life.stub("exec sleep 60").start(*option, pass_fds=(server.fileno(),))
    pid = life.pid()
    socket.create_connection(("127.0.0.1", port), 20).close()  # the monitor keeps it
    kill(pid)
    assert life.exit_status() == 137
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 20)
    seen.wait()
    open_gate(gate)


@pytest.mark.contract("END-18", "END-6")
def test_log_sync_pipe_and_sockets_are_closed_before_the_exit_delay(life: Life) -> None:
    # The delay is long; meanwhile the monitor holds nothing but its own loop.
    life.stub("exec sleep 60").start("--exit-command", "/bin/true", "--exit-delay", "60")
    pid = life.pid()
    monitor = life.monitor_pid()
    kill(pid)
    assert life.exit_status() == 137
    assert life.message() is None

    def held_open() -> list[str]:
        folder = Path(f"/proc/{monitor}/fd")
        return [os.readlink(entry) for entry in folder.iterdir()]

    wait_until(
        lambda: (
            not [
                target
                for target in held_open()
                if not target.startswith(("/dev/null", "anon_inode:"))
            ]
        ),
        "the closing",
    )


# Exit command


@pytest.mark.contract("CLI-32", "CLI-33", "END-16", "END-21")
def test_the_exit_command_gets_its_arguments_and_is_waited_for(life: Life) -> None:
    seen, gate, option = held(life)
    words = ["--exit-command-arg", "container", "--exit-command-arg=--a b", "--exit-command-arg="]
    life.stub("exit 0").start(*option, *words, "--sync", wait=False)
    life.pid()
    assert life.launcher is not None
    assert seen.wait().arguments() == [os.fsencode(option[1]), b"container", b"--a b", b""]
    assert list(seen.fds().values()) == ["/dev/null"] * 3
    assert life.launcher.poll() is None
    open_gate(gate)
    assert life.launcher.wait(20) == 0


@pytest.mark.contract("END-23")
@pytest.mark.parametrize("end", ["exit 0", "exit 9", "kill -KILL $$"])
@pytest.mark.parametrize("status", [0, 7, 255])
def test_the_own_status_is_the_containers_whatever_the_exit_command_returned(
    life: Life, status: int, end: str
) -> None:
    seen = Witness(life, "exit-command")
    command = seen.program(life.directory / "exit-command", end)
    life.stub(f"exit {status}").start("--sync", "--exit-command", str(command))
    assert life.launcher is not None
    assert life.launcher.returncode == status
    assert seen.been()


@pytest.mark.contract("END-23", "CLI-32")
@pytest.mark.parametrize("command", ["/nonexistent", "/etc/passwd", "relative", ""])
def test_an_exit_command_that_cannot_be_run_is_no_obstacle(life: Life, command: str) -> None:
    life.stub("exit 7").start("--sync", "--exit-command", command)
    assert life.launcher is not None
    assert life.launcher.returncode == 7
    assert life.exit_status() == 7


@pytest.mark.contract("END-20", "CLI-34")
def test_the_exit_command_waits_for_the_delay_and_the_exit_files_do_not(life: Life) -> None:
    seen, gate, option = held(life)
    life.stub("exit 7").start(*option, "--exit-delay", "1")
    life.pid()
    assert life.exit_status() == 7
    written = (life.exit_dir / life.cid).stat().st_mtime
    seen.wait()
    assert (seen.directory / "cmdline").stat().st_mtime - written > 0.9
    open_gate(gate)


@pytest.mark.contract("END-21", "SIG-5")
def test_children_that_outlive_the_container_are_not_waited_for(life: Life) -> None:
    # An orphan that the monitor took in lives on; the monitor does not wait for it.
    name = life.directory / "orphan"
    life.stub(
        f"(sh -c 'echo $$ > {name}; exec sleep 60' > /dev/null 2>&1 &); "
        f"while [ ! -s {name} ]; do :; done; exit 7"
    ).start("--exit-command", "/bin/true", "--sync")
    assert life.launcher is not None
    assert life.launcher.returncode == 7
    pid = number_in(name)
    assert not gone(pid)
    kill(pid)


@pytest.mark.contract("END-22", "END-17")
def test_a_container_that_ignores_sigterm_does_not_hand_that_on(life: Life) -> None:
    seen = Witness(life, "exit-command")
    command = seen.program(life.directory / "exit-command")
    life.stub("trap '' TERM HUP; exit 7").start("--exit-command", str(command))
    life.pid()
    assert life.exit_status() == 7
    assert int(seen.wait().status()["SigIgn"], 16) == 0


# Timeout


@pytest.mark.contract("END-3", "END-5", "SYNC-10", "END-4")
@pytest.mark.parametrize("more", [[], ["--sync"]], ids=["daemon", "sync"])
def test_a_timeout_kills_the_group_and_is_recorded_as_minus_1(life: Life, more: list[str]) -> None:
    # The container leads its group; a child of its that ignores SIGTERM dies too.
    name = life.directory / "second"
    life.stub(
        f"exec setsid sh -c \"trap '' TERM; sh -c 'echo \\$\\$ > {name}; exec sleep 60' & wait\""
    )
    life.start("-T", "1", *more, wait=False)
    pid = life.pid()
    second = number_in(name)
    assert os.getpgid(second) == pid
    assert life.exit_status() == -1
    assert (life.persist_dir / "exit").read_bytes() == b"-1"
    wait_until(lambda: gone(pid) and gone(second), "the end of the group")
    assert messages(life) == []
    assert life.launcher is not None
    assert life.launcher.wait(20) == (255 if more else 0)


@pytest.mark.contract("SYNC-9", "END-3", "CALL-10")
@pytest.mark.parametrize("api", [True, False])
def test_the_timeout_of_an_exec_is_reported(life: Life, api: bool) -> None:
    life.stub("exec sleep 60")
    arguments = life.arguments("-T", "1", exec_session=True)
    life.start(raw=arguments if api else arguments[2:])
    answer = messages(life)[-1]
    assert answer == {"data" if api else "exit_code": -1, "message": "command timed out"}
    assert life.exit_status() == -1


@pytest.mark.contract("CLI-56", "END-4")
@pytest.mark.parametrize("value", ["0", "-5", "60"])
def test_without_a_timeout_or_before_it_the_status_is_the_containers(
    life: Life, value: str
) -> None:
    life.stub("exit 7").start(f"--timeout={value}")
    life.pid()
    assert life.exit_status() == 7


@pytest.mark.contract("END-4")
def test_the_timeout_does_not_count_while_the_runtime_creates(life: Life) -> None:
    # The runtime takes longer than the timeout; the container then ends at once.
    life.stub("exit 7", before="sleep 1.3").start("-T", "1")
    life.pid()
    assert life.exit_status() == 7


@pytest.mark.contract("CASE-806", "END-4", "SYNC-9")
def test_a_timeout_at_the_moment_of_exit_is_one_or_the_other(life: Life) -> None:
    """Acceptable: 7, or -1 and the words. Not acceptable: a mixture, two messages, no end."""
    life.stub("sleep 1; exit 7").start("-T", "1", exec_session=True)
    life.pid()
    last = messages(life)
    assert last in ([{"data": 7}], [{"data": -1, "message": "command timed out"}])
    assert life.exit_status() == last[0]["data"]


@pytest.mark.contract("END-5")
def test_a_timeout_of_a_container_in_the_monitors_own_group_kills_it_alone(life: Life) -> None:
    seen = Witness(life, "exit-command")
    command = seen.program(life.directory / "exit-command")
    life.stub("exec sleep 60").start("-T", "1", "--exit-command", str(command))
    pid = life.pid()
    assert os.getpgid(pid) == life.monitor_pid()  # the stub makes no group of its own
    assert life.exit_status() == -1
    seen.wait()


# Grandchildren that hold the output


GRANDCHILD = (
    "sh -c 'trap \"\" HUP TERM; echo $$ > {name}; {what}' & while [ ! -s {name} ]; do :; done; "
)


@pytest.mark.contract("CASE-803", "CASE-804", "END-2", "END-14", "END-8")
@pytest.mark.parametrize(
    "what",
    [
        "exec sleep 60",
        "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done",
        "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxx >&2; done",
        "while :; do echo x; sleep 0.05; done",
    ],
    ids=["silent", "floods stdout", "floods stderr", "drips"],
)
def test_a_grandchild_that_holds_the_output_delays_the_end_by_a_second_at_most(
    life: Life, what: str
) -> None:
    """Acceptable: a second more.

    Not acceptable: an end that waits for the grandchild, or for silence.
    """
    name = life.directory / "grandchild"
    life.stub("echo said; " + GRANDCHILD.format(name=name, what=what) + "exit 7").start(
        "-l", "none"
    )
    life.pid()
    container_end = None
    pid = number_in(life.pid_file)
    wait_until(lambda: gone(pid), "the container's end")
    container_end = time.monotonic()
    try:
        assert life.exit_status() == 7
        # A second, and what a loaded machine adds; managers give five.
        assert time.monotonic() - container_end < 4
    finally:
        kill(number_in(name))


@pytest.mark.contract("CASE-803", "END-2")
def test_what_the_container_said_is_logged_though_a_grandchild_holds_the_output(
    life: Life,
) -> None:
    """Acceptable: a delay. Not acceptable: a line of the container's that is not in the log."""
    name = life.directory / "grandchild"
    script = GRANDCHILD.format(name=name, what="exec sleep 60") + "seq 1 5000; printf end; exit 7"
    life.stub(script).start()
    life.pid()
    assert life.exit_status() == 7
    kill(number_in(name))
    assert life.text() == b"".join(b"%d\n" % number for number in range(1, 5001)) + b"end"


@pytest.mark.contract("END-1")
def test_a_container_that_closes_its_output_and_lives_is_not_at_its_end(life: Life) -> None:
    gate = life.directory / "gate"
    life.stub(
        f"exec > /dev/null 2>&1; mkfifo {gate}.new; mv {gate}.new {gate}; read x < {gate}; exit 7"
    )
    life.start()
    pid = life.pid()
    wait_until(gate.exists, "the closing")
    assert not gone(pid)
    assert not (life.exit_dir / life.cid).exists()
    gate.write_text("x\n")
    assert life.exit_status() == 7


# Many


@pytest.mark.contract("CASE-1005", "SYNC-7")
def test_300_exec_probes_at_once_have_their_own_statuses(life: Life) -> None:
    lives = []
    try:
        for number in range(300):
            directory = Path(f"{life.directory}/{number}")
            directory.mkdir()
            one = Life(directory, cid=f"probe-{number}-0123456789")
            one.stub(f"echo {number}; exit {number % 256}")
            null = subprocess.DEVNULL
            lives.append(one.start(exec_session=True, wait=False, stdout=null, stderr=null))
        for number, one in enumerate(lives):
            assert one.pid() > 0
            assert one.message() == {"data": number % 256}
            assert one.exit_status() == number % 256
            assert one.text() == b"%d\n" % number
    finally:
        for one in lives:
            one.end()


# An upgrade under a life

# Runs a copy of the package, and writes down each import that really happens.
WATCHED = """
import sys
imports = open(sys.argv.pop(1), "a", buffering=1)
def told(event, arguments):
    if event == "import":
        imports.write(arguments[0] + "\\n")
sys.addaudithook(told)
sys.path.insert(0, sys.argv.pop(1))
from lowconmon.__main__ import main
main()
"""


@pytest.mark.contract("CASE-1101", "CASE-1102")
@pytest.mark.parametrize("end", ["exit", "timeout", "failure"])
def test_a_life_outlives_the_program_and_imports_nothing(life: Life, end: str) -> None:
    # The copy is removed once the pid is reported.
    copy = life.directory / "copy"
    shutil.copytree(ROOT / "lowconmon", copy / "lowconmon")
    imports = life.directory / "imports"
    watched = [sys.executable, "-I", "-c", WATCHED, str(imports), str(copy)]
    life.command = watched
    seen = Witness(life, "exit-command")
    command = seen.program(life.directory / "exit-command")
    more = ["-i", "--syslog", "--log-level", "trace", "--exit-command", str(command)]
    life.stub("cat; exit 7").start(*more, *(["-T", "2"] if end == "timeout" else []))
    pid = life.pid()
    before = imports.read_text()
    assert "lowconmon.monitor\n" in before
    shutil.rmtree(copy)
    if end == "failure":
        life.exit_dir.rmdir()
    client = life.attach()
    client.send(b"word\n")
    assert client.recv(10) == b"\2word\n"
    for line in (b"1 10 10\n", b"2 0 0\n", b"rubbish\n"):
        life.control(line)
    life.control(b"24 80\n", "winsz")
    os.kill(life.monitor_pid(), signal.SIGUSR1)
    if end != "timeout":
        client.send(b"word\n")
        assert client.recv(10) == b"\2word\n"
        client.shutdown(socket.SHUT_WR)
        if end == "failure":
            wait_until((life.persist_dir / "exit").exists, "the other exit file")
            life.exit_dir.mkdir()
    assert life.exit_status() == (-1 if end == "timeout" else 7)
    client.close()
    seen.wait()
    life.wait_gone()
    assert gone(pid)
    assert imports.read_text() == before
