"""Walks the graph that torch.export gives, node by node, and builds the operations of a program."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Node

from fixedpoint.errors import QuantizationError
from fixedpoint.program import INPUT, Op, Program
from fixedpoint.program.names import allowed_name

Operand = Node | str  # a node of the graph, or a tensor that the program has already


class ExportedGraph:
    """Builds the program; a subclass has one method for each ATen operation, `aten_<name>(node, arguments)`.

    A method gives the name of the tensor that the node's value has become.

    Attributes:
        values: The parameters and other constants of the module, by the name of their node.
    """

    def __init__(self, exported: torch.export.ExportedProgram):
        values = {**exported.state_dict, **exported.constants}
        signature = exported.graph_signature
        targets = {s.arg.name: s.target for s in signature.input_specs if s.target is not None}
        self.nodes = list(exported.graph.nodes)
        self.values = {name: values[target].detach() for name, target in targets.items()}
        self.tensors = dict.fromkeys(signature.user_inputs, INPUT)
        self.result = signature.user_outputs
        self.ops: list[Op] = []
        self.constants: dict[str, Tensor] = {}

    def program(self, input_shape: tuple[int, int, int]) -> Program:
        """The program of the whole graph. Raises QuantizationError if no program has an operation of it."""
        for node in self.nodes:
            if node.op == "call_function" and isinstance(node.meta.get("val"), Tensor | list | tuple):
                self._call(node)
        last = self.ops[-1].name if self.ops else None
        if len(self.result) != 1 or self.tensors.get(self.result[0]) != last:
            raise QuantizationError("the network must have one output, computed by its last operation")
        return Program(input_shape, tuple(self.ops), self.constants)

    def _call(self, node: Node) -> None:
        method: Callable[..., str] | None = getattr(self, f"aten_{operation(node)}", None)
        if method is None:
            known = ", ".join(sorted(name.removeprefix("aten_") for name in dir(self) if name.startswith("aten_")))
            raise QuantizationError(f"{operation(node)} in {place(node)} is not supported; supported are {known}")
        self.tensors[node.name] = method(node, arguments(node))

    def add(
        self,
        node: Node,
        op: type[Op],
        inputs: Sequence[Operand],
        constants: dict[str, Tensor] | None = None,
        **attributes: Any,
    ) -> str:
        """Append an operation and give its name; its result has the shape of the node's unless `shape` is given."""
        tensors = tuple(self.tensor(node, operand) for operand in inputs)
        stem = _path(node) if _path(node) and _is_leaf(node) else f"{_path(node)}.{op.kind}".removeprefix(".")
        name = allowed_name(stem, {o.name for o in self.ops})
        self.ops.append(op(name=name, inputs=tensors, **{"shape": shape(node)} | attributes))
        self.constants |= {f"{name}.{key}": value.float().contiguous() for key, value in (constants or {}).items()}
        return name

    def tensor(self, node: Node, operand: object) -> str:
        """The tensor that an operand of `node` has become."""
        if isinstance(operand, str):
            return operand
        if not isinstance(operand, Node) or operand.name not in self.tensors:
            raise QuantizationError(
                f"{operation(node)} in {place(node)}: its operand {operand} is not computed from the input"
            )
        return self.tensors[operand.name]


def operation(node: Node) -> str:
    """The name of the node's ATen operation, that of `add_` being `add`."""
    return str(node.target).removeprefix("aten.").rsplit(".", 1)[0].removesuffix("_")


def arguments(node: Node) -> dict:
    """The arguments of an ATen call by name, defaults included, in the order of its signature."""
    schema = cast(OpOverload, node.target)._schema.arguments
    given = dict(zip((a.name for a in schema), node.args, strict=False)) | node.kwargs
    return {a.name: given.get(a.name, a.default_value) for a in schema}


def shape(node: Node) -> tuple[int, ...]:
    """The shape of the node's value without the batch dimension."""
    return tuple(int(size) for size in node.meta["val"].shape[1:])


def place(node: Node) -> str:
    """The module that the node belongs to, for messages."""
    return _path(node) or "the network"


def _path(node: Node) -> str:
    stack = node.meta.get("nn_module_stack") or {"": ("", None)}
    return list(stack.values())[-1][0]


def _is_leaf(node: Node) -> bool:
    stack = node.meta.get("nn_module_stack") or {"": ("", "")}
    return str(list(stack.values())[-1][1]).startswith("torch.nn.modules.")
