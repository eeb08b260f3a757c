"""Build the JSON messages of the sync and attach pipes, and of what operators read."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .._typing import Any

MAX_MESSAGE = 4096  # bytes: podman reads no more of a packet

_ESCAPES = {byte: "\\u%04x" % byte for byte in (*range(32), 127)}
_ESCAPES |= {ord(pair[0]): "\\" + pair[1] for pair in '"" \\\\ // \nn \rr \tt \bb \ff'.split(" ")}


def json(value: "Any") -> str:
    """Return dicts, lists, bytes, str, ints, bools and None as JSON; what is no UTF-8 is U+FFFD."""
    if isinstance(value, dict):
        return "{" + ", ".join([f"{json(key)}: {json(value[key])}" for key in value]) + "}"
    if isinstance(value, list):
        return "[" + ", ".join([json(item) for item in value]) + "]"
    if isinstance(value, bytes):
        return '"' + value.decode("utf-8", "replace").translate(_ESCAPES) + '"'
    if isinstance(value, str):
        return json(value.encode("utf-8", "surrogateescape"))
    return "null" if value is None else str(value).lower()


def key(*, api_version: bool, exec_session: bool) -> str:
    """Return the name under which a number is reported."""
    return "data" if api_version else "exit_code" if exec_session else "pid"


def message(name: str, number: int, text: bytes = b"") -> bytes:
    """Return one line of JSON, at most MAX_MESSAGE bytes of UTF-8; of *text* the tail is kept."""
    text = text.rstrip(b"\0")[-MAX_MESSAGE:]
    if not text:
        return f'{{"{name}": {number}}}\n'.encode()
    head, tail = f'{{"{name}": {number}, "message": "'.encode(), b'"}\n'
    pieces = [piece.translate(_ESCAPES).encode() for piece in text.decode("utf-8", "replace")]
    excess = len(head) + sum(map(len, pieces)) + len(tail) - MAX_MESSAGE
    while excess > 0:
        excess -= len(pieces.pop(0))
    return head + b"".join(pieces) + tail
