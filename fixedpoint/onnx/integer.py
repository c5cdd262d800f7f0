"""int8_integer.onnx: int8 in, int32 accumulators out, and no float arithmetic between them."""

import numpy as np
from onnx import TensorProto

from fixedpoint.onnx.graph import window
from fixedpoint.onnx.int8 import ZERO_POINT, Int8Operators, along_channels, unsigned
from fixedpoint.program import AvgPool, Concat, Conv, Op

MAX_SHIFT = 25  # by which an accumulator below 2**24 becomes zero


class IntegerWriter(Int8Operators):
    """Input int8 (p - 128), logits int32; their real values are `logits * 2**-logit_exponent` (in the metadata)."""

    input_type = TensorProto.INT8
    output_type = TensorProto.INT32
    divisor = 1

    def metadata(self) -> dict[str, object]:
        return super().metadata() | {"logit_exponent": self.program.logit_exponent.tolist()}

    def conv(self, op: Op, x: str) -> str:
        accumulator = self.accumulate(op, x)
        if op.name in self.raw:
            return accumulator
        return self._int8(op, self._rounded(op, accumulator, self.program.shift(op).tolist(), f"{op.name}/rounded"))

    def linear(self, op: Op, x: str) -> str:
        return self.conv(op, x)

    def mul(self, op: Op, a: str, b: str) -> str:
        product = self.graph.node("Mul", [self.int32(a), self.int32(b)], f"{op.name}/product")
        shift = sum(self.program.exponents[name] for name in op.inputs) - self._exponent(op)
        return self._int8(op, self._rounded(op, product, [shift], f"{op.name}/rounded"))

    def add(self, op: Op, *operands: str) -> str:
        exponents = [self.program.exponents[name] for name in op.inputs]
        finest = max(exponents)
        aligned = []
        for i, (x, exponent) in enumerate(zip(operands, exponents, strict=True)):
            wide, factor = self.int32(x), 2 ** (finest - exponent)
            aligned.append(wide if factor == 1 else self._step(op, "Mul", wide, [factor], f"{op.name}/operand{i}"))
        total = aligned[0]
        for i, operand in enumerate(aligned[1:], start=1):
            total = self.graph.node("Add", [total, operand], f"{op.name}/sum{i}")
        return self._int8(op, self._rounded(op, total, [finest - self._exponent(op)], f"{op.name}/rounded"))

    def avg_pool(self, op: AvgPool, x: str) -> str:
        count = op.kernel[0] * op.kernel[1]
        if self.is_global(op):
            total = self.graph.map_sum(self.int32(x), f"{op.name}/sum")
        else:
            ones = np.ones((op.shape[0], 1, *op.kernel), np.int8)
            total = self.convolve(x, ones, f"{op.name}/sum", group=op.shape[0], strides=list(op.stride))
        shift = self.program.exponents[op.inputs[0]] - self._exponent(op)
        return self._int8(op, self._rounded(op, total, [shift], f"{op.name}/rounded", count))

    def concat(self, op: Concat, *operands: str) -> str:
        shifts = [self.program.exponents[name] - self._exponent(op) for name in op.inputs]
        rescaled = [
            self._rounded(op, self.int32(x), [shift], f"{op.name}/operand{i}")
            for i, (x, shift) in enumerate(zip(operands, shifts, strict=True))
        ]
        return self._int8(op, self.graph.node("Concat", rescaled, f"{op.name}/rounded", axis=1 + op.axis))

    def products(self, op: Op, x: str, output: str) -> str:
        weight = self.constant(op, "weight")
        if isinstance(op, Conv):
            return self.convolve(x, weight, output, **window(op))
        return self.graph.node("MatMulInteger", [x, self.graph.constant(f"{op.name}/weight", weight.T)], output)

    def convolve(self, x: str, weight: np.ndarray, output: str, **attributes: object) -> str:
        """The int32 convolution of an int8 tensor and int8 weights, both carried as uint8 with zero point 128.

        ONNX Runtime up to 1.23 has ConvInteger for uint8 x uint8 alone, of all combinations the one whose x86 kernels
        are both fast and free of saturation.
        """
        inputs = [self._unsigned(x), self.graph.constant(f"{output}/weight", unsigned(weight))]
        inputs += [self.graph.constant(f"{output}/{name}_zero_point", np.uint8(ZERO_POINT)) for name in ("x", "weight")]
        return self.graph.node("ConvInteger", inputs, output, **attributes)

    def _unsigned(self, x: str) -> str:
        """The uint8 tensor `x + 128`, made once."""
        if f"{x}/unsigned" in self.graph:
            return f"{x}/unsigned"
        offset = self.graph.constant(f"{x}/offset", np.int32(ZERO_POINT))
        shifted = self.graph.node("Add", [self.int32(x), offset], f"{x}/shifted")
        return self.graph.node("Cast", [shifted], f"{x}/unsigned", to=TensorProto.UINT8)

    def _exponent(self, op: Op) -> int:
        return self.program.exponents[op.name]

    def _int8(self, op: Op, wide: str) -> str:
        clipped = self.graph.clip(wide, [np.int32(b) for b in self.program.bounds(op)], f"{op.name}/clipped")
        return self.graph.node("Cast", [clipped], op.name, to=TensorProto.INT8)

    def _step(self, op: Op, kind: str, x: str, values: list[int], output: str) -> str:
        """A node of `x` and one constant, or one per channel."""
        by = self.graph.constant(f"{output}/by", along_channels(np.array(values, np.int32), op))
        return self.graph.node(kind, [x, by], output)

    def _rounded(self, op: Op, x: str, shifts: list[int], output: str, count: int = 1) -> str:
        """`x / (count * 2**shift)` rounded half to even, for int32 |x| < 2**24 and one or per-channel shifts.

        What exceeds int8 may be any other number that does. With d = count * 2**shift and |x| = h * d + r, 0 <= r < d,
        adding (d - 1) // 2 to r, and 1 more if d is even and h odd, reaches d exactly if 2r > d, or 2r = d and h is
        odd. For negative shifts, |x| is first limited to what does not saturate and multiplied.

        No operand of a division exceeds what float32 holds exactly, nor do the quotients need more than that: a runtime
        that divides integers in float32 gives the same.
        """
        lefts = [min(max(-shift, 0), (256 * count).bit_length() - 1) for shift in shifts]
        divisors = [count * 2 ** min(max(shift, 0), MAX_SHIFT) for shift in shifts]
        size = self.graph.node("Abs", [x], f"{output}/size")
        if any(lefts):
            pairs = zip(shifts, lefts, strict=True)
            limits = [2**24 if shift > 0 else (128 * count >> left) + 1 for shift, left in pairs]
            size = self._step(op, "Min", size, limits, f"{output}/limited")
            size = self._step(op, "Mul", size, [2**left for left in lefts], f"{output}/n")
        if max(divisors) > 1:
            h = self._step(op, "Div", size, divisors, f"{output}/h")
            r = self._step(op, "Mod", size, divisors, f"{output}/r")
            odd = self._step(op, "Mod", h, [2 - d % 2 for d in divisors], f"{output}/odd")  # 0 where d is odd
            half = self._step(op, "Add", r, [(d - 1) // 2 for d in divisors], f"{output}/half")
            up = self._step(op, "Div", self.graph.node("Add", [half, odd], f"{output}/sum"), divisors, f"{output}/up")
            size = self.graph.node("Add", [h, up], f"{output}/quotient")
        return self.graph.node("Mul", [size, self.graph.node("Sign", [x], f"{output}/sign")], output)
