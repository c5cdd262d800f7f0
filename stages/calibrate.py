"""Calibration: the float model becomes a folded program with exponents, artifacts/ptq/model.safetensors.

python -m stages.calibrate [--checkpoint artifacts/float/model.safetensors]
"""

import argparse
import sys
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.correct import correct_biases
from fixedpoint.quantize.refine import refine
from models.normalization import normalize
from pipeline.cli import run
from pipeline.databases import check_model, plain_batches
from pipeline.float_model import float_program
from pipeline.forms import FLOAT, PTQ
from pipeline.machine import prepare
from pipeline.params import load_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=FLOAT.path)
    arguments = parser.parse_args()
    params = load_params()
    prepare(params.execution)
    stored = FLOAT.load(arguments.checkpoint)
    check_model(arguments.checkpoint, stored.info, params)
    options = params.calibrate

    def images(count: int) -> Iterator[Tensor]:
        return (normalize(pixels) for pixels, _ in plain_batches(params, "train", count))

    with warnings.catch_warnings(record=True) as losses:
        program = calibrate(
            float_program(stored),
            lambda: images(options.images),
            options.finer_exponents,
            options.arithmetic,
            options.weight_bits,
        )
    for loss in losses:
        print(f"warning: {loss.message}", file=sys.stderr)
    if options.refinement:
        program = refine(program, torch.cat([*images(options.refinement)]), options.finer_exponents)
    if options.bias_correction:
        program = correct_biases(program, torch.cat([*images(options.bias_correction)]))
    convert(program)  # proves that what is saved can be converted
    PTQ.save(program, stored.info)
    print(f"{len(program.exponents)} tensors calibrated on {options.images} images, {program.arithmetic} arithmetic")


if __name__ == "__main__":
    run(main)
