"""Fuzz by hand: see ci/fuzz. Stops at the first failure of a target, with its input in .work/fuzz."""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
from pathlib import Path

from tests.support import ROOT

from .harness import FeedError, feed, fuzz, minimised, save
from .targets import TARGETS


def main() -> int:
    """Return how many targets failed."""
    names = [target.name for target in TARGETS]
    parser = argparse.ArgumentParser("ci/fuzz", description=f"Targets: {', '.join(names)}")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs a target")
    parser.add_argument("--input", type=Path, help="one input, again")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    given = parser.parse_args()
    failed = 0
    for target in TARGETS:
        if target.name not in (given.targets or names):
            continue
        try:
            if given.input:
                with contextlib.closing(target()) as one:
                    feed(one, given.input.read_bytes())
                print(f"{target.name}: accepts it")
                continue
            rate = fuzz(target(), given.seed, given.count)
            print(
                f"{target.name}: {given.count} inputs, {rate:.0f}/s, seed {given.seed}", flush=True
            )
        except FeedError as failure:
            failed += 1
            path = save(target, minimised(target, failure.data), ROOT / ".work/fuzz")
            print(f"{target.name}: seed {given.seed}: {failure}\nminimised: {path}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
