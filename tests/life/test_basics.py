"""The smallest whole life."""

from __future__ import annotations

from tests.support.life import Life, packets


def test_a_life_is_started_logged_and_recorded(life: Life) -> None:
    life.stub("echo out; echo err >&2; printf prompt; exit 7").start()
    assert life.launcher is not None and life.launcher.returncode == 0
    assert life.pid() > 0
    assert life.exit_status() == 7
    life.wait_gone()
    assert life.text("stdout") == b"out\nprompt"
    assert life.text("stderr") == b"err\n"
    assert sorted(path.name for path in life.bundle.iterdir()) == ["ctl", "winsz"]


def test_a_client_gets_both_streams_and_what_it_types_comes_back(life: Life) -> None:
    life.stub("read x; echo got $x; echo e >&2; cat").start("-i")
    life.pid()
    client = life.attach()
    client.send(b"hello\nmore\n")
    client.shutdown(1)
    assert packets(client) == (b"got hello\nmore\n", b"e\n")
    client.close()
    assert life.exit_status() == 0
