"""Be the monitor, and when its container runs write what its objects are for: traced.py REPORT ...

What is written is JSON, bytes by purpose. tracemalloc knows the file that an object was made in;
all that is read by an import was made in importlib, so functions are measured part by part.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tracemalloc
from collections import Counter
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

sys.path[:0] = [str(Path(__file__).parents[2]), "/usr/lib/python3/dist-packages"]
tracemalloc.start()
from lowconmon import __main__, monitor  # noqa: E402 - what is traced


def traced() -> Counter[str]:
    """Return the size of what was made in each file."""
    found = Counter[str]()
    for trace in tracemalloc.take_snapshot().traces:
        found[trace.traceback[0].filename] += trace.size
    return found


def size(things: Iterable[object]) -> int:
    """Return the size of some objects, of which each counts once."""
    return sum(map(sys.getsizeof, {id(it): it for it in things}.values()))


def of_functions() -> dict[str, int]:
    """Return the sizes of the parts of all functions, and of classes' docstrings."""
    kinds = (FunctionType, type)
    ours = [
        it for it in gc.get_objects() if isinstance(it, kinds) and "lowconmon" in str(it.__module__)
    ]
    codes = [it.__code__ for it in ours if isinstance(it, FunctionType)]
    for code in codes:  # which grows: there are functions in functions
        codes += [it for it in code.co_consts if isinstance(it, CodeType)]
    return {
        "instructions": size(codes),
        "tables of lines and exceptions": size(
            it for code in codes for it in (code.co_linetable, code.co_exceptiontable)
        ),
        "docstrings": size(it.__doc__ for it in ours),
    }


def report(path: str, imported: Counter[str]) -> None:
    """Write what there is now; *imported* was there when there were modules, and no life."""
    now, parts = traced(), of_functions()
    ours = {name: size for name, size in imported.items() if "lowconmon" in name}
    bindings = sum(size for name, size in ours.items() if name.endswith("/_syscalls.py"))
    reading = sum(size for name, size in imported.items() if "importlib" in name)
    parts["names, constants, what else importing leaves"] = reading - sum(parts.values())
    parts["the bindings' calls and constants"] = bindings
    parts["classes, functions, tables"] = sum(ours.values()) - bindings
    living = sum(size - imported[name] for name, size in now.items() if "lowconmon" in name)
    parts["the life: rooms, loop, buffers"] = living
    Path(f"{path}.new").write_text(json.dumps(parts))
    os.rename(f"{path}.new", path)


def main() -> None:
    """Be the monitor, which reports some time after its container was started."""
    import_module("lowconmon.launch")  # as main does, in time for what is `imported`
    imported, path = traced(), sys.argv[1]
    watch = monitor.Monitor._do_watch  # noqa: SLF001 - the last that is done for a start

    def watch_and_report(self: monitor.Monitor) -> None:
        watch(self)
        self._loop.call_later(1500, lambda: report(path, imported))

    monitor.Monitor._do_watch = watch_and_report  # type: ignore[method-assign] # noqa: SLF001
    sys.argv = ["conmon", *sys.argv[2:]]
    __main__.main()


if __name__ == "__main__":
    main()
