"""The guest's own podman: no namespaces of ours, but its systemd, its journald and its control groups.

Laws. The tests run under systemd, as root or as a user with a manager of his own, and podman is called
as from a login: it does not know that a unit's process started it. Its configuration is where it looks
for it by itself, so that units and timers find the same containers. Below the slice where podman puts
its scopes lives nothing but what the tests have started.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

from tests.podman.podman_house import HOME, House, Podman, innermost
from tests.support import SLOWNESS

UID = os.geteuid()
CGROUPS = Path("/sys/fs/cgroup")
SLICE = CGROUPS / "machine.slice"
MANAGER: tuple[str, ...] = ("systemctl",)  # our service manager's command
UNITS = Path("/run/systemd/system")
QUADLETS = Path("/run/containers/systemd")
RUNTIME_DIRECTORY = Path("/run")
if UID:
    RUNTIME_DIRECTORY = Path(f"/run/user/{UID}")
    SLICE = CGROUPS / f"user.slice/user-{UID}.slice/user@{UID}.service/user.slice"
    MANAGER = ("systemctl", "--user")
    UNITS = RUNTIME_DIRECTORY / "systemd/user"
    QUADLETS = RUNTIME_DIRECTORY / "containers/systemd"
CONFIGURATION = """
[containers]
default_ulimits = ["nofile=20000:20000"]
netns = "host"
log_driver = "k8s-file"
[engine]
runtime = "crun"
cgroup_manager = "systemd"
events_logger = "file"
conmon_path = ["{program}"]
tmp_dir = "{home}/tmpdir"
"""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{home}/root"
runroot = "{home}/runroot"
"""
# What a user's podman leaves running, for its next call.
PAUSES = ("podman pause ", "catatonit ")


class GuestHouse(House):
    """The guest itself; only podman's files have a place of their own."""

    def _build(self) -> None:
        for path in HOME.iterdir():  # it is made for us: a user makes nothing in /run
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        pid, self._elders = os.getpid(), set[int]()
        while pid > 1:
            self._elders.add(pid)
            pid = _parent(pid)

    def _move_in(self) -> None:
        self._root = Path("/")
        self._enter = ["env", f"--chdir={HOME}/work"]
        self._ours = Path("/proc/self/cgroup").read_text()

    def _furnish(self, program: Path) -> None:
        self.environment["HOME"] = str(Path.home())
        self.environment["GOGC"] = "off"  # no podman here lives long enough to need it
        del self.environment["CONTAINERS_CONF"]
        etc = Path.home() / ".config/containers" if UID else Path("/etc/containers")
        etc.mkdir(parents=True, exist_ok=True)
        (etc / "containers.conf").write_text(self.configuration(program))
        (etc / "storage.conf").write_text(STORAGE.format(home=HOME))
        if UID:
            self.environment["XDG_RUNTIME_DIR"] = str(RUNTIME_DIRECTORY)
            self.environment["DBUS_SESSION_BUS_ADDRESS"] = f"unix:path={RUNTIME_DIRECTORY}/bus"
        super()._furnish(program)

    def command(self, *arguments: str, before: tuple[str, ...] = ()) -> list[str]:
        """Return the command line of a podman, *before* standing between it and us."""
        return [*self._enter, "--", *before, "podman", *arguments]

    def processes(self) -> dict[int, str]:
        """Return what podman's scopes hold, and what else the tests have started."""
        found = {}
        for directory in Path("/proc").iterdir():
            if not directory.name.isdigit() or int(directory.name) in self._elders:
                continue
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                cgroup = (directory / "cgroup").read_text()
                inside = f"/{SLICE.relative_to(CGROUPS)}/" in cgroup
                if not inside and cgroup != self._ours:
                    continue
                head, _, tail = (directory / "stat").read_text().rpartition(")")
                name = f"{head.partition('(')[2]} {tail.split()[0]}"
                if not (name.startswith(PAUSES) or _is_pause(directory)):
                    found[int(directory.name)] = name
        return found

    def mounts(self) -> list[str]:
        """Return the mount points below podman's directories."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        return [line.split()[4] for line in lines if line.split()[4].startswith(f"{HOME}/")]

    def close(self) -> None:
        """Remove what is left: the next house is built in the same place."""
        self.kill(*self.processes())
        shutil.rmtree(RUNTIME_DIRECTORY / "crun", ignore_errors=True)
        if UID:  # what his containers wrote belongs to others, and mounts are in his namespace
            self.call("podman", "system", "migrate")
            self.call("podman", "unshare", "rm", "-rf", str(HOME / "root"))
        elif mounts := self.mounts():
            self.call("umount", "--recursive", "--lazy", *mounts)

    def configuration(self, program: Path) -> str:
        """Return podman's configuration."""
        return CONFIGURATION.format(program=program, home=HOME)


class GuestPodman(Podman):
    """What a test does with the guest's podman."""

    house: GuestHouse

    def child(self, process: subprocess.Popen[bytes]) -> int:
        return innermost(process.pid)

    def scopes(self) -> list[str]:
        """Return what podman's slice holds but for a user's own pause process."""
        return sorted(path.name for path in SLICE.glob("libpod-*"))

    def manage(self, *arguments: str, check: bool = True) -> str:
        """Call our service manager."""
        done = subprocess.run(
            [*MANAGER, *arguments], capture_output=True, text=True, timeout=90 * SLOWNESS
        )
        assert not check or done.returncode == 0, (arguments, done)
        return done.stdout

    def check_nothing_is_left(self, seconds: float = 10) -> None:
        """Look where crun and systemd keep their things, too."""
        super().check_nothing_is_left(seconds)
        left = [*RUNTIME_DIRECTORY.glob("crun/[0-9a-f]*"), *self.scopes()]
        assert not left, left

    def _with_cgroup(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        return arguments


def _parent(pid: int) -> int:
    _, _, tail = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    return int(tail.split()[1])


def _is_pause(directory: Path) -> bool:
    return "/podman-pause-" in (directory / "cgroup").read_text()
