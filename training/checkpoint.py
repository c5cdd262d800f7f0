"""Checkpoints for going on after an interruption: outside the tracked outputs, one folder for each distinct run."""

import hashlib
import json
import os
from pathlib import Path

import torch


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


class Checkpoint:
    """The state of one run in one file, replaced atomically."""

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "checkpoint.pt"

    def save(self, state: dict) -> None:
        """Write `state`: tensors, numbers, strings, lists and dicts of them; whole or not at all.

        Raises:
            OSError: If the file cannot be written.
        """
        partial = self.path.with_suffix(".partial")
        try:
            with partial.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            raise OSError(f"cannot write {self.path}: {error}") from None
        finally:
            partial.unlink(missing_ok=True)

    def load(self) -> dict | None:
        """The saved state on the CPU, or None where no run has been interrupted.

        Raises:
            ValueError: If the file is not one that `save` wrote, or not whole.
        """
        if not self.path.exists():
            return None
        with self.path.open("rb") as file:
            try:
                return torch.load(file, map_location="cpu", weights_only=True)
            except Exception:  # what a damaged file makes PyTorch raise has no common class
                raise ValueError(f"{self.path} is damaged: remove it, and the run starts again") from None
