"""Measures contestants in turns."""

import time
from collections.abc import Callable, Mapping
from statistics import median


def interleaved(contestants: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Median images per second of each contestant, a function that works once and returns its number of images."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):  # the first one warms up
        for name, work in contestants.items():
            start = time.perf_counter()
            images = work()
            if number:
                speeds[name].append(images / (time.perf_counter() - start))
    return {name: median(values) for name, values in speeds.items()}
