"""Checkpoints for going on after an interruption: outside the tracked outputs, one folder for each distinct run."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, cast

import torch
from torch import Tensor

from training.distributed import Group
from training.figures import Row


class State(TypedDict):
    """What a run goes on from, after any step.

    `epoch` is under way, and `done` of its steps have been; `totals` of its losses and correct pictures are float64
    [processes, 2]. `model` is trained; `kept` is scored: the same, or the average of its weights. `is_best` says that
    no epoch before had such a score. `about` is for those who find the file.
    """

    epoch: int
    done: int
    totals: Tensor
    model: dict[str, Tensor]
    kept: dict[str, Tensor]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    schedule: dict[str, Any]
    history: list[Row]
    is_best: bool
    about: Mapping[str, Any]


def run_key(**parts: object) -> str:
    """A name for the run that `parts` determine: its parameters, the digests of its inputs and of its code.

    Another learning rate, another database or other code gives another name, so no run goes on from the wrong state.

    Args:
        parts: Values that JSON can express.
    """
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def digest_files(paths: list[Path]) -> str:
    """sha256 over the bytes of files, in the order of their names."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _parse(contents: bytes, path: Path) -> State:
    """The state in a checkpoint, tensors on the CPU; no code in it is run."""
    try:
        return cast(State, torch.load(io.BytesIO(contents), map_location="cpu", weights_only=True))
    except Exception:  # what a damaged file makes PyTorch raise has no common class
        raise ValueError(
            f"{path} is damaged: remove it, and the run goes on from the checkpoint before, or starts again"
        ) from None


class Checkpoints:
    """The last states of one run, and the best: step_<steps done>.pt and best.pt, each whole or not there.

    Rank 0 writes and reads them, so that the other processes of a run may be on machines without the folder.

    Args:
        folder: Of this run alone.
        kept: How many of the last states.
        group: The processes of the run.
    """

    def __init__(self, folder: Path, kept: int = 1, group: Group | None = None):
        self.folder = folder
        self.kept = kept
        self.group = group or Group()
        self.best = folder / "best.pt"

    def save(self, done: int, state: State) -> None:
        """Write the state after `done` steps of the whole run.

        Raises:
            OSError: If the file cannot be written.
        """
        if self.group.rank:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"step_{done:08d}.pt"
        partial = self.folder / "state.partial"  # one name, so that what a kill leaves of it is written over
        try:
            with partial.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            if state["is_best"]:
                self._copy_to_best(path)
        except (OSError, RuntimeError) as error:  # PyTorch's writer puts an error of its own upon that of a full disk
            reason = error if isinstance(error, OSError) else error.__context__ or error
            raise OSError(f"cannot write {path}: {reason}") from None
        finally:
            partial.unlink(missing_ok=True)
        for old in self._states()[: -self.kept]:
            old.unlink()

    def load(self) -> State | None:
        """The newest state, or None where no run has been interrupted.

        Raises:
            ValueError: If its file is damaged.
        """
        path = next(reversed(self._states()), None) if self.group.rank == 0 else None
        contents = self.group.from_first(path.read_bytes() if path else None)
        if contents is None:
            return None
        state = _parse(contents, path or self.folder)
        if path and state["is_best"]:  # the run may have been stopped before it was copied
            self._copy_to_best(path)
        return state

    def load_best(self) -> State:
        """The state after the epoch with the best score, on rank 0.

        Raises:
            ValueError: If its file is missing or damaged.
        """
        if not self.best.exists():
            raise ValueError(f"{self.best} is missing: remove {self.folder}, and the run starts again")
        return _parse(self.best.read_bytes(), self.best)

    def _states(self) -> list[Path]:
        return sorted(self.folder.glob("step_*.pt"))

    def _copy_to_best(self, path: Path) -> None:
        partial = self.best.with_suffix(".partial")
        shutil.copyfile(path, partial)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(self.best)
