"""int8_qoperator.onnx: the file for ONNX Runtime, exact under every optimization level and on every processor.

As the QDQ file, but with an operator on 8-bit tensors wherever ONNX has one, so that no optimizer decides how a
convolution is computed: QLinearConv, and int32 accumulators for matrix products and the last layer.

Activations are uint8, for ONNX Runtime's kernels for x86 multiply uint8 by int8. Without VNNI they add two products in
saturating 16 bits (vpmaddubsw), so the zero point is 0 where no value is negative, as behind a ReLU: then
127 * (127 + 127) fits. Where two products may not fit, halves of the weights do, or else the weights are uint8, too:
that kernel adds in 32 bits and is slower.
"""

import numpy as np
from onnx import TensorProto

from fixedpoint.onnx.graph import OUTPUT, window
from fixedpoint.onnx.halved import halved
from fixedpoint.onnx.int8 import ZERO_POINT, Int8Operators, along_channels, unsigned
from fixedpoint.onnx.qdq import QdqWriter, float32_scale
from fixedpoint.program import INPUT, Concat, Conv, Op, Pad


class QOperatorWriter(Int8Operators, QdqWriter):
    """Float32 input and logits; add and average pool in float32 between 8-bit tensors, exact as in the QDQ file.

    The tensor of an operation is uint8 and holds q + zero point; the metadata have the zero point, 0 or 128.
    """

    stored_type = np.uint8

    def zero_point(self, tensor: str) -> int:
        return ZERO_POINT if self.program.value_bounds(tensor)[0] < 0 else 0

    def metadata(self) -> dict[str, object]:
        tensors = [INPUT, *(op.name for op in self.program.ops if op.name not in self.raw)]
        return super().metadata() | {"zero_points": {tensor: self.zero_point(tensor) for tensor in tensors}}

    def conv(self, op: Conv, x: str) -> str:
        if op.name in self.raw:
            return self.accumulate(op, x)
        weight, bias = self.constant(op, "weight"), self.constant(op, "bias")
        scale = float32_scale(self.constant(op, "weight_exponent"), op.name)
        overflows, halves = self._overflows(op), None
        if overflows:
            halves = halved(weight, bias, scale, self.program.shift(op).numpy(), self.zero_point(op.name))
        if halves:
            weight, bias, scale = halves
            zero = self.graph.constant(f"{op.name}/halved_zero_point", np.uint8(0))
        else:
            zero = self.zero(op.name)
        weights, weights_zero = self._weights(op, weight, overflows and not halves)
        weights_step = self.graph.constant(f"{op.name}/weight_scale", scale)
        inputs = [x, *self.scale(x), weights, weights_step, weights_zero, self.step(op.name), zero]
        inputs.append(self.graph.constant(f"{op.name}/bias", bias))
        return self.int8_node(op, "QLinearConv", inputs, **window(op))

    def linear(self, op: Op, x: str) -> str:
        accumulator = self.accumulate(op, x)  # QLinearMatMul has no bias
        if op.name in self.raw:
            return accumulator
        return self.rounded(op, self._real(op, accumulator, f"{op.name}/exact"))

    def clamp(self, op: Op, x: str) -> str:
        return self.limited(op, self._rescaled(op, 0, x))

    def pad(self, op: Pad, x: str) -> str:
        return super().pad(op, self._rescaled(op, 0, x))

    def concat(self, op: Concat, *operands: str) -> str:
        rescaled = [self._rescaled(op, i, x) for i, x in enumerate(operands)]
        return self.int8_node(op, "Concat", rescaled, axis=1 + op.axis)

    def rounded(self, op: Op, real: str) -> str:
        return self.int8_node(op, "QuantizeLinear", [real, *self.scale(op.name)])

    def end(self, last: str) -> str:
        return self._real(self.program.ops[-1], last, OUTPUT)

    def result(self, op: Op) -> str:
        return f"{op.name}/raw" if op.name in self.raw else op.name

    def products(self, op: Op, x: str, output: str) -> str:
        weight = self.constant(op, "weight")
        if isinstance(op, Conv):  # ONNX Runtime up to 1.23 has ConvInteger for uint8 weights alone
            weights, zero = self._weights(op, weight, True)
            return self.graph.node("ConvInteger", [x, weights, self.zero(x), zero], output, **window(op))
        weights, zero = self._weights(op, weight.T, self._overflows(op))
        return self.graph.node("MatMulInteger", [x, weights, self.zero(x), zero], output)

    def _weights(self, op: Op, weight: np.ndarray, is_unsigned: bool) -> list[str]:
        """The weights and their zero point, as constants."""
        values, zero = (unsigned(weight), np.uint8(ZERO_POINT)) if is_unsigned else (weight, np.int8(0))
        name = self.graph.constant(f"{op.name}/weight", values)
        return [name, self.graph.constant(f"{op.name}/weight_zero_point", zero)]

    def _overflows(self, op: Op) -> bool:
        """Whether two products of uint8 values and int8 weights may leave 16 bits."""
        greatest = self.stored(self.program.input_bounds(op)[1], op.inputs[0])
        return 2 * int(greatest) * abs(self.constant(op, "weight").astype(int)).max() > np.iinfo(np.int16).max

    def _real(self, op: Op, accumulator: str, output: str) -> str:
        """The float32 numbers of an int32 tensor of accumulators shaped as the result of `op`."""
        layer = self.program.last_layer if op.name in self.raw else op
        scale = float32_scale(self.program.accumulator_exponent(layer).cpu().numpy(), layer.name)
        cast = self.graph.node("Cast", [accumulator], f"{accumulator}/cast", to=TensorProto.FLOAT)
        factor = self.graph.constant(f"{layer.name}/accumulator_scale", along_channels(scale, op))
        return self.graph.node("Mul", [cast, factor], output)

    def _rescaled(self, op: Op, index: int, x: str) -> str:
        """The tensor `x` in the scale and with the zero point of the result of `op`."""
        if (self.exponents[x], self.zero_point(x)) == (self.exponents[op.name], self.zero_point(op.name)):
            return x
        real = self.dequantize(x)
        return self.graph.node("QuantizeLinear", [real, *self.scale(op.name)], f"{op.name}/operand{index}")
