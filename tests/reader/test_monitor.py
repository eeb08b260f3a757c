"""The reader beside a monitor that rotates, reopens and compresses under load."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kubelet import MAX_FILES, Kubelet
from tests.support.life import Life, wait_until
from tests.support.load import Load

from .writer import DEADLINE_S, command, environment, run

ROTATIONS = 8
LIMIT = ["--log-rotate", "--log-max-files", "400", "--log-size-max", "400000"]


@pytest.fixture
def load() -> Iterator[Load]:
    """Give a container that writes on both streams until it is stopped."""
    life = Life(Path(tempfile.mkdtemp(prefix="lc-", dir="/tmp")))
    (life.directory / "logs").mkdir()
    life.log = life.directory / "logs/ctr.log"
    one = Load(life)
    life.stub(one.container)
    try:
        yield one
    finally:
        one.stop()
        life.end()
        shutil.rmtree(life.directory)


class Followed:
    """A reader that follows a log, each stream into a file."""

    def __init__(self, load: Load) -> None:
        self.log = load.life.log
        self.paths = [load.life.directory / name for name in ("stdout", "stderr")]
        files = [path.open("wb") for path in self.paths]
        self.process = subprocess.Popen(
            command("-f", self.log), stdout=files[0], stderr=files[1], env=environment()
        )
        for file in files:
            file.close()

    def end(self, texts: tuple[bytes, bytes]) -> None:
        """Wait until it has shown as much as was written, which must be that."""

        def all_shown() -> bool:
            return [path.stat().st_size for path in self.paths] >= [len(text) for text in texts]

        try:
            wait_until(all_shown, "all that was written is shown", DEADLINE_S)
            for path, text in zip(self.paths, texts, strict=True):
                assert path.read_bytes() == text, path.name
        finally:
            self.kill()

    def kill(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()


@pytest.mark.contract("ROT-6", "GZ-1", "GZ-3")
@pytest.mark.parametrize("packed", ["0", "1"], ids=["plain", "compressed"])
@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_each_line_is_shown_once_while_the_monitor_rotates(
    load: Load, driver: str, packed: str
) -> None:
    life = load.life
    life.environment["LOWCONMON_LOG_COMPRESS"] = packed
    followed = Followed(load)  # before there is a log
    try:
        life.start("--no-sync-log", "-l", f"{driver}:{life.log}", *LIMIT)
        life.pid()

        def there(pattern: str) -> bool:  # or all is written: a busy machine compresses little
            return any(life.log.parent.glob(pattern)) or load.count.exists()

        pattern = "ctr.log.*[0-9].gz" if packed == "1" else "ctr.log.*[0-9]"
        wait_until(lambda: there(pattern), "a first backup", DEADLINE_S)
        more = f"ctr.log.{ROTATIONS + len([*life.log.parent.iterdir()])}*"
        wait_until(lambda: there(more), "some more", DEADLINE_S)
        load.stop()
        assert life.exit_status() == 3
        life.wait_gone()
        texts = load.texts()
        followed.end(texts)
    finally:
        followed.kill()
    assert run(life.log) == (*texts, 0)


@pytest.mark.contract("REOPEN-1", "REOPEN-3")
def test_each_line_is_shown_once_while_a_kubelet_rotates(load: Load) -> None:
    """However late the reader is: in so many rounds the kubelet compresses, but removes nothing."""
    life, kubelet = load.life, Kubelet(load.life)
    followed = Followed(load)
    try:
        life.start("--no-sync-log")
        life.pid()
        for _ in range(MAX_FILES - 1):
            wait_until(lambda: life.log.stat().st_size > 400_000, "a log to rotate", DEADLINE_S)
            kubelet.rotate()
        assert not kubelet.removed
        load.stop()
        assert life.exit_status() == 3
        life.wait_gone()
        followed.end(load.texts())
    finally:
        followed.kill()
