"""ImageNet (ILSVRC2012) from its original archives, without extracting them, or from its extracted images."""

import io
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import numpy as np
import scipy.io

from imagedb.limits import MAX_BYTES
from imagedb.sources.files import inflate, read_file
from imagedb.sources.folder import FolderSource
from imagedb.sources.matlab import plain_matlab
from imagedb.sources.source import WHOLE, IndexedSource, Shard, Source, SourceImage, Survey
from imagedb.sources.tar import members
from storage.errors import InputError

DEVKIT = "ILSVRC2012_devkit_t12"
DEVKIT_FILES = ("meta.mat", "ILSVRC2012_validation_ground_truth.txt")
DEVKIT_BYTES = 2**26  # of the unpacked devkit, several times as many as it has


def imagenet_source(root: str | Path, split: str) -> Source:
    """The images of ImageNet's split "train" or "val", named "<WordNet id>/<file>".

    They come from root/ILSVRC2012_img_<split>.tar, in its order and without extraction; if it is absent, from the
    folder root/<split>. That holds a folder for each WordNet id; for "val" it may hold all images side by side. Names
    and labels are the same in all cases.

    Classes are the low-level synsets of the devkit (root/ILSVRC2012_devkit_t12.tar.gz, or the folder of that name).
    Labels follow the order of their WordNet ids, and class names are their words. Class folders without a devkit are a
    `FolderSource`.

    Raises:
        FileNotFoundError: if neither archive nor folder exists, or the devkit is needed and missing.
        InputError: if the split has another name, an archive is damaged, or the images do not match the devkit.
    """
    if split not in ("train", "val"):
        raise InputError(f"split {split!r} of ImageNet is not allowed, must be train or val")
    root = Path(root)
    archive, folder = root / f"ILSVRC2012_img_{split}.tar", root / split
    if archive.is_file():
        return (_TrainArchive if split == "train" else _ValArchive)(archive, _read_devkit(root))
    if not folder.is_dir():
        raise FileNotFoundError(f"neither {archive} nor the folder {folder} exists, ImageNet is expected there")
    flat = sorted(folder.glob("ILSVRC2012_val_*.JPEG")) if split == "val" else []
    if flat:
        return _FlatFolder(flat, _read_devkit(root))
    source = FolderSource(root, split)
    if (root / f"{DEVKIT}.tar.gz").exists() or (root / DEVKIT).is_dir():
        devkit = _read_devkit(root)
        _check_classes(folder, source.class_names, devkit.wnids)
        source.class_names = devkit.class_names
    return source


@dataclass(frozen=True)
class _Devkit:
    """WordNet ids and class names by label, and the labels of the validation images by their number less one."""

    wnids: list[str]
    class_names: list[str]
    truth: list[int]

    def val_image(self, file: str, where: Path) -> tuple[str, int]:
        """The name and label of a validation image."""
        match = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", file)
        if not match:
            raise InputError(f"{where} holds {file}; expected ILSVRC2012_val_<8 digits>.JPEG")
        number = int(match[1])
        if not 1 <= number <= len(self.truth):
            raise InputError(f"{where} holds {file}, the devkit's ground truth has numbers 1 to {len(self.truth)}")
        label = self.truth[number - 1]
        return f"{self.wnids[label]}/{file}", label

    def check_val_count(self, count: int, where: Path) -> None:
        if count != len(self.truth):
            raise InputError(f"{where} holds {count} images, the devkit's ground truth {len(self.truth)}")


class _Archive(Source):
    """Images in a tar file, read in its order."""

    def __init__(self, path: Path, devkit: _Devkit):
        self._path, self._devkit, self.class_names = path, devkit, devkit.class_names

    @abstractmethod
    def _entries(self, file: BinaryIO, shard: Shard) -> Iterator[tuple[str, int, int, int]]:
        """The name, label, offset and size in bytes of each image of one part."""

    def images(self, shard: Shard = WHOLE) -> Iterator[SourceImage]:
        with self._path.open("rb") as file:
            for name, label, offset, size in self._entries(file, shard):
                if size > MAX_BYTES:
                    raise InputError(f"{self._path}: {name} has {size} bytes, allowed: {MAX_BYTES}")
                file.seek(offset)
                yield SourceImage(name, label, file.read(size), self._path)

    def survey(self, shard: Shard = WHOLE) -> Survey:
        with self._path.open("rb") as file:
            sizes = [size for *_, size in self._entries(file, shard)]
        return Survey(len(sizes), sum(sizes))


class _TrainArchive(_Archive):
    """A tar file that holds one tar file per class; shards consist of whole classes."""

    def __init__(self, path: Path, devkit: _Devkit):
        super().__init__(path, devkit)
        with path.open("rb") as file:
            tars = [
                (name.removesuffix(".tar"), offset, size)
                for name, offset, size in members(file, 0, path.stat().st_size, path)
            ]
        _check_classes(path, [wnid for wnid, _, _ in tars], devkit.wnids)
        self._tars = [(wnid, devkit.wnids.index(wnid), offset, size) for wnid, offset, size in tars]

    def _entries(self, file: BinaryIO, shard: Shard) -> Iterator[tuple[str, int, int, int]]:
        for wnid, label, start, size in self._part(shard):
            for name, offset, length in members(file, start, start + size, f"{self._path}: {wnid}.tar"):
                yield f"{wnid}/{name}", label, offset, length

    def expected(self, shard: Shard = WHOLE) -> tuple[int, str]:
        return sum(size for *_, size in self._part(shard)), "B"

    def _part(self, shard: Shard) -> list[tuple[str, int, int, int]]:
        """The class tars of one part: cut as near to equal numbers of bytes as possible, with no part empty."""
        before = list(accumulate((size for *_, size in self._tars), initial=0))
        count = len(self._tars)
        if shard.count > count:
            raise InputError(f"shard {shard} is not allowed, {self._path} holds {count} class tars, which stay whole")
        cuts = [0]
        for k in range(1, shard.count):
            allowed = range(cuts[-1] + 1, count - shard.count + k + 1)
            target = before[-1] * k / shard.count
            cuts.append(min(allowed, key=lambda cut: abs(before[cut] - target)))
        cuts.append(count)
        return self._tars[cuts[shard.number - 1] : cuts[shard.number]]


class _ValArchive(_Archive):
    """A tar file of images named by number."""

    def _entries(self, file: BinaryIO, shard: Shard) -> Iterator[tuple[str, int, int, int]]:
        part, total, count = shard.of(len(self._devkit.truth)), len(self._devkit.truth), 0
        for name, offset, size in members(file, 0, self._path.stat().st_size, self._path):
            if count in part:
                yield *self._devkit.val_image(name, self._path), offset, size
            count += 1
            if count == part.stop < total:
                return
        self._devkit.check_val_count(count, self._path)

    def expected(self, shard: Shard = WHOLE) -> tuple[int, str]:
        return len(shard.of(len(self._devkit.truth))), "image"


class _FlatFolder(IndexedSource):
    """Validation images side by side in a folder."""

    def __init__(self, files: list[Path], devkit: _Devkit):
        self.class_names = devkit.class_names
        self._images = [(*devkit.val_image(file.name, file.parent), file) for file in files]
        devkit.check_val_count(len(files), files[0].parent)

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> SourceImage:
        name, label, file = self._images[index]
        return SourceImage(name, label, partial(read_file, file), file)


def _check_classes(where: Path, found: list[str], wnids: list[str]) -> None:
    """Raise InputError unless `found` holds each WordNet id of the devkit once and nothing else."""
    counts = Counter(found)
    problems = {
        "missing classes of the devkit": [wnid for wnid in wnids if wnid not in counts],
        "not classes of the devkit": sorted(counts.keys() - set(wnids)),
        "more than once": [wnid for wnid, count in counts.items() if count > 1],
    }
    for problem, names in problems.items():
        if names:
            shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
            raise InputError(f"{where}: {problem} ({len(names)}): {shown}")


def _read_devkit(root: Path) -> _Devkit:
    where, meta, truth = _devkit_files(root)
    try:
        file = io.BytesIO(plain_matlab(meta, DEVKIT_BYTES))
        synsets = np.atleast_1d(scipy.io.loadmat(file, squeeze_me=True)["synsets"])
        by_number = {
            str(int(synset["ILSVRC2012_ID"])): (str(synset["WNID"]), str(synset["words"]))
            for synset in synsets
            if synset["num_children"] == 0
        }
        wnids, class_names = map(list, zip(*sorted(by_number.values()), strict=True))
    except Exception as error:  # scipy raises any type on damaged data, also a MemoryError for sizes that lie
        raise InputError(f"{where}: meta.mat cannot be read: {' '.join(str(error).split())}") from None
    labels = {number: wnids.index(wnid) for number, (wnid, _) in by_number.items()}
    lines = truth.decode("ascii", "replace").split()
    for number, line in enumerate(lines, 1):
        if line not in labels:
            raise InputError(f"{where}: line {number} of the ground truth is {line}, no low-level ILSVRC2012_ID")
    return _Devkit(wnids, class_names, [labels[line] for line in lines])


def _devkit_files(root: Path) -> tuple[Path, bytes, bytes]:
    """The path of the devkit, and the contents of its meta.mat and ground truth."""
    archive, folder = root / f"{DEVKIT}.tar.gz", root / DEVKIT
    if archive.exists():
        data = inflate(archive, DEVKIT_BYTES)
        found = {name: (at, size) for name, at, size in members(io.BytesIO(data), 0, len(data), archive)}
        for name in DEVKIT_FILES:
            if name not in found:
                raise InputError(f"{archive}: {DEVKIT}/data/{name} is missing")
        meta, truth = (data[at : at + size] for at, size in map(found.__getitem__, DEVKIT_FILES))
        return archive, meta, truth
    if not folder.is_dir():
        raise FileNotFoundError(f"neither {archive} nor the folder {folder} exists; either defines ImageNet's classes")
    meta, truth = (read_file(folder / "data" / name, DEVKIT_BYTES) for name in DEVKIT_FILES)
    return folder, meta, truth
