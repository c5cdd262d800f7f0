"""Databases as sources that are packed again: those of the reference toolkit, and our own."""

from collections.abc import Iterator
from pathlib import Path

import msgpack

from imagedb.lmdb_pages import LmdbFile
from imagedb.reader import ImageDatabase
from imagedb.sources.image_list import read_class_names
from imagedb.sources.source import WHOLE, IndexedSource, Shard, Source, SourceImage, Survey
from storage.errors import InputError


class ReferenceSource(Source):
    """The LMDB database root/split, a file or a folder, that the reference toolkit packed from ImageNet.

    Key __len__ holds the number of images in ASCII. Keys 0, 1, ... hold the msgpack of one bytes object: a JPEG file
    and its label as 2 bytes, little-endian. Images are named and ordered by their keys. Class names are those of
    `read_class_names`; without them "0", "1", and so on to the largest label, which is found by reading all records.

    Raises:
        FileNotFoundError: if the database does not exist.
        InputError: if it is damaged, or has fewer records than __len__ says.
    """

    def __init__(self, root: str | Path, split: str):
        path = Path(root) / split
        self._file = path / "data.mdb" if path.is_dir() else path
        if not self._file.is_file():
            raise FileNotFoundError(f"{self._file} does not exist, an LMDB database is expected there")
        self._entries = LmdbFile(self._file)
        count, records = self._entries.get(b"__len__") or b"", self._entries.entries - 1
        if not count.isdigit() or len(count) > 20:
            raise InputError(f"{self._file} has no number at key __len__, the reference toolkit did not finish it")
        self._count = int(count)
        if records < self._count:
            raise InputError(f"{self._file} has {records} records, its __len__ says {self._count}")
        class_names = read_class_names(root)
        if class_names is None:
            labels = (_label(value) for value in self._values(WHOLE))
            class_names = [str(label) for label in range(max(labels, default=-1) + 1)]
        self.class_names = class_names

    def images(self, shard: Shard = WHOLE) -> Iterator[SourceImage]:
        for index, value in zip(shard.of(self._count), self._values(shard), strict=True):
            try:
                data = msgpack.unpackb(value, raw=True)
            except ValueError:
                data = None
            if not isinstance(data, bytes) or len(data) < 3:
                raise InputError(f"{self._file}: record {index} is not the msgpack of a JPEG and a label")
            yield SourceImage(str(index), _label(data), data[:-2], self._file)

    def survey(self, shard: Shard = WHOLE) -> Survey:
        sizes = [len(value) for value in self._values(shard)]
        return Survey(len(sizes), sum(sizes))

    def expected(self, shard: Shard = WHOLE) -> tuple[int, str]:
        return len(shard.of(self._count)), "image"

    def _values(self, shard: Shard) -> Iterator[bytes]:
        for index in shard.of(self._count):
            try:
                value = self._entries.get(str(index).encode())
            except InputError as error:
                raise InputError(f"{self._file}: record {index}: {error}") from None
            if value is None:
                raise InputError(f"{self._file}: record {index} is missing")
            yield value


class DatabaseSource(IndexedSource):
    """The records of the finished database `path`, to pack them in another encoding or format.

    Raises:
        FileNotFoundError: if the database does not exist.
        InputError: if it is not a whole database.
    """

    def __init__(self, path: str | Path):
        self._database = ImageDatabase(path)
        self.class_names, self.annotated = self._database.class_names, self._database.header.annotated

    def __len__(self) -> int:
        return len(self._database)

    def __getitem__(self, index: int) -> SourceImage:
        record = self._database[index]
        annotation = (lambda: record.annotation) if self.annotated else None
        return SourceImage(record.name, record.label, record.image, self._database.path, annotation)

    def survey(self, shard: Shard = WHOLE) -> Survey:
        return Survey(len(shard.of(len(self))), None)


def _label(data: bytes) -> int:
    return int.from_bytes(data[-2:], "little")
