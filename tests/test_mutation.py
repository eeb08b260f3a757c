"""ci/mutation.py: each mutant is another program, and only where it may be one."""

from __future__ import annotations

import ast
import importlib.util
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCE = '''"""Not this."""
TYPE_CHECKING = False
if TYPE_CHECKING:
    A = 1

class C:
    __slots__ = ("a",)

    def f(self, n: "int" = 3) -> "int":
        """Nor this."""
        while n < 2 and not self:
            n += 1
        return -n if n in (5,) else n
'''


@pytest.fixture(scope="module")
def mutation() -> Any:
    spec = importlib.util.spec_from_file_location("mutation", ROOT / "ci" / "mutation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def source() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory) / "source.py"
        path.write_text(SOURCE)
        yield path


def test_the_mutants_are_these(mutation: Any, source: Path) -> None:
    assert mutation.mutants_of(source) == [
        (9, "3  ->  4"),
        (9, "3  ->  2"),
        (11, "if n < 2 and (not self)  ->  if False"),
        (11, "n < 2 and (not self)  ->  Or"),
        (11, "n < 2  ->  LtE"),
        (11, "n < 2  ->  GtE"),
        (11, "2  ->  3"),
        (11, "2  ->  1"),
        (11, "not self  ->  without not"),
        (12, "n += 1  ->  pass"),
        (12, "n += 1  ->  Sub"),
        (12, "1  ->  2"),
        (12, "1  ->  0"),
        (13, "return -n if n in (5,) else n  ->  return None"),
        (13, "if n in (5,)  ->  if True"),
        (13, "if n in (5,)  ->  if False"),
        (13, "n in (5,)  ->  NotIn"),
        (13, "5  ->  6"),
        (13, "5  ->  4"),
        (13, "-n  ->  without -"),
    ]


@pytest.mark.parametrize("name", ["control", "processes", "runtime", None])
def test_each_mutant_differs_from_the_module_and_from_the_others(
    mutation: Any, source: Path, name: str | None
) -> None:
    path = mutation.PURE / f"{name}.py" if name else source
    texts = [ast.unparse(mutation.mutated(path, -1))]
    assert texts[0] == ast.unparse(ast.parse(path.read_text()))
    for number in range(len(mutation.mutants_of(path))):
        tree = mutation.mutated(path, number)
        compile(tree, str(path), "exec")
        texts.append(ast.unparse(tree))
    assert texts.count(texts[0]) == 1
    assert len(set(texts)) > 0.95 * len(texts)  # two changes may come to the same
