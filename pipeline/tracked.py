"""The files that DVC tracks, and the MD5 that each should have: in its cache, and in the repository.

DVC itself trusts an object of its cache by its name, and a file by its size and time.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from pipeline.yaml_file import read_yaml
from storage.errors import InputError
from storage.json_file import read_json

LOCK = Path("dvc.lock")
BLOCK = 2**20  # bytes that are read at once


class Tracked(NamedTuple):
    """A file, and its MD5 in hexadecimal."""

    path: Path
    md5: str


def cached(cache: Path) -> Iterator[Tracked]:
    """The objects in DVC's cache: the name of each is the MD5 of its contents."""
    for path in sorted((cache / "files" / "md5").glob("??/[!.]*")):  # .*: what a stopped DVC has left
        if path.is_file():
            yield Tracked(path, path.parent.name + path.name.removesuffix(".dir"))


def outputs(cache: Path) -> Iterator[Tracked]:
    """The files in the repository that dvc.lock has as outputs; those of folders are listed in DVC's cache.

    Raises:
        InputError: If dvc.lock, or the list of a folder, cannot be read.
    """
    try:
        stages = read_yaml(LOCK)["stages"].values()
        outs = [(Path(out["path"]), str(out["md5"])) for stage in stages for out in stage.get("outs", [])]
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{LOCK} is not as DVC writes it") from None
    for path, md5 in outs:
        listed = cache / "files" / "md5" / md5[:2] / md5[2:]
        if not md5.endswith(".dir"):
            yield Tracked(path, md5)
        elif listed.exists():
            try:
                yield from [Tracked(path / entry["relpath"], entry["md5"]) for entry in read_json(listed)]
            except (KeyError, TypeError):
                raise InputError(f"{listed} is damaged: it does not list the files of {path}") from None


def is_whole(file: Tracked, advance: Callable[[int], object]) -> bool:
    """Whether a file has its MD5.

    Args:
        advance: Called with the number of bytes that have been read since the last call.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with file.path.open("rb") as opened:
        while block := opened.read(BLOCK):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest() == file.md5
