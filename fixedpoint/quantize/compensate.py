"""Weights are rounded one after the other, and those that are left take back what each one loses.

The error of what a channel computes is e H e^T, where e are the errors of its weights and H the covariance of what they
multiply. After each rounding the weights that are not yet rounded move to where that is least (Hassibi and Stork 1993,
Optimal Brain Surgeon; GPTQ, Frantar et al. 2022, https://arxiv.org/abs/2210.17323). The mean of the error is for the
biases. What is computed is the same at each run.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fixedpoint.program import Conv, Op
from fixedpoint.quantize.qat import FakeQuantModel

EDGE = 0.45  # of a step: the farthest from its integer that a weight remains, on the side of where it was
MOST = 8192  # inputs of a channel; with more, their covariance takes gigabytes, and weights are left as they are
PART = 16  # images at a time
DAMPING = 0.001  # of the mean variance, with which inputs that vary alike, or never, have an inverse, too


@torch.no_grad()
def compensate(model: FakeQuantModel, op: Op, x: Tensor) -> None:
    """Move the weights of a conv or linear so that they round to integers with which its result changes least.

    Args:
        model: Its weights of `op` change, each as little as its integer allows; not those of more than MOST inputs.
        op: A conv or linear that is not fixed.
        x: What it reads, float32 [images, ...].
    """
    weight, _ = model.constants(op)
    if weight[0].numel() > MOST:
        return
    covariance = _covariance(op, x * 2.0 ** model.program.exponents[op.inputs[0]], weight)
    groups, inputs, _ = covariance.shape
    scale = model.weight_scale(op).double().reshape(groups, -1, 1)
    limit = model.program.weight_limit // model.program.weight_step
    start = weight.double().reshape(groups, -1, inputs) * scale
    integers = _rounded(start, covariance, limit)
    weight.copy_(((integers + (start - integers).clamp(-EDGE, EDGE)) / scale).reshape(weight.shape))


def _covariance(op: Op, x: Tensor, weight: Tensor) -> Tensor:
    """Of the integers that the weights of a channel multiply, for each group: float64 [groups, inputs, inputs].

    Few samples tell little of many inputs. So the covariance gets `inputs / samples` of their mean variance on its
    diagonal, with which the weights of a classifier behind few images are rounded nearly each by itself.
    """
    groups = op.groups if isinstance(op, Conv) else 1
    products, total, count = torch.tensor(0.0), torch.tensor(0.0), 0
    for part in x.split(PART):
        samples = part[..., None]
        if isinstance(op, Conv):
            samples = F.unfold(part, weight.shape[2:], op.dilation, op.padding, op.stride)
        samples = samples.reshape(len(part), groups, -1, samples.shape[-1]).permute(1, 2, 0, 3).flatten(2)
        if not count:
            offset = samples.mean(2, keepdim=True)  # without it, float32 would lose small variances beside large means
        samples = samples - offset
        products = products + (samples @ samples.mT).double()
        total = total + samples.sum(2, dtype=torch.float64)
        count += samples.shape[2]
    mean = total / count
    covariance = products / count - mean[:, :, None] * mean[:, None]
    variance = covariance.diagonal(dim1=1, dim2=2).mean(1).clamp(min=1)
    damping = (DAMPING + covariance.shape[1] / count) * variance
    return covariance + damping[:, None, None] * torch.eye(covariance.shape[1], dtype=torch.float64, device=x.device)


def _rounded(weights: Tensor, covariance: Tensor, limit: int) -> Tensor:
    """Weights [groups, channels, inputs], in steps, as integers within [-limit, limit]; float64."""
    order = covariance.diagonal(dim1=1, dim2=2).argsort(dim=1, descending=True, stable=True)  # the loudest input first
    rows = order[:, :, None].expand_as(covariance)
    ordered = covariance.gather(1, rows).gather(2, rows.mT)
    columns = order[:, None].expand_as(weights)
    left = weights.gather(2, columns)
    root = torch.linalg.cholesky(ordered.flip(1, 2)).flip(1, 2)  # upper, and its inverse is the root of the inverse
    unit = torch.eye(ordered.shape[1], dtype=ordered.dtype, device=ordered.device)
    factor = torch.linalg.solve_triangular(root, unit.expand_as(root), upper=True)
    for i in range(left.shape[2]):
        error = left[:, :, i] - left[:, :, i].round().clamp(-limit, limit)
        left[:, :, i] -= error
        left[:, :, i + 1 :] -= (error / factor[:, i, i, None])[:, :, None] * factor[:, None, i, i + 1 :]
    return torch.empty_like(left).scatter_(2, columns, left)
