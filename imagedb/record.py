"""The schema of an image database, version 2.

Record number i, counted from 0, is the msgpack map {"image": bytes, "label": int, "name": str}; "image" is an encoded
image file. An annotated record has "annotation" in place of "label", {"objects": [{"label": int, "box": [left, top,
right, bottom], "flags": [str], "mask": bytes}], "masks": {str: bytes}}; masks are PNG files, and an object may have
none. The header is the msgpack map {"format": "imagedb"} with the fields of `Header`.

In an LMDB file, the key of record i is i as an 8-byte big-endian integer. The key of the header is b"header"; it is
written last, so a database without it is unfinished. A RecordIO folder (recordio.py) stores the same parts in its way.

Version 1 is still read. Its header had only count, class_names and digest, and its digest was the SHA-256 of key 0,
value 0, key 1, value 1, ...
"""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar, cast

import msgpack

from storage.errors import InputError

FORMAT = "imagedb"
VERSION = 2
HEADER_KEY = b"header"

Data = TypeVar("Data", bytes, str)


@dataclass(frozen=True)
class Object:
    """One object in an image.

    Attributes:
        label: the index of its class.
        box: left, top, right, bottom in pixels from the image's top left corner; right - left is the width.
        flags: the dataset's remarks on it, sorted, such as "crowd" or "difficult".
        mask: a 1-bit PNG of the image's size, white where the object is; None if the dataset has none.
    """

    label: int
    box: tuple[float, float, float, float]
    flags: tuple[str, ...] = ()
    mask: bytes | None = None


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
    """

    count: int
    class_names: list[str]
    digest: str
    annotated: bool = False
    shard: tuple[int, int] = (1, 1)
    kept: tuple[int, ...] = ()
    encoding: dict[str, Any] | None = None
    version: int = VERSION


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


def unpack_record(data: bytes) -> Record:
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
    except (KeyError, TypeError, ValueError):
        raise InputError("not a msgpack map of image, label or annotation, and name") from None
    if not (isinstance(record.image, bytes) and isinstance(record.name, str)):
        raise InputError("image and name must be bytes and a string")
    if record.annotation is None and not isinstance(record.label, int):
        raise InputError("label must be an integer")
    return record


def _pack_annotation(annotation: Annotation) -> dict:
    objects = [
        {"label": obj.label, "box": obj.box, "flags": obj.flags} | ({"mask": obj.mask} if obj.mask else {})
        for obj in annotation.objects
    ]
    return {"objects": objects, "masks": annotation.masks}


def _unpack_annotation(fields: dict) -> Annotation:
    objects = (
        Object(obj["label"], tuple(obj["box"]), tuple(obj["flags"]), obj.get("mask")) for obj in fields["objects"]
    )
    return Annotation(tuple(objects), fields["masks"])


def pack_header(header: Header, pack: Callable[[dict], Data] = msgpack.packb) -> Data:
    """Inverse of `unpack_header`."""
    return pack({"format": FORMAT, **asdict(header)})


def unpack_header(data: bytes | str | None, unpack: Callable = msgpack.unpackb) -> Header:
    """Inverse of `pack_header`.

    Args:
        data: the packed header; None if the database has none.
        unpack: `msgpack.unpackb` or `json.loads`.

    Raises:
        InputError: if there is no header, or it is not that of a supported version.
    """
    if data is None:
        raise InputError("no header: packing did not finish, pack it again")
    try:
        fields = dict(unpack(data))
        found = fields.pop("format"), fields["version"]
    except (KeyError, TypeError, ValueError):
        raise InputError(f"the header is not that of an {FORMAT} database") from None
    if found not in ((FORMAT, 1), (FORMAT, VERSION)):
        raise InputError(f"format {found[0]} version {found[1]}, allowed: {FORMAT} version 1 or {VERSION}")
    try:
        sequences = {key: tuple(fields[key]) for key in ("shard", "kept") if key in fields}
        return Header(**fields | sequences)
    except TypeError:
        raise InputError(f"the header holds {sorted(fields)}, not the fields of version {found[1]}") from None
