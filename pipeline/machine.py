"""This process as `execution` of params.yaml wants it: device, threads, algorithms."""

import ctypes
import os

import torch

from pipeline.params import Execute


def prepare(wanted: Execute) -> torch.device:
    """Set PyTorch's threads and algorithms for this process; gives the device to work on, torchrun's for this process.

    Raises:
        ValueError: If execution.device is not there.
    """
    keep_memory()
    torch.set_num_threads(wanted.threads)
    fastest = {"auto": wanted.device == "cuda", "fastest": True, "deterministic": False}[wanted.algorithms]
    torch.use_deterministic_algorithms(not fastest)
    torch.backends.cudnn.allow_tf32 = False  # but in training steps that ask for it: scores and integers are exact
    # nothing here reads what it has not written; PyTorch makes this attribute as it runs
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if wanted.device == "cpu":
        return torch.device("cpu")
    number, there = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= there:
        raise ValueError(
            f"execution.device is cuda, but PyTorch finds {there} CUDA devices here, and {number + 1} are needed; "
            "set execution.device to cpu, or processes lower"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def keep_memory() -> None:
    """Let malloc use again what a batch has freed: fresh pages for each large tensor cost more than its sums.

    Of the GNU C library (mallopt(3)); others do as they do.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        trim_threshold, mmap_threshold, most = -1, -3, 2**31 - 1
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, most)
