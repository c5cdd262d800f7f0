import math
import re

import torch
from html_pages import of_class, tree

from reports.charts import chart, histogram

TOP, BOTTOM = 8.0, 278.0  # of a chart
LEFT, RIGHT = 34, 1000


def bars(path):
    """The columns of a histogram and their heights."""
    return {int(x): int(height) for x, height in re.findall(r"M(\d+) 20v-(\d+)h1v\2z", path.get("d"))}


def test_a_histogram_is_as_high_as_the_cube_root_of_a_count():
    counts = torch.zeros(256, dtype=torch.int64)
    counts[[0, 128, 129, 255]] = torch.tensor([125, 600, 400, 1])  # -128, 0 and 1, 127
    image = tree(histogram(counts, (-128, 127), 64))
    (inside,), (outside,), (room,) = (of_class(image, name) for name in ("in", "out", "room"))
    assert bars(inside) == {32: 20}  # 1000 of them, the most
    assert bars(outside) == {0: 10, 63: 2}  # an eighth and a thousandth
    assert (float(room.get("x")), float(room.get("width"))) == (0, 64)


def test_a_histogram_shows_what_there_could_be():
    counts = torch.zeros(256, dtype=torch.int64)
    counts[128] = 1
    image = tree(histogram(counts, (0, 96)))
    (room,) = of_class(image, "room")
    assert (float(room.get("x")), float(room.get("width"))) == (128 / 4, 97 / 4)
    assert of_class(image, "out") == []


def test_a_chart_leaves_out_what_is_not_finite():
    lines = {"a": [20.0, math.inf, 30.0], "b": [25.0] * 3}
    image = tree(chart(lines, [-math.inf, 20.0, 30.0], ["x<y & z", "", ""]))
    middle = [LEFT + (RIGHT - LEFT) * (i + 0.5) / 3 for i in range(3)]

    def points(style):
        (line,) = of_class(image, style)
        return [tuple(map(float, point.split(","))) for point in line.get("points").split()]

    assert points("a") == [(middle[0], BOTTOM), (middle[2], TOP)]
    assert points("b") == [(x, (TOP + BOTTOM) / 2) for x in middle]
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in of_class(image, "own")]
    assert dots == [(middle[1], BOTTOM), (middle[2], TOP)]
    assert [title.text for title in image.iter("title")] == ["x<y & z", None, None]


def test_a_chart_has_axes_at_tens_and_numbers_its_points():
    image = tree(chart({"a": [-12.0] + [31.0] * 11}, [0.0] * 12, [""] * 12))
    labels = [label.text for label in of_class(image, "label")]
    assert labels == ["\u221220", "\u221210", "0", "10", "20", "30", "40", "5", "10"]
    heights = [float(axis.get("y1")) for axis in of_class(image, "axis")]
    assert heights == [278, 233, 188, 143, 98, 53, 8]
    many = tree(chart({"a": [1.0] * 61}, [1.0] * 61, [""] * 61))
    assert [label.text for label in of_class(many, "label")] == ["0", "10", "10", "20", "30", "40", "50", "60"]
