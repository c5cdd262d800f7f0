"""The functions of pixels/native.c, compiled by `pixels.build_native`; they release Python's lock."""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from imagedb.limits import MAX_PIXELS, MAX_SCANS
from pixels.build_native import load
from pixels.colors import ColorMap
from pixels.views import View
from storage.errors import InputError

NO_MEMORY = -2


def jpeg_size(image: bytes) -> tuple[int, int] | None:
    """`jpeg_sizes` of one file."""
    return jpeg_sizes([image])[0]


def jpeg_sizes(images: Sequence[bytes]) -> list[tuple[int, int] | None]:
    """Width and height of each JPEG file that `render_views` can decode: 8 bits, grey or YCbCr; None for other data.

    It is also None for a file of more than MAX_PIXELS or MAX_SCANS, so that `decode_image` refuses it.
    """
    native, count = _native(), len(images)
    sizes = np.empty((count, 2), np.int32)
    data, lengths = [_bytes(image) for image in images], [len(image) for image in images]
    arguments = native.ffi.new("uint8_t *[]", data), native.ffi.new("size_t[]", lengths), count, MAX_SCANS
    native.lib.jpeg_sizes(*arguments, native.ffi.from_buffer("int32_t[]", sizes))
    return [(width, height) if 0 < width * height <= MAX_PIXELS else None for width, height in sizes.tolist()]


def render_views(
    images: Sequence[bytes | np.ndarray],
    views: Sequence[View],
    colors: Sequence[ColorMap | None],
    size: int,
    out: np.ndarray,
) -> None:
    """Views of JPEG files, in full-range YCbCr, and of decoded images, with the colours mapped; one call for all.

    The missing part of a truncated file is grey.

    Args:
        images: each a JPEG file of `jpeg_sizes`, or uint8 [height, width, 3].
        views: the part of each image.
        colors: the map of each image; None: colours do not change.
        size: width and height of the results.
        out: uint8 [len(images), 3, size, size], contiguous; receives the results.

    Raises:
        DamagedImage: if an image cannot be decoded.
    """
    native = _native()
    arrays = [image if isinstance(image, bytes) else np.ascontiguousarray(image) for image in images]
    pictures = native.ffi.new("Picture[]", [_picture(*each) for each in zip(arrays, views, strict=True)])
    maps = native.ffi.new("Colors[]", [(0,) if each is None else (1, *each) for each in colors])
    done = native.ffi.new("int32_t *")
    result = native.lib.render_pictures(pictures, maps, len(arrays), size, _bytes(out), done)
    if result == NO_MEMORY:
        raise MemoryError
    if result:
        raise DamagedImage(done[0])


def _picture(image: bytes | np.ndarray, view: View) -> tuple:
    height, width = (0, 0) if isinstance(image, bytes) else image.shape[:2]
    way = view.clipped, view.reduce, view.flip, view.cubic
    return _bytes(image), len(image), width, height, view.box, view.target, *way


class DamagedImage(InputError):
    """Image `index` of a batch cannot be decoded."""

    def __init__(self, index: int):
        super().__init__("the image cannot be decoded: damaged JPEG data")
        self.index = index


def map_colors(pixels: np.ndarray, matrix: np.ndarray, offset: np.ndarray) -> None:
    """Replace each colour x of uint8 [3, H, W] by (matrix x + offset) >> 16, clipped; int32 [3, 3] and [3]."""
    matrix, offset = np.ascontiguousarray(matrix, np.int32), np.ascontiguousarray(offset, np.int32)
    weights, sums = (_native().ffi.from_buffer("int32_t[]", values) for values in (matrix, offset))
    _native().lib.map_colors(_bytes(pixels), pixels[0].size, weights, sums)


def _bytes(buffer: bytes | np.ndarray) -> Any:
    """The memory of bytes or of a contiguous uint8 array."""
    return _native().ffi.from_buffer("uint8_t[]", buffer)


_native = cache(load)
