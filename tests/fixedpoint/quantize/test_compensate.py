import itertools

import pytest
import torch
from programs import conv

from fixedpoint.program import EXACT8, INPUT, PORTABLE, Conv, Flatten, Linear, Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.compensate import MOST, compensate
from fixedpoint.quantize.qat import FakeQuantModel


def images(count, size=1):
    """Grey with a little noise: channels and neighbouring pixels are much alike."""
    generator = torch.Generator().manual_seed(0)
    grey = torch.randint(-100, 100, (count, 1, 1, 1), generator=generator)
    return (grey + torch.randint(-8, 8, (count, 3, size, size), generator=generator)) / 128


def compensated(program, op, x):
    model = FakeQuantModel(program)
    compensate(model, op, x)
    return model


def linear(x, arithmetic=EXACT8, weight=None):
    torch.manual_seed(0)
    ops = (Flatten("flat", (INPUT,), (3,)), Linear("fc", ("flat",), (16,)))
    constants = {"fc.weight": torch.randn(16, 3) if weight is None else weight, "fc.bias": torch.zeros(16)}
    return calibrate(Program((3, 1, 1), ops, constants), lambda: [x], 0, arithmetic)


def variance(rows, x):
    """Of the error of each channel, whose mean is for the bias."""
    return (rows.double() @ x.flatten(1).double().T).var(1)


def integers_of(model, op):
    return (model.constants(op)[0] * model.weight_scale(op)).detach().round()


@pytest.mark.parametrize("arithmetic", [PORTABLE, EXACT8])
def test_three_weights_are_nearly_as_good_as_the_best_of_all_integers_around_them(arithmetic):
    x = images(2000)
    program = linear(x, arithmetic)
    op, scale = program.ops[-1], FakeQuantModel(program).weight_scale(program.ops[-1])
    weights = program.constants["fc.weight"] * scale
    found = variance(integers_of(compensated(program, op, x), op) - weights, x)
    near = [variance(weights.floor() + torch.tensor(add) - weights, x) for add in itertools.product((0, 1), repeat=3)]
    nearest = variance(weights.round() - weights, x)
    best = torch.stack(near).min(0).values
    assert best.sum() < 0.4 * nearest.sum()
    assert found.sum() < 1.5 * best.sum()


def test_no_weight_moves_farther_than_its_integer_asks_for():
    x = images(2000)
    program = linear(x)
    op, scale = program.ops[-1], FakeQuantModel(program).weight_scale(program.ops[-1])
    model = compensated(program, op, x)
    before, after = (weight.detach() * scale for weight in (program.constants["fc.weight"], model.constants(op)[0]))
    stays = integers_of(model, op) == before.round()
    assert 0 < stays.sum() < stays.numel()
    assert (after - before)[stays].abs().max() < 0.06
    assert (after - after.round())[~stays].abs().sub(0.45).abs().max() < 1e-4


def test_inputs_that_are_independent_are_rounded_each_by_itself():
    x = torch.tensor([*itertools.product((-1.0, 1.0), repeat=3)])[:, :, None, None] / 2
    program = linear(x)
    model = FakeQuantModel(program)
    expected = (model.constants(program.ops[-1])[0] * model.weight_scale(program.ops[-1])).round()
    assert torch.equal(integers_of(compensated(program, program.ops[-1], x), program.ops[-1]), expected)


def test_few_images_do_not_decide_for_many_inputs():
    """With 2 images of 300 inputs, any weights could be made to fit; for others they must not become worse."""
    torch.manual_seed(0)
    x, others = torch.randint(-128, 128, (2, 3, 10, 10)) / 128, torch.randint(-128, 128, (500, 3, 10, 10)) / 128
    ops = (Flatten("flat", (INPUT,), (300,)), Linear("fc", ("flat",), (8,)))
    constants = {"fc.weight": torch.randn(8, 300), "fc.bias": torch.zeros(8)}
    program = calibrate(Program((3, 10, 10), ops, constants), lambda: [x], 0)
    scale = FakeQuantModel(program).weight_scale(ops[-1])
    weights = constants["fc.weight"] * scale
    found = variance(integers_of(compensated(program, ops[-1], x), ops[-1]) - weights, others)
    assert found.sum() < 1.05 * variance(weights.round() - weights, others).sum()


@pytest.mark.parametrize(
    "op",
    [conv("a", INPUT, (4, 6, 6)), Conv("a", (INPUT,), (6, 4, 3), (1, 2), (1, 1), (2, 1), 3)],
    ids=["dense", "groups"],
)
def test_a_convolution_loses_less(op):
    torch.manual_seed(0)
    x = images(64, 6)
    grouped = op.groups > 1
    weight = torch.randn(6, 1, 3, 3) if grouped else torch.randn(4, 3, 3, 3)
    size = (op.shape[1], op.shape[2])
    last = Conv("out", ("a",), (2, 1, 1), (1, 1), (0, 0), (1, 1), 1)
    constants = {"a.weight": weight, "a.bias": torch.zeros(len(weight)), "out.bias": torch.zeros(2)}
    constants["out.weight"] = torch.randn(2, len(weight), *size)
    program = calibrate(Program((3, 6, 6), (op, last), constants), lambda: [x])
    expected = FloatEvaluator(program).conv(op, x)
    plain, model = FakeQuantModel(program), compensated(program, op, x)
    errors = [
        (each.accumulator(op, x) - expected).detach().transpose(0, 1).flatten(1).var(1) for each in (plain, model)
    ]
    assert errors[1].sum() < 0.7 * errors[0].sum()


def test_an_input_that_never_varies_changes_nothing():
    x = torch.full((8, 3, 1, 1), 0.5)
    program = linear(x)
    model = FakeQuantModel(program)
    expected = (model.constants(program.ops[-1])[0] * model.weight_scale(program.ops[-1])).round()
    assert torch.equal(integers_of(compensated(program, program.ops[-1], x), program.ops[-1]), expected)


def test_a_channel_of_too_many_inputs_stays_as_it_is():
    x = images(2).repeat(1, MOST // 3 + 1, 1, 1)
    inputs = x.shape[1]
    ops = (Flatten("flat", (INPUT,), (inputs,)), Linear("fc", ("flat",), (2,)))
    constants = {"fc.weight": torch.randn(2, inputs), "fc.bias": torch.zeros(2)}
    program = calibrate(Program((inputs, 1, 1), ops, constants), lambda: [x], 0)
    before = FakeQuantModel(program).constants(ops[-1])[0]
    assert torch.equal(compensated(program, ops[-1], x).constants(ops[-1])[0], before)


def test_a_little_noise_around_a_large_mean_is_seen():
    """Of 256 inputs far from zero, which vary by one step together: products are large, and that is little of them."""
    torch.manual_seed(0)
    x = (torch.randint(60, 127, (256, 1, 1)) + torch.randint(0, 2, (32, 1, 24, 24))) / 128
    ops = (
        Conv("a", (INPUT,), (8, 24, 24), (1, 1), (0, 0), (1, 1), 1),
        Conv("b", ("a",), (2, 1, 1), (1, 1), (0, 0), (1, 1), 1),
    )
    constants = {"a.weight": torch.randn(8, 256, 1, 1), "b.weight": torch.randn(2, 8, 24, 24)}
    constants |= {"a.bias": torch.zeros(8), "b.bias": torch.zeros(2)}
    program = calibrate(Program((256, 24, 24), ops, constants), lambda: [x], 0)
    scale = FakeQuantModel(program).weight_scale(ops[0])
    sums = [
        weight.sum((1, 2, 3))
        for weight in (constants["a.weight"] * scale, integers_of(compensated(program, ops[0], x), ops[0]))
    ]
    assert (sums[1] - sums[0]).abs().max() < 0.6
