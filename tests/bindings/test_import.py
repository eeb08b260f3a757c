"""Where the bindings can be imported, what they bring along, and that their types are true."""

from __future__ import annotations

import ast
import types
from typing import TYPE_CHECKING

import pytest

from lowconmon import _ffi, _syscalls, syscalls
from tests.support import ROOT, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    "release",
    [
        "5.9.0",
        "5.9.0-rc1",
        "5.10.0-13-amd64",
        "5.15",
        "6.1",
        "6.1.0-44-cloud-amd64",
        "6.18.44-fc-v657",
        "10.0.1",
        "6.1.0+",
    ],
)
def test_kernels_from_5_9_on_are_good_enough(release: str) -> None:
    _syscalls._check_kernel(release)  # noqa: SLF001


@pytest.mark.parametrize("release", ["4.19.0", "5.8.18", "5.8", "3.10.0-1160.el7", "5", "", "x.y"])
def test_older_kernels_are_refused_in_one_clear_line(release: str) -> None:
    with pytest.raises(ImportError) as caught:
        _syscalls._check_kernel(release)  # noqa: SLF001
    assert str(caught.value) == f"lowconmon needs Linux 5.9 or newer, this is {release}"


@pytest.mark.parametrize(
    ("change", "this"),
    [
        ("sys.platform = 'darwin'; del os.P_PIDFD, os.eventfd, os.memfd_create", "darwin"),
        ("os.uname = lambda: types.SimpleNamespace(release='4.19.0-27-amd64')", "4.19.0-27-amd64"),
    ],
)
def test_where_it_cannot_work_the_import_fails_with_one_clear_line(change: str, this: str) -> None:
    done = run_python(f"import os, sys, types; {change}\nimport lowconmon.syscalls")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last == f"ImportError: lowconmon needs Linux 5.9 or newer, this is {this}"


def test_the_bindings_bring_along_no_part_of_the_monitor_and_little_else() -> None:
    done = run_python(
        "before = set(sys.modules)\n"
        "import lowconmon.syscalls\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    assert done.stderr == ""
    new = set(done.stdout.split())
    ours = {"lowconmon", "lowconmon.syscalls", "lowconmon._syscalls", "lowconmon._ffi"}
    assert {name for name in new if name.startswith("lowconmon")} >= ours
    # errno and the like may have been there before
    lib = {name for name in new if name.startswith("lowconmon._ffi.")}
    assert new - ours - lib <= {"_cffi_backend", "errno"}


def declared(name: str) -> Iterator[ast.stmt]:
    """Yield what the class *name* of _ffi.pyi holds."""
    tree = ast.parse((ROOT / "lowconmon" / "_ffi.pyi").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            yield from node.body


def test_the_types_name_what_the_compiled_module_has() -> None:
    constants, functions = set(), {}
    for node in declared("_Lib"):
        if isinstance(node, ast.AnnAssign):
            assert isinstance(node.target, ast.Name)
            constants.add(node.target.id)
        elif isinstance(node, ast.FunctionDef):
            functions[node.name] = len(node.args.posonlyargs) + len(node.args.args) - 1
    assert constants | set(functions) == set(dir(_ffi.lib))
    for name in constants:
        assert type(getattr(_ffi.lib, name)) is int, name
    for name, count in functions.items():
        signature = _ffi.ffi.typeof(getattr(_ffi.lib, name))
        assert len(signature.args) == count, name


def test_the_compiled_module_has_lib_and_ffi_and_nothing_else() -> None:
    assert {name for name in vars(_ffi) if not name.startswith("_")} == {"lib", "ffi"}


def test_the_public_face_is_the_whole_of_the_bindings() -> None:
    def public(module: types.ModuleType) -> dict[str, object]:
        return {name: value for name, value in vars(module).items() if name[0] != "_"}

    assert public(syscalls) == public(_syscalls)
    assert not [
        name for name, value in public(syscalls).items() if isinstance(value, types.ModuleType)
    ]


def test_every_function_of_ours_has_a_docstring() -> None:
    for name, value in vars(syscalls).items():
        if isinstance(value, types.FunctionType) and value.__module__ == _syscalls.__name__:
            assert value.__doc__, name
