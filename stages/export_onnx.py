"""Export the float and the integer model to ONNX.

python -m stages.export_onnx                     # the four files of the pipeline, in artifacts/onnx
python -m stages.export_onnx --checkpoint artifacts/int/model.safetensors --onnx-name net.onnx --format integer
"""

import argparse
from pathlib import Path

from pipeline.cli import run
from pipeline.forms import FLOAT, INT, ONNX, metadata, stored_program
from storage.errors import InputError
from storage.files import whole_file

FORMATS = ("float", "qoperator", "qdq", "integer")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a float or integer model file, instead of the pipeline's")
    parser.add_argument("--onnx-name", type=Path, metavar="NAME.onnx", help="the file to write")
    parser.add_argument("--format", choices=FORMATS, help="default: float or qoperator, as the checkpoint is")
    args = parser.parse_args()
    if bool(args.checkpoint) != bool(args.onnx_name) or (args.format and not args.checkpoint):
        parser.error("--checkpoint and --onnx-name go together, and --format needs them")
    return args


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from fixedpoint.onnx.float import FloatWriter
from fixedpoint.onnx.graph import Writer
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.onnx.qoperator import QOperatorWriter
from pipeline.float_model import float_program
from storage.model_file import StoredModel, load_model

# The writers of each form of the model, by format; the first is the default.
WRITERS: dict[str, dict[str, type[Writer]]] = {
    "float": {"float": FloatWriter},
    "int": {"qoperator": QOperatorWriter, "qdq": QdqWriter, "integer": IntegerWriter},
}


def main() -> None:
    args = parse_arguments()
    if args.checkpoint:
        stored = load_model(args.checkpoint, tuple(WRITERS))
        export(stored, args.format or next(iter(WRITERS[stored.form])), args.onnx_name)
        return
    for form in (FLOAT, INT):
        stored = form.load()
        for name in WRITERS[form.name]:
            export(stored, name, ONNX / (f"int8_{name}.onnx" if form.is_integer else f"{name}.onnx"))


def export(stored: StoredModel, name: str, path: Path) -> None:
    """Write the model in the format `name` to `path`.

    Raises:
        InputError: If the format is not one of the model's form.
    """
    writer = WRITERS[stored.form].get(name)
    if writer is None:
        allowed = ", ".join(WRITERS[stored.form])
        raise InputError(f"a model of form {stored.form} has no format {name}; allowed: {allowed}")
    program = float_program(stored) if stored.form == "float" else stored_program(stored)
    with whole_file(path) as partial:
        partial.write_bytes(writer.export(program, metadata(stored.info)).SerializeToString(deterministic=True))
    print(f"wrote {path}")


if __name__ == "__main__":
    run(main)
