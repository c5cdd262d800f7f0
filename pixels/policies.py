"""Random operations on the pixels of training images, drawn from a given generator.

AutoAugment (https://arxiv.org/abs/1805.09501), RandAugment (https://arxiv.org/abs/1909.13719) and TrivialAugment
(https://arxiv.org/abs/2103.10158). Tables and operations are torchvision's; the draws are made here, because
torchvision draws from one generator for all threads.
"""

from functools import cache
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from PIL import Image
from torch import Tensor

from pixels.augmentation import Augmentation
from pixels.draws import Draws

if TYPE_CHECKING:
    from torchvision.transforms.v2 import AutoAugment

AnyImage = TypeVar("AnyImage", Image.Image, Tensor)

GREY = 128  # the network's 0, in RGB and in YUV
Operation = tuple[str, float]  # torchvision's name, and the signed magnitude


def draw_operations(augmentation: Augmentation, size: int, draws: Draws) -> tuple[Operation, ...]:
    """Draw the operations of `augmentation.policy` on an image of size x size pixels, in order.

    The draws are those of torchvision's classes, in the same order.
    """
    if augmentation.policy is None:
        return ()
    space = _space(augmentation.policy, size)

    def chance(probability: float) -> bool:
        return bool(draws.uniform() <= np.float32(probability))

    def operation(name: str, step: int | None) -> Operation:
        magnitudes, signed = space[name]
        if not magnitudes:
            return name, 0.0
        magnitude = magnitudes[draws.integer(len(magnitudes)) if step is None else step]
        return name, -magnitude if signed and chance(0.5) else magnitude

    if augmentation.policy == "auto_augment":
        pairs = _imagenet()._policies
        pair = pairs[draws.integer(len(pairs))]
        return tuple(operation(name, step) for name, probability, step in pair if chance(probability))
    names, count, step = list(space), 1, None
    if augmentation.policy == "rand_augment":
        count, step = augmentation.policy_operations, augmentation.policy_magnitude
    return tuple(operation(names[draws.integer(len(names))], step) for _ in range(count))


def apply_operations(image: AnyImage, operations: tuple[Operation, ...]) -> AnyImage:
    """An image after `operations`; what a rotation or a shift uncovers is grey.

    Args:
        image: An RGB image of Pillow, or a tensor, uint8 [3, height, width], whose results may differ a little.
        operations: The result of `draw_operations`.
    """
    for name, magnitude in operations:
        transform = _imagenet()
        image = transform._apply_image_or_video_transform(
            image, name, magnitude, transform.interpolation, transform._fill
        )
    return image


@cache
def _imagenet() -> "AutoAugment":
    """AutoAugment's policy for ImageNet; its import takes a second, and many runs have no policy."""
    from torchvision.transforms.v2 import AutoAugment, AutoAugmentPolicy, InterpolationMode

    return AutoAugment(AutoAugmentPolicy.IMAGENET, interpolation=InterpolationMode.BILINEAR, fill=GREY)


@cache
def _space(policy: str, size: int) -> dict[str, tuple[list[float], bool]]:
    """For each operation its magnitudes, none if it has no strength, and whether it has a random sign."""
    from torchvision.transforms.v2 import AutoAugment, RandAugment, TrivialAugmentWide

    transform, steps = {  # with the number of magnitudes in a range
        "trivial_augment": (TrivialAugmentWide, 31),
        "rand_augment": (RandAugment, 31),
        "auto_augment": (AutoAugment, 10),
    }[policy]
    space = {}
    for name, (magnitudes_of, signed) in transform._AUGMENTATION_SPACE.items():
        magnitudes = magnitudes_of(steps, size, size)
        space[name] = ([] if magnitudes is None else magnitudes.tolist(), signed)
    return space
