"""Several processes for one stage: started by PyTorch's elastic agent, and again after one of them has died.

python -m pipeline.launch PROCESSES STAGE [ARGUMENT...]

The stage calls this itself, where params.yaml asks for more than one process.
"""

import argparse
import ctypes
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pipeline.cli import MISTAKES, run

RESTARTS = 3  # of all processes, when one of them has died; each goes on from the last checkpoint
GRACE = 300  # seconds for a step, a validation batch and a checkpoint, after a signal


def start_processes(processes: int, threads: int) -> None:
    """Go on as `processes` processes on this machine, unless this is one of them; does not come back then.

    One of them is killed when what has started it dies, and so none trains on beside a second start of the stage. On
    several machines, torchrun is called by hand, on each of them.

    Args:
        threads: Of each process.
    """
    if "RANK" in os.environ:
        set_death_signal = 1  # prctl(2)
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)
        return
    if processes == 1:
        return
    spec = sys.modules["__main__"].__spec__
    if spec is None:
        raise ValueError(f"{processes} processes are started with `python -m stages.…` only")
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    sys.stdout.flush()
    # in place of this process, which may hold a model on the first GPU
    launch = ["-m", "pipeline.launch", str(processes), spec.name, *sys.argv[1:]]
    os.execv(sys.executable, [sys.executable, *launch])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("processes", type=int)
    parser.add_argument("stage", help="a module, such as stages.train_float")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # what the agent would say is said here
    with tempfile.TemporaryDirectory(prefix="processes_") as folder:
        os.environ[MISTAKES] = folder
        try:
            _until_done(arguments.processes, ["-m", arguments.stage, *arguments.arguments], Path(folder))
        except SignalException as stopped:
            sys.exit(128 + stopped.sigval)
        finally:
            del os.environ[MISTAKES]  # of this process they are said as always


def _until_done(processes: int, command: list[str], folder: Path) -> None:
    """Start `command` in all processes until they have ended well.

    Raises:
        ValueError: with the mistake that one of them has found.
        ChildProcessError: if processes died too often.
    """
    grace: dict[str, Any] = {"shutdown_timeout": GRACE}
    if "shutdown_timeout" not in LaunchConfig.__dataclass_fields__:
        grace = {}  # PyTorch 2.11 waits for 30 seconds
    for attempt in range(RESTARTS + 1):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            logs_specs=DefaultLogsSpecs(str(folder / "agent")),
            run_id=str(attempt),
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            **grace,
        )
        try:
            elastic_launch(config, sys.executable)(*command)
            return
        except ChildFailedError as error:
            if mistakes := sorted(folder.glob("*.txt")):
                raise ValueError(mistakes[0].read_text()) from None
            number, first = error.get_first_failure()
            if first.exitcode > 128:  # a signal that came to it alone; its code is negative where one has killed it
                sys.exit(first.exitcode)
            died = f"process {number} of {processes} has died with exit code {first.exitcode}"
        if attempt < RESTARTS:
            start = f"start {attempt + 1} of {RESTARTS} from the last checkpoint"
            print(f"{died}; {start}", file=sys.stderr)
    raise ChildProcessError(f"{died}, the {RESTARTS + 1}th time that one has")


if __name__ == "__main__":
    run(main)
