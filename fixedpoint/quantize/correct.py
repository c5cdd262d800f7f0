"""Bias correction: quantization shifts the mean of a layer's channels, and the biases can take that back.

Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2, with the means measured instead of derived, and taken
after the clamp: that is what the next layer sees. What the clamp cuts off does not move with the bias, so the error is
divided by the number of values inside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

import torch
from torch import Tensor

from fixedpoint.program import INPUT, Bounds, Op, Program, is_fixed
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.quantize.qat import FakeQuantModel

FEWEST = 200  # least number of values to divide an error by, so that few values inside the clamp do not move a bias far


@torch.no_grad()
def correct_biases(program: Program, images: Tensor) -> Program:
    """Bring the mean of each channel of each conv and linear, after its clamp, to that of the float network.

    It goes layer by layer, so that each one sees the results of the corrected layers before it.

    Args:
        program: A calibrated program with float constants.
        images: Network input, float32 [images, channels, h, w]; all of it is in memory at once, with the tensors of the
            network that are still to be read, twice.

    Returns:
        The program with other biases.
    """
    quantized = FakeQuantModel(program).to(images.device)
    correct(quantized, FloatEvaluator(program), program.ops, {INPUT: images}, {INPUT: images})
    quantized.project()
    return quantized.trained()


@torch.no_grad()
def correct(
    quantized: FakeQuantModel,
    floating: FloatEvaluator,
    ops: Sequence[Op],
    fake: dict[str, Tensor],
    real: dict[str, Tensor],
    before: Callable[[Op, Tensor], object] = lambda op, x: None,
) -> None:
    """Correct the biases of some operations in a row, of a model that changes by that.

    Args:
        quantized, floating: The model, and the float network.
        ops: The operations.
        fake, real: The tensors before them in either; they change as in `Evaluator.resume`.
        before: Called with each layer and what it reads in the model, before its biases are corrected.
    """
    for op in ops:
        if op.weighted and not is_fixed(op):
            before(op, fake[op.inputs[0]])
            expected = getattr(floating, op.kind)(replace(op, clamp=(None, None)), real[op.inputs[0]])
            found = quantized.accumulator(op, fake[op.inputs[0]])
            quantized.constants(op)[1].sub_(mean_error(found, expected, op.clamp))
        for evaluator, values in ((quantized, fake), (floating, real)):
            dict(evaluator.resume(values, (op,)))


def mean_error(found: Tensor, expected: Tensor, bounds: Bounds) -> Tensor:
    """By how much a bias [channels] is to be lowered, for the values [images, channels, ...] before a clamp."""
    low, high = (end if bound is None else bound for bound, end in zip(bounds, (-inf, inf), strict=True))
    others = [dim for dim in range(found.dim()) if dim != 1]
    inside = ((low < expected) & (expected < high)).sum(others)
    error = found.clamp(low, high) - expected.clamp(low, high)
    return error.sum(others) / inside.clamp(min=min(FEWEST, found[:, 0].numel()))
