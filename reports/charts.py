"""The pictures of the quantization report, as SVG to stand in its page; colours are classes of the page's style."""

import math
from collections.abc import Iterator
from html import escape

from torch import Tensor

WIDTH, HEIGHT, LEFT, TOP, BOTTOM = 1000, 300, 34, 8, 22


def chart(lines: dict[str, list[float]], dots: list[float], titles: list[str]) -> str:
    """Lines and dots over numbered points; what is not finite is left out.

    Args:
        lines: Values by class.
        dots: Values.
        titles: What a point says under the pointer.
    """
    values = [value for value in (*dots, *(v for line in lines.values() for v in line)) if math.isfinite(value)]
    low = 10 * math.floor(min(values, default=0) / 10)
    high = max(10 * math.ceil(max(values, default=0) / 10), low + 10)
    pitch, depth = (WIDTH - LEFT) / len(titles), HEIGHT - TOP - BOTTOM

    def places(values: list[float]) -> Iterator[tuple[str, str]]:
        for i, value in enumerate(values):
            if math.isfinite(value):
                yield f"{LEFT + (i + 0.5) * pitch:.1f}", f"{TOP + depth * (high - value) / (high - low):.1f}"

    parts = []
    for value in range(low, high + 1, 10):
        ((_, y),) = places([value])
        label = str(value).replace("-", "&minus;")
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="label" x="{LEFT - 6}" y="{y}" dy="4" text-anchor="end">{label}</text>')
    every = 5 if len(titles) <= 60 else 10
    for number in range(every, len(titles) + 1, every):
        x = f"{LEFT + (number - 0.5) * pitch:.1f}"
        parts.append(f'<text class="label" x="{x}" y="{HEIGHT - 6}" text-anchor="middle">{number}</text>')
    for style, line in lines.items():
        points = " ".join(f"{x},{y}" for x, y in places(line))
        parts.append(f'<polyline class="line {style}" points="{points}"/>')
    parts += [f'<circle class="own" cx="{x}" cy="{y}" r="3"/>' for x, y in places(dots)]
    for i, title in enumerate(titles):
        place = f'x="{LEFT + i * pitch:.1f}" y="{TOP}" width="{pitch:.1f}" height="{depth}"'
        parts.append(f'<rect class="hit" {place}><title>{escape(title)}</title></rect>')
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="signal-to-noise ratio in dB, by operation">'
        f"{''.join(parts)}</svg>"
    )


COLUMNS, ROWS = 64, 20


def histogram(counts: Tensor, bounds: tuple[int, int], inner: int = 128) -> str:
    """A small picture of how often each int8 value occurs, four values a column, as high as the cube root of a count.

    Args:
        counts: int64 [256].
        bounds: Least and greatest value that there can be.
        inner: Columns outside [-inner, inner) stand out.
    """
    columns = counts.reshape(COLUMNS, -1).sum(dim=1).tolist()
    paths = {"in": "", "out": ""}
    for i, count in enumerate(columns):
        if count:
            height = next(h for h in range(ROWS + 1) if h**3 * max(columns) >= ROWS**3 * count)
            paths["in" if -inner <= 4 * i - 128 < inner else "out"] += f"M{i} {ROWS}v-{height}h1v{height}z"
    shapes = "".join(f'<path class="{style}" d="{path}"/>' for style, path in paths.items() if path)
    left, right = (bounds[0] + 128) / 4, (bounds[1] + 129) / 4
    return (
        f'<svg class="histogram" viewBox="0 0 {COLUMNS} {ROWS}" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="room" x="{left:g}" width="{right - left:g}" height="{ROWS}"/>{shapes}</svg>'
    )
