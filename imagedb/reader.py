"""Reading an image database, from any number of processes at once."""

import os
from collections.abc import Callable
from pathlib import Path

from imagedb.images import decode_image
from imagedb.lmdb_file import LmdbReader
from imagedb.parallel import ordered_map
from imagedb.record import Digest, Header, Record, pack_record
from imagedb.recordio import RecordIOReader
from storage.errors import InputError


class ImageDatabase:
    """The records of a finished database that `write_database` made: an LMDB file or a RecordIO folder.

    Each process that uses it opens the files itself, so it can be pickled and passed to forked and spawned workers. It
    takes no locks and writes nothing.

    Attributes:
        path: the file or folder.
        header: the header of the database.

    Raises:
        FileNotFoundError: if the path does not exist.
        InputError: if it is not a whole database of a supported version.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._reader: LmdbReader | RecordIOReader | None = None
        self._pid: int | None = None
        self.header: Header = self._open().header

    @property
    def class_names(self) -> list[str]:
        """The names of the classes, by label."""
        return self.header.class_names

    def __len__(self) -> int:
        return self.header.count

    def __getitem__(self, index: int) -> Record:
        """Record number `index`; its image is encoded.

        Raises:
            IndexError: if `index` is negative or not below len(self).
            InputError: if the record is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: record {index}, allowed: 0 to {len(self) - 1}")
        try:
            return self._open().record(index)
        except ValueError as error:
            raise InputError(f"{self.path}: record {index}: {error}") from None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_reader": None, "_pid": None}

    def verify(self, workers: int = 0, progress: Callable[[Record], object] | None = None) -> int:
        """Read all records, decode every image and mask, and compare the digest.

        Args:
            workers: threads that check records; 0: the calling thread checks them.
            progress: called with each record that is intact.

        Returns:
            The number of records.

        Raises:
            InputError: if a record is damaged (the message names the first one), or the digest differs.
        """
        digest = Digest(self.header.version)
        truncated = set(self.header.kept)

        def check(index: int) -> tuple[Record, bytes]:
            record = self[index]
            try:
                self._check(record, tolerant=index in truncated)
            except ValueError as error:
                raise InputError(f"{self.path}: record {index} ({record.name}): {error}") from None
            return record, pack_record(record)

        for record, value in ordered_map(check, range(len(self)), workers):
            digest.add(value)
            if progress:
                progress(record)
        if digest.hexdigest() != self.header.digest:
            raise InputError(f"{self.path}: digest {digest.hexdigest()}, the header says {self.header.digest}")
        return len(self)

    def _check(self, record: Record, tolerant: bool) -> None:
        decode_image(record.image, tolerant)
        if (record.annotation is None) == self.header.annotated:
            raise InputError(f"{'no' if self.header.annotated else 'an'} annotation, which differs from the header")
        for mask in record.masks:
            decode_image(mask)
        for label in record.labels:
            if not 0 <= label < len(self.class_names):
                raise InputError(f"label {label}, allowed: 0 to {len(self.class_names) - 1}")

    def _open(self) -> LmdbReader | RecordIOReader:
        if self._reader is None or self._pid != os.getpid():
            if not self.path.exists():
                raise FileNotFoundError(f"{self.path} does not exist, an image database is expected there")
            self._reader = (RecordIOReader if self.path.is_dir() else LmdbReader)(self.path)
            self._pid = os.getpid()
        return self._reader
