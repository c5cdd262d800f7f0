import zlib

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
    seal,
    unpack_header,
    unpack_record,
    unseal,
)
from storage.errors import InputError

HEADER = Header(2, ["ant", "bee"], "00ff", kept=(1,), shard=(1, 3), encoding={"type": "raw", "size": None})


def boxed(changes, masks=None):
    """A packed record with one object."""
    obj = {"label": 0, "box": [0, 0, 1, 1], "flags": []} | changes
    return msgpack.packb({"image": b"", "annotation": {"objects": [obj], "masks": masks or {}}, "name": "a"})


def header_bytes(**changes):
    return msgpack.packb({**msgpack.unpackb(pack_header(HEADER)), **changes})


def test_record_bytes_are_those_of_the_schema():
    data = pack_record(Record(image=b"\x01\x02", label=3, name="a"))
    # map of 3; "image": bin of 2; "label": 3; "name": str of 1
    assert data == b"\x83\xa5image\xc4\x02\x01\x02\xa5label\x03\xa4name\xa1a"
    assert unpack_record(data) == Record(b"\x01\x02", 3, "a")


def test_key_is_big_endian_and_sorts_by_number():
    assert record_key(258) == b"\0\0\0\0\0\0\x01\x02"
    assert record_key(255) < record_key(256) < b"header"


def test_stored_record_begins_with_the_crc_of_key_and_value():
    # the check value of CRC-32/ISO-HDLC: that of the nine digits
    assert seal(b"1234", b"56789") == 0xCBF43926.to_bytes(4, "big") + b"56789"
    assert unseal(b"1234", seal(b"1234", b"56789")) == b"56789"


def test_every_flipped_bit_of_a_stored_record_and_its_key_is_found():
    key, data = record_key(5), seal(record_key(5), b"value")
    whole = key + data
    flipped = [bytearray(whole) for _ in range(8 * len(whole))]
    for bit, changed in enumerate(flipped):
        changed[bit // 8] ^= 1 << bit % 8
    cut = [whole[:length] for length in range(len(key), len(whole))]
    for changed in map(bytes, [*flipped, *cut]):
        with pytest.raises(InputError, match=r"^damaged: its CRC-32 differs$"):
            unseal(changed[: len(key)], changed[len(key) :])


def test_header_bytes_are_those_of_the_schema():
    fields = {
        "count": 2,
        "class_names": ["ant", "bee"],
        "digest": "00ff",
        "annotated": False,
        "shard": [1, 3],
        "kept": [1],
        "encoding": {"type": "raw", "size": None},
        "version": 3,
    }
    checksum = zlib.crc32(msgpack.packb(fields))
    data = pack_header(HEADER)
    assert msgpack.unpackb(data) == {"format": "imagedb", **fields, "checksum": checksum}
    assert unpack_header(data) == HEADER


@pytest.mark.parametrize(
    "changes", [{"count": 3}, {"class_names": ["ant", "bed"]}, {"kept": [0]}, {"shard": [1, 2]}, {"checksum": 1}]
)
def test_changed_header_is_refused(changes):
    with pytest.raises(InputError, match=r"^the header is damaged: its checksum differs$"):
        unpack_header(header_bytes(**changes))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", -1),
        ("count", True),
        ("class_names", "ab"),
        ("class_names", [1]),
        ("digest", b"00"),
        ("annotated", 0),
        ("shard", [1]),
        ("shard", [1, "2"]),
        ("kept", [2]),
        ("encoding", "raw"),
    ],
)
def test_header_whose_fields_make_no_sense_is_refused(field, value):
    fields = {**msgpack.unpackb(pack_header(HEADER)), "version": 2, field: value}
    del fields["checksum"]
    with pytest.raises(InputError, match=f"^the header's {field} is "):
        unpack_header(msgpack.packb(fields))


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


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "no header: packing did not finish, pack it again"),
        (header_bytes(version=4), "format 'imagedb' version 4, allowed: imagedb version 1 to 3"),
        (header_bytes(version=[3]), r"format 'imagedb' version \[3\], allowed: imagedb version 1 to 3"),
        (header_bytes(format="other"), "format 'other' version 3, allowed: imagedb version 1 to 3"),
        (msgpack.packb([1]), "the header is not that of an imagedb database"),
        (msgpack.packb({"count": 1}), "the header is not that of an imagedb database"),
        (b"\xc1", "the header is not that of an imagedb database"),
        (header_bytes(shard=1), r"the header holds \['annotated', .*, not the fields of version 3"),
        (header_bytes(owner="me"), r"the header holds \['annotated', .*, not the fields of version 3"),
        (header_bytes(version=2), r"the header holds \['annotated', 'checksum', .*, not the fields of version 2"),
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
        (msgpack.packb({"image": b"", "label": "0", "name": "a"}), "label must be an integer, not '0'"),
        (msgpack.packb({"image": b"", "label": True, "name": "a"}), "label must be an integer, not True"),
        (msgpack.packb({"image": b"", "label": 1.0, "name": "a"}), r"label must be an integer, not 1\.0"),
        (msgpack.packb({"image": b"", "label": None, "name": "a"}), "label must be an integer, not None"),
        (boxed({"box": [0, 0, float("nan"), 1]}), r"box \(0, 0, nan, 1\), must be left <= right and .*"),
        (boxed({"box": [0, 0, float("inf"), 1]}), r"box \(0, 0, inf, 1\), must be left <= right and .*"),
        (boxed({"box": [0, 0, 1]}), r"box \(0, 0, 1\), must be left <= right and .*"),
        (boxed({"box": [2, 0, 1, 1]}), r"box \(2, 0, 1, 1\), must be left <= right and .*"),
        (boxed({"box": [0, 0, 2**31, 1]}), r"box \(0, 0, 2147483648, 1\), must be .*, numbers below 2147483648"),
        (boxed({"label": False}), "label must be an integer, not False"),
        (boxed({"flags": [1]}), "flags must be strings"),
        (boxed({"mask": "text"}), "mask must be bytes"),
        (boxed({}, {"class": 1}), "masks must be bytes"),
        (msgpack.packb({"image": b"", "annotation": 3, "name": "a"}), "not a msgpack map of image, .*"),
        (b"\x91" * 2000, "not a msgpack map of image, .*"),
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
