"""Write logs as monitors do, rotate them as monitors and the kubelet do, and read them with ours.

`Writer` does each step of a rotation as a call of its own; `run` is the reader on files that rest,
`Follower` the one that follows. Nothing here sleeps.
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.support import ROOT, SLOWNESS, status_of, wait_for

DEADLINE_S = 60.0  # machines may be busy
START_NS = 1_795_444_200_000_000_000  # 2026-11-23T14:30:00Z


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of the reader: the installed one if there is one."""
    program = os.environ.get("LOWCONMON_PROGRAM")
    ours = [str(Path(program).parents[2] / "bin/lowconmon")] if program else []
    return [*(ours or [sys.executable, "-m", "lowconmon"]), "logs", *map(str, arguments)]


def environment(**others: str) -> dict[str, str]:
    """Return an environment in which the tree's reader is found, in UTC and without colours."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "TZ": "UTC", "TERM": "xterm", **others}


def run(*arguments: str | Path, **variables: str) -> tuple[bytes, bytes, int]:
    """Return what the reader writes to stdout and stderr, and its status."""
    done = subprocess.run(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(**variables),
        timeout=DEADLINE_S * SLOWNESS,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode


def stdout_of(*arguments: str | Path, **variables: str) -> bytes:
    """Return what the reader writes to stdout; it must have nothing to complain of."""
    stdout, stderr, status = run(*arguments, **variables)
    assert (stderr, status) == (b"", 0), stderr
    return stdout


def stamp(number: int, *, json_file: bool = False) -> str:
    """Return the stamp of the record with that number: one a millisecond."""
    seconds, ns = divmod(START_NS + number * 1_000_000, 1_000_000_000)
    minutes = (seconds - START_NS // 1_000_000_000) // 60 + 30
    text = f"2026-11-23T{14 + minutes // 60:02}:{minutes % 60:02}:{seconds % 60:02}.{ns:09}"
    return text.rstrip("0").rstrip(".") + "Z" if json_file else text + "+00:00"


def record(
    number: int,
    text: bytes | None = None,
    stream: str = "stdout",
    tag: str = "F",
    *,
    json_file: bool = False,
) -> bytes:
    """Return a record; without *text* it says its number."""
    text = b"line %d" % number if text is None else text
    if json_file:
        whole = text.decode("utf-8", "surrogateescape") + ("\n" if tag == "F" else "")
        fields = {"log": whole, "stream": stream, "time": stamp(number, json_file=True)}
        line = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        return line.encode("utf-8", "surrogateescape") + b"\n"
    return f"{stamp(number)} {stream} {tag} ".encode() + text + b"\n"


def records(first: int, last: int, *, json_file: bool = False) -> bytes:
    """Return records that say *first* to *last*."""
    return b"".join(record(number, json_file=json_file) for number in range(first, last + 1))


def said(first: int, last: int) -> bytes:
    """Return what the reader makes of these."""
    return b"".join(b"line %d\n" % number for number in range(first, last + 1))


def compress(path: Path) -> Path:
    """Put a compressed file in the place of *path*, by way of a temporary one."""
    temporary, packed = path.with_name(path.name + ".gz.tmp"), path.with_name(path.name + ".gz")
    temporary.write_bytes(gzip.compress(path.read_bytes(), 1))
    temporary.rename(packed)
    path.unlink()
    return packed


class Writer:
    """A log that is written to: with the monitor's steps, one record a call."""

    def __init__(self, path: Path, *, json_file: bool = False) -> None:
        self.path, self.json_file = path, json_file
        self.number = 0  # of the last record
        self._flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        self.fd = os.open(path, self._flags, 0o640)
        self._second = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def say(self, count: int = 1) -> Self:
        """Write *count* records that say the next numbers, and return self."""
        for _ in range(count):
            self.number += 1
            self.write(record(self.number, json_file=self.json_file))
        return self

    def write(self, data: bytes) -> None:
        """Write *data*."""
        assert os.write(self.fd, data) == len(data)

    def rotated(self, ending: str | int) -> Path:
        """Return the path of a rotated file."""
        return self.path.with_name(f"{self.path.name}.{ending}")

    def rotate(self, keep: int = 9) -> None:
        """Rotate as the monitor does with --log-rotate; 0 to keep: as it does without."""
        for ending in ("", ".gz"):
            self.rotated(f"{keep}{ending}").unlink(missing_ok=True)
        for number in range(keep - 1, 0, -1):
            for ending in ("", ".gz"):
                if self.rotated(f"{number}{ending}").exists():
                    self.rotated(f"{number}{ending}").rename(self.rotated(f"{number + 1}{ending}"))
        fresh = os.open(self.rotated("tmp"), self._flags, 0o640)
        if keep:
            self.path.rename(self.rotated(1))
        self.rotated("tmp").rename(self.path)
        self._go_on(fresh)

    def rename(self) -> Path:
        """Rename the log as the kubelet does; what is written still goes there."""
        self._second += 1
        minute, second = divmod(self._second, 60)
        name = self.rotated(f"20261123-{14 + minute // 60:02}{minute % 60:02}{second:02}")
        self.path.rename(name)
        return name

    def reopen(self) -> None:
        """Open a fresh file, as the monitor does when the kubelet tells it to."""
        self._go_on(os.open(self.path, self._flags, 0o640))

    def _go_on(self, fd: int) -> None:
        os.close(self.fd)
        self.fd = fd


class Follower:
    """A reader that follows; `wait` for what it shows. Its stderr goes where its stdout goes."""

    def __init__(self, *arguments: str | Path, **variables: str) -> None:
        self.process = subprocess.Popen(
            command("-f", *arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment(**variables),
            restore_signals=True,
        )
        assert self.process.stdout
        self.fd = self.process.stdout.fileno()
        self.text = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def wait(self, expected: bytes) -> None:
        """Wait until it has shown as much as is expected, which must be that."""
        while len(self.text) < len(expected):
            wait_for(self.fd, DEADLINE_S)
            piece = os.read(self.fd, 65536)
            assert piece, f"it has ended: {self.text[-200:]!r}"
            self.text += piece
        if self.text != expected:  # pytest's own comparison takes minutes for long ones
            pairs = zip(self.text, expected, strict=False)
            at = next((n for n, (one, other) in enumerate(pairs) if one != other), len(expected))
            assert self.text[at : at + 200] == expected[at : at + 200], f"at {at}"

    def end(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the status; nothing more may have been shown."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=DEADLINE_S * SLOWNESS)
        assert rest == b""
        return self.process.returncode

    def settle(self, path: Path) -> None:
        """Wait until it waits for more in this file."""
        pid = self.process.pid

        def waits() -> bool:
            try:
                held = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
            except FileNotFoundError:  # one that it has just closed
                return False
            return str(path) in held and status_of(pid)["State"].startswith("S")

        wait_for(waits, DEADLINE_S)

    def pause(self) -> None:
        """Let it see nothing of what happens until `go_on`."""
        self.process.send_signal(signal.SIGSTOP)
        pid = self.process.pid
        wait_for(lambda: status_of(pid)["State"].startswith("T"), DEADLINE_S)

    def go_on(self) -> None:
        """Let it see what has happened."""
        self.process.send_signal(signal.SIGCONT)
