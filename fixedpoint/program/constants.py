"""How float weights and biases become integers: the one place where the two arithmetics differ.

In EXACT8 an integer is the nearest one. In PORTABLE weights are even, and the parity of a bias keeps the accumulators
of its channel away from ties, so that it does not matter how a runtime rounds them (docs/arithmetic.md).
"""

import torch
from torch import Tensor

from fixedpoint.program import Op, Program, per_channel, power_of_two


def integers(x: Tensor, exponent: Tensor, limit: float = float("inf"), step: int = 1) -> Tensor:
    """The multiple of `step` nearest to `x * 2**exponent` within [-limit, limit], int64; computed in float64.

    Of two that are equally near, it is the one whose quotient by `step` is even.

    Args:
        x: float, [out, ...].
        exponent: int [out].
        limit: Greatest magnitude, a multiple of `step`.
        step: 1 or 2.
    """
    scale = power_of_two(per_channel(exponent, x, 0), torch.float64)
    return (x.double() * scale / step).round().mul(step).clamp(-limit, limit).long()


def integer_weights(program: Program, weight: Tensor, exponent: Tensor) -> Tensor:
    """Float weights [out, ...] as integers with the exponents int [out] of their channels; int64."""
    return integers(weight, exponent, program.weight_limit, program.weight_step)


def integer_biases(bias: Tensor, exponent: Tensor, grid: tuple[Tensor, Tensor]) -> Tensor:
    """Float biases [out] as integers with the exponents int [out] of their accumulators; int64.

    Args:
        bias: float [out].
        exponent: int [out].
        grid: The result of `bias_grid`.
    """
    return nearest_on_grid(bias, power_of_two(exponent, torch.float64), *grid).long()


def nearest_on_grid(bias: Tensor, scale: Tensor, step: Tensor, offset: Tensor) -> Tensor:
    """The integers nearest to `bias * scale` among multiples of `step` plus `offset`; float64, all of shape [out]."""
    return ((bias.double() * scale - offset) / step).round().mul(step).add(offset)


def bias_grid(program: Program, shift: Tensor | None) -> tuple[Tensor, Tensor]:
    """The integers that the bias of a channel may be: multiples of `step` plus `offset`; int64 [out], int64 [out].

    A tie of a right shift by k is an odd multiple of 2**(k-1). With even weights, an odd bias makes each accumulator
    odd, and for k >= 2 a tie is even; for k = 1 a tie is odd, so the bias is even; for k <= 0 nothing is rounded.

    Args:
        program: The program, whose arithmetic decides.
        shift: k of each channel, int [out]; None: the accumulators are not shifted.
    """
    if not program.is_portable or shift is None:
        return torch.ones(1, dtype=torch.int64), torch.zeros(1, dtype=torch.int64)
    return torch.where(shift >= 1, 2, 1), (shift >= 2).long()


def layer_grid(program: Program, op: Op) -> tuple[Tensor, Tensor]:
    """`bias_grid` of a conv or linear of a calibrated program."""
    return bias_grid(program, program.shift(op) if program.is_portable else None)
