"""What training minimizes: a function of logits [batch, classes], labels [batch] and the network's input."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LossOf = Callable[[Tensor, Tensor, Tensor], Tensor]


def label_loss(smoothing: float) -> LossOf:
    """Mean cross-entropy in nats against smoothed labels."""
    return lambda logits, labels, x: F.cross_entropy(logits, labels, label_smoothing=smoothing)


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

    def loss(logits: Tensor, labels: Tensor, x: Tensor) -> Tensor:
        with torch.no_grad():
            target = (teacher(x) / temperature).log_softmax(dim=1)
        own = (logits / temperature).log_softmax(dim=1)
        divergence = F.kl_div(own, target, reduction="batchmean", log_target=True)
        return (1 - weight) * loss_of(logits, labels, x) + weight * temperature**2 * divergence

    return loss
