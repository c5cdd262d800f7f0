"""Reading an image database, from any number of processes at once."""

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

    Threads and forked processes share its open files; a process that unpickles it opens them itself. It takes no locks
    and writes nothing.

    Attributes:
        path: the file or folder.
        header: the header of the database.

    Raises:
        FileNotFoundError: if the path does not exist.
        InputError: if it is not a whole database of a supported version.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._reader = _open(self.path)
        self.header: Header = self._reader.header

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
            InputError: if the record is damaged, or a label has no class.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: record {index}, allowed: 0 to {len(self) - 1}")
        try:
            record = self._reader.record(index)
            for label in record.labels:
                if not 0 <= label < len(self.class_names):
                    raise InputError(f"label {label}, allowed: 0 to {len(self.class_names) - 1}")
            return record
        except ValueError as error:
            raise InputError(f"{self.path}: record {index}: {error}") from None

    def __reduce__(self) -> tuple:
        return _reopen, (self.path, self.header)

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


def _open(path: Path) -> LmdbReader | RecordIOReader:
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist, an image database is expected there")
    return (RecordIOReader if path.is_dir() else LmdbReader)(path)


def _reopen(path: Path, header: Header) -> ImageDatabase:
    database = ImageDatabase(path)
    if database.header != header:
        raise InputError(f"{path} has been replaced since it was opened")
    return database
