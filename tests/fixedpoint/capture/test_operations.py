"""Operations of PyTorch that become several of a program, and spellings that become the same."""

import pytest
import torch
import torch.nn.functional as F
from networks import Net
from torch import nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program.floating import FloatEvaluator


def conv(inputs=3, outputs=4, **options):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **options)


def random(*sizes):
    return nn.Parameter(torch.randn(*sizes, generator=torch.Generator().manual_seed(sum(sizes))))


def channel_shuffle(x):
    b, c, h, w = x.shape
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)


def standardized(net, x):
    w = net.a.weight
    w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.var((1, 2, 3), keepdim=True) + 1e-5).sqrt()
    return F.conv2d(x, w * net.g.view(-1, 1, 1, 1), net.a.bias)


def standardized_as_timm_does(net, x):
    w = F.batch_norm(net.a.weight.reshape(1, 4, -1), None, None, weight=net.g, training=True).reshape_as(net.a.weight)
    return F.conv2d(x, w)


def frozen_norm(net, x):
    scale = net.g * (net.v.abs() + 1e-5).rsqrt()
    return net.a(x) * scale.view(1, -1, 1, 1) + (net.b - net.m * scale).reshape(1, -1, 1, 1)


def channel_attention(net, x):
    y = net.a(x)
    gate = net.c(y.mean((2, 3)).view(len(x), 1, -1)).view(len(x), -1, 1, 1).sigmoid()
    return y * gate.expand_as(y)


def spatial_attention(net, x):
    y = net.a(x)
    return y * net.c(torch.cat([y.mean(1, keepdim=True), y.max(1, keepdim=True)[0]], 1)).sigmoid()


def with_coordinates(net, x):
    b, _, h, w = x.shape
    return net.a(torch.cat([x, torch.linspace(-1, 1, h).view(1, 1, h, 1).expand(b, 1, h, w)], 1))


def merged(net, x):
    y = net.a(x)
    return net.b(torch.cat([y[:, :, i::2, j::2] for j in (0, 1) for i in (0, 1)], 1))


def mixer(net, x):
    y = net.a(x).flatten(2).transpose(1, 2)
    y = y + net.tokens(y.transpose(1, 2)).transpose(1, 2)
    return net.c(F.gelu(net.b(y * net.g + net.v))).mean(1)


def assigned(net, x):
    y = net.a(x)
    y[:, :2] = 0.5
    y[:, 2:].relu_()
    y[:, :, 0] = y[:, :, 1]
    return y


@torch.no_grad()
def without_gradients(net, x):
    with torch.autocast("cpu", enabled=False):
        return net.a(x).float()


def net(function, **members):
    return Net(function, **{"a": conv()} | members)


NETWORKS = {  # the network, and the kinds of operations of its folded program behind the first convolution
    "slices": (
        net(lambda n, x: torch.cat([n.a(x)[:, :2].relu(), n.a(x)[:, 2:]], 1)),
        "select clamp conv select concat",
    ),
    "chunks": (net(lambda n, x: n.a(x).chunk(2, 1)[1]), "select"),
    "channel shuffle": (net(lambda n, x: channel_shuffle(n.a(x))), "select"),
    "pixel shuffle": (net(lambda n, x: F.pixel_unshuffle(F.pixel_shuffle(n.a(x), 2), 4)), "rearrange"),
    "moves there and back": (net(lambda n, x: n.a(x).transpose(1, 3).flip(2).transpose(3, 1).flip(2)), ""),
    "patch merging": (net(merged, b=conv(16, 5)), "rearrange conv"),
    "rotation": (net(lambda n, x: torch.rot90(n.a(x), 1, (2, 3))), "rearrange select"),
    "stack": (net(lambda n, x: torch.stack([n.a(x), n.b(x)], 2).flatten(1, 2), b=conv()), "conv concat select"),
    "rows": (net(lambda n, x: torch.cat([n.a(x), n.b(x)], 2), b=conv()), "conv concat"),
    "zeros": (net(lambda n, x: torch.cat([n.a(x), x.new_zeros(len(x), 2, 8, 8)], 1)), "select conv"),
    "channels of zeros": (net(lambda n, x: F.pad(n.a(x)[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1))), "select conv"),
    "crop": (net(lambda n, x: F.pad(n.a(x), (-1, 2, 1, -2))), "select pad"),
    "padding of other modes": (
        nn.Sequential(*(conv(i, 4, padding_mode=m) for i, m in ((3, "reflect"), (4, "circular"), (4, "replicate")))),
        "select conv select conv",
    ),
    "nearest": (nn.Sequential(conv(), nn.Upsample(scale_factor=2), nn.Upsample((5, 7))), "select"),
    "bilinear": (nn.Sequential(conv(), nn.Upsample(scale_factor=2, mode="bilinear")), "select conv rearrange"),
    "bilinear of two factors": (
        nn.Sequential(conv(), nn.Upsample(scale_factor=(3, 1), mode="bilinear")),
        "select conv rearrange",
    ),
    "bilinear with corners": (
        nn.Sequential(conv(), nn.Upsample((5, 16), mode="bilinear", align_corners=True)),
        "rearrange conv rearrange conv rearrange",
    ),
    "bicubic": (
        nn.Sequential(conv(), nn.Upsample((5, 11), mode="bicubic")),
        "rearrange conv rearrange conv rearrange",
    ),
    "means without padding": (
        nn.Sequential(conv(), nn.AvgPool2d(3, 2, 1, count_include_pad=False)),
        "select avg_pool select avg_pool concat select avg_pool select avg_pool concat concat",
    ),
    "half a window": (
        nn.Sequential(conv(), nn.AvgPool2d((2, 3), (2, 2), (0, 1), ceil_mode=True)),
        "pad avg_pool select avg_pool concat",
    ),
    "divisor": (nn.Sequential(conv(), nn.AvgPool2d(3, 2, 1, divisor_override=5, ceil_mode=True)), "pad avg_pool conv"),
    "adaptive of any size": (
        nn.Sequential(conv(), nn.AdaptiveAvgPool2d((3, 4))),
        "avg_pool select avg_pool concat select",
    ),
    "adaptive of more": (nn.Sequential(conv(), nn.AdaptiveAvgPool2d((16, 1))), "avg_pool select"),
    "adaptive maxima": (nn.Sequential(conv(), nn.AdaptiveMaxPool2d((3, 5))), "select max_pool"),
    "dilated maxima": (nn.Sequential(conv(), nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True)), "pad select max_pool"),
    "pools of a line": (
        net(lambda n, x: F.adaptive_max_pool1d(F.avg_pool1d(F.max_pool1d(n.a(x)[:, :, 0], 2), 2, 2), 2).unsqueeze(2)),
        "select max_pool avg_pool",
    ),
    "maxima of a map": (net(lambda n, x: n.a(x).amax((2, 3), keepdim=True)), "max_pool conv"),
    "minima of a map": (net(lambda n, x: n.a(x).amin((2, 3), keepdim=True)), "max_pool conv"),
    "mean of rows": (net(lambda n, x: n.a(x).mean(2, keepdim=True)), "avg_pool"),
    "sum of halves": (net(lambda n, x: n.a(x).view(-1, 2, 2, 8, 8).sum(1)), "select select add"),
    "standardized weights": (net(standardized, g=random(4)), ""),
    "standardized weights of timm": (net(standardized_as_timm_does, g=random(4)), ""),
    "frozen norm": (net(frozen_norm, g=random(4), v=random(4), b=random(4), m=random(4)), ""),
    "position": (net(lambda n, x: n.a(x) + n.p, p=random(1, 4, 8, 8)), "flatten rearrange conv flatten rearrange"),
    "coordinates": (net(with_coordinates, a=conv(4)), "flatten linear rearrange select concat conv"),
    "channel attention": (
        net(channel_attention, c=nn.Conv1d(1, 1, 3, padding=1, bias=False)),
        "avg_pool rearrange conv rearrange lookup mul",
    ),
    "spatial attention": (
        net(spatial_attention, c=conv(2, 1)),
        "conv rearrange max_pool rearrange concat conv lookup select mul",
    ),
    "one gate an image": (
        net(lambda n, x: (lambda y: y * y.mean((1, 2, 3), keepdim=True).sigmoid())(n.a(x))),
        "rearrange avg_pool lookup select mul",
    ),
    "global context": (net(lambda n, x: (lambda y: y + y.mean((2, 3), keepdim=True))(n.a(x))), "avg_pool select add"),
    "grouped gate": (
        net(
            lambda n, x: (lambda y: (y.view(-1, 2, 2, 8, 8) * y.mean((2, 3)).view(-1, 2, 2, 1, 1)).flatten(1, 2))(
                n.a(x)
            )
        ),
        "avg_pool mul",
    ),
    "token mixing": (
        net(mixer, tokens=nn.Linear(64, 64), g=random(4), v=random(1, 1, 4), b=nn.Linear(4, 8), c=nn.Linear(8, 5)),
        "rearrange conv rearrange add conv lookup avg_pool conv flatten",
    ),
    "channels last": (net(lambda n, x: (n.a(x).permute(0, 2, 3, 1) * n.g + n.g).permute(0, 3, 1, 2), g=random(4)), ""),
    "assignment": (
        net(assigned),
        "select flatten linear flatten concat select rearrange clamp select rearrange concat select",
    ),
    "no_grad": (net(without_gradients), ""),
    "transposed": (
        nn.Sequential(conv(), nn.ConvTranspose2d(4, 6, 3, 2, 1, output_padding=1, groups=2)),
        "pad conv",
    ),
    "transposed and dilated": (
        nn.Sequential(conv(), nn.ConvTranspose2d(4, 5, (2, 4), (2, 3), (0, 3), dilation=(2, 1))),
        "pad conv",
    ),
    "transposed in place": (nn.Sequential(conv(), nn.ConvTranspose2d(4, 5, 3, 1, 1, bias=False)), "conv"),
    "transposed and cropped": (nn.Sequential(conv(), nn.ConvTranspose2d(4, 5, 2, 2, 2)), "pad conv select"),
    "transposed line": (
        net(lambda n, x: n.b(n.a(x)[:, :, 0]).unsqueeze(2), b=nn.ConvTranspose1d(4, 3, 4, 2, 1)),
        "select pad conv",
    ),
    "prelu": (nn.Sequential(conv(), nn.PReLU(4)), "clamp clamp conv add"),
    "one slope": (nn.Sequential(conv(), nn.PReLU()), "lookup"),
    "exponential functions": (nn.Sequential(conv(), nn.CELU(0.5), nn.SELU()), "lookup conv lookup conv"),
    "steeper softplus": (nn.Sequential(conv(), nn.Softplus(2)), "lookup conv"),
    "gated": (nn.Sequential(conv(), nn.GLU(1)), "select lookup select mul"),
    "maximum": (
        net(lambda n, x: torch.maximum(n.a(x), n.b(x)), b=conv()),
        "conv concat rearrange max_pool rearrange",
    ),
    "clamp of channels": (net(lambda n, x: n.a(x).clamp(-n.g, n.g), g=nn.Parameter(torch.rand(4, 1, 1))), "conv conv"),
    "matrices": (net(lambda n, x: n.a(x).flatten(1) @ n.w + n.v, w=random(256, 5), v=random(5)), "flatten linear"),
    "matrix from the left": (net(lambda n, x: n.w @ n.a(x), w=random(5, 8)), "rearrange conv rearrange"),
    "einsum of channels": (net(lambda n, x: torch.einsum("bchw,oc->bohw", n.a(x), n.w), w=random(5, 4)), "conv"),
    "einsum of columns": (
        net(lambda n, x: torch.einsum("nchw,wv->nvch", n.a(x), n.w), w=random(8, 5)),
        "rearrange conv",
    ),
    "einsum of all": (
        net(lambda n, x: torch.einsum("bchw,chwk->bk", n.a(x), n.w), w=random(4, 8, 8, 5)),
        "flatten linear",
    ),
    "linear of positions": (net(lambda n, x: n.b(n.a(x)), b=nn.Linear(8, 3)), "rearrange conv rearrange"),
}


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_the_program_computes_what_the_network_does(name):
    network, kinds = NETWORKS[name]
    torch.manual_seed(0)
    program = fold(capture(network.eval(), (3, 8, 8)))
    first = "select" if name in ("coordinates",) else "select conv" if name.startswith("padding") else "conv"
    assert " ".join(op.kind for op in program.ops) == f"{first} {kinds}".strip()
    for batch in (1, 3):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(FloatEvaluator(program).logits(x), network(x.clone()), rtol=1e-4, atol=1e-5)


SAME = [  # spellings of one function
    [
        lambda n, x: n.a(x).clip(-0.5, 0.5),
        lambda n, x: torch.clamp(n.a(x), max=n.h, min=-n.h),
        lambda n, x: F.hardtanh(n.a(x), -0.5, 0.5),
    ],
    [
        *(
            lambda n, x: F.relu(n.a(x)),
            lambda n, x: n.a(x).relu_(),
            lambda n, x: torch.maximum(n.a(x), torch.tensor(0.0)),
        ),
        *(lambda n, x: n.a(x).clamp_min(0), lambda n, x: F.threshold(n.a(x), 0, 0), lambda n, x: n.a(x).clamp(0)),
        lambda n, x: torch.max(n.a(x).type_as(x), torch.zeros(1)),
    ],
    [lambda n, x: F.relu6(n.a(x)), lambda n, x: n.a(x).clamp(0, 6), lambda n, x: n.a(x).relu().clamp_max(6)],
    [
        *(lambda n, x: (lambda y: y * y)(n.a(x)), lambda n, x: n.a(x) ** 2, lambda n, x: n.a(x).square()),
        lambda n, x: n.a(x).pow(torch.tensor(2)),
    ],
    [
        *(lambda n, x: n.a(x) / 2 + n.b(x) / 2, lambda n, x: (n.a(x) * 0.5).add(n.b(x), alpha=0.5)),
        lambda n, x: n.a(x).mul(0.5) - n.b(x).neg().div(2),
    ],
    [
        *(lambda n, x: n.a(x), lambda n, x: n.a(x).to(torch.float32), lambda n, x: n.a(x).double().float() * 1 + 0),
        *(lambda n, x: n.a(x).detach().contiguous(memory_format=torch.channels_last), lambda n, x: n.a(x).neg().neg()),
        lambda n, x: F.dropout(n.a(x), training=n.training),
    ],
    [
        *(lambda n, x: n.a(x).mean((2, 3)), lambda n, x: n.a(x).mean(-1).mean(-1)),
        *(lambda n, x: F.adaptive_avg_pool2d(n.a(x), 1).flatten(1), lambda n, x: n.a(x).flatten(2).mean(2)),
        *(lambda n, x: F.avg_pool2d(n.a(x), x.shape[2:])[..., 0, 0], lambda n, x: n.a(x).sum((3, 2)) / 64),
        lambda n, x: n.a(x).mean(2, keepdim=True).mean(3, keepdim=True).squeeze(-1).squeeze(-1),
    ],
    [
        *(lambda n, x: F.leaky_relu(n.a(x), 0.25), lambda n, x: F.prelu(n.a(x), torch.tensor([0.25]))),
        lambda n, x: F.rrelu(n.a(x), 0.125, 0.375),
    ],
]


@torch.no_grad()
@pytest.mark.parametrize("functions", SAME)
def test_spellings_of_one_function_give_one_program(functions):
    a, b = conv(), conv()
    programs = []
    for function in functions:
        network = Net(function, a=a, b=b, h=nn.Parameter(torch.tensor(0.5))).eval()
        programs.append(fold(capture(network, (3, 8, 8))))
    for program in programs[1:]:
        assert [(op.kind, op.clamp, op.shape) for op in program.ops] == [
            (op.kind, op.clamp, op.shape) for op in programs[0].ops
        ]
        for value, expected in zip(program.constants.values(), programs[0].constants.values(), strict=True):
            torch.testing.assert_close(value, expected)
