import io
import zlib

import numpy as np
import pytest
from PIL import Image

from imagedb.encode import Encoding, encode_png
from imagedb.images import decode_image
from storage.errors import InputError

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def encode(kind="PNG", pixels=PIXELS, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def again(encoding, data):
    return encoding(decode_image(data), data)


@pytest.mark.parametrize(
    ("side", "size", "expected"),
    [("short", 15, (20, 15)), ("long", 20, (20, 15)), ("short", 7, (9, 7)), ("long", 3, (3, 2)), ("short", 1, (1, 1))],
)
@pytest.mark.parametrize(("format", "kind"), [("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_resized_images_have_the_size_asked_for(side, size, expected, format, kind):
    image = Image.open(io.BytesIO(again(Encoding("resized", side, size, format), encode())))
    assert (image.format, image.size) == (kind, expected)  # 40 x 30: 7 / 30 * 40 = 9.33


def test_resized_pixels_are_those_of_pillow():
    data = again(Encoding("resized", "short", 15, "png"), encode())
    expected = Image.fromarray(PIXELS).resize((20, 15), Image.Resampling.LANCZOS)
    assert (np.asarray(Image.open(io.BytesIO(data))) == np.asarray(expected)).all()


@pytest.mark.parametrize("size", [30, 31, 1000])
def test_small_images_stay_byte_for_byte(size):
    data = encode("JPEG", quality=50)
    assert again(Encoding("resized", "short", size, "webp"), data) is data


def test_quality_is_that_of_the_encoder():
    sizes = [len(again(Encoding("resized", "short", 29, "jpeg", quality), encode())) for quality in (10, 50, 95)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 2


@pytest.mark.parametrize(("size", "shape"), [(None, (30, 40, 3)), (15, (15, 20, 3)), (99, (30, 40, 3))])
def test_raw_is_a_ppm_file_of_the_pixels(size, shape):
    data = again(Encoding("raw", "short", size), encode())
    assert data.startswith(b"P6 %d %d 255\n" % (shape[1], shape[0]))
    assert len(data) == len(b"P6 00 00 255\n") + np.prod(shape)
    assert decode_image(data).size == (shape[1], shape[0])
    if size != 15:
        assert (np.asarray(decode_image(data)) == PIXELS).all()
        assert data.endswith(PIXELS.tobytes())


def test_raw_of_a_grey_image_has_three_channels():
    data = again(Encoding("raw"), encode(pixels=PIXELS[..., 0]))
    assert len(data) == len(b"P6 40 30 255\n") + 30 * 40 * 3


def test_resized_needs_a_size():
    with pytest.raises(ValueError, match=r"^a resized encoding needs a size$"):
        Encoding("resized")


@pytest.mark.parametrize(("format", "most"), [("jpeg", 65500), ("webp", 16383)])
def test_sizes_that_a_format_cannot_hold(format, most):
    encoding = Encoding("resized", "short", 1, format)
    image = Image.new("RGB", (2 * most, 2))
    assert decode_image(encoding(image, b"")).size == (most, 1)
    with pytest.raises(InputError, match=rf"^{2 * most} x 1 pixels cannot be encoded as {format}: "):
        encoding(Image.new("RGB", (4 * most, 2)), b"")


def test_description_names_what_matters():
    assert Encoding("resized", "long", 9, "png").describe() == {
        "type": "resized",
        "side": "long",
        "size": 9,
        "format": "png",
    }
    assert Encoding("raw").describe() == {"type": "raw", "side": "short", "size": None}
    assert Encoding("resized", size=9, quality=80).describe()["quality"] == 80


def test_png_is_lossless_and_run_length_encoded():
    data = encode_png(Image.new("L", (100, 100), 7))
    assert (np.asarray(Image.open(io.BytesIO(data))) == 7).all()
    assert len(data) < 300
    assert data == encode_png(Image.new("L", (100, 100), 7))
    at = data.index(b"IDAT") + 4
    assert len(zlib.decompress(data[at : at + int.from_bytes(data[at - 8 : at - 4], "big")])) == 101 * 100
