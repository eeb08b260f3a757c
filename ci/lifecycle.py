#!/usr/bin/env python3
"""Draw docs/lifecycle.svg from the table in lowconmon/pure/lifecycle.py, by Graphviz: ci/lifecycle.py."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs/lifecycle.svg"
sys.path.insert(0, str(ROOT))

from lowconmon.pure.lifecycle import TABLE  # noqa: E402 - found by the path set above


def edges() -> dict[tuple[str, str, tuple[str, ...]], list[str]]:
    """Return the events by (state, next state, actions); what changes nothing is left out."""
    found: dict[tuple[str, str, tuple[str, ...]], list[str]] = {}
    for (state, event), (then, actions) in TABLE.items():
        if then != state or actions:
            found.setdefault((state, then, actions), []).append(event)
    return found


def dot() -> str:
    """Return the picture in Graphviz's language: states, and events over the actions they bring."""
    lines = [
        'digraph "A container\'s life" {',
        'node [shape=box style="rounded,filled" fillcolor="#e8f3ec" fontname="sans-serif"]',
        'edge [fontname="sans-serif" fontsize=10 color="#446655"]',
    ]
    for (state, then, actions), events in edges().items():
        text = " or ".join(events) + "".join(f"\\l- {action}" for action in actions) + "\\l"
        lines.append(f'{state} -> {then} [label="{text.replace("_", " ")}"]')
    names = dict.fromkeys(name for state, then, _ in edges() for name in (state, then))
    lines += [f'{name} [label="{name.replace("_", " ")}"]' for name in names]
    return "\n".join([*lines, "}"])


if __name__ == "__main__":
    command = ["dot", "-Tsvg"]
    drawn = subprocess.run(command, input=dot(), capture_output=True, text=True, check=True).stdout
    PICTURE.write_text(re.sub(r"<!--.*?-->\n?", "", drawn, flags=re.DOTALL))
