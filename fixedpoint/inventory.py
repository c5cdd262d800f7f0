"""What each operation of a PyTorch network becomes: by its name in ATen, such as conv2d."""

import copy
from collections import Counter
from contextlib import redirect_stderr, suppress
from io import StringIO
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from fixedpoint.capture.aten import AtenOperations
from fixedpoint.capture.guards import in_one_line
from fixedpoint.capture.names import operation
from fixedpoint.capture.values import BATCH, Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Conv, Lookup, Op, Program
from fixedpoint.program.portable import refusals

REFUSED, NOTHING, MERGED = "refused", "no operation of its own", "part of the operation beside it"


class _Recorder(AtenOperations):
    """Remembers the operations that each node has become, and the nodes that are refused."""

    def __init__(self, *given: Any):
        super().__init__(*given)
        self.made: dict[Node, list[str]] = {}
        self.refusals: set[Node] = set()

    def _append(self, node: Node, *given: Any) -> Value:
        value = super()._append(node, *given)
        self.made.setdefault(node, []).append(value.base)
        return value

    def _refuse(self, node: Node, why: str) -> Any:
        self.refusals.add(node)
        return super()._refuse(node, why)


def inventory(network: nn.Module, input_shape: tuple[int, int, int], final: Program | None) -> Counter[tuple[str, str]]:
    """How often each operation of the network becomes what; an operation may become one thing here, another there.

    Args:
        network: A module on the CPU.
        input_shape: Channels, height, width.
        final: The program that became of it in the end; None if it is refused.

    Returns:
        Counts by name and fate; none if torch.export does not take the network.
    """
    recorder = _recorded(network, input_shape)
    if recorder is None:
        return Counter()
    ops = recorder.ops if final is None else {op.name: op for op in final.ops}
    nodes = [node for node in recorder.exported.graph.nodes if node.op == "call_function"]
    computed = [node for node in nodes if isinstance(node.meta.get("val"), Tensor | list | tuple)]
    fates = {node: _fate([ops.get(name) for name in recorder.made.get(node, [])]) for node in computed}
    return Counter((operation(node), REFUSED if node in recorder.refusals else fates[node]) for node in computed)


def operations(network: nn.Module, input_shape: tuple[int, int, int]) -> list[Op]:
    """The operations that a network has besides those that are refused; none if torch.export does not take it."""
    recorder = _recorded(network, input_shape)
    return [] if recorder is None else [*recorder.ops.values()]


@torch.no_grad()
def _recorded(network: nn.Module, input_shape: tuple[int, int, int]) -> _Recorder | None:
    try:
        with in_one_line(network, input_shape), redirect_stderr(StringIO()):  # as capture
            exported = torch.export.export(copy.deepcopy(network).eval(), (torch.zeros(BATCH, *input_shape),))
    except QuantizationError:
        return None
    recorder = _Recorder(exported, input_shape)
    with suppress(QuantizationError):  # what is refused is in it, too
        recorder.captured()
    return recorder


def _fate(ops: list[Op | None]) -> str:
    """Operations of the final program in words; None: one that is merged into another."""
    found = Counter(_name(op) for op in ops if op is not None)
    if not found:
        return MERGED if ops else NOTHING
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in found.items())


def _name(op: Op) -> str:
    if isinstance(op, Conv) and op.fixed:
        return "conv with one weight"
    name = "table of 256 integers" if isinstance(op, Lookup) else op.kind
    return f"{name} (not portable)" if refusals([op]) else name
