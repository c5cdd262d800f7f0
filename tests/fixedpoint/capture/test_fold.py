import pytest
import torch
from torch import nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program import INPUT, Add, BatchNorm, Clamp, Conv, Flatten, MaxPool, Program
from fixedpoint.program.floating import FloatEvaluator
from models.registry import create_model

RELU, RELU6 = (0.0, None), (0.0, 6.0)
MAP = (3, 4, 4)


def conv(name, *inputs):
    return Conv(name, inputs, MAP, (1, 1), (0, 0), (1, 1), 1)


def norm(name, *inputs):
    return BatchNorm(name, inputs, MAP)


def clamp(name, source, *bounds):
    return Clamp(name, (source,), MAP, clamp=bounds)


def build(*ops):
    """A float program with random constants."""
    generator, constants = torch.Generator().manual_seed(0), {}
    for op in ops:
        sizes = {"conv": {"weight": (3, 3, 1, 1), "bias": (3,)}, "batch_norm": {"scale": (3,), "shift": (3,)}}
        for key, size in sizes.get(op.kind, {}).items():
            constants[f"{op.name}.{key}"] = torch.randn(size, generator=generator)
    return Program(MAP, ops, constants)


def assert_equal_functions(before, after):
    x = 4 * torch.randn(8, *before.input_shape, generator=torch.Generator().manual_seed(1))
    expected = FloatEvaluator(before).logits(x)
    torch.testing.assert_close(
        FloatEvaluator(after).logits(x), expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max())
    )


@pytest.mark.parametrize(("name", "size"), [("vargconvnet_32", 32), ("resnet18", 64), ("mobilenetv2_100", 64)])
@torch.no_grad()
def test_a_folded_network_computes_what_the_network_does(name, size):
    torch.manual_seed(0)
    model = create_model(name, 10, size, {}).eval()
    modules = list(model.modules())
    for module in modules:
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(0, 0.2)
    program = fold(capture(model, (3, size, size)))
    x = torch.randn(2, 3, size, size)
    expected = model(x)
    logits = FloatEvaluator(program).logits(x)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    kinds = [op.kind for op in program.ops]
    assert not {"batch_norm", "clamp"} & set(kinds)
    assert kinds.count("conv") == sum(isinstance(module, nn.Conv2d) for module in modules)
    weighted = [op.name for op in program.ops if op.kind in ("conv", "linear")]
    assert set(program.constants) == {f"{op}.{key}" for op in weighted for key in ("weight", "bias")}


def test_norm_and_activation_go_into_the_convolution_and_readers_follow():
    before = build(
        conv("a", INPUT), norm("bn", "a"), clamp("relu", "bn", *RELU), conv("b", "relu"), Add("sum", ("b", "relu"), MAP)
    )
    after = fold(before)
    assert [(op.name, op.inputs, op.clamp) for op in after.ops] == [
        ("a", (INPUT,), RELU),
        ("b", ("a",), (None, None)),
        ("sum", ("b", "a"), (None, None)),
    ]
    assert_equal_functions(before, after)


def test_the_folded_constants_by_hand():
    before = Program(
        MAP,
        (conv("a", INPUT), norm("bn", "a")),
        {
            "a.weight": torch.tensor([[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]).reshape(3, 3, 1, 1),
            "a.bias": torch.tensor([1.0, -1, 0]),
            "bn.scale": torch.tensor([2.0, -0.5, 0]),
            "bn.shift": torch.tensor([10.0, 20, 30]),
        },
    )
    after = fold(before)
    assert after.constants["a.weight"].flatten(1).tolist() == [[2, 4, 6], [-2, -2.5, -3], [0, 0, 0]]
    assert after.constants["a.bias"].tolist() == [12, 20.5, 30]
    assert before.constants["a.bias"].tolist() == [1, -1, 0]


def test_a_norm_of_a_linear_and_a_second_norm_are_folded():
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(48, 5), nn.BatchNorm1d(5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2)
    ).eval()
    for module in (network[2], network[3]):
        module.running_mean.normal_()
        module.running_var.uniform_(0.5, 2)
    before = capture(network, MAP)
    after = fold(before)
    assert [op.kind for op in after.ops] == ["flatten", "linear", "linear"]
    assert_equal_functions(before, after)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        (RELU, RELU6, RELU6),
        (RELU6, RELU, RELU6),
        ((-1.0, 1.0), RELU, (0.0, 1.0)),
        ((None, 3.0), (-2.0, None), (-2.0, 3.0)),
        ((None, 1.0), (1.0, None), (1.0, 1.0)),
    ],
)
def test_clamps_merge(first, second, merged):
    before = build(conv("a", INPUT), clamp("b", "a", *first), clamp("c", "b", *second))
    after = fold(before)
    assert [(op.name, op.clamp) for op in after.ops] == [("a", merged)]
    assert_equal_functions(before, after)


@pytest.mark.parametrize(("first", "second"), [((None, -1.0), RELU), ((2.0, None), (-1.0, 1.0)), (RELU6, (7.0, 8.0))])
def test_clamps_that_exclude_each_other_stay_apart(first, second):
    before = build(conv("a", INPUT), clamp("b", "a", *first), clamp("c", "b", *second))
    after = fold(before)
    assert [(op.name, op.clamp) for op in after.ops] == [("a", first), ("c", second)]
    assert_equal_functions(before, after)


def test_clamps_stay_behind_the_input_a_max_pool_and_a_flatten():
    before = build(
        clamp("a", INPUT, *RELU),
        MaxPool("max", ("a",), MAP, (1, 1), (1, 1), (0, 0)),
        clamp("b", "max", None, 2.0),
        Flatten("flat", ("b",), (48,)),
        Clamp("c", ("flat",), (48,), clamp=(1.0, None)),
    )
    assert fold(before).ops[: len(before.ops)] == before.ops


def test_a_result_that_two_operations_read_is_not_clamped():
    before = build(conv("a", INPUT), clamp("relu", "a", *RELU), Add("sum", ("a", "relu"), MAP))
    assert fold(before) == before
    twice = build(conv("a", INPUT), clamp("relu", "a", *RELU), Add("sum", ("relu", "relu"), MAP))
    assert [op.name for op in fold(twice).ops] == ["a", "sum"]
    assert_equal_functions(twice, fold(twice))


@pytest.mark.parametrize(
    ("ops", "kinds"),
    [
        ([norm("bn", INPUT), conv("a", "bn")], "conv"),
        ([conv("a", INPUT), clamp("relu", "a", *RELU), norm("bn", "relu")], "conv conv"),
        ([conv("a", INPUT), conv("b", INPUT), Add("sum", ("a", "b"), MAP), norm("bn", "sum")], "conv conv add conv"),
        ([conv("a", INPUT), norm("bn", "a"), Add("sum", ("bn", "a"), MAP)], "conv conv add"),
        ([norm("bn", INPUT), norm("bn2", "bn"), conv("a", "bn2")], "conv"),
        ([norm("bn", INPUT), clamp("relu", "bn", *RELU), conv("a", "relu")], "conv conv"),
    ],
    ids=["first", "after an activation", "after an add", "two readers", "two", "before an activation"],
)
def test_a_norm_that_no_layer_before_it_takes(ops, kinds):
    before = build(*ops)
    after = fold(before)
    assert [op.kind for op in after.ops] == kinds.split()
    assert_equal_functions(before, after)


@pytest.mark.parametrize("options", [{"padding": 0}, {"padding": 0, "groups": 2}, {"kernel_size": 1, "padding": 0}])
def test_a_norm_between_an_activation_and_an_unpadded_layer_goes_into_that(options):
    norms = nn.BatchNorm2d(4), nn.BatchNorm1d(6)
    layers = nn.Conv2d(4, 6, **{"kernel_size": 3} | options), nn.Linear(6, 5)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ReLU()
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), norms[0], layers[0], *head, norms[1], layers[1]).eval()
    for module in norms:
        module.running_mean.normal_()
        module.running_var.uniform_(0.5, 2)
    before = capture(network, (3, 9, 9))
    after = fold(before)
    assert [op.kind for op in after.ops] == ["conv", "conv", "avg_pool", "flatten", "clamp", "linear"]
    assert_equal_functions(before, after)


@pytest.mark.parametrize("groups", [1, 3])
def test_a_norm_of_the_input_goes_into_a_padded_convolution(groups):
    """Zeros around the normalized map are the mean around its input, which differs by channel."""
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3, 2, (1, 2), groups=groups), nn.ReLU()).eval()
    network[0].running_mean.copy_(torch.tensor([0.1, -0.2, 0.5]))
    before = capture(network, (3, 9, 9))
    after = fold(before)
    assert [op.kind for op in after.ops] == ["pad", "conv"]
    assert after.ops[0].value == pytest.approx((0.1, -0.2, 0.5))
    assert_equal_functions(before, after)


def test_a_norm_of_the_input_goes_into_a_convolution_behind_a_pad():
    """As in networks that came from TensorFlow, which pad one side more than the other."""
    layers = nn.BatchNorm2d(3), nn.ConstantPad2d((0, 1, 2, 0), 0.25), nn.Conv2d(3, 6, 3, 2), nn.ReLU()
    network = nn.Sequential(*layers).eval()
    network[0].running_mean.copy_(torch.tensor([0.1, -0.2, 0.5]))
    network[0].running_var.copy_(torch.tensor([4.0, 1.0, 0.25]))
    before = capture(network, (3, 9, 9))
    after = fold(before)
    assert [op.kind for op in after.ops] == ["pad", "conv"]
    assert after.ops[0].value == pytest.approx((0.1 + 0.25 * 2, -0.2 + 0.25, 0.5 + 0.25 * 0.5), abs=1e-4)
    assert_equal_functions(before, after)


def test_a_norm_of_features_without_a_linear_becomes_a_convolution():
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(3), nn.Sigmoid(), nn.Linear(3, 2))
    before = capture(network.eval(), MAP)
    after = fold(before)
    kinds = ["avg_pool", "flatten", "rearrange", "conv", "flatten", "lookup", "linear"]
    assert [op.kind for op in after.ops] == kinds
    assert_equal_functions(before, after)


@pytest.mark.parametrize(
    ("end", "kinds"),
    [
        ([nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()], "avg_pool conv flatten"),
        (
            [nn.Conv2d(4, 5, 1, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
            "conv avg_pool flatten rearrange conv flatten",
        ),
        ([nn.Conv2d(4, 5, 3), nn.AdaptiveAvgPool2d(1)], "conv avg_pool conv"),
        ([nn.Conv2d(4, 5, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)], "conv avg_pool conv"),
        ([nn.Flatten(), nn.Linear(64, 5), nn.ReLU()], "flatten linear rearrange conv flatten"),
        ([nn.Flatten(), nn.Linear(64, 5), nn.Dropout()], "flatten linear"),
        ([nn.Conv2d(4, 5, 4), nn.Flatten()], "conv flatten"),
    ],
)
def test_logits_become_accumulators(end, kinds):
    """A pool behind a pointwise convolution changes places with it; else a convolution of ones is appended."""
    before = capture(nn.Sequential(nn.Conv2d(3, 4, 1), *end).eval(), MAP)
    after = fold(before)
    assert " ".join(op.kind for op in after.ops) == f"conv {kinds}"
    assert after.last_layer.shape == (5, 1, 1) or after.last_layer.shape == (5,)
    assert_equal_functions(before, after)


def test_constants_of_modules_with_similar_names_stay():
    before = build(conv("a", INPUT), clamp("act", "a", *RELU), conv("act.conv", "act"), conv("act2", "act.conv"))
    after = fold(before)
    assert set(after.constants) == set(before.constants)
    assert_equal_functions(before, after)


def test_a_program_without_anything_to_fold_is_unchanged():
    program = build(conv("a", INPUT), conv("b", "a"))
    assert fold(program) == program


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_a_dead_channel_of_a_norm_of_the_input_has_no_value_to_pad_with(shift):
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1)).eval()
    network[0].weight.data[1], network[0].bias.data[1] = 0, shift
    before = capture(network, (3, 6, 6))
    after = fold(before)
    assert [op.kind for op in after.ops] == ["conv", "conv"]
    assert_equal_functions(before, after)


@pytest.mark.parametrize(
    ("value", "normalized", "kinds"),
    [
        (20.0, False, "conv pad conv"),
        (-1.1, False, "conv pad conv"),
        (1.0, False, "pad conv"),  # 127 / 128 is near enough
        (-1.0, False, "pad conv"),
        (0.3, False, "pad conv"),
        (3.0, True, "conv pad conv"),  # 0.1 + 3 * 2
        (0.25, True, "pad conv"),
    ],
)
def test_a_pad_of_the_image_with_other_values_than_it_has_reads_a_copy(value, normalized, kinds):
    network = nn.Sequential(nn.BatchNorm2d(3), nn.ConstantPad2d(1, value), nn.Conv2d(3, 4, 3)).eval()
    network[0].running_mean.copy_(torch.tensor([0.1, -0.2, 0.5]))
    network[0].running_var.copy_(torch.tensor([4.0, 1.0, 0.25]))
    before = capture(network if normalized else network[1:], (3, 6, 6))
    after = fold(before)
    assert " ".join(op.kind for op in after.ops) == kinds
    assert_equal_functions(before, after)
