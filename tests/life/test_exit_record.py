"""exit.json: what it tells of each end, and that the plain files come first and wait for nothing."""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lowconmon.loop import Loop
from lowconmon.pure.options import Options
from lowconmon.rooms.diagnostics import Diagnostics
from lowconmon.rooms.exit_record import ExitRecord
from tests.support import faults
from tests.support.life import Gate, Life, read_if_there, wait_until
from tests.support.operators import exit_json
from tests.support.witness import Inotify


@pytest.mark.contract("REC-2", "REC-3")
@pytest.mark.parametrize("code", [0, 1, 126, 127, 128, 137, 255])
def test_an_exit_is_told(life: Life, code: int) -> None:
    before = datetime.now(UTC)
    life.stub(f"echo out; echo err >&2; exit {code}").start().pid()
    assert life.exit_status() == code
    record = exit_json(life)
    started, ended = (datetime.fromisoformat(record.pop(k)) for k in ("started_at", "ended_at"))
    assert before <= started <= ended <= datetime.now(UTC)
    usage = record.pop("rusage")
    assert list(usage) == ["user_us", "system_us", "max_rss_kb"]
    assert usage["max_rss_kb"] > 100
    assert record == {
        "version": 1,
        "status": code,
        "signal": None,
        "core_dumped": False,
        "cause": "exited",
        "log": {
            "stdout": {"bytes": 4, "records": 1},
            "stderr": {"bytes": 4, "records": 1},
            "dropped_records": 0,
            "held_bytes": 0,
            "rotations": 0,
        },
    }


@pytest.mark.contract("REC-2")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV])
def test_a_signal_is_told_from_an_exit_code(life: Life, number: int) -> None:
    life.stub(f"ulimit -c 0; exec sh -c 'kill -{int(number)} $$; exit 1'").start().pid()
    assert life.exit_status() == 128 + number
    record = exit_json(life)
    assert (record["status"], record["signal"]) == (128 + number, number)
    assert record["cause"] == "signalled"
    assert record["core_dumped"] is False


@pytest.mark.contract("REC-2")
def test_a_timeout_is_told(life: Life) -> None:
    life.stub("exec sleep 100").start("--timeout", "1").pid()
    assert life.exit_status() == -1
    record = exit_json(life)
    assert (record["status"], record["cause"]) == (-1, "timed out")
    # Its output may have ended, and the record been written, just before the kernel knew its end.
    assert record["signal"] in (signal.SIGKILL, None)
    assert bool(record["rusage"]) == bool(record["signal"])


@pytest.mark.contract("REC-3")
def test_what_was_used_is_told(life: Life) -> None:
    program = life.directory / "busy.py"
    program.write_text(
        "import os\nx = bytearray(b'x') * (48 << 20)\nwhile os.times()[0] < 0.2: pass\n"
    )
    life.stub(f"exec {sys.executable} -IS {program}").start().pid()
    assert life.exit_status() == 0
    usage = exit_json(life)["rusage"]
    assert 150_000 < usage["user_us"] < 20_000_000
    assert usage["max_rss_kb"] > 48 << 10


@pytest.mark.contract("REC-3")
@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
@pytest.mark.usefixtures("logs")
def test_the_log_is_told(life: Life, driver: str) -> None:
    script = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i+1)); done; printf rest; echo e >&2"
    arguments = life.arguments("--log-size-max", "4000")
    arguments[arguments.index("-l") + 1] = f"{driver}:{life.log}"
    life.stub(script).start(raw=arguments).pid()
    assert life.exit_status() == 0
    log = exit_json(life)["log"]
    assert log["stdout"]["records"] >= 301
    assert log["stdout"]["bytes"] == sum(len(f"line {n}\n") for n in range(300)) + 4
    assert log["stderr"] == {"bytes": 2, "records": 1}
    assert log["rotations"] > 2
    assert log["dropped_records"] == 0


@pytest.mark.contract("REC-3")
def test_what_the_disk_never_took_is_told(life: Life) -> None:
    life.command = faults.command(f"write:errno=ENOSPC:times=forever:file={life.log}")
    life.environment["LOWCONMON_LOG_ON_ERROR"] = "drop"
    life.stub("printf 'a\\nb\\nc\\n'").start().pid()
    assert life.exit_status() == 0
    log = exit_json(life)["log"]
    assert (log["stdout"], log["dropped_records"]) == ({"bytes": 6, "records": 0}, 3)


@pytest.mark.contract("REC-1")
def test_a_failed_start_leaves_none(life: Life) -> None:
    life.stub("exit 0", status=1).start()
    life.wait_gone()
    assert list(life.persist_dir.iterdir()) == []


@pytest.mark.contract("REC-1")
def test_without_persist_dir_there_is_none(life: Life) -> None:
    arguments = life.arguments()
    at = arguments.index("--persist-dir")
    del arguments[at : at + 2]
    life.stub("exit 3").start(raw=arguments).pid()
    assert life.exit_status() == 3
    life.wait_gone()
    assert os.listdir(life.exit_dir) == [life.cid]
    assert list(life.persist_dir.iterdir()) == []


@pytest.mark.contract("REC-1")
def test_it_appears_whole_behind_the_plain_file(life: Life) -> None:
    with Inotify(life.persist_dir) as persist:
        life.stub("exit 7").start().pid()
        life.exit_status()
        life.wait_gone()
        moved = [name for kind, name in persist.events() if kind == Inotify.MOVED_TO]
    assert moved == ["exit", "exit.json"]
    assert (life.persist_dir / "exit.json").stat().st_mode & 0o777 == 0o644


@pytest.mark.contract("REC-1")
def test_an_old_one_is_replaced(life: Life) -> None:
    (life.persist_dir / "exit.json").write_text("old" * 1000)
    life.stub("exit 7").start().pid()
    life.exit_status()
    assert exit_json(life)["status"] == 7


@pytest.mark.contract("REC-1")
@pytest.mark.parametrize("mends", [True, False])
def test_nobody_waits_for_it(life: Life, gate: Gate, *, mends: bool) -> None:
    """Acceptable: it appears when it can. Not acceptable: an exit command that waits for it."""
    path = life.persist_dir / "exit.json"
    path.mkdir()
    ran = life.directory / "ran"
    command = life.directory / "command"
    command.write_text(f"#!/bin/sh\n: >{ran}\nread x <{gate.path}\n")
    command.chmod(0o755)
    life.stub("exit 7").start("--exit-command", str(command)).pid()
    assert life.exit_status() == 7
    assert (life.persist_dir / "exit").read_bytes() == b"7"
    wait_until(ran.exists, "the exit command")
    assert path.is_dir()
    if mends:
        path.rmdir()
        wait_until(lambda: read_if_there(path), "exit.json")
    gate.open()
    life.wait_gone()
    assert path.is_dir() != mends
    assert sorted(os.listdir(life.persist_dir)) == ["exit", "exit.json"]


@pytest.mark.contract("REC-1")
def test_a_description_that_fails_costs_no_plain_file(tmp_path: Path) -> None:
    def describe() -> dict:
        raise ZeroDivisionError

    loop = Loop()
    options = Options()
    options.persist_dir = os.fsencode(tmp_path)
    record = ExitRecord(loop, Diagnostics(), options, describe)
    with pytest.raises(ZeroDivisionError):
        record.write(7, int)
    loop.close()
    assert (tmp_path / "exit").read_bytes() == b"7"
    assert record.paths == []


@pytest.mark.contract("REC-1")
def test_it_is_tried_again_for_a_while_and_then_left(
    tmp_path: Path, inject: Callable[..., faults.Fault], monkeypatch: pytest.MonkeyPatch
) -> None:
    from lowconmon.rooms import exit_record

    monkeypatch.setattr(exit_record, "_RETRY_MS", 1)
    loop, diagnostics = Loop(), Diagnostics()
    diagnostics.on_stderr = False
    options = Options()
    options.persist_dir = os.fsencode(tmp_path)
    fault = inject("rename", errno=errno.EIO, nth=2, times=None)
    called: list[str] = []
    record = ExitRecord(loop, diagnostics, options, lambda: {"status": 3})
    record.write(3, lambda: called.append("then"))
    assert called == ["then"]
    loop.call_later(300, loop.stop)
    loop.run()
    loop.close()
    assert fault.fired == 50
    assert os.listdir(tmp_path) == ["exit"]
