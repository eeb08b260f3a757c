"""Run the frozen modules of the executable, then launch.

There is no importlib: to start it would take longer than it takes to run all of them. A module that
is frozen but not run here, or built into Python, is run when it is imported.
"""

import _imp
import builtins
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from lowconmon._typing import Any, Callable, Monitor, NoReturn


def main(blocked: "list[int]", count: int, home: str, backend: str) -> "NoReturn":
    """Run what was frozen, and `launch.launch` with *blocked* and *count*.

    *home*: where the package's other files are; *backend*: the file of _cffi_backend.
    """
    modules: dict[str, Any] = sys.modules
    # The backend asks for the type of files, none of which it will meet.
    modules["_io"] = type("_io", (), {"_IOBase": type("_IOBase", (), {})})
    vars(builtins)["__import__"] = _import
    try:
        _load(_imp.create_dynamic, _imp.exec_dynamic, "_cffi_backend", backend)
        _load(_imp.create_builtin, _imp.exec_builtin, "lowconmon._ffi")
        _run_group("start", home)
    except ImportError as error:  # a kernel that is too old, or half an installation
        import posix as os

        os.write(2, f"conmon: {error}\n".encode())
        os._exit(1)
    from lowconmon.launch import launch

    def load() -> "type[Monitor]":
        _run_group("monitor", home)
        from lowconmon.monitor import Monitor

        return Monitor

    launch(blocked, count, load)


def _import(
    name: str,
    namespace: "Any" = None,
    _locals: object = None,
    _names: object = (),
    level: int = 0,
) -> "ModuleType":
    """Return the module *name*, as `__import__` does; of modules in packages only those it names."""
    if level:
        package = namespace["__package__"]
        for _ in range(1, level):
            package = package.rpartition(".")[0]
        name = f"{package}.{name}" if name else package
    if name in sys.modules:
        return sys.modules[name]
    if _imp.is_builtin(name):
        return _load(_imp.create_builtin, _imp.exec_builtin, name)
    return _run(name, _imp.get_frozen_object(name))


def _load(
    create: "Callable[[Any], Any]", execute: "Callable[[Any], object]", name: str, path: str = ""
) -> "ModuleType":
    new_namespace: Any = type(sys.implementation)  # in the place of importlib's ModuleSpec
    module: ModuleType = create(new_namespace(name=name, origin=path))
    sys.modules[name] = module
    execute(module)
    return module


def _run_group(group: str, home: str) -> None:
    for name, is_package, code in _imp.get_frozen_object(group).co_consts:
        _run(name, code, [f"{home}/{name.replace('.', '/')}"] if is_package else None)


def _run(name: str, code: "Any", path: "list[str] | None" = None) -> "ModuleType":
    """Run the code of a module; *path*: of a package, where its other files are."""
    module = sys.modules[name] = type(sys)(name)
    parent, _, own = name.rpartition(".")
    if path:
        module.__path__ = path
    module.__package__ = name if path else parent
    exec(code, module.__dict__)  # noqa: S102 - that is what an import does
    if parent:
        setattr(sys.modules[parent], own, module)
    return module
