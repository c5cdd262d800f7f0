"""Writing an image database: equal sources give equal bytes, for any number of workers and interruptions."""

import fcntl
import hashlib
import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

from imagedb import jpeg
from imagedb.digests import image_digests
from imagedb.encode import Encoding
from imagedb.images import decode_image, inspect_image
from imagedb.lmdb_file import LmdbWriter
from imagedb.parallel import ordered_map
from imagedb.pillow_warnings import collected, collecting
from imagedb.reader import ImageDatabase
from imagedb.record import Digest, Header, Record, pack_record
from imagedb.recordio import RecordIOWriter
from imagedb.sources.source import WHOLE, Shard, Source, SourceImage
from storage.errors import InputError
from storage.files import beside, sync

WRITERS = {".recordio": RecordIOWriter}  # by suffix; LmdbWriter for any other

OnBadImage = Literal["error", "skip", "keep"]


@dataclass
class Packed:
    """What was packed, and what was found.

    Attributes:
        header: the header of the database.
        bytes: total size of the encoded images.
        per_class: number of images, or of objects if the source has annotations, in each class.
        bad: for each damaged image, by name, what was done ("kept", "skipped") and why.
        notes: for each unusual property (see `inspect_image`), the names of the images that have it; and what the
            source notes, in the first shard.
        digests: for each record, the 32 bytes of `image_digests`; none after `merge_databases`.
    """

    header: Header
    bytes: int
    per_class: list[int]
    bad: dict[str, str] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    digests: bytearray = field(default_factory=bytearray)


def write_database(
    source: Source,
    path: str | Path,
    *,
    encoding: Encoding | None = None,
    on_bad_image: OnBadImage = "error",
    shard: Shard = WHOLE,
    workers: int = 0,
    progress: Callable[[Record], None] | None = None,
) -> Packed:
    """Check every image of `source` and write the records in order to `path`.

    The database appears at `path` when it is whole, and replaces an old one; until then a hidden partial one lies
    beside it.

    Args:
        path: a RecordIO folder if it ends in .recordio, otherwise an LMDB file.
        encoding: how images are encoded again; None: their bytes stay as they are.
        on_bad_image: what to do with a damaged image: "error" stops; "skip" leaves it out; "keep" keeps a truncated
            JPEG file, which can be decoded in part, and leaves out any other.
        shard: the part of the source to pack.
        workers: threads that read, check and encode, without effect on the bytes; 0: the calling thread does it.
        progress: called with each record that has been written.

    Raises:
        InputError: if an image is damaged and `on_bad_image` is "error", a label has no class name, a name occurs
            twice, there are no images, `workers` is negative, or another process is writing `path`.
        OSError: if a file cannot be read or written.
    """
    if source.annotated and encoding and encoding.size is not None:
        raise InputError("annotations are in pixels of the original images, so the images cannot be resized")
    prepare = partial(_prepare, encoding=encoding, on_bad_image=on_bad_image)
    noted = source.notes if shard.number == 1 else {}  # once for all shards
    bad, digests = {}, bytearray()
    notes = defaultdict(list, {kind: list(names) for kind, names in noted.items()})
    prepared = ordered_map(prepare, source.images(shard), workers)
    with collecting(), closing(prepared), _new_database(path) as writer:
        records = _Records(writer, source.class_names, progress)
        for found in prepared:
            if found.problem:
                bad[found.name] = found.problem
            for note in found.notes:
                notes[note].append(found.name)
            if found.record:
                records.put(found.record, found.value, found.digest, truncated=bool(found.problem))
                digests += found.digests
        packed = records.finish(
            annotated=source.annotated,
            shard=(shard.number, shard.count),
            encoding=encoding.describe() if encoding else None,
        )
    return replace(packed, bad=bad, notes=dict(sorted(notes.items())), digests=digests)


def merge_databases(
    paths: Sequence[str | Path], path: str | Path, progress: Callable[[Record], None] | None = None
) -> Packed:
    """Merge all shards of a source into the database that packing it at once would make, byte for byte.

    The result has no `bad`, `notes` and `digests`, because databases do not hold them.

    Raises:
        InputError: if the shards are not all parts of one source, each once, or a name occurs twice.
        OSError: if a file cannot be read or written.
    """
    shards = sorted((ImageDatabase(each) for each in paths), key=lambda database: database.header.shard)
    count = shards[0].header.shard[1]
    if (found := [shard.header.shard for shard in shards]) != [(k, count) for k in range(1, count + 1)]:
        raise InputError(f"the shards are {', '.join(f'{k}/{n}' for k, n in found)}, not each of {count} once")
    first = shards[0].header
    for shard in shards:
        for name in ("class_names", "annotated", "encoding", "version"):
            if getattr(shard.header, name) != getattr(first, name):
                raise InputError(f"{shard.path} and {shards[0].path} have different {name}")
    with _new_database(path) as writer:
        records = _Records(writer, first.class_names, progress)
        for shard in shards:
            truncated = set(shard.header.kept)
            for index in range(len(shard)):
                record = shard[index]
                value = pack_record(record)
                records.put(record, value, hashlib.sha256(value).digest(), truncated=index in truncated)
        return records.finish(annotated=first.annotated, shard=(1, 1), encoding=first.encoding)


@dataclass
class _Prepared:
    name: str
    record: Record | None = None  # None: the image is left out
    value: bytes = b""
    digest: bytes = b""
    digests: bytes = b""
    notes: list[str] = field(default_factory=list)
    problem: str | None = None


def _prepare(item: SourceImage, encoding: Encoding | None, on_bad_image: OnBadImage) -> _Prepared:
    found = _Prepared(item.name)
    data = item.image() if callable(item.image) else item.image
    try:
        collected()  # what an image before has left
        try:
            image, notes = inspect_image(data, item.name)
            found.notes = list(dict.fromkeys([*notes, *collected()]))
            stored = encoding(image, data) if encoding else data
        except InputError as error:
            if on_bad_image == "error":
                raise InputError(f"{error}; on_bad_image: skip leaves such images out") from None
            found.problem = f"skipped: {error}"
            if on_bad_image == "skip" or not data.startswith(jpeg.SIGNATURE):
                return found
            try:
                image = decode_image(data, tolerant=True)
                stored = encoding(image, data) if encoding else data
            except InputError:
                return found
            found.problem = f"kept: {error}"
        annotation = item.annotation() if item.annotation else None
        found.record = Record(stored, item.label, item.name, annotation)
        for mask in found.record.masks:
            inspect_image(mask, "mask")
    except InputError as error:
        where = f" ({item.file})" if item.file else ""
        raise InputError(f"image {item.name}{where}: {error}") from None
    found.digests = image_digests(data, image)
    found.value = pack_record(found.record)
    found.digest = hashlib.sha256(found.value).digest()
    return found


class _Records:
    """Counts records, compares them with those before, and passes them to a writer."""

    def __init__(
        self,
        writer: LmdbWriter | RecordIOWriter,
        class_names: Sequence[str],
        progress: Callable[[Record], None] | None,
    ):
        self._writer, self._class_names, self._progress = writer, list(class_names), progress
        self._digest = Digest()
        self._names: set[str] = set()
        self._truncated: list[int] = []
        self._bytes, self._per_class = 0, [0] * len(self._class_names)

    def put(self, record: Record, value: bytes, digest: bytes, truncated: bool) -> None:
        for label in record.labels:
            if not 0 <= label < len(self._class_names):
                raise InputError(f"image {record.name}: label {label}, allowed: 0 to {len(self._class_names) - 1}")
            self._per_class[label] += 1
        if record.name in self._names:
            raise InputError(f"image {record.name}: the name occurs twice in the source")
        if truncated:
            self._truncated.append(len(self._names))
        self._names.add(record.name)
        self._bytes += len(record.image)
        self._digest.add_digest(digest)
        self._writer.put(record, value)
        if self._progress:
            self._progress(record)

    def finish(self, shard: tuple[int, int], **fields: Any) -> Packed:
        if not self._names and shard == (1, 1):
            raise InputError("the source holds no images")
        header = Header(
            count=len(self._names),
            class_names=self._class_names,
            digest=self._digest.hexdigest(),
            kept=tuple(self._truncated),
            shard=shard,
            **fields,
        )
        self._writer.finish(header)
        return Packed(header, self._bytes, self._per_class)


@contextmanager
def _new_database(path: str | Path) -> Iterator[LmdbWriter | RecordIOWriter]:
    """A writer whose database replaces `path` if the block succeeds, and is removed if it fails."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial, old = (beside(path, state) for state in ("partial", "old"))
    with _locked(beside(path, "lock"), path):
        if old.exists() and not path.exists():
            old.replace(path)  # an earlier run was killed between the two replacements below
        _remove(partial, old)  # an earlier run was killed before them
        try:
            with closing(WRITERS.get(path.suffix, LmdbWriter)(partial)) as writer:
                yield writer
            if path.is_dir():
                path.replace(old)  # a folder cannot replace another in one step
            partial.replace(path)
            sync(path.parent)
        finally:
            _remove(partial, old)


@contextmanager
def _locked(lock: Path, path: Path) -> Iterator[None]:
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not lock.exists() or not os.path.samestat(lock.stat(), os.fstat(file.fileno())):
                raise BlockingIOError  # the process that held it has just removed it
        except BlockingIOError:
            raise InputError(f"another process is writing {path}") from None
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
