"""Images in one folder per class."""

from pathlib import Path

from imagedb.images import SUFFIXES
from imagedb.sources.source import IndexedSource, SourceImage
from storage.errors import InputError


class FolderSource(IndexedSource):
    """The images root/split/<class>/<file> with a suffix in SUFFIXES, named "<class>/<file>".

    Classes and files are in the order of their names. Hidden files and folders are ignored, and so are files with other
    suffixes. An extracted ImageNet is such a folder.

    Raises:
        InputError: if a folder is missing or empty, or images lie outside a class folder.
    """

    def __init__(self, root: str | Path, split: str):
        self.folder = Path(root) / split
        expected = f"expected {self.folder}/<class>/<image>"
        if not self.folder.is_dir():
            raise InputError(f"{self.folder} is not a folder; {expected}")
        stray = _image_files(self.folder)
        if stray:
            raise InputError(f"{self.folder} holds images without a class, such as {stray[0]}; {expected}")
        self.class_names = sorted(
            path.name for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
        if not self.class_names:
            raise InputError(f"{self.folder} holds no class folders; {expected}")
        self._files: list[tuple[int, str]] = []
        for label, class_name in enumerate(self.class_names):
            files = _image_files(self.folder / class_name)
            if not files:
                raise InputError(f"{self.folder / class_name} holds no images ({', '.join(sorted(SUFFIXES))})")
            self._files += [(label, f"{class_name}/{file}") for file in files]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> SourceImage:
        label, name = self._files[index]
        file = self.folder / name
        return SourceImage(name, label, file.read_bytes, file)


def _image_files(folder: Path) -> list[str]:
    names = (path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return sorted(name for name in names if not name.startswith("."))
