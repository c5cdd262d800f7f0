"""Folders that last as long as an object of this process, also if the process is killed."""

import fcntl
import os
import shutil
import tempfile
import weakref
from contextlib import suppress
from pathlib import Path

PREFIX = "c_model_"


def own_folder(owner: object, parent: str | Path | None) -> Path:
    """A new folder in `parent`, or in the system's temporary folder, for as long as `owner` lives.

    In `parent`, the folders of processes that were killed are removed first: a process holds a lock on the file `lock`
    in each of its folders, which the system takes back when the process ends.

    Raises:
        OSError: If the folder cannot be made.
    """
    if parent is None:
        folder = tempfile.mkdtemp(prefix=PREFIX)
        weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)
    Path(parent).mkdir(parents=True, exist_ok=True)
    with Path(parent, f"{PREFIX}lock").open("w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)  # nobody shall find the new folder before it is locked
        for left in Path(parent).glob(f"{PREFIX}*/"):
            with suppress(BlockingIOError, FileNotFoundError), Path(left, "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
        held = os.open(Path(folder, "lock"), os.O_CREAT | os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX)
    weakref.finalize(owner, _remove, folder, held)
    return Path(folder)


def _remove(folder: str, held: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(held)
