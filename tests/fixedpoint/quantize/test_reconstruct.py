import itertools

import pytest
import torch
from programs import conv

from fixedpoint.program import EXACT8, INPUT, PORTABLE, Add, AvgPool, Flatten, Linear, Program
from fixedpoint.program.constants import integer_weights
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.quantize.blocks import blocks
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.correct import correct_biases
from fixedpoint.quantize.qat import FakeQuantModel
from fixedpoint.quantize.reconstruct import reconstruct

RELU = (0.0, None)
STEPS = 30


def network():
    """A layer, a residual unit, a mean and a linear layer."""
    torch.manual_seed(0)
    ops = (
        conv("stem", INPUT, (8, 6, 6), clamp=RELU),
        conv("a", "stem", (8, 6, 6), clamp=RELU),
        conv("b", "a", (8, 6, 6)),
        Add("sum", ("b", "stem"), (8, 6, 6), clamp=RELU),
        AvgPool("mean", ("sum",), (8, 1, 1), (6, 6), (6, 6)),
        Flatten("flat", ("mean",), (8,)),
        Linear("fc", ("flat",), (5,)),
        Flatten("logits", ("fc",), (5,)),
    )
    shapes = {"stem": (8, 3, 3, 3), "a": (8, 8, 3, 3), "b": (8, 8, 3, 3), "fc": (5, 8)}
    constants = {f"{name}.weight": torch.randn(shape) ** 3 / 8 for name, shape in shapes.items()}
    constants |= {f"{name}.bias": torch.randn(shape[0]) / 8 for name, shape in shapes.items()}
    return Program((3, 6, 6), ops, constants)


def images(count=48):
    """Plain colours with a little noise: neighbouring pixels are alike, as in photographs."""
    generator = torch.Generator().manual_seed(1)
    colours = torch.randint(-120, 120, (count, 3, 1, 1), generator=generator)
    return (colours + torch.randint(-8, 8, (count, 3, 6, 6), generator=generator)) / 128


@pytest.fixture(scope="module", params=[PORTABLE, EXACT8])
def case(request):
    """Calibrated with the float network's constants, with corrected biases, and after each block."""
    x = images()
    reference = calibrate(
        network(), lambda: [x], arithmetic=request.param, weight_bits=8 if request.param == PORTABLE else 7
    )
    start = correct_biases(reference, x)
    return x, reference, start, [*reconstruct(start, reference, x, STEPS)]


def test_blocks_end_where_one_tensor_alone_is_read_later():
    names = [[op.name for op in block] for block in blocks(network())]
    assert names == [["stem"], ["a", "b", "sum"], ["mean", "flat", "fc", "logits"]]


def test_a_mean_alone_is_no_block_in_portable_arithmetic(case):
    _, reference, *_ = case
    assert [block[-1].name for block in blocks(reference)] == ["stem", "sum", "logits"]


@torch.no_grad()
def test_no_block_is_farther_from_the_float_networks_and_the_residual_unit_is_closer(case):
    x, reference, start, programs = case
    expected = dict(FloatEvaluator(reference).run(x))
    for before, after, end in zip([start, *programs], programs, ("stem", "sum", "logits"), strict=False):
        errors = [(dict(FakeQuantModel(p).run(x))[end] - expected[end]).square().sum() for p in (before, after)]
        assert errors[1] <= (0.95 if end == "sum" else 1) * errors[0], end


@torch.no_grad()
def test_even_weights_are_rounded_together_before_the_first_step(case):
    x, reference, start, programs = case
    expected = dict(FloatEvaluator(reference).run(x))["sum"]
    *_, rounded = reconstruct(start, reference, x, 0)
    errors = [(dict(FakeQuantModel(p).run(x))["sum"] - expected).square().sum() for p in (start, rounded, programs[-1])]
    if start.is_portable:
        assert errors[2] <= errors[1] < 0.95 * errors[0], errors
    else:
        assert all(torch.equal(rounded.constants[name], value) for name, value in start.constants.items())


def test_only_the_block_changes_and_some_of_its_integers_do(case):
    _, _, start, programs = case
    for before, after, block in zip([start, *programs], programs, blocks(start), strict=False):
        changed = {name for name in after.constants if not torch.equal(after.constants[name], before.constants[name])}
        names = ("weight", "bias") if start.is_portable else ("weight",)
        assert changed <= {f"{op.name}.{name}" for op in block if op.weighted for name in names}
    for op in (op for op in start.ops if op.name in ("a", "b")):
        exponent = start.constants[f"{op.name}.weight_exponent"]
        integers = [integer_weights(start, p.constants[f"{op.name}.weight"], exponent) for p in (start, programs[-1])]
        assert not torch.equal(*integers)
        assert start.is_portable or (integers[1] - integers[0]).abs().max() <= 1


def test_its_result_converts(case):
    *_, programs = case
    assert convert(programs[-1]).is_integer


def test_what_was_interrupted_ends_as_what_was_not(case):
    x, reference, _, programs = case
    for finished in (1, 2):
        *_, resumed = reconstruct(programs[finished - 1], reference, x, STEPS, finished)
        for name, value in programs[-1].constants.items():
            assert torch.equal(resumed.constants[name], value), name
    assert [*reconstruct(programs[-1], reference, x, STEPS, 3)] == []


def test_it_finds_the_integers_of_least_error():
    """Two inputs are equal, so only the sum of their weights, 0.8 steps, counts: 1 is better than the nearest, 0."""
    x = images()
    x[:, 1] = x[:, 0]
    ops = (Flatten("flat", (INPUT,), (3,)), Linear("fc", ("flat",), (2,)))
    x = x[:, :, :1, :1]
    weight = torch.tensor([[0.45, 0.35, 100.0], [-0.35, -0.45, -100.0]]) / 64
    program = calibrate(Program((3, 1, 1), ops, {"fc.weight": weight, "fc.bias": torch.zeros(2)}), lambda: [x], 0)
    assert program.constants["fc.weight_exponent"].tolist() == [6, 6]
    *_, found = reconstruct(program, program, x, 50)
    errors = {
        pair: (x[:, :2, 0, 0] @ torch.tensor([pair[0] - 0.45, pair[1] - 0.35])).square().sum()
        for pair in itertools.product(range(-1, 3), repeat=2)
    }
    best = min(errors.values())
    integers = convert(found).constants["fc.weight"]
    assert errors[tuple(integers[0, :2].tolist())] == pytest.approx(best)
    assert integers.tolist() == [[1, 0, 100], [0, -1, -100]]


def test_a_block_without_an_error_stays_as_it_is():
    x = images()[:, :, :1, :1]
    weight = torch.tensor([[1.0, -2.0, 3.0]] * 2) / 8
    ops = (Flatten("flat", (INPUT,), (3,)), Linear("fc", ("flat",), (2,)))
    program = calibrate(
        Program((3, 1, 1), ops, {"fc.weight": weight, "fc.bias": torch.zeros(2)}), lambda: [x[:, :, :1, :1]]
    )
    *_, found = reconstruct(program, program, x[:, :, :1, :1], 5)
    assert torch.equal(found.constants["fc.weight"], weight)
