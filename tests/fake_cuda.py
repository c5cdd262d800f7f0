"""A GPU that computes nothing: PyTorch's fake tensors for CUDA, which have devices, shapes and types, but no values.

A tensor left on the CPU, types that do not fit, and reading a value of the GPU in Python are errors; on a real GPU they
are errors or cost a wait. The kernels and the backward pass need a real GPU.
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
    """A block in which new tensors are fake; bf16 and the events of a stream are supported."""
    stream = SimpleNamespace(record_event=lambda: SimpleNamespace(synchronize=lambda: None))
    # timm's averages have a random generator on the device, which needs a driver
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
    """`module.to("cuda")` for a block of `fake_cuda`, in which PyTorch's own fails; it spoils the module."""

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
