"""Read what Linux tells of control groups: which a process is in, and whether its memory ran out."""

MOUNT = b"/sys/fs/cgroup"


def event_files(content: bytes) -> list[bytes]:
    """Return where memory's events may stand, below MOUNT, for a /proc/PID/cgroup."""
    groups: dict[bytes, bytes] = {}
    for line in content.split(b"\n"):
        controllers, _, path = line.partition(b":")[2].partition(b":")
        if path.startswith(b"/") and b".." not in path.split(b"/"):  # "..": not in our namespace
            groups |= dict.fromkeys(controllers.split(b","), path)
    memory, unified = groups.get(b"memory", b"/"), groups.get(b"", b"/")
    if memory != b"/":  # v1; there it shows for whoever has ended, and the root tells of everyone
        return [b"/memory" + memory + b"/memory.oom_control"]
    return [mount + unified + b"/memory.events" for mount in (b"", b"/unified")]


def ooms(content: bytes) -> frozenset[bytes]:
    """Return the lines that count OOMs and stand at other than 0; a new one is a new OOM.

    *content*: memory.events, or v1's memory.oom_control; what is neither has no such line.
    """
    pairs = [(line, *line.partition(b" ")[::2]) for line in content.split(b"\n")]
    names = b"oom", b"oom_kill"
    return frozenset(
        line for line, name, n in pairs if name in names and n.isdigit() and n.strip(b"0")
    )
