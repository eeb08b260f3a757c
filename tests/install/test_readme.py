"""What the README says is so."""

from __future__ import annotations

import re
import signal
import subprocess

from tests.support import ROOT, run_python

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_ends_as_told() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 11
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert f"si_status={signal.SIGTERM.value}," in done.stdout
    assert done.stderr == ""


def test_the_commands_are_two_for_the_checkout_and_then_two_for_the_way_there_and_back() -> None:
    section = README.partition("\n## Try it\n")[2].partition("\n## ")[0]
    commands = [
        line.split(" #")[0].strip() for line in re.findall(r"^    (.*)$", section, re.MULTILINE)
    ]
    there_and_back = ["sudo ci/podman", "sudo apt-get install conmon lowconmon-conmon-"]
    assert commands == ["ci/demo", "ci/test", *there_and_back]


def test_what_tries_the_way_there_and_back_takes_it_from_this_text() -> None:
    script = (ROOT / "ci/podman-check").read_text()
    (read,) = re.findall(r"^mapfile -t commands < <\((.*)\)$", script, re.MULTILINE)
    done = subprocess.run(
        ["bash", "-c", read], cwd=ROOT, capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout.splitlines() == [
        "ci/podman",
        "apt-get install conmon lowconmon-conmon-",
    ]
