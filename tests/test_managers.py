"""docs/managers.md and its files, given to the programs that are here; podman's: tests/podman."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.support import ROOT, SLOWNESS, crio

PAGE = (ROOT / "docs/managers.md").read_text()
CONFIG = ROOT / "docs/config"
PODMAN, CRIO, UNIT = (CONFIG / name for name in ("containers.conf", "crio.conf", "box.service"))
DROP_IN = CONFIG / "crio.service.conf"
MANUAL = Path("/usr/share/man/man5/containers.conf.5.gz")  # of a package that podman depends on
# crio.conf(5), of [crio.runtime] and of a runtime in it: what the file may have
CRIO_KEYS = set(
    "default_runtime cgroup_manager log_size_max container_exits_dir"
    " container_attach_socket_dir runtimes".split()
)
RUNTIME_KEYS = set(
    "runtime_path runtime_type runtime_root monitor_path monitor_cgroup monitor_env".split()
)


def analyze(unit: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Let systemd read a unit, and what is dropped in beside it."""
    return subprocess.run(
        ["systemd-analyze", *arguments, unit],
        env={**os.environ, "SYSTEMD_UNIT_PATH": f"{unit.parent}:"},
        capture_output=True,
        text=True,
        timeout=60 * SLOWNESS,
        check=False,
    )


def verify(unit: Path) -> subprocess.CompletedProcess[str]:
    """Let systemd tell what is wrong with a unit."""
    return analyze(unit, "verify", "--man=no")


def hardening(unit: Path) -> set[str]:
    """Return the options of a unit that systemd counts as hardening."""
    done = analyze(unit, "security", "--offline=true", "--json=short")
    return {row["name"].rstrip("=") for row in json.loads(done.stdout) if row["set"]}


def rows() -> list[set[str]]:
    """Return the options in each row of the page's table, the good ones first."""
    section = PAGE.partition("\n## systemd\n")[2]
    found = re.findall(r"^\| (`[A-Z].*?) \|", section, re.MULTILINE)
    return [set(re.findall(r"`(\w+)", row)) for row in found]


def test_the_page_leads_to_every_file() -> None:
    linked = set(re.findall(r"\(config/([\w.]+)\)", PAGE))
    assert linked == {path.name for path in CONFIG.iterdir()}


def test_the_page_names_the_variables_that_the_manual_page_names() -> None:
    manual = (ROOT / "docs/lowconmon.8").read_text()
    assert set(re.findall(r"LOWCONMON_[A-Z_]+", PAGE)) == set(
        re.findall(r"LOWCONMON_[A-Z_]+", manual)
    )


def test_the_unit_is_one_that_systemd_takes(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    shutil.copy(UNIT, unit)
    done = verify(unit)
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("LockPersonality=", "LockPersonalty="))
    assert "LockPersonalty" in verify(unit).stderr, "it would have said so"


def test_the_unit_has_what_the_page_calls_good_and_nothing_that_it_warns_of() -> None:
    good, *others = rows()
    used = set(re.findall(r"^(\w+)=", UNIT.read_text(), re.MULTILINE))
    assert good <= used
    assert not used & set().union(*others)


def test_systemd_counts_as_hardening_what_the_page_calls_good(tmp_path: Path) -> None:
    good, *_ = rows()
    assert good
    bare = tmp_path / UNIT.name
    bare.write_text(re.sub(rf"^({'|'.join(good)})=.*\n", "", UNIT.read_text(), flags=re.MULTILINE))
    assert hardening(UNIT) - hardening(bare) == good


def test_the_file_for_crios_unit_is_one_that_systemd_takes_and_has_nothing_that_breaks(
    tmp_path: Path,
) -> None:
    unit = tmp_path / "crio.service"
    unit.write_text("[Service]\nExecStart=/bin/true\n")
    file = tmp_path / "crio.service.d" / "10-lowconmon.conf"
    file.parent.mkdir()
    shutil.copy(DROP_IN, file)
    done = verify(unit)
    assert (done.returncode, done.stderr) == (0, "")
    good, *_ = rows()
    used = set(re.findall(r"^(\w+)=", DROP_IN.read_text(), re.MULTILINE))
    assert used - good == {"TasksMax"}
    file.write_text(DROP_IN.read_text().replace("TasksMax=", "TaskMax="))
    assert "TaskMax" in verify(unit).stderr, "it would have said so"


@pytest.mark.parametrize("table", ["containers", "engine"])
def test_podmans_manual_page_names_each_key_in_its_table(table: str) -> None:
    source = gzip.decompress(MANUAL.read_bytes()).decode()
    heading = rf"^\.SH {table.upper()} TABLE$(.*?)^\.SH "
    (section,) = re.findall(heading, source, re.MULTILINE | re.DOTALL)
    named = set(re.findall(r"^\\fB(\w+)\\fP=", section, re.MULTILINE))
    assert set(tomllib.loads(PODMAN.read_text())[table]) <= named


def test_crio_gets_the_program_that_podman_gets_and_the_same_environment() -> None:
    runtime = tomllib.loads(CRIO.read_text())["crio"]["runtime"]
    engine = tomllib.loads(PODMAN.read_text())["engine"]
    (ours,) = runtime["runtimes"].values()
    assert set(runtime) <= CRIO_KEYS
    assert set(ours) == RUNTIME_KEYS
    assert ours["monitor_path"] == engine["conmon_path"][0]
    assert ours["monitor_env"] == engine["conmon_env_vars"]
    assert f"PATH={crio.PATH}" in ours["monitor_env"]
    assert runtime["default_runtime"] in runtime["runtimes"]


def test_the_program_is_where_the_packages_and_an_installation_by_hand_put_it() -> None:
    program = tomllib.loads(PODMAN.read_text())["engine"]["conmon_path"]
    links = (ROOT / "debian/lowconmon-conmon.links").read_text().split()
    script = (ROOT / "ci/install").read_text()
    assert program[0].removeprefix("/") in links
    assert "libexec/podman/conmon" in script
    assert program[1] == "/usr/local/libexec/podman/conmon"
