"""Bias correction: quantization shifts the mean of a layer's channels, and the biases can take that back.

Nagel et al. 2019, https://arxiv.org/abs/1906.04721, section 4.2, with the means measured instead of derived.
"""

from dataclasses import replace

import torch
from torch import Tensor

from fixedpoint.floating import FloatEvaluator
from fixedpoint.program import INPUT, WEIGHTED_KINDS, Program
from fixedpoint.qat import FakeQuantModel


@torch.no_grad()
def correct_biases(program: Program, images: Tensor) -> Program:
    """Make the mean of each channel of each conv and linear, before its clamp, that of the float network.

    Layer by layer, so that each one sees what the corrected layers before it give.

    Args:
        program: Calibrated, with float constants.
        images: Network input, float32 [images, channels, h, w]; all of it is in memory at once, with the tensors of the
            network that are still to be read, twice.

    Returns:
        The program with other biases.
    """
    quantized, floating = FakeQuantModel(program).to(images.device), FloatEvaluator(program)
    last_use = {name: op.name for op in program.ops for name in op.inputs}
    fake, real = {INPUT: images}, {INPUT: images}
    for op in program.ops:
        operands = [[values[name] for name in op.inputs] for values in (fake, real)]
        if op.kind in WEIGHTED_KINDS:
            expected = getattr(floating, op.kind)(replace(op, clamp=(None, None)), *operands[1])
            error = quantized.accumulator(op, *operands[0]) - expected
            quantized.constants(op)[1].sub_(error.mean([dim for dim in range(error.dim()) if dim != 1]))
        fake[op.name] = getattr(quantized, op.kind)(op, *operands[0])
        real[op.name] = getattr(floating, op.kind)(op, *operands[1])
        for name in {*op.inputs}:
            if last_use[name] == op.name:
                del fake[name], real[name]
    quantized.project()
    return quantized.trained()
