"""Run hostrun as managers do: its own process, a real bundle, a subreaper that reaps."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import _cffi_backend
import pytest

from lowconmon import _syscalls

TREE = Path(__file__).resolve().parent.parent
STUB = """import sys
sys.path[:0] = [{tree!r}]
sys.path.append({backend!r})
from lowconmon_tools.hostrun import main; main()
"""
DEADLINE_S = 10
SHELL = "/bin/sh"
FOREVER = ["/bin/sleep", "1000"]


class House:
    """A root, a bundle and a command line; reaps (as a subreaper) and kills what is left."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.root = path / "root"
        self.bundle = path / "bundle"
        self.bundle.mkdir()
        self.stub = path / "hostrun.py"
        backend = str(Path(_cffi_backend.__file__).parent)
        self.stub.write_text(STUB.format(tree=str(TREE), backend=backend))
        self.pids: list[int] = []

    def write_config(
        self, args: object = None, name: str = "config.json", **process: object
    ) -> Path:
        given = {
            "args": FOREVER if args is None else args,
            "cwd": "/",
            "env": ["PATH=/usr/bin:/bin"],
        }
        target = self.bundle / name
        value = given | process
        target.write_text(json.dumps({"process": value} if name == "config.json" else value))
        return target

    def run(self, *arguments: object, **how: object) -> "subprocess.CompletedProcess[str]":
        options: dict = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True} | how
        command = [sys.executable, "-ISB", self.stub, "--root", self.root, *arguments]
        return subprocess.run(list(map(str, command)), timeout=DEADLINE_S, **options)

    def succeed(self, *arguments: object, **how: object) -> "subprocess.CompletedProcess[str]":
        done = self.run(*arguments, **how)
        assert (done.returncode, done.stderr or "") == (0, "")
        return done

    def create(self, name: str = "web", *options: object, **how: object) -> int:
        pid_file = self.path / f"{name}.pid"
        # No captured pipe: like runc's, the waiting process holds the descriptors it inherits.
        how = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL} | how
        options = ("--bundle", self.bundle, "--pid-file", pid_file, *options)
        done = self.run("create", *options, name, capture_output=False, **how)
        assert done.returncode == 0
        self.pids.append(int(pid_file.read_text()))
        assert pid_file.read_text() == str(self.pids[-1])
        return self.pids[-1]

    def state(self, name: str = "web") -> dict:
        return dict(json.loads(self.succeed("state", name).stdout))

    def reap(self, pid: int) -> int:
        """Return the exit status of an adopted process, once it ends."""
        wait_end(pid)
        self.pids.remove(pid)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def close(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def wait_end(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    try:
        assert select.select([pidfd], [], [], DEADLINE_S)[0], f"{pid} does not end"
    finally:
        os.close(pidfd)


def read_all(fd: int) -> bytes:
    """Read a pipe or a terminal to its end and close it."""
    data = b""
    try:
        while select.select([fd], [], [], DEADLINE_S)[0]:
            try:
                piece = os.read(fd, 65536)
            except OSError:  # EIO: the terminal has no other end any more
                break
            if not piece:
                break
            data += piece
    finally:
        os.close(fd)
    return data


@pytest.fixture
def house(tmp_path):
    _syscalls.set_child_subreaper(True)
    made = House(tmp_path)
    yield made
    made.close()
    _syscalls.set_child_subreaper(False)


def assert_refused(done: "subprocess.CompletedProcess[str]", part: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("\n")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("hostrun: ")
    assert part in done.stderr


def run_output(house: House, *options: object, **how: object) -> bytes:
    """Create, start and reap "web"; return what it wrote."""
    read_fd, write_fd = os.pipe()
    pid = house.create("web", *options, stdout=write_fd, stderr=subprocess.STDOUT, **how)
    os.close(write_fd)
    house.succeed("start", "web")
    output = read_all(read_fd)
    assert house.reap(pid) == 0
    return output


def test_a_life_goes_from_created_over_running_to_stopped_and_is_deleted(house):
    house.write_config([SHELL, "-c", "read never"])
    read_fd, write_fd = os.pipe()
    pid = house.create(stdin=read_fd)
    os.close(read_fd)
    state = house.state()
    assert state["ociVersion"] == "1.0.2"
    assert (state["id"], state["pid"], state["status"]) == ("web", pid, "created")
    assert state["bundle"] == str(house.bundle)
    house.succeed("start", "web")
    assert (house.state()["status"], house.state()["pid"]) == ("running", pid)
    os.close(write_fd)
    wait_end(pid)
    assert (house.state()["status"], house.state()["pid"]) == ("stopped", 0)  # a zombie
    assert house.reap(pid) == 1
    assert house.state()["status"] == "stopped"
    house.succeed("delete", "web")
    assert_refused(house.run("state", "web"), "does not exist")
    assert list(house.root.iterdir()) == []


def test_nothing_runs_before_the_start_and_the_waiting_process_can_be_killed(house):
    witness = house.path / "ran"
    house.write_config([SHELL, "-c", f"touch {witness}"])
    pid = house.create()
    house.succeed("kill", "web")
    assert house.reap(pid) == -signal.SIGTERM
    assert not witness.exists()


@pytest.mark.parametrize("code", [0, 1, 126, 127, 128, 255])
def test_the_subreaper_sees_the_exit_status(house, code):
    house.write_config([SHELL, "-c", f"exit {code}"])
    pid = house.create()
    house.succeed("start", "web")
    assert house.reap(pid) == code


@pytest.mark.parametrize("how", [["KILL"], ["sigusr1"], ["SIGHUP"], ["9"], ["15"], []])
def test_a_signal_has_a_name_or_a_number(house, how):
    house.write_config()
    pid = house.create(stdin=None)
    house.succeed("kill", "web", *how)
    numbers = {"KILL": 9, "sigusr1": int(signal.SIGUSR1), "SIGHUP": int(signal.SIGHUP), "9": 9}
    assert house.reap(pid) == -numbers.get("".join(how), int(signal.SIGTERM))


def test_environment_directory_and_arguments_are_those_of_the_process_alone(house):
    program = "import os,sys; print(sorted(os.environb.items()), os.getcwd(), sys.argv[1:])"
    arguments = [sys.executable, "-Sc", program, "a b", "", "\udcff"]
    house.write_config(arguments, cwd=str(house.path), env=["LC_ALL=C.UTF-8", "X=\udcfe"])
    output = run_output(house, env={"PYTHONHASHSEED": "0", "SECRET": "1"}).decode()
    assert (
        output
        == f"[(b'LC_ALL', b'C.UTF-8'), (b'X', b'\\xfe')] {house.path} ['a b', '', '\\udcff']\n"
    )


def test_signals_begin_with_default_dispositions_and_an_empty_mask(house):
    house.write_config(["/bin/grep", "^Sig[BI]", "/proc/self/status"])

    def spoil() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    lines = run_output(house, preexec_fn=spoil).split()
    assert [int(mask, 16) for mask in lines[1::2]] == [0, 0]


def test_descriptors_are_closed_but_those_to_preserve(house):
    script = "for f in 3 4 5; do [ -e /proc/$$/fd/$f ] && echo $f; done; echo end"
    house.write_config([SHELL, "-c", script])
    spare = os.open("/dev/null", os.O_RDONLY)

    def occupy() -> None:
        for fd in (3, 4, 5):
            os.dup2(spare, fd)

    how = {"preexec_fn": occupy, "close_fds": False}
    try:
        assert run_output(house, "--preserve-fds", "2", **how) == b"3\n4\nend\n"
        house.succeed("delete", "web")
        assert run_output(house, **how) == b"end\n"
    finally:
        os.close(spare)


def test_no_descriptor_of_the_runtime_is_held_by_a_created_process_but_its_own(house):
    house.write_config()
    pid = house.create()
    targets = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if int(fd.name) > 2]
    named = [target for target in targets if not target.startswith("pipe:")]
    assert [Path(target).name for target in named if target != "/dev/null"] == ["exec.fifo"]


class Console:
    """The manager's end of a console socket."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.listener = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(path.parent)
        self.listener.bind(path.name)
        os.chdir(here)
        self.listener.listen(1)
        self.listener.settimeout(DEADLINE_S)

    def receive(self) -> tuple[str, int]:
        connection, _ = self.listener.accept()
        with connection, self.listener:
            name, fds, _, _ = socket.recv_fds(connection, 4096, 4)
            assert connection.recv(1) == b"", "the connection outlives the runtime"
        assert len(fds) == 1
        return name.decode(), fds[0]


def test_a_terminal_goes_over_the_console_socket_and_controls_the_process(house):
    script = "tty; : >/dev/tty && echo controls; tty <&2"
    house.write_config([SHELL, "-c", script], terminal=True)
    console = Console(house.path / "socket")
    pid = house.create("web", "--console-socket", console.path)
    name, master = console.receive()
    assert name.startswith("/dev/pts/")
    house.succeed("start", "web")
    assert read_all(master).decode().split("\r\n") == [name, "controls", name, ""]
    assert house.reap(pid) == 0


@pytest.mark.parametrize("started", [False, True])
def test_exec_runs_beside_the_container(house, started):
    house.write_config()
    house.create(stdin=None)
    if started:
        house.succeed("start", "web")
    spec = house.write_config([SHELL, "-c", "echo out; echo err >&2; exit 7"], "process.json")
    pid_file = house.path / "exec.pid"
    done = house.run("exec", "--pid-file", pid_file, "--process", spec, "--detach", "web")
    assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")
    house.pids.append(int(pid_file.read_text()))
    assert house.reap(house.pids[-1]) == 7


def test_exec_hands_a_terminal_over(house):
    house.write_config()
    house.create()
    spec = house.write_config([SHELL, "-c", "tty; exit 3"], "process.json", terminal=True)
    console = Console(house.path / "socket")
    arguments = ["exec", "--process", spec, "--detach", "--pid-file", house.path / "e"]
    house.succeed(*arguments, "--console-socket", console.path, "web")
    name, master = console.receive()
    assert read_all(master).decode() == f"{name}\r\n"
    house.pids.append(int((house.path / "e").read_text()))
    assert house.reap(house.pids[-1]) == 3


def test_exec_of_what_the_kernel_refuses_fails_and_writes_no_pid_file(house):
    house.write_config()
    house.create()
    script = house.path / "no-format"
    script.write_text("nothing that can be run")
    script.chmod(0o755)
    spec = house.write_config([str(script)], "process.json")
    pid_file = house.path / "e"
    done = house.run("exec", "--process", spec, "--pid-file", pid_file, "web")
    assert_refused(done, "exec format error")
    assert not pid_file.exists()


def test_what_the_kernel_refuses_after_the_start_ends_with_127(house):
    script = house.path / "bad-interpreter"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    house.write_config([str(script)])
    pid = house.create()
    house.succeed("start", "web")
    assert house.reap(pid) == 127


def test_a_second_create_is_refused_and_harms_nothing(house):
    house.write_config()
    pid = house.create()
    assert_refused(house.run("create", "--bundle", house.bundle, "web"), "exists")
    assert house.state()["pid"] == pid


def test_a_second_start_is_refused(house):
    house.write_config()
    pid = house.create(stdin=None)
    house.succeed("start", "web")
    assert_refused(house.run("start", "web"), "running")
    house.succeed("kill", "web", "KILL")
    house.reap(pid)
    assert_refused(house.run("start", "web"), "stopped")


def test_delete_spares_what_runs_unless_forced(house):
    house.write_config()
    read_fd, write_fd = os.pipe()
    pid = house.create(stdin=read_fd)
    house.succeed("start", "web")
    assert_refused(house.run("delete", "web"), "running")
    house.succeed("delete", "--force", "web")
    os.close(read_fd)
    os.close(write_fd)
    assert house.reap(pid) == -signal.SIGKILL
    assert_refused(house.run("delete", "web"), "does not exist")
    house.succeed("delete", "--force", "web")


def test_a_created_container_is_deleted_with_its_process(house):
    house.write_config()
    pid = house.create()
    house.succeed("delete", "web")
    assert house.reap(pid) == -signal.SIGKILL


def test_delete_force_clears_what_a_killed_create_left(house):
    (house.root / "web").mkdir(parents=True)
    os.mkfifo(house.root / "web" / "exec.fifo")
    house.succeed("delete", "--force", "web")
    assert list(house.root.iterdir()) == []


def test_another_process_with_the_recorded_pid_is_never_signalled(house):
    house.write_config()
    pid = house.create()
    record = house.root / "web" / "state.json"
    state = json.loads(record.read_text())
    record.write_text(json.dumps(state | {"start_time": state["start_time"] - 1}))
    assert house.state()["status"] == "stopped"
    assert_refused(house.run("kill", "web", "KILL"), "not running")
    assert_refused(house.run("start", "web"), "stopped")
    spec = house.write_config(["true"], "process.json")
    assert_refused(house.run("exec", "--process", spec, "web"), "stopped")
    house.succeed("delete", "--force", "web")
    os.kill(pid, signal.SIGUSR1)  # the first signal that meets it: nothing else did
    assert house.reap(pid) == -signal.SIGUSR1


BAD_PROCESS: dict[str, tuple[Any, str]] = {
    "no args": ({"args": []}, "process.args"),
    "args of another kind": ({"args": "sh"}, "process.args"),
    "an argument that is a number": ({"args": ["sh", 1]}, "process.args"),
    "a NUL": ({"args": ["sh", "a\0b"]}, "process.args"),
    "a lone surrogate": ({"args": ["sh", "\ud800"]}, "surrogates"),
    "env of another kind": ({"args": ["sh"], "env": {"A": "B"}}, "process.env"),
    "cwd that is a number": ({"args": ["sh"], "cwd": 3}, "process.cwd"),
    "cwd that is not there": ({"args": ["sh"], "cwd": "/no/such"}, "No such file"),
    "cwd that is a file": ({"args": ["sh"], "cwd": "/etc/passwd"}, "Not a directory"),
    "no such program": (
        {"args": ["foo"], "env": ["PATH=/bin"]},
        'exec: "foo": executable file not found in $PATH',
    ),
    "no PATH": ({"args": ["sh"], "env": []}, "executable file not found in $PATH"),
    "no such path": ({"args": ["/no/foo"]}, 'exec: "/no/foo": no such file or directory'),
    "not executable": ({"args": ["/etc/passwd"]}, 'exec: "/etc/passwd": permission denied'),
    "a directory": ({"args": ["/etc"]}, 'exec: "/etc": permission denied'),
    "a terminal without a socket": ({"args": ["sh"], "terminal": True}, "--console-socket"),
    "line breaks in a name": ({"args": ["/a\nb\r\u2028c"]}, "no such file"),
}


@pytest.mark.parametrize("command", ["create", "exec"])
@pytest.mark.parametrize("case", BAD_PROCESS)
def test_a_bad_process_gets_one_line_and_leaves_nothing(house, case, command):
    process, part = BAD_PROCESS[case]
    process = {"env": ["PATH=/usr/bin:/bin"], **process}
    pid_file = house.path / "pid"
    if command == "create":
        (house.bundle / "config.json").write_text(json.dumps({"process": process}))
        done = house.run("create", "--bundle", house.bundle, "--pid-file", pid_file, "bad")
    else:
        house.write_config()
        house.create()
        spec = house.bundle / "process.json"
        spec.write_text(json.dumps(process))
        done = house.run("exec", "--process", spec, "--pid-file", pid_file, "web")
    assert_refused(done, part)
    assert not pid_file.exists()
    assert not (house.root / "bad").exists()


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "3", "{}", '{"process": []}', '{"process": null}', "[" * 100_000]
)
@pytest.mark.parametrize("data", [b"", b"\xff"])
def test_a_bad_config_gets_one_line(house, text, data):
    if text is not None:
        (house.bundle / "config.json").write_bytes(text.encode() + data)
    assert_refused(house.run("create", "--bundle", house.bundle, "web"), "hostrun: ")
    assert not (house.root / "web").exists()


BAD_LINES = {
    "nothing": ([], "no such command"),
    "an unknown command": (["frob", "web"], "frob"),
    "restore": (["restore", "web"], "restore"),
    "an unknown global option": (["--frob", "state", "web"], "--frob"),
    "an unknown option": (["start", "--frob", "web"], "option --frob not recognized"),
    "a letter": (["delete", "-f", "web"], "option -f not recognized"),
    "a flag with a value": (["delete", "--force=1", "web"], "--force"),
    "an option without a value": (["create", "--bundle"], "--bundle"),
    "no id": (["state"], "state"),
    "two ids": (["state", "a", "b"], "state"),
    "an id with a slash": (["state", "a/b"], "invalid container ID"),
    "an id of dots": (["state", ".."], "invalid container ID"),
    "an empty id": (["state", ""], "invalid container ID"),
    "an unknown id": (["state", "none"], 'container "none" does not exist'),
    "start of an unknown id": (["start", "none"], "does not exist"),
    "kill of an unknown id": (["kill", "none"], "does not exist"),
    "delete of an unknown id": (["delete", "none"], "does not exist"),
    "exec in an unknown id": (["exec", "--process", "p", "none"], "does not exist"),
    "an unknown signal": (["kill", "none", "FOO"], "FOO"),
    "a signal out of range": (["kill", "none", "99999999999999999999"], "unknown signal"),
    "two signals": (["kill", "a", "1", "2"], "kill"),
    "descriptors that are no number": (["create", "--preserve-fds", "x", "a"], "invalid literal"),
    "descriptors past any": (["create", "--preserve-fds", "9" * 20, "a"], "too big"),
    "no bundle": (["create", "--preserve-fds", "-1", "--bundle", "/no", "a"], "/no/config"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_command_line_gets_one_line(house, case):
    arguments, part = BAD_LINES[case]
    assert_refused(house.run(*arguments), part)


@pytest.mark.parametrize("failure", ["pid file", "socket", "no terminal"])
def test_a_create_that_fails_late_leaves_no_process_and_no_container(house, failure):
    house.write_config(terminal=failure == "socket")
    options = {
        "pid file": ["--pid-file", "/no/such/file"],
        "socket": ["--console-socket", house.path / "none"],
        "no terminal": ["--console-socket", "/no/such/socket"],
    }[failure]
    said = "--console-socket" if failure == "no terminal" else str(options[1])[:8]
    assert_refused(house.run("create", "--bundle", house.bundle, *options, "web"), said)
    assert list(house.root.iterdir()) == []
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_pid_file_that_cannot_be_replaced_fails_the_create(house):
    house.write_config()
    (house.path / "pids" / "web").mkdir(parents=True)
    options = ["--bundle", house.bundle, "--pid-file", house.path / "pids" / "web"]
    assert_refused(house.run("create", *options, "web"), "Is a directory")
    assert list(house.root.iterdir()) == []


def test_an_error_goes_to_the_log_too(house):
    log = house.path / "log"
    flags = ["--systemd-cgroup", "--debug", "--log-format=json", "--log", log]
    for name in ("none", "two"):
        assert_refused(house.run(*flags, "state", name), "does not exist")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    texts = [f'container "{name}" does not exist' for name in ("none", "two")]
    assert entries == [{"level": "error", "msg": text} for text in texts]


def test_help_says_that_nothing_is_isolated_and_success_says_nothing(house):
    for arguments in (["--help"], ["create", "--help"]):
        assert "isolates nothing" in house.succeed(*arguments).stdout
    house.write_config()
    pid_file = house.path / "web.pid"
    arguments = ["create", "--no-pivot", "--no-new-keyring", "--pid-file", pid_file, "web"]
    done = house.succeed(
        *arguments,
        cwd=house.bundle,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        capture_output=False,
    )
    assert done.returncode == 0
    house.pids.append(int(pid_file.read_text()))
    assert house.state()["bundle"] == str(house.bundle)


def test_a_terminal_on_stderr_is_told_that_nothing_is_isolated(house):
    house.write_config()
    master, slave = os.openpty()
    house.create(stdout=subprocess.DEVNULL, stderr=slave)
    os.close(slave)
    assert b"isolates nothing" in os.read(master, 4096)
    os.close(master)


def test_it_runs_as_a_module_and_without_the_standard_descriptors(house):
    house.write_config()
    pid_file = house.path / "web.pid"
    module = f"{sys.executable} -m lowconmon_tools.hostrun --root {house.root}"
    line = f"{module} create --bundle {house.bundle} --pid-file {pid_file} web <&- >&- 2>&-"
    subprocess.run([SHELL, "-c", line], cwd=TREE, check=True, timeout=DEADLINE_S)
    house.pids.append(int(pid_file.read_text()))
    assert house.state()["status"] == "created"


@pytest.mark.parametrize("given", [True, False])
def test_the_root_of_a_user_is_in_the_runtime_directory(house, given):
    house.root = house.path / "xdg" / "hostrun"
    record = house.root / "web" / "state.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"id": "web"}')
    prelude = f"import os, sys; os.geteuid = lambda: 4194303; sys.path.insert(0, {str(TREE)!r})"
    program = f"{prelude}; from lowconmon_tools.hostrun import main; sys.argv[1:] = ['state', 'web']; main()"
    environment = {"XDG_RUNTIME_DIR": str(house.path / "xdg")} if given else {}
    command = [sys.executable, "-Bc", program]
    how: dict = {"capture_output": True, "text": True, "check": False, "timeout": DEADLINE_S}
    done = subprocess.run(command, env=environment, **how)
    if given:
        assert json.loads(done.stdout)["status"] == "stopped"
    else:
        assert_refused(done, "does not exist")
