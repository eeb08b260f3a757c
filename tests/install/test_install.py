"""What ci/install puts where, and that ci/uninstall takes exactly that away."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import ROOT, SLOWNESS, wait_for

from .conftest import install, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.life import Life

PROGRAMS = ("bin/lowconmon", "libexec/podman/conmon")


@pytest.fixture
def directory() -> Iterator[Path]:
    """Be an empty directory."""
    path = Path(tempfile.mkdtemp(prefix="lc-install-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def tree(top: Path) -> set[str]:
    """Return everything below a directory, by relative path."""
    return {str(path.relative_to(top)) for path in top.rglob("*")}


def answer(command: list[str | Path], **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run an installed program and return what it said."""
    return subprocess.run(  # type: ignore[call-overload, no-any-return]
        command, capture_output=True, timeout=20 * SLOWNESS, check=False, **options
    )


@pytest.mark.contract("CLI-22")
@pytest.mark.parametrize("name", PROGRAMS)
def test_version_is_two_lines_and_nothing_else(prefix: Path, name: str) -> None:
    said = answer([prefix / name, "--version"])
    assert said.returncode == 0
    first, second, rest = said.stdout.split(b"\n")
    assert (first, rest, said.stderr) == (b"conmon version 2.2.1", b"", b"")
    assert second.startswith(b"commit: lowconmon-")


@pytest.mark.parametrize("name", [*PROGRAMS, "libexec/lowconmon/hostrun"])
def test_a_program_is_an_executable_or_starts_with_the_systems_python_alone(
    prefix: Path, name: str
) -> None:
    begins = b"\x7fELF" if name.endswith("/conmon") else b"#!/usr/bin/python3 -ISB\n"
    assert (prefix / name).read_bytes().startswith(begins)
    assert stat.S_IMODE((prefix / name).stat().st_mode) == 0o755


def test_every_module_is_compiled_and_its_source_not_looked_at(prefix: Path) -> None:
    home = prefix / "lib/lowconmon"
    modules = list(home.rglob("*.py"))
    assert home / "lowconmon/monitor.py" in modules
    for module in modules:
        (compiled,) = (module.parent / "__pycache__").glob(f"{module.stem}.cpython-*.pyc")
        flags = int.from_bytes(compiled.read_bytes()[4:8], "little")
        assert flags == 1, "unchecked hash"
        assert str(module).encode() in compiled.read_bytes(), "a traceback names the installed file"


def test_the_backend_it_was_built_with_is_its_own(prefix: Path) -> None:
    home = prefix / "lib/lowconmon"
    code = f"""import sys; sys.path.insert(0, {str(home)!r})
import lowconmon._syscalls, _cffi_backend; print(_cffi_backend.__file__)"""
    said = answer(["/usr/bin/python3", "-ISB", "-c", code])
    assert Path(said.stdout.decode().strip()).parent == home, said.stderr


def test_neither_environment_nor_directory_changes_what_is_loaded(
    prefix: Path, directory: Path
) -> None:
    for name in ("os.py", "errno.py", "lowconmon.py", "sitecustomize.py", "_cffi_backend.py"):
        (directory / name).write_text("raise SystemExit(99)\n")
    environment = {"PYTHONPATH": str(directory), "PYTHONHOME": "/nowhere", "LC_ALL": "no_SUCH"}
    for program in PROGRAMS:
        said = answer([prefix / program, "--help"], cwd=directory, env=environment)
        assert said.returncode == 0
        assert said.stderr == b""


SHARED = (
    "share/man/man8/lowconmon.8",
    "share/bash-completion/completions/lowconmon",
    "share/zsh/vendor-completions/_lowconmon",
)


def test_the_page_and_the_completions_are_those_of_the_tree(prefix: Path) -> None:
    texts = [(ROOT / "docs/lowconmon.8").read_text()]
    for shell in ("bash", "zsh"):
        texts.append(run("completions.py", shell).stdout)
    assert [(prefix / name).read_text() for name in SHARED] == texts
    assert {stat.S_IMODE((prefix / name).stat().st_mode) for name in SHARED} == {0o644}
    assert os.readlink(prefix / "share/man/man8/conmon.8") == "lowconmon.8"


@pytest.mark.parametrize("name", ["conmon.8", "conmon.8.gz"])
def test_conmons_own_page_stays(directory: Path, name: str) -> None:
    theirs = directory / "share/man/man8" / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs\n")
    before = tree(directory)
    for _ in range(2):
        install(directory)
        assert theirs.read_text() == "theirs\n"
        assert sorted(os.listdir(theirs.parent)) == sorted([name, "lowconmon.8"])
    assert run("uninstall", directory).returncode == 0
    assert tree(directory) == before


@pytest.mark.parametrize("name", SHARED)
def test_a_shared_file_of_somebody_else_is_not_replaced(directory: Path, name: str) -> None:
    theirs = directory / name
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs\n")
    done = run("install", directory)
    assert done.returncode == 1
    assert "not of lowconmon" in done.stderr
    assert [path for path in directory.rglob("*") if path.is_file()] == [theirs]


def test_installing_twice_and_uninstalling_leaves_what_was_there(directory: Path) -> None:
    prefix = directory / "usr"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin/other").write_text("not ours\n")
    before = tree(directory)
    install(prefix)
    first = tree(directory)
    install(prefix)
    assert tree(directory) == first
    done = run("uninstall", prefix)
    assert done.returncode == 0, done.stderr
    assert tree(directory) == before


def test_a_prefix_that_was_made_goes_again(directory: Path) -> None:
    install(directory / "new")
    assert run("uninstall", directory / "new").returncode == 0
    assert tree(directory) == set()


def test_destdir_is_written_to_and_not_spoken_of(directory: Path) -> None:
    done = run("install", "/opt/a place", DESTDIR=str(directory))
    assert done.returncode == 0, done.stderr
    program = directory / "opt/a place/bin/lowconmon"
    assert '"/opt/a place/lib/lowconmon"' in program.read_text()
    assert str(directory) not in program.read_text()
    assert str(directory) not in done.stdout
    assert run("uninstall", "/opt/a place", DESTDIR=str(directory)).returncode == 0
    assert tree(directory) == {"opt"}


def test_a_prefix_with_blanks_works(directory: Path) -> None:
    prefix = install(directory / "a b")
    assert answer([prefix / "bin/lowconmon", "--version"]).returncode == 0


@pytest.mark.parametrize(
    "prefix", ["", "/", "--help", '/tmp/a"b', "/tmp/a\\b", "/tmp/a\nb", "/tmp/ä"]
)
def test_a_prefix_that_would_break_the_programs_is_refused(prefix: str) -> None:
    done = run("install", prefix)
    assert done.returncode == 1
    assert done.stderr.startswith("ci/install: ")
    assert not prefix.startswith("/tmp") or not Path(prefix).exists()


def test_a_program_of_somebody_else_is_not_replaced(directory: Path) -> None:
    theirs = directory / "libexec/podman/conmon"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("#!/bin/sh\n")
    done = run("install", directory)
    assert done.returncode == 1
    assert "not of lowconmon" in done.stderr
    assert theirs.read_text() == "#!/bin/sh\n"
    assert [path for path in directory.rglob("*") if path.is_file()] == [theirs]


def test_files_of_somebody_else_are_left_and_told(own_prefix: Path) -> None:
    note = own_prefix / "lib/lowconmon/note"
    note.write_text("not ours\n")
    done = run("uninstall", own_prefix)
    assert done.returncode == 0
    assert "not of lowconmon" in done.stderr
    assert [path for path in own_prefix.rglob("*") if path.is_file()] == [note]


def test_what_is_not_installed_is_not_uninstalled(directory: Path) -> None:
    (directory / "bin").mkdir()
    assert run("uninstall", directory).returncode == 1
    assert tree(directory) == {"bin"}


def test_the_checkout_is_left_as_it_was(directory: Path) -> None:
    def seen() -> dict[str, int]:
        paths = [*ROOT.iterdir(), *ROOT.glob("lowconmon*/*")]
        # Tests on other cores keep their things there, and bytecode below the packages.
        others = "lowconmon lowconmon_tools __pycache__ .work .hypothesis .git".split()
        return {
            str(path): path.stat().st_mtime_ns
            for path in paths
            if path.name not in others and not path.name.startswith(".coverage")
        }

    before = seen()
    install(directory / "usr")
    assert seen() == before


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_process_is_named_conmon_whoever_started_it(
    prefix: Path, new_life: Callable[..., Life], name: str
) -> None:
    life = new_life(prefix, name).stub("read line").start("-i")
    life.pid()
    assert Path(f"/proc/{life.monitor_pid()}/comm").read_text() == "conmon\n"
    client = life.attach()
    client.send(b"\n")
    client.close()
    wait_for(life.exit_dir / life.cid)
    life.wait_gone()


def test_a_half_written_file_is_never_in_a_place_of_ours(own_prefix: Path) -> None:
    """Not acceptable: a program or module rewritten in place, under those who run it."""
    before = {
        path: (path.stat().st_ino, path.open("rb"))
        for path in own_prefix.rglob("*")
        if path.is_file()
    }
    contents = {path: file.read() for path, (_, file) in before.items()}
    install(own_prefix)
    for path, (inode, file) in before.items():
        assert path.stat().st_ino != inode, path
        file.seek(0)
        assert file.read() == contents[path], path
        file.close()
    assert os.listdir(own_prefix / "lib") == ["lowconmon"]
