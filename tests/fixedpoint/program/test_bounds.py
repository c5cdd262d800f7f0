from dataclasses import replace
from fractions import Fraction

import numpy as np
import oracle
import pytest
import torch
from programs import PROGRAMS, conv, hard_inputs, numpy_constants

from fixedpoint.program import INPUT, Add, AvgPool, Clamp, Flatten, Linear, Program
from fixedpoint.program.bounds import MAX_SHIFT, accumulator_bound, check_exactness, layer_bounds
from fixedpoint.program.constants import integers
from fixedpoint.program.integer import IntegerEvaluator, integer_tensor
from fixedpoint.quantize.qat import FakeQuantModel


def classifier(weight, bias, clamp=(None, None), weight_exponent=6):
    """A clamped image of len(weight[0]) pixels and a linear layer; the clamp makes bounds."""
    pixels = len(weight[0])
    ops = (
        Clamp("x", (INPUT,), (1, 1, pixels), clamp=clamp),
        Flatten("flat", ("x",), (pixels,)),
        Linear("fc", ("flat",), (len(weight),)),
    )
    constants = {
        "fc.weight": torch.tensor(weight, dtype=torch.int8),
        "fc.bias": torch.tensor(bias, dtype=torch.int32),
        "fc.weight_exponent": torch.full((len(weight),), weight_exponent, dtype=torch.int32),
    }
    return Program((1, 1, pixels), ops, constants, {INPUT: 7, "x": 7, "flat": 7})


@pytest.mark.parametrize(
    ("clamp", "low", "high"),
    [((None, None), -128, 127), ((0.0, None), 0, 127), ((0.0, 0.5), 0, 64), ((-0.75, 0.5), -96, 64)],
)
def test_the_bound_by_hand(clamp, low, high):
    program = classifier([[1, -2, 3], [-127, 127, 127]], [-10, 5], clamp)
    bound = layer_bounds(program)["fc"]
    assert bound.dtype == torch.int64
    first = max(4 * high - 2 * low, 2 * high - 4 * low + 10)
    second = max(254 * high - 127 * low + 5, 127 * high - 254 * low)
    assert bound.tolist() == [first, second]


def test_the_bound_is_the_largest_partial_sum_of_any_order():
    """Every subset of the products and the bias, at the ends of the input's range."""
    for clamp in ((None, None), (0.0, None), (0.25, 0.5), (-0.75, -0.5)):
        weight, bias = [[5, -3, 0, 7, -2]], [-11]
        program = classifier(weight, bias, clamp)
        ends = program.input_bounds(program.ops[-1])
        sums = {0}
        for terms in ([w * x for x in ends] for w in weight[0]):
            sums |= {total + term for total in sums for term in terms}
        sums |= {total + bias[0] for total in sums}
        assert layer_bounds(program)["fc"].tolist() == [max(abs(total) for total in sums)]


def test_the_bound_of_a_convolution_sums_over_its_group():
    op = conv("c", INPUT, (2, 4, 4), groups=2)
    weight = torch.tensor([1, -1] * 9, dtype=torch.int8).reshape(2, 1, 3, 3)
    program = Program((2, 4, 4), (op,), {})
    expected = [max(5 * 127 + 4 * 128 + 7, 5 * 128 + 4 * 127), max(4 * 127 + 5 * 128, 4 * 128 + 5 * 127 + 9)]
    assert accumulator_bound(program, op, weight, torch.tensor([7, -9])).tolist() == expected


@pytest.mark.parametrize("name", PROGRAMS)
def test_no_input_exceeds_the_bound_and_some_nearly_reach_it(name):
    program = PROGRAMS[name]
    check_exactness(program)
    bounds = layer_bounds(program)
    layers = [op for op in program.ops if op.kind in ("conv", "linear")]
    assert list(bounds) == [op.name for op in layers]
    for op in layers:
        low, high = program.input_bounds(op)
        weight, bias = (program.constants[f"{op.name}.{key}"].numpy().astype(np.int64) for key in ("weight", "bias"))
        rows = weight.reshape(len(weight), -1)
        worst = [(np.where(rows > 0, a, b) * rows).sum(axis=1) + bias for a, b in ((low, high), (high, low))]
        below = bounds[op.name].numpy() - np.abs(worst).max(axis=0)
        assert (below >= 0).all()
        assert low > 0 or high < 0 or (below <= np.abs(bias)).all()  # a bias that the products outweigh


def test_the_oracles_accumulators_stay_below_the_bound():
    program = PROGRAMS["conv_many_terms"]
    logits = oracle.run(program.to_json(), numpy_constants(program), hard_inputs(program))["logits"]
    assert (np.abs(logits).max(axis=0) <= layer_bounds(program)["logits"].numpy()).all()


def test_a_channel_that_can_reach_the_limit_is_named():
    terms = 2**24 // (128 * 64)  # 2048 of 64, each times 128, are 2**24
    weight = [[64] * (terms - 1) + [63], [64] * (terms - 1) + [63], [64] * terms]
    check_exactness(classifier(weight[:2], [127, -127]))
    with pytest.raises(ValueError, match=r"fc: .* channel 1 can reach 16777216, not below 2\*\*24"):
        check_exactness(classifier(weight[:2], [127, -128]))
    with pytest.raises(ValueError, match=r"fc: .* channel 2 can reach 16777216"):
        check_exactness(classifier(weight, [0, 0, 0]))
    check_exactness(classifier(weight, [0, 0, 0], clamp=(0.0, None)))  # 127 instead of 128


@pytest.mark.parametrize("shift", [MAX_SHIFT, -MAX_SHIFT, MAX_SHIFT + 1, -MAX_SHIFT - 1])
def test_a_shift_that_int64_might_not_hold_is_named(shift):
    program = classifier([[1], [1]], [0, 0])
    x, flat, fc = program.ops
    constants = {f"y.{name}": program.constants[f"fc.{name}"] for name in ("weight", "bias")}
    constants |= {"y.weight_exponent": torch.tensor([0, shift]), "fc.weight": torch.ones(2, 2, dtype=torch.int8)}
    ops = (x, flat, Linear("y", ("flat",), (2,)), replace(fc, inputs=("y",)))
    program = Program((1, 1, 1), ops, program.constants | constants, program.exponents | {"y": 7})
    if abs(shift) == MAX_SHIFT:
        check_exactness(program)
    else:
        with pytest.raises(ValueError, match=rf"y: a shift .* exceeds {MAX_SHIFT}"):
            check_exactness(program)


def sum_of(exponents, target=4):
    """A program that adds clamped tensors with these exponents."""
    branches = [Clamp(f"x{i}", (INPUT,), (1, 4, 4)) for i in range(len(exponents))]
    ops = (
        *branches,
        Add("sum", tuple(op.name for op in branches), (1, 4, 4)),
        Flatten("flat", ("sum",), (16,)),
        Linear("fc", ("flat",), (1,)),
    )
    constants = {
        f"fc.{name}": torch.zeros(size, dtype=torch.int32) for name, size in (("weight", (1, 16)), ("bias", 1))
    }
    constants["fc.weight_exponent"] = torch.zeros(1, dtype=torch.int32)
    values = {f"x{i}": exponent for i, exponent in enumerate(exponents)}
    return Program((1, 4, 4), ops, constants, {INPUT: 7, "sum": target, "flat": target} | values)


@pytest.mark.parametrize("exponents", [(7, 7), (-9, 7), (16, 0), (7, 7, -8, 7)])
def test_sums_below_the_limit(exponents):
    check_exactness(sum_of(exponents))


@pytest.mark.parametrize(
    ("exponents", "total"), [((-10, 7), 2**24 + 128), ((17, 0), 2**24 + 128), ((0, 0, 16), 2**24 + 128)]
)
def test_operands_too_far_apart_are_named(exponents, total):
    with pytest.raises(ValueError, match=rf"sum: operands with exponents \[.*\] can sum to {total}, not below 2\*\*24"):
        check_exactness(sum_of(exponents))


def pool(kernel, shift):
    """A program that averages its whole input."""
    ops = (
        AvgPool("mean", (INPUT,), (1, 1, 1), kernel, kernel),
        Flatten("flat", ("mean",), (1,)),
        Linear("fc", ("flat",), (1,)),
    )
    constants = {"fc.weight": torch.ones(1, 1, dtype=torch.int8), "fc.bias": torch.zeros(1, dtype=torch.int32)}
    constants["fc.weight_exponent"] = torch.zeros(1, dtype=torch.int32)
    return Program((1, *kernel), ops, constants, {INPUT: 7, "mean": 7 - shift, "flat": 7 - shift})


@pytest.mark.parametrize(
    ("kernel", "shift", "divisor"),
    [((361, 363), 0, 131043), ((241, 271), 1, 130622), ((7, 7), 11, 100352), ((361, 363), -2, 131043)],
)
def test_averages_below_the_limit_are_exact(kernel, shift, divisor):
    """Both models, compared with fractions, at totals on and beside the edges between two results."""
    assert divisor < 2**17
    program, count = pool(kernel, shift), kernel[0] * kernel[1]
    check_exactness(program)
    rng = np.random.default_rng(0)
    unit = Fraction(count) * Fraction(2) ** shift
    halves = rng.integers(-255, 256, 40)
    edges = [int(half * unit / 2) for half in halves] + [-128 * count, 127 * count]
    totals = np.array([edge + d for edge in edges for d in (-1, 0, 1) if -128 * count <= edge + d <= 127 * count])
    x = np.broadcast_to((totals // count)[:, None], (len(totals), count)).copy()
    x += np.arange(count) < (totals % count)[:, None]
    assert (x.sum(axis=1) == totals).all()
    x = torch.from_numpy(x.reshape(-1, 1, *kernel)).to(torch.int8)
    expected = [min(max(round(Fraction(int(total)) / unit), -128), 127) for total in totals]
    assert dict(IntegerEvaluator(program).run(x))["mean"].flatten().tolist() == expected
    real = Program(
        program.input_shape,
        program.ops,
        {k: v.float() if "exp" not in k else v for k, v in program.constants.items()},
        program.exponents,
    )
    mean = dict(FakeQuantModel(real).run(x.float() / 128))["mean"].detach()
    assert integer_tensor(program, "mean", mean).flatten().tolist() == expected


@pytest.mark.parametrize(
    ("kernel", "shift", "divisor"), [((256, 512), 0, 2**17), ((7, 7), 12, 200704), ((363, 362), -1, 131406)]
)
def test_averages_over_too_many_elements_are_named(kernel, shift, divisor):
    with pytest.raises(ValueError, match=rf"mean: divides by {divisor}; float32 rounds correctly only below 131072"):
        check_exactness(pool(kernel, shift))


def test_integers_are_rounded_half_to_even_in_each_channel():
    x = torch.tensor([[0.5, 1.5, -2.5, 0.3], [0.5, 1.5, -2.5, 0.3]])
    assert integers(x, torch.tensor([0, 1])).tolist() == [[0, 2, -2, 0], [1, 3, -5, 1]]
    assert integers(x * 100, torch.tensor([0, 1]), 127).tolist() == [[50, 127, -127, 30], [100, 127, -127, 60]]
    tenth = torch.tensor([0.1])  # exact in float64, where float32 would round 0.1 * 2**40
    assert integers(tenth, torch.tensor([40])).tolist() == [round(Fraction(tenth.item()) * 2**40)]
