"""Reading an image database, from any number of processes at once."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from weakref import WeakValueDictionary

import lmdb
import torch.utils.data

from imagedb.images import decode_image
from imagedb.record import HEADER_KEY, Record, record_key, unpack_header, unpack_record

# py-lmdb opens a file only once in a process, so all datasets of one file (device, inode) share its environment.
_environments: WeakValueDictionary[tuple[int, int], lmdb.Environment] = WeakValueDictionary()


def _close_inherited() -> None:
    for environment in list(_environments.values()):
        environment.close()
    _environments.clear()


os.register_at_fork(after_in_child=_close_inherited)


class ImageDatabase(torch.utils.data.Dataset):
    """The records of a finished database, as `write_database` made it.

    It opens the file once in each process that uses it, so it can be pickled, and passed to forked and spawned workers.

    Attributes:
        path: the file.
        header: its header.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a whole database of this format and version.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self._environment: lmdb.Environment | None = None
        self._pid: int | None = None
        with self._begin() as transaction:
            try:
                self.header = unpack_header(transaction.get(HEADER_KEY))
            except ValueError as error:
                raise ValueError(f"{self.path}: {error}") from None
            entries = transaction.stat()["entries"]
        if entries != self.header.count + 1:
            raise ValueError(f"{self.path}: {entries - 1} records, the header says {self.header.count}")

    @property
    def class_names(self) -> list[str]:
        """The name of each class, by label."""
        return self.header.class_names

    def __len__(self) -> int:
        return self.header.count

    def __getitem__(self, index: int) -> Record:
        """Record number `index`, image still encoded.

        Raises:
            IndexError: if `index` is negative or not below len(self).
            ValueError: if the record is damaged.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"{self.path}: record {index}, allowed: 0 to {len(self) - 1}")
        with self._begin() as transaction:
            try:
                return unpack_record(_value(transaction, index))
            except ValueError as error:
                raise ValueError(f"{self.path}: record {index}: {error}") from None

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_environment": None, "_pid": None}

    def verify(self, progress: Callable[[Record], None] | None = None) -> int:
        """Read all records, decode every image and compare the digest.

        Args:
            progress: called with each good record.

        Returns:
            The number of records.

        Raises:
            ValueError: naming the first bad record, or saying that the digest differs.
        """
        digest = hashlib.sha256()
        with self._begin() as transaction:
            for index in range(len(self)):
                name = ""
                try:
                    value = _value(transaction, index)
                    record = unpack_record(value)
                    name = f" ({record.name})"
                    decode_image(record.image)
                    if not 0 <= record.label < len(self.class_names):
                        raise ValueError(f"label {record.label}, allowed: 0 to {len(self.class_names) - 1}")
                except ValueError as error:
                    raise ValueError(f"{self.path}: record {index}{name}: {error}") from None
                digest.update(record_key(index) + value)
                if progress:
                    progress(record)
        if digest.hexdigest() != self.header.digest:
            raise ValueError(f"{self.path}: digest {digest.hexdigest()}, the header says {self.header.digest}")
        return len(self)

    def _begin(self) -> lmdb.Transaction:
        if self._pid != os.getpid():
            self._environment, self._pid = _open(self.path), os.getpid()
        return self._environment.begin()


def _value(transaction: lmdb.Transaction, index: int) -> bytes:
    try:
        value = transaction.get(record_key(index))
    except lmdb.Error as error:
        raise ValueError(f"LMDB cannot read it: {error}") from None
    if value is None:
        raise ValueError("missing")
    return value


def _open(path: Path) -> lmdb.Environment:
    """The environment of `path` in this process."""
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist, an image database is expected there")
    if not path.is_file():
        raise ValueError(f"{path} is not a file; an image database is one file")
    status = path.stat()
    key = status.st_dev, status.st_ino
    environment = _environments.get(key)
    if environment is None:
        try:
            environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)
        except lmdb.Error as error:
            raise ValueError(f"{path} is not an LMDB file: {error}") from None
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if status.st_size < needed:  # reading beyond the end would kill the process
            raise ValueError(f"{path} is truncated: {status.st_size} bytes of {needed}")
        _environments[key] = environment
    return environment
