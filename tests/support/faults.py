"""Make calls of lowconmon._syscalls fail: the one seam of all tests.

In a test, by the fixture `inject`:

    inject("read", errno=EIO, nth=2)               the second read fails
    inject("write", shorten=1, times=None)         every write takes one byte
    inject("open", errno=EMFILE, only=lambda path, *rest, **named: b"log" in path)

In a process of its own, by a text:

    python tests/support/faults.py write:errno=ENOSPC:nth=3,read:shorten=1:times=5 -- ARGS

installs the faults, then runs the program with ARGS. Each fault counts the calls of its function
from 1, those that another fault breaks included; a forked child goes on with its parent's counts.
`record=FILE` in the place of a fault writes down every call instead: its name and where it is made.
Only os, errno and sys are imported, so that the process stays as small as the program.
"""

from __future__ import annotations

import errno as errno_names
import os
import re
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import ModuleType
    from typing import Any

VARIABLE = "LOWCONMON_TEST_FAULTS"
NOTHING = (
    "LOWCONMON_TEST_NOTHING"  # set: the program is one that does nothing, tests/support/nothing
)
FOREVER = "forever"

# How a call is cut short. Data must not get lost, so the request is cut and not the answer.
CUT_DATA = ("write", "send", "send_fds", "send_pieces")  # the second argument is bytes
CUT_LIST = ("sendmmsg",)  # the second argument is a list of messages
CUT_LINES = ("send_lines",)  # the second argument is bytes of lines
CUT_SIZE = ("read", "read_all", "pread", "recv_fds")  # the second argument is a size
CUT_BUFFERS = ("readv",)  # the second argument is a list of buffers to fill
CUT_RESULT = ("epoll_wait",)  # level-triggered: what is not told comes again
DONE = ("close",)  # Linux frees the number whatever it says, so the call is done and then fails


class Fault:
    """Which calls of one function fail, and how; `fired` counts those that did."""

    __slots__ = ("at", "calls", "errno", "fired", "nth", "only", "shorten", "times")

    def __init__(
        self,
        errno: int | None,
        shorten: int | None,
        nth: int,
        times: int | None,
        only: Callable[..., object] | None,
        at: str | None,
    ) -> None:
        if (errno is None) == (shorten is None):
            raise ValueError("say either errno or shorten")
        if nth < 1 or (times is not None and times < 1):
            raise ValueError("nth and times count from 1")
        self.errno, self.shorten, self.nth, self.times = errno, shorten, nth, times
        self.only, self.at = only, at
        self.calls = self.fired = 0

    def meets(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> bool:
        """Count a call and tell whether it fails."""
        if self.only is not None and not self.only(*arguments, **named):
            return False
        if self.at is not None and self.at != site():
            return False
        self.calls += 1
        return self.calls >= self.nth and (self.times is None or self.calls < self.nth + self.times)


class Seam:
    """Stands in the place of one function while it has faults."""

    def __init__(self, name: str, original: Callable[..., Any]) -> None:
        self.__name__ = name
        self.original = original
        self.faults: list[Fault] = []
        self.places: list[tuple[ModuleType, str]] = []

    def __call__(self, *arguments: Any, **named: Any) -> Any:  # noqa: ANN401 - any function's
        met = [fault for fault in self.faults if fault.meets(arguments, named)]
        if not met:
            return self.original(*arguments, **named)
        met[0].fired += 1
        if met[0].errno is not None:
            if self.__name__ in DONE:
                self.original(*arguments, **named)
            raise OSError(met[0].errno, os.strerror(met[0].errno))
        assert met[0].shorten is not None
        return self.cut(met[0].shorten, arguments, named)

    def cut(self, size: int, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:  # noqa: ANN401
        """Do the call with no more than *size* bytes (messages, lines, events)."""
        if self.__name__ in CUT_RESULT:
            return self.original(*arguments, **named)[:size]
        first, second, *rest = arguments
        if self.__name__ in CUT_DATA:
            second = memoryview(second).cast("B")[:size]
        elif self.__name__ in CUT_SIZE:
            second = min(size, second)
        elif self.__name__ in CUT_BUFFERS:
            second = _first_bytes(second, size)
        elif self.__name__ in CUT_LINES:
            second = b"".join(re.findall(rb"[^\n]*\n|[^\n]+", second)[:size])
        else:
            second = second[:size]
        return self.original(first, second, *rest, **named)


_seams: dict[str, Seam] = {}


def _first_bytes(buffers: Sequence[Any], size: int) -> list[memoryview]:
    views = []
    for buffer in buffers:
        view = memoryview(buffer).cast("B")[:size]
        size -= len(view)
        views.append(view)
    return [view for view in views if len(view)]


def site() -> str:
    """Return where lowconmon makes this call: `file.py-function-LINE<...`, out to a second file."""
    found: list[str] = []
    names: list[str] = []
    frame = sys._getframe(1)  # noqa: SLF001 - the only way without an import
    while frame is not None and len(set(names)) < 2 and len(found) < 6:  # noqa: PLR2004
        module = frame.f_globals.get("__name__", "")
        if module.startswith("lowconmon.") and module != "lowconmon._syscalls":
            names.append(os.path.basename(frame.f_code.co_filename))
            found.append(f"{names[-1]}-{frame.f_code.co_name}-{frame.f_lineno}")
        frame = frame.f_back  # type: ignore[assignment]
    return "<".join(found)


def record(path: str) -> None:
    """Write `NAME PID SITE` to a file for every call of lowconmon._syscalls from now on."""
    import lowconmon._syscalls as target  # noqa: PLC0415 - as in `inject`

    flags, (opened, written, closed) = (
        os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
        (os.open, os.write, os.close),
    )

    def note(name: str) -> bool:
        fd = opened(path, flags, 0o600)  # for each line: the process closes what it does not know
        written(fd, f"{name} {os.getpid()} {site()}\n".encode())
        closed(fd)
        return False

    for name, value in list(vars(target).items()):
        if name.startswith("_") or not callable(value) or isinstance(value, type):
            continue
        inject(name, errno=errno_names.EIO, only=lambda *_, name=name, **__: note(name))


def inject(  # noqa: PLR0913 - the words of a fault
    name: str,
    *,
    errno: int | None = None,
    shorten: int | None = None,
    nth: int = 1,
    times: int | None = 1,
    only: Callable[..., object] | None = None,
    at: str | None = None,
) -> Fault:
    """Make the *nth* call of lowconmon._syscalls.*name* and the *times* - 1 after it fail.

    *errno*: raise OSError instead of the call. *shorten*: really do it, but with at most so many
    bytes (send- and read-like calls), messages (sendmmsg) or events (epoll_wait). *times* None:
    for ever. *only*: takes the call's arguments and tells whether it counts at all. *at*: only calls
    made there, as `site` names it.
    """
    import lowconmon._syscalls as target  # noqa: PLC0415 - after the caller has set sys.path

    fault = Fault(errno, shorten, nth, times, only, at)
    if shorten is not None:
        if name not in (*CUT_DATA, *CUT_LIST, *CUT_LINES, *CUT_SIZE, *CUT_BUFFERS, *CUT_RESULT):
            raise ValueError(f"{name} cannot be shortened")
        if shorten < 1:
            raise ValueError("cut to nothing a read would look like the end: say 1 or more")
    if name not in _seams:
        original = getattr(target, name)
        if name.startswith("_") or not callable(original):
            raise ValueError(f"{name} is no call of lowconmon._syscalls")
        seam = _seams[name] = Seam(name, original)
        # Also where `from ._syscalls import name` has been: the seam must miss nobody.
        for module_name, module in list(sys.modules.items()):
            if module_name.partition(".")[0] in ("lowconmon", "lowconmon_tools"):
                for attribute, value in list(vars(module).items()):
                    if value is original:
                        setattr(module, attribute, seam)
                        seam.places.append((module, attribute))
    _seams[name].faults.append(fault)
    return fault


def undo() -> None:
    """Take all faults out again."""
    while _seams:
        _, seam = _seams.popitem()
        seam.faults.clear()  # whoever imported the seam meanwhile gets the plain call
        for module, attribute in seam.places:
            setattr(module, attribute, seam.original)


def _about(text: str) -> Callable[..., bool]:
    """Return a predicate: the first argument is a path, or a descriptor of a path, with *text*."""

    def only(*arguments: Any, **_named: Any) -> bool:  # noqa: ANN401
        thing = arguments[0] if arguments else -1
        if hasattr(thing, "fileno"):
            thing = thing.fileno()
        if isinstance(thing, int):
            try:
                thing = os.readlink(f"/proc/self/fd/{thing}")
            except OSError:  # not open: about nothing
                return False
        return text in os.fsdecode(thing)

    return only


def parse(spec: str) -> list[tuple[str, dict[str, Any]]]:
    """Return function name and keywords of `inject` for each fault of a text.

    name:errno=ENOSPC:nth=3:times=2,name:shorten=1:times=forever:file=PART-OF-THE-PATH
    name:errno=EIO:at=log_file.py-_write-17<log_file.py-write-4
    """
    faults = []
    for entry in filter(None, spec.split(",")):
        name, *words = entry.split(":")
        named: dict[str, Any] = {}
        for word in words:
            key, _, value = word.partition("=")
            if key == "errno":
                named[key] = int(value) if value.isdigit() else getattr(errno_names, value)
            elif key in ("nth", "shorten", "times"):
                named[key] = None if (key, value) == ("times", FOREVER) else int(value)
            elif key == "at":
                named[key] = value
            elif key == "file":
                named["only"] = _about(value)
            else:
                raise ValueError(f"unknown word {word!r} in {entry!r}")
        faults.append((name, named))
    return faults


def install(spec: str) -> list[Fault]:
    """Inject all faults of a text (see `parse`) for the rest of the process's life."""
    if spec.startswith("record="):
        record(spec.removeprefix("record="))
        return []
    return [inject(name, **named) for name, named in parse(spec)]


def from_environment() -> None:
    """Install the faults of the environment, if any. The runtime inherits the variable."""
    install(os.environ.get(VARIABLE, ""))


def run_program(spec: str, argv: Sequence[str]) -> None:
    """Install the faults of *spec* and run the program; *argv* begins with its name."""
    if os.environ.get(NOTHING):
        sys.exit(0)
    install(spec)
    sys.argv = list(argv)
    from lowconmon.__main__ import main  # noqa: PLC0415 - with the faults in place

    main()


def command(spec: str, *arguments: str, python: Sequence[str] = (sys.executable,)) -> list[str]:
    """Return the command line that runs the program with faults."""
    return [*python, os.path.abspath(__file__), spec, "--", *arguments]


if __name__ == "__main__":
    # By path and not by -m, so that neither cwd nor PYTHONPATH matter; not this folder's names.
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    if sys.path[:1] == [os.path.dirname(os.path.abspath(__file__))]:
        del sys.path[0]
    sys.path.insert(0, root)
    if len(sys.argv) < 3 or sys.argv[2] != "--":  # noqa: PLR2004
        sys.exit("usage: faults.py SPEC -- ARGS")
    run_program(sys.argv[1], ["lowconmon", *sys.argv[3:]])
