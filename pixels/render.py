"""From an encoded image to the pixels that a network sees, with and without random changes."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imagedb.images import decode_image
from pixels.augmentation import InputFormat
from pixels.colors import color_map
from pixels.native import jpeg_pixels, jpeg_size, map_colors, mean_color, rgb_pixels
from pixels.policies import GREY, apply_operations
from pixels.views import Views


def render(image: bytes, views: Views, input_format: InputFormat, generator: torch.Generator) -> Tensor:
    """The pixels of one view, uint8 [3, size, size].

    A grey or YCbCr JPEG file is converted to YUV without RGB in between, unless there is a policy. The missing part of
    a truncated file is grey.

    Args:
        image: An encoded image.
        views: Chooses the part of the image.
        input_format: Size and colour space of the pixels.
        generator: The random generator for `views`.

    Raises:
        InputError: If the image cannot be decoded.
    """
    if size := jpeg_size(image):
        view, source = views(*size, generator), "yuv444"
        pixels = jpeg_pixels(image, view, input_format.size)
    else:
        decoded = decode_image(image, tolerant=True)
        view, source = views(*decoded.size, generator), "rgb"
        pixels = rgb_pixels(np.asarray(decoded), view, input_format.size)
    mean = mean_color(pixels) if view.jitter else None
    target = "rgb" if view.operations else input_format.color_space
    if colors := color_map(source, target, view.jitter, mean):
        map_colors(pixels, *colors)
    if view.operations:
        changed = apply_operations(Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))), view.operations)
        pixels = np.stack([np.asarray(channel) for channel in changed.split()])
        if colors := color_map("rgb", input_format.color_space):
            map_colors(pixels, *colors)
    if view.erase:
        left, top, width, height = view.erase
        pixels[:, top : top + height, left : left + width] = GREY
    return torch.from_numpy(pixels)
