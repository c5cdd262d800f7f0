"""Starts stages in forks of one process that has imported what they need, so that an attack costs its own time alone.

Each line of its input is a JSON object, of its output the answer:
    module, arguments: the script and its arguments; folder: where it runs; out, err: files of its output
    environment: variables that are set; limits: by name of the module resource, e.g. {"RLIMIT_AS": bytes}
    extra_memory: bytes of address space beyond those that the process has now; null: no limit
    signals: what it gets, as [seconds from its start, number] in that order
    seconds: after which it is killed
    -> {"code": exit code, minus the signal that killed it, or null if it hung}
"""

import gc
import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path

from pipeline.cli import run

PAGE = os.sysconf("SC_PAGE_SIZE")


def serve() -> None:
    for name in json.loads(sys.argv[1]):
        importlib.import_module(name)
    gc.freeze()  # no fork copies what it would look through for garbage
    for line in sys.stdin:
        task = json.loads(line)
        child = os.fork()
        if not child:
            _exit_with(task)
        print(json.dumps({"code": _wait(child, task["seconds"], task["signals"])}), flush=True)


def _wait(child: int, seconds: float, signals: list[tuple[float, int]]) -> int | None:
    begun = time.monotonic()
    while time.monotonic() < begun + seconds:
        while signals and time.monotonic() > begun + signals[0][0]:
            os.kill(child, signals.pop(0)[1])
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def _exit_with(task: dict) -> None:
    """What a process of its own would do; never returns."""
    os.setsid()
    for number, name in ((1, task["out"]), (2, task["err"])):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(task["folder"])
    os.environ |= task["environment"]
    sys.argv = [str(importlib.import_module(task["module"]).__file__), *task["arguments"]]
    for name, limit in task["limits"].items():
        resource.setrlimit(getattr(resource, name), (limit, limit))
    if task["extra_memory"] is not None:
        limit = int(Path("/proc/self/statm").read_text().split()[0]) * PAGE + task["extra_memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    code = 0
    try:
        run(importlib.import_module(task["module"]).main)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
