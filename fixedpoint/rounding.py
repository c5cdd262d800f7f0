"""Fake quantization: the rounding, half to even, that QAT is made of."""

from torch import Tensor
from torch.autograd import Function

from fixedpoint.program import power_of_two


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
