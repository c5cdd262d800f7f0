"""Exact powers of two, and values of channels in shapes that broadcast against tensors."""

import torch
from torch import Tensor

from fixedpoint.program.operation import Op
from fixedpoint.program.ops import Conv


def power_of_two(exponent: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """2**exponent of an integer tensor, exact, in `dtype` (float32 or float64).

    It is written bit by bit, since torch.pow and torch.ldexp promise no exact result.
    """
    if dtype == torch.float32:
        return (exponent.to(torch.int32) + 127 << 23).view(torch.float32)
    return (exponent.to(torch.int64) + 1023 << 52).view(torch.float64)


def per_channel(values: Tensor, like: Tensor, dim: int) -> Tensor:
    """`values` [channels] in a shape that broadcasts along dimension `dim` of `like`, on its device."""
    return values.to(like.device).reshape(-1, *[1] * (like.dim() - dim - 1))


def per_input(values: Tensor, op: Op, weight: Tensor) -> Tensor:
    """`values` [in] in a shape that broadcasts against the weight [out, in / groups, ...] of a conv or linear."""
    groups = op.groups if isinstance(op, Conv) else 1
    rows = values.reshape(groups, -1).repeat_interleave(len(weight) // groups, dim=0)
    return rows.reshape(*rows.shape, *[1] * (weight.dim() - 2))
