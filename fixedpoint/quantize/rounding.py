"""Fake quantization: rounding half to even, with a gradient."""

from typing import Any

from torch import Tensor, ops
from torch.autograd import Function


class FakeQuantize(Function):
    """`clamp(round(x * scale), low, high) / scale`: float32 that holds exactly what the integer model holds.

    The gradient passes straight through the rounding and is zero where the clamp is active (Jacob et al. 2018,
    https://arxiv.org/abs/1712.05877; Bengio et al. 2013, https://arxiv.org/abs/1308.3432).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor | float, low: float, high: float) -> Tensor:
        integers = (x * scale).round_()
        ctx.save_for_backward(integers)
        ctx.low, ctx.high = low, high
        return integers.clamp(low, high).div_(scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (integers,) = ctx.saved_tensors
        # the one kernel that masks a gradient by a range; it excludes the ends of the range, hence the 0.5
        return ops.aten.hardtanh_backward(gradient, integers, ctx.low - 0.5, ctx.high + 0.5), None, None, None


def fake_quantize(x: Tensor, scale: Tensor | float, low: float = -float("inf"), high: float = float("inf")) -> Tensor:
    """Fake quantization of a float tensor.

    Args:
        x: float32, any shape.
        scale: Powers of two, one for the tensor or several that broadcast against it, so that the division is exact.
        low: Least integer.
        high: Greatest integer.
    """
    return FakeQuantize.apply(x, scale, low, high)


class StraightThrough(Function):
    """Returns the second argument, and passes the gradient on to the first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, value: Tensor) -> Tensor:
        return value.to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def straight_through(x: Tensor, value: Tensor) -> Tensor:
    """`value`, which was rounded from `x`, in the type of `x`, with a gradient as if it were `x`."""
    return StraightThrough.apply(x, value)
