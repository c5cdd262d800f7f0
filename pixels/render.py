"""From encoded images to the pixels that a network sees, with and without random changes."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imagedb.images import decode_image
from pixels.augmentation import InputFormat
from pixels.colors import ColorMap, Jitter, color_map, color_maps
from pixels.draws import Draws
from pixels.native import DamagedImage, jpeg_sizes, map_colors, render_views
from pixels.policies import GREY, apply_operations
from pixels.views import View, Views
from storage.errors import InputError


def render(image: bytes, views: Views, input_format: InputFormat, draws: Draws) -> Tensor:
    """The pixels of one view, uint8 [3, size, size]; arguments and errors are those of `render_batch`."""
    size = input_format.size
    out = torch.empty(1, 3, size, size, dtype=torch.uint8)
    render_batch([image], views, input_format, [draws], out)
    return out[0]


def render_batch(
    images: Sequence[bytes],
    views: Views,
    input_format: InputFormat,
    draws: Sequence[Draws],
    out: Tensor,
    names: Sequence[str] = (),
) -> None:
    """The pixels of a view of each image.

    A grey or YCbCr JPEG file is converted to YUV without RGB in between, unless there is a policy. The missing part of
    a truncated file is grey.

    Args:
        images: Encoded images.
        views: Chooses the part of each image.
        input_format: Size and colour space of the pixels.
        draws: The random numbers for `views` of each image.
        out: uint8 [len(images), 3, size, size], on the CPU; receives the pixels.
        names: What messages begin with, for each image.

    Raises:
        InputError: If an image cannot be decoded.
    """
    chosen: list[View] = []
    decoded: list[bytes | np.ndarray] = list(images)
    try:
        for i, (size, own) in enumerate(zip(jpeg_sizes(images), draws, strict=True)):
            if size is None:
                picture = np.asarray(decode_image(images[i], tolerant=True))
                decoded[i], size = picture, picture.shape[1::-1]
            chosen.append(views(*size, own))
        colors = _colors(decoded, chosen, input_format.color_space)
        render_views(decoded, chosen, colors, input_format.size, out.numpy())
    except InputError as error:
        failed = error.index if isinstance(error, DamagedImage) else i
        raise InputError(f"{names[failed]}: {error}" if names else str(error)) from None
    for view, pixels in zip(chosen, out.numpy(), strict=True):
        if view.changes_rgb:
            _apply(view, pixels, input_format.color_space)
        if view.erase:
            left, top, width, height = view.erase
            pixels[:, top : top + height, left : left + width] = GREY


def _colors(images: Sequence[bytes | np.ndarray], views: Sequence[View], color_space: str) -> list[ColorMap | None]:
    """The map of each image to `color_space`, or to RGB if a policy or a change of the user's own follows."""
    colors: list[ColorMap | None] = [None] * len(images)
    jittered: dict[tuple[str, str], dict[int, Jitter]] = defaultdict(dict)
    for i, (image, view) in enumerate(zip(images, views, strict=True)):
        spaces = "yuv444" if isinstance(image, bytes) else "rgb", "rgb" if view.changes_rgb else color_space
        if view.jitter:
            jittered[spaces][i] = view.jitter
        elif plain := color_map(*spaces):
            matrix, offset = plain
            colors[i] = matrix.ravel().tolist(), ((offset - (1 << 15)) / 65536).tolist(), [0.0] * 9
    for spaces, members in jittered.items():
        maps = color_maps(*spaces, list(members.values()))
        for i, each in zip(members, maps, strict=True):
            colors[i] = each
    return colors


def _apply(view: View, pixels: np.ndarray, color_space: str) -> None:
    """Change the RGB pixels of a view, uint8 [3, size, size], by its operations and its extra, and convert them."""
    if view.operations:
        changed = apply_operations(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), view.operations)
        pixels[:] = np.asarray(changed).transpose(2, 0, 1)
    if view.extra:
        pixels[:] = view.extra(torch.from_numpy(pixels)).numpy()
    if colors := color_map("rgb", color_space):
        map_colors(pixels, *colors)
