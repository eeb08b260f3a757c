"""Fill descriptors 0-2 and block signals, then launch.

With one of 0-2 closed, the next file would become stdio; a signal to end would end in a traceback.
`lowconmon logs`, `status` and `attach` are other programs, ended by signals as any.
"""

import _signal as signal  # type: ignore[import-not-found]  # in memory; signal costs 0.9 MB
import posix
import sys
from posix import _exit


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
    fd = posix.open("/dev/null", posix.O_RDWR)
    while fd <= 2:
        posix.set_inheritable(fd, True)  # noqa: FBT003 - os's own argument
        fd = posix.open("/dev/null", posix.O_RDWR)
    posix.close(fd)
    try:
        if program == "logs":
            from lowconmon_tools.reader import main as run
        elif reads:
            from lowconmon_tools.operators import main as run
        else:
            from . import launch
    except ImportError as error:  # another system, or a kernel that is too old
        posix.write(2, f"conmon: {error}\n".encode())
        _exit(1)
    if reads:
        sys.exit(run(sys.argv[2:] if program == "logs" else sys.argv[1:]))
    try:
        launch.launch(blocked)
    except OSError as error:  # out of descriptors or memory, mostly
        posix.write(2, f"[conmon:e]: Failed to start: {error.strerror}\n".encode())
        _exit(1)


if __name__ == "__main__":
    main()
