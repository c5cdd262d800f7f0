"""Losses of training, functions of logits, targets and the network's input.

Logits are float32 [batch, classes]. Targets are labels, int64 [batch], or for mixed images the probabilities of the
classes, float32 [batch, classes], already smoothed.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy
from torch import Tensor

LossOf = Callable[[Tensor, Tensor, Tensor], Tensor]


def label_loss(smoothing: float, kind: str = "cross_entropy", threshold: float | None = None) -> LossOf:
    """The mean over the images of the cross-entropy, or of the binary cross-entropy summed over classes, in nats.

    Args:
        smoothing: Fraction of a label that is spread evenly over all classes.
        kind: "cross_entropy" or "binary_cross_entropy".
        threshold: For "binary_cross_entropy": target probabilities above it count as 1, others as 0; None: unchanged.
    """
    if kind == "binary_cross_entropy":
        binary = BinaryCrossEntropy(smoothing, threshold, sum_classes=True)
        return lambda logits, targets, x: binary(logits, targets)

    def cross_entropy(logits: Tensor, targets: Tensor, x: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing if targets.dim() == 1 else 0)

    return cross_entropy


def distilled_loss(loss_of: LossOf, teacher: Callable[[Tensor], Tensor], weight: float, temperature: float) -> LossOf:
    """`(1 - weight) * loss_of + weight * divergence` from a teacher's probabilities for the same input.

    Hinton et al. 2015 (https://arxiv.org/abs/1503.02531), section 2: both softmaxes use `temperature`, and the
    divergence is multiplied by its square. The Kullback-Leibler divergence has the gradient of the soft cross-entropy,
    and is 0 for equal logits.

    Args:
        loss_of: The loss from the labels.
        teacher: Gives the logits of an input, without gradients.
        weight: Weight of the teacher, 0 to 1.
        temperature: Temperature of the softmaxes, above 0.
    """

    def loss(logits: Tensor, targets: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            target = (teacher(x).to(logits.dtype) / temperature).log_softmax(dim=1)
        own = (logits / temperature).log_softmax(dim=1)
        divergence = F.kl_div(own, target, reduction="batchmean", log_target=True)
        return (1 - weight) * loss_of(logits, targets, x) + weight * temperature**2 * divergence

    return loss
