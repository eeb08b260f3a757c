"""The allocator: what is freed is kept as we say, and given back when we say."""

from __future__ import annotations

import errno

import pytest

from lowconmon import syscalls
from tests.support import run_python

# Blocks that malloc takes from the heap.
CODE = """
from lowconmon import syscalls
from tests.support import private_bytes

syscalls.mallopt(syscalls.M_MMAP_THRESHOLD, 1 << 19)
syscalls.mallopt(syscalls.M_TRIM_THRESHOLD, 1 << 24)
syscalls.malloc_trim()
before = private_bytes()
blocks = [bytearray(100_000) for _ in range(15)]
del blocks
after = private_bytes()
syscalls.malloc_trim()
print(after - before, private_bytes() - before)
"""


def test_freed_memory_stays_up_to_the_threshold_and_goes_when_trimmed() -> None:
    done = run_python(CODE)
    assert (done.returncode, done.stderr) == (0, "")
    after, trimmed = map(int, done.stdout.split())
    assert after - trimmed > 1_000_000, done.stdout
    assert trimmed < 500_000, done.stdout


def test_what_the_allocator_does_not_take_is_an_error() -> None:
    with pytest.raises(OSError, match=r".") as caught:
        syscalls.mallopt(syscalls.M_MXFAST, 1_000_000)
    assert caught.value.errno == errno.EINVAL
