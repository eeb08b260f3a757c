"""Understand the `--log-path` specifications (CONTRACT, section 6).

A plan says where the output goes; opening the file is the caller's, in the middle of the checks,
because conmon complains about a tag only after it has opened (and made) the log.
"""

from __future__ import annotations

from lowconmon.pure.options import CheckError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SHORT_ID = 12  # journald's CONTAINER_ID is cut to so many
_LABEL = b"Container labels must be in format LABEL=VALUE "
_LABEL_NAME = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"


class LogPlan:
    """Where the output goes: *path* is that of the k8s-file, *off* means nowhere at all."""

    __slots__ = ("journald", "off", "passthrough", "path", "warnings")

    def __init__(self) -> None:
        self.path: bytes | None = None
        self.journald = False
        self.passthrough = False
        self.off = False
        self.warnings: list[bytes] = []


def plan(  # noqa: C901, PLR0913 - conmon's checks in their order, each argument an option
    specs: Sequence[bytes],
    *,
    cid: bytes,
    log_tag: bytes | None,
    log_label: Sequence[bytes],
    no_container_partial_message: bool = False,
    open_file: Callable[[bytes], object] | None = None,
) -> LogPlan:
    """Return the plan that *specs* ask for. Raises CheckError.

    *open_file* is called with the path of the log file, if there is one, and may raise OSError.
    """
    if not specs:
        raise CheckError(b"Log driver not provided. Use --log-path")
    result = LogPlan()
    for spec in specs:
        _add(result, spec)
    result.off = result.path is None and not result.journald and not result.passthrough
    if result.path is not None:
        if open_file is not None:
            _open(open_file, result.path)
        if log_tag is not None and not result.journald:
            raise CheckError(b"k8s-file doesn't support --log-tag")
        if log_label and not result.journald:
            raise CheckError(b"k8s-file doesn't support --log-label")
    if result.journald:
        if len(cid) <= _SHORT_ID:
            raise CheckError(b"Container ID must be longer than 12 characters")
        for label in log_label:
            _check_label(label)
    elif no_container_partial_message:
        text = b"--no-container-partial-message has no effect without journald log driver"
        result.warnings.append(text)
    return result


def _add(result: LogPlan, spec: bytes) -> None:
    driver, colon, path = spec.partition(b":")
    given = bool(path.strip(b":"))  # nothing but colons is no path, for conmon too
    if driver == b"k8s-file" and not given:
        raise CheckError(b"k8s-file requires a filename")
    if not driver and not given:
        raise CheckError(b"log-path must not be empty")
    if driver == b"journald":
        result.journald = True
    elif driver == b"passthrough":
        result.passthrough = True
    elif driver not in (b"off", b"null", b"none"):
        if driver in (b"", b"k8s-file"):
            file = path
        elif not colon or b"/" in driver:  # ours: a path with a colon in it
            file = spec
        else:
            raise CheckError(b"No such log driver " + driver)
        if result.path not in (None, file):
            result.warnings.append(b"Only the last log file is written, not " + result.path)
        result.path = file


def _open(open_file: Callable[[bytes], object], path: bytes) -> None:
    try:
        open_file(path)
    except OSError as error:
        raise CheckError(b"Failed to open log file", cause=error) from error


def _check_label(label: bytes) -> None:
    name, _, _ = label.partition(b"=")
    if label[:1] == b"=":
        raise CheckError(_LABEL + b"(no LABEL present in '%b')" % label)
    if label.count(b"=") != 1:
        raise CheckError(_LABEL + b"(none or more than one '=' present in '%b')" % label)
    if name.strip(_LABEL_NAME):
        text = b"Container label names must contain only uppercase letters, numbers and underscore"
        raise CheckError(text + b" (in '%b')" % label)
