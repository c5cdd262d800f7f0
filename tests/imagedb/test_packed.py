import re

import lmdb
import msgpack
import pytest
from imagenet_archives import jpeg

from imagedb.reader import ImageDatabase
from imagedb.record import Annotation, Object
from imagedb.sources.packed import DatabaseSource, ReferenceSource
from imagedb.sources.source import IndexedSource, Shard, SourceImage, Survey
from imagedb.writer import write_database

LABELS = [3, 0, 999, 2, 2, 0, 1, 0, 0, 0, 4]
IMAGES = [b"\xff\xd8" + bytes([index]) * (100 + 3000 * index) + b"\xff\xd9" for index in range(11)]


def write_reference(path, entries, subdir):
    """Write each record in its own transaction, the last one first, because workers may finish in any order."""
    with lmdb.open(str(path), subdir=subdir, map_size=2**24, meminit=False, map_async=True, sync=False) as environment:
        for key, value in reversed(entries.items()):
            with environment.begin(write=True) as transaction:
                transaction.put(key, value)


def entries(**changes):
    values = (image + bytes([label % 256, label // 256]) for image, label in zip(IMAGES, LABELS, strict=True))
    records = {f"{index}".encode(): msgpack.packb(value, use_bin_type=True) for index, value in enumerate(values)}
    whole = records | {b"__len__": b"11"} | {key.removeprefix("k").encode(): value for key, value in changes.items()}
    return {key: value for key, value in whole.items() if value is not None}


@pytest.mark.parametrize("subdir", [True, False])
def test_reference_database(tmp_path, subdir):
    write_reference(tmp_path / "train_lmdb", entries(), subdir)
    before = sorted(path for path in tmp_path.rglob("*"))
    source = ReferenceSource(tmp_path, "train_lmdb")
    items = list(source.images())
    assert [(item.name, item.label, item.image) for item in items] == [
        (str(index), label, image) for index, (label, image) in enumerate(zip(LABELS, IMAGES, strict=True))
    ]
    assert source.class_names == [str(label) for label in range(1000)]
    parts = [list(source.images(Shard(k, 3))) for k in (1, 2, 3)]
    assert [item for part in parts for item in part] == items
    assert [source.expected(Shard(k, 3)) for k in (1, 2, 3)] == [(len(part), "image") for part in parts]
    assert source.survey() == Survey(11, sum(len(value) for key, value in entries().items() if key != b"__len__"))
    assert source.survey(Shard(1, 11)) == Survey(1, len(entries()[b"0"]))
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_class_names_of_a_reference_database(tmp_path):
    write_reference(tmp_path / "val", entries(), subdir=True)
    (tmp_path / "classes.txt").write_text("crane\ntench, Tinca tinca\ncrane\n")
    assert ReferenceSource(tmp_path, "val").class_names == ["crane", "tench, Tinca tinca", "crane"]


def test_bytes_packed_by_old_msgpack_are_read(tmp_path):
    """Before version 1.0, msgpack stored bytes as its "raw" type by default."""
    old = msgpack.packb(IMAGES[0] + b"\x03\x00", use_bin_type=False)
    assert old != entries()[b"0"]
    write_reference(tmp_path / "val", entries(k0=old), subdir=True)
    item = next(ReferenceSource(tmp_path, "val").images())
    assert (item.label, item.image) == (3, IMAGES[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"__len__": b"12"}, " has 11 records, its __len__ says 12"),
        ({"k4": None}, " has 10 records, its __len__ says 11"),
        ({"k4": None, "other": b""}, ": record 4 is missing"),
        ({"__len__": None}, " has no number at key __len__, the reference toolkit did not finish it"),
        ({"__len__": b"many"}, " has no number at key __len__, the reference toolkit did not finish it"),
    ],
)
def test_short_reference_database_is_refused(tmp_path, changes, message):
    write_reference(tmp_path / "val", entries(**changes), subdir=False)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{tmp_path}/val{message}')}$"):
        ReferenceSource(tmp_path, "val")


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc1",
        entries()[b"7"][:-1],
        entries()[b"7"] + b"\0",
        msgpack.packb(b"\0\0"),
        msgpack.packb([b"image", 7]),
        msgpack.packb(7),
    ],
)
def test_damaged_reference_record_is_named(tmp_path, value):
    write_reference(tmp_path / "val", entries(k7=value), subdir=False)
    source = ReferenceSource(tmp_path, "val")
    assert len(list(source.images(Shard(1, 2)))) == 5
    message = f"{tmp_path / 'val'}: record 7 is not the msgpack of a JPEG and a label"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        list(source.images())


def test_no_reference_database(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}/val does not exist, an LMDB database is expected there$"):
        ReferenceSource(tmp_path, "val")
    (tmp_path / "val").mkdir()
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}/val/data.mdb does not exist, "):
        ReferenceSource(tmp_path, "val")
    for content in (b"", b"<html>" * 2000):
        (tmp_path / "val" / "data.mdb").write_bytes(content)
        with pytest.raises(ValueError, match=f"^{tmp_path}/val/data.mdb is not an LMDB file: "):
            ReferenceSource(tmp_path, "val")


def test_truncated_reference_database_is_refused(tmp_path):
    write_reference(tmp_path / "val", entries(), subdir=False)
    data = (tmp_path / "val").read_bytes()
    (tmp_path / "val").write_bytes(data[:-20000])
    with pytest.raises(ValueError, match=f"^{tmp_path}/val is truncated: {len(data) - 20000} bytes of {len(data)}$"):
        ReferenceSource(tmp_path, "val")


class Images(IndexedSource):
    class_names = ("ant", "bee", "cat")

    def __init__(self, annotated):
        self.annotated = annotated

    def __len__(self):
        return 7

    def __getitem__(self, index):
        image = jpeg(index)
        if not self.annotated:
            return SourceImage(f"p/{index}", index % 3, image)
        annotation = Annotation((Object(index % 3, (0.5, 1, 2, 3), ("crowd",), image),), {"class": image})
        return SourceImage(f"p/{index}", None, image, annotation=lambda: annotation)


@pytest.mark.parametrize("annotated", [True, False])
def test_database_packed_again_is_the_same(tmp_path, annotated):
    write_database(Images(annotated), tmp_path / "first.lmdb")
    source = DatabaseSource(tmp_path / "first.lmdb")
    assert (source.class_names, source.annotated, len(source)) == (["ant", "bee", "cat"], annotated, 7)
    assert source.survey(Shard(1, 2)) == Survey(3, None)
    assert [item.name for item in source.images(Shard(2, 2))] == ["p/3", "p/4", "p/5", "p/6"]
    write_database(source, tmp_path / "second.lmdb")
    records = list(ImageDatabase(tmp_path / "second.lmdb"))
    assert records == list(ImageDatabase(tmp_path / "first.lmdb"))
    assert [record.image for record in records] == [jpeg(index) for index in range(7)]


def test_no_database(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"^{tmp_path}/x.lmdb does not exist, "):
        DatabaseSource(tmp_path / "x.lmdb")
