"""Run tests for another architecture on this kernel, by qemu-user: in a minute or two, and no proof.

Laws. What is tested is half the emulator's work: its known faults stand in FAULTS, and a pass counts
only where no line of it says otherwise; the guests, with kernels of their own, are the measure. The
host stays as it was: mounts, processes and the registration of binfmt_misc end with the run.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
import time
from pathlib import Path

from . import machine
from .architectures import ARCHITECTURES, Architecture
from .debs import Failure, NotServed
from .image import CHECKOUT, Root
from .machine import Result

_B = "tests/bindings/"
_LEAKS = f"{_B}test_leaks.py::test_many_calls_leave_nothing_behind"
# What qemu-user 7.2, that of Debian 12, does wrong, and the tests that are left out for it, on all
# architectures; "PAGE: CALL" stands for the page's examples with that call. Also known, and met by
# no test here: a signalfd read by readv has wrong data on MIPS and s390x (by read it is right), and
# epoll_pwait2, clone3 and clone with CLONE_NEWPID fail, so that no runtime makes a container.
FAULTS: dict[str, tuple[str, ...]] = {
    "PR_SET_CHILD_SUBREAPER and PR_GET_CHILD_SUBREAPER are EINVAL": (
        "docs/bindings.md: set_child_subreaper(",
        f"{_LEAKS}[get_child_subreaper]",
        f"{_LEAKS}[set_child_subreaper]",
        f"{_B}test_processes.py::test_a_subreaper_becomes_the_parent_of_orphans",
    ),
    "it keeps the last two signals, 63 and 64, for itself": (
        f"{_B}test_signals.py::test_read_signal_takes_one_signal_at_a_time",
        f"{_B}test_signals.py::test_sigprocmask_reaches_the_last_signal_and_agrees_with_the_kernel",
        f"{_B}test_spawn.py::test_the_mask_is_what_was_asked_for_and_not_the_callers",
    ),
    "/proc/PID/status tells of the emulator: its handlers, and this machine's signal numbers": (
        f"{_B}test_signals.py::test_dispositions_are_read_and_set_behind_pythons_back",
        f"{_B}test_spawn.py::test_dispositions_are_inherited_unless_they_were_asked_for",
    ),
    "an ioctl that it does not know is that, even of no descriptor": (
        f"{_B}test_processes.py::test_pidfd_get_info_raises_the_errno_of_a_bad_descriptor",
    ),
}
# In a mount namespace of its own; $1: the root, $2: what to register, or nothing. Told to end, it
# kills the first process of the inner namespace of pids, and so all of them.
_SCRIPT = r"""
root=$1 line=$2 name= inside=
registry=$(mktemp -d)
leave() {
    [ -z "$name" ] || echo -1 >"$registry/$name"
    umount "$registry"
    rmdir "$registry"
}
mount -t binfmt_misc binfmt_misc "$registry"
trap leave EXIT
trap '[ -z "$inside" ] || kill -KILL "$inside"; exit 130' HUP INT TERM
if [ -n "$line" ]; then
    printf %s "$line" >"$registry/register"
    name=${line#:} name=${name%%:*}
fi
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,gid=5,mode=620,ptmxmode=666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for place in dev/shm run tmp; do mount -t tmpfs -o mode=1777 tmpfs "$root/$place"; done
# The emulator does not know what newer kernels have: it shall not say that it is one.
QEMU_UNAME=6.1.0 unshare --pid --fork --kill-child --mount-proc="$root/proc" \
    chroot "$root" /guest/job </dev/null 2>&1 &
inside=$!
wait "$inside"
"""


def left_out() -> list[str]:
    """Return the ids of the tests that are left out."""
    found = []
    for test in (one for tests in FAULTS.values() for one in tests):
        path, example, call = test.partition(": ")
        if not example:
            found.append(test)
            continue
        page = (CHECKOUT / path).read_text()
        folder = "tests/" + Path(path).stem
        for block in re.finditer(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL):
            if call in block[1]:
                name = "test_each_example_runs_as_it_stands"
                line = page.count("\n", 0, block.start()) + 1
                found.append(f"{folder}/test_docs.py::{name}[line-{line}]")
    return found


def run(name: str, arguments: list[str], limit_s: float = machine.LIMIT_S) -> Result:
    """Unpack a root of the architecture, and let pytest run there with *arguments*."""
    one, result, begun = ARCHITECTURES[name], Result(name), time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"lowconmon-{name}-", dir="/var/tmp") as directory:
        try:
            chosen = [f"--deselect={test}" for test in left_out()]
            root = Root(one, Path(directory)).make_root([*chosen, *arguments])
            result.console = _inside(one, root, limit_s)
            machine.read(one, result)
        except (Failure, OSError, subprocess.SubprocessError) as error:
            result.failure, result.tested = str(error), not isinstance(error, NotServed)
    result.kernel = _version(one)
    result.seconds = time.monotonic() - begun
    return result


def _inside(one: Architecture, root: Path, limit_s: float) -> str:
    command = ["unshare", "--mount", "--propagation", "private", "setpriv", "--pdeathsig", "TERM"]
    command += ["sh", "-euc", _SCRIPT, "sh", str(root), registration(one)]
    return machine.console_of(command, limit_s, signal.SIGTERM)


def registration(one: Architecture) -> str:
    """Return binfmt_misc's line for the architecture, as its package has it, under a name of ours.

    "": no emulator is needed.
    The newest registration of a kind counts: what the host has registered is not asked, and not
    changed. F: the emulator is opened now, and found in any root; P: argv[0] is preserved.
    """
    path = Path(f"/usr/lib/binfmt.d/{one.emulator}.conf")
    if not path.exists():  # what this machine runs without an emulator
        return ""
    parts = path.read_text().strip().split(":")
    parts[1] = f"lowconmon-{one.name}-{os.getpid()}"
    parts[-1] = "FP"
    return ":".join(parts)


def _version(one: Architecture) -> str:
    said = subprocess.run(
        [f"{one.emulator}-static", "--version"], capture_output=True, text=True, check=False
    )
    return " ".join(re.findall(r"version (\S+)", said.stdout)[:1]) or "-"
