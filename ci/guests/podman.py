"""Run lowconmon under the newest stable Debian's own podman and systemd: `ci/arch podman5`.

Laws. As for every guest no maintainer script of Debian's packages runs: what they would do stands in
_unpack_root, in files below ci/guests/podman-root, and in the job. But ours are installed by dpkg, in
the guest: apt is asked for podman and them, and brings no conmon. Debian's comes when they go, in the end.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

from .architectures import ARCHITECTURES, Architecture
from .debs import Failure
from .image import CHECKOUT, Image, run as call
from .machine import Guest, Result, attempt, read

NAME = "podman5"
_AMD64 = ARCHITECTURES["amd64"]
# What processors have had since is more work for an emulator than it saves.
_CPU = "qemu64"
_DEBIAN = replace(
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
_PACKAGES += ["uidmap", "passt", "netavark", "criu", "libcriu2"]
_PACKAGES += ["busybox-static", "jq", "bash", "coreutils", "dash", "findutils", "grep", "kmod"]
_PACKAGES += ["mount", "procps", "sed", "util-linux"]
_PACKAGES += ["gzip", "tar"]  # CRIU packs a tmpfs with them
_PACKAGES += ["dpkg", "diffutils", "libc-bin"]
_FILES = Path(__file__).with_name("podman-root")
_DISK_MB = 3000
_LAST_LINES = 60
_TESTS = ["tests/guest_podman"]
# A login would write on the console; the others take seconds for nothing.
_MASKED = ["serial-getty@.service", "getty-static.service", "ldconfig.service"]
_MASKED += ["systemd-journal-catalog-update.service"]


class PodmanImage(Image):
    """An image whose first process is systemd."""

    disk_mb = _DISK_MB

    def __init__(self, architecture: Architecture, work: Path) -> None:
        super().__init__(architecture, work)
        call(CHECKOUT / "ci/deb", "--script", "amd64")  # its Python is newer than ours
        self._ours = list((CHECKOUT / ".work/deb").glob("*.deb"))
        self.packages = [*_PACKAGES, *map(str, self._ours)]

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
        _tell_dpkg(self._unpacked, root / "var/lib/dpkg")
        linger = root / "var/lib/systemd/linger"
        linger.mkdir(parents=True)
        (linger / _USER).touch()

    def _install(self) -> None:
        names = {deb.name for deb in self._unpacked}
        if found := [name for name in names if name.startswith("conmon_")]:
            raise Failure(f"apt takes {found} for a podman that has our packages")
        conmon = [deb for deb in self._suite.fetch("conmon") if deb.name not in names]
        for folder, debs in (("ours", self._ours), ("conmon", conmon)):
            (self._root / "guest" / folder).mkdir()
            for deb in debs:
                shutil.copy(deb, self._root / "guest" / folder)
        self._bring_tests()

    def _make_kernel(self) -> None:
        super()._make_kernel()
        guest = self._root / "guest"
        (guest / "init").unlink()  # what the initramfs starts
        (guest / "init").symlink_to("../usr/lib/systemd/systemd")
        shutil.copy(Path(__file__).with_name("podman-job"), guest / "job")
        modules = self._work / "kernel-root/usr/lib/modules"
        shutil.copytree(modules, self._root / "usr/lib/modules", symlinks=True)


def _tell_dpkg(unpacked: dict[Path, list[str]], home: Path) -> None:
    """Write what dpkg would know, had it installed what was unpacked."""
    for name in ("info", "updates"):
        (home / name).mkdir(parents=True, exist_ok=True)
    (home / "info/format").write_text("1\n")  # architectures are in names
    with (home / "status").open("w") as status:
        for deb, paths in unpacked.items():
            fields = call("dpkg-deb", "--field", deb)
            known = dict(re.findall(r"^([\w-]+): (.*)", fields, re.MULTILINE))
            status.write(f"{fields}Status: install ok installed\n\n")
            name = known["Package"]
            if known.get("Multi-Arch") == "same":
                name += f":{known['Architecture']}"
            lines = [path.removeprefix(".").rstrip("/") or "/." for path in paths]
            (home / f"info/{name}.list").write_text("\n".join([*lines, ""]))


def run(arguments: list[str], limit_s: float) -> Result:
    """Make the image, boot it, and let it run pytest with *arguments*, as root and as a user."""
    return attempt(GUEST, arguments or _TESTS, limit_s)


def _read(one: Architecture, result: Result) -> None:
    """Take the facts out of the console's text. Raises Failure."""
    text, failures = result.console, list[str]()
    facts = re.search(r"^##GUEST .* podman version (\S+)", text, re.MULTILINE)
    for user in ("root", _USER):
        said = "\n".join(re.findall(rf"^{user}: (.*)", text, re.MULTILINE))
        part = Result(user, console=f"{facts[0] if facts else ''}\n{said}\n")
        try:
            read(one, part)
        except Failure as failure:
            failures.append(f"{user}: {failure}")
        passed = part.counts.get("passed", 0)
        result.kernel, result.python = part.kernel, part.python
        result.order, result.bits = part.order, part.bits
        result.containers[f"podman {facts[1] if facts else '-'} as {user}"] = passed
        result.counts["passed"] = result.counts.get("passed", 0) + passed
        result.again += [f"{user}: {test}" for test in part.again]
    if "##CONMON /usr/bin/conmon 0\n" not in text:
        failures.append("conmon did not come back")
    if failures:
        last = text.splitlines()[-_LAST_LINES:]
        failed = re.findall(r"^\w+: (?:FAILED|ERROR) .*", text, re.MULTILINE)
        raise Failure("\n".join([*failures, *last, *failed]))


GUEST = Guest(NAME, _DEBIAN, PodmanImage, _read)
