#!/usr/bin/env python3
"""Change lowconmon/pure bit by bit and see whether its tests notice.

    ci/mutation.py [-s] [MODULE...]      all modules of lowconmon/pure, or these; -s: a sample

Each mutant is one small change of one module; tests/pure/test_MODULE.py alone is run against it, in
a fork that has pytest loaded. What survives stands in .work/mutation.txt, by line. Ends with status 1
where less than 80 % of a module's mutants are killed. All of them take some minutes.
"""

from __future__ import annotations

import ast
import copy
import importlib
import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parent.parent
PURE = ROOT / "lowconmon" / "pure"
WANTED_PERCENT = 80
SECONDS = 90  # a mutant that takes longer hangs: it is killed
SAMPLE = 10  # with -s: one mutant of so many
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.FloorDiv: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}


class Mutants(ast.NodeVisitor):
    """Find each change of a module: a line, what is changed, and a function that does it."""

    def __init__(self, tree: ast.Module) -> None:
        self.found: list[tuple[int, str, Callable[[], None]]] = []
        self.visit(tree)

    def add(self, node: ast.AST, change: Callable[[], None], text: str) -> None:
        """Note a change of *node*."""
        line = getattr(node, "lineno", 0)
        self.found.append((line, f"{ast.unparse(node)}  ->  {text}", change))

    def replace(self, node: ast.AST, field: str, value: object, text: str) -> None:
        """Note that a field of *node* becomes *value*."""
        self.add(node, lambda: setattr(node, field, value), text)

    def visit(self, node: ast.AST) -> None:
        """Visit what runs: no annotation, no docstring, nothing for the type checker."""
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in (
            "TYPE_CHECKING",
            "__slots__",
        ):
            return
        super().visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        """Go down to all but annotations; leave out statements."""
        for field, value in ast.iter_fields(node):
            if field in ("annotation", "returns", "decorator_list"):
                continue
            for index, child in enumerate(value if isinstance(value, list) else [value]):
                if isinstance(child, ast.stmt) and isinstance(value, list):
                    self.statement(value, index, child)
                elif isinstance(child, ast.AST):
                    self.visit(child)

    def statement(self, body: list[ast.stmt], index: int, child: ast.stmt) -> None:
        """Leave a statement out, then look into it."""
        if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
            return  # a docstring
        leaves_out = (ast.AugAssign, ast.Expr, ast.Raise, ast.Break, ast.Continue, ast.Delete)
        if isinstance(child, leaves_out):

            def leave_out() -> None:
                body[index] = ast.copy_location(ast.Pass(), child)

            self.add(child, leave_out, "pass")
        self.visit(child)

    def visit_Compare(self, node: ast.Compare) -> None:
        """Turn a comparison, or move its border."""
        for index, op in enumerate(node.ops):
            for other in COMPARISONS[type(op)]:

                def change(index: int = index, other: type[ast.cmpop] = other) -> None:
                    node.ops[index] = other()

                self.add(node, change, other.__name__)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        """Swap `and` and `or`."""
        other = ast.Or if isinstance(node.op, ast.And) else ast.And
        self.replace(node, "op", other(), other.__name__)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        """Drop `not` and `-`."""
        other = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not()
        if isinstance(node.op, ast.Not):
            self.add(node, lambda: _become(node, node.operand), "without not")
        elif isinstance(node.op, ast.USub):
            self.replace(node, "op", other, "without -")
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Take another operator; of a text with % only what is put into it."""
        other = OPERATORS.get(type(node.op))
        if other is not None:
            self.replace(node, "op", other(), other.__name__)
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        """Take another operator."""
        other = OPERATORS.get(type(node.op))
        if other is not None:
            self.replace(node, "op", other(), other.__name__)
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        """Let a condition always, or never, hold."""
        self.condition(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        """Let a condition always, or never, hold."""
        self.condition(node)

    def visit_While(self, node: ast.While) -> None:
        """Never begin a loop."""
        self.note_test(node, value=False)
        self.generic_visit(node)

    def condition(self, node: ast.If | ast.IfExp) -> None:
        """Let a condition always, or never, hold."""
        for value in (True, False):
            self.note_test(node, value=value)
        self.generic_visit(node)

    def note_test(self, node: ast.If | ast.IfExp | ast.While, *, value: bool) -> None:
        """Note that a condition becomes a constant."""

        def change() -> None:
            node.test = ast.Constant(value=value)

        self.found.append((node.lineno, f"if {ast.unparse(node.test)}  ->  if {value}", change))

    def visit_Return(self, node: ast.Return) -> None:
        """Return nothing."""
        if node.value is not None and ast.unparse(node.value) != "None":
            self.replace(node, "value", ast.Constant(value=None), "return None")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        """Change a number by one, a text by a letter, a truth to its contrary."""
        value = node.value
        if isinstance(value, bool):
            self.replace(node, "value", not value, repr(not value))
        elif isinstance(value, int):
            for other in (value + 1, value - 1):
                self.replace(node, "value", other, repr(other))
        elif isinstance(value, (bytes, str)):
            more = value + b"X" if isinstance(value, bytes) else value + "X"
            self.replace(node, "value", more, repr(more))

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Look at what is put into a text, not at its format."""
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                self.visit(value.value)
            else:
                self.visit(value)


def _become(node: ast.AST, other: ast.AST) -> None:
    node.__class__ = other.__class__
    node.__dict__ = copy.copy(other.__dict__)


def mutants_of(path: Path) -> list[tuple[int, str]]:
    """Return line and description of each mutant of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(line, text) for line, text, _ in Mutants(tree).found]


def mutated(path: Path, number: int) -> ast.Module:
    """Return the tree of one mutant; -1: of the module as it is."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    if number >= 0:
        Mutants(tree).found[number][2]()
    return ast.fix_missing_locations(tree)


class Profile:
    """A plugin: hypothesis tries the same examples each time and does not make them smaller."""

    def pytest_configure(self) -> None:
        """Load the profile behind that of tests/conftest.py."""
        import hypothesis

        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutation", deadline=None, database=None, derandomize=True, phases=phases
        )
        hypothesis.settings.load_profile("mutation")


def run_tests(path: Path, number: int) -> int:
    """Run a module's tests against one mutant in this very process; return pytest's status."""
    import pytest

    name = f"lowconmon.pure.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    exec(compile(mutated(path, number), str(path), "exec"), module.__dict__)  # noqa: S102 - our own
    setattr(importlib.import_module("lowconmon.pure"), path.stem, module)
    test = f"tests/pure/test_{path.stem}.py"
    options = ["-x", "-q", "-p", "no:xdist", "-p", "no:timeout", "-o", "timeout=0"]
    # hypothesis was loaded before pytest could rewrite what it asserts
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, test], plugins=[Profile()]))


def start(path: Path, number: int) -> int:
    """Fork a process that tests one mutant; return its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            signal.alarm(SECONDS)
            status = run_tests(path, number)
        finally:
            os._exit(status)
    return pid


def survivors_of(path: Path, numbers: list[int]) -> list[int]:
    """Return the numbers of the mutants that the tests did not notice."""
    running: dict[int, int] = {}
    survivors = []
    for number in [*numbers, None]:
        while running and (number is None or len(running) >= (os.cpu_count() or 1)):
            pid, status = os.wait()
            tested = running.pop(pid)
            if status == 0:
                survivors.append(tested)
        if number is not None:
            running[start(path, number)] = number
    return sorted(survivors)


def modules(names: list[str]) -> Iterator[Path]:
    """Yield the modules with these names, or all."""
    for path in sorted(PURE.glob("*.py")):
        if path.stem != "__init__" and (not names or path.stem in names):
            yield path


def main(arguments: list[str]) -> int:
    """Test the tests and return the status."""
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for name in ("pytest", "hypothesis", "hypothesis.strategies"):
        importlib.import_module(name)  # once, for all forks
    (ROOT / ".work").mkdir(exist_ok=True)
    sample = "-s" in arguments
    status = 0
    print("| module | mutants | killed | |\n|---|---|---|---|")
    with (ROOT / ".work" / "mutation.txt").open("w", encoding="utf-8") as report:
        for path in modules([name for name in arguments if name != "-s"]):
            mutants = mutants_of(path)
            numbers = list(range(0, len(mutants), SAMPLE if sample else 1))
            if survivors_of(path, [-1]) != [-1]:
                sys.exit(f"ci/mutation.py: the tests of {path.stem} fail by themselves")
            survivors = survivors_of(path, numbers)
            for number in survivors:
                line, text = mutants[number]
                report.write(f"{path.relative_to(ROOT)}:{line}: {text}\n")
            report.flush()
            killed = len(numbers) - len(survivors)
            percent = 100 * killed // max(1, len(numbers))
            print(f"| {path.stem} | {len(numbers)} | {killed} | {percent} % |", flush=True)
            if percent < WANTED_PERCENT:
                status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
