"""Choose what of a container's sd_notify(3) datagrams is passed on (section 10 of the contract)."""

_WHOLE = {b"READY=1", b"RELOADING=1", b"STOPPING=1", b"WATCHDOG=1", b"WATCHDOG=trigger"}
_STARTS = (b"STATUS=", b"ERRNO=", b"BUSERROR=", b"MONOTONIC_USEC=", b"EXTEND_TIMEOUT_USEC=")


def passed_on(datagram: bytes) -> bytes | None:
    """Return the lines that pass as one datagram, None when there is none."""
    lines = datagram.rstrip(b"\0").replace(b"\r", b"\n").split(b"\n")
    # For a NUL in one line systemd would ignore them all.
    passing = [line for line in lines if line in _WHOLE or line.startswith(_STARTS)]
    return b"\n".join(line for line in passing if b"\0" not in line) or None
