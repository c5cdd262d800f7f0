import hashlib
import os
import pickle
import shutil
from zlib import crc32

import lmdb
import msgpack
import pytest
from torch.utils.data import DataLoader

from imagedb.reader import ImageDatabase
from imagedb.record import Annotation, Header, Object, Record, pack_header, pack_record, record_key, seal
from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database


class One(IndexedSource):
    class_names = ("a",)

    def __init__(self, image):
        self.image = image

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return (SourceImage("only", 0, self.image),)[index]


@pytest.fixture
def copy(database, tmp_path):
    """A copy of the database that a test may change."""
    return shutil.copy(database, tmp_path / "copy.lmdb")


def change(path, **entries):
    """Put the entries (key: value, None deletes) into the file, without the library."""
    with lmdb.open(str(path), subdir=False, lock=False, map_size=2**26) as env, env.begin(write=True) as transaction:
        for key, value in entries.items():
            key = b"header" if key == "header" else record_key(int(key[1:]))
            if value is None:
                transaction.delete(key)
            else:
                transaction.put(key, value if key == b"header" else crc32(key + value).to_bytes(4, "big") + value)


def refused(path, message):
    with pytest.raises(ValueError, match=f"^{path}{message}$"):
        ImageDatabase(path)


def test_records_and_header(database, image_root):
    data = ImageDatabase(database)
    assert len(data) == data.header.count == 70
    assert data.class_names == ["ant", "bee", "cat"]
    first = min((image_root / "train" / "bee").iterdir())
    assert data[23] == Record(first.read_bytes(), 1, f"bee/{first.name}")  # 23 images of ants come before
    assert data.verify() == data.verify(workers=2) == 70


def test_index_out_of_range(database):
    data = ImageDatabase(database)
    for index in (-1, 70):
        with pytest.raises(IndexError, match=f"^{database}: record {index}, allowed: 0 to 69$"):
            data[index]
    assert len(list(data)) == 70


def test_two_datasets_of_one_file_in_one_process(database):
    first, second = ImageDatabase(database), ImageDatabase(database)
    copied = pickle.loads(pickle.dumps(first))
    assert first[5] == second[5] == copied[5]
    del first
    assert second[6] == copied[6]


@pytest.mark.parametrize(("method", "workers"), [("fork", 2), ("spawn", 1)])
def test_worker_processes_read_the_same(database, method, workers):
    data, other = ImageDatabase(database), ImageDatabase(database)
    expected = [data[index] for index in range(70)]
    loader = DataLoader(data, batch_size=7, num_workers=workers, collate_fn=list, multiprocessing_context=method)
    assert [record for batch in loader for record in batch] == expected
    assert other[0] == data[0] == expected[0]


def test_database_replaced_while_open(copy, png):
    old = ImageDatabase(copy)
    write_database(One(png), copy)
    assert ImageDatabase(copy)[0].name == "only"
    assert old[0].name.startswith("ant/")


def test_reading_writes_nothing(copy):
    before = copy.read_bytes()
    assert ImageDatabase(copy).verify() == 70
    assert list(copy.parent.iterdir()) == [copy]
    assert copy.read_bytes() == before


def test_missing_file(tmp_path):
    path = tmp_path / "no.lmdb"
    with pytest.raises(FileNotFoundError, match=f"^{path} does not exist, an image database is expected there$"):
        ImageDatabase(path)


@pytest.mark.parametrize("content", [b"", b"12345", b"x" * 9000])
def test_file_of_another_kind(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    refused(path, " is not an LMDB file: .*")


def test_folder(tmp_path):
    refused(tmp_path, ": a folder without data.rec; expected an LMDB file or a folder in RecordIO")


def test_truncated_file(copy):
    size = copy.stat().st_size
    os.truncate(copy, size - 5000)
    refused(copy, f" is truncated: {size - 5000} bytes of {size}")


def test_unfinished_database(copy):
    change(copy, header=None)
    refused(copy, ": no header: packing did not finish, pack it again")


def test_other_version(copy):
    fields = msgpack.unpackb(pack_header(ImageDatabase(copy).header))
    change(copy, header=msgpack.packb({**fields, "version": 4}))
    refused(copy, ": format 'imagedb' version 4, allowed: imagedb version 1 to 3")


def test_count_of_records_differs_from_the_header(copy):
    change(copy, r69=None)
    refused(copy, ": 69 records, the header says 70")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"junk", "record 4: not a msgpack map of image, label or annotation, and name"),
        (pack_record(Record(b"junk", 0, "ant/x")), r"record 4 \(ant/x\): not an image, allowed: .*"),
    ],
)
def test_verify_names_the_first_bad_record(copy, value, message):
    change(copy, r4=value, r8=b"")
    for workers in (0, 2):
        with pytest.raises(ValueError, match=f"^{copy}: {message}$"):
            ImageDatabase(copy).verify(workers)


def test_verify_finds_changed_and_impossible_labels(copy):
    data = ImageDatabase(copy)
    good, digest = data[4], data.header.digest
    del data
    change(copy, r4=pack_record(Record(good.image, 3, good.name)), r5=pack_record(Record(good.image, -100, "a")))
    for index, label in ((4, 3), (5, -100)):
        with pytest.raises(ValueError, match=f"^{copy}: record {index}: label {label}, allowed: 0 to 2$"):
            ImageDatabase(copy)[index]
    with pytest.raises(ValueError, match=f"^{copy}: record 4: label 3, allowed: 0 to 2$"):
        ImageDatabase(copy).verify()
    change(copy, r4=pack_record(Record(good.image, 2, good.name)), r5=pack_record(Record(good.image, 0, "a")))
    with pytest.raises(ValueError, match=f"^{copy}: digest [0-9a-f]{{64}}, the header says {digest}$"):
        ImageDatabase(copy).verify()


@pytest.mark.parametrize("version", [1, 2])
def test_databases_of_earlier_versions_are_read_and_verified(tmp_path, png, version):
    path = tmp_path / "old.lmdb"
    values = [pack_record(Record(png, label, f"{label}.png")) for label in (0, 1)]
    if version == 1:
        digest = hashlib.sha256(b"".join(record_key(i) + value for i, value in enumerate(values))).hexdigest()
    else:
        digest = hashlib.sha256(b"".join(hashlib.sha256(value).digest() for value in values)).hexdigest()
    header = {"format": "imagedb", "version": version, "count": 2, "class_names": ["a", "b"], "digest": digest}
    with lmdb.open(str(path), subdir=False, lock=False) as env, env.begin(write=True) as transaction:
        for i, value in enumerate(values):
            transaction.put(record_key(i), value)
        transaction.put(b"header", msgpack.packb(header))
    data = ImageDatabase(path)
    assert data[1] == Record(png, 1, "1.png")
    assert data.verify() == 2


def test_every_change_of_a_record_is_found_when_it_is_read(copy):
    data = copy.read_bytes()
    for index in (0, 41, 69):
        image = ImageDatabase(copy)[index].image
        at = len(image) // 2
        copy.write_bytes(data.replace(image, image[:at] + bytes([image[at] ^ 16]) + image[at + 1 :]))
        with pytest.raises(ValueError, match=f"^{copy}: record {index}: damaged: its CRC-32 differs$"):
            ImageDatabase(copy)[index]


def test_a_replaced_database_is_not_taken_for_the_one_that_was_pickled(copy, png):
    pickled = pickle.dumps(ImageDatabase(copy))
    write_database(One(png), copy)
    with pytest.raises(ValueError, match=f"^{copy} has been replaced since it was opened$"):
        pickle.loads(pickled)


def test_a_fifo_is_named_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "val.lmdb")
    refused(tmp_path / "val.lmdb", " is not a file, an LMDB file is expected there")


@pytest.mark.parametrize(
    ("annotation", "annotated", "message"),
    [
        (Annotation((Object(2, (0, 0, 1, 1)),)), True, "label 2, allowed: 0 to 1"),
        (Annotation((Object(0, (0, 0, 1, 1), mask=b"junk"),)), True, "not an image, allowed: .*"),
        (Annotation(masks={"class": b"junk"}), True, "not an image, allowed: .*"),
        (Annotation(), False, "an annotation, which differs from the header"),
        (None, True, "no annotation, which differs from the header"),
    ],
)
def test_verify_looks_into_annotations(annotation, annotated, message, tmp_path, png):
    path = tmp_path / "boxes.lmdb"
    with lmdb.open(str(path), subdir=False, lock=False) as env, env.begin(write=True) as transaction:
        label = 0 if annotation is None else None
        transaction.put(record_key(0), seal(record_key(0), pack_record(Record(png, label, "a", annotation))))
        transaction.put(b"header", pack_header(Header(1, ["a", "b"], "", annotated=annotated)))
    with pytest.raises(ValueError, match=rf"^{path}: record 0( \(a\))?: {message}$"):
        ImageDatabase(path).verify()


def test_missing_and_damaged_record(copy):
    change(copy, r4=b"junk", r7=None, r99=b"")
    data = ImageDatabase(copy)
    with pytest.raises(ValueError, match=f"^{copy}: record 4: not a msgpack map of image, label or annot.*$"):
        data[4]
    with pytest.raises(ValueError, match=f"^{copy}: record 7: missing$"):
        data[7]
