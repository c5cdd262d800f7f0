"""Calls that read hostile files, each in a process of its own, so that signals, hangs and faults of ours are seen."""

import os
import pickle
import resource
import signal
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from pipeline.cli import mendable, message


def outcome(function: Callable[[], object], seconds: int = 20, memory: int = 2**30) -> tuple[str, object]:
    """What a call gives: ("value", it), or ("line", the message), if it raises what the user can mend.

    Args:
        function: called in a fork; its value is pickled.
        seconds: after which it is killed.
        memory: bytes of addresses beyond those that this process has.

    Raises:
        AssertionError: if it ends in another way: by a signal, or with an exception that keeps its traceback.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + memory, resource.RLIM_INFINITY))
        signal.alarm(seconds)
        try:
            ended: tuple[str, object] = "value", function()
        except Exception as error:
            ended = ("line", message(error)) if mendable(error) else ("fault", traceback.format_exc())
        with os.fdopen(writing, "wb") as file:
            pickle.dump(ended, file)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"killed by signal {status}" if os.WIFSIGNALED(status) else f"status {status}"
    kind, value = pickle.loads(data)
    assert kind != "fault", value
    assert kind != "line" or "\n" not in value, value
    return kind, value


def attacked(
    mutations: int, spoil: Callable[[int], object], read: Callable[[], object], right: object = None, **limits: int
) -> Counter:
    """Spoil a file with the seeds 0 to mutations - 1, read it each time, and count how that ended.

    Args:
        right: what an unspoiled file gives; None: other values are allowed too.
    """
    counts: Counter = Counter()
    for seed in range(mutations):
        what = spoil(seed)
        try:
            kind, value = outcome(read, **limits)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}, {what}: {error}") from None
        assert kind == "line" or right is None or value == right, f"seed {seed}, {what}: another result, and no word"
        counts[kind] += 1
    assert sum(counts.values()) == mutations
    return counts
