"""Builds ONNX files from a program, node by node: what all writers share."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from onnx import ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper

from fixedpoint.errors import QuantizationError
from fixedpoint.onnx.seal import BLANK, KEY, seal
from fixedpoint.program import INPUT, AvgPool, Concat, Conv, Lookup, MaxPool, Op, Pad, Program, Rearrange, Select
from fixedpoint.program.moves import step
from fixedpoint.program.operation import Shape

# A pair of 2022 that every ONNX Runtime since 1.12 loads; no operator used here has a newer version that adds anything.
# The int8 files gave the same bits in ONNX Runtime 1.16, 1.23 and 1.32.
OPSET, IR_VERSION = 17, 8
OUTPUT = "logits"


class Graph:
    """The nodes and constants of an ONNX graph. It checks that names are unique; the parts of `a.b` are `a.b/part`."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: list[TensorProto] = []
        self._names: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def constant(self, name: str, value: ArrayLike) -> str:
        """Add an initializer and give its name. Raises QuantizationError if the name is taken."""
        self._claim(name)
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name))
        return name

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node with one output and give the output's name. Raises QuantizationError if the name is taken."""
        self._claim(output)
        self._nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def clip(self, x: str, bounds: Sequence[ArrayLike | None], output: str) -> str:
        """Add a Clip between two scalars of the type of `x`; None leaves a side open."""
        sides = zip(("low", "high"), bounds, strict=True)
        names = ["" if value is None else self.constant(f"{output}/{side}", value) for side, value in sides]
        return self.node("Clip", [x, *names], output)

    def pad(self, x: str, op: Pad, values: np.ndarray, output: str) -> str:
        """Pad the map `x` as `op` says, but with `values`.

        Args:
            values: Values of the type of `x`, one for all channels or one per channel. The latter is a Pad of the
                difference with zeros, so the type must hold `x - values`.
        """
        if len(values) == 1:
            return self._padded(x, op, [self.constant(f"{output}/value", values[0])], output)
        offset = self.constant(f"{output}/value", values.reshape(-1, 1, 1))
        difference = self.node("Sub", [x, offset], f"{output}/difference")
        return self.node("Add", [self._padded(difference, op, [], f"{output}/padded"), offset], output)

    def _padded(self, x: str, op: Pad, value: list[str], output: str) -> str:
        """Pad `x` with a value, or with zeros: behind each row and column, then around the map, less what is too much.

        [N, C, H, W] is [N, C, H, 1, W, 1] for the former.
        """
        (top, bottom, left, right), (rows, columns) = op.padding, op.between
        if any(op.between):
            channels, height, width = op.shape
            sizes = (height - top - bottom + rows) // (1 + rows), (width - left - right + columns) // (1 + columns)
            wide = [channels, sizes[0] * (1 + rows), sizes[1] * (1 + columns)]
            x = self.reshape(x, [channels, sizes[0], 1, sizes[1], 1], f"{output}/apart")
            ends = self.constant(f"{output}/spread/pads", np.array([0] * 9 + [rows, 0, columns], np.int64))
            x = self.node("Pad", [x, ends, *value], f"{output}/spread")
            x = self.reshape(x, wide, f"{output}/together")
        sides = np.array([0, 0, top, left, 0, 0, bottom - rows, right - columns], np.int64)
        return self.node("Pad", [x, self.constant(f"{output}/pads", sides), *value], output)

    def gather(self, table: np.ndarray, x: str, output: str) -> str:
        """Add `table[x]` for an int8 or uint8 tensor: exact in every runtime, since none computes the function.

        Args:
            table: 256 values; an `x` below 0 counts from the end.
        """
        index = self.node("Cast", [x], f"{output}/index", to=TensorProto.INT32)
        return self.node("Gather", [self.constant(f"{output}/table", table), index], output)

    def reshape(self, x: str, shape: Sequence[int], output: str) -> str:
        """Add `x` as [batch, *shape]."""
        return self.node("Reshape", [x, self.constant(f"{output}/shape", np.array([0, *shape], np.int64))], output)

    def select(self, x: str, op: Select, operand: Shape, output: str) -> str:
        """Add what `op` chooses of `x`, axis by axis: a Slice where it goes in steps, else a Gather."""
        changes = op.changes(operand) or {0: op.channels}
        for axis, chosen in changes.items():
            name, by = output if axis == [*changes][-1] else f"{output}/axis{axis}", step(chosen)
            if by:
                end = chosen[-1] + (1 if by > 0 else -1)  # -1 would be the last one
                ends = {"starts": chosen[0], "ends": end if end >= 0 else -1 - operand[axis]}
                parts = {**ends, "axes": 1 + axis, "steps": by}
                inputs = [self.constant(f"{name}/{part}", np.array([value], np.int64)) for part, value in parts.items()]
                x = self.node("Slice", [x, *inputs], name)
            else:
                numbers = self.constant(f"{name}/numbers", np.array(chosen, np.int64))
                x = self.node("Gather", [x, numbers], name, axis=1 + axis)
        return x

    def rearrange(self, x: str, op: Rearrange, output: str) -> str:
        """Add the values of `x` in the order of `op`."""
        x = self.reshape(x, op.view, f"{output}/view")
        x = self.node("Transpose", [x], f"{output}/transposed", perm=[0, *(1 + axis for axis in op.axes)])
        return self.reshape(x, op.shape, output)

    def map_sum(self, x: str, output: str) -> str:
        """Add the sum over height and width, [batch, channels, 1, 1]."""
        axes = self.constant(f"{output}/axes", np.array([2, 3], np.int64))
        return self.node("ReduceSum", [x, axes], output)

    def finish(self, inputs: list, outputs: list, metadata: Mapping[str, object]) -> ModelProto:
        """The checked and sealed model; `metadata` values are stored as JSON.

        Raises:
            onnx.checker.ValidationError: If the graph is not valid ONNX, a bug of the writer.
        """
        graph = helper.make_graph(self._nodes, "network", inputs, outputs, self._constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="vargconvnet-int8",
        )
        entries = {**metadata, KEY: BLANK}
        helper.set_model_props(model, {key: json.dumps(value) for key, value in sorted(entries.items())})
        checker.check_model(model, full_check=True)
        seal(model)
        return model

    def _claim(self, name: str) -> None:
        if name in self._names:
            raise QuantizationError(f"two tensors of the ONNX graph would have the name {name!r}; rename that module")
        self._names.add(name)


class Writer(ABC):
    """Turns a program into one ONNX form: one method per operation kind adds nodes and returns their result's name.

    The int8 tensor of the operation `op` (float32 in the float form) is named `op.name`; the network's input is
    INPUT [batch, channels, height, width], its result OUTPUT [batch, classes].
    """

    input_type: ClassVar[int] = TensorProto.FLOAT
    output_type: ClassVar[int] = TensorProto.FLOAT
    stored_type: ClassVar[type] = np.int8  # of the tensors between operations
    divisor: ClassVar[int] = 128  # a pixel p is fed as (p - 128) / divisor

    def __init__(self, program: Program):
        self.program, self.graph, self.raw = program, Graph(), program.raw

    @classmethod
    def export(cls, program: Program, metadata: Mapping[str, object]) -> ModelProto:
        """The ONNX model of `program`, with `metadata` in its metadata_props as JSON.

        Raises:
            QuantizationError: If the program holds an operation without a form in the file, or names that collide.
        """
        writer = cls(program)
        tensors = {INPUT: writer.begin()}
        for op in program.ops:
            if not op.quantized:
                raise QuantizationError(
                    f"{op.name} is a {op.kind}, which no ONNX writer exports: fold the program first"
                )
            tensors[op.name] = getattr(writer, op.kind)(op, *(tensors[name] for name in op.inputs))
        logits = writer.end(tensors[program.output])
        x = helper.make_tensor_value_info(INPUT, cls.input_type, ["batch", *program.input_shape])
        y = helper.make_tensor_value_info(logits, cls.output_type, ["batch", *program.ops[-1].shape])
        return writer.graph.finish([x], [y], {**metadata, **writer.metadata()})

    def begin(self) -> str:
        """The tensor that the first operation reads."""
        return INPUT

    def end(self, last: str) -> str:
        """The tensor OUTPUT, given the last operation's result."""
        return last

    def metadata(self) -> dict[str, object]:
        """What a user of the file must know about its numbers."""
        return {"input_normalization": {"offset": 128, "divisor": self.divisor}}

    def zero_point(self, tensor: str) -> int:
        """What stands for 0 in the file's tensor `tensor`."""
        return 0

    def stored(self, values: ArrayLike, tensor: str) -> np.ndarray:
        """Integers of the program's tensor `tensor`, int8, as the file holds them."""
        return np.add(values, self.zero_point(tensor), dtype=np.int16).astype(self.stored_type)

    def result(self, op: Op) -> str:
        """The name of the result of `op`."""
        if op.name == self.program.output:
            return OUTPUT
        return f"{op.name}/raw" if op.name in self.raw else op.name

    def constant(self, op: Op, name: str) -> np.ndarray:
        """A constant of the program."""
        return self.program.constants[f"{op.name}.{name}"].detach().cpu().numpy()

    def operand(self, op: Op) -> Shape:
        """The shape of the first operand of `op`, without the batch."""
        return self.program.shapes[op.inputs[0]]

    def is_global(self, op: AvgPool) -> bool:
        """Whether the pool has one window, the whole map."""
        return op.kernel == self.operand(op)[1:]

    @abstractmethod
    def conv(self, op: Conv, x: str) -> str: ...

    @abstractmethod
    def linear(self, op: Op, x: str) -> str: ...

    @abstractmethod
    def clamp(self, op: Op, x: str) -> str: ...

    @abstractmethod
    def lookup(self, op: Lookup, x: str) -> str: ...

    @abstractmethod
    def pad(self, op: Pad, x: str) -> str: ...

    @abstractmethod
    def add(self, op: Op, *operands: str) -> str: ...

    @abstractmethod
    def mul(self, op: Op, a: str, b: str) -> str: ...

    @abstractmethod
    def avg_pool(self, op: AvgPool, x: str) -> str: ...

    @abstractmethod
    def max_pool(self, op: MaxPool, x: str) -> str: ...

    @abstractmethod
    def concat(self, op: Concat, *operands: str) -> str: ...

    @abstractmethod
    def flatten(self, op: Op, x: str) -> str: ...

    @abstractmethod
    def select(self, op: Select, x: str) -> str: ...

    @abstractmethod
    def rearrange(self, op: Rearrange, x: str) -> str: ...


def window(op: Conv | AvgPool | MaxPool) -> dict[str, object]:
    """The ONNX attributes of a convolution or a pool."""
    attributes: dict[str, object] = {"strides": list(op.stride)}
    if not isinstance(op, AvgPool):
        attributes["pads"] = [*op.padding, *op.padding]
    if isinstance(op, Conv):
        return attributes | {"dilations": list(op.dilation), "group": op.groups}
    return attributes | {"kernel_shape": list(op.kernel)}
