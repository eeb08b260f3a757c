"""Play the manager of one container: what podman does around conmon, in the smallest form.

ci/demo calls it with its work directory and a runtime. Every step checks what it sees; the first
that is wrong ends the program with a traceback and status 1.
"""

from __future__ import annotations

import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

DEADLINE_S = 20
RECORD = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}[+-]\d\d:\d\d (stdout|stderr) ([FP]) (.*)"
)
EXPECTED = {
    "stdout": b"the container is ready\nit read: hello\nno newline at the end",
    "stderr": b"this goes to stderr\n",
}


def say(text: str) -> None:
    """Print a heading."""
    print(f"\n== {text}", flush=True)


def expect(what: str, seen: object, expected: object) -> None:
    """End the demonstration when something is not as it should be."""
    if seen != expected:
        raise SystemExit(f"{what}: expected {expected!r}, got {seen!r}")


def wait_for_file(path: Path) -> bytes:
    """Return the content of a file that appears whole (it is renamed into place)."""
    end = time.monotonic() + DEADLINE_S
    while not path.exists():
        if time.monotonic() > end:
            raise SystemExit(f"{path} did not appear within {DEADLINE_S} s")
        select.select([], [], [], 0.01)
    return path.read_bytes()


def create(work: Path, runtime: str, cid: str) -> int:
    """Start the monitor, which creates the container; return the container's pid."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [
        *(f"{work}/prefix/libexec/podman/conmon", "--api-version", "1", "-c", cid, "-u", cid),
        *("-r", runtime, "--runtime-arg", "--root", "--runtime-arg", f"{work}/state"),
        *("-b", f"{work}/bundle", "-p", f"{work}/container.pid", "-P", f"{work}/monitor.pid"),
        *("--exit-dir", f"{work}/exits", "-l", f"k8s-file:{work}/log", "--full-attach", "-i"),
        *("--exit-command", "/usr/bin/touch", "--exit-command-arg", f"{work}/exit-command-ran"),
    ]
    print(" ".join(command))
    environment = {**os.environ, "_OCI_SYNCPIPE": str(theirs.fileno())}
    subprocess.run(command, env=environment, pass_fds=[theirs.fileno()], check=True)
    theirs.close()
    ours.settimeout(DEADLINE_S)
    answer = ours.recv(4096)
    ours.close()
    print(f"the monitor answers on the sync pipe: {answer.decode().strip()}")
    pid = json.loads(answer)["data"]
    if pid <= 0:
        raise SystemExit("the container was not created")
    return int(pid)


def attach(work: Path, start: list[str]) -> dict[str, bytes]:
    """Attach, start the container, talk to it; return what came on each stream."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.settimeout(DEADLINE_S)
    client.connect(f"{work}/bundle/attach")
    subprocess.run(start, check=True)
    streams = {"stdout": b"", "stderr": b""}
    asked = False
    while packet := client.recv(8193):
        name = {2: "stdout", 3: "stderr"}[packet[0]]
        streams[name] += packet[1:]
        print(f"  {name}: {packet[1:]!r}")
        if not asked and b"ready" in streams["stdout"]:
            asked = True
            print("  we send: b'hello\\n'")
            client.send(b"hello\n")
    client.close()
    return streams


def read_log(path: Path) -> dict[str, bytes]:
    """Show a log; return the text of each stream, every record checked."""
    streams = {"stdout": b"", "stderr": b""}
    content = path.read_bytes()
    expect("the log's last byte", content[-1:], b"\n")
    for line in content.split(b"\n")[:-1]:
        print(" ", line.decode())
        record = RECORD.fullmatch(line)
        if record is None:
            raise SystemExit(f"not a record: {line!r}")
        streams[record[1].decode()] += record[3] + (b"\n" if record[2] == b"F" else b"")
    return streams


def main(work: Path, runtime: str) -> None:
    """Live one container's life."""
    cid = f"lowconmon-demo-{os.getpid()}"
    (work / "exits").mkdir()
    say("Creating a container under the monitor, as podman does")
    pid = create(work, runtime, cid)
    monitor = os.pidfd_open(int(wait_for_file(work / "monitor.pid")))
    try:
        say("Attaching a client, then starting the container")
        talk = attach(work, [runtime, "--root", f"{work}/state", "start", cid])
        expect("what the client received", talk, EXPECTED)
        status = wait_for_file(work / "exits" / cid)
        if not select.select([monitor], [], [], DEADLINE_S)[0]:
            raise SystemExit("the monitor has not ended")
        say("The log")
        expect("the log's text", read_log(work / "log"), EXPECTED)
        say("The exit file, and what is left")
        print(f"  {cid}: {status.decode()}")
        expect("the exit file", status, b"7")
        expect("the exit command", (work / "exit-command-ran").exists(), expected=True)
        print("  the exit command ran; the monitor has ended")
    finally:
        delete = [runtime, "--root", f"{work}/state", "delete", "--force", cid]
        subprocess.run(delete, check=False)
        os.close(monitor)
    expect(f"process {pid}", Path(f"/proc/{pid}").exists(), expected=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
