"""The machine as params.yaml wants it: threads, device, deterministic algorithms."""

import torch

from stages.params import Machine


def prepare(machine: Machine) -> torch.device:
    """Set PyTorch's threads and deterministic algorithms for this process; gives the device to work on.

    Raises:
        ValueError: If machine.device is not there.
    """
    if machine.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("machine.device is cuda, but PyTorch finds no CUDA device here; set machine.device to cpu")
    torch.set_num_threads(machine.threads)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it has not written
    return torch.device(machine.device)
