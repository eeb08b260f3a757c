"""Turn the command line into options and open logs, before anything else happens.

Laws: what the manager must see fail fails here, while it still listens. Nothing here is kept once it
has been run: launch frees this module and the parser, for the monitor to take their memory.
"""

import errno
import posix as os

from . import VERSION_TEXT, _syscalls
from .loop import Loop
from .pure import log_drivers
from .pure.options import CheckError, OptionError, Options, check, help_text, parse
from .pure.records import K8sRecords
from .pure.runtime import find_variable
from .rooms import process
from .rooms.diagnostics import Diagnostics, leave
from .rooms.log_file import LogFile
from .rooms.logs import Logs
from .rooms.rotation import Rotation

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ._typing import Any, Process, Records


def configure(
    loop: Loop, diagnostics: Diagnostics, as_started: "dict[str, Any]", arguments: list[bytes]
) -> tuple[Options, Logs]:
    """Return the options, parsed and checked, and the logs, opened; leave where they say so."""
    logs = Logs(loop)
    try:
        options = parse(arguments)
        if options.help:
            leave(0, help_text(b"conmon"), 1)
        if options.version:
            leave(0, VERSION_TEXT.encode(), 1)
        check(options, _check_executable, os.getcwdb)
        diagnostics.configure(options.log_level, options.cid or b"", options.log_tag)
        diagnostics.to_syslog = options.syslog
        plan = log_drivers.plan(
            options.log_path,
            cid=options.cid or b"",
            log_tag=options.log_tag,
            log_label=options.log_label,
            open_file=lambda plan: _open_file(plan, options, diagnostics, as_started, logs),
            no_container_partial_message=options.no_container_partial_message,
        )
    except OptionError as error:
        leave(1, b"conmon: option parsing failed: " + error.text + b"\n")
    except CheckError as error:
        leave(1, (b"conmon: " if error.plain else b"[conmon:e]: ") + error.text + b"\n")
    for text in plan.warnings:
        diagnostics.warn(text.decode("utf-8", "surrogateescape"))
    logs.passthrough = plan.passthrough
    if plan.journald:
        from .rooms.journal import Journal  # its memory is for those who want it

        names = options.cid or b"", options.name, options.log_tag, options.log_label
        journal = Journal(
            loop,
            diagnostics,
            *names,
            mark_partial=not options.no_container_partial_message,
            prefix_is_priority=_is_set(as_started, b"LOWCONMON_JOURNAL_PRIORITY"),
        )
        logs.drivers.append(journal)
    return options, logs


def _open_file(
    plan: log_drivers.LogPlan,
    options: Options,
    diagnostics: Diagnostics,
    as_started: "dict[str, Any]",
    logs: Logs,
) -> None:
    """Open the log file of *plan* and add it to *logs*. Raises OSError."""
    path = plan.path or b""
    records: Records = K8sRecords(_syscalls._frame_lines)
    if plan.driver == b"json-file":
        from .pure.json_records import JsonRecords  # as Journal

        records = JsonRecords()
    on_error = find_variable(as_started["environment"], b"LOWCONMON_LOG_ON_ERROR")[1]
    if on_error not in (b"", b"hold", b"drop"):
        diagnostics.warn("LOWCONMON_LOG_ON_ERROR must be hold or drop")
    backups = options.log_max_files if options.log_rotate else 0
    rotation = Rotation(path, backups, options.log_allowlist_dir)
    limits = {"size_max": options.log_size_max, "total_max": options.log_global_size_max}
    drops = on_error == b"drop"
    file = LogFile(logs.loop, diagnostics, path, records, rotation, drops=drops, **limits)
    logs.drivers.append(file)
    if backups and _is_set(as_started, b"LOWCONMON_LOG_COMPRESS"):
        from .rooms.compression import Compression  # as Journal

        start_process = process.start  # no global of this module: it lives longer

        def start(*arguments: "Any", **how: "Any") -> "Process":
            return start_process(logs.loop, as_started, *arguments, **how)

        logs.compression = Compression(logs.loop, diagnostics, path, backups, start)
        rotation.on_backup = logs.compression.start


def _is_set(as_started: "dict[str, Any]", name: bytes) -> bool:
    return find_variable(as_started["environment"], name)[1] == b"1"


def _check_executable(path: bytes) -> None:
    """Raise OSError when *path* cannot be executed, as access(2) with X_OK does."""
    os.stat(path)
    if not os.access(path, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
