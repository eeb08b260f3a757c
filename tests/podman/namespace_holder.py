"""Hold a pid and mount namespace open for as long as standard input is.

Started as ``namespace_holder.py CGROUP_NAME``. Prints one line, the pid of the namespace's first
process as its starter sees it, once everything is mounted. When standard input ends, however the
starter died, the kernel kills every process inside, the mounts go with them, and the control
groups called CGROUP_NAME are removed.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")


def hold_from_outside(cgroup: str) -> int:
    """Start the inner half, wait for its end, remove the control groups."""
    # A Ctrl-C in the terminal is for pytest, which then closes our standard input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
    status = subprocess.call([*command, sys.executable, "-I", __file__, "--inside"])
    for group in CGROUPS.glob(f"*/{cgroup}"):
        for directory, _, _ in os.walk(group, topdown=False):
            remove(Path(directory))
    return status


def remove(group: Path) -> None:
    """Remove a control group; its last processes may be on their way out yet."""
    deadline = time.monotonic() + 10
    while True:
        try:
            return group.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def hold_inside() -> int:
    """Mount what podman must not share with the host, announce, reap until the input ends."""
    # The old /proc is still there, so the link shows the number that the outside knows.
    pid_outside = Path("/proc/self").readlink()
    subprocess.check_call(["mount", "-t", "proc", "proc", "/proc"])
    # /dev/shm holds libpod_lock, one for all storages; the last holds a cache for all.
    for directory in ("/run", "/dev/shm", "/var/lib/containers"):
        if Path(directory).is_dir():
            subprocess.check_call(["mount", "-t", "tmpfs", "tmpfs", directory])
    signal.signal(signal.SIGCHLD, _reap)
    print(pid_outside, flush=True)
    while os.read(0, 4096):
        pass
    return 0


def _reap(_number: int, _frame: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # none left


if __name__ == "__main__":
    sys.exit(hold_inside() if sys.argv[1] == "--inside" else hold_from_outside(sys.argv[1]))
