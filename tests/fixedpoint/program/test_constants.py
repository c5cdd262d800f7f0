from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from portable_programs import PROGRAMS as PORTABLE
from programs import PROGRAMS

from fixedpoint.program.constants import bias_grid, integer_biases, integer_weights, integers, layer_grid

VALUES = [k / 8 for k in range(-100, 101)]  # every eighth is an integer, every one between two of them a tie


@pytest.mark.parametrize(("step", "limit"), [(1, 127), (1, 7), (2, 126), (2, 8)])
@pytest.mark.parametrize("exponent", [-3, 0, 5])
def test_the_nearest_multiple_of_a_step_even_multiples_first(step, limit, exponent):
    x = torch.tensor([[value * 2.0**-exponent for value in VALUES]])
    expected = [min(max(round(Fraction(value) / step) * step, -limit), limit) for value in VALUES]
    assert integers(x, torch.tensor([exponent]), limit, step).tolist() == [expected]


def test_each_channel_has_its_exponent():
    weight = torch.full((3, 2, 1, 1), 0.75)
    found = integer_weights(PROGRAMS["conv"], weight, torch.tensor([0, 2, 10]))
    assert found[:, :, 0, 0].tolist() == [[1, 1], [3, 3], [127, 127]]
    found = integer_weights(PORTABLE["conv"], weight, torch.tensor([0, 2, 10]))
    assert found[:, :, 0, 0].tolist() == [[0, 0], [4, 4], [126, 126]]


@pytest.mark.parametrize("shift", range(-2, 6))
def test_a_portable_bias_makes_no_accumulator_of_even_products_a_tie(shift):
    step, offset = bias_grid(PORTABLE["conv"], torch.tensor([shift]))
    allowed = {b for b in range(-64, 64) if (b - int(offset)) % int(step) == 0}
    ties = {2 ** (shift - 1) * odd for odd in range(-129, 130, 2)} if shift > 0 else set()
    assert not {bias + product for bias in allowed for product in range(-8, 9, 2)} & ties
    most = 128 if shift <= 0 else 64
    assert len(allowed) == most  # none is given up that need not be


def test_a_bias_of_exact8_is_the_nearest_integer_and_a_portable_one_the_nearest_on_its_grid():
    bias, exponent = torch.tensor([2.5, 2.5, 2.5]), torch.zeros(3, dtype=torch.int32)
    shifts = torch.tensor([0, 1, 2])
    exact = replace(PORTABLE["conv"], arithmetic="exact8")
    assert integer_biases(bias, exponent, bias_grid(exact, shifts)).tolist() == [2, 2, 2]
    assert integer_biases(bias, exponent, bias_grid(PORTABLE["conv"], shifts)).tolist() == [2, 2, 3]


def test_the_last_layer_of_exact8_has_all_integers():
    program = PROGRAMS["conv"]
    assert [value.tolist() for value in layer_grid(program, program.last_layer)] == [[1], [0]]
