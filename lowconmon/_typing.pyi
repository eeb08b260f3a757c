"""Names that annotations need and the running program does not."""

from collections.abc import Callable as Callable, Iterable as Iterable, Sequence as Sequence
from typing import Any as Any, NoReturn as NoReturn

from .loop import Loop as Loop
from .pure.options import Options as Options
from .rooms.diagnostics import Diagnostics as Diagnostics
from .rooms.logs import LogFile as LogFile
