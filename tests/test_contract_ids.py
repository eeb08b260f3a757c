"""Keep the ids of docs/contract.md and the places that cite them in step."""

from __future__ import annotations

import ast
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support import ROOT
from tests.support.contract import (
    CONTRACT,
    SECTION_OF,
    WELL_FORMED,
    defined,
    sentences,
    titles,
)

if TYPE_CHECKING:
    from pathlib import Path

CASES = 12
CASE_STEP = 100  # CASE-402 is the second sentence of case 4

CITED = re.compile(rf"\b(?:{'|'.join(SECTION_OF)})-[0-9]+\b")
MARK = re.compile(r"\bmark\.contract\(([^)]*)\)")
QUOTED = re.compile(r"""["']([^"']*)["']""")


def numbers_by_prefix() -> dict[str, list[int]]:
    """Return the numbers of each prefix in the page's order."""
    numbers: dict[str, list[int]] = {prefix: [] for prefix in SECTION_OF}
    for _, sentence_id in defined():
        prefix, _, number = sentence_id.partition("-")
        numbers[prefix].append(int(number))
    return numbers


def citing_files() -> list[Path]:
    """Return the page itself and every Python file of the package and of the tests."""
    package = ROOT.glob("lowconmon*/**/*.py")
    tests = (ROOT / "tests").rglob("*.py")
    return [CONTRACT, *sorted(package), *sorted(tests)]


def test_the_page_has_sections_one_to_fourteen_in_order() -> None:
    assert [number for number, _ in titles()] == list(range(1, 15))


def test_every_bullet_and_table_row_opens_with_a_well_formed_id() -> None:
    bad = [f"{number}: {line}" for _, number, line in sentences() if not WELL_FORMED.match(line)]
    assert bad == []


def test_no_id_is_given_twice() -> None:
    counts = Counter(sentence_id for _, sentence_id in defined())
    assert [sentence_id for sentence_id, count in counts.items() if count > 1] == []


def test_every_id_stands_in_the_section_of_its_prefix() -> None:
    stray = [
        sentence_id
        for section, sentence_id in defined()
        if SECTION_OF[sentence_id.partition("-")[0]] != section
    ]
    assert stray == []


@pytest.mark.parametrize("prefix", [prefix for prefix in SECTION_OF if prefix != "CASE"])
def test_the_numbers_of_a_prefix_are_consecutive_from_one(prefix: str) -> None:
    # Sorted: a sentence that is added later takes the next number, wherever it stands.
    numbers = sorted(numbers_by_prefix()[prefix])
    assert numbers
    assert numbers == list(range(1, len(numbers) + 1))


def test_the_numbers_of_the_cases_are_consecutive_within_each_hundred() -> None:
    by_case: dict[int, list[int]] = {}
    for number in sorted(numbers_by_prefix()["CASE"]):
        by_case.setdefault(number // CASE_STEP, []).append(number % CASE_STEP)
    assert list(by_case) == list(range(1, CASES + 1))
    for case, numbers in by_case.items():
        assert numbers == list(range(1, len(numbers) + 1)), f"case {case}"


def test_every_id_that_is_cited_exists() -> None:
    known = {sentence_id for _, sentence_id in defined()}
    unknown = [
        f"{path.relative_to(ROOT)}:{number}: {cited}"
        for path in citing_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        for cited in CITED.findall(line)
        if cited not in known
    ]
    assert unknown == []


def test_every_argument_of_a_contract_mark_is_an_id() -> None:
    # Also what CITED cannot see: a prefix that does not exist, a number that is missing.
    known = {sentence_id for _, sentence_id in defined()}
    unknown = [
        f"{path.relative_to(ROOT)}: {argument}"
        for path in citing_files()
        if path.suffix == ".py"
        for arguments in MARK.findall(path.read_text(encoding="utf-8"))
        for argument in QUOTED.findall(arguments)
        if argument not in known
    ]
    assert unknown == []


def with_verdict() -> set[str]:
    """Return the ids that are cited by a test whose docstring opens with its verdict."""
    found: set[str] = set()
    for path in citing_files():
        if path.suffix != ".py" or not path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                marks = map(ast.unparse, node.decorator_list)
                ids = {one for mark in marks for one in CITED.findall(mark)}
                if text.startswith("Acceptable: ") and "ot acceptable: " in text:
                    found |= ids
    return found


def test_every_case_has_a_test_that_opens_with_its_verdict() -> None:
    cases = [sentence_id for section, sentence_id in defined() if section == CASES]
    judged = with_verdict()
    assert [case for case in cases if case not in judged] == []
