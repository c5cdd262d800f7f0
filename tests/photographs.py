"""What stands in for photographs: garments of the sample, at any place and size in pictures of many sizes.

They are no photographs: backgrounds are two colours in a gradient, with noise, and the garment has a third colour.
"""

import io
from pathlib import Path

import numpy as np
from PIL import Image
from project import REPOSITORY

from imagedb.images import decode_image
from imagedb.sources.torchvision import TorchvisionSource

CLASSES = ("Trouser", "Sneaker", "Bag")


def write_photographs(folder: Path, count: int, names: tuple[str, ...] = CLASSES, shortest: int = 200) -> None:
    """folder/<name>/<number>.jpg, `count` of each class, between `shortest` and three times as many pixels wide."""
    source = TorchvisionSource("FashionMNIST", REPOSITORY / "data" / "fashion_mnist", "train")
    left = dict.fromkeys(CLASSES, count)
    for number, item in enumerate(source):
        kind = source.class_names[item.label]
        if left.get(kind):
            left[kind] -= 1
            path = folder / names[CLASSES.index(kind)] / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(photograph(decode_image(item.image()), number, shortest))
        if not any(left.values()):
            break


def photograph(garment: Image.Image, seed: int, shortest: int) -> bytes:
    """A JPEG file with a garment of the sample somewhere in it, at 50 to 95 % of the short side."""
    random = np.random.default_rng(seed)
    width, height = random.integers(shortest, 3 * shortest // 2, 2) * random.permutation([1, random.choice([1, 2])])
    low, high = random.integers(100, 256, (2, 3))
    color = random.integers(0, 60, 3)
    ramp = np.linspace(0, 1, height)[:, None, None]
    pixels = low + (high - low) * ramp + random.normal(0, 12, (height, width, 3))
    side = int(min(width, height) * random.uniform(0.5, 0.95))
    large = garment.convert("L").resize((side, side), Image.Resampling.BICUBIC)
    alpha = np.asarray(large, float)[..., None] / 255
    top, left = random.integers(0, height - side + 1), random.integers(0, width - side + 1)
    part = pixels[top : top + side, left : left + side]
    part += (color - part) * alpha
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
