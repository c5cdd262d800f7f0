"""Several processes for one stage: the stage starts itself again under torchrun, once for each."""

import json
import os
import shutil
import sys
import time
from pathlib import Path

RESTARTS = 3  # of all processes, when one of them has died; each goes on from the last checkpoint


def start_processes(processes: int, threads: int) -> None:
    """Go on as `processes` processes on this machine, unless torchrun has started this one; does not come back then.

    On several machines, torchrun is called by hand, on each of them.

    Args:
        threads: Of each process.
    """
    if error_file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        attempts = Path(error_file).parents[2]  # <folder of the run>/attempt_<number>/<process>/error.json
        if noted := next(attempts.glob("attempt_*/*/error.json"), None):
            shutil.copyfile(noted, error_file)  # for torchrun's last words
            sys.exit(1)
        return
    if processes == 1:
        return
    spec = sys.modules["__main__"].__spec__
    if spec is None:
        raise ValueError(f"{processes} processes are started with `python -m stages.…` only")
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command = [*torchrun, f"--max-restarts={RESTARTS}", "-m", spec.name, *sys.argv[1:]]
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # torchrun says that it sets it to 1, if it is not set
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # with the same store, a restart finds dead addresses in it
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, *command])


def give_up(error: ValueError) -> None:
    """Note, in a process that torchrun has started, that another attempt would end with the same error."""
    if error_file := os.environ.get("TORCHELASTIC_ERROR_FILE"):
        Path(error_file).write_text(json.dumps({"message": str(error), "timestamp": int(time.time())}))
