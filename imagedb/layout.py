"""How a folder of a user's images is laid out: which source reads it, and which splits it has."""

from dataclasses import dataclass
from pathlib import Path

from storage.errors import InputError

NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation", "test", "testing")}
LISTS = (".csv", ".jsonl")
EXPECTED = "DIR/train/<class>/ and DIR/val/<class>/, DIR/<class>/, a list (.csv, .jsonl), or the archives of ImageNet"


@dataclass(frozen=True)
class Layout:
    """Where images are.

    Attributes:
        kind: the source that reads them, a value of pack.source.
        root: its root.
        train, val: the names of the splits there; val is None if there is one split only, which is to be divided.
    """

    kind: str
    root: Path
    train: str
    val: str | None


def layout(data: Path) -> Layout:
    """The layout of a folder, or of a list.

    Raises:
        FileNotFoundError: if there is nothing of this name.
        InputError: if it is a file of another kind.
    """
    if not data.exists():
        raise FileNotFoundError(f"{data} does not exist; expected {EXPECTED}")
    if data.is_file():
        if data.suffix.lower() not in LISTS:
            raise InputError(f"{data} is no folder and no list: extract an archive first; expected {EXPECTED}")
        of_split = _lists(data.parent)
        if data.name in of_split.values() and "val" in of_split:
            return Layout("list", data.parent, of_split["train"], of_split["val"])
        return Layout("list", data.parent, data.name, None)
    if any(data.glob("ILSVRC2012_*")):
        return Layout("imagenet", data, "train", "val")
    if len(of_split := _lists(data)) == len(NAMES):
        return Layout("list", data, **of_split)
    below = {path.name.lower(): path.name for path in sorted(data.iterdir()) if _has_folders(path)}
    folders = {split: below[name] for split in NAMES for name in reversed(NAMES[split]) if name in below}
    return Layout("folder", data, folders.get("train", "."), folders.get("val") if "train" in folders else None)


def _has_folders(path: Path) -> bool:
    """Whether it is a folder that has others: a split has classes, and a class may be named train, too."""
    return path.is_dir() and any(each.is_dir() for each in path.iterdir())


def _lists(folder: Path) -> dict[str, str]:
    """The lists of splits in a folder, by split."""
    return {
        split: path.name
        for split, names in NAMES.items()
        for name in reversed(names)
        for suffix in LISTS
        if (path := folder / f"{name}{suffix}").is_file()
    }
