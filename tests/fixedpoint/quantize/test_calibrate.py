import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from programs import conv

from fixedpoint.program import INPUT, Add, AvgPool, Clamp, Concat, Flatten, Linear, MaxPool, Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.quantize.calibrate import calibrate, covering_exponent
from fixedpoint.quantize.convert import convert

HEAD = Flatten("flat", ("c",), (96,)), Linear("fc", ("flat",), (5,))


def build(*ops, tails=1):
    """A float program on 3x4x4 images with random constants, `tails` the power that makes some weights outliers."""
    rng, shapes, constants = np.random.default_rng(0), {INPUT: (3, 4, 4)}, {}
    for op in ops:
        if op.kind in ("conv", "linear"):
            size = (op.shape[0], shapes[op.inputs[0]][0], *((3, 3) if op.kind == "conv" else ()))
            scale = 10.0 ** rng.integers(-2, 2, (size[0], *[1] * (len(size) - 1)))
            constants[f"{op.name}.weight"] = scale * rng.standard_normal(size) ** tails
            constants[f"{op.name}.bias"] = rng.standard_normal(size[0])
        shapes[op.name] = op.shape
    return Program((3, 4, 4), ops, {name: torch.tensor(v, dtype=torch.float32) for name, v in constants.items()})


def images(count=12):
    pixels = torch.randint(0, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    return (pixels - 128) / 128


def calibrated(program, x=None, finer=3, batch=4):
    return calibrate(program, lambda: (images() if x is None else x).split(batch), finer)


def covering(largest):
    """The greatest exponent with which `largest` is at most 127, found by search."""
    return max(e for e in range(-140, 170) if Fraction(float(largest)) * Fraction(2) ** e <= 127)


def best(x, bounds, finer=3):
    """The exponent, from the covering one on, of the least squared error, by search; `bounds(e)` are the limits."""
    x = np.asarray(x, np.float64)
    least = covering(np.abs(x).max())
    errors = {}
    for e in range(least, least + finer + 1):
        errors[e] = np.square(np.clip(np.rint(x * 2.0**e), *bounds(e)) * 2.0**-e - x).sum()
    return min(errors, key=errors.get)


def activation_bounds(clamp):
    ends = [(end if bound is None else bound) for bound, end in zip(clamp, (-(2.0**99), 2.0**99), strict=True)]
    return lambda e: [np.clip(round(end * 2.0**e), -128, 127) for end in ends]


@pytest.mark.parametrize(
    ("largest", "exponent"),
    [(127, 0), (127.00001, -1), (128, -1), (254, -1), (255, -2), (1, 6), (1.0078125, 6), (0.9921875, 7), (0.5, 7)],
)
def test_covering_exponent_by_hand(largest, exponent):
    assert covering_exponent(torch.tensor(largest)).item() == exponent


def test_covering_exponent_by_search():
    edges = np.float32(127) * np.exp2(np.float32([-120, -30, -1, 0, 3, 40, 120]))
    others = np.float32([1e-45, 1e-40, 1.2e-38, 1e-20, 0.1, 3.3, 126, 129, 1e20, 3.4e38])
    beside = [np.nextafter(edges, np.float32(end)) for end in (0, np.inf)]
    values = np.concatenate([edges, *beside, others])
    result = covering_exponent(torch.from_numpy(values))
    assert result.dtype == torch.int32
    assert result.tolist() == [covering(value) for value in values]


def test_covering_exponent_of_zeros_is_zero():
    assert covering_exponent(torch.tensor([0.0, 1.0, 0.0])).tolist() == [0, 6, 0]


@pytest.mark.parametrize("clamp", [(None, None), (0.0, None), (0.0, 6.0), (-1.0, 1.0)])
@pytest.mark.parametrize("outlier", [1, 3, 30])
def test_activation_exponents_have_the_least_squared_error(clamp, outlier):
    x = images(256)
    x[0] *= outlier
    program = build(conv("a", INPUT, (4, 4, 4), clamp=clamp), conv("c", "a", (6, 4, 4)), *HEAD)
    tensors = dict(FloatEvaluator(program).run(x))
    exponents = calibrated(program, x).exponents
    assert exponents["a"] == best(tensors["a"], activation_bounds(clamp))
    assert exponents["c"] == best(tensors["c"], activation_bounds((None, None)))


def test_an_outlier_is_saturated():
    x = torch.rand(1024, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x[0, 0, 0, 0] = 4
    program = build(Add("c", (INPUT, INPUT), (6, 4, 4)), *HEAD)
    program = program.with_constants(**{"fc.weight": torch.ones(5, 48)})
    chosen = {finer: calibrated(program, x, finer, batch=300).exponents["c"] for finer in (0, 1, 3)}
    assert chosen == {finer: best(2 * x, activation_bounds((None, None)), finer) for finer in (0, 1, 3)}
    assert chosen[0] == covering(8) == 3 and chosen[3] > chosen[0]


@pytest.mark.parametrize("tails", [1, 7])
def test_weight_exponents_have_the_least_squared_error_in_each_channel(tails):
    program = build(conv("a", INPUT, (64, 4, 4)), conv("c", "a", (6, 4, 4)), *HEAD, tails=tails)
    exponents = calibrated(program).constants["a.weight_exponent"]
    rows = program.constants["a.weight"].flatten(1)
    assert exponents.dtype == torch.int32
    assert exponents.tolist() == [best(row, lambda e: (-127, 127)) for row in rows]
    saturated = sum(e > covering(row.abs().max()) for e, row in zip(exponents.tolist(), rows, strict=True))
    assert saturated > 0 if tails == 7 else saturated < 8


def classifier(weight, bias):
    """A float program of 2,400 pixels and one linear layer."""
    ops = Flatten("flat", (INPUT,), (2400,)), Linear("fc", ("flat",), (len(weight),))
    return Program((24, 10, 10), ops, {"fc.weight": weight, "fc.bias": bias})


def test_weights_get_coarser_where_the_accumulator_could_reach_the_limit():
    weight = torch.zeros(5, 2400)
    weight[0] = weight[1, :2000] = 1.0  # 64 * 2400 * 128 >= 2**24 > 32 * 2400 * 128 and 64 * 2000 * 128
    weight[2, 0] = weight[4, 0] = 1.0
    bias = torch.tensor([0.0, 0.0, 2.0**20, 0.0, 2.0**18])
    program = calibrate(classifier(weight, bias), lambda: [torch.zeros(1, 24, 10, 10)])
    # 2**20 * 2**(7 + e) < 2**24 from e = -4 down; 2**18 likewise from -2
    assert program.constants["fc.weight_exponent"].tolist() == [5, 6, -4, 0, -2]
    convert(program)


def test_weights_that_just_stay_below_the_limit_keep_their_exponent():
    weight = -torch.ones(2, 2400)
    weight[:, 2047:] = 0  # 64 * 2047 * 128 = 2**24 - 2**13, so the bias may be 2**13 - 1 steps of 2**-13
    bias = torch.tensor([1 - 2.0**-13, 1.0])
    program = calibrate(classifier(weight, bias), lambda: [torch.zeros(1, 24, 10, 10)])
    assert program.constants["fc.weight_exponent"].tolist() == [6, 5]


@pytest.mark.parametrize("bias", [0.0, 1e-25, 0.5])
def test_a_dead_channel_can_be_converted(bias):
    program = build(conv("a", INPUT, (4, 4, 4)), conv("c", "a", (6, 4, 4)), *HEAD)
    for size in (1e-10, 1e-20, 1e-30, 1e-40):
        weight, biases = program.constants["a.weight"].clone(), program.constants["a.bias"].clone()
        weight[1], biases[1] = size, bias
        convert(calibrated(program.with_constants(**{"a.weight": weight, "a.bias": biases})))


def test_a_dead_layer_can_be_converted():
    program = build(conv("a", INPUT, (4, 4, 4), clamp=(0.0, None)), conv("c", "a", (6, 4, 4)), *HEAD)
    weight, bias = torch.full((4, 3, 3, 3), 1e-20), torch.full((4,), -1e9)  # the bias would not fit int64
    after = calibrated(program.with_constants(**{"a.weight": weight, "a.bias": bias}))
    assert after.exponents["a"] == 0
    convert(after)


def test_exponents_belong_to_the_tensors_that_have_one():
    program = build(
        conv("a", INPUT, (4, 4, 4)),
        MaxPool("max", ("a",), (4, 2, 2), (2, 2), (2, 2), (0, 0)),
        Clamp("relu", ("max",), (4, 2, 2), clamp=(0.0, None)),
        AvgPool("mean", ("a",), (4, 2, 2), (2, 2), (2, 2)),
        Concat("c", ("relu", "mean"), (8, 2, 2)),
        Flatten("early", ("c",), (32,)),
        Linear("hidden", ("early",), (7,), clamp=(0.0, 6.0)),
        Linear("fc", ("hidden",), (5,)),
        Flatten("logits", ("fc",), (5,)),
    )
    after = calibrated(program)
    exponents = after.exponents
    assert set(exponents) == {INPUT, "a", "max", "relu", "mean", "c", "early", "hidden"}
    assert exponents[INPUT] == 7
    assert exponents["a"] == exponents["max"] == exponents["relu"] and exponents["c"] == exponents["early"]
    added = {f"{name}.weight_exponent" for name in ("a", "hidden", "fc")}
    assert set(after.constants) == set(program.constants) | added
    assert all(after.constants[name] is program.constants[name] for name in program.constants)
    assert after.ops == program.ops and program.exponents == {}


def test_the_batches_do_not_matter():
    program = build(conv("a", INPUT, (4, 4, 4)), conv("c", "a", (6, 4, 4)), *HEAD)
    whole, pieces = calibrated(program, batch=12), calibrated(program, batch=5)
    assert whole.exponents == pieces.exponents


def test_a_tensor_that_is_always_zero():
    program = build(conv("a", INPUT, (4, 4, 4), clamp=(None, 0.0)), conv("c", "a", (6, 4, 4), clamp=(0.0, None)), *HEAD)
    bias = {"a.bias": torch.full((4,), 1e6), "c.bias": torch.full((6,), -1.0)}
    after = calibrated(program.with_constants(**bias))
    assert after.exponents["a"] == after.exponents["c"] == 0
    convert(after)


@pytest.mark.parametrize(("bias", "saturates"), [(6e4, False), (1e6, True)])
def test_what_saturates_beside_the_image_is_warned_of(bias, saturates):
    """A sum is exact if the finest of its operands is at most 16 bits finer than the coarsest, and the image has 7."""
    ops = conv("a", INPUT, (3, 4, 4)), Add("c", ("a", INPUT), (3, 4, 4)), Flatten("flat", ("c",), (48,))
    program = build(*ops, Linear("fc", ("flat",), (5,)))
    program = program.with_constants(**{"a.bias": torch.full((3,), bias)})
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        after = calibrated(program, finer=0)
    assert (after.exponents["a"] == covering(bias * 1.001)) != saturates and after.exponents["a"] >= 7 - 16
    assert [str(each.message).partition(":")[0] for each in found] == ["a saturates"] * saturates
