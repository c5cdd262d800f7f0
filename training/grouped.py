"""Grouped convolutions computed as dense ones with block-diagonal weights, where that is faster.

A GPU's matrix units multiply all the zeros in less time than its kernels for a few small groups need without them. A
zero times a finite value adds nothing: the sums are the same, in an order that a library chooses anyway.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MOST_GROUPS = 8  # up to here dense should be faster, in bfloat16 on a GPU; `python -m benchmarks gpu` measures it


def use_dense(model: nn.Module) -> None:
    """Let the grouped convolutions of a model call `conv2d`; its parameters and their names do not change.

    These are every grouped `nn.Conv2d`, and every module whose attribute `conv2d` is PyTorch's function.
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and module.groups > 1 and module.padding_mode == "zeros":
            module.__class__ = DenseConv2d
        elif getattr(module, "conv2d", None) is F.conv2d:  # not a child of that name
            module.conv2d = conv2d  # type: ignore[assignment]


class DenseConv2d(nn.Conv2d):
    """A convolution that calls `conv2d`."""

    def forward(self, input: Tensor) -> Tensor:
        """The result of `nn.Conv2d`."""
        return conv2d(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | tuple[int, ...] = 1,
    padding: int | tuple[int, ...] | str = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
) -> Tensor:
    """`torch.nn.functional.conv2d`, dense where that is faster."""
    if is_faster_dense(weight, groups):
        weight, groups = block_diagonal(weight, groups), 1
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def is_faster_dense(weight: Tensor, groups: int) -> bool:
    """Whether a convolution with weights [out, in / groups, h, w] is faster as a dense one."""
    measured = weight.is_cuda and torch.is_autocast_enabled("cuda")  # validation, without autocast, was not
    return measured and 1 < groups <= MOST_GROUPS and weight.shape[1] > 1


def block_diagonal(weight: Tensor, groups: int) -> Tensor:
    """The dense weights [out, in, h, w] of a grouped convolution with weights [out, in / groups, h, w]."""
    blocks = weight.unflatten(0, (groups, -1)).movedim(0, -1)  # [out / groups, in / groups, h, w, groups]
    return torch.diag_embed(blocks, dim1=0, dim2=2).flatten(0, 1).flatten(1, 2)
