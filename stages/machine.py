"""The machine as params.yaml wants it: threads, device, deterministic algorithms."""

import ctypes

import torch

from stages.params import Machine


def prepare(machine: Machine) -> torch.device:
    """Set PyTorch's threads and deterministic algorithms for this process; gives the device to work on.

    Raises:
        ValueError: If machine.device is not there.
    """
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("machine.device is cuda, but PyTorch finds no CUDA device here; set machine.device to cpu")
    keep_memory()
    torch.set_num_threads(machine.threads)
    torch.use_deterministic_algorithms(True)
    # nothing here reads what it has not written; PyTorch makes this attribute as it runs
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    return torch.device(machine.device)


def keep_memory() -> None:
    """Let malloc use again what a batch has freed: fresh pages for each large tensor cost more than its sums.

    Of the GNU C library (mallopt(3)); others do as they do.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        trim_threshold, mmap_threshold, most = -1, -3, 2**31 - 1
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, most)
