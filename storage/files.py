"""Files that are whole or absent."""

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from storage.errors import cannot_write

LONGEST = 240  # bytes of a name that `beside` extends; file systems allow 255


@contextmanager
def whole_file(path: str | Path, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it if the block succeeds, and is removed if it fails.

    Args:
        path: The file; its folder is created if it does not exist.
        durable: Whether to return only when the file and its name are on the disk, safe from power failures.

    Raises:
        OSError: If the block or the replacement raises one; the message names `path`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(path, "partial")
    try:
        yield partial
        if durable:
            sync(partial)
        partial.replace(path)
        if durable:
            sync(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        partial.unlink(missing_ok=True)


def beside(path: Path, state: str) -> Path:
    """The hidden path beside `path` for another state of it, such as .name.partial; a long name is shortened."""
    name = os.fsencode(path.name)
    shown = path.name if len(name) <= LONGEST else hashlib.sha256(name).hexdigest()[:16]
    return path.with_name(f".{shown}.{state}")


def sync(path: Path) -> None:
    """Wait until the file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: str | Path, value: Mapping[str, object]) -> None:
    """Write `value` as indented JSON with a final newline, whole or not at all."""
    with whole_file(path) as partial:
        partial.write_text(json.dumps(value, indent=2) + "\n")


def write_csv(path: str | Path, rows: Iterable[Sequence]) -> None:
    """Write `rows`, the first of them the header, whole or not at all."""
    with whole_file(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
