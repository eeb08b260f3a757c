#!/usr/bin/python3
"""Wait until a process that is not our child has ended, and print how, where that is known.

Laws. A pidfd is taken first and everything is asked of it, or checked against it: a number that was
given to another process in between is never waited for. Status: 0, it has ended; 1, there is no such
process (any more); 124, the time is up; 2, a wrong command line.
"""

from __future__ import annotations

import argparse
import os
import sys

from lowconmon import syscalls
from lowconmon.loop import Loop

REAPED_MS = 1000  # how long a zombie may stay before we leave without its status


def start_of(pid: int) -> int:
    """Return when a process began, in clock ticks since the boot: field 22 of proc_pid_stat(5)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The name may have spaces and parentheses: what follows its last one is field 3.
        return int(file.read().rpartition(b")")[2].split()[22 - 3])


def open_process(pid: int, began: int | None) -> tuple[int, int]:
    """Return a pidfd and the start of the process. Raises ProcessLookupError when it is another."""
    pidfd = syscalls.pidfd_open(pid)
    try:
        started = start_of(pid)
        try:
            syscalls.pidfd_send_signal(pidfd, 0)  # gone: the start may be that of the next one
        except PermissionError:  # another user's, which is there
            pass
        if began not in (None, started):
            raise ProcessLookupError
    except FileNotFoundError:
        syscalls.close(pidfd)
        raise ProcessLookupError from None
    except OSError:
        syscalls.close(pidfd)
        raise
    return pidfd, started


class Wait:
    """The end of one process, and how long it may take."""

    def __init__(self, pidfd: int, timeout_s: float | None) -> None:
        self.loop, self.pidfd = Loop(), pidfd
        self.has_ended, self.late = False, False
        self.status: int | None = None
        self.loop.add_pidfd(pidfd, self.ended)
        if timeout_s is not None:
            # Timers run before the events that came along with them: these have one turn more.
            self.loop.call_later(timeout_s * 1000, lambda: self.loop.call_later(0, self.give_up))

    def run(self) -> bool:
        """Return whether the process has ended in time."""
        self.loop.run()
        return not self.late

    def give_up(self) -> None:
        """Leave, unless the end has just come."""
        if not self.has_ended:
            self.late = True
            self.loop.stop()

    def ended(self) -> None:
        """Wait for the parent: the kernel tells the status once the zombie is gone."""
        self.has_ended = True
        self.loop.remove_reader(self.pidfd)
        if not tells(self.pidfd):
            self.loop.stop()
            return
        self.loop.add_hangup(self.pidfd, self.reaped)  # EPOLLHUP, from Linux 6.9 on
        self.loop.call_later(REAPED_MS, self.reaped)

    def reaped(self) -> None:
        """Take the status, if it is there."""
        try:
            self.status = syscalls.pidfd_get_info(self.pidfd)
        except ProcessLookupError:  # Linux 6.13 and 6.14
            self.status = None
        self.loop.stop()


def tells(pidfd: int) -> bool:
    """Return whether this kernel tells the status of other processes' children."""
    try:
        syscalls.pidfd_get_info(pidfd)
    except OSError:  # ENOSYS, before Linux 6.15; ESRCH
        return False
    return True


def described(status: int | None) -> str:
    """Put a wait status into words."""
    if status is None:
        return "ended"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited {code}"
    return f"killed {-code}" + " (core dumped)" * os.WCOREDUMP(status)


def process(text: str) -> tuple[int, int | None]:
    """Parse PID or PID:START."""
    pid, colon, began = text.partition(":")
    if not 0 < int(pid) < 2**31:
        raise ValueError(text)
    return int(pid), int(began) if colon else None


def seconds(text: str) -> float:
    """Parse a time of 0 to a million seconds."""
    value = float(text)
    if not 0 <= value <= 1_000_000:
        raise ValueError(text)
    return value


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="wait_pid.py",
        description="Wait until a process has ended, be it a child or not, and print how: "
        "'exited CODE', 'killed SIGNAL', or 'ended' where the kernel (before Linux 6.15) or the "
        "process's parent does not tell.",
    )
    add = parser.add_argument
    add("process", type=process, metavar="PID[:START]", help="as printed by --note")
    add("--timeout", type=seconds, metavar="SECONDS", help="wait no longer, and leave with 124")
    add("--note", action="store_true", help="print PID:START, which no later process has")
    options = parser.parse_args()
    syscalls.set_disposition(syscalls.SIGINT, "default")  # end by Ctrl-C without a traceback
    pid, began = options.process
    try:
        pidfd, started = open_process(pid, began)
    except OSError as error:  # EINVAL: a thread
        print(f"wait_pid.py: {pid}: {error.strerror or 'No such process'}", file=sys.stderr)
        return 1
    if options.note:
        print(f"{pid}:{started}")
        return 0
    wait = Wait(pidfd, options.timeout)
    if not wait.run():
        return 124
    print(described(wait.status))
    return 0


if __name__ == "__main__":
    sys.exit(main())
