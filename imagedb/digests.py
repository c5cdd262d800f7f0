"""Digests of a database's images, in a file beside it: equal images are found by them without decoding any.

<stem>.digests holds the digest of the database, 32 bytes, and 32 bytes for each record: 16 of the SHA-256 of the
encoded image as the source has it, and 16 of that of its width, height and RGB pixels.
"""

import hashlib
from pathlib import Path

from PIL import Image

from imagedb.reader import ImageDatabase
from storage.errors import InputError
from storage.files import whole_file

HALF = 16  # bytes of each digest; two different images have equal ones with a probability of 2**-128


def image_digests(data: bytes, image: Image.Image) -> bytes:
    """The 32 bytes of an image, encoded and as RGB pixels."""
    pixels = hashlib.sha256(b"%d %d " % image.size)
    pixels.update(image.tobytes())
    return hashlib.sha256(data).digest()[:HALF] + pixels.digest()[:HALF]


def digests_file(database: Path) -> Path:
    """Where the digests of a database are."""
    return database.with_suffix(".digests")


def write_digests(database: Path, digest: str, digests: bytes | bytearray) -> None:
    """Write the digests of the records of the database with the given `digest`.

    Raises:
        OSError: if the file cannot be written.
    """
    with whole_file(digests_file(database)) as partial:
        partial.write_bytes(bytes.fromhex(digest) + digests)


def read_digests(database: ImageDatabase) -> bytes:
    """The digests of the records of a database, 32 bytes each.

    Raises:
        InputError: if they are missing, or belong to another database.
    """
    file, again = digests_file(database.path), "pack it again"
    if not file.exists():
        raise InputError(f"{file} does not exist, it should hold the digests of {database.path}: {again}")
    content = file.read_bytes()
    own, digests = content[: 2 * HALF], content[2 * HALF :]
    if own.hex() != database.header.digest or len(digests) != 2 * HALF * len(database):
        raise InputError(f"{file} does not belong to {database.path}: {again}")
    return digests
