"""Images per second of training on this machine: precisions, compiling, timm's loop; with --data, of real images.

    make bench ONLY=train     or python -m benchmarks train [--model vargconvnet] [--size 224] [--batch 256] [--data]

The contestants of a table take turns, round by round; it shows medians, and ratios to the first. Without a GPU, the
network and the batch are those of params.yaml; with one, vargconvnet and ResNet-50 at 224 px, in batches of 256 and of
512. benchmarks/train_steps.py describes the rows, and benchmarks/train_data.py what --data adds, which needs the
databases of `make repro`. Results go to runs/bench_train.json, since speed belongs to the machine.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from benchmarks.timing import interleaved
from benchmarks.train_data import loading, splits
from benchmarks.train_steps import GROUPED, Contestants, evaluation, grouped, training, works
from pipeline.machine import prepare
from pipeline.params import load_params
from pipeline.paths import runs_folder
from storage.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="a network of this repository, timm or torchvision")
    parser.add_argument("--size", type=int, help="of an image in pixels")
    parser.add_argument("--batch", type=int, help="images per batch")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", action="store_true", help="also measure with images of the database")
    arguments = parser.parse_args()
    params = load_params()
    on_gpu = {"device": "cuda"} if torch.cuda.is_available() else {}
    params = params.model_copy(update={"execution": params.execution.model_copy(update=on_gpu)})
    device = prepare(params.execution)

    given = {"network": arguments.model, "size": arguments.size, "batch": arguments.batch}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value}
    if arguments.model:
        changes["arguments"] = {}
    results: dict[str, dict[str, float]] = {}

    def measure(title: str, contestants: Contestants) -> None:
        results[title] = interleaved(contestants, arguments.rounds)
        show(f"{title}: images/s", results[title])

    for title, work in {
        str(work): work for work in (replace(work, **changes) for work in works(params, device))
    }.items():
        measure(f"training step, {title}", training(work))
        measure(f"evaluation, {title}", evaluation(work))
    for shape in GROUPED:
        measure("{}x{} of {}, stride {}, {} groups, {} px".format(*shape), grouped(shape, device))
    if arguments.data:
        speeds, waits = loading(params, arguments.rounds)
        show(
            "training with images from: images/s",
            speeds,
            {name: f"waits {share:.1f} %" for name, share in waits.items()},
        )
        seconds = splits(params, arguments.rounds)
        best = min(seconds, key=seconds.__getitem__)
        show("threads/workers: seconds of an epoch", seconds)
        own = next(iter(seconds))
        print(f"  best: {best}; params.yaml's {own} takes {100 * (seconds[own] / seconds[best] - 1):.1f} % longer")
        results |= {
            "images from": speeds,
            "percent of the time that is waited": waits,
            "seconds of an epoch": seconds,
        }
    write_json(runs_folder() / "bench_train.json", results)


def show(title: str, values: Mapping[str, float], notes: Mapping[str, str] = {}) -> None:
    """Print a table, with ratios to its first row."""
    print(title)
    first = next(iter(values.values()))
    for name, value in values.items():
        print(
            f"  {name:40}{value:10.{0 if value >= 100 else 2}f}{value / first:8.2f}  {notes.get(name, '')}".rstrip(),
            flush=True,
        )
