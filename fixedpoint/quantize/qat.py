"""Quantization-aware training: the integer model in float32, with gradients.

Train mode and eval mode compute the same function, and every tensor of it is the integer model's times a power of two,
bit for bit, as long as the accumulators stay below 2**24 (`fixedpoint.program.bounds`), where `FakeQuantModel.project`
keeps them.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fixedpoint.errors import QuantizationError
from fixedpoint.program import (
    AvgPool,
    Concat,
    Conv,
    Lookup,
    ModuleEvaluator,
    Op,
    Pad,
    Program,
    is_fixed,
    parameter_name,
    per_channel,
    power_of_two,
)
from fixedpoint.program.bounds import LIMIT, accumulator_bound
from fixedpoint.program.constants import integer_weights, layer_grid, nearest_on_grid
from fixedpoint.program.floating import pad
from fixedpoint.program.functions import TableLookup, slopes
from fixedpoint.quantize.rounding import fake_quantize, straight_through

STEPS_BACK = 2**16  # most steps, of 1/8 each, by which the weights of a channel are shrunk; a few are usual


class FakeQuantModel(ModuleEvaluator):
    """A calibrated program as a trainable module; its input is float32 [batch, channels, h, w], (p - 128) / 128.

    The parameters are the program's float weights and biases; exponents, clamps, tables and the constants of fixed
    operations stay as calibrated.

    Raises:
        QuantizationError: If its weights are integers.

    Attributes:
        conv2d: The convolution, with the arguments of `torch.nn.functional.conv2d`.
    """

    conv2d = staticmethod(F.conv2d)

    def __init__(self, program: Program):
        super().__init__(program)
        if program.is_integer:
            raise QuantizationError("the program has integer weights, which cannot be trained")
        self.weighted = [op for op in program.ops if op.weighted]
        self.parameters_of = nn.ParameterDict(
            {
                parameter_name(op, name): nn.Parameter(program.constants[f"{op.name}.{name}"].clone(), not is_fixed(op))
                for op in self.weighted
                for name in ("weight", "bias")
            }
        )
        for op in self.weighted:
            weight, exponent = (program.constants[f"{op.name}.{name}"] for name in ("weight", "weight_exponent"))
            self._register(op, "weight_exponent", exponent)
            self._register(op, "weight_scale", per_channel(power_of_two(exponent), weight, 0) / program.weight_step)
            self._register(op, "bias_scale", power_of_two(program.accumulator_exponent(op)))
            self._register(op, "bias_scale64", power_of_two(program.accumulator_exponent(op), torch.float64))
            for name, values in zip(("bias_step", "bias_offset"), layer_grid(program, op), strict=True):
                self._register(op, name, values.double())
        for op in filter(is_fixed, self.weighted):
            weight, bias = (value.detach() for value in self.quantized_constants(op))
            self._register(op, "mean_weight", weight[:, :, :1, :1].reshape(-1, 1, 1))
            self._register(op, "mean_bias", bias.reshape(-1, 1, 1))
        for op in program.ops:
            if isinstance(op, Lookup):
                self._register(op, "values", program.constants[f"{op.name}.table"] * self._step(op))
                self._register(op, "slopes", slopes(program, op))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, float32 [batch, classes]."""
        return self.logits(x)

    def trained(self) -> Program:
        """The program with the weights and biases as they are now, in float."""
        constants = {
            f"{op.name}.{name}": self.parameters_of[parameter_name(op, name)].detach().cpu().clone()
            for op in self.weighted
            for name in ("weight", "bias")
        }
        return replace(self.program, constants=self.program.constants | constants)

    @torch.no_grad()
    def project(self) -> None:
        """Shrink the weights of each channel whose accumulators could reach 2**24 until they cannot.

        Soft thresholding, the Euclidean projection onto a ball of the l1 norm (Duchi et al. 2008,
        https://doi.org/10.1145/1390156.1390191), which is what bounds an accumulator (A2Q, https://arxiv.org/abs/2308.13504).

        Raises:
            QuantizationError: If they are too large for that, from a far too high learning rate.
        """
        for op in self.weighted:
            weight, bias = self.constants(op)
            limit = (LIMIT - self.program.weight_step) / self._buffer(op, "bias_scale")
            bias.copy_(torch.maximum(torch.minimum(bias, limit), -limit))
            channels = self._suspects(op)
            integer_bias = self._integer_biases(op) if len(channels) else bias
            for _ in range(STEPS_BACK):
                if not len(channels):
                    break
                exponent = self._buffer(op, "weight_exponent")[channels]
                quantized = integer_weights(self.program, weight[channels], exponent)
                bound = accumulator_bound(self.program, op, quantized, integer_bias[channels])
                too_large = bound >= LIMIT
                channels, step = channels[too_large], power_of_two(-exponent[too_large]) / 8
                shrunk = (weight[channels].abs() - per_channel(step, weight, 0)).clamp(min=0)
                weight[channels] = shrunk.copysign(weight[channels])
            else:
                raise QuantizationError(f"weights of {op.name} are too large to be projected: lower the lr")

    def constants(self, op: Op) -> tuple[nn.Parameter, nn.Parameter]:
        """Weight and bias of a conv or linear."""
        return self.parameters_of[parameter_name(op, "weight")], self.parameters_of[parameter_name(op, "bias")]

    def weight_scale(self, op: Op) -> Tensor:
        """What the weights of a conv or linear are multiplied by before they are rounded: [out, 1, ...]."""
        return self._buffer(op, "weight_scale")

    def quantized_constants(self, op: Op) -> tuple[Tensor, Tensor]:
        """Weight and bias of a conv or linear as the integer model has them, times their powers of two."""
        weight, bias = self.constants(op)
        limit = self.program.weight_limit // self.program.weight_step
        quantized = fake_quantize(weight, self.weight_scale(op), -limit, limit)
        if not self.program.is_portable:
            return quantized, fake_quantize(bias, self._buffer(op, "bias_scale"))
        return quantized, straight_through(bias, self._integer_biases(op) / self._buffer(op, "bias_scale64"))

    def accumulator(self, op: Op, x: Tensor) -> Tensor:
        """What a conv or linear computes before it is rounded and clamped."""
        if is_fixed(op):  # equal weights: the pool is quicker, and as exact
            total = F.avg_pool2d(x, self.constants(op)[0].shape[2:], op.stride, divisor_override=1)
            return total * self._buffer(op, "mean_weight") + self._buffer(op, "mean_bias")
        weight, bias = self.quantized_constants(op)
        if isinstance(op, Conv):
            return self.conv2d(x, weight, bias, op.stride, op.padding, op.dilation, op.groups)
        return F.linear(x, weight, bias)

    def conv(self, op: Conv, x: Tensor) -> Tensor:
        return self._requantize(op, self.accumulator(op, x))

    def linear(self, op: Op, x: Tensor) -> Tensor:
        return self._requantize(op, self.accumulator(op, x))

    def clamp(self, op: Op, x: Tensor) -> Tensor:
        return self._requantize(op, x)

    def lookup(self, op: Lookup, x: Tensor) -> Tensor:
        exponent = self.program.exponents[op.inputs[0]]
        return TableLookup.apply(x, exponent, self._buffer(op, "values"), self._buffer(op, "slopes"))

    def pad(self, op: Pad, x: Tensor) -> Tensor:
        return pad(x, op, [value * self._step(op) for value in self.program.pad_values(op)])

    def add(self, op: Op, *operands: Tensor) -> Tensor:
        return self._requantize(op, sum(operands[1:], operands[0]))

    def mul(self, op: Op, a: Tensor, b: Tensor) -> Tensor:
        return self._requantize(op, a * b)

    def avg_pool(self, op: AvgPool, x: Tensor) -> Tensor:
        total = F.avg_pool2d(x, op.kernel, op.stride, divisor_override=1)
        # by a tensor: CUDA turns a division by a Python number into a product with its rounded reciprocal
        return self._requantize(op, total / torch.full_like(total, op.kernel[0] * op.kernel[1]))

    def concat(self, op: Concat, *operands: Tensor) -> Tensor:
        return torch.cat([self._requantize(op, x) for x in operands], dim=1 + op.axis)

    def _requantize(self, op: Op, x: Tensor) -> Tensor:
        if op.name not in self.program.exponents:  # the logits stay accumulators
            return x
        return fake_quantize(x, 2.0 ** self.program.exponents[op.name], *self.program.bounds(op))

    def _integer_biases(self, op: Op) -> Tensor:
        """The integer biases, as float64."""
        grid = (self._buffer(op, name) for name in ("bias_scale64", "bias_step", "bias_offset"))
        return nearest_on_grid(self.constants(op)[1].detach(), *grid)

    def _suspects(self, op: Op) -> Tensor:
        """The channels that a cheap upper bound cannot prove safe."""
        weight, bias = self.constants(op)
        total = (weight * self._buffer(op, "weight_scale")).abs().flatten(1).sum(1)
        largest = max(abs(bound) for bound in self.program.input_bounds(op))
        total = (total * 1.01 + weight[0].numel() / 2) * self.program.weight_step
        bound = total * largest + (bias * self._buffer(op, "bias_scale")).abs()
        return (bound >= LIMIT - self.program.weight_step).nonzero().flatten()

    def _step(self, op: Op) -> float:
        return 2.0 ** -self.program.exponents[op.name]
