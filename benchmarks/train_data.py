"""What `benchmarks.train --data` measures: float training with params.yaml's network, batch and database.

Loading: the same step gets its batches from memory, from a database by our threads, and from a folder by the processes
of timm's create_loader. Both read, decode, crop and flip the same images, by machine.workers workers; "augmented" is
ours as params.yaml augments. The table shows images per second, their ratio to those from memory, and the percentage of
the time in which the step waited for its batch.

Splits: seconds of an epoch with each split of the cores into execution.threads and machine.workers, each in a process
of its own; the processes take turns, round by round.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cache, partial
from itertools import product, repeat
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from timm.data import ImageDataset, create_loader

from benchmarks.timing import interleaved_rounds
from benchmarks.train_steps import classes, plain_recipe
from imagedb.reader import ImageDatabase
from imagedb.sources.folder import FolderSource
from imagedb.writer import write_database
from models.registry import create_model
from pipeline.databases import open_database, training_batches
from pipeline.execution import execution
from pipeline.machine import prepare
from pipeline.params import Params
from pipeline.paths import runs_folder
from pixels.batches import Batch, Pixels, TrainingBatches
from pixels.native import jpeg_size
from pixels.views import random_views
from training.losses import label_loss
from training.step import TrainingStep

STEPS = 50  # in a round, if an epoch has as many


def loading(params: Params, rounds: int) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Images per second of each round, and the percentage of time that the step waited, by the source of batches."""
    size, batch, workers = params.input.size, params.batch_size, params.machine.workers
    folder, database = _extract(open_database(params, "train"), STEPS * batch)
    plain = params.augment.model_copy(
        update={"crop": "resized", "color_jitter": (0, 0, 0, 0), "policy": None, "erase": 0}
    )
    ours, augmented = (
        TrainingBatches(Pixels(database, random_views(augment, params.input), params.input), batch, workers)
        for augment in (plain, params.augment)
    )
    timms = create_loader(
        ImageDataset(str(folder)),
        (3, size, size),
        batch,
        is_training=True,
        scale=plain.crop_scale,
        ratio=plain.crop_ratio,
        hflip=plain.flip,
        color_jitter=None,  # type: ignore[arg-type]  # timm's annotation leaves None out
        num_workers=workers,
        pin_memory=params.execution.device == "cuda",
        device=torch.device("cpu"),
    ).loader  # as bytes: the step normalizes
    step = _step(params)
    in_memory = [tensor.to(step.device) for tensor in next(iter(timms))]
    sources: dict[str, Callable[[], Iterable]] = {
        "memory": lambda: repeat([in_memory], ours.steps),
        "ours": lambda: ours.epoch(0),
        "timm's create_loader": lambda: zip(timms, strict=True),
        "ours, augmented": lambda: augmented.epoch(0),
    }
    waits: dict[str, list[float]] = {name: [] for name in sources}
    turns = {name: partial(_turn, step, source, waits[name]) for name, source in sources.items()}
    speeds = interleaved_rounds(turns, rounds)
    return speeds, {name: 100 * median(values[1:]) for name, values in waits.items()}


def splits(params: Params, rounds: int) -> dict[str, list[float]]:
    """Seconds of an epoch in each round, by "threads/workers", params.yaml's first."""
    own, own_workers = params.execution, params.machine.workers
    cores = len(os.sched_getaffinity(0))
    counts = sorted({2**power for power in range(cores.bit_length())} | {cores})
    threads = counts if own.device == "cpu" else [own.threads]
    tried = dict.fromkeys([(own.threads, own_workers), *product(threads, [0, *counts])])
    with ExitStack() as stack:
        turns = {}
        for threads_of, workers in tried:
            split = {
                "execution": own.model_copy(update={"threads": threads_of}),
                "machine": params.machine.model_copy(update={"workers": workers}),
            }
            text = params.model_copy(update=split).model_dump_json()
            process = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn")))
            turns[f"{threads_of}/{workers}"] = lambda process=process, text=text: process.submit(_part, text).result()
        speeds = interleaved_rounds(turns, rounds)
    images = len(open_database(params, "train")) // params.batch_size * params.batch_size
    return {split: [images / speed for speed in each] for split, each in speeds.items()}


def _part(text: str) -> int:
    step, batches = _training(text)
    return _turn(step, lambda: batches.epoch(0, max(batches.steps - STEPS, 0)), [])


@cache
def _training(text: str) -> tuple[TrainingStep, TrainingBatches]:
    """The step and the batches of a process of `splits`, for parameters as JSON."""
    params = Params.model_validate_json(text)
    prepare(params.execution)
    (batches,) = training_batches(params, params.augment, params.batch_size).values()
    return _step(params), batches


def _step(params: Params) -> TrainingStep:
    model = create_model(params.model.name, classes(params), params.input.size, params.model.arguments)
    recipe = plain_recipe(params)
    model.to("cuda" if params.execution.device == "cuda" else "cpu")
    step = TrainingStep(model, recipe, label_loss(recipe.label_smoothing), execution(params.execution))
    step.train()
    return step


def _turn(step: TrainingStep, source: Callable[[], Iterable[Sequence[Batch]]], waits: list[float]) -> int:
    """Train with all batches of a source; return the number of images, and append the fraction of time waited."""
    start = asked = time.perf_counter()
    images, waited = 0, 0.0
    for parts in source():
        waited += time.perf_counter() - asked
        figures = step(parts, range(1), (0, 0, 0), 1)
        images += len(parts[0][1])
        asked = time.perf_counter()
    figures.tolist()  # waits for the GPU
    waits.append(waited / (time.perf_counter() - start))
    return images


def _extract(database: ImageDatabase, most: int) -> tuple[Path, ImageDatabase]:
    """At most `most` images, evenly spaced, as a folder of class folders and as a database."""
    folder = runs_folder() / "bench_train" / "images"
    shutil.rmtree(folder.parent, ignore_errors=True)
    count = min(most, len(database))
    for number in range(count):
        record = database[number * len(database) // count]
        kind = "jpg" if jpeg_size(record.image) else "png"  # both look at the bytes
        file = folder / f"{record.label:05}" / f"{number:07}.{kind}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(record.image)
    path = folder.with_name("images.lmdb")
    write_database(FolderSource(folder.parent, folder.name), path)
    return folder, ImageDatabase(path)
