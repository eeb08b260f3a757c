"""Parse and check the command line as GLib's GOption and conmon do (CONTRACT, section 1).

Every option is a row of TABLE: the parser, the help text, the manual page and the shell
completions are made from it. Arguments are bytes and need not be UTF-8.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Row = tuple[str, str, str, str, str, str]

# Long name, short letter, kind, metavar, description, and for a hidden option the long name of
# the one that it is another name for. Kinds: flag, string, path, int, int64, strings (repeats).
TABLE: tuple[Row, ...] = (
    ("help", "h", "flag", "", "Show help options", ""),
    ("api-version", "", "flag", "", "Speak version 1 of the sync pipe's API, not the legacy 0", ""),
    ("bundle", "b", "path", "DIR", "OCI bundle (working directory, unless exec)", ""),
    ("cid", "c", "string", "ID", "Container id, always required", ""),
    ("conmon-pidfile", "P", "path", "FILE", "Write the monitor's pid there", ""),
    ("container-pidfile", "p", "path", "FILE", "Where the runtime writes the container's pid", ""),
    ("pidfile", "", "path", "FILE", "Old name", "container-pidfile"),
    ("cuuid", "u", "string", "ID", "Container uuid", ""),
    ("exec", "e", "flag", "", "Run a command in a running container", ""),
    ("exec-attach", "", "flag", "", "Wait for a client to attach to the exec session", ""),
    ("exec-process-spec", "", "path", "FILE", "Process specification of the exec session", ""),
    ("exit-command", "", "path", "PROGRAM", "Run this after the container ended", ""),
    (
        "exit-command-arg",
        "",
        "strings",
        "ARG",
        "Argument for the exit command; may be repeated",
        "",
    ),
    ("exit-delay", "", "int", "SECONDS", "Wait so long before the exit command", ""),
    ("exit-dir", "", "path", "DIR", "Directory that gets the exit file, named by id", ""),
    ("full-attach", "", "flag", "", "Attach socket in the bundle, without --socket-dir-path", ""),
    ("leave-stdin-open", "", "flag", "", "Keep stdin open when an attached client leaves", ""),
    ("log-allowlist-dir", "", "strings", "DIR", "Rotate logs only below it; may be repeated", ""),
    (
        "log-global-size-max",
        "",
        "int64",
        "BYTES",
        "Log no more than so much in all (-1: no limit)",
        "",
    ),
    ("log-label", "", "strings", "K=V", "Field of each journald entry; may be repeated", ""),
    ("log-level", "", "string", "LEVEL", "error fatal panic warning info debug trace", ""),
    ("log-max-files", "", "int", "N", "Rotated logs to keep (1)", ""),
    ("log-path", "l", "strings", "SPEC", "Log: [k8s-file:]PATH, journald, passthrough, none", ""),
    ("log-rotate", "", "flag", "", "Keep the old log when a fresh one begins", ""),
    ("log-size-max", "", "int64", "BYTES", "Size at which a fresh log begins (-1: no limit)", ""),
    ("log-tag", "", "string", "TAG", "Tag of each journald entry", ""),
    ("name", "n", "string", "NAME", "Container name", ""),
    ("no-container-partial-message", "", "flag", "", "Do not mark partial journald entries", ""),
    ("no-new-keyring", "", "flag", "", "Runtime: make no session keyring for the container", ""),
    ("no-pivot", "", "flag", "", "Runtime: do not use pivot_root", ""),
    ("no-sync-log", "", "flag", "", "Do not fsync the log at the end", ""),
    ("persist-dir", "0", "path", "DIR", "Also gets the exit file and the oom file", ""),
    ("replace-listen-pid", "", "flag", "", "Set LISTEN_PID to the runtime's pid", ""),
    ("restore", "", "path", "DIR", "Restore the container from this checkpoint", ""),
    ("runtime", "r", "path", "PROGRAM", "OCI runtime, required", ""),
    ("runtime-arg", "", "strings", "ARG", "Global argument for the runtime; may be repeated", ""),
    ("runtime-opt", "", "strings", "ARG", "Option for the runtime's command; may be repeated", ""),
    ("restore-arg", "", "strings", "ARG", "Old name", "runtime-opt"),
    ("sdnotify-socket", "", "path", "SOCKET", "Relay sd-notify messages to this socket", ""),
    ("seccomp-notify-socket", "", "string", "SOCKET", "Accepted and ignored", ""),
    ("seccomp-notify-plugins", "", "string", "NAMES", "Accepted and ignored", ""),
    ("socket-dir-path", "", "path", "DIR", "Links to attach sockets (/var/run/crio)", ""),
    ("stdin", "i", "flag", "", "Open a pipe to the container's stdin", ""),
    ("sync", "", "flag", "", "Stay the child of the caller, do not daemonise", ""),
    ("syslog", "", "flag", "", "Send diagnostics to syslog too", ""),
    ("systemd-cgroup", "s", "flag", "", "Runtime: let systemd manage cgroups", ""),
    ("terminal", "t", "flag", "", "Give the container a terminal", ""),
    ("timeout", "T", "int", "SECONDS", "Kill the container after so many seconds", ""),
    ("version", "", "flag", "", "Print the version and exit", ""),
)
LOG_LEVELS = (b"error", b"fatal", b"panic", b"warn", b"warning", b"info", b"debug", b"trace")

_LONG = {row[0].encode(): row for row in TABLE if row[0] != "help"}  # `--help` takes no `=`
_SHORT = {ord(row[1]): row for row in TABLE if row[1]} | {ord("?"): TABLE[0]}
_BITS = {"int": 31, "int64": 63}


class OptionError(ValueError):
    """What cannot be parsed; print *text* after `conmon: option parsing failed: `."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


class CheckError(ValueError):
    """What makes no sense; print *text* after `conmon: ` if *plain*, else after `[conmon:e]: `."""

    def __init__(self, text: bytes, *, plain: bool = False, cause: OSError | None = None) -> None:
        if cause is not None:  # conmon puts a blank, no colon, between the two
            text += b" " + (cause.strerror or "").encode()
        super().__init__(text)
        self.text = text
        self.plain = plain


class Options:
    """What the command line said, one attribute for each option that is no alias."""

    __slots__ = tuple(row[0].replace("-", "_") for row in TABLE if not row[5])

    help: bool
    api_version: bool
    bundle: bytes | None
    cid: bytes | None
    conmon_pidfile: bytes | None
    container_pidfile: bytes | None
    cuuid: bytes | None
    exec: bool
    exec_attach: bool
    exec_process_spec: bytes | None
    exit_command: bytes | None
    exit_command_arg: list[bytes]
    exit_delay: int
    exit_dir: bytes | None
    full_attach: bool
    leave_stdin_open: bool
    log_allowlist_dir: list[bytes]
    log_global_size_max: int
    log_label: list[bytes]
    log_level: bytes
    log_max_files: int
    log_path: list[bytes]
    log_rotate: bool
    log_size_max: int
    log_tag: bytes | None
    name: bytes | None
    no_container_partial_message: bool
    no_new_keyring: bool
    no_pivot: bool
    no_sync_log: bool
    persist_dir: bytes | None
    replace_listen_pid: bool
    restore: bytes | None
    runtime: bytes | None
    runtime_arg: list[bytes]
    runtime_opt: list[bytes]
    sdnotify_socket: bytes | None
    seccomp_notify_socket: bytes | None
    seccomp_notify_plugins: bytes | None
    socket_dir_path: bytes
    stdin: bool
    sync: bool
    syslog: bool
    systemd_cgroup: bool
    terminal: bool
    timeout: int
    version: bool

    def __init__(self) -> None:
        unset = {"flag": False, "int": 0, "int64": -1}
        for long, _, kind, _, _, alias_of in TABLE:
            if not alias_of:
                setattr(self, long.replace("-", "_"), [] if kind == "strings" else unset.get(kind))
        self.log_level = b"warning"
        self.log_max_files = 1
        self.socket_dir_path = b"/var/run/crio"


def parse(arguments: Sequence[bytes]) -> Options:
    """Return what *arguments*, without the program's name, say. Raises OptionError.

    Returns at once, with `help` set, where help is asked for; what follows is not looked at.
    """
    options = Options()
    rest = iter(arguments)
    for argument in rest:
        if argument == b"--":
            break
        if argument in (b"--help", b"--help-all"):
            options.help = True
        elif argument[:2] == b"--":
            name, equals, value = argument[2:].partition(b"=")
            row = _LONG.get(name)
            if row is None:
                raise OptionError(b"Unknown option " + argument)
            if not equals and row[2] != "flag":
                value = _next(rest, b"--" + name)
            _store(options, row, b"--" + name, value)
        elif argument[:1] == b"-":  # a lone `-` has no letters: it is a positional
            _parse_letters(options, argument, rest)
        if options.help:
            break
    return options


def _parse_letters(options: Options, argument: bytes, rest: Iterator[bytes]) -> None:
    valued = False
    for letter in argument[1:]:
        row = _SHORT.get(letter)
        shown = b"-%c" % letter
        if row is None:
            raise OptionError(b"Unknown option " + argument)
        value = b""
        if row[2] != "flag":
            if valued:  # the next argument is taken
                raise OptionError(b"Error parsing option " + shown)
            value = _next(rest, shown)
            valued = True
        _store(options, row, shown, value)
        if options.help:
            return


def _next(rest: Iterator[bytes], shown: bytes) -> bytes:
    value = next(rest, None)
    if value is None:
        raise OptionError(b"Missing argument for " + shown)
    return value


def _store(options: Options, row: Row, shown: bytes, value: bytes) -> None:
    long, _, kind, _, _, alias_of = row
    attribute = (alias_of or long).replace("-", "_")
    if kind == "strings":
        getattr(options, attribute).append(value)
    elif kind in _BITS:
        setattr(options, attribute, _integer(value, shown, _BITS[kind]))
    else:
        setattr(options, attribute, True if kind == "flag" else value)


def _integer(value: bytes, shown: bytes, bits: int) -> int:
    """Read *value* as strtol(3) with base 0 does, nothing after the digits allowed."""
    quoted = b"\xe2\x80\x9c%b\xe2\x80\x9d for %b" % (value, shown)
    digits = value.lstrip(b" \t\n\v\f\r").lower()
    negative = digits[:1] == b"-"
    if digits[:1] in (b"+", b"-"):
        digits = digits[1:]
    base = 10
    if digits[:2] == b"0x":
        base, digits = 16, digits[2:]
    elif digits[:1] == b"0":
        base = 8
    if not digits or digits.strip(b"0123456789abcdef"[:base]):
        raise OptionError(b"Cannot parse integer value " + quoted)
    # 30 digits are too many in any base, and int() refuses some thousands of them.
    number = int(digits.lstrip(b"0")[:30] or b"0", base)
    if number > (1 << bits) - (not negative):
        raise OptionError(b"Integer value %b out of range" % quoted)
    return -number if negative else number


def help_text(program: bytes) -> bytes:
    """Return what `--help` prints, for a program of that name."""
    lines = [" [OPTION\u2026] - container monitor", "", "Help Options:"]
    for long, short, _, metavar, text, alias_of in TABLE:
        if not alias_of:
            letter = f"-{short}, " if short else ""
            value = f"={metavar}" if metavar else ""
            lines.append(f"  {letter}--{long}{value}".ljust(36) + text)
    lines.insert(4, "\nApplication Options:")
    return b"Usage:\n  " + program + "\n".join([*lines, "", ""]).encode()


def check(  # noqa: C901, PLR0912 - one list of checks, in conmon's order
    options: Options, access: Callable[[bytes], None], getcwd: Callable[[], bytes]
) -> None:
    """Refuse, in conmon's order, what makes no sense (CheckError), then fill in the defaults.

    *access* raises OSError if the path given is no program that we may execute.
    The log drivers come after this: see log_drivers.plan.
    """
    files = options.log_max_files
    if files < 0:
        raise CheckError(b"log-max-files must be non-negative, got %d" % files, plain=True)
    if options.log_rotate and files < 1:
        text = b"log-max-files must be at least 1 when log-rotate is enabled, got %d" % files
        raise CheckError(text, plain=True)
    if options.cid is None:
        raise CheckError(b"Container ID not provided. Use --cid", plain=True)
    if options.log_level.lower() not in LOG_LEVELS:
        raise CheckError(b"No such log level " + options.log_level)
    options.log_level = options.log_level.lower()
    if options.exec and options.restore is not None:
        raise CheckError(b"Cannot use 'exec' and 'restore' at the same time")
    if options.exec_attach and not options.exec:
        raise CheckError(b"Attach can only be specified with exec")
    if options.exec_attach and not options.api_version:
        raise CheckError(b"Attach can only be specified for a non-legacy exec session")
    if options.cuuid is None and (options.api_version or not options.exec):
        raise CheckError(b"Container UUID not provided. Use --cuuid")
    if options.runtime is None:
        raise CheckError(b"Runtime path not provided. Use --runtime")
    try:
        access(options.runtime)
    except OSError as error:
        text = b"Runtime path %b is not valid" % options.runtime
        raise CheckError(text, cause=error) from error
    if options.exec and options.exec_process_spec is None:
        raise CheckError(b"Exec process spec path not provided. Use --exec-process-spec")
    try:
        cwd = getcwd()
    except OSError as error:
        raise CheckError(b"Failed to get working directory", cause=error) from error
    if options.exit_delay < 0:
        text = b"Delay before invoking exit command must be greater than or equal to 0"
        raise CheckError(text)
    if options.bundle is None and not options.exec:
        options.bundle = cwd
    if options.container_pidfile is None:
        options.container_pidfile = b"%b/pidfile-%b" % (cwd, options.cid)
