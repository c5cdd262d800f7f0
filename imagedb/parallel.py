"""Threads that work ahead and give results in order; reading, hashing and image codecs release Python's lock."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

from storage.errors import InputError

T = TypeVar("T")
Result = TypeVar("Result")


def ordered_map(
    function: Callable[[T], Result], items: Iterable[T], workers: int, chunk: int = 8
) -> Generator[Result, None, None]:
    """The results of `function` for each item, in order.

    Args:
        workers: threads that compute, each at most two chunks ahead; 0: the calling thread computes.
        chunk: items per task; larger chunks cost less time and more memory.

    Raises:
        InputError: if `workers` is negative.
        Exception: what `function` or `items` raised, in place of the result.
    """
    if workers < 0:
        raise InputError(f"--num-workers {workers} is not allowed, must be 0 or more")
    if workers == 0:
        yield from map(function, items)
        return

    def work(batch: list[T]) -> list[Result]:
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
