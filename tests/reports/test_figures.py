import math

import pytest
from html_pages import of_class, text, tree

from reports.figures import Interval, Line, chart, intervals, ticks

LEFT, RIGHT, TOP, FOOT = 46, 460 - 12, 10, 260 - 40  # of the axes


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ((1, 15), [0, 5, 10, 15]),
        ((71.7, 91.65), [70, 75, 80, 85, 90, 95]),
        ((91.2, 91.65), [91.2, 91.3, 91.4, 91.5, 91.6, 91.7]),
        ((0, 100), [0, 20, 40, 60, 80, 100]),
        ((5, 5), [5, 6]),
        ((0, 0), [0, 0.2]),
        ((-3e-6, 4e-6), [-4e-6, -2e-6, 0, 2e-6, 4e-6]),
    ],
)
def test_ticks_are_round_numbers_around_the_values(span, expected):
    assert ticks(*span) == pytest.approx(expected)


def test_epochs_have_whole_numbers():
    assert ticks(1, 2, least=1.0) == [1, 2]


def test_lines_stand_where_their_values_are():
    line = Line("a", "a", [(0.0, 0.0), (5.0, 100.0), (10.0, math.nan)], ["<first>", "", ""])
    image = tree(chart([line, Line("b", "b dots", [(10.0, 50.0)], ["dot"])], "x", "y"))
    (drawn,) = image.iter("polyline")
    assert drawn.get("class") == "line a"
    assert drawn.get("points") == f"{LEFT:.1f},{FOOT:.1f} {(LEFT + RIGHT) / 2:.1f},{TOP:.1f}"
    dots = [(float(each.get("cx")), float(each.get("cy")), text(each)) for each in of_class(image, "dot")]
    assert dots == [
        (LEFT, FOOT, "<first>"),
        ((LEFT + RIGHT) / 2, TOP, ""),
        (RIGHT, (TOP + FOOT) / 2, "dot"),
    ]


def test_the_diagonal_runs_from_corner_to_corner():
    image = tree(chart([Line("a", "a", [(60.0, 70.0)], [""])], "x", "y", diagonal=True))
    *_, diagonal = of_class(image, "axis")
    assert [float(diagonal.get(name)) for name in ("x1", "y1", "x2", "y2")] == [LEFT, FOOT, RIGHT, TOP]


def test_a_form_has_a_dot_in_its_band_for_each_revision():
    first = [Interval("float", "a", 90, 88, 92), Interval("float", "b", 91, 91, 91)]
    rows = [first, [Interval("int8", "a", 88, 88, 92)]]
    image = tree(intervals(rows, "top-1"))
    left, right = 150, 460 - 2 * 12  # at 88 and 92
    at = {value: left + (right - left) * (value - 88) / 4 for value in (88, 90, 91, 92)}
    bands = [(float(each.get("x")), float(each.get("width"))) for each in of_class(image, "band")]
    assert bands == [(at[88], at[92] - at[88]), (at[91], 1), (at[88], at[92] - at[88])]
    assert [float(each.get("cx")) for each in of_class(image, "dot")] == [at[90], at[91], at[88]]
    heights = [float(each.get("cy")) for each in of_class(image, "dot")]
    assert heights == sorted(heights) and heights[1] < TOP + 30 < heights[2]
    assert [text(each) for each in of_class(image, "label")][-3:] == ["float", "int8", "top-1"]
