"""Images per second of each deployed file on this machine, beside those that other tools make of the same network.

    make bench ONLY=deploy                                       after `make repro`
    python -m benchmarks deploy --networks sample vargconvnet:224    the pipeline's network, and one with random weights

All contestants of a network take the same images and are calibrated on the same ones. Before the timing, the logits of
each are compared with those of what it simulates (benchmarks/deploy_runtimes.py says what that is), and the share that
differs stands in the table: of integers every difference counts, of float logits those above 1e-4 of the largest one.
Sizes are those of the files; memory is the peak of a process that loads the file and computes one image, above what it
had after its imports; of the C, which is a program of its own, the bytes of its activations and constants.
"""

import os
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from benchmarks.deploy_files import Network, network_of, write_files
from benchmarks.deploy_memory import peak_memory
from benchmarks.deploy_runtimes import CONTESTANTS, Contestant, Simulation, Work, one_line
from benchmarks.options import options
from benchmarks.profiles import explained, of_onnx, sampled
from benchmarks.results import DIFFER, Result, timed
from benchmarks.timing import interleaved_rounds
from fixedpoint.c.source import memory_bytes
from pipeline.machine import keep_memory
from storage.errors import InputError

SECONDS = 0.2  # of a turn, about
SLOW = 4.0  # seconds: who takes longer for a batch has no turns
PATIENCE = 10.0  # seconds: a simulation that would take longer for a batch is left out of the comparison
CLOSE = 1e-4  # of the largest logit: float logits that differ less are the same


def main() -> list[Result]:
    arguments = options("deploy")
    if arguments.quick:
        arguments.networks, arguments.batches = ["sample"], [1]
    os.environ.pop("ONEDNN_MAX_CPU_ISA", None)  # both keep PyTorch, and with it the peers, from the processor's best
    os.environ.pop("ATEN_CPU_CAPABILITY", None)
    keep_memory()
    warnings.simplefilter("ignore")  # of the peers, and of exponents of random weights
    results: list[Result] = []
    for name in arguments.networks:
        with tempfile.TemporaryDirectory(prefix="bench_") as folder:
            network = network_of(name, max(32, *arguments.batches))
            errors = write_files(network, Path(folder), arguments.batches)
            results += Measured(network, Path(folder), errors).results(arguments.batches, arguments.rounds)
    return results


class Measured:
    """The contestants of one network.

    Args:
        network: The network, its integer program and images.
        folder: Of the files of all contestants.
        errors: Why a file could not be made, by its name.
    """

    def __init__(self, network: Network, folder: Path, errors: dict[str, str]):
        self.network, self.folder, self.errors = network, folder, errors
        self.expected: dict[tuple[Simulation, int], np.ndarray] = {}
        self.seconds: dict[Simulation, float] = {}  # of a simulation, for an image

    def results(self, batches: list[int], rounds: int) -> list[Result]:
        """Speeds of all batches and threads, then size, memory and the share of logits that differ."""
        found: list[Result] = []
        for batch in batches:
            for threads in (1, 2):
                column = f"{batch} image{'s'[: batch > 1]}, {threads} thread{'s'[: threads > 1]}"
                found += self._speeds(batch, threads, column, rounds)
                if batch == batches[0] and threads == 1:
                    found += self._sizes()
        return found

    def _speeds(self, batch: int, threads: int, column: str, rounds: int) -> list[Result]:
        torch.set_num_threads(threads)
        x = self.network.images[:batch]
        turns: dict[str, Callable[[], int]] = {}
        others: list[Result] = []
        for each in CONTESTANTS:
            if threads > 1 and each.single:
                continue
            try:
                work = self._work(each, threads, batch)
                if threads == 1:
                    others += self._differing(each, work, x)
                turns[each.name] = _turn(work, np.tile(x, (each.least_images // batch or 1, 1, 1, 1)))
            except Exception as error:  # a peer's may be any; it is shown in the table
                others.append(self._result(each, "images/s", column=column, error=one_line(error)))
        part = timed("deploy", self.network.title, "images/s", interleaved_rounds(turns, rounds), column)
        if threads == 1:
            rivals = {each.name: each.rivals for each in CONTESTANTS}
            part = explained(part, rivals, lambda name, _: self._profile(name, x, turns[name]))
        return [*part, *others]

    def _profile(self, name: str, x: np.ndarray, turn: Callable[[], int]) -> str:
        if name.endswith("ONNX Runtime"):
            [file] = next(each.files for each in CONTESTANTS if each.name == name)
            return of_onnx(self.folder / file, x, 1)
        return sampled(turn)

    def _work(self, each: Contestant, threads: int, batch: int) -> Work:
        for file in each.files_of(batch):
            if file in self.errors:
                raise InputError(self.errors[file])
        return each.load(self.folder, threads, batch)

    def _differing(self, each: Contestant, work: Work, x: np.ndarray) -> list[Result]:
        """The share of logits that differ from what the contestant simulates, in percent."""
        images = f"{len(x)} image{'s'[: len(x) > 1]}"
        simulation = each.simulated or self.network.integer
        if self.seconds.get(simulation, 0.0) * len(x) > PATIENCE:
            note = f"{images}: not compared, what it simulates is slow"
            return [self._result(each, DIFFER, note=note, column=images)]
        found, expected = work(x).reshape(len(x), -1), self._simulated(simulation, x)
        if each.simulated is None and found.dtype.kind == "i":
            expected = self.network.integers(expected, found.dtype)
        return [self._result(each, DIFFER, (100 * differing(found, expected),), column=images)]

    def _simulated(self, simulation: Simulation, x: np.ndarray) -> np.ndarray:
        """Logits [batch, classes], which contestants share."""
        key = simulation, len(x)
        if key not in self.expected:
            start = time.perf_counter()
            self.expected[key] = simulation(self.folder, x).reshape(len(x), -1)
            self.seconds[simulation] = (time.perf_counter() - start) / len(x)
        return self.expected[key]

    def _sizes(self) -> list[Result]:
        found, made = [], []
        for each in CONTESTANTS:
            files = [self.folder / file for file in each.files_of(1)]
            if not any(file.name in self.errors for file in files):
                made.append(each)
                size = sum(file.stat().st_size for file in files) / 2**20
                found.append(self._result(each, "MiB on disk", (size,), note=each.note))
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # their imports take most of the time
            return found + list(pool.map(self._memory, made))

    def _memory(self, each: Contestant) -> Result:
        try:
            peak = self._memory_of_c() if each.single else peak_memory(each, self.folder)
            return self._result(each, "MiB of memory", (peak,))
        except InputError as error:
            return self._result(each, "MiB of memory", error=str(error))

    def _memory_of_c(self) -> float:
        needed = memory_bytes(self.network.program)
        return (needed["ram"] + needed["flash"]) / 2**20

    def _result(
        self,
        each: Contestant,
        unit: str,
        values: tuple[float, ...] = (),
        note: str = "",
        error: str = "",
        column: str = "",
    ) -> Result:
        return Result("deploy", self.network.title, each.name, unit, values, None, note, error, column)


def differing(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of values that differ: of integers any, of floats by more than CLOSE of the largest one."""
    if found.shape != expected.shape:
        raise InputError(f"logits {list(found.shape)} are not of the shape {list(expected.shape)}")
    if found.dtype.kind == "i":
        return float((found != expected).mean())
    return float((np.abs(found.astype(np.float64) - expected) > CLOSE * np.abs(expected).max()).mean())


def _turn(work: Work, x: np.ndarray) -> Callable[[], int]:
    """A function that computes `x` as often as SECONDS hold.

    Raises:
        InputError: If once takes longer than SLOW.
    """
    work(x)
    start = time.perf_counter()
    work(x)
    seconds = time.perf_counter() - start
    if seconds > SLOW:
        raise InputError(f"left out: {seconds:.1f} s for {len(x)} images")
    repeats = max(1, round(SECONDS / seconds))

    def repeated() -> int:
        for _ in range(repeats):
            work(x)
        return repeats * len(x)

    return repeated
