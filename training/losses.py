"""What training minimizes: a function of logits, targets and the network's input.

Logits are float32 [batch, classes]; targets are labels, int64 [batch], or, of mixed pictures, probabilities of classes,
float32 [batch, classes], which are smoothed already.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timm.loss import BinaryCrossEntropy
from torch import Tensor

LossOf = Callable[[Tensor, Tensor, Tensor], Tensor]


def label_loss(smoothing: float, kind: str = "cross_entropy", threshold: float | None = None) -> LossOf:
    """Mean over the pictures of the cross-entropy, or of the sum over the classes of the binary one, in nats.

    Args:
        smoothing: Share of a label that goes to all classes alike.
        kind: "cross_entropy" or "binary_cross_entropy".
        threshold: Of the binary one: probabilities above it count as 1, others as 0; None: as they are.
    """
    if kind == "binary_cross_entropy":
        binary = BinaryCrossEntropy(smoothing, threshold, sum_classes=True)
        return lambda logits, targets, x: binary(logits, targets)

    def cross_entropy(logits: Tensor, targets: Tensor, x: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, label_smoothing=smoothing if targets.dim() == 1 else 0)

    return cross_entropy


def distilled_loss(loss_of: LossOf, teacher: Callable[[Tensor], Tensor], weight: float, temperature: float) -> LossOf:
    """`1 - weight` parts of `loss_of` and `weight` parts of the divergence from what a teacher says of the same input.

    Hinton et al. 2015 (https://arxiv.org/abs/1503.02531), section 2: both softmaxes at `temperature`, the divergence
    times its square. Kullback and Leibler's has the gradient of the soft cross-entropy, and is 0 for equal logits.

    Args:
        loss_of: What the labels say.
        teacher: Logits of an input; gets no gradient.
        weight: 0 to 1.
        temperature: Above 0.
    """

    def loss(logits: Tensor, targets: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            target = (teacher(x).to(logits.dtype) / temperature).log_softmax(dim=1)
        own = (logits / temperature).log_softmax(dim=1)
        divergence = F.kl_div(own, target, reduction="batchmean", log_target=True)
        return (1 - weight) * loss_of(logits, targets, x) + weight * temperature**2 * divergence

    return loss
