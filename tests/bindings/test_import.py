"""Where the bindings can be imported, what they bring along, and that their types are true."""

from __future__ import annotations

import ast
import re
import types
from typing import TYPE_CHECKING

import pytest

from lowconmon import _ffi, _syscalls, syscalls
from tests.support import ROOT, run_python

if TYPE_CHECKING:
    from collections.abc import Iterator


GOOD = (
    "5.9.0 5.9.0-rc1 5.9-rc1 5.10.0-13-amd64 5.15 6.1 6.1.0-44-cloud 6.18.44-fc-v657 10.0.1 6.1.0+"
)
OLD = ["4.19.0", "5.8.18", "5.8", "3.10.0-1160.el7", "5", "", "x.y"]


def test_kernels_from_5_9_on_are_good_enough_and_older_ones_refused_in_one_clear_line() -> None:
    done = run_python(
        "import posix, sys, types\n"
        f"for release in {[*GOOD.split(), *OLD]!r}:\n"
        "    sys.modules.pop('lowconmon._syscalls', None)\n"
        "    posix.uname = lambda: types.SimpleNamespace(release=release)\n"
        "    try:\n"
        "        import lowconmon._syscalls\n"
        "        print('good')\n"
        "    except ImportError as error:\n"
        "        print(error)\n"
    )
    assert done.stderr == ""
    refusals = [f"lowconmon needs Linux 5.9 or newer, this is {release}" for release in OLD]
    assert done.stdout.splitlines() == ["good"] * len(GOOD.split()) + refusals


@pytest.mark.parametrize(
    ("change", "this"),
    [
        ("sys.platform = 'darwin'; del posix.P_PIDFD, posix.eventfd, posix.memfd_create", "darwin"),
        (
            "posix.uname = lambda: types.SimpleNamespace(release='4.19.0-27-amd64')",
            "4.19.0-27-amd64",
        ),
    ],
)
def test_where_it_cannot_work_the_import_fails_with_one_clear_line(change: str, this: str) -> None:
    done = run_python(f"import posix, sys, types; {change}\nimport lowconmon.syscalls")
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


def declared() -> Iterator[str]:
    """Yield the names that _ffi.pyi gives values or types."""
    tree = ast.parse((ROOT / "lowconmon" / "_ffi.pyi").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in [node.target] if isinstance(node, ast.AnnAssign) else targets:
            assert isinstance(target, ast.Name)
            yield target.id


def test_the_types_name_what_the_compiled_module_has() -> None:
    # The types leave out the shims: test_the_bindings_call_each_shim knows their names.
    constants = {name for name in dir(_ffi.lib) if not name.startswith("lc_")}
    assert set(declared()) == {*constants, "ffi", "lib"}
    for name in dir(_ffi.lib):
        if name.startswith("lc_"):
            assert callable(getattr(_ffi.lib, name)), name
        else:
            assert type(getattr(_ffi.lib, name)) is int, name


def test_each_constant_is_a_name_of_the_bindings_and_no_shim_is() -> None:
    for name in dir(_ffi.lib):
        assert hasattr(syscalls, name) == (not name.startswith("lc_")), name
        assert getattr(syscalls, name, None) == getattr(_syscalls, name, None)


def test_the_bindings_call_each_shim() -> None:
    source = (ROOT / "lowconmon" / "_syscalls.py").read_text(encoding="utf-8")
    called = set(re.findall(r"\b_lib\.(lc_\w+)", source))
    assert called == {name for name in dir(_ffi.lib) if name.startswith("lc_")}


def test_the_compiled_module_has_lib_and_ffi_and_nothing_else() -> None:
    assert {name for name in vars(_ffi) if not name.startswith("_")} == {"lib", "ffi"}


def test_the_public_face_is_the_whole_of_the_bindings() -> None:
    def public(module: types.ModuleType) -> dict[str, object]:
        return {name: value for name, value in vars(module).items() if name[0] != "_"}

    assert public(syscalls) == public(_syscalls)
    assert "TYPE_CHECKING" not in public(syscalls)
    assert not [
        name for name, value in public(syscalls).items() if isinstance(value, types.ModuleType)
    ]


def test_every_function_of_ours_has_a_docstring() -> None:
    for name, value in vars(syscalls).items():
        if isinstance(value, types.FunctionType) and value.__module__ == _syscalls.__name__:
            assert value.__doc__, name
