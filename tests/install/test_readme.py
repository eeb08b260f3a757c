"""What the README says is so."""

from __future__ import annotations

import re
import signal

from tests.support import ROOT, run_python

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_runs_and_ends_as_told() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(code.strip().splitlines()) <= 11
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert f"si_status={signal.SIGTERM.value}," in done.stdout
    assert done.stderr == ""
