"""How a life begins: command lines, start pipe, fork, pid files, sync and attach pipe.

Acceptable: what is wrong before the fork fails the launcher; what is wrong later fails the answer.
Not acceptable: a runtime that was started although the launcher failed, or no answer, or two.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.support.life import Life, read_if_there, wait_until
from tests.support.witness import (
    Inotify,
    Witness,
    gone,
    isolated,
    kill,
    messages,
    number_in,
    parent,
)

# The runtime's command line


def common(life: Life) -> list[str]:
    return ["-c", life.cid, "-u", "some-uuid", "-r", str(life.runtime), "-l", f"{life.log}"]


@pytest.mark.contract("RT-1", "CLI-46", "CLI-25")
def test_create_names_bundle_and_pid_file(life: Life) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell())
    raw = [*common(life), "--full-attach", "-b", str(life.bundle), "-p", str(life.pid_file)]
    life.start(raw=raw)
    assert messages(life)[0]["pid"] > 0
    words = ["create", "--bundle", str(life.bundle), "--pid-file", str(life.pid_file), life.cid]
    assert seen.wait().arguments() == [os.fsencode(word) for word in (str(life.runtime), *words)]


@pytest.mark.contract("RT-1", "CLI-45", "CLI-47")
def test_create_passes_everything_on_in_its_place(life: Life) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell())
    flags = ["--runtime-opt", "--o1", "--no-new-keyring", "--runtime-arg=--log-format=json", "-s"]
    flags += ["--runtime-arg", "--log", "--no-pivot", "--runtime-arg=", "--restore-arg", "o 2"]
    life.start(*flags)
    life.pid()
    words = [b"--systemd-cgroup", b"--log-format=json", b"--log", b"", b"create", b"--bundle"]
    words += [os.fsencode(life.bundle), b"--pid-file", os.fsencode(life.pid_file), b"--no-pivot"]
    words += [b"--no-new-keyring", b"--o1", b"o 2", os.fsencode(life.cid)]
    assert seen.wait().arguments()[1:] == words
    assert life.exit_status() == 0


@pytest.mark.contract("RT-3", "RT-4", "CLI-35")
def test_exec_passes_everything_on_in_its_place(life: Life) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell())
    flags = ["--runtime-opt", "--preserve-fds", "--runtime-opt", "2", "-s", "--no-pivot"]
    flags += ["--runtime-arg", "--log-format=json", "--no-new-keyring"]
    life.start(*flags, exec_session=True)
    life.pid()
    spec = os.fsencode(life.directory / "process.json")
    words = [b"--log-format=json", b"exec", b"--pid-file", os.fsencode(life.pid_file), b"--process"]
    words += [spec, b"--detach", b"--preserve-fds", b"2", os.fsencode(life.cid)]
    assert seen.wait().arguments()[1:] == words
    assert life.exit_status() == 0


@pytest.mark.contract("RT-1", "RT-3", "TTY-1", "TTY-5")
@pytest.mark.parametrize("exec_session", [False, True])
def test_the_console_socket_stands_before_the_id(life: Life, exec_session: bool) -> None:
    seen = Witness(life)
    life.script(f"#!/bin/sh\n{seen.shell()}\nls -ld ${{4%/*}} > /dev/null\nexit 1\n")
    life.start("-t", "--runtime-opt", "last", exec_session=exec_session)
    assert [answer["data"] for answer in messages(life)] == [-1]
    words = seen.wait().arguments()
    assert words[-4:-2] == [b"last", b"--console-socket"]
    assert words[-1] == os.fsencode(life.cid)
    assert not os.path.lexists(words[-2])
    assert not os.path.lexists(os.path.dirname(words[-2]))


@pytest.mark.contract("CLI-24", "CLI-29", "RT-1", "CALL-9")
def test_bundle_and_pid_file_default_to_the_cwd(life: Life) -> None:
    # As CRI-O creates: cwd is the bundle; the runtime's own way to find the container's pid file.
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell())
    life.command = isolated()
    life.start(raw=[*common(life), "--full-attach"], cwd=life.bundle)
    assert messages(life)[0]["pid"] > 0
    pid_file = life.bundle / f"pidfile-{life.cid}"
    words = ["create", "--bundle", str(life.bundle), "--pid-file", str(pid_file), life.cid]
    assert seen.wait().arguments()[1:] == [os.fsencode(word) for word in words]
    assert pid_file.exists()


@pytest.mark.contract("CLI-18", "RT-1")
def test_arguments_need_not_be_utf_8(life: Life) -> None:
    seen = Witness(life)
    life.cid = os.fsdecode(b"caf\xe9\xff0123456789")
    life.stub("exit 8", before=seen.shell())
    life.start("--runtime-arg", os.fsdecode(b"\xc3\x28\x80"))
    life.pid()
    assert life.exit_status() == 8
    words = seen.wait().arguments()
    assert (words[1], words[-1]) == (b"\xc3\x28\x80", b"caf\xe9\xff0123456789")


# Before the fork


@pytest.mark.contract("START-5", "START-6", "START-8", "START-9")
@pytest.mark.parametrize("said", [b"x", b"a whole line\n", b""])
def test_the_start_pipe_is_read_before_anything_is_forked_or_started(
    life: Life, said: bytes
) -> None:
    # Acceptable: no pid file and no runtime before the word is given. An end of the pipe is a word.
    written = life.directory / "written"
    life.stub("exit 0", before=f"[ -e {written} ] || exit 42")
    with Inotify(life.directory) as directory:
        life.start(start_pipe=True, wait=False)
        assert life.launcher is not None
        wait_until(life.log.exists, "the log, which is opened first")
        written.write_text("")
        if said:
            os.write(life.start_pipe, said)
        else:
            os.close(life.start_pipe)
            life.start_pipe = -1
        assert life.launcher.wait(20) == 0
        life.pid()
        names = [name for _, name in directory.events()]
    assert names.index("written") < names.index("conmon.pid") < names.index("pidfile")
    assert life.exit_status() == 0


@pytest.mark.contract("START-4", "CASE-805")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("more", [[], ["--sync"]], ids=["daemon", "sync"])
def test_a_signal_while_waiting_for_the_start_pipe_ends_it_with_status_1(
    life: Life, number: int, more: list[str]
) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell()).start(*more, start_pipe=True, wait=False)
    assert life.launcher is not None
    wait_until(life.log.exists, "the log")
    os.kill(life.launcher.pid, number)
    assert life.launcher.wait(20) == 1
    assert messages(life) == []
    assert not seen.been()
    assert not life.conmon_pid_file.exists()


@pytest.mark.contract("START-9", "LOG-13")
def test_a_bad_log_is_told_before_the_start_pipe_is_read(life: Life) -> None:
    life.stub("exit 0").start("-l", "/nonexistent/dir/log", start_pipe=True, wait=False)
    assert life.launcher is not None
    assert life.launcher.wait(20) == 1
    assert life.launcher.stderr is not None
    text = b"[conmon:e]: Failed to open log file No such file or directory\n"
    assert life.launcher.stderr.read() == text
    assert messages(life) == []


@pytest.mark.contract("ENV-4", "ENV-1", "ENV-2")
@pytest.mark.parametrize("value", ["", "abc", "-1", "999", "3x", "99999999999999999999", "0x3"])
@pytest.mark.parametrize("name", ["_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE"])
def test_a_pipe_that_is_none_fails_the_launcher(life: Life, name: str, value: str) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell())
    more = ["--exec-attach"] if name == "_OCI_ATTACHPIPE" else []
    done = subprocess.run(
        [*life.command, *life.arguments(*more, exec_session=bool(more))],
        env={**life.environment, name: value},
        capture_output=True,
        timeout=20,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(b"[conmon:e]: ")
    assert name.encode() in done.stderr
    assert not seen.been()
    assert not life.conmon_pid_file.exists()


@pytest.mark.contract("ENV-2")
def test_the_attach_pipe_is_nobodys_business_without_exec_attach(life: Life) -> None:
    life.environment["_OCI_ATTACHPIPE"] = "rubbish"
    life.stub("exit 3").start()
    life.pid()
    assert life.exit_status() == 3


@pytest.mark.contract("SYNC-17")
def test_exec_attach_wants_an_attach_pipe(life: Life) -> None:
    life.stub("exit 0").start("--exec-attach", exec_session=True)
    assert life.launcher is not None
    assert life.launcher.returncode == 1
    assert life.launcher.stderr is not None
    text = b"[conmon:e]: --attach specified but _OCI_ATTACHPIPE was not\n"
    assert life.launcher.stderr.read() == text


# The fork


@pytest.mark.contract("START-7", "START-6", "START-8", "CLI-28")
def test_the_pid_file_names_the_child_and_appears_whole(life: Life) -> None:
    life.conmon_pid_file = life.exit_dir / "conmon.pid"  # a directory where little else happens
    with Inotify(life.exit_dir) as directory:
        life.stub("exec sleep 60").start()
        assert life.launcher is not None
        content = life.conmon_pid_file.read_bytes()
        kinds = [kind for kind, name in directory.events() if name == "conmon.pid"]
    assert kinds == [Inotify.MOVED_TO]
    assert content == b"%d" % int(content)
    assert life.launcher.returncode == 0
    monitor = int(content)
    assert monitor != life.launcher.pid
    assert parent(life.pid()) == monitor
    assert Path(f"/proc/{monitor}/comm").read_text() == "conmon\n"


@pytest.mark.contract("START-7")
def test_an_old_pid_file_is_replaced(life: Life) -> None:
    life.conmon_pid_file.write_text("4711")
    life.stub("exec sleep 60").start()
    assert parent(life.pid()) == int(life.conmon_pid_file.read_text())


@pytest.mark.contract("START-14", "CLI-54")
def test_sync_forks_nothing_and_writes_no_pid_file(life: Life) -> None:
    life.stub("exec sleep 60").start("--sync", wait=False)
    assert life.launcher is not None
    pid = life.pid()
    assert parent(pid) == life.launcher.pid
    assert not life.conmon_pid_file.exists()
    kill(pid)
    assert life.launcher.wait(20) == 137


@pytest.mark.contract("START-15", "CASE-404")
@pytest.mark.parametrize("how", ["no directory", "a directory in its place"])
def test_a_pid_file_that_cannot_be_written_starts_no_runtime(life: Life, how: str) -> None:
    """Acceptable: a launcher that fails and says why.

    Not acceptable: a container that no manager knows of, one of the monitor's files left
    behind.
    """
    seen = Witness(life)
    life.conmon_pid_file = life.directory / "not" / "pid"
    if how != "no directory":
        (life.conmon_pid_file / "x").mkdir(parents=True)
    life.stub("exit 0", before=seen.shell()).start()
    life.conmon_pid_file = life.directory / "none"
    assert life.launcher is not None
    assert life.launcher.returncode == 1
    assert life.launcher.stderr is not None
    assert b"conmon pidfile" in life.launcher.stderr.read()
    # The pipe ends when the monitor has gone: from then on nobody can start a runtime.
    assert [message for message in messages(life) if message["data"] != -1] == []
    assert not seen.been()
    assert not (life.exit_dir / life.cid).exists()
    assert not (life.bundle / "attach").exists()


@pytest.mark.contract("START-11", "START-12")
@pytest.mark.parametrize("more", [[], ["--sync"]], ids=["daemon", "sync"])
def test_the_monitor_leads_a_session_and_has_null_for_stdio(life: Life, more: list[str]) -> None:
    life.stub("exec sleep 60").start(*more, wait=False, stdin=subprocess.PIPE)
    assert life.launcher is not None
    assert life.launcher.stdin is not None
    monitor = parent(life.pid())
    assert os.getsid(monitor) == monitor
    assert [os.readlink(f"/proc/{monitor}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
    assert life.launcher.stdout is not None
    assert life.launcher.stderr is not None
    # Read to the end: nobody holds the manager's pipes any more, though the monitor lives.
    assert life.launcher.stdout.read() == life.launcher.stderr.read() == b""
    life.launcher.stdin.close()


@pytest.mark.contract("START-12", "CALL-3")
def test_the_leader_of_a_group_need_not_make_a_session(life: Life) -> None:
    life.stub("exit 5").start("--sync", process_group=0)
    assert life.launcher is not None
    assert life.launcher.returncode == 5


@pytest.mark.contract("START-12", "SIG-5")
def test_orphans_of_the_container_become_the_monitors_and_are_reaped(life: Life) -> None:
    # The container's grandchild is orphaned, taken in, and reaped while the container lives.
    name = life.directory / "orphan"
    life.stub(
        f"mkfifo {name}.gate; (sh -c 'echo $$ > {name}; read x < {name}.gate' &) ; exec sleep 60"
    ).start()
    life.pid()
    pid = number_in(name)
    monitor = life.monitor_pid()
    wait_until(lambda: parent(pid) == monitor, "the adoption")
    Path(f"{name}.gate").write_text("end\n")
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the reaping")
    assert Path(f"/proc/{monitor}").exists()


# What fails after the fork


@pytest.mark.contract("START-16", "START-17", "SYNC-11")
@pytest.mark.parametrize("more", [[], ["--sync"]], ids=["daemon", "sync"])
@pytest.mark.parametrize("what", ["bundle", "bundle is a file", "sockets", "attach", "ctl"])
def test_a_set_up_that_fails_gets_one_answer(life: Life, what: str, more: list[str]) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell())
    raw = [*common(life), "-P", str(life.conmon_pid_file), "--exit-dir", str(life.exit_dir)]
    raw += ["--persist-dir", str(life.persist_dir), "-p", str(life.pid_file), *more]
    bundle = ["-b", str(life.bundle)]
    if what == "bundle":
        life.bundle.rmdir()
        raw += [*bundle, "--full-attach"]
    elif what == "bundle is a file":
        raw += ["-b", str(life.runtime), "--full-attach"]
    elif what == "sockets":
        raw += [*bundle, "--socket-dir-path", "/nonexistent"]
    else:
        (life.bundle / what).mkdir()  # cannot be unlinked, so cannot be replaced
        raw += [*bundle, "--full-attach"]
    life.start(raw=raw)
    assert life.launcher is not None
    assert life.launcher.returncode == (1 if more else 0)
    answers = messages(life)
    assert [answer["pid"] for answer in answers] == [-1]
    assert answers[0]["message"]
    assert not seen.been()
    assert list(life.exit_dir.iterdir()) == list(life.persist_dir.iterdir()) == []
    life.bundle.mkdir(exist_ok=True)


# Answers


@pytest.mark.contract("CLI-23", "CLI-35")
@pytest.mark.contract("SYNC-1", "SYNC-3", "SYNC-4", "SYNC-5", "SYNC-6", "SYNC-7", "SYNC-8", "ENV-5")
@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
@pytest.mark.parametrize(
    ("api", "exec_session", "expected"),
    [
        (True, False, b'{"data": PID}\n'),
        (False, False, b'{"pid": PID}\n'),
        (True, True, b'{"data": PID}\n{"data": 9}\n'),
        (False, True, b'{"exit_code": 9}\n'),
    ],
    ids=["api-1 create", "api-0 create", "api-1 exec", "api-0 exec"],
)
def test_the_messages_of_a_life(
    life: Life, kind: int, api: bool, exec_session: bool, expected: bytes
) -> None:
    life.stub("exit 9")
    arguments = life.arguments(exec_session=exec_session)
    life.start(raw=arguments if api else arguments[2:], sync_kind=kind)
    assert life.sync is not None
    life.sync.settimeout(20)
    said = b"".join(iter(lambda: life.sync.recv(4096), b""))  # type: ignore[union-attr]
    assert said == expected.replace(b"PID", life.pid_file.read_bytes())
    assert life.exit_status() == 9


@pytest.mark.contract("ENV-5", "SYNC-1")
@pytest.mark.parametrize("exec_session", [False, True])
def test_a_plain_pipe_serves_as_the_sync_pipe(life: Life, exec_session: bool) -> None:
    reading, writing = os.pipe()
    life.stub("exit 9")
    life.environment["_OCI_SYNCPIPE"] = str(writing)
    with os.fdopen(reading, "rb") as file:
        try:
            done = subprocess.run(
                [*life.command, *life.arguments(exec_session=exec_session)],
                env=life.environment,
                pass_fds=[writing],
                capture_output=True,
                timeout=20,
            )
            # It stays blocking: O_NONBLOCK would be the manager's too.
            assert os.get_blocking(writing)
        finally:
            os.close(writing)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
        said = file.read()
    pid = life.pid_file.read_bytes()
    assert said == b'{"data": %b}\n' % pid + (b'{"data": 9}\n' if exec_session else b"")
    assert life.exit_status() == 9


@pytest.mark.contract("CALL-9")
def test_no_sync_pipe_is_no_obstacle(life: Life) -> None:
    life.stub("exit 9")
    done = subprocess.run(
        [*life.command, *life.arguments()],
        env={name: value for name, value in life.environment.items() if "_OCI_" not in name},
        capture_output=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert life.exit_status() == 9


@pytest.mark.contract("SYNC-12", "SIG-2")
@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_a_manager_that_went_away_is_no_error(life: Life, kind: int) -> None:
    life.stub("exit 9").start(start_pipe=True, wait=False, sync_kind=kind)
    assert life.sync is not None
    life.sync.close()
    life.sync = None
    os.write(life.start_pipe, b"x")
    assert life.exit_status() == 9


@pytest.mark.contract("SYNC-1", "DIAG-6")
def test_a_manager_that_does_not_read_holds_up_nothing(life: Life) -> None:
    # Its socket is full: the answer waits, the container does not.
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    filled = 0
    try:
        while True:
            filled += theirs.send(b"-" * 4096)
    except BlockingIOError:
        theirs.setblocking(True)
    life.stub("echo said; exec sleep 60").start(sync_ends=(ours, theirs))
    pid = number_in(life.pid_file)
    wait_until(lambda: b"said" in (read_if_there(life.log) or b""), "the log")
    ours.settimeout(20)
    said = b""
    while not said.endswith(b"\n"):
        said += ours.recv(65536)
    assert said[filled:] == b'{"data": %d}\n' % pid
    kill(pid)
    assert life.exit_status() == 137


# The attach pipe


@pytest.mark.contract("SYNC-15", "START-13", "RT-17", "CALL-2")
def test_exec_attach_waits_twice_and_tells_in_between_that_one_may_attach(life: Life) -> None:
    # Acceptable: the runtime starts after the second word. By then the client has attached.
    second = life.directory / "second"
    life.stub("echo hello; exit 4", before=f"[ -e {second} ] || exit 42")
    life.start("--exec-attach", exec_session=True, start_pipe=True, attach_pipe=True, wait=False)
    assert life.launcher is not None
    os.write(life.start_pipe, b"1")
    assert life.message(life.attach_pipe) == {"data": 0}
    assert (life.bundle / "ctl").exists()
    assert (life.bundle / "winsz").exists()
    client = life.attach()
    assert life.message(life.attach_pipe) is None
    assert life.launcher.wait(20) == 0
    second.write_text("")
    os.write(life.start_pipe, b"2")
    life.pid()
    assert client.recv(100) == b"\2hello\n"
    assert client.recv(100) == b""
    client.close()
    assert life.message() == {"data": 4}
    assert life.exit_status() == 4


@pytest.mark.contract("RT-17")
def test_the_end_of_the_start_pipe_is_the_second_word_too(life: Life) -> None:
    life.stub("exit 4")
    life.start("--exec-attach", exec_session=True, start_pipe=True, attach_pipe=True, wait=False)
    os.write(life.start_pipe, b"1")
    assert life.message(life.attach_pipe) == {"data": 0}
    os.close(life.start_pipe)
    life.start_pipe = -1
    life.pid()
    assert life.exit_status() == 4


@pytest.mark.contract("CASE-805", "SIG-1")
def test_sigterm_between_the_two_words_ends_the_runtime_before_it_was_one(life: Life) -> None:
    # The runtime's process waits for the second word and has not executed anything yet.
    seen = Witness(life)
    life.stub("exit 4", before=seen.shell())
    life.start("--exec-attach", exec_session=True, start_pipe=True, attach_pipe=True, wait=False)
    os.write(life.start_pipe, b"1")
    assert life.message(life.attach_pipe) == {"data": 0}
    monitor = life.monitor_pid()
    wait_until(
        lambda: Path(f"/proc/{monitor}/task/{monitor}/children").read_text(),
        "the runtime's process",
    )
    os.kill(monitor, signal.SIGTERM)
    assert [answer["data"] for answer in messages(life)] == [-1]
    assert not seen.been()
    wait_until(lambda: gone(monitor), "the monitor's end")


@pytest.mark.contract("SYNC-16", "ATT-7")
def test_an_exec_without_a_bundle_has_no_sockets_and_says_nothing_on_the_attach_pipe(
    life: Life,
) -> None:
    life.stub("exit 4")
    spec = life.directory / "spec"
    spec.write_text("{}")
    raw = [*common(life), "--api-version", "-e", "--exec-attach", "--exec-process-spec", str(spec)]
    raw += ["-p", str(life.pid_file), "--exit-dir", str(life.exit_dir)]
    life.command = isolated()
    life.start(raw=raw, attach_pipe=True, cwd=life.bundle)
    assert life.message(life.attach_pipe) is None
    life.pid()
    assert life.message() == {"data": 4}
    assert life.exit_status() == 4
    assert list(life.bundle.iterdir()) == []


# Paths


@pytest.mark.contract("CASE-907", "TTY-11")
@pytest.mark.parametrize("length", [99, 100, 101, 106, 107, 108, 300])
def test_a_bundle_path_of_any_length_serves(life: Life, length: int) -> None:
    # `<bundle>/attach` has 7 bytes more than the bundle, and a sun_path 107.
    base = f"{life.directory}/"
    room = length - len(base)
    if room > 250:
        base += "d" * 120 + "/"
        room = length - len(base)
    life.bundle = Path(base + "b" * room)
    life.bundle.mkdir(parents=True)
    assert len(str(life.bundle)) == length
    life.stub("cat; exit 6").start("-i")
    life.pid()
    client = life.attach()
    client.send(b"x\n")
    client.shutdown(socket.SHUT_WR)
    assert client.recv(10) == b"\2x\n"
    assert client.recv(10) == b""
    client.close()
    assert life.exit_status() == 6
    life.wait_gone()
    assert sorted(path.name for path in life.bundle.iterdir()) == ["ctl", "winsz"]


@pytest.mark.contract("CASE-907")
@pytest.mark.parametrize("length", [107, 108, 300, 1000])
def test_other_paths_may_be_long_too(life: Life, length: int) -> None:
    folder = life.directory
    while len(str(folder)) < length - 120:
        folder /= "f" * 100
    folder /= "f" * (length - len(str(folder)) - 5)
    life.exit_dir = folder / "e"
    life.persist_dir = folder / "p"
    for path in (life.exit_dir, life.persist_dir):
        path.mkdir(parents=True)
    life.log, life.pid_file, life.conmon_pid_file = folder / "log", folder / "pid", folder / "con"
    life.stub("echo said; exit 6").start()
    life.pid()
    assert life.exit_status() == 6
    life.wait_gone()
    assert life.text() == b"said\n"
    assert (life.persist_dir / "exit").read_bytes() == b"6"
    life.pid_file = life.conmon_pid_file = life.directory / "none"
    shutil.rmtree(folder)


@pytest.mark.contract("CASE-908", "LOG-34", "LOG-35")
def test_a_log_that_is_a_fifo_without_a_reader_cannot_be_opened(life: Life) -> None:
    os.mkfifo(life.log)
    life.stub("exit 0").start()
    assert life.launcher is not None
    assert life.launcher.returncode == 1
    assert life.launcher.stderr is not None
    text = b"[conmon:e]: Failed to open log file No such device or address\n"
    assert life.launcher.stderr.read() == text


@pytest.mark.contract("CASE-908", "LOG-34")
def test_a_log_that_is_a_fifo_nobody_reads_holds_up_the_container_alone(life: Life) -> None:
    """Acceptable: the container waits as on a full pipe. Not acceptable: that the monitor does."""
    os.mkfifo(life.log)
    fd = os.open(life.log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        life.stub("while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done").start()
        pid = life.pid()
        stat = Path(f"/proc/{pid}/wchan")
        wait_until(lambda: b"pipe_write" in stat.read_bytes(), "the container to wait")
        kill(pid, signal.SIGTERM)
        assert life.exit_status() == 143
        assert b" stdout F xxxx" in os.read(fd, 4096)
    finally:
        os.close(fd)
