"""The orientation that EXIF metadata ask for; pixels are not turned by it."""

from PIL import Image

TAG = 0x0112
TURNED = range(2, 9)  # 1 is upright, and other values have no meaning


def orientation_note(exif: bytes | Image.Exif) -> list[str]:
    """["EXIF orientation"] if an image should be turned or mirrored before it is looked at; of damaged EXIF, []."""
    try:
        if isinstance(exif, bytes):
            block, exif = exif, Image.Exif()
            exif.load(block)
        return ["EXIF orientation"] * (exif.get(TAG) in TURNED)
    except MemoryError:
        raise
    except Exception:  # Pillow raises any type; damaged EXIF damages no pixels
        return []
