"""Databases whose bytes are changed: what is read is what was packed, or one line says that it is not."""

import random
import struct

import lmdb
import msgpack
import numpy as np
import pytest
from forks import attacked, outcome
from mutated_values import replaced
from sample_images import encode

from imagedb.reader import ImageDatabase
from imagedb.record import Annotation, Object, pack_header, record_key, unpack_header, unpack_record, unseal
from imagedb.sources.packed import ReferenceSource
from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database

pytestmark = pytest.mark.faults

PAGE = 4096


class Noise(IndexedSource):
    """Images of noise of 8 x 8 to 60 x 60 pixels, so that records lie in leaves and in overflow pages."""

    class_names = ("ant", "bee", "cat")

    def __init__(self, count, annotated=False):
        self.count, self.annotated = count, annotated

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        side = (8, 20, 60)[index % 3]
        image = encode(np.random.default_rng(index).integers(0, 256, (side, side, 3), np.uint8))
        if not self.annotated:
            return SourceImage(f"{index}.png", index % 3, image)
        annotation = Annotation((Object(index % 3, (0.5, 1, 2, 3), ("crowd",), image),), {"class": image})
        return SourceImage(f"{index}.png", None, image, annotation=lambda: annotation)


def contents(path):
    database = ImageDatabase(path)
    return database.header, list(database)


def flipped(data, draw):
    """One bit."""
    at = draw.randrange(len(data))
    data[at] ^= 1 << draw.randrange(8)
    return f"bit of byte {at}"


def flipped_in_a_head(data, draw):
    """One bit of the first bytes of a page, where its number, its kind and the places of its nodes stand."""
    at = min(draw.randrange(0, len(data), PAGE) + draw.randrange(200), len(data) - 1)
    data[at] ^= 1 << draw.randrange(8)
    return f"bit of byte {at}"


def noisy(data, draw):
    """Some bytes of noise."""
    at = draw.randrange(len(data))
    noise = draw.randbytes(draw.choice([2, 8, 64]))[: len(data) - at]
    data[at : at + len(noise)] = noise
    return f"noise in byte {at}"


def exchanged(data, draw):
    """Two pages in each other's place, or one twice."""
    one, other = (draw.randrange(0, len(data) - PAGE, PAGE) for _ in range(2))
    first, second = data[one : one + PAGE], data[other : other + PAGE]
    data[one : one + PAGE] = second
    if draw.random() < 0.5:
        data[other : other + PAGE] = first
    return f"pages at {one} and {other}"


def cut(data, draw):
    at = draw.randrange(len(data))
    del data[at:]
    return f"cut at {at}"


def emptied(data, draw):
    """A page of zeros, as a file system leaves it after a power failure."""
    at = draw.randrange(0, len(data), PAGE)
    data[at : at + PAGE] = bytes(len(data[at : at + PAGE]))
    return f"zeros at {at}"


def spoiler(original, path, changes):
    """A function from a seed, which writes the file `path` anew with one of the changes."""

    def spoil(seed):
        draw, data = random.Random(seed), bytearray(original)
        how = draw.choice(changes)(data, draw)
        path.write_bytes(data)
        return how

    return spoil


@pytest.mark.parametrize("annotated", [False, True])
@pytest.mark.parametrize("change", [flipped, flipped_in_a_head, noisy, exchanged, cut, emptied])
def test_changed_lmdb_files_are_found_or_harmless(tmp_path, change, annotated):
    path = tmp_path / "db.lmdb"
    write_database(Noise(300, annotated), path)
    right = contents(path)
    mutations = 60 if change is flipped else 25
    counts = attacked(mutations, spoiler(path.read_bytes(), path, [change]), lambda: contents(path), right)
    assert counts["line"] > mutations / 5, counts


@pytest.mark.parametrize("version", [1, 2])
def test_changed_files_without_checksums_never_end_the_process(tmp_path, version):
    """Their records have no CRC-32: another value may come without a word, until `verify` compares the digest."""
    path, old = tmp_path / "db.lmdb", tmp_path / "old.lmdb"
    write_database(Noise(100), path)
    header = msgpack.unpackb(pack_header(ImageDatabase(path).header))
    del header["checksum"]
    if version == 1:
        header = {key: header[key] for key in ("format", "count", "class_names", "digest")}
    with (
        lmdb.open(str(path), subdir=False, lock=False, readonly=True) as reading,
        lmdb.open(str(old), subdir=False, lock=False, map_size=2**26) as writing,
        reading.begin() as source,
        writing.begin(write=True) as target,
    ):
        for index in range(100):
            key = record_key(index)
            target.put(key, bytes(unseal(key, source.get(key))))
        target.put(b"header", msgpack.packb(header | {"version": version}))
    assert contents(old)[1] == contents(path)[1]
    changes = [flipped, flipped_in_a_head, noisy, exchanged, emptied]
    attacked(80, spoiler(old.read_bytes(), old, changes), lambda: contents(old))


@pytest.mark.parametrize("name", ["data.rec", "data.idx", "data.lst", "header.json"])
def test_changed_recordio_folders_are_found_or_harmless(tmp_path, name):
    path = tmp_path / "db.recordio"
    write_database(Noise(60), path)
    right = contents(path)
    changes = [flipped, flipped, noisy, cut]
    counts = attacked(60, spoiler((path / name).read_bytes(), path / name, changes), lambda: contents(path), right)
    assert counts["line"] > 30, counts


def test_every_bit_of_a_header_counts(tmp_path):
    """All bits of both forms of a header, in this process, since nothing of C reads it but msgpack."""
    write_database(Noise(3), tmp_path / "db.lmdb")
    header = ImageDatabase(tmp_path / "db.lmdb").header
    data = pack_header(header)
    found = 0
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        try:
            assert unpack_header(bytes(changed)) == header
        except ValueError:
            found += 1
    assert found > 0.99 * 8 * len(data)


def odd_value(draw, depth=0):
    """A value that a schema may not expect."""
    kinds = [None, True, -100, 2**63, -(2**63), 1.5, float("nan"), float("inf"), "", "a\0", b"", b"\xff" * 40]
    if depth > 3 or draw.random() < 0.7:
        return draw.choice(kinds)
    if draw.random() < 0.5:
        return [odd_value(draw, depth + 1) for _ in range(draw.randrange(4))]
    return {draw.choice(["label", "box", "image", "x"]): odd_value(draw, depth + 1) for _ in range(draw.randrange(3))}


@pytest.mark.parametrize("annotated", [False, True])
def test_records_of_any_content_are_read_or_refused(tmp_path, annotated):
    write_database(Noise(1, annotated), tmp_path / "db.lmdb")
    path = str(tmp_path / "db.lmdb")
    with lmdb.open(path, subdir=False, lock=False) as environment, environment.begin() as transaction:
        value = transaction.get(record_key(0))[4:]
    fields = msgpack.unpackb(value)
    read = refused = 0
    for seed in range(10_000):
        draw = random.Random(seed)
        if seed % 2:
            changed = msgpack.packb(replaced(fields, draw, odd_value, 0.85))
        else:
            mutable = bytearray(value)
            noisy(mutable, draw)
            changed = bytes(mutable)
        try:
            record = unpack_record(changed)
        except ValueError:
            refused += 1
        else:
            assert all(type(label) is int for label in record.labels)
            read += 1
    assert read + refused == 10_000
    assert refused > 3000


def test_changed_databases_of_the_reference_toolkit_never_end_the_process(tmp_path):
    path = tmp_path / "val"
    environment = lmdb.open(str(path), subdir=False, lock=False, map_size=2**26)
    with environment, environment.begin(write=True) as transaction:
        for index in range(100):
            image = bytes([index]) * 90 * (index + 1)
            transaction.put(str(index).encode(), msgpack.packb(image + struct.pack("<H", 7)))
        transaction.put(b"__len__", b"100")

    def read():
        return [(item.name, item.label, item.image) for item in ReferenceSource(tmp_path, "val").images()]

    assert outcome(lambda: len(read())) == ("value", 100)
    changes = [flipped, flipped_in_a_head, noisy, exchanged, cut, emptied]
    counts = attacked(150, spoiler(path.read_bytes(), path, changes), lambda: len(read()))
    assert counts["line"] > 30, counts


def test_a_file_that_changes_while_it_is_read(tmp_path):
    """Another process cuts the file, or writes over it: no signal, and no other record."""
    path = tmp_path / "db.lmdb"
    write_database(Noise(100), path)
    original = path.read_bytes()
    right = contents(path)[1]

    def read(seed):
        database = ImageDatabase(path)
        draw = random.Random(seed)
        data = bytearray(original)
        draw.choice([cut, emptied, noisy, exchanged])(data, draw)
        with path.open("r+b") as file:
            file.write(data)
            file.truncate(len(data))
        for index in draw.sample(range(100), 100):
            assert database[index] == right[index]

    found = 0
    for seed in range(40):
        path.write_bytes(original)
        kind, _ = outcome(lambda seed=seed: read(seed))
        found += kind == "line"
    assert found > 5
