"""Measures contestants in turns."""

import time
from collections.abc import Callable, Mapping
from statistics import median


def interleaved_rounds(contestants: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Images per second of each contestant in each round; a function works once and returns its number of images."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(rounds + 1):  # the first one warms up
        for name, work in contestants.items():
            start = time.perf_counter()
            images = work()
            if number:
                speeds[name].append(images / (time.perf_counter() - start))
    return speeds


def interleaved(contestants: Mapping[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Median images per second of each contestant, as `interleaved_rounds` measures them."""
    return {name: median(values) for name, values in interleaved_rounds(contestants, rounds).items()}
