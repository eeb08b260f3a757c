"""How Sphinx renders these pages, and what it finds wrong: see ci/docs.

A name that is promised (names.txt) and not in the reference, or there without a promise, is a
warning, as a link to nowhere is; ci/docs lets none pass.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

_DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(_DOCS.parent))  # the tree's own, with its extension built in place
_PROJECT = tomllib.loads((_DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
_UPWARDS = re.compile(r"\[([^\]]+)\]\((\.\./[^)]+)\)")

project, release = _PROJECT["name"], _PROJECT["version"]
extensions = ["myst_parser", "sphinx.ext.autodoc"]
default_role = "code"  # what a docstring has in backticks
myst_heading_anchors = 3
autodoc_member_order = "bysource"
add_module_names = False
toc_object_entries = False
maximum_signature_line_length = 90
html_theme = "alabaster"
html_theme_options = {"description": _PROJECT["description"], "page_width": "70em"}
html_copy_source = html_show_sourcelink = html_show_copyright = False


def _check_names(_app: Sphinx, env: BuildEnvironment) -> None:
    text = (_DOCS / "names.txt").read_text(encoding="utf-8").partition("\ngone in ")[0]
    promised = set(re.findall(r"^    ([\w.]+)", text, re.MULTILINE))
    objects = env.get_domain("py").get_objects()
    described = {name for name, _, kind, *_ in objects if kind != "module"}
    warn = logging.getLogger(__name__).warning
    for name in sorted(promised - described):
        warn("%s is promised in names.txt, and not in the reference", name)
    for name in sorted(described - promised):
        warn("%s is in the reference, and not promised in names.txt", name)


def _unlink(app: Sphinx, docname: str, source: list[str]) -> None:
    """Name what is no part of the site, but of the source, without a link."""

    def name(link: re.Match[str]) -> str:
        if not (app.srcdir / link[2]).exists():
            logging.getLogger(__name__).warning("%s: there is no %s", docname, link[2])
        return f"`{link[1]}`"

    source[0] = _UPWARDS.sub(name, source[0])


def _name_os(*arguments: str | None) -> tuple[str | None, str | None]:
    """Let a signature name `os` as others know it."""
    given, returned = arguments[-2:]
    return given, returned and returned.replace("_os.", "os.")


def setup(app: Sphinx) -> None:
    """Connect the above; Sphinx calls it."""
    app.connect("source-read", _unlink)
    app.connect("autodoc-process-signature", _name_os)
    app.connect("env-check-consistency", _check_names)
