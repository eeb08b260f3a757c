"""Run the frozen modules of the executable, then launch.

importlib would take longer to find a module than the module takes to run. What is frozen but not
run here, Python's own FrozenImporter finds when it is asked for.
"""

import _imp
import posix as os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from lowconmon._typing import Any, Callable, Monitor, NoReturn


def main(blocked: "list[int]", count: int, home: str, backend: str) -> "NoReturn":
    """Run what was frozen, and `launch.launch` with *blocked* and *count*.

    *home*: where the package's other files are; *backend*: the file of _cffi_backend.
    """
    try:
        _load(_imp.create_dynamic, _imp.exec_dynamic, "_cffi_backend", backend)
        _load(_imp.create_builtin, _imp.exec_builtin, "lowconmon._ffi", "")
        for name in ("errno", "gc", "time"):
            _load(_imp.create_builtin, _imp.exec_builtin, name, "")
        _run("start", home)
    except ImportError as error:  # a kernel that is too old, or half an installation
        os.write(2, f"conmon: {error}\n".encode())
        os._exit(1)
    from lowconmon.launch import launch  # it is there now

    def load() -> "type[Monitor]":
        _run("monitor", home)
        from lowconmon.monitor import Monitor

        return Monitor

    launch(blocked, count, load)


def _load(
    create: "Callable[[Any], Any]", execute: "Callable[[Any], object]", name: str, path: str
) -> None:
    new_namespace: Any = type(sys.implementation)  # in the place of importlib's ModuleSpec
    module = sys.modules[name] = create(new_namespace(name=name, origin=path))
    execute(module)


def _run(group: str, home: str) -> None:
    for name, is_package, code in _imp.get_frozen_object(group).co_consts:
        module = sys.modules[name] = type(sys)(name)
        parent, _, own = name.rpartition(".")
        if is_package:
            module.__path__ = [f"{home}/{name.replace('.', '/')}"]
        module.__package__ = name if is_package else parent
        exec(code, module.__dict__)  # noqa: S102 - that is what an import does
        if parent:
            setattr(sys.modules[parent], own, module)
