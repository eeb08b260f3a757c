"""Processes whose pid the test chooses (as root), and a program that halts before one of its calls.

`python tests/support/pids.py spawn PID` makes a child with that pid, which sleeps, says so, and keeps
it until its input ends. `... halt NAME NTH AT GATE -- ARGS` runs the program, which at the Nth call
of lowconmon._syscalls.NAME makes the file AT and waits until somebody opens the FIFO GATE and closes
it again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

# clone3 is 435 on Debian's architectures but MIPS, which counts each ABI's calls from a base.
_BASES = {"mipsel-linux-gnu": 4000, "mips64el-linux-gnuabi64": 5000}
CLONE3 = 435 + _BASES.get(sysconfig.get_config_var("MULTIARCH"), 0)


def free_pid() -> int:
    """Return a pid that was in use a moment ago, and will not be again soon."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


class Reincarnation:
    """A process with the pid that another one had."""

    def __init__(self, pid: int) -> None:
        self._keeper = subprocess.Popen(
            [sys.executable, "-IS", __file__, "spawn", str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # not the tests' own: it may be killed
        )
        assert self._keeper.stdout is not None
        said = self._keeper.stdout.readline()
        assert said == b"%d\n" % pid, said

    def lives(self) -> bool:
        """Tell whether nobody has killed it."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        return self._keeper.wait(20) == 0

    def close(self) -> None:
        """End it."""
        for stream in (self._keeper.stdin, self._keeper.stdout):
            assert stream is not None
            stream.close()
        self._keeper.wait(20)


def spawn(pid: int) -> int:
    """Be the keeper: return 0 if the child was alive when the input ended."""
    wanted = ctypes.c_int(pid)
    # struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
    # set_tid, set_tid_size
    fields = [0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1]
    arguments = ctypes.create_string_buffer(struct.pack("10Q", *fields))
    libc = ctypes.CDLL(None, use_errno=True)
    child = libc.syscall(CLONE3, arguments, len(arguments.raw) - 1)
    if child == 0:
        os.execv("/bin/sleep", ["sleep", "60"])  # noqa: S606
    if child < 0:
        print(os.strerror(ctypes.get_errno()), flush=True)
        return 1
    print(child, flush=True)
    sys.stdin.read()
    ended, _ = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return 1 if ended else 0


def halting(name: str, nth: int, at: Path, gate: Path) -> list[str]:
    """Return the command of the program that halts before the Nth call of *name*."""
    return [sys.executable, "-I", __file__, "halt", name, str(nth), str(at), str(gate), "--"]


def halt(name: str, nth: int, at: str, gate: str) -> None:
    """Have the call wait in the program that this process is about to be."""
    import lowconmon._syscalls as calls

    original, count = getattr(calls, name), 0

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        if count == nth:
            os.close(os.open(at, os.O_CREAT | os.O_WRONLY))
            with open(gate, "rb") as waiting:
                waiting.read()
        return original(*arguments, **named)

    setattr(calls, name, call)


if __name__ == "__main__":
    if sys.argv[1] == "spawn":
        sys.exit(spawn(int(sys.argv[2])))
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    halt(sys.argv[2], int(sys.argv[3]), sys.argv[4], sys.argv[5])
    sys.argv = ["conmon", *sys.argv[7:]]
    from lowconmon.__main__ import main

    main()
