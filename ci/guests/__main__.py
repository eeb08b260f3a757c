"""Run lowconmon's tests on other architectures, each on a real kernel: ci/arch NAME... | all.

Two at a time, slowest first, one line each; podman5, the newest stable Debian with its own podman,
alone behind them. Status 1: one has failed.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from . import machine, podman
from .architectures import ARCHITECTURES
from .image import CHECKOUT
from .machine import Result

_TABLE = CHECKOUT / "docs/architectures.md"
_BEGIN, _END = "<!-- the table of `ci/arch all` -->\n", "<!-- its end -->\n"
_HEAD = "| architecture | kernel | Python | byte order | bits | passed | containers | seconds |\n"
# The same on all: what is left out, and why, stands here and nowhere else.
_TESTS = (
    "tests/bindings",
    "tests/loop",
    "tests/containers",
    "tests/life/test_basics.py",
    "tests/life/test_not_our_children.py",
    "tests/pure/test_control.py",
    "tests/pure/test_journal.py",
    "tests/pure/test_processes.py",
    "tests/pure/test_records.py",
)
_LEFT_OUT: dict[str, str] = {}


def _line(result: Result) -> str:
    containers = ", ".join(f"{name} {count}" for name, count in result.containers.items()) or "-"
    facts = [result.architecture, result.kernel, result.python, result.order, result.bits or "-"]
    facts += [result.counts.get("passed", 0), containers, f"{result.seconds:.0f}"]
    return f"| {' | '.join(map(str, facts))} |"


def _write(results: list[Result]) -> None:
    before, begin, rest = _TABLE.read_text().partition(_BEGIN)
    _, end, after = rest.partition(_END)
    rows = "\n".join(_line(result) for result in sorted(results, key=lambda one: one.architecture))
    rule = "|" + " --- |" * _HEAD.count(" |") + "\n"
    _TABLE.write_text(f"{before}{begin}{_HEAD}{rule}{rows}\n{end}{after}")


def main() -> int:
    """Do what the command line says; return the exit status."""
    parser = argparse.ArgumentParser(prog="ci/arch", description=__doc__)
    add = parser.add_argument
    add("architectures", nargs="+", choices=["all", *ARCHITECTURES, podman.NAME], metavar="NAME")
    add("--tests", nargs="+", default=_TESTS, help="pytest's arguments in the guests")
    add("--jobs", type=int, default=2, help="how many guests at a time")
    add("--limit", type=float, default=machine.LIMIT_S, help="seconds a guest may take")
    add("--as-served", action="store_true", help="let the mirror lack an architecture: say so")
    add("--write", action="store_true", help=f"put the table into {_TABLE.relative_to(CHECKOUT)}")
    options = parser.parse_args()
    wanted = [name for name in ARCHITECTURES if {name, "all"} & {*options.architectures}]
    logs = CHECKOUT / ".work/arch"
    logs.mkdir(parents=True, exist_ok=True)
    if not wanted:
        tests = () if options.tests is _TESTS else options.tests
        return podman.show(logs, tests, as_served=options.as_served)
    arguments = ["-q", *(f"--deselect={name}" for name in _LEFT_OUT), *options.tests]
    begun, results = time.monotonic(), list[Result]()
    print(_HEAD, end="", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(machine.run, name, arguments, options.limit) for name in wanted]
        for future in as_completed(futures):
            result = future.result()
            results.append(result)
            Path(logs / f"{result.architecture}.log").write_text(result.console)
            print(_line(result), flush=True)
            if not result.passed:
                what = "FAILED" if result.tested else "NOT TESTED"
                print(f"{result.architecture} {what}: {result.failure}", flush=True)
    failed = sorted(result.architecture for result in results if not result.passed)
    missed = [result.architecture for result in results if not result.tested]
    print(f"{len(results) - len(failed)} of {len(results)} architectures passed, "
          f"{time.monotonic() - begun:.0f} s in all")  # fmt: skip
    if failed:
        print(f"failed or not tested: {' '.join(failed)}")
    elif options.write:
        _write(results)
    status = failed != (sorted(missed) if options.as_served else [])
    if {podman.NAME, "all"} & {*options.architectures}:
        status |= podman.show(logs, as_served=options.as_served)
    return status


if __name__ == "__main__":
    sys.exit(main())
