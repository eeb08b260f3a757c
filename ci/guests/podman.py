"""Run lowconmon under the newest stable Debian's own podman and systemd: `ci/arch podman5`.

Laws. As for every guest no maintainer script runs: what they would do stands in _furnish, in files
below ci/guests/podman-root, and in the job. The guest's own conmon stays in its place, unused: podman
finds lowconmon first, and a test sees to it that it did.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .architectures import ARCHITECTURES
from .debs import Failure, NotServed
from .image import Image
from .machine import boot

if TYPE_CHECKING:
    from collections.abc import Sequence

NAME = "podman5"
LIMIT_S = 1200
_AMD64 = ARCHITECTURES["amd64"]
# What is switched off costs an emulated processor a fifth of its time.
_CPU = "max,la57=off,pku=off,smap=off,smep=off"
_GUEST = replace(
    _AMD64,
    suites=("trixie",),
    machine=replace(
        _AMD64.machine,
        arguments=("-M", "q35", "-cpu", _CPU),
        # One processor: of two, emulated at the same time, one runs into what the other is
        # patching in the kernel (static keys), and it panics: "Oops: int3".
        memory_mb=2048,
        # norandmaps: programs at other addresses are translated anew, a third of the emulator's work.
        words="mitigations=off norandmaps",
    ),
)
_USER, _UID = "box", 54321
_PACKAGES = ["systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "podman", "crun"]
_PACKAGES += [
    "conmon",
    "uidmap",
    "passt",
    "netavark",
    "criu",
    "libcriu2",
    "python3",
    "python3-cffi-backend",
]
_PACKAGES += ["busybox-static", "jq", "bash", "coreutils", "dash", "findutils", "grep", "kmod"]
_PACKAGES += ["mount", "procps", "sed", "util-linux"]
_PACKAGES += ["gzip", "tar"]  # CRIU packs a tmpfs with them
_FILES = Path(__file__).with_name("podman-root")
_DISK_MB = 3000
_LAST_LINES = 60
_TESTS = ["tests/guest_podman"]
# A login would write on the console; the others take seconds for nothing.
_MASKED = ["serial-getty@.service", "getty-static.service", "ldconfig.service"]
_MASKED += ["systemd-journal-catalog-update.service"]


class PodmanImage(Image):
    """An image whose first process is systemd."""

    packages = _PACKAGES
    disk_mb = _DISK_MB

    def _unpack_root(self) -> None:
        super()._unpack_root()
        root = self._root
        shutil.copytree(_FILES, root, dirs_exist_ok=True, symlinks=True)
        etc = root / "etc"
        with (etc / "passwd").open("a") as passwd, (etc / "group").open("a") as group:
            passwd.write("messagebus:x:100:100::/nonexistent:/usr/sbin/nologin\n")
            passwd.write(f"{_USER}:x:{_UID}:{_UID}::/home/{_USER}:/bin/sh\n")
            group.write(f"messagebus:x:100:\n{_USER}:x:{_UID}:\n")
            group.write(f"systemd-journal:x:101:{_USER}\n")  # who may read the journal
        for name in ("subuid", "subgid"):
            (etc / name).write_text(f"{_USER}:200000:65536\n")
        (etc / "machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (etc / "hostname").write_text("guest\n")
        units = etc / "systemd/system"
        for name in _MASKED:
            (units / name).symlink_to("/dev/null")
        (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
        (units / "multi-user.target.wants").mkdir()
        (units / "multi-user.target.wants/guest.service").symlink_to("../guest.service")
        linger = root / "var/lib/systemd/linger"
        linger.mkdir(parents=True)
        (linger / _USER).touch()

    def _make_kernel(self) -> None:
        super()._make_kernel()
        guest = self._root / "guest"
        (guest / "init").unlink()  # what the initramfs starts
        (guest / "init").symlink_to("../usr/lib/systemd/systemd")
        shutil.copy(Path(__file__).with_name("podman-job"), guest / "job")
        modules = self._work / "kernel-root/usr/lib/modules"
        shutil.copytree(modules, self._root / "usr/lib/modules", symlinks=True)


@dataclass
class Result:
    """What the guest has shown."""

    kernel: str = "-"
    python: str = "-"
    podman: str = "-"
    passed: dict[str, int] = field(default_factory=dict)  # by user
    again: list[str] = field(default_factory=list)  # the tests that have failed once, then passed
    seconds: float = 0
    failure: str = ""
    tested: bool = True  # False: the mirror does not serve it today
    console: str = ""

    @property
    def line(self) -> str:
        """All of it in one line."""
        counts = ", ".join(f"{user} {count}" for user, count in self.passed.items()) or "-"
        what = f"podman {self.podman}, kernel {self.kernel}, Python {self.python}"
        return f"{NAME}: {what}: passed: {counts}; {self.seconds:.0f} s"


def show(logs: Path, arguments: Sequence[str] = (), *, as_served: bool) -> bool:
    """Run the guest, print what came of it; return whether it failed."""
    result = run(list(arguments))
    (logs / f"{NAME}.log").write_text(result.console)
    print(result.line, flush=True)
    for test in result.again:
        print(f"{NAME} again: {test}", flush=True)
    if result.failure:
        what = "FAILED" if result.tested else "NOT TESTED"
        print(f"{NAME} {what}: {result.failure}", flush=True)
    return bool(result.failure) and (result.tested or not as_served)


def run(arguments: list[str], limit_s: float = LIMIT_S) -> Result:
    """Make the image, boot it, and let it run pytest with *arguments*, as root and as a user."""
    result, begun = Result(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"lowconmon-{NAME}-", dir="/var/tmp") as directory:
        image = PodmanImage(_GUEST, Path(directory))
        try:
            image.make(arguments or _TESTS)
            result.console = boot(_GUEST, image, limit_s)
            _read(result)
        except (Failure, OSError, subprocess.SubprocessError) as error:
            result.failure, result.tested = str(error), not isinstance(error, NotServed)
    result.seconds = time.monotonic() - begun
    return result


def _read(result: Result) -> None:
    """Take the facts out of the console's text. Raises Failure."""
    text = result.console
    if guest := re.search(r"##GUEST (\S+) (\S+) podman version (\S+)", text):
        result.kernel, result.python, result.podman = guest.groups()
    for user in ("root", _USER):
        said = "\n".join(re.findall(rf"^{user}: (.*)", text, re.MULTILINE))
        counts = [int(count) for count in re.findall(r"^=+ .*?(\d+) passed", said, re.MULTILINE)]
        if counts and re.search(r"^##STATUS 0$", said, re.MULTILINE):
            result.passed[user] = sum(counts)
            names = re.findall(r"^PASSED (.+)$", said.partition("##AGAIN\n")[2], re.MULTILINE)
            result.again += [f"{user}: {name}" for name in names]
    if len(result.passed) < 2:
        found = re.findall(r"^\w+: (?:FAILED|ERROR) .*", text, re.MULTILINE)
        last = "\n".join([*found, *text.splitlines()[-_LAST_LINES:]])
        raise Failure(f"all passed as: {' and '.join(result.passed) or 'nobody'}\n{last}")
