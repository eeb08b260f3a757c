"""Read a json-file log as docker does, but forgive nothing."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

MAX_TEXT = 16384  # bytes of a record's text before it is escaped
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")


class Record(NamedTuple):
    """One line of a log; *text* ends with a newline where it ends a line of the container."""

    stream: str
    text: str
    time: str


def parse(line: bytes) -> Record:
    """Return the record that *line*, without its newline, is."""
    value = json.loads(line.decode("utf-8", "strict"))
    assert list(value) == ["log", "stream", "time"], line[:200]
    record = Record(value["stream"], value["log"], value["time"])
    assert record.stream in ("stdout", "stderr"), line[:200]
    assert _TIME.fullmatch(record.time), line[-200:]
    assert record.text, line[:200]
    assert "\n" not in record.text[:-1], line[:200]
    assert len(record.text.removesuffix("\n").encode()) <= MAX_TEXT, line[:200]
    return record


def records(content: bytes) -> list[Record]:
    """Return the records of a log; every line must be one, and the last one must end."""
    assert content == b"" or content.endswith(b"\n"), f"a torn record: {content[-100:]!r}"
    return [parse(line) for line in content.split(b"\n")[:-1]]


def texts(content: bytes) -> tuple[bytes, bytes]:
    """Return what a log's records say the container wrote on stdout and stderr."""
    found = records(content)
    return (
        "".join(record.text for record in found if record.stream == "stdout").encode(),
        "".join(record.text for record in found if record.stream == "stderr").encode(),
    )


def old_record(text: str, stream: str = "stdout") -> bytes:
    """Return a record as an earlier monitor left it."""
    value = {"log": text, "stream": stream, "time": "2020-01-01T00:00:00.000000000Z"}
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def size(text: str, stream: str = "stdout") -> int:
    """Return how many bytes the record of *text* has."""
    return len(old_record(text, stream))
