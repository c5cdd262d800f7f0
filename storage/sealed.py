"""Files that end with a SHA-256 of all before it, so that a reader sees damage."""

import hashlib
from typing import BinaryIO

MARK = b"\nsha256 "


class SealedWriter:
    """A file to write to whose `seal` appends the digest of what has been written.

    Args:
        file: The file, open for writing, at its start.
    """

    def __init__(self, file: BinaryIO):
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def seal(self) -> None:
        """Append the digest; nothing may be written after it."""
        self._file.write(MARK + self._digest.digest())


def is_whole(contents: bytes) -> bool:
    """Whether contents that were sealed are those that were written; False for contents without a seal."""
    seal = len(MARK) + hashlib.sha256().digest_size
    written = memoryview(contents)[:-seal]
    return contents[-seal:] == MARK + hashlib.sha256(written).digest()
