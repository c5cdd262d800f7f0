"""Golden vectors: every integer tensor of a program for a few images, to bring up hardware or another runtime with.

A folder of them holds `<tensor>.bin` for each tensor (little-endian, C order, [images, channels, rows, columns]), all
of them once more in tensors.npz, and index.json, which describes them in order of computation. Names of files are those
of `names.file_stem`.
"""

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as shortened
from typing import NamedTuple
from urllib.parse import unquote

import numpy as np
import torch
from torch import Tensor

from fixedpoint.errors import QuantizationError
from fixedpoint.program import INPUT, Program
from fixedpoint.program.integer import IntegerEvaluator
from fixedpoint.program.names import file_stem

FORMAT_VERSION = 1
INDEX, ARCHIVE = "index.json", "tensors.npz"
MOST_HEADER = 2**16  # bytes of an array in an archive besides its values


@torch.no_grad()
def golden_tensors(program: Program, x: Tensor) -> dict[str, np.ndarray]:
    """Every tensor of an integer program in order of computation, the input first.

    Args:
        program: An integer program.
        x: Its input p - 128, int8 [images, channels, height, width].

    Returns:
        int8 [images, ...] by name, raw accumulators int32; little-endian and contiguous.
    """
    values = {INPUT: x} | dict(IntegerEvaluator(program).run(x))
    types = {name: "<i4" if name in program.raw else "i1" for name in values}
    return {name: np.ascontiguousarray(value.numpy(), types[name]) for name, value in values.items()}


def write_golden(
    folder: str | Path, program: Program, tensors: dict[str, np.ndarray], images: list[int], labels: list[int]
) -> None:
    """Write `tensors` to a folder, whole or not at all; earlier vectors there are replaced.

    Args:
        folder: The folder, which need not exist.
        program: The program that computed the tensors.
        tensors: The result of `golden_tensors`.
        images: The record number of each image in its database.
        labels: The label of each image.

    Raises:
        OSError: If a file cannot be written.
        QuantizationError: If the folder holds anything else.
    """
    folder = Path(folder).resolve()
    others = [p.name for p in folder.iterdir() if not _is_ours(p)] if folder.exists() else []
    if others:
        raise QuantizationError(f"{folder} holds {min(others)}, which is no golden vector; name another folder")
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        for name, value in tensors.items():
            (partial / f"{file_stem(name)}.bin").write_bytes(value.tobytes())
        with zipfile.ZipFile(partial / ARCHIVE, "w") as archive:
            for name, value in tensors.items():  # a ZipInfo without a time, which numpy.savez leaves to the library
                with archive.open(zipfile.ZipInfo(f"{file_stem(name)}.npy"), "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, value, allow_pickle=False)
        index = {"format_version": FORMAT_VERSION, "images": images, "labels": labels}
        index["tensors"] = _entries(program, tensors)
        (partial / INDEX).write_text(json.dumps(index, indent=2) + "\n")
        if folder.exists():
            shutil.rmtree(folder)
        partial.rename(folder)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _is_ours(path: Path) -> bool:
    return path.name in (INDEX, ARCHIVE) or path.suffix == ".bin"


def _entries(program: Program, tensors: dict[str, np.ndarray]) -> list[dict]:
    ops = {op.name: op for op in program.ops}
    return [
        {
            "name": name,
            "kind": ops[name].kind if name in ops else INPUT,
            "inputs": ops[name].inputs if name in ops else [],
            "file": f"{file_stem(name)}.bin",
            "dtype": value.dtype.name,
            "shape": value.shape,
            "exponent": program.logit_exponent.tolist() if name in program.raw else program.exponents[name],
            "sha256": _digest(value),
        }
        for name, value in tensors.items()
    ]


def golden_input(folder: str | Path, program: Program) -> np.ndarray:
    """The images of the golden vectors in a folder: p - 128, int8 [images, channels, height, width].

    Raises:
        OSError: If there are none.
        QuantizationError: If they are damaged, or not of the size that `program` takes.
    """
    images = indexed_images(folder)
    if images is None:
        raise FileNotFoundError(f"{folder} holds no golden vectors")
    like = {INPUT: np.empty((len(images), *program.input_shape), np.int8)}
    for _, path, value in read_tensors(folder, like):
        _, digests = _read_index(Path(folder, INDEX))
        if _digest(value) != digests.get(INPUT):
            raise QuantizationError(f"{path} is damaged or was edited: {INDEX} has another digest of it")
        return value
    raise FileNotFoundError(f"{folder} holds no {INPUT}.bin")


def indexed_images(folder: str | Path) -> list[int] | None:
    """The record numbers of the images of a folder in their database; None if it has no index.

    Raises:
        QuantizationError: If the index is damaged, or of another version.
    """
    path = Path(folder) / INDEX
    return _read_index(path)[0] if path.exists() else None


def _read_index(path: Path) -> tuple[list[int], dict[str, str]]:
    """The record numbers of the images, and the digests of the tensors by name."""
    try:
        index = json.loads(path.read_bytes())
        version, images = index["format_version"], index["images"]
        digests = {entry["name"]: entry["sha256"] for entry in index.get("tensors", [])}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise QuantizationError(f"{path} is no index of golden vectors") from None
    if version != FORMAT_VERSION:
        raise QuantizationError(f"{path} has format version {shortened(version)}, supported is {FORMAT_VERSION}")
    if not isinstance(images, list) or not all(type(image) is int for image in images) or not images:
        raise QuantizationError(f"{path}: images must be a list of record numbers")
    return images, digests


def _digest(value: np.ndarray) -> str:
    return hashlib.sha256(value.tobytes()).hexdigest()


def read_tensors(folder: str | Path, like: dict[str, np.ndarray]) -> Iterator[tuple[str, Path, np.ndarray]]:
    """The tensors that a folder holds, in the order of `like`: name, the file that it is in, values.

    It reads `<tensor>.bin` and every .npz file; a tensor that is in several of them comes several times.

    Args:
        folder: The folder, which need hold neither an index nor all tensors.
        like: Arrays with the expected shapes, and the types of raw files.

    Raises:
        QuantizationError: If a file is damaged, or a tensor has another size or shape or is not of integers.
    """
    archives = {path: _open_archive(path) for path in sorted(Path(folder).glob("*.npz"))}
    for name, expected in like.items():
        stem = file_stem(name)
        path = Path(folder) / f"{stem}.bin"
        if path.exists():
            if path.stat().st_size != expected.nbytes:
                raise QuantizationError(
                    f"{path} has {path.stat().st_size} bytes; {expected.dtype.name} {list(expected.shape)} is "
                    f"{expected.nbytes}"
                )
            yield name, path, np.fromfile(path, expected.dtype).reshape(expected.shape)
        for path, archive in archives.items():
            if stem in archive:
                value = _member(path, archive, stem, expected)
                if value.shape != expected.shape or value.dtype.kind not in "iu":
                    raise QuantizationError(
                        f"{path}: {name} is {value.dtype} {list(value.shape)}; expected are integers "
                        f"{list(expected.shape)}"
                    )
                yield name, path, value


def _open_archive(path: Path) -> np.lib.npyio.NpzFile:
    with path.open("rb") as file:
        zipped = file.read(2) == b"PK"
    try:
        if not zipped:  # NumPy would take it for one array, with as much memory as its header asks for
            raise zipfile.BadZipFile
        return np.load(path, allow_pickle=False)
    except Exception:  # what damage makes zipfile and NumPy raise has no common class
        raise QuantizationError(f"{path} is not an npz file") from None


def _member(path: Path, archive: np.lib.npyio.NpzFile, stem: str, expected: np.ndarray) -> np.ndarray:
    """The array `stem` of an archive, which may take 8 bytes a value, and some for its header."""
    assert archive.zip is not None  # it is open
    try:
        size = max(info.file_size for info in archive.zip.infolist() if info.filename in (stem, f"{stem}.npy"))
        if size > 8 * expected.size + MOST_HEADER:
            raise ValueError(f"{size} bytes are more than {list(expected.shape)} can take")
        return archive[stem]
    except Exception as error:  # what damage makes zipfile, zlib and NumPy raise has no common class, a MemoryError too
        raise QuantizationError(f"{path}: {stem}: {' '.join(str(error).split())}") from None


@dataclass(frozen=True)
class Difference:
    """Where two tensors of equal shape differ.

    Attributes:
        count: Number of elements that differ.
        index: Index of the first of them, in C order.
        theirs, ours: Its values in the two tensors.
    """

    count: int
    index: tuple[int, ...]
    theirs: int
    ours: int


def difference(theirs: np.ndarray, ours: np.ndarray) -> Difference | None:
    """The difference of two integer arrays of equal shape, None if there is none."""
    wrong = theirs != ours
    if not wrong.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
    return Difference(int(wrong.sum()), index, int(theirs[index]), int(ours[index]))


class Checked(NamedTuple):
    """The contents of a folder that agrees with the program.

    Attributes:
        values: Number of values that were compared.
        names: Names of their tensors.
        others: Names of raw files that are no tensors of the program.
    """

    values: int
    names: list[str]
    others: list[str]


def check_golden(folder: str | Path, ours: dict[str, np.ndarray]) -> Checked:
    """Compare the tensors in a folder with ours; it need not hold all of them.

    Args:
        folder: The folder, as for `read_tensors`.
        ours: The result of `golden_tensors`.

    Raises:
        QuantizationError: If one differs (it names the first one and its first element), or the folder holds none.
    """
    compared: dict[str, int] = {}
    differing: dict[str, tuple[Path, Difference]] = {}
    for name, path, theirs in read_tensors(folder, ours):
        compared[name] = theirs.size
        found = difference(theirs, ours[name])
        if found:
            differing.setdefault(name, (path, found))
    if not compared:
        raise QuantizationError(f"{folder} holds no tensor of the model, neither in a <tensor>.bin nor in a .npz")
    if differing:
        name, (path, found) = next(iter(differing.items()))
        index = ", ".join(map(str, found.index))
        raise QuantizationError(
            f"{name} ({path}): {found.count:,} of {ours[name].size:,} values differ, the first at [{index}]: "
            f"{found.theirs} there, {found.ours} here; {len(differing)} of {len(compared)} tensors differ"
        )
    others = {unquote(path.stem) for path in Path(folder).glob("*.bin")} - set(ours)
    return Checked(sum(compared.values()), list(compared), sorted(others))
