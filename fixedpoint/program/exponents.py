"""Powers of two, exact, and values of channels against tensors of them."""

import torch
from torch import Tensor


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
