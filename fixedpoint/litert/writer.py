"""int8.tflite: a portable program as int8 operators of LiteRT, which microcontrollers and NPUs read as well."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fixedpoint.errors import QuantizationError
from fixedpoint.litert.graph import OUTPUT, LiteRtGraph
from fixedpoint.litert.moves import Moves
from fixedpoint.litert.scales import filter_scale, logit_exponent, power_of_two
from fixedpoint.program import (
    INPUT,
    Add,
    Clamp,
    Concat,
    Conv,
    Linear,
    MaxPool,
    Op,
    Program,
)
from fixedpoint.program.portable import check_portable

LOGIT_TYPES = ("int8", "int16")
ACTIVATIONS = {  # bounds in real numbers
    "NONE": (-np.inf, np.inf),
    "RELU": (0.0, np.inf),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
MAX_CONCAT = 5  # operands of one operator: XNNPACK's limit; that of microcontrollers is 10


def litert_model(program: Program, metadata: Mapping[str, object], logits: str = "int8") -> bytes:
    """The content of a .tflite file; equal arguments give equal bytes.

    Its input is INPUT, int8 [batch, height, width, channels], pixels as p - 128; its result OUTPUT [batch, classes].

    Args:
        program: Integer, in portable arithmetic.
        metadata: JSON values, which `graph.read_metadata` gives back. Added to them are

            - `input_normalization`: a pixel p is fed as (p - offset) / divisor;
            - `logit_exponent`: a logit q stands for q * 2**-logit_exponent;
            - `vectors`: the tensors that have no rows and columns in the program.
        logits: Type of the logits. int16 has up to 8 more bits; the last layer then has 16-bit activations.

    Raises:
        OSError: If LiteRT is not installed.
        QuantizationError: If the program is not portable (`portable.check_portable`), or two names collide.
    """
    if not program.is_portable:
        raise QuantizationError(f"a .tflite file needs portable arithmetic, and the program's is {program.arithmetic}")
    check_portable(program)
    writer = LiteRtWriter(program, logits)
    own = {
        "input_normalization": {"offset": 128, "divisor": 1},
        "logit_exponent": writer.exponents[program.last_layer.name],
        "vectors": [op.name for op in writer.common if len(op.shape) == 1],
    }
    return writer.graph.finish({**metadata, **own})


class LiteRtWriter(Moves):
    """Turns a program into operators: one method per operation kind adds them and returns the result's tensor.

    Maps are [batch, height, width, channels], vectors are maps of 1 x 1. The int8 tensor of the operation `op` is
    named `op.name`; what else it needs is `op.name/part`.

    Attributes:
        exponents: Exponents of the program's tensors and of its logits.
    """

    def __init__(self, program: Program, logits: str = "int8"):
        if logits not in LOGIT_TYPES:
            raise QuantizationError(f"logits must be {' or '.join(LOGIT_TYPES)}, not {logits!r}")
        self.program, self.graph, self._last, self._logits = program, LiteRtGraph(), program.last_layer, logits
        self.exponents = program.exponents | {self._last.name: logit_exponent(program, logits)}
        channels, height, width = program.input_shape
        tensors = {INPUT: self._tensor(INPUT, [height, width, channels], INPUT)}
        for op in program.ops:
            if not op.quantized:
                raise QuantizationError(
                    f"{op.name} is a {op.kind}, which .tflite files do not have: fold the program first"
                )
            tensors[op.name] = getattr(self, op.kind)(op, *(tensors[name] for name in op.inputs))
        classes = self._last.shape[:1]
        self._reshape(tensors[program.output], OUTPUT, self._tensor(OUTPUT, classes, self._last.name, logits), classes)

    @property
    def common(self) -> list[Op]:
        """The operations whose int8 result is a tensor of the file, in order of computation."""
        return [op for op in self.program.ops if op.name in self.graph.index and op.name not in self.program.raw]

    def conv(self, op: Conv, x: int) -> int:
        return self._weighted(op, x, self._constant(op, "weight"))

    def linear(self, op: Linear, x: int) -> int:
        """A convolution: LiteRT's matrix product with a scale for each channel differs from runtime to runtime."""
        window = Conv(op.name, op.inputs, (*op.shape, 1, 1), (1, 1), (0, 0), (1, 1), 1, clamp=op.clamp)
        height, width, channels = self.graph.shape(x)
        return self._weighted(window, x, self._constant(op, "weight").reshape(-1, channels, height, width))

    def clamp(self, op: Clamp, x: int) -> int:
        return self._clamp(op, x)

    def add(self, op: Add, a: int, b: int) -> int:
        return self._result(op, "ADD", [a, b])

    def max_pool(self, op: MaxPool, x: int) -> int:
        # XNNPACK pads with zeros only; they change no maximum of numbers that are not negative
        least = 0 if self.program.input_bounds(op)[0] >= 0 else -128
        x, options = self._windows(op, x, op.kernel, (1, 1), least)
        height, width = op.kernel
        y = self._output(op)
        return self.graph.operator("MAX_POOL_2D", [x], y, filterHeight=height, filterWidth=width, **options)

    def concat(self, op: Concat, *operands: int) -> int:
        parts = [*operands]
        while len(parts) > MAX_CONCAT:
            groups = [parts[i : i + MAX_CONCAT] for i in range(0, len(parts), MAX_CONCAT)]
            name = f"{op.name}/of_{len(parts)}"
            parts = [self._joined(op, f"{name}/{i}", group) for i, group in enumerate(groups)]
        return self._result(op, "CONCATENATION", parts, axis=self._axis(op))

    def _weighted(self, op: Conv, x: int, weight: np.ndarray) -> int:
        """Add a convolution with the weights [out, in / groups, height, width]."""
        x, options = self._windows(op, x, weight.shape[2:], op.dilation, 0)
        options |= dict(zip(("dilationHFactor", "dilationWFactor"), op.dilation, strict=True))
        is_wide = op.name == self._last.name and self._logits == "int16"
        if is_wide:
            y = self._tensor(f"{op.name}/input", self.graph.shape(x), op.inputs[0], "int16")
            x = self.graph.operator("QUANTIZE", [x], y)
        source = self.exponents[op.inputs[0]]
        # LiteRT shifts an accumulator by 31 at most, which leaves nothing of it
        exponents = self._constant(op, "weight_exponent").clip(max=31 + self.exponents[op.name] - source)
        # the kernel of 16 bits rounds once, and keeps 15 bits of the multiplier
        scale = power_of_two(exponents, op.name) if is_wide else filter_scale(exponents, op.name)
        bias = self._constant(op, "bias").astype(np.int64 if is_wide else np.int32)
        depthwise = 1 < op.groups == self.graph.shape(x)[2] == op.shape[0] and not is_wide
        filters = weight.transpose(1, 2, 3, 0) if depthwise else weight.transpose(0, 2, 3, 1)
        inputs = [
            x,
            self.graph.constant(f"{op.name}/weight", filters, scale, dimension=3 if depthwise else 0),
            self.graph.constant(f"{op.name}/bias", bias, scale * power_of_two(source, op.name)),
        ]
        if depthwise:
            return self._result(op, "DEPTHWISE_CONV_2D", inputs, version=3, depthMultiplier=1, **options)
        version = 6 if op.groups > 1 else 4 if is_wide else 3
        return self._result(op, "CONV_2D", inputs, version=version, **options)

    def _joined(self, op: Concat, name: str, parts: Sequence[int]) -> int:
        """Add the concatenation of some operands of `op`, as the tensor `name`."""
        if len(parts) == 1:
            return parts[0]
        shape, axis = [*self.graph.shape(parts[0])], self._axis(op)
        shape[axis - 1] = sum(self.graph.shape(part)[axis - 1] for part in parts)
        return self.graph.operator("CONCATENATION", parts, self._tensor(name, shape, op.name), axis=axis)

    def _axis(self, op: Concat) -> int:
        """The axis of `op` in [batch, height, width, channels]."""
        return (3, 1, 2)[op.axis]

    def _result(self, op: Op, kind: str, inputs: Sequence[int], **arguments: Any) -> int:
        """Add the operator that computes `op`, with its clamp as an option where LiteRT has it, or as an operator."""
        if op.name == self._last.name:
            y = self._tensor(f"{op.name}/{self._logits}", [1, 1, op.shape[0]], op.name, self._logits)
            return self.graph.operator(kind, inputs, y, **arguments)
        activation = self._activation(op)
        if activation is None or (kind == "CONCATENATION" and activation != "NONE"):
            return self._clamp(op, self.graph.operator(kind, inputs, self._output(op, "unclamped"), **arguments))
        return self.graph.operator(kind, inputs, self._output(op), fusedActivationFunction=activation, **arguments)

    def _clamp(self, op: Op, x: int) -> int:
        """Add the operators that clamp `x` to the bounds of `op`, and give the result."""
        activation = self._activation(op)
        if activation in ("RELU", "RELU6"):
            return self.graph.operator(activation, [x], self._output(op))
        low, high = self.program.bounds(op)
        sides = [("MAXIMUM", low)] if low > -128 else []
        sides += [("MINIMUM", high)] if high < 127 or not sides else []
        for i, (kind, bound) in enumerate(sides, start=1):
            value = self._int8(f"{op.name}/{kind.lower()}/bound", [bound], op.name)
            x = self.graph.operator(kind, [x, value], self._output(op, "" if i == len(sides) else kind.lower()))
        return x

    def _activation(self, op: Op) -> str | None:
        """LiteRT's name for the clamp of `op`, if its bounds are whole numbers there, which no runtime rounds."""
        scale = 2.0 ** self.exponents[op.name]
        for name, (low, high) in ACTIVATIONS.items():
            if (max(low * scale, -128), min(high * scale, 127)) == self.program.bounds(op):
                return name
        return None

    def _windows(
        self, op: Conv | MaxPool, x: int, kernel: Sequence[int], dilation: Sequence[int], value: int
    ) -> tuple[int, dict[str, Any]]:
        """The tensor that the windows of `op` go over, `x` or a padded `x`, and their strides and padding."""
        # a single window along an axis has no stride, and NPUs take only small ones: Ethos-U55 up to 3
        sizes = zip(self.graph.shape(x)[:2], op.padding, kernel, dilation, op.stride, strict=True)
        stride = [1 if size + 2 * p == (k - 1) * d + 1 else s for size, p, k, d, s in sizes]
        options: dict[str, Any] = dict(zip(("strideH", "strideW"), stride, strict=True))
        if op.padding == (0, 0):
            return x, options | {"padding": "VALID"}
        axes = zip(self.graph.shape(x)[:2], op.shape[1:], kernel, stride, dilation, op.padding, strict=True)
        if all(_is_same(*axis) for axis in axes):
            return x, options | {"padding": "SAME"}
        down, right = op.padding
        x = self._pad(op, x, f"{op.name}/padded", (down, down, right, right), value)
        return x, options | {"padding": "VALID"}


def tensor_names(program: Program) -> list[str]:
    """The int8 tensors that a .tflite file holds under their name in the program, in order of computation.

    They do not include flattens that move nothing, nor the logits.
    """
    return [op.name for op in LiteRtWriter(program).common]


def _is_same(size: int, out: int, kernel: int, stride: int, dilation: int, padding: int) -> bool:
    """Whether windows along one axis lie where LiteRT's padding SAME puts them."""
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return out == -(-size // stride) and padding == total // 2
