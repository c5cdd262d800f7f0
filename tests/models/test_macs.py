from pathlib import Path

import pytest
import torch
from torch import nn

from models.macs import LayerCost, count_operations
from models.registry import create_model


def test_imagenet_configuration():
    operations = count_operations(create_model("vargconvnet", None, 224, {}), (1, 3, 224, 224))
    assert operations.macs == 4_529_081_856
    assert operations.params == 9_434_328
    assert operations.uncounted == {
        "aten::adaptive_avg_pool2d": 1,
        "aten::add": 15,
        "aten::avg_pool2d": 4,
        "aten::batch_norm": 69,
        "aten::relu": 34,
    }
    multiplying = [layer for layer in operations.layers if layer.macs]
    assert len(multiplying) == 69
    assert {layer.type for layer in multiplying} == {"Conv2d"}
    assert sum(layer.macs for layer in multiplying) == operations.macs
    assert sum(layer.params for layer in operations.layers) == operations.params
    assert operations.layers[0] == LayerCost("stem.0.conv", "Conv2d", 112 * 112 * 32 * 27, 32 * 27 + 32)


def by_hand(share: float) -> tuple[int, int]:
    """Multiply-accumulates and parameters of VarGConvNet with a `share` of the published channels."""
    stem, *after = (int(share * width) for width in (64, 96, 128, 160, 320))
    half, head = stem // 2, int(share * 1024)
    # of each convolution: side of its output, weights, biases
    layers = [(112, 27 * half, half), (112, 9 * half * half, half), (112, 9 * half * stem, stem)]
    before = stem
    for out, repeats, groups, side in zip(after, (2, 3, 6, 4), (1, 2, 4, 8), (56, 28, 14, 7), strict=True):
        layers += [(side, 25 * before * 2 * before // max(groups // 2, 1), 2 * before), (side, 2 * before * out, out)]
        layers += [(side, 9 * out * 2 * out // groups, 2 * out), (side, 2 * out * out, out)] * (2 * repeats - 1)
        layers += [(side, before * out, out)]  # the shortcut, after its pool
        before = out
    layers += [(7, before * head, head), (1, head * 1000, 1000)]
    macs = sum(side * side * weights for side, weights, _ in layers)
    return macs, sum(weights + 3 * biases for _, weights, biases in layers)  # and BatchNorm's scale and shift


def test_widths_of_vargconvnet_are_those_of_the_documentation():
    lines = (Path(__file__).parents[2] / "docs" / "networks.md").read_text().splitlines()
    rows = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| `vargconvnet")]
    assert [row[0] for row in rows] == ["vargconvnet", "vargconvnet_075", "vargconvnet_050", "vargconvnet_025"]
    for (name, channels, head, macs, params), share in zip(rows, (1, 0.75, 0.5, 0.25), strict=True):
        operations = count_operations(create_model(name, None, 224, {}), (1, 3, 224, 224))
        assert (operations.macs, operations.params) == by_hand(share)
        assert (f"{operations.macs:,}", f"{operations.params:,}") == (macs, params)
        model = create_model(name, None, 224, {})
        widths = [model.stem[-1], *(stage[-1].conv2.point for stage in model.stages), model.head.hidden]
        assert ", ".join(str(layer.conv.out_channels) for layer in widths) == f"{channels}, {head}"


class Product(nn.Module):
    """A module that multiplies in its own forward and has a submodule."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8, 4))
        self.linear = nn.Linear(4, 8)

    def forward(self, x):
        return torch.exp(self.linear(x)).clamp(0, 1) @ self.scale


def test_a_modules_own_operations_are_listed_apart_from_its_submodules():
    operations = count_operations(nn.Sequential(nn.Flatten(2), Product()), (1, 3, 2, 2))
    assert operations.layers == [
        LayerCost("1", "Product", 3 * 8 * 4, 32),
        LayerCost("1.linear", "Linear", 3 * 4 * 8, 40),
    ]
    assert operations.uncounted == {"aten::clamp": 1, "aten::exp": 1}


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 3, 0, 32), (3, 32, 32)])
def test_refuses_what_is_not_one_image(shape):
    with pytest.raises(ValueError, match="must be 1,channels,height,width"):
        count_operations(nn.Flatten(), shape)


def test_refuses_a_shape_that_the_model_does_not_take():
    with pytest.raises(ValueError, match=r"does not take an input of shape \(1, 1, 8, 8\): .* to have 3 channels"):
        count_operations(nn.Conv2d(3, 4, 1), (1, 1, 8, 8))


class Shared(nn.Module):
    """Two names of a block, and one weight in two layers."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.ReLU())
        self.second = self.first
        self.one, self.two = nn.Linear(12, 12), nn.Linear(12, 12, bias=False)
        self.two.weight = self.one.weight

    def forward(self, x):
        return self.two(self.one(self.second(self.first(x)).flatten(1)))


def test_shared_weights_are_counted_once_and_multiply_each_time():
    operations = count_operations(Shared(), (1, 3, 2, 2))
    assert operations.params == 81 + 12 * 13
    assert operations.layers == [
        LayerCost("first.0", "Conv2d", 2 * 4 * 81, 81),
        LayerCost("one", "Linear", 144, 12 * 13),
        LayerCost("two", "Linear", 144, 0),
    ]
    assert operations.macs == 2 * 4 * 81 + 2 * 144


def test_names_with_slashes_are_names():
    model = nn.Sequential()
    model.add_module("conv/3x3", nn.Sequential(nn.Conv2d(3, 2, 3)))
    model.add_module("3x3", nn.Conv2d(2, 1, 1))
    layers = count_operations(model, (1, 3, 5, 5)).layers
    assert [(layer.name, layer.macs) for layer in layers] == [("conv/3x3.0", 9 * 9 * 3 * 2), ("3x3", 9 * 2)]
