"""Names that annotations need and the running program does not."""

from collections.abc import (
    Callable as Callable,
    Iterable as Iterable,
    Iterator as Iterator,
    Sequence as Sequence,
)
from typing import Any as Any, NoReturn as NoReturn, Protocol, TypeAlias

from .loop import Loop as Loop
from .monitor import Monitor as Monitor
from .pure.options import Options as Options
from .rooms.compression import Compression as Compression
from .rooms.diagnostics import Diagnostics as Diagnostics
from .rooms.logs import Logs as Logs
from .rooms.process import Process as Process

Buffer: TypeAlias = bytes | memoryview

class Records(Protocol):
    """A format of log files: K8sRecords or JsonRecords."""

    counts: dict[bytes, int]
    def format(self, stream: bytes, now_ns: int, utc_offset: int, data: bytes) -> Buffer: ...
    def finish(self, now_ns: int) -> bytes: ...
    @staticmethod
    def stream_of(record: bytes) -> bytes: ...
    @staticmethod
    def mend_tail(tail: bytes) -> tuple[int, bytes]: ...

Tally: TypeAlias = tuple[dict[bytes, int], dict[bytes, int], int, int]

class Driver(Protocol):
    """A log driver: LogFile or Journal."""

    on_room: Callable[[], object]
    def write(self, stream: bytes, now_ns: int, data: bytes) -> None: ...
    def full(self) -> bool: ...
    def holds(self) -> bool: ...
    def tally(self) -> Tally: ...
    def finish(self) -> None: ...
    def reopen(self) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...
    def detach(self) -> None: ...
