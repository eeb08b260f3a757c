"""`podman run --log-driver journald` and what `podman logs` makes of it, with a real journald."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.podman.podman_house import IMAGE, Podman, Result, read_until, wait_until
from tests.support.journald import DAEMON

if TYPE_CHECKING:
    from collections.abc import Iterator

JOURNAL = "/run/log/journal"
# What the daemon reads besides is the machine's own; /run is the house's.
CONFIGURATION = """[Journal]
Storage=volatile
RateLimitIntervalSec=0
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToWall=no
"""


class Journal:
    """A podman whose containers and events go to the journald of its house."""

    def __init__(self, podman: Podman) -> None:
        self.podman = podman
        self._house = podman.house
        folder = self._house.path("/run/systemd/journald.conf.d")
        folder.mkdir(parents=True)
        folder.joinpath("test.conf").write_text(CONFIGURATION)
        self._house.path(JOURNAL).mkdir(parents=True)
        self._process = self._house.start(DAEMON)
        socket = self._house.path("/run/systemd/journal/socket")
        wait_until(socket.exists, "journald's socket")
        self._pid = next(
            pid for pid, name in self._house.processes().items() if "systemd-journal" in name
        )

    def __call__(self, *arguments: str) -> Result:
        return self.podman(*self._with_journald(arguments))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.podman.start(*self._with_journald(arguments))

    def ok(self, *arguments: str) -> Result:
        done = self(*arguments)
        assert done.code == 0, (arguments, done)
        return done

    def shell(self, name: str, script: str, *options: str) -> None:
        """Start the container *name* in the background: a shell with *script*, and /share."""
        shared = self.podman.shared
        self.ok("run", "-d", "--name", name, *shared, *options, IMAGE, "sh", "-c", script)

    def wait(self, name: str, text: bytes) -> None:
        """Wait until *text* is in the container's log."""
        wait_until(lambda: text in self.ok("logs", name).out, repr(text))

    def entries(self, *matches: str) -> list[dict[str, Any]]:
        """Return what the journal holds."""
        directory = f"--directory={self._house.path(JOURNAL)}"
        command = ["journalctl", directory, "--all", "-o", "json", *matches]
        done = subprocess.run(command, capture_output=True, timeout=20, check=True)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def stop(self) -> None:
        """Let journald hang; nsenter, between it and us, stops with it."""
        self._house.kill(self._pid, signal_name="STOP")

    def go_on(self) -> None:
        """Let journald go on: nsenter sees to it."""
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End journald and remove what it has written."""
        self._house.kill(self._pid, signal_name="TERM")
        self.go_on()
        self._process.wait(20)
        self._house.call("rm", "-r", "/run/systemd", "/run/log")

    def _with_journald(self, arguments: tuple[str, ...]) -> tuple[str, ...]:
        name, *rest = arguments
        if name == "run":
            rest = ["--cgroup-parent", self._house.cgroup_parent, "--log-driver=journald", *rest]
        return ("--events-backend=journald", name, *rest)


@pytest.fixture
def journal(podman: Podman) -> Iterator[Journal]:
    journal = Journal(podman)
    yield journal
    journal.close()


@pytest.mark.contract("CALL-1", "CALL-8", "JRN-2", "JRN-6", "JRN-7", "JRN-10", "JRN-11")
def test_logs_shows_what_the_container_wrote(journal: Journal) -> None:
    long = "x" * 20000
    script = (
        f"echo one; echo; echo {long}; echo '<4>four'; echo err >&2; echo >&2; sleep 0.1;"
        "printf '<2>two >' >&2; printf 'no newline'"
    )
    done = journal("run", "--name", "box", IMAGE, "sh", "-c", script)
    assert done.out == f"one\n\n{long}\n<4>four\nno newline".encode()
    assert done.err == b"err\n\n<2>two >"
    logs = journal.ok("logs", "box")
    assert logs.out == f"one\n\n{long}\nfour\nno newline".encode()
    assert logs.err == b"err\n\ntwo >"


@pytest.mark.contract("JRN-3", "JRN-4")
def test_the_journal_knows_container_and_tag(journal: Journal) -> None:
    journal.ok("run", "--name", "box", "--log-opt", "tag=a tag", IMAGE, "echo", "text")
    number = journal.podman.inspect("box")["Id"]
    (entry,) = journal.entries("CONTAINER_NAME=box", "MESSAGE=text")
    assert entry["CONTAINER_ID_FULL"] == number
    assert entry["CONTAINER_ID"] == number[:12]
    assert entry["CONTAINER_TAG"] == entry["SYSLOG_IDENTIFIER"] == "a tag"
    assert entry["PRIORITY"] == "6"


def test_logs_tail_shows_the_last_lines(journal: Journal) -> None:
    journal.ok("run", "--name", "box", IMAGE, "seq", "300")
    lines = [b"%d\n" % number for number in range(1, 301)]
    for count in (0, 1, 10, 299, 300, 1000):
        logs = journal.ok("logs", "--tail", str(count), "box").out
        assert logs == b"".join(lines[-count:] if count else [])


def test_logs_since_shows_what_came_after(journal: Journal) -> None:
    gate = journal.podman.gate()
    journal.shell("box", "echo before; read line < /share/gate; echo after")
    journal.wait("box", b"before\n")
    (entry,) = journal.entries("CONTAINER_NAME=box", "MESSAGE=before")
    seconds, microseconds = divmod(int(entry["__REALTIME_TIMESTAMP"]) + 1, 1_000_000)
    between = f"{seconds}.{microseconds:06}000"
    gate.open()
    journal.ok("wait", "box")
    assert journal.ok("logs", "--since", between, "box").out == b"after\n"
    assert journal.ok("logs", "--until", between, "box").out == b"before\n"
    assert journal.ok("logs", "--since", "1h", "box").out == b"before\nafter\n"


def test_logs_follow_shows_each_line_when_it_comes_and_ends_with_the_container(
    journal: Journal,
) -> None:
    gate = journal.podman.gate()
    say = "while read line < /share/gate; do echo $line; test $line != end || exit 0; done"
    journal.shell("box", f"echo before; {say}")
    journal.wait("box", b"before\n")
    follower = journal.start("logs", "-f", "box")
    assert follower.stdout is not None
    assert read_until(follower.stdout, b"before\n") == b"before\n"
    for line in ("one", "two", "end"):
        gate.open(line)
        assert read_until(follower.stdout, b"\n") == f"{line}\n".encode()
    assert follower.wait(15) == 0


def test_a_terminals_output_is_logged_line_by_line(journal: Journal) -> None:
    journal.ok("run", "-t", "--name", "box", IMAGE, "sh", "-c", "echo one; printf 'two '; echo 2")
    assert journal.ok("logs", "box").out == b"one\r\ntwo 2\r\n"


@pytest.mark.contract("CALL-8")
def test_logs_shows_that_messages_were_lost_while_journald_hung(journal: Journal) -> None:
    """Acceptable: the container goes on after 5 s, and `podman logs` tells what is missing where.

    Not acceptable: a container or a podman that hangs, a log that cannot be read.
    """
    gate = journal.podman.gate()
    script = (
        "read line < /share/gate;"
        """awk 'BEGIN { for (n = 1; n <= 4000; n++) printf "%0999d\\n", n }';"""
        "touch /share/done; read line < /share/gate; echo after"
    )
    journal.shell("box", script)
    journal.stop()
    gate.open()
    wait_until((journal.podman.share / "done").exists, "the container goes on", 20)
    journal.go_on()
    wait_until(lambda: b"lowconmon" in journal.ok("logs", "box").err, "the notice")
    gate.open()
    journal.ok("wait", "box")
    journal.wait("box", b"after\n")
    logs = journal.ok("logs", "box")
    *kept, after = logs.out.splitlines()
    assert [int(line) for line in kept] == list(range(1, len(kept) + 1))
    assert 900 < len(kept) < 2000  # a queue of 1 MiB, fields included, and the socket's
    lost = 4000 - len(kept)
    notice = b"[lowconmon: %d messages (%d bytes) of stdout could not be written here]\n"
    assert logs.err == notice % (lost, lost * 1000)
    assert after == b"after"
