"""Fixtures for lives under real runtimes: whichever works with this kernel's cgroups, and hostrun."""

from __future__ import annotations

import collections
import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.life.conftest import gate, life
from tests.life.test_hostrun_lives import Container
from tests.support.life import DEADLINE, Life, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["gate", "life"]

UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()
REAL = "crun" if UNIFIED else "runc"  # crun refuses what is not cgroup v2 alone
RUNTIMES = (REAL, "hostrun")
_ran: collections.Counter[str] = collections.Counter()


class RealContainer(Container):
    """A container of crun or runc in the bundle of a life: busybox, and nothing else."""

    def __init__(self, life: Life, runtime: str) -> None:
        super().__init__(life)
        self.runtime = runtime
        life.script(f'#!/bin/sh\nexec {runtime} --root {self.root} "$@"\n')
        busybox = shutil.which("busybox")
        assert busybox
        for name in ("bin", "dev", "proc", "sys", "tmp"):
            (life.bundle / "rootfs" / name).mkdir(parents=True)
        binaries = life.bundle / "rootfs/bin"
        shutil.copy(busybox, binaries / "busybox")
        for name in ("cat", "kill", "seq", "sh", "sleep", "stty", "tail", "test"):
            (binaries / name).symlink_to("busybox")

    def configure(
        self, script: str, *, terminal: bool = False, memory: int = 0, **process: Any
    ) -> Container:
        """Write the configuration that the runtime itself proposes, with our process in it."""
        path = self.life.bundle / "config.json"
        path.unlink(missing_ok=True)
        spec = [self.runtime, "spec"]
        subprocess.run(spec, cwd=self.life.bundle, check=True, timeout=DEADLINE)
        config = json.loads(path.read_text())
        environment = ["PATH=/bin", "WHO=container"]
        ours = {"args": ["/bin/sh", "-c", script], "env": environment, "terminal": terminal}
        config["process"] |= {**ours, "cwd": "/", **process}
        config["linux"]["cgroupsPath"] = f"/{cgroup_of(self.life)}"
        if memory:
            limits = {"limit": memory, "swap": memory}
            config["linux"].setdefault("resources", {})["memory"] = limits
        path.write_text(json.dumps(config))
        return self


def cgroup_of(life: Life) -> str:
    """Return the name of the cgroup of a life under a real runtime."""
    return f"lowconmon-test-{life.directory.name}"


def memory_limit(life: Life) -> int:
    """Return the limit that the kernel has for the container's memory."""
    name = cgroup_of(life)
    path = f"{name}/memory.max" if UNIFIED else f"memory/{name}/memory.limit_in_bytes"
    return int(Path("/sys/fs/cgroup", path).read_text())


def make(life: Life, runtime: str) -> Container:
    """Return a container of the runtime, to be configured."""
    _ran[runtime] += 1
    return Container(life) if runtime == "hostrun" else RealContainer(life, runtime)


@pytest.fixture
def container(life: Life, request: pytest.FixtureRequest) -> Iterator[Container]:
    """Give a container of the runtime that the test's parameter names; delete it."""
    one = make(life, request.param)
    yield one

    def deleted() -> bool:  # a cgroup may be busy for a moment
        one.run("delete", "--force", life.cid)
        return not (one.root / life.cid).exists()

    wait_until(deleted, "the container is deleted")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Tell how many containers each runtime had."""
    if _ran:
        counts = ", ".join(f"{name} {count}" for name, count in sorted(_ran.items()))
        terminalreporter.write_line(f"containers: {counts}")
