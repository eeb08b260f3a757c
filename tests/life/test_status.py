"""The status socket: what it tells, whoever asks and however, and that nothing depends on it."""

from __future__ import annotations

import errno
import os
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from lowconmon.loop import Loop
from lowconmon.pure.options import Options
from lowconmon.rooms.diagnostics import Diagnostics
from lowconmon.rooms.status import StatusSocket
from tests.support import faults
from tests.support.life import (
    Gate,
    Life,
    assert_idle,
    attach_accepted,
    private_kib,
    read_if_there,
    ticks_of,
    wait_until,
)
from tests.support.operators import ask, connect, run

STREAMS = {"stdout": {"bytes": 0, "records": 0}, "stderr": {"bytes": 0, "records": 0}}


@pytest.mark.contract("STAT-1", "STAT-2", "STAT-3", "STAT-4")
def test_it_tells_who_it_is_and_how_it_goes(life: Life, gate: Gate) -> None:
    life.stub(f"printf 'one\\ntwo\\nthr'; echo oh >&2; read x <{gate.path}")
    life.start("-n", "web", "-i").pid()
    assert stat.S_IMODE((life.bundle / "status").stat().st_mode) == 0o700
    wait_until(lambda: b"oh" in life.log.read_bytes() and b"thr" in life.log.read_bytes(), "logged")
    facts = ask(life.bundle)
    container = int(life.pid_file.read_text())
    started = facts.pop("started_at")
    assert started.endswith("+00:00")
    assert started[:2] == "20"
    assert facts.pop("uptime_s") < 60
    assert facts == {
        "version": 1,
        "cid": life.cid,
        "name": "web",
        "exec": False,
        "terminal": False,
        "monitor_pid": life.monitor_pid(),
        "container_pid": container,
        "state": "running",
        "clients": [],
        "log": {
            "stdout": {"bytes": 11, "records": 3},
            "stderr": {"bytes": 3, "records": 1},
            "dropped_records": 0,
            "held_bytes": 0,
            "rotations": 0,
        },
        "errors": [],
    }
    assert ask(life.bundle)["started_at"] == started
    gate.open()
    assert life.exit_status() == 0


@pytest.mark.contract("STAT-3")
def test_it_tells_what_state_the_start_is_in(life: Life, gate: Gate) -> None:
    life.stub("exec sleep 100", before=f"read x <{gate.path}")
    life.start()
    wait_until((life.bundle / "status").exists, "the socket")
    facts = ask(life.bundle)
    assert (facts["state"], facts["container_pid"]) == ("creating", None)
    assert facts["started_at"] is facts["uptime_s"] is None
    gate.open()
    pid = life.pid()
    facts = ask(life.bundle)
    assert (facts["state"], facts["container_pid"]) == ("running", pid)


@pytest.mark.contract("STAT-3")
def test_it_tells_of_a_terminal(life: Life, gate: Gate) -> None:
    life.terminal_stub(f"echo hello; read x <{gate.path}").start("-t").pid()
    wait_until(lambda: b"hello" in (read_if_there(life.log) or b""), "output")
    facts = ask(life.bundle)
    assert facts["terminal"] is True
    assert facts["log"]["stdout"] == {"bytes": 7, "records": 1}
    gate.open()


@pytest.mark.contract("STAT-3")
def test_it_tells_of_each_client_what_waits_for_it(life: Life, gate: Gate) -> None:
    life.stub(f"read x <{gate.path}; head -c 4000000 /dev/zero").start().pid()
    attach_accepted(life)  # never reads
    reading = attach_accepted(life)
    reading.setblocking(False)
    assert ask(life.bundle)["clients"] == [{"queued_bytes": 0}, {"queued_bytes": 0}]
    gate.open()

    def queued() -> list[int]:
        try:
            while reading.recv(8193):
                pass
        except BlockingIOError:
            pass
        return [client["queued_bytes"] for client in ask(life.bundle)["clients"]]

    wait_until(lambda: queued()[0] >= 1 << 20, "the queue of the client that does not read is full")
    wait_until(lambda: queued()[1] == 0, "the other's is empty")


@pytest.mark.contract("STAT-3")
def test_the_last_warnings_are_told_whatever_the_log_level(life: Life) -> None:
    life.stub("exec sleep 100").start("--log-level", "error").pid()
    for number in range(12):  # each is a complaint of its own: one that repeats is said once
        life.control(b"junk\n" if number % 2 else b"9 9 9\n")
    errors = wait_until(lambda: ask(life.bundle)["errors"], "a warning")
    assert [error["text"] for error in errors] == ["Failed to parse a control message"]
    assert errors[0]["at"].endswith("+00:00")


@pytest.mark.contract("STAT-3", "STAT-5")
def test_of_many_errors_the_last_eight_are_told_and_cut() -> None:
    diagnostics = Diagnostics()
    diagnostics.on_stderr = False
    for number in range(20):
        diagnostics.warn(f"{number} " + "x" * 1000)
    diagnostics.error("last", OSError(28, ""))
    diagnostics.debug("of no interest")
    texts = [text for _, text in diagnostics.recent]
    assert [text.split()[0] for text in texts] == [b"%d" % n for n in range(13, 20)] + [b"last:"]
    assert texts[-1] == b"last: No space left on device"
    assert max(map(len, texts)) == 256


@pytest.mark.contract("STAT-4")
def test_losses_rotations_and_what_is_held_are_told(life: Life, logs: Path, gate: Gate) -> None:
    size = ["--log-size-max", "1000", "--log-rotate", "--log-max-files", "2"]
    allow = ["--log-allowlist-dir", str(logs)]
    line = "x" * 400
    life.stub(f"for i in 1 2 3 4 5 6 7 8; do echo {line}; done; read x <{gate.path}")
    life.start(*size, *allow).pid()
    facts = wait_until(
        lambda: (found := ask(life.bundle)["log"])["stdout"]["records"] == 8 and found, "all logged"
    )
    assert facts == {
        **STREAMS,
        "stdout": {"bytes": 8 * 401, "records": 8},
        "dropped_records": 0,
        "held_bytes": 0,
        "rotations": 3,
    }
    gate.open()


@pytest.mark.contract("STAT-4")
@pytest.mark.parametrize("on_error", ["hold", "drop"])
def test_a_full_disk_is_told(life: Life, gate: Gate, on_error: str) -> None:
    """Acceptable: held, or counted as dropped and no longer as records; never both."""
    spec = f"write:errno=ENOSPC:times=forever:file={life.log}"
    life.command = faults.command(spec)
    life.environment["LOWCONMON_LOG_ON_ERROR"] = on_error
    life.stub(f"printf 'a\\nb\\nc\\n'; read x <{gate.path}").start().pid()

    def settled() -> dict:
        log = ask(life.bundle)["log"]
        known = log["held_bytes"] if on_error == "hold" else log["dropped_records"]
        return log if known else {}

    log = wait_until(settled, "it is told")
    assert log["stdout"]["bytes"] == 6
    if on_error == "hold":
        assert (log["stdout"]["records"], log["dropped_records"]) == (3, 0)
        assert log["held_bytes"] == len(b"2026-11-23T14:30:00.776455356+00:00 stdout F a\n") * 3
    else:
        assert (log["stdout"]["records"], log["dropped_records"]) == (0, 3)
    errors = ask(life.bundle)["errors"]
    assert errors[-1]["text"] == "stdio_input write failed: No space left on device"
    gate.open()


@pytest.mark.contract("STAT-4")
@pytest.mark.parametrize(
    ("more", "records"),
    [
        (["-l", "none"], 0),
        (["-l", "json-file:{}"], 3),
        (["--log-global-size-max", "100"], 2),
        (["--log-global-size-max", "1"], 1),
        (["-l", "json-file:{}", "--log-global-size-max", "100"], 2),
    ],
)
def test_records_are_those_of_the_driver(
    life: Life, gate: Gate, more: list[str], records: int
) -> None:
    arguments = life.arguments(*(word.format(life.log) for word in more))
    if "-l" in more:
        at = arguments.index("-l")
        del arguments[at : at + 2]
    life.stub(f"printf 'long enough, 1\nlong enough, 2\nlong enough, 3\n'; read x <{gate.path}")
    life.start(raw=arguments).pid()
    size = 3 * len("long enough, 1\n")
    wait_until(lambda: ask(life.bundle)["log"]["stdout"]["bytes"] == size, "output")
    assert ask(life.bundle)["log"]["stdout"] == {"bytes": size, "records": records}
    gate.open()


@pytest.mark.contract("STAT-5")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        (b'qu"o\\te\n\x1b[2J\x7f', 'qu"o\\te\n\x1b[2J\x7f'),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ("é€😀\u2028".encode(), "é€😀\u2028"),
        (b"x" * 100_000, "x" * 1024),
        (b'"' * 100_000, '"' * 1024),
        (b"", ""),
    ],
)
def test_any_name_is_safe(life: Life, name: bytes, told: str) -> None:
    life.stub("exec sleep 100")
    arguments = [os.fsencode(word) for word in life.arguments()]
    life.start(raw=[*arguments, b"-n", name]).pid()  # type: ignore[list-item]
    assert ask(life.bundle)["name"] == told


@pytest.mark.contract("STAT-2")
@pytest.mark.parametrize("request_", [b"", b"stat", b"status?", b"x" * 100_000, b"status\0"])
def test_another_request_is_answered_with_an_error_or_an_end(life: Life, request_: bytes) -> None:
    life.stub("exec sleep 100").start().pid()
    assert ask(life.bundle, request_) == {"error": "unknown request"}
    assert ask(life.bundle, b"status\n")["state"] == "running"


@pytest.mark.contract("STAT-1")
@pytest.mark.parametrize("length", [107, 108, 300])
def test_a_bundle_may_have_a_path_of_any_length(life: Life, length: int) -> None:
    while len(str(life.bundle)) < length - 20:
        life.bundle /= "d" * min(100, length - len(str(life.bundle)) - 10)
    life.bundle.mkdir(parents=True)
    life.stub("exec sleep 100").start().pid()
    assert ask(life.bundle)["cid"] == life.cid
    assert run("status", str(life.bundle)).returncode == 0


@pytest.mark.contract("STAT-1", "STAT-8")
def test_a_stale_socket_is_replaced_and_ours_is_gone_at_the_end(life: Life, gate: Gate) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stale:
        stale.bind(str(life.bundle / "status"))
    life.stub(f"read x <{gate.path}; exit 3").start().pid()
    assert ask(life.bundle)["version"] == 1
    gate.open()
    assert life.exit_status() == 3
    assert not (life.bundle / "status").exists()  # before the exit file, so at once
    life.wait_gone()


@pytest.mark.contract("STAT-8")
def test_it_is_removed_when_a_start_failed(life: Life) -> None:
    life.stub("exit 0", status=1).start()
    message = life.message()
    assert message is not None
    assert message["data"] == -1
    life.wait_gone()
    assert not (life.bundle / "status").exists()


@pytest.mark.contract("STAT-7")
@pytest.mark.parametrize("obstacle", ["directory", "socket", "bind", "listen"])
def test_a_life_goes_on_without_it(life: Life, obstacle: str) -> None:
    if obstacle == "directory":
        (life.bundle / "status").mkdir()
    else:
        life.command = faults.command(f"{obstacle}:errno=ENOMEM:nth=2")  # the first: attach's
    life.stub("read line; echo $line; exit 4").start("-i").pid()
    with pytest.raises(OSError, match=r"."):
        connect(life.bundle)
    life.control(b"2 0 0\n")
    client = life.attach()
    client.send(b"word\n")
    assert client.recv(8193) == b"\2word\n"
    assert life.exit_status() == 4
    life.wait_gone()
    assert (life.bundle / "status").is_dir() == (obstacle == "directory")


@pytest.mark.contract("STAT-7")
@pytest.mark.parametrize("call", ["socket", "bind", "listen", "unlink", "epoll_ctl"])
def test_what_stands_in_its_way_is_a_warning(
    tmp_path: Path, inject: Callable[..., faults.Fault], call: str
) -> None:
    loop, diagnostics = Loop(), Diagnostics()
    diagnostics.on_stderr = False
    status = StatusSocket(loop, diagnostics, Options(), dict)
    directory_fd = os.open(tmp_path, os.O_PATH)
    inject(call, errno=errno.ENOSPC)
    status.listen(directory_fd)
    said = [text for _, text in diagnostics.recent]
    verb = b"remove" if call == "unlink" else b"create"
    assert said == [b"Failed to " + verb + b" status socket: No space left on device"]
    assert (tmp_path / "status").exists() == (call == "unlink")
    status.close()
    status.close()
    assert list(tmp_path.iterdir()) == []
    os.close(directory_fd)
    loop.close()


@pytest.mark.contract("STAT-6", "STAT-7")
@pytest.mark.parametrize("call", ["accept4", "send", "send_fds"])
def test_a_call_that_fails_costs_one_answer_at_most(life: Life, call: str) -> None:
    """Not acceptable: a crash report, or the end of the socket."""
    life.command = faults.command(f"{call}:errno=ENOMEM:nth={1 if call == 'accept4' else 2}")
    life.stub("exec sleep 100").start().pid()
    for _ in range(3):
        with connect(life.bundle) as client:
            client.send(b"status")
            answer = client.recv(65536)
            assert answer == b"" or b'"running"' in answer
    for request in (b"status", b""):  # who is gone before the answer, or has not asked at all
        with connect(life.bundle) as client:
            if request:
                client.send(request)
    assert ask(life.bundle)["state"] == "running"
    assert not (life.bundle / "conmon-crash").exists()


@pytest.mark.contract("STAT-6")
def test_idle_clients_are_dropped_for_others(life: Life) -> None:
    life.stub("exec sleep 100").start().pid()
    idle = [connect(life.bundle) for _ in range(8)]
    try:
        asked = [ask(life.bundle)["state"] for _ in range(3)]
        assert asked == ["running"] * 3
        wait_until(lambda: select.select(idle, [], [], 0)[0] == idle[:1], "the oldest is dropped")
        assert idle[0].recv(1) == b""
        idle[-1].send(b"status")
        assert idle[-1].recv(65536).startswith(b'{"version": 1')
    finally:
        for client in idle:
            client.close()


@pytest.mark.contract("STAT-6")
def test_a_flood_of_connections_and_requests_costs_little(life: Life, gate: Gate) -> None:
    """Acceptable: who floods waits. Not acceptable: a busy monitor, memory, output that waits."""
    life.stub(f"read x <{gate.path}; seq 20000; exit 5").start("-i").pid()
    ask(life.bundle)
    monitor = life.monitor_pid()
    before, ticks = private_kib(monitor), _ticks(monitor)
    flood = (
        "import socket, sys, time\n"
        "end = time.monotonic() + 1\n"
        "while time.monotonic() < end:\n"
        "    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)\n"
        "    s.settimeout(0.2)\n"
        "    try:\n"
        "        s.connect(sys.argv[1])\n"
        "        for _ in range(50): s.send(b'status' * 1000)\n"
        "    except OSError: pass\n"
        "    s.close()\n"
    )
    with subprocess.Popen([sys.executable, "-c", flood, str(life.bundle / "status")]) as process:
        gate.open()
        assert life.exit_status(5) == 5
        process.wait(30)
    assert life.text().count(b"\n") == 20000
    assert _ticks(monitor, ticks) - ticks < 40
    assert before > 0


def _ticks(pid: int, gone: int = 0) -> int:
    try:
        return ticks_of(pid)
    except FileNotFoundError:
        return gone


@pytest.mark.contract("STAT-6")
def test_clients_that_neither_ask_nor_read_leave_the_monitor_idle(life: Life) -> None:
    life.stub("exec sleep 100").start().pid()
    monitor = life.monitor_pid()
    idle = [connect(life.bundle) for _ in range(20)]
    ask(life.bundle)
    assert_idle(monitor)
    before = private_kib(monitor)
    for _ in range(200):
        ask(life.bundle)
    assert private_kib(monitor) - before <= 256
    for client in idle:
        client.close()
    assert_idle(monitor)


@pytest.mark.contract("STAT-1")
def test_an_exec_session_without_bundle_has_none(life: Life) -> None:
    arguments = life.arguments(exec_session=True)
    at = arguments.index("-b")
    del arguments[at : at + 2]
    life.stub("exec sleep 100")
    directory = Path(tempfile.mkdtemp(prefix="cwd-", dir="/tmp"))
    try:
        life.start(raw=arguments, cwd=directory).pid()
        assert list(directory.iterdir()) == list(life.bundle.iterdir()) == []
        os.kill(int(life.pid_file.read_text()), signal.SIGKILL)
        life.wait_gone()
    finally:
        shutil.rmtree(directory)


@pytest.mark.contract("STAT-1")
def test_passthrough_has_one_though_nothing_to_attach_to(life: Life) -> None:
    arguments = life.arguments()
    arguments[arguments.index("-l") + 1] = "passthrough"
    life.stub("exec sleep 100").start(raw=arguments).pid()
    facts = ask(life.bundle)
    assert facts["state"] == "running"
    assert facts["log"]["stdout"] == {"bytes": 0, "records": 0}
    assert not (life.bundle / "attach").exists()


@pytest.mark.contract("STAT-1", "STAT-6")
def test_with_no_descriptor_left_it_answers_later(life: Life, gate: Gate) -> None:
    """Not acceptable: a busy monitor, or a socket that is deaf for ever."""
    life.stub(f"read x <{gate.path}; exit 6").start().pid()
    monitor = life.monitor_pid()
    held = len(os.listdir(f"/proc/{monitor}/fd"))
    hard = resource.prlimit(monitor, resource.RLIMIT_NOFILE)[1]
    old = resource.prlimit(monitor, resource.RLIMIT_NOFILE, (held, hard))
    with connect(life.bundle) as client:
        client.send(b"status")
        assert_idle(monitor, 0.1)
        resource.prlimit(monitor, resource.RLIMIT_NOFILE, old)
        assert client.recv(65536).startswith(b'{"version": 1')
    gate.open()
    assert life.exit_status() == 6
