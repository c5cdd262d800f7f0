import math
from itertools import permutations

import numpy as np
import pytest
import torch
from PIL import Image
from sample_images import decode_planes, difference, encode, photo, view_pixels
from torchvision.transforms.v2 import functional

from pixels.colors import affine_map, color_map, color_maps
from pixels.native import map_colors
from pixels.views import View

NEUTRAL = (1.0, 1.0, 1.0, 0.0)


def colors(seed=1, size=256):
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)


def mapped(pixels, source, target, jitter=None):
    """uint8 [H, W, 3] through `color_map`, or square ones through `color_maps`."""
    if jitter:
        size = len(pixels)
        view = View((0, 0, size, size), True, (0, 0, size, size))
        return view_pixels(pixels, view, size, *color_maps(source, target, [jitter])).transpose(1, 2, 0)
    planes = np.array(np.transpose(pixels, (2, 0, 1)), np.uint8, order="C")
    map_colors(planes, *color_map(source, target))
    return planes.transpose(1, 2, 0)


def yuv(pixels):
    return mapped(pixels, "rgb", "yuv444")


def bt601(pixels):
    """JPEG's conversion (ITU-T T.871, section 7), before rounding and clipping."""
    r, g, b = np.moveaxis(np.asarray(pixels, np.float64), -1, 0)
    y = 0.299 * r + 0.587 * g + 0.114 * b
    return np.stack([y, 128 + (b - y) / 1.772, 128 + (r - y) / 1.402], axis=-1)


def pale():
    """Random pixels that no small change of colour makes black or saturated, uint8 [32, 32, 3]."""
    return np.random.default_rng(2).integers(90, 150, (32, 32, 3), np.uint8)


def changed(pixels, *changes):
    """torchvision's changes of RGB, one after the other and without rounding."""
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy()).double() / 255
    for change, factor in changes:
        image = change(image, factor)
    return image.numpy().transpose(1, 2, 0) * 255


def hue_angle(pixel):
    """The hue angle of one RGB colour in the plane of chroma, in turns."""
    _, u, v = bt601(pixel)
    return math.atan2(v - 128, u - 128) / (2 * math.pi)


def test_yuv444_of_greys_has_no_colour():
    greys = yuv(np.broadcast_to(np.arange(256)[None, :, None], (1, 256, 3)))[0].astype(int)
    assert (greys[:, 1:] == 128).all()
    assert greys[:, 0].tolist() == list(range(256))


@pytest.mark.parametrize(
    ("color", "expected"),
    [
        ((255, 0, 0), (76.245, 84.97, 255)),
        ((0, 255, 0), (149.685, 43.53, 21.23)),
        ((0, 0, 255), (29.07, 255, 107.27)),
        ((255, 255, 0), (225.93, 0.5, 148.73)),
        ((0, 0, 0), (0, 128, 128)),
        ((255, 255, 255), (255, 128, 128)),
    ],
)
def test_yuv444_of_primary_colours_worked_out_by_hand(color, expected):
    assert yuv([[color]]).tolist() == [[[round(value) for value in expected]]]


def test_yuv444_is_full_range_bt601():
    assert difference(yuv(colors()), np.clip(bt601(colors()), 0, 255)).max() < 0.502


def test_yuv444_is_the_conversion_that_jpeg_files_are_written_with():
    few = colors(size=64)
    blocks = few.repeat(8, axis=0).repeat(8, axis=1)  # of one colour each, which quality 100 keeps
    assert (decode_planes(encode(blocks, "JPEG", quality=100, subsampling=0))[::8, ::8] == yuv(few)).all()


def test_rgb_of_yuv444_is_that_of_pillow():
    expected = np.asarray(Image.fromarray(colors(), "YCbCr").convert("RGB"))
    assert difference(mapped(colors(), "yuv444", "rgb"), expected).max() <= 1


def test_colours_there_and_back():
    assert difference(mapped(yuv(colors()), "yuv444", "rgb"), colors()).max() <= 2


@pytest.mark.parametrize("space", ["yuv444", "rgb"])
def test_nothing_to_change(space):
    assert color_map(space, space) is None
    assert (mapped(colors(), space, space, NEUTRAL) == colors()).all()


@pytest.mark.parametrize("factor", [0.7, 0.9, 1.3])
@pytest.mark.parametrize(
    ("place", "change"),
    [(0, functional.adjust_brightness), (1, functional.adjust_contrast), (2, functional.adjust_saturation)],
)
def test_jitter_is_that_of_torchvision(place, change, factor):
    jitter = tuple(factor if i == place else value for i, value in enumerate(NEUTRAL))
    expected = changed(pale(), (change, factor))
    assert difference(expected, pale()).max() > 2
    assert difference(mapped(pale(), "rgb", "yuv444", jitter), bt601(expected)).max() < 0.6, "a rounding"
    assert difference(mapped(pale(), "rgb", "rgb", jitter), expected).max() < 0.6
    rounded = yuv(pale())
    assert difference(mapped(rounded, "yuv444", "yuv444", jitter), bt601(expected)).max() < 1.3, "two roundings"
    assert difference(mapped(rounded, "yuv444", "rgb", jitter), expected).max() < 3, "those of chroma, times 1.772"


def test_jitter_does_not_depend_on_the_order_of_torchvisions_changes():
    changes = [
        (functional.adjust_brightness, 1.2),
        (functional.adjust_contrast, 0.7),
        (functional.adjust_saturation, 1.4),
    ]
    found = mapped(pale(), "rgb", "rgb", (1.2, 0.7, 1.4, 0))
    for order in permutations(changes):
        assert difference(found, changed(pale(), *order)).max() < 0.6


def test_jitter_of_an_image_with_strong_colours_is_nearly_torchvisions():
    """torchvision clips to 0 .. 255 after each change, `color_map` only once."""
    pixels = photo(64, 64)
    changes = [
        (functional.adjust_brightness, 1.1),
        (functional.adjust_saturation, 1.2),
        (functional.adjust_contrast, 1.1),
    ]
    assert difference(mapped(pixels, "rgb", "rgb", (1.1, 1.1, 1.2, 0)), changed(pixels, *changes)).mean() < 1


@pytest.mark.parametrize("turn", [-0.5, 0.5])
def test_half_a_turn_of_hue_gives_the_complementary_colours(turn):
    planes = np.random.default_rng(0).integers(1, 256, (9, 9, 3), np.uint8)
    turned = mapped(planes, "yuv444", "yuv444", (1, 1, 1, turn))
    assert (turned[..., 0] == planes[..., 0]).all()
    assert (turned[..., 1:] == 256 - planes[..., 1:].astype(int)).all()


@pytest.mark.parametrize("turn", [-0.3, -0.1, 0.05, 0.1, 0.3])
@pytest.mark.parametrize(
    "color", [(180, 90, 90), (180, 180, 90), (90, 180, 90), (90, 180, 180), (90, 90, 180), (180, 90, 180)]
)
def test_hue_turns_as_torchvisions_does(color, turn):
    before = np.array([[color]], np.uint8)
    found = mapped(before, "rgb", "rgb", (1, 1, 1, turn))
    expected = changed(before, (functional.adjust_hue, turn))
    turned = [(hue_angle(after[0, 0]) - hue_angle(color) + 0.5) % 1 - 0.5 for after in (found, expected)]
    assert turned[0] == pytest.approx(turn, abs=0.01)
    assert abs(turned[0] - turned[1]) < 0.07
    assert difference(bt601(found), bt601(before))[..., 0].max() < 1, "luma stays"


def test_a_map_is_its_rounded_affine_map():
    jitter, mean = (1.3, 0.6, 1.2, 0.1), colors().mean(axis=(0, 1))
    for source in ("rgb", "yuv444"):
        for target in ("rgb", "yuv444"):
            matrix, offset, of_mean = affine_map(source, target, np.array(jitter))
            expected = colors().astype(float) @ matrix.T + offset + of_mean @ mean
            found = mapped(colors(), source, target, jitter)
            assert difference(found, np.clip(expected, 0, 255)).max() < 0.51
