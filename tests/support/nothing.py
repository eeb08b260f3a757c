"""Run tests against a monitor that does nothing: `python -m pytest -p tests.support.nothing`.

What passes then shows nothing. The program ends at once with status 0, its faulty variants too
(for podman, which would take another, it tells its version); in the test's own process each public
function and method of lowconmon.pure and lowconmon.rooms returns None.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import faults

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYERS = ("lowconmon.pure", "lowconmon.rooms")


def functions() -> Iterator[types.FunctionType]:
    """Yield each public function and method of the layers."""
    for layer in LAYERS:
        package = importlib.import_module(layer)
        for info in pkgutil.iter_modules(package.__path__, layer + "."):
            module = importlib.import_module(info.name)
            yield from _public(vars(module), info.name)


def _public(names: dict[str, Any], module: str) -> Iterator[types.FunctionType]:
    for name, value in list(names.items()):
        if name.startswith("_") or getattr(value, "__module__", module) != module:
            continue
        if isinstance(value, type):
            if not issubclass(value, Exception):
                yield from _public(dict(vars(value)), module)
        elif isinstance(value, property):
            yield value.fget  # type: ignore[misc]
        else:
            value = getattr(value, "__func__", value)  # noqa: PLW2901 - of a class or static method
            if isinstance(value, types.FunctionType):
                yield value


def empty(function: types.FunctionType) -> None:
    """Make *function* return None, wherever it was imported to."""
    # In place, so that all who hold it are reached. The cells of the two must be as many.
    cells = function.__code__.co_freevars
    if not cells:
        function.__code__ = (lambda *_a, **_k: None).__code__
        return
    names: dict[str, Any] = {}
    source = f"def make({', '.join(cells)}):\n def nothing(*a, **k):\n"
    source += f"  return None\n  {', '.join(cells)}\n return nothing"
    exec(source, names)  # noqa: S102 - the names of cells
    function.__code__ = names["make"](*cells).__code__


PROGRAMS = {
    "conmon": "#!{python} -IS\n",
    "versioned": '#!/bin/sh\n[ "$1" != --version ] || echo conmon version 2.2.1\n',
}


def _directory() -> Path:
    return Path(f"/tmp/lowconmon-nothing-{os.getpid()}")  # noqa: S108 - each worker has its own


def pytest_configure() -> None:
    """Put a program that does nothing in the monitor's place."""
    _directory().mkdir()
    for name, text in PROGRAMS.items():
        path = _directory() / name
        path.write_text(text.format(python=sys.executable))
        path.chmod(0o755)
    os.environ["LOWCONMON_PROGRAM"] = str(_directory() / "conmon")
    os.environ[faults.NOTHING] = "1"
    import hypothesis

    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile(
        "nothing", deadline=None, database=None, phases=phases, max_examples=10
    )
    hypothesis.settings.load_profile("nothing")


def pytest_unconfigure() -> None:
    """Take the programs away."""
    shutil.rmtree(_directory())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Choose the program that the test would take."""
    name = "versioned" if item.nodeid.startswith("tests/podman/") else "conmon"
    os.environ["LOWCONMON_PROGRAM"] = str(_directory() / name)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Empty the layers, once parameters were made with their help."""
    del session
    for function in functions():
        empty(function)
