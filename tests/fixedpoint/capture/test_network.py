import math

import pytest
import torch
import torch.nn.functional as F
from networks import Net
from torch import nn

from fixedpoint.capture.network import capture
from fixedpoint.errors import QuantizationError
from fixedpoint.program import INPUT
from fixedpoint.program.floating import FloatEvaluator


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
MASK = torch.arange(64).reshape(8, 8) % 3 == 0
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
    "silu by hand": (Net(lambda net, x: torch.sigmoid(x) * x), "lookup"),
    "mish by hand": (Net(lambda net, x: x * F.softplus(x).tanh()), "lookup"),
    "hard-swish by hand": (Net(lambda net, x: x * F.relu6(x + 3) / 6), "lookup"),
    "hard-swish by hand, in another order": (Net(lambda net, x: x * (F.relu6(x + 3) / 6)), "lookup"),
    "hard-swish by hard-sigmoid": (Net(lambda net, x: x * F.hardsigmoid(x)), "lookup"),
    "silu by an exponential": (Net(lambda net, x: x / (1 + torch.exp(-x))), "lookup"),
    "silu by an exponential and a product": (Net(lambda net, x: x * (1 / (torch.exp(-x) + 1.0))), "lookup"),
    "sigmoid by an exponential": (Net(lambda net, x: torch.exp(-x).add(1).reciprocal()), "lookup"),
    "sigmoid of the other sign": (
        Net(lambda net, x: 2 / (1 + (3 * x).exp())),
        "batch_norm batch_norm lookup batch_norm",
    ),
    "sigmoid of exponentials": (Net(lambda net, x: x.exp() / (1 + x.exp())), "lookup"),
    "softplus by hand": (Net(lambda net, x: torch.log(1 + x.exp())), "lookup"),
    "mish by hand alone": (Net(lambda net, x: x * torch.log1p(torch.exp(x)).tanh()), "lookup"),
    "a gate that is no hard-swish": (Net(lambda net, x: x * F.relu6(x + 2) / 6), "batch_norm clamp mul batch_norm"),
    "the gate of another value": (Net(lambda net, x: x * torch.sigmoid(x.flip(1))), "lookup select mul"),
    "relu by a choice": (Net(lambda net, x: torch.where(x > 0, x, 0.0)), "clamp"),
    "relu by a mask": (Net(lambda net, x: x * (x > 0).float()), "clamp"),
    "clamp by a choice": (Net(lambda net, x: torch.where(x < 0.5, x, torch.tensor(0.5))), "clamp"),
    "leaky relu by a choice": (Net(lambda net, x: torch.where(x >= 0, x, x * 0.1)), "lookup"),
    "absolute value by a choice": (Net(lambda net, x: torch.where(x < 0, -x, x)), "lookup"),
    "the negative part": (Net(lambda net, x: torch.where(x > 0, 0.0, 3 * x)), "clamp batch_norm"),
    "a choice by a constant mask": (Net(lambda net, x: torch.where(MASK, x, x.flip(1))), "flatten select rearrange"),
    "filled by a constant mask": (Net(lambda net, x: x.masked_fill(MASK, 0.5)), "flatten batch_norm rearrange"),
    "patches": (
        Net(
            lambda net, x: (net.w @ F.unfold(x, 3, dilation=2, padding=2, stride=2)).flatten(1),
            w=nn.Parameter(torch.randn(5, 27)),
        ),
        "pad flatten select rearrange conv flatten",
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
    "cat of vectors": (
        Net(lambda net, x: torch.cat([x.flatten(1), net.a(x)], -1), a=nn.Sequential(*FLAT)),
        "flatten linear concat",
    ),
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


def in_two_runs(net, x):
    net.n += 1
    return net.a(x) * net.n


def depends_on_values(net, x):
    y = net.a(x)
    return y * 2 if y.max() > 3 else y


def of_their_own_kind(net, x):
    return {"out": net.a(x), "aux": x}


SOFTMAX = "attention and softmax inside a network have no exact integer form: use convolutions"
STATISTICS = "it divides by statistics of each image, which has no exact integer form: use BatchNorm"


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (
            nn.Sequential(conv(), nn.Sequential(nn.Softsign())),
            r"div in 1\.0: only a division by a constant is supported",
        ),
        (
            nn.Sequential(nn.Tanhshrink(), nn.Hardshrink()),
            r"hardshrink in 1: it is not supported \(docs/networks\.md li",
        ),
        (Net(lambda net, x: x * x.mean()), "mean in the network: it is over the images of a batch, too"),
        (Net(lambda net, x: x - x.amax()), "amax in the network: it is over the images of a batch, too"),
        (Net(lambda net, x: x.flip(0) + x), "add in the network: it mixes the images of a batch, or the batch is not"),
        (Net(lambda net, x: x / x), "div in the network: only a division by a constant is supported"),
        (Net(lambda net, x: 1 / x), "(reciprocal|div) in the network: "),
        (Net(lambda net, x: torch.div(x, 2, rounding_mode="floor")), "div in the network: it rounds"),
        (Net(lambda net, x: x**0.5), "pow in the network: its exponent must be 1, 2, 3 or 4, not 0.5"),
        (Net(lambda net, x: 2**x), "pow in the network: its exponent must be a number"),
        (Net(lambda net, x: torch.clamp(x, max=x)), "clamp in the network: its bounds are computed from the image"),
        (Net(lambda net, x: x.int() * 2), "to in the network: its results are integers"),
        (
            Net(lambda net, x: F.pad(x, (1, 1, 1, 1, 0, 1), value=-math.inf)),
            "pad in the network: only rows and columns",
        ),
        (Net(lambda net, x: x[:, int(x.max()) :]), "depends on the values of the image"),
        (Net(lambda net, x: x.gather(1, x.argmax(1, keepdim=True))), "argmax in the network: it is not supported"),
        (
            Net(lambda net, x: torch.where(x > 0.5, x, 2 * x)),
            "where in the network: only a choice that is a clamp, or by the sign",
        ),
        (Net(lambda net, x: torch.where(x > x.flip(1), x, 0.0)), "gt in the network: an operand that must be constant"),
        (Net(lambda net, x: (x > 0).flatten(1)), "flatten in the network: its operand compares values of the image"),
        (Net(lambda net, x: F.conv2d(x, x[:1])), "conv2d in the network: its weights are computed from the image"),
        (Net(lambda net, x: x @ x), f"matmul in the network: {SOFTMAX}"),
        (Net(lambda net, x: x.softmax(1) * x), f"softmax in the network: {SOFTMAX}"),
        (Net(lambda net, x: F.scaled_dot_product_attention(x, x, x)), f"product_attention in the network: {SOFTMAX}"),
        (
            nn.Sequential(nn.GroupNorm(1, 3), nn.InstanceNorm2d(3)),
            f"group_norm in 0: {STATISTICS}; instance_norm in 1: ",
        ),
        (nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), "batch_norm in 0: it has no running statistics"),
        (nn.Sequential(nn.LayerNorm(8), nn.ReLU(), nn.LayerNorm(8)), f"^layer_norm in 0, 2: {STATISTICS}$"),
        (nn.Sequential(*(nn.LayerNorm(8) for _ in range(5))), f"^layer_norm in 0, 1 and 3 more: {STATISTICS}$"),
        (
            Net(lambda net, x: F.dropout(x)),
            "dropout in the network: .*draws random numbers: pass training=self.training",
        ),
        (
            Net(lambda net, x: x + torch.rand(1)),
            "rand in the network: it is active in eval mode and draws random numbers",
        ),
        (Net(in_two_runs, a=conv(), n=0), "two runs of the network in eval mode differ: n changes"),
        (Net(depends_on_values, a=conv()), r"depends on the values of the image \(`return y \* 2 if y.max"),
        (Net(lambda net, x: net.a(x) * float(x.mean()), a=conv()), "depends on the values of the image"),
        (
            Net(of_their_own_kind, a=conv()),
            "must give one tensor of logits, not a dict of out, aux: pick one in forward",
        ),
        (Net(lambda net, x: [net.a(x)], a=conv()), "must give one tensor of logits, not a list: pick one in forward"),
        (
            Net(lambda net, x: net.missing(x)),
            "cannot be captured for inputs .*: 'Net' object has no attribute 'missing'",
        ),
        (
            nn.Sequential(nn.Sequential(conv(4))),
            r"cannot be captured for inputs \[batch, 3, 8, 8\] in 0\.0: Given groups",
        ),
        (Net(lambda net, x: net.a(x) / len(x), a=conv()), "for an image depends on the other images of the batch"),
        (
            Net(lambda net, x: x.unflatten(1, (3, 1))),
            r"output: it must be \[batch, classes\], not \[batch, 3, 1, 8, 8\]",
        ),
        (Net(lambda net, x: net.w, w=nn.Parameter(torch.ones(2, 3))), "output does not depend on the image"),
        (Net(lambda net, x: net.a(x).exp(), a=conv()), "the network's output is a comparison or an exponential"),
        (Net(lambda net, x: x.exp() / (1 + (2 * x).exp())), "div in the network: its operand is an exponential"),
        (Net(lambda net, x: x / x.exp()), "div in the network: its operand is an exponential"),
        (Net(lambda net, x: x.exp() / 2), "div in the network: its operand is an exponential"),
        (Net(lambda net, x: torch.log(2 + x.exp())), "add in the network: its operand is an exponential"),
        (
            Net(lambda net, x: net.a(x.bfloat16()), a=conv().bfloat16()),
            r"something else than the network; a\.weight is bfloat16: call \.float\(\) first",
        ),
        (nn.Identity(), "the program has no operation"),
        (
            nn.Sequential(nn.LazyConv2d(3, 3)),
            r"cannot be captured for inputs \[batch, 3, 8, 8\]: Attempted to use an unini",
        ),
        (torch.jit.trace(nn.ReLU(), torch.ones(1)), "cannot be captured for inputs .*not supported on ScriptModules"),
    ],
)
def test_what_no_program_has_is_refused_in_one_line(network, message, capfd):
    with pytest.raises(QuantizationError, match=message) as raised:
        capture(network, (3, 8, 8))
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")


WHAT_TO_DO = {  # what is refused, and what the message ends with
    "hardshrink": (lambda net, x: F.hardshrink(x), "use a clamp, a leaky ReLU or tanhshrink"),
    "softshrink": (lambda net, x: F.softshrink(x), r"write x - x\.clamp\(-lambd, lambd\)"),
    "softsign": (lambda net, x: F.softsign(x), "use tanh for softsign, or a sigmoid"),
    "log_sigmoid": (lambda net, x: F.logsigmoid(x) * 2, r"write -F\.softplus\(-x\)"),
    "bilinear": (lambda net, x: F.bilinear(x, x, net.w), "write a product of two linear layers"),
    "triu": (lambda net, x: x.triu(), r"multiply by a constant mask, torch\.ones_like\(x\)\.triu\(\)"),
    "addcdiv": (lambda net, x: torch.addcdiv(x, x, x), "divide by constants alone, or multiply by a sigmoid"),
    "stack": (
        lambda net, x: torch.stack([x, x]).sum(0),
        r"keep the batch first, as torch\.stack\(maps, 1\)\.sum\(1\) does",
    ),
    "sqrt": (lambda net, x: x.square().sqrt(), "use powers of 2 to 4, or BatchNorm in the place of a norm"),
    "exp": (lambda net, x: x.exp() * x, "use sigmoid, softplus, elu or silu"),
    "log": (lambda net, x: x.square().log(), "use softplus, which is a table"),
    "another": (
        lambda net, x: x.sinc(),
        r"not supported \(docs/networks\.md lists what is\): write it with those",
    ),
    "float64": (lambda net, x: net.of64(x), r"; of64\.weight is float64: call \.float\(\) first"),
    "float16": (lambda net, x: net.of16(x), r"; of16\.weight is float16: call \.float\(\) first"),
}


@pytest.mark.parametrize("name", WHAT_TO_DO)
def test_a_refusal_ends_with_what_to_do(name):
    function, advice = WHAT_TO_DO[name]
    layers = {"of64": nn.Linear(8, 2).double(), "of16": nn.Linear(8, 2).half()}
    members = {key: layer for key, layer in layers.items() if key.removeprefix("of") in name}
    network = Net(function, w=nn.Parameter(torch.ones(8, 8, 8)), **members)
    with pytest.raises(QuantizationError, match=f"{advice}$"):
        capture(network.eval(), (3, 8, 8))


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_a_tensor_that_a_hook_has_computed_is_refused_with_what_to_do():
    network = nn.Sequential(conv(), torch.nn.utils.weight_norm(conv(4)))
    with pytest.raises(
        QuantizationError, match=r"^the network's tensor 1\.weight is comp.*: call .*remove_weight_norm or "
    ):
        capture(network, (3, 8, 8))
    torch.nn.utils.remove_weight_norm(network[1])
    assert [op.kind for op in capture(network.eval(), (3, 8, 8)).ops] == ["conv", "conv"]


@torch.no_grad()
def test_a_product_added_with_factors():
    network = Net(lambda net, x: torch.addmm(net.b, x.flatten(1), net.w, beta=2, alpha=-0.5))
    network.b, network.w = nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(192, 5))
    program, x = capture(network, (3, 8, 8)), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(FloatEvaluator(program).logits(x), network(x), rtol=1e-5, atol=1e-4)


def drawn(net, x):
    generator = torch.Generator().manual_seed(3)
    return net.a(x) * torch.rand(4, 1, 1, generator=generator)


@pytest.mark.parametrize("function", [drawn, lambda net, x: x * torch.randn(3, 1, 1, generator=torch.Generator())])
def test_a_generator_made_in_forward_draws_random_numbers(function):
    with pytest.raises(QuantizationError, match=r"^randn? in the network: it .* draws random numbers: draw them in"):
        capture(Net(function, a=conv()), (3, 8, 8))


BATCH = "what the network gives for an image depends on the other images of the batch"


def counted(net, x):
    net.n += 1
    return F.hardshrink(net.a(x)) * net.n


@pytest.mark.parametrize(
    ("function", "causes"),
    [
        (lambda net, x: F.hardshrink(x * x.mean()).softmax(1) * x, ["mean in", "hardshrink in", "softmax in"]),
        (lambda net, x: F.hardshrink(x.flip(0) + x), ["add in the network: it mixes the images", "hardshrink in"]),
        (lambda net, x: F.hardshrink(x).flip(0), ["hardshrink in", "the network's output: it mixes the images"]),
        (lambda net, x: F.hardshrink(99 * net.a(x) / len(x)), ["hardshrink in", BATCH]),
        (
            lambda net, x: F.hardshrink(net.a(x)).unflatten(1, (4, 1)),
            ["hardshrink in", "the network's output: it"],
        ),
        (lambda net, x: F.hardshrink(F.dropout(x)), ["dropout in", "hardshrink in"]),
        (lambda net, x: F.hardshrink(F.dropout(x)).flatten(1).softmax(1), ["dropout in", "hardshrink in"]),
        (counted, ["hardshrink in", "two runs of the network in eval mode differ: n changes"]),
        (lambda net, x: F.hardshrink(net.a(x)) + net.nan, ["hardshrink in", "the network's tensor nan holds NaN"]),
        (lambda net, x: F.hardshrink(x.mean()).sinc() + x, ["mean in", "hardshrink in", "sinc in"]),
        (lambda net, x: F.hardshrink(x).flatten(1).nonzero(), ["hardshrink in", "nonzero in", BATCH]),
        (lambda net, x: torch.addbmm(x[0, 0], x[:, 0], x[:, 1]), ["addbmm in", BATCH]),
        (
            lambda net, x: [3, F.hardshrink(x), x.softmax(1)],
            ["hardshrink in", "softmax in", "the network must give one"],
        ),
        (lambda net, x: {"a": F.hardshrink(x).softmax(1)}, ["hardshrink in", "the network must give one tensor"]),
    ],
)
def test_no_cause_hides_another(function, causes):
    network = Net(function, a=conv(), n=0, nan=nn.Parameter(torch.tensor(1.0)))
    if "tensor nan" in causes[-1]:
        network.nan.data.fill_(math.nan)
    with pytest.raises(QuantizationError) as raised:
        capture(network.eval(), (3, 8, 8))
    found = str(raised.value).split("; ")
    assert [cause[: len(start)] for cause, start in zip(found, causes, strict=True)] == causes


def test_all_causes_are_named_at_once():
    network = nn.Sequential(
        nn.GroupNorm(1, 3), conv(), nn.Softmax(1), nn.Hardshrink(), conv(4, 5), nn.LogSigmoid(), conv(5)
    )
    with pytest.raises(QuantizationError) as raised:
        capture(network, (3, 8, 8))
    causes = str(raised.value).split("; ")
    assert [cause.partition(":")[0] for cause in causes] == [
        "group_norm in 0",
        "softmax in 2",
        "hardshrink in 3",
        "log_sigmoid in 5",
    ]


def test_a_view_changed_in_place_changes_what_it_is_a_view_of():
    network = Net(
        lambda net, x: (lambda y: (y.flatten(1)[:, :100].relu_(), net.b(y))[1])(net.a(x)), a=conv(), b=conv(4)
    ).eval()
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(FloatEvaluator(capture(network, (3, 8, 8))).logits(x), network(x))


@pytest.mark.parametrize(
    ("end", "name"),
    [
        ([nn.Flatten(), nn.Linear(256, 5), nn.Softmax(1)], "softmax"),
        ([nn.AdaptiveAvgPool2d(1), nn.LogSoftmax(1), nn.Flatten()], "log_softmax"),
        ([nn.AdaptiveAvgPool2d(1), nn.Sigmoid(), nn.Flatten()], "sigmoid"),
        ([nn.Conv2d(4, 5, 8), nn.Flatten(), nn.Softmax(1), nn.Dropout()], "softmax"),
    ],
)
def test_a_function_at_the_end_is_left_out_with_a_word(end, name):
    network = nn.Sequential(conv(), *end).eval()
    with pytest.warns(UserWarning, match=f"^{name} at the end of the network is left out: logits are compared$"):
        program = capture(network, (3, 8, 8))
    function = next(each for each in end if type(each).__name__.lower() == name.replace("_", ""))
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(function(FloatEvaluator(program).logits(x).flatten(1)), network(x))


@pytest.mark.parametrize(
    ("end", "names"),
    [
        (lambda y: y.argmax(1), ["argmax"]),
        (lambda y: y.softmax(1).argmax(-1, keepdim=True), ["argmax", "softmax"]),
        (lambda y: y.max(1)[1], ["max"]),
        (lambda y: y.topk(2).indices, ["topk"]),
    ],
)
def test_a_choice_of_classes_at_the_end_is_left_out_with_a_word(end, names):
    network = Net(lambda net, x: end(net.a(x).flatten(1)), a=conv(kernel_size=10)).eval()
    with pytest.warns(UserWarning) as caught:
        program = capture(network, (3, 8, 8))
    words = [f"{name} at the end of the network is left out: logits are compared" for name in names]
    assert [str(each.message) for each in caught if "left out" in str(each.message)] == words
    x = torch.randn(7, 3, 8, 8)
    torch.testing.assert_close(FloatEvaluator(program).logits(x).flatten(1), network.a(x).flatten(1))


def test_a_maximum_at_the_end_is_no_choice_of_classes():
    network = Net(lambda net, x: net.a(x).flatten(2).max(2)[0], a=conv()).eval()
    program, x = capture(network, (3, 8, 8)), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(FloatEvaluator(program).logits(x), network(x))


def test_a_block_under_two_names_is_captured_at_each_use():
    network = nn.Sequential(conv(3, 3), nn.ReLU())
    network.append(network[0])
    program = capture(network.eval(), (3, 8, 8))
    assert [op.kind for op in program.ops] == ["conv", "clamp", "conv"]
    first, second = (op.name for op in program.ops if op.kind == "conv")
    assert torch.equal(program.constants[f"{first}.weight"], program.constants[f"{second}.weight"])


def test_the_network_stays_as_it_is():
    network = nn.Sequential(conv(), nn.BatchNorm2d(4), nn.Dropout()).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    capture(network, (3, 8, 8))
    assert all(module.training and not module._forward_hooks for module in network.modules())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


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


def test_a_module_may_have_the_name_that_writers_give_the_output():
    network = Net(
        lambda net, x: net.last(net.logits(x)).flatten(1), logits=conv(3, 3), last=conv(kernel_size=10)
    ).eval()
    assert [op.name for op in capture(network, (3, 8, 8)).ops] == ["logits_1", "last", "flatten"]


def unusable(parameter, value):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()).eval()
    getattr(network[0], parameter).data.view(-1)[1] = value
    return network


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_a_constant_that_is_not_finite_is_named(parameter, value):
    with pytest.raises(
        QuantizationError, match=rf"^the network's tensor 0\.{parameter} holds NaN or infinite numbers$"
    ):
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
