"""The C form of a program: C99 on integers of at most 32 bits, without allocation or recursion.

`fixedpoint/c/kernels.c` holds a function for each kind of operation. network.c gets those that it calls, the constants
as arrays, and `network_run`, one call an operation. Maps are [height, width, channels] there.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from math import prod
from string import Template

import numpy as np

from fixedpoint.c.files import NAME, check_name, file_name, kernels, named, read
from fixedpoint.c.memory_plan import is_depthwise, is_view, padded, plan
from fixedpoint.c.stack import stack_bytes
from fixedpoint.c.text import MEMORY, WIDTH, braces, c_array, comment
from fixedpoint.errors import QuantizationError
from fixedpoint.program import INPUT, AvgPool, Concat, Conv, Flatten, MaxPool, Op, Pad, Program, Rearrange, Select
from fixedpoint.program.bounds import check_exactness
from fixedpoint.program.moves import step
from fixedpoint.program.names import file_stem
from fixedpoint.program.transposition import transpositions

# Shifts of a number below 2**24: at the first it saturates unless it is zero, at the second it rounds to zero.
MIN_SHIFT, MAX_SHIFT = -8, 25


def c_source(program: Program, metadata: Mapping[str, object], name: str = NAME) -> dict[str, str]:
    """The files network.c, network.h and main.c of an integer program, by name.

    Args:
        program: An integer program.
        metadata: JSON values for the comment in network.h.
        name: What stands in the place of `network` in the names of files, functions, arrays and macros, so that one C
            program can hold several networks. With another name, main.c is <name>_main.c.

    Raises:
        QuantizationError: If an operation of the program has no C form or is not exact (`bounds.check_exactness`), or
            the name is not allowed (`files.check_name`).
    """
    writer = CWriter(program, name)
    texts = {"network.c": writer.source(), "network.h": writer.header(metadata), "main.c": read("main.c", name)}
    return {file_name(file, name): text for file, text in texts.items()}


def memory_bytes(program: Program) -> dict[str, int]:
    """Bytes that network.c needs: `ram` for activations, `flash` for constants, `stack`; raises as `c_source` does."""
    writer = CWriter(program)
    return {"ram": writer.plan.peak, "flash": writer.flash_bytes, "stack": stack_bytes(writer.source())}


def flash_bytes(program: Program) -> int:
    """Bytes of the arrays of constants in network.c; raises as `c_source` does."""
    return CWriter(program).flash_bytes


class CWriter:
    """Turns a program into C: one method per operation kind adds its constants and its call.

    The methods get the places of the operands as C expressions.
    """

    def __init__(self, program: Program, name: str = NAME):
        check_name(name)
        for op in program.ops:
            if not op.quantized:
                raise QuantizationError(f"{op.name} is a {op.kind}, which has no C form: fold the program first")
        check_exactness(program)
        self.program, self.name, self.plan = program, name, plan(program)
        self._logit_exponents = program.logit_exponent.cpu().numpy()
        if np.abs(self._logit_exponents).max() > 127:
            raise QuantizationError(
                f"the exponents of the logits, {self._logit_exponents.tolist()}, do not fit in 8 bits"
            )
        self._arrays: dict[str, np.ndarray] = {}
        self._structs: list[str] = []
        self._run: list[str] = []
        self._index = {op.name: i for i, op in enumerate(program.ops)}
        self._places = {INPUT: "input"} | dict.fromkeys(program.raw, "logits")
        self._places |= {name: f"arena + {offset}" for name, offset in self.plan.offsets.items()}
        self._shapes = program.shapes
        self._layouts = dict(self._shapes)  # a view has the shape of the map that it views
        for op in program.ops:
            self._run.append(f"\n    /* {self._index[op.name]}: {comment(f'{op.kind} {op.name} {list(op.shape)}')} */")
            getattr(self, op.kind)(op, *(self._places[name] for name in op.inputs))
            shape, size = _map(self._layouts[op.name]), 4 if op.name in program.raw else 1
            self._call("TRACE", self._index[op.name], f'"{file_stem(op.name)}"', *shape, size, self._places[op.name])

    @property
    def flash_bytes(self) -> int:
        """Bytes of the arrays of constants."""
        return len(self._logit_exponents) + sum(array.nbytes for array in self._arrays.values())

    def source(self) -> str:
        """network.c."""
        arrays = [c_array(f"static const {a.dtype}_t {name}[]", a) for name, a in self._arrays.items()]
        exponents = c_array(named("const int8_t network_logit_exponent[]", self.name), self._logit_exponents)
        head = named("void network_run(const int8_t *input, int32_t *logits)", self.name)
        run = "\n".join([head, "{", *self._run, "}\n"])
        includes = ["#include <string.h>", named('#include "network.h"', self.name)]
        used = kernels("\n".join([*self._structs, *self._run]))
        memory = named(MEMORY, self.name)
        return "\n\n".join([*includes, *used, *arrays, exponents, *self._structs, memory, run])

    def header(self, metadata: Mapping[str, object]) -> str:
        """network.h."""
        entries = [comment(f"{json.dumps(key)[1:-1]}: {json.dumps(value)}") for key, value in metadata.items()]
        lines = [line for entry in entries for line in textwrap.wrap(entry, WIDTH, subsequent_indent="  ")]
        channels, height, width = self.program.input_shape
        return Template(read("network.h", self.name)).substitute(
            about="".join(f" * {line}\n" for line in lines),
            channels=channels,
            height=height,
            width=width,
            input_bytes=channels * height * width,
            classes=len(self._logit_exponents),
            activation_bytes=self.plan.peak,
            constant_bytes=self.flash_bytes,
            stack_bytes=stack_bytes(self.source()),
        )

    def conv(self, op: Conv, x: str) -> None:
        weight = self._constant(op, "weight")
        depthwise = is_depthwise(self.program, op)
        pairs = {"kernel": weight.shape[2:], "stride": op.stride, "padding": op.padding, "dilation": op.dilation}
        weight = weight[:, 0].transpose(1, 2, 0) if depthwise else _rows(weight.transpose(0, 2, 3, 1))
        self._array(op, "weight", weight)
        self._weighted(op, x, self._maps(op) | {key: braces(pair) for key, pair in pairs.items()}, op.groups)

    def linear(self, op: Op, x: str) -> None:
        weight, layout = self._constant(op, "weight"), self._layouts[op.inputs[0]]
        weight = weight.reshape(-1, *layout).transpose(0, 2, 3, 1) if len(layout) == 3 else weight
        self._array(op, "weight", _rows(weight))
        self._weighted(op, x, self._maps(op) | {"kernel": "{1, 1}"}, groups=1)

    def clamp(self, op: Op, x: str) -> None:
        self._call("clamp", x, prod(op.shape), *self._result(op))

    def lookup(self, op: Op, x: str) -> None:
        table = self._array(op, "table", self._constant(op, "table"))
        self._call("lookup", x, prod(op.shape), table, self._places[op.name])

    def pad(self, op: Pad, x: str) -> None:
        top, _, left, _ = op.padding
        place = {"top": top, "left": left, "between": braces(op.between)}
        values = self._array(op, "values", np.array(self.program.pad_values(op), np.int8))
        fields = {"values": values, "step": int(len(op.value) > 1)}
        self._call("pad", self._struct(op, "pad", self._maps(op), place, fields), x, self._places[op.name])

    def add(self, op: Op, *operands: str) -> None:
        exponents = [self.program.exponents[name] for name in op.inputs]
        finest, (low, high, place) = max(exponents), self._result(op)
        places = np.array([self.plan.offsets.get(name, -1) for name in op.inputs], np.int32)
        left = np.array([finest - e for e in exponents], np.int8)
        fields = {"operands": len(operands), "count": prod(op.shape), "places": self._array(op, "places", places)}
        fields |= {"left": self._array(op, "left", left), "shift": self._shift(op, finest), "low": low, "high": high}
        self._call("add", self._struct(op, "add", fields), "input", "arena", place)

    def mul(self, op: Op, a: str, b: str) -> None:
        total, sizes = prod(op.shape), [prod(self._shapes[name]) for name in op.inputs]
        if sizes[0] < total:
            a, b = b, a
        shift = self._shift(op, sum(self.program.exponents[name] for name in op.inputs))
        self._call("mul", a, b, total // min(sizes), min(sizes), shift, *self._result(op))

    def concat(self, op: Concat, *operands: str) -> None:
        *bounds, place = self._result(op)
        _, height, width = _map(op.shape)
        pieces = {0: height * width, 1: 1, 2: height}[op.axis]
        before = 0
        for name, x in zip(op.inputs, operands, strict=True):
            size, shift = prod(self._shapes[name]) // pieces, self._shift(op, self.program.exponents[name])
            self._call("concat", x, pieces, size, prod(op.shape) // pieces, shift, *bounds, f"{place} + {before}")
            before += size

    def max_pool(self, op: MaxPool, x: str) -> None:
        self._pool(op, x, padding=braces(op.padding))

    def avg_pool(self, op: AvgPool, x: str) -> None:
        count = prod(op.kernel)
        shift = self.program.exponents[op.inputs[0]] - self.program.exponents[op.name]
        # a sum beyond the limit saturates; so does, where 2**left exceeds 128 * count, every one but zero
        left = min(max(-shift, 0), (256 * count).bit_length() - 1)
        limit = (128 * count >> left) + 1
        low, high = self.program.bounds(op)
        self._pool(op, x, limit=limit, left=left, divisor=count << max(shift, 0), low=low, high=high)

    def flatten(self, op: Flatten, x: str) -> None:
        self._transpose(op, x)
        if self._places[op.name] == x:
            self._layouts[op.name] = self._layouts[op.inputs[0]]

    def rearrange(self, op: Rearrange, x: str) -> None:
        self._transpose(op, x)

    def select(self, op: Select, x: str) -> None:
        if is_view(self.program, op):
            self._places[op.name] = x
            return
        operand = self._shapes[op.inputs[0]]
        depth, _, width = _map(operand)
        values, rows, columns = (axis or (0,) for axis in op.chosen)
        axes: dict[str, Sequence[int]] = {"rows": rows, "columns": columns, "values": values}
        if 0 not in op.changes(operand) and step(columns) == 1:  # rows of adjacent values
            start, depth, width = columns[0] * depth, width * depth, 1
            axes |= {"columns": (0,), "values": range(start, start + len(columns) * len(values))}
        fields = {name: self._axis(op, name, axis) for name, axis in axes.items()}
        struct = self._struct(op, "select", {"width": width, "depth": depth}, fields)
        self._call("choose", struct, x, self._places[op.name])

    def _axis(self, op: Select, name: str, chosen: Sequence[int]) -> str:
        """What is chosen of an axis, as a structure."""
        by = step(chosen)
        if by is not None:
            return braces([len(chosen), chosen[0], by, 0])
        return braces([len(chosen), 0, 0, self._array(op, name, np.array(chosen, np.int32))])

    def _transpose(self, op: Flatten | Rearrange, x: str) -> None:
        """The calls that order the values anew; those between are in the patch and in the result by turns."""
        if is_view(self.program, op):
            self._places[op.name] = x
            return
        parts, place = transpositions(self._shapes[op.inputs[0]], op), self._places[op.name]
        patch = f"arena + {self.plan.patches.get(op.name, 0)}"
        for i, (part, y) in enumerate(zip(parts, [place, patch, place][-len(parts) :], strict=True)):
            sizes, steps = (np.array(values, np.int32) for values in (part.result, part.steps))
            arrays = self._array(op, f"sizes{i}", sizes), self._array(op, f"steps{i}", steps)
            self._call("transpose", x, len(part.axes), *arrays, y)
            x = y

    def _weighted(self, op: Op, x: str, window: dict[str, str], groups: int) -> None:
        """The call of a conv or linear, given the first line of its structure."""
        fields: dict[str, object] = {"groups": groups}
        bias, weight = self._constant(op, "bias"), self._arrays[self._name(op, "weight")]
        if not is_depthwise(self.program, op):
            fields["terms"] = weight.shape[1]
            bias = bias - 128 * weight.sum(1, dtype=np.int32)  # the operand is 128 too great
        fields |= {"weight": self._name(op, "weight"), "bias": self._array(op, "bias", bias)}
        if op.name not in self.program.raw:
            shift = self.program.shift(op).cpu().numpy()
            fields["shift"] = self._array(op, "shift", shift.clip(MIN_SHIFT, MAX_SHIFT).astype(np.int32))
            fields["low"], fields["high"] = self.program.bounds(op)
        struct = self._struct(op, "conv", window, fields)
        if is_depthwise(self.program, op):
            return self._call("conv_depthwise", struct, x, self._places[op.name])
        patch = f"(uint8_t *)arena + {self.plan.patches[op.name]}"
        self._call("conv_sums" if op.name in self.program.raw else "conv", struct, x, patch, self._places[op.name])

    def _pool(self, op: AvgPool | MaxPool, x: str, **more: object) -> None:
        window = self._maps(op) | {"kernel": braces(op.kernel), "stride": braces(op.stride)}
        self._call(op.kind, self._struct(op, "pool", window, more), x, self._places[op.name])

    def _maps(self, op: Op) -> dict[str, str]:
        """The sizes of operand and result of `op`: height, width, channels."""
        shapes = {"in": self._shapes[op.inputs[0]], "out": op.shape}
        return {key: braces([*_map(shape)[1:], shape[0]]) for key, shape in shapes.items()}

    def _struct(self, op: Op, kind: str, *lines: Mapping[str, object]) -> str:
        """A pointer to a constant structure, given its fields line by line."""
        name = self._name(op, kind)
        fields = ",\n    ".join(", ".join(f".{key} = {value}" for key, value in line.items()) for line in lines)
        self._structs.append(f"static const struct {kind} {name} = {{\n    {fields}\n}};")
        return f"&{name}"

    def _array(self, op: Op, name: str, value: np.ndarray) -> str:
        """The name of a constant array."""
        name = self._name(op, name)
        self._arrays[name] = value
        return name

    def _name(self, op: Op, name: str) -> str:
        return f"{name}_{self._index[op.name]}"

    def _constant(self, op: Op, name: str) -> np.ndarray:
        return self.program.constants[f"{op.name}.{name}"].cpu().numpy()

    def _shift(self, op: Op, exponent: int) -> int:
        """By how much integers of `exponent` are shifted to the right in the result of `op`."""
        return min(max(exponent - self.program.exponents[op.name], MIN_SHIFT), MAX_SHIFT)

    def _result(self, op: Op) -> tuple[int, int, str]:
        """The bounds and the place of the result of `op`."""
        return *self.program.bounds(op), self._places[op.name]

    def _call(self, function: str, *arguments: object) -> None:
        self._run.append(f"    {function}({', '.join(map(str, arguments))});")


def _rows(weight: np.ndarray) -> np.ndarray:
    """Weights [channels, ...] as [channels, terms], with zeros to a multiple of LANES."""
    weight = weight.reshape(len(weight), -1)
    return np.pad(weight, ((0, 0), (0, padded(weight.shape[1]) - weight.shape[1])))


def _map(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Channels, height, width of a tensor, which need not have the latter two."""
    channels, height, width = (*shape, 1, 1)[:3]
    return channels, height, width
