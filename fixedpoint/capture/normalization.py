"""Makes a network's own input normalization the first operation of its program; `fold` then merges it."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from fixedpoint.errors import QuantizationError
from fixedpoint.program import INPUT, BatchNorm, Program


def behind_normalization(program: Program, mean: Sequence[float] | None, std: Sequence[float] | None) -> Program:
    """Turn a float program whose input is `(p / 255 - mean) / std` of pixels p into one of (p - 128) / 128.

    Args:
        program: The captured program.
        mean: One number per channel, of pixels in 0..1.
        std: One number per channel, not 0.

    Raises:
        QuantizationError: If one is missing, they are not as many as the channels, or a `std` is 0.
    """
    channels = program.input_shape[0]
    means, stds = _numbers("mean", mean, channels), _numbers("std", std, channels)
    if (stds == 0).any():
        raise QuantizationError(f"std must not be 0, as in {std}")
    own = next(name for i in range(len(program.ops) + 1) if (name := f"normalization{i or ''}") not in program.shapes)
    shift, factor = (255 * means - 128) / 128, (1 / (255 * stds / 128).double()).float()
    constants = {f"{own}.scale": factor, f"{own}.shift": (-shift.double() * factor.double()).float()}
    ops = [replace(op, inputs=tuple(own if name == INPUT else name for name in op.inputs)) for op in program.ops]
    norm = BatchNorm(own, (INPUT,), program.input_shape)
    return replace(program, ops=(norm, *ops), constants=program.constants | constants)


def _numbers(name: str, values: Sequence[float] | None, channels: int) -> Tensor:
    if values is None or len(values) != channels:
        raise QuantizationError(f"{name} must have one number for each of {channels} channels, not {values}")
    return torch.tensor([float(value) for value in values])
