"""Run lowconmon's tests on other architectures, each on a real kernel: ci/arch NAME... | all.

Two at a time, slowest first, one line each; podman5, the newest stable Debian with its own podman, is
no part of all, and comes alone behind them. Status 1: one has failed, or had other tests than the rest. A test that fails is
run once more, and named if it passes then ("again: TEST"). With --user, no kernel is booted: bindings,
loop and pure code under qemu-user, as root, for quick work.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from . import machine, podman, user
from .architectures import ARCHITECTURES
from .image import CHECKOUT
from .machine import Result

_LOGS = CHECKOUT / ".work/arch"
_TABLE = CHECKOUT / "docs/architectures.md"
_BEGIN, _END = "<!-- the table of `ci/arch all` -->\n", "<!-- its end -->\n"
_HEAD = (
    "| architecture | kernel | Python | byte order | bits | passed | passed again | containers"
    " | seconds |\n"
)
_USER_HEAD = _HEAD.replace("kernel", "qemu-user").replace("containers", "left out")
# The same on all: what is left out, and why, stands here and nowhere else.
_TESTS = (
    "tests/bindings",
    "tests/loop",
    "tests/containers",
    "tests/examples",
    "tests/life/test_basics.py",
    "tests/life/test_limits.py",
    "tests/life/test_not_our_children.py",
    "tests/pure/test_control.py",
    "tests/pure/test_journal.py",
    "tests/pure/test_processes.py",
    "tests/pure/test_records.py",
    "tests/reader/test_limits.py",
)
_LEFT_OUT: dict[str, str] = {}
# Without a kernel of their own: the rest is about processes, which the emulator does half itself.
_ABOUT_PROCESSES = ("tests/containers", "tests/examples", "tests/life/")
_USER_TESTS = tuple(name for name in _TESTS if not name.startswith(_ABOUT_PROCESSES))


def _line(result: Result, *, by_user: bool = False) -> str:
    containers = ", ".join(f"{name} {count}" for name, count in result.containers.items()) or "-"
    facts = [result.architecture, result.kernel, result.python, result.order, result.bits or "-"]
    if by_user:
        containers = str(result.counts.get("deselected", 0))
    facts += [result.counts.get("passed", 0), len(result.again), containers]
    facts += [f"{result.seconds:.0f}"]
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
    add("--user", action="store_true", help="run programs by qemu-user, boot nothing; needs root")
    add("--tests", nargs="+", help="pytest's arguments in the guests")
    add("--jobs", type=int, default=2, help="how many guests at a time")
    add("--limit", type=float, default=machine.LIMIT_S, help="seconds a guest may take")
    add("--as-served", action="store_true", help="let the mirror lack an architecture: say so")
    add("--write", action="store_true", help=f"put the table into {_TABLE.relative_to(CHECKOUT)}")
    options = parser.parse_args()
    if options.user and (options.write or os.geteuid() != 0):
        parser.error("--user needs root, and has no table to be written")
    wanted = [name for name in ARCHITECTURES if {name, "all"} & {*options.architectures}]
    has_podman = podman.NAME in options.architectures and not options.user
    _LOGS.mkdir(parents=True, exist_ok=True)
    if has_podman and not wanted:
        return podman.show(_LOGS, options.tests or (), as_served=options.as_served)
    tests = options.tests or (_USER_TESTS if options.user else _TESTS)
    arguments = ["-q", *(f"--deselect={name}" for name in _LEFT_OUT), *tests]
    run = user.run if options.user else machine.run
    begun, results = time.monotonic(), list[Result]()
    print(_USER_HEAD if options.user else _HEAD, end="", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(run, name, arguments, options.limit) for name in wanted]
        for future in as_completed(futures):
            result = future.result()
            results.append(result)
            name = f"{result.architecture}{'-user' if options.user else ''}.log"
            Path(_LOGS / name).write_text(result.console)
            print(_line(result, by_user=options.user), flush=True)
            for test in result.again:
                print(f"{result.architecture} again: {test}", flush=True)
            if not result.passed:
                what = "FAILED" if result.tested else "NOT TESTED"
                print(f"{result.architecture} {what}: {result.failure}", flush=True)
    for result in machine.odd_ones(results):
        result.failure = result.failure or "its tests are not those of the others"
        print(f"{result.architecture} FAILED: not the tests of the others: ids {result.ids or '-'}")
    failed = sorted(result.architecture for result in results if not result.passed)
    missed = [result.architecture for result in results if not result.tested]
    print(f"{len(results) - len(failed)} of {len(results)} architectures passed, "
          f"{time.monotonic() - begun:.0f} s in all")  # fmt: skip
    if failed:
        print(f"failed or not tested: {' '.join(failed)}")
    elif options.write:
        _write(results)
    status = failed != (sorted(missed) if options.as_served else [])
    if has_podman:
        status |= podman.show(_LOGS, as_served=options.as_served)
    return status


if __name__ == "__main__":
    sys.exit(main())
