"""The list of test_podman.py once more, as a user: no root, no network, no cgroups.

The tests are the very same; what is theirs here is the podman. What a user cannot have on a machine
without systemd, or with control groups of both versions side by side:

- control groups of his own, so no `top`, `pause`, `stats` or limit, and crun with `--cgroups=disabled`,
  since runc makes one for every container. What the monitor does with them is in test_podman_oom.py;
- a journal and a service manager: test_podman_journald.py and test_podman_notify.py have root's podman;
- overlay storage, which not every kernel gives users: vfs. A network: it is nothing to the monitor.

On a machine that gives users no namespaces at all, tests/life/test_rootless.py is what there is: the
monitor as nobody, without podman.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.podman import test_podman
from tests.podman.conftest import Keeper, keeping, using
from tests.podman.podman_house import IMAGE, Podman
from tests.podman.rootless_house import UID, RootlessHouse, RootlessPodman, users_have_namespaces

NOT_HERE = {
    "test_top_and_ps_show_a_running_container",  # top needs a cgroup
    # Long, and nothing in them knows whose the log is.
    "test_a_restarted_container_goes_on_in_its_limited_log",
    "test_fifty_megabytes_of_output_are_in_the_log_unchanged",
    "test_who_follows_a_log_is_told_what_comes_after_it_was_begun_anew",
}
LIST = {name: test for name, test in vars(test_podman).items() if name.startswith("test_")}

if users_have_namespaces():
    globals().update({name: test for name, test in LIST.items() if name not in NOT_HERE})

    def test_what_is_left_out_is_in_the_list() -> None:
        assert set(LIST) > NOT_HERE

    def test_monitor_and_container_are_the_users_and_live_in_his_namespace(podman: Podman) -> None:
        podman.idle("box")
        for pid in (podman.monitor_pid("box"), podman.state("box")["Pid"]):
            directory = podman.house.path(f"/proc/{pid}")
            uids = f"\nUid:\t{UID}\t{UID}\t{UID}\t{UID}\n"
            assert uids in directory.joinpath("status").read_text()
            assert os.readlink(directory / "ns/user") != os.readlink("/proc/self/ns/user")

    @pytest.mark.parametrize("mode", ["-d", "-dt"])
    def test_what_a_container_writes_belongs_to_the_user(podman: Podman, mode: str) -> None:
        podman.ok("run", mode, "--name", "box", IMAGE, "echo", "text")
        assert podman.ok("wait", "box") == b"0\n"
        log = podman.log_file("box").stat()
        assert (log.st_uid, log.st_mode & 0o777) == (UID, 0o640)

else:

    def test_where_users_have_no_namespaces_there_is_another_list() -> None:
        assert (Path(__file__).parents[1] / "life" / "test_rootless.py").exists()


@pytest.fixture(scope="module")
def rootless_keeper(monitor_program: Path, pytestconfig: pytest.Config) -> Iterator[Keeper]:
    programs = ("crun", "newuidmap", "setpriv", "unshare", "nsenter")
    with keeping(RootlessHouse, monitor_program, pytestconfig, *programs) as keeper:
        yield keeper


@pytest.fixture
def podman(rootless_keeper: Keeper) -> Iterator[Podman]:
    with using(RootlessPodman(rootless_keeper.house), rootless_keeper) as podman:
        yield podman
