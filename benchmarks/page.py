"""Writes the page of the benchmarks: benchmarks.md, and a plot beside it for each table, from the parts' results."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.plots import bars, curves, growth
from benchmarks.record import Part
from benchmarks.results import DIFFER, Result, cases

PAGE, PLOTS = "benchmarks.md", "benchmarks"
TITLES = {
    "data": "Packing and loading of images",
    "train": "Training steps",
    "quantize": "Quantization",
    "deploy": "The deployed model",
    "scale": "Growth with size",
}
HEAD = """# Benchmarks

`make bench` measures all of this beside other projects that do the same work, and writes this page, its plots and
`benchmarks.json`; do not edit them. `make bench ONLY={only}` measures one part, `QUICK=1` a
short form, into `runs/bench/`, and `AGAINST=docs/benchmarks.json` prints what moved since.

Contestants take turns, round by round, after a round that warms up: same machine, same inputs, same threads. A cell is
the median of the rounds; "±" is half of the distance between the quartiles, and "(2.00x)" that it is twice as good
as the first row of its table, above 1 always being better. Where one of ours is slower than a rival that does the same
work, the top lines of a profile follow the table, and of all that grows with size those at the largest one.
"""


def write_page(folder: Path, parts: Mapping[str, Part]) -> None:
    """Write the page of all parts, and its plots, into `folder`."""
    known = {name: parts[name] for name in TITLES if name in parts}
    lines = [HEAD.format(only="|".join(TITLES))]
    commits = {part.origin["commit"] for part in known.values()}
    if len(commits) > 1:
        lines.append("The parts were measured at different commits, which stand at each.\n")
    plots = folder / PLOTS
    plots.mkdir(parents=True, exist_ok=True)
    for name, part in known.items():
        lines += [f"## {TITLES[name]}\n", *(f"- {title}: {text}" for title, text in part.origin.items()), ""]
        for path in plots.glob(f"{name}-*.svg"):
            path.unlink()
        if shares := differing_shares(part.results):
            file = plots / f"{name}-logits-that-differ.svg"
            file.write_text(bars(*shares, 0.0))
            lines += ["Of the logits of int8 files, this share differs from what each simulates, on all networks:\n"]
            lines += [f"![Share of logits that differ]({PLOTS}/{file.name})\n"]
        for title, results in cases(part.results).items():
            lines += [f"### {title}\n"]
            plot = _plot(results)
            if plot:
                file = plots / f"{name}-{re.sub(r'[^a-z0-9]+', '-', title.lower()).strip('-')}.svg"
                file.write_text(plot)
                lines += [f"![{title}]({PLOTS}/{file.name})\n"]
            lines += [*table(results), "", *where_time_goes(results)]
    (folder / PAGE).write_text("\n".join(lines).rstrip() + "\n")


def table(results: Sequence[Result]) -> Iterator[str]:
    """The lines of a Markdown table of one case: a row per contestant, a column per kind of measurement."""
    columns = list(dict.fromkeys(_column(each) for each in results if not each.error))
    rows: dict[str, dict[str, Result]] = {}
    for each in results:
        rows.setdefault(each.contestant, {})[_column(each)] = each
    firsts = {column: next(row[column] for row in rows.values() if column in row) for column in columns}
    grows = any(each.at is not None for each in results)
    heads = [*columns, *(["grows with size to the power of"] if grows else []), "notes"]
    yield "| | " + " | ".join(heads) + " |"
    yield "|---|" + "---:|" * (len(heads) - 1) + "---|"
    for name, row in rows.items():
        # what grows with size is compared with other sizes, not with what another row does
        cells = [_cell(row.get(column), None if grows else firsts[column]) for column in columns]
        if grows:
            points = _points(row.values())
            cells.append(f"{growth(points):.2f}" if len(points) > 1 else "")
        notes = "; ".join(dict.fromkeys(text for each in row.values() for text in (each.error, each.note) if text))
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in (name, *cells, notes)) + " |"


def where_time_goes(results: Sequence[Result]) -> list[str]:
    """A list of the profiles that were taken, which follows the table."""
    told = [each for each in results if each.profile]
    lines = [f"- **{', '.join(filter(None, (each.contestant, each.column)))}**: {each.profile}" for each in told]
    return ["Where the time goes:\n", *lines, ""] if lines else []


def differing_shares(results: Iterable[Result]) -> tuple[dict[str, float], dict[str, str]] | None:
    """The greatest share of each int8 contestant in percent, and its range as text; None if there is none."""
    found: dict[str, list[float]] = {}
    for each in results:
        if each.unit == DIFFER and each.values and "float" not in each.contestant:
            found.setdefault(each.contestant, []).append(each.median)
    ranges = {name: (figure(min(shares)), figure(max(shares))) for name, shares in found.items()}
    texts = {name: f"{low} %" if low == high else f"{low} to {high} %" for name, (low, high) in ranges.items()}
    return ({name: max(shares) for name, shares in found.items()}, texts) if found else None


def _column(result: Result) -> str:
    size = "" if result.at is None else f"{result.at:,.10g}"
    return ", ".join(filter(None, (result.column, size, result.unit)))


def _cell(result: Result | None, first: Result | None) -> str:
    if result is None or not result.values:
        return ""
    several = len(result.values) > 1
    spread = f" ±{100 * result.spread:.0f} %" if several else ""
    compared = several and result is not first
    gain = f" ({result.gain(first):.2f}x)" if compared and first and first.values else ""
    return figure(result.median) + spread + gain


def figure(value: float) -> str:
    """A value with three significant digits at least, and commas between thousands."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _plot(results: Sequence[Result]) -> str | None:
    """Of the first column with several values: bars, or lines if its results have sizes; None if there is none."""
    several = [each for each in results if len(each.values) > 1 or (each.values and each.at)]
    if not several:
        return None
    shown = [each for each in several if (each.unit, each.column) == (several[0].unit, several[0].column)]
    if several[0].at is not None:
        lines = {
            each.contestant: _points(other for other in shown if other.contestant == each.contestant) for each in shown
        }
        return curves({name: points for name, points in lines.items() if points}, several[0].unit)
    shown = list({each.contestant: each for each in shown}.values())
    gains = {each.contestant: each.gain(shown[0]) for each in shown}
    figures = {each.contestant: f"{figure(each.median)} {each.unit}" for each in shown}
    return bars(gains, figures, 1.0)


def _points(results: Iterable[Result]) -> list[tuple[float, float]]:
    return [(each.at, each.median) for each in results if each.at and each.values and each.median > 0]
