"""Images per second on this machine: training and inference; each as a ratio to a peer on the same work.

    python -m stages.bench [--rounds 7]     after `make repro`

The contestants of a group take turns, round by round, so that a change of the machine's speed hits them alike; shown
are medians. Kept in runs/bench.json, since speed belongs to the machine and not to the results.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor, nn

from fixedpoint.integer import integer_logits
from fixedpoint.qat import FakeQuantModel
from fixedpoint.runtime import OnnxModel
from models.storage import load_model
from stages.cli import require, run, runs_folder, write_json
from stages.databases import plain_batches
from stages.machine import prepare
from stages.model_files import FILES, MADE_BY, float_model, stored_program
from stages.params import Params, load_params
from training.augment import normalize

ONNX = ("float", "int8_qdq", "int8_qoperator", "int8_integer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    params = load_params()
    prepare(params.machine)
    stored = {form: load_model(require(FILES[form], MADE_BY[form]), (form,)) for form in ("float", "ptq", "int")}
    images = torch.cat([normalize(pixels) for pixels, _ in plain_batches(params, images=params.validation.batch_size)])

    results = {}
    for group, contestants in {
        "training step (peer: float)": {
            "float": _training(float_model(stored["float"]), params),
            "QAT": _training(FakeQuantModel(stored_program(stored["ptq"])), params),
        },
        "inference (peer: ONNX float, default options)": _inference(
            float_model(stored["float"]), stored, images, params
        ),
    }.items():
        print(group)
        speeds = interleaved(contestants, rounds)
        peer = next(iter(speeds.values()))
        results[group] = speeds
        for name, speed in speeds.items():
            print(f"  {name:34}{speed:10.0f} images/s  {speed / peer:6.2f}")
    write_json(runs_folder() / "bench.json", results)


def interleaved(contestants: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Median images per second of each contestant, a function that works once and gives its number of images."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):  # the first one warms up
        for name, work in contestants.items():
            start = time.perf_counter()
            images = work()
            if number:
                speeds[name].append(images / (time.perf_counter() - start))
    return {name: median(values) for name, values in speeds.items()}


def _training(model: nn.Module, params: Params) -> Callable[[], int]:
    model.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    size, batch = params.input.size, params.batch_size
    x = normalize(torch.randint(0, 256, (batch, 3, size, size))).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, params.model.num_classes, (batch,))

    def steps() -> int:
        for _ in range(5):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
            if isinstance(model, FakeQuantModel):
                model.project()
        return 5 * batch

    return steps


def _inference(model: nn.Module, stored: dict, images: Tensor, params: Params) -> dict[str, Callable[[], int]]:
    array = images.numpy()
    integer = integer_logits(stored_program(stored["int"]))
    forms: dict[str, Callable] = {}
    for name in ONNX:
        execution = "int8" if name == "int8_qdq" else "default"
        session = OnnxModel(f"artifacts/onnx/{name}.onnx", execution, params.machine.threads)
        forms[f"ONNX {name} ({execution})"] = lambda session=session: session(array)
    forms["PyTorch float"] = lambda: model(images)
    forms["PyTorch integer"] = lambda: integer(images)

    def timed(form: Callable) -> Callable[[], int]:
        @torch.no_grad()
        def work() -> int:
            form()
            return len(images)

        return work

    return {name: timed(form) for name, form in forms.items()}


if __name__ == "__main__":
    run(main)
