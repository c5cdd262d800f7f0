"""Which part of an image a network sees, and where: a random part in training, the centre in validation."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache, partial

import torch

from pixels.augmentation import Augmentation, InputFormat
from pixels.draws import Draws
from pixels.extra import Change, Extra
from pixels.policies import Operation, draw_operations
from storage.errors import InputError

Box = tuple[float, float, float, float]
Rectangle = tuple[int, int, int, int]


@dataclass(frozen=True)
class View:
    """A part of an image that is resampled to a part of the network's input; the rest of the input is black.

    Attributes:
        box: left, top, right, bottom of the part, in pixels of the image.
        clipped: whether pixels outside the box have no influence, as if the image were cropped before resampling.
        target: left, top, width, height in pixels of the input.
        flip: whether left and right are exchanged.
        jitter: factors of brightness, contrast and saturation, and rotation of the hue in turns; None: no change.
        reduce: 1, 2, 4 or 8; a JPEG file may be decoded at 1 / reduce of its size first.
        operations: operations of a policy on the RGB pixels, after resampling and jitter.
        extra: a change by code of the user's own on the RGB pixels after these operations; None: none.
        erase: left, top, width, height of the rectangle that becomes grey at the end; None: none.
        cubic: whether the filter of the resampling is cubic, and not linear.
    """

    box: Box
    clipped: bool
    target: Rectangle
    flip: bool = False
    jitter: tuple[float, float, float, float] | None = None
    reduce: int = 1
    operations: tuple[Operation, ...] = ()
    extra: Extra | None = None
    erase: Rectangle | None = None
    cubic: bool = False

    @property
    def changes_rgb(self) -> bool:
        """Whether there are changes of the RGB pixels after resampling and jitter."""
        return bool(self.operations) or self.extra is not None


Views = Callable[[int, int, Draws], View]  # of the width and height of an image


def random_views(
    augmentation: Augmentation, input_format: InputFormat, size: int | None = None, change: Change | None = None
) -> Views:
    """Random views for training, as `augmentation` describes them.

    A padded crop is taken from the image as `center_views` resizes it, so that objects have the same size in training
    and validation; with another `size` than the input's, everything is smaller or larger in proportion.

    The draws of crop and flip are those of torchvision's v2 RandomResizedCrop, RandomCrop (with pad_if_needed) and
    RandomHorizontalFlip, in this order and from the same seed. The factors of ColorJitter follow, then the policy
    and RandomErasing, both again drawn as in torchvision, and at last the seed of `change`.

    Args:
        augmentation: The random changes.
        input_format: The network's input.
        size: Height and width of the pixels; None: the input's.
        change: That of `augmentation.extra`, if there is one.

    Raises:
        InputError: if a padded crop could lie outside the image.
    """
    padding = augmentation.crop_padding
    if augmentation.crop == "padded" and padding >= input_format.size:
        raise InputError(f"crop_padding {padding} is not allowed, must be below the input's size {input_format.size}")
    return partial(_random_view, augmentation, input_format, size or input_format.size, change)


def _random_view(
    augmentation: Augmentation,
    input_format: InputFormat,
    size: int,
    change: Change | None,
    width: int,
    height: int,
    draws: Draws,
) -> View:
    if augmentation.crop == "resized":
        box, (left, top, across, down) = _resized_crop(augmentation, size, width, height, draws)
    else:
        scale = Fraction(size, input_format.size)
        resized = [int(side * scale) or 1 for side in _resized(input_format, width, height)]
        padding = int(augmentation.crop_padding * scale)
        box, (left, top, across, down) = _padded_crop(padding, size, resized, (width, height), draws)
    flip = draws.chance(augmentation.flip)
    jitter = None
    if any(augmentation.color_jitter):
        shifts = [strength * (2 * draws.uniform() - 1) for strength in augmentation.color_jitter]
        jitter = (1 + shifts[0], 1 + shifts[1], 1 + shifts[2], shifts[3])
    target = (size - left - across if flip else left, top, across, down)
    ratio = min((box[2] - box[0]) / across, (box[3] - box[1]) / down)
    reduce = next(r for r in (8, 4, 2, 1) if r <= max(ratio, 1))
    operations = draw_operations(augmentation, size, draws)
    erase = _erased(augmentation, size, draws)
    extra = Extra(change, draws.integer(2**32)) if change else None
    return View(box, True, target, flip, jitter, reduce, operations, extra, erase, _is_cubic(input_format))


def center_views(input_format: InputFormat) -> Views:
    """The centre size x size pixels of the image, whose short side is first resized to `resize` unless that is None.

    Sizes and positions are rounded as in torchvision's Resize and CenterCrop.
    """
    return partial(_center_view, input_format)


def _center_view(input_format: InputFormat, width: int, height: int, draws: Draws | None = None) -> View:
    size, resized = input_format.size, _resized(input_format, width, height)
    left, top = (_center(whole, size) for whole in resized)
    return replace(_place((left, top), size, resized, (width, height)), cubic=_is_cubic(input_format))


def _is_cubic(input_format: InputFormat) -> bool:
    return input_format.resample == "bicubic"


def _resized(input_format: InputFormat, width: int, height: int) -> tuple[int, int]:
    """The width and height after the short side is resized."""
    if not input_format.resize:
        return width, height
    long = int(input_format.resize * max(width, height) / min(width, height))
    return (input_format.resize, long) if width <= height else (long, input_format.resize)


def _center(whole: int, part: int) -> int:
    return round((whole - part) / 2) if whole >= part else -((part - whole) // 2)


def _place(corner: tuple[int, int], size: int, resized: Sequence[int], image: tuple[int, int]) -> View:
    """The size x size pixels at `corner` of an image of size `image` after resizing it to `resized`; all (x, y)."""
    box, target = [], []
    for start, whole, original in zip(corner, resized, image, strict=True):
        first, last = max(start, 0), min(start + size, whole)
        box.append((first * original / whole, last * original / whole))
        target.append((first - start, last - first))
    (left, right), (top, bottom) = box
    return View((left, top, right, bottom), False, (target[0][0], target[1][0], target[0][1], target[1][1]))


def _resized_crop(
    augmentation: Augmentation, size: int, width: int, height: int, draws: Draws
) -> tuple[Box, Rectangle]:
    for _ in range(10):
        area = width * height * draws.uniform(*augmentation.crop_scale)
        ratio = _ratio(augmentation.crop_ratio, draws)
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            top = draws.integer(height - down + 1)
            left = draws.integer(width - across + 1)
            break
    else:  # the centre, with the nearest allowed ratio
        low, high = augmentation.crop_ratio
        across, down = width, height
        if width / height < low:
            down = round(width / low)
        elif width / height > high:
            across = round(height * high)
        top, left = (height - down) // 2, (width - across) // 2
    return (left, top, left + across, top + down), (0, 0, size, size)


def _padded_crop(
    padding: int, size: int, resized: Sequence[int], image: tuple[int, int], draws: Draws
) -> tuple[Box, Rectangle]:
    corner = []
    for whole in reversed(resized):
        margin = padding + max(0, size - whole - 2 * padding)
        room = whole + 2 * margin - size
        corner.append((draws.integer(room + 1) if room > 0 else 0) - margin)
    view = _place((corner[1], corner[0]), size, resized, image)
    return view.box, view.target


def _erased(augmentation: Augmentation, size: int, draws: Draws) -> Rectangle | None:
    """Random erasing (https://arxiv.org/abs/1708.04896) with torchvision's ranges of areas and ratios."""
    if not augmentation.erase or not draws.chance(augmentation.erase):
        return None
    for _ in range(10):
        area = size * size * draws.uniform(0.02, 0.33)
        ratio = _ratio((0.3, 3.3), draws)
        down, across = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if down < size and across < size:
            top = draws.integer(size - down + 1)
            return draws.integer(size - across + 1), top, across, down
    return None


@cache
def _logarithms(values: tuple[float, float]) -> tuple[float, float]:
    low, high = torch.log(torch.tensor(values)).tolist()
    return low, high


def _ratio(bounds: tuple[float, float], draws: Draws) -> float:
    """A random number whose logarithm is uniform between those of `bounds`."""
    return torch.scalar_tensor(draws.uniform(*_logarithms(bounds))).exp().item()
