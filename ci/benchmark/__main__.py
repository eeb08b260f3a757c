"""Measure lowconmon beside Debian's conmon, alternating, and put a table where it is asked for.

Each figure is the best of the runs: what else the machine does only ever adds. The limit is the
least that could be: a bare copy by read and write, a fork and exec, Python with nothing in it.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.support.costs import BARE, instructions

from . import lives
from .lives import PROGRAMS, ROOT, WORK

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_PAGE = ROOT / "docs/performance.md"
_PLOT = ROOT / "docs/performance.svg"
_README = ROOT / "README.md"
_IN_README = ("start", "short", "single", "client", "latency", "memory")
_BEGIN, _END = "<!-- the table of `ci/bench` -->\n", "<!-- its end -->\n"
_SHORT, _LONG = "lines 2000000 80 800", "lines 65536 16384 4"
_SINGLE, _TERMINAL, _CLIENTS = "lines 400000 80 1", "lines 838860 80 50", "lines 3355443 80 800"


class Row(NamedTuple):
    """What is measured: of each program, and of the least that could be, if that is known."""

    text: str
    unit: str
    target: float | None  # times conmon
    measure: Callable[[str], float]
    limit: Callable[[], float] | None = None


def _ms(measure: Callable[..., float]) -> Callable[[str], float]:
    return lambda program: measure(program) * 1000


def _logging(text: str, job: str, target: float, *options: str) -> Row:
    return Row(
        text,
        "CPU s",
        target,
        lambda program: lives.logging_s(program, job, *options),
        lambda: lives.copying_s(job),
    )


ROWS = {
    "start": Row(
        "exec to the pid on the sync pipe",
        "ms",
        2.5,
        _ms(lives.starting_s),
        lambda: lives.running_s(BARE) * 1000,
    ),
    "short": _logging("2M lines of 80 bytes", _SHORT, 0.5),
    "long": _logging("1 GiB in lines of 16 KiB", _LONG, 0.75),
    "single": _logging("400k lines, a write each", _SINGLE, 0.75),
    "terminal": _logging("64 MiB through a terminal", _TERMINAL, 0.9, "-t"),
    "journal": Row(
        "200k lines to the journal",
        "CPU s",
        0.6,
        lambda program: lives.journal_s(program, "lines 200000 80 800"),
    ),
    "client": Row(
        "256 MiB to one client",
        "CPU s",
        0.9,
        lambda program: lives.attached_s(program, _CLIENTS, 1),
    ),
    "clients": Row(
        "256 MiB to four clients",
        "CPU s",
        0.9,
        lambda program: lives.attached_s(program, _CLIENTS, 4),
    ),
    "latency": Row("an idle container's line to the log", "ms", 2, _ms(lives.latency_s)),
    "exit": Row("container's end to exit file", "ms", 0.7, _ms(lives.recording_s)),
    "memory": Row("private memory, idle", "KiB", None, lives.idle_kib, lives.bare_kib),
    "version": Row(
        "instructions of --version",
        "M",
        None,
        lambda program: instructions([PROGRAMS[program], "--version"]) / 1e6,
        lambda: instructions(BARE) / 1e6,
    ),
}


def measure(names: list[str], runs: int) -> dict[str, dict[str, float]]:
    """Return the figures of each row: `limit` and the programs'."""
    figures: dict[str, dict[str, float]] = {}
    for name in names:
        row, found = ROWS[name], dict[str, list[float]]()
        for _ in range(runs):
            if row.limit:
                found.setdefault("limit", []).append(row.limit())
            for program in PROGRAMS:
                found.setdefault(program, []).append(row.measure(program))
        figures[name] = {key: min(values) for key, values in found.items()}
        print(line(name, figures[name]), flush=True)
    return figures


def line(name: str, figures: dict[str, float]) -> str:
    """Return a row of the table."""
    row, ratio = ROWS[name], figures["lowconmon"] / figures["conmon"]
    limit = f"{figures['limit']:.4g}" if "limit" in figures else "-"
    cells = [row.text, row.unit, limit, f"{figures['conmon']:.4g}", f"{figures['lowconmon']:.4g}"]
    cells.append(f"{ratio:.2f}")
    cells += [f"{row.target:g}", "yes" if ratio <= row.target else "no"] if row.target else "--"
    return f"| {' | '.join(cells)} |"


def put(page: Path, text: str) -> None:
    """Put *text* in the place of the table of a page."""
    before, begin, rest = page.read_text().partition(_BEGIN)
    page.write_text(f"{before}{begin}{text}{_END}{rest.partition(_END)[2]}")


def summary(figures: dict[str, dict[str, float]]) -> str:
    """Return the README's table: a few rows, and how often conmon's figure goes into ours."""
    lines = ["| | conmon | lowconmon | ratio |", "| --- | --- | --- | --- |"]
    for name in _IN_README:
        row, conmon, ours = ROWS[name], figures[name]["conmon"], figures[name]["lowconmon"]
        texts = [f"{it:.3g}" if it < 1000 else f"{it:.0f}" for it in (conmon, ours)]
        cells = [row.text, *(f"{text} {row.unit}" for text in texts), f"{ours / conmon:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(figures: dict[str, dict[str, float]]) -> str:
    """Return an SVG with a bar for each ratio; the line is conmon."""
    scale, height, left = 120, 24, 260
    parts = []
    for index, (name, values) in enumerate(figures.items()):
        ratio, y = values["lowconmon"] / values["conmon"], 10 + index * height
        parts.append(
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{ROWS[name].text}</text>'
        )
        parts.append(f'<rect x="{left}" y="{y}" width="{ratio * scale:.0f}" height="16"/>')
        parts.append(f'<text x="{left + ratio * scale + 6:.0f}" y="{y + 13}">{ratio:.2f}</text>')
    bottom = 10 + len(figures) * height
    parts.append(f'<line x1="{left + scale}" x2="{left + scale}" y1="4" y2="{bottom}"/>')
    style = "text{font:12px sans-serif}rect{fill:#4a7}line{stroke:#444;stroke-dasharray:4}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{bottom + 10}">\n'
        f"<title>lowconmon's cost; the line is conmon's</title><style>{style}</style>\n"
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="ci/bench", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--runs", type=int, default=3, help="of each row; the best one counts")
    parser.add_argument(
        "--write", action="store_true", help="into docs/performance.md and the README"
    )
    text = "instead of the rows, as many containers at once, ten lines a second each, for a minute"
    parser.add_argument("--many", type=int, default=0, metavar="COUNT", help=text)
    options = parser.parse_args()
    if options.write and options.rows:
        parser.error("what is written is the whole table")
    if unknown := {*options.rows} - ROWS.keys():
        parser.error(f"no such row: {' '.join(unknown)}")
    lives.make_stub()
    if options.many:
        found = {program: lives.many(program, options.many) for program in PROGRAMS}
        print(f"| {options.many} at once | conmon | lowconmon | ratio |\n| --- | --- | --- | --- |")
        for name, conmon in found["conmon"].items():
            ours = found["lowconmon"][name]
            print(f"| {name} | {conmon:.4g} | {ours:.4g} | {ours / conmon:.2f} |")
        return 0
    head = "| | unit | limit | conmon | lowconmon | ratio | target | met |\n"
    head += "| --- | --- | --- | --- | --- | --- | --- | --- |\n"
    print(head, end="")
    figures = measure(options.rows or [*ROWS], options.runs)
    (WORK / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    if options.write:
        put(_PAGE, head + "".join(line(name, it) + "\n" for name, it in figures.items()))
        put(_README, summary(figures))
        _PLOT.write_text(plot(figures))
    return 0


if __name__ == "__main__":
    sys.exit(main())
