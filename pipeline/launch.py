"""Runs a stage as several processes by PyTorch's elastic agent, which restarts all of them after one has died.

python -m pipeline.launch PROCESSES STAGE [ARGUMENT...]

The stage calls this itself, where params.yaml asks for more than one process.
"""

import argparse
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
from pipeline.signals import LAUNCHER, stopping
from storage.errors import InputError

RESTARTS = 3  # of all processes, after one of them has died; they resume from the last checkpoint
GRACE = 300  # seconds that a process has after a signal: for a step, a validation batch and a checkpoint


def start_processes(processes: int, threads: int) -> None:
    """Run this command as `processes` processes in place of this one, which may be one of them already.

    On several machines, torchrun is called by hand, on each of them.

    Args:
        processes: Number of processes on this machine; 1: this process alone.
        threads: Threads of each process.

    Raises:
        InputError: If this command was not started by `python -m`.
    """
    if "RANK" in os.environ or processes == 1:
        return
    spec = sys.modules["__main__"].__spec__
    if spec is None:
        raise InputError(f"{processes} processes can only be started by `python -m stages.…`")
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
    logging.disable(logging.CRITICAL)  # the agent's errors are reported below
    with tempfile.TemporaryDirectory(prefix="processes_") as folder:
        os.environ |= {MISTAKES: folder, LAUNCHER: str(os.getpid())}
        try:
            _until_done(arguments.processes, ["-m", arguments.stage, *arguments.arguments], Path(folder))
        except SignalException as stopped:
            sys.exit(128 + stopped.sigval)
        finally:
            del os.environ[MISTAKES]  # this process prints its mistakes as usual


def _until_done(processes: int, command: list[str], folder: Path) -> None:
    """Start `command` in all processes, and again after one has died, until all succeed.

    Raises:
        InputError: With the mistake that one of them has written.
        ChildProcessError: If processes have died too often.
    """
    signals = stopping()
    wanted: dict[str, Any] = {"shutdown_timeout": GRACE, "signals_to_handle": ",".join(each.name for each in signals)}
    known = LaunchConfig.__dataclass_fields__  # PyTorch 2.11 has no shutdown_timeout and waits for 30 seconds
    options = {name: value for name, value in wanted.items() if name in known}
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
            **options,
        )
        try:
            elastic_launch(config, sys.executable)(*command)
            return
        except ChildFailedError as error:
            if mistakes := sorted(folder.glob("*.txt")):
                raise InputError(mistakes[0].read_text(encoding="utf-8")) from None
            number, first = error.get_first_failure()
            if first.exitcode > 128:  # it alone got a signal and stopped
                sys.exit(first.exitcode)
            if -first.exitcode in signals:  # the same, before it could note signals
                sys.exit(128 - first.exitcode)
            died = f"process {number} of {processes} has died with exit code {first.exitcode}"
            if first.exitcode == -signal.SIGKILL:
                died += " (killed, as the system does where memory is short)"
        if attempt < RESTARTS:
            start = f"start {attempt + 1} of {RESTARTS} from the last checkpoint"
            print(f"{died}; {start}", file=sys.stderr)
    raise ChildProcessError(f"{died}; that was the last of {RESTARTS} restarts")


if __name__ == "__main__":
    run(main)
