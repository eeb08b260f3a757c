"""Parse and check the command line as GLib's GOption and conmon do (CONTRACT, section 1).

Every option is a row of TABLE, and its value an attribute of Options, where the default stands too.
Arguments are bytes and need not be UTF-8.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    Row = tuple[str, str, str, str, str]

# Long name, short letter, kind (flag, string, path, int, int64, strings: repeats), metavar, help.
TABLE: "tuple[Row, ...]" = (
    ("help", "h", "flag", "", "Show help options"),
    ("api-version", "", "flag", "", "Speak version 1 of the sync pipe's API, not the legacy 0"),
    ("bundle", "b", "path", "DIR", "OCI bundle (working directory, unless exec)"),
    ("cid", "c", "string", "ID", "Container id, always required"),
    ("conmon-pidfile", "P", "path", "FILE", "Write the monitor's pid there"),
    ("container-pidfile", "p", "path", "FILE", "Where the runtime writes the container's pid"),
    ("cuuid", "u", "string", "ID", "Container uuid"),
    ("exec", "e", "flag", "", "Run a command in a running container"),
    ("exec-attach", "", "flag", "", "Wait for a client to attach to the exec session"),
    ("exec-process-spec", "", "path", "FILE", "Process specification of the exec session"),
    ("exit-command", "", "path", "PROGRAM", "Run this after the container ended"),
    ("exit-command-arg", "", "strings", "ARG", "Argument for the exit command; may be repeated"),
    ("exit-delay", "", "int", "SECONDS", "Wait so long before the exit command"),
    ("exit-dir", "", "path", "DIR", "Directory that gets the exit file, named by id"),
    ("full-attach", "", "flag", "", "Attach socket in the bundle, without --socket-dir-path"),
    ("leave-stdin-open", "", "flag", "", "Keep stdin open when an attached client leaves"),
    ("log-allowlist-dir", "", "strings", "DIR", "Rotate logs only below it; may be repeated"),
    ("log-global-size-max", "", "int64", "BYTES", "Log no more than so much in all (-1: no limit)"),
    ("log-label", "", "strings", "K=V", "Field of each journald entry; may be repeated"),
    ("log-level", "", "string", "LEVEL", "error fatal panic warning info debug trace"),
    ("log-max-files", "", "int", "N", "Rotated logs to keep (1)"),
    ("log-path", "l", "strings", "SPEC", "Log: [k8s-file:]PATH, journald, passthrough, none"),
    ("log-rotate", "", "flag", "", "Keep the old log when a fresh one begins"),
    ("log-size-max", "", "int64", "BYTES", "Size at which a fresh log begins (-1: no limit)"),
    ("log-tag", "", "string", "TAG", "Tag of each journald entry"),
    ("name", "n", "string", "NAME", "Container name"),
    ("no-container-partial-message", "", "flag", "", "Do not mark partial journald entries"),
    ("no-new-keyring", "", "flag", "", "Runtime: make no session keyring for the container"),
    ("no-pivot", "", "flag", "", "Runtime: do not use pivot_root"),
    ("no-sync-log", "", "flag", "", "Do not fsync the log at the end"),
    ("persist-dir", "0", "path", "DIR", "Also gets the exit file and the oom file"),
    ("replace-listen-pid", "", "flag", "", "Set LISTEN_PID to the runtime's pid"),
    ("restore", "", "path", "DIR", "Restore the container from this checkpoint"),
    ("runtime", "r", "path", "PROGRAM", "OCI runtime, required"),
    ("runtime-arg", "", "strings", "ARG", "Global argument for the runtime; may be repeated"),
    ("runtime-opt", "", "strings", "ARG", "Option for the runtime's command; may be repeated"),
    ("sdnotify-socket", "", "path", "SOCKET", "Relay sd-notify messages to this socket"),
    ("seccomp-notify-socket", "", "string", "SOCKET", "Accepted and ignored"),
    ("seccomp-notify-plugins", "", "string", "NAMES", "Accepted and ignored"),
    ("socket-dir-path", "", "path", "DIR", "Links to attach sockets (/var/run/crio)"),
    ("stdin", "i", "flag", "", "Open a pipe to the container's stdin"),
    ("sync", "", "flag", "", "Stay the child of the caller, do not daemonise"),
    ("syslog", "", "flag", "", "Send diagnostics to syslog too"),
    ("systemd-cgroup", "s", "flag", "", "Runtime: let systemd manage cgroups"),
    ("terminal", "t", "flag", "", "Give the container a terminal"),
    ("timeout", "T", "int", "SECONDS", "Kill the container after so many seconds"),
    ("version", "", "flag", "", "Print the version and exit"),
)
ALIASES = {"pidfile": "container-pidfile", "restore-arg": "runtime-opt"}  # hidden: old names
LOG_LEVELS = (b"error", b"fatal", b"panic", b"warn", b"warning", b"info", b"debug", b"trace")

_ROWS = {b"--" + row[0].encode(): row for row in TABLE[1:]}  # `--help` takes no `=`
_ROWS |= {b"--" + alias.encode(): _ROWS[b"--" + name.encode()] for alias, name in ALIASES.items()}
_ROWS |= {b"-" + row[1].encode(): row for row in TABLE if row[1]} | {b"-?": TABLE[0]}
_NOT_GIVEN: bytes | None = None


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
        self.text, self.plain = text, plain


class Options:
    """What the command line said; what it did not say has the default that stands here."""

    help = api_version = exec = exec_attach = full_attach = leave_stdin_open = log_rotate = False
    no_container_partial_message = no_new_keyring = no_pivot = no_sync_log = False
    replace_listen_pid = stdin = sync = syslog = systemd_cgroup = terminal = version = False
    exit_delay = timeout = 0
    log_max_files, log_size_max, log_global_size_max = 1, -1, -1
    log_level, socket_dir_path = b"warning", b"/var/run/crio"
    bundle = cid = conmon_pidfile = container_pidfile = cuuid = exec_process_spec = _NOT_GIVEN
    exit_command = exit_dir = log_tag = name = persist_dir = restore = runtime = _NOT_GIVEN
    sdnotify_socket = seccomp_notify_socket = seccomp_notify_plugins = _NOT_GIVEN
    exit_command_arg = log_allowlist_dir = log_label = log_path = tuple[bytes, ...]()
    runtime_arg = runtime_opt = tuple[bytes, ...]()


def parse(arguments: "Sequence[bytes]") -> Options:
    """Return what *arguments* say; stops at help, with `help` set. Raises OptionError."""
    options = Options()
    rest = iter(arguments)
    for argument in rest:
        if argument == b"--" or options.help:
            break
        if argument in (b"--help", b"--help-all"):
            options.help = True
        elif argument[:2] == b"--":
            name, equals, value = argument.partition(b"=")
            _take(options, argument, [name], iter([value]) if equals else rest)
        elif argument[:1] == b"-":  # a lone `-` has no letters: it is a positional
            _take(options, argument, [b"-%c" % letter for letter in argument[1:]], rest)
    return options


def _take(options: Options, argument: bytes, names: list[bytes], rest: "Iterator[bytes]") -> None:
    """Set the options that *argument* has the *names* of, one of them to the next of *rest*."""
    valued = False
    for name in names:
        row = _ROWS.get(name)
        if row is None:
            raise OptionError(b"Unknown option " + argument)
        attribute, kind = row[0].replace("-", "_"), row[2]
        if kind == "flag":
            setattr(options, attribute, True)
            if options.help:
                break
            continue
        if valued:  # the next argument is taken
            raise OptionError(b"Error parsing option " + name)
        valued = True
        value = next(rest, None)
        if value is None:
            raise OptionError(b"Missing argument for " + name)
        if kind == "strings":
            setattr(options, attribute, (*getattr(options, attribute), value))
        elif kind in ("int", "int64"):
            setattr(options, attribute, _integer(value, name, 31 if kind == "int" else 63))
        else:
            setattr(options, attribute, value)


def _integer(value: bytes, shown: bytes, bits: int) -> int:
    """Read *value* as strtol(3) with base 0 does, nothing after the digits allowed."""
    quoted = b"\xe2\x80\x9c%b\xe2\x80\x9d for %b" % (value, shown)
    text = value.lstrip(b" \t\n\v\f\r").lower()
    negative = text[:1] == b"-"
    digits = text[1:] if text[:1] in (b"+", b"-") else text
    base = 16 if digits[:2] == b"0x" else 8 if digits[:1] == b"0" else 10
    digits = digits.removeprefix(b"0x")
    if not digits or digits.strip(b"0123456789abcdef"[:base]):
        raise OptionError(b"Cannot parse integer value " + quoted)
    # 30 digits are too many in any base, and int() refuses some thousands of them.
    number = int(digits.lstrip(b"0")[:30] or b"0", base)
    if number > (1 << bits) - (not negative):
        raise OptionError(b"Integer value %b out of range" % quoted)
    return -number if negative else number


def help_text(program: bytes) -> bytes:
    """Return what `--help` prints, for a program of that name."""
    lines = [" [OPTION\u2026] - container monitor\n\nHelp Options:\n"]
    for long, short, _, metavar, text in TABLE:
        names = (f"-{short}, " if short else "") + f"--{long}" + (f"={metavar}" if metavar else "")
        lines.append(f"  {names:<34}{text}\n")
    lines.insert(2, "\nApplication Options:\n")
    return b"Usage:\n  " + program + "".join([*lines, "\n"]).encode()


def refuse(text: bytes, *, when: bool, plain: bool = False) -> None:
    """Raise CheckError(text) when something holds."""
    if when:
        raise CheckError(text, plain=plain)


def check(
    options: Options, access: "Callable[[bytes], None]", getcwd: "Callable[[], bytes]"
) -> None:
    """Refuse, in conmon's order, what makes no sense (CheckError), then fill in the defaults."""
    files, legacy = options.log_max_files, not options.api_version
    refuse(b"log-max-files must be non-negative, got %d" % files, when=files < 0, plain=True)
    text = b"log-max-files must be at least 1 when log-rotate is enabled, got %d" % files
    refuse(text, when=options.log_rotate and files < 1, plain=True)
    if options.cid is None:
        raise CheckError(b"Container ID not provided. Use --cid", plain=True)
    level = options.log_level.lower()
    refuse(b"No such log level " + options.log_level, when=level not in LOG_LEVELS)
    text = b"Cannot use 'exec' and 'restore' at the same time"
    refuse(text, when=options.exec and options.restore is not None)
    attach = options.exec_attach
    refuse(b"Attach can only be specified with exec", when=attach and not options.exec)
    refuse(b"Attach can only be specified for a non-legacy exec session", when=attach and legacy)
    text = b"Container UUID not provided. Use --cuuid"
    refuse(text, when=options.cuuid is None and not (options.exec and legacy))
    if options.runtime is None:
        raise CheckError(b"Runtime path not provided. Use --runtime")
    try:
        access(options.runtime)
    except OSError as error:
        raise CheckError(b"Runtime path %b is not valid" % options.runtime, cause=error) from error
    text = b"Exec process spec path not provided. Use --exec-process-spec"
    refuse(text, when=options.exec and options.exec_process_spec is None)
    try:
        cwd = getcwd()
    except OSError as error:
        raise CheckError(b"Failed to get working directory", cause=error) from error
    text = b"Delay before invoking exit command must be greater than or equal to 0"
    refuse(text, when=options.exit_delay < 0)
    notifies = options.sdnotify_socket is not None
    text = b"Bundle path not provided. Use --bundle"
    refuse(text, when=notifies and options.exec and options.bundle is None)
    options.log_level = level
    if options.bundle is None and not options.exec:
        options.bundle = cwd
    if options.container_pidfile is None:
        options.container_pidfile = b"%b/pidfile-%b" % (cwd, options.cid)
