"""Threads that work ahead, with results in order; reading, hashing and image codecs do not hold Python's lock."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, chunk: int = 8
) -> Generator[Result, None, None]:
    """What `function` makes of each item, in order.

    Args:
        workers: threads that compute it, at most two chunks ahead each; 0: the one that asks for a result.
        chunk: items of one task; larger ones cost less, and more of them wait in memory.

    Raises:
        ValueError: if `workers` is negative.
        Exception: what `function` or `items` raised, in the place of the result.
    """
    if workers < 0:
        raise ValueError(f"workers is {workers}, must be 0 or more")
    if workers == 0:
        yield from map(function, items)
        return

    def work(batch: list[Item]) -> list[Result]:
        return [function(item) for item in batch]

    items = iter(items)
    pool = ThreadPoolExecutor(workers)
    try:
        pending: deque[Future[list[Result]]] = deque()
        while batch := list(islice(items, chunk)):
            pending.append(pool.submit(work, batch))
            if len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
