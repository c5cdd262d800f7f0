"""Block reconstruction: the rounding of weights is learned, block by block, from images without labels.

Rounding each weight to its nearest integer is not best for what a layer computes (AdaRound, Nagel et al. 2020,
https://arxiv.org/abs/2004.10568). So the weights of a block move by fractions of their steps until the block gives what
the float network's gives, from the results of the quantized blocks before it, whose error it takes back in part. The
blocks are those of BRECQ (Li et al. 2021, https://arxiv.org/abs/2102.05426); the gradient passes straight through the
rounding, as in AdaQuant (Hubara et al. 2020, https://arxiv.org/abs/2006.10518). In portable arithmetic, whose steps are
twice as large, they start from what `compensate` makes of them.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from fixedpoint.program import Evaluator, Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.quantize.blocks import Block, blocks, trained_layers
from fixedpoint.quantize.compensate import compensate
from fixedpoint.quantize.correct import correct
from fixedpoint.quantize.qat import FakeQuantModel

BATCH = 32  # images of a step
PATH = 0.25  # in steps of the weights: the sum of the learning rates, about which no weight moves farther


def reconstruct(
    program: Program,
    reference: Program,
    images: Tensor,
    steps: int,
    finished: int = 0,
    observe: Callable[[], object] = lambda: None,
) -> Iterator[Program]:
    """Learn the rounding of the weights of one block after the other.

    Args:
        program: A calibrated program with float constants.
        reference: The same operations with the constants of the float network.
        images: Network input, float32 [images, channels, h, w]; all of it is in memory at once, with the tensors of a
            block that are still to be read, twice.
        steps: Steps of Adam for each block.
        finished: Number of blocks of `program` that are reconstructed already, in a run that was interrupted.
        observe: Called after each step.

    Yields:
        The program after each further block, with other weights and, in portable arithmetic, other biases. The squared
        error of the block's result on the images, given the quantized blocks before it, is not larger than before.
    """
    model, floating = FakeQuantModel(program).to(images.device), FloatEvaluator(reference)
    found = real = images
    for number, block in enumerate(blocks(program)):
        expected = _result(floating, block, real)
        if number >= finished:
            if program.is_portable:
                rounded = partial(_compensate, model, floating, block, found, real)
                _keep_if_closer(model, block, found, expected, rounded)
            generator = torch.Generator().manual_seed(number)
            learn = partial(_learn, model, block, found, expected, steps, generator, observe)
            _keep_if_closer(model, block, found, expected, learn)
            yield model.trained()
        found, real = _result(model, block, found), expected


def _keep_if_closer(
    model: FakeQuantModel, block: Block, x: Tensor, expected: Tensor, change: Callable[[float], object]
) -> None:
    """Make a change, given the squared error; take it back unless `block` then computes from `x` what is closer."""
    error = _error(model, block, x, expected)
    if not error:
        return
    constants = [constant for op in trained_layers(block) for constant in model.constants(op)]
    before = [constant.detach().clone() for constant in constants]
    change(error)
    model.project()
    if not _error(model, block, x, expected) < error:
        with torch.no_grad():
            for constant, value in zip(constants, before, strict=True):
                constant.copy_(value)


def _compensate(
    model: FakeQuantModel, floating: FloatEvaluator, block: Block, x: Tensor, real: Tensor, _: float
) -> None:
    """Compensate one layer of `block` after the other, and correct its biases, from what the block reads in both."""
    fake, true = ({block[0].inputs[0]: operand} for operand in (x, real))
    correct(model, floating, block, fake, true, before=partial(compensate, model))


def _learn(
    model: FakeQuantModel,
    block: Block,
    x: Tensor,
    expected: Tensor,
    steps: int,
    generator: torch.Generator,
    observe: Callable[[], object],
    error: float,
) -> None:
    """Move the weights of `block` so that it computes `expected` from `x`, from which it is as far as `error`."""
    weights = [model.constants(op)[0] for op in trained_layers(block)]
    scales = [model.weight_scale(op) for op in trained_layers(block)]
    integers = [weight.detach() * scale for weight, scale in zip(weights, scales, strict=True)]
    optimizer = torch.optim.Adam(integers)
    for step in range(steps):
        # half a cosine, whose mean is 1 / 2
        optimizer.param_groups[0]["lr"] = PATH / steps * (1 + math.cos(math.pi * step / steps))
        chosen = torch.randperm(len(x), generator=generator)[:BATCH].to(x.device)
        loss = (_run(model, block, x[chosen]) - expected[chosen]).square().sum() / error
        gradients = torch.autograd.grad(loss, weights)
        for integer, scale, gradient in zip(integers, scales, gradients, strict=True):
            integer.grad = gradient / scale
        optimizer.step()
        with torch.no_grad():
            for weight, integer, scale in zip(weights, integers, scales, strict=True):
                weight.copy_(integer / scale)
        observe()


def _run(evaluator: Evaluator, block: Block, x: Tensor) -> Tensor:
    """The result of a block, whose first operation reads the one tensor from before."""
    *_, (_, result) = evaluator.resume({block[0].inputs[0]: x}, block)
    return result


@torch.no_grad()
def _result(evaluator: Evaluator, block: Block, x: Tensor) -> Tensor:
    return torch.cat([_run(evaluator, block, part) for part in x.split(BATCH)])


def _error(model: FakeQuantModel, block: Block, x: Tensor, expected: Tensor) -> float:
    return float((_result(model, block, x) - expected).square().sum(dtype=torch.float64))
