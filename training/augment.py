"""From a decoded picture to the pixels that a network sees, with and without random changes."""

import hashlib
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor
from torchvision.transforms import v2

from training.recipe import Augmentation, InputFormat

Transform = Callable[[Image], Tensor]


def train_transform(augmentation: Augmentation, input_format: InputFormat) -> Transform:
    """RGB picture to randomly changed pixels, uint8 [3, size, size]; draws from torch's global generator."""
    size = input_format.size
    steps: list[Callable] = []
    if augmentation.crop == "resized":
        steps.append(v2.RandomResizedCrop(size, scale=augmentation.crop_scale, ratio=augmentation.crop_ratio))
    else:
        steps.append(v2.RandomCrop(size, padding=augmentation.crop_padding, pad_if_needed=True))
    steps.append(v2.RandomHorizontalFlip(augmentation.flip))
    if any(augmentation.color_jitter):
        steps.append(v2.ColorJitter(*augmentation.color_jitter))
    return v2.Compose([*steps, ToPixels(input_format.color_space)])


def eval_transform(input_format: InputFormat) -> Transform:
    """RGB picture to its centre crop, uint8 [3, size, size], after resizing its short side if the format says so."""
    resize = [v2.Resize(input_format.resize)] if input_format.resize else []
    return v2.Compose([*resize, v2.CenterCrop(input_format.size), ToPixels(input_format.color_space)])


# JPEG's full-range BT.601 (ITU-T T.871, section 7), rounded, in the 16-bit fixed point of JPEG encoders; the half less
# one keeps 255.5 at 255. Pillow's own conversion rounds down, which makes grey 11 a Y of 10.
YCBCR = np.array([[19595, 38470, 7471], [-11059, -21709, 32768], [32768, -27439, -5329]], dtype=np.int32)
YCBCR_OFFSET = np.array([1 << 15, (128 << 16) + (1 << 15) - 1, (128 << 16) + (1 << 15) - 1], dtype=np.int32)


class ToPixels:
    """RGB picture to uint8 [3, H, W] in a colour space, "yuv444" or "rgb"."""

    def __init__(self, color_space: str):
        self.color_space = color_space

    def __call__(self, image: Image) -> Tensor:
        pixels = np.array(image)
        if self.color_space == "yuv444":
            pixels = (pixels.astype(np.int32) @ YCBCR.T + YCBCR_OFFSET >> 16).astype(np.uint8)
        return torch.from_numpy(pixels).permute(2, 0, 1)


def normalize(pixels: Tensor) -> Tensor:
    """What the network sees of uint8 pixels p: float32 (p - 128) / 128, exact."""
    return (pixels.float() - 128) / 128


def derive_seed(*parts: int) -> int:
    """A 63-bit seed that depends on every part, for example (seed, epoch, index)."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def seeded(*parts: int):
    """Within the block torch's CPU generator starts from `parts` alone; after it, it goes on as if untouched."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(derive_seed(*parts))
    try:
        yield
    finally:
        torch.set_rng_state(state)
