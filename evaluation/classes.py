"""Tables of a confusion matrix: each class by itself, the worst ones, and which are taken for which."""

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor

CONFUSED = 50  # classes of a confusion matrix at most: those with the most mistakes
PRINTED = 10  # of the worst classes


class ClassRow(NamedTuple):
    """A class; None where there are no images of it, or no mistakes.

    Attributes:
        name: Of the class.
        images: How many are of it.
        top1: Share of them that is recognized, in percent.
        taken_for: The class that it is most often taken for.
        taken_for_images: How many of its images are.
    """

    name: str
    images: int
    top1: float | None
    taken_for: str | None
    taken_for_images: int


CLASS_HEADER = ("class", *ClassRow._fields[1:])
CONFUSION_HEADER = ("class", "taken_for", "images")


def class_rows(counts: Tensor, names: list[str]) -> list[ClassRow]:
    """A row for each class.

    Args:
        counts: Images of class i that are taken for class j, int64 [classes, classes].
        names: Of the classes.
    """
    wrong = counts - counts.diag().diag()
    columns = counts.sum(dim=1), counts.diag(), wrong.argmax(dim=1), wrong.amax(dim=1)
    return [
        ClassRow(
            name, images, round(100 * right / images, 4) if images else None, names[other] if taken else None, taken
        )
        for name, images, right, other, taken in zip(names, *(column.tolist() for column in columns), strict=True)
    ]


def worst_classes(rows: Sequence[ClassRow]) -> str:
    """The classes with the lowest top-1 as a table for people."""
    known = [(row.top1, row) for row in rows if row.top1 is not None]
    worst = sorted(known, key=lambda pair: pair[0])[:PRINTED]
    width = max(len(row.name) for _, row in worst)
    lines = [
        f"{row.name:{width}}  {row.images:6}  {top1:7.2f}  "
        f"{f'{row.taken_for} ({row.taken_for_images})' if row.taken_for else ''}".rstrip()
        for top1, row in worst
    ]
    return "\n".join([f"{'class':{width}}  images  top-1 %  most often taken for", *lines])


def confusion_rows(counts: Tensor, names: list[str]) -> list[tuple[str, str, int]]:
    """Class, class it is taken for, images; of many classes, those with the most mistakes. `counts` as above."""
    wrong = counts - counts.diag().diag()
    mistakes = wrong.sum(dim=0) + wrong.sum(dim=1)
    kept = mistakes.argsort(descending=True, stable=True)[:CONFUSED].sort().values.tolist()
    return [(names[i], names[j], int(counts[i, j])) for i in kept for j in kept]
