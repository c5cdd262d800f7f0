"""Re-encoding of images, smaller or without compression, when a database is packed."""

import io
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

from PIL import Image

from storage.errors import InputError

Resize = Callable[[Image.Image, tuple[int, int]], Image.Image]  # an RGB image to a width and height


def lanczos(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Pillow's Lanczos filter, which takes all pixels into account, unlike filters that sample some."""
    return image.resize(size, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class Encoding:
    """How an image is encoded again; it may become smaller, never larger.

    Attributes:
        type: "resized" encodes larger images as `format` and leaves the bytes of others unchanged. "raw" stores all as
            uncompressed pixels (a binary PPM file: a line of text, then uint8 [height, width, 3]).
        side: the side that `size` limits, "short" or "long".
        size: greatest length of that side in pixels; None ("raw" only): no limit.
        format: "jpeg", "png" or "webp", for type "resized".
        quality: quality of jpeg and webp.
        resize: what makes an image smaller.

    Raises:
        InputError: if a resized encoding has no size.
    """

    type: Literal["resized", "raw"]
    side: Literal["short", "long"] = "short"
    size: int | None = None
    format: Literal["jpeg", "png", "webp"] = "jpeg"
    quality: int = 90
    resize: Resize = lanczos

    def __post_init__(self) -> None:
        if self.type == "resized" and self.size is None:
            raise InputError("a resized encoding needs a size")

    def describe(self) -> dict:
        """The fields that have an effect, for the header of a database."""
        unused = {"resized": {"quality"} if self.format == "png" else set(), "raw": {"format", "quality"}}[self.type]
        return {key: value for key, value in asdict(self).items() if key not in unused | {"resize"}}

    def __call__(self, image: Image.Image, data: bytes) -> bytes:
        """Encode an RGB image, of which `data` is the encoded form, again.

        Raises:
            InputError: if the format cannot hold an image of that size.
        """
        side = (min if self.side == "short" else max)(image.size)
        if self.size is not None and side > self.size:
            width, height = (max(1, round(n * self.size / side)) for n in image.size)
            image = self.resize(image, (width, height))
        elif self.type == "resized":
            return data
        return encode_raw(image) if self.type == "raw" else _encode(image, self.format, self.quality)


def encode_png(image: Image.Image) -> bytes:
    """A PNG file with the image's mode and pixels; the same bytes on every machine."""
    buffer = io.BytesIO()
    # Z_RLE searches no strings; with other strategies, zlib-ng may give other bytes on another processor.
    image.save(buffer, "PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def encode_raw(image: Image.Image) -> bytes:
    """A binary PPM file of an RGB image."""
    return b"P6 %d %d 255\n" % image.size + image.tobytes()


def _encode(image: Image.Image, format: str, quality: int) -> bytes:
    if format == "png":
        return encode_png(image)
    buffer = io.BytesIO()
    try:
        image.save(buffer, format.upper(), quality=quality)
    except (OSError, ValueError) as error:
        raise InputError(f"{image.width} x {image.height} pixels cannot be encoded as {format}: {error}") from None
    return buffer.getvalue()
