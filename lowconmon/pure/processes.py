"""Read what Linux and runtimes write about processes: wait statuses, /proc/PID/stat, pid files."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Any


def wait_status(code: int, status: int) -> int:
    """Return a status as wait(2) and pidfds give it, for si_code and si_status of waitid(2)."""
    # CLD_EXITED is 1 and CLD_DUMPED 3 everywhere.
    return status << 8 if code == 1 else status | (0x80 if code == 3 else 0)


def exit_code(wait_status: int) -> int:
    """Return the exit code, or 128 + signal, for a status as wait(2) gives it."""
    return wait_status >> 8 & 0xFF if wait_status & 0x7F == 0 else 128 + (wait_status & 0x7F)


def ending(status: int, wait_status: int | None, *, timed_out: bool, oom: bool) -> "dict[str, Any]":
    """Return what exit.json says of an end; *wait_status* None: nobody can tell."""
    signal = (wait_status or 0) & 0x7F
    cause = "timed out" if timed_out else "unknown" if wait_status is None else "exited"
    if signal and not timed_out:
        cause = "oom" if oom else "signalled"
    dumped = bool(signal and (wait_status or 0) & 0x80)
    return {
        "version": 1,
        "status": status,
        "signal": signal or None,
        "core_dumped": dumped,
        "cause": cause,
    }


def parse_pid(content: bytes) -> int | None:
    """Return the pid in a pid file; None when it is empty, garbage, 0, negative or too large."""
    digits = content.strip()
    pid = int(digits) if digits.isdigit() and len(digits) <= 10 else 0
    return pid if 0 < pid < 2**31 else None


def start_time(stat: bytes) -> int | None:
    """Return the start time, in clock ticks since boot, of /proc/PID/stat; None when malformed."""
    # The name, in parentheses, may hold blanks and parentheses: count behind the last one.
    fields = stat[stat.rfind(b")") + 1 :].split()
    return int(fields[19]) if len(fields) > 19 and fields[19].isdigit() else None
