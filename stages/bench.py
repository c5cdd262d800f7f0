"""Images per second of each form of the model on this machine, and their ratios to the float ONNX file's.

    python -m stages.bench [--rounds 7]     after `make repro`

The forms take turns, round by round, so that a change of the machine's speed hits them alike; shown are medians. Kept
in runs/bench.json, since speed belongs to the machine and not to the results.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

from fixedpoint.runtime import OnnxModel
from stages.cli import require, run, runs_folder, write_json
from stages.databases import plain_batches
from stages.forms import load_form
from stages.machine import prepare
from stages.model_files import MADE_BY
from stages.params import Params, load_params
from training.augment import normalize

BATCHES = 10  # in a turn
ONNX = ("float", "int8_qdq", "int8_qoperator", "int8_integer")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    params = load_params()
    speeds = interleaved(_forms(params, prepare(params.machine)), rounds)
    peer = next(iter(speeds.values()))
    for name, speed in speeds.items():
        print(f"{name:34}{speed:10.0f} images/s  {speed / peer:6.2f}")
    write_json(runs_folder() / "bench.json", speeds)


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


def _forms(params: Params, device: torch.device) -> dict[str, Callable[[], int]]:
    pixels, _ = next(iter(plain_batches(params)))
    images = normalize(pixels)
    array, x = images.numpy(), images.to(device)
    forms: dict[str, Callable] = {}
    for name in ONNX:
        execution = "int8" if name == "int8_qdq" else "default"
        path = require(f"artifacts/onnx/{name}.onnx", MADE_BY["onnx_float"])
        session = OnnxModel(path, execution, params.machine.threads)
        forms[f"ONNX {name} ({execution})"] = lambda session=session: session(array)
    for name, step in {"PyTorch float": "float", "PyTorch integer": "int"}.items():
        form = load_form(step, None, device, params)
        forms[name] = lambda form=form: form(x).cpu()  # a GPU has done it all by then

    def timed(form: Callable) -> Callable[[], int]:
        @torch.no_grad()
        def work() -> int:
            for _ in range(BATCHES):
                form()
            return BATCHES * len(images)

        return work

    return {name: timed(form) for name, form in forms.items()}


if __name__ == "__main__":
    run(main)
