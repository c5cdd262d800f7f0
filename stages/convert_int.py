"""Conversion to integers: artifacts/int/model.safetensors, int8 weights, int32 biases and exponents.

python -m stages.convert_int [--checkpoint artifacts/qat/model.safetensors]
"""

import argparse
from operator import itemgetter

from fixedpoint.program import Program
from fixedpoint.program.bounds import LIMIT, layer_bounds
from fixedpoint.quantize.convert import convert
from pipeline.cli import run
from pipeline.paths import require
from storage.model_file import load_model, save_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default="artifacts/qat/model.safetensors", help="a qat or ptq model")
    arguments = parser.parse_args()
    stored = load_model(require(arguments.checkpoint, "make train-qat"), ("qat", "ptq"))
    program = convert(Program.from_json(stored.program, stored.tensors))
    save_model("artifacts/int/model.safetensors", "int", program.constants, stored.info, program.to_json())
    bounds = {name: int(bound.max()) for name, bound in layer_bounds(program).items()}
    name, largest = max(bounds.items(), key=itemgetter(1))
    print(f"{len(bounds)} layers; no accumulator exceeds {largest} ({name}), of {LIMIT - 1} that are exact")


if __name__ == "__main__":
    run(main)
