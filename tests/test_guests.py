"""ci/guests: what a console tells, which architectures are the odd ones, what is run again.

No network, no emulator.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ci.guests import __main__ as program, podman, user
from ci.guests.architectures import ARCHITECTURES
from ci.guests.debs import Failure, NotServed, Suite
from ci.guests.machine import Result, odd_ones, read
from tests.support import ROOT, ids

FACTS = "noise\n##GUEST 6.1.0-50-s390x 3.11.2 big 64\n\nids: 0123456789abcdef\n"
CONTAINERS = "containers: crun 9, hostrun 8, runc 1\n"
FIRST = "=== short test summary info ===\nFAILED tests/a/test_b.py::test_c[used again] - assert 0\n"
AGAIN = "##AGAIN\n\nids: fedcba9876543210\n"
PASSED = "PASSED tests/a/test_b.py::test_c[used again]\n1 passed in 0.50s\n##STATUS 0\n"


def read_from(text: str, name: str = "s390x") -> Result:
    """Return what is read of a console."""
    result = Result(name, console=text)
    read(ARCHITECTURES[name], result)
    return result


def test_the_facts_are_read() -> None:
    end = "1147 passed, 2 deselected in 200.13s (0:03:20)\n"
    result = read_from(f"{FACTS}{CONTAINERS}{end}##STATUS 0\n")
    assert (result.kernel, result.python, result.order) == ("6.1.0-50-s390x", "3.11.2", "big")
    assert (result.bits, result.ids) == (64, "0123456789abcdef")
    assert result.counts == {"passed": 1147, "deselected": 2}
    assert result.containers == {"crun": 9, "hostrun": 8, "runc": 1}
    assert (result.again, result.passed) == ([], True)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "status: none"),
        (FACTS + "1147 passed in 1.00s\n", "status: none"),  # it hung on its way out
        (FACTS + "1 failed, 9 passed in 1.00s\n##STATUS 1\n", "status: 1"),
        (FACTS + "no tests ran in 1.00s\n##STATUS 5\n", "status: 5"),
        (FACTS.replace("big", "little") + "9 passed in 1.00s\n##STATUS 0\n", "not this arch"),
        (FACTS.replace("64", "32") + "9 passed in 1.00s\n##STATUS 0\n", "not this arch"),
    ],
)
def test_what_is_not_on_the_console_did_not_happen(text: str, why: str) -> None:
    with pytest.raises(Failure, match=why):
        read_from(text)


def test_a_test_that_passes_again_is_named() -> None:
    end = f"{FIRST}1 failed, 1146 passed in 9.00s\n##STATUS 1\n"
    result = read_from(FACTS + CONTAINERS + end + AGAIN + "containers: hostrun 1\n" + PASSED)
    assert result.again == ["tests/a/test_b.py::test_c[used again]"]
    assert (result.counts["passed"], result.ids) == (1147, "0123456789abcdef")
    assert result.containers["crun"] == 9
    assert "| 1147 | 1 |" in program._line(result)  # noqa: SLF001 - its row


@pytest.mark.parametrize(
    "again",
    [
        AGAIN,
        AGAIN + "1 failed in 0.50s\n##STATUS 1\n",
        AGAIN + "PASSED tests/a/test_b.py::test_d\n1 failed, 1 passed in 0.50s\n##STATUS 1\n",
        AGAIN + "no tests ran in 0.50s\n##STATUS 5\n",
        AGAIN + PASSED.replace("##STATUS 0", ""),
    ],
)
def test_a_second_failure_is_one(again: str) -> None:
    with pytest.raises(Failure, match="status"):
        read_from(f"{FACTS}{FIRST}1 failed, 1146 passed in 9.00s\n##STATUS 1\n{again}")


def test_only_failed_tests_are_run_again() -> None:
    with pytest.raises(Failure, match="status: 2"):
        read_from(f"{FACTS}{FIRST}1 error in 9.00s\n##STATUS 2\n{AGAIN}{PASSED}")


@pytest.mark.parametrize(
    ("told", "odd"),
    [
        ({}, ""),
        ({"arm64": "a"}, ""),
        ({"arm64": "a", "armel": "a", "s390x": "a"}, ""),
        ({"arm64": "a", "armel": "b", "s390x": "a"}, "armel"),
        ({"arm64": "a", "armel": "b"}, "arm64 armel"),
        ({"arm64": "a", "armel": "", "s390x": "a"}, "armel"),  # nothing told, and passed
        ({"arm64": "a", "armel": "b", "s390x": "a", "i386": "b"}, "arm64 armel s390x i386"),
        ({"arm64": "a", "armel": "b", "s390x": "a", "i386": "c"}, "armel i386"),
    ],
)
def test_who_has_other_tests_than_most_is_named(told: dict[str, str], odd: str) -> None:
    results = [Result(name, ids=one) for name, one in told.items()]
    assert " ".join(one.architecture for one in odd_ones(results)) == odd


def test_who_did_not_come_to_its_tests_is_not_odd() -> None:
    results = [
        Result("arm64", ids="a"),
        Result("armel", failure="no disk"),
        Result("i386", ids="a"),
    ]
    assert odd_ones(results) == []


def test_the_names_stand_for_all_tests_in_any_order_with_those_that_are_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told_of(*names: str) -> str:
        items: list[Any] = [SimpleNamespace(nodeid=f"test_it.py::test_{name}") for name in names]
        ids.pytest_collection_modifyitems(items)
        return capsys.readouterr().out.strip()

    assert told_of("one", "two") == told_of("two", "one")
    assert told_of("one", "two") != told_of("one", "three")
    (tmp_path / "test_it.py").write_text("def test_one(): pass\ndef test_two(): pass\n")
    command = [sys.executable, "-m", "pytest", "-p", "tests.support.ids", "-p", "no:cacheprovider"]
    command += ["-q", "--rootdir", str(tmp_path), "--deselect", "test_it.py::test_two"]
    done = subprocess.run(
        [*command, tmp_path], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert told_of("one", "two") in done.stdout.splitlines()
    assert "1 passed, 1 deselected" in done.stdout


# What fails at its first run, and for ever.
ONCE = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("name", ["plain", "with spaces", "for-ever"])
def test_once(name):
    mark = Path(name)
    had = mark.exists()
    mark.touch()
    assert had and name != "for-ever"

def test_passes():
    pass
"""


def job(folder: Path, *arguments: str) -> Result:
    """Run the guests' job natively, in a folder that stands for /guest; return what it tells."""
    source = folder / "source"
    source.mkdir()
    (source / "tests").symlink_to(ROOT / "tests")
    shutil.copy(ROOT / "pyproject.toml", source)
    (source / "test_it.py").write_text(ONCE)
    (folder / "arguments").write_text("\n".join(arguments))
    text = (ROOT / "ci/guests/job").read_text().replace("/tmp/pytest", f"{folder}/cache")
    text = text.replace("/guest/", f"{folder}/").replace("python3 -", f"{sys.executable} -")
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    kind = (struct.calcsize("P") * 8, sys.byteorder)
    return read_from(
        done.stdout,
        next(name for name, one in ARCHITECTURES.items() if (one.bits, one.order) == kind),
    )


def test_the_job_runs_once_more_what_has_failed(tmp_path: Path) -> None:
    result = job(tmp_path, "-q", "--deselect=test_it.py::test_once[for-ever]", "test_it.py")
    assert result.again == ["test_it.py::test_once[plain]", "test_it.py::test_once[with spaces]"]
    assert (result.counts["passed"], result.counts["deselected"]) == (3, 1)
    assert result.ids


def test_the_job_fails_where_one_fails_twice(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"status: 1\n(.*\n)*.*##AGAIN\n(.*\n)*.*##STATUS 1"):
        job(tmp_path, "-q", "test_it.py")


# podman's guest

BOTH = """\
##GUEST 6.12.117 3.13.5 little 64 podman version 5.4.2
root: == 1 failed, 59 passed, 9 deselected in 300.20s ==
box: == 50 passed in 290.10s ==
root: ##STATUS 1
root: ##AGAIN
box: ##STATUS 0
root: PASSED tests/a.py::test_b
root: == 1 passed in 9.00s ==
root: ##STATUS 0
##CONMON /usr/bin/conmon 0
"""


def read_podman(text: str) -> Result:
    result = Result(podman.NAME, console=text)
    podman.GUEST.read(ARCHITECTURES["amd64"], result)
    return result


def test_what_both_users_have_shown_is_read_apart() -> None:
    result = read_podman(BOTH)
    assert result.containers == {"podman 5.4.2 as root": 60, "podman 5.4.2 as box": 50}
    assert (result.kernel, result.python, result.bits) == ("6.12.117", "3.13.5", 64)
    assert (result.counts, result.again) == ({"passed": 110}, ["root: tests/a.py::test_b"])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("##CONMON /usr/bin/conmon 0\n", "conmon did not come back"),
        ("box: ##STATUS 0\n", "box: pytest's status: none"),
        ("root: PASSED tests/a.py::test_b\nroot: == 1 passed in 9.00s ==\nroot: ##STATUS 0\n",
         "root: pytest's status: 1"),
        ("##GUEST 6.12.117 3.13.5 little 64 podman version 5.4.2\n", "not this architecture"),
    ],
)  # fmt: skip
def test_what_one_user_has_not_shown_is_named(line: str, why: str) -> None:
    assert line in BOTH
    with pytest.raises(Failure, match=why):
        read_podman(BOTH.replace(line, ""))


# The mirror


def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put an apt-get and an apt-cache on PATH that know of nothing, as on a day without an index."""
    for name in ("apt-get", "apt-cache"):
        path = tmp_path / name
        path.write_text(
            "#!/bin/sh\necho 'E: The repository does not have a Release file.' >&2; exit 100\n"
        )
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("ci.guests.debs.CACHE", tmp_path / "cache")
    monkeypatch.setattr("ci.guests.debs.mirror", lambda: "http://mirror.invalid/debian")


def test_a_suite_that_is_not_served_is_told_from_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apt(tmp_path, monkeypatch)
    with pytest.raises(NotServed, match=r"made-up-s390x.*Release file"):
        Suite("made-up", "s390x").fetch("python3")


@pytest.mark.parametrize(("words", "status"), [([], 1), (["--as-served"], 0)])
@pytest.mark.parametrize("how", [[], ["--user"]])
def test_an_architecture_that_is_not_served_is_said_loudly_and_fails_unless_allowed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    how: list[str],
    words: list[str],
    status: int,
) -> None:
    apt(tmp_path, monkeypatch)
    monkeypatch.setattr("ci.guests.__main__._LOGS", tmp_path / "logs")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(sys, "argv", ["ci/arch", *how, *words, "s390x"])
    assert program.main() == status
    said = capsys.readouterr().out
    assert "s390x NOT TESTED: apt-get" in said
    assert "Release file" in said
    assert "0 of 1 architectures passed" in said
    assert "failed or not tested: s390x" in said


# qemu-user


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_registration_has_a_name_and_flags_of_our_own(name: str) -> None:
    line = user.registration(ARCHITECTURES[name])
    if line:  # else this machine runs it, or has no emulator
        parts = line.split(":")
        assert (len(parts), parts[1].split("-")[:2]) == (8, ["lowconmon", name])
        assert (parts[2], parts[-1]) == ("M", "FP")
        assert Path(parts[6]).name.startswith(ARCHITECTURES[name].emulator.removeprefix("qemu-"))


def test_every_fault_of_the_emulator_names_tests_that_exist() -> None:
    assert all(user.FAULTS)
    collected = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--collect-only", "-n0", "tests/bindings"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    names = user.left_out()
    assert len(names) >= sum(map(len, user.FAULTS.values()))
    assert [name for name in names if not any(one.startswith(name) for one in collected)] == []
