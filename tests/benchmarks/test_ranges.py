import math

import pytest
import torch

from benchmarks.ranges import _divergence, divergence, percentile, with_ranges
from fixedpoint.program import Flatten, Linear, Program
from fixedpoint.program.names import INPUT
from fixedpoint.quantize.calibrate import calibrate


def test_a_percentile_leaves_out_one_value_in_ten_thousand():
    magnitudes = torch.cat([torch.full((9_999,), 1.0), torch.tensor([100.0])])
    assert percentile(magnitudes, finer=8) == 6, "127 steps of 2**-6 cover 1"
    assert percentile(magnitudes, finer=3) == 3, "the step that covers 100 is 1, and three finer ones are allowed"
    assert percentile(torch.cat([magnitudes, torch.tensor([100.0] * 9)]), finer=8) == 0, "ten in ten thousand"


def test_divergence_of_a_histogram_by_hand():
    histogram = torch.zeros(256, dtype=torch.float64)
    histogram[:4] = torch.tensor([3.0, 1.0, 0.0, 4.0])  # two bins a level: 2, 2 and 0, 4
    expected = 3 / 8 * math.log(3 / 2) + 1 / 8 * math.log(1 / 2)
    assert _divergence(histogram, 256) == pytest.approx(expected)


def test_divergence_clips_what_is_rare_and_nothing_that_is_not():
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0)).abs()
    assert divergence(torch.cat([values, torch.tensor([60.0])]), finer=3) == 4, "60 at 1, and 3 finer: up to 7.9"
    assert divergence(torch.linspace(0.001, 1.9, 100_000), finer=3) == 6, "equally many in each bin"


def test_a_program_gets_the_chosen_exponents():
    ops = (Flatten("flat", (INPUT,), (2,)), Linear("a", ("flat",), (2,)), Linear("fc", ("a",), (2,)))
    constants = {f"{name}.weight": torch.eye(2) for name in ("a", "fc")}
    constants |= {f"{name}.bias": torch.zeros(2) for name in ("a", "fc")}
    x = torch.cat([torch.full((20_000, 2, 1, 1), 1 / 64), torch.full((1, 2, 1, 1), 0.9)])
    program = calibrate(Program((2, 1, 1), ops, constants), lambda: [x])
    found = with_ranges(program, x, percentile, finer=3)
    assert found.exponents["a"] == 10, "0.9 is covered by 2**-7 for 127 steps, and 3 finer ones are allowed"
