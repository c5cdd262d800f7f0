import io
import resource
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from imagedb import images
from imagedb.images import decode_image, inspect_image
from imagedb.limits import MAX_PIXELS
from storage.errors import InputError

PIXELS = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)


def encode(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
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
        with pytest.raises(InputError, match=rf"^a truncated {kind} file: "):
            decode_image(data[: len(data) // 2])


@pytest.mark.parametrize("data", [b"<html>", encode(Image.new("RGB", (2, 2)), "EPS")])
def test_other_formats_are_refused(data):
    for look in (decode_image, lambda data: inspect_image(data, "x")):
        with pytest.raises(InputError, match=r"^not an image, allowed: JPEG, PNG, WEBP, BMP, GIF, TIFF, PPM$"):
            look(data)


def test_sixteen_bit_grey_keeps_its_high_byte():
    image = decode_image(encode(Image.fromarray(np.array([[0, 255, 256, 65535]], np.uint16)), "PNG"))
    assert [image.getpixel((x, 0)) for x in range(4)] == [(0, 0, 0), (0, 0, 0), (1, 1, 1), (255, 255, 255)]


def test_floating_point_pixels_are_refused():
    data = encode(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF")
    for look in (decode_image, lambda data: inspect_image(data, "x")):
        with pytest.raises(InputError, match=r"^pixels of Pillow mode F, allowed: 16-bit grey, 1, L, LA, P, .*$"):
            look(data)


NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))


EXIF = ("JPEG", "PNG", "WEBP", "TIFF")


def exif(orientation):
    block = Image.Exif()
    block[0x0112] = orientation
    return block


@pytest.mark.parametrize(
    ("data", "name", "notes"),
    [
        (encode(NOISE, "JPEG"), "a/b.JPEG", []),
        (encode(NOISE, "JPEG", progressive=True), "b.jpg", []),
        (encode(NOISE, "PNG"), "no suffix", []),
        (encode(NOISE, "PNG"), "a.JPEG", ["PNG named .jpeg"]),
        (encode(NOISE, "JPEG"), "a.webp", ["JPEG named .webp"]),
        (encode(NOISE, "WEBP"), "a.webp", []),
        (encode(NOISE, "WEBP"), "a.gif", ["WEBP named .gif"]),
        (encode(NOISE, "TIFF"), "a.tif", []),
        (encode(NOISE.convert("CMYK"), "JPEG"), "a.jpg", ["CMYK"]),
        (encode(NOISE.convert("CMYK"), "TIFF"), "a.tiff", ["CMYK"]),
        (encode(NOISE.convert("L"), "JPEG"), "a.jpg", ["grey"]),
        (encode(NOISE.convert("LA"), "PNG"), "a.png", ["grey"]),
        (encode(NOISE.convert("L"), "BMP"), "a.bmp", ["grey"]),
        *((encode(NOISE, kind, exif=exif(n)), "a", ["EXIF orientation"]) for kind in EXIF for n in range(2, 9)),
        *((encode(NOISE, kind, exif=exif(n)), "a", []) for kind in EXIF for n in (0, 1, 9, 65535)),
        (encode(NOISE, "JPEG", exif=b"Exif\0\0nonsense"), "a.jpg", []),
        (encode(Image.fromarray(np.zeros((2, 2), np.uint16)), "PNG"), "a.png", ["16-bit", "grey"]),
        (encode(Image.fromarray(np.zeros((2, 2), np.uint16)), "TIFF"), "a.tif", ["16-bit", "grey"]),
        (encode(NOISE, "GIF", save_all=True, append_images=[NOISE.rotate(90)]), "a.gif", ["animated"]),
        (encode(NOISE, "PNG", save_all=True, append_images=[NOISE.rotate(90)]), "a.png", ["animated"]),
        (encode(NOISE, "WEBP", save_all=True, append_images=[NOISE.rotate(90)]), "a.webp", ["animated"]),
        (encode(NOISE, "JPEG") + b"behind the end", "a.jpg", []),
    ],
)
def test_what_is_remarkable_about_a_whole_image(data, name, notes):
    image, found = inspect_image(data, name)
    assert sorted(found) == notes
    assert image.tobytes() == decode_image(data).tobytes()


def test_an_image_that_ends_anywhere_is_found():
    for kind in ("JPEG", "PNG"):
        data = encode(NOISE.resize((16, 16)), kind)
        for end in range(len(data) - 2):
            with pytest.raises(InputError, match=r"truncated|damaged|empty|not an image|cannot be decoded"):
                inspect_image(data[:end], "x")


def test_a_wrong_checksum_is_found():
    data = bytearray(encode(NOISE, "PNG"))
    data[data.index(b"IDAT") + 20] ^= 1
    with pytest.raises(InputError, match=r"^a damaged PNG file: the checksum of chunk IDAT is wrong$"):
        inspect_image(bytes(data), "x")


def test_empty_file():
    for look in (decode_image, lambda data: inspect_image(data, "x")):
        with pytest.raises(InputError, match=r"^empty$"):
            look(b"")


def png_of_size(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b""), b"IEND"]
    data = [struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(data)


def jpeg_of_size(width, height, bits=8, kind=0xC0):
    data = bytearray(encode(NOISE, "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 1] = kind
    data[at + 4 : at + 9] = struct.pack(">BHH", bits, height, width)
    return bytes(data)


def gif_of_size(width, height):
    return encode(NOISE, "GIF")[:6] + struct.pack("<HH", width, height) + encode(NOISE, "GIF")[10:]


def bmp_of_size(width, height):
    return encode(NOISE, "BMP")[:18] + struct.pack("<ii", width, height) + encode(NOISE, "BMP")[26:]


def ppm_of_size(width, height):
    return b"P6 %d %d 255\n" % (width, height)


def tiff_of_size(width, height, tile=None):
    tags = {256: width, 257: height, 258: 8, 259: 8, 262: 1, 277: 1}
    tags |= {322: tile[0], 323: tile[1], 324: 8, 325: 99} if tile else {273: 8, 278: height, 279: 99}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    pixels = zlib.compress(bytes(1000)).ljust(100)
    return b"II*\0" + struct.pack("<I", 108) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def webp_of_size(width, height):
    canvas = b"VP8X" + struct.pack("<I4x", 10) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    rest = encode(NOISE, "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", 4 + len(canvas) + len(rest)) + b"WEBP" + canvas + rest


@pytest.mark.parametrize(
    "make", [png_of_size, jpeg_of_size, gif_of_size, bmp_of_size, ppm_of_size, tiff_of_size, webp_of_size]
)
def test_decompression_bombs_are_refused_without_decoding(make):
    width, height = 16_000, MAX_PIXELS // 16_000 + 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for look in (decode_image, lambda data: inspect_image(data, "x")):
        with pytest.raises(InputError, match=rf"^({width} x {height}|more than {MAX_PIXELS}) pixels.*bomb\?\)$"):
            look(make(width, height))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17, "KiB; the pixels are 393,216"


def test_a_bomb_in_the_tiles_of_a_small_tiff_file():
    assert inspect_image(tiff_of_size(16, 16, tile=(16, 16)), "x")[1] == ["grey"]
    with pytest.raises(InputError, match=r"^60000 x 60000 pixels, allowed: "):
        decode_image(tiff_of_size(16, 16, tile=(60_000, 60_000)))


def test_the_size_of_an_encoded_image_is_bounded(monkeypatch, png):
    monkeypatch.setattr(images, "MAX_BYTES", len(png))
    inspect_image(png, "x")
    with pytest.raises(InputError, match=rf"^{len(png) + 1} bytes, allowed: {len(png)}$"):
        inspect_image(png + b"x", "x")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_header_is_no_other_format():
    data = encode(NOISE, "TIFF", compression="tiff_lzw")
    with pytest.raises(InputError, match=r"^a TIFF file whose header is damaged$"):
        decode_image(data[: len(data) // 2])


def test_libtiff_prints_nothing(capfd):
    data = bytearray(encode(NOISE, "TIFF", compression="tiff_lzw"))
    data[300:400] = bytes(range(100))
    data[1300:1400] = bytes(range(100, 200))
    with pytest.raises(InputError, match=r"^the image cannot be decoded: decoder error"):
        decode_image(bytes(data))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error", [ValueError, KeyError, SyntaxError, struct.error, RecursionError, OSError, IndexError]
)
def test_whatever_a_decoder_raises_is_a_mistake_in_the_image(monkeypatch, png, error):
    def load(image):
        raise error("two\nlines")

    monkeypatch.setattr(PngImageFile, "load", load)
    for look in (decode_image, lambda data: inspect_image(data, "x")):
        with pytest.raises(InputError, match=r"^the image cannot be decoded: .*two.*lines.*$"):
            look(png)
    monkeypatch.setattr(PngImageFile, "load", lambda image: bytearray(2**62))
    with pytest.raises(MemoryError):
        decode_image(png)


@pytest.mark.parametrize(("bits", "kind"), [(12, 0xC1), (8, 0xC3), (8, 0xC9)])
def test_rare_kinds_of_jpeg_are_refused(bits, kind):
    with pytest.raises(InputError, match=rf"^a JPEG file of {bits} bits and kind SOF{kind - 0xC0}, allowed: .*$"):
        inspect_image(jpeg_of_size(64, 64, bits, kind), "x")


def test_a_truncated_jpeg_file_is_filled_if_that_is_allowed():
    data = encode(NOISE, "JPEG")
    image = np.asarray(decode_image(data[: len(data) // 2], tolerant=True))
    assert (image[:8] == np.asarray(decode_image(data))[:8]).all()
    assert (image[-8:] == 128).all()
    assert (np.asarray(decode_image(data, tolerant=True)) == np.asarray(decode_image(data))).all()
