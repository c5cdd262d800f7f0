"""Exponents of tensors by a percentile or by divergence, which the benchmark of methods compares with least error.

Both are usual choices of what int8 covers: all values but a share, or the range in which the distribution of the
values loses least (S. Migacz, 8-bit inference with TensorRT, GTC 2017).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fixedpoint.program import INPUT, Concat, Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.quantize.calibrate import (
    covering_exponent,
    has_own_values,
    own_values,
    with_exponents,
    with_weight_exponents,
)

SHARE = 0.9999  # of the values that the range of a percentile covers
BINS = 2048  # of the histogram whose divergence is measured, as in TensorRT
LEVELS = 128  # of int8, from zero on


@torch.no_grad()
def with_ranges(program: Program, images: Tensor, choose: Callable[[Tensor, int], int], finer: int) -> Program:
    """A calibrated program with other exponents.

    Args:
        program: A calibrated program with float constants.
        images: Network input, float32 [images, channels, h, w].
        choose: `percentile` or `divergence`.
        finer: Number of exponents to try beyond the one that covers the largest value.
    """
    firsts, ops = program.shared_exponents(), {op.name: op for op in program.ops}
    groups: dict[str, dict[str, int]] = {}
    for name, value in FloatEvaluator(program).run(images):
        if name in firsts and firsts[name] != INPUT and has_own_values(ops[name]):
            magnitudes = own_values(ops[name], value).abs().flatten()
            magnitudes = magnitudes[magnitudes > 0]  # zero is an integer of every range
            if len(magnitudes):
                groups.setdefault(firsts[name], {})[name] = choose(magnitudes, finer)
    chosen = {}
    for first, found in groups.items():
        counted = [each for name, each in found.items() if not isinstance(ops[name], Concat)]
        chosen[first] = min(counted or found.values())
    return with_weight_exponents(with_exponents(program, program.exponents | chosen), finer)


def percentile(magnitudes: Tensor, finer: int) -> int:
    """The exponent that covers all but 0.01 % of the values, at most `finer` beyond the one that covers all."""
    covering = int(covering_exponent(magnitudes.max()))
    kept = magnitudes.kthvalue(max(1, round(SHARE * len(magnitudes)))).values
    return min(int(covering_exponent(kept)), covering + finer)


def divergence(magnitudes: Tensor, finer: int) -> int:
    """The exponent with the least Kullback-Leibler divergence of the values' histogram from that of its 128 levels."""
    covering = int(covering_exponent(magnitudes.max()))
    histogram = torch.histc(magnitudes, BINS, 0, LEVELS * 2.0**-covering).double()
    return min((covering + i for i in range(finer + 1)), key=lambda e: _divergence(histogram, BINS >> (e - covering)))


def _divergence(histogram: Tensor, bins: int) -> float:
    """That of the first `bins`, the last of which also holds all values beyond, from their means in each level."""
    inside = histogram[:bins]
    levels = inside.reshape(LEVELS, -1)
    filled = levels > 0
    mean = levels.sum(1, keepdim=True) / filled.sum(1, keepdim=True).clamp(min=1)
    found = (mean * filled).flatten()
    expected = inside.clone()
    expected[-1] += histogram[bins:].sum()
    p = expected / expected.sum()
    q = (found / found.sum()).clamp(min=1e-10)
    return float((p * (p / q).clamp(min=1e-300).log()).sum())
