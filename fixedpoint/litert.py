"""network.tflite: a portable program as int8 operators of LiteRT, which microcontrollers and NPUs read as well.

Activations have scales of exact powers of two. LiteRT multiplies an accumulator by `s_x * s_w / s_y` in fixed point and
rounds twice; with an exact power of two the first rounding drops a bit and moves the second one. So the scale of a
filter is the greatest float32 below 2**-e: the multiplier's mantissa is then 2**31 - 128, the first rounding gives the
accumulator back, below 2**23 in magnitude, and one rounding is left, which has no ties in portable arithmetic.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fixedpoint.portable import check_portable
from fixedpoint.program import INPUT, Add, Clamp, Concat, Conv, Flatten, Linear, MaxPool, Op, Pad, Program

try:
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
except ImportError as error:
    raise ImportError(f"{error}; .tflite files need ai-edge-litert: pip install ai-edge-litert") from None

OUTPUT = "logits"
KINDS = frozenset(op.kind for op in (Conv, Linear, Clamp, Pad, Add, MaxPool, Concat, Flatten))
LOGIT_TYPES = ("int8", "int16")
TYPES = {
    "int8": schema.TensorType.INT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
    "int64": schema.TensorType.INT64,
}
# By operator and version, the first runtime that has it, as LiteRT's converter notes it in a file.
RUNTIMES = {
    ("CONV_2D", 3): "1.14.0",
    ("CONV_2D", 4): "2.3.0",  # 16-bit activations
    ("CONV_2D", 6): "2.9.0",  # groups
    ("DEPTHWISE_CONV_2D", 3): "1.14.0",
    ("ADD", 2): "1.14.0",
    ("CONCATENATION", 2): "1.14.0",
    ("MAX_POOL_2D", 2): "1.14.0",
    ("MAXIMUM", 2): "1.14.0",
    ("MINIMUM", 2): "1.14.0",
    ("PAD", 2): "1.14.0",
    ("PADV2", 2): "1.14.0",
    ("QUANTIZE", 2): "1.15.0",
    ("RELU", 2): "2.1.0",
    ("RELU6", 2): "1.14.0",
    ("RESHAPE", 1): "1.5.0",
    ("TRANSPOSE", 2): "1.14.0",
}
INFINITY = float("inf")
ACTIVATIONS = {  # bounds in real numbers
    "NONE": (-INFINITY, INFINITY),
    "RELU": (0.0, INFINITY),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
MAX_SHIFT = 31  # of an accumulator by LiteRT's kernels: far beyond what leaves anything of it
MAX_CONCAT = 5  # operands of one operator: XNNPACK's limit; that of microcontrollers is 10
MIN_INT16_SHIFT = -6  # of an accumulator by the kernel of 16 bits
IDENTIFIER = b"TFL3"
DIGEST = re.compile(rb'\{"digest": "([0-9a-f]{64})"')
METADATA = "network"  # the name of its buffer, which begins with the digest


def litert_model(program: Program, metadata: Mapping[str, object], logits: str = "int8") -> bytes:
    """The content of a .tflite file; equal arguments give equal bytes.

    Its input is INPUT, int8 [batch, height, width, channels], pixels as p - 128; its result OUTPUT [batch, classes].

    Args:
        program: Integer, in portable arithmetic.
        metadata: JSON values, for `read_metadata`.
        logits: Their type. The int16 ones have up to 8 more bits: the last layer is one of 16-bit activations then.

    Raises:
        ValueError: If the program is not portable (`portable.check_portable`), or two names collide.
    """
    if not program.is_portable:
        raise ValueError(
            f"a .tflite file needs calibrate.arithmetic: portable, and the program's is {program.arithmetic}"
        )
    check_portable(program)
    writer = LiteRtWriter(program, logits)
    own: dict[str, object] = {"input_normalization": {"offset": 128, "divisor": 1}}
    own["logit_exponent"] = writer.logit_exponent
    own["vectors"] = [op.name for op in writer.common if len(op.shape) == 1]
    others = {key: value for key, value in sorted({**metadata, **own}.items()) if key != "digest"}
    entries = {"digest": "0" * 64} | others  # it comes first, where DIGEST finds it
    content = writer.graph.finish({METADATA: json.dumps(entries).encode("ascii")})
    found = DIGEST.search(content)
    assert found
    return content[: found.start(1)] + _digest(content) + content[found.end(1) :]


def read_metadata(content: bytes, path: object) -> dict[str, Any]:
    """What `litert_model` noted in a file: the metadata it was given, and

    - `input_normalization`: a pixel p is fed as (p - offset) / divisor;
    - `logit_exponent`: a logit stands for itself times 2**-logit_exponent;
    - `vectors`: the tensors that have no rows and columns in the program.

    Args:
        content: Of the file.
        path: Of it, for messages.

    Raises:
        ValueError: If `litert_model` did not write it, or a byte is not as it was written.
    """
    found = DIGEST.search(content)
    if content[4:8] != IDENTIFIER or not found:
        raise ValueError(f"{path} is not a .tflite file of this repository")
    blank = content[: found.start(1)] + b"0" * 64 + content[found.end(1) :]
    if _digest(blank) != found[1]:
        raise ValueError(f"{path} was changed after export_litert wrote it; make export-litert writes it again")
    entries, _ = json.JSONDecoder().raw_decode(content[found.start() :].decode("latin-1"))
    return {key: value for key, value in entries.items() if key != "digest"}


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode("ascii")


class LiteRtGraph:
    """The tensors and operators of a file, each tensor named once: the parts of `a.b` are `a.b/part`."""

    def __init__(self) -> None:
        self.index: dict[str, int] = {}
        self._tensors: list[Any] = []
        self._buffers = [schema.BufferT()]  # the first is empty: that of tensors without constants
        self._operators: list[Any] = []
        self._codes: dict[tuple[str, int], int] = {}

    def tensor(self, name: str, shape: Sequence[int], exponent: int, dtype: str = "int8") -> int:
        """Add an activation [batch, *shape] and give its index. Raises ValueError if the name is taken."""
        quantization = _quantization(power_of_two(exponent, name))
        return self._add(name, [1, *shape], [-1, *shape], dtype, quantization, buffer=0)

    def constant(self, name: str, value: np.ndarray, scale: np.ndarray | None = None, dimension: int = 0) -> int:
        """Add a constant and give its index; `scale` (float32) has one value, or one for each index of `dimension`."""
        little = np.ascontiguousarray(value, value.dtype.newbyteorder("<"))
        self._buffers.append(schema.BufferT(little.reshape(-1).view(np.uint8)))
        quantization = None if scale is None else _quantization(scale, dimension)
        return self._add(name, [*value.shape], None, value.dtype.name, quantization, len(self._buffers) - 1)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """The shape of an activation without the batch dimension."""
        return tuple(self._tensors[tensor].shape[1:])

    def operator(self, kind: str, version: int, inputs: Sequence[int], output: int, options: Any = None) -> int:
        """Add an operator with one output, a tensor, and give that."""
        code = self._codes.setdefault((kind, version), len(self._codes))
        option_type = 0 if options is None else getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self._operators.append(
            schema.OperatorT(code, [*inputs], [output], builtinOptionsType=option_type, builtinOptions=options)
        )
        return output

    def finish(self, metadata: Mapping[str, bytes]) -> bytes:
        """The content of the file, whose tensors INPUT and OUTPUT are its input and output."""
        version = max((RUNTIMES[code] for code in self._codes), key=lambda v: [*map(int, v.split("."))])
        entries = []
        for name, value in {"min_runtime_version": version.encode().ljust(16, b"\0"), **metadata}.items():
            self._buffers.append(schema.BufferT(np.frombuffer(value, np.uint8)))
            entries.append(schema.MetadataT(name, len(self._buffers) - 1))
        ends = [self.index[name] for name in (INPUT, OUTPUT)]
        maps = [[schema.TensorMapT(name, self.index[name])] for name in (INPUT, OUTPUT)]
        model = schema.ModelT(
            version=3,
            operatorCodes=[_operator_code(kind, version) for kind, version in self._codes],
            subgraphs=[schema.SubGraphT(self._tensors, [ends[0]], [ends[1]], self._operators, "main")],
            description="vargconvnet-int8",
            buffers=self._buffers,
            metadata=entries,
            signatureDefs=[schema.SignatureDefT(*maps, "serving_default", 0)],
        )
        builder = _Builder(2**16)
        builder.Finish(model.Pack(builder), IDENTIFIER)
        return bytes(builder.Output())

    def _add(self, name: str, shape: list, signature: list | None, dtype: str, quantization: Any, buffer: int) -> int:
        if name in self.index:
            raise ValueError(f"two tensors of the .tflite file would have the name {name!r}; rename that module")
        self.index[name] = len(self._tensors)
        tensor = schema.TensorT(shape, TYPES[dtype], buffer, name, quantization, shapeSignature=signature, hasRank=True)
        self._tensors.append(tensor)
        return self.index[name]


class _Builder(flatbuffers.Builder):
    """Aligns constants as the schema of LiteRT asks for, which flatbuffers' Python code passes over."""

    def StartVector(self, elemSize: int, numElems: int, alignment: int) -> int:
        return super().StartVector(elemSize, numElems, 16 if elemSize == 1 else alignment)


class LiteRtWriter:
    """Turns a program into operators: one method an operation kind, which adds them and gives the result's tensor.

    Maps are [batch, height, width, channels], vectors maps of one column. The int8 tensor of the operation `op` is
    named `op.name`.
    """

    def __init__(self, program: Program, logits: str = "int8"):
        if logits not in LOGIT_TYPES:
            raise ValueError(f"logits must be {' or '.join(LOGIT_TYPES)}, not {logits!r}")
        self.program, self.graph, self._last, self._logits = program, LiteRtGraph(), program.last_layer, logits
        self.logit_exponent = logit_exponent(program, logits)
        self._layouts: dict[str, tuple[int, ...]] = {INPUT: program.input_shape}
        tensors = {INPUT: self._tensor(INPUT, program.input_shape, program.exponents[INPUT])}
        for op in program.ops:
            if op.kind not in KINDS:
                raise ValueError(f"{op.name} is a {op.kind}, which a .tflite file of portable arithmetic has not")
            self._layouts[op.name] = (*op.shape, 1, 1)[:3]
            tensors[op.name] = getattr(self, op.kind)(op, *(tensors[name] for name in op.inputs))
        classes = self._last.shape[0]
        y = self.graph.tensor(OUTPUT, [classes], self.logit_exponent, logits)
        self._reshape(tensors[program.output], OUTPUT, y, [classes])

    @property
    def common(self) -> list[Op]:
        """The operations whose int8 result is a tensor of the file, in order of computation."""
        return [op for op in self.program.ops if op.name in self.graph.index and op.name not in self.program.raw]

    def conv(self, op: Conv, x: int) -> int:
        return self._weighted(op, x, self._constant(op, "weight"))

    def linear(self, op: Linear, x: int) -> int:
        """A convolution: LiteRT's matrix product with a scale for each channel differs from runtime to runtime."""
        window = Conv(op.name, op.inputs, (*op.shape, 1, 1), (1, 1), (0, 0), (1, 1), 1, clamp=op.clamp)
        return self._weighted(window, x, self._constant(op, "weight").reshape(-1, *self._layouts[op.inputs[0]]))

    def clamp(self, op: Clamp, x: int) -> int:
        return self._clamp(op, x)

    def pad(self, op: Pad, x: int) -> int:
        values = self.program.pad_values(op)
        if len(values) == 1:
            return self._pad(op, x, op.name, op.padding, values[0])
        # zeros, then the sum with a line of values at its ends, rows and columns in turn: right for every batch size
        steps = (f"{op.name}/rows", op.padding[:2], 0), (op.name, op.padding[2:], 1)
        for name, (before, after), axis in steps:
            sides = (before, after, 0, 0) if axis == 0 else (0, 0, before, after)
            x = self._pad(op, x, f"{name}/zeros", sides, 0)
            size = self.graph.shape(x)[axis]
            line = np.zeros((size, len(values)), np.int8)
            line[[*range(before), *range(size - after, size)]] = values
            border = self._int8(f"{name}/values", np.expand_dims(line, (0, 2 - axis)), op.name)
            y = self.graph.tensor(name, self.graph.shape(x), self.program.exponents[op.name])
            x = self.graph.operator("ADD", 2, [x, border], y, schema.AddOptionsT())
        return x

    def add(self, op: Add, a: int, b: int) -> int:
        return self._result(op, "ADD", 2, [a, b], schema.AddOptionsT())

    def max_pool(self, op: MaxPool, x: int) -> int:
        # XNNPACK pads with zeros alone; they change no maximum of numbers that are not negative
        least = 0 if self.program.input_bounds(op)[0] >= 0 else -128
        x, padding = self._padded(op, x, op.kernel, (1, 1), least)
        options = schema.Pool2DOptionsT(padding, op.stride[1], op.stride[0], op.kernel[1], op.kernel[0])
        return self.graph.operator("MAX_POOL_2D", 2, [x], self._output(op), options)

    def concat(self, op: Concat, *operands: int) -> int:
        parts = [*operands]
        while len(parts) > MAX_CONCAT:
            groups = [parts[i : i + MAX_CONCAT] for i in range(0, len(parts), MAX_CONCAT)]
            name = f"{op.name}/of_{len(parts)}"
            parts = [self._join(op, f"{name}/{i}", group) for i, group in enumerate(groups)]
        return self._result(op, "CONCATENATION", 2, parts, schema.ConcatenationOptionsT(axis=3))

    def flatten(self, op: Flatten, x: int) -> int:
        channels, height, width = layout = self._layouts[op.inputs[0]]
        readers = [reader for reader in self.program.ops if op.name in reader.inputs]
        if height * width == 1 or all(isinstance(reader, Linear) for reader in readers):
            self._layouts[op.name] = layout
            return x
        if channels > 1:
            order = self.graph.constant(f"{op.name}/order", np.array([0, 3, 1, 2], np.int32))
            y = self.graph.tensor(f"{op.name}/transposed", layout, self.program.exponents[op.name])
            x = self.graph.operator("TRANSPOSE", 2, [x, order], y, schema.TransposeOptionsT())
        return self._reshape(x, op.name, self._output(op), [1, 1, *op.shape])

    def _join(self, op: Concat, name: str, parts: Sequence[int]) -> int:
        """Add the concatenation of some operands of `op`, as the tensor `name`."""
        if len(parts) == 1:
            return parts[0]
        channels = sum(self.graph.shape(part)[2] for part in parts)
        y = self._tensor(name, (channels, *self._layouts[op.name][1:]), self.program.exponents[op.name])
        return self.graph.operator("CONCATENATION", 2, parts, y, schema.ConcatenationOptionsT(axis=3))

    def _weighted(self, op: Conv, x: int, weight: np.ndarray) -> int:
        """Add a convolution with the weights [out, in / groups, height, width]."""
        is_wide = op.name == self._last.name and self._logits == "int16"
        x, padding = self._padded(op, x, weight.shape[2:], op.dilation, 0)
        source = self.program.exponents[op.inputs[0]]
        if is_wide:
            y = self.graph.tensor(f"{op.name}/input", self.graph.shape(x), source, "int16")
            x = self.graph.operator("QUANTIZE", 2, [x], y, schema.QuantizeOptionsT())
        depthwise = 1 < op.groups == self._layouts[op.inputs[0]][0] == op.shape[0] and not is_wide
        unused = (self._shift(op) - MAX_SHIFT).clip(0)
        exponents = self._constant(op, "weight_exponent") - unused
        # the kernel of 16 bits rounds once, and keeps 15 bits of the multiplier
        scale = power_of_two(exponents, op.name) if is_wide else filter_scale(exponents, op.name)
        bias = self._constant(op, "bias").astype(np.int64 if is_wide else np.int32)
        filters = weight.transpose(1, 2, 3, 0) if depthwise else weight.transpose(0, 2, 3, 1)
        inputs = [
            x,
            self.graph.constant(f"{op.name}/weight", filters, scale, dimension=3 if depthwise else 0),
            self.graph.constant(f"{op.name}/bias", bias, scale * power_of_two(source, op.name)),
        ]
        options = schema.DepthwiseConv2DOptionsT(depthMultiplier=1) if depthwise else schema.Conv2DOptionsT()
        options.padding = padding
        options.strideH, options.strideW = op.stride
        options.dilationHFactor, options.dilationWFactor = op.dilation
        version = 6 if op.groups > 1 and not depthwise else 4 if is_wide else 3
        return self._result(op, "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", version, inputs, options)

    def _result(self, op: Op, kind: str, version: int, inputs: Sequence[int], options: Any) -> int:
        """Add the operator that computes `op`, with its clamp in the options where LiteRT has that, or behind it."""
        if op.name == self._last.name:
            y = self.graph.tensor(f"{op.name}/{self._logits}", [1, 1, *op.shape[:1]], self.logit_exponent, self._logits)
            return self.graph.operator(kind, version, inputs, y, options)
        activation = self._activation(op)
        if activation is None or (kind == "CONCATENATION" and activation != "NONE"):
            return self._clamp(op, self.graph.operator(kind, version, inputs, self._output(op, "unclamped"), options))
        options.fusedActivationFunction = getattr(schema.ActivationFunctionType, activation)
        return self.graph.operator(kind, version, inputs, self._output(op), options)

    def _clamp(self, op: Op, x: int) -> int:
        """Add the operators that clamp `x` to the bounds of `op`, and give the result."""
        activation = self._activation(op)
        if activation in ("RELU", "RELU6"):
            return self.graph.operator(activation, 2, [x], self._output(op))
        low, high = self.program.bounds(op)
        sides = [("MAXIMUM", low)] if low > -128 else []
        sides += [("MINIMUM", high)] if high < 127 or not sides else []
        for i, (kind, bound) in enumerate(sides, start=1):
            value = self._int8(f"{op.name}/{kind.lower()}/bound", [bound], op.name)
            y = self._output(op, "" if i == len(sides) else kind.lower())
            x = self.graph.operator(kind, 2, [x, value], y, schema.MaximumMinimumOptionsT())
        return x

    def _activation(self, op: Op) -> str | None:
        """LiteRT's name for the clamp of `op`, if its bounds are whole numbers there, which no runtime rounds."""
        scale = 2.0 ** self.program.exponents[op.name]
        for name, (low, high) in ACTIVATIONS.items():
            if (max(low * scale, -128), min(high * scale, 127)) == self.program.bounds(op):
                return name
        return None

    def _padded(
        self, op: Conv | MaxPool, x: int, kernel: Sequence[int], dilation: Sequence[int], value: int
    ) -> tuple[int, int]:
        """What the windows of `op` go over, `x` or `x` with lines of `value` around it, and LiteRT's padding."""
        if op.padding == (0, 0):
            return x, schema.Padding.VALID
        axes = zip(self.graph.shape(x), op.shape[1:], kernel, op.stride, dilation, op.padding, strict=False)
        if all(_is_same(*axis) for axis in axes):
            return x, schema.Padding.SAME
        (down, right) = op.padding
        return self._pad(op, x, f"{op.name}/padded", (down, down, right, right), value), schema.Padding.VALID

    def _pad(self, op: Op, x: int, name: str, padding: tuple[int, int, int, int], value: int) -> int:
        """Add what puts rows (top, bottom) and columns (left, right) of an integer around `x`, the operand of `op`."""
        top, bottom, left, right = padding
        height, width, channels = self.graph.shape(x)
        sides = self.graph.constant(f"{name}/sides", np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32))
        shape = (channels, top + height + bottom, left + width + right)
        y = self._tensor(name, shape, self.program.exponents[op.inputs[0]])
        if value == 0:
            return self.graph.operator("PAD", 2, [x, sides], y, schema.PadOptionsT())
        fill = self._int8(f"{name}/value", [value], op.inputs[0])
        return self.graph.operator("PADV2", 2, [x, sides, fill], y, schema.PadV2OptionsT())

    def _reshape(self, x: int, name: str, y: int, shape: Sequence[int]) -> int:
        """Add what gives `x` the shape [batch, *shape], as the tensor `y` named `name`."""
        target = self.graph.constant(f"{name}/shape", np.array([-1, *shape], np.int32))
        return self.graph.operator("RESHAPE", 1, [x, target], y, schema.ReshapeOptionsT([-1, *shape]))

    def _output(self, op: Op, part: str = "") -> int:
        """The tensor of the result of `op`, or `part` of what leads to it."""
        name = f"{op.name}/{part}" if part else op.name
        return self._tensor(name, self._layouts[op.name], self.program.exponents[op.name])

    def _tensor(self, name: str, layout: Sequence[int], exponent: int) -> int:
        channels, height, width = layout
        return self.graph.tensor(name, (height, width, channels), exponent)

    def _int8(self, name: str, value: ArrayLike, like: str) -> int:
        """Add an int8 constant with the scale of the tensor `like`."""
        scale = power_of_two(self.program.exponents[like], name)
        return self.graph.constant(name, np.array(value, np.int8), scale)

    def _shift(self, op: Op) -> np.ndarray:
        """By how much the accumulators of `op` are shifted to the right: int [out]."""
        exponent = self.logit_exponent if op.name == self._last.name else self.program.exponents[op.name]
        return self.program.accumulator_exponent(op).cpu().numpy() - exponent

    def _constant(self, op: Op, name: str) -> np.ndarray:
        return self.program.constants[f"{op.name}.{name}"].detach().cpu().numpy()


def logit_exponent(program: Program, logits: str) -> int:
    """The exponent of the logits of that type: int16 has up to 8 more bits, as many as make no tie and can be shifted.

    Raises:
        ValueError: If there is none.
    """
    assert program.int8_logit_exponent is not None
    if logits == "int8":
        return program.int8_logit_exponent
    shifts = program.shift(program.last_layer).tolist()
    for more in range(8, -1, -1):
        if min(shifts) - more >= MIN_INT16_SHIFT and not any(k >= 2 and k - more == 1 for k in shifts):
            return program.int8_logit_exponent + more
    raise ValueError(f"int16 logits shift accumulators by {MIN_INT16_SHIFT} and more, and int8 ones by {min(shifts)}")


def tensor_names(program: Program) -> list[str]:
    """The int8 tensors that a .tflite file holds under their name in the program, in order of computation.

    Not there are flattens that move nothing, and the logits.
    """
    return [op.name for op in LiteRtWriter(program).common]


def power_of_two(exponent: np.ndarray | int, owner: str) -> np.ndarray:
    """2**-exponent, float32 [n].

    Raises:
        ValueError: If it or a float32 number beside it is not normal, naming `owner`.
    """
    if np.any(np.abs(exponent) > 125):
        raise ValueError(f"{owner} has an exponent of {exponent}, whose scale is no normal float32 number")
    return np.ldexp(np.float32(1), np.negative(np.atleast_1d(exponent)))


def filter_scale(exponent: np.ndarray, owner: str) -> np.ndarray:
    """The greatest float32 numbers below 2**-exponent; raises as `power_of_two` does."""
    return np.nextafter(power_of_two(exponent, owner), np.float32(0))


def _is_same(size: int, out: int, kernel: int, stride: int, dilation: int, padding: int) -> bool:
    """Whether windows along one axis lie where LiteRT's padding SAME puts them."""
    total = max((out - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
    return out == -(-size // stride) and padding == total // 2


def _quantization(scale: np.ndarray, dimension: int = 0) -> Any:
    zeros = np.zeros(len(scale), np.int64)
    return schema.QuantizationParametersT(scale=scale, zeroPoint=zeros, quantizedDimension=dimension)


def _operator_code(kind: str, version: int) -> Any:
    code = getattr(schema.BuiltinOperator, kind)
    return schema.OperatorCodeT(min(code, 127), version=version, builtinCode=code)  # older readers know the first
