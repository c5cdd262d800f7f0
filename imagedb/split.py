"""A split of images into training and validation, as two lists: no file moves."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from imagedb.looks import Look
from imagedb.sources.files import is_file_name
from storage.errors import InputError, shown
from storage.files import whole_file

SHARE = 5  # one of so many images of a class is for validation
NAMES = {"train": "train.jsonl", "val": "val.jsonl"}


def split(looks: Sequence[Look], class_names: Sequence[str], seed: int) -> dict[str, list[Look]]:
    """The images of each split, in their order: of each class one fifth, by a hash of their bytes, for validation.

    Copies of an image stay together. Damaged images are left out.

    Raises:
        InputError: if a class has less than two different images; names all such classes.
    """
    of_class: dict[int, dict[bytes, int]] = {label: defaultdict(int) for label in range(len(class_names))}
    for each in looks:
        if each.digest:
            of_class[each.label][each.digest] += 1
    if few := [name for name, counts in zip(class_names, of_class.values(), strict=True) if len(counts) < 2]:
        raise InputError(
            f"{', '.join(map(shown, few[:5]))}{', …' * (len(few) > 5)}: a class needs two different images that "
            "can be read, one to train and one to validate on"
        )
    for_val: dict[bytes, bool] = {}
    for counts in of_class.values():
        wanted = max(1, round(sum(counts.values()) / SHARE))
        taken = sum(count for digest, count in counts.items() if for_val.get(digest))
        for digest in sorted(counts, key=lambda each: (counts[each] > wanted, _order(each, seed))):
            if digest not in for_val:
                for_val[digest] = taken < wanted and (counts[digest] <= wanted or not taken)
                taken += counts[digest] * for_val[digest]
    chosen: dict[str, list[Look]] = {name: [] for name in NAMES}
    for each in looks:
        if each.digest:
            chosen["val" if for_val[each.digest] else "train"].append(each)
    return chosen


def _order(digest: bytes, seed: int) -> bytes:
    return hashlib.sha256(b"%d " % seed + digest).digest()


def write_list(path: Path, images: Sequence[Look], class_names: Sequence[str], below: str) -> None:
    """Write a list for `ImageListSource`; names are paths below `below`, from the folder of the list.

    Raises:
        InputError: if a name is not UTF-8, or another file of this name is there.
        OSError: if it cannot be written.
    """
    lines = []
    for each in images:
        if not is_file_name(each.name):
            raise InputError(
                f"the file name {shown(each.name)} is not UTF-8, and a list cannot hold it: rename the file"
            )
        row = {"path": below + each.name, "label": class_names[each.label]}
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    text = "".join(lines)
    if path.exists() and path.read_text(encoding="utf-8", errors="replace") != text:
        raise InputError(f"{path} is there, with other contents than the split that would be written: remove it first")
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
