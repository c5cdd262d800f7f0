"""The graph that torch.export gives: its constants, its output, and what its nodes are."""

from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx import Node


def placeholders(exported: ExportedProgram) -> dict[str, Any]:
    """The constant of each placeholder, by the name of its node, in their order; None for the image."""
    constants = {**exported.state_dict, **exported.constants}
    specs = exported.graph_signature.input_specs
    values = {spec.arg.name: None if spec.target is None else constants[spec.target] for spec in specs}
    return {name: value.detach() if isinstance(value, Tensor) else value for name, value in values.items()}


def output_index(exported: ExportedProgram) -> int:
    """The number of the network's output, or of the first tensor in it, among the values that the graph gives.

    Others may be buffers that it changes.
    """
    values = zip(exported.graph_signature.output_specs, exported.graph.output_node().args[0], strict=True)
    given = [spec.kind == OutputKind.USER_OUTPUT and isinstance(value, Node) for spec, value in values]
    return given.index(True)


def output_node(exported: ExportedProgram) -> Node:
    """The node whose value is the network's output."""
    return exported.graph.output_node().args[0][output_index(exported)]


def is_mutable(node: Node) -> bool:
    """Whether the node changes an operand in place."""
    return isinstance(node.target, OpOverload) and node.target._schema.is_mutable


def is_view(node: Node) -> bool:
    """Whether the node's value shares memory with its operand."""
    if not isinstance(node.target, OpOverload):
        return node.op == "call_function"  # an entry of a list of views
    infos = [argument.alias_info for argument in node.target._schema.arguments]
    return any(info is not None and not info.is_write for info in infos)


def is_random(node: Node) -> bool:
    """Whether the node's operation can draw random numbers."""
    return isinstance(node.target, OpOverload) and torch.Tag.nondeterministic_seeded in node.target.tags
