"""Scores of a classifier from its logits."""

from collections.abc import Callable, Iterable
from typing import NotRequired, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from storage.errors import InputError


class NotFinite(InputError):
    """A loss, a logit or a weight is NaN or infinite."""


class Scores(TypedDict):
    """`top1` and `top5` in percent, cross-entropy `loss` in nats, number of images, and if counted how many tie."""

    top1: float
    top5: float
    loss: float
    images: int
    ties: NotRequired[int]


@torch.no_grad()
def predict(logits_of: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Logits float32 [images, classes] and labels int64 [images], in order, from uint8 batches."""
    logits, labels = zip(*((logits_of(pixels).float().cpu(), label) for pixels, label in batches), strict=True)
    return torch.cat(logits), torch.cat(labels)


def score(logits: Tensor, labels: Tensor) -> Scores:
    """The scores of a classifier.

    The loss has four decimals, in which ONNX Runtime's float kernels agree on different processors. Of equal logits,
    which are common in integer models, the lower class ranks first.

    Args:
        logits: float32 [images, classes].
        labels: int64 [images].

    Raises:
        NotFinite: If a logit is not finite, because NaN would rank first.
    """
    _check_finite(logits)
    own = logits.gather(1, labels[:, None])
    before = torch.arange(logits.shape[1]) < labels[:, None]
    rank = ((logits > own) | ((logits == own) & before)).sum(dim=1)
    return {
        "top1": round(float((rank < 1).double().mean()) * 100, 4),
        "top5": round(float((rank < 5).double().mean()) * 100, 4),
        "loss": round(float(F.cross_entropy(logits.double(), labels)), 4),
        "images": len(labels),
    }


def ranked(logits: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The probabilities and the labels of the `count` most likely classes of each image.

    Args:
        logits: float32 [images, classes]; of equal ones the lower class ranks first, as in `score`.
        count: Number of classes; all if there are fewer.

    Returns:
        Probabilities, float64 [images, count], and labels, int64 [images, count].

    Raises:
        NotFinite: If a logit is not finite.
    """
    _check_finite(logits)
    classes = logits.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return logits.double().softmax(dim=1).gather(1, classes), classes


def hardest(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The indices of the `count` images with the largest cross-entropy, in descending order, int64.

    Of equal losses, to four decimals of a nat as in `score`, the lower index comes first.
    """
    losses = F.cross_entropy(logits.double(), labels, reduction="none").round(decimals=4)
    return losses.argsort(descending=True, stable=True)[:count]


def tied(logits: Tensor) -> int:
    """The number of images whose two largest logits, of float32 [images, classes], are equal."""
    best = logits.topk(2, dim=1).values
    return int((best[:, 0] == best[:, 1]).sum())


def confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """The number of images of class i that are predicted as class j, int64 [classes, classes].

    Args:
        logits: float32 [images, classes]; of equal ones the lower class counts, as in `score`.
        labels: int64 [images].
    """
    classes = logits.shape[1]
    return (labels * classes + logits.argmax(dim=1)).bincount(minlength=classes**2).reshape(classes, classes)


def _check_finite(logits: Tensor) -> None:
    if not logits.isfinite().all():
        raise NotFinite("the network gives logits that are not finite")
