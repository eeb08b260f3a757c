"""docs/managers.md with a real podman: its configuration, and what a hardened unit would do."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from tests.podman.podman_house import HOME, IDLE, IMAGE
from tests.support import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.podman.podman_house import Podman

CONF = HOME / "share/documented.conf"
BEFORE = ("env", f"CONTAINERS_CONF={CONF}")
# PR_SET_MDWE with PR_MDWE_REFUSE_EXEC_GAIN: systemd's MemoryDenyWriteExecute (from Linux 6.3 on)
DENY = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(65, 1, 0, 0, 0);"
    " os.execvp(sys.argv[1], sys.argv[1:])"
)


def documented() -> dict[str, dict[str, Any]]:
    return tomllib.loads((ROOT / "docs/config/containers.conf").read_text())


def put(podman: Podman, program: Path, **more: object) -> None:
    """Put the documented file where podman finds it, with this house's needs added."""
    here = tomllib.loads(podman.house.configuration(program))
    merged = {name: here.get(name, {}) | documented().get(name, {}) for name in here}
    merged["engine"] |= {"conmon_path": [str(program)], **more}
    lines = []
    for name, section in merged.items():
        lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    podman.house.path(CONF).write_text("\n".join(lines) + "\n")


def test_podman_takes_every_key_of_the_file_and_the_monitor_gets_what_they_say(
    podman: Podman, monitor_program: Path
) -> None:
    put(podman, monitor_program)
    said = podman("--log-level=warn", "info", "--format={{.Host.Conmon.Path}}", before=BEFORE)
    assert said.out == f"{monitor_program}\n".encode()
    assert b"decode" not in said.err
    done = podman("run", "-d", "--name", "box", IMAGE, *IDLE, before=BEFORE)
    assert done.code == 0, done.err
    monitor = podman.house.path(f"/proc/{podman.monitor_pid('box')}")
    environment = (monitor / "environ").read_bytes().split(b"\0")
    assert {each.encode() for each in documented()["engine"]["conmon_env_vars"]} <= {*environment}
    words = (monitor / "cmdline").read_bytes().split(b"\0")
    size = documented()["containers"]["log_size_max"]
    assert words[words.index(b"--log-size-max") + 1] == str(size).encode()
    assert words[words.index(b"-l") + 1].startswith(b"k8s-file:")


def test_podman_would_have_told_of_a_key_that_it_does_not_know(
    podman: Podman, monitor_program: Path
) -> None:
    put(podman, monitor_program, conmon_paths=[])
    assert b"conmon_paths" in podman("--log-level=debug", "info", before=BEFORE).err


def test_a_file_that_stays_when_its_programs_are_gone_gives_conmon_back(podman: Podman) -> None:
    put(podman, HOME / "gone")
    said = podman("info", "--format={{.Host.Conmon.Path}}", before=BEFORE)
    assert (said.code, said.out) == (0, b"/usr/bin/conmon\n"), said.err


def test_a_tag_for_a_log_file_fails_the_start_with_the_reason(podman: Podman) -> None:
    tag = ("--log-driver", "k8s-file", "--log-opt", "tag=box")
    done = podman("run", "--rm", *tag, IMAGE, "true")
    assert done.code == 126
    assert b"k8s-file doesn't support --log-tag\n" in done.err


def test_the_monitor_is_one_task(podman: Podman) -> None:
    podman.idle("box")
    pid = podman.monitor_pid("box")
    tasks = podman.house.path(f"/proc/{pid}/task").iterdir()
    assert [task.name for task in tasks] == [str(pid)]


@pytest.mark.parametrize(
    "before",
    [("setpriv", "--no-new-privs"), ("/usr/bin/python3", "-IS", "-c", DENY)],
    ids=["NoNewPrivileges", "MemoryDenyWriteExecute"],
)
def test_a_container_lives_under_what_the_page_says_that_it_lives_with(
    podman: Podman, before: tuple[str, ...]
) -> None:
    done = podman("run", "--name", "box", IMAGE, "sh", "-c", "echo told; exit 7", before=before)
    assert (done.code, done.out) == (7, b"told\n"), done.err
    assert podman.ok("logs", "box") == b"told\n"
