"""Calibration: the float model becomes a folded program with exponents, artifacts/ptq/model.safetensors.

python -m stages.calibrate [--checkpoint artifacts/float/model.safetensors]
"""

import argparse
import sys
import warnings
from collections.abc import Iterator

from pipeline.cli import run
from pipeline.forms import FLOAT, PTQ
from pipeline.params import load_params
from storage.files import sha256


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=FLOAT.path)
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

import torch
from torch import Tensor

from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.correct import correct_biases
from fixedpoint.quantize.refine import refine
from fixedpoint.quantize.scales import with_best_scales
from models.normalization import normalize
from pipeline.databases import check_model, open_database, plain_batches
from pipeline.draw import draw
from pipeline.float_model import float_program
from pipeline.machine import prepare
from pipeline.reconstruction import reconstructed, states_of


def main() -> None:
    arguments = parse_arguments()
    params = load_params()
    prepare(params.execution)
    stored = FLOAT.load(arguments.checkpoint)
    check_model(arguments.checkpoint, stored.info, params)
    options = params.calibrate

    database = open_database(params, "train", labelled=False)
    drawn = draw(database, options.images)
    print(f"{options.arithmetic} arithmetic, calibrated on {drawn}")

    def images(count: int) -> Iterator[Tensor]:
        return (normalize(pixels) for pixels, _ in plain_batches(params, "train", count))

    with warnings.catch_warnings(record=True) as losses:
        program = calibrate(
            with_best_scales(float_program(stored), lambda: images(options.images)),
            lambda: images(options.images),
            options.finer_exponents,
            options.arithmetic,
            options.weight_bits,
        )
    print(f"{len(program.exponents)} tensors have exponents")
    for loss in losses:
        print(f"warning: {loss.message}", file=sys.stderr)
    if options.refinement:
        refined = refine(program, torch.cat([*images(options.refinement)]), options.finer_exponents)
        print(f"refinement: {refined}")
        program = refined.program
    reference = program  # with the float network's constants
    if options.bias_correction:
        program = correct_biases(program, torch.cat([*images(options.bias_correction)]))
    if options.reconstruction:
        states = states_of(params, stored.info, [sha256(arguments.checkpoint), database.header.digest])
        on = torch.cat([*images(options.reconstruction)])
        program = reconstructed(program, reference, on, options.reconstruction_steps, states)
    convert(program)  # proves that what is saved can be converted
    PTQ.save(program, stored.info)


if __name__ == "__main__":
    run(main)
