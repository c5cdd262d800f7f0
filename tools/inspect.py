"""What quantization makes of a network: what each operation becomes, what is refused and why, and its cost in C.

python -m tools.inspect                                        the network of params.yaml
python -m tools.inspect mobilenetv2_100 --size 224             any network that model.name can be
python -m tools.inspect efficientnet_b0 --arithmetic portable

The weights are random; what is said here holds for all weights. The exit status is 1 if the network cannot be
quantized. It takes seconds, and writes nothing.
"""

import argparse
import textwrap
from collections import Counter
from collections.abc import Iterator
from typing import get_args

from pipeline.cli import run
from pipeline.params import Calibrate, Params, load_params
from storage.errors import InputError
from storage.printable import printable


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", help="as model.name (default: that of params.yaml)")
    parser.add_argument("--size", type=_positive, help="height and width of the images (default: input.size)")
    parser.add_argument("--classes", type=_positive, help="number of logits (default: model.num_classes)")
    parser.add_argument(
        "--arithmetic",
        choices=get_args(Calibrate.model_fields["arithmetic"].annotation),
        help="default: portable, or else exact8",
    )
    return parser.parse_args()


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not allowed, must be 1 or more")
    return int(text)


if __name__ == "__main__":
    parse_arguments()  # --help and mistakes, before the imports that take seconds

import torch

from fixedpoint.c.source import memory_bytes
from fixedpoint.inventory import inventory
from fixedpoint.program import EXACT8, PORTABLE
from fixedpoint.trial import Trial, try_quantization
from models.macs import count_operations
from models.registry import create_model

WIDTH = 100  # columns


def main() -> None:
    arguments = parse_arguments()
    params = load_params()
    name, size = arguments.network or params.model.name, arguments.size or params.input.size
    shape = (3, size, size)
    torch.manual_seed(params.seed)
    network = create_model(name, arguments.classes or params.model.num_classes, size, *_own_settings(name, params))
    cost = count_operations(network, (1, *shape))
    print(f"{printable(name)} at {size} x {size} pixels")
    print(f"{cost.params:,} parameters, {cost.macs:,} multiply-accumulates\n")
    trial = try_quantization(network, shape, arguments.arithmetic or PORTABLE)
    lines = [*described(trial)]
    if trial.captured and trial.causes and not arguments.arithmetic:
        trial = try_quantization(network, shape, EXACT8)
        lines += described(trial)
    print("\n".join([*_table(inventory(network, shape, trial.converted)), *lines]))
    if trial.causes:
        raise InputError(f"{name} cannot be quantized, for the reasons above")


def _own_settings(name: str, params: Params) -> tuple[dict, dict | None]:
    """Arguments and normalization of params.yaml, which belong to its own network."""
    own = params.model
    if name != own.name:
        return {}, None
    return own.arguments, own.normalization.model_dump(mode="json") if own.normalization else None


def described(trial: Trial) -> Iterator[str]:
    """What came of a trial, in lines of at most WIDTH columns."""
    for note in trial.notes:
        yield from _item("note:", note)
    if trial.causes:
        yield (
            f"In {trial.arithmetic} arithmetic it cannot be quantized:" if trial.captured else "It cannot be quantized:"
        )
        for cause in trial.causes:
            yield from _item("-", cause)
        return
    yield f"In {trial.arithmetic} arithmetic it can be quantized."
    for doubt in trial.doubts:
        yield from _item("These random weights cannot be, but others may:", doubt)
    if trial.converted:
        needed = memory_bytes(trial.converted)
        yield (
            f"In C: {needed['ram']:,} bytes of activations (RAM), {needed['flash']:,} of constants (flash), at most "
            f"{needed['stack']:,} of stack"
        )


def _table(rows: Counter[tuple[str, str]]) -> Iterator[str]:
    """What the operations become, by name."""
    if not rows:
        return  # the network cannot even be exported
    width = max(len(name) for name, _ in rows)
    yield f"{'operation':{width}}  count  becomes"
    for (name, fate), count in sorted(rows.items()):
        yield from textwrap.wrap(f"{name:{width}}  {count:5}  {fate}", WIDTH, subsequent_indent=" " * (width + 9))
    yield ""


def _item(mark: str, text: str) -> list[str]:
    return textwrap.wrap(f"{mark} {printable(text, None)}", WIDTH, subsequent_indent="  ")


if __name__ == "__main__":
    run(main)
