"""Each channel times a number plus another, as operations that both arithmetics have: a depthwise 1x1 convolution."""

from collections.abc import Container, Iterable
from dataclasses import replace

import torch
from torch import Tensor

from fixedpoint.program.moves import Flatten, Rearrange
from fixedpoint.program.names import allowed_name
from fixedpoint.program.operation import Op, Shape
from fixedpoint.program.ops import Conv
from fixedpoint.program.program import Program


def scaled(
    name: str, source: str, shape: Shape, scale: Tensor, shift: Tensor, taken: Container[str]
) -> tuple[list[Op], dict[str, Tensor]]:
    """The operations that compute `x * scale + shift`, and their constants by `<op>.<constant>`.

    Args:
        name: Name of the result.
        source: The tensor x.
        shape: Its shape, [channels, height, width] or [features], which are read as a map.
        scale: float32 [channels].
        shift: float32 [channels].
        taken: Names of other operations.
    """
    channels = shape[0]
    if len(shape) == 3:
        ops: list[Op] = [Conv(name, (source,), shape, (1, 1), (0, 0), (1, 1), channels)]
        conv = name
    else:
        image, conv = (allowed_name(f"{name}.{kind}", taken) for kind in ("rearrange", "conv"))
        ops = [
            Rearrange(image, (source,), (channels, 1, 1), (channels,), (0,)),
            Conv(conv, (image,), (channels, 1, 1), (1, 1), (0, 0), (1, 1), channels),
            Flatten(name, (conv,), shape),
        ]
    return ops, {f"{conv}.weight": scale.reshape(-1, 1, 1, 1), f"{conv}.bias": shift}


def with_copies(program: Program, op: Op, names: Iterable[str]) -> Program:
    """The program in which `op` reads copies of some tensors, which have exponents of their own.

    Args:
        program: A float program.
        op: One of its operations.
        names: Tensors that `op` reads. A copy is a tensor times 1, by weights that are quantized as all others are.
    """
    for name in names:
        shape, taken = program.shapes[name], program.shapes
        ones, zeros = torch.ones(shape[0]), torch.zeros(shape[0])
        copies, constants = scaled(allowed_name(f"{op.name}.copy", taken), name, shape, ones, zeros, taken)
        reader = replace(op, inputs=tuple(copies[-1].name if each == name else each for each in op.inputs))
        program = program.with_replaced(op, [*copies, reader]).with_constants(**constants)
        op = reader
    return program
