"""Charts of the results page, as SVG to stand in it; colours are classes of the page's style."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from reports.templates import environment

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 260, 46, 12, 10, 40
ROW, NAMES = 30, 150  # height of a form in the chart of forms, and width of its name
TICKS = 5  # most intervals of an axis

_templates = environment(autoescape=True)


class Line(NamedTuple):
    """A line, or dots alone: its label, class in the page's style, points, and the tooltips of its dots."""

    label: str
    style: str
    points: list[tuple[float, float]]
    tips: list[str]


class Interval(NamedTuple):
    """A value of a form with its label, class in the page's style, and the interval that is drawn behind it."""

    label: str
    style: str
    value: float
    low: float
    high: float


def ticks(low: float, high: float, least: float = 0.0) -> list[float]:
    """Round numbers from at most `low` to at least `high`, in steps of 1, 2 or 5 times a power of ten.

    Args:
        low, high: What they span.
        least: The least step, a power of ten.
    """
    span = (high - low) or abs(high) or 1.0
    power = max(10.0 ** math.floor(math.log10(span / TICKS)), least)
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if span <= step * TICKS * (1 + 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, max(last, first + 1) + 1)]


def chart(lines: Sequence[Line], x_title: str, y_title: str, diagonal: bool = False) -> Markup:
    """Draw lines with a dot at each point that is finite; one whose class ends in "dots" has dots alone.

    Args:
        lines: At least one with a point.
        x_title, y_title: Titles of the axes; x has whole numbers at its ticks.
        diagonal: Whether the line on which y is x is drawn, in axes from 0 to 100.
    """
    finite = [
        [each for each in zip(line.points, line.tips, strict=True) if all(map(math.isfinite, each[0]))]
        for line in lines
    ]
    xs, ys = ([point[axis] for line in finite for point, _ in line] or [0.0] for axis in (0, 1))
    (x_low, x_high), (y_low, y_high) = ((0.0, 100.0) if diagonal else (min(v), max(v)) for v in (xs, ys))
    x_ticks, y_ticks = ticks(x_low, x_high, least=1.0), ticks(y_low, y_high)

    def x(value: float) -> str:
        return f"{LEFT + (WIDTH - LEFT - RIGHT) * (value - x_ticks[0]) / (x_ticks[-1] - x_ticks[0]):.1f}"

    def y(value: float) -> str:
        return f"{TOP + (HEIGHT - TOP - BOTTOM) * (y_ticks[-1] - value) / (y_ticks[-1] - y_ticks[0]):.1f}"

    svg = _templates.get_template("figure.svg").render(
        {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "top": TOP, "foot": HEIGHT - BOTTOM},
        columns=[(f"{value:g}", x(value)) for value in x_ticks],
        rows=[(f"{value:g}", y(value)) for value in y_ticks],
        titles=(x_title, y_title),
        diagonal=diagonal,
        lines=[
            (line.style, [(x(px), y(py), tip) for (px, py), tip in points])
            for line, points in zip(lines, finite, strict=True)
        ],
    )
    return Markup(svg)


def intervals(rows: Sequence[Sequence[Interval]], x_title: str) -> Markup:
    """Draw values as dots, one row for those of one form, each with its interval as a band behind it.

    Args:
        rows: For each form, its values by revision, of which the first has the label of the row.
        x_title: Title of the axis.
    """
    every = [each for row in rows for each in row]
    marks = ticks(min(min(each.low, each.value) for each in every), max(max(each.high, each.value) for each in every))

    def x(value: float) -> float:
        return round(NAMES + (WIDTH - NAMES - 2 * RIGHT) * (value - marks[0]) / (marks[-1] - marks[0]), 1)

    shapes = []
    for number, row in enumerate(rows):
        for place, each in enumerate(row):
            y = TOP + ROW * (number + (place + 1) / (len(row) + 1))
            width = max(x(each.high) - x(each.low), 1)
            shapes.append((each, f"{y:.1f}", x(each.value), x(each.low), f"{width:.1f}"))
    svg = _templates.get_template("intervals.svg").render(
        {"width": WIDTH, "height": TOP + ROW * len(rows) + BOTTOM, "top": TOP, "foot": TOP + ROW * len(rows)},
        names=[(row[0].label, TOP + ROW * (number + 0.5)) for number, row in enumerate(rows)],
        name_end=NAMES - 8,
        columns=[(f"{value:g}", x(value)) for value in marks],
        title=x_title,
        shapes=shapes,
    )
    return Markup(svg)
