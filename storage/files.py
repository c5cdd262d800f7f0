"""Files that are whole or absent, and folders that one process at a time writes to."""

import csv
import fcntl
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it if the block ends well, and is removed if it does not."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    except OSError as error:
        raise OSError(f"cannot write {path}: {error}") from None
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: str | Path, value: dict) -> None:
    """Write `value` as indented JSON with a final newline, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


def write_csv(path: str | Path, rows: Iterable[Sequence]) -> None:
    """Write `rows`, the first of them the header, whole or not at all."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


@contextmanager
def alone(folder: str | Path) -> Iterator[None]:
    """Keep other processes from doing the same: what is in the block writes to `folder`.

    Raises:
        ValueError: if another process is in such a block.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another process is writing {folder}; wait for its end, or stop it") from None
        yield
    finally:
        os.close(descriptor)
