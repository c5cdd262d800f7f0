"""Writing an image database: equal sources give equal bytes, whatever the number of workers."""

import hashlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from pathlib import Path

import lmdb

from imagedb.images import decode_image
from imagedb.record import HEADER_KEY, Header, Record, pack_header, pack_record, record_key
from imagedb.sources import Source

BATCH = 32  # records a transaction and a worker's task
INITIAL_MAP_SIZE = 2**24  # bytes; doubled whenever it is full

_worker_source: Source  # a worker process's own copy


def write_database(
    source: Source, path: str | Path, workers: int = 0, progress: Callable[[Record], None] | None = None
) -> Header:
    """Check every image of `source` by decoding it, and write the records in their order to the file `path`.

    The file appears when it is whole; until then a hidden partial file lies beside it.

    Args:
        workers: processes that read and check images; 0 does it in this one.
        progress: called with each record that has been written.

    Raises:
        ValueError: if an image cannot be decoded, a label has no class name, a name occurs twice, the source is empty,
            or `workers` is negative.
        OSError: if a file cannot be read or written.
    """
    if workers < 0:
        raise ValueError(f"workers is {workers}, must be 0 or more")
    if len(source) == 0:
        raise ValueError("the source holds no images")
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # a killed run leaves one
    try:
        header = _write(source, partial, workers, progress or (lambda record: None))
        _sync(partial)
        partial.replace(path)
        _sync(path.parent)
    except lmdb.Error as error:
        raise OSError(f"cannot write {path}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return header


def _write(source: Source, path: Path, workers: int, progress: Callable[[Record], None]) -> Header:
    digest, names = hashlib.sha256(), set()
    batches = _read_in_processes(source, workers) if workers else _read_here(source)
    # Safety comes from fsync and rename at the end, so transactions need not wait for the disk.
    with closing(batches), lmdb.open(str(path), subdir=False, lock=False, sync=False, map_size=INITIAL_MAP_SIZE) as env:
        for records in batches:
            entries = []
            for record in records:
                _check(record, source.class_names, names)
                entries.append((record_key(len(names)), pack_record(record)))
                names.add(record.name)
            _commit(env, entries)
            for record, entry in zip(records, entries, strict=True):
                digest.update(b"".join(entry))
                progress(record)
        header = Header(len(names), list(source.class_names), digest.hexdigest())
        _commit(env, [(HEADER_KEY, pack_header(header))])
        size = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    os.truncate(path, size)  # LMDB may leave unused last pages unwritten; a reader takes a shorter file for damaged
    return header


def _check(record: Record, class_names: list[str], names: set[str]) -> None:
    if not 0 <= record.label < len(class_names):
        raise ValueError(f"image {record.name}: label {record.label}, allowed: 0 to {len(class_names) - 1}")
    if record.name in names:
        raise ValueError(f"image {record.name}: the name occurs twice in the source")


def _commit(env: lmdb.Environment, entries: list[tuple[bytes, bytes]]) -> None:
    """Append the entries in one transaction, with a larger map if this one is full."""
    while True:
        try:
            with env.begin(write=True) as transaction:
                for key, value in entries:
                    transaction.put(key, value, append=True)
            return
        except lmdb.MapFullError:
            env.set_mapsize(2 * env.info()["map_size"])


def _read(source: Source, index: int) -> Record:
    item = source[index]
    data = item.image() if callable(item.image) else item.image
    try:
        decode_image(data)
    except ValueError as error:
        where = f" ({item.file})" if item.file else ""
        raise ValueError(f"image {item.name}{where}: {error}") from None
    return Record(data, item.label, item.name)


def _batches(source: Source) -> Iterator[range]:
    return (range(len(source))[start : start + BATCH] for start in range(0, len(source), BATCH))


def _read_here(source: Source) -> Iterator[list[Record]]:
    for batch in _batches(source):
        yield [_read(source, index) for index in batch]


def _read_in_processes(source: Source, workers: int) -> Iterator[list[Record]]:
    """The batches in order, read by `workers` processes at most two batches each ahead."""
    context = multiprocessing.get_context("spawn")  # a fork would copy whatever locks torch's threads hold
    pool = ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(source,))
    try:
        pending = deque()
        for batch in _batches(source):
            pending.append(pool.submit(_read_in_worker, batch))
            if len(pending) == 2 * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(source: Source) -> None:
    global _worker_source
    _worker_source = source
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process stops the workers
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)  # without this, workers of a killed process would wait for tasks for ever


def _read_in_worker(batch: range) -> list[Record]:
    return [_read(_worker_source, index) for index in batch]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
