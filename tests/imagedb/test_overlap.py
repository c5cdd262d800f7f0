import io

import numpy as np
import pytest
from PIL import Image

from imagedb.digests import digests_file, write_digests
from imagedb.overlap import overlap
from imagedb.reader import ImageDatabase
from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database
from storage.errors import InputError


class Items(IndexedSource):
    class_names = ("a", "b")

    def __init__(self, images):
        self.images_ = images

    def __len__(self):
        return len(self.images_)

    def __getitem__(self, index):
        return SourceImage(*self.images_[index])


def image(seed, kind="PNG", **options):
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def pack(tmp_path):
    def pack(name, *images):
        path = tmp_path / name
        packed = write_database(Items(images), path)
        write_digests(path, packed.header.digest, packed.digests)
        return ImageDatabase(path)

    return pack


def test_equal_bytes_equal_pixels_and_other_labels_are_counted_and_named(pack):
    train = pack("train.lmdb", *((f"t{seed}", seed % 2, image(seed)) for seed in range(6)), ("again", 1, image(0)))
    val = pack(
        "val.recordio",
        ("same bytes", 1, image(1)),
        ("own", 0, image(10)),
        ("same pixels", 0, image(2, "BMP")),
        ("same pixels, other label", 0, image(3, "TIFF")),
        ("own again", 0, image(10, "PPM")),
    )
    assert overlap(train, val) == {
        "val_in_train": 3,
        "same_bytes": 1,
        "other_labels": 1,
        "pairs": [
            {"val": "same pixels, other label", "train": "t3", "same": "pixels", "labels": "other"},
            {"val": "same bytes", "train": "t1", "same": "bytes", "labels": "same"},
            {"val": "same pixels", "train": "t2", "same": "pixels", "labels": "same"},
        ],
        "repeated": {"train": {"images": 1, "other_labels": 1}, "val": {"images": 1, "other_labels": 0}},
    }


def test_the_same_pixels_in_another_shape_are_another_image(pack):
    def flat(*size):
        buffer = io.BytesIO()
        Image.new("RGB", size, (1, 2, 3)).save(buffer, "PNG")
        return buffer.getvalue()

    train, val = pack("train.lmdb", ("x", 0, flat(4, 2))), pack("val.lmdb", ("y", 0, flat(2, 4)))
    assert overlap(train, val)["val_in_train"] == 0


def test_at_most_a_hundred_pairs_are_named(pack):
    train = pack("train.lmdb", ("x", 0, image(0)))
    val = pack("val.lmdb", *((str(i), 0, image(0)) for i in range(101)))
    found = overlap(train, val)
    assert found["val_in_train"] == 101
    assert [pair["val"] for pair in found["pairs"]] == [str(i) for i in range(100)]
    assert found["repeated"]["val"] == {"images": 100, "other_labels": 0}


def test_two_splits_of_the_same_records_are_refused(pack):
    train, val = pack("train.lmdb", ("x", 0, image(0))), pack("val.recordio", ("x", 0, image(0)))
    with pytest.raises(InputError, match=rf"^{train.path} and {val.path} hold the same records: validation needs"):
        overlap(train, val)


def test_digests_of_another_database_are_refused(pack):
    train, val = pack("train.lmdb", ("x", 0, image(0))), pack("val.lmdb", ("y", 0, image(1)))
    file = digests_file(val.path)
    whole = file.read_bytes()
    for content in (digests_file(train.path).read_bytes(), whole[:-1], whole + bytes(32), b""):
        file.write_bytes(content)
        with pytest.raises(InputError, match=rf"^{file} does not belong to {val.path}: pack it again$"):
            overlap(train, val)
    file.unlink()
    with pytest.raises(InputError, match=rf"^{file} does not exist, .*: pack it again$"):
        overlap(train, val)
