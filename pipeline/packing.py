"""Packs a split or a shard of it, and merges shards, with a progress bar."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tqdm import tqdm

from imagedb.encode import Encoding
from imagedb.sources.source import Shard, Source
from imagedb.summary import joined_summary, summary
from imagedb.writer import Packed, merge_databases, write_database
from pipeline.params import Pack
from pipeline.paths import require
from storage.errors import InputError


def pack(source: Source, path: Path, params: Pack, shard: Shard, workers: int) -> dict:
    """Write one shard of a source to `path`, and return its metrics.

    Raises:
        InputError, OSError: As in `write_database`.
    """
    encode = params.encoding
    write = partial(
        write_database,
        source,
        path,
        encoding=None if encode.type == "original" else Encoding(**encode.model_dump()),
        on_bad_image=params.on_bad_image,
        shard=shard,
        workers=workers,
    )
    return summary(_with_bar(write, *source.expected(shard)))


def merge(path: Path, count: int) -> dict:
    """Merge the `count` shards beside `path` into the database `path`, and return its metrics.

    Raises:
        FileNotFoundError: If a shard has not been packed.
        InputError: If `count` is less than 2, or the shards are not those of one split.
    """
    if count < 2:
        raise InputError(f"--merge {count} is not allowed, must be 2 or more")
    paths = [Shard(k, count).file(path) for k in range(1, count + 1)]
    summaries = []
    for k, part in enumerate(paths, 1):
        file = require(part.with_suffix(".json"), f"python -m stages.pack ... --shard {k}/{count}")
        summaries.append(json.loads(file.read_text()))
    images = sum(each["images"] for each in summaries)
    return joined_summary(_with_bar(partial(merge_databases, paths, path), images, "image"), summaries)


def _with_bar(write: Callable[..., Packed], total: int, unit: str) -> Packed:
    with tqdm(total=total, unit=unit, unit_scale=unit == "B", disable=None) as bar:
        packed = write(progress=lambda record: bar.update(len(record.image) if unit == "B" else 1))
        bar.update(total - bar.n)  # bytes of an archive that are no images; images that are left out
        return packed
