"""Fetch packages of any architecture and suite, and unpack them; the host's apt is left alone.

Laws. The mirror is the one that the host's own sources name. Indexes and packages are kept in
${XDG_CACHE_HOME:-~/.cache}/lowconmon, outside the checkout, and used by one at a time.
"""

from __future__ import annotations

import fcntl
import lzma
import os
import re
import subprocess
import urllib.parse
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lowconmon"
_INDEX_AGE_S = 20 * 3600
_CONFIGURATION = """\
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "{home}";
Dir::State::Lists "{home}/lists";
Dir::State::status "{home}/status";
Dir::Cache "{home}";
Dir::Cache::archives "{home}/archives";
Dir::Etc::SourceList "{home}/sources.list";
Dir::Etc::SourceParts "{home}/etc";
Dir::Etc::Preferences "{home}/preferences";
Dir::Etc::PreferencesParts "{home}/etc";
"""


class Failure(Exception):  # noqa: N818 - not of the program
    """Why an architecture cannot be run."""


def mirror() -> str:
    """Return where the host gets Debian from."""
    etc = Path("/etc/apt")
    texts = [path.read_text() for path in [etc / "sources.list", *etc.glob("sources.list.d/*")]
             if path.is_file()]  # fmt: skip
    for text in texts:
        for line in text.splitlines():
            found = re.match(r"(?:deb(?: \[[^]]*\])?|URIs:)\s+(http\S+/debian)/?(?:\s|$)", line)
            if found:
                return found[1]
    raise Failure("no source in /etc/apt names a Debian mirror")


class NotServed(Failure):
    """The mirror does not give what is needed, today."""


class Suite:
    """One suite for one architecture."""

    def __init__(self, suite: str, architecture: str) -> None:
        self.name = f"{suite}-{architecture}"
        self.home = CACHE / self.name
        self.release, self._architecture = suite, architecture

    def fetch(self, *packages: str, alone: bool = False) -> list[Path]:
        """Return the files of *packages* and (but for *alone*) of what they depend on.

        One of them may be a file, with a / in its name: then what it depends on is fetched.
        """
        with self._locked():
            verb = ["download"] if alone else ["install", "--download-only", "-y"]
            # It lists what it would fetch: into an empty cache, everything.
            empty = f"Dir::Cache::archives={self.home / 'empty'}"
            listed = self._apt("get", "-qq", "-o", empty, "--print-uris", *verb, *packages)
            names = re.findall(r"^'(?!file:)([^']+)' (\S+)", listed, re.MULTILINE)
            archives = self.home / "archives"
            if missing := [url for url, name in names if not (archives / name).exists()]:
                self._apt("get", "-qq", *verb, *packages, cwd=archives)
            files = [archives / name for _, name in names]
            # `download` names a file as it is in the pool, and %3a for the colon of an epoch.
            return [self._existing(path, missing) for path in files]

    def depends(self, package: str) -> list[str]:
        """Return what *package* directly depends on."""
        with self._locked():
            return re.findall(
                r"^  Depends: (\S+)$", self._apt("cache", "depends", package), re.MULTILINE
            )

    def _existing(self, path: Path, missing: list[str]) -> Path:
        candidates = [path, path.with_name(urllib.parse.quote(path.name, safe="+~"))]
        for candidate in candidates:
            if candidate.exists():
                return candidate
        raise Failure(f"{self.name}: {path.name} was not fetched: {missing}")

    def _apt(self, program: str, *words: str, cwd: Path | None = None) -> str:
        done = subprocess.run(
            [f"apt-{program}", *words],
            env={**os.environ, "APT_CONFIG": str(self.home / "apt.conf"), "LC_ALL": "C"},
            capture_output=True,
            text=True,
            cwd=cwd,
            timeout=900,
            check=False,
        )
        if done.returncode:
            raise NotServed(f"apt-{program} {' '.join(words)} ({self.name}): {done.stderr.strip()}")
        return done.stdout

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the cache of this suite, with an index that is not too old."""
        for name in ("lists/partial", "archives/partial", "empty/partial", "etc"):
            (self.home / name).mkdir(parents=True, exist_ok=True)
        with (self.home / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            (self.home / "status").touch()
            (self.home / "preferences").touch()
            (self.home / "sources.list").write_text(f"deb {mirror()} {self.release} main\n")
            text = _CONFIGURATION.format(architecture=self._architecture, home=self.home)
            (self.home / "apt.conf").write_text(text)
            stamp = self.home / "updated"
            now = (self.home / "lock").stat().st_mtime  # just opened for writing
            if not stamp.exists() or now - stamp.stat().st_mtime > _INDEX_AGE_S:
                self._apt("get", "-qq", "update")
                stamp.touch()
            yield


def first_suite(suites: tuple[str, ...], architecture: str) -> Suite:
    """Return the first of *suites* whose index the mirror gives whole."""
    failures = []
    for name in suites:
        suite = Suite(name, architecture)
        try:
            suite.depends("python3")
        except NotServed as failure:
            failures.append(str(failure))
        else:
            return suite
    raise NotServed("\n".join(failures))


def interpreter(suite: Suite) -> str:
    """Return the `python3.N` of a suite's python3."""
    (name,) = [it for it in suite.depends("python3") if re.fullmatch(r"python3\.\d+", it)]
    return name


def link_flags(python: str, root: Path, link: Path) -> str:
    """Make *link*, a directory to link the libpython below *root* from; return the flags for that."""
    (library,) = root.glob(f"usr/lib/*/lib{python}.so.1.0")
    link.mkdir()
    (link / f"lib{python}.so").symlink_to(library)
    return f"-L{link} -Wl,--unresolved-symbols=ignore-in-shared-libs"


def unpack(debs: list[Path], root: Path) -> dict[Path, list[str]]:
    """Unpack *debs* over *root*, where links stay links; return the paths in each."""
    paths = {}
    for deb in debs:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as tar:
            command = ["tar", "-xv", "--quoting-style=literal", "--keep-directory-symlink", "-C"]
            done = subprocess.run(
                [*command, root], stdin=tar.stdout, stdout=subprocess.PIPE, text=True, check=True
            )
        if tar.returncode:
            raise Failure(f"{deb}: cannot be unpacked")
        paths[deb] = done.stdout.splitlines()
    return paths


def plain(path: Path) -> bytes:
    """Return a kernel module's bytes, as busybox can insert it."""
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
