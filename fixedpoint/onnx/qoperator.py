"""int8_qoperator.onnx: the file for ONNX Runtime, exact under every optimization level.

As the QDQ file, but with an operator on int8 wherever ONNX has one, so that no optimizer decides how a convolution is
computed: QLinearConv with int8 activations, and int32 accumulators for matrix products and the last layer.
"""

import numpy as np
from onnx import TensorProto

from fixedpoint.onnx.graph import OUTPUT, window
from fixedpoint.onnx.int8 import Int8Operators, along_channels
from fixedpoint.onnx.qdq import QdqWriter, float32_scale
from fixedpoint.program import Concat, Conv, Op


class QOperatorWriter(Int8Operators, QdqWriter):
    """Float32 input and logits; add and average pool in float32 between int8 tensors, exact as in the QDQ file."""

    def conv(self, op: Conv, x: str) -> str:
        if op.name in self.raw:
            return self.accumulate(op, x)
        weight = self.constant(op, "weight")
        parts = {
            "weight": weight,
            "weight_scale": float32_scale(self.constant(op, "weight_exponent"), op.name),
            "weight_zero_point": np.zeros(len(weight), np.int8),
        }
        names = [self.graph.constant(f"{op.name}/{part}", value) for part, value in parts.items()]
        bias = self.graph.constant(f"{op.name}/bias", self.constant(op, "bias"))
        inputs = [x, *self.scale(x), *names, *self.scale(op.name), bias]
        return self.int8_node(op, "QLinearConv", inputs, **window(op))

    def linear(self, op: Op, x: str) -> str:
        accumulator = self.accumulate(op, x)  # QLinearMatMul has no bias
        if op.name in self.raw:
            return accumulator
        return self.quantize(self.clamped(op, self._real(op, accumulator, f"{op.name}/exact")), op.name)

    def concat(self, op: Concat, *operands: str) -> str:
        rescaled = [self._rescaled(op, i, x) for i, x in enumerate(operands)]
        return self.int8_node(op, "Concat", rescaled, axis=1 + op.axis)

    def end(self, last: str) -> str:
        return self._real(self.program.ops[-1], last, OUTPUT)

    def result(self, op: Op) -> str:
        return f"{op.name}/raw" if op.name in self.raw else op.name

    def _real(self, op: Op, accumulator: str, output: str) -> str:
        """The float32 numbers of an int32 tensor of accumulators shaped as the result of `op`."""
        layer = self.program.last_layer if op.name in self.raw else op
        scale = float32_scale(self.program.accumulator_exponent(layer).cpu().numpy(), layer.name)
        cast = self.graph.node("Cast", [accumulator], f"{accumulator}/cast", to=TensorProto.FLOAT)
        factor = self.graph.constant(f"{layer.name}/accumulator_scale", along_channels(scale, op))
        return self.graph.node("Mul", [cast, factor], output)

    def _rescaled(self, op: Op, index: int, x: str) -> str:
        if self.exponents[x] == self.exponents[op.name]:
            return x
        real = self.dequantize(x)
        return self.graph.node("QuantizeLinear", [real, *self.scale(op.name)], f"{op.name}/operand{index}")
