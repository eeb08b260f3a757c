"""A house whose podman is a user's: no capability, a range of user ids, vfs storage, no cgroups.

The user exists in the house alone, whose /etc/passwd, subuid and subgid are its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.podman.podman_house import HOME, House, Podman, innermost

UID = 54321
USER = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "--inh-caps=-all")
ETC = {
    "passwd": f"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\nbox:x:{UID}:{UID}::{HOME}/home:/bin/sh\n",
    "group": f"root:x:0:\nnogroup:x:65534:\nbox:x:{UID}:\n",
    "subuid": "box:200000:65536\n",
    "subgid": "box:200000:65536\n",
}
# What crun cannot do with: cgroups of both versions side by side. runc cannot do without cgroups.
CONFIGURATION = """
[containers]
default_ulimits = []
netns = "none"
[engine]
runtime = "crun"
cgroup_manager = "cgroupfs"
events_logger = "file"
conmon_path = ["{program}"]
[network]
network_config_dir = "{home}/networks"
"""
FURNISH = """
set -e
chmod 1777 /dev/shm
mount --make-rshared /
mount -t cgroup2 none /sys/fs/cgroup
cp -a /etc {home}
mount --bind {home}/etc /etc
"""


def users_have_namespaces() -> bool:
    """Tell whether root may become a user here, and that user the root of a namespace."""
    if os.geteuid():
        return False
    command = [*USER, "unshare", "--user", "--map-root-user", "--mount", "true"]
    return subprocess.run(command, capture_output=True, timeout=20).returncode == 0


class RootlessHouse(House):
    """The namespaces of root's house, and a user in them."""

    driver = "vfs"
    user = USER

    def processes(self) -> dict[int, str]:
        """Return what lives inside, but for what holds podman's own user namespace."""
        found = super().processes()
        holders = ("podman pause ", "catatonit ")
        return {pid: name for pid, name in found.items() if not name.startswith(holders)}

    def _furnish(self, program: Path) -> None:
        home = self.path(HOME)
        self.environment["XDG_RUNTIME_DIR"] = str(HOME / "run")
        theirs = ("home", "networks", "root", "run", "runroot", "share", "tmp", "tmpdir", "work")
        for name in theirs:
            home.joinpath(name).mkdir(parents=True)
            os.chown(home / name, UID, UID)
        home.joinpath("run").chmod(0o700)
        furnish = ["sh", "-c", FURNISH.format(home=HOME)]
        subprocess.run([*self._enter, "--", *furnish], check=True, timeout=20)
        for name, text in ETC.items():
            home.joinpath("etc", name).write_text(text)
        super()._furnish(self._within_reach(program))

    def _within_reach(self, program: Path) -> Path:
        """Return the program, or a copy of it, that the user may execute."""
        test = [*self._enter, "--", *USER, "test", "-x", str(program)]
        if subprocess.run(test, timeout=20).returncode == 0:
            return program
        # An installed program knows where it is: its tree moves with it.
        tree, copy = program.parents[2], self.path(HOME / "program")
        shutil.copytree(tree, copy)
        moved = copy / program.relative_to(tree)
        moved.write_text(moved.read_text().replace(str(tree), str(HOME / "program")))
        return HOME / "program" / program.relative_to(tree)

    def configuration(self, program: Path) -> str:
        """Return podman's configuration."""
        return CONFIGURATION.format(program=program, home=HOME)


class RootlessPodman(Podman):
    """What a test does with a podman that is no root's."""

    def child(self, process: subprocess.Popen[bytes]) -> int:
        return innermost(super().child(process))

    def check_nothing_is_left(self, seconds: float = 10) -> None:
        """Look where crun and the storage of this house keep their things, too."""
        super().check_nothing_is_left(seconds)
        left = list(self.house.path(HOME / "run/crun").glob("*"))
        _image, *more = self.house.path(HOME / "root/vfs/dir").iterdir()
        assert not left + more, left + more

    def _with_cgroup(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        if arguments[0] not in {"run", "create"}:
            return arguments
        return (arguments[0], "--cgroups=disabled", *arguments[1:])
