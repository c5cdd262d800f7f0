"""Elementwise functions in an integer program, each as a table of 256 integers."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fixedpoint.program import Lookup, Program
from fixedpoint.program.elementwise import FUNCTIONS


def evaluate(op: Lookup, x: Tensor) -> Tensor:
    """The function of `op` at the float tensor `x`, clamped."""
    value = FUNCTIONS[op.function](x, *op.arguments)
    return value if op.clamp == (None, None) else value.clamp(*op.clamp)


def table(program: Program, op: Lookup) -> Tensor:
    """int8 [256]: at q + 128 the result for the integer q, computed in float64 and rounded half to even."""
    values = evaluate(op, _reals(program, op)) * 2.0 ** program.exponents[op.name]
    return values.round().clamp(*program.bounds(op)).to(torch.int8)


@torch.enable_grad()
def slopes(program: Program, op: Lookup) -> Tensor:
    """float32 [256]: the derivative of the function at each integer q, zero where its result is clamped."""
    x = _reals(program, op).requires_grad_()
    value = evaluate(op, x)
    (slope,) = torch.autograd.grad(value.sum(), x)
    low, high = program.bounds(op)
    scaled = (value.detach() * 2.0 ** program.exponents[op.name]).round()
    return (slope * ((scaled >= low) & (scaled <= high))).float()


def _reals(program: Program, op: Lookup) -> Tensor:
    return torch.arange(-128, 128, dtype=torch.float64) * 2.0 ** -program.exponents[op.inputs[0]]


def look_up(values: Tensor, x: Tensor) -> Tensor:
    """`values[x + 128]` for a float tensor that holds integers, in the memory format of `x`.

    It indexes the flat memory, since indexing by a tensor of several dimensions takes ten times as long.
    """
    index = x.to(torch.int32).add_(128)
    return values.index_select(0, index.as_strided((index.numel(),), (1,))).as_strided(index.shape, index.stride())


class TableLookup(Function):
    """`values[q + 128]` for a float tensor that holds q * 2**-exponent; the gradient is `slopes[q + 128]`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, exponent: int, values: Tensor, slopes: Tensor) -> Tensor:
        integers = x * 2.0**exponent
        ctx.save_for_backward(integers, slopes)
        return look_up(values, integers)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        integers, slopes = ctx.saved_tensors
        return gradient * look_up(slopes, integers), None, None, None
