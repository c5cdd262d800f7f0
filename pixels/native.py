"""The functions of pixels/native.c, compiled by `pixels.build_native`; they release Python's lock."""

from functools import cache
from typing import Any

import numpy as np

from imagedb.limits import MAX_PIXELS, MAX_SCANS
from pixels.build_native import load
from pixels.views import View
from storage.errors import InputError


def jpeg_size(image: bytes) -> tuple[int, int] | None:
    """The width and height of a JPEG file that `jpeg_pixels` can decode: 8 bits, grey or YCbCr; None for other data.

    It is also None for a file of more than MAX_PIXELS or MAX_SCANS, so that `decode_image` refuses it.
    """
    native = _native()
    size = native.ffi.new("int32_t[2]")
    failed = native.lib.jpeg_size(_bytes(image), len(image), MAX_SCANS, size)
    return None if failed or not 0 < size[0] * size[1] <= MAX_PIXELS else (size[0], size[1])


def jpeg_pixels(image: bytes, view: View, size: int) -> np.ndarray:
    """A view of a JPEG file in full-range YCbCr, uint8 [3, size, size]; the missing part of a truncated file is grey.

    Raises:
        InputError: if the file cannot be decoded.
    """
    out = _canvas(view, size, (0, 128, 128))
    call = _native().lib.jpeg_pixels
    _check(call(_bytes(image), len(image), view.reduce, *_arguments(view), size, _bytes(out)))
    return out


def rgb_pixels(image: np.ndarray, view: View, size: int) -> np.ndarray:
    """A view of a decoded image, uint8 [height, width, 3], as uint8 [3, size, size]; colours do not change."""
    out = _canvas(view, size, (0, 0, 0))
    image = np.ascontiguousarray(image)
    height, width, _ = image.shape
    _check(_native().lib.rgb_pixels(_bytes(image), width, height, *_arguments(view), size, _bytes(out)))
    return out


def mean_color(pixels: np.ndarray) -> np.ndarray:
    """The mean of each channel of uint8 [3, H, W], float64 [3]."""
    sums = np.empty(3, np.uint64)
    _native().lib.sum_colors(_bytes(pixels), pixels[0].size, _native().ffi.from_buffer("uint64_t[]", sums))
    return sums / pixels[0].size


def map_colors(pixels: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> None:
    """Replace each colour x of uint8 [3, H, W] by (matrix x + offset) >> 16, clipped; int32 [3, 3] and [3]."""
    matrix, offset = np.ascontiguousarray(matrix, np.int32), np.ascontiguousarray(offset, np.int32)
    weights, sums = (_native().ffi.from_buffer("int32_t[]", values) for values in (matrix, offset))
    _native().lib.map_colors(_bytes(pixels), pixels[0].size, weights, sums)


def _canvas(view: View, size: int, black: tuple[int, int, int]) -> np.ndarray:
    out = np.empty((3, size, size), np.uint8)
    if view.target != (0, 0, size, size):
        out[:] = np.array(black, np.uint8)[:, None, None]
    return out


def _arguments(view: View) -> tuple:
    new = _native().ffi.new
    return new("Box *", view.box), view.clipped, new("Rectangle *", view.target), view.flip, view.cubic


def _bytes(buffer: bytes | np.ndarray) -> Any:
    """The memory of bytes or of a contiguous uint8 array."""
    return _native().ffi.from_buffer("uint8_t[]", buffer)


def _check(result: int) -> None:
    if result == -2:
        raise MemoryError
    if result:
        raise InputError("the image cannot be decoded: damaged JPEG data")


_native = cache(load)
