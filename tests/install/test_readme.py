"""What the README says is so."""

from __future__ import annotations

import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import ROOT, SLOWNESS, run_python

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.life import Life

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_ends_as_told() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 11
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert f"si_status={signal.SIGTERM.value}," in done.stdout
    assert done.stderr == ""


def unsupported() -> list[str]:
    """Return the options that the README names as not supported."""
    section = README.partition("## What is not there yet")[2].partition("\n## ")[0]
    sentence = section.partition("not supported yet`:")[2].partition(". ")[0].replace("\n", " ")
    return [word.strip("`") for word in re.findall(r"`--[^`]*`", sentence)]


ARGUMENTS = {
    "--restore": "/tmp",
    "--sdnotify-socket": "/tmp/notify",
}


@pytest.mark.parametrize("option", unsupported())
def test_an_option_that_is_not_supported_is_refused(
    prefix: Path, new_life: Callable[..., Life], option: str
) -> None:
    life = new_life(prefix).stub("exit 0")
    words = option.split()
    if option in ARGUMENTS:
        words.append(ARGUMENTS[option])
    done = subprocess.run(
        [*life.command, *life.arguments(*words)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20 * SLOWNESS,
        check=False,
    )
    assert done.stderr == f"conmon: {option} is not supported yet\n"
    assert done.returncode == 1
