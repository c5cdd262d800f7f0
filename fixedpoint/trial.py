"""A trial of quantization: what stands in the way of a network, before anybody trains it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TypeVar

import torch
from torch import nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.errors import QuantizationError
from fixedpoint.inventory import operations
from fixedpoint.program import PORTABLE, AvgPool, Program
from fixedpoint.program.bounds import MAX_DIVISOR
from fixedpoint.program.portable import lower, refusals
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert

T = TypeVar("T")


@dataclass(frozen=True)
class Trial:
    """What came of a trial.

    Attributes:
        arithmetic: The arithmetic that was tried.
        captured: The float program; None if the network could not be captured.
        folded: The same with what `fold` merges; None if there is none.
        converted: The integer program of the weights that the network has; None if there is none.
        causes: Why the network cannot be quantized, whatever its weights; none if it can.
        doubts: Why these weights cannot be, though others may be.
        notes: What capture warns of.
    """

    arithmetic: str
    captured: Program | None
    folded: Program | None
    converted: Program | None
    causes: tuple[str, ...]
    doubts: tuple[str, ...]
    notes: tuple[str, ...]


def try_quantization(
    network: nn.Module, input_shape: tuple[int, int, int], arithmetic: str, weight_bits: int = 8
) -> Trial:
    """Capture, fold and convert a network as it is, calibrated on random input.

    Neither the network nor the state of random numbers changes.

    Args:
        network: A module that gives logits [n, classes] of float32 [n, *input_shape].
        input_shape: Channels, height, width.
        arithmetic: PORTABLE or EXACT8.
        weight_bits: As in `calibrate`.
    """
    causes: list[str] = []
    doubts: list[str] = []
    with torch.random.fork_rng(devices=()), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        captured = _noting(causes, lambda: capture(network, input_shape))
        notes = tuple(str(warning.message) for warning in caught if warning.category is UserWarning)
        folded = captured and _noting(causes, lambda: fold(captured))
        if folded is not None:
            causes += _broken_rules(folded, arithmetic)
        elif arithmetic == PORTABLE:  # what is refused must not hide what the arithmetic does not have
            causes += refusals(operations(network, input_shape))
        converted = None
        if folded is not None and not causes:
            pixels = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
            converted = _noting(
                doubts, lambda: convert(calibrate(folded, lambda: [pixels], 0, arithmetic, weight_bits))
            )
    return Trial(arithmetic, captured, folded, converted, tuple(causes), tuple(doubts), notes)


def _broken_rules(program: Program, arithmetic: str) -> list[str]:
    """Why a folded program cannot have an arithmetic, whatever its weights."""
    broken: list[str] = []
    _noting(broken, lambda: program.last_layer)
    if arithmetic == PORTABLE:
        _noting(broken, lambda: lower(program))
    else:
        large = [op for op in program.ops if isinstance(op, AvgPool) and prod(op.kernel) >= MAX_DIVISOR]
        broken += [
            f"{op.name} is a mean over {prod(op.kernel)} values, at most {MAX_DIVISOR - 1} are exact" for op in large
        ]
    return broken


def _noting(reasons: list[str], step: Callable[[], T]) -> T | None:
    """What `step` gives; None if it refuses, and then the reason is noted."""
    try:
        return step()
    except QuantizationError as error:
        reasons.append(str(error))
        return None
