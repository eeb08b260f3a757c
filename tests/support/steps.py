"""Run the program and signal it at its Nth call: `steps.py SIGNAL NTH WHO MARKER -- ARGS`.

A call is one of lowconmon._syscalls, or one of os that it uses directly. WHO is `first` for the process
that is started, or `forked` for the child that it makes of itself, which counts from its fork. The
call's name goes to MARKER when it is reached. Signals to end are blocked from the first lines of the
program on, so that one from outside at that moment has the same effect.
"""

from __future__ import annotations

import os
import posix
import sys
from typing import Any

DIRECT = "dup dup2 fchmod fork listdir set_blocking set_inheritable setsid umask".split()


class Steps:
    """Counts calls; at the right one the process signals itself."""

    def __init__(self, number: int, nth: int, who: str, marker: str) -> None:
        self.number, self.nth, self.who, self.marker = number, nth, who, marker
        self.first_pid = self.last_pid = os.getpid()
        self.calls = 0

    def wrap(self, name: str, original: Any) -> Any:
        """Return a call that is counted before it is made."""

        def call(*arguments: Any, **named: Any) -> Any:
            self.step(name)
            return original(*arguments, **named)

        return call

    def step(self, name: str) -> None:
        """Count a call."""
        pid = os.getpid()
        if pid != self.last_pid:
            self.last_pid, self.calls = pid, 0
        self.calls += 1
        if self.calls == self.nth and (pid == self.first_pid) == (self.who == "first"):
            with open(self.marker, "w") as file:
                file.write(name)
            os.kill(pid, self.number)


def command(number: int, nth: int, who: str, marker: str) -> list[str]:
    """Return the command of the program with this signal at this step."""
    path = os.path.abspath(__file__)
    return [sys.executable, "-I", path, str(int(number)), str(nth), who, marker, "--"]


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    steps = Steps(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4])
    import lowconmon._syscalls as calls

    for name, value in list(vars(calls).items()):
        if callable(value) and name[0] != "_" and name.islower():
            setattr(calls, name, steps.wrap(name, value))
    for name in DIRECT:
        setattr(posix, name, steps.wrap(name, getattr(posix, name)))
    sys.argv = ["conmon", *sys.argv[6:]]
    from lowconmon.__main__ import main

    main()
