"""int8_qdq.onnx: float operators between QuantizeLinear and DequantizeLinear, which accelerator toolchains read.

Every scale is a power of two, so the float operators carry the integers exactly and QuantizeLinear, which divides,
rounds half to even and saturates (https://onnx.ai/onnx/operators/onnx__QuantizeLinear.html), is the program's rounding.
"""

import numpy as np

from fixedpoint.errors import QuantizationError
from fixedpoint.onnx.graph import Writer, window
from fixedpoint.program import INPUT, AvgPool, Concat, Conv, Lookup, MaxPool, Op, Pad, Program, Rearrange, Select

INT8_INPUT = f"{INPUT}/int8"


class QdqWriter(Writer):
    """Float32 input and logits; each method takes and gives int8 tensors (the last layer's results are float32)."""

    def __init__(self, program: Program):
        super().__init__(program)
        self.exponents = program.exponents | {INT8_INPUT: program.exponents[INPUT]}

    def begin(self) -> str:
        return self.quantize(INPUT, INT8_INPUT)

    def conv(self, op: Conv, x: str) -> str:
        return self._node(op, "Conv", [self.dequantize(x), *self._parameters(op)], **window(op))

    def linear(self, op: Op, x: str) -> str:
        return self._node(op, "Gemm", [self.dequantize(x), *self._parameters(op)], transB=1)

    def clamp(self, op: Op, x: str) -> str:
        return self.rounded(op, self.dequantize(x))

    def lookup(self, op: Lookup, x: str) -> str:
        return self.graph.gather(np.roll(self.constant(op, "table"), -128), x, op.name)

    def pad(self, op: Pad, x: str) -> str:
        step = float32_scale(self.exponents[op.name], op.name)
        values = np.array(self.program.pad_values(op), np.float32) * step
        return self.quantize(self.graph.pad(self.dequantize(x), op, values, f"{op.name}/exact"), op.name)

    def mul(self, op: Op, a: str, b: str) -> str:
        return self._node(op, "Mul", [self.dequantize(a), self.dequantize(b)])

    def add(self, op: Op, *operands: str) -> str:
        total, *others = (self.dequantize(operand) for operand in operands)
        for i, operand in enumerate(others[:-1], start=1):
            total = self.graph.node("Add", [total, operand], f"{op.name}/sum{i}")
        return self._node(op, "Add", [total, others[-1]])

    def avg_pool(self, op: AvgPool, x: str) -> str:
        count = op.kernel[0] * op.kernel[1]
        if count & (count - 1) == 0:
            return self._node(op, "AveragePool", [self.dequantize(x)], **window(op))
        # ONNX Runtime's int8 pool multiplies by 1 / count, which moves ties; a sum and a true division do not
        if self.is_global(op):
            total = self.graph.map_sum(self.dequantize(x), f"{op.name}/sum")
        else:
            ones = self.graph.constant(f"{op.name}/ones", np.ones((op.shape[0], 1, *op.kernel), np.float32))
            attributes = {"group": op.shape[0], "strides": list(op.stride)}
            total = self.graph.node("Conv", [self.dequantize(x), ones], f"{op.name}/sum", **attributes)
        return self._node(op, "Div", [total, self.graph.constant(f"{op.name}/count", np.float32(count))])

    def max_pool(self, op: MaxPool, x: str) -> str:
        return self._node(op, "MaxPool", [self.dequantize(x)], **window(op))

    def concat(self, op: Concat, *operands: str) -> str:
        return self._node(op, "Concat", [self.dequantize(operand) for operand in operands], axis=1 + op.axis)

    def flatten(self, op: Op, x: str) -> str:
        return self._node(op, "Flatten", [x if op.name in self.raw else self.dequantize(x)])

    def select(self, op: Select, x: str) -> str:
        chosen = self.graph.select(self.dequantize(x), op, self.operand(op), f"{op.name}/exact")
        return self.quantize(chosen, op.name)

    def rearrange(self, op: Rearrange, x: str) -> str:
        return self.quantize(self.graph.rearrange(self.dequantize(x), op, f"{op.name}/exact"), op.name)

    def quantize(self, real: str, tensor: str) -> str:
        """Round the float32 tensor `real` to the int8 tensor `tensor`."""
        return self.graph.node("QuantizeLinear", [real, *self.scale(tensor)], tensor)

    def dequantize(self, tensor: str) -> str:
        """The float32 tensor of the int8 tensor `tensor`, made once."""
        real = f"{tensor}/real"
        return real if real in self.graph else self.graph.node("DequantizeLinear", [tensor, *self.scale(tensor)], real)

    def scale(self, tensor: str) -> list[str]:
        """The scale and the zero point of an int8 tensor, made once."""
        return [self.step(tensor), self.zero(tensor)]  # explicit: without it ONNX Runtime's fusions fail

    def step(self, tensor: str) -> str:
        """The scale of an int8 tensor, made once."""
        name = f"{tensor}/scale"
        if name in self.graph:
            return name
        return self.graph.constant(name, float32_scale(self.exponents[tensor], tensor))

    def zero(self, tensor: str) -> str:
        """The zero point of an int8 tensor, made once."""
        name = f"{tensor}/zero_point"
        return name if name in self.graph else self.graph.constant(name, self.stored(0, tensor))

    def rounded(self, op: Op, real: str) -> str:
        """Round the float32 tensor `real` to the result of `op`, which may have a clamp."""
        return self.quantize(self.clamped(op, real), op.name)

    def clamped(self, op: Op, real: str) -> str:
        """`real` within the bounds of `op`, where these are tighter than int8's."""
        low, high = self.program.bounds(op)
        if (low, high) == (0, 127):
            return self.graph.node("Relu", [real], f"{op.name}/clamped")
        if (low, high) == (-128, 127):
            return real
        step = float32_scale(self.exponents[op.name], op.name)
        return self.graph.clip(real, [np.float32(low) * step, np.float32(high) * step], f"{op.name}/clamped")

    def _node(self, op: Op, kind: str, inputs: list[str], **attributes: object) -> str:
        if op.name in self.raw:
            return self.graph.node(kind, inputs, self.result(op), **attributes)
        return self.rounded(op, self.graph.node(kind, inputs, f"{op.name}/exact", **attributes))

    def _parameters(self, op: Op) -> list[str]:
        exponents = {
            "weight": self.constant(op, "weight_exponent"),
            "bias": self.program.accumulator_exponent(op).cpu().numpy(),
        }
        return [self._parameter(op, name, exponent) for name, exponent in exponents.items()]

    def _parameter(self, op: Op, name: str, exponent: np.ndarray) -> str:
        value = self.constant(op, name)
        parts = {
            "quantized": value,
            "scale": float32_scale(exponent, op.name),
            "zero_point": np.zeros(len(value), value.dtype),
        }
        inputs = [self.graph.constant(f"{op.name}/{name}/{part}", array) for part, array in parts.items()]
        return self.graph.node("DequantizeLinear", inputs, f"{op.name}/{name}", axis=0)


def float32_scale(exponent: np.ndarray | int, owner: str) -> np.ndarray:
    """2**-exponent in float32, shaped as `exponent`.

    Raises:
        QuantizationError: If it is not a normal float32 number; names `owner`.
    """
    if np.any(np.abs(exponent) > 126):
        raise QuantizationError(f"{owner} has an exponent of {exponent}, whose scale is no normal float32 number")
    return np.ldexp(np.float32(1), np.negative(exponent))
