"""Options as a manager writes them, and what each does to a life."""

from __future__ import annotations

import os
import re

import pytest

from tests.support.life import Life
from tests.support.witness import Witness

# A life whose options are written in one of three ways.
VALUES = {
    ("c", "cid"): "some-container",
    ("u", "cuuid"): "some-uuid",
    ("n", "name"): "--sync",  # a value, though it looks like a flag
    ("b", "bundle"): "{0.bundle}",
    ("p", "container-pidfile"): "{0.pid_file}",
    ("P", "conmon-pidfile"): "{0.conmon_pid_file}",
    ("0", "persist-dir"): "{0.persist_dir}",
    ("r", "runtime"): "{0.runtime}",
    ("l", "log-path"): "{0.log}",
    ("T", "timeout"): "60",
}
LONG_ALONE = {"exit-dir": "{0.exit_dir}", "runtime-arg": "--an-argument", "runtime-opt": "--opt"}


@pytest.mark.contract("CLI-5", "CLI-24", "CLI-25", "CLI-28", "CLI-29", "CLI-30", "CLI-31", "CLI-46")
@pytest.mark.parametrize(
    "way",
    [
        pytest.param("equals", marks=pytest.mark.contract("CLI-1")),
        pytest.param("next", marks=pytest.mark.contract("CLI-1")),
        pytest.param("letter", marks=pytest.mark.contract("CLI-2")),
    ],
)
def test_a_value_is_what_follows_an_option(life: Life, way: str) -> None:
    seen = Witness(life)
    life.stub("echo text; exit 7", before=seen.shell())
    life.cid = "some-container"
    options = [*VALUES.items(), *((("", long), value) for long, value in LONG_ALONE.items())]
    raw = ["--full-attach", "--api-version"]
    for (letter, long), template in options:
        value = template.format(life)
        if way == "equals":
            raw.append(f"--{long}={value}")
        else:
            raw += [f"-{letter}" if letter and way == "letter" else f"--{long}", value]
    life.start(raw=raw)
    pid = life.pid()
    assert life.exit_status() == 7
    assert life.monitor_pid() not in (0, pid)  # `--sync` was the container's name
    life.wait_gone()
    assert (life.persist_dir / "exit").read_text() == "7"
    assert life.pid_file.read_text() == str(pid)
    assert life.text() == b"text\n"
    words = ["--an-argument", "create", "--bundle", str(life.bundle), "--pid-file"]
    words += [str(life.pid_file), "--opt", "some-container"]
    assert seen.wait().arguments() == [os.fsencode(word) for word in (str(life.runtime), *words)]


@pytest.mark.contract("CLI-44", "END-13")
@pytest.mark.parametrize(
    ("more", "synced"), [([], True), (["--no-sync-log"], False), (["--no-sync-log=no"], False)]
)
def test_the_log_is_synced_unless_that_is_not_wanted(
    life: Life, more: list[str], synced: bool
) -> None:
    trace = life.directory / "trace"
    # With --sync the process that strace follows is the monitor itself.
    strace = ["strace", "-qq", "-y", "-e", "trace=fsync,fdatasync,sync_file_range,syncfs,sync"]
    life.command = [*strace, "-o", str(trace), *life.command]
    life.stub("echo text; exit 7").start("--sync", *more, wait=False)
    life.pid()
    assert life.exit_status() == 7
    life.wait_gone()
    assert life.launcher is not None
    assert life.launcher.wait(20) == 7
    calls = re.findall(r"^(\w+)\(\d+<([^>]*)>\)", trace.read_text(), re.MULTILINE)
    assert bool([call for call in calls if call[1] == str(life.log)]) is synced
    assert synced or not calls
    assert life.text() == b"text\n"


@pytest.mark.contract("LOG-3", "LOG-5", "CLI-37")
@pytest.mark.parametrize("spec", ["passthrough", "passthrough:", "passthrough:anything"])
def test_passthrough_lets_the_container_write_where_we_were_started(life: Life, spec: str) -> None:
    life.stub("echo text; echo error >&2; exit 7")
    raw = life.arguments()
    raw[raw.index("-l") + 1] = spec
    life.start(raw=raw, wait=False)
    life.pid()
    assert life.launcher is not None
    assert life.launcher.communicate(timeout=20) == (b"text\n", b"error\n")
    assert life.exit_status() == 7
    assert not life.log.exists()
    assert not (life.bundle / "attach").exists()
