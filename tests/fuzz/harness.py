"""Feed a target inputs that a seed makes, and watch time, state and memory.

An input is bytes; `targets.TARGETS` says what each target makes of them. Inputs are mutants of a
target's corpus with its words; the same seed makes the same inputs, in the same order.
"""

from __future__ import annotations

import contextlib
import gc
import random
import time
import traceback
import tracemalloc
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support import SLOWNESS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .targets import Target

MAX_INPUT = 1 << 16  # bytes
SLOW_S = 1.0  # of the processor, for one input
GROWTH = 1 << 18  # bytes that a thousand inputs may leave behind: caches, not a leak of theirs
_BYTES = [bytes((number,)) for number in range(256)]


def mutant(rng: random.Random, corpus: Sequence[bytes], words: Sequence[bytes]) -> bytes:
    """Return one input: a few changes of something in the corpus, or noise."""
    data = rng.choice(corpus)
    for _ in range(rng.choice((1, 1, 2, 3, 5, 8))):
        at = rng.randrange(len(data) + 1)
        end = min(len(data), at + rng.choice((1, 1, 2, 4, 16, 256)))
        kind = rng.randrange(8)
        if kind == 0:
            data = data[:at] + data[end:]
        elif kind == 1:
            data = data[:at] + rng.choice(_BYTES) + data[end:]
        elif kind in (2, 3):
            data = data[:at] + rng.choice(words) + data[at:]
        elif kind == 4:
            data = data[:at] + _repeated(rng, data[at:end]) + data[end:]
        elif kind == 5:
            other = rng.choice(corpus)
            data = data[:at] + other[rng.randrange(len(other) + 1) :]
        elif kind == 6:
            data = data[:at] + rng.randbytes(rng.choice((1, 4, 40))) + data[at:]
        else:
            data = data[:at] + _repeated(rng, rng.choice(words))
    return data[:MAX_INPUT]


def _repeated(rng: random.Random, data: bytes) -> bytes:
    """Return *data* a few times, rarely so often that it is long."""
    size = rng.choice((40, 40, 400, 400, 4000, MAX_INPUT if rng.randrange(20) == 0 else 40))
    return data * max(1, size // (len(data) or 1))


def inputs(target: Target, seed: int, count: int) -> Iterator[bytes]:
    """Yield *count* inputs: the corpus first, then mutants."""
    rng = random.Random(f"{target.name} {seed}")
    yield from target.corpus[:count]
    for _ in range(count - len(target.corpus)):
        yield mutant(rng, target.corpus, target.words)


class FeedError(AssertionError):
    """What one input brought; its traceback is the cause's."""

    def __init__(self, data: bytes, why: str) -> None:
        super().__init__(f"{why}; the input: {data[:2000]!r}")
        self.data = data


def feed(target: Target, data: bytes) -> None:
    """Give *target* one input. FeedError: an exception, too slow, or a state that has grown."""
    began = time.process_time()
    try:
        target.run(data)
    except Exception as error:
        raise FeedError(data, traceback.format_exc(limit=-3)) from error
    took = time.process_time() - began
    if took > SLOW_S * SLOWNESS:
        raise FeedError(data, f"it took {took:.2f} s")
    if target.state_size() > target.state_limit:
        raise FeedError(data, f"{target.state_size()} bytes of state")


def fuzz(target: Target, seed: int, count: int) -> float:
    """Feed *count* inputs; return how many a second. FeedError: of the first that is not acceptable."""
    began = time.perf_counter()
    with contextlib.closing(target):
        for data in inputs(target, seed, count):
            feed(target, data)
    return count / (time.perf_counter() - began)


def growth(target: Target, seed: int, count: int) -> int:
    """Return by how many bytes memory grows when the same *count* inputs come a second time."""
    with contextlib.closing(target):
        some = list(inputs(target, seed, count))
        tracemalloc.start()
        try:
            sizes = []
            for _ in range(2):
                for data in some:
                    target.run(data)
                gc.collect()
                sizes.append(tracemalloc.get_traced_memory()[0])
        finally:
            tracemalloc.stop()
    return sizes[1] - sizes[0]


def fails(kind: type[Target], data: bytes) -> bool:
    """Tell whether a fresh target of *kind* fails on *data* alone."""
    with contextlib.closing(kind()) as target:
        try:
            feed(target, data)
        except FeedError:
            return True
    return False


def minimised(kind: type[Target], data: bytes) -> bytes:
    """Return a part of *data* that fails too, as small as cutting pieces out makes it."""
    if not fails(kind, data):
        return data  # it takes what came before it
    size = len(data) // 2
    while size:
        at = 0
        while at < len(data):
            smaller = data[:at] + data[at + size :]
            if fails(kind, smaller):
                data = smaller
            else:
                at += size
        size //= 2
    return data


def save(kind: type[Target], data: bytes, directory: Path) -> Path:
    """Write an input down and return where."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{kind.name}-{zlib.crc32(data):08x}"
    path.write_bytes(data)
    return path
