"""What the images of a source look like, before they are packed: sizes, colours, copies, damage."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from PIL import Image

from imagedb.images import SUFFIXES, inspect_image
from imagedb.parallel import ordered_map
from imagedb.sizes import Size
from imagedb.sources.source import IndexedSource, Source, SourceImage
from storage.errors import InputError

DECODED = 2000  # images of a source, evenly spaced; of an archive, the first ones
GREY = 8  # difference between channels that the eye does not see


@dataclass(frozen=True)
class Look:
    """One image of a source.

    Attributes:
        name, label: as the source has them.
        digest: of its bytes; empty if it cannot be read or is damaged.
        size: in pixels; None if it is damaged, or one of those that are not decoded.
        grey: whether its pixels are.
        notes: as `inspect_image` gives them.
        problem: what is damaged.
    """

    name: str
    label: int
    digest: bytes = b""
    size: Size | None = None
    grey: bool = False
    notes: tuple[str, ...] = ()
    problem: str | None = None

    @property
    def format(self) -> str:
        """What its suffix stands for, such as "JPEG"."""
        return SUFFIXES.get("." + self.name.lower().rpartition(".")[2], "")


def look(source: Source, workers: int, progress: Callable[[], object]) -> list[Look]:
    """Look at the images of a source with labels.

    Args:
        workers: threads that decode, without effect on the result.
        progress: called after each image.

    Raises:
        InputError, OSError: if the source is damaged or cannot be read; what is wrong with one image is in its `Look`.
    """
    indexed = isinstance(source, IndexedSource)
    every = -(-len(source) // DECODED) if isinstance(source, IndexedSource) else 1
    looks = []
    numbered = enumerate(source.images() if indexed else islice(source.images(), DECODED))
    for each in ordered_map(lambda item: _look(item[1], item[0] % every == 0), numbered, workers):
        looks.append(each)
        progress()
    return looks


def _look(image: SourceImage, decode: bool) -> Look:
    assert image.label is not None
    seen = Look(image.name, image.label)
    try:
        data = image.image() if callable(image.image) else image.image
        seen = replace(seen, digest=hashlib.sha256(data).digest())
        if not decode:
            return seen
        pixels, notes = inspect_image(data, image.name)
    except (InputError, OSError) as error:
        return replace(seen, digest=b"", problem=str(error))
    few = np.asarray(pixels.resize((32, 32), Image.Resampling.BOX), np.int16)
    return replace(seen, size=pixels.size, grey=bool(np.ptp(few, axis=2).max() <= GREY), notes=tuple(notes))


def copies(looks: list[Look], others: list[Look]) -> list[tuple[Look, Look]]:
    """The images whose bytes are those of one of the `others`, and the first one of these."""
    first: dict[bytes, Look] = {}
    for each in others:
        if each.digest:
            first.setdefault(each.digest, each)
    return [(each, first[each.digest]) for each in looks if each.digest in first]
