"""JPEG files made by hand."""

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from imagedb.images import decode_image, inspect_image
from imagedb.limits import MAX_SCANS
from storage.errors import InputError

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), np.uint8))
EMPTY_SCAN = b"\xff\xda\x00\x08\x01\x01\x00\x01\x3f\x00"  # AC of component 1 without a coded pixel


def encode(image=NOISE, **options):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segment(marker, data):
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_metadata_are_not_read():
    data, clean = encode(), encode()
    for block in (
        b"MPF\0" + b"MM\0*" + b"\xff" * 40,
        b"ICC_PROFILE\0\1\1" + bytes(60000),
        b"Exif\0\0II*\0\xff\xff\xff\xff",
    ):
        data = data[:2] + segment(0xE1, block) + segment(0xE2, block) + segment(0xED, block) + data[2:]
    data = data[:2] + segment(0xFE, b"\xff\xd9 a comment \xff\xda") * 50 + data[2:]
    with warnings.catch_warnings(action="error"):
        assert decode_image(data).tobytes() == decode_image(clean).tobytes()
    assert inspect_image(data, "x.jpg")[1] == []


def test_colours_of_adobe_are_kept():
    for mode in ("CMYK", "L", "RGB"):
        data = encode(NOISE.convert(mode))
        with Image.open(io.BytesIO(data)) as direct:
            assert decode_image(data).tobytes() == direct.convert("RGB").tobytes()


def with_scans(count, hidden=b""):
    """A progressive file of `count` scans; `hidden` stands in front of those that are added."""
    data = encode(progressive=True)
    assert data.count(b"\xff\xda") == 10
    return data[:-2] + hidden + EMPTY_SCAN * (count - 10) + data[-2:]


@pytest.mark.parametrize(
    "hidden", [b"", segment(0xFE, b"a false end: \xff\xd9"), b"\xff\xd0", b"\xff\x01", b"\0\xff\xff\xff"]
)
def test_the_number_of_scans_is_limited(hidden):
    inspect_image(with_scans(MAX_SCANS, hidden), "x")
    for look in (decode_image, lambda data: inspect_image(data, "x")):
        with pytest.raises(InputError, match=r"^a JPEG file of more than 100 scans$"):
            look(with_scans(MAX_SCANS + 1, hidden))


def test_scans_behind_the_end_are_not_counted():
    """Such as the video that phones append."""
    for data in (encode(), encode(progressive=True)):
        assert inspect_image(data + EMPTY_SCAN * 200, "x")[1] == []


def test_scans_of_each_component_are_counted_in_sequential_files_too():
    data = encode()
    at = data.index(b"\xff\xda")
    assert data[at + 2 : at + 5] == b"\x00\x0c\x03"
    one = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    with pytest.raises(InputError, match=r"^a JPEG file of more than 100 scans$"):
        decode_image(data[:at] + one * 101 + data[-2:])


def test_a_file_of_five_hundred_empty_scans_is_refused_at_once():
    """Decoding it takes 20 s and 1 GB."""
    data = bytearray(with_scans(500))
    at = data.index(b"\xff\xc2")
    data[at + 5 : at + 9] = struct.pack(">HH", 11_000, 11_000)
    with pytest.raises(InputError, match=r"scans$"):
        inspect_image(bytes(data), "x")
