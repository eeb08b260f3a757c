"""Make Debian packages of the checkout, in .work/deb: ci/deb [--check] ARCHITECTURE... | all.

Laws. Each is built twice, in other directories, under another umask, locale and time zone: both must
be equal byte for byte, and lintian may have neither errors nor warnings. What is for all
architectures, and the source, comes from the machine's own; the others are cross built, with the
Python headers of their own suite. Missing packages are installed (as root; else it says which).
"""

from __future__ import annotations

import argparse
import filecmp
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .guests.architectures import ARCHITECTURES
from .guests.debs import Failure, first_suite, interpreter, link_flags, unpack

CHECKOUT = Path(__file__).resolve().parents[1]
OUT = CHECKOUT / ".work/deb"
_TOOLS = (
    "build-essential debhelper dh-python libpython3-dev lintian python3-cffi python3-setuptools"
)
_KEPT = (".deb", ".dsc", ".tar.gz", ".tar.xz")
_UNLIKE = (
    ("a", 0o022, {"LC_ALL": "C.UTF-8", "TZ": "UTC"}),
    ("another/directory", 0o027, {"LC_ALL": "C", "TZ": "Pacific/Kiritimati"}),
)


def run(*command: str | Path, umask: int = 0o022, cwd: Path = CHECKOUT, **more: str) -> str:
    """Return what a program prints. Raises Failure with all of it, if its status is not 0."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={"HOME": os.environ.get("HOME", "/"), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **more},
        umask=umask,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise Failure(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def install_missing(foreign: list[str]) -> None:
    """Install what the builds need."""
    wanted = _TOOLS.split()
    for name in foreign:
        compiler = ARCHITECTURES[name].compiler.replace("_", "-")
        wanted += [f"gcc-{compiler}", f"libc6-dev-{name}-cross"]
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *wanted],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    missing = sorted({*wanted} - {*re.findall(r"^(\S+) installed$", listed.stdout, re.MULTILINE)})
    if missing and os.geteuid():
        raise Failure(f"these Debian packages are needed: {' '.join(missing)}")
    if missing:
        apt = ("apt-get", "-q", "-o", "DPkg::Lock::Timeout=300")
        run(*apt, "update")
        run(*apt, "install", "-y", "--no-install-recommends", *missing,
            DEBIAN_FRONTEND="noninteractive")  # fmt: skip


def take_source(top: Path) -> None:
    """Put the checkout, changes that are not committed included, and its tarball below *top*."""
    version = run("dpkg-parsechangelog", "-S", "Version").strip().rpartition("-")[0]
    epoch = run("dpkg-parsechangelog", "-S", "Timestamp").strip()
    tree = top / f"lowconmon-{version}"
    listed = run("git", "ls-files", "-z", "-co", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (CHECKOUT / name).is_file():  # a deleted file is listed too
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, tree / name)
    run(
        *("tar", "--sort=name", f"--mtime=@{epoch}", "--owner=0", "--group=0", "--numeric-owner"),
        *("--mode=u=rwX,go=rX", "--exclude=./debian", f"--transform=s,^[.],{tree.name},"),
        *("--use-compress-program=gzip -9n", "-cf", top / f"lowconmon_{version}.orig.tar.gz", "."),
        cwd=tree,
    )


def fetch(architecture: str, headers: Path, libraries: Path) -> dict[str, str]:
    """Unpack an architecture's headers and libraries; return what tells a build where they are."""
    suite = first_suite(ARCHITECTURES[architecture].suites, architecture)
    python = interpreter(suite)
    headers.mkdir(parents=True)
    libraries.mkdir()
    unpack(suite.fetch(f"lib{python}-dev", alone=True), headers)
    packages = {name: libraries / name for name in ("libc6", f"lib{python}")}
    for name, directory in packages.items():
        run("dpkg-deb", "-R", *suite.fetch(name, alone=True), directory)
    include = headers / "usr/include"
    # Their paths would be in the debugging information, and that in the build's id.
    flags = f"-I{include / python} -I{include} -ffile-prefix-map={headers}=headers"
    return {
        "DEB_CPPFLAGS_APPEND": flags,
        "LIBPYTHON": link_flags(python, packages[f"lib{python}"], headers / "link"),
        "LIBRARIES": " ".join(map(str, packages.values())),
    }


def build(
    architecture: str, native: str, source: Path, work: Path, profiles: tuple[str, ...]
) -> list[Path]:
    """Build *source* twice below *work*; return the files of the first build. Raises Failure when they differ."""
    more = {"DEB_BUILD_OPTIONS": "noautodbgsym"}
    command = ["dpkg-buildpackage", "-us", "-uc", "-F"]
    if profiles:
        command.insert(1, f"-P{','.join(profiles)}")
    if architecture != native:
        more = {"DEB_BUILD_OPTIONS": "noautodbgsym nocheck"}
        more |= fetch(architecture, work / "headers", work / "libraries")
        # -d: they are where no package manager looks
        command = [
            *command[:-1],
            "-B",
            "-d",
            f"-a{architecture}",
            f"-P{','.join(('cross', 'nocheck', *profiles))}",
        ]
    made = []
    for name, umask, unlike in _UNLIKE:
        top = work / name
        shutil.copytree(source, top)
        (tree,) = top.glob("*/")
        run(*command, cwd=tree, umask=umask, **more, **unlike)
        made.append({path.name: path for path in top.iterdir() if path.name.endswith(_KEPT)})
    one, other = made
    unequal = [name for name in one.keys() | other.keys()
               if not (name in one and name in other)
               or not filecmp.cmp(one[name], other[name], shallow=False)]  # fmt: skip
    if unequal:
        raise Failure(f"{architecture}: two builds differ: {' '.join(sorted(unequal))}")
    if architecture != native:  # its source tarball is the same, and made by the native build
        one = {name: path for name, path in one.items() if name.endswith(".deb")}
    return [Path(shutil.copy(path, OUT)) for path in one.values()]


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="ci/deb", description=__doc__)
    add = parser.add_argument
    add("architectures", nargs="+", choices=["all", *ARCHITECTURES], metavar="ARCHITECTURE")
    add("--script", action="store_true", help="conmon is a script: for a suite of another Python")
    add("--check", action="store_true", help="then install, use, upgrade and remove the machine's "
        "own in a clean Debian (ci/deb-check), and in another go the README's way (ci/podman-check)")  # fmt: skip
    options = parser.parse_args()
    native = run("dpkg", "--print-architecture").strip()
    wanted = [name for name in ARCHITECTURES if {name, "all"} & {*options.architectures}]
    if options.check and native not in wanted:
        wanted.append(native)
    profiles = ("pkg.lowconmon.script",) if options.script else ()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    try:
        install_missing([name for name in wanted if name != native])
        made = []
        with tempfile.TemporaryDirectory(prefix="lowconmon-deb-") as directory:
            work = Path(directory)
            take_source(work / "source")
            for name in wanted:
                begun = time.monotonic()
                files = build(name, native, work / "source", work / name, profiles)
                made += [path for path in files if path.suffix in (".deb", ".dsc")]
                names = " ".join(sorted(path.name for path in files))
                seconds = f"{time.monotonic() - begun:.0f} s"
                print(f"{name}: {names}: two builds are equal ({seconds})", flush=True)
        print(run("lintian", "--allow-root", "--no-cfg", "--fail-on=error,warning", *made), end="")
        print("lintian: no errors, no warnings", flush=True)
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        print(f"ci/deb: {failure}", file=sys.stderr)
        return 1
    if options.check:
        for arguments in (["--bring", ".work/deb", "ci/deb-check"], ["ci/podman-check"]):
            done = subprocess.run([CHECKOUT / "ci/clean-root", *arguments], check=False)
            if done.returncode:
                return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
