"""podman's list, tests/podman/test_podman.py, against the guest's podman."""

from __future__ import annotations

from tests.podman import test_podman

# An emulated machine makes minutes of them, and nothing in them depends on podman's version.
LONG = {
    "test_a_hundred_megabytes_come_through_stdin_and_back_unchanged",
    "test_fifty_megabytes_of_output_are_in_the_log_unchanged",
    "test_a_restarted_container_goes_on_in_its_limited_log",
    "test_who_follows_a_log_is_told_what_comes_after_it_was_begun_anew",
    "test_ten_execs_at_once_each_get_their_own_output",
    "test_twenty_containers_at_once_each_have_their_own_log_and_exit_code",
}
LIST = {name: test for name, test in vars(test_podman).items() if name.startswith("test_")}
globals().update({name: test for name, test in LIST.items() if name not in LONG})


def test_what_is_left_out_is_in_the_list() -> None:
    assert set(LIST) > LONG
