"""Image files as batches of what a network sees, without a database and without labels."""

from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from imagedb.images import SUFFIXES
from pixels.augmentation import InputFormat
from pixels.batches import NO_LABEL, Batch
from pixels.draws import Draws
from pixels.render import render
from pixels.seeds import seeded_generator
from pixels.views import center_views
from storage.errors import InputError


class ImageFiles:
    """Images below a folder in a random order, always the same, so that the first few are of all its parts.

    Args:
        folder: The folder; hidden files and what is not named as an image are passed over.
        images: How many; of fewer, all.
        input_format: How the network sees them, as in validation.
        batch_size: Images in a batch.

    Attributes:
        found: How many images there are.
        files: Those that were taken.
        pixels: What the network sees of them, uint8 [images, 3, size, size].

    Raises:
        InputError: If the folder is none or holds no image, or an image cannot be decoded.
        OSError: If a file cannot be read.
    """

    def __init__(self, folder: Path, images: int, input_format: InputFormat, batch_size: int):
        if not folder.is_dir():
            raise InputError(f"{folder} is {'no folder' if folder.exists() else 'not there'}; name a folder of images")
        below = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        every = sorted(path for path in below if path.is_file() and not _is_hidden(path.relative_to(folder)))
        if not every:
            raise InputError(f"{folder} holds no images, which are named {', '.join(sorted(SUFFIXES))}")
        order = torch.randperm(len(every), generator=seeded_generator("image files", len(every)))
        self.found, self.batch_size = len(every), batch_size
        self.files = [every[index] for index in order[:images].tolist()]
        self.pixels = torch.stack([read_pixels(path, input_format) for path in self.files])

    def first(self, count: int | None) -> Self:
        """The first `count` of them, or all."""
        part = copy(self)
        part.files, part.pixels = self.files[:count], self.pixels[:count]
        return part

    def __iter__(self) -> Iterator[Batch]:
        for pixels in self.pixels.split(self.batch_size):
            yield pixels, torch.full((len(pixels),), NO_LABEL)

    def record(self, image: int) -> tuple[int, str]:
        """The number and the path of image number `image`."""
        return image, str(self.files[image])


def read_pixels(path: Path, input_format: InputFormat) -> Tensor:
    """The network's pixels of an image file, uint8 [3, size, size], as validation sees them.

    Raises:
        OSError: If the file cannot be read.
        InputError: If it is a folder, a pipe or a device, or not an image.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder; name images in it")
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    if not path.is_file():  # a pipe or a device may have no end
        raise InputError(f"{path} is not a regular file")
    try:
        return render(path.read_bytes(), center_views(input_format), input_format, Draws(0))
    except ValueError as error:
        raise InputError(f"{path}: {error}; leave it out") from None


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
