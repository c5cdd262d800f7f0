"""PNG files made by hand: right checksums, wrong contents."""

import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from imagedb.images import decode_image, inspect_image
from storage.errors import InputError

WIDTH, HEIGHT = 5, 4
GREYS = np.arange(20, dtype=np.uint8).reshape(HEIGHT, WIDTH)
ROWS = b"".join(b"\0" + row.tobytes() for row in GREYS)


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def header(width=WIDTH, height=HEIGHT, bits=8, color=0, rest=bytes(3)):
    return chunk(b"IHDR", struct.pack(">IIBB", width, height, bits, color) + rest)


PIXELS, END = chunk(b"IDAT", zlib.compress(ROWS)), chunk(b"IEND")


def png(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def compressed(text=b"a" * 4_000_000):
    return zlib.compress(text)


METADATA = {
    "text": [chunk(b"zTXt", b"Comment\0\0" + compressed())],
    "international text": [chunk(b"iTXt", b"Comment\0\1\0\0\0" + compressed())],
    "text as it is": [chunk(b"tEXt", b"Comment\0" + b"a" * 4_000_000)],
    "800 texts": [chunk(b"zTXt", b"Comment\0\0" + compressed(b"a" * 500_000))] * 800,
    "profile": [chunk(b"iCCP", b"p\0\0" + compressed())],
    "damaged profile": [chunk(b"iCCP", b"p\0\0" + b"garbage"), chunk(b"iCCP", b""), chunk(b"iCCP", b"p\0\7")],
    "short gamma": [chunk(b"gAMA", b"\0")],
    "short chromaticities": [chunk(b"cHRM", b"\0")],
    "short transparency": [chunk(b"tRNS", b"")],
    "short density": [chunk(b"pHYs", b"\0\0")],
    "short intent": [chunk(b"sRGB", b"")],
    "damaged EXIF": [chunk(b"eXIf", b"II*\0\xff\xff\xff\xff")],
    "damaged animation": [chunk(b"acTL", b"\0"), chunk(b"fcTL", b"\0"), chunk(b"fdAT", b"")],
    "private": [chunk(b"prVt", bytes(9))],
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize("chunks", METADATA.values(), ids=METADATA)
def test_metadata_damage_no_pixels(chunks):
    for data in (png(header(), *chunks, PIXELS, END), png(header(), PIXELS, *chunks, END)):
        with warnings.catch_warnings(action="error"):
            assert (np.asarray(decode_image(data)) == GREYS[..., None]).all()
        assert (np.asarray(inspect_image(data, "x")[0]) == GREYS[..., None]).all()


stream = zlib.compress(ROWS)
BROKEN = {
    "nothing": ([], "has no end chunk"),
    "end alone": ([END], "does not begin with one header of 13 bytes"),
    "no header": ([PIXELS, END], "does not begin with one header of 13 bytes"),
    "empty header": ([chunk(b"IHDR"), PIXELS, END], "does not begin with one header of 13 bytes"),
    "short header": ([chunk(b"IHDR", bytes(12)), PIXELS, END], "does not begin with one header of 13 bytes"),
    "long header": ([chunk(b"IHDR", bytes(14)), PIXELS, END], "does not begin with one header of 13 bytes"),
    "two headers": ([header(), header(9, 9), PIXELS, END], "does not begin with one header of 13 bytes"),
    "header behind pixels": ([header(), PIXELS, header(9, 9), END], "does not begin with one header of 13 bytes"),
    "no pixels": ([header(), END], "it has no pixels"),
    "empty pixels": ([header(), chunk(b"IDAT"), END], "its compressed pixels end too early"),
    "garbage": ([header(), chunk(b"IDAT", b"garbage"), END], "its pixels cannot be decompressed: Error -3"),
    "cut": ([header(), chunk(b"IDAT", stream[:9]), END], "its compressed pixels end too early"),
    "checksum cut": ([header(), chunk(b"IDAT", stream[:-1]), END], "its compressed pixels end too early"),
    "few rows": ([header(), chunk(b"IDAT", zlib.compress(ROWS[:-1])), END], "its compressed pixels end too early"),
    "wrong checksum": ([header(), chunk(b"IDAT", stream[:-1] + b"x"), END], "incorrect data check"),
    "no filter": ([header(), chunk(b"IDAT", zlib.compress(b"\5" + ROWS[1:])), END], "the image cannot be decoded: "),
    "strange colour": ([header(color=5), PIXELS, END], "has colours of type 5, allowed: 0, 2, 3, 4, 6"),
    "strange bits": ([header(bits=7), PIXELS, END], "a PNG file whose header is damaged"),
    "no width": ([header(width=0), PIXELS, END], f"0 x {HEIGHT} pixels"),
    "no end": ([header(), PIXELS], "it has no end chunk"),
    "strange name": ([header(), struct.pack(">I", 0) + b"\n\x1b[2" + bytes(4)], r"of chunk \\n\\x1b\[2 is wrong$"),
    "length beyond the end": ([header(), struct.pack(">I", 2**31) + PIXELS[4:], END], "chunk IDAT is not whole"),
}


@pytest.mark.parametrize(("chunks", "message"), BROKEN.values(), ids=BROKEN)
def test_what_cannot_be_decoded_is_named(chunks, message):
    with pytest.raises(InputError, match=rf".*{message}"):
        inspect_image(png(*chunks), "x")


@pytest.mark.parametrize("parts", [1, 3, 20])
def test_pixels_in_several_chunks_and_more_of_them_than_needed(parts):
    data = zlib.compress(ROWS + b"more")
    cuts = [data[i * len(data) // parts : (i + 1) * len(data) // parts] for i in range(parts)]
    image, _ = inspect_image(png(header(), *(chunk(b"IDAT", cut) for cut in cuts), END), "x")
    assert (np.asarray(image) == GREYS[..., None]).all()


@pytest.mark.parametrize(("bits", "color"), [(1, 0), (2, 0), (16, 0), (8, 2), (16, 2), (4, 3), (8, 4), (8, 6), (16, 6)])
@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (9, 5), (17, 33)])
def test_exactly_the_bytes_of_all_rows_are_enough(bits, color, interlaced, size):
    """The sizes of the seven passes, as the specification draws them in 8 x 8 pixels, counted pixel by pixel."""
    pattern = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]
    width, height = size
    rows = {}
    for y in range(height):
        for x in range(width):
            key = (pattern[y % 8][x % 8], y) if interlaced else y
            rows[key] = rows.get(key, 0) + bits * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    needed = sum(1 + -(-count // 8) for count in rows.values())
    palette = [chunk(b"PLTE", bytes(48))] * (color == 3)

    def inspect(count):
        pixels = chunk(b"IDAT", zlib.compress(bytes(count)))
        return inspect_image(png(header(*size, bits, color, bytes([0, 0, interlaced])), *palette, pixels, END), "x")[0]

    assert inspect(needed).size == size
    with pytest.raises(InputError, match=r"^a truncated PNG file: its compressed pixels end too early$"):
        inspect(needed - 1)


def test_the_first_picture_of_an_animation():
    frames = [Image.new("L", (4, 4), value) for value in (10, 20)]
    buffer = io.BytesIO()
    frames[0].save(buffer, "PNG", save_all=True, append_images=frames[1:], default_image=False)
    image, notes = inspect_image(buffer.getvalue(), "x")
    assert (np.asarray(image) == 10).all()
    assert sorted(notes) == ["animated", "grey"]
