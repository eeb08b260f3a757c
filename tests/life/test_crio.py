"""Lives under a scripted CRI-O: containers, ExecSync, attach, reopened logs, exits, probes.

Acceptable: what CRI-O waits for comes, once, and says what happened. Not acceptable: a wait without
end, a second answer, a name in the exit directory that only looks like an end.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import wait_for
from tests.support.crio import (
    AN_ID,
    OUTPUT_MAX,
    PATH,
    ExitMonitor,
    Result,
    attach,
    begin_create,
    create,
    crio_life,
    exec_sync,
    probe,
    reopen_log,
    resize,
    result,
    write_control,
)
from tests.support.journald import FakeJournald, connect
from tests.support.kubelet import Watch
from tests.support.life import Gate, Life, packets, read_if_there, wait_until
from tests.support.witness import Witness, gone, kill, messages, number_in

SYNC = pytest.mark.parametrize("sync", [True, False], ids=["--sync", "daemon"])
TERMINAL = pytest.mark.parametrize("terminal", [False, True], ids=["pipes", "terminal"])
PROBES, WAVE = 300, 20


@pytest.fixture
def life(short_tmp: Path) -> Iterator[Life]:
    """Give the life of a container of CRI-O's."""
    one = crio_life(short_tmp / "box")
    try:
        yield one
    finally:
        one.end()


@pytest.fixture
def session(short_tmp: Path) -> Iterator[Callable[[], Life]]:
    """Make lives for ExecSync."""
    lives: list[Life] = []

    def make() -> Life:
        lives.append(crio_life(short_tmp / f"exec-{len(lives)}", number=len(lives)))
        return lives[-1]

    yield make
    for one in lives:
        one.end()


@pytest.fixture
def sockets(short_tmp: Path) -> Path:
    """Make the directory of the links to attach sockets."""
    path = short_tmp / "s"
    path.mkdir()
    return path


@pytest.fixture
def exits(life: Life) -> Iterator[ExitMonitor]:
    """Watch the exit directory from before the first container on."""
    with ExitMonitor(life.exit_dir) as monitor:
        yield monitor


def read_until(client: socket.socket, end: bytes) -> bytes:
    """Read packets of stdout until what came ends so."""
    text = b""
    while not text.endswith(end):
        packet = client.recv(8193)
        assert packet[:1] == b"\2", (packet, text)
        text += packet[1:]
    return text


def run(life: Life, container: str, *, terminal: bool) -> bytes:
    """Make the runtime one that runs *container*, on a terminal or not; return how a line ends."""
    if terminal:
        life.terminal_stub(container)
    else:
        life.stub(container)
    return b"\r\n" if terminal else b"\n"


# Containers


@pytest.mark.contract("CALL-9", "ENV-5", "ENV-10", "RT-1", "SYNC-6", "END-10")
@pytest.mark.parametrize(
    ("options", "before", "after"),
    [
        ([], [], []),
        (["-s"], ["--systemd-cgroup"], []),
        (["--log-size-max", "8192"], [], []),
        (["--no-sync-log"], [], []),
        (["--no-pivot"], [], ["--no-pivot"]),
        (["-i"], [], []),
        (["--leave-stdin-open", "-i"], [], []),
        (
            ["-s", "--log-size-max", "8192", "--no-sync-log", "--no-pivot", "-i"],
            ["--systemd-cgroup"],
            ["--no-pivot"],
        ),
    ],
    ids=lambda words: "_".join(words),
)
def test_a_container_is_created_with_each_option_of_crios(
    life: Life,
    sockets: Path,
    exits: ExitMonitor,
    options: list[str],
    before: list[str],
    after: list[str],
) -> None:
    seen = Witness(life)
    life.stub("echo out; echo err >&2; exit 5", before=seen.shell())
    pid = create(life, sockets, *options)
    assert life.pid_file.read_bytes() == b"%d" % pid
    assert exits.wait() == {life.cid: 5}
    life.wait_gone()
    assert (life.persist_dir / "exit").read_bytes() == b"5"
    assert (life.text("stdout"), life.text("stderr")) == (b"out\n", b"err\n")
    words = [*before, f"--root={life.directory}/root", "create", "--bundle", str(life.bundle)]
    words += ["--pid-file", str(life.pid_file), *after, life.cid]
    assert seen.wait().arguments()[1:] == [os.fsencode(word) for word in words]
    pipes = [b"_OCI_SYNCPIPE=3", b"_OCI_STARTPIPE=4"]
    assert seen.environment() == [b"PATH=" + PATH.encode(), *pipes]
    assert seen.line("cwd") == str(life.bundle)
    left = {path.name for path in life.bundle.iterdir()}
    assert left == {"conmon-pidfile", "ctl", "pidfile", "winsz"}
    assert list(sockets.iterdir()) == []


@pytest.mark.contract("CALL-9", "LOG-7")
def test_a_container_that_logs_to_journald_too_has_its_file_all_the_same(
    life: Life, sockets: Path, exits: ExitMonitor
) -> None:
    path = life.directory / "journald"
    connect(life, path)
    with FakeJournald(path).start() as journald:
        life.stub("echo out; echo err >&2; exit 5")
        create(life, sockets, "-l", "journald:")
        assert exits.wait() == {life.cid: 5}
        life.wait_gone()
        assert (journald.text(b"6"), journald.text(b"3")) == (b"out\n", b"err\n")
    assert (life.text("stdout"), life.text("stderr")) == (b"out\n", b"err\n")


@pytest.mark.contract("CALL-9", "SYNC-6", "SYNC-11", "START-17")
def test_a_container_that_cannot_be_created_is_told_why(life: Life, sockets: Path) -> None:
    life.script("#!/bin/sh\necho 'runc create failed: \"no space\"' >&2\nexit 1\n")
    with pytest.raises(AssertionError, match="no space") as raised:
        create(life, sockets)
    assert "'pid': -1" in str(raised.value)
    assert messages(life) == []
    life.wait_gone()
    assert list(life.exit_dir.iterdir()) == list(life.persist_dir.iterdir()) == []
    assert list(sockets.iterdir()) == []


@pytest.mark.contract("CALL-9", "CTL-5", "ATT-3", "ATT-15")
def test_a_container_with_a_terminal_is_typed_at_resized_and_left_again(
    life: Life, sockets: Path, exits: ExitMonitor
) -> None:
    run(life, "while read line; do stty size; echo said $line; done", terminal=True)
    create(life, sockets, "-t")
    for turn in range(2):  # as `kubectl attach -it` twice
        rows, columns = 31 + turn, 97 - turn
        client = attach(life, sockets)
        resize(life, rows, columns)
        while True:  # the two ways in are not in step
            client.send(b"%d\n" % turn)
            text = read_until(client, b"said %d\r\n" % turn)
            if b"%d %d\r\n" % (rows, columns) in text:
                break
        client.shutdown(socket.SHUT_WR)
        client.close()
    client = attach(life, sockets)
    client.send(b"\4")
    assert packets(client) == (b"", b"")
    assert exits.wait() == {life.cid: 0}
    assert b"32 96\r\nsaid 1\r\n" in life.text()


@pytest.mark.contract("CALL-14")
@pytest.mark.contract("CALL-9", "CALL-7", "REOPEN-1", "REOPEN-4", "ATT-3", "SIG-2", "END-10")
def test_the_whole_life_of_a_container(
    life: Life, sockets: Path, exits: ExitMonitor, session: Callable[[], Life]
) -> None:
    """CRI-O creates, probes, attaches, runs a probe, rotates and stops, as it does all day."""
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit(9)))\n"
        "for line in sys.stdin: print('said', line, end='', flush=True)\n"
        "print('end', flush=True)\n"
        "while True: signal.pause()\n"
    )
    program = life.directory / "program.py"
    program.write_text(code)
    life.stub(f"exec {sys.executable} -IS {program}")
    pid = create(life, sockets, "--leave-stdin-open", "-i")
    born = probe(life)
    assert born is not None
    for turn in range(3):
        client = attach(life, sockets)
        client.send(b"%d\n" % turn)
        assert read_until(client, b"\n") == b"said %d\n" % turn
        client.shutdown(socket.SHUT_WR)  # stdin stays open
        client.close()
        life.log.rename(life.log.with_name(f"{turn}.old"))
        reopen_log(life)
        assert life.log.read_bytes() == b""
        reopen_log(life)  # nobody has renamed it: CRI-O waits all the same
        one = session()
        one.stub(f"echo probe; exit {turn}")
        assert result(exec_sync(one, sockets)) == (turn, None, b"probe\n", b"", turn)
        os.kill(life.monitor_pid(), signal.SIGPIPE)
        assert probe(life) == born
    kill(pid, signal.SIGTERM)
    assert exits.wait() == {life.cid: 9}
    life.wait_gone()
    assert probe(life) is None
    files = [*sorted(life.directory.glob("*.old")), life.log]
    logged = [
        b"".join(line.split(b" ", 3)[3] for line in path.read_bytes().splitlines(keepends=True))
        for path in files
    ]
    assert logged == [b"said 0\n", b"said 1\n", b"said 2\n", b"bye\n"]


@pytest.mark.contract("CALL-9", "END-10", "END-9")
def test_of_many_ends_at_once_each_is_told_once_and_by_its_own_id(
    short_tmp: Path, sockets: Path
) -> None:
    """Acceptable: names that begin with a dot. Not acceptable: another, half a status, two."""
    gate, count = Gate(short_tmp / "go"), 12
    lives = [crio_life(short_tmp / f"box{number}", number) for number in range(count)]
    directory = lives[0].exit_dir
    try:
        with ExitMonitor(directory) as exits:
            for number, life in enumerate(lives):
                life.exit_dir = directory
                life.stub(f"read x < {gate.path}; exit {number + 100}")
                create(life, sockets)
            for _ in lives:
                gate.open()
            found = exits.wait(count)
        assert found == {life.cid: number + 100 for number, life in enumerate(lives)}
        assert all(AN_ID.fullmatch(path.name) for path in directory.iterdir())
    finally:
        gate.close()
        for life in lives:
            life.end()


@pytest.mark.contract("ATT-4", "ATT-6", "CASE-907", "TTY-11", "CALL-9")
@pytest.mark.parametrize("length", [106, 107, 108])
@TERMINAL
def test_one_attaches_through_a_link_of_any_length(
    life: Life, short_tmp: Path, exits: ExitMonitor, length: int, terminal: bool
) -> None:
    # With `/attach` behind it the path is too long for any socket's name: only the link is shortened.
    sockets = short_tmp / ("s" * (length - len(str(short_tmp)) - 2 - len(life.cid)))
    sockets.mkdir()
    assert len(str(sockets / life.cid)) == length
    end = run(life, "read x; echo said $x; exit 4", terminal=terminal)
    create(life, sockets, "-t" if terminal else "-i")
    client = attach(life, sockets)
    client.send(b"word\n")
    read_until(client, b"said word" + end)
    assert packets(client) == (b"", b"")
    assert exits.wait() == {life.cid: 4}
    life.wait_gone()
    assert list(sockets.iterdir()) == []


@pytest.mark.contract("CALL-9", "SYNC-12", "ENV-5")
@pytest.mark.parametrize("word", [b"\0", b""], ids=["after the word", "before the word"])
def test_a_crio_that_dies_while_it_creates_leaves_a_container_that_the_next_one_finds(
    life: Life, sockets: Path, exits: ExitMonitor, word: bytes
) -> None:
    """Acceptable: pid files and an exit file, as always. Not acceptable: a monitor that goes too."""
    gate = life.directory / "gate"
    life.stub("read x; exit 3", before=f"mkfifo {gate}.new; mv {gate}.new {gate}; read x < {gate}")
    begin_create(life, sockets, "-i")
    assert life.launcher is not None
    assert life.sync is not None
    if word:
        os.write(life.start_pipe, word)
        wait_for(gate)
    for end in (life.sync, life.launcher.stdout, life.launcher.stderr):
        assert end is not None
        end.close()
    os.close(life.start_pipe)
    life.sync, life.start_pipe = None, -1
    wait_for(gate)
    gate.write_text("go\n")
    pid = number_in(life.pid_file)
    assert probe(life) is not None
    kill(pid)
    assert exits.wait() == {life.cid: 137}


# ExecSync


@pytest.mark.contract("CALL-10", "CALL-11", "SYNC-8", "RT-3", "RT-4", "ATT-7", "RT-23", "ENV-10")
@SYNC
@TERMINAL
def test_exec_sync_with_exactly_crios_options(
    session: Callable[[], Life], sockets: Path, terminal: bool, sync: bool
) -> None:
    life = session()
    seen = Witness(life)
    out, err = b"out\n", b"err\n"
    if terminal:
        out, err = b"out" + run(life, "echo out; exit 7", terminal=True), b""
        life.runtime.rename(life.runtime.with_name("terminal"))
        life.script(f'#!/bin/sh\n{seen.shell()}exec {life.directory}/terminal "$@"\n')
    else:
        life.stub("echo out; echo err >&2; exit 7", before=seen.shell())
    exec_sync(life, sockets, "-s", sync=sync, terminal=terminal, timeout=60)
    assert result(life) == Result(7, None, out, err, 7 if sync else 0)
    words = seen.wait().arguments()[1:]
    spec = life.directory / "exec-process-"
    expected = [f"--root={life.directory}/root", "exec", "--pid-file", str(life.pid_file)]
    expected += ["--process", str(spec), "--detach"]
    assert words[:7] == [os.fsencode(word) for word in expected]
    assert words[7:] == [*words[7 : 7 + 2 * terminal], os.fsencode(life.cid)]
    assert seen.environment() == [b"PATH=" + PATH.encode(), b"_OCI_SYNCPIPE=3"]
    assert seen.line("cwd") == "/"
    assert life.log.stat().st_mode & 0o777 == 0o600  # CRI-O made it
    for directory in (sockets, life.bundle, life.exit_dir, life.persist_dir):
        assert list(directory.iterdir()) == []


@pytest.mark.contract("CALL-10", "CALL-11", "SYNC-8", "END-3", "END-23")
@SYNC
@pytest.mark.parametrize(
    ("end", "code"),
    [("exit 0", 0), ("exit 1", 1), ("exit 255", 255), ("exec sh -c 'kill -KILL $$'", 137)],
)
def test_exec_sync_answers_with_the_status(
    session: Callable[[], Life], sockets: Path, end: str, code: int, sync: bool
) -> None:
    life = session()
    life.stub(end)
    answer = result(exec_sync(life, sockets, sync=sync))
    assert answer == Result(code, None, b"", b"", code if sync else 0)


@pytest.mark.contract("CALL-10", "RT-23", "SYNC-8", "SYNC-11", "END-23")
@SYNC
@TERMINAL
@pytest.mark.parametrize("status", [0, 1, 255])
def test_exec_sync_of_what_cannot_start_answers_with_the_runtimes_words(
    session: Callable[[], Life], sockets: Path, status: int, terminal: bool, sync: bool
) -> None:
    # The pid file was there, and stays empty.
    life = session()
    life.script(f"#!/bin/sh\necho 'exec: no such file' >&2\nexit {status}\n")
    answer = result(exec_sync(life, sockets, sync=sync, terminal=terminal))
    assert (answer.exit_code, answer.status) == (-1, 1 if sync else 0)
    assert answer.message == "exec: no such file\n"
    assert life.pid_file.read_bytes() == b""


@pytest.mark.contract("CALL-10", "CALL-11", "ROT-12", "ROT-14")
@SYNC
def test_of_more_than_16_mib_that_an_exec_prints_the_beginning_is_kept(
    session: Callable[[], Life], sockets: Path, sync: bool
) -> None:
    """Acceptable: 16 MiB of records, the last one whole. Not acceptable: a process that waits."""
    life = session()
    line = "x" * 4000
    life.stub(f"yes {line} | head -c 20000000; exit 6")
    answer = result(exec_sync(life, sockets, "--no-sync-log", sync=sync))
    assert (answer.exit_code, answer.message) == (6, None)
    assert OUTPUT_MAX <= life.log.stat().st_size < OUTPUT_MAX + 4100
    count = len(answer.stdout) // 4001
    assert answer.stdout == (line.encode() + b"\n") * count


@pytest.mark.contract("CALL-10", "SYNC-9", "END-5", "END-23", "CLI-56")
@SYNC
@TERMINAL
def test_exec_sync_that_takes_too_long_answers_in_the_words_crio_knows(
    session: Callable[[], Life], sockets: Path, terminal: bool, sync: bool
) -> None:
    life = session()
    script = "trap '' TERM INT HUP; echo begun; sleep 60 & while :; do wait; done"
    # In a group of its own, as runtimes start a process, or its child were not to be found.
    end = run(life, script if terminal else f'exec setsid sh -c "{script}"', terminal=terminal)
    exec_sync(life, sockets, sync=sync, terminal=terminal, timeout=1)
    pid = int(wait_until(life.pid_file.read_bytes, "the pid"))
    answer = result(life)
    assert answer == Result(-1, "command timed out", b"begun" + end, b"", 255 if sync else 0)
    wait_until(lambda: gone(pid), "the process's end")


@pytest.mark.contract("CALL-10", "CALL-11", "END-2", "END-21", "START-11")
@SYNC
def test_exec_sync_does_not_wait_for_what_the_process_left_in_the_background(
    session: Callable[[], Life], sockets: Path, sync: bool
) -> None:
    """Acceptable: the answer within a second or so. Not acceptable: that CRI-O, which reads what its
    monitors print to the end, waits for a daemon of the container's.
    """
    life = session()
    left = life.directory / "left"
    life.stub(f"echo said; sleep 60 & echo $! > {left}; exit 3")
    try:
        answer = result(exec_sync(life, sockets, sync=sync))
        assert answer == Result(3, None, b"said\n", b"", 3 if sync else 0)
    finally:
        kill(number_in(left))


@pytest.mark.contract("CALL-12", "SIG-1", "END-3", "SYNC-8")
@TERMINAL
@pytest.mark.parametrize("does", ["dies", "exits", "ignores"])
def test_sigint_to_an_exec_sync_is_for_its_process_and_the_answer_follows(
    session: Callable[[], Life], sockets: Path, does: str, terminal: bool
) -> None:
    """CRI-O stops a container: each monitor of an ExecSync gets SIGINT, again and again, and the
    container's processes are killed in the end. Acceptable: one answer, what became of the process.
    Not acceptable: none, or that the monitor goes first.
    """
    life = session()
    handler = {"dies": "SIG_DFL", "exits": "lambda *_: os._exit(5)", "ignores": "lambda *_: tell()"}
    program = life.directory / "program.py"
    program.write_text(
        "import os, signal\nfrom signal import SIG_DFL\n"
        "def tell(): os.write(1, b'no\\n')\n"
        f"signal.signal(signal.SIGINT, {handler[does]})\n"
        "os.write(1, b'ready\\n')\nwhile True: signal.pause()\n"
    )
    run(life, f"exec {sys.executable} -IS {program}", terminal=terminal)
    exec_sync(life, sockets, terminal=terminal)
    assert life.launcher is not None
    wait_until(lambda: b"ready" in (read_if_there(life.log) or b""), "the process")
    os.kill(life.launcher.pid, signal.SIGINT)
    if does == "ignores":
        for count in range(1, 4):
            wait_until(lambda count=count: life.log.read_bytes().count(b" no") == count, "it came")
            os.kill(life.launcher.pid, signal.SIGINT)
        kill(int(life.pid_file.read_bytes()))
    code = {"dies": 130, "exits": 5, "ignores": 137}[does]
    answer = result(life)
    assert (answer.exit_code, answer.message, answer.status) == (code, None, code)


@pytest.mark.contract("CALL-12", "SIG-1", "SYNC-11", "CASE-805")
def test_sigint_to_an_exec_sync_whose_runtime_is_at_work_gets_a_negative_answer(
    session: Callable[[], Life], sockets: Path
) -> None:
    life = session()
    ready = life.directory / "ready"
    life.script(
        f"#!{sys.executable} -IS\nimport signal\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        f"open({str(ready)!r}, 'w').close()\nwhile True: signal.pause()\n"
    )
    exec_sync(life, sockets)
    assert life.launcher is not None
    wait_for(ready)
    os.kill(life.launcher.pid, signal.SIGINT)
    answer = result(life)
    assert (answer.exit_code, answer.status) == (-1, 1)


@pytest.mark.contract("SIG-2", "CALL-9", "CALL-10")
def test_when_its_scope_stops_with_sigpipe_a_monitor_goes_on_until_its_process_ends(
    life: Life, sockets: Path, exits: ExitMonitor, session: Callable[[], Life]
) -> None:
    # systemd sends KillSignal=SIGPIPE to all monitors in the scope: of container and ExecSync.
    life.stub("read x; exit 3")
    pid = create(life, sockets, "-i")
    sessions = [session() for _ in range(2)]
    for number, one in enumerate(sessions):
        gate = one.directory / "gate"
        one.stub(f"mkfifo {gate}.new; mv {gate}.new {gate}; read x < {gate}; exit {number + 4}")
        exec_sync(one, sockets)
        wait_for(gate)
    for _ in range(3):
        os.kill(life.monitor_pid(), signal.SIGPIPE)
        for one in sessions:
            assert one.launcher is not None
            one.launcher.send_signal(signal.SIGPIPE)
    for one in sessions:
        (one.directory / "gate").write_text("go\n")
    assert [result(one).exit_code for one in sessions] == [4, 5]
    assert not gone(pid)
    client = attach(life, sockets)
    client.send(b"go\n")
    assert exits.wait() == {life.cid: 3}


@pytest.mark.contract("CALL-10", "SYNC-12", "SIG-2")
@SYNC
def test_an_exec_sync_ends_by_itself_when_crio_has_died(
    session: Callable[[], Life], sockets: Path, sync: bool
) -> None:
    life = session()
    gate = life.directory / "gate"
    life.stub(f"mkfifo {gate}.new; mv {gate}.new {gate}; echo said; read x < {gate}; exit 9")
    exec_sync(life, sockets, sync=sync)
    assert life.launcher is not None
    assert life.launcher.stdout is not None
    assert life.launcher.stderr is not None
    assert life.sync is not None
    wait_for(gate)
    pid = int(life.pid_file.read_bytes())
    for end in (life.launcher.stdout, life.launcher.stderr, life.sync):
        end.close()
    life.sync = None
    gate.write_text("go\n")
    wait_until(lambda: gone(pid), "the process's end")
    assert life.launcher.wait(20) == (9 if sync else 0)


@pytest.mark.timeout(100)
@pytest.mark.contract("CASE-1005", "CALL-10", "CALL-11", "SYNC-8", "RT-23")
def test_300_probes_in_waves_each_have_their_own_answer_and_output(
    life: Life, sockets: Path, exits: ExitMonitor, short_tmp: Path
) -> None:
    """Acceptable: every answer is the probe's own. Not acceptable: one that is missing, late beyond
    the kubelet's patience, or another's; a container that notices.
    """
    life.stub("read x; exit 3")
    create(life, sockets, "-i")
    for first in range(0, PROBES, WAVE):
        wave = []
        try:
            for number in range(first, first + WAVE):
                one = crio_life(short_tmp / f"exec-{number}", number=number)
                wave.append(one)
                if number % 10 == 9:
                    one.script(f"#!/bin/sh\necho sorry {number} >&2\nexit 1\n")
                else:
                    one.stub(f"echo {number}; echo err {number} >&2; exit {number % 256}")
                exec_sync(one, sockets, sync=number % 2 == 0)
            for number, one in enumerate(wave, start=first):
                answer = result(one)
                if number % 10 == 9:
                    assert answer[:2] == (-1, f"sorry {number}\n")
                    continue
                out, err = b"%d\n" % number, b"err %d\n" % number
                assert answer[:4] == (number % 256, None, out, err)
        finally:
            for one in wave:
                one.end()
                shutil.rmtree(one.directory)
    client = attach(life, sockets)
    client.send(b"go\n")
    assert exits.wait() == {life.cid: 3}


# Reopening


@pytest.mark.contract("REOPEN-1", "REOPEN-4", "REOPEN-5", "CALL-9")
@pytest.mark.parametrize("options", [[], ["--log-size-max", "8192"]], ids=["", "limited"])
@pytest.mark.parametrize("how", ["renamed", "removed", "kept", "replaced"])
def test_who_asks_for_a_fresh_log_is_woken_whatever_was_done_to_the_old_one(
    life: Life, sockets: Path, exits: ExitMonitor, how: str, options: list[str]
) -> None:
    """Not acceptable: no Create and no Write at the very path. CRI-O waits for one without limit."""
    life.stub("while read x; do echo said $x; done; exit 3")
    create(life, sockets, *options, "-i", "--leave-stdin-open")
    client = attach(life, sockets)
    old = life.log.with_name("old")
    for turn in range(3):
        client.send(b"%d\n" % turn)
        assert read_until(client, b"\n") == b"said %d\n" % turn
        if how in ("renamed", "replaced"):
            life.log.rename(old)
        if how == "replaced":
            life.log.write_bytes(b"")
        if how == "removed":
            life.log.unlink()
        with Watch(life.log.parent) as watch:
            write_control(life, "2 0 0\n")
            watch.wait(life.log.name)
        if how in ("renamed", "replaced"):
            assert old.read_bytes().endswith(b" stdout F said %d\n" % turn)
        if how != "kept":
            assert life.log.read_bytes() == b""
    if how == "kept":
        assert life.text() == b"said 0\nsaid 1\nsaid 2\n"
    kill(int(life.pid_file.read_bytes()))
    assert exits.wait() == {life.cid: 137}
