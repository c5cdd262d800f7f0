"""How time grows with size: databases, training steps, calibration.

    make bench ONLY=scale     or python -m benchmarks scale [--quick]

Databases have 1,000 to 1,281,167 small records, as many as ImageNet; training steps are those of vargconvnet_32 with
random images, by batch, width, image size and number of processes on these cores; calibration and QAT are of networks
of rising width. Each table shows the power with which time grows; its note has what fits best, a + b n or a + b n^2,
which says whether the fixed part or the growing one dominates at the largest size, and a profile what that part is.
"""

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

import numpy as np
import torch
from PIL import Image

from benchmarks.data_ours import BATCH, Repeated, training_batches
from benchmarks.options import options
from benchmarks.profiles import of_operations, sampled
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
from pixels.batches import TrainingBatches
from training.execution import Execution

CPU = torch.device("cpu")
RECORDS = (1_000, 10_000, 100_000, 1_281_167)
BATCHES, SIZES, PROCESSES = (16, 32, 64, 128), (32, 64, 96, 128), (1, 2)
WIDTHS = (8, 16, 32, 64)  # channels of the stem; later stages have 2 and 4 times as many
QUICK = 2  # sizes of each table, the smallest
NEAR = 1e-9  # squared relative errors that differ less are equal: two points fit both powers
PROFILED = 50_000  # records of a database whose packing is profiled, at most
Timed = Callable[[], object]


def main() -> list[Result]:
    arguments = options("scale")
    prepare(load_params().execution)
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    most = QUICK if arguments.quick else None
    results = databases(RECORDS[:most], rounds)
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


def databases(counts: Sequence[int], rounds: int) -> list[Result]:
    """Seconds to pack once, and to open, shuffle and get a first batch, of databases with so many records."""
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(buffer, "JPEG")
    found, profiles = [], {}
    with TemporaryDirectory() as folder:
        image, path = Path(folder, "image.jpg"), Path(folder, "packed.lmdb")
        image.write_bytes(buffer.getvalue())
        for count in counts:
            start = time.perf_counter()
            _pack_anew(image, count, path)
            seconds = {"packing": [time.perf_counter() - start]}
            command = [sys.executable, "-m", __name__, str(path), str(rounds)]  # a process of its own
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            times, profiles = json.loads(done.stdout)
            seconds |= times
            path.unlink()
            found += [
                Result("scale", "records of a database", each, "s", (*values,), count)
                for each, values in seconds.items()
            ]
        profiles |= {"packing": sampled(partial(_pack_anew, image, min(counts[-1], PROFILED), path))}
    return profiled(found, profiles)


def _pack_anew(image: Path, count: int, path: Path) -> None:
    path.unlink(missing_ok=True)
    write_database(Repeated(image, count), path, workers=2)


def opening(path: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds to open a database, to shuffle it, and to get a first batch, after a round that warms up."""
    seconds: dict[str, list[float]] = {"opening": [], "shuffling": [], "first batch": []}
    for _ in range(rounds + 1):
        start = time.perf_counter()
        batches = _open(path)
        opened = time.perf_counter() - start
        _shuffle(batches)
        shuffled = time.perf_counter() - start
        next(batches.epoch(0))
        found = (opened, shuffled - opened, time.perf_counter() - start - shuffled)
        for each, value in zip(seconds.values(), found, strict=True):
            each.append(value)
    return {name: each[1:] for name, each in seconds.items()}


def opened(path: Path, rounds: int) -> str:
    """What a process of its own prints of a database: `opening` and `opening_profiles` as JSON."""
    return json.dumps([opening(path, rounds), opening_profiles(path)])


def opening_profiles(path: Path) -> dict[str, str]:
    """Where the time of `opening` goes."""
    batches = _open(path)
    works: dict[str, Timed] = {
        "opening": partial(_open, path),
        "shuffling": partial(_shuffle, batches),
        "first batch": lambda: next(batches.epoch(0)),
    }
    return {name: sampled(work) for name, work in works.items()}


def _open(path: Path) -> TrainingBatches:
    return training_batches(path, 32, BATCH, 0)


def _shuffle(batches: TrainingBatches) -> None:
    torch.randperm(len(batches.pixels.database), generator=torch.Generator().manual_seed(0)).split(BATCH)


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
        seconds, profile = json.loads(done.stdout)
        found.append(Result("scale", "training step by processes", "float", "s", tuple(seconds), count))
    return profiled(found, {"float": profile})


def in_turns(case: str, timed: dict[tuple[str, int], Timed], rounds: int) -> list[Result]:
    """Seconds of each function by contestant and size, which take turns after a round that warms up, and profiles."""
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in timed}
    for number in range(rounds + 1):
        for key, function in timed.items():
            start = time.perf_counter()
            function()
            if number:
                seconds[key].append(time.perf_counter() - start)
    largest = dict(sorted(timed, key=lambda key: key[1]))
    profiles = {name: of_operations(timed[name, size]) for name, size in largest.items()}
    found = [Result("scale", case, name, "s", tuple(each), size) for (name, size), each in seconds.items()]
    return profiled(found, profiles)


def profiled(results: Sequence[Result], profiles: dict[str, str]) -> list[Result]:
    """The results, those of the largest size with the profile of their contestant."""
    largest = max(each.at or 0 for each in results)
    return [replace(each, profile=profiles[each.contestant]) if each.at == largest else each for each in results]


def fit(points: Sequence[tuple[float, float]]) -> tuple[float, float, int]:
    """The a, b and power 1 or 2 of a + b n^power that fit points (n, seconds) with the least squared relative error."""
    seconds = np.array([each for _, each in points])
    fits = []
    for power in (1, 2):
        terms = np.stack([np.ones(len(points)), [n**power for n, _ in points]], 1) / seconds[:, None]
        (fixed, slope), *_ = np.linalg.lstsq(terms, np.ones(len(points)))
        fits.append((float(np.square(terms @ [fixed, slope] - 1).sum()), float(fixed), float(slope), power))
    simple, square = fits
    return square[1:] if square[0] < simple[0] - NEAR else simple[1:]


def fitted(results: Sequence[Result]) -> list[Result]:
    """The results, each with the fit through all sizes of its row as a note."""
    rows: dict[tuple[str, str], list[Result]] = {}
    for each in results:
        rows.setdefault((each.case, each.contestant), []).append(each)
    noted = []
    for row in rows.values():
        fixed, slope, power = fit([(each.at or 0.0, each.median) for each in row])
        largest = max(each.at or 0.0 for each in row)
        dominating = "the growing part" if slope * largest**power > fixed else "the fixed part"
        grown = "n" if power == 1 else "n^2"
        note = f"{fixed:.3g} s + {slope:.3g} s {grown}: {dominating} dominates at {largest:,.10g}"
        noted += [replace(each, note=note) for each in row]
    return noted


if __name__ == "__main__":
    print(opened(Path(sys.argv[1]), int(sys.argv[2])))
