"""Count multiply-accumulates and parameters of a network, in total and by layer.

python -m stages.count_ops                                                # the network of params.yaml, writes files
python -m stages.count_ops --model vargconvnet --input-shape 1,3,224,224  # any network of timm, prints only
"""

import argparse
from dataclasses import astuple
from pathlib import Path
from typing import TypedDict

from pipeline.cli import run
from pipeline.params import load_params
from storage.files import write_csv, write_json


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a model of timm with its own defaults, instead of params.yaml's")
    parser.add_argument("--input-shape", type=parse_shape, metavar="1,C,H,W", help="default: from params.yaml")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write ops.json and ops.csv there")
    return parser.parse_args()


def parse_shape(text: str) -> tuple[int, ...]:
    """Four integers, separated by commas."""
    parts = text.split(",")
    if len(parts) != 4 or not all(part.strip().isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} must be batch,channels,height,width, e.g. 1,3,224,224")
    return tuple(int(part) for part in parts)


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

from models.macs import Operations, count_operations
from models.registry import create_model
from pipeline.results import read_metrics


class Packed(TypedDict):
    """What metrics/pack_val.json says of the database, in part."""

    classes: int


def main() -> None:
    args = parse_arguments()
    params = load_params()
    shape = args.input_shape or (1, 3, params.input.size, params.input.size)
    if args.model in (None, params.model.name):
        classes = params.model.num_classes or read_metrics("pack_val", "pack", Packed)["classes"]
        model = create_model(params.model.name, classes, shape[-1], params.model.arguments)
    else:
        model = create_model(args.model, None, shape[-1], {})
    operations = count_operations(model, shape)
    print_table(operations)

    if args.output:
        write(operations, args.output / "ops.json", args.output / "ops.csv")
    elif not (args.model or args.input_shape):
        write(operations, Path("metrics/ops.json"), Path("artifacts/ops.csv"))


def print_table(operations: Operations) -> None:
    width = max(len(layer.name) for layer in operations.layers)
    print(f"{'layer':{width}}  {'type':12} {'macs':>14} {'params':>11}")
    for layer in operations.layers:
        print(f"{layer.name:{width}}  {layer.type:12} {layer.macs:14,} {layer.params:11,}")
    print(f"{'total':{width}}  {'':12} {operations.macs:14,} {operations.params:11,}")
    print("not counted:", ", ".join(f"{kind} x{n}" for kind, n in operations.uncounted.items()) or "nothing")


def write(operations: Operations, totals: Path, by_layer: Path) -> None:
    uncounted = [f"{kind} x{n}" for kind, n in operations.uncounted.items()]  # a list, so that DVC shows no column each
    write_json(totals, {"macs": operations.macs, "params": operations.params, "uncounted": uncounted})
    write_csv(by_layer, [("layer", "type", "macs", "params"), *map(astuple, operations.layers)])


if __name__ == "__main__":
    run(main)
