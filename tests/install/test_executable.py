"""The executable conmon: the same program as the script, with its modules frozen into it."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import build_executable
from tests.support import ROOT

from .conftest import run_program

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.life import Life

BUILD = ["/usr/bin/python3", "-X", "no_debug_ranges", str(ROOT / "build_executable.py")]


run = functools.partial(run_program, seconds=60)


def test_the_monitors_process_has_a_name_of_its_own(
    prefix: Path, new_life: Callable[..., Life]
) -> None:
    life = new_life(prefix)
    life.stub("read line; exit 3").start("-i")
    pid = life.pid()
    exe = Path(f"/proc/{life.monitor_pid()}/exe").readlink()
    assert exe == prefix / "libexec/podman/conmon"
    os.kill(pid, 9)
    assert life.exit_status() == 137
    life.wait_gone()


def test_it_says_what_the_script_says(prefix: Path, tmp_path: Path) -> None:
    link = tmp_path / "conmon"  # the script goes by its name
    link.symlink_to(prefix / "bin/lowconmon")
    for arguments in (["--version"], ["--help"], ["--no-such"], ["-c", "x", "--version"], ["-c"]):
        ours, theirs = run(prefix / "libexec/podman/conmon", *arguments), run(link, *arguments)
        assert (ours.returncode, ours.stdout, ours.stderr) == (
            theirs.returncode,
            theirs.stdout,
            theirs.stderr,
        )


def test_a_version_that_cannot_be_written_is_a_failure(prefix: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([prefix / "libexec/podman/conmon", "--version"], stdout=full)
    assert done.returncode == 1


def test_each_module_is_frozen_once_and_runs_behind_what_it_imports() -> None:
    paths = (ROOT / "lowconmon").rglob("*.py")
    modules = {it.name: it for it in map(build_executable.Module, paths)}
    order = build_executable.ordered(modules, *modules)
    assert len(order) == len(set(order))
    for index, name in enumerate(order):
        ours = modules.keys() & {*modules[name].imports(), name.rpartition(".")[0]} - {name}
        assert ours <= set(order[:index]), name
    assert set(order) == modules.keys()
    header = build_executable.header("/home", "/backend.so")
    late = set(re.findall(r'\.name = "(lowconmon[.\w]+)"', header))
    assert late == {
        *("lowconmon.pure.journal", "lowconmon.pure.json_records"),
        *("lowconmon.rooms.compression", "lowconmon.rooms.journal"),
        *("lowconmon.rooms.exit_record", "lowconmon.rooms.oom", "lowconmon.rooms.status"),
    }


def test_without_the_backend_it_says_so(tmp_path: Path) -> None:
    program = tmp_path / "conmon"
    assert run(*BUILD, program, tmp_path, tmp_path / "gone.so").returncode == 0
    done = run(program, "--help")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"conmon: {tmp_path}/gone.so: cannot open")


def test_without_a_libpython_to_link_nothing_is_made(tmp_path: Path) -> None:
    program, elsewhere = tmp_path / "conmon", "-nodefaultlibs -Wl,-static"
    done = run(*BUILD, program, tmp_path, "/backend.so", LDFLAGS=elsewhere)
    assert (done.returncode, program.exists()) == (build_executable.NO_LIBRARY, False)
    done = run(*BUILD, program, tmp_path, "/backend.so", CFLAGS="-Dmain=")
    assert (done.returncode, program.exists()) == (1, False)


def test_a_script_can_be_had_in_its_place(tmp_path: Path) -> None:
    for script, begins in ("1", b"#!/usr/bin/python3 -ISB"), ("", b"\x7fELF"):
        done = run(ROOT / "ci/install", tmp_path / "usr", LOWCONMON_SCRIPT=script)
        assert done.returncode == 0, done.stderr
        program = tmp_path / "usr/libexec/podman/conmon"
        assert program.read_bytes().startswith(begins)
        assert run(program, "--version").stdout.startswith("conmon version ")
