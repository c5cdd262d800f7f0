"""Encoded images: inspecting them for damage and unusual properties, and the one way to decode them."""

import io
import struct
import zlib
from pathlib import PurePath

import numpy as np
from PIL import Image, UnidentifiedImageError

from storage.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
MAX_PIXELS = 2**27  # an image that claims more is treated as a decompression bomb
Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which prints a warning

JPEG_SIGNATURE, JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
# The format that a file's suffix stands for.
SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", **{f".{f.lower()}": f for f in FORMATS}}
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
ORIENTATION = 0x0112  # EXIF tag; 1 is upright


def decode_image(data: bytes, tolerant: bool = False) -> Image.Image:
    """Decode one image to RGB with 8 bits per channel.

    Only the first frame is decoded. Alpha is dropped, EXIF orientation is ignored, and of 16-bit grey the high byte is
    used.

    Args:
        tolerant: whether the missing part of a truncated JPEG file becomes grey.

    Raises:
        InputError: if the data is not a whole image in one of FORMATS, has more than MAX_PIXELS, or its mode is not one
            of MODES.
    """
    if tolerant and data.startswith(JPEG_SIGNATURE) and not data.endswith(JPEG_END):
        data += JPEG_END
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(*image.size)
            if image.mode not in (*MODES, *SIXTEEN_BIT):
                raise InputError(f"pixels of Pillow mode {image.mode}, allowed: 16-bit grey, {', '.join(MODES)}")
            if image.mode in SIXTEEN_BIT:
                return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
            return image.convert("RGB")
    except UnidentifiedImageError:
        raise InputError("empty" if not data else f"not an image, allowed: {', '.join(FORMATS)}") from None
    except ValueError:
        raise
    except Exception as error:  # Pillow's decoders raise any type on damaged data
        raise InputError(f"the image cannot be decoded: {' '.join(str(error).split())}") from None


def inspect_image(data: bytes, name: str) -> list[str]:
    """Check that an image is whole, and note its unusual properties.

    JPEG and PNG files are checked by their structure, a hundred times faster than by decoding; this finds truncated
    files and (PNG) wrong checksums. Files of other formats are decoded.

    Args:
        name: file name of the image, whose suffix says which format people expect.

    Returns:
        Any of "grey", "16-bit", "CMYK", "animated", "EXIF orientation" and, if the suffix is that of another format,
        such as "JPEG named .png".

    Raises:
        InputError: if the image is truncated, damaged or of a kind that is not supported.
    """
    if data.startswith(JPEG_SIGNATURE):
        kind, notes = "JPEG", _inspect_jpeg(data)
    elif data.startswith(PNG_SIGNATURE):
        kind, notes = "PNG", _inspect_png(data)
    else:
        kind, notes = _inspect_by_decoding(data)
    suffix = PurePath(name).suffix.lower()
    if SUFFIXES.get(suffix, kind) != kind:
        notes.append(f"{kind} named {suffix}")
    return notes


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(f"{width} x {height} pixels, allowed: {MAX_PIXELS} in all (a decompression bomb?)")
    if not width * height:
        raise InputError(f"{width} x {height} pixels")


def _inspect_jpeg(data: bytes) -> list[str]:
    """Walk through the segments up to the first scan (ITU-T T.81, annex B)."""
    notes, at, components = [], 2, None
    while True:
        if len(data) < at + 4 or data[at] != 0xFF:
            raise InputError("a JPEG file that is truncated or damaged before its first scan")
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker == 0xDA:
            break
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if length < 8 or len(data) < at + 10:
                raise InputError("a JPEG file with a damaged frame header")
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            if bits != 8 or marker > 0xC2:
                raise InputError(f"a JPEG file of {bits} bits and kind SOF{marker - 0xC0}, allowed: 8 bits, SOF0 to 2")
            _check_size(width, height)
        if marker == 0xE1 and data.startswith(b"Exif\0\0", at + 4):
            notes += _orientation(data[at + 4 : at + 2 + length])
        at += 2 + length
    if components is None:
        raise InputError("a JPEG file without a frame header")
    if not data.endswith(JPEG_END) and data.find(JPEG_END, at) < 0:
        raise InputError("a truncated JPEG file: it has no end marker")
    return notes + {1: ["grey"], 4: ["CMYK"]}.get(components, [])


def _inspect_png(data: bytes) -> list[str]:
    """Walk through the chunks and compare their checksums (PNG specification, section 5)."""
    notes, at, kind = [], len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        if len(data) < at + 12:
            raise InputError("a truncated PNG file: it has no end chunk")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if len(data) < end + 4:
            raise InputError(f"a truncated PNG file: chunk {kind.decode('latin-1')} is not whole")
        if zlib.crc32(memoryview(data)[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise InputError(f"a damaged PNG file: the checksum of chunk {kind.decode('latin-1')} is wrong")
        if kind == b"IHDR":
            width, height, bits, color = struct.unpack_from(">IIBB", data, at + 8)
            _check_size(width, height)
            notes += ["16-bit"] * (bits == 16) + ["grey"] * (color in (0, 4))
        elif kind == b"acTL":
            notes.append("animated")
        elif kind == b"eXIf":
            notes += _orientation(b"Exif\0\0" + data[at + 8 : end])
        at = end + 4
    return notes


def _inspect_by_decoding(data: bytes) -> tuple[str, list[str]]:
    decode_image(data)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        notes = ["animated"] * (getattr(image, "n_frames", 1) > 1)
        notes += ["16-bit"] * (image.mode in SIXTEEN_BIT) + ["CMYK"] * (image.mode == "CMYK")
        notes += ["grey"] * (image.mode in ("1", "L", "LA", *SIXTEEN_BIT))
        notes += ["EXIF orientation"] * (image.getexif().get(ORIENTATION, 1) != 1)
        return str(image.format), notes


def _orientation(exif: bytes) -> list[str]:
    parsed = Image.Exif()
    try:
        parsed.load(exif)
    except Exception:  # a damaged EXIF block damages no pixels
        return []
    return ["EXIF orientation"] * (parsed.get(ORIENTATION, 1) != 1)
