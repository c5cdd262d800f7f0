"""Tables of a confusion matrix: the classes, the worst classes, and as what each class is predicted."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

from storage.printable import printable

CONFUSED = 50  # most classes of a confusion matrix: those with the most mistakes
PRINTED = 10  # worst classes that are printed


class ClassRow(NamedTuple):
    """The scores of one class.

    Attributes:
        name: Name of the class.
        images: Number of images of the class.
        top1: Percentage of them that is predicted correctly; None if there are no images.
        predicted_as: The class that wrong predictions name most often; None if none is wrong.
        predicted_as_images: Number of images that are predicted as that class.
    """

    name: str
    images: int
    top1: float | None
    predicted_as: str | None
    predicted_as_images: int


CLASS_HEADER = ("class", "images", "top1", "taken_for", "taken_for_images")
CONFUSION_HEADER = ("class", "taken_for", "images")


def shown_names(names: Sequence[str]) -> list[str]:
    """Names for tables and plots: short, all different, and without <, which would be HTML in DVC's page of plots."""
    shown = [printable(name).replace("<", "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}") for name in names]
    often = Counter(shown)
    return [name if often[name] == 1 else f"{name} ({label})" for label, name in enumerate(shown)]


def class_rows(counts: Tensor, names: list[str]) -> list[ClassRow]:
    """A row for each class.

    Args:
        counts: Number of images of class i that are predicted as class j, int64 [classes, classes].
        names: Names of the classes, as `shown_names` gives them.
    """
    wrong = counts - counts.diag().diag()
    columns = counts.sum(dim=1), counts.diag(), wrong.argmax(dim=1), wrong.amax(dim=1)
    return [
        ClassRow(
            name, images, round(100 * correct / images, 4) if images else None, names[other] if most else None, most
        )
        for name, images, correct, other, most in zip(names, *(column.tolist() for column in columns), strict=True)
    ]


def worst_classes(rows: Sequence[ClassRow]) -> str:
    """A printed table of the classes with the lowest top-1."""
    known = [(row.top1, row) for row in rows if row.top1 is not None]
    worst = sorted(known, key=lambda pair: pair[0])[:PRINTED]
    width = max(len(row.name) for _, row in worst)
    lines = [
        f"{row.name:{width}}  {row.images:6}  {top1:7.2f}  "
        f"{f'{row.predicted_as} ({row.predicted_as_images})' if row.predicted_as else ''}".rstrip()
        for top1, row in worst
    ]
    return "\n".join([f"{'class':{width}}  images  top-1 %  most often predicted as", *lines])


def confusion_rows(counts: Tensor, names: list[str]) -> list[tuple[str, str, int]]:
    """Rows of class, predicted class, images, for the CONFUSED classes with the most mistakes; see `class_rows`."""
    wrong = counts - counts.diag().diag()
    mistakes = wrong.sum(dim=0) + wrong.sum(dim=1)
    most_confused = mistakes.argsort(descending=True, stable=True)[:CONFUSED].sort().values.tolist()
    return [(names[i], names[j], int(counts[i, j])) for i in most_confused for j in most_confused]
