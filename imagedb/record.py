"""The schema of an image database, version 1.

A database is one LMDB file. Record number i, counted from 0, has i as an 8-byte big-endian integer for its key and the
msgpack map {"image": bytes, "label": int, "name": str} for its value; "image" is an encoded image file. The header,
under the key b"header" and written last, is the msgpack map {"format": "imagedb", "version": 1, "count": int,
"class_names": [str], "digest": str}; "digest" is the SHA-256, in hexadecimal, of key 0, value 0, key 1, value 1, ...
A database without a header is unfinished.
"""

import struct
from dataclasses import asdict, dataclass

import msgpack

FORMAT = "imagedb"
VERSION = 1
HEADER_KEY = b"header"


@dataclass(frozen=True)
class Record:
    """One labelled picture: the encoded image, the index of its class, and its name in the source."""

    image: bytes
    label: int
    name: str


@dataclass(frozen=True)
class Header:
    """What a finished database holds; `digest` is the SHA-256 of all records in hexadecimal."""

    count: int
    class_names: list[str]
    digest: str


def record_key(index: int) -> bytes:
    """The key of record number `index`; byte order is number order."""
    return struct.pack(">Q", index)


def pack_record(record: Record) -> bytes:
    """Inverse of `unpack_record`.

    Raises:
        ValueError: if the name is not valid Unicode, as a file name can be on Linux.
    """
    try:
        return msgpack.packb({"image": record.image, "label": record.label, "name": record.name})
    except UnicodeEncodeError:
        raise ValueError(f"image name {record.name!r} is not valid UTF-8") from None


def unpack_record(data: bytes) -> Record:
    """Inverse of `pack_record`.

    Raises:
        ValueError: if the data is not the msgpack map of the schema.
    """
    try:
        record = Record(**msgpack.unpackb(data))
    except (TypeError, ValueError):
        raise ValueError("not a msgpack map of image, label and name") from None
    if not (isinstance(record.image, bytes) and isinstance(record.label, int) and isinstance(record.name, str)):
        raise ValueError("image, label and name must be bytes, an integer and a string")
    return record


def pack_header(header: Header) -> bytes:
    """Inverse of `unpack_header`."""
    return msgpack.packb({"format": FORMAT, "version": VERSION, **asdict(header)})


def unpack_header(data: bytes | None) -> Header:
    """Inverse of `pack_header`; `data` is None if the database has no header.

    Raises:
        ValueError: if there is no header, or it is not of this format and version.
    """
    if data is None:
        raise ValueError("no header: packing did not finish, pack it again")
    try:
        fields = dict(msgpack.unpackb(data))
        found = fields.pop("format"), fields.pop("version")
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"the header is not that of an {FORMAT} database") from None
    if found != (FORMAT, VERSION):
        raise ValueError(f"format {found[0]} version {found[1]}, allowed: {FORMAT} version {VERSION}; pack it again")
    try:
        return Header(**fields)
    except TypeError:
        raise ValueError(f"the header holds {sorted(fields)}, not count, class_names and digest") from None
