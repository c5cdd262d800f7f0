"""Where two forms of a model disagree, and how far a form's probabilities can be relied on."""

from typing import NamedTuple

import torch
from torch import Tensor

from evaluation.score import ranked

BINS = 10  # of the probability of the likeliest class
NAMED = 50  # most pairs of classes that are named
RELIABILITY_HEADER = ("form", "confidence", "top1", "images")
DISAGREEMENT_HEADER = ("float", "integer", "images", "float_right", "integer_right")


class Reliability(NamedTuple):
    """Images whose likeliest class has a probability in one tenth; mean probability and top-1 in percent."""

    confidence: float
    top1: float
    images: int


def reliability(logits: Tensor, labels: Tensor) -> list[Reliability]:
    """Each tenth of the probability of the likeliest class that has images (Guo et al. 2017, arXiv:1706.04599).

    Args:
        logits: float32 [images, classes].
        labels: int64 [images].
    """
    probability, predicted = (each[:, 0] for each in ranked(logits, 1))
    tenth = (probability * BINS).long().clamp(max=BINS - 1)
    right = (predicted == labels).double()
    return [
        Reliability(
            round(100 * float(probability[inside].mean()), 2), round(100 * float(right[inside].mean()), 4), count
        )
        for inside in (tenth == number for number in range(BINS))
        if (count := int(inside.sum()))
    ]


def disagreeing(left: Tensor, right: Tensor) -> Tensor:
    """The images that two forms predict as different classes, int64; first those of which the left one is surest.

    Of equal probabilities, to four decimals, the lower index comes first.

    Args:
        left, right: Logits float32 [images, classes].
    """
    (probability, mine), (_, theirs) = (ranked(logits, 1) for logits in (left, right))
    differ = (mine != theirs)[:, 0].nonzero()[:, 0]
    return differ[probability[differ, 0].round(decimals=4).argsort(descending=True, stable=True)]


def disagreement_rows(left: Tensor, right: Tensor, labels: Tensor, names: list[str]) -> list[tuple]:
    """Rows of both predicted classes, images, and how often the left and the right form are right; most images first.

    Args:
        left, right: Logits float32 [images, classes].
        labels: int64 [images].
        names: Names of the classes, as `evaluation.classes.shown_names` gives them.
    """
    differ = disagreeing(left, right)
    pairs = torch.stack([ranked(logits, 1)[1][differ, 0] for logits in (left, right)], dim=1)
    classes, pair_of, counts = pairs.unique(dim=0, return_inverse=True, return_counts=True)
    rows = []
    for number in counts.argsort(descending=True, stable=True)[:NAMED].tolist():
        own = labels[differ[pair_of == number]]
        is_right = (int((own == label).sum()) for label in classes[number])
        rows.append((*(names[label] for label in classes[number].tolist()), int(counts[number]), *is_right))
    return rows
