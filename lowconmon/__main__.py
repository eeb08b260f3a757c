"""Fill descriptors 0-2 and block signals, then launch.

With one of 0-2 closed, the next file would become stdio; a signal to end would end in a traceback.
`lowconmon logs`, `status` and `attach` are other programs, ended by signals as any.
"""

import _signal as signal  # type: ignore[import-not-found]  # in memory; signal costs 0.9 MB
import gc
import posix as os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._typing import Monitor


def main() -> None:
    """Run the program conmon, or one for operators."""
    program = "".join(sys.argv[1:2]) if sys.argv[0].rpartition("/")[2] != "conmon" else ""
    reads = program in ("logs", "status", "attach")
    if reads:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
            # A handler may be late for a blocking call.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
    else:
        ending = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ending)
        gc.disable()  # until all modules have run: the monitor enables it
    fd = os.open("/dev/null", os.O_RDWR)
    while fd <= 2:
        os.set_inheritable(fd, True)  # noqa: FBT003 - os's own argument
        fd = os.open("/dev/null", os.O_RDWR)
    os.close(fd)
    try:
        if program == "logs":
            from lowconmon_tools.reader import main as run
        elif reads:
            from lowconmon_tools.operators import main as run
        else:
            from . import launch
    except (ImportError, OSError) as error:  # a kernel that is too old, no descriptors, no memory
        os.write(2, f"conmon: {error}\n".encode())
        os._exit(1)
    if reads:
        sys.exit(run(sys.argv[2:] if program == "logs" else sys.argv[1:]))
    launch.launch(blocked, len(sys.argv) - 1, _load)


def _load() -> "type[Monitor]":
    from .monitor import Monitor
    from .rooms import exit_record, oom, status  # noqa: F401 - an upgrade may take them away

    return Monitor


if __name__ == "__main__":
    main()
