"""Random operations on the pixels of training pictures, drawn from a given generator.

AutoAugment (https://arxiv.org/abs/1805.09501), RandAugment (https://arxiv.org/abs/1909.13719) and TrivialAugment
(https://arxiv.org/abs/2103.10158). Tables and operations are torchvision's; the draws are made here, since its own come
from the one generator that all threads share.
"""

from functools import cache
from typing import TYPE_CHECKING, TypeVar

import torch
from PIL import Image
from torch import Tensor

from pixels.augmentation import Augmentation

if TYPE_CHECKING:
    from torchvision.transforms.v2 import AutoAugment

Picture = TypeVar("Picture", Image.Image, Tensor)

GREY = 128  # 0 for the network, in RGB and in YUV
Operation = tuple[str, float]  # torchvision's name of it, and its signed magnitude


def draw_operations(augmentation: Augmentation, size: int, generator: torch.Generator) -> tuple[Operation, ...]:
    """What `augmentation.policy` does to a picture of size x size pixels, in order.

    The draws are those of torchvision's classes, one after the other, from `generator`.
    """
    if augmentation.policy is None:
        return ()
    space = _space(augmentation.policy, size)

    def integer(count: int) -> int:
        return int(torch.randint(count, (), generator=generator))

    def chance(probability: float) -> bool:
        return bool(torch.rand((), generator=generator) <= probability)

    def operation(name: str, step: int | None) -> Operation:
        magnitudes, signed = space[name]
        if not magnitudes:
            return name, 0.0
        magnitude = magnitudes[integer(len(magnitudes)) if step is None else step]
        return name, -magnitude if signed and chance(0.5) else magnitude

    if augmentation.policy == "auto_augment":
        pairs = _imagenet()._policies
        pair = pairs[integer(len(pairs))]
        return tuple(operation(name, step) for name, probability, step in pair if chance(probability))
    names, count, step = list(space), 1, None
    if augmentation.policy == "rand_augment":
        count, step = augmentation.policy_operations, augmentation.policy_magnitude
    return tuple(operation(names[integer(len(names))], step) for _ in range(count))


def apply_operations(picture: Picture, operations: tuple[Operation, ...]) -> Picture:
    """A picture after `operations`; grey is where a turn or a shift uncovers something.

    Args:
        picture: An RGB image of Pillow, or a tensor, uint8 [3, height, width], of which values may differ a little.
        operations: Of `draw_operations`.
    """
    for name, magnitude in operations:
        transform = _imagenet()
        picture = transform._apply_image_or_video_transform(
            picture, name, magnitude, transform.interpolation, transform._fill
        )
    return picture


@cache
def _imagenet() -> "AutoAugment":
    """AutoAugment's policy for ImageNet; torchvision takes a second to import, and many runs have no policy."""
    from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy, InterpolationMode

    return AutoAugment(AutoAugmentPolicy.IMAGENET, interpolation=InterpolationMode.BILINEAR, fill=GREY)


@cache
def _space(policy: str, size: int) -> dict[str, tuple[list[float], bool]]:
    """The magnitudes of each operation, none if it has no strength, and whether chance gives them a sign."""
    from torchvision.transforms.v2 import AutoAugment, RandAugment, TrivialAugmentWide

    transform, steps = {  # and the number of magnitudes that torchvision divides a range into
        "trivial_augment": (TrivialAugmentWide, 31),
        "rand_augment": (RandAugment, 31),
        "auto_augment": (AutoAugment, 10),
    }[policy]
    space = {}
    for name, (magnitudes_of, signed) in transform._AUGMENTATION_SPACE.items():
        magnitudes = magnitudes_of(steps, size, size)
        space[name] = ([] if magnitudes is None else magnitudes.tolist(), signed)
    return space
