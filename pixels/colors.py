"""Colour spaces and colour jitter in one affine map of the colour vector, in 16-bit fixed point."""

import math
from collections.abc import Sequence

import numpy as np

# JPEG's full-range BT.601 (ITU-T T.871, section 7), rounded, in the 16-bit fixed point of JPEG encoders. The half less
# one keeps 255.5 at 255. Pillow's own conversion rounds down, so that grey 11 becomes a Y of 10.
YCBCR = np.array([[19595, 38470, 7471], [-11059, -21709, 32768], [32768, -27439, -5329]], dtype=np.int32)
YCBCR_OFFSET = np.array([1 << 15, (128 << 16) + (1 << 15) - 1, (128 << 16) + (1 << 15) - 1], dtype=np.int32)

LUMA = np.array([0.299, 0.587, 0.114])
TO_YUV = np.array([LUMA, [-0.299 / 1.772, -0.587 / 1.772, 0.5], [0.5, -0.587 / 1.402, -0.114 / 1.402]])
TO_RGB = np.array([[1, 0, 1.402], [1, -0.114 * 1.772 / 0.587, -0.299 * 1.402 / 0.587], [1, 1.772, 0]])
CENTER = np.array([0, 128, 128])  # of Y, U, V
_INTO_YUV = {"yuv444": (np.eye(3), -CENTER), "rgb": (TO_YUV, np.zeros(3))}  # centred YUV: matrix and offset
_OUT_OF_YUV = {"yuv444": (np.eye(3), CENTER), "rgb": (TO_RGB, np.zeros(3))}


Jitter = tuple[float, float, float, float]
ColorMap = tuple[list[int], list[float], list[float]]  # matrix, offset and of_mean of `pixels.native.render_views`


def color_map(source: str, target: str) -> tuple[np.ndarray, np.ndarray] | None:
    """The map from colours in `source` to colours in `target`, each "yuv444" or "rgb", for `pixels.native.map_colors`.

    Returns:
        Matrix and offset, int32 [3, 3] and [3]; None if colours do not change.
    """
    if source == target:
        return None
    if (source, target) == ("rgb", "yuv444"):
        return YCBCR, YCBCR_OFFSET
    matrix, offset, _ = affine_map(source, target)
    return np.rint(matrix * 65536).astype(np.int32), np.rint(offset * 65536).astype(np.int32) + (1 << 15)


def color_maps(source: str, target: str, jitters: Sequence[Jitter]) -> list[ColorMap]:
    """The maps from colours in `source` to jittered colours in `target`; a map for each of `jitters`, as in `View`."""
    matrices, offsets, of_means = affine_map(source, target, np.array(jitters))
    fixed = np.rint(matrices * 65536).astype(np.int32)
    parts = (part.reshape(len(jitters), -1).tolist() for part in (fixed, offsets, of_means))
    return list(zip(*parts, strict=True))


def affine_map(source: str, target: str, jitter: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same maps before rounding: a colour x becomes matrix x + offset + of_mean mean.

    In YUV, the changes are affine: brightness and contrast scale Y, and contrast moves it towards the image's mean;
    brightness, contrast and saturation scale U and V, and the hue rotates them. This is torchvision's ColorJitter with
    its four changes in any order, except for clipping and the hue, which rotates at constant luma here and at constant
    HSV value there.

    Args:
        jitter: float [..., 4]; None: no change.

    Returns:
        float64 [..., 3, 3], [..., 3], [..., 3, 3].
    """
    into, start = _INTO_YUV[source]
    out, end = _OUT_OF_YUV[target]
    change, of_mean = np.eye(3), np.zeros((3, 3))
    if jitter is not None:
        brightness, contrast, saturation, hue = np.moveaxis(jitter, -1, 0)
        change, of_mean = np.zeros((2, *hue.shape, 3, 3))
        luma = brightness * contrast
        turns = [[f(2 * math.pi * angle) for angle in hue.flat] for f in (math.cos, math.sin)]  # libm's, to the bit
        cosine, sine = (luma * saturation * np.reshape(turn, hue.shape) for turn in turns)
        change[..., 0, 0] = luma
        change[..., 1, 1] = change[..., 2, 2] = cosine
        change[..., 1, 2], change[..., 2, 1] = -sine, sine
        of_mean[..., 0, :] = ((1 - contrast) * brightness)[..., None] * into[0]
    out_change = out @ change
    return out_change @ into, out_change @ start + end, out @ of_mean


def float_color_map(target: str, jitter: Jitter | None = None) -> np.ndarray:
    """`affine_map` from RGB in one array, float64 [3, 7]: matrix, offset and of_mean."""
    matrix, offset, of_mean = affine_map("rgb", target, None if jitter is None else np.array(jitter))
    return np.concatenate([matrix, offset[:, None], of_mean], axis=1)
