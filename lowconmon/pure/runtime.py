"""Build a runtime's command line and environment (section 4 of the contract)."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Options


def command_line(options: "Options", console_socket: bytes | None) -> list[bytes]:
    """Return the runtime's arguments, its own path first."""
    line = [options.runtime or b""]
    line += [b"--systemd-cgroup"] if options.systemd_cgroup and not options.exec else []
    line += options.runtime_arg
    pid_file = [b"--pid-file", options.container_pidfile or b""]
    if options.exec:
        line += [b"exec", *pid_file, b"--process", options.exec_process_spec or b"", b"--detach"]
    else:
        bundle = options.bundle or b""
        line.append(b"create" if options.restore is None else b"restore")
        line += [b"--bundle", bundle, *pid_file]
        line += [b"--no-pivot"] if options.no_pivot else []
        line += [b"--no-new-keyring"] if options.no_new_keyring else []
        if options.restore is not None:
            line += [b"--detach", b"--image-path", options.restore, b"--work-path", bundle]
    line += options.runtime_opt
    if console_socket is not None:
        line += [b"--console-socket", console_socket]
    return [*line, options.cid or b""]


def find_variable(environment: list[bytes], name: bytes) -> tuple[int, bytes]:
    """Return (index, value) of the first entry for *name* in an environ(7) block, or (-1, b"")."""
    for index, entry in enumerate(environment):
        if entry.startswith(name + b"="):
            return index, entry[len(name) + 1 :]
    return -1, b""


def listen_pid_index(environment: list[bytes], monitor_pid: int, *, replace: bool) -> int:
    """Return which entry to rewrite for the runtime, -1 for none. ValueError: it holds no pid."""
    index, value = find_variable(environment, b"LISTEN_PID")
    if index < 0:
        return -1
    digits = value.lstrip().removeprefix(b"+")
    digits = digits[: len(digits) - len(digits.lstrip(b"0123456789"))].lstrip(b"0")
    pid = int(digits or b"0") if len(digits) < 11 else 0
    if not 0 < pid < 2**31:
        raise ValueError("Invalid LISTEN_PID " + value[:10].decode("utf-8", "replace"))
    return index if replace or pid == monitor_pid else -1
