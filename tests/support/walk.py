"""Walk a whole short life with one call failing, and judge what became of it.

`Walk` is the life: created, typed to, three lines on each stream twice, a rotation between them, a
reopening, two resizes, an attached client, an end with status 7. Nothing in it waits for what a fault
may have broken longer than PATIENCE: the container goes on when its gate is opened, not when the
monitor has passed something on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.support import faults
from tests.support.fault_table import UNEXPECTED, cannot_fail, row_of
from tests.support.life import DEADLINE, Gate, Life, packets, read_if_there, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence

KINDS = ("pipes", "terminal", "exec")
PATIENCE = 1.0  # seconds for what a fault may have broken
SLOW = 5.0
LINES = [b"%d of " % number for number in range(1, 7)]

# Everything is told through files, so that a fault in the streams holds up nothing. The shells wait
# for `typed` in the background; their descriptors 1 and 2 would keep the output open.
CONTAINER = """
exec 3<&0; (cat <&3 > {d}/typed 2> {d}/cat.err; : > {d}/typed.end) > {d}/cat.out 2>&1 &
exec 3<&-; read x < {d}/go
for n in 1 2 3; do echo $n of out; echo $n of err {err}; done
read x < {d}/go
for n in 4 5 6; do echo $n of out; echo $n of err {err}; done
{end} exit 7
"""


class Walk:
    """One life of a kind (see KINDS) with the faults of *spec*; a context that cleans up."""

    def __init__(
        self, kind: str, spec: str = "", *options: str, command: list[str] | None = None
    ) -> None:
        self.kind, self.spec, self.options = kind, spec, options
        self.patience = PATIENCE if spec and not spec.startswith("record=") else DEADLINE
        self.directory = Path(tempfile.mkdtemp(prefix="walk-", dir="/tmp"))
        self.life = life = Life(self.directory)
        life.command = command or faults.command(spec)
        self.logs = self.directory / "logs"
        self.logs.mkdir()
        life.log = self.logs / "ctr.log"
        self.gate = Gate(self.directory / "go")
        self.answers: list[dict[str, object]] = []
        self.attached: list[dict[str, object]] = []
        self.received = b"", b""
        self.said = b""
        self.seconds = 0.0
        self.complaints: list[str] = []
        self.before_going: Callable[[int], object] = int  # called before the start pipe is written

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.life.end()
        self.gate.close()

        def removed() -> bool:
            shutil.rmtree(self.directory, ignore_errors=True)
            return not self.directory.exists()

        wait_until(removed, "the end of those who still write here")

    def soon(self, check: Callable[[], object]) -> None:
        """Wait for what comes if nothing is broken, and not for long if it is."""
        end = time.monotonic() + self.patience
        while not check():
            if time.monotonic() > end:
                if self.patience == DEADLINE:
                    self.complaints.append(f"not soon: line {check.__code__.co_firstlineno}")
                return
            time.sleep(0.002)  # between two looks

    def start(self) -> None:
        """Start the monitor and let it go on."""
        life = self.life
        err = "" if self.kind == "terminal" else ">&2"
        container = CONTAINER.format(d=self.directory, err=err, end="")
        if self.kind == "terminal":
            life.terminal_stub(container)
            life.script(life.runtime.read_text().replace("master, slave", RAN + "\nmaster, slave"))
        else:
            life.stub(container, before=f": > {self.directory}/ran")
        at_exit = self.directory / "at-exit"
        at_exit.write_text(f"#!/bin/sh\necho ran >> {self.directory}/after\n")
        at_exit.chmod(0o755)
        extra = ["-t"] if self.kind == "terminal" else ["-i"]
        extra += ["--exit-command", str(at_exit), "--log-rotate", "--log-max-files", "2"]
        extra += ["--log-size-max", "260", *self.options]
        if self.kind == "exec":
            extra.append("--exec-attach")
        life.start(
            *extra,
            exec_session=self.kind == "exec",
            start_pipe=True,
            attach_pipe=self.kind == "exec",
            wait=False,
        )
        assert life.launcher is not None
        self.before_going(life.launcher.pid)
        with contextlib.suppress(BrokenPipeError):
            os.write(life.start_pipe, b"x")
        if self.kind == "exec":  # the second is for the runtime
            assert life.attach_pipe is not None
            self.soon(lambda: self._readable(life.attach_pipe))
            with contextlib.suppress(BrokenPipeError):
                os.write(life.start_pipe, b"x")

    @staticmethod
    def _readable(pipe: socket.socket | None) -> bool:
        assert pipe is not None
        pipe.setblocking(False)
        try:
            pipe.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def run(self) -> Self:
        """Live the life to its end."""
        began = time.monotonic()
        life = self.life
        self.start()
        assert life.launcher is not None
        if "--sync" not in self.options and not self._left():
            return self
        self._next_answer()
        # Without an answer, the container may run all the same.
        if not life.launcher.poll() and self._started():
            self._live()
        while self.answers and self._next_answer():
            continue
        if life.attach_pipe is not None:
            with contextlib.suppress(OSError):
                life.attach_pipe.settimeout(0)
                data = life.attach_pipe.recv(4096)
                self.attached += [json.loads(data)] if data else []
        try:
            life.wait_gone(10)
        except AssertionError:
            self.complaints.append("the monitor stays")
        self._left()
        assert life.launcher.stderr is not None
        self.said = life.launcher.stderr.read()
        self.seconds = time.monotonic() - began
        return self

    def _left(self) -> bool:
        assert self.life.launcher is not None
        try:
            self.life.launcher.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.complaints.append("the launched process stays")
            return False
        return True

    def _next_answer(self) -> bool:
        try:
            message = self.life.message()
        except TimeoutError:
            self.complaints.append("no answer and no end of the sync pipe")
            return False
        self.answers += [message] if message else []
        return message is not None

    def _started(self) -> bool:
        numbers = [answer["data"] for answer in self.answers]
        return numbers != [-1] and bool(read_if_there(self.life.pid_file))

    def _live(self) -> None:
        life, directory = self.life, self.directory
        client: socket.socket | None = None
        with contextlib.suppress(OSError):
            client = life.attach()
            client.settimeout(self.patience)
            client.send(b"typed\n")
            self.soon(lambda: read_if_there(directory / "typed"))
        self.gate.open()
        self.soon(lambda: self.logs.joinpath("ctr.log.1").exists() and self._logged(3))
        with contextlib.suppress(FileNotFoundError):
            life.log.rename(self.logs / "old")
        with contextlib.suppress(OSError):
            life.control(b"20 90\n", "winsz")
            life.control(b"1 30 100\n2 0 0\n")
            self.soon(life.log.exists)
        with contextlib.suppress(OSError):
            if client and self.kind != "terminal":
                client.shutdown(socket.SHUT_WR)
                self.soon((directory / "typed.end").exists)
        self.gate.open()
        with contextlib.suppress(OSError):
            if client:
                self.received = packets(client)

    def _logged(self, number: int) -> bool:
        text = b"".join(read_if_there(path) or b"" for path in self.logs.iterdir())
        return b"%d of err" % number in text

    # The verdict

    def judge(self, *tolerated: str) -> list[str]:
        """Return what is not acceptable.

        *tolerated*: what else is: "lost" lines of the log, an "unknown" status or that of SIGPIPE ("signalled"), a
        "crash" report, a "stray" file, no answer ("mute"), no exit command ("no-after").
        """
        wrong, life = self.complaints, self.life
        assert life.launcher is not None
        after = (read_if_there(self.directory / "after") or b"").count(b"ran")
        ran = (self.directory / "ran").exists()
        files = {
            "exit": read_if_there(life.exit_dir / life.cid),
            "persist": read_if_there(life.persist_dir / "exit"),
        }
        numbers = [answer["data"] for answer in self.answers]
        if life.launcher.returncode and "--sync" not in self.options:
            wrong += [f"answered {numbers}"] if any(n != -1 for n in numbers) else []
            wrong += ["the runtime ran"] if ran else []
            if not self.said.startswith((b"conmon: ", b"[conmon:")) or b"Traceback" in self.said:
                wrong.append(f"no word why, but {self.said!r}")
            wrong += ["exit files"] if any(files.values()) else []
        elif numbers[:1] == [-1]:
            wrong += [f"answered {numbers}"] if len(numbers) > 1 else []
            wrong += ["no word why"] if not ran and "message" not in self.answers[0] else []
            wrong += ["exit files"] if any(files.values()) else []
            wrong += [f"exit command: {after}"] if after > 1 else []
            if ran and not after and "no-after" not in tolerated:
                wrong.append("no exit command")
        else:
            right = [b"7", *([b"-1"] if "unknown" in tolerated else ())]
            right += [b"141"] if "signalled" in tolerated else []
            wrong += [f"{name} file: {it!r}" for name, it in files.items() if it not in right]
            wanted = [self.answers[0]["data"]] if numbers else []
            wanted += [int(files["exit"] or b"0")] if numbers and self.kind == "exec" else []
            if numbers != wanted and not (
                "mute" in tolerated and numbers == wanted[: len(numbers)]
            ):
                wrong.append(f"answered {numbers}")
            if not numbers and "mute" not in tolerated:
                wrong.append("no answer")
            if after != 1 and not (after == 0 and "no-after" in tolerated):
                wrong.append(f"exit command: {after}")
            wrong += self._judge_log(complete=bool(numbers) and "lost" not in tolerated)
        wrong += self._judge_files(tolerated)
        return wrong

    def _judge_log(self, *, complete: bool) -> list[str]:
        wrong, texts = [], []
        paths = [self.logs / name for name in ("ctr.log.2", "ctr.log.1", "old", "ctr.log")]
        for path in paths:
            content = read_if_there(path)
            if content:
                wrong += [f"torn end of {path.name}: {content!r}"] if content[-1:] != b"\n" else []
                texts.append(content)
        texts.sort(key=lambda text: text[:35])  # a file may be older than what came to be its .1
        found = {b"stdout": b"", b"stderr": b""}
        for line in b"".join(texts).splitlines():
            fields = line.split(b" ", 3)
            if len(fields) != 4 or len(fields[0]) != 35 or fields[2] not in (b"F", b"P"):
                wrong.append(f"torn record {line!r}")
            elif not fields[3].startswith(b"[lowconmon: "):
                found[fields[1]] += fields[3] + (b"\n" if fields[2] == b"F" else b"")
        for stream, name in ((b"stdout", b"out"), (b"stderr", b"err")):
            wanted = [line + name for line in LINES]
            if self.kind == "terminal":
                wanted = [line + end for line in LINES for end in (b"out", b"err")]
                wanted = [] if stream == b"stderr" else [b"typed", *wanted]
            lines = found[stream].splitlines()
            if lines != wanted and (complete or not _in_order(lines, wanted)):
                wrong.append(f"log of {stream.decode()}: {lines}")
        return wrong

    def _judge_files(self, tolerated: tuple[str, ...]) -> list[str]:
        life, wrong = self.life, []
        known = {
            life.bundle: {"ctl", "winsz"},
            life.exit_dir: {life.cid},
            life.persist_dir: {"exit", "exit.json"},
            self.logs: {"ctr.log", "ctr.log.1", "ctr.log.2", "old"},
        }
        for directory, names in known.items():
            there = set(os.listdir(directory)) - names
            if "conmon-crash" in there and "crash" not in tolerated:
                text = (read_if_there(directory / "conmon-crash") or b"").decode()
                wrong.append(f"crash: {text[-300:]}")
            there.discard("conmon-crash")
            if there and "stray" not in tolerated:
                wrong.append(f"left in {directory.name}: {sorted(there)}")
        here = {path.name for path in self.directory.iterdir() if ".conmon" in path.name}
        if here and "stray" not in tolerated:
            wrong.append(f"left: {sorted(here)}")
        return wrong


RAN = 'open(os.path.dirname(os.path.abspath(__file__)) + "/ran", "w").close()'


def _in_order(found: list[bytes], wanted: list[bytes]) -> bool:
    """Tell whether *found* is a part of *wanted* in its order, nothing twice."""
    rest = iter(wanted)
    return all(line in rest for line in found)


def sites(kind: str) -> dict[tuple[str, str], int]:
    """Return how often a life of *kind* that meets no fault makes each call at each site."""
    with tempfile.NamedTemporaryFile(prefix="walk-", dir="/tmp") as file:
        with Walk(kind, f"record={file.name}") as walk:
            wrong = walk.run().judge()
        assert wrong == [], f"without a fault: {wrong}"
        found: dict[tuple[str, str], int] = {}
        for line in file.read().decode().splitlines():
            call, _, site = line.split()
            found[call, site] = found.get((call, site), 0) + 1
        return found


def steps(
    found: dict[tuple[str, str], int],
    walked: Container[tuple[str, str]] = (),
    *,
    every: bool = False,
) -> Iterator[tuple[str, str, str]]:
    """Yield (call, spec, tolerated words): each errno of fault_table.ROWS at each site.

    Of sites that were *walked* in another kind of life only the first errno. *every*: each of a
    site's calls and not its first alone, and all with an errno that nobody expects, too.
    """
    for (call, site), count in found.items():
        row = row_of(call, site)
        errnos = row[0].split() if row else []
        for errno in errnos[:1] if (call, site) in walked else errnos:
            how = "shorten=1" if errno == "=1" else f"errno={errno}"
            for nth in range(1, count + 1 if every else 2):
                yield call, f"{call}:{how}:at={site}:nth={nth}", row[1] if row else ""
        if every and not cannot_fail(call, site) and "launch" not in site:
            how = f"errno={UNEXPECTED}:at={site}"
            yield call, f"{call}:{how}", "crash lost mute stray unknown signalled no-after"


def walk(kind: str, spec: str, tolerated: str) -> list[str]:
    """Live a life of *kind* with the faults of *spec*; return what is not acceptable in it."""
    with Walk(kind, spec) as one:
        return [f"{kind} {spec}: {wrong}" for wrong in one.run().judge(*tolerated.split())]


def main(kinds: Sequence[str] = KINDS, only: str = "", *, every: bool = True) -> int:
    """Walk all of it and print what is not acceptable, and what took long."""
    lives, failed = 0, 0
    for kind in kinds:
        for call, spec, tolerated in steps(sites(kind), every=every):
            if only in ("", call):
                began = time.monotonic()
                wrong = walk(kind, spec, tolerated)
                lives, failed = lives + 1, failed + bool(wrong)
                print("".join(f"{line}\n" for line in wrong), end="", flush=True)
                if time.monotonic() - began > SLOW:
                    print(f"{kind} {spec} took {time.monotonic() - began:.1f} s", flush=True)
    print(f"{lives} lives, {failed} not acceptable")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:2] or KINDS, (sys.argv[2:] or [""])[0]))
