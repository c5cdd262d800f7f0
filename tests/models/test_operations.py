import pytest
import torch
from torch import nn

from models import create_model
from models.operations import Layer, count_operations


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
    assert operations.layers[0] == Layer("stem.0.conv", "Conv2d", 112 * 112 * 32 * 27, 32 * 27 + 32)


class Product(nn.Module):
    """Multiplies in its own forward, beside a submodule."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8, 4))
        self.linear = nn.Linear(4, 8)

    def forward(self, x):
        return torch.exp(self.linear(x)).clamp(0, 1) @ self.scale


def test_a_modules_own_operations_are_listed_apart_from_its_submodules():
    operations = count_operations(nn.Sequential(nn.Flatten(2), Product()), (1, 3, 2, 2))
    assert operations.layers == [Layer("1", "Product", 3 * 8 * 4, 32), Layer("1.linear", "Linear", 3 * 4 * 8, 40)]
    assert operations.uncounted == {"aten::clamp": 1, "aten::exp": 1}


@pytest.mark.parametrize("shape", [(2, 3, 32, 32), (1, 3, 0, 32), (3, 32, 32)])
def test_refuses_what_is_not_one_image(shape):
    with pytest.raises(ValueError, match="must be 1,channels,height,width"):
        count_operations(nn.Flatten(), shape)


def test_refuses_a_shape_that_the_model_does_not_take():
    with pytest.raises(ValueError, match=r"does not take an input of shape \(1, 1, 8, 8\): .* to have 3 channels"):
        count_operations(nn.Conv2d(3, 4, 1), (1, 1, 8, 8))
