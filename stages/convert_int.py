"""Conversion to integers: artifacts/int/model.safetensors, int8 weights, int32 biases and exponents.

python -m stages.convert_int [--checkpoint artifacts/qat/model.safetensors]
"""

import argparse
from operator import itemgetter

from pipeline.cli import run
from pipeline.forms import INT, PTQ, QAT, stored_program


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", default=QAT.path, help="a qat or ptq model")
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from fixedpoint.program.bounds import LIMIT, layer_bounds
from fixedpoint.quantize.convert import convert
from storage.model_file import load_model


def main() -> None:
    arguments = parse_arguments()
    stored = load_model(QAT.require(arguments.checkpoint), (QAT.name, PTQ.name))
    program = convert(stored_program(stored))
    INT.save(program, stored.info)
    bounds = {name: int(bound.max()) for name, bound in layer_bounds(program).items()}
    name, largest = max(bounds.items(), key=itemgetter(1))
    print(f"{len(bounds)} layers; no accumulator exceeds {largest} ({name}), and all up to {LIMIT - 1} are exact")


if __name__ == "__main__":
    run(main)
