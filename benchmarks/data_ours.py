"""Our contestants in `benchmarks.data`, and the large database."""

import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from PIL import Image
from torch import Tensor

from imagedb.encode import Encoding
from imagedb.reader import ImageDatabase
from imagedb.sources.folder import FolderSource
from imagedb.sources.source import IndexedSource, SourceImage
from imagedb.writer import write_database
from models.normalization import normalize
from pixels.augmentation import Augmentation, InputFormat
from pixels.batches import Pixels, TrainingBatches
from pixels.resize import lanczos
from pixels.views import random_views

QUALITY = 90
ENCODINGS = {
    "as it is": None,
    "512 px": Encoding("resized", "long", 512, quality=QUALITY, resize=lanczos),
    "256 px": Encoding("resized", "long", 256, quality=QUALITY, resize=lanczos),
    "short side 256 px": Encoding("resized", "short", 256, quality=QUALITY, resize=lanczos),
}
LOADED = [
    ("as it is", "yuv444"),
    ("as it is", "yuv444", "jitter"),
    ("as it is", "rgb", "jitter"),
    ("512 px", "yuv444", "jitter"),
    ("256 px", "yuv444", "jitter"),
    ("short side 256 px", "yuv444", "jitter"),
]
BATCH = 250  # images, of the large database


def pack(folder: Path, path: Path, encoding: str, workers: int) -> None:
    source = (Reencoded if encoding == "512 px" else FolderSource)(folder.parent, folder.name)
    write_database(source, path, encoding=ENCODINGS[encoding], workers=workers)


class Reencoded(FolderSource):
    """A folder whose images are encoded again even where they are small enough, as FFCV does it."""

    def __getitem__(self, index: int) -> SourceImage:
        item = super().__getitem__(index)
        return replace(item, image=partial(_reencode, self.folder / item.name))


def _reencode(file: Path) -> bytes:
    buffer = io.BytesIO()
    Image.open(file).convert("RGB").save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def packers() -> dict[str, Callable[[Path, Path], None]]:
    """Our packers by name, as `data_peers.packers`."""
    return {
        f"ours, {name}, {workers} worker{'s' * (workers - 1)}": partial(pack, encoding=name, workers=workers)
        for name in ("as it is", "256 px")
        for workers in (1, 2)
    }


def loaders(stores: Path, size: int, batch: int, workers: int) -> dict[str, Iterable]:
    """Our loaders by name, as `data_peers.loaders`, of the databases <encoding>.lmdb in the folder `stores`."""
    return {
        f"ours, {', '.join((name, *options))}": Epochs(
            training_batches(stores / f"{name}.lmdb", size, batch, workers, *options)
        )
        for name, *options in LOADED
    }


def training_batches(
    path: Path, size: int, batch: int, workers: int, color_space: str = "yuv444", jitter: str = ""
) -> TrainingBatches:
    """Batches with the crops and flips of the peers, and with their colour jitter if `jitter` is "jitter"."""
    augmentation = Augmentation(
        crop="resized",
        crop_scale=(0.08, 1),
        crop_ratio=(3 / 4, 4 / 3),
        crop_padding=0,
        flip=0.5,
        color_jitter=(0.4, 0.4, 0.4, 0.1) if jitter else (0, 0, 0, 0),
        policy=None,
        policy_operations=1,
        policy_magnitude=0,
        extra=None,
        erase=0,
    )
    input_format = InputFormat.model_validate(
        {"size": size, "color_space": color_space, "resize": None, "resample": "bilinear"}
    )
    pixels = Pixels(ImageDatabase(path), random_views(augmentation, input_format), input_format)
    return TrainingBatches(pixels, batch, workers)


class Epochs:
    """Normalized batches, another epoch at each iteration."""

    def __init__(self, batches: TrainingBatches):
        self.batches, self.number = batches, -1

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.number += 1
        return ((normalize(pixels), labels) for ((pixels, labels),) in self.batches.epoch(self.number))


def scale(image: Path, path: Path, records: int) -> dict:
    """Pack the large database of `records` small copies of an image, and read an epoch of it in a new process."""
    start = time.perf_counter()
    write_database(Repeated(image, records), path, workers=2)
    results = {"records": records, "MiB": path.stat().st_size / 2**20, "packing, s": time.perf_counter() - start}
    command = [sys.executable, "-c", f"from {__name__} import read_epoch; read_epoch()", str(path), str(time.time())]
    results |= json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    path.unlink()
    return results


class Repeated(IndexedSource):
    """One image, made small, again and again under other names."""

    def __init__(self, image: Path, count: int):
        self.class_names = [f"n{label:08}" for label in range(1000)]
        buffer = io.BytesIO()
        Image.open(image).convert("RGB").resize((32, 32)).save(buffer, "JPEG")
        self.image, self.count = buffer.getvalue(), count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> SourceImage:
        if index >= self.count:
            raise IndexError(index)
        label = index * len(self.class_names) // self.count
        return SourceImage(f"{self.class_names[label]}/{self.class_names[label]}_{index}.JPEG", label, self.image)


def read_epoch() -> None:
    """Print measurements of an epoch of the database argv[1] in this process, which started at argv[2], as JSON."""
    imported, workers = time.time(), 2
    batches = training_batches(Path(sys.argv[1]), 32, BATCH, workers)
    reading = batches.epoch(0)
    next(reading)
    results = {"imports, s": imported - float(sys.argv[2]), "open to the first batch, s": time.time() - imported}
    memory = [_memory()]
    for step, _ in enumerate(reading, 2):
        if step * 10 % batches.steps < 10:
            memory.append(_memory())
    results["epoch, images/s"] = batches.steps * BATCH / (time.time() - imported)
    print(json.dumps(results | {"anonymous memory, MiB": memory}))


def _memory() -> int:
    """The memory of this process in MiB, without the pages of the database."""
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["RssAnon"].split()[0]) // 1024
