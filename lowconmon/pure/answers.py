"""Build the JSON messages of the sync and attach pipes."""

MAX_MESSAGE = 4096  # bytes: podman reads no more of a packet

_ESCAPES = {byte: "\\u%04x" % byte for byte in (*range(32), 127)}
_ESCAPES |= {ord(plain): "\\" + escaped for plain, escaped in zip('"\\/\n\r\t\b\f', '"\\/nrtbf')}


def key(*, api_version: bool, exec_session: bool) -> str:
    """Return the name under which a number is reported."""
    return "data" if api_version else "exit_code" if exec_session else "pid"


def message(name: str, number: int, text: bytes = b"") -> bytes:
    """Return one JSON object and a newline, at most MAX_MESSAGE bytes, always valid UTF-8.

    Of a long *text* the tail is kept: the last lines of a runtime say why it failed.
    """
    plain = f'{{"{name}": {number}}}\n'
    text = text.rstrip(b"\0")[-MAX_MESSAGE:]
    if not text:
        return plain.encode()
    head, tail = f'{{"{name}": {number}, "message": "', '"}\n'
    room = MAX_MESSAGE - len(head) - len(tail)
    pieces: list[bytes] = []
    for character in reversed(text.decode("utf-8", "replace")):
        piece = character.translate(_ESCAPES).encode()
        room -= len(piece)
        if room < 0:
            break
        pieces.append(piece)
    return head.encode() + b"".join(reversed(pieces)) + tail.encode()
