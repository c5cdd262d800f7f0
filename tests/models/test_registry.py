import pytest
import torch

from models.registry import create_model
from models.vargconvnet import VarGConvNet


def test_arguments_override_the_named_configuration():
    model = create_model("vargconvnet", 10, 64, {"channels": [16, 24, 32, 64, 128], "repeats": [1, 1, 1, 1]})
    assert isinstance(model, VarGConvNet)
    assert model.num_classes == 10
    assert model.stages[0][0].shortcut.conv.weight.shape == (24, 16, 1, 1)


def test_other_models_of_timm():
    model = create_model("resnet10t", 5, 64, {"drop_rate": 0.1}).eval()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 5)


def test_models_of_torchvision():
    model = create_model("torchvision/resnet18", 5, 64, {}).eval()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    assert create_model("torchvision/resnet18", None, 64, {}).fc.out_features == 1000


def test_number_of_classes_may_be_the_models_own():
    assert create_model("vargconvnet", None, 224, {}).num_classes == 1000


@pytest.mark.parametrize(
    "name, size, arguments, message",
    [
        ("vargconvnet_33", 32, {}, "model 'vargconvnet_33' is not known to timm; near matches: vargconvnet_32, vargc"),
        ("hf-hub:timm/resnet18", 32, {}, "model 'hf-hub:timm/resnet18' is not known to timm; near matches: none"),
        ("torchvision/resnet19", 32, {}, "'resnet19' is not known to torchvision; near matches: .*resnet18"),
        ("vargconvnet", 100, {}, "img_size \\(input.size\\) 100 is not allowed, must be a multiple of 32"),
        ("vargconvnet", 224, {"chanels": [1]}, "vargconvnet does not take the arguments .*'chanels'"),
        ("resnet18", 224, {"output_stride": 7}, "resnet18 does not take the arguments .*7.*: AssertionError$"),
        ("mobilenetv2_100", 224, {"act_layer": "nope"}, "mobilenetv2_100 does not take .*: KeyError 'nope'$"),
        ("vargconvnet", 224, {"channels": "x" * 999}, "^channels must be a list of 5 integers: got 'x{79}…$"),
        (
            "vargconvnet",
            224,
            {"head_width": 10**13},
            "vargconvnet does not take .*: RuntimeError .*can't allocate memory",
        ),
        ("resnet18", 224, {"in_chans": -1}, "resnet18 does not take .*: RuntimeError .*negative dimension -1"),
        (
            "resnet18",
            224,
            {"block": "x" * 999},
            r"does not take the arguments \(model\.arguments\) \{'block': 'x+…: AttributeError 'str' ob",
        ),
        ("resnet18", 224, {"depth": 3}, "resnet18 does not take the arguments .*'depth'"),
        ("vargconvnet", 224, {"img_size": 32}, "model vargconvnet: img_size cannot be among the arguments"),
        ("resnet18", 224, {"pretrained": True}, "model resnet18: pretrained cannot be among the arguments"),
        ("resnet18", 224, {"checkpoint_path": "x.pth"}, "checkpoint_path cannot be among the arguments"),
    ],
)
def test_mistakes_are_named_in_one_line(name, size, arguments, message):
    with pytest.raises(ValueError, match=message) as raised:
        create_model(name, 10, size, arguments)
    assert "\n" not in str(raised.value)
