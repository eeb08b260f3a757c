"""Run lowconmon's tests on other architectures, each on a real kernel: ci/arch NAME... | all.

Two at a time, slowest first, one line each. Status 1: one has failed, or had other tests than the rest.
A test that fails is run once more, and named if it passes then ("again: TEST"). One of them, podman5, has
tests of its own, with the newest stable Debian's podman under systemd. With --user, no kernel is booted:
bindings, loop and pure code under qemu-user, as root, for quick work.
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
    "tests/examples/test_record.py::test_every_key_goes_to_the_program_and_the_terminal_is_as_before",
    "tests/examples/test_record.py::test_the_programs_terminal_has_the_size_of_ours_and_follows_it",
    "tests/examples/test_supervise.py::test_orphans_become_ours_and_are_reaped",
    "tests/examples/test_supervise.py::test_signals_reach_the_whole_group_of_the_program",
    "tests/examples/test_wait_pid.py::test_a_zombie_that_nobody_reaps_has_ended",
    "tests/life/test_basics.py",
    "tests/life/test_limits.py",
    "tests/pure/test_journal.py::test_a_value_with_newlines_has_its_length_in_little_endian_before_it",
    "tests/pure/test_processes.py::test_a_real_end_reads_the_same_both_ways",
    "tests/pure/test_processes.py::test_a_signal_is_128_and_its_number",
    "tests/pure/test_processes.py::test_an_exit_code_is_itself",
    "tests/pure/test_processes.py::test_the_start_time_of_a_real_process_is_that_of_its_22nd_field",
    "tests/pure/test_processes.py::test_wait_statuses_are_read_as_python_reads_them",
    "tests/pure/test_records.py::test_a_stamp_is_what_datetime_says",
    "tests/reader/test_limits.py",
)
_LEFT_OUT = {
    "tests/bindings/test_constants.py::test_no_number_of_the_kernel_is_typed": "it reads the source",
    "tests/bindings/test_docs.py::test_every_function_is_described_and_shown": "it reads a page",
}
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
    unlike = options.write or podman.NAME in options.architectures
    if options.user and (unlike or os.geteuid() != 0):
        parser.error(f"--user needs root, and has no table to be written, and no {podman.NAME}")
    known = [*ARCHITECTURES] if options.user else [podman.NAME, *ARCHITECTURES]
    wanted = [name for name in known if {name, "all"} & {*options.architectures}]
    _LOGS.mkdir(parents=True, exist_ok=True)
    tests = options.tests or (_USER_TESTS if options.user else _TESTS)
    arguments = ["-q", *(f"--deselect={name}" for name in _LEFT_OUT), *tests]

    def run(name: str) -> Result:
        if name == podman.NAME:
            return podman.run(options.tests or [], options.limit)
        return (user.run if options.user else machine.run)(name, arguments, options.limit)

    begun, results = time.monotonic(), list[Result]()
    print(_USER_HEAD if options.user else _HEAD, end="", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        futures = [pool.submit(run, name) for name in wanted]
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
    for result in machine.odd_ones([one for one in results if one.architecture in ARCHITECTURES]):
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
    return failed != (sorted(missed) if options.as_served else [])


if __name__ == "__main__":
    sys.exit(main())
