"""Images in one folder per class."""

import os
from collections import deque
from functools import partial
from pathlib import Path

from imagedb.images import SUFFIXES
from imagedb.sources.files import read_file
from imagedb.sources.source import IndexedSource, SourceImage
from storage.errors import InputError

HIDDEN, OTHER = "left out: hidden", "left out: not named as an image"
AGAIN = "left out: a folder that was reached before, through links"


class FolderSource(IndexedSource):
    """The images below root/split/<class> with a suffix in SUFFIXES, named by their paths from root/split.

    Order and contents are those of torchvision's ImageFolder: classes by name, then folders and files by name, at any
    depth and through links. But hidden files and folders are left out, and so is a folder that links lead to a second
    time in the same class, or that holds the class. `notes` names these and files with other suffixes. An extracted
    ImageNet is such a folder.

    Raises:
        InputError: if a folder is missing or empty, or images lie outside a class folder.
    """

    def __init__(self, root: str | Path, split: str):
        self.folder = Path(root) / split
        expected = f"expected {self.folder}/<class>/<image>"
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is not a folder; {expected}")
        notes: dict[str, list[str]] = {HIDDEN: [], OTHER: [], AGAIN: []}
        stray: list[str] = []
        self.class_names = []
        for entry in _entries(self.folder):
            if entry.name.startswith("."):
                notes[HIDDEN].append(entry.name)
            elif _is_folder(entry):
                self.class_names.append(entry.name)
            else:
                (stray if _is_image(entry.name) else notes[OTHER]).append(entry.name)
        if stray:
            raise InputError(f"{self.folder} holds images without a class, such as {stray[0]}; {expected}")
        if not self.class_names:
            raise InputError(f"{self.folder} holds no class folders; {expected}")
        self._files: list[tuple[int, str]] = []
        for label, class_name in enumerate(self.class_names):
            files = self._images_below(class_name, notes)
            if not files:
                raise InputError(f"{self.folder / class_name} holds no images ({', '.join(sorted(SUFFIXES))})")
            self._files += [(label, file) for file in files]
        self.notes = {kind: names for kind, names in notes.items() if names}

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> SourceImage:
        label, name = self._files[index]
        file = self.folder / name
        return SourceImage(name, label, partial(read_file, file), file)

    def _images_below(self, class_name: str, notes: dict[str, list[str]]) -> list[str]:
        """The paths of a class's images from the split's folder, in order; notes what is left out."""
        above = self.folder.resolve()
        seen = {_identity(folder) for folder in (above, *above.parents)}
        found: dict[str, list[str]] = {}
        pending, links = deque([class_name]), deque[str]()
        while pending or links:
            folder = (pending or links).popleft()  # links last, so that what they lead to has its own name
            identity = _identity(self.folder / folder)
            if identity in seen:
                notes[AGAIN].append(folder)
                continue
            seen.add(identity)
            images = found[folder] = []
            for entry in _entries(self.folder / folder):
                name = f"{folder}/{entry.name}"
                if entry.name.startswith("."):
                    notes[HIDDEN].append(name)
                elif _is_folder(entry):
                    (links if entry.is_symlink() else pending).append(name)
                else:
                    (images if _is_image(entry.name) else notes[OTHER]).append(name)
        return [image for folder in sorted(found) for image in found[folder]]


def _entries(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_image(name: str) -> bool:
    return name.lower().endswith(tuple(SUFFIXES))


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself; reading it as an image names it
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
