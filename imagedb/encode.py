"""Encoding pictures again, smaller or without compression, when a database is packed."""

import io
import zlib
from dataclasses import asdict, dataclass
from typing import Literal

from PIL import Image

from imagedb.images import decode_image


@dataclass(frozen=True)
class Encoding:
    """How a picture is encoded again. A picture is made smaller, never larger.

    Attributes:
        type: "resized": as `format`; one that is small enough stays as it is, byte for byte. "raw": all are pixels
            without compression (a binary PPM file: a line of text, then uint8 [height, width, 3]).
        side: which side is measured, "short" or "long".
        size: greatest length of that side in pixels; None ("raw" only): any.
        format: "jpeg", "png" or "webp".
        quality: of jpeg and webp.

    Raises:
        ValueError: if a resized encoding has no size.
    """

    type: Literal["resized", "raw"]
    side: Literal["short", "long"] = "short"
    size: int | None = None
    format: Literal["jpeg", "png", "webp"] = "jpeg"
    quality: int = 90

    def __post_init__(self) -> None:
        if self.type == "resized" and self.size is None:
            raise ValueError("a resized encoding needs a size")

    def describe(self) -> dict:
        """The fields that matter, for a header."""
        unused = {"resized": {"quality"} if self.format == "png" else set(), "raw": {"format", "quality"}}[self.type]
        return {key: value for key, value in asdict(self).items() if key not in unused}

    def __call__(self, data: bytes, tolerant: bool = False) -> bytes:
        """Encode an encoded image again.

        Raises:
            ValueError: if it cannot be decoded (see `decode_image`, also for `tolerant`).
        """
        image = decode_image(data, tolerant)
        side = (min if self.side == "short" else max)(image.size)
        if self.size is not None and side > self.size:
            # Pillow's Lanczos filter takes all pixels into account, as opposed to one that samples some
            image = image.resize([max(1, round(n * self.size / side)) for n in image.size], Image.Resampling.LANCZOS)
        elif self.type == "resized":
            return data
        return encode_raw(image) if self.type == "raw" else _encode(image, self.format, self.quality)


def encode_png(image: Image.Image) -> bytes:
    """A PNG file of the same mode and pixels, the same bytes on every machine."""
    buffer = io.BytesIO()
    # Z_RLE searches no strings: other strategies may give other bytes with another processor's zlib-ng code.
    image.save(buffer, "PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def encode_raw(image: Image.Image) -> bytes:
    """A binary PPM file of an RGB image."""
    return b"P6 %d %d 255\n" % image.size + image.tobytes()


def _encode(image: Image.Image, format: str, quality: int) -> bytes:
    if format == "png":
        return encode_png(image)
    buffer = io.BytesIO()
    image.save(buffer, format.upper(), quality=quality)
    return buffer.getvalue()
