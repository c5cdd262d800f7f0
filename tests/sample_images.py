"""Synthetic images for tests, and Pillow's results for them."""

import io

import numpy as np
from PIL import Image

from pixels.native import render_views
from pixels.views import View


def view_pixels(image: bytes | np.ndarray, view: View, size: int, colors: tuple | None = None) -> np.ndarray:
    """A view of one image, uint8 [3, size, size]."""
    out = np.empty((1, 3, size, size), np.uint8)
    render_views([image], [view], [colors], size, out)
    return out[0]


def photo(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Soft waves of colour, uint8 [height, width, 3], with hardly any values at the ends of the range."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(width, height)
    waves = random.uniform(-12, 12, (3, 4, 3))
    values = [sum(np.sin(across * x + down * y + phase) for across, down, phase in channel) for channel in waves]
    return np.clip(128 + 28 * np.stack(values, axis=-1), 0, 255).astype(np.uint8)


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    """Random pixels, uint8 [height, width, 3], none of them black."""
    return np.random.default_rng(seed).integers(1, 256, (height, width, 3), np.uint8)


def encode(pixels: np.ndarray | Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode_planes(jpeg: bytes) -> np.ndarray:
    """The YCbCr pixels that Pillow decodes, uint8 [height, width, 3]; grey files get neutral chroma."""
    file = Image.open(io.BytesIO(jpeg))
    file.draft("YCbCr", file.size)
    if file.mode == "L":
        file = Image.merge("YCbCr", [file, *[Image.new("L", file.size, 128)] * 2])
    return np.asarray(file)


def resize(pixels: np.ndarray, width: int, height: int, cubic: bool = False) -> np.ndarray:
    """Pillow's resize of uint8 [h, w, 3], rows first; since version 13 Pillow may begin with the columns."""
    kind = Image.BICUBIC if cubic else Image.BILINEAR
    image = Image.fromarray(pixels).resize((width, pixels.shape[0]), kind)
    return np.asarray(image.resize((width, height), kind))


def look(pixels: np.ndarray, view: View, size: int, black: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    """A clipped view by cropping, resizing, flipping and padding in sequence, uint8 [size, size, 3]."""
    x, y, right, bottom = (int(edge) for edge in view.box)
    left, top, width, height = view.target
    part = resize(np.ascontiguousarray(pixels[y:bottom, x:right]), width, height, view.cubic)
    out = np.full((size, size, 3), black, np.uint8)
    out[top : top + height, left : left + width] = part[:, ::-1] if view.flip else part
    return out


def difference(left, right) -> np.ndarray:
    """The absolute difference of two images, without wrapping around."""
    return np.abs(np.asarray(left).astype(float) - np.asarray(right).astype(float))
