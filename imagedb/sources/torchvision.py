"""Classification datasets of torchvision."""

import gzip
import inspect
import operator
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import torchvision.datasets
from PIL import Image

from imagedb.encode import encode_png
from imagedb.sources.source import WHOLE, IndexedSource, Shard, SourceImage, Survey
from storage.errors import InputError


class TorchvisionSource(IndexedSource):
    """A classification dataset that torchvision reads, already downloaded to `root`.

    Each image becomes a PNG of the same mode, named "<split>/<index>". Nothing is written to `root`; gzip files of the
    MNIST family are unpacked elsewhere.

    Args:
        dataset: name of a class in torchvision.datasets.
        root: the folder that is passed to the class.
        split: the argument `split` of the class; for a class with `train: bool`, "train" gives True, "test" and "val"
            give False.

    Raises:
        FileNotFoundError: if `root` does not hold the data.
        InputError: if torchvision does not have the dataset, or it lacks the split, class names or integer labels.
    """

    def __init__(self, dataset: str, root: str | Path, split: str):
        self._name, self._split = dataset, split
        self._dataset = _load_torchvision(dataset, Path(root), split)
        classes = getattr(self._dataset, "classes", None)
        if not classes:
            raise InputError(f"torchvision.datasets.{dataset} gives no class names, so it cannot be packed")
        # ImageNet has a tuple of synonyms for each class.
        self.class_names = [", ".join(names) if isinstance(names, tuple) else str(names) for names in classes]

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> SourceImage:
        if not 0 <= index < len(self):
            raise IndexError(index)
        name = f"{self._split}/{index:05d}"
        image, target = self._dataset[index]
        try:
            label = operator.index(target)
        except TypeError:
            raise InputError(f"{name} of {self._name}: {target!r} is not a class index") from None
        if not isinstance(image, Image.Image):
            raise InputError(f"{name} of {self._name} is a {type(image).__name__}, not an image")
        return SourceImage(name, label, partial(encode_png, image))

    def survey(self, shard: Shard = WHOLE) -> Survey:
        return Survey(len(shard.of(len(self))), None)


def _load_torchvision(dataset: str, root: Path, split: str) -> torchvision.datasets.VisionDataset:
    constructor = _dataset_class(dataset)
    parameters = inspect.signature(constructor).parameters
    arguments: dict[str, object] = {"download": False} if "download" in parameters else {}
    if "train" in parameters:
        if split not in ("train", "test", "val"):
            raise InputError(f"split {split!r} of torchvision's {dataset} is not allowed, must be train, test or val")
        arguments["train"] = split == "train"
    elif "split" in parameters:
        arguments["split"] = split
    else:
        raise InputError(f"torchvision.datasets.{dataset} has no argument train or split, so it cannot be packed")
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist, it should hold the data of torchvision's {dataset}")
    try:
        with _unpacked(root, dataset) as readable:
            return constructor(readable, **arguments)
    except (FileNotFoundError, RuntimeError) as error:  # torchvision raises either when files are missing
        expected = f"expected what torchvision.datasets.{dataset}({str(root)!r}, download=True) puts there"
        raise FileNotFoundError(f"{root} does not hold {dataset} ({split}): {_line(error)}; {expected}") from None
    except (ValueError, ImportError) as error:
        raise InputError(f"torchvision's {dataset} ({split}) in {root}: {_line(error)}") from None


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
        raise InputError(f"torchvision has no dataset {name}; {hint}")
    return classes[name]


@contextmanager
def _unpacked(root: Path, dataset: str) -> Iterator[Path]:
    """`root`, or for the MNIST family a temporary folder with the unpacked gzip files of root/<dataset>/raw."""
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
                raise InputError(f"{path} is damaged: {_line(error)}") from None
        yield Path(temporary)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
