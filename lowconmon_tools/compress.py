"""compress makes a gzip file of a rotated log, and proves that it holds every byte of it.

usage: python3 -ISB compress.py < LOG > EMPTY-FILE-THAT-CAN-BE-READ

Laws: it knows no paths and runs without the package; it takes only the time that nobody wants.
Status 0: the file is on stable storage and was read back. 2: LOG changed meanwhile. Any other: an
error, told on stderr. Whatever is not 0 leaves a file that is good for nothing.
"""

import os
import zlib

_PIECE = 65536
_GZIP = 31  # zlib's wbits: a window of 32 KiB, gzip's header (without a time) and trailer


def compress(source: int, target: int) -> None:
    """Write *source*, up to the size it has now, to *target*, and that to stable storage."""
    size, at = os.fstat(source).st_size, 0
    packer = zlib.compressobj(6, zlib.DEFLATED, _GZIP)
    while piece := os.pread(source, min(_PIECE, size - at), at):
        at += len(piece)
        _write(target, packer.compress(piece))
    _write(target, packer.flush())
    os.fsync(target)


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def verify(source: int, target: int) -> bool:
    """Tell whether *target* is one whole gzip member that holds *source*. Raises zlib.error too."""
    os.posix_fadvise(target, 0, 0, os.POSIX_FADV_DONTNEED)  # what counts is what the disk has
    unpacker, at, packed_at = zlib.decompressobj(_GZIP), 0, 0
    while not unpacker.eof:  # which comes with the trailer, when length and sum are right
        packed = unpacker.unconsumed_tail
        if not packed:
            packed = os.pread(target, _PIECE, packed_at)
            packed_at += len(packed)
        text = unpacker.decompress(packed, _PIECE)
        if not (packed or text) or text != os.pread(source, len(text), at):
            return False
        at += len(text)
    return not (unpacker.unused_data or os.pread(target, 1, packed_at) or os.pread(source, 1, at))


def run(source: int, target: int) -> int:
    """Compress and verify; return the status that the program ends with."""
    before = os.fstat(source)
    compress(source, target)
    good = verify(source, target)
    after = os.fstat(source)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        return 2
    return 0 if good else 1


def be_idle() -> None:
    """Take only CPU time that nobody wants; the disk's follows from it (ioprio_set(2))."""
    try:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    except OSError:  # EPERM, ENOSYS: a sandbox
        os.nice(19)


if __name__ == "__main__":
    be_idle()
    os._exit(run(0, 1))
