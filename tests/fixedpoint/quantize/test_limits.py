"""Magnitudes that networks can have, and many that they cannot: none may fail at calibration or conversion."""

import warnings

import numpy as np
import pytest
import torch
from drawing import share_of_examples
from hypothesis import assume, given
from hypothesis import strategies as st
from programs import conv

from fixedpoint.program import (
    EXACT8,
    INPUT,
    PORTABLE,
    Add,
    AvgPool,
    Clamp,
    Concat,
    Flatten,
    Linear,
    Lookup,
    MaxPool,
    Mul,
    Pad,
    Program,
)
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.integer import IntegerEvaluator, integer_input, integer_tensor
from fixedpoint.quantize.calibrate import calibrate, with_exponents
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel

MAP = (3, 4, 4)
CLAMPS = [(None, None), (0.0, None), (0.0, 6.0), (None, 0.5), (2.0, 3.0)]


def images(count=4):
    return torch.randint(-128, 128, (count, *MAP), generator=torch.Generator().manual_seed(0)) / 128


@st.composite
def networks(draw, kinds):
    """A float program of maps [3, 4, 4]: each operation reads maps before it, and scales of channels differ wildly."""
    rng, ops, constants, maps = np.random.default_rng(draw(st.integers(0, 2**32 - 1))), [], {}, [INPUT]
    widest = draw(st.sampled_from([2, 10, 30]))  # binary orders of magnitude in each direction

    def weights(name, *shape):
        for constant, size in (("weight", shape), ("bias", shape[:1])):
            scale = 2.0 ** rng.integers(-widest, widest + 1, (shape[0], *[1] * (len(size) - 1)))
            values = (
                scale * rng.standard_normal(size) * (rng.random(shape[0]) > 0.2).reshape(-1, *[1] * (len(size) - 1))
            )
            constants[f"{name}.{constant}"] = torch.tensor(values, dtype=torch.float32)

    for i in range(draw(st.integers(1, 6))):
        name, clamp = f"t{i}", draw(st.sampled_from(CLAMPS))
        x, y = (draw(st.sampled_from(maps[-3:])) for _ in range(2))
        match draw(st.sampled_from(kinds)):
            case "conv":
                ops.append(conv(name, x, MAP, clamp=clamp))
                weights(name, 3, 3, 3, 3)
            case "add":
                ops.append(Add(name, (x, y, INPUT)[: draw(st.integers(2, 3))], MAP, clamp=clamp))
            case "mul":
                ops.append(Mul(name, (x, y), MAP, clamp=clamp))
            case "concat":
                ops += [Concat(f"{name}.c", (x, y), (6, 4, 4)), conv(name, f"{name}.c", MAP, clamp=clamp)]
                weights(name, 3, 6, 3, 3)
            case "mean":
                value = float(rng.choice([0, 1e-6, 20, 1e6]))
                ops.append(Pad(f"{name}.p", (x,), (3, 5, 6), (1, 0, 1, 1), (value,)))
                ops.append(AvgPool(name, (f"{name}.p",), MAP, (2, 3), (1, 1), clamp=clamp))
            case "clamp":
                ops.append(Clamp(name, (x,), MAP, clamp=clamp))
            case "lookup":
                ops.append(Lookup(name, (x,), MAP, "silu", ()))
        maps.append(name)
    ops += [Flatten("flat", (maps[-1],), (48,)), Linear("fc", ("flat",), (5,))]
    weights("fc", 5, 48)
    return Program(MAP, tuple(ops), constants)


def calibrated(program, arithmetic=EXACT8, x=None):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return calibrate(program, lambda: [images() if x is None else x], arithmetic=arithmetic)


KINDS = {
    EXACT8: ["conv", "add", "mul", "concat", "mean", "clamp", "lookup"],
    PORTABLE: ["conv", "add", "concat", "mean"],
}


@share_of_examples(2)
@given(st.data())
@pytest.mark.parametrize("arithmetic", KINDS)
@torch.no_grad()
def test_no_magnitude_fails(arithmetic, data):
    program = data.draw(networks(KINDS[arithmetic]))
    assume(all(value.isfinite().all() for _, value in FloatEvaluator(program).run(images())))
    quantized = calibrated(program, arithmetic)
    whole = dict(IntegerEvaluator(convert(quantized)).run(integer_input(images())))
    for name, value in FakeQuantModel(quantized).run(images()):
        assert torch.equal(integer_tensor(quantized, name, value), whole[name].int()), name


def network(*ops, **values):
    """A float program of 3 x 4 x 4 images: `ops`, the last one's map read by a linear layer; constants from a seed."""
    rng, shapes, constants = np.random.default_rng(0), {INPUT: MAP}, {}
    size = int(np.prod(ops[-1].shape))
    for op in (*ops, Flatten("flat", (ops[-1].name,), (size,)), Linear("fc", ("flat",), (5,))):
        if op.weighted:
            depth = shapes[op.inputs[0]][0]
            shape = (op.shape[0], depth, 3, 3) if op.kind == "conv" else (op.shape[0], depth)
            constants[f"{op.name}.weight"] = torch.tensor(
                rng.standard_normal(shape) / np.prod(shape[1:]) ** 0.5
            ).float()
            constants[f"{op.name}.bias"] = torch.zeros(shape[0])
        shapes[op.name] = op.shape
    ops = (*ops, Flatten("flat", (ops[-1].name,), (size,)), Linear("fc", ("flat",), (5,)))
    scaled = {
        f"{name}.{c}": constants[f"{name}.{c}"] * scale for name, scale in values.items() for c in ("weight", "bias")
    }
    return Program(MAP, ops, constants | scaled)


@torch.no_grad()
def decibels(program, quantized, name="fc"):
    """The ratio of signal and quantization noise of a tensor; the integer program is proved to be the same."""
    x = images()
    expected, found = (
        dict(run(x))[name].double() for run in (FloatEvaluator(program).run, FakeQuantModel(quantized).run)
    )
    converted = convert(quantized)
    assert torch.equal(
        integer_tensor(quantized, "fc", FakeQuantModel(quantized)(x)),
        IntegerEvaluator(converted).logits(integer_input(x)),
    )
    return float(10 * (expected.square().sum() / (found - expected).square().sum()).log10())


def residual(scale):
    """`relu(y + conv(y))`, whose branch is scaled as by the gamma of a BatchNorm."""
    branch = conv("a", INPUT, MAP, clamp=(0.0, None)), conv("b", "a", MAP)
    return network(*branch, Add("sum", ("a", "b"), MAP, clamp=(0.0, None)), b=scale)


@pytest.mark.parametrize("arithmetic", [EXACT8, PORTABLE])
@pytest.mark.parametrize("scale", [0, 1e-30, 1e-6, 1e-5, 1e4])
def test_a_branch_that_cannot_be_seen_costs_nothing(arithmetic, scale):
    plain = decibels(residual(1), calibrated(residual(1), arithmetic))
    program = residual(scale)
    assert plain > 20
    if scale < 1 or arithmetic == EXACT8:  # in portable arithmetic, y has the exponent of the sum
        assert decibels(program, calibrated(program, arithmetic)) > plain - 3
    assert convert(calibrated(program, arithmetic)).is_integer


def test_a_branch_is_held_within_what_can_be_seen_and_a_warning_says_so():
    message = "^b is held at the exponent (.+), where (.+) is its own best: beside what it is added to"
    with pytest.warns(UserWarning, match=message):
        program = calibrate(residual(1e-6), lambda: [images()])
    a, b = program.exponents["a"], program.exponents["b"]
    assert 128 * (1 + 2 ** (b - a)) < 2**24 <= 128 * (1 + 2 ** (b + 1 - a)), "one bit more would be too much"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibrate(residual(1), lambda: [images()])


@pytest.mark.parametrize("largest", [1e-15, 1e-6, 1e6, 1e25])
def test_values_of_any_size_are_told_apart(largest):
    """As every operation is linear, the logits are as good as those of the same network with usual values."""
    means = AvgPool("mean", ("a",), (3, 2, 2), (2, 2), (2, 2)), Concat("twice", ("mean", "mean"), (6, 2, 2))
    products = conv("b", INPUT, (6, 2, 2), stride=(2, 2)), Mul("product", ("twice", "b"), (6, 2, 2))
    usual, unusual = (network(conv("a", INPUT, MAP), *means, *products, a=size) for size in (1, largest))
    assert decibels(unusual, calibrated(unusual)) == pytest.approx(decibels(usual, calibrated(usual)), abs=3)


def test_a_tensor_of_zeros_takes_the_exponent_that_others_need():
    program = network(conv("a", INPUT, MAP), conv("b", "a", MAP), Add("sum", ("a", "b"), MAP), a=1e-9, b=0)
    assert decibels(program, calibrated(program)) > 30


@pytest.mark.parametrize("arithmetic", [EXACT8, PORTABLE])
@pytest.mark.parametrize("value", [20.0, -20.0, (1.0, -200.0, 0.0)])
def test_the_constants_of_a_pad_count(arithmetic, value):
    values = value if isinstance(value, tuple) else (value,)
    program = network(
        conv("a", INPUT, MAP),
        Pad("pad", ("a",), (3, 9, 9), (1, 1, 0, 2), values, between=(1, 1)),
        conv("b", "pad", (3, 9, 9)),
    )
    assert decibels(program, calibrated(program, arithmetic)) > 30


def test_the_least_value_of_a_pad_does_not_count():
    pool = Pad("pad", ("a",), (3, 6, 6), (1, 1, 1, 1), (None,)), MaxPool("pool", ("pad",), MAP, (3, 3), (1, 1), (0, 0))
    program = network(conv("a", INPUT, MAP), *pool, conv("b", "pool", MAP))
    assert decibels(program, calibrated(program)) > 30


@pytest.mark.parametrize("clamp", [(20.0, None), (None, -20.0), (20.0, 30.0)])
def test_the_bounds_of_a_clamp_beyond_zero_count(clamp):
    program = network(conv("a", INPUT, MAP), Clamp("clamp", ("a",), MAP, clamp=clamp), conv("b", "clamp", MAP))
    assert decibels(program, calibrated(program)) > 30


@pytest.mark.parametrize(("bound", "exponent"), [(6.0, -2), (1.0, -1), (0.5, 0), (0.375, 2), (20.0, -3), (-0.75, 1)])
def test_no_bound_of_a_portable_clamp_lies_halfway_between_integers(bound, exponent):
    assert bound * 2.0**exponent % 1 == 0.5
    program = network(conv("a", INPUT, MAP, clamp=(None, bound)), conv("b", INPUT, MAP), Add("sum", ("a", "b"), MAP))
    lowered = calibrated(program, PORTABLE)
    for other in range(-4, 5):
        found = with_exponents(lowered, lowered.exponents | {"a": other}).exponents["a"]
        assert found == other - (other == exponent)


@pytest.mark.parametrize("arithmetic", [EXACT8, PORTABLE])
@pytest.mark.parametrize("bias", [-1e12, -1e30, -3e38])
def test_a_channel_whose_accumulator_is_too_large_with_any_exponent_saturates(arithmetic, bias):
    program = network(conv("a", INPUT, MAP, clamp=(0.0, None)), conv("b", "a", MAP))
    program = program.with_constants(**{"a.bias": torch.tensor([0, bias, 0])})
    quantized = calibrated(program, arithmetic)
    assert decibels(program, quantized) > 20
    assert not dict(FakeQuantModel(quantized).run(images()))["a"][:, 1].any()


@pytest.mark.parametrize("arithmetic", [EXACT8, PORTABLE])
def test_a_layer_with_many_inputs_that_cancel_saturates(arithmetic):
    """Its result is 2**-20, of products of 1: with exponents that fit the result, all weights saturate."""
    weight = torch.tensor([1.0, -1.0]).repeat(1, 2400)
    ops = Flatten("flat", (INPUT,), (4800,)), Linear("a", ("flat",), (1,)), Linear("fc", ("a",), (2,))
    constants = {
        "a.weight": weight,
        "a.bias": torch.tensor([2.0**-20]),
        "fc.weight": torch.ones(2, 1),
        "fc.bias": torch.zeros(2),
    }
    program = Program((3, 40, 40), ops, constants)
    quantized = calibrated(program, arithmetic, torch.ones(1, 3, 40, 40) / 2)
    assert quantized.exponents["a"] == 26
    convert(quantized)
    assert quantized.constants["a.weight"].abs().max() < 0.01
