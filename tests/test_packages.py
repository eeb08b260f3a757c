"""debian/ and pyproject.toml are in step with the tree: a quick look, `ci/deb --check` is the long one."""

from __future__ import annotations

import re
import tomllib
from collections import Counter

import pytest

import lowconmon
from lowconmon import VERSION_TEXT
from tests.support import ROOT

DEBIAN = ROOT / "debian"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = ("lowconmon", "lowconmon-conmon", "python3-lowconmon")
MADE = ("debian/completions/", "usr/")  # by the build
SECTION = {"8": "usr/share/man/man8"}


def lines(name: str) -> list[list[str]]:
    """Return the words of each line of a file below debian/, none when there is no such file."""
    path = DEBIAN / name
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def installed(package: str) -> list[str]:
    """Return the paths that a package has, but for /usr/share/doc; a directory as one path."""
    paths = []
    for source, *target in lines(f"{package}.install"):
        paths.append(f"{target[0]}/{source.rpartition('/')[2]}" if target else source)
    paths += [target for _, target in lines(f"{package}.links")]
    if package == "lowconmon-conmon":
        paths.append("usr/libexec/podman/conmon")  # debian/rules: the executable, or a link
    for (page,) in lines(f"{package}.manpages"):
        paths.append(f"{SECTION[page[-1]]}/{page.rpartition('/')[2]}.gz")
    return paths


def test_the_version_is_one() -> None:
    (latest,) = re.findall(r"\Alowconmon \(([^)]+)-[^-)]+\) ", (DEBIAN / "changelog").read_text())
    assert latest == lowconmon.__version__ == PROJECT["project"]["version"]


def test_what_is_installed_by_hand_belongs_to_exactly_one_package() -> None:
    script = (ROOT / "ci/install").read_text()
    (programs,) = re.findall(r"^programs=\((.*)\)$", script, re.MULTILINE)
    names = programs.split() + re.findall(r"\bshare/[\w/-]+(?:\.8)?", script)
    by_hand = {f"usr/{name}" + ".gz" * name.endswith(".8") for name in names}
    packaged = Counter(path for package in PACKAGES for path in installed(package))
    assert set(packaged.values()) == {1}
    modules = "usr/lib/python3/dist-packages/lowconmon"  # by hand: in lib/lowconmon
    only_packaged = {modules, f"{modules}-*.egg-info", f"{modules}_tools", "usr/bin/conmon"}
    assert set(packaged) == by_hand | only_packaged


def test_the_launchers_are_those_that_are_installed_by_hand_but_for_the_path() -> None:
    script = (ROOT / "ci/install").read_text()
    (text,) = re.findall(r"<<END\n(#!.*?)^END$", script, re.MULTILINE | re.DOTALL)
    modules = {"lowconmon": "lowconmon.__main__", "hostrun": "lowconmon_tools.hostrun"}
    for name, module in modules.items():
        launcher = DEBIAN / "launchers" / name
        ours = re.sub(r"^sys\.path.*$", "PATH", launcher.read_text(), flags=re.MULTILINE)
        theirs = re.sub(r"^sys\.path.*$", "PATH", text, flags=re.MULTILINE)
        assert ours == theirs.replace("$module", module)
        assert launcher.stat().st_mode & 0o111 == 0o111


@pytest.mark.parametrize("kind", ["install", "manpages", "docs", "examples"])
def test_every_file_that_a_package_takes_is_there(kind: str) -> None:
    for package in PACKAGES:
        for source, *_ in lines(f"{package}.{kind}"):
            assert source.startswith(MADE) or (ROOT / source).exists(), source


def test_every_example_is_packaged() -> None:
    packaged = {name for (name,) in lines("python3-lowconmon.examples")}
    assert packaged == {str(path.relative_to(ROOT)) for path in (ROOT / "docs/examples").glob("*")}


def test_what_stands_aside_is_what_conmon_has_too_and_comes_back() -> None:
    diverted = []
    for script in ("preinst", "postrm"):
        text = (DEBIAN / f"lowconmon-conmon.{script}").read_text()
        diverted.append(re.findall(r"^ +for file in (.*); do$", text, re.MULTILINE))
    assert diverted[0] == diverted[1]
    assert {path.lstrip("/") for path in diverted[0][0].split()} == {
        path for path in installed("lowconmon-conmon") if "libexec" not in path
    }


def test_the_version_of_conmon_that_is_provided_is_what_the_program_says() -> None:
    (provided,) = re.findall(
        r"^Provides: conmon \(= (.*)\)$", (DEBIAN / "control").read_text(), re.MULTILINE
    )
    assert VERSION_TEXT.startswith(f"conmon version {provided}\n")


def test_every_directory_of_modules_is_packaged() -> None:
    modules = ROOT.glob("lowconmon*/**/*.py")
    found = {str(path.parent.relative_to(ROOT)) for path in modules}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {
        name.replace("/", ".") for name in found
    }


def test_the_tests_that_debian_runs_are_there_and_can_be_run() -> None:
    named = re.findall(r"^Tests: (.*)$", (DEBIAN / "tests/control").read_text(), re.MULTILINE)
    programs = {path.name for path in (DEBIAN / "tests").iterdir() if path.stat().st_mode & 0o100}
    assert programs == set(" ".join(named).split())
