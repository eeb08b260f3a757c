"""docs/names.txt: the names that are promised, by the version that brought them or took them away."""

from __future__ import annotations

from tests.support import ROOT

TEXT = (ROOT / "docs/names.txt").read_text(encoding="utf-8")


def sections(text: str = TEXT) -> dict[str, list[str]]:
    """Return the lines of each section, by its head: `VERSION`, or `gone in VERSION`."""
    found: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("    "):
            lines.append(line.strip())
        elif line and not line.startswith("#"):
            lines = found.setdefault(line.removesuffix(":"), [])
    return found


def name_of(line: str) -> str:
    """Return the name alone, without arguments."""
    return line.partition(" = ")[0].partition("(")[0]
