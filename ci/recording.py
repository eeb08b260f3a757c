#!/usr/bin/env python3
"""Record podman under lowconmon: ci/recording.py writes docs/recording.cast and docs/recording.svg.

The commands of SCENE are typed and run in a terminal, in a house as tests/podman's, as root, after
`ci/test`. docs/examples/record.py records them; the picture is drawn from the recording alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CAST, PICTURE = ROOT / "docs/recording.cast", ROOT / "docs/recording.svg"
COLUMNS, ROWS = 116, 24
HOLD_S = 4.0  # the last picture, before it begins again
SCENE = """
podman info --format '{{.Host.Conmon.Version}}'
podman run -d --name box localhost/box sh -c 'trap exit TERM; while sleep 1; do echo tick $((i += 1)); done'
timeout 3.2 podman logs -f box
lowconmon status
podman exec box sh -c 'echo "in the same container"; exit 3'; echo "status $?"
podman stop box
lowconmon logs --timestamps --tail 2 $(podman inspect --format '{{.HostConfig.LogConfig.Path}}' box)
""".strip().splitlines()
# Types and runs what stdin brings.
TYPIST = """
while IFS= read -r line <&3; do
    printf '$ '
    for ((i = 0; i < ${#line}; i++)); do printf %s "${line:i:1}"; sleep 0.02; done
    sleep 0.3
    echo
    eval "$line" </dev/null
    sleep 0.8
done 3<{scene}
"""


def lines(events: list[tuple[float, str, str]]) -> list[tuple[float, str]]:
    """Return when each line of a recording was begun, typed or printed, and its text."""
    found, text, begun = [], "", 0.0
    for at, kind, data in events:
        for piece in data.splitlines(keepends=True) if kind == "o" else ():
            begun = begun if text else at
            text += piece
            if text.endswith("\n"):
                # A command counts from where it was typed.
                found.append((at if text.startswith("$ ") else begun, text.rstrip("\r\n")))
                text = ""
    return found


def picture(cast: str) -> str:
    """Return the SVG of a recording: each line is hidden until its time has come, again and again."""
    head, *rest = (json.loads(line) for line in cast.splitlines())
    shown = lines([tuple(event) for event in rest])
    step, width = 18, head["width"] * 8.43 + 24
    height, length = (len(shown) + 1) * step + 12, rest[-1][0] + HOLD_S
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}">',
        "<title>podman under lowconmon, in a terminal</title>",
        "<style>text{font:14px monospace;fill:#d6e4da;white-space:pre}.c{fill:#8fd6a8}</style>",
        '<rect width="100%" height="100%" rx="6" fill="#17211b">',
        f'<animate id="r" attributeName="rx" values="6" dur="{length:.2f}s" begin="0s;r.end"/></rect>',
    ]
    for number, (at, text) in enumerate(shown):
        kind = ' class="c"' if text.startswith("$ ") else ""
        hidden = f'<set attributeName="visibility" to="hidden" begin="r.begin" dur="{at:.2f}s"/>'
        y = (number + 1) * step + 6
        parts.append(
            f'<text x="12" y="{y}"{kind} xml:space="preserve">{escape(text)}{hidden}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


def record() -> None:
    """Make the recording."""
    sys.path.insert(0, str(ROOT))
    from tests.podman.podman_house import House

    prefix = ROOT / ".work/prefix"
    with House(prefix / "libexec/podman/conmon") as house, tempfile.TemporaryDirectory() as work:
        scene, typist = Path(work, "scene"), Path(work, "typist")
        scene.write_text("\n".join(SCENE) + "\n")
        command = house.command()
        inside, options = command[: command.index("podman")], command[command.index("podman") + 1 :]
        typist.write_text(TYPIST.replace("{scene}", str(scene)))
        podman = Path(work, "podman")
        podman.write_text(f'#!/bin/sh\nexec /usr/bin/podman {" ".join(options)} "$@"\n')
        podman.chmod(0o755)
        recorder = [sys.executable, str(ROOT / "docs/examples/record.py"), str(CAST)]
        environment = {**house.environment, "PYTHONPATH": str(ROOT)}
        environment |= {"PATH": f"{work}:{prefix}/bin:{environment['PATH']}", "NO_COLOR": "1"}
        size = f"stty rows {ROWS} columns {COLUMNS}; exec bash {typist}"
        subprocess.run([*recorder, *inside, "bash", "-c", size], env=environment, check=True)


if __name__ == "__main__":
    if os.geteuid():
        sys.exit("ci/recording.py: containers are root's here")
    record()
    head = {"version": 2, "width": COLUMNS, "height": ROWS, "title": "podman under lowconmon"}
    events = CAST.read_text().partition("\n")[2]
    CAST.write_text(f"{json.dumps(head)}\n{events}")
    CAST.chmod(0o644)
    PICTURE.write_text(picture(CAST.read_text()))
