"""Compile the program conmon: Python, the monitor's modules frozen into it, and the bindings.

usage: python3 -X no_debug_ranges build_executable.py OUTPUT HOME BACKEND

HOME is where the packages will be installed, BACKEND the file of _cffi_backend there. Needs what
build_ffi.py needs, and the shared library of the Python that runs this and freezes the modules;
without it, nothing is made, the status is 77, and the script that imports the package is the program.
CC, CFLAGS, CPPFLAGS and LDFLAGS count as ever. The option keeps the columns of each instruction out
of every monitor's memory.
"""

import ast
import marshal
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import CodeType

from build_ffi import ffi
from lowconmon import VERSION_TEXT

NO_LIBRARY = 77
_ROOT = Path(__file__).resolve().parent
_OTHERS = ("lowconmon.__main__", "lowconmon.syscalls")


class Bare(ast.NodeTransformer):
    """Leave out what only readers and type checkers need: it would be in each monitor's memory."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        """Leave out what annotates arguments and result."""
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        """Leave out what annotates an argument."""
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        """Make an annotated assignment a plain one, and a declaration nothing."""
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign([node.target], node.value), node)

    def visit_If(self, node: ast.If) -> ast.AST | None:
        """Leave out what is for type checkers alone."""
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return None
        return self.generic_visit(node)


def _with_one_name(code: CodeType) -> CodeType:
    """Return *code* where no function has a second, longer name that only its repr shows."""
    parts = [_with_one_name(it) if isinstance(it, CodeType) else it for it in code.co_consts]
    return code.replace(co_consts=tuple(parts), co_qualname=code.co_name)


class Module:
    """A module below *root*: its name, its source, whether it is a package."""

    def __init__(self, path: Path, root: Path = _ROOT) -> None:
        self.path = path.relative_to(root)
        parts = self.path.with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join(parts[: len(parts) - self.is_package])
        self.source = path.read_text(encoding="utf-8")

    def imports(self) -> list[str]:
        """Return what it imports when it is run, of ours or not, and of that what may be modules."""
        found, package = [], self.name.split(".")[: None if self.is_package else -1]
        for statement in ast.parse(self.source).body:
            if isinstance(statement, ast.ImportFrom) and statement.level:
                base = package[: len(package) + 1 - statement.level]
                name = ".".join([*base, *filter(None, [statement.module])])
                found += [name, *(f"{name}.{alias.name}" for alias in statement.names)]
        return found

    def code(self, home: str) -> CodeType:
        """Return its code, without docstrings."""
        tree = ast.fix_missing_locations(Bare().visit(ast.parse(self.source)))
        code = compile(tree, f"{home}/{self.path}", "exec", dont_inherit=True, optimize=2)
        return _with_one_name(code)


def ordered(modules: dict[str, Module], *last: str) -> list[str]:
    """Return the names of *last* and of what they import, each behind what it imports itself."""
    found: list[str] = []

    def visit(name: str) -> None:
        if name in modules and name not in found:
            for needed in (name.rpartition(".")[0], *modules[name].imports()):
                if needed != name:
                    visit(needed)
            if name not in found:
                found.append(name)

    for name in last:
        visit(name)
    return found


def header(home: str, backend: str) -> str:
    """Return modules.h (see executable/main.c).

    What boot.py runs at once is in two groups, each the constants of one code object: marshal
    writes a name that several modules have once.
    """
    modules = {it.name: it for it in map(Module, (_ROOT / "lowconmon").rglob("*.py"))}
    boot = Module(_ROOT / "executable/boot.py", _ROOT / "executable")
    start = ordered(modules, "lowconmon.configure", "lowconmon.launch")
    monitor = [name for name in ordered(modules, "lowconmon.monitor") if name not in start]
    frozen = {"boot": boot.code(home)}
    for group, names in ("start", start), ("monitor", monitor):
        parts = [(name, modules[name].is_package, modules[name].code(home)) for name in names]
        frozen[group] = compile("", group, "exec").replace(co_consts=tuple(parts))
    for name in sorted(modules.keys() - {*start, *monitor, *_OTHERS}):
        frozen[name] = modules[name].code(home)
    lines, rows = [], []
    for index, (name, whole) in enumerate(frozen.items()):
        code = marshal.dumps(whole)
        lines.append(f"static const unsigned char code_{index}[] = {{{','.join(map(str, code))}}};")
        rows.append(f'{{.name = "{name}", .code = code_{index}, .size = {len(code)}}},')
    lines += ["static const struct _frozen MODULES[] = {", *rows, "{0}};"]
    for name, text in ("HOME", home), ("BACKEND", backend), ("VERSION", VERSION_TEXT):
        escaped = "".join(f"\\{byte:03o}" for byte in os.fsencode(text))
        lines.append(f'#define {name} "{escaped}"')
    return "\n".join(lines) + "\n"


def words(name: str) -> list[str]:
    """Return the arguments that a variable of the environment holds."""
    return shlex.split(os.environ.get(name, ""))


def main() -> int:
    """Do what the command line says."""
    output, home, backend = sys.argv[1:]
    libraries = [*words("LDFLAGS"), "-lpython" + sysconfig.get_config_var("LDVERSION")]
    compiler = words("CC") or ["gcc"]
    with tempfile.TemporaryDirectory() as made:
        probe = Path(made, "probe.c")
        probe.write_text("int main(void) { return 0; }\n", encoding="ascii")
        if subprocess.run(
            [*compiler, probe, "-o", f"{made}/probe", *libraries], check=False
        ).returncode:
            return NO_LIBRARY
        Path(made, "modules.h").write_text(header(home, backend), encoding="ascii")
        ffi.emit_c_code(f"{made}/_ffi.c")
        command = [*compiler, "-O2", "-Wall", "-Wextra", "-Wno-unused-parameter"]
        command += [
            *words("CPPFLAGS"),
            *words("CFLAGS"),
            f"-I{made}",
            f"-ffile-prefix-map={made}=.",
        ]
        command += ["-I" + sysconfig.get_path("include"), "-o", output]
        command += [str(_ROOT / "executable/main.c"), f"{made}/_ffi.c", *libraries]
        return int(subprocess.run(command, check=False).returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
