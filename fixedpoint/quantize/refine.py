"""Refinement: the exponent with the least error of its own tensor need not be the best for the logits.

A few large values may decide the exponent of a tensor, while all the others carry what the network sees. That is usual
after squeeze-and-excitation and SiLU.
"""

from dataclasses import dataclass
from math import inf, log10

import torch
from torch import Tensor

from fixedpoint.program import INPUT, Lookup, Op, Program
from fixedpoint.program.floating import FloatEvaluator, clamped
from fixedpoint.program.functions import evaluate
from fixedpoint.quantize.calibrate import with_exponents, with_weight_exponents
from fixedpoint.quantize.qat import FakeQuantModel

GAIN = 0.97  # a step must leave at most this fraction of the squared error, or it would follow the noise of the images


@dataclass(frozen=True)
class Refined:
    """The result of `refine`.

    Attributes:
        program: The program with other exponents.
        changed: How many tensors, of those that have an exponent of their own, got another one.
        before, after: Ratio of signal to noise of the logits, in dB, on the images and with the weights as they were.
    """

    program: Program
    changed: int
    before: float
    after: float

    def __str__(self) -> str:
        if not self.changed:
            return f"no exponent changed, the logits have {self.before:.1f} dB"
        exponents = f"{self.changed} exponent{'s' * (self.changed > 1)}"
        return f"{exponents} changed, the logits had {self.before:.1f} dB and have {self.after:.1f} dB"


@torch.no_grad()
def refine(program: Program, images: Tensor, finer: int) -> Refined:
    """Move the exponents of tensors, one after the other, up or down for as long as the logits gain from it.

    Nothing is tried if leaving all tensors unrounded would not gain enough: then the error is that of the weights.

    Args:
        program: A calibrated program with float constants.
        images: Network input, float32 [images, channels, h, w], all of it in memory at once.
        finer: As in `calibrate`, for the exponents of the weights, which are chosen anew if others have changed.

    Returns:
        The program with other exponents; the squared error of its logits against the float network's, on these images
        and with the weights' exponents as they were, is that of `program` at most.
    """
    expected = FloatEvaluator(program).logits(images)
    values, model = {INPUT: images}, FakeQuantModel(program)

    def error(candidate: FakeQuantModel, start: int) -> float:
        *_, (_, logits) = candidate.resume(dict(values), program.ops[start:])
        return float((logits - expected).square().mean())

    chosen = {*program.shared_exponents().values()} - {INPUT}
    before = least = error(model, 0)
    can_gain = error(_Unrounded(program), 0) < GAIN * least
    for start, op in enumerate(program.ops if can_gain else ()):
        for step in (1, -1) if op.name in chosen else ():
            while True:
                exponents = model.program.exponents
                other = with_exponents(model.program, exponents | {op.name: exponents[op.name] + step})
                done = [done.name for done in program.ops[:start] if done.name in exponents]
                if other.exponents == exponents or any(other.exponents[name] != exponents[name] for name in done):
                    break
                candidate = FakeQuantModel(other)
                found = error(candidate, start)
                if not found < GAIN * least:
                    break
                model, least = candidate, found
        dict(model.resume(values, (op,)))
    changed = sum(model.program.exponents[name] != program.exponents[name] for name in chosen)
    refined = with_weight_exponents(model.program, finer) if changed else program
    signal = float(expected.square().mean())
    return Refined(refined, changed, _decibels(signal, before), _decibels(signal, least))


class _Unrounded(FakeQuantModel):
    """A quantized model that leaves its tensors unrounded."""

    def _requantize(self, op: Op, x: Tensor) -> Tensor:
        return clamped(op, x)

    def lookup(self, op: Lookup, x: Tensor) -> Tensor:
        return evaluate(op, x)


def _decibels(signal: float, noise: float) -> float:
    return 10 * log10(signal / noise) if signal and noise else inf
