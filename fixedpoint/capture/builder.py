"""Builds the operations of a program from the values of an exported network."""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.capture.moves import moves
from fixedpoint.capture.values import BATCH, Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import INPUT, Concat, Linear, Mul, Op, Pad, Program, Rearrange, Select
from fixedpoint.program.names import allowed_name
from fixedpoint.program.operation import Shape


class Builder:
    """Appends operations, and makes moves where an operation needs their result.

    Attributes:
        ops: The operations by name, in an order in which they can run.
        constants: Their constants.
    """

    def __init__(self, input_shape: tuple[int, int, int]):
        self.input_shape = input_shape
        self.ops: dict[str, Op] = {}
        self.constants: dict[str, Tensor] = {}
        self._tensors: dict[tuple, str] = {}

    def program(self, output: str) -> Program:
        """The operations that `output` needs."""
        needed = {output}
        for op in reversed(self.ops.values()):
            if op.name in needed:
                needed |= {*op.inputs}
        ops = tuple(op for op in self.ops.values() if op.name in needed)
        constants = {key: value for key, value in self.constants.items() if key.rpartition(".")[0] in needed}
        return Program(self.input_shape, ops, constants)

    def add(
        self,
        node: Node,
        op: type[Op],
        inputs: Sequence[Value],
        constants: dict[str, Tensor] | None = None,
        **attributes: Any,
    ) -> Value:
        """Append an operation that reads `inputs`, and give its result; constants become float32."""
        names = tuple(self.tensor(node, value) for value in inputs)
        return self._append(node, op, names, constants or {}, attributes)

    def tensor(self, node: Node, value: Value, shape: Shape | None = None) -> str:
        """The name of the tensor of the program that is `value` in a shape of its own or another."""
        index = value.index if shape is None else value.index.reshape(shape)
        if value.moved is None and shape in (None, value.base_shape):
            return value.base
        if index.dim() not in (1, 3):
            raise QuantizationError(f"its operand [batch, {', '.join(map(str, index.shape))}] is no map of channels")
        key = (value.base, tuple(index.shape), index.numpy().tobytes())
        if key not in self._tensors:
            name = value.base
            for op, attributes in moves(index, value.base_shape):
                name = self._append(value.node or node, op, (name,), {}, attributes).base
            self._tensors[key] = name
        return self._tensors[key]

    def shape_of(self, name: str) -> Shape:
        """The shape of a tensor, without the batch."""
        return self.input_shape if name == INPUT else self.ops[name].shape

    def compact(self, node: Node, value: Value) -> Value:
        """The value as one that has no entry of its base for nothing: made if the base has more, or another shape."""
        shape = value.shape
        reshaped = len(shape) in (1, 3) and torch.equal(value.index.flatten(), torch.arange(value.base_size))
        if prod(shape) >= value.base_size and not reshaped:
            return value
        flat = shape if len(shape) in (1, 3) else (prod(shape),)
        made = Value(self.tensor(node, value, flat), flat, None, value.node)
        return made if flat == shape else made.at(torch.arange(prod(flat)).reshape(shape))

    def constant(self, node: Node, value: Tensor) -> Value:
        """A value that is the same for every image: the biases of a linear layer whose weights are zero.

        Args:
            value: With the batch.
        """
        if value.dim() == 0 or len(value) != BATCH or not torch.equal(value[0], value[1]):
            raise QuantizationError("its constant is not the same for each image of a batch")
        numbers, places = value[0].unique(return_inverse=True)
        pixel = Value(INPUT, self.input_shape).at(torch.zeros(1, dtype=torch.int64), node)
        weights = {"weight": torch.zeros(len(numbers), 1), "bias": numbers}
        return self.add(node, Linear, [pixel], weights).at(places.reshape(value[0].shape), node)

    def joined(self, node: Node, values: Sequence[Value]) -> list[Value]:
        """The same values as entries of one base, which concatenates theirs."""
        if len({value.base for value in values}) == 1:
            return list(values)
        parts = [self.compact(node, value) for value in values]
        bases = list(dict.fromkeys((part.base, part.base_shape) for part in parts))
        if len({(len(shape), *shape[1:]) for _, shape in bases}) > 1:
            bases = [(name, (prod(shape),)) for name, shape in bases]
        whole = [Value(name, self.shape_of(name), None, node) for name, _ in bases]
        names = tuple(self.tensor(node, each, shape) for each, (_, shape) in zip(whole, bases, strict=True))
        base = self._append(node, Concat, names, {}, {"axis": 0})
        starts, start = {}, 0
        for name, shape in bases:
            starts[name] = start
            start += prod(shape)
        found = []
        for part in parts:
            image, own = part.positions // part.base_size, part.positions % part.base_size
            found.append(base.with_positions(image * base.base_size + starts[part.base] + own, part.node))
        return found

    def aligned(self, node: Node, op: type[Op], values: Sequence[Value], **attributes: Any) -> Value:
        """Append an elementwise operation of several values, whose shapes are broadcast.

        Of the layouts that it could compute in, those of the values and of their bases, it takes the one in which the
        fewest values must be moved.
        """
        shape = torch.broadcast_shapes(*(value.full_shape for value in values))
        spread = [value.with_positions(value.positions.broadcast_to(shape)) for value in values]
        size = prod(shape[1:])
        layouts = [(value.base_shape, value.index) for value in spread if value.covers_base]
        own = shape[1:] if len(shape) - 1 in (1, 3) else (size,)
        layouts.insert(0 if len(shape) - 1 in (1, 3) else len(layouts), (own, torch.arange(size).reshape(shape[1:])))

        def operands(layout: Shape, order: Tensor) -> list[Value]:
            inverse = order.flatten().argsort()
            laid = [value.at(value.index.flatten()[inverse].reshape(layout)) for value in spread]
            return [_gate(value) for value in laid] if op is Mul else laid

        tried = [(operands(*layout), layout[1]) for layout in layouts]
        best, order = min(tried, key=lambda each: sum(value.moved is not None for value in each[0]))
        if op is Mul and all(value.shape != best[0].shape for value in best[1:]):
            best = sorted(best, key=lambda value: prod(value.shape) != size)
            if prod(best[0].shape) != size:
                best[0] = best[0].at(best[0].index.expand(tried[0][0][0].shape))
        return self.add(node, op, best, **attributes).at(order, node)

    def _append(self, node: Node, op: type[Op], names: tuple[str, ...], constants: dict, attributes: dict) -> Value:
        path = module_path(node)
        bare = path and _is_leaf(node) and not issubclass(op, Select | Rearrange | Pad)
        name = allowed_name(path if bare else f"{path}.{op.kind}".removeprefix("."), self.ops)
        made = op(name=name, inputs=names, **{"shape": ()} | attributes)
        own = {key: value.detach().float().contiguous() for key, value in constants.items()}
        shape = made.result_shape([self.shape_of(each) for each in names], {k: tuple(v.shape) for k, v in own.items()})
        self.ops[name] = replace(made, shape=shape)
        self.constants |= {f"{name}.{key}": value for key, value in own.items()}
        return Value(name, shape, None, node)


def _gate(value: Value) -> Value:
    """A map whose channels are each one number as [channels, 1, 1]."""
    index = value.index
    if index.dim() == 3 and index[0].numel() > 1 and bool((index == index[:, :1, :1]).all()):
        return value.at(index[:, :1, :1])
    return value


def module_path(node: Node) -> str:
    """The module that the node belongs to; empty for the network itself."""
    stack = node.meta.get("nn_module_stack") or {"": ("", None)}
    return list(stack.values())[-1][0]


def _is_leaf(node: Node) -> bool:
    stack = node.meta.get("nn_module_stack") or {"": ("", "")}
    return str(list(stack.values())[-1][1]).startswith("torch.nn.modules.")
