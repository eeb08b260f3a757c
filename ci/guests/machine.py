"""Boot an image, read its console, and say what came of it.

Laws. A guest that hangs is ended at its time limit and shown by its last lines. What is not on the
console did not happen: no status line, no success.
"""

from __future__ import annotations

import collections
import re
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from .architectures import ARCHITECTURES, Architecture
from .debs import Failure, NotServed
from .image import Image

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_S = 1800
_LAST_LINES = 60


@dataclass
class Result:
    """What one architecture's guest has shown."""

    architecture: str
    kernel: str = "-"
    python: str = "-"
    order: str = "-"
    bits: int = 0
    ids: str = ""  # what stands for the tests' names
    counts: dict[str, int] = field(default_factory=dict)  # of pytest's summary
    containers: dict[str, int] = field(default_factory=dict)  # by runtime
    again: list[str] = field(default_factory=list)  # the tests that have failed once, then passed
    seconds: float = 0
    failure: str = ""
    tested: bool = True  # False: the mirror does not serve it today
    console: str = ""

    @property
    def passed(self) -> bool:
        """Whether all went as it should."""
        return not self.failure


def run(name: str, arguments: list[str], limit_s: float = LIMIT_S) -> Result:
    """Make the image of an architecture, boot it, and let it run pytest with *arguments*."""
    return attempt(Guest(name, ARCHITECTURES[name], Image, read), arguments, limit_s)


class Guest(NamedTuple):
    """What is booted, and who reads its console."""

    name: str
    architecture: Architecture
    image: type[Image]
    read: Callable[[Architecture, Result], None]


def attempt(guest: Guest, arguments: list[str], limit_s: float) -> Result:
    """Make a guest's image, boot it, and return what is read of it, or why nothing is."""
    result, one = Result(guest.name), guest.architecture
    prefix, begun = f"lowconmon-{guest.name}-", time.monotonic()
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/var/tmp") as directory:
        try:
            image = guest.image(one, Path(directory))
            image.make(arguments)
            result.console = boot(one, image, limit_s)
            guest.read(one, result)
        except (Failure, OSError, subprocess.SubprocessError) as error:
            result.failure, result.tested = str(error), not isinstance(error, NotServed)
    result.seconds = time.monotonic() - begun
    return result


def boot(one: Architecture, image: Image, limit_s: float) -> str:
    """Start the machine, wait for its end; return all that its console has shown."""
    machine = one.machine
    command = [f"qemu-system-{machine.qemu}", *machine.arguments, "-m", str(machine.memory_mb)]
    command += [
        "-smp",
        str(machine.processors),
        "-nographic",
        "-nodefaults",
        *machine.serial,
        "-monitor",
        "none",
    ]
    command += ["-no-reboot", "-kernel", str(image.kernel), "-initrd", str(image.initramfs)]
    command += ["-drive", f"file={image.disk},if=none,id=disk,format=raw,snapshot=on"]
    command += ["-device", f"{machine.disk},drive=disk", "-append"]
    command += [f"console={machine.console} panic=-1 quiet random.trust_cpu=on {machine.words}"]
    return console_of(command, limit_s, signal.SIGKILL)


def console_of(command: list[str], limit_s: float, ending: signal.Signals) -> str:
    """Return all that a command says; at the limit it gets the signal *ending*."""
    with tempfile.TemporaryFile() as console:
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT
        ) as process:
            try:
                process.wait(limit_s)
            except subprocess.TimeoutExpired:
                process.send_signal(ending)
        console.seek(0)
        return console.read().decode(errors="replace").replace("\r", "")


def read(one: Architecture, result: Result) -> None:
    """Take the facts out of the console's text. Raises Failure."""
    text, _, again = result.console.partition("##AGAIN\n")
    if guest := re.search(r"##GUEST (\S+) (\S+) (\S+) (\d+)", text):
        result.kernel, result.python, result.order = guest[1], guest[2], guest[3]
        result.bits = int(guest[4])
    for line in re.findall(r"^=* ?(\d+ \w+.*) in [0-9.]+s.*$", text, re.MULTILINE)[-1:]:
        result.counts = {what: int(count) for count, what in re.findall(r"(\d+) (\w+)", line)}
    for result.ids in re.findall(r"^ids: (\S+)", text, re.MULTILINE):
        pass
    for line in re.findall(r"^containers: (.*)", text, re.MULTILINE):
        result.containers = {name: int(n) for name, n in re.findall(r"(\w+) (\d+)", line)}
    status = re.search(r"##STATUS (\d+)", text)
    if status and status[1] == "1" and again:
        status = re.search(r"##STATUS (\d+)", again)
        result.again = re.findall(r"^PASSED (.+)$", again, re.MULTILINE)
        if status and status[1] == "0" and result.again:
            result.counts["passed"] = result.counts.get("passed", 0) + result.counts.get(
                "failed", 0
            )
    if not status or status[1] != "0":
        lines = "\n".join(result.console.splitlines()[-_LAST_LINES:])
        raise Failure(f"pytest's status: {status[1] if status else 'none'}\n{lines}")
    if (result.bits, result.order) != (one.bits, one.order):
        raise Failure(f"{result.bits} bits, {result.order}-endian: not this architecture")


def odd_ones(results: list[Result]) -> list[Result]:
    """Return those whose tests are not those of most; all, where there is no most."""
    ran = [result for result in results if result.ids or result.passed]
    (usual, count), *others = [*collections.Counter(one.ids for one in ran).most_common(2), ("", 0)]
    tied = any(number == count for ids, number in others if ids != usual)
    return [one for one in ran if tied or one.ids != usual]
