"""Refinement: the exponent with the least error of its own tensor need not be the best for the logits.

A few large values may decide the exponent of a tensor, while all the others carry what the network sees. That is usual
after squeeze-and-excitation and SiLU.
"""

import torch
from torch import Tensor

from fixedpoint.program import INPUT, Program, is_fixed
from fixedpoint.program.bounds import MAX_SHIFT
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.portable import MIN_SHIFT
from fixedpoint.quantize.calibrate import with_exponents, with_weight_exponents
from fixedpoint.quantize.qat import FakeQuantModel

GAIN = 0.97  # a step must leave at most this fraction of the squared error, or it would follow the noise of the images


@torch.no_grad()
def refine(program: Program, images: Tensor, finer: int) -> Program:
    """Move the exponents of tensors, one after the other, up or down for as long as the logits gain from it.

    Args:
        program: A calibrated program with float constants.
        images: Network input, float32 [images, channels, h, w], all of it in memory at once.
        finer: As in `calibrate`, for the exponents of the weights, which are chosen anew.

    Returns:
        The program with other exponents; the squared error of its logits against the float network's, on these images
        and with the weights' exponents as they were, is that of `program` at most.
    """
    expected = FloatEvaluator(program).logits(images)
    values, model = {INPUT: images}, FakeQuantModel(program)

    def error(candidate: FakeQuantModel, start: int) -> float:
        *_, (_, logits) = candidate.resume(dict(values), program.ops[start:])
        return float((logits - expected).square().mean())

    least = error(model, 0)
    chosen = {*program.shared_exponents().values()} - {INPUT}
    for start, op in enumerate(program.ops):
        for step in (1, -1) if op.name in chosen else ():
            while True:
                exponents = model.program.exponents
                other = with_exponents(model.program, exponents | {op.name: exponents[op.name] + step})
                if not _means_fit(other):  # logits of zeros gain from ever finer exponents
                    break
                candidate = FakeQuantModel(other)
                found = error(candidate, start)
                if not found < GAIN * least:
                    break
                model, least = candidate, found
        dict(model.resume(values, (op,)))
    return with_weight_exponents(model.program, finer)


def _means_fit(program: Program) -> bool:
    """Whether the accumulators of means, whose weights have fixed exponents, can be shifted to those of the results."""
    shifts = [program.shift(op) for op in filter(is_fixed, program.ops)]
    return all(bool(((shift >= MIN_SHIFT) & (shift <= MAX_SHIFT)).all()) for shift in shifts)
