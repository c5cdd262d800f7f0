"""Calibration: the float model becomes a folded program with exponents, artifacts/ptq/model.safetensors.

python -m stages.calibrate [--checkpoint artifacts/float/model.safetensors]
"""

import argparse

import torch

from fixedpoint.calibrate import calibrate
from fixedpoint.convert import convert
from fixedpoint.correct import correct_biases
from models.storage import load_model, save_model
from stages.cli import require, run
from stages.databases import TRAIN, check_model, plain_batches
from stages.machine import prepare
from stages.model_files import float_program
from stages.params import load_params
from training.augment import normalize


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="artifacts/float/model.safetensors")
    arguments = parser.parse_args()
    params = load_params()
    prepare(params.machine)
    stored = load_model(require(arguments.checkpoint, "make train-float"), ("float",))
    check_model(arguments.checkpoint, stored.info, params)
    batches = plain_batches(params, TRAIN, params.calibrate.images)
    program = calibrate(
        float_program(stored),
        lambda: (normalize(pixels) for pixels, _ in batches),
        params.calibrate.finer_exponents,
        params.calibrate.weight_bits,
    )
    if params.calibrate.bias_correction:
        pixels = [pixels for pixels, _ in plain_batches(params, TRAIN, params.calibrate.bias_correction)]
        program = correct_biases(program, normalize(torch.cat(pixels)))
    convert(program)  # proves that what is saved can be converted
    save_model("artifacts/ptq/model.safetensors", "ptq", program.constants, stored.info, program.to_json())
    print(f"{len(program.exponents)} tensors calibrated on {params.calibrate.images} images")


if __name__ == "__main__":
    run(main)
