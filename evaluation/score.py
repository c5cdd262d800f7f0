"""Scores of a classifier from its logits."""

from collections.abc import Callable, Iterable
from typing import NotRequired, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor


class NotFinite(ValueError):
    """A loss, a logit or a weight is NaN or infinite."""


class Scores(TypedDict):
    """`top1` and `top5` in percent, cross-entropy `loss` in nats, number of images, and perhaps how many are `tied`."""

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

    The loss has four decimals, which ONNX Runtime's float kernels for different processors agree on.

    Of equal logits, which integer models do have, the lower class comes first.

    Args:
        logits: float32 [images, classes].
        labels: int64 [images].

    Raises:
        NotFinite: If a logit is not finite: NaN would rank before everything.
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
    """The `count` likeliest classes of each image (all, if there are fewer), and before them their probabilities.

    Args:
        logits: float32 [images, classes]; of equal ones the lower class comes first, as in `score`.
        count: How many.

    Returns:
        float64 and int64 [images, count].

    Raises:
        NotFinite: If a logit is not finite.
    """
    _check_finite(logits)
    classes = logits.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return logits.double().softmax(dim=1).gather(1, classes), classes


def hardest(logits: Tensor, labels: Tensor, count: int) -> Tensor:
    """The numbers of the `count` images with the greatest cross-entropy, that one first: int64.

    Of equal ones, to four decimals of a nat as in `score`, the lower number comes first.
    """
    losses = F.cross_entropy(logits.double(), labels, reduction="none").round(decimals=4)
    return losses.argsort(descending=True, stable=True)[:count]


def tied(logits: Tensor) -> int:
    """How many images have two best logits that are equal, of float32 [images, classes]."""
    best = logits.topk(2, dim=1).values
    return int((best[:, 0] == best[:, 1]).sum())


def confusion(logits: Tensor, labels: Tensor) -> Tensor:
    """How many images of class i are taken for class j: int64 [classes, classes].

    Args:
        logits: float32 [images, classes]; of equal ones the lower class counts, as in `score`.
        labels: int64 [images].
    """
    classes = logits.shape[1]
    return (labels * classes + logits.argmax(dim=1)).bincount(minlength=classes**2).reshape(classes, classes)


def _check_finite(logits: Tensor) -> None:
    if not logits.isfinite().all():
        raise NotFinite("the network gives logits that are not finite")
