import pytest
import torch
from torch import nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from models.vargconvnet import VARGCONVNETS, VarGConvNet

CHANNELS, REPEATS, GROUPS = (64, 96, 128, 160, 320), (2, 3, 6, 4), (1, 2, 4, 8)


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


@pytest.fixture(scope="module")
def imagenet() -> VarGConvNet:
    return VARGCONVNETS["vargconvnet"]().eval()


def test_parameter_counts_follow_the_published_structure(imagenet):
    weights = 9 * (3 * 32 + 32 * 32 + 32 * 64) + 320 * 1024 + 1024 * 1000
    biases = 32 + 32 + 64 + 1024 + 1000
    for before, after, repeats, groups in zip(CHANNELS[:-1], CHANNELS[1:], REPEATS, GROUPS, strict=True):
        plain = 9 * after * 2 * after // groups + 2 * after * after
        first = 25 * before * 2 * before // max(groups // 2, 1) + 2 * before * after
        weights += first + before * after + (2 * repeats - 1) * plain
        biases += 2 * before + after + after + (2 * repeats - 1) * 3 * after

    found = convolutions(imagenet)
    assert len(found) == 69
    assert sum(c.weight.numel() for c in found) == weights == 9_376_608
    assert sum(c.bias.numel() for c in found) == biases == 19_240
    norms = [p for m in imagenet.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()]
    assert sum(p.numel() for p in norms) == 2 * biases == 38_480
    assert sum(p.numel() for p in imagenet.parameters()) == 9_434_328


def test_small_variant_has_044_m_parameters_and_ends_on_2x2():
    model = VARGCONVNETS["vargconvnet_32"](num_classes=10).eval()
    assert sum(p.numel() for p in model.parameters()) == 440_654
    assert len(convolutions(model)) == 25
    sizes = [tuple(m.shape[1:]) for m in model.feature_maps(torch.zeros(1, 3, 32, 32))]
    assert sizes == [(16, 32, 32), (24, 16, 16), (32, 8, 8), (64, 4, 4), (128, 2, 2)]


def test_feature_maps_at_strides_2_to_32(imagenet):
    with torch.no_grad():
        maps = imagenet.feature_maps(torch.randn(2, 3, 224, 224))
    sizes = [tuple(m.shape) for m in maps]
    assert sizes == [(2, 64, 112, 112), (2, 96, 56, 56), (2, 128, 28, 28), (2, 160, 14, 14), (2, 320, 7, 7)]
    assert (maps[0] >= 0).all(), "the stem ends with an activation"
    assert all((m < 0).any() for m in maps[1:]), "no activation after the addition"


def test_groups_and_kernels(imagenet):
    spatial = [[c for c in convolutions(stage) if c.kernel_size != (1, 1)] for stage in imagenet.stages]
    assert [[c.groups for c in stage] for stage in spatial] == [[1] * 4, [1] + [2] * 5, [2] + [4] * 11, [4] + [8] * 7]
    for stage in spatial:
        assert [c.kernel_size[0] for c in stage] == [5] + [3] * (len(stage) - 1)
        assert [c.stride[0] for c in stage] == [2] + [1] * (len(stage) - 1)


def test_shortcuts():
    model = VarGConvNet(channels=(8, 8, 16, 16), repeats=(1, 1, 2), groups=(1, 1, 1), strides=(1, 1, 2), img_size=4)
    assert model.total_stride == 4
    shortcuts = [[type(m).__name__ for m in block.shortcut.modules()] for stage in model.stages for block in stage]
    assert shortcuts == [
        ["Identity"],
        ["Sequential", "Conv2d", "BatchNorm2d"],
        ["Sequential", "AvgPool2d", "Conv2d", "BatchNorm2d"],
        ["Identity"],
    ]


def test_parameter_names_are_readable_paths(imagenet):
    names = dict(imagenet.named_parameters())
    assert {
        "stem.0.conv.weight",
        "stages.0.0.conv1.group.bn.weight",
        "stages.3.3.conv2.point.conv.bias",
        "stages.1.0.shortcut.conv.weight",
        "head.hidden.conv.weight",
        "head.classifier.bn.bias",
    } <= names.keys()


def test_other_multiples_of_the_stride_give_one_row_per_image(imagenet):
    with torch.no_grad():
        assert imagenet(torch.zeros(2, 3, 448, 64)).shape == (2, 1000)


@pytest.mark.parametrize("name, size", [("vargconvnet", 64), ("vargconvnet_32", 32)])
def test_every_parameter_gets_a_gradient(name, size):
    torch.manual_seed(0)
    model = VARGCONVNETS[name](num_classes=7)
    logits = model(torch.randn(3, 3, size, size))
    nn.functional.cross_entropy(logits, torch.tensor([0, 3, 6])).backward()
    assert logits.shape == (3, 7)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_exports_with_dynamic_batch():
    torch.manual_seed(0)
    model = VARGCONVNETS["vargconvnet_32"](num_classes=7).eval()
    batch = torch.export.Dim("batch", min=1)
    program = torch.export.export(model, (torch.randn(2, 3, 32, 32),), dynamic_shapes={"x": {0: batch}})
    for images in (1, 5):
        x = torch.randn(images, 3, 32, 32)
        assert torch.equal(program.module()(x), model(x))


def test_the_narrowest_becomes_a_folded_program():
    torch.manual_seed(0)
    program = fold(capture(VARGCONVNETS["vargconvnet_025"](num_classes=7), (3, 32, 32)))
    kinds = [op.kind for op in program.ops]
    assert (kinds.count("conv"), kinds.count("add"), kinds.count("batch_norm")) == (69, 15, 0)


def test_arguments_go_before_the_width_of_the_name():
    model = VARGCONVNETS["vargconvnet_025"](channels=(8, 8, 8, 8, 8), num_classes=7)
    assert model.head.hidden.conv.weight.shape[:2] == (256, 8)


@pytest.mark.parametrize("size", [(224, 225), (240, 224)])
def test_refuses_an_input_that_is_not_a_multiple_of_the_stride(imagenet, size):
    with pytest.raises(ValueError, match=f"input of {size[0]}x{size[1]} is not a multiple .* stride 32"):
        imagenet(torch.zeros(1, 3, *size))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"img_size": 225}, "img_size .*225 is not allowed, must be a multiple of 32"),
        ({"img_size": 0}, "img_size must be a positive integer: got 0"),
        ({"channels": (64, 96)}, r"channels must be a list of 5 integers: got \(64, 96\)"),
        ({"channels": (63, 96, 128, 160, 320)}, r"channels\[0\] must be even, .* got 63"),
        ({"channels": (64, 96, 128, 162, 320)}, "162 channels cannot be split into 4 groups"),
        ({"repeats": 2}, "repeats must be a list of positive integers: got 2"),
        ({"repeats": (2, 3, 0, 4)}, r"repeats\[2\] must be a positive integer: got 0"),
        ({"groups": (1, 2, 4)}, r"groups must be a list of 4 integers: got \(1, 2, 4\)"),
        ({"strides": (2, 2, 2, "2")}, r"strides\[3\] must be a positive integer: got '2'"),
        ({"stem_strides": (2, 1)}, r"stem_strides must be a list of 3 integers: got \(2, 1\)"),
        ({"factor": 1.5}, "factor must be a positive integer: got 1.5"),
        ({"num_classes": True}, "num_classes must be a positive integer: got True"),
    ],
)
def test_refuses_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        VARGCONVNETS["vargconvnet"](**arguments)
