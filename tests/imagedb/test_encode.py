import io
import zlib

import numpy as np
import pytest
from PIL import Image

from imagedb.encode import Encoding, encode_png
from imagedb.images import decode_image

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)


def encode(kind="PNG", pixels=PIXELS, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("side", "size", "expected"),
    [("short", 15, (20, 15)), ("long", 20, (20, 15)), ("short", 7, (9, 7)), ("long", 3, (3, 2)), ("short", 1, (1, 1))],
)
@pytest.mark.parametrize(("format", "kind"), [("jpeg", "JPEG"), ("png", "PNG"), ("webp", "WEBP")])
def test_resized_images_have_the_size_asked_for(side, size, expected, format, kind):
    image = Image.open(io.BytesIO(Encoding("resized", side, size, format)(encode())))
    assert (image.format, image.size) == (kind, expected)  # 40 x 30: 7 / 30 * 40 = 9.33


def test_resized_pixels_are_those_of_pillow():
    data = Encoding("resized", "short", 15, "png")(encode())
    expected = Image.fromarray(PIXELS).resize((20, 15), Image.Resampling.LANCZOS)
    assert (np.asarray(Image.open(io.BytesIO(data))) == np.asarray(expected)).all()


@pytest.mark.parametrize("size", [30, 31, 1000])
def test_small_images_stay_byte_for_byte(size):
    data = encode("JPEG", quality=50)
    assert Encoding("resized", "short", size, "webp")(data) is data


def test_quality_is_that_of_the_encoder():
    sizes = [len(Encoding("resized", "short", 29, "jpeg", quality)(encode())) for quality in (10, 50, 95)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[2] / 2


@pytest.mark.parametrize(("size", "shape"), [(None, (30, 40, 3)), (15, (15, 20, 3)), (99, (30, 40, 3))])
def test_raw_is_a_ppm_file_of_the_pixels(size, shape):
    data = Encoding("raw", "short", size)(encode())
    assert data.startswith(b"P6 %d %d 255\n" % (shape[1], shape[0]))
    assert len(data) == len(b"P6 00 00 255\n") + np.prod(shape)
    assert decode_image(data).size == (shape[1], shape[0])
    if size != 15:
        assert (np.asarray(decode_image(data)) == PIXELS).all()
        assert data.endswith(PIXELS.tobytes())


def test_raw_of_a_grey_image_has_three_channels():
    data = Encoding("raw")(encode(pixels=PIXELS[..., 0]))
    assert len(data) == len(b"P6 40 30 255\n") + 30 * 40 * 3


def test_resized_needs_a_size():
    with pytest.raises(ValueError, match=r"^a resized encoding needs a size$"):
        Encoding("resized")


def test_damaged_images_are_refused_or_filled():
    whole = encode("JPEG")
    for encoding in (Encoding("resized", "short", 10), Encoding("raw")):
        with pytest.raises(ValueError, match=r"^the image cannot be decoded: "):
            encoding(whole[: len(whole) // 2])
        assert decode_image(encoding(whole[: len(whole) // 2], tolerant=True)).size in ((13, 10), (40, 30))


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
