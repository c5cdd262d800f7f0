"""Packing, loading and opening of databases on this machine, compared with what else people use.

    make bench ONLY=data     installs the peers next to the project's packages, and runs this

Packing uses 1,200 synthetic images of 500 x 375 pixels, about 96 KB each, or those of --images. Each contestant packs
them once with their files in the page cache and once after these were dropped from it (a hypervisor may have a cache of
its own); "synced" includes the time until all data are on the disk, for which ours always waits. Loading makes batches
of 128 random crops of 224 px, for whole epochs of 2,048 images in the page cache, in which some of the 1,200 occur
again. The contestants take turns, round by round; the table shows medians. Scale is a database of 300,000 small
records, of which an epoch is read; benchmarks/scale.py has one of as many as ImageNet's.

It takes about a quarter of an hour on 2 cores. benchmarks/data_peers.py describes the peers and how they are installed.
"512 px" and "256 px" are the long side of images that were encoded again with quality 90 when they were packed. Ours
makes "rgb", as the peers do, or "yuv444", which recipes/imagenet.yaml trains with.
"""

import os
import shutil
import subprocess
import sys
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks import data_ours as ours
from benchmarks import data_peers as peers
from benchmarks.options import options
from benchmarks.profiles import explained, sampled
from benchmarks.results import Result, timed
from benchmarks.timing import interleaved_rounds
from imagedb.sources.folder import FolderSource
from pipeline.machine import keep_memory
from pipeline.paths import runs_folder
from storage.errors import InputError

MIB = 2**20


@dataclass(frozen=True)
class Extent:
    """How much is measured.

    Attributes:
        images: Number of images that are packed.
        width, height: Size of a synthetic image in pixels.
        loaded: Number of images of an epoch that is loaded. It has many batches, since at its ends some threads idle.
        batch: Images per batch.
        size: Size of a loaded image in pixels.
        records: Records of the large database.
    """

    images: int = 1200
    width: int = 500
    height: int = 375
    loaded: int = 2048
    batch: int = 128
    size: int = 224
    records: int = 300_000


QUICK = Extent(images=40, width=100, height=75, loaded=32, batch=8, size=32, records=2000)
RIVALS = {  # of ours, those that do the same work
    **{f"ours, 256 px, {how}": [f"FFCV, 256 px, {how}"] for how in ("1 worker", "2 workers")},
    **{f"ours, {size}, yuv444, jitter": [f"FFCV, {size}"] for size in ("512 px", "256 px")},
    "ours, as it is, rgb, jitter": ["torchvision, PIL, jitter"],
}
CLASSES, DISTINCT, CROPPED = 10, 300, 0.8  # synthetic: classes, different images, the part of one in a copy


def main() -> list[Result]:
    arguments = options("data")
    sys.unraisablehook = lambda _: None  # numba, which FFCV uses, fails to free its functions
    warnings.simplefilter("ignore")  # the peers' deprecations
    extent = QUICK if arguments.quick else Extent()
    work = runs_folder() / ("bench_data_quick" if arguments.quick else "bench_data")
    work.mkdir(parents=True, exist_ok=True)
    keep_memory()
    torch.set_num_threads(1)  # 0 workers means one core for all
    folder = (arguments.images or make_images(work / "images", extent)).resolve()
    source = FolderSource(folder.parent, folder.name)
    files = [folder / item.name for item in source.images()]
    return [each for part in arguments.parts for each in PARTS[part](files, work, extent, arguments.rounds)]


def make_images(folder: Path, extent: Extent) -> Path:
    """Write the images folder/<class>/<number>.jpg, unless they are there: noise with the spectrum of photographs."""
    if not folder.exists():
        partial_folder = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial_folder, ignore_errors=True)
        for label in range(CLASSES):
            (partial_folder / f"class{label}").mkdir(parents=True)
        with Pool() as pool:
            pool.map(partial(_write_copies, folder=partial_folder, extent=extent), range(DISTINCT))
        partial_folder.rename(folder)
    return folder


def _write_copies(number: int, folder: Path, extent: Extent) -> None:
    """Copies of one image, which differ in crop, reflection and quality."""
    noise = np.random.default_rng(number)
    width, height = round(extent.width / CROPPED), round(extent.height / CROPPED)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    frequency[0, 0] = np.inf  # no constant part
    planes = []
    slope, contrast = noise.uniform(0.85, 1.25), noise.uniform(45, 75)
    for steeper, deviation in ((0, contrast), (0.3, contrast / 3), (0.3, contrast / 3)):  # Y, Cb, Cr
        waves = noise.normal(size=frequency.shape) + 1j * noise.normal(size=frequency.shape)
        plane = np.fft.irfft2(waves / frequency ** (slope + steeper), (height, width))
        planes.append(128 + deviation / plane.std() * plane)
    image = Image.fromarray(np.stack(planes, -1).clip(0, 255).astype(np.uint8), "YCbCr").convert("RGB")
    for index in range(number, extent.images, DISTINCT):
        left, top = (int(noise.integers(room + 1)) for room in (width - extent.width, height - extent.height))
        copy = image.crop((left, top, left + extent.width, top + extent.height))
        if noise.integers(2):
            copy = copy.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        file = folder / f"class{index % CLASSES}" / f"{index:05}.jpg"
        copy.save(file, quality=int(noise.integers(80, 91)))


def packing(files: list[Path], work: Path, extent: Extent, rounds: int) -> list[Result]:
    """Images per second of each contestant, by cache and sync, and the MiB that it wrote."""
    folder, target = files[0].parents[1], work / "packed"
    contestants = peers.packers(images=1000) | ours.packers()
    speeds: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    sizes = {}
    for _ in range(rounds):
        for cache, prepare in {"warm": Path.read_bytes, "cold": _drop}.items():
            for name, pack in contestants.items():
                if pack is None:
                    continue
                _remove(target)
                os.sync()  # what others have not written yet is not part of this contestant's time
                for file in files:
                    prepare(file)
                start = time.perf_counter()
                pack(folder, target)
                speeds[cache][name].append(len(files) / (time.perf_counter() - start))
                subprocess.run(["sync", "-f", target], check=True)
                speeds[f"{cache}, synced"][name].append(len(files) / (time.perf_counter() - start))
                sizes[name] = sum(file.stat().st_size for file in [target, *target.rglob("*")] if file.is_file()) / MIB
    case = f"packing {len(files)} images, {sum(file.stat().st_size for file in files) / MIB:.0f} MiB"
    results = [each for cache in speeds for each in timed("data", case, "images/s", speeds[cache], cache)]
    warm = [each for each in results if each.column == "warm"]
    results[: len(warm)] = explained(
        warm, RIVALS, lambda name, _: sampled(partial(_pack, contestants[name], folder, target))
    )
    _remove(target)
    results += timed("data", case, "MiB", {name: [size] for name, size in sizes.items()})
    return [*results, *_absent(case, contestants)]


def _pack(pack: Callable[[Path, Path], object] | None, folder: Path, target: Path) -> None:
    _remove(target)
    if pack:
        pack(folder, target)


def _absent(case: str, contestants: Mapping[str, object], column: str = "") -> list[Result]:
    """The contestants that are None."""
    names = [name for name, contestant in contestants.items() if contestant is None]
    return [Result("data", case, name, "images/s", error="not installed", column=column) for name in names]


def loading(files: list[Path], work: Path, extent: Extent, rounds: int) -> list[Result]:
    """Images per second of each contestant, by the number of workers."""
    images, count = _links(files, work / "loaded", extent), extent.loaded
    stores = work / "stores"
    _remove(stores)
    stores.mkdir()
    packers = {name: pack for name, pack in peers.packers(images=count // 2).items() if pack}
    packed = {name: stores / name for name in packers if name in peers.LOADED}
    for name, path in packed.items():
        packers[name](images, path)
    for name in ours.ENCODINGS:
        ours.pack(images, stores / f"{name}.lmdb", name, workers=2)
    shape = (extent.batch, 3, extent.size, extent.size)
    case = f"loading {count} images to batches of {extent.batch} at {extent.size} px"
    results: list[Result] = []
    for workers in (2, 0):  # FFCV comes last: all processes fork before its threads start
        contestants: dict[str, Iterable | None] = {**ours.loaders(stores, extent.size, extent.batch, workers)}
        contestants |= peers.loaders(images, packed, extent.size, extent.batch, workers)
        works = {name: partial(_load, each, shape) for name, each in contestants.items() if each is not None}
        column = f"{workers} workers"
        measured = timed("data", case, "images/s", interleaved_rounds(works, rounds), column)
        results += explained(measured, RIVALS, lambda name, _, works=works: sampled(works[name]))  # type: ignore[misc]
        results += _absent(case, contestants, column)
    return results


def scale(files: list[Path], work: Path, extent: Extent, rounds: int) -> list[Result]:
    """Packing and reading of the large database, once."""
    found = ours.scale(files[0], work / "large.lmdb", extent.records)
    memory = found.pop("anonymous memory, MiB")
    case = f"a database of {found.pop('records'):,} records"
    found["anonymous memory, first batch, MiB"], found["anonymous memory, last batch, MiB"] = memory[0], memory[-1]
    results = []
    for name, value in found.items():
        title, _, unit = name.rpartition(", ")
        results.append(Result("data", case, title or "size", unit, (float(value),)))
    return results


def _load(epoch: Iterable, shape: tuple[int, ...]) -> int:
    images = 0
    for pixels, _ in epoch:
        if pixels.dtype != torch.float32 or pixels.shape != shape:
            raise InputError(f"a batch of {pixels.dtype} {list(pixels.shape)}, expected float32 {list(shape)}")
        images += len(pixels)
    return images


def _links(files: list[Path], folder: Path, extent: Extent) -> Path:
    """A folder of links to the images to load, evenly spaced; where they are too few, some occur again."""
    _remove(folder)
    for index in range(extent.loaded):
        file = files[index * len(files) // extent.loaded]
        link = folder / file.parent.name / f"{index}_{file.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(file)
    return folder


def _drop(file: Path) -> None:
    """Drop a file from the page cache."""
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


PARTS: dict[str, Callable[[list[Path], Path, Extent, int], list[Result]]] = {
    "packing": packing,
    "loading": loading,
    "scale": scale,
}
