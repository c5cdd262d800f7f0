import msgpack
import pytest

from imagedb.record import Header, Record, pack_header, pack_record, record_key, unpack_header, unpack_record

HEADER = Header(count=2, class_names=["ant", "bee"], digest="00ff")


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
        "version": 1,
        "count": 2,
        "class_names": ["ant", "bee"],
        "digest": "00ff",
    }
    assert unpack_header(data) == HEADER


def header_bytes(**changes):
    return msgpack.packb({**msgpack.unpackb(pack_header(HEADER)), **changes})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (None, "no header: packing did not finish, pack it again"),
        (header_bytes(version=2), "format imagedb version 2, allowed: imagedb version 1; pack it again"),
        (header_bytes(format="other"), "format other version 1, allowed: imagedb version 1; pack it again"),
        (msgpack.packb([1]), "the header is not that of an imagedb database"),
        (msgpack.packb({"count": 1}), "the header is not that of an imagedb database"),
        (b"\xc1", "the header is not that of an imagedb database"),
        (
            header_bytes(owner="me"),
            r"the header holds \['class_names', 'count', 'digest', 'owner'\], not count, class_names and digest",
        ),
    ],
)
def test_bad_header_is_refused(data, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        unpack_header(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x83\xa5ima", "not a msgpack map of image, label and name"),
        (msgpack.packb({"image": b"", "label": 0}), "not a msgpack map of image, label and name"),
        (
            msgpack.packb({"image": "text", "label": 0, "name": "a"}),
            "image, label and name must be bytes, an integer and a string",
        ),
    ],
)
def test_bad_record_is_refused(data, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        unpack_record(data)


def test_name_that_is_not_unicode_is_refused():
    with pytest.raises(ValueError, match=r"^image name 'a\\udcff' is not valid UTF-8$"):
        pack_record(Record(b"", 0, b"a\xff".decode("utf-8", "surrogateescape")))
