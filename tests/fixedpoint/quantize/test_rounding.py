from fractions import Fraction

import pytest
import torch

from fixedpoint.quantize.rounding import fake_quantize, straight_through


@pytest.mark.parametrize("exponent", [-9, -1, 0, 1, 7, 20])
def test_fake_quantize_rounds_half_to_even(exponent):
    halves = torch.arange(-41, 42) / 2  # every other one is a tie
    step = 2.0**-exponent
    expected = torch.tensor([round(Fraction(v)) * step for v in halves.tolist()])
    assert torch.equal(fake_quantize(halves * step, 2.0**exponent), expected)


def test_fake_quantize_clamps_after_rounding():
    x = torch.tensor([-9.0, -3.5, -3.4, 0.2, 2.5, 2.6, 9.0])
    assert fake_quantize(x, 1.0, -3, 2).tolist() == [-3, -3, -3, 0, 2, 2, 2]


def test_fake_quantize_takes_a_scale_a_channel():
    x = torch.tensor([[0.3, -0.3], [0.3, -0.3], [300.0, -100.0]])
    scales = torch.tensor([[8.0], [1.0], [1 / 32]])
    assert fake_quantize(x, scales).tolist() == [[0.25, -0.25], [0.0, 0.0], [288.0, -96.0]]


def test_gradients_pass_straight_through_the_rounding_and_are_zero_where_the_clamp_is_active():
    #      clamped  rounds to -3  inside         rounds to 2  rounds to 3: clamped
    x = [-9.0, -3.6, -3.5, -3.4, -3.0, 0.3, 2.0, 2.5, 2.51, 9.0]
    x = (torch.tensor(x) / 4).requires_grad_()
    weights = torch.arange(1.0, 11.0)
    (fake_quantize(x, 4.0, -3, 2) * weights).sum().backward()
    assert x.grad.tolist() == [0, 0, 0, 4, 5, 6, 7, 8, 0, 0]


def test_gradients_pass_unchanged_without_bounds():
    x = torch.linspace(-1000, 1000, 101, requires_grad=True)
    fake_quantize(x, 8.0).sum().backward()
    assert torch.equal(x.grad, torch.ones(101))


def test_a_value_rounded_elsewhere_has_the_gradient_of_what_it_was_rounded_from():
    x = torch.tensor([0.4, 1.6, -7.0], requires_grad=True)
    value = straight_through(x, torch.tensor([1.0, 3.0, -7.0], dtype=torch.float64))
    assert value.dtype == torch.float32 and value.tolist() == [1, 3, -7]
    (value * torch.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [1, 2, 3]
