"""VarGConvNet: residual blocks of group convolutions whose number of groups grows with depth.

Structure: the VarGConvNet of Horizon's classification tutorial, after VarGNet (https://arxiv.org/abs/1907.05653).
Module names are readable paths (`stages.0.1.conv2.group.conv`), because they name the tensors of the int8 program.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, cast

from torch import Tensor, nn

from storage.errors import InputError
from storage.printable import printable

CHANNELS, HEAD_WIDTH = (64, 96, 128, 160, 320), 1024


class VarGConvNet(nn.Module):
    """Deep stem, stages of residual blocks, and a head of 1x1 convolutions around a global average pool.

    Args:
        channels: output channels of the stem and of each stage; the stem's must be even.
        repeats: blocks in each stage.
        groups: groups of the group convolutions in each stage; the first one has half as many, at least one.
        strides: stride of each stage, taken by its first block.
        stem_strides: strides of the stem's three 3x3 convolutions.
        factor: expansion of every group convolution.
        head_width: channels that are average-pooled.
        num_classes: number of logits.
        in_chans: channels of the input.
        img_size: height and width of the input in pixels; `forward` takes any multiple of the stride.

    Raises:
        InputError: if lengths disagree, a value is not a positive integer, channels cannot be split into the groups,
            or `img_size` is not a multiple of the total stride.

    Attributes:
        total_stride: pixels of the input per pixel of the last feature map, in each direction.
    """

    def __init__(
        self,
        channels: Sequence[int] = CHANNELS,
        repeats: Sequence[int] = (2, 3, 6, 4),
        groups: Sequence[int] = (1, 2, 4, 8),
        strides: Sequence[int] = (2, 2, 2, 2),
        stem_strides: Sequence[int] = (2, 1, 1),
        factor: int = 2,
        head_width: int = HEAD_WIDTH,
        num_classes: int = 1000,
        in_chans: int = 3,
        img_size: int = 224,
    ):
        super().__init__()
        _check_list("repeats", repeats)
        _check_list("channels", channels, len(repeats) + 1)
        _check_list("groups", groups, len(repeats))
        _check_list("strides", strides, len(repeats))
        _check_list("stem_strides", stem_strides, 3)
        scalars = {"factor": factor, "head_width": head_width, "num_classes": num_classes, "in_chans": in_chans}
        for name, value in {**scalars, "img_size": img_size}.items():
            _check_positive(name, value)
        if channels[0] % 2:
            raise InputError(f"channels[0] must be even, the stem starts with half as many: got {channels[0]}")
        self.num_classes = num_classes
        self.total_stride = prod(stem_strides) * prod(strides)
        if img_size % self.total_stride:
            allowed = f"must be a multiple of {self.total_stride}, the network's total stride"
            raise InputError(f"img_size (input.size) {img_size} is not allowed, {allowed}")

        half = channels[0] // 2
        self.stem = nn.Sequential(
            conv_bn(in_chans, half, 3, stem_strides[0], relu=True),
            conv_bn(half, half, 3, stem_strides[1], relu=True),
            conv_bn(half, channels[0], 3, stem_strides[2], relu=True),
        )
        sizes = zip(channels[:-1], channels[1:], repeats, groups, strides, strict=True)
        self.stages = nn.Sequential(*(stage(*size, factor) for size in sizes))
        self.head = nn.Sequential(
            OrderedDict(
                hidden=conv_bn(channels[-1], head_width, relu=True),
                pool=nn.AdaptiveAvgPool2d(1),
                classifier=conv_bn(head_width, num_classes),
                flatten=nn.Flatten(),
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(cast(Tensor, module.bias))

    def feature_maps(self, x: Tensor) -> list[Tensor]:
        """Output of the stem and of each stage, at strides 2, 4, 8, 16 and 32 in the ImageNet configuration.

        Args:
            x: float [N, in_chans, H, W], H and W multiples of the total stride.

        Raises:
            InputError: for another H or W, because the shortcut's pooling and the convolution would round differently.
        """
        height, width = x.shape[-2:]
        if height % self.total_stride or width % self.total_stride:
            raise InputError(
                f"input of {height}x{width} is not a multiple of the network's total stride {self.total_stride}"
            )
        maps = [self.stem(x)]
        for blocks in self.stages:
            maps.append(blocks(maps[-1]))
        return maps

    def forward(self, x: Tensor) -> Tensor:
        """Logits [N, num_classes] of images [N, in_chans, H, W]; raises as `feature_maps` does."""
        return self.head(self.feature_maps(x)[-1])


class Block(nn.Module):
    """Two separable group convolutions and a shortcut, added without an activation after it.

    Args:
        kernel: side of the first group convolution; the second is 3x3.
        groups: groups of the first and of the second group convolution.
        stride: stride of the first group convolution and of the shortcut.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: int,
        groups: tuple[int, int],
        kernel: int = 3,
        stride: int = 1,
    ):
        super().__init__()
        self.conv1 = separable_conv(in_channels, out_channels, factor, kernel, groups[0], stride)
        self.conv2 = separable_conv(out_channels, out_channels, factor, 3, groups[1])
        if stride == 1 and in_channels == out_channels:
            self.shortcut: nn.Module = nn.Identity()
        else:
            pool = {"pool": nn.AvgPool2d(stride)} if stride > 1 else {}
            self.shortcut = nn.Sequential(
                OrderedDict(**pool, conv=nn.Conv2d(in_channels, out_channels, 1), bn=nn.BatchNorm2d(out_channels))
            )

    def forward(self, x: Tensor) -> Tensor:
        """[N, in_channels, H, W] to [N, out_channels, H / stride, W / stride]."""
        return self.conv2(self.conv1(x)) + self.shortcut(x)


def stage(in_channels: int, out_channels: int, repeats: int, groups: int, stride: int, factor: int) -> nn.Sequential:
    """Blocks of one resolution; the first has the stride, the new channels and a 5x5 convolution of half the groups."""
    first = Block(in_channels, out_channels, factor, (max(groups // 2, 1), groups), kernel=5, stride=stride)
    others = (Block(out_channels, out_channels, factor, (groups, groups)) for _ in range(repeats - 1))
    return nn.Sequential(first, *others)


def separable_conv(
    in_channels: int, out_channels: int, factor: int, kernel: int, groups: int, stride: int = 1
) -> nn.Sequential:
    """Group convolution that widens by `factor`, BN, ReLU; then a 1x1 convolution and BN."""
    if in_channels % groups:
        raise InputError(f"{in_channels} channels cannot be split into {groups} groups")
    width = in_channels * factor
    group = conv_bn(in_channels, width, kernel, stride, groups, relu=True)
    return nn.Sequential(OrderedDict(group=group, point=conv_bn(width, out_channels)))


def conv_bn(
    in_channels: int, out_channels: int, kernel: int = 1, stride: int = 1, groups: int = 1, relu: bool = False
) -> nn.Sequential:
    """Convolution with bias and half-kernel padding, BatchNorm and, if asked for, ReLU."""
    layers = OrderedDict(
        conv=nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups),
        bn=nn.BatchNorm2d(out_channels),
    )
    if relu:
        layers["relu"] = nn.ReLU()
    return nn.Sequential(layers)


def _width(factor: float) -> dict[str, Any]:
    return {"channels": tuple(int(factor * width) for width in CHANNELS), "head_width": int(factor * HEAD_WIDTH)}


# The configurations by model.name, without timm's registry: the import of timm takes as long as that of PyTorch.
VARGCONVNETS: dict[str, Callable[..., VarGConvNet]] = {
    "vargconvnet": VarGConvNet,  # for ImageNet, 224x224: 9.43 M parameters, 4.53 G multiply-accumulates
    "vargconvnet_075": partial(VarGConvNet, **_width(0.75)),  # 5.51 M parameters, 2.55 G multiply-accumulates
    "vargconvnet_050": partial(VarGConvNet, **_width(0.5)),  # 2.63 M parameters, 1.14 G multiply-accumulates
    "vargconvnet_025": partial(VarGConvNet, **_width(0.25)),  # 0.79 M parameters, 0.29 G multiply-accumulates
    "vargconvnet_32": partial(  # 32x32: one block per stage, no stride in the stem, 0.44 M parameters with 10 classes
        VarGConvNet,
        channels=(16, 24, 32, 64, 128),
        repeats=(1, 1, 1, 1),
        stem_strides=(1, 1, 1),
        head_width=1152,
        img_size=32,
    ),
}


def _check_list(name: str, values: Sequence[int], length: int | None = None) -> None:
    if not isinstance(values, list | tuple) or (length is not None and len(values) != length):
        raise InputError(f"{name} must be a list of {length or 'positive'} integers: got {printable(repr(values))}")
    for i, value in enumerate(values):
        _check_positive(f"{name}[{i}]", value)


def _check_positive(name: str, value: int) -> None:
    if type(value) is not int or value < 1:
        raise InputError(f"{name} must be a positive integer: got {printable(repr(value))}")
