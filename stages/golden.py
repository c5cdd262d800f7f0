"""Golden vectors: every integer tensor of the integer model for a few validation images, in artifacts/golden.

    python -m stages.golden --images 8
    python -m stages.golden --check DIR     compare the tensors in DIR (<tensor>.bin, .npz) with the model's

They are for bringing up hardware or another runtime: <tensor>.bin is little-endian, C order, [images, ...], int8 and
for the logits int32; tensors.npz holds the same; index.json describes them. DIR need not hold all of them. Its
index.json names the images; without one, --images does. A difference is an error, which names the first tensor in order
of computation that differs, and the first element in it, as [image, channel, row, column].
"""

import argparse
from pathlib import Path

from pipeline.cli import run
from pipeline.forms import GOLDEN, INT, stored_program
from pipeline.params import load_params
from storage.errors import InputError
from storage.printable import printable


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, help="how many, drawn from all classes (default: golden.images)")
    parser.add_argument("--check", type=Path, metavar="DIR", help="compare instead of writing")
    parser.add_argument("--checkpoint", default=INT.path, help="default: %(default)s")
    parser.add_argument("--output", type=Path, metavar="DIR", default=GOLDEN, help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from fixedpoint.analysis.golden import check_golden, golden_tensors, indexed_images, write_golden
from fixedpoint.program.integer import signed_pixels
from pipeline.databases import check_model, chosen_images, open_database
from pipeline.draw import draw
from pipeline.machine import prepare


def main() -> None:
    args = parse_arguments()
    params = load_params()
    prepare(params.execution)
    stored = INT.load(args.checkpoint)
    check_model(args.checkpoint, stored.info, params)
    program = stored_program(stored)

    indices = indexed_images(args.check) if args.check else None
    count = params.golden.images if args.images is None else args.images
    if args.check and not indices:
        print(f"{args.check} has no index.json: its tensors are read as those of {count} images (--images)")
    if count < 1:
        raise InputError(f"--images {count} is not allowed, must be at least 1")
    drawn = draw(open_database(params, "val"), count)
    indices = indices or drawn.indices
    pixels, labels = chosen_images(params, indices)
    tensors = golden_tensors(program, signed_pixels(pixels))
    if not args.check:
        write_golden(args.output, program, tensors, indices, labels)
        print(f"{len(tensors)} tensors of {drawn} in {args.output}")
        return
    found = check_golden(args.check, tensors)
    print(f"{found.values:,} values in {len(found.names)} of {len(tensors)} tensors compared, none differs")
    missing = [name for name in tensors if name not in found.names]
    for label, names in {"not compared": missing, "no tensors of the model": found.others}.items():
        if names:
            print(f"{label}: {printable(', '.join(names), None)}")


if __name__ == "__main__":
    run(main)
