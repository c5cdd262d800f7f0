"""Images of the results as JPEG: what deflate makes of the same pixels in a PNG may differ between processors."""

import io
from pathlib import Path

from PIL import Image

from storage.files import whole_file


def write_jpeg(path: Path, image: Image.Image) -> None:
    """Write an image."""
    encoded = io.BytesIO()  # into a file, Pillow does not repeat a write of which the disk has taken a part
    image.save(encoded, "JPEG", quality=90, subsampling=0)
    with whole_file(path) as partial:
        partial.write_bytes(encoded.getvalue())
