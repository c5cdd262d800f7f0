"""The top lines of a profile: where the time of a contestant goes while it works.

Of PyTorch's operations by its own profiler, of ONNX Runtime's by its own, of anything else by Linux' `perf`, which sees
native functions of all threads and child processes; where that is missing, by cProfile, which sees this thread's.
"""

import cProfile
import json
import os
import pstats
import re
import select
import shutil
import signal
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime
import torch

from benchmarks.results import Result

LINES, LONGEST = 4, 60  # that are told, and characters of a function's name
SECONDS = 1.0  # of work under a profiler, about
CALLS = 10  # under PyTorch's profiler: as many in each process of several
PATIENCE = 10.0  # seconds that perf may take to begin
SAMPLES = 997  # of perf, in a second; no divisor of what else recurs

Work = Callable[[], object]


def explained(
    results: Sequence[Result], rivals: Mapping[str, Sequence[str]], profile: Callable[[str, str], str]
) -> list[Result]:
    """The results of one column, with a profile of each contestant that is slower than the best of its rivals.

    Args:
        results: Of one case, column and unit.
        rivals: Contestants that do the same work, by contestant; those without results are passed over.
        profile: Gives the top lines, from the names of a contestant and of that rival.
    """
    found = {each.contestant: each for each in results if each.values}
    told = []
    for each in results:
        others = [found[name] for name in rivals.get(each.contestant, ()) if name in found]
        best = max(others, key=lambda other: other.gain(each), default=None) if each.values else None
        if best and each.gain(best) < 1:
            lines = profile(each.contestant, best.contestant)
            each = replace(each, profile=f"{each.gain(best):.2f} times as good as {best.contestant}; {lines}")
        told.append(each)
    return told


def sampled(work: Work) -> str:
    """The functions, with their libraries, that samples of the processor's time were in."""
    if not shutil.which("perf"):
        return called(work)
    with TemporaryDirectory() as folder:
        path, control, answer = (Path(folder, name) for name in ("perf.data", "control", "answer"))
        os.mkfifo(control)
        os.mkfifo(answer)
        command = ["perf", "record", "-q", "-F", str(SAMPLES), "-o", str(path), "-p", str(os.getpid())]
        command += ["--delay=-1", f"--control=fifo:{control},{answer}"]
        recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with control.open("r+b", buffering=0) as asking, answer.open("r+b", buffering=0) as answering:
            asking.write(b"enable\n")
            select.select([answering], [], [], PATIENCE)
            _repeat(work)
        recorder.send_signal(signal.SIGINT)
        recorder.wait()
        command = ["perf", "report", "-i", str(path), "--stdio", "--no-children", "-F", "overhead,dso,sym"]
        found = subprocess.run(command, capture_output=True, text=True).stdout
    lines = re.findall(r"^ +([\d.]+)% +(\S+) +\[.\] (.*?) *$", found, re.MULTILINE)
    if not lines:  # perf is not allowed to look
        return called(work)
    shares: dict[str, float] = defaultdict(float)
    for share, library, symbol in lines:
        named = not symbol.startswith("0x")
        shares[f"`{symbol[:LONGEST]}` of {library}" if named else f"{library}, without names"] += float(share) / 100
    return "perf: " + top(shares)


def called(work: Work) -> str:
    """The functions of this thread by their own time, under cProfile."""
    profile = cProfile.Profile()
    profile.enable()
    _repeat(work)
    profile.disable()
    rows = pstats.Stats(profile).stats.items()  # type: ignore[attr-defined]  # typeshed leaves it out
    times = {_function(*key): own for key, (_, _, own, _, _) in rows}
    return "cProfile: " + top(shares_of(times))


def _function(file: str, line: int, name: str) -> str:
    return f"`{name.strip('<>')}`" if file == "~" else f"`{name}` of {Path(file).parent.name}/{Path(file).name}"


def operations(work: Work) -> dict[str, float]:
    """Seconds of each of PyTorch's operations in one call of `work`, without those that it calls; "Python" the rest."""
    work()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        started = time.perf_counter()
        for _ in range(CALLS):
            work()
        seconds = time.perf_counter() - started
    times: dict[str, float] = defaultdict(float)
    for each in profile.key_averages():
        name = "compiled code" if "CompiledFxGraph" in each.key else f"`{each.key}`"
        times[name] += each.self_cpu_time_total / 1e6 / CALLS
    return times | {"Python": max(seconds / CALLS - sum(times.values()), 0.0)}


def compared(work: Work, rival: Work) -> str:
    """Where the time of `work` goes by PyTorch's operations, and in which of them its rival takes less."""
    own, other = operations(work), operations(rival)
    more = {name: max(seconds - other.get(name, 0.0), 0.0) for name, seconds in own.items()}
    return f"PyTorch's profiler: {top(shares_of(own))}; of the difference: {top(shares_of(more))}"


def of_operations(work: Work) -> str:
    """Where the time of `work` goes, by PyTorch's operations."""
    return "PyTorch's profiler: " + top(shares_of(operations(work)))


def of_onnx(path: Path, x: np.ndarray, threads: int) -> str:
    """The kinds of operators that the time of an ONNX file goes to, by ONNX Runtime's profiler."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 4
    options.add_session_config_entry("session.qdqisint8allowed", "1")  # as `fixedpoint.onnx.runtime` sets it for QDQ
    with TemporaryDirectory() as folder:
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "profile"))
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0]
        value = x if given.type == "tensor(float)" else (x * 128).astype(np.int8)
        _repeat(lambda: session.run(None, {given.name: value}))
        events = json.loads(Path(session.end_profiling()).read_text())
    times: dict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[f"`{event['args']['op_name']}`"] += event["dur"]
    return "ONNX Runtime's profiler: " + top(shares_of(times))


def shares_of(times: Mapping[str, float]) -> dict[str, float]:
    total = sum(times.values()) or 1.0
    return {name: value / total for name, value in times.items()}


def top(shares: Mapping[str, float]) -> str:
    """The largest shares, in percent."""
    ordered = sorted(shares.items(), key=lambda item: -item[1])[:LINES]
    return ", ".join(f"{100 * share:.0f} % {name}" for name, share in ordered if share >= 0.005)


def _repeat(work: Work) -> None:
    started = time.perf_counter()
    work()
    while time.perf_counter() - started < SECONDS:
        work()
