"""Equal images in two databases, and in one of them twice, found by their digests."""

from collections.abc import Iterator
from typing import Any

from imagedb.digests import HALF, read_digests
from imagedb.reader import ImageDatabase
from storage.errors import InputError

NAMED = 100  # pairs are named


def overlap(train: ImageDatabase, val: ImageDatabase) -> dict[str, Any]:
    """Which images of `val` are also in `train`, as the same bytes or the same RGB pixels, as JSON values.

    Returns:
        "val_in_train": the number of such images, "same_bytes" and "other_labels": how many of them have the same bytes
        and other labels there; "pairs": the first NAMED of them. "repeated": of each database, how many images are
        there a second time, and how many of these with other labels.

    Raises:
        InputError: if the two hold the same records, or a file of digests does not belong to its database.
    """
    if train.header.digest == val.header.digest:
        raise InputError(f"{train.path} and {val.path} hold the same records: validation needs images of its own")
    known, seen = read_digests(train), read_digests(val)
    encoded, first = {each[:HALF] for each in _split(known)}, _first(known)
    pairs = []
    for index, each in enumerate(_split(seen)):
        if each[HALF:] in first:
            mine, theirs = val[index], train[first[each[HALF:]]]
            same = "bytes" if each[:HALF] in encoded else "pixels"
            labels = "same" if mine.labels == theirs.labels else "other"
            pairs.append({"val": mine.name, "train": theirs.name, "same": same, "labels": labels})
    pairs.sort(key=lambda pair: pair["labels"] == "same")  # the worse ones are named first
    return {
        "val_in_train": len(pairs),
        "same_bytes": sum(pair["same"] == "bytes" for pair in pairs),
        "other_labels": sum(pair["labels"] == "other" for pair in pairs),
        "pairs": pairs[:NAMED],
        "repeated": {"train": _repeated(train, known, first), "val": _repeated(val, seen, _first(seen))},
    }


def _repeated(database: ImageDatabase, digests: bytes, first: dict[bytes, int]) -> dict[str, int]:
    pairs = [(first[each[HALF:]], index) for index, each in enumerate(_split(digests))]
    again = [pair for pair in pairs if pair[0] != pair[1]]
    other = sum(database[before].labels != database[index].labels for before, index in again)
    return {"images": len(again), "other_labels": other}


def _first(digests: bytes) -> dict[bytes, int]:
    """The first record that has each digest of pixels."""
    first: dict[bytes, int] = {}
    for index, each in enumerate(_split(digests)):
        first.setdefault(each[HALF:], index)
    return first


def _split(digests: bytes) -> Iterator[bytes]:
    """The 32 bytes of each record."""
    return (digests[at : at + 2 * HALF] for at in range(0, len(digests), 2 * HALF))
