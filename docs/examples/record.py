#!/usr/bin/python3
"""Record what a program shows on its terminal: an asciicast of version 2, as asciinema plays it.

Laws. The program has a terminal of its own; what is typed here goes to it, what it shows comes here
and into the file, one piece at a time, so that a slow reader slows the program and nothing piles up.
What is typed is not recorded, but for what the program echoes. A full disk ends the recording and
not the program. Where nobody can see it any more (our terminal or reader has gone, or a signal told
us to end), the program is hung up on. Status: the program's exit code, or 128 and the signal that
killed it; 127, 126: it cannot be started; 125: a failure of our own; 1: it is recorded in part.
"""

from __future__ import annotations

import argparse
import codecs
import contextlib
import errno
import json
import os
import shutil
import sys
import termios
import time
import tty
from typing import TYPE_CHECKING

from lowconmon import syscalls
from lowconmon.loop import Loop

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 4096  # PIPE_BUF: a pipe that is said to be writable takes as much, and does not block
END_OF_FILE = b"\x04"  # Ctrl-D: how a terminal is told of an end
ENDING = [syscalls.SIGHUP, syscalls.SIGINT, syscalls.SIGTERM]


class Cast:
    """The file: a line of JSON for the terminal, and one for each event."""

    def __init__(self, path: str, size: tuple[int, int], command: list[str]) -> None:
        self.fd = syscalls.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        self.failure: OSError | None = None
        self.began = time.monotonic()
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may come cut
        rows, columns = size
        head = {"version": 2, "width": columns, "height": rows, "timestamp": int(time.time())}
        known = {name: os.environ[name] for name in ("SHELL", "TERM") if name in os.environ}
        self.line({**head, "command": " ".join(command), "env": known})

    def output(self, data: bytes, *, last: bool = False) -> None:
        """Add what was shown."""
        text = self.decoder.decode(data, last)
        if text:
            self.event("o", text)

    def event(self, kind: str, text: str) -> None:
        """Add an event, as of now."""
        self.line([round(time.monotonic() - self.began, 6), kind, text])

    def line(self, value: object) -> None:
        """Write a line; after a failure none is written any more."""
        data = json.dumps(value).encode() + b"\n"
        try:
            while data and not self.failure:
                data = data[syscalls.write(self.fd, data) :]
        except OSError as error:
            self.failure = error


class Copy:
    """Bytes from one descriptor to another: the next piece is read when the last one has gone."""

    def __init__(
        self,
        loop: Loop,
        ends: tuple[int, int],
        seen: Callable[[bytes], None],
        broken: Callable[[], None],
    ) -> None:
        """*seen* is told of each piece, and by an empty one of the end; *broken*: nobody takes any."""
        self.loop, self.seen, self.broken = loop, seen, broken
        self.source, self.target = ends
        self.piece = b""
        self.going, self.last = True, False
        self.await_turn()

    def await_turn(self) -> None:
        """Read or write once, when that can be done."""
        try:
            if self.piece:
                self.loop.add_writer(self.target, self.write)
            elif self.last:
                self.loop.call_later(0, self.read)
            else:
                self.loop.add_reader(self.source, self.read)
        except PermissionError:  # a regular file or /dev/null, which is always ready
            self.loop.call_later(0, self.write if self.piece else self.read)

    def read(self) -> None:
        """Take a piece."""
        self.loop.remove_reader(self.source)
        if not self.going:
            return
        try:
            self.piece = syscalls.read(self.source, PIECE)
        except BlockingIOError:
            self.going = not self.last
        except OSError:  # EIO: the terminal's other end has closed
            self.going = False
        else:
            self.going = bool(self.piece)
        if self.piece or not self.going:
            self.seen(self.piece)
        if self.going:
            self.await_turn()

    def write(self) -> None:
        """Give what can be given of it."""
        self.loop.remove_writer(self.target)
        if not self.going:
            return
        try:
            self.piece = self.piece[syscalls.write(self.target, self.piece) :]
        except BlockingIOError:  # as much as nothing
            pass
        except OSError:  # EPIPE, EIO, ENOSPC
            self.going = False
            self.broken()
            return
        self.await_turn()

    def finish(self) -> None:
        """Take what is there by now: when there is nothing left, that is the end."""
        self.last = True
        if self.going and not self.piece:
            self.loop.remove_reader(self.source)
            self.await_turn()

    def stop(self) -> None:
        """Copy no more."""
        self.going = False
        self.loop.remove_reader(self.source)
        self.loop.remove_writer(self.target)


class Session:
    """A program on a terminal of its own, between our terminal and the file."""

    def __init__(self, file: str, path: str, command: list[str]) -> None:
        self.loop, self.size = Loop(), window_size()
        self.master, self.slave = syscalls.openpty()
        os.set_blocking(self.master, False)  # ours alone, as no descriptor of our caller is
        syscalls.set_winsize(self.master, *self.size)
        self.cast = Cast(file, self.size, command)
        self.loop.add_signals([syscalls.SIGWINCH, *ENDING], self.hear)
        # Who starts us may ignore it: the kernel would then reap our child, and tell nobody.
        syscalls.set_disposition(syscalls.SIGCHLD, "default")
        # We keep our slave while the program runs: without one, a program that closes its own and
        # lives on would make the master hang up, again and again.
        self.pid, self.error_fd = syscalls.spawn(
            os.fsencode(path),
            [os.fsencode(word) for word in command],
            [name + b"=" + value for name, value in os.environb.items()],
            terminal=self.slave,
            new_session=True,
            defaulted=[syscalls.SIGPIPE, syscalls.SIGXFSZ],  # which Python ignores
        )
        self.pidfd = syscalls.pidfd_open(self.pid)
        self.loop.add_pidfd(self.pidfd, self.ended)
        self.status: int | None = None
        self.in_line = False  # of what was typed
        self.input = Copy(self.loop, (0, self.master), self.typed, self.hang_up)
        self.output = Copy(self.loop, (self.master, 1), self.shown, self.hang_up)

    def run(self) -> int:
        """Return the program's status."""
        saved = termios.tcgetattr(0) if os.isatty(0) else None
        try:
            if saved:  # every key is the program's, Ctrl-C too
                tty.setraw(0, termios.TCSANOW)
            self.loop.run()
        finally:
            if saved:
                with contextlib.suppress(termios.error):  # it has gone
                    termios.tcsetattr(0, termios.TCSANOW, saved)
        return self.status or 0

    def typed(self, data: bytes) -> None:
        """Note what goes to the program, and tell it of the end."""
        if data:
            self.in_line = not data.endswith(b"\n")
            return
        try:  # in a line the first one only ends the line
            syscalls.write(self.master, END_OF_FILE * (2 if self.in_line else 1))
        except BlockingIOError:  # it has much to read
            self.loop.call_later(100, lambda: self.typed(b""))
        except OSError:  # EBADF: hung up
            return

    def shown(self, data: bytes) -> None:
        """Record what comes from the program, up to the end."""
        self.cast.output(data, last=not data)
        self.leave_if_done()

    def hear(self, number: int) -> None:
        """Take a signal."""
        if number != syscalls.SIGWINCH:
            self.hang_up()
            return
        size = window_size()
        if size != self.size and self.master >= 0:
            self.size = size
            syscalls.set_winsize(self.master, *size)
            self.cast.event("r", f"{size[1]}x{size[0]}")

    def ended(self) -> None:
        """Take the program's status; what it wrote last is still in the terminal."""
        self.loop.remove(self.pidfd)
        result = syscalls.waitid(syscalls.P_PIDFD, self.pidfd, syscalls.WEXITED)
        if result:  # None only with WNOHANG
            self.status = result.si_status + 128 * (result.si_code != os.CLD_EXITED)
        self.slave = self.loop.discard(self.slave)
        self.input.stop()
        self.output.finish()
        self.leave_if_done()

    def hang_up(self) -> None:
        """Close the terminal, which sends the program SIGHUP; the second time, kill it."""
        if self.master >= 0:
            self.input.stop()
            self.output.stop()
            self.cast.output(b"", last=True)
            self.slave = self.loop.discard(self.slave)
            self.master = self.loop.discard(self.master)
        elif self.status is None:
            syscalls.pidfd_send_signal(self.pidfd, syscalls.SIGKILL)
        self.leave_if_done()

    def leave_if_done(self) -> None:
        """Leave when the program has ended and all that it wrote has gone on."""
        if self.status is not None and not self.output.going:
            self.loop.stop()


def window_size() -> tuple[int, int]:
    """Return (rows, columns) of our terminal, or what most begin with."""
    for fd in (0, 1):
        try:
            rows, columns = syscalls.get_winsize(fd)
        except OSError:  # ENOTTY
            continue
        if rows and columns:
            return rows, columns
    return 24, 80


def fill_descriptors() -> None:
    """Open what is closed of 0-2: the file must not become anybody's standard output."""
    for fd in range(3):
        try:
            syscalls.fstat(fd)
        except OSError:  # EBADF; the lowest free number is this one
            syscalls.open(os.devnull, os.O_RDWR)


def fail(text: str, status: int) -> int:
    """Tell the user; return the status."""
    print(f"record.py: {text}", file=sys.stderr)
    return status


def main() -> int:
    """Do what the command line says; return the exit status."""
    fill_descriptors()
    parser = argparse.ArgumentParser(
        prog="record.py",
        description="Record what COMMAND (by default a shell) shows on its terminal into FILE.",
    )
    parser.add_argument("file", metavar="FILE", help="an asciicast; what it had is gone")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND [ARGUMENT...]")
    options = parser.parse_args()
    command = options.command[options.command[:1] == ["--"] :]
    command = command or [os.environ.get("SHELL", "/bin/sh")]
    path = command[0] if "/" in command[0] else shutil.which(command[0])
    if path is None:
        return fail(f"{command[0]}: not found", 127)
    try:
        session = Session(options.file, path, command)
    except OSError as error:
        return fail(str(error), 125)
    status = session.run()
    failure = int.from_bytes(syscalls.read(session.error_fd, 4), sys.byteorder)
    if failure:  # of exec
        return fail(f"{path}: {os.strerror(failure)}", 127 if failure == errno.ENOENT else 126)
    if session.cast.failure:
        return fail(f"{options.file}: {session.cast.failure.strerror}", status or 1)
    return status


if __name__ == "__main__":
    sys.exit(main())
