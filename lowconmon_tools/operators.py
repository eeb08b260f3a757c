"""`lowconmon status` and `lowconmon attach`: what operators ask monitors, and a terminal for them.

Laws. A container is named by its bundle, or by the beginning of its id as it stands in the command
line of its monitor. The terminal is restored on every way out but SIGKILL.
"""

import argparse
import contextlib
import json
import os
import select
import signal
import socket
import sys
import termios
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lowconmon.pure.options import OptionError, parse

_TIMEOUT_S = 5
_MAX_PACKET = 32768  # the monitor cuts what is longer
_ENDING = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
_CTRL = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # 0 to 31
_KEYS = {chr(code): code for code in range(32, 127)}
_KEYS |= {f"ctrl-{letter}": code for code, letter in enumerate(_CTRL)}
_ROW = "{:<14}{:>8} {:<18}{:>9} {:>7}  {}".format


class _Failure(Exception):  # noqa: N818 - no error of the program
    """Why there is no answer."""


def _monitors() -> Iterator[tuple[str, str, str]]:
    """Yield (pid, id, bundle) of each running monitor; an exec session's id is its own."""
    for path in Path("/proc").glob("[0-9]*"):
        try:
            words = (path / "cmdline").read_bytes().split(b"\0")[:-1]
            if (path / "comm").read_bytes() != b"conmon\n":
                continue
        except OSError:  # it has ended meanwhile
            continue
        for start in range(1, 4):  # behind an interpreter and its own options
            with contextlib.suppress(OptionError):
                options = parse(words[start:])
                name = os.fsdecode((options.cuuid if options.exec else options.cid) or b"")
                if name:
                    yield path.name, name, str(path / "cwd" / os.fsdecode(options.bundle or b""))
                break


def _bundle_of(target: str) -> str:
    """Return the bundle that *target* is, or that the container of that id has."""
    if "/" in target or os.path.isdir(target):
        return os.path.abspath(target)
    found = {bundle: name for _, name, bundle in _monitors() if name.startswith(target)}
    bundles = [bundle for bundle, name in found.items() if name == target] or [*found]
    if len(bundles) != 1:
        text = "several have an id like that" if found else "no such container runs"
        raise _Failure(f"{target}: {text}")
    return bundles[0]


def _connect(bundle: str, name: str) -> socket.socket:
    """Go to *bundle* and return a connection to its socket: the path may be too long for one."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        os.chdir(bundle)
        connection.settimeout(0)
        for tries_left in range(_TIMEOUT_S * 100, -1, -1):
            try:
                connection.connect(name)
                break
            except BlockingIOError as error:  # as many wait as may
                if not tries_left:
                    raise _Failure(f"{bundle}/{name}: no answer") from error
                time.sleep(0.01)
        connection.settimeout(_TIMEOUT_S)
    except OSError as error:
        connection.close()
        text = f"{bundle}/{name}: {error.strerror or error}: no container of lowconmon runs there"
        raise _Failure(text) from error
    return connection


def _ask(bundle: str) -> dict[str, Any]:
    """Return what the monitor of *bundle* tells."""
    with _connect(bundle, "status") as connection:
        try:
            connection.send(b"status")
            return dict(json.loads(connection.recv(1 << 18)))
        except (OSError, RecursionError, TypeError, ValueError) as error:  # it ends, hangs, or lies
            raise _Failure(f"{bundle}/status: no answer: {error}") from error


def _show(text: str) -> None:
    print(ascii(text)[1:-1])  # nothing that acts on a terminal


def _lines(value: object, name: str = "") -> Iterator[str]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _lines(item, f"{name}.{key}" if name else str(key))
    else:
        yield f"{name:<24} {value}"


def _status(options: argparse.Namespace) -> None:
    if options.container is not None:
        answer = _ask(_bundle_of(options.container))
        for line in [json.dumps(answer)] if options.json else _lines(answer):
            print(line) if options.json else _show(line)
        return
    if not options.json:
        print(_ROW("ID", "MONITOR", "STATE", "UPTIME", "CLIENTS", "NAME"))
    for pid, name, bundle in sorted(_monitors(), key=lambda monitor: int(monitor[0])):
        facts: dict[str, Any] = {"cid": name, "monitor_pid": int(pid), "state": "no answer"}
        with contextlib.suppress(_Failure):  # an exec without bundle, starting, ending, or conmon
            facts |= _ask(bundle)
        clients = facts.get("clients")
        count = len(clients) if isinstance(clients, list) else 0
        words = facts["state"], facts.get("uptime_s", "-"), count, facts.get("name") or ""
        row = _ROW(name[:12], pid, *map(str, words))
        print(json.dumps(facts)) if options.json else _show(row)


class _Session:
    """An attached client: stdin to the container, its output to stdout and stderr."""

    def __init__(self, connection: socket.socket, keys: bytes) -> None:
        self._connection, self._keys = connection, keys
        self._typed = self._to_send = b""  # what may begin the keys; what the monitor has not taken
        self._ended = False  # stdin

    def run(self, *, reads: bool) -> None:
        """Pass on until the container ends or the keys are typed; *reads*: stdin, too."""
        fd = self._connection.fileno()
        while True:
            poll = select.poll()
            poll.register(fd, select.POLLIN | (select.POLLOUT if self._to_send else 0))
            if reads and not self._ended and not self._to_send:
                poll.register(0, select.POLLIN)
            ready = dict(poll.poll())
            if ready.get(fd, 0) & ~select.POLLOUT and not self._receive():
                return
            if self._to_send:
                self._send()
            elif 0 in ready and self._read():
                return

    def _receive(self) -> bool:
        """Show a packet; return whether there was one: else it is the end."""
        with contextlib.suppress(ConnectionResetError):
            packet = self._connection.recv(1 + _MAX_PACKET)
            text = packet[1:]
            while text:
                text = text[os.write(2 if packet[0] == 3 else 1, text) :]
            return bool(packet)
        return False

    def _read(self) -> bool:
        """Take what is typed; return whether the detach keys are."""
        data = b""
        with contextlib.suppress(OSError):  # EIO: the terminal has hung up
            data = os.read(0, _MAX_PACKET - len(self._keys))
        typed, keys, self._ended = self._typed + data, self._keys, not data
        typed, found, _ = typed.partition(keys) if keys else (typed, b"", b"")
        sizes = range(len(keys) - 1, 0, -1) if data and not found else ()
        end = len(typed) - next((size for size in sizes if typed.endswith(keys[:size])), 0)
        self._to_send, self._typed = typed[:end], typed[end:]
        self._send()
        return bool(found)

    def _send(self) -> None:
        try:
            if self._to_send:
                self._connection.send(self._to_send)  # a packet: all or nothing
            self._to_send = b""
            if self._ended:
                self._connection.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            return
        except OSError:  # EPIPE, ENOTCONN: the container's end is about to be read
            self._to_send = b""


def _resize(*_: object) -> None:
    """Give the container's terminal the size of ours."""
    columns, rows = os.get_terminal_size(0)
    with contextlib.suppress(OSError):  # the monitor has ended
        fd = os.open("ctl", os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, b"1 %d %d\n" % (rows, columns))
        os.close(fd)


def _take_terminal(*_: object) -> None:
    tty.setraw(0, termios.TCSANOW)
    _resize()


def _leave(number: int, _: object) -> None:
    sys.exit(128 + number)


def _detach_keys(text: str) -> bytes:
    names = text.split(",") if text else []
    if not _KEYS.keys() >= {*names}:
        raise argparse.ArgumentTypeError(f"not keys: {text}")
    return bytes([_KEYS[name] for name in names])


def _attach(options: argparse.Namespace) -> None:
    bundle = _bundle_of(options.container)
    types = os.isatty(0) and not options.read_only
    raw = _ask(bundle).get("terminal") and types
    with _connect(bundle, "attach") as connection:
        connection.settimeout(0)
        session = _Session(connection, options.detach_keys if types else b"")
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # it would leave the terminal as it is
        saved = termios.tcgetattr(0) if raw else []
        try:
            if raw:
                for number in _ENDING:
                    if signal.getsignal(number) != signal.SIG_IGN:
                        signal.signal(number, _leave)
                signal.signal(signal.SIGWINCH, _resize)
                signal.signal(signal.SIGCONT, _take_terminal)  # a shell has had it
                _take_terminal()
            session.run(reads=not options.read_only)
        except OSError as error:
            raise _Failure(f"output: {error.strerror}") from error
        finally:
            if raw:
                termios.tcsetattr(0, termios.TCSANOW, saved)


def command_lines() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each program; completions are made from them too."""
    status = argparse.ArgumentParser(
        prog="lowconmon status",
        description="Tell how a container's monitor is; without a container, all that run.",
    )
    status.add_argument("container", nargs="?", metavar="BUNDLE|ID", help="an id may be shortened")
    status.add_argument("--json", action="store_true", help="the whole answers, a line each")
    status.set_defaults(run=_status)
    attach = argparse.ArgumentParser(
        prog="lowconmon attach",
        description="Attach to a running container, until it ends or the detach keys are typed.",
    )
    add = attach.add_argument
    add("container", metavar="BUNDLE|ID", help="an id may be shortened")
    help_text = "they end this when typed on a terminal (ctrl-p,ctrl-q; empty: none)"
    add("--detach-keys", type=_detach_keys, default="ctrl-p,ctrl-q", metavar="KEYS", help=help_text)
    help_text = "only show: send and size nothing"
    add("--no-stdin", "--read-only", action="store_true", dest="read_only", help=help_text)
    attach.set_defaults(run=_attach)
    return {"status": status, "attach": attach}


def main(arguments: list[str]) -> int:
    """Run the program that the first argument names; return its status."""
    options = command_lines()[arguments[0]].parse_args(arguments[1:])
    try:
        options.run(options)
    except _Failure as failure:
        print(ascii(f"lowconmon {arguments[0]}: {failure}")[1:-1], file=sys.stderr)
        return 1
    return 0
