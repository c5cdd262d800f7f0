"""A few images of a database, as many of each class as of any other.

Evenly spaced records would not do: of a database that goes through its classes in turn, they may all be of one class.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from imagedb.reader import ImageDatabase
from pixels.seeds import seeded_generator

LOOKED_AT = 10  # records for each image that is drawn, at most: a rare class is not searched for in the whole database


@dataclass(frozen=True)
class Drawn:
    """Records of a database.

    Attributes:
        indices: Their numbers, in order.
        asked: How many were asked for.
        counts: How many there are of each class that is among them.
    """

    indices: list[int]
    asked: int
    counts: Sequence[int]

    def __str__(self) -> str:
        fewer = f" (all there are; {self.asked} were asked for)" if len(self.indices) < self.asked else ""
        images = f"{len(self.indices)} image{'s' * (len(self.indices) > 1)}{fewer}"
        if len(self.counts) == 1:
            return f"{images} of 1 class"
        between = " or " if max(self.counts) - min(self.counts) == 1 else " to "
        each = between.join(str(count) for count in sorted({min(self.counts), max(self.counts)}))
        return f"{images} of {len(self.counts)} classes, {each} each"


def draw(database: ImageDatabase, images: int) -> Drawn:
    """Draw records at random, by a seed that the contents of the database give, and classes in turn.

    Args:
        database: A database with labels.
        images: How many; of a smaller database, all are drawn.
    """
    order = torch.randperm(len(database), generator=seeded_generator("draw", database.header.digest)).tolist()
    enough, left = -(-images // len(database.class_names)), len(database.class_names)
    seen: Counter[int | None] = Counter()
    ranked = []  # the first of each class, the second of each, and so on
    for position, index in enumerate(order if images >= len(order) else order[: LOOKED_AT * images]):
        if not left:
            break
        label = next(iter(database[index].labels), None)  # of an annotated record, that of its first object
        ranked.append((seen[label], position, index, label))
        seen[label] += 1
        left -= seen[label] == enough
    chosen = sorted(ranked)[:images]
    return Drawn(sorted(index for *_, index, _ in chosen), images, [*Counter(label for *_, label in chosen).values()])
