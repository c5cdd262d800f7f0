"""The page and the table of the quantization report, with invented numbers."""

import math
import re
from dataclasses import replace

import pytest
import torch
from html_pages import of_class, rows, section, text, tree

from fixedpoint.analysis.statistics import Noise, OwnNoise, Values
from reports.quantization import FormFigures, OperationFigures, Report, WeightFigures
from reports.quantization_page import page, percent, size
from reports.quantization_table import table

SCORES = {"top1": 91.25, "top5": 100.0, "loss": 0.25, "images": 24}


def layer(name: str, noise: float, result: float = 0.0, clipped: int = 0, **changes) -> OperationFigures:
    """Figures of an operation with a signal of 1000; `result` of its noise comes from rounding."""
    histogram = torch.zeros(256, dtype=torch.int64)
    histogram[128] = 1000
    values = {
        "kind": "conv",
        "shape": (4, 5, 6),
        "exponent": -3,
        "bounds": (0, 127),
        "values": Values(histogram, least=0, greatest=126, elements=40_000, clipped=clipped, accumulator=2**20),
        "own": OwnNoise(Noise(1000, noise), Noise(1000, result)),
        "calibrated": Noise(1000, 10),
        "integer": Noise(1000, 1),
        "own_weights": Noise(1000, 0.5),
        "weights": WeightFigures(torch.ones(256, dtype=torch.int64), (5, 9), 2**22),
    }
    return OperationFigures(name=name, **values | changes)


LAYERS = [layer("quiet", 1, 0.9), layer("loud<b>", 100, 20, clipped=10), layer("silent", 0), layer("same", 10, 10)]
FORMS = {
    "float": FormFigures("float", SCORES),
    "covering": FormFigures("covering", SCORES | {"top1": 89.0}, Noise(100, 10), Noise(100, 10)),
    "ptq": FormFigures("calibrated", SCORES | {"top1": 90.0, "loss": 0.2}, Noise(100, 1), Noise(100, 1)),
    "int": FormFigures("integer", SCORES | {"top1": 91.0}, Noise(100, 10), Noise(100, 1)),
}
REPORT = Report(
    *("a & b", (3, 8, 8), "rgb", 1000, "validation", 127, "exact8", True, FORMS, LAYERS),
    *({"loud": 1200, "same": 34}, 900, 3 * 2**19),
)


def of(report=REPORT, **changes):
    """The page as a tree."""
    return tree(page(replace(report, **changes)))


def test_what_the_report_is_of():
    (header,) = of().iter("header")
    assert [text(each) for each in header] == [
        "Quantization of a & b",
        "Input 3 x 8 x 8 rgb, 4 operations, 1,024 weights of 8 bits, exact8 arithmetic; "
        "statistics of 1,000 validation images",
    ]


def test_operations_that_lose_most_in_order_and_with_their_cause():
    items = [text(item) for item in section(of(), "Where it loses most").iter("li")]
    assert items == [
        "loud<b> (conv): 10.0 dB by itself; 80 % of that noise from its weights and biases, "
        "0.025 % of its values clipped.",
        "same (conv): 20.0 dB by itself; 100 % of that noise from rounding and clipping its result.",
        "quiet (conv): 30.0 dB by itself; 90 % of that noise from rounding and clipping its result.",
    ]
    sentences = [text(each) for each in section(of(), "Where it loses most").iter("p")]
    how = "calibrate.reconstruction rounds them for the result, better with more images and steps."
    assert sentences == [
        f"Most is lost in the weights of loud<b>: {how}",
        "Most is lost by rounding and clipping the results of same, quiet: no other weights take that back; "
        "QAT (qat.epochs) trains the layers behind them for it.",
    ]
    quiet = section(of(layers=[layer("silent", 0)]), "Where it loses most")
    assert text(quiet).endswith("No operation adds noise.")


@pytest.mark.parametrize(
    ("arithmetic", "limit", "bit"),
    [
        ("portable", 126, "calibrate.arithmetic: exact8"),
        ("exact8", 63, "calibrate.weight_bits: 8"),
        ("exact8", 127, None),
    ],
)
def test_a_bit_more_for_weights_is_named_where_there_is_one(arithmetic, limit, bit):
    (sentence,) = replace(REPORT, arithmetic=arithmetic, weight_limit=limit, layers=LAYERS[1:2]).advice
    assert ("one bit more" in sentence) == (bit is not None) and (bit is None or f": {bit} gives" in sentence)


def test_forms_and_what_each_step_gained():
    gained = section(of(), "What each step gained")
    (forms,) = gained.iter("table")
    assert rows(forms) == [
        ["float", "91.25", "", "0.2500", "", ""],
        ["covering", "89.00", "-2.25", "0.2500", "10.0", "10.0"],
        ["calibrated", "90.00", "-1.25", "0.2000", "20.0", "20.0"],
        ["integer", "91.00", "-0.25", "0.2500", "10.0", "20.0"],
    ]
    assert [text(each) for each in gained.iter("p")] == [
        "Calibration: top-1 +1.00 points, loss -0.0500, 10.0 dB less rounding noise in the logits. "
        "QAT: top-1 +1.00 points, loss +0.0500, 0.0 dB less rounding noise in the logits.",
        "Scores of 24 images: one image is 4.2 points.",
    ]


def test_forms_that_nobody_has_scored():
    unscored = {name: replace(form, scores=None) if name != "covering" else form for name, form in FORMS.items()}
    unscored["int"] = replace(unscored["int"], own_weights=Noise(100, 100))
    found = of(forms=unscored)
    gained = section(found, "What each step gained")
    (forms,) = gained.iter("table")
    assert rows(forms)[0] == ["float", "--", "", "--", "", ""]
    assert rows(forms)[2] == ["calibrated", "--", "", "--", "20.0", "20.0"]
    assert text(gained.find("p")) == (
        "Calibration: 10.0 dB less rounding noise in the logits. QAT: 20.0 dB more rounding noise in the logits."
    )
    assert len(of_class(found, "tile")) == len(of_class(of(), "tile")) - 1


def test_key_figures():
    tiles = {text(label): (text(value), text(note)) for label, value, note in of_class(of(), "tile")}
    assert tiles == {
        "Integer, top-1": ("91.00 %", "-0.25 against float"),
        "Logits, rounding alone": ("20.0 dB", "against its own weights in float"),
        "Noisiest operation": ("10.0 dB", "loud<b>"),
        "Clipped at most": ("0.025 %", "loud<b>"),
        "Head-room at least": ("2.0 bits", "quiet"),
        "Memory in C": ("900 B", "activations; 1.5 MiB constants"),
    }
    tight = [layer("a.b", 0), layer("c", 0, weights=WeightFigures(torch.ones(256, dtype=torch.int64), (5, 9), 2**23))]
    tiles = {text(label): (text(value), text(note)) for label, value, note in of_class(of(layers=tight), "tile")}
    assert "Noisiest operation" not in tiles
    assert tiles["Clipped at most"] == ("0 %", "no value of any tensor")
    assert tiles["Head-room at least"] == ("1.0 bits", "c")


def test_a_row_of_an_operation_and_what_it_is_sorted_by():
    (operations,) = section(of(), "Every operation").iter("table")
    assert rows(operations)[1] == [
        *("2", "loud<b>conv 4 x 5 x 6", "-3weights 5..9", "0..126 of 0..127", "0.025"),
        *("10.0", "20.0", "30.0", "33.0", "2.0seen 4.0", "49.6   0.8"),
    ]  # of one weight of each value, 127 of 256 are beyond 64 and 2 are 127 or -127
    cells = [cell.get("data-value") for cell in operations.find("tbody")[1]]
    assert cells[1] == "loud<b>"
    assert [float(cell) for cell in cells[:1] + cells[2:]] == [
        *(2, -3, 126, 10 / 40_000, 10.0, 20.0, 30.0, 33.0, 2.0),
        round(127 / 256, 8),
    ]
    assert len(operations.find("thead")[0]) == len(cells)


def test_bars_are_as_long_as_their_numbers_and_the_worst_stand_out():
    (operations,) = section(of(), "Every operation").iter("table")
    for row, decibels in zip(operations.find("tbody"), (30, 10, math.inf, 20), strict=True):
        own, *_, room = of_class(row, "meter")
        assert own.get("style") == f"--w:{min(decibels / 50, 1) * 100:.0f}%"
        assert room.get("style") == "--w:25%"
        assert ("worst" in own.get("class")) == math.isfinite(decibels)


def test_operations_without_weights_or_exponent():
    bare = replace(LAYERS[2], weights=None, exponent=None, bounds=None)
    (operations,) = section(of(layers=[LAYERS[0], bare]), "Every operation").iter("table")
    assert rows(operations)[1] == [
        *("2", "silentconv 4 x 5 x 6", "int32", "0..126", ""),
        "inf",
        *("20.0", "30.0", "33.0"),
        "",
        "",
    ]
    values = [cell.get("data-value") for cell in operations.find("tbody")[1]]
    assert (values[2], float(values[5]), values[-2:]) == ("", math.inf, ["", ""])


def test_the_verdict_on_the_qdq_file():
    ((unsafe,), (safe,)) = (of_class(found, "verdict") for found in (of(), of(saturating={})))
    assert "not safe" in text(unsafe) and "bad" in unsafe.get("class")
    assert re.findall(r"([\d,]+) weights in (\d+) layers", text(unsafe)) == [("1,234", "2")]
    assert "is exact" in text(safe) and "good" in safe.get("class")


def test_the_chart_names_every_operation():
    titles = [title.text for title in section(of(), "Noise through the network").iter("title")]
    assert titles == [
        f"{number} {name}: by itself {own}, calibrated 20.0, integer 30.0, to own weights 33.0 dB"
        for number, name, own in (
            (1, "quiet", "30.0"),
            (2, "loud<b>", "10.0"),
            (3, "silent", "inf"),
            (4, "same", "20.0"),
        )
    ]


def test_the_table_in_the_terminal():
    bare = replace(LAYERS[2], weights=None, exponent=None, bounds=None)
    unscored = FORMS | {"ptq": replace(FORMS["ptq"], scores=None)}
    lines = table(replace(REPORT, layers=[LAYERS[1], bare], forms=unscored)).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        [*("loud<b>", "conv", "-3", "0..126", "0.025"), *("10.0", "dB", "20.0", "dB", "30.0", "dB", "2.0")],
        [*("silent", "conv", "int32", "0"), *("inf", "dB", "20.0", "dB", "30.0", "dB")],
    ]
    assert len(lines[0]) == len(lines[1])
    assert lines[3:] == [
        "float: top-1 91.25 %",
        "covering: top-1 89.00 %, logits to float 10.0 dB, logits to own weights 10.0 dB",
        "calibrated: top-1 not scored, logits to float 20.0 dB, logits to own weights 20.0 dB",
        "integer: top-1 91.00 %, logits to float 10.0 dB, logits to own weights 20.0 dB",
        *replace(REPORT, layers=[LAYERS[1]]).advice,
    ]


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (2**20, "1.0 MiB")])
def test_sizes(count, shown):
    assert size(count) == shown


@pytest.mark.parametrize(("fraction", "shown"), [(0, "0"), (1e-6, "<0.001"), (1e-5, "0.001"), (0.5, "50.000")])
def test_percentages_of_few_values(fraction, shown):
    assert percent(fraction) == shown
