"""A database as one LMDB file."""

import os
import resource
import shutil
from pathlib import Path

import lmdb

from imagedb.lmdb_pages import LmdbFile
from imagedb.record import (
    HEADER_KEY,
    SEALED,
    Header,
    Record,
    pack_header,
    record_key,
    seal,
    unpack_header,
    unpack_record,
    unseal,
)
from storage.errors import InputError
from storage.files import sync

TRANSACTION_BYTES, TRANSACTION_RECORDS = 2**20, 1000  # the record that reaches either ends its transaction
INITIAL_MAP_SIZE = 2**24  # bytes; doubled when full


class LmdbWriter:
    """Appends records to the new file `path`, which is a database only after `finish`.

    Raises:
        OSError: from any method, if the file cannot be written.
        MemoryError: from any method, if the process may not map the file into its memory, as LMDB does.
    """

    def __init__(self, path: Path):
        self._path = path
        self._entries: list[tuple[bytes, bytes]] = []
        self._bytes = self._count = 0
        self._map_size = INITIAL_MAP_SIZE
        try:
            # Safety comes from fsync and rename at the end, so transactions need not wait for the disk.
            self._environment = lmdb.open(str(path), subdir=False, lock=False, sync=False, map_size=self._map_size)
        except lmdb.MemoryError:
            raise self._no_map() from None
        except lmdb.Error as error:
            raise OSError(f"cannot write {path}: {error}") from None

    def put(self, record: Record, value: bytes) -> None:
        """Append a record; `value` is its msgpack form."""
        key = record_key(self._count)
        self._entries.append((key, seal(key, value)))
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
                self._enlarge()
            except lmdb.Error as error:  # LMDB may report a full disk as an input/output error
                free = shutil.disk_usage(self._path.parent).free / 1e6
                raise OSError(f"cannot write {self._path}: {error}; {free:,.1f} MB are free there") from None
        self._entries, self._bytes = [], 0

    def _enlarge(self) -> None:
        self._map_size *= 2
        try:
            self._environment.set_mapsize(self._map_size)
        except lmdb.MemoryError:
            raise self._no_map() from None

    def _no_map(self) -> MemoryError:
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        has = "the system has no more" if limit == resource.RLIM_INFINITY else f"`ulimit -v` allows {limit / 1e6:,.1f}"
        return MemoryError(f"LMDB needs {self._map_size / 1e6:,.1f} MB of addresses for {self._path}, {has} in all")


class LmdbReader:
    """The records of a finished LMDB file, for any thread or forked process.

    Raises:
        InputError: if the file is not a whole database.
    """

    def __init__(self, path: Path):
        self._file = LmdbFile(path)
        try:
            self.header = unpack_header(self._file.get(HEADER_KEY))
        except ValueError as error:
            raise InputError(f"{path}: {error}") from None
        if self._file.entries != self.header.count + 1:
            raise InputError(f"{path}: {self._file.entries - 1} records, the header says {self.header.count}")

    def record(self, index: int) -> Record:
        """Record number `index`.

        Raises:
            InputError: if it is missing or damaged.
        """
        key = record_key(index)
        value = self._file.get(key)
        if value is None:
            raise InputError("missing")
        return unpack_record(unseal(key, value) if self.header.version >= SEALED else value)
