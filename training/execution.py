"""How a training step is computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from training.grouped import use_dense

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
BITS = {"AVX2": 256, "AVX512": 512}  # of a vector
SHAPES = 64  # input shapes for which a step may be compiled: one for each of train.sizes


@dataclass(frozen=True)
class Execution:
    """How a training step is computed.

    Attributes:
        precision: "tf32", "bf16" and "fp16" convolve with fewer bits than "float32".
        compile: whether torch.compile compiles the network.
        dense_groups: whether grouped convolutions are computed as dense ones where `training.grouped` finds it faster.
    """

    precision: Literal["float32", "tf32", "bf16", "fp16"] = "float32"
    compile: bool = False
    dense_groups: bool = False

    def of(self, network: nn.Module) -> Any:
        """`network` as a callable that computes it in this way; parameters and their names do not change."""
        if self.dense_groups:
            use_dense(network)
        if not self.compile:
            return network
        torch._inductor.config.deterministic = torch.are_deterministic_algorithms_enabled()
        # PyTorch's cache of compiled graphs tells these settings apart, but not ATEN_CPU_CAPABILITY: without this, the
        # vectors of a graph that another process has left there may be wider than those that this process compiles
        torch._inductor.config.cpp.simdlen = BITS.get(torch.backends.cpu.get_cpu_capability())
        torch._dynamo.config.recompile_limit = SHAPES  # an argument of compile only since PyTorch 2.13
        return torch.compile(network, dynamic=False)

    def autocast(self, device: torch.device) -> torch.autocast:
        """A block in which PyTorch chooses between this precision and float32 for each operation."""
        return torch.autocast(device.type, AUTOCAST.get(self.precision), enabled=self.precision in AUTOCAST)

    @contextmanager
    def active(self) -> Iterator[None]:
        """A block with TF32 unless in float32, and with cuDNN's fastest kernels unless they must be deterministic."""
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
        cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
        cudnn.allow_tf32 = matmul.allow_tf32 = self.precision != "float32"
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


PLAIN = Execution()
