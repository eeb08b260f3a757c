"""podman's list, tests/podman/test_podman.py, against the guest's podman; as root and as a user."""

from __future__ import annotations

from tests.podman import test_podman

NOT_HERE: dict[str, str] = {}  # with the reason
LIST = {name: test for name, test in vars(test_podman).items() if name.startswith("test_")}
globals().update({name: test for name, test in LIST.items() if name not in NOT_HERE})


def test_what_is_left_out_is_in_the_list() -> None:
    assert set(LIST) >= set(NOT_HERE)
