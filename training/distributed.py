"""Several processes that train one model: what they exchange besides gradients.

torchrun starts the processes, and PyTorch's DistributedDataParallel averages their gradients.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from storage.errors import InputError


class Group:
    """The processes of a training run, by default this one alone.

    Attributes:
        rank: Number of this process; rank 0 writes the files.
        size: Number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1):
        self.rank = rank
        self.size = size

    def wrap(self, model: nn.Module) -> nn.Module:
        """`model` with gradients averaged over all processes; buffers are not, see `share_buffers`."""
        if self.size == 1:
            return model
        # for 1x1 kernels both memory formats are the same bytes
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        network = DistributedDataParallel(model)
        network.broadcast_buffers = False  # as an argument it has another name in each version of PyTorch
        return network

    def maximum(self, number: int) -> int:
        """The largest `number` over all processes."""
        if self.size == 1:
            return number
        tensor = torch.tensor(number)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors of all processes by rank, on the CPU; their shapes may differ."""
        if self.size == 1:
            return [tensor.cpu()]
        tensors: list[Tensor] = [tensor] * self.size
        dist.all_gather_object(tensors, tensor.cpu())
        return tensors

    def from_first(self, contents: bytes | None) -> bytes | None:
        """Rank 0's `contents`."""
        if self.size == 1:
            return contents
        objects = [contents]
        dist.broadcast_object_list(objects, src=0)
        return objects[0]

    def share_buffers(self, model: nn.Module) -> None:
        """Give every process rank 0's buffers, such as BatchNorm's statistics."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, src=0)


def own_rank(processes: int) -> int:
    """The number of this process among `processes` that torchrun has started; 0 if this is not one of them.

    Raises:
        InputError: If torchrun's variables are incomplete or impossible, or if it has started another number.
    """
    if not {"RANK", "WORLD_SIZE"} & os.environ.keys():
        return 0
    rank, size = _number("RANK"), _number("WORLD_SIZE")
    if size != processes:
        raise InputError(f"torchrun has started {size} processes, but `processes` is {processes}")
    if rank >= size:
        raise InputError(f"RANK is {rank}, must be below WORLD_SIZE, which is {size}")
    if size > 1:
        _variable("MASTER_ADDR"), _number("MASTER_PORT")
    return rank


def local_rank() -> int:
    """The number of this process on its machine, which is that of its GPU.

    Raises:
        InputError: If torchrun's variable LOCAL_RANK is missing or no number.
    """
    return _number("LOCAL_RANK") if {"RANK", "LOCAL_RANK"} & os.environ.keys() else 0


def _number(name: str) -> int:
    text = _variable(name)
    if not (text.isascii() and text.isdecimal()):
        raise InputError(f"{name} is {text!r} in the environment, must be a number, as torchrun sets it")
    return int(text)


def _variable(name: str) -> str:
    if name not in os.environ:
        raise InputError(f"{name} is not in the environment, but others of torchrun's variables are; unset them")
    return os.environ[name]


@contextmanager
def joined(processes: int, device: torch.device) -> Iterator[Group]:
    """The group of processes that torchrun has started; it exists while the block runs.

    Raises:
        InputError: As `own_rank`.
    """
    own_rank(processes)
    if processes == 1:
        yield Group()
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    with ExitStack() as stack:
        stack.callback(dist.destroy_process_group)
        try:
            yield Group(dist.get_rank(), dist.get_world_size())
        except Exception:
            stack.pop_all()  # keep the group open, so that peers do not fail before this error is reported
            raise
