"""An image database as a folder of MXNet's RecordIO, for labelled images.

data.rec: the records one after another, each the little-endian words 0xced7230a and flag << 29 | length, `length` bytes
    of data, and zeros up to a multiple of 4. Data that contain the first word at a multiple of 4 are cut there: that
    word is left out, and the parts have the flags 1, 2, ..., 2, 3. Data in one part have flag 0. The data are MXNet's
    IRHeader, "<IfQQ": 0, label, number, checksum, and the encoded image (dmlc-core, src/recordio.cc; MXNet,
    python/mxnet/recordio.py). The checksum is the CRC-32 of the record's line in data.lst and its image; it stands
    where MXNet has the higher half of a number of 128 bits, which it does not read. Up to version 2 it was 0.
data.idx: for each record a line "<number>\\t<offset in data.rec>".
data.lst: for each record a line "<number>\\t<label>\\t<name>".
header.json: the header of imagedb/record.py, written last, so a folder without it is unfinished.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np

from imagedb.record import SEALED, Header, Record, pack_header, unpack_header
from storage.errors import InputError, cannot_write
from storage.files import sync
from storage.json_file import parse_json

MAGIC = (0xCED7230A).to_bytes(4, "little")
LENGTH_BITS = 29
WHOLE, FIRST, MIDDLE, LAST = range(4)  # flags
PART = struct.Struct("<4sI")
LABEL = struct.Struct("<IfQQ")  # MXNet's IRHeader: number of further labels, label, id, second id
MAX_LABEL = 2**24  # up to here float32 holds all integers

DATA, INDEX, NAMES, HEADER = "data.rec", "data.idx", "data.lst", "header.json"


class RecordIOWriter:
    """Appends records to the new folder `path`, which is a database only after `finish`.

    Raises:
        FileExistsError: if `path` exists.
        OSError: from any method, if a file cannot be written; names it.
    """

    def __init__(self, path: Path):
        path.mkdir()
        self._path = path
        self._count = 0
        with ExitStack() as files:
            self._data, self._index, self._names = (
                files.enter_context((path / name).open("wb")) for name in (DATA, INDEX, NAMES)
            )
            self._files = files.pop_all()

    def put(self, record: Record, value: bytes) -> None:
        """Append a record; `value`, its msgpack form, is not used.

        Raises:
            InputError: if RecordIO cannot hold the record.
        """
        if record.label is None or record.annotation is not None:
            raise InputError(f"image {record.name}: RecordIO holds labels, not annotations; write lmdb")
        if record.label > MAX_LABEL:
            raise InputError(f"image {record.name}: label {record.label}, allowed in RecordIO: up to {MAX_LABEL}")
        if any(character in record.name for character in "\t\n\r"):
            raise InputError(f"image {record.name!r}: RecordIO allows no tab and no line break in a name; write lmdb")
        size = LABEL.size + len(record.image)
        if size >> LENGTH_BITS:
            raise InputError(f"image {record.name}: {size} bytes, allowed in RecordIO: below {1 << LENGTH_BITS}")
        line = f"{self._count}\t{record.label}\t{record.name}\n".encode()
        head = LABEL.pack(0, record.label, self._count, _checksum(line, record.image))
        with _writing(self._path):
            self._index.write(b"%d\t%d\n" % (self._count, self._data.tell()))
            self._names.write(line)
            self._data.writelines(_frame(head + record.image))
        self._count += 1

    def finish(self, header: Header) -> None:
        """Write the header; on return, the whole folder is on the disk."""
        self.close()
        with _writing(self._path):
            (self._path / HEADER).write_text(pack_header(header, json.dumps) + "\n")
            for name in (DATA, INDEX, NAMES, HEADER):
                sync(self._path / name)
            sync(self._path)

    def close(self) -> None:
        with _writing(self._path):
            self._files.close()


class RecordIOReader:
    """Reads the finished database in the folder `path` from any thread or process; unpickling opens it again.

    Attributes:
        header: the header of the database.

    Raises:
        FileNotFoundError: if the folder does not exist.
        InputError: if it is not a whole database of this format.
    """

    def __init__(self, path: Path):
        self._path = path
        if not path.is_dir():
            raise FileNotFoundError(f"{path} is not a folder; expected a database in RecordIO")
        for file in (path / name for name in (HEADER, DATA, INDEX, NAMES)):
            if file.exists() and not file.is_file():
                raise InputError(f"{file} is not a file, one is expected there")
        with ExitStack() as files:
            try:
                self.header = self._read_header()
                self._data, self._names = (
                    files.enter_context((path / name).open("rb", buffering=0)) for name in (DATA, NAMES)
                )
                self._starts, self._lines = self._read_index(), self._read_lines()
                if self.header.count:
                    self._check_end()
            except FileNotFoundError as error:
                raise InputError(f"{path}: {Path(error.filename).name} is missing") from None
            except ValueError as error:
                raise InputError(f"{path}: {error}") from None
            self._files = files.pop_all()

    def __reduce__(self) -> tuple[type["RecordIOReader"], tuple[Path]]:
        return RecordIOReader, (self._path,)

    def record(self, index: int) -> Record:
        """Record number `index`, from 0 to header.count - 1.

        Raises:
            InputError: if the record is damaged.
        """
        data = _unframe(_read(self._data, self._starts, index))
        if len(data) < LABEL.size:
            raise InputError(f"damaged: {len(data)} bytes in {DATA}")
        more, label, number, checksum = LABEL.unpack_from(data)
        if more or number != index or not label.is_integer():
            raise InputError(f"damaged: number {number}, label {label}, and {more} more labels in {DATA}")
        line, image = _read(self._names, self._lines, index), data[LABEL.size :]
        start = b"%d\t%d\t" % (index, label)
        if not line.startswith(start):
            raise InputError(f"damaged: {NAMES} has another number or label than {DATA}")
        if checksum != (_checksum(line, image) if self.header.version >= SEALED else 0):
            raise InputError(f"damaged: its CRC-32 in {DATA} differs")
        try:
            return Record(image, int(label), str(line[len(start) : -1], "utf-8"))
        except UnicodeDecodeError:
            raise InputError(f"damaged: its name in {NAMES} is not UTF-8") from None

    def close(self) -> None:
        self._files.close()

    def _read_header(self) -> Header:
        file = self._path / HEADER
        if not file.exists() and not (self._path / DATA).exists():
            raise InputError(f"a folder without {DATA}; expected an LMDB file or a folder in RecordIO")
        return unpack_header(file.read_bytes() if file.exists() else None, partial(parse_json, where=HEADER))

    def _read_index(self) -> np.ndarray:
        """The offsets where each record starts and the last one ends, int64 [count + 1]."""
        try:
            numbers, starts = np.fromstring((self._path / INDEX).read_text("ascii"), np.int64, sep=" ").reshape(-1, 2).T
        except ValueError:
            raise InputError(f"{INDEX} is damaged: its lines are not pairs of numbers") from None
        self._check_count(INDEX, len(starts))
        starts = np.append(starts, os.fstat(self._data.fileno()).st_size)
        if (numbers != np.arange(len(numbers))).any() or starts[0] != 0 or (np.diff(starts[:-1]) <= 0).any():
            raise InputError(f"{INDEX} is damaged: its numbers or offsets are not in order")
        return starts

    def _read_lines(self) -> np.ndarray:
        """The offsets where each line of NAMES starts and the last one ends, int64 [count + 1]."""
        ends = np.flatnonzero(np.fromfile(self._names, np.uint8) == ord("\n")) + 1
        self._check_count(NAMES, len(ends))
        return np.append(0, ends)

    def _check_count(self, name: str, count: int) -> None:
        if count != self.header.count:
            raise InputError(f"{count} records in {name}, the header says {self.header.count}")

    def _check_end(self) -> None:
        start, size = map(int, self._starts[-2:])
        try:
            _unframe(os.pread(self._data.fileno(), max(0, size - start), start))
        except ValueError:
            raise InputError(f"{DATA} is truncated: {size} bytes, the last record starts at {start}") from None


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Names the folder in an error of the system, such as a full disk, which names none."""
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from None


def _checksum(line: bytes, image: bytes) -> int:
    return zlib.crc32(image, zlib.crc32(line))


def _frame(data: bytes) -> Iterator[bytes]:
    cuts, at = [], data.find(MAGIC)
    while at >= 0:
        if at % 4 == 0:
            cuts.append(at)
        at = data.find(MAGIC, at + 4)
    flags = [FIRST, *[MIDDLE] * (len(cuts) - 1), LAST] if cuts else [WHOLE]
    for flag, start, end in zip(flags, [0, *(cut + 4 for cut in cuts)], [*cuts, len(data)], strict=True):
        yield PART.pack(MAGIC, flag << LENGTH_BITS | end - start)
        yield data[start:end]
    yield bytes(-len(data) % 4)


def _unframe(framed: bytes) -> bytes:
    """Inverse of `_frame`."""
    parts, at = [], 0
    allowed: tuple[int, ...] = WHOLE, FIRST
    while allowed:
        if len(framed) < at + PART.size:
            raise InputError(f"damaged: {DATA} has no record of that length there")
        magic, word = PART.unpack_from(framed, at)
        flag, length = word >> LENGTH_BITS, word & (1 << LENGTH_BITS) - 1
        if magic != MAGIC or flag not in allowed:
            raise InputError(f"damaged: {DATA} has no record there")
        parts.append(framed[at + PART.size : at + PART.size + length])
        at += PART.size + length + -length % 4
        allowed = (MIDDLE, LAST) if flag in (FIRST, MIDDLE) else ()
    if at != len(framed):
        raise InputError(f"damaged: {at} bytes by its lengths, {len(framed)} by {INDEX}")
    return MAGIC.join(parts)


def _read(file: BinaryIO, bounds: np.ndarray, index: int) -> bytes:
    start, end = map(int, bounds[index : index + 2])
    return os.pread(file.fileno(), end - start, start)
