"""Packs a split or a shard of it, and merges shards, with a progress bar."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from imagedb.digests import read_digests, write_digests
from imagedb.encode import Encoding
from imagedb.reader import ImageDatabase
from imagedb.sources.source import Shard, Source
from imagedb.summary import joined_summary, summary
from imagedb.writer import Packed, merge_databases, write_database
from pipeline.pack_params import Pack
from pipeline.paths import require
from pixels.resize import lanczos
from storage.errors import InputError
from storage.json_file import read_json


def pack(source: Source, path: Path, params: Pack, shard: Shard, workers: int) -> dict:
    """Write one shard of a source to `path` and the digests of its images beside it, and return its metrics.

    Raises:
        InputError, OSError: As in `write_database`.
    """
    encode = params.encoding
    write = partial(
        write_database,
        source,
        path,
        encoding=None if encode.type == "original" else Encoding(**encode.model_dump(), resize=lanczos),
        on_bad_image=params.on_bad_image,
        shard=shard,
        workers=workers,
    )
    packed = _with_bar(write, *source.expected(shard))
    write_digests(path, packed.header.digest, packed.digests)
    return summary(packed)


def merge(path: Path, count: int) -> dict:
    """Merge the `count` shards beside `path` and their digests into the database `path`, and return its metrics.

    Raises:
        FileNotFoundError: If a shard has not been packed.
        InputError: If `count` is less than 2, the shards are not those of one split, or their digests are missing.
    """
    if count < 2:
        raise InputError(f"--merge {count} is not allowed, must be 2 or more")
    paths = [Shard(k, count).file(path) for k in range(1, count + 1)]
    summaries, digests = [], b""
    for k, part in enumerate(paths, 1):
        file = require(part.with_suffix(".json"), f"python -m stages.pack ... --shard {k}/{count}")
        summaries.append(read_json(file))
        digests += read_digests(ImageDatabase(part))
    images = sum(each["images"] for each in summaries)
    packed = _with_bar(partial(merge_databases, paths, path), images, "image")
    write_digests(path, packed.header.digest, digests)
    return joined_summary(packed, summaries)


def _with_bar(write: Callable[..., Packed], total: int, unit: str) -> Packed:
    with tqdm(total=total, unit=unit, unit_scale=unit == "B", disable=None) as bar:
        packed = write(progress=lambda record: bar.update(len(record.image) if unit == "B" else 1))
        bar.update(total - bar.n)  # bytes of an archive that are no images; images that are left out
        return packed
