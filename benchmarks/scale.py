"""How time grows with size: databases, training steps, calibration.

    make bench ONLY=scale     or python -m benchmarks scale [--quick]

Databases have 1,000 to 1,281,167 small records, as many as ImageNet; training steps are those of vargconvnet_32 with
random images, by batch, width, image size and number of processes on these cores; calibration and QAT are of networks
of rising width. Each table shows the power with which time grows; its note has the line a + b n that fits best, which
says whether the fixed part or the growing one dominates at the largest size.
"""

import argparse
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

from benchmarks.data_ours import BATCH, Repeated, training_batches
from benchmarks.results import Result
from benchmarks.train_steps import Work, our_step, plain_recipe
from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.qat import FakeQuantModel
from imagedb.writer import write_database
from models.normalization import normalize
from pipeline.machine import prepare
from pipeline.params import load_params
from training.execution import Execution

CPU = torch.device("cpu")
RECORDS = (1_000, 10_000, 100_000, 1_281_167)
BATCHES, SIZES, PROCESSES = (16, 32, 64, 128), (32, 64, 96, 128), (1, 2)
WIDTHS = (8, 16, 32, 64)  # channels of the stem; later stages have 2 and 4 times as many
QUICK = 2  # sizes of each table, the smallest
Timed = Callable[[], object]


def main() -> list[Result]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="the smallest sizes alone")
    arguments = parser.parse_args()
    prepare(load_params().execution)
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    most = QUICK if arguments.quick else None
    results = databases(RECORDS[:most])
    results += steps("batch", {size: work(batch=size) for size in BATCHES[:most]}, rounds)
    results += steps("image size", {size: work(size=size) for size in SIZES[:most]}, rounds)
    results += steps("width", {size: work(width=size) for size in WIDTHS[:most]}, rounds)
    results += calibration(WIDTHS[:most], rounds)
    results += processes(rounds)
    return fitted(results)


def work(width: int = 16, size: int = 32, batch: int = 32) -> Work:
    """A network of the sample's kind, and its batches."""
    channels = [width, width, 2 * width, 4 * width, 4 * width]
    recipe = plain_recipe(load_params())
    return Work("vargconvnet_32", {"channels": channels}, 10, size, batch, recipe, CPU)


def databases(counts: Sequence[int]) -> list[Result]:
    """Seconds to pack, open, shuffle, and get a first batch, of databases with so many records."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(buffer, "JPEG")
    found = []
    with TemporaryDirectory() as folder:
        image, path = Path(folder, "image.jpg"), Path(folder, "packed.lmdb")
        image.write_bytes(buffer.getvalue())
        for count in counts:
            start = time.perf_counter()
            write_database(Repeated(image, count), path, workers=2)
            seconds = {"packing": time.perf_counter() - start}
            command = [sys.executable, "-m", __name__, str(path)]  # a process without warm caches of its own
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            seconds |= json.loads(done.stdout)
            path.unlink()
            found += [
                Result("scale", "records of a database", each, "s", (value,), count) for each, value in seconds.items()
            ]
    return found


def opening(path: Path) -> dict[str, float]:
    """Seconds to open a database, to shuffle it, and to get a first batch, of this process."""
    start = time.perf_counter()
    batches = training_batches(path, 32, BATCH, 0)
    opened = time.perf_counter()
    torch.randperm(len(batches.pixels.database), generator=torch.Generator().manual_seed(0)).split(BATCH)
    shuffled = time.perf_counter()
    next(batches.epoch(0))
    return {"opening": opened - start, "shuffling": shuffled - opened, "first batch": time.perf_counter() - shuffled}


def steps(what: str, works: dict[int, Work], rounds: int) -> list[Result]:
    """Seconds of a float and of a QAT training step, by `what`; sizes take turns."""
    timed: dict[tuple[str, int], Timed] = {}
    for size, each in works.items():
        for name, model in {"float": each.model(), "QAT": FakeQuantModel(each.program)}.items():
            step = our_step(each, model, Execution())
            timed[name, size] = partial(step, 0)
    return in_turns(f"training step by {what}", timed, rounds)


def calibration(widths: Sequence[int], rounds: int) -> list[Result]:
    """Seconds of calibration on 16 images, by width."""
    timed: dict[tuple[str, int], Timed] = {}
    for width in widths:
        each = work(width)
        folded, x = fold(capture(each.model().eval(), (3, each.size, each.size))), normalize(each.images()[0][:16])
        timed["calibration", width] = partial(calibrate, folded, partial(list, [x]))
    return in_turns("calibration by width", timed, rounds)


def processes(rounds: int) -> list[Result]:
    """Seconds of a training step of 64 images, computed by one process with a thread or shared by two."""
    found = []
    for count in PROCESSES:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        command += ["-m", "benchmarks.scale_processes", str(rounds)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        found.append(Result("scale", "training step by processes", "float", "s", tuple(json.loads(done.stdout)), count))
    return found


def in_turns(case: str, timed: dict[tuple[str, int], Timed], rounds: int) -> list[Result]:
    """Seconds of each function by contestant and size, which take turns after a round that warms up."""
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in timed}
    for number in range(rounds + 1):
        for key, function in timed.items():
            start = time.perf_counter()
            function()
            if number:
                seconds[key].append(time.perf_counter() - start)
    return [Result("scale", case, name, "s", tuple(each), size) for (name, size), each in seconds.items()]


def line(points: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The a and b of a + b n that fit points (n, seconds) with the least squared relative error."""
    weights = [1 / seconds**2 for _, seconds in points]
    total = sum(weights)
    mean_n = sum(w * n for w, (n, _) in zip(weights, points, strict=True)) / total
    mean_t = sum(w * t for w, (_, t) in zip(weights, points, strict=True)) / total
    spread = sum(w * (n - mean_n) ** 2 for w, (n, _) in zip(weights, points, strict=True))
    slope = sum(w * (n - mean_n) * (t - mean_t) for w, (n, t) in zip(weights, points, strict=True)) / spread
    return mean_t - slope * mean_n, slope


def fitted(results: Sequence[Result]) -> list[Result]:
    """The results, each with the line through all sizes of its row as a note."""
    rows: dict[tuple[str, str], list[Result]] = {}
    for each in results:
        rows.setdefault((each.case, each.contestant), []).append(each)
    noted = []
    for row in rows.values():
        points = [(each.at or 0.0, each.median) for each in row]
        fixed, slope = line(points)
        largest = max(n for n, _ in points)
        grown = slope * largest
        dominating = "the growing part" if grown > fixed else "the fixed part"
        note = f"{fixed:.3g} s + {slope:.3g} s n: {dominating} dominates at {largest:,.10g}"
        noted += [replace(each, note=note) for each in row]
    return noted


if __name__ == "__main__":
    print(json.dumps(opening(Path(sys.argv[1]))))
