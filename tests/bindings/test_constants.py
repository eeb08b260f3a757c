"""The kernel's numbers are those of this machine: Python has them too, and nobody has typed one."""

from __future__ import annotations

import ast
import errno
import fcntl
import os
import re
import select
import signal
import socket
import termios

import pytest

from lowconmon import _ffi, syscalls
from tests.support import ROOT

MODULES = (fcntl, os, select, signal, socket, termios)
# Which no module of Python has, or not that of 3.11
OURS_ALONE = re.compile(
    "CAP_|CLOSE_RANGE_|EPOLL_CTL_|F_(ADD|GET)_SEALS|F_SEAL|IN_|M_|SCM_MAX_FD|SUN_PATH_MAX"
)

# Of these arguments all numbers but 0 and -1 are the kernel's.
ARGUMENTS: dict[str, tuple[int, ...]] = {
    "OSError": (0,),
    "PermissionError": (0,),
    "ProcessLookupError": (0,),
    "accept4": (1,),
    "add_signals": (0,),
    "close_range": (2,),
    "epoll_ctl": (1, 3),
    "eventfd": (1,),
    "fcntl": (1,),
    "get_disposition": (0,),
    "inotify_add_watch": (2,),
    "keep_effective": (0,),
    "kill": (1,),
    "killpg": (1,),
    "mallopt": (0,),
    "memfd_create": (1,),
    "open": (1,),
    "pidfd_open": (1,),
    "pidfd_send_signal": (1,),
    "pipe2": (0,),
    "raise_signal": (0,),
    "recv_fds": (3,),
    "send": (2,),
    "send_fds": (3,),
    "send_lines": (3,),
    "send_pieces": (4,),
    "sendmmsg": (2,),
    "set_disposition": (0,),
    "set_oflag": (1,),
    "set_pdeathsig": (0,),
    "signal": (0,),
    "signalfd": (0,),
    "sigprocmask": (0, 1),
    "socket": (0, 1),
    "socketpair": (0, 1),
    "strerror": (0,),
    "waitid": (0, 2),
    "waitid_rusage": (0, 2),
}
KEYWORDS = {"blocked", "death_signal", "defaulted", "flags", "ignored"}
COMPARED = {"c_oflag", "errno", "si_code", "si_signo"}
NAMES = {name for it in (*MODULES, errno, _ffi.lib) for name in dir(it) if name.isupper()}


def test_what_python_knows_too_it_knows_by_the_same_number() -> None:
    for name in filter(str.isupper, dir(_ffi.lib)):
        known = [getattr(module, name) for module in MODULES if hasattr(module, name)]
        assert known or OURS_ALONE.match(name), name
        assert set(map(int, known)) <= {getattr(syscalls, name)}, name


def test_numbers_that_differ_between_machines_are_those_of_the_c_library() -> None:
    for name in ("SOCK_STREAM", "SOCK_DGRAM", "SIGUSR1", "SIGCHLD", "SIG_BLOCK", "ONLCR"):
        assert not OURS_ALONE.match(name)
    assert len({syscalls.SOCK_STREAM, syscalls.SOCK_DGRAM, syscalls.SOCK_SEQPACKET}) == 3
    assert len({syscalls.SIG_BLOCK, syscalls.SIG_UNBLOCK, syscalls.SIG_SETMASK}) == 3
    with socket.socket(fileno=syscalls.socket(syscalls.AF_UNIX, syscalls.SOCK_DGRAM)) as one:
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM


def numbers(node: ast.AST) -> set[int]:
    """Return what numbers an expression types, but for -1, and what it calls or picks by them."""
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return {node.value}
    if isinstance(node, (ast.Call, ast.Subscript)) or ast.unparse(node) == "-1":
        return set()
    return {number for child in ast.iter_child_nodes(node) for number in numbers(child)}


def typed(source: str) -> list[str]:
    """Return the expressions of a source where a number of the kernel is typed."""
    found = []
    for node in ast.walk(ast.parse(source)):
        suspects: list[ast.expr] = []
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            suspects = [node.args[at] for at in ARGUMENTS.get(name, ()) if at < len(node.args)]
            suspects += [keyword.value for keyword in node.keywords if keyword.arg in KEYWORDS]
        elif isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            parts = [part for side in sides for part in ast.walk(side)]
            if any(getattr(part, "attr", None) in COMPARED for part in parts):
                suspects = sides
        elif isinstance(node, ast.Assign):
            targets = [getattr(target, "id", "") for target in node.targets]
            if any(target.strip("_") in NAMES for target in targets):
                suspects = [node.value]
        if any(numbers(it) - {0} for it in suspects):
            found.append(ast.get_source_segment(source, node) or "")
    return found


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "lowconmon").rglob("*.py"), *(ROOT / "docs/examples").glob("*.py")]),
    ids=lambda path: str(path.relative_to(ROOT)).removeprefix("lowconmon/"),
)
def test_no_number_of_the_kernel_is_typed(path: os.PathLike[str]) -> None:
    with open(path, encoding="utf-8") as file:
        assert typed(file.read()) == []


@pytest.mark.parametrize(
    "source",
    [
        "_syscalls.open(path, 0o2000000)",
        "_syscalls.open(path, os.O_RDONLY | 0x800)",
        "_syscalls.socket(1, _syscalls.SOCK_STREAM)",
        "_syscalls.pidfd_send_signal(fd, 9)",
        "os.kill(pid, 15)",
        "process.signal(9)",
        "loop.add_signals([17, _syscalls.SIGTERM], handler)",
        "spawn(path, [], [], death_signal=9)",
        "spawn(path, [], [], ignored=[_syscalls.SIGINT, 13])",
        "_syscalls.sigprocmask(2, [])",
        "raise OSError(5, 'what')",
        "raise PermissionError(13, text)",
        "error.errno == 28",
        "error.errno in (errno.ENOSPC, 122)",
        "found[0].si_code == 1",
        "_SIGCHLD = 17",
        "O_CLOEXEC = 0o2000000",
        "ENOSPC = 28",
    ],
)
def test_a_number_that_is_typed_is_found(source: str) -> None:
    assert typed(source) == [source.removeprefix("raise ")]


@pytest.mark.parametrize(
    "source",
    [
        "_syscalls.open(path, _FLAGS, 0o644)",
        "_syscalls.close_range(3, 2**32 - 1, 0)",
        "_syscalls.fcntl(fd, _syscalls.F_SETPIPE_SZ, 65536)",
        "os.kill(pids[1], signals[2])",
        "process.signal(choose(9))",
        "OSError(number, os.strerror(number))",
        "error.errno != errno.ENOENT",
        "spawn(path, [], [], terminal=-1, death_signal=0)",
        "_MAX_HELD = 65536",
    ],
)
def test_other_numbers_are_not(source: str) -> None:
    assert typed(source) == []
