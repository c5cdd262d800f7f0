"""Prepares this process as `execution` of params.yaml describes it: device, threads, algorithms."""

import ctypes

import torch

from pipeline.params import Execute
from storage.errors import InputError
from training.distributed import local_rank


def prepare(wanted: Execute) -> torch.device:
    """Set PyTorch's threads and algorithms, and return the device of this process (the GPU LOCAL_RANK under torchrun).

    Raises:
        InputError: If execution.device is not available, or LOCAL_RANK is not a number.
    """
    keep_memory()
    torch.set_num_threads(wanted.threads)
    fastest = {"auto": wanted.device == "cuda", "fastest": True, "deterministic": False}[wanted.algorithms]
    # as use_deterministic_algorithms, which imports torch._inductor: 2 seconds, and only compiled steps need it
    torch.set_deterministic_debug_mode("default" if fastest else "error")
    torch.backends.cudnn.allow_tf32 = False  # only training steps may ask for it: scores and integers are exact
    # no code here reads memory that it has not written; PyTorch makes this attribute at run time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if wanted.device == "cpu":
        return torch.device("cpu")
    number, available = local_rank(), torch.cuda.device_count()
    if number >= available:
        raise InputError(
            f"execution.device is cuda, but PyTorch finds {available} CUDA devices here, and {number + 1} are needed; "
            "set execution.device to cpu, or processes lower"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def keep_memory() -> None:
    """Let malloc reuse the memory of the last batch: fresh pages for a large tensor cost more time than its sums.

    It sets options of the GNU C library (mallopt(3)); other libraries stay as they are.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        trim_threshold, mmap_threshold, most = -1, -3, 2**31 - 1
        mallopt(mmap_threshold, 2**30)
        mallopt(trim_threshold, most)
