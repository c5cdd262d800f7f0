"""Decoding an encoded image, the same way when a database is written, verified and read."""

import io

from PIL import Image, UnidentifiedImageError

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")  # Pillow clips 16-bit and float images to 8 bits


def decode_image(data: bytes) -> Image.Image:
    """Decode one image to RGB, 8 bits a channel: first frame, alpha dropped, EXIF orientation not applied.

    Raises:
        ValueError: if the data is not a whole image in one of FORMATS, or its pixels are not in one of MODES.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            mode, rgb = image.mode, image.convert("RGB")
    except UnidentifiedImageError:
        raise ValueError(f"not an image, allowed: {', '.join(FORMATS)}") from None
    except Exception as error:  # Pillow's decoders raise any type on damaged data
        raise ValueError(f"the image cannot be decoded: {' '.join(str(error).split())}") from None
    if mode not in MODES:
        raise ValueError(f"pixels of Pillow mode {mode}, allowed: {', '.join(MODES)}")
    return rgb
