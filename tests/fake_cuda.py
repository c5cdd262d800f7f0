"""A GPU that computes nothing: PyTorch's fake tensors for CUDA, which have devices, shapes and types, but no values.

A tensor left on the CPU, types that do not fit, and a value that Python asks a GPU for are errors, as they are, or cost
a wait, on a real one. Its kernels, and the backward pass, take a real one.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from unittest import mock

import timm.utils.model_ema
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

CUDA = torch.device("cuda", 0)


@contextmanager
def fake_cuda() -> Iterator[None]:
    """Tensors made in the block are fake; bf16 may be asked for, and events of a stream."""
    stream = SimpleNamespace(record_event=lambda: SimpleNamespace(synchronize=lambda: None))
    # timm's averages have a generator of random numbers, on the device, that takes a driver
    timms = SimpleNamespace(**vars(torch) | {"Generator": lambda device: torch.Generator()})
    with ExitStack() as stack:
        for place, name, value in (
            (torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
            (torch.cuda, "is_bf16_supported", lambda: True),
            (torch.cuda, "current_stream", lambda: stream),
            (timm.utils.model_ema, "torch", timms),
        ):
            stack.enter_context(mock.patch.object(place, name, value))
        stack.enter_context(mock.patch.object(FakeTensorMode, "__deepcopy__", lambda mode, memo: mode, create=True))
        stack.enter_context(FakeTensorMode())
        yield


def moved(module: nn.Module) -> nn.Module:
    """`module.to("cuda")`, in a block of `fake_cuda`, where PyTorch itself cannot; it is of no use after that."""

    def to(memory_format: torch.memory_format = torch.contiguous_format) -> nn.Module:
        for part in module.modules():
            for name, value in part.named_parameters(recurse=False):
                layout = {"memory_format": memory_format} if value.dim() == 4 else {}
                there = torch.empty(value.shape, dtype=value.dtype, device=CUDA, **layout)
                part.register_parameter(name, nn.Parameter(there, requires_grad=value.requires_grad))
            for name, value in part.named_buffers(recurse=False):
                setattr(part, name, torch.empty(value.shape, dtype=value.dtype, device=CUDA))
        return module

    module.to = to
    return to()
