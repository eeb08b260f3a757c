"""Measure lowconmon beside Debian's conmon, alternating.

Usage: python3 ci/measure.py [RUNS]

Time from the start of the program to the container's pid on the sync pipe, with a shell script as
the runtime, and the private memory of the monitor while the container waits: medians, and their
ratio. Needs `ci/test` (or `ci/install "$PWD/.work/prefix"`) to have been run.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.life import Life  # noqa: E402 - found by the path set above

PROGRAMS = {
    "lowconmon": str(ROOT / ".work/prefix/libexec/podman/conmon"),
    "conmon": "/usr/bin/conmon",
}


def measure(program: str) -> tuple[float, int]:
    """Return (ms to the pid, kB of private memory) of one life."""
    os.environ["LOWCONMON_PROGRAM"] = program
    directory = Path(tempfile.mkdtemp(prefix="measure-", dir="/tmp"))
    life = Life(directory)
    try:
        life.stub("exec sleep 60")
        start = time.monotonic()
        life.start(wait=False)
        life.pid()
        taken = (time.monotonic() - start) * 1000
        smaps = Path(f"/proc/{life.monitor_pid()}/smaps_rollup").read_text()
        return taken, sum(int(size) for size in re.findall(r"Private_\w+:\s+(\d+)", smaps))
    finally:
        life.end()
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Print the medians of each program and their ratios."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in PROGRAMS}
    for _ in range(runs):
        for name, program in PROGRAMS.items():
            found[name].append(measure(program))
    ours, theirs = (
        [statistics.median(column) for column in zip(*found[name], strict=True)]
        for name in PROGRAMS
    )
    for what, mine, other in zip(("ms to the pid", "kB private"), ours, theirs, strict=True):
        print(f"{what}: lowconmon {mine:.1f}, conmon {other:.1f}, ratio {mine / other:.1f}")


main()
