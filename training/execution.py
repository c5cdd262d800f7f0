"""How a training step is computed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from training.grouped import use_dense

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
SHAPES = 64  # of pictures for which a step may be compiled: one for each of train.sizes


@dataclass(frozen=True)
class Execution:
    """How a training step is computed.

    Attributes:
        precision: "tf32", "bf16" and "fp16" convolve with fewer bits.
        compile: by torch.compile.
        dense_groups: grouped convolutions as dense ones, where `training.grouped` knows that to be faster.
    """

    precision: Literal["float32", "tf32", "bf16", "fp16"] = "float32"
    compile: bool = False
    dense_groups: bool = False

    def of(self, network: nn.Module) -> Any:
        """A network as it is computed; its parameters, and their names, stay as they are."""
        if self.dense_groups:
            use_dense(network)
        if not self.compile:
            return network
        torch._dynamo.config.recompile_limit = SHAPES  # an argument of compile only since PyTorch 2.13
        return torch.compile(network, dynamic=False)

    def autocast(self, device: torch.device) -> torch.autocast:
        """In the block, types are PyTorch's choice from this precision and float32."""
        return torch.autocast(device.type, AUTOCAST.get(self.precision), enabled=self.precision in AUTOCAST)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Outside of the block, nothing is computed with fewer bits, or by whatever cuDNN finds to be fastest."""
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        before = cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32
        cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
        cudnn.allow_tf32 = matmul.allow_tf32 = self.precision != "float32"
        try:
            yield
        finally:
            cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = before


PLAIN = Execution()
