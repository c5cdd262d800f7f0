"""Products of a value with a function of itself that have a name: SiLU, Mish and hard-swish spelled by hand."""

from collections.abc import Mapping

import torch
from torch import Tensor

from fixedpoint.program import BatchNorm, Clamp, Lookup, Op


def own_gate(ops: Mapping[str, Op], constants: Mapping[str, Tensor], x: str, gate: str) -> tuple[str, float] | None:
    """The function f and the factor c for which the tensor `x` times the tensor `gate` is `c * f(x)`; None if no such.

    `sigmoid(x)` is the gate of SiLU, `tanh(softplus(x))` that of Mish (https://arxiv.org/abs/1908.08681), and
    `relu6(x + 3) / 6`, with the division or without it, that of hard-swish (https://arxiv.org/abs/1905.02244).
    """
    op, factor = ops.get(gate), 1.0
    if _of(op, "sigmoid", x):
        return "silu", 1.0
    if _of(op, "hardsigmoid", x):
        return "hardswish", 1.0
    if isinstance(op, Lookup) and op.function == "tanh" and _of(ops.get(op.inputs[0]), "softplus", x):
        return "mish", 1.0
    if isinstance(op, BatchNorm) and (line := _line(op, constants)) and line[1] == 0:
        op, factor = ops.get(op.inputs[0]), line[0]
    if isinstance(op, Clamp) and op.clamp == (0.0, 6.0):
        moved = ops.get(op.inputs[0])
        if isinstance(moved, BatchNorm) and moved.inputs == (x,) and _line(moved, constants) == (1.0, 3.0):
            return "hardswish", float(torch.tensor(6 * factor))
    return None


def _of(op: Op | None, function: str, x: str) -> bool:
    return isinstance(op, Lookup) and (op.function, op.inputs) == (function, (x,))


def _line(op: Op, constants: Mapping[str, Tensor]) -> tuple[float, float] | None:
    """Scale and shift of a BatchNorm if they are the same for all channels."""
    scale, shift = (constants[f"{op.name}.{key}"] for key in ("scale", "shift"))
    return (float(scale[0]), float(shift[0])) if len({*scale.tolist()}) == len({*shift.tolist()}) == 1 else None
