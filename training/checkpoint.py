"""Checkpoints from which an interrupted run resumes: outside the tracked outputs, one folder per distinct run."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, cast

import torch
from torch import Tensor

from storage.errors import InputError, cannot_write
from storage.files import sync, whole_file
from storage.sealed import SealedWriter, is_whole
from training.distributed import Group
from training.figures import Row

ADVICE = ": remove it, and the run resumes from the checkpoint before it, or starts again"


class State(TypedDict):
    """The state of a run between two steps.

    Attributes:
        epoch: the current epoch.
        done: steps of `epoch` that are done.
        totals: sums of their losses and correct images, float64 [processes, 2].
        model: the weights that are trained.
        scored: the weights that are validated and saved: those of `model`, or their average.
        is_best: whether the epoch that has just ended has the best score so far.
        about: a description for those who find the file.
    """

    epoch: int
    done: int
    totals: Tensor
    model: dict[str, Tensor]
    scored: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    schedule: dict[str, Any]
    history: list[Row]
    is_best: bool
    about: Mapping[str, Any]


def run_key(**parts: object) -> str:
    """The name of the run that `parts` determine: its parameters, and the digests of its inputs and of its code.

    Another learning rate, another database or other code gives another name, so no run resumes from a wrong state.

    Args:
        parts: JSON values.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def digest_files(paths: list[Path]) -> str:
    """The SHA-256 of the bytes of all files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def write_state(file: BinaryIO, state: State) -> None:
    """Write a checkpoint, which ends with the digest of its contents: PyTorch's own reader passes over damage."""
    sealed = SealedWriter(file)
    torch.save(state, cast(BinaryIO, sealed))  # which needs no more than write and flush
    sealed.seal()


def read_state(contents: bytes, path: Path, advice: str = ", or no checkpoint of this version") -> State:
    """The state in the contents of a checkpoint, with tensors on the CPU; code in them is not run.

    Args:
        path: The file that is named in errors.
        advice: What follows on "is damaged".

    Raises:
        InputError: If the contents are not those that `write_state` wrote.
    """
    if not is_whole(contents):
        raise InputError(f"{path} is damaged{advice}")
    try:
        return cast(State, torch.load(io.BytesIO(contents), map_location="cpu", weights_only=True))
    except MemoryError:
        raise
    except Exception as error:  # PyTorch's errors have no common class
        raise InputError(f"{path} cannot be read as a checkpoint: {' '.join(str(error).split())[:200]}") from None


class Checkpoints:
    """The latest states of one run, step_<steps done>.pt, and the best one, best.pt; each file is whole or absent.

    Rank 0 writes and reads them, so other processes may be on machines without the folder.

    Args:
        folder: The folder of this run.
        count: Number of latest states that stay.
        group: The processes of the run.
    """

    def __init__(self, folder: Path, count: int = 1, group: Group | None = None):
        self.folder = folder
        self.count = count
        self.group = group or Group()
        self.best = folder / "best.pt"

    def save(self, done: int, state: State) -> None:
        """Write the state after `done` steps of the run.

        Raises:
            OSError: If the file cannot be written.
        """
        if self.group.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{done:08d}.pt"
        partial = self.folder / "state.partial"  # always this name, so that the next save overwrites what a kill leaves
        try:
            with partial.open("wb") as file:
                write_state(file, state)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            sync(self.folder)
        except (OSError, RuntimeError) as error:  # PyTorch's writer wraps the error of a full disk
            reason = error if isinstance(error, OSError) else error.__context__ or error
            raise cannot_write(path, reason) from None
        finally:
            partial.unlink(missing_ok=True)
        if state["is_best"]:
            self._copy_to_best(path)
        for old in self._states()[: -self.count]:
            old.unlink()

    def load(self) -> State | None:
        """The newest state; None if there is none.

        Raises:
            InputError: If the file is damaged.
        """
        path = next(reversed(self._states()), None) if self.group.rank == 0 else None
        contents = self.group.from_first(path.read_bytes() if path else None)
        if contents is None:
            return None
        state = read_state(contents, path or self.folder, ADVICE)
        if path and state["is_best"]:  # the run may have been stopped before it was copied
            self._copy_to_best(path)
        return state

    def load_best(self) -> State:
        """The state after the epoch with the best score; for rank 0 only.

        Raises:
            InputError: If the file is missing or damaged.
        """
        if not self.best.exists():
            raise InputError(f"{self.best} is missing: remove {self.folder}, and the run starts again")
        return read_state(self.best.read_bytes(), self.best, ADVICE)

    def _states(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.pt"))

    def _copy_to_best(self, path: Path) -> None:
        with whole_file(self.best, durable=True) as partial:
            shutil.copyfile(path, partial)
