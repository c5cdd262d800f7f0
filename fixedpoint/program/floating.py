"""The float evaluator: what the program computes before quantization."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fixedpoint.program import AvgPool, Concat, Conv, Evaluator, Lookup, Op, Pad, Program
from fixedpoint.program.functions import evaluate


class FloatEvaluator(Evaluator):
    """Runs a float program; input and results are float32."""

    def __init__(self, program: Program):
        self.program = program

    def conv(self, op: Conv, x: Tensor) -> Tensor:
        weight, bias = self._constant(op, "weight", x), self._constant(op, "bias", x)
        return clamped(op, F.conv2d(x, weight, bias, op.stride, op.padding, op.dilation, op.groups))

    def linear(self, op: Op, x: Tensor) -> Tensor:
        return clamped(op, F.linear(x, self._constant(op, "weight", x), self._constant(op, "bias", x)))

    def batch_norm(self, op: Op, x: Tensor) -> Tensor:
        shape = (-1,) + (1,) * (x.dim() - 2)
        scale, shift = (self._constant(op, name, x).reshape(shape) for name in ("scale", "shift"))
        return clamped(op, x * scale + shift)

    def clamp(self, op: Op, x: Tensor) -> Tensor:
        return clamped(op, x)

    def lookup(self, op: Lookup, x: Tensor) -> Tensor:
        return evaluate(op, x)

    def pad(self, op: Pad, x: Tensor) -> Tensor:
        return pad(x, op, [-float("inf") if value is None else value for value in op.value])

    def mul(self, op: Op, a: Tensor, b: Tensor) -> Tensor:
        return clamped(op, a * b)

    def add(self, op: Op, *operands: Tensor) -> Tensor:
        return clamped(op, sum(operands[1:], operands[0]))

    def avg_pool(self, op: AvgPool, x: Tensor) -> Tensor:
        return clamped(op, F.avg_pool2d(x, op.kernel, op.stride))

    def concat(self, op: Concat, *operands: Tensor) -> Tensor:
        return clamped(op, torch.cat(operands, dim=1 + op.axis))

    def _constant(self, op: Op, name: str, x: Tensor) -> Tensor:
        return self.program.constants[f"{op.name}.{name}"].to(x.device)


def pad(x: Tensor, op: Pad, values: Sequence[float]) -> Tensor:
    """`x` [batch, channels, h, w] with rows and columns of `values`, one number for all channels or one for each."""
    top, bottom, left, right = op.padding
    result = torch.tensor(values, dtype=x.dtype, device=x.device).reshape(-1, 1, 1).expand(len(x), *op.shape).clone()
    (_, height, width), (rows, columns) = op.shape, op.between
    result[:, :, top : height - bottom : 1 + rows, left : width - right : 1 + columns] = x
    return result


def clamped(op: Op, x: Tensor) -> Tensor:
    """`x` within the real bounds of the clamp of `op`."""
    return x if op.clamp == (None, None) else x.clamp(*op.clamp)
