"""Where pictures come from: a source is an ordered sequence of labelled, encoded images."""

import gzip
import inspect
import io
import operator
import tempfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import torchvision.datasets
from PIL import Image

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}


@dataclass(frozen=True)
class Item:
    """One picture of a source: `image` is the encoded image or reads it; `file` is where it lies, if in a file."""

    name: str
    label: int
    image: bytes | Callable[[], bytes]
    file: Path | None = None


class Source(ABC):
    """An ordered sequence of items. `class_names[label]` names a class; worker processes get a pickled copy."""

    class_names: list[str]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Item:
        """Item number `index`; IndexError from len(self) on, so that a source can be iterated."""


class FolderSource(Source):
    """Pictures in one folder a class, bytes untouched; classes and files in the order of their names."""

    def __init__(self, root: str | Path, split: str):
        self.folder = Path(root) / split
        expected = f"expected {self.folder}/<class>/<picture>"
        if not self.folder.is_dir():
            raise ValueError(f"{self.folder} is not a folder; {expected}")
        stray = _pictures(self.folder)
        if stray:
            raise ValueError(f"{self.folder} holds pictures without a class, such as {stray[0]}; {expected}")
        self.class_names = sorted(
            path.name for path in self.folder.iterdir() if path.is_dir() and not path.name.startswith(".")
        )
        if not self.class_names:
            raise ValueError(f"{self.folder} holds no class folders; {expected}")
        self._files: list[tuple[int, str]] = []
        for label, class_name in enumerate(self.class_names):
            files = _pictures(self.folder / class_name)
            if not files:
                raise ValueError(f"{self.folder / class_name} holds no pictures ({', '.join(sorted(SUFFIXES))})")
            self._files += [(label, f"{class_name}/{file}") for file in files]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Item:
        label, name = self._files[index]
        return Item(name, label, (self.folder / name).read_bytes, self.folder / name)


def folder_source(root: str | Path, split: str) -> Source:
    """The pictures root/split/<class>/*.{jpg,jpeg,png,webp,bmp,gif,tif,tiff}, named "<class>/<file>".

    Hidden files and folders are passed over, as is any file without one of the suffixes.

    Raises:
        ValueError: if a folder is missing or empty, or pictures lie outside a class folder.
    """
    return FolderSource(root, split)


class TorchvisionSource(Source):
    """A torchvision dataset; each picture becomes a PNG of the same mode, named "<split>/<index>"."""

    def __init__(self, dataset: str, root: str | Path, split: str):
        self._arguments = (dataset, root, split)
        self._split = split
        self._dataset = _load_torchvision(dataset, Path(root), split)
        classes = getattr(self._dataset, "classes", None)
        if not classes:
            raise ValueError(f"torchvision.datasets.{dataset} gives no class names, so it cannot be packed")
        # ImageNet has a tuple of synonyms for each class.
        self.class_names = [", ".join(names) if isinstance(names, tuple) else str(names) for names in classes]

    def __reduce__(self):
        return TorchvisionSource, self._arguments  # a worker reads the files again, the pixels are not sent to it

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(index)
        name = f"{self._split}/{index:05d}"
        image, target = self._dataset[index]
        try:
            label = operator.index(target)
        except TypeError:
            raise ValueError(f"{name} of {self._arguments[0]}: {target!r} is not a class index") from None
        if not isinstance(image, Image.Image):
            raise ValueError(f"{name} of {self._arguments[0]} is a {type(image).__name__}, not a picture")
        return Item(name, label, _png(image))


def torchvision_source(dataset: str, root: str | Path, split: str) -> Source:
    """A classification dataset that torchvision reads, already downloaded to `root`.

    Args:
        dataset: name of a class in torchvision.datasets.
        root: the folder that the class takes; nothing is written to it, and gzip files of the MNIST family are
            unpacked elsewhere.
        split: passed on as `split`; for a class with `train: bool`, "train" is True, "test" and "val" are False.

    Raises:
        FileNotFoundError: if the data is not in `root`.
        ValueError: if torchvision has no such dataset, or it has no such split, no class names or unusable labels.
    """
    return TorchvisionSource(dataset, root, split)


def _pictures(folder: Path) -> list[str]:
    names = (path.name for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
    return sorted(name for name in names if not name.startswith("."))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # Z_RLE searches no strings: other strategies may give other bytes with another processor's zlib-ng code.
    image.save(buffer, "PNG", compress_type=zlib.Z_RLE)
    return buffer.getvalue()


def _load_torchvision(dataset: str, root: Path, split: str) -> torchvision.datasets.VisionDataset:
    constructor = _dataset_class(dataset)
    parameters = inspect.signature(constructor).parameters
    arguments = {"download": False} if "download" in parameters else {}
    if "train" in parameters:
        if split not in ("train", "test", "val"):
            raise ValueError(f"split {split!r} of torchvision's {dataset} is not allowed, must be train, test or val")
        arguments["train"] = split == "train"
    elif "split" in parameters:
        arguments["split"] = split
    else:
        raise ValueError(f"torchvision.datasets.{dataset} has no argument train or split, so it cannot be packed")
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist, it should hold the data of torchvision's {dataset}")
    try:
        with _unpacked(root, dataset) as readable:
            return constructor(readable, **arguments)
    except (FileNotFoundError, RuntimeError) as error:  # torchvision raises either when files are missing
        expected = f"expected what torchvision.datasets.{dataset}({str(root)!r}, download=True) puts there"
        raise FileNotFoundError(f"{root} does not hold {dataset} ({split}): {_line(error)}; {expected}") from None
    except (ValueError, ImportError) as error:
        raise ValueError(f"torchvision's {dataset} ({split}) in {root}: {_line(error)}") from None


def _dataset_class(name: str) -> type[torchvision.datasets.VisionDataset]:
    classes = {
        key: value
        for key, value in vars(torchvision.datasets).items()
        if inspect.isclass(value) and issubclass(value, torchvision.datasets.VisionDataset)
    }
    if name not in classes:
        by_lower = {key.lower(): key for key in classes}
        near = get_close_matches(name.lower(), by_lower, n=1)
        hint = f"did you mean {by_lower[near[0]]}?" if near else f"allowed: {', '.join(sorted(classes))}"
        raise ValueError(f"torchvision has no dataset {name}; {hint}")
    return classes[name]


@contextmanager
def _unpacked(root: Path, dataset: str):
    """`root`, or a temporary one with the gzip files of root/<dataset>/raw unpacked, as the MNIST family needs."""
    packed = sorted((root / dataset / "raw").glob("*.gz"))
    if all(path.with_suffix("").exists() for path in packed):
        yield root
        return
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary) / dataset / "raw"
        raw.mkdir(parents=True)
        for path in packed:
            try:
                (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
            except (gzip.BadGzipFile, EOFError, zlib.error) as error:
                raise ValueError(f"{path} is damaged: {_line(error)}") from None
        yield Path(temporary)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
