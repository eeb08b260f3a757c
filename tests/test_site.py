"""The documentation is rendered without a warning, and what is wrong with it is one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, SLOWNESS

TOP = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")


def rendered(checkout: Path) -> tuple[int, str]:
    """Render a checkout's pages; return the status and what was said."""
    done = subprocess.run(
        [checkout / "ci/docs"],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60 * SLOWNESS,
        check=False,
    )
    return done.returncode, done.stdout


def test_all_pages_are_rendered_without_a_warning() -> None:
    assert rendered(ROOT) == (0, "")
    site = ROOT / ".work/docs"
    assert {page.stem for page in (ROOT / "docs").glob("*.md")} <= {
        page.stem for page in site.glob("*.html")
    }
    reference = (site / "reference.html").read_text(encoding="utf-8")
    assert 'id="lowconmon.syscalls.spawn"' in reference
    assert 'id="lowconmon.loop.Loop.add_reader"' in reference
    examples = (site / "examples.html").read_text(encoding="utf-8")
    assert examples.count('class="highlight-python') == 3


def test_what_is_wrong_fails_by_name(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("ci", "lowconmon", "pyproject.toml", "SECURITY.md"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "ci").unlink()
    (tmp_path / "ci").mkdir()
    shutil.copy(ROOT / "ci/docs", tmp_path / "ci")
    docs = tmp_path / "docs"
    names = (docs / "names.txt").read_text()
    names = names.replace("    lowconmon.syscalls.spawn(", "    lowconmon.syscalls.fork(")
    (docs / "names.txt").write_text(names + "gone in 9.0.0:\n    lowconmon.syscalls.was()\n")
    with (docs / "loop.md").open("a") as page:
        page.write("\n[a](no-such.md) [b](bindings.md#no-such-part) [c](../no-such)\n")
    with (docs / "reference.md").open("a") as page:
        page.write("\n```{eval-rst}\n.. autofunction:: lowconmon.syscalls.no_such\n```\n")
    status, said = rendered(tmp_path)
    assert status != 0
    found = sorted(re.sub(r".*WARNING: |^Summary.*", "", line) for line in said.splitlines())
    for text in (
        "'myst' cross-reference target not found: 'no-such.md' [myst.xref_missing]",
        "lowconmon.syscalls.fork is promised in names.txt, and not in the reference",
        "lowconmon.syscalls.spawn is in the reference, and not promised in names.txt",
        "loop: there is no ../no-such",
    ):
        assert text in found
    assert "no-such-part" in said
    assert "no_such" in said
    assert "syscalls.was" not in said  # there is no promise of what is gone


@pytest.mark.parametrize("name", TOP)
def test_no_link_of_the_pages_above_goes_nowhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text(encoding="utf-8")):
        assert link.startswith("https://") or (ROOT / link).exists(), link
