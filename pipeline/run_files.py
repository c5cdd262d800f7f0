"""What a training run writes in its folder of runs/."""

from typing import TypedDict

from training.figures import Figures, Row


class Speed(TypedDict, total=False):
    """The speed of an epoch: images per second, the fraction of time spent waiting for data, the GPU's peak memory."""

    images_per_second: float
    waiting_for_data: float
    gpu_memory_gib: float


class LogRow(Row, Speed):
    """A line of log.jsonl."""


class Now(Figures, Speed):
    """now.json: the current epoch of `epochs`, and how many of its `steps` are `done`."""

    epoch: int
    epochs: int
    done: int
    steps: int
    seconds_left: float
