import copy

import pytest
import torch
import torch.nn.functional as F
from fake_cuda import fake_cuda
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.registry import create_model
from training import grouped
from training.execution import Execution
from training.grouped import DenseConv2d, block_diagonal, conv2d, use_dense

GEOMETRIES = [(2, 3, 1, 1), (4, 5, 2, 2), (8, 1, 1, 0)]  # groups, kernel, stride, padding


@pytest.fixture
def everywhere(monkeypatch):
    """Make grouped convolutions dense on the CPU as well."""
    monkeypatch.setattr(grouped, "is_faster_dense", lambda weight, groups: groups > 1)


def integers(*shape):
    return torch.randint(-9, 10, shape).float().requires_grad_()


def gradients(convolution, x, weight, bias, geometry):
    groups, _, stride, padding = geometry
    out = convolution(x, weight, bias, (stride, stride), (padding, padding), (1, 1), groups)
    factors = torch.arange(out.numel()).remainder(7).view_as(out)
    return [out, *torch.autograd.grad((out * factors).sum(), (x, weight, bias))]


class Convolutions(TorchDispatchMode):
    """Notes the weight shapes and the groups of the convolutions in its block."""

    def __init__(self):
        super().__init__()
        self.weights = []

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if function == torch.ops.aten.convolution.default:
            self.weights.append((tuple(arguments[1].shape), arguments[8]))
        return function(*arguments, **named or {})


def test_blocks_stand_on_the_diagonal():
    weight = torch.arange(1.0, 25).view(4, 3, 2, 1)
    dense = block_diagonal(weight, 2)
    assert dense.shape == (4, 6, 2, 1)
    assert torch.equal(dense[:, :, 0, 0], torch.block_diag(weight[:2, :, 0, 0], weight[2:, :, 0, 0]))
    assert torch.equal(dense[:, :, 1, 0], torch.block_diag(weight[:2, :, 1, 0], weight[2:, :, 1, 0]))


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_integers_are_the_same_to_the_bit(everywhere, geometry):
    groups, kernel, _, _ = geometry
    operands = integers(2, 16, 9, 9), integers(24, 16 // groups, kernel, kernel), integers(24)
    one, other = (gradients(convolution, *operands, geometry) for convolution in (F.conv2d, conv2d))
    assert all(map(torch.equal, one, other))


def test_a_weight_that_is_infinite_stays_in_its_group(everywhere):
    weight = torch.ones(4, 2, 1, 1)
    weight[0] = torch.inf
    out = conv2d(torch.ones(1, 4, 1, 1), weight, None, (1, 1), (0, 0), (1, 1), 2)
    assert out.flatten().tolist() == [torch.inf, 2, 2, 2]
    assert block_diagonal(weight, 2).isinf().sum() == 2


@pytest.mark.parametrize(
    ("device", "autocast", "groups", "of_a_group", "dense"),
    [
        ("cuda", True, 2, 8, True),
        ("cuda", True, 8, 2, True),
        ("cuda", True, 1, 8, False),
        ("cuda", True, 16, 8, False),
        ("cuda", True, 8, 1, False),
        ("cuda", False, 2, 8, False),
        ("cpu", True, 2, 8, False),
    ],
)
def test_a_convolution_is_dense_where_that_has_been_measured_to_be_faster(device, autocast, groups, of_a_group, dense):
    """PyTorch gets the weights of each group of channels, or those of all channels in one group."""
    with fake_cuda(), torch.autocast("cuda", torch.bfloat16, enabled=autocast), Convolutions() as given:
        x = torch.empty(2, groups * of_a_group, 8, 8, device=device)
        weight = torch.empty(16, of_a_group, 3, 3, device=device)
        out = conv2d(x, weight, None, (1, 1), (1, 1), (1, 1), groups)
    assert out.shape == (2, 16, 8, 8)
    assert given.weights == [((16, groups * of_a_group, 3, 3), 1) if dense else ((16, of_a_group, 3, 3), groups)]


@pytest.mark.parametrize("name", ["vargconvnet_32", "regnetx_002", "test_efficientnet"])
def test_a_network_keeps_its_state_and_results(everywhere, name):
    torch.manual_seed(0)
    plain = create_model(name, 5, 32, {}).double()
    dense = copy.deepcopy(plain)
    use_dense(dense)
    changed = {key for key, module in dense.named_modules() if isinstance(module, DenseConv2d)}
    assert changed == {key for key, module in plain.named_modules() if getattr(module, "groups", 1) > 1}
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    for model in (plain, dense):
        model(x).square().sum().backward()
    assert [*plain.state_dict()] == [*copy.deepcopy(dense).state_dict()]
    scale = max(float(parameter.grad.abs().max()) for parameter in plain.parameters())
    for (key, one), other in zip(plain.named_parameters(), dense.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, rtol=1e-9, atol=1e-12 * scale), key


def test_bf16_and_torch_compile(everywhere):
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(8, 8, 3, groups=2), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=4, padding="same"))
    dense = copy.deepcopy(plain)
    use_dense(dense)
    x = torch.randint(0, 9, (2, 8, 6, 6)).float()
    compiled = torch.compile(dense, backend="aot_eager", fullgraph=True)
    with torch.autocast("cpu", torch.bfloat16):
        one, other = plain(x), compiled(x)
    assert one.dtype == other.dtype == torch.bfloat16
    assert torch.allclose(one, other, rtol=1 / 128, atol=1 / 128)
    (key, *_), graph = dense.state_dict(), Execution(compile=True).of(dense)(x)
    assert key == "0.weight" and torch.allclose(plain(x), graph, rtol=1e-5, atol=1e-5)


def test_who_calls_its_own_conv2d_gets_this_one():
    module = nn.Module()
    module.conv2d = F.conv2d
    use_dense(module)
    assert module.conv2d is conv2d


def test_the_same_arguments_as_pytorchs():
    x, weight = integers(2, 4, 5, 5), integers(4, 2, 3, 3)
    assert torch.equal(conv2d(input=x, weight=weight, groups=2), F.conv2d(input=x, weight=weight, groups=2))


def test_a_child_named_conv2d_is_none_of_its_module(everywhere):
    """As in timm's inception_resnet_v2."""
    module = nn.Module()
    module.conv2d = nn.Conv2d(4, 2, 1)
    grouped_child = nn.Module()
    grouped_child.conv2d = nn.Conv2d(4, 2, 1, groups=2)
    use_dense(nn.ModuleList([module, grouped_child]))
    assert [type(module.conv2d), type(grouped_child.conv2d)] == [nn.Conv2d, DenseConv2d]
