"""Golden vectors: every integer tensor of the integer model for a few validation images, in artifacts/golden.

    python -m stages.golden --images 8
    python -m stages.golden --check DIR     hold the tensors in DIR (<tensor>.bin, .npz) against the model's

They are for bringing up hardware or another runtime: <tensor>.bin is little-endian, C order, [images, ...], int8 and
for the logits int32; tensors.npz holds the same; index.json describes them. DIR need not hold all of them. If it has an
index.json, that one says which images they are of, otherwise --images does. A difference is an error: the first tensor
in order of computation and the first element in it, as [image, channel, row, column], are named.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fixedpoint.analysis.golden import (
    Difference,
    difference,
    golden_tensors,
    indexed_images,
    read_tensors,
    write_golden,
)
from fixedpoint.program import Program
from fixedpoint.program.integer import integer_input
from models.normalization import normalize
from pipeline.cli import run
from pipeline.databases import check_model, plain_batches
from pipeline.machine import prepare
from pipeline.params import Params, load_params
from pipeline.paths import require
from storage.model_file import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help="evenly spaced (default: golden.images)")
    parser.add_argument("--check", type=Path, metavar="DIR", help="compare instead of writing")
    parser.add_argument("--checkpoint", default="artifacts/int/model.safetensors", help="default: %(default)s")
    parser.add_argument("--output-dir", type=Path, default="artifacts/golden", help="default: %(default)s")
    args = parser.parse_args()
    params = load_params()
    prepare(params.execution)
    stored = load_model(require(args.checkpoint, "make convert-int"), ("int",))
    check_model(args.checkpoint, stored.info, params)
    program = Program.from_json(stored.program, stored.tensors)

    indices = indexed_images(args.check) if args.check else None
    count = params.golden.images if args.images is None else args.images
    if args.check and not indices:
        print(f"{args.check} has no index.json: its tensors are taken for those of {count} images (--images)")
    indices, pixels, labels = pictures(params, count, indices)
    tensors = golden_tensors(program, integer_input(normalize(pixels)))
    if args.check:
        check(args.check, tensors)
    else:
        write_golden(args.output_dir, program, tensors, indices, labels)
        print(f"{len(tensors)} tensors of {len(indices)} images in {args.output_dir}")


def pictures(params: Params, count: int, indices: list[int] | None) -> tuple[list[int], Tensor, list[int]]:
    """Validation images: their record numbers, pixels uint8 [images, 3, size, size] and labels.

    Args:
        count: How many, evenly spaced.
        indices: Or these record numbers.

    Raises:
        ValueError: If the database has no such records.
    """
    if count < 1:
        raise ValueError(f"--images {count} is not allowed, must be at least 1")
    batches = plain_batches(params, images=None if indices else count)
    indices = indices or list(batches.indices)
    database = batches.pixels.database
    for index in indices:
        if not 0 <= index < len(database):
            raise ValueError(f"{database.path} has no record {index}, only 0 to {len(database) - 1}")
    pixels, labels = zip(*(batches.pixels[0, index] for index in indices), strict=True)
    return indices, torch.stack(pixels), list(labels)


def check(folder: Path, ours: dict[str, np.ndarray]) -> None:
    """Hold the tensors in a folder against ours.

    Raises:
        ValueError: If one differs, naming the first one and its first element; or if the folder holds none.
    """
    compared: dict[str, int] = {}
    differing: dict[str, tuple[Path, Difference]] = {}
    for name, path, theirs in read_tensors(folder, ours):
        compared[name] = theirs.size
        found = difference(theirs, ours[name])
        if found:
            differing.setdefault(name, (path, found))
    if not compared:
        raise ValueError(f"{folder} holds no tensor of the model, neither in a <tensor>.bin nor in a .npz")
    if differing:
        name, (path, found) = next(iter(differing.items()))
        index = ", ".join(map(str, found.index))
        raise ValueError(
            f"{name} ({path}): {found.count:,} of {ours[name].size:,} values differ, the first at [{index}]: "
            f"{found.theirs} there, {found.ours} here; {len(differing)} of {len(compared)} tensors differ"
        )
    print(f"{sum(compared.values()):,} values in {len(compared)} of {len(ours)} tensors compared, none differs")
    others = {path.stem for path in folder.glob("*.bin")} - set(ours)
    missing = [name for name in ours if name not in compared]
    for label, names in {"not compared": missing, "no tensors of the model": sorted(others)}.items():
        if names:
            print(f"{label}: {', '.join(names)}")


if __name__ == "__main__":
    run(main)
