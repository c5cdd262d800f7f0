"""int8_integer.onnx: int8 in, int32 accumulators out, and no float arithmetic between them."""

import numpy as np
from onnx import TensorProto

from fixedpoint.errors import QuantizationError
from fixedpoint.onnx.int8 import Int8Operators, along_channels
from fixedpoint.program import AvgPool, Concat, Op

ACCUMULATOR_LIMIT = 2**24  # |accumulator| is below it: proved for each channel when the program was converted


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
        shifts = self.program.shift(op).tolist()
        wide = self._wide(accumulator, f"{op.name}/wide")
        return self._int8(op, self._divide(op, wide, shifts, ACCUMULATOR_LIMIT, f"{op.name}/rounded"))

    def linear(self, op: Op, x: str) -> str:
        return self.conv(op, x)

    def mul(self, op: Op, a: str, b: str) -> str:
        factors = [self._wide(x, f"{op.name}/wide{i}") for i, x in enumerate((a, b))]
        product = self.graph.node("Mul", factors, f"{op.name}/product")
        shift = sum(self.program.exponents[name] for name in op.inputs) - self._exponent(op)
        return self._int8(op, self._divide(op, product, [shift], 128 * 128, f"{op.name}/rounded"))

    def add(self, op: Op, *operands: str) -> str:
        exponents = [self.program.exponents[name] for name in op.inputs]
        finest = max(exponents)
        shifted = [
            self._divide(op, self._wide(x, f"{op.name}/wide{i}"), [e - finest], 128, f"{op.name}/operand{i}")
            for i, (x, e) in enumerate(zip(operands, exponents, strict=True))
        ]
        total = shifted[0]
        for i, operand in enumerate(shifted[1:], start=1):
            total = self.graph.node("Add", [total, operand], f"{op.name}/sum{i}")
        bound = sum(128 << (finest - e) for e in exponents)
        return self._int8(op, self._divide(op, total, [finest - self._exponent(op)], bound, f"{op.name}/rounded"))

    def avg_pool(self, op: AvgPool, x: str) -> str:
        count = op.kernel[0] * op.kernel[1]
        if self.is_global(op):
            total = self.graph.map_sum(self.int32(x), f"{op.name}/sum")
        else:
            ones = np.ones((op.shape[0], 1, *op.kernel), np.int8)
            total = self.convolve(x, ones, f"{op.name}/sum", group=op.shape[0], strides=list(op.stride))
        shift = self.program.exponents[op.inputs[0]] - self._exponent(op)
        wide = self._wide(total, f"{op.name}/wide")
        return self._int8(op, self._divide(op, wide, [shift], 128 * count, f"{op.name}/rounded", count))

    def concat(self, op: Concat, *operands: str) -> str:
        shifts = [self.program.exponents[name] - self._exponent(op) for name in op.inputs]
        rescaled = [
            self._divide(op, self._wide(x, f"{op.name}/wide{i}"), [shift], 128, f"{op.name}/operand{i}")
            for i, (x, shift) in enumerate(zip(operands, shifts, strict=True))
        ]
        return self._int8(op, self.graph.node("Concat", rescaled, f"{op.name}/rounded", axis=1 + op.axis))

    def _exponent(self, op: Op) -> int:
        return self.program.exponents[op.name]

    def _wide(self, x: str, output: str) -> str:
        return self.graph.node("Cast", [x], output, to=TensorProto.INT64)

    def _int8(self, op: Op, wide: str) -> str:
        clipped = self.graph.clip(wide, [np.int64(b) for b in self.program.bounds(op)], f"{op.name}/clipped")
        return self.graph.node("Cast", [clipped], op.name, to=TensorProto.INT8)

    def _divide(self, op: Op, x: str, shifts: list[int], bound: int, output: str, count: int = 1) -> str:
        """`x / (count * 2**shift)` rounded half to even, for int64 |x| <= bound and one or per-channel shifts.

        With n = x * 2**max(-shift, 0), d = count * 2**max(shift, 0), off a multiple of 2d and u = n + off >= 0:
        write u = h * d + r with 0 <= r < d. Adding (d-1)//2, and 1 more if d is even and h odd, reaches h * d + d
        exactly if 2r > d, or 2r = d and h is odd; off / d is even, so h is odd where floor(n / d) is.
        """
        times = [2 ** max(-shift, 0) for shift in shifts]
        divisors = [count * 2 ** max(shift, 0) for shift in shifts]
        pairs = list(zip(times, divisors, strict=True))
        evens = [2 * -(-bound * t // (2 * d)) for t, d in pairs]  # off / d, where -(-a // b) rounds up
        if any(2 * (even + 1) * d >= 2**63 for even, d in zip(evens, divisors, strict=True)):
            raise QuantizationError(f"{op.name} shifts by {max(shifts, key=abs)} bits, too many for int64")

        def step(kind: str, x: str, values: list[int], part: str) -> str:
            name = output if part == "" else f"{output}/{part}"
            by = self.graph.constant(f"{name}/by", along_channels(np.array(values, np.int64), op))
            return self.graph.node(kind, [x, by], name)

        n = step("Mul", x, times, "n") if max(times) > 1 else x
        if max(divisors) == 1:
            return n
        u = step("Add", n, [even * d for even, d in zip(evens, divisors, strict=True)], "u")
        h = step("Div", u, divisors, "h")
        odd = step("Mod", h, [2 - d % 2 for d in divisors], "odd")  # modulo 1 gives 0 where d is odd
        half = step("Add", u, [(d - 1) // 2 for d in divisors], "half")
        quotient = step("Div", self.graph.node("Add", [half, odd], f"{output}/sum"), divisors, "quotient")
        return step("Sub", quotient, evens, "")
