"""Elementwise functions of a network, each of which becomes a table of 256 integers."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

from fixedpoint.program import Lookup, Program

# By the name of the ATen operation, each called as f(x, *arguments).
FUNCTIONS: dict[str, Callable[..., Tensor]] = {
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "hardsigmoid": F.hardsigmoid,
    "hardswish": F.hardswish,
    "leaky_relu": F.leaky_relu,
    "mish": F.mish,
    "sigmoid": torch.sigmoid,
    "silu": F.silu,
    "softplus": F.softplus,
    "tanh": torch.tanh,
}


def evaluate(op: Lookup, x: Tensor) -> Tensor:
    """The function of `op` at the float tensor `x`, clamped."""
    value = FUNCTIONS[op.function](x, *op.arguments)
    return value if op.clamp == (None, None) else value.clamp(*op.clamp)


def table(program: Program, op: Lookup) -> Tensor:
    """int8 [256]: at q + 128 the result for the integer q, computed in float64 and rounded half to even."""
    values = evaluate(op, _reals(program, op)) * 2.0 ** program.exponents[op.name]
    return values.round().clamp(*program.bounds(op)).to(torch.int8)


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


class TableLookup(Function):
    """`values[q + 128]` of the integers q that a float tensor holds; the gradient is `slopes[q + 128]`."""

    @staticmethod
    def forward(ctx, x: Tensor, exponent: int, values: Tensor, slopes: Tensor) -> Tensor:
        index = (x * 2.0**exponent).to(torch.int32).add_(128)
        ctx.save_for_backward(index, slopes)
        return values[index]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        index, slopes = ctx.saved_tensors
        return gradient * slopes[index], None, None, None
