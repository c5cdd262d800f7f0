import io

import numpy as np
import pytest
from PIL import Image

from imagedb import decode_image

PIXELS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


def encode(image, kind):
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_rgb_comes_back_exactly(png):
    image = decode_image(png)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), PIXELS)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (Image.new("L", (2, 2), 7), "PNG", (7, 7, 7)),
        (Image.new("1", (2, 2), 1), "BMP", (255, 255, 255)),
        (Image.new("RGBA", (2, 2), (9, 8, 7, 0)), "PNG", (9, 8, 7)),
        (Image.new("RGB", (2, 2), (9, 8, 7)).quantize(2), "GIF", (9, 8, 7)),
        (Image.new("CMYK", (2, 2), (0, 0, 0, 255)), "TIFF", (0, 0, 0)),
    ],
)
def test_other_modes_become_rgb(image, kind, expected):
    assert decode_image(encode(image, kind)).getpixel((1, 1)) == expected


def test_truncated_image_is_refused(png):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for kind in ("PNG", "JPEG"):
        data = encode(Image.fromarray(noise), kind)
        with pytest.raises(ValueError, match=r"^the image cannot be decoded: .*truncated"):
            decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"", b"<html>", encode(Image.new("RGB", (2, 2)), "EPS")])
def test_other_formats_are_refused(data):
    with pytest.raises(ValueError, match=r"^not an image, allowed: JPEG, PNG, WEBP, BMP, GIF, TIFF$"):
        decode_image(data)


def test_sixteen_bit_pixels_are_refused():
    data = encode(Image.fromarray(np.full((2, 2), 1000, np.uint16)), "PNG")
    with pytest.raises(ValueError, match=r"^pixels of Pillow mode I;16, allowed: 1, L, LA, P, RGB, RGBA, CMYK, YCbCr$"):
        decode_image(data)
