"""Export the integer model to LiteRT: artifacts/litert/int8.tflite, and a self-check for devices in selfcheck/.

python -m stages.export_litert [--checkpoint artifacts/int/model.safetensors] [--output artifacts/litert]

Only a model of portable arithmetic has such a file. For exact8, none.txt gives the reason in its place.
"""

import argparse
import shutil
from pathlib import Path

from pipeline.cli import run
from pipeline.forms import GOLDEN, INT, LITERT, NO_LITERT, metadata, stored_program
from pipeline.params import load_params
from pipeline.paths import require
from storage.files import whole_file


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=INT.path, help="an integer model (default: %(default)s)")
    parser.add_argument("--output", type=Path, metavar="DIR", default=LITERT.path.parent, help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from fixedpoint.analysis.golden import golden_input
from fixedpoint.litert.writer import litert_model
from pipeline.litert_check import litert_check

SELFCHECK = "selfcheck"  # a folder
NOT_PORTABLE = "a model of exact8 arithmetic has no .tflite file; calibrate.arithmetic: portable gives one\n"


def main() -> None:
    arguments = parse_arguments()
    logits = load_params().litert.logits
    stored = INT.load(arguments.checkpoint)
    program = stored_program(stored)
    files = {NO_LITERT.name: NOT_PORTABLE.encode()}
    if program.is_portable:
        model = litert_model(program, metadata(stored.info), logits)
        images = golden_input(require(GOLDEN, "make golden"), program)
        checks = litert_check(program, model, logits, images)
        files = {LITERT.path.name: model} | {f"{SELFCHECK}/{name}": text for name, text in checks.items()}
    for name in (NO_LITERT.name, LITERT.path.name):  # left by another arithmetic
        (arguments.output / name).unlink(missing_ok=True)
    shutil.rmtree(arguments.output / SELFCHECK, ignore_errors=True)
    for name, content in files.items():
        with whole_file(arguments.output / name) as partial:
            partial.write_bytes(content)
    about = f"{len(model):,} bytes, {logits} logits" if program.is_portable else NOT_PORTABLE.strip()
    print(f"{arguments.output}: {about}")


if __name__ == "__main__":
    run(main)
