"""Encoded images: inspecting them for damage and unusual properties, and the one way to decode them."""

import ctypes
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath

import numpy as np
from PIL import Image, UnidentifiedImageError, _imaging

from imagedb import jpeg, png
from imagedb.exif import orientation_note
from imagedb.limits import MAX_BYTES, MAX_PIXELS, check_size
from storage.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
# The format that a file's suffix stands for.
SUFFIXES = {".jpg": "JPEG", ".jpeg": "JPEG", ".tif": "TIFF", ".tiff": "TIFF", **{f".{f.lower()}": f for f in FORMATS}}
TILE = (322, 323)  # tags of TIFF: width and height of the parts that are decoded at once

Image.MAX_IMAGE_PIXELS = MAX_PIXELS // 2  # Pillow refuses twice as many wherever it decodes, and warns before
warnings.filterwarnings("ignore", module=r"PIL\.")  # packing names them once (`pillow_warnings`)
logging.getLogger("PIL").addHandler(logging.NullHandler())  # its errors are raised, too
# libtiff would print a line on stderr for each damaged file, beside the error that Pillow raises
getattr(ctypes.CDLL(_imaging.__file__), "TIFFSetErrorHandler", lambda handler: None)(None)


def decode_image(data: bytes, tolerant: bool = False) -> Image.Image:
    """Decode one image to RGB with 8 bits per channel.

    Only the first frame is decoded. Alpha is dropped, EXIF orientation is ignored, and of 16-bit grey the high byte is
    used. The metadata of JPEG and PNG files are not read.

    Args:
        tolerant: whether the missing part of a truncated JPEG file becomes grey.

    Raises:
        InputError: if the data is not a whole image in one of FORMATS, is larger than `imagedb.limits` allow, or its
            mode is not one of MODES.
    """
    if data.startswith(jpeg.SIGNATURE):
        data, _ = jpeg.read_jpeg(data, tolerant)
        if tolerant and not data.endswith(jpeg.END):
            data += jpeg.END
    elif data.startswith(png.SIGNATURE):
        data, _ = png.read_png(data)
    with _opened(data) as image:
        return _to_rgb(image)


def inspect_image(data: bytes, name: str) -> tuple[Image.Image, list[str]]:
    """Check that an image is whole by decoding it, and note its unusual properties.

    Args:
        name: file name of the image, whose suffix says which format people expect.

    Returns:
        The image as `decode_image` gives it; and any of "grey", "16-bit", "CMYK", "animated", "EXIF orientation" and,
        if the suffix is that of another format, such as "JPEG named .png".

    Raises:
        InputError: if the image is truncated, damaged or of a kind that is not supported.
    """
    if len(data) > MAX_BYTES:
        raise InputError(f"{len(data)} bytes, allowed: {MAX_BYTES}")
    notes: list[str] | None = None
    if data.startswith(jpeg.SIGNATURE):
        data, notes = jpeg.read_jpeg(data)
    elif data.startswith(png.SIGNATURE):
        data, notes = png.read_png(data)
        png.check_pixels(data)
    with _opened(data) as image:
        kind = str(image.format)
        notes = _notes(image) if notes is None else notes
        decoded = _to_rgb(image)
    suffix = PurePath(name).suffix.lower()
    if SUFFIXES.get(suffix, kind) != kind:
        notes.append(f"{kind} named {suffix}")
    return decoded, list(dict.fromkeys(notes))


@contextmanager
def _opened(data: bytes) -> Iterator[Image.Image]:
    """An image of a size and mode that can be decoded; what Pillow raises in the block becomes an InputError."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            check_size(*image.size)
            if image.format == "TIFF":
                check_size(*(int(image.tag_v2.get(tag, 1)) for tag in TILE))  # type: ignore[attr-defined]
            if image.mode not in (*MODES, *SIXTEEN_BIT):
                raise InputError(f"pixels of Pillow mode {image.mode}, allowed: 16-bit grey, {', '.join(MODES)}")
            yield image
    except (InputError, MemoryError):
        raise
    except UnidentifiedImageError:
        kind = next((kind for kind in FORMATS if Image.OPEN[kind][1](data[:16])), None)  # type: ignore[misc]
        known = f"a {kind} file whose header is damaged" if kind else f"not an image, allowed: {', '.join(FORMATS)}"
        raise InputError(known if data else "empty") from None
    except Image.DecompressionBombError:
        raise InputError(f"more than {MAX_PIXELS} pixels (a decompression bomb?)") from None
    except Exception as error:  # Pillow's decoders raise any type on damaged data
        words = repr(" ".join(str(error).split()))[1:-1]  # which may hold bytes of the file
        raise InputError(f"the image cannot be decoded: {words[:200]}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in SIXTEEN_BIT:
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def _notes(image: Image.Image) -> list[str]:
    notes = ["animated"] * getattr(image, "is_animated", False)
    notes += ["16-bit"] * (image.mode in SIXTEEN_BIT) + ["CMYK"] * (image.mode == "CMYK")
    notes += ["grey"] * (image.mode in ("1", "L", "LA", *SIXTEEN_BIT))
    return notes + orientation_note(image.getexif())
