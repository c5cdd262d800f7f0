"""Whether what the network sees fits the images: a person would see it at once, and training does not.

It only warns; `pipeline.code` leaves it out of the code that results depend on.
"""

import sys
from collections.abc import Collection, Iterator, Mapping
from math import floor
from statistics import median

from imagedb.reader import ImageDatabase
from imagedb.sizes import Size, sizes_of
from pipeline.params import Params

LOOKED_AT = 1000  # images of a database
LEAST = 1 / 5  # of an image's area that the network should see
USUAL = 224 / 256  # part of the resized short side that a centre crop is
FAR = 4  # times the input's side: images of which the network sees little detail
SMALL, LARGE = 48, 128  # pixels of the short side: photographs have more than SMALL if their sizes differ, or LARGE


def warn_of_views(database: ImageDatabase, params: Params) -> None:
    """Say on stderr, one line each, what of the images the network's view does not fit, and which parameters to set."""
    for warning in unfitting(dict(sizes_of(database, LOOKED_AT)), params):
        print(f"warning: {warning}", file=sys.stderr)


def resize_for(size: int, crop: float = USUAL) -> int:
    """The short side before a centre crop of `size` pixels that is this part of it, rounded down as timm does."""
    return floor(size / crop + 1e-6)


def short_side(sizes: Collection[Size]) -> int:
    """The median of the short sides, in pixels."""
    return int(median(map(min, sizes)))


def photographs(sizes: Collection[Size]) -> bool:
    """Whether images are photographs, in which objects are anywhere and of any size, judged by their sizes alone."""
    return short_side(sizes) >= (SMALL if len({*sizes}) > 1 else LARGE)


def seen(image: Size, size: int, resize: int | None) -> float:
    """The share of an image's area that is in the centre crop of `size` pixels after its short side is resized."""
    scale = resize / min(image) if resize else 1
    across, down = (min(1.0, size / (scale * side)) for side in image)
    return across * down


def unfitting(sizes: Mapping[str, Size], params: Params) -> Iterator[str]:
    """What of images of these sizes the network's view does not fit."""
    size, resize = params.input.size, params.input.resize
    cut = {name: image for name, image in sizes.items() if seen(image, size, resize) < LEAST}
    if cut:
        name, (width, height) = min(cut.items(), key=lambda item: seen(item[1], size, resize))
        text = f"the network sees less than a fifth of {len(cut)} of {len(sizes)} images, such as {name} "
        text += f"({width} x {height} pixels): "
        smaller = resize_for(size)
        mended = any(seen(image, size, smaller) >= LEAST for image in cut.values())
        yield text + (f"set input.resize to {smaller}" if mended else "they are long, so cut them or leave them out")
    if resize is not None and resize < size:
        yield (
            f"input.resize {resize} is below input.size {size}, so the network sees a border around each image: set "
            f"input.resize to {resize_for(size)}, or to {size} for the whole short side"
        )
    side = short_side(sizes.values())
    if side >= FAR * size:
        yield (
            f"half of the images have a short side of {side} pixels or more, and the network sees {size} of them: set "
            f"input.size if details matter, or pack.encoding to {{type: resized, size: {2 * size}}} to load faster"
        )
    blocks = {"augment": params.augment, "qat.augment": params.qat.augment}
    padded = [f"{block}.crop" for block, augment in blocks.items() if augment.crop == "padded"]
    if padded and photographs(sizes.values()):
        keys = " and ".join(padded)
        yield f"the images seem to be photographs, which a padded crop hardly changes: set {keys} to resized"
