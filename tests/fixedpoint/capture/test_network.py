import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fixedpoint.capture.network import capture
from fixedpoint.errors import QuantizationError
from fixedpoint.program import INPUT
from fixedpoint.program.floating import FloatEvaluator


class Net(nn.Module):
    """A forward function and the modules or parameters that it uses."""

    def __init__(self, function, **members):
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, x):
        return self.function(self, x)


def conv(inputs=3, outputs=4, **options):
    return nn.Conv2d(inputs, outputs, **{"kernel_size": 3, "padding": 1} | options)


def with_statistics(norm):
    """A BatchNorm as after training."""
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    if norm.affine:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return norm


def in_place(net, x):
    x = net.a(x)
    x += net.b(x)
    x.relu_()
    return net.b(x)


FLAT = nn.Flatten(), nn.Linear(192, 6)
NETWORKS = {  # the network and the kinds of its operations
    "conv": (conv(), "conv"),
    "conv without bias": (conv(bias=False), "conv"),
    "conv padded to the same size": (conv(kernel_size=5, padding="same"), "conv"),
    "conv of an even kernel padded to the same size": (conv(kernel_size=(2, 4), padding="same"), "pad conv"),
    "conv dilated to the same size": (conv(dilation=2, kernel_size=(4, 3), padding="same"), "conv"),
    "conv without padding": (conv(padding="valid"), "conv"),
    "conv not square": (conv(kernel_size=(3, 5), stride=(2, 1), padding=(0, 2), dilation=(2, 1)), "conv"),
    "conv in groups": (nn.Sequential(conv(3, 8), conv(8, 12, groups=4)), "conv conv"),
    "linear": (nn.Sequential(*FLAT), "flatten linear"),
    "linear without bias": (nn.Sequential(nn.Flatten(), nn.Linear(192, 6, bias=False)), "flatten linear"),
    "norm": (nn.Sequential(conv(), with_statistics(nn.BatchNorm2d(4))), "conv batch_norm"),
    "norm without weight": (with_statistics(nn.BatchNorm2d(3, eps=0.1, affine=False)), "batch_norm"),
    "norm of a linear": (nn.Sequential(*FLAT, with_statistics(nn.BatchNorm1d(6))), "flatten linear batch_norm"),
    "relu": (nn.ReLU(), "clamp"),
    "relu in place": (nn.Sequential(conv(), nn.ReLU(inplace=True)), "conv clamp"),
    "relu6": (nn.Sequential(conv(), nn.ReLU6(inplace=True)), "conv clamp"),
    "hardtanh": (nn.Sequential(nn.Hardtanh(), nn.Hardtanh(-0.5, 0.25, inplace=True)), "clamp clamp"),
    "clamp": (Net(lambda net, x: x.clamp(-0.5, 1).clamp(max=0.75).clamp_(min=0.1)), "clamp clamp clamp"),
    "add": (Net(lambda net, x: net.a(x) + net.b(x), a=conv(), b=conv()), "conv conv add"),
    "add to itself": (Net(lambda net, x: x + x), "add"),
    "in place": (Net(in_place, a=conv(), b=conv(4)), "conv conv add clamp conv"),
    "avg_pool": (nn.Sequential(nn.AvgPool2d(3, 2), nn.AvgPool2d((1, 3), 1)), "avg_pool avg_pool"),
    "avg_pool by its own size": (nn.AvgPool2d(2), "avg_pool"),
    "adaptive pool": (nn.AdaptiveAvgPool2d((2, 4)), "avg_pool"),
    "global pool": (nn.AdaptiveAvgPool2d(1), "avg_pool"),
    "mean": (Net(lambda net, x: x.mean((2, 3), keepdim=True)), "avg_pool"),
    "mean without dimensions kept": (Net(lambda net, x: x.mean((-1, -2))), "avg_pool flatten"),
    "max_pool": (nn.MaxPool2d(2), "max_pool"),
    "avg_pool over padding": (nn.AvgPool2d(3, 2, padding=1), "pad avg_pool"),
    "max_pool with half a window": (nn.MaxPool2d(3, 2, ceil_mode=True), "pad max_pool"),
    "padding": (nn.Sequential(nn.ZeroPad2d((1, 0, 2, 3)), nn.ConstantPad2d(1, -0.5)), "pad pad"),
    "padding for a maximum": (
        Net(lambda net, x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-math.inf), 2)),
        "pad max_pool",
    ),
    "padding of nothing": (nn.Sequential(nn.ZeroPad2d(0), conv()), "conv"),
    "functions": (
        nn.Sequential(
            *(nn.Sigmoid(), nn.SiLU(inplace=True), nn.Hardswish(), nn.Hardsigmoid(), nn.GELU(), nn.GELU("tanh")),
            *(nn.Tanh(), nn.LeakyReLU(0.3), nn.ELU(0.7), nn.Mish(), nn.Softplus()),
        ),
        "lookup " * 11,
    ),
    "product": (Net(lambda net, x: x * net.a(x), a=conv(3, 3)), "conv mul"),
    "squeeze and excitation": (
        Net(lambda net, x: net.a(x.mean((2, 3), keepdim=True)).sigmoid() * x, a=conv(3, 3)),
        "avg_pool conv lookup mul",
    ),
    "constants": (
        Net(
            lambda net, x: 1 - 2 * (x - net.m) / net.s + 0.5,
            m=nn.Parameter(torch.randn(3, 1, 1)),
            s=nn.Parameter(torch.ones(1, 3, 1, 1) * 3),
        ),
        "batch_norm " * 5,
    ),
    "negative": (Net(lambda net, x: -net.a(x), a=conv()), "conv batch_norm"),
    "squeeze": (Net(lambda net, x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1)), "avg_pool flatten"),
    "pool of one pixel": (nn.Sequential(conv(), nn.AdaptiveAvgPool2d(8)), "conv"),
    "max_pool with padding": (nn.MaxPool2d((3, 2), (2, 1), (1, 0)), "max_pool"),
    "cat": (Net(lambda net, x: torch.cat([x, net.a(x), x], 1), a=conv()), "conv concat"),
    "cat of vectors": (Net(lambda net, x: torch.cat([x.flatten(1), x.flatten(1)], -1)), "flatten flatten concat"),
    "view": (Net(lambda net, x: net.fc(x.view(x.shape[0], -1)), fc=nn.Linear(192, 6)), "flatten linear"),
    "reshape": (Net(lambda net, x: net.fc(x.reshape(-1, 192)), fc=nn.Linear(192, 6)), "flatten linear"),
    "dropout": (nn.Sequential(conv(), nn.Dropout(), nn.ReLU(), nn.Dropout(inplace=True)), "conv clamp"),
    "module called twice": (Net(lambda net, x: net.a(net.a(x)), a=nn.Sequential(conv(3, 3))), "conv conv"),
}


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    network, kinds = NETWORKS[request.param]
    return network.eval(), kinds.split(), capture(network, (3, 8, 8))


@torch.no_grad()
def test_the_program_computes_what_the_network_does(case):
    network, kinds, program = case
    assert [op.kind for op in program.ops] == kinds
    for batch in (1, 5):
        x = torch.randn(batch, 3, 8, 8)
        expected = network(x.clone())
        tensors = dict(FloatEvaluator(program).run(x))
        assert {name: tensors[name].shape[1:] for name in tensors} == {op.name: op.shape for op in program.ops}
        torch.testing.assert_close(tensors[program.output], expected, rtol=1e-5, atol=1e-5)


def test_names_are_unique_and_constants_belong_to_them(case):
    _, _, program = case
    names = [op.name for op in program.ops]
    assert len({INPUT, "", *names}) == len(names) + 2
    kept = {"conv": {"weight", "bias"}, "linear": {"weight", "bias"}, "batch_norm": {"scale", "shift"}}
    assert set(program.constants) == {f"{op.name}.{key}" for op in program.ops for key in kept.get(op.kind, ())}
    assert all(value.dtype == torch.float32 for value in program.constants.values())


def test_names_are_module_paths():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act = conv(3, 3), nn.ReLU()

        def forward(self, x):
            return F.relu(self.act(self.conv(x)) + x) + x

    network = Net(
        lambda net, x: net.fc((net.blocks(x) + x).mean((2, 3))),
        blocks=nn.Sequential(Block(), Block()),
        fc=nn.Linear(3, 5),
    )
    block = ["conv", "act", "add", "clamp", "add_1"]
    expected = [f"blocks.{i}.{name}" for i in range(2) for name in block] + ["add", "avg_pool", "flatten", "fc"]
    assert [op.name for op in capture(network, (3, 8, 8)).ops] == expected


def test_a_module_may_have_the_name_of_the_input():
    network = Net(lambda net, x: net.last(net.input(x) + x), input=conv(3, 3), last=conv()).eval()
    program = capture(network, (3, 8, 8))
    assert INPUT not in [op.name for op in program.ops]
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(FloatEvaluator(program).logits(x), network(x))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Sequential(conv(), nn.Sequential(nn.Softsign())), r"abs in 1\.0 is not supported; supported are .*conv2d"),
        (Net(lambda net, x: x * x.mean((1, 2, 3), keepdim=True)), "mean in the network: must be over height and width"),
        (Net(lambda net, x: x * x[:, :1]), "slice in the network is not supported"),
        (Net(lambda net, x: x / x), "div in the network: only a division by a constant is supported"),
        (nn.Sequential(nn.ReflectionPad2d(1)), "pad in 0: only rows and columns of a constant can be added"),
        (Net(lambda net, x: F.pad(x, (0, 0, 0, 0, 0, 1))), "pad in the network: only rows and columns of a constant"),
        (nn.Sequential(nn.SELU()), "selu in 0 is not supported"),
        (nn.Sequential(nn.CELU(0.5)), "celu in 0 is not supported"),
        (nn.Sequential(nn.Softplus(2)), "softplus in 0: only a beta of 1"),
        (Net(lambda net, x: torch.cat(x.chunk(3, 1), 1)), "chunk in the network is not supported"),
        (Net(lambda net, x: x.split(1, 1)[0]), "split in the network is not supported"),
        (Net(lambda net, x: x + x.mean((2, 3), keepdim=True)), "add in the network: only tensors of equal shape"),
        (Net(lambda net, x: torch.add(x, x, alpha=2)), "add in the network: only tensors of equal shape"),
        (Net(lambda net, x: x + net.w, w=nn.Parameter(torch.zeros(1, 3, 8, 8))), "add in the network: a constant must"),
        (Net(lambda net, x: F.relu(net.w), w=nn.Parameter(torch.zeros(3))), "its operand p_w is not computed from"),
        (Net(lambda net, x: x * net.w.detach(), w=nn.Parameter(torch.ones(3, 1, 1))), "detach in .* its operand p_w"),
        (Net(torch.autocast("cpu", enabled=False)(lambda net, x: -x)), "wrap_with_autocast in .* is not supported"),
        (nn.Sequential(nn.AvgPool2d(3, 2, ceil_mode=True)), "avg_pool2d in 0: every window must have as many values"),
        (nn.Sequential(nn.AvgPool2d(3, 2, 1, count_include_pad=False)), "avg_pool2d in 0: every window must have as"),
        (nn.Sequential(nn.AvgPool2d(2, divisor_override=3)), "avg_pool2d in 0: every window must have as many values"),
        (nn.Sequential(nn.MaxPool2d(2, dilation=2)), "max_pool2d in 0: dilation is not supported"),
        (nn.Sequential(nn.AdaptiveAvgPool2d(3)), "adaptive_avg_pool2d in 0: 8x8 is not a multiple of 3x3"),
        (nn.AdaptiveAvgPool2d((16, 1)), "adaptive_avg_pool2d in the network: 8x8 is not a multiple of 16x1"),
        (nn.Sequential(nn.Linear(8, 4)), r"linear in 0: only \[batch, features\] is supported"),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "batch_norm in 0: has no running statistics"),
        (Net(lambda net, x: x.mean(1)), "mean in the network: must be over height and width"),
        (Net(lambda net, x: torch.cat([x, x], 2)), "cat in the network: only channels are concatenated"),
        (Net(lambda net, x: x.flatten(2)), "flatten in the network: only"),
        (Net(lambda net, x: x.reshape(-1, 64)), r"only \[batch, everything else\] is supported"),
        (Net(lambda net, x: (net.a(x), net.a(x)), a=conv()), "the network must have one output"),
        (Net(lambda net, x: (net.a(x), net.b(x))[0], a=conv(), b=conv()), "the network must have one output"),
        (nn.Identity(), "the network must have one output, computed by its last operation"),
    ],
)
def test_what_no_program_has_is_refused(network, message):
    with pytest.raises(ValueError, match=message):
        capture(network, (3, 8, 8))


def test_a_view_changed_in_place_is_refused_rather_than_captured_wrong():
    class Aliased(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 1)
            self.head = nn.Conv2d(4, 2, 8)

        def forward(self, x):
            y = self.conv(x)
            y.flatten(1).relu_()
            return self.head(y).flatten(1)

    with pytest.raises(ValueError, match="computes something else"):
        capture(Aliased(), (3, 8, 8))


class OddNames(nn.Module):
    """A network whose modules have names that no file and no comment in C can have."""

    names = ("conv/3x3", "conv_3x3", "conv 3x3", "é", "ü", "x*\\\n/ int y; /*", "a" * 300, "a" * 299 + "b", "%2F")

    def __init__(self):
        super().__init__()
        for name in self.names:
            self.add_module(name, nn.Conv2d(3, 3, 1))

    def forward(self, x):
        for name in self.names:
            x = getattr(self, name)(x)
        return x.flatten(1)


def test_odd_names_of_modules_become_names_that_are_allowed():
    names = [op.name for op in capture(OddNames(), (3, 1, 1)).ops]
    assert names[:6] == ["conv_3x3", "conv_3x3_1", "conv_3x3_2", "_", "__1", "x_____int_y____"]
    assert names[6:] == ["a" * 150, "a" * 150 + "_1", "_2F", "flatten"]


def unusable(parameter, value):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval()
    getattr(network[0], parameter).data.view(-1)[1] = value
    return network


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_a_constant_that_is_not_finite_is_named(parameter, value):
    with pytest.raises(QuantizationError, match=rf"^0 \(conv\): {parameter} holds infinite numbers or NaN$"):
        capture(unusable(parameter, value), (3, 8, 8))


def test_a_network_that_overflows_is_named():
    network = nn.Sequential(unusable("weight", 3e38), nn.Linear(4 * 36, 3))
    network[1].weight.data *= 1e3
    with pytest.raises(QuantizationError, match=r"^the network gives infinite numbers or NaN for numbers from -1 to"):
        capture(network, (3, 8, 8))


def test_a_lack_of_memory_is_told_as_such():
    def lacking(net, x):
        raise MemoryError

    with pytest.raises(MemoryError):
        capture(Net(lacking), (3, 8, 8))
