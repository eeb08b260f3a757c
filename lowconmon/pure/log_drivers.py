"""Understand the `--log-path` specifications (CONTRACT, section 6).

A plan says where the output goes; opening the file is the caller's, in the middle of the checks,
because conmon complains about a tag only after it has opened (and made) the log.
"""

from .options import CheckError, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LABEL = b"Container labels must be in format LABEL=VALUE "
_BAD_NAME = b"Container label names must contain only uppercase letters, numbers and underscore"
_NAME = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"


class LogPlan:
    """Where the output goes: *path* is a file of the format *driver*; *off* means nowhere at all."""

    path: bytes | None = None
    driver = b"k8s-file"
    journald = passthrough = off = False

    def __init__(self) -> None:
        self.warnings: list[bytes] = []


def plan(  # noqa: PLR0913 - each argument an option
    specs: "Sequence[bytes]",
    *,
    cid: bytes,
    log_tag: bytes | None,
    log_label: "Sequence[bytes]",
    open_file: "Callable[[LogPlan], object]",
    no_container_partial_message: bool = False,
) -> LogPlan:
    """Return the plan that *specs* ask for; *open_file* may raise OSError. Raises CheckError."""
    refuse(b"Log driver not provided. Use --log-path", when=not specs)
    result = LogPlan()
    for spec in specs:
        _add(result, spec)
    result.off = result.path is None and not result.journald and not result.passthrough
    if result.path is not None:
        try:
            open_file(result)
        except OSError as error:
            raise CheckError(b"Failed to open log file", cause=error) from error
    if result.journald:  # its CONTAINER_ID is the first 12 characters
        refuse(b"Container ID must be longer than 12 characters", when=len(cid) <= 12)
        for label in log_label:
            refuse(_LABEL + b"(no LABEL present in '%b')" % label, when=label[:1] == b"=")
            text = _LABEL + b"(none or more than one '=' present in '%b')" % label
            refuse(text, when=label.count(b"=") != 1)
            name = label.partition(b"=")[0]
            refuse(_BAD_NAME + b" (in '%b')" % label, when=name.strip(_NAME) != b"")
    elif result.path is not None:
        refuse(result.driver + b" doesn't support --log-tag", when=log_tag is not None)
        refuse(result.driver + b" doesn't support --log-label", when=bool(log_label))
    if no_container_partial_message and not result.journald:
        text = b"--no-container-partial-message has no effect without journald log driver"
        result.warnings.append(text)
    return result


def _add(result: LogPlan, spec: bytes) -> None:
    driver, colon, path = spec.partition(b":")
    result.journald |= driver == b"journald"
    result.passthrough |= driver == b"passthrough"
    if driver in (b"journald", b"passthrough", b"off", b"null", b"none"):
        return
    if driver not in (b"", b"k8s-file", b"json-file"):
        refuse(b"No such log driver " + driver, when=bool(colon) and b"/" not in driver)
        driver, path = b"", spec  # ours: it may have a colon in it
    elif not path.strip(b":"):  # nothing but colons is no path, for conmon too
        refuse(driver + b" requires a filename", when=driver != b"")
        raise CheckError(b"log-path must not be empty")
    if result.path not in (None, path):
        result.warnings.append(b"Only the last log file is written, not " + result.path)
    result.path, result.driver = path, driver or b"k8s-file"
