"""A database as one LMDB file."""

import os
import shutil
from pathlib import Path
from weakref import WeakValueDictionary

import lmdb

from imagedb.record import HEADER_KEY, Header, Record, pack_header, record_key, unpack_header, unpack_record
from storage.errors import InputError
from storage.files import sync

TRANSACTION_BYTES, TRANSACTION_RECORDS = 2**20, 1000  # the record that reaches either ends its transaction
INITIAL_MAP_SIZE = 2**24  # bytes; doubled when full

# py-lmdb opens a file only once per process, so all readers of a file (device, inode) share its environment.
_environments: WeakValueDictionary[tuple[int, int], lmdb.Environment] = WeakValueDictionary()


class LmdbWriter:
    """Appends records to the new file `path`, which is a database only after `finish`.

    Raises:
        OSError: from any method, if the file cannot be written.
    """

    def __init__(self, path: Path):
        self._path = path
        self._entries: list[tuple[bytes, bytes]] = []
        self._bytes = self._count = 0
        try:
            # Safety comes from fsync and rename at the end, so transactions need not wait for the disk.
            self._environment = lmdb.open(str(path), subdir=False, lock=False, sync=False, map_size=INITIAL_MAP_SIZE)
        except lmdb.Error as error:
            raise OSError(f"cannot write {path}: {error}") from None

    def put(self, record: Record, value: bytes) -> None:
        """Append a record; `value` is its msgpack form."""
        self._entries.append((record_key(self._count), value))
        self._bytes += len(value)
        self._count += 1
        if self._bytes >= TRANSACTION_BYTES or len(self._entries) >= TRANSACTION_RECORDS:
            self._commit()

    def finish(self, header: Header) -> None:
        """Write the header; on return, the whole file is on the disk."""
        self._commit()
        self._entries.append((HEADER_KEY, pack_header(header)))
        self._commit()
        size = (self._environment.info()["last_pgno"] + 1) * self._environment.stat()["psize"]
        self.close()
        os.truncate(self._path, size)  # LMDB may leave the last pages unwritten, and the file would look truncated
        sync(self._path)

    def close(self) -> None:
        self._environment.close()

    def _commit(self) -> None:
        """Append the entries in one transaction, enlarging the map if it is full."""
        while True:
            try:
                with self._environment.begin(write=True) as transaction:
                    for key, value in self._entries:
                        transaction.put(key, value, append=True)
                break
            except lmdb.MapFullError:
                self._environment.set_mapsize(2 * self._environment.info()["map_size"])
            except lmdb.Error as error:  # LMDB may report a full disk as an input/output error
                free = shutil.disk_usage(self._path.parent).free / 1e6
                raise OSError(f"cannot write {self._path}: {error}; {free:,.1f} MB are free there") from None
        self._entries, self._bytes = [], 0


class LmdbReader:
    """The records of a finished LMDB file, for one process.

    Raises:
        InputError: if the file is not a whole database.
    """

    def __init__(self, path: Path):
        self._environment = open_environment(path)
        with self._environment.begin() as transaction:
            try:
                self.header = unpack_header(transaction.get(HEADER_KEY))
            except ValueError as error:
                raise InputError(f"{path}: {error}") from None
            entries = transaction.stat()["entries"]
        if entries != self.header.count + 1:
            raise InputError(f"{path}: {entries - 1} records, the header says {self.header.count}")

    def record(self, index: int) -> Record:
        """Record number `index`.

        Raises:
            InputError: if it is missing or damaged.
        """
        try:
            with self._environment.begin() as transaction:
                value = transaction.get(record_key(index))
        except lmdb.Error as error:
            raise InputError(f"LMDB cannot read it: {error}") from None
        if value is None:
            raise InputError("missing")
        return unpack_record(value)


def open_environment(path: Path) -> lmdb.Environment:
    """The environment of an LMDB file for reading without locks: one per process, also after a fork.

    Raises:
        InputError: if it is not a whole LMDB file.
    """
    status = path.stat()
    key = status.st_dev, status.st_ino
    environment = _environments.get(key)
    if environment is None:
        try:
            environment = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)
        except lmdb.Error as error:
            raise InputError(f"{path} is not an LMDB file: {error}") from None
        needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
        if status.st_size < needed:  # reading beyond the end would kill this process
            raise InputError(f"{path} is truncated: {status.st_size} bytes of {needed}")
        _environments[key] = environment
    return environment


def _close_inherited() -> None:
    for environment in list(_environments.values()):
        environment.close()
    _environments.clear()


os.register_at_fork(after_in_child=_close_inherited)
