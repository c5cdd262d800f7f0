"""Images per second of training on this machine: precisions, compiling, timm's loop; with --data, of real images.

    make bench ONLY=train     or python -m benchmarks train [--model vargconvnet] [--size 224] [--batch 256] [--data]

The contestants of a table take turns, round by round. Without a GPU, the
network and the batch are those of params.yaml; with one, vargconvnet and ResNet-50 at 224 px, in batches of 256 and of
512. benchmarks/train_steps.py describes the rows, and benchmarks/train_data.py what --data adds, which needs the
databases of `make repro`. --quick takes fewer images and rounds.
"""

from dataclasses import replace
from typing import Any

import torch

from benchmarks.options import options
from benchmarks.profiles import compared, explained
from benchmarks.results import Result, timed
from benchmarks.timing import interleaved_rounds
from benchmarks.train_data import loading, splits
from benchmarks.train_steps import GROUPED, Contestants, evaluation, grouped, training, works
from pipeline.machine import prepare
from pipeline.params import load_params

ROUNDS = 15  # the differences are of single percents
QUICK_BATCH, QUICK_ROUNDS = 16, 2


def main() -> list[Result]:
    arguments = options("train")
    params = load_params()
    on_gpu = {"device": "cuda"} if torch.cuda.is_available() else {}
    params = params.model_copy(update={"execution": params.execution.model_copy(update=on_gpu)})
    device = prepare(params.execution)

    batch = arguments.batch or (QUICK_BATCH if arguments.quick else None)
    rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    given = {"network": arguments.model, "size": arguments.size, "batch": batch}
    changes: dict[str, Any] = {name: value for name, value in given.items() if value}
    if arguments.model:
        changes["arguments"] = {}
    results: list[Result] = []

    def measure(case: str, contestants: Contestants) -> None:
        measured = timed("train", case, "images/s", interleaved_rounds(contestants, rounds))
        rivals = {name: [name.replace("ours", "timm's loop").replace("integers", "float")] for name in contestants}
        results.extend(explained(measured, rivals, lambda one, other: compared(contestants[one], contestants[other])))

    for title, work in {
        str(work): work for work in (replace(work, **changes) for work in works(params, device))
    }.items():
        measure(f"training step, {title}", training(work))
        measure(f"evaluation, {title}", evaluation(work))
    for shape in GROUPED:
        title = "grouped convolution, {} to {} channels, kernel {}, stride {}, {} groups, {} px".format(*shape)
        measure(title, grouped(shape, device))
    if arguments.data:
        speeds, waits = loading(params, rounds)
        for result in timed("train", "training with images from", "images/s", speeds):
            results.append(replace(result, note=f"waits for them {waits[result.contestant]:.1f} % of the time"))
        results += timed("train", "an epoch with execution.threads/machine.workers", "s", splits(params, rounds))
    return results
