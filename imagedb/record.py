"""The schema of an image database, version 3.

Record number i, counted from 0, is the msgpack map {"image": bytes, "label": int, "name": str}; "image" is an encoded
image file. An annotated record has "annotation" in place of "label", {"objects": [{"label": int, "box": [left, top,
right, bottom], "flags": [str], "mask": bytes}], "masks": {str: bytes}}; masks are PNG files, and an object may have
none. The header is the msgpack map {"format": "imagedb"} with the fields of `Header` and "checksum", the CRC-32 of the
msgpack map of these fields.

In an LMDB file, the key of record i is i as an 8-byte big-endian integer. Its value is the CRC-32 of key and msgpack
map, as 4 big-endian bytes, and that map. The key of the header is b"header"; it is written last, so a database without
it is unfinished. A RecordIO folder (recordio.py) stores the same parts in its way.

Versions 1 and 2, which had no CRC-32, are still read. The header of version 1 had only count, class_names and digest,
and its digest was the SHA-256 of key 0, value 0, key 1, value 1, ...
"""

import hashlib
import struct
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar, cast

import msgpack

from storage.errors import InputError, shown

FORMAT = "imagedb"
VERSION = 3
SEALED = 3  # the first version with a CRC-32
HEADER_KEY = b"header"
MAX_SIDE = 2**31  # pixels; a box beyond is a mistake

Data = TypeVar("Data", bytes, str)


@dataclass(frozen=True)
class Object:
    """One object in an image.

    Attributes:
        label: the index of its class.
        box: left, top, right, bottom in pixels from the image's top left corner; right - left is the width.
        flags: the dataset's remarks on it, sorted, such as "crowd" or "difficult".
        mask: a 1-bit PNG of the image's size, white where the object is; None if the dataset has none.

    Raises:
        InputError: if the label is not an integer, or the box not four numbers in order.
    """

    label: int
    box: tuple[float, float, float, float]
    flags: tuple[str, ...] = ()
    mask: bytes | None = None

    def __post_init__(self) -> None:
        _check_label(self.label)
        sides = self.box
        numbers = len(sides) == 4 and all(type(side) in (int, float) and abs(side) < MAX_SIDE for side in sides)
        if not numbers or sides[0] > sides[2] or sides[1] > sides[3]:
            raise InputError(f"box {shown(sides)}, must be left <= right and top <= bottom, numbers below {MAX_SIDE}")
        if self.mask is not None and not isinstance(self.mask, bytes):
            raise InputError("mask must be bytes")


@dataclass(frozen=True)
class Annotation:
    """Objects, and masks of the whole image by name ("class", "instance"), the dataset's PNG files."""

    objects: tuple[Object, ...] = ()
    masks: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """One encoded image with its name in the source and its label; or with an annotation, and None as its label."""

    image: bytes
    label: int | None
    name: str
    annotation: Annotation | None = None

    @property
    def labels(self) -> list[int]:
        """The label of the image, or those of its objects."""
        if self.annotation is None:
            return [cast(int, self.label)]
        return [obj.label for obj in self.annotation.objects]

    @property
    def masks(self) -> list[bytes]:
        """All masks of the annotation."""
        if self.annotation is None:
            return []
        own = [obj.mask for obj in self.annotation.objects if obj.mask is not None]
        return [*self.annotation.masks.values(), *own]


@dataclass(frozen=True)
class Header:
    """What a finished database holds; the fields are also the keys on disk.

    Attributes:
        count: number of records.
        class_names: names of the classes, by label.
        digest: SHA-256, in hexadecimal, of the SHA-256 of each record.
        annotated: whether the records have annotations in place of labels.
        shard: the number of this part of the source, from 1, and the number of parts.
        kept: indices of the records whose images are truncated JPEG files, kept by on_bad_image "keep".
        encoding: how images were encoded again; None: they are the source's bytes.
        version: version of the schema.

    Raises:
        InputError: if a field is not as above.
    """

    count: int
    class_names: list[str]
    digest: str
    annotated: bool = False
    shard: tuple[int, int] = (1, 1)
    kept: tuple[int, ...] = ()
    encoding: dict[str, Any] | None = None
    version: int = VERSION

    def __post_init__(self) -> None:
        right = {
            "count": _natural(self.count),
            "class_names": type(self.class_names) is list and all(isinstance(name, str) for name in self.class_names),
            "digest": isinstance(self.digest, str),
            "annotated": isinstance(self.annotated, bool),
            "shard": len(self.shard) == 2 and all(map(_natural, self.shard)),
            "kept": all(_natural(index) and index < self.count for index in self.kept),
            "encoding": self.encoding is None or isinstance(self.encoding, dict),
        }
        for name, is_right in right.items():
            if not is_right:
                raise InputError(f"the header's {name} is {shown(getattr(self, name))}")


class Digest:
    """Computes the digest of a header of `version` from the records in order."""

    def __init__(self, version: int = VERSION):
        self._version, self._count, self._hash = version, 0, hashlib.sha256()

    def add(self, value: bytes) -> None:
        """Add the next packed record."""
        if self._version == 1:
            self._hash.update(record_key(self._count) + value)
        else:
            self.add_digest(hashlib.sha256(value).digest())
        self._count += 1

    def add_digest(self, digest: bytes) -> None:
        """Add the SHA-256 of the next packed record, which another thread may have computed."""
        self._hash.update(digest)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def record_key(index: int) -> bytes:
    """The key of record number `index`; keys sort like indices."""
    return struct.pack(">Q", index)


def pack_record(record: Record) -> bytes:
    """Inverse of `unpack_record`.

    Raises:
        InputError: if the name is not valid Unicode, as file names on Linux can be.
    """
    fields: dict[str, Any] = {"image": record.image, "label": record.label, "name": record.name}
    if record.annotation is not None:
        del fields["label"]
        fields["annotation"] = _pack_annotation(record.annotation)
    try:
        return msgpack.packb(fields)
    except UnicodeEncodeError:
        raise InputError(f"image name {record.name!r} is not valid UTF-8") from None


def unpack_record(data: bytes | memoryview) -> Record:
    """Inverse of `pack_record`.

    Raises:
        InputError: if the data does not follow the schema.
    """
    try:
        fields = dict(msgpack.unpackb(data))
        if "annotation" in fields:
            record = Record(label=None, **fields | {"annotation": _unpack_annotation(fields["annotation"])})
        else:
            record = Record(**fields)
    except InputError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError("not a msgpack map of image, label or annotation, and name") from None
    if not (isinstance(record.image, bytes) and isinstance(record.name, str)):
        raise InputError("image and name must be bytes and a string")
    if record.annotation is None:
        _check_label(record.label)
    return record


def seal(key: bytes, value: bytes) -> bytes:
    """A packed record as an LMDB file stores it."""
    return zlib.crc32(value, zlib.crc32(key)).to_bytes(4, "big") + value


def unseal(key: bytes, data: bytes) -> memoryview:
    """Inverse of `seal`.

    Raises:
        InputError: if the key or the data are not those that were sealed.
    """
    value = memoryview(data)[4:]
    if zlib.crc32(value, zlib.crc32(key)) != int.from_bytes(data[:4], "big") or len(data) < 4:
        raise InputError("damaged: its CRC-32 differs")
    return value


def _natural(value: object) -> bool:
    return type(value) is int and value >= 0


def _check_label(label: object) -> None:
    if type(label) is not int:
        raise InputError(f"label must be an integer, not {shown(label)}")


def _pack_annotation(annotation: Annotation) -> dict:
    objects = [
        {"label": obj.label, "box": obj.box, "flags": obj.flags} | ({"mask": obj.mask} if obj.mask else {})
        for obj in annotation.objects
    ]
    return {"objects": objects, "masks": annotation.masks}


def _unpack_annotation(fields: dict) -> Annotation:
    objects = [
        Object(obj["label"], tuple(obj["box"]), tuple(obj["flags"]), obj.get("mask")) for obj in fields["objects"]
    ]
    masks = dict(fields["masks"])
    if not all(isinstance(flag, str) for obj in objects for flag in obj.flags):
        raise InputError("flags must be strings")
    if not all(isinstance(mask, bytes) for mask in masks.values()):
        raise InputError("masks must be bytes")
    return Annotation(tuple(objects), masks)


def pack_header(header: Header, pack: Callable[[dict], Data] = msgpack.packb) -> Data:
    """Inverse of `unpack_header`."""
    return pack({"format": FORMAT, **asdict(header), "checksum": _checksum(header)})


def unpack_header(data: bytes | str | None, unpack: Callable = msgpack.unpackb) -> Header:
    """Inverse of `pack_header`.

    Args:
        data: the packed header; None if the database has none.
        unpack: `msgpack.unpackb`, or a function that parses JSON.

    Raises:
        InputError: if there is no header, or it is damaged or not that of a supported version.
    """
    if data is None:
        raise InputError("no header: packing did not finish, pack it again")
    try:
        fields = dict(unpack(data))
        found = fields.pop("format"), fields["version"]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"the header is not that of an {FORMAT} database") from None
    if found not in [(FORMAT, version) for version in range(1, VERSION + 1)]:
        known = f"{FORMAT} version 1 to {VERSION}"
        raise InputError(f"format {shown(found[0])} version {shown(found[1])}, allowed: {known}")
    checksum = fields.pop("checksum", None) if found[1] >= SEALED else None
    try:
        sequences = {key: tuple(fields[key]) for key in ("shard", "kept") if key in fields}
        header = Header(**fields | sequences)
    except TypeError:
        raise InputError(
            f"the header holds {shown(sorted(map(str, fields)))}, not the fields of version {found[1]}"
        ) from None
    if found[1] >= SEALED and checksum != _checksum(header):
        raise InputError("the header is damaged: its checksum differs")
    return header


def _checksum(header: Header) -> int:
    return zlib.crc32(msgpack.packb(asdict(header)))
