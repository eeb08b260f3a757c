"""Read what Linux and runtimes write about processes: wait statuses, /proc/PID/stat, pid files."""


def exit_code(code: int, status: int) -> int:
    """Return the exit code, or 128 + signal, for si_code and si_status of waitid(2)."""
    return status if code == 1 else 128 + status  # CLD_EXITED is 1 everywhere


def exit_code_of_wait_status(wait_status: int) -> int:
    """Return the exit code, or 128 + signal, for a status as wait(2) and pidfds give it."""
    return wait_status >> 8 & 0xFF if wait_status & 0x7F == 0 else 128 + (wait_status & 0x7F)


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
