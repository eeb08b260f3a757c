"""Measure lowconmon beside Debian's conmon, alternating, and put a table where it is asked for.

Each figure is the best of the runs: what else the machine does only ever adds. Where the figure is
mostly another's work, it is their median, the best in brackets. In brackets behind processor time
is how long the work took, at best. The limit is the least that could be: a bare copy by read and
write, a fork and exec, Python with nothing in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from typing import TYPE_CHECKING, NamedTuple

from tests.support.costs import BARE, instructions

from . import lives, memory
from .lives import PROGRAMS, ROOT, WORK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_PAGE = ROOT / "docs/performance.md"
_PLOT = ROOT / "docs/performance.svg"
_README = ROOT / "README.md"
_IN_README = ("start", "short", "single", "client", "latency", "memory")
_BEGIN, _END = "<!-- the table of `ci/bench{}` -->\n", "<!-- its end -->\n"
_SHORT_RUNS, _NOISY_RUNS, _MANY = 20, 100, 300
_SHORT, _LONG = "lines 2000000 80 800", "lines 65536 16384 4"
_SINGLE, _TERMINAL, _CLIENTS = "lines 400000 80 1", "lines 838860 80 50", "lines 3355443 80 800"


class Row(NamedTuple):
    """What is measured: of each program, and of the least that could be, if that is known."""

    text: str
    unit: str
    target: float | None  # times conmon, or more than the limit
    measure: Callable[[str], float | lives.Cost]
    limit: Callable[[], float] | None = None
    over_limit: bool = False
    runs: int = 5
    median: bool = False  # of the runs, not the best


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


def _counting(text: str, count: Callable[[str], int]) -> Row:
    millions = 1e-6
    return Row(
        text,
        "M",
        None,
        lambda program: count(program) * millions,
        lambda: instructions(BARE) * millions,
    )


ROWS = {
    "start": Row(
        "exec to the pid on the sync pipe",
        "ms",
        2.5,
        _ms(lives.starting_s),
        lambda: lives.running_s(BARE) * 1000,
        runs=_NOISY_RUNS,
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
    "exit": Row(
        "end to exit file, 1 MB logged, on a disk",
        "ms",
        0.7,
        _ms(lives.recording_s),
        runs=_SHORT_RUNS,
    ),
    "quiet": Row(
        "end to exit file, idle, in memory",
        "ms",
        0.7,
        _ms(lives.bare_recording_s),
        lambda: lives.least_recording_s() * 1000,
        runs=_SHORT_RUNS,
    ),
    "podman": Row(
        "`podman run --rm`: median (best)",
        "ms",
        1.03,
        _ms(lives.podman_s),
        runs=_NOISY_RUNS,
        median=True,
    ),
    "memory": Row(
        "private memory, idle", "KiB", 512, lives.idle_kib, lives.bare_kib, over_limit=True
    ),
    "version": _counting(
        "instructions of --version", lambda program: instructions([PROGRAMS[program], "--version"])
    ),
    "create": _counting("instructions of a create and the end", lives.creating),
}


def measure(row: Row, runs: int) -> dict[str, float]:
    """Return the figures of a row: `limit`, and each program's; of medians, the bests too."""
    found: dict[str, list[float]] = {}
    order = list(PROGRAMS)
    for _ in range(runs):
        if row.limit:
            found.setdefault("limit", []).append(row.limit())
        order.reverse()  # who comes behind whom must not count
        for program in order:
            figure = row.measure(program)
            if isinstance(figure, lives.Cost):
                found.setdefault(f"wall {program}", []).append(figure.wall_s)
                figure = figure.cpu_s
            found.setdefault(program, []).append(figure)
    bests = {key: min(values) for key, values in found.items()}
    if not row.median:
        return bests
    medians = {key: statistics.median(values) for key, values in found.items()}
    return medians | {f"best {key}": value for key, value in bests.items()}


def line(row: Row, figures: dict[str, float]) -> str:
    """Return a row of the table."""
    ratio, limit = figures["lowconmon"] / figures["conmon"], figures.get("limit")
    unit = f"{row.unit} (wall)" if "wall conmon" in figures else row.unit
    cells = [row.text, unit, "-" if limit is None else f"{limit:.4g}"]
    for program in PROGRAMS:
        other = figures.get(f"best {program}" if row.median else f"wall {program}")
        cells.append(f"{figures[program]:.4g}" + (f" ({other:.4g})" if other else ""))
    cells.append(f"{ratio:.2f}")
    if row.target is None:
        cells += "--"
    elif row.over_limit and limit is not None:
        met = figures["lowconmon"] <= limit + row.target
        cells += [f"limit + {row.target:g}", "yes" if met else "no"]
    else:
        cells += [f"{row.target:g}", "yes" if ratio <= row.target else "no"]
    return f"| {' | '.join(cells)} |"


def put(page: Path, text: str, name: str = "rows") -> None:
    """Put *text* in the place of a table of a page."""
    option = "" if name == "rows" else f" --{name}"
    before, begin, rest = page.read_text().partition(_BEGIN.format(option))
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


def many(count: int) -> Iterator[str]:
    """Give a table of what it costs to monitor so many containers at once."""
    yield f"| {count} at once | conmon | lowconmon | ratio |"
    yield "| --- | --- | --- | --- |"
    found = {program: lives.many(program, count) for program in PROGRAMS}
    for name, conmon in found["conmon"].items():
        ours = found["lowconmon"][name]
        yield f"| {name} | {conmon:.4g} | {ours:.4g} | {ours / conmon:.2f} |"


def rows(options: argparse.Namespace) -> Iterator[str]:
    """Give the table of rows; where it is to be written, write what else shows their figures."""
    yield "| | unit | limit | conmon | lowconmon | ratio | target | met |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    figures: dict[str, dict[str, float]] = {}
    for name in options.names or (_IN_README if options.quick else ROWS):
        row = ROWS[name]
        figures[name] = measure(row, options.runs or row.runs)
        yield line(row, figures[name])
    (WORK / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    if options.quick:
        print(f"\n{summary(figures)}", end="")
    if options.write:
        put(_README, summary(figures))
        _PLOT.write_text(plot(figures))


# Of each table the lines that it gives
TABLES: dict[str, Callable[[argparse.Namespace], Iterable[str]]] = {
    "rows": rows,
    "many": lambda options: many(options.many or _MANY),
    "idle": lambda _: memory.idle(),
    "endurance": lambda _: memory.endurance(),
    "heap": lambda _: memory.heap(),
}


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="ci/bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--runs", type=int, help="of each row")
    text = "so many containers at once, ten lines a second each, for a minute"
    parser.add_argument("--many", type=int, nargs="?", const=_MANY, metavar="COUNT", help=text)
    for name, text in (
        ("--rows", "the table of all rows, which is also what comes where none is asked for"),
        ("--quick", "the README's rows, and its table of them"),
        ("--idle", "what idle monitors hold in memory"),
        ("--endurance", "what a monitor holds before and after much work; minutes"),
        ("--heap", "what an idle lowconmon's private memory is for"),
        ("--write", "into docs/performance.md and the README; all tables, if none is asked for"),
    ):
        parser.add_argument(name, action="store_true", help=text)
    options = parser.parse_args()
    if options.names and options.quick:
        parser.error("--quick has rows of its own")
    some = bool(options.names or options.quick)
    if options.write and some:
        parser.error("what is written is a whole table")
    if unknown := {*options.names} - ROWS.keys():
        parser.error(f"no such row: {' '.join(unknown)}")
    lives.make_stub()
    asked = [name for name in TABLES if getattr(options, name) or (some and name == "rows")]
    for name in asked or (TABLES if options.write else ["rows"]):
        table = ""
        for text in TABLES[name](options):
            print(text, flush=True)
            table += f"{text}\n"
        if options.write:
            put(_PAGE, table, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
