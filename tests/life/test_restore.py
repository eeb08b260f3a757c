"""Restoring a checkpoint: as a create in everything but the runtime's command line."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.life import Gate, Life, attach_accepted, packets, wait_until
from tests.support.witness import Witness, messages, odd

# A runtime as runc restores: it goes when the container runs, and must not be asked to create.
ONLY_RESTORES = 'case " $arguments " in *" restore "*) ;; *) echo "not asked to" >&2; exit 1;; esac'


def restoring(life: Life, container: str, **how: str) -> Life:
    """Make a runtime that restores *container* and nothing else."""
    life.stub(container, **how)
    text = life.runtime.read_text().replace("while [", 'arguments="$*"\nwhile [', 1)
    return life.script(text.replace("mkfifo", ONLY_RESTORES + "\nmkfifo", 1))


@pytest.mark.contract("RT-2", "CLI-48", "CLI-45", "CLI-47")
def test_restore_passes_everything_on_in_its_place(life: Life) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell())
    image = life.directory / "checkpoint of it"
    flags = ["--runtime-opt", "--o1", "--no-new-keyring", "--runtime-arg=--log-format=json", "-s"]
    flags += ["--runtime-arg", "--log", "--no-pivot", "--restore-arg=--tcp-established"]
    flags += ["--restore", "/not/this", f"--restore={image}", "--runtime-opt", "o 2"]
    life.start(*flags)
    life.pid()
    words = [b"--systemd-cgroup", b"--log-format=json", b"--log", b"restore", b"--bundle"]
    words += [os.fsencode(life.bundle), b"--pid-file", os.fsencode(life.pid_file), b"--no-pivot"]
    words += [b"--no-new-keyring", b"--detach", b"--image-path", os.fsencode(image)]
    words += [b"--work-path", os.fsencode(life.bundle), b"--o1", b"--tcp-established", b"o 2"]
    assert seen.wait().arguments()[1:] == [*words, os.fsencode(life.cid)]
    assert life.exit_status() == 0


@pytest.mark.contract("RT-2", "CLI-11", "CLI-48")
@pytest.mark.parametrize("image", [b"", b"relative", b"caf\xe9 \xff", b"--detach"])
def test_the_image_path_is_the_runtimes_business(life: Life, image: bytes) -> None:
    seen = Witness(life)
    life.stub("exit 5", before=seen.shell()).start("--restore", os.fsdecode(image))
    life.pid()
    words = seen.wait().arguments()
    assert words[words.index(b"--image-path") + 1] == image
    assert life.exit_status() == 5


@pytest.mark.contract("RT-2", "SYNC-6", "END-9", "END-10")
@pytest.mark.parametrize("status", [0, 1, 126, 127, 128, 255])
def test_a_restored_container_ends_with_its_status(life: Life, status: int) -> None:
    life = restoring(life, f"echo back; echo again >&2; exit {status}")
    life.start("--restore", "/image")
    assert life.pid() == int(life.pid_file.read_text())
    assert life.exit_status() == status
    life.wait_gone()
    assert (life.persist_dir / "exit").read_bytes() == b"%d" % status
    assert (life.text(), life.text("stderr")) == (b"back\n", b"again\n")


@pytest.mark.contract("RT-2", "SYNC-4")
@pytest.mark.parametrize("api", [[], ["--api-version", "1"]], ids=["legacy", "API 1"])
def test_the_answer_has_the_key_of_a_create(life: Life, api: list[str]) -> None:
    restoring(life, "exit 5")
    raw = life.arguments("--restore", "/image")
    at = raw.index("--api-version")
    life.start(raw=[*raw[:at], *raw[at + 2 :], *api])
    found = messages(life)  # then the pid file is whole
    assert found == [{"data" if api else "pid": int(life.pid_file.read_text())}]
    assert life.exit_status() == 5


@pytest.mark.contract("RT-2", "ATT-1", "ATT-9", "ATT-14", "REOPEN-1")
def test_a_restored_container_is_attached_to_as_any_other(life: Life, gate: Gate) -> None:
    restoring(life, f"read x <{gate.path}; cat; exit 5")
    ran = life.directory / "ran"
    exit_command = ["--exit-command", "/bin/touch", "--exit-command-arg", str(ran)]
    life.start("-i", "--restore", "/image", *exit_command)
    life.pid()
    client = attach_accepted(life)
    life.log.rename(life.directory / "old.log")
    life.control(b"2 0 0\n")
    wait_until(life.log.exists, "a fresh log")
    gate.open()
    client.send(b"typed")
    client.shutdown(1)
    assert packets(client) == (b"typed", b"")
    client.close()
    assert life.exit_status() == 5
    wait_until(ran.exists, "the exit command")
    life.wait_gone()
    assert life.text().rstrip(b"\n") == b"typed"


@pytest.mark.contract("RT-2", "TTY-1", "TTY-6")
def test_a_restored_container_has_its_terminal(life: Life) -> None:
    seen = life.directory / "words"
    how = f"open({str(seen)!r}, 'w').write('\\n'.join(sys.argv[1:]))\nsend(connect(), master)"
    life.terminal_stub("test -t 0 && test -t 2 && stty size; exit 5", how=how)
    life.start("-t", "--restore", "/image", "--runtime-opt", "last")
    life.pid()
    assert life.exit_status() == 5
    words = seen.read_text().split("\n")
    assert words[0] == "restore"
    assert words[-4:-2] == ["last", "--console-socket"]
    assert life.text() == b"0 0\r\n"


@pytest.mark.contract("RT-19", "RT-20", "RT-21", "SYNC-11", "START-17", "END-22")
@pytest.mark.parametrize(
    ("script", "more", "text"),
    [
        ("echo criu failed >&2; exit 1", [], "criu failed\n"),
        ("echo criu failed >&2; exit 1", ["-t"], "criu failed\n"),
        ("head -c 200000 /dev/zero | tr '\\0' '\"' >&2; exit 1", [], '"' * 2000),
        ("exit 0", [], "Failed to read pidfile: it holds no pid of this start"),
        ("exit 0", ["-t"], "Runtime did not set up terminal"),
        ("kill -KILL $$", [], ""),
    ],
)
def test_a_restore_that_fails_is_told_once(
    life: Life, script: str, more: list[str], text: str
) -> None:
    seen = Witness(life, "exit-command")
    command = seen.program(life.directory / "exit-command")
    life.script(f"#!/bin/sh\n{script}\n")
    life.start("--restore", "/image", *more, "--exit-command", str(command))
    (answer,) = messages(life)
    assert answer["data"] == -1
    assert answer.get("message", "").endswith(text)
    seen.wait()
    life.wait_gone()
    assert list(life.exit_dir.iterdir()) == list(life.persist_dir.iterdir()) == []


@pytest.mark.contract("RT-19")
def test_a_restore_that_ends_non_zero_failed_even_with_a_pid(life: Life) -> None:
    life.stub("exec sleep 60", before="echo words >&2", status=1).start("--restore", "/image")
    assert messages(life) == [{"data": -1, "message": "words\n"}]


@pytest.mark.contract("CLI-66")
def test_restore_and_exec_exclude_each_other(life: Life) -> None:
    seen = Witness(life)
    life.stub("exit 0", before=seen.shell()).start("--restore", "/image", exec_session=True)
    assert life.launcher is not None
    assert life.launcher.stderr is not None
    text = b"[conmon:e]: Cannot use 'exec' and 'restore' at the same time\n"
    assert (life.launcher.returncode, life.launcher.stderr.read()) == (1, text)
    assert not seen.been()


@pytest.mark.contract("RT-2", "END-23")
def test_in_the_foreground_its_status_is_the_monitors(life: Life) -> None:
    restoring(life, "exit 5").start("--sync", "--restore", "/image", wait=False)
    life.pid()
    assert life.launcher is not None
    assert life.launcher.wait(20) == 5


@pytest.mark.contract("RT-2", "CASE-904")
def test_thirty_two_descriptors_are_enough_for_a_restore(life: Life) -> None:
    life.command = odd(files=32)
    restoring(life, "exit 5").start("--restore", "/image")
    life.pid()
    assert life.exit_status() == 5


@pytest.mark.contract("RT-2", "RT-14", "RT-5")
def test_the_runtime_is_given_what_a_create_gets(life: Life) -> None:
    seen = Witness(life)
    life.environment["NAME"] = "value"
    life.stub("exit 5", before=seen.shell()).start("--restore", "/image", stdin=subprocess.DEVNULL)
    life.pid()
    assert b"NAME=value" in seen.wait().environment()
    assert [line.split()[0] for line in seen.stdio()] == ["character", "fifo", "fifo"]
    assert life.exit_status() == 5
