"""What a running monitor has given up, and what others cannot reach (docs/security.md)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lowconmon import syscalls
from tests.support import ROOT, status_of
from tests.support.life import Gate, Life, wait_until

KEPT = sum(
    1 << number
    for number in (
        *(syscalls.CAP_DAC_OVERRIDE, syscalls.CAP_DAC_READ_SEARCH, syscalls.CAP_FOWNER),
        *(syscalls.CAP_KILL, syscalls.CAP_SYS_RESOURCE),
    )
)
NO_ROOT = ["--securebits=+noroot", "--inh-caps=+chown,+kill", "--ambient-caps=+chown,+kill"]
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
# What another user tries: each way to a file or socket, answered with an errno's name or `yes`.
TRY = """
import errno, os, socket, sys
kind, path = sys.argv[1:]
try:
    if kind == "connect":
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).connect(path)
    else:
        os.open(path, {"read": os.O_RDONLY, "write": os.O_WRONLY}[kind] | os.O_NONBLOCK)
    print("yes")
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def capabilities(pid: int) -> dict[str, int]:
    """Return a process's capability sets."""
    status = status_of(pid)
    return {name: int(status[name], 16) for name in SETS}


def settled(pid: int) -> dict[str, int]:
    """Return the sets of a monitor that has reported its container."""
    wait_until(lambda: capabilities(pid)["CapEff"] & ~KEPT == 0, "the capabilities to go")
    return capabilities(pid)


def attempt(kind: str, path: Path) -> str:
    """Return what another user gets who tries to read, write or connect."""
    done = subprocess.run(
        [sys.executable, "-ISc", TRY, kind, str(path)],
        user=65534,
        group=65534,
        extra_groups=[],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


def with_exit_command(life: Life) -> tuple[Path, list[str]]:
    """Return where the exit command leaves its status, and the options for it."""
    seen = life.directory / "seen"
    arguments = ["-c", f"cp /proc/self/status {seen}.new; mv {seen}.new {seen}"]
    options = [f"--exit-command-arg={argument}" for argument in arguments]
    return seen, ["--exit-command", "/bin/sh", *options]


def sets_in(text: str) -> dict[str, int]:
    """Return the capability sets of a status file."""
    found = re.findall(r"(Cap\w+):\s*(\w+)", text)
    return {name: int(value, 16) for name, value in found}


@pytest.mark.contract("CONF-1", "CONF-2")
def test_a_monitor_has_five_capabilities_in_effect_and_the_exit_command_all(
    life: Life, gate: Gate
) -> None:
    seen, options = with_exit_command(life)
    life.stub(f"read x <{gate.path}; exit 4").start(*options)
    life.pid()
    before, now = capabilities(os.getpid()), settled(life.monitor_pid())
    assert now == {**before, "CapEff": before["CapEff"] & KEPT}
    gate.open()
    assert life.exit_status() == 4
    wait_until(seen.exists, "the exit command")
    assert sets_in(seen.read_text()) == before


@pytest.mark.contract("CONF-1", "END-3")
def test_a_container_of_another_user_can_still_be_killed(life: Life) -> None:
    life.stub(f"exec {sys.executable} -c 'import os, time; os.setuid(65534); time.sleep(60)'")
    life.start("--timeout", "1")
    pid = life.pid()
    wait_until(lambda: status_of(pid)["Uid"].split()[1] == "65534", "another user")
    settled(life.monitor_pid())
    assert life.exit_status() == -1


@pytest.mark.contract("CONF-2", "CONF-3")
@pytest.mark.parametrize("how", [["--no-new-privs"], NO_ROOT], ids=["no_new_privs", "noroot"])
def test_the_exit_command_has_what_an_exec_gives_it(life: Life, gate: Gate, how: list[str]) -> None:
    seen, options = with_exit_command(life)
    given = subprocess.run(
        ["setpriv", *how, "cat", "/proc/self/status"], stdout=subprocess.PIPE, check=True
    )
    life.command = ["setpriv", *how, *life.command]
    life.stub(f"read x <{gate.path}").start(*options)
    life.pid()
    settled(life.monitor_pid())
    gate.open()
    assert life.exit_status() == 0
    wait_until(seen.exists, "the exit command")
    assert sets_in(seen.read_text()) == sets_in(given.stdout.decode())


@pytest.mark.contract("CONF-2")
def test_the_exit_command_is_dumpable(life: Life, gate: Gate) -> None:
    seen = life.directory / "seen"
    code = f"import ctypes; open('{seen}', 'w').write(str(ctypes.CDLL(None).prctl(3)))"
    options = ["--exit-command", sys.executable, "--exit-command-arg=-c"]
    life.stub(f"read x <{gate.path}").start(*options, f"--exit-command-arg={code}")
    life.pid()
    settled(life.monitor_pid())
    gate.open()
    assert wait_until(lambda: seen.exists() and seen.read_text(), "the exit command") == "1"


@pytest.mark.contract("CONF-1")
def test_a_monitor_of_another_user_has_nothing_to_give_up(life: Life, gate: Gate) -> None:
    life.directory.chmod(0o755)
    for path in (life.bundle, life.exit_dir, life.persist_dir, life.directory):
        os.chown(path, 65534, 65534)
    life.stub(f"read x <{gate.path}; exit 3")
    life.start(user=65534, group=65534, extra_groups=[])
    life.pid()
    assert capabilities(life.monitor_pid())["CapEff"] == 0
    gate.open()
    assert life.exit_status() == 3


@pytest.mark.contract("CONF-4", "CONF-5")
def test_another_user_reaches_nothing_but_what_all_may_read(life: Life, gate: Gate) -> None:
    """Acceptable: statuses and pids can be read; not acceptable: any other way in."""
    life.directory.chmod(0o755)
    life.bundle.chmod(0o777)  # the modes of the files alone decide
    life.stub(f"echo started; read x <{gate.path}").start(umask=0)
    life.pid()
    wait_until(lambda: life.log.read_bytes(), "the log")
    bundle = life.bundle
    tried = [
        ("connect", bundle / "attach"),
        *(("read", bundle / name) for name in ("ctl", "winsz")),
    ]
    tried += [("write", bundle / "ctl"), ("write", bundle / "winsz")]
    tried += [("read", life.log), ("write", life.log), ("write", life.conmon_pid_file)]
    assert {attempt(kind, path) for kind, path in tried} == {"EACCES"}
    assert attempt("read", life.conmon_pid_file) == "yes"
    gate.open()
    assert life.exit_status() == 0
    for path in (life.exit_dir / life.cid, life.persist_dir / "exit"):
        assert (attempt("read", path), attempt("write", path)) == ("yes", "EACCES")


@pytest.mark.contract("CONF-6")
def test_a_monitors_namespaces_can_be_joined_by_its_user(life: Life, gate: Gate) -> None:
    life.directory.chmod(0o755)
    for path in (life.bundle, life.exit_dir, life.persist_dir, life.directory):
        os.chown(path, 65534, 65534)
    life.stub(f"read x <{gate.path}").start(user=65534, group=65534, extra_groups=[])
    life.pid()
    assert attempt("read", Path(f"/proc/{life.monitor_pid()}/ns/user")) == "yes"
    gate.open()
    assert life.exit_status() == 0


def test_the_page_names_what_the_code_keeps() -> None:
    text = (ROOT / "docs/security.md").read_text()
    source = (ROOT / "lowconmon/rooms/process.py").read_text()
    assert set(re.findall(r"CAP_\w+", source)) | {"CAP_SYS_ADMIN"} == set(
        re.findall(r"CAP_\w+", text)
    )
    assert shutil.which("setpriv")  # the tests above want it
