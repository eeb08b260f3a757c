#!/usr/bin/python3
"""Run a program as its init: forward signals, reap orphans, start it again or end as it ended.

Laws. The program leads a session of its own, and every signal goes to its whole process group. Its
status is ours: its exit code, 128 and the signal that killed it, 127 for not found, 126 for what
cannot be run; 125 is a failure of our own. A process is signalled only while its zombie or itself
holds the number. What has left the group (daemons) is reaped, and otherwise left alone.
"""

from __future__ import annotations

import argparse
import errno
import os
import shutil
import sys

from lowconmon import syscalls
from lowconmon.loop import Loop

ENDING = [syscalls.SIGHUP, syscalls.SIGINT, syscalls.SIGQUIT, syscalls.SIGTERM]
FORWARDED = [*ENDING, syscalls.SIGUSR1, syscalls.SIGUSR2]


def say(text: str) -> None:
    """Tell the user."""
    print(f"supervise.py: {text}", file=sys.stderr)


class Supervisor:
    """One program, from its first start to its last end; *restart_s* None: there is one start."""

    def __init__(self, path: str, command: list[str], restart_s: float | None) -> None:
        self.path, self.command, self.restart_s = path, command, restart_s
        self.loop = Loop()
        self.pid, self.error_fd, self.told, self.status = 0, -1, 0, 125

    def run(self) -> int:
        """Return the status to leave with."""
        # Who starts us may ignore it: the kernel would then reap our children, and tell nobody.
        syscalls.set_disposition(syscalls.SIGCHLD, "default")
        syscalls.set_child_subreaper(True)  # without it orphans go to init; as pid 1 they are ours
        self.loop.add_signals([syscalls.SIGCHLD, *FORWARDED], self.hear)  # before the first child
        self.start()
        self.loop.run()
        return self.status

    def start(self) -> None:
        """Start the program; whether exec worked is known once it has ended."""
        self.pid, self.error_fd = syscalls.spawn(
            os.fsencode(self.path),
            [os.fsencode(word) for word in self.command],
            [name + b"=" + value for name, value in os.environb.items()],
            new_session=True,
            death_signal=syscalls.SIGTERM,  # if we are killed, it is told
            defaulted=[syscalls.SIGPIPE, syscalls.SIGXFSZ],  # which Python ignores
        )

    def hear(self, number: int) -> None:
        """Take a signal."""
        if number == syscalls.SIGCHLD:
            self.reap()
            return
        self.told = number if number in ENDING else self.told
        if self.pid:
            self.tell(number)
        elif self.told:  # between two starts
            self.leave(128 + number)

    def tell(self, number: int) -> None:
        """Signal the program's process group."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # forked, and not yet in a session of its own
            os.kill(self.pid, number)
        except PermissionError as error:  # it has become another user
            say(f"signal {number}: {error.strerror}")

    def reap(self) -> None:
        """Reap whoever has ended: the kernel sends one SIGCHLD for many."""
        look = syscalls.WEXITED | syscalls.WNOHANG | syscalls.WNOWAIT
        while True:
            try:
                ended = syscalls.waitid(os.P_ALL, 0, look)
            except ChildProcessError:  # nobody is left
                return
            if ended is None:
                return
            if ended.si_pid == self.pid:
                self.tell(syscalls.SIGTERM)  # those it leaves; its zombie holds the number
            syscalls.waitid(os.P_PID, ended.si_pid, syscalls.WEXITED)
            if ended.si_pid == self.pid:
                killed = ended.si_code != os.CLD_EXITED
                self.ended(ended.si_status + 128 * killed)

    def ended(self, status: int) -> None:
        """Start the program again, or leave as it did."""
        failure = int.from_bytes(syscalls.read(self.error_fd, 4), sys.byteorder)
        self.error_fd = self.loop.discard(self.error_fd)
        self.pid = 0
        if failure:  # of exec
            say(f"{self.path}: {os.strerror(failure)}")
            self.leave(127 if failure == errno.ENOENT else 126)
        elif status and self.restart_s is not None and not self.told:
            say(f"{self.path}: status {status}, once more in {self.restart_s:g} s")
            self.loop.call_later(self.restart_s * 1000, self.start)
        else:
            self.leave(status)

    def leave(self, status: int) -> None:
        """End with *status*."""
        self.status = status
        self.loop.stop()


def seconds(text: str) -> float:
    """Parse a time of 0 to a million seconds."""
    value = float(text)
    if not 0 <= value <= 1_000_000:
        raise ValueError(text)
    return value


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="supervise.py",
        description="Run COMMAND as its init: forward signals to it, reap orphans, end as it ends.",
    )
    help_text = "start it again after this time, if it failed and nobody told it to end"
    parser.add_argument("--restart", type=seconds, metavar="SECONDS", help=help_text)
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND [ARGUMENT...]")
    options = parser.parse_args()
    command = options.command[options.command[:1] == ["--"] :]
    if not command:
        parser.error("a command is needed")
    path = command[0] if "/" in command[0] else shutil.which(command[0])
    if path is None:
        say(f"{command[0]}: not found")
        return 127
    try:
        return Supervisor(path, command, options.restart).run()
    except OSError as error:
        say(str(error))
        return 125


if __name__ == "__main__":
    sys.exit(main())
