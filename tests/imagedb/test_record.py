import msgpack
import pytest

from imagedb.record import (
    Annotation,
    Header,
    Object,
    Record,
    pack_header,
    pack_record,
    record_key,
    unpack_header,
    unpack_record,
)

HEADER = Header(2, ["ant", "bee"], "00ff", kept=(1,), shard=(1, 3), encoding={"type": "raw", "size": None})


def test_record_bytes_are_those_of_the_schema():
    data = pack_record(Record(image=b"\x01\x02", label=3, name="a"))
    # map of 3; "image": bin of 2; "label": 3; "name": str of 1
    assert data == b"\x83\xa5image\xc4\x02\x01\x02\xa5label\x03\xa4name\xa1a"
    assert unpack_record(data) == Record(b"\x01\x02", 3, "a")


def test_key_is_big_endian_and_sorts_by_number():
    assert record_key(258) == b"\0\0\0\0\0\0\x01\x02"
    assert record_key(255) < record_key(256) < b"header"


def test_header_bytes_are_those_of_the_schema():
    data = pack_header(HEADER)
    assert msgpack.unpackb(data) == {
        "format": "imagedb",
        "version": 2,
        "count": 2,
        "class_names": ["ant", "bee"],
        "digest": "00ff",
        "annotated": False,
        "shard": [1, 3],
        "kept": [1],
        "encoding": {"type": "raw", "size": None},
    }
    assert unpack_header(data) == HEADER


def test_header_of_version_1_is_still_read():
    fields = {"format": "imagedb", "version": 1, "count": 2, "class_names": ["ant", "bee"], "digest": "00ff"}
    header = unpack_header(msgpack.packb(fields))
    assert (header.version, header.shard, header.kept, header.annotated) == (1, (1, 1), (), False)


def test_annotation_comes_back():
    objects = (Object(1, (0.5, 1, 2.25, 3), ("crowd", "difficult"), b"png"), Object(0, (0, 0, 4, 4)))
    record = Record(b"image", None, "a", Annotation(objects, {"class": b"mask"}))
    data = pack_record(record)
    assert unpack_record(data) == record
    assert msgpack.unpackb(data)["annotation"] == {
        "objects": [
            {"label": 1, "box": [0.5, 1, 2.25, 3], "flags": ["crowd", "difficult"], "mask": b"png"},
            {"label": 0, "box": [0, 0, 4, 4], "flags": []},
        ],
        "masks": {"class": b"mask"},
    }
    assert "label" not in msgpack.unpackb(data)


def header_bytes(**changes):
    return msgpack.packb({**msgpack.unpackb(pack_header(HEADER)), **changes})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "no header: packing did not finish, pack it again"),
        (header_bytes(version=3), "format imagedb version 3, allowed: imagedb version 1 or 2"),
        (header_bytes(format="other"), "format other version 2, allowed: imagedb version 1 or 2"),
        (msgpack.packb([1]), "the header is not that of an imagedb database"),
        (msgpack.packb({"count": 1}), "the header is not that of an imagedb database"),
        (b"\xc1", "the header is not that of an imagedb database"),
        (header_bytes(shard=1), r"the header holds \['annotated', .*\], not the fields of version 2"),
        (header_bytes(owner="me"), r"the header holds \['annotated', .*'owner', .*\], not the fields of version 2"),
    ],
)
def test_bad_header_is_refused(data, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        unpack_header(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x83\xa5ima", "not a msgpack map of image, label or annotation, and name"),
        (msgpack.packb({"image": b"", "label": 0}), "not a msgpack map of image, label or annotation, and name"),
        (msgpack.packb({"image": "text", "label": 0, "name": "a"}), "image and name must be bytes and a string"),
        (msgpack.packb({"image": b"", "label": "0", "name": "a"}), "label must be an integer"),
        (
            msgpack.packb({"image": b"", "annotation": {"objects": [{}], "masks": {}}, "name": "a"}),
            "not a msgpack map of image, label or annotation, and name",
        ),
    ],
)
def test_bad_record_is_refused(data, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        unpack_record(data)


def test_name_that_is_not_unicode_is_refused():
    with pytest.raises(ValueError, match=r"^image name 'a\\udcff' is not valid UTF-8$"):
        pack_record(Record(b"", 0, b"a\xff".decode("utf-8", "surrogateescape")))
