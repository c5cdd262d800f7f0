from fractions import Fraction

import pytest
import torch

from fixedpoint.rounding import fake_quantize, rounded_division

DIVISORS = [*range(1, 70), 98, 121, 127, 128, 196, 1000, 4096, 32767]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_rounded_division_is_pythons_rounding_of_the_exact_rational(dtype):
    for divisor in DIVISORS:
        numerators = torch.arange(-2 * divisor - 2, 2 * divisor + 3, dtype=dtype)
        result = rounded_division(numerators, divisor)
        assert result.dtype == dtype
        assert result.tolist() == [round(Fraction(n, divisor)) for n in numerators.tolist()], divisor


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_rounded_division_by_a_tensor(dtype):
    numerators = torch.arange(-300, 301, dtype=dtype)
    divisors = torch.tensor(DIVISORS, dtype=dtype)[:, None]
    expected = [[round(Fraction(n, d)) for n in numerators.tolist()] for d in DIVISORS]
    assert rounded_division(numerators, divisors).tolist() == expected


def test_rounded_division_of_large_integers():
    numerators = [sign * (n + rest) for n in (2**24, 2**40, 3 * 2**50) for rest in range(-9, 10) for sign in (-1, 1)]
    for divisor in (1, 2, 3, 8, 49, 98, 2**20, 2**38):
        expected = [round(Fraction(n, divisor)) for n in numerators]
        assert rounded_division(torch.tensor(numerators), divisor).tolist() == expected


@pytest.mark.parametrize("exponent", [-9, -1, 0, 1, 7, 20])
def test_fake_quantize_rounds_half_to_even(exponent):
    halves = torch.arange(-41, 42) / 2  # every other one is a tie
    step = 2.0**-exponent
    expected = torch.tensor([round(Fraction(v)) * step for v in halves.tolist()])
    assert torch.equal(fake_quantize(halves * step, exponent), expected)


def test_fake_quantize_clamps_after_rounding():
    x = torch.tensor([-9.0, -3.5, -3.4, 0.2, 2.5, 2.6, 9.0])
    assert fake_quantize(x, 0, -3, 2).tolist() == [-3, -3, -3, 0, 2, 2, 2]


def test_fake_quantize_takes_an_exponent_a_channel():
    x = torch.tensor([[0.3, -0.3], [0.3, -0.3], [300.0, -100.0]])
    exponents = torch.tensor([[3], [0], [-5]], dtype=torch.int32)
    assert fake_quantize(x, exponents).tolist() == [[0.25, -0.25], [0.0, 0.0], [288.0, -96.0]]


def test_gradients_pass_straight_through_the_rounding_and_are_zero_where_the_clamp_is_active():
    #      clamped  rounds to -3  inside         rounds to 2  rounds to 3: clamped
    x = [-9.0, -3.6, -3.5, -3.4, -3.0, 0.3, 2.0, 2.5, 2.51, 9.0]
    x = (torch.tensor(x) / 4).requires_grad_()
    weights = torch.arange(1.0, 11.0)
    (fake_quantize(x, 2, -3, 2) * weights).sum().backward()
    assert x.grad.tolist() == [0, 0, 0, 4, 5, 6, 7, 8, 0, 0]


def test_gradients_pass_unchanged_without_bounds():
    x = torch.linspace(-1000, 1000, 101, requires_grad=True)
    fake_quantize(x, 3).sum().backward()
    assert torch.equal(x.grad, torch.ones(101))
