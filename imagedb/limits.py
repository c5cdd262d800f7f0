"""How large an image may be, so that no file takes memory or time without bounds."""

from storage.errors import InputError

MAX_PIXELS = 2**27  # an image that claims more is treated as a decompression bomb
MAX_BYTES = 2**30  # of an encoded image; MAX_PIXELS of 8 bytes, without compression
MAX_SCANS = 100  # of a JPEG file, each of which passes over all pixels; libtiff's limit, encoders write about ten


def check_size(width: int, height: int) -> None:
    """Make sure that an image of `width` x `height` pixels may be decoded.

    Raises:
        InputError: if it has more than MAX_PIXELS, or none.
    """
    if width * height > MAX_PIXELS:
        raise InputError(f"{width} x {height} pixels, allowed: {MAX_PIXELS} in all (a decompression bomb?)")
    if not width * height:
        raise InputError(f"{width} x {height} pixels")
