"""The sizes of encoded images, without decoding them."""

import io
from collections.abc import Iterator

from PIL import Image

from imagedb.images import FORMATS
from imagedb.reader import ImageDatabase

Size = tuple[int, int]  # width and height in pixels


def sizes_of(database: ImageDatabase, most: int) -> Iterator[tuple[str, Size]]:
    """Name and size of at most `most` records of a database, evenly spaced; packing has decoded their images.

    Raises:
        InputError: if a record is damaged.
    """
    for index in range(0, len(database), -(-len(database) // most)):
        record = database[index]
        with Image.open(io.BytesIO(record.image), formats=FORMATS) as image:
            yield record.name, image.size
