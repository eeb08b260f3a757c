"""Be CRI-O towards the monitor: its command lines, descriptors, waits and readings, step by step.

`create` is CreateContainer of CRI-O's runtime_oci.go, `exec_sync` ExecSyncContainer, `reopen_log`
ReopenContainerLog, `ExitMonitor` StartExitMonitor, `probe` ProbeMonitor. The legacy API throughout.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.support.kubelet import Watch, texts
from tests.support.life import DEADLINE, Life, read_if_there
from tests.support.witness import Inotify, isolated

NAME = "k8s_box_pod_namespace_0b7a_0"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
OUTPUT_MAX = 16777216  # of ExecSync; CRI-O's own limit
AN_ID = re.compile(r"[0-9a-f]{64}")

# Go's ExtraFiles are 3 and up, and MonitorEnv is a short list; bash takes numbers of two digits.
HAND_OVER = """
environment=(PATH={path} _OCI_SYNCPIPE=3)
exec 60<&"$_OCI_SYNCPIPE" {{_OCI_SYNCPIPE}}<&-
if [ "$_OCI_STARTPIPE" ]; then
    environment+=(_OCI_STARTPIPE=4)
    exec 61<&"$_OCI_STARTPIPE" {{_OCI_STARTPIPE}}<&- 4<&61 61<&-
fi
exec 3<&60 60<&-
exec env -i "${{environment[@]}}" "$@"
"""


class Result(NamedTuple):
    """What ExecSync came to: the answer, and what the log says was printed."""

    exit_code: int
    message: str | None
    stdout: bytes
    stderr: bytes
    status: int  # of the process that CRI-O started


def crio_life(directory: Path, number: int = 0) -> Life:
    """Return a life whose id and paths are as CRI-O makes them."""
    directory.mkdir(exist_ok=True)
    life = Life(directory, cid=f"{number:064x}")
    life.conmon_pid_file = life.bundle / "conmon-pidfile"
    life.pid_file = life.bundle / "pidfile"
    life.environment = {"PATH": PATH}
    hand_over = HAND_OVER.format(path=PATH)
    life.command = ["bash", "-c", hand_over, "crio", *isolated()]
    return life


def create_arguments(life: Life, sockets: Path, *more: str) -> list[str]:
    """Return the options of CreateContainer, *more* behind them."""
    options = ["-b", str(life.bundle), "-c", life.cid, "--exit-dir", str(life.exit_dir)]
    options += ["-l", str(life.log), "--log-level", "info", "-n", NAME]
    options += ["-P", str(life.conmon_pid_file), "-p", str(life.pid_file)]
    options += ["--persist-dir", str(life.persist_dir), "-r", str(life.runtime)]
    options += ["--runtime-arg", f"--root={life.directory}/root"]
    options += ["--socket-dir-path", str(sockets), "--syslog", "-u", life.cid]
    return [*options, *more]


def begin_create(life: Life, sockets: Path, *more: str) -> None:
    """Start the monitor of a container; it waits for the word that it is in its cgroup."""
    life.start(
        raw=create_arguments(life, sockets, *more),
        sync_kind=socket.SOCK_STREAM,
        start_pipe=True,
        wait=False,
        cwd=life.bundle,
        process_group=0,
    )


def create(life: Life, sockets: Path, *more: str) -> int:
    """Create a container and return its pid. Raises AssertionError with the message, if any."""
    begin_create(life, sockets, *more)
    assert life.launcher is not None
    os.write(life.start_pipe, b"\0")
    out, err = life.launcher.communicate(timeout=DEADLINE)
    assert (life.launcher.returncode, out, err) == (0, b"", b"")
    answer = life.message()
    assert answer is not None, "the monitor ended without an answer"
    assert answer["pid"] > 0, answer
    return int(answer["pid"])


def exec_sync(
    life: Life,
    sockets: Path,
    *more: str,
    sync: bool = True,
    timeout: int = 0,
    terminal: bool = False,
) -> Life:
    """Start a monitor as ExecSync does: no bundle, no uuid, files that are there, and empty."""
    life.pid_file = life.directory / "pidfile123456"
    for path in (life.log, life.pid_file):
        path.touch(0o600)
    spec = life.directory / "exec-process-"
    spec.write_text(json.dumps({"args": ["sh"], "terminal": terminal}))
    options = ["-c", life.cid, "-n", NAME, "-r", str(life.runtime), "-p", str(life.pid_file)]
    options += ["-e", "-l", str(life.log), "--runtime-arg", f"--root={life.directory}/root"]
    options += ["--socket-dir-path", str(sockets), "--log-level", "info"]
    options += ["--sync"] if sync else []
    options += ["--log-global-size-max", str(OUTPUT_MAX)]
    options += ["-t"] if terminal else []
    options += ["-T", str(timeout)] if timeout else []
    options += [*more, "--exec-process-spec", str(spec)]
    kind = socket.SOCK_STREAM
    return life.start(raw=options, sync_kind=kind, wait=False, cwd="/", process_group=0)


def result(life: Life) -> Result:
    """Wait for the end of an ExecSync as CRI-O does: process, its output's end, answer, log.

    CRI-O reads what the process prints to its end, so nobody else may hold that open.
    """
    assert life.launcher is not None
    assert life.sync is not None
    out, err = life.launcher.communicate(timeout=DEADLINE)
    assert (out, err) == (b"", b"")
    life.sync.settimeout(DEADLINE)
    said = b""
    while piece := life.sync.recv(65536):
        said += piece
    answer: dict[str, Any] = json.loads(said)  # one, or this fails
    assert set(answer) <= {"exit_code", "message"}, answer
    stdout, stderr = texts(life.log.read_bytes())
    number, text = answer["exit_code"], answer.get("message")
    return Result(number, text, stdout, stderr, life.launcher.returncode)


def reopen_log(life: Life) -> None:
    """Have the log reopened; wait for its creation or a write to it, as long as it takes."""
    with Watch(life.log.parent) as watch:
        write_control(life, "2 0 0\n")
        watch.wait(life.log.name)


def resize(life: Life, rows: int, columns: int) -> None:
    """Resize the terminal."""
    write_control(life, f"1 {rows} {columns}\n")


def write_control(life: Life, line: str) -> None:
    """Write a line to the control FIFO, opened as CRI-O opens it: waiting for a reader."""
    with (life.bundle / "ctl").open("w") as control:
        control.write(line)


def attach(life: Life, sockets: Path) -> socket.socket:
    """Return a client of the container's, which came by the link in the socket directory."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    life.clients.append(client)
    client.settimeout(DEADLINE)
    directory = os.open(sockets, os.O_PATH)
    try:
        (name,) = os.listdir(sockets)
        client.connect(f"/proc/self/fd/{directory}/{name}/attach")
    finally:
        os.close(directory)
    return client


def probe(life: Life) -> int | None:
    """Return the start time of the process that the monitor's pid file names, None if it is gone."""
    pid = int(life.conmon_pid_file.read_bytes())
    fields = (read_if_there(Path(f"/proc/{pid}/stat")) or b"").rpartition(b")")[2].split()
    return int(fields[19]) if fields and fields[0] not in (b"Z", b"X") else None


class ExitMonitor:
    """Watches the directory of exit files; what looks like an id is read at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._events = Inotify(directory)

    def __enter__(self) -> Self:
        self._events.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._events.__exit__(*exception)

    def wait(self, count: int = 1) -> dict[str, int]:
        """Wait for so many containers' ends; return the status of each id."""
        found: dict[str, int] = {}
        deadline = time.monotonic() + DEADLINE
        while len(found) < count:
            left = max(deadline - time.monotonic(), 0)
            assert select.select([self._events.fd], [], [], left)[0], f"only {found}"
            for kind, name in self._events.events():
                # fsnotify's Create: CRI-O looks each name up among its containers.
                if kind in (Inotify.CREATE, Inotify.MOVED_TO) and AN_ID.fullmatch(name):
                    assert name not in found, "told twice"
                    found[name] = int((self._directory / name).read_bytes())
        return found
