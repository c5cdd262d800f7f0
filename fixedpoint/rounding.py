"""The two roundings that everything here is made of, both half to even."""

import torch
from torch import Tensor
from torch.autograd import Function

from fixedpoint.program import power_of_two


def rounded_division(numerator: Tensor, divisor: Tensor | int) -> Tensor:
    """`numerator / divisor` rounded half to even, in integers alone.

    Floor division after adding the greatest integer below half the divisor rounds half down; where the quotient below
    is odd and the divisor even, one more lifts exactly the tie.

    Args:
        numerator: int32 or int64, any shape.
        divisor: Positive, of the same dtype, broadcast against it.
    """
    below = torch.div(numerator, divisor, rounding_mode="floor")
    odd = (below & 1) * (1 - divisor % 2)
    return torch.div(numerator + (divisor - 1) // 2 + odd, divisor, rounding_mode="floor")


class FakeQuantize(Function):
    """`clamp(round(x * 2**e), low, high) * 2**-e`: float32 that holds exactly what the integer model holds.

    The gradient passes straight through the rounding and is zero where the clamp is active (Jacob et al. 2018,
    https://arxiv.org/abs/1712.05877; Bengio et al. 2013, https://arxiv.org/abs/1308.3432).
    """

    @staticmethod
    def forward(ctx, x: Tensor, exponent: Tensor | int, low: float, high: float) -> Tensor:
        scaled = (x * power_of_two(exponent)).round_()
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward((scaled >= low) & (scaled <= high))
        return scaled.clamp_(low, high).mul_(power_of_two(-exponent))

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return gradient * inside, None, None, None


def fake_quantize(x: Tensor, exponent: Tensor | int, low: float = -float("inf"), high: float = float("inf")) -> Tensor:
    """Fake quantization of a float tensor.

    Args:
        x: float32, any shape.
        exponent: One for the tensor, or int32 broadcast against it.
        low: Least integer.
        high: Greatest integer.
    """
    return FakeQuantize.apply(x, exponent, low, high)
