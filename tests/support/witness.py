"""Let a runtime or an exit command write down what it was given, and start the monitor oddly.

`shell` makes the lines of a shell program that write everything down; `Witness` reads it. `odd` makes
a command prefix that prepares what subprocess cannot: a raw environment block, signals, limits.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import select
import signal
import struct
import sys
from pathlib import Path
from typing import Any, Self

from tests.support import faults, signals_in
from tests.support.life import Life, read_if_there, wait_until

# In subshells where it counts: dash moves its own descriptors while it redirects a command.
SHELL = """
mkdir -p {d}
cat /proc/$$/cmdline > {d}/cmdline
cat /proc/$$/environ > {d}/environ
cat /proc/$$/status > {d}/status
cat /proc/$$/oom_score_adj > {d}/oom_score_adj
readlink /proc/$$/cwd > {d}/cwd
(exec ls -l /proc/$$/fd > {d}/fds)
(exec stat -L -c '%F %a %d:%i' /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 > {d}/stdio)
mv {d}/stdio {d}/done
"""

# A shell unblocks all signals and catches some. Python says what it was given, but that it ignores
# SIGPIPE and SIGXFSZ itself: those two the shell behind it tells.
BEFORE_SHELL = """#!{python} -IS
import os, sys
with open("/proc/self/status", "rb") as file:
    text = file.read()
with open("{d}.signals", "wb") as file:
    file.write(text)
os.execv("{shell}", ["{shell}", *sys.argv[1:]])
"""

# Prepares and becomes the program; prints nothing, and leaves no trace but what it was asked for.
ODD = """
import base64, ctypes, json, os, resource, signal, sys
how = json.loads(sys.argv[1])
block = [base64.b64decode(entry) for entry in how["block"]]
if how["inherit"]:
    block += [os.fsencode(k) + b"=" + os.fsencode(v) for k, v in os.environ.items()]
else:
    pipes = ("_OCI_SYNCPIPE", "_OCI_STARTPIPE", "_OCI_ATTACHPIPE")
    block += [os.fsencode(k + "=" + os.environ[k]) for k in pipes if k in os.environ]
block = [entry.replace(b"@PID@", b"%d" % os.getpid()) for entry in block]
if how["new_session"]:
    os.setsid()
if how["oom_score_adj"] is not None:
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write(how["oom_score_adj"])
if how["remove_cwd"]:
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir("../gone")
for number in (signal.SIGPIPE, signal.SIGXFSZ):
    signal.signal(number, signal.SIG_DFL)
for number in how["ignored"]:
    signal.signal(number, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_SETMASK, how["blocked"])
arguments = [os.fsencode(a) for a in sys.argv[2:]]
argv = (ctypes.c_char_p * (len(arguments) + 1))(*arguments)
envp = (ctypes.c_char_p * (len(block) + 1))(*block)
libc = ctypes.CDLL(None, use_errno=True)
if how["files"]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (how["files"], how["files"]))
for fd in how["closed"]:
    os.close(fd)
libc.execve(arguments[0], argv, envp)
os._exit(126)
"""


def isolated(python: str = sys.executable) -> list[str]:
    """Return a command for the program that depends on no cwd and on no environment."""
    path = os.environ.get("LOWCONMON_PROGRAM")
    return [path] if path else faults.command("", python=(python, "-I"))


def odd(
    *,
    block: list[bytes] | None = None,
    blocked: tuple[int, ...] = (),
    ignored: tuple[int, ...] = (),
    closed: tuple[int, ...] = (),
    files: int = 0,
    oom_score_adj: str | None = None,
    remove_cwd: bool = False,
    new_session: bool = False,
    command: list[str] | None = None,
) -> list[str]:
    """Return the command of the monitor in odd surroundings.

    *block*: the whole environment but for the pipes, entry by entry; @PID@ in it becomes the pid of
    the launched process. *blocked*, *ignored*: signals. *closed*: descriptors. *files*: RLIMIT_NOFILE.
    """
    how = {
        "block": [base64.b64encode(entry).decode() for entry in block or []],
        "inherit": block is None,
        "blocked": [int(number) for number in blocked],
        "ignored": [int(number) for number in ignored],
        "closed": list(closed),
        "files": files,
        "oom_score_adj": oom_score_adj,
        "remove_cwd": remove_cwd,
        "new_session": new_session,
    }
    return [sys.executable, "-I", "-c", ODD, json.dumps(how), *(command or isolated())]


class Witness:
    """What a program wrote down in a directory of the life."""

    def __init__(self, life: Life, name: str = "runtime") -> None:
        self.directory = life.directory / f"seen-{name}"

    def shell(self) -> str:
        """Return the lines for a shell program, to stand before it does anything else."""
        return SHELL.format(d=self.directory)

    def program(self, path: Path, end: str = "") -> Path:
        """Make *path* a program that writes everything down and then does *end*."""
        path.write_text("#!/bin/sh\n" + self.shell() + end + "\n")
        path.chmod(0o755)
        return path

    def signals_first(self, path: Path) -> None:
        """Put a program in the place of the one at *path* that notes the signals and becomes it."""
        shell = path.rename(path.with_name(path.name + ".sh"))
        path.write_text(BEFORE_SHELL.format(python=sys.executable, d=self.directory, shell=shell))
        path.chmod(0o755)

    def wait(self) -> Witness:
        """Wait until everything is written down."""
        wait_until((self.directory / "done").exists, f"{self.directory.name}")
        return self

    def been(self) -> bool:
        """Tell whether the program was started at all."""
        return self.directory.exists()

    def arguments(self) -> list[bytes]:
        """Return the command line from the program's own path on (a script's: without its shell)."""
        words = (self.directory / "cmdline").read_bytes().split(b"\0")[:-1]
        return words[1:]

    def environment(self) -> list[bytes]:
        """Return the environment block's entries."""
        return (self.directory / "environ").read_bytes().split(b"\0")[:-1]

    def status(self) -> dict[str, str]:
        """Return the fields of /proc/PID/status."""
        lines = (self.directory / "status").read_text(errors="replace").splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}

    def signals(self, field: str) -> set[int]:
        """Return the signals of a mask such as SigBlk, as `signals_first` found it."""
        text = Path(f"{self.directory}.signals").read_text(errors="replace")
        return signals_in(text.partition(f"\n{field}:")[2].split()[0])

    def line(self, name: str) -> str:
        """Return what is in a file of one line: cwd, oom_score_adj."""
        return os.fsdecode((self.directory / name).read_bytes()).removesuffix("\n")

    def stdio(self) -> list[str]:
        """Return type, mode and device:inode of descriptors 0 to 2."""
        return (self.directory / "done").read_text().splitlines()

    def fds(self) -> dict[int, str]:
        """Return the descriptors, each with what it refers to, without the shell's own script."""
        found = {}
        for line in (self.directory / "fds").read_text(errors="replace").splitlines():
            name, arrow, target = line.partition(" -> ")
            if arrow:
                found[int(name.rsplit(" ", 1)[1])] = target
        cmdline = self.arguments()[0]
        return {
            fd: target
            for fd, target in found.items()
            if not (fd >= 3 and target == os.fsdecode(cmdline))
        }


class Inotify:
    """Watch one directory; `names` tells what happened to which name."""

    CREATE, MOVED_FROM, MOVED_TO, CLOSE_WRITE, DELETE = 0x100, 0x40, 0x80, 0x8, 0x200

    def __init__(self, directory: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        mask = self.CREATE | self.MOVED_FROM | self.MOVED_TO | self.CLOSE_WRITE | self.DELETE
        if libc.inotify_add_watch(self.fd, os.fsencode(directory), mask) < 0:
            raise OSError(ctypes.get_errno(), "inotify_add_watch")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def events(self) -> list[tuple[int, str]]:
        """Return (kind, name) of all that happened since the last call."""
        found = []
        while select.select([self.fd], [], [], 0)[0]:
            data = os.read(self.fd, 65536)
            while data:
                _, mask, _, size = struct.unpack_from("iIII", data)
                found.append((mask & 0xFFF, os.fsdecode(data[16 : 16 + size].rstrip(b"\0"))))
                data = data[16 + size :]
        return found


def gone(pid: int) -> bool:
    """Tell whether a process has ended (its zombie may be left)."""
    status = read_if_there(Path(f"/proc/{pid}/status"))
    return status is None or b"\nState:\tZ" in status


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Signal a process that may have gone."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def parent(pid: int) -> int:
    """Return the parent's pid, 0 when there is no such process."""
    status = read_if_there(Path(f"/proc/{pid}/status")) or b"PPid:\t0"
    return int(status.partition(b"PPid:")[2].split()[0])


def number_in(path: Path) -> int:
    """Wait for a file that says a number, and return it."""
    return int(wait_until(lambda: (read_if_there(path) or b"").strip(), str(path)))


def messages(life: Life) -> list[dict[str, Any]]:
    """Return all messages of the sync pipe, of any kind, up to its end."""
    assert life.sync is not None
    life.sync.settimeout(20)
    data = b""
    while True:
        try:
            piece = life.sync.recv(65536)
        except ConnectionResetError:
            break
        if not piece:
            break
        data += piece
    assert data == b"" or data.endswith(b"\n"), data
    return [json.loads(line) for line in data.splitlines()]
