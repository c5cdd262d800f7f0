"""Classification datasets of torchvision."""

import inspect
import operator
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from pathlib import Path

import torchvision.datasets
from PIL import Image

from imagedb.encode import encode_png
from imagedb.images import decode_image
from imagedb.sources.files import check_file, inflate, read_file
from imagedb.sources.source import WHOLE, IndexedSource, Shard, SourceImage, Survey
from storage.errors import InputError


class TorchvisionSource(IndexedSource):
    """A classification dataset that torchvision reads, already downloaded to `root`.

    Each image becomes a PNG of the same mode, named "<split>/<index>". Nothing is written to `root`; gzip files of the
    MNIST family are unpacked elsewhere.

    CIFAR10 and CIFAR100 are pickles, which torchvision compares with the MD5 digests of the originals before it loads
    them. No other class with `split` or `train` loads a pickle.

    Args:
        dataset: name of a class in torchvision.datasets.
        root: the folder that is passed to the class.
        split: the argument `split` of the class; for a class with `train: bool`, "train" gives True, "test" and "val"
            give False; for a class with both, such as EMNIST, "<split>/<train, test or val>".

    Raises:
        FileNotFoundError: if `root` does not hold the data.
        InputError: if torchvision does not have the dataset; if it lacks the split, class names or integer labels, or
            needs other arguments; or if its data are damaged.
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
        with _named(f"{name} of {self._name}"):
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
    arguments = _arguments(dataset, _parameters(constructor), split)
    if not root.is_dir():
        raise FileNotFoundError(f"{root} does not exist, it should hold the data of torchvision's {dataset}")
    try:
        with _unpacked(root, dataset) as readable, _named(f"torchvision's {dataset} ({split}) in {root}"):
            return constructor(readable, **arguments)
    except (FileNotFoundError, RuntimeError) as error:  # torchvision raises either when files are missing
        expected = f"expected what torchvision.datasets.{dataset}({str(root)!r}, download=True) puts there"
        raise FileNotFoundError(f"{root} does not hold {dataset} ({split}): {_line(error)}; {expected}") from None


def _arguments(dataset: str, parameters: dict[str, inspect.Parameter], split: str) -> dict[str, object]:
    """What a class is called with, besides its root."""
    arguments: dict[str, object] = {}
    part = split
    if "split" in parameters and "train" in parameters:
        arguments["split"], _, part = split.rpartition("/")
        if not arguments["split"]:
            allowed = "<split>/train or <split>/test, since it has both parts of each split"
            raise InputError(f"split {split!r} of torchvision's {dataset} is not allowed, must be {allowed}")
    elif "split" in parameters:
        arguments["split"] = split
    elif "train" not in parameters:
        raise InputError(f"torchvision.datasets.{dataset} has no argument train or split, so it cannot be packed")
    if "train" in parameters:
        if part not in ("train", "test", "val"):
            raise InputError(f"split {split!r} of torchvision's {dataset} is not allowed, must be train, test or val")
        arguments["train"] = part == "train"
    needed = [name for name, each in parameters.items() if each.default is each.empty and name not in arguments]
    if needed:
        raise InputError(f"torchvision.datasets.{dataset} needs {', '.join(needed)}, so it cannot be packed")
    ours = {"download": False, "loader": _load_image}
    return arguments | {name: value for name, value in ours.items() if name in parameters}


def _parameters(constructor: type) -> dict[str, inspect.Parameter]:
    """The parameters of a class but for self and root, with those of its bases that it passes on as **kwargs."""
    found: dict[str, inspect.Parameter] = {}
    for base in constructor.__mro__:
        own = inspect.signature(base.__init__).parameters  # type: ignore[misc]
        found = dict(own) | found
        if not any(each.kind is each.VAR_KEYWORD for each in own.values()):
            break
    named = {name: each for name, each in found.items() if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)}
    return {name: each for name, each in named.items() if name not in ("self", "root")}


def _load_image(path: str | Path) -> Image.Image:
    """What torchvision calls for a file, in place of Pillow, which would wait for a FIFO."""
    return decode_image(read_file(Path(path)))


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Makes an InputError of what torchvision and its packages raise on damaged data, which may be of any type."""
    try:
        yield
    except (InputError, FileNotFoundError, RuntimeError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"{what}: {_line(error) or type(error).__name__}") from None


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
    files = sorted((root / dataset / "raw").glob("*"))
    for file in files:
        check_file(file)
    packed = [file for file in files if file.suffix == ".gz"]
    if all(path.with_suffix("").exists() for path in packed):
        yield root
        return
    with tempfile.TemporaryDirectory() as temporary:
        raw = Path(temporary) / dataset / "raw"
        raw.mkdir(parents=True)
        for path in packed:
            (raw / path.stem).write_bytes(inflate(path))
        yield Path(temporary)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
