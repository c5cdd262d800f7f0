"""The charts of the quantization report, as SVG to stand in its page; colours are classes of the page's style."""

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup
from torch import Tensor

from reports.templates import environment

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 1000, 300, 34, 8, 22
COLUMNS, ROWS = 64, 20  # of a histogram

_templates = environment(autoescape=True)


def chart(lines: Mapping[str, Sequence[float]], dots: Sequence[float], titles: Sequence[str]) -> Markup:
    """Draw lines and dots over numbered points; values that are not finite are left out.

    Args:
        lines: Values of each line, by its class in the page's style.
        dots: Values of the dots.
        titles: The tooltip of each point.
    """
    values = [value for value in (*dots, *(v for line in lines.values() for v in line)) if math.isfinite(value)]
    low = 10 * math.floor(min(values, default=0) / 10)
    high = max(10 * math.ceil(max(values, default=0) / 10), low + 10)
    pitch, depth = (WIDTH - LEFT) / len(titles), HEIGHT - TOP - BOTTOM

    def level(value: float) -> str:
        return f"{TOP + depth * (high - value) / (high - low):.1f}"

    def places(values: Sequence[float]) -> list[tuple[str, str]]:
        return [(f"{LEFT + (i + 0.5) * pitch:.1f}", level(v)) for i, v in enumerate(values) if math.isfinite(v)]

    every = 5 if len(titles) <= 60 else 10
    svg = _templates.get_template("chart.svg").render(
        {"width": WIDTH, "height": HEIGHT, "left": LEFT, "top": TOP, "depth": depth, "pitch": f"{pitch:.1f}"},
        levels=[(value, level(value)) for value in range(low, high + 1, 10)],
        numbers=[(n, f"{LEFT + (n - 0.5) * pitch:.1f}") for n in range(every, len(titles) + 1, every)],
        lines={style: places(line) for style, line in lines.items()},
        dots=places(dots),
        titles=[(f"{LEFT + i * pitch:.1f}", title) for i, title in enumerate(titles)],
    )
    return Markup(svg)


def histogram(counts: Tensor, bounds: tuple[int, int], inner: int = 128) -> Markup:
    """Draw how often each int8 value occurs: four values per column, its height the cube root of their count.

    Args:
        counts: int64 [256].
        bounds: Least and greatest value that is possible.
        inner: Columns outside [-inner, inner) are highlighted.
    """
    columns = counts.reshape(COLUMNS, -1).sum(dim=1).tolist()
    shapes: dict[str, list[tuple[int, int]]] = {"in": [], "out": []}
    for i, count in enumerate(columns):
        if count:
            height = next(h for h in range(ROWS + 1) if h**3 * max(columns) >= ROWS**3 * count)
            shapes["in" if -inner <= 4 * i - 128 < inner else "out"].append((i, height))
    left, right = (bounds[0] + 128) / 4, (bounds[1] + 129) / 4
    svg = _templates.get_template("histogram.svg").render(
        columns=COLUMNS, rows=ROWS, left=f"{left:g}", width=f"{right - left:g}", shapes=shapes
    )
    return Markup(svg)
