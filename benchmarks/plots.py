"""Plots of results as SVG files, which show on light and on dark pages: bars, or lines over sizes."""

import math
from collections.abc import Mapping, Sequence
from xml.sax.saxutils import escape

WIDTH, LABELS, RIGHT, PITCH = 760, 260, 110, 22  # pixels: of all, of the names, of the figures, of a bar
HEIGHT, LEFT, TOP, BOTTOM = 300, 70, 12, 36  # of a plot of lines, and of its margins
COLOURS = ("#2a7ab9", "#d9822b", "#3a9a57", "#b5485d", "#7a5fb0", "#8a7a3c", "#4a9aa5", "#9a9a9a")
STYLE = (
    "<style>text{font:12px sans-serif;fill:#333}.axis{stroke:#8888;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#ccc}}</style>"
)


def bars(values: Mapping[str, float], figures: Mapping[str, str], base: float) -> str:
    """Horizontal bars, one a contestant, with a figure beside each, and a line at the value that others are held to."""
    longest = max(*values.values(), base) or 1.0
    scale = (WIDTH - LABELS - RIGHT) / longest
    parts = []
    for number, (name, value) in enumerate(values.items()):
        y = number * PITCH + 4
        parts.append(f'<text x="{LABELS - 8}" y="{y + 13}" text-anchor="end">{escape(name)}</text>')
        colour = COLOURS[0] if value >= base else COLOURS[1]
        parts.append(f'<rect x="{LABELS}" y="{y}" width="{value * scale:.1f}" height="{PITCH - 5}" fill="{colour}"/>')
        parts.append(f'<text x="{LABELS + value * scale + 6:.1f}" y="{y + 13}">{escape(figures[name])}</text>')
    height = len(values) * PITCH + 8
    x = LABELS + base * scale
    parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height}"/>')
    return _svg(height, parts)


def curves(lines: Mapping[str, Sequence[tuple[float, float]]], unit: str) -> str:
    """Lines over sizes, both axes logarithmic, with a legend below; points are positive."""
    points = [point for line in lines.values() for point in line]
    (left, right), (low, high) = (_range([point[axis] for point in points]) for axis in (0, 1))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - left) / (right - left)
        up = (math.log10(y) - low) / (high - low)
        return LEFT + (WIDTH - LEFT - 20) * across, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * up

    parts = []
    for value in _ticks(low, high):
        y = place(10**left, value)[1]
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g} {escape(unit)}</text>')
    for size in sorted({point[0] for point in points}):
        x = place(size, 10**low)[0]
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{size:,.6g}</text>')
    for number, (name, line) in enumerate(lines.items()):
        colour, y = COLOURS[number % len(COLOURS)], HEIGHT + 16 * number
        places = [place(*point) for point in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
        parts.append(f'<rect x="{LEFT}" y="{y}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{LEFT + 16}" y="{y + 10}">{escape(name)}</text>')
    return _svg(HEIGHT + 16 * len(lines) + 4, parts)


def growth(points: Sequence[tuple[float, float]]) -> float:
    """The exponent b of a * size**b, fitted to the logarithms by least squares; nan for less than two sizes."""
    x, y = ([math.log(value) for value in axis] for axis in zip(*points, strict=True))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    spread = sum((value - mean_x) ** 2 for value in x)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / spread if spread else math.nan


def _ticks(low: float, high: float) -> list[float]:
    """Round values between two logarithms: powers of ten, or what lies between them where these are fewer than two."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    for digits in ((1,), (1, 2, 5), range(1, 10), range(10, 100)):
        scale = 10 ** (len(str(digits[0])) - 1)
        ticks = [digit / scale * 10.0**power for power in powers for digit in digits]
        ticks = [tick for tick in ticks if low <= math.log10(tick) <= high]
        if len(ticks) > 1:
            break
    return ticks


def _range(values: Sequence[float]) -> tuple[float, float]:
    low, high = math.log10(min(values)), math.log10(max(values))
    return low - 0.05 * (high - low + 0.5), high + 0.05 * (high - low + 0.5)


def _svg(height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}">'
    return "\n".join([head, STYLE, *parts, "</svg>", ""])
