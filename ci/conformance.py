#!/usr/bin/env python3
"""Keep docs/conformance.md: which tests show each sentence of docs/contract.md.

    ci/conformance.py             write the page
    ci/conformance.py --check     fail if it is not up to date, or a sentence has no test
    ci/conformance.py --nothing   fail if a sentence has only tests that a monitor passes that does
                                  nothing (tests/support/nothing.py); PREFIX...: only of these ids

The tests are those that cite the sentence, `@pytest.mark.contract(...)`, as pytest collects them.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

import pytest  # noqa: E402 - after the path

from tests.support.contract import defined, titles  # noqa: E402 - as above

PAGE = ROOT / "docs" / "conformance.md"
HEAD = """# Conformance

For each sentence of [contract.md](contract.md) the tests that show it. Made by `ci/conformance.py` from
the tests' own marks: do not edit. `ci/test` fails when a sentence has no test, or when this page is not
what the tests say; `ci/conformance.py --nothing` when all tests of a sentence pass against a monitor
that does nothing.
"""
QUICK_FIRST = ("tests/test_", "tests/pure", "tests/life", "tests/reader", "tests/podman", "tests")
DEADLINES = "0.1"  # of the usual: what does nothing does nothing more in 20 s
ROUND = 400  # tests in a round at most


class Collected:
    """A plugin that remembers which tests cite each id, in the order of collection."""

    def __init__(self) -> None:
        self.tests: dict[str, list[str]] = {sentence_id: [] for _, sentence_id in defined()}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Read the marks of all tests."""
        for item in session.items:
            for mark in item.iter_markers("contract"):
                for sentence_id in mark.args:
                    if item.nodeid not in self.tests.setdefault(sentence_id, []):
                        self.tests[sentence_id].append(item.nodeid)


class Outcomes:
    """A plugin that remembers which tests ran, and which of them failed."""

    def __init__(self) -> None:
        self.ran: set[str] = set()
        self.failed: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count what fails before its end."""
        self.ran.add(report.nodeid)
        if report.failed and report.when != "teardown":  # what is left behind shows nothing
            self.failed.add(report.nodeid)


def run_pytest(plugin: object, *arguments: str) -> int:
    """Run pytest with a plugin; what it prints goes to .work/conformance.log."""
    (ROOT / ".work").mkdir(exist_ok=True)
    with (
        open(ROOT / ".work" / "conformance.log", "a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
    ):
        return int(pytest.main(["-q", *arguments], plugins=[plugin]))


def collect() -> dict[str, list[str]]:
    """Return the node ids of the tests of each sentence."""
    collected = Collected()
    if run_pytest(collected, "--collect-only", "tests"):
        sys.exit("ci/conformance.py: the tests cannot be collected: see .work/conformance.log")
    return collected.tests


def function_of(node_id: str) -> str:
    """Return a node id without its parameters."""
    return node_id.partition("[")[0]


def page(tests: dict[str, list[str]]) -> str:
    """Return the page."""
    text = HEAD
    for number, title in titles():
        text += f"\n## {number}. {title}\n\n| id | shown by |\n|---|---|\n"
        for section, sentence_id in defined():
            if section == number:
                text += f"| {sentence_id} | {row(tests[sentence_id])} |\n"
    return text


def row(node_ids: list[str]) -> str:
    """Return the test functions of one sentence, by file."""
    by_file: dict[str, list[str]] = {}
    for node_id in node_ids:
        path, _, name = function_of(node_id).partition("::")
        names = by_file.setdefault(path.removeprefix("tests/").removesuffix(".py"), [])
        if name not in names:
            names.append(name)
    files = (f"{path}: " + " ".join(f"`{name}`" for name in by_file[path]) for path in by_file)
    return "<br>".join(sorted(files)) or "-"


def faults_of(tests: dict[str, list[str]]) -> list[str]:
    """Return what is wrong with the rows and with the page."""
    faults = [f"{sentence_id} has no test" for sentence_id, ids in tests.items() if not ids]
    if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page(tests):
        faults.append("docs/conformance.md is not up to date: run ci/conformance.py")
    return faults


def in_order(node_ids: list[str]) -> list[str]:
    """Return tests, quick ones first, and each function once before any of them again."""
    seen: dict[str, int] = {}

    def key(node_id: str) -> tuple[int, int]:
        function = function_of(node_id)
        seen[function] = seen.get(function, -1) + 1
        cost = next(i for i, start in enumerate(QUICK_FIRST) if node_id.startswith(start))
        return seen[function], cost

    return sorted(node_ids, key=key)


def shown_by_nothing(tests: dict[str, list[str]]) -> list[str]:
    """Return the ids all of whose tests pass against a monitor that does nothing."""
    waiting = {sentence_id: in_order(ids) for sentence_id, ids in tests.items() if ids}
    outcomes = Outcomes()
    helpless = [sentence_id for sentence_id, ids in tests.items() if not ids]
    while waiting:
        chosen: dict[str, None] = {}
        for node_ids in waiting.values():
            # Twice as many in each round: few rounds, and few tests where the first one fails.
            if not chosen.keys() & set(node_ids) and len(chosen) < ROUND:
                rest = [node_id for node_id in node_ids if node_id not in outcomes.ran]
                chosen.update(dict.fromkeys(rest[: 1 if not outcomes.ran else 4]))
        status = run_pytest(
            outcomes, "-p", "tests.support.nothing", "-n", "2", "--timeout", "20", *chosen
        )
        lost = chosen.keys() - outcomes.ran
        if status not in (0, 1) or lost:
            sys.exit(
                f"ci/conformance.py: pytest ended with {status}: see .work/conformance.log {lost}"
            )
        for sentence_id, node_ids in list(waiting.items()):
            if outcomes.failed & set(node_ids):
                del waiting[sentence_id]
            elif outcomes.ran >= set(node_ids):
                helpless.append(sentence_id)
                del waiting[sentence_id]
    print(
        f"{len(outcomes.ran)} tests were run, {len(outcomes.failed)} of them failed, as they should"
    )
    return helpless


def main(arguments: list[str]) -> int:
    """Do what the arguments say and return the status."""
    os.chdir(ROOT)
    (ROOT / ".work" / "conformance.log").unlink(missing_ok=True)
    tests = collect()
    if not arguments:
        PAGE.write_text(page(tests), encoding="utf-8")
        return 0
    if arguments == ["--check"]:
        faults = faults_of(tests)
    elif arguments[0] == "--nothing":
        os.environ["TEST_SLOWNESS"] = DEADLINES
        wanted = tuple(arguments[1:]) or ("",)
        tests = {key: value for key, value in tests.items() if key.startswith(wanted)}
        faults = [f"{sentence_id} is shown by nothing" for sentence_id in shown_by_nothing(tests)]
    else:
        faults = [(__doc__ or "").partition("\n\n")[2]]
    for fault in faults:
        print(f"ci/conformance.py: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
