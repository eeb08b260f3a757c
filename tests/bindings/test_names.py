"""The names of the bindings and the loop, and their arguments, are those that docs/names.txt promises."""

from __future__ import annotations

import inspect
import os
import types
from typing import TYPE_CHECKING, Any

import lowconmon
from lowconmon import loop, syscalls
from tests.support import names

if TYPE_CHECKING:
    from collections.abc import Iterator

# Of loop.py, and nobody's to use: what it imports, and what a descriptor is watched for
NOT_PROMISED = {"TYPE_CHECKING", "Watch", "errno", "monotonic_ns"}
MADE_BY_THE_LOOP = {loop.Timer}


def arguments(function: Any) -> str:
    """Return what a function takes, without types: names and defaults are what callers rely on."""
    bare = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "self"
    ]
    return str(inspect.Signature(bare))


def public(namespace: Any) -> Iterator[tuple[str, Any]]:
    """Yield the names without an underscore and their values."""
    for name, value in vars(namespace).items():
        if name[0] != "_":
            yield name, value


def found_in_syscalls() -> Iterator[str]:
    for name, value in public(syscalls):
        line = f"lowconmon.syscalls.{name}"
        if not callable(value):
            yield line
        elif isinstance(value, types.FunctionType):
            yield line + arguments(value)
        else:
            assert value is getattr(os, name)
            yield f"{line} = os.{name}"


def found_in_loop() -> Iterator[str]:
    for name, value in public(loop):
        if name in NOT_PROMISED:
            continue
        line = f"lowconmon.loop.{name}"
        yield line if value in MADE_BY_THE_LOOP else line + arguments(value)
        for method, function in public(value):
            if callable(function):
                yield f"{line}.{method}{arguments(function)}"
    if "on_error" in loop.Loop.__slots__:
        yield "lowconmon.loop.Loop.on_error"


def test_the_promised_names_are_those_that_there_are() -> None:
    """A name that comes or goes, or an argument, is written down there and in CHANGELOG.md first."""
    sections = names.sections()
    promised = [
        line for head, lines in sections.items() if not head.startswith("gone") for line in lines
    ]
    found = ["lowconmon.__version__", *found_in_loop(), *found_in_syscalls()]
    assert sorted(found) == sorted(promised)
    assert isinstance(lowconmon.__version__, str)


def test_what_is_gone_is_gone() -> None:
    modules = {"syscalls": syscalls, "loop": loop}
    for head, lines in names.sections().items():
        for line in lines if head.startswith("gone in ") else ():
            _, module, name, *_ = names.name_of(line).split(".")
            assert not hasattr(modules[module], name)
