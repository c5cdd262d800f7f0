import math

import pytest
import torch
from programs import conv

from fixedpoint.program import INPUT, Add, AvgPool, Concat, Flatten, Linear, MaxPool, Pad, Program, Rearrange
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.scales import with_best_scales

RELU6 = (0.0, 6.0)


def network():
    """A layer with a ReLU6 behind a pad, one that is added to something, and one behind a mean."""
    torch.manual_seed(0)
    ops = (
        conv("a", INPUT, (4, 6, 6), clamp=RELU6),
        Pad("pad", ("a",), (4, 8, 8), (1, 1, 1, 1), (0.0,)),
        conv("b", "pad", (4, 6, 6), padding=(0, 0)),
        conv("c", "b", (4, 6, 6), clamp=(0.0, None)),
        Add("sum", ("b", "c"), (4, 6, 6)),
        conv("d", "sum", (4, 6, 6), clamp=(0.0, None)),
        AvgPool("mean", ("d",), (4, 1, 1), (6, 6), (6, 6)),
        Flatten("flat", ("mean",), (4,)),
        Linear("fc", ("flat",), (3,)),
    )
    shapes = {"a": (4, 3, 3, 3), "b": (4, 4, 3, 3), "c": (4, 4, 3, 3), "d": (4, 4, 3, 3), "fc": (3, 4)}
    constants = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    constants |= {f"{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}
    return Program((3, 6, 6), ops, constants)


@pytest.fixture(scope="module")
def x():
    return torch.randint(-128, 128, (32, 3, 6, 6), generator=torch.Generator().manual_seed(0)) / 128


def factor(program, scaled, name):
    ratio = scaled.constants[f"{name}.bias"] / program.constants[f"{name}.bias"]
    assert torch.allclose(ratio, ratio[:1].expand_as(ratio))
    return float(ratio[0])


def test_the_network_computes_the_same(x):
    program = network()
    scaled = with_best_scales(program, lambda: x.split(8))
    expected = FloatEvaluator(program).logits(x)
    assert torch.allclose(FloatEvaluator(scaled).logits(x), expected, atol=1e-4 * float(expected.abs().max()))


def test_a_tensor_gets_the_factor_with_which_int8_holds_it_best(x):
    """Of a tensor that goes up to 6: with factor 1, a ReLU6 fills 97 of the 128 integers from 0 on."""
    program = network()
    scaled = with_best_scales(program, lambda: x.split(8))
    value = dict(FloatEvaluator(program).run(x))["a"].double()
    assert value.max() == 6
    errors = {
        eighths: ((value * 2 ** (eighths / 8)).round().clamp(max=127) / 2 ** (eighths / 8) - value).square().sum()
        for eighths in range(32, 48)  # from 6 * 2**4 to 6 * 2**6
    }
    best = min(errors, key=errors.get) % 8
    assert best != 0
    assert factor(program, scaled, "a") == pytest.approx(2 ** (best / 8))
    assert scaled.ops[0].clamp == (0.0, pytest.approx(6 * 2 ** (best / 8)))


def test_only_what_layers_read_is_scaled(x):
    program = network()
    scaled = with_best_scales(program, lambda: [x])
    values = [dict(FloatEvaluator(p).run(x)) for p in (program, scaled)]
    factors = {name: float(values[1][name].abs().sum() / values[0][name].abs().sum()) for name in values[0]}
    for name in ("b", "c", "sum", "fc"):
        assert factors[name] == pytest.approx(1, abs=1e-4), f"{name} is added to something, or the output"
    for name in ("a", "d"):
        eighths = 8 * math.log2(factors[name])
        assert eighths == pytest.approx(round(eighths), abs=1e-3) and 0 <= round(eighths) < 8
    assert factors["mean"] == pytest.approx(factors["d"])


@pytest.mark.parametrize("arithmetic", ["portable", "exact8"])
def test_rounding_loses_less(x, arithmetic):
    program, errors = network(), []
    for each in (program, with_best_scales(program, lambda: [x])):
        quantized = calibrate(each, lambda: [x], arithmetic=arithmetic)
        assert convert(quantized).is_integer
        value, step = dict(FloatEvaluator(each).run(x))["a"], 2.0 ** -quantized.exponents["a"]
        relative = ((value / step).round().clamp(-128, 127) * step - value) / value.max()
        errors.append(float(relative.square().mean()))
    assert errors[1] < 0.9 * errors[0]


def test_zeros_and_infinite_values_stay(x):
    program = network()
    for value in (0.0, float("inf")):
        odd = program.with_constants(**{"d.weight": torch.zeros(4, 4, 3, 3), "d.bias": torch.full((4,), value)})
        assert torch.equal(with_best_scales(odd, lambda: [x]).constants["d.bias"], odd.constants["d.bias"])


def test_channels_of_which_a_pool_takes_those_of_several_layers_stay_as_they_are(x):
    """A factor of one operand alone could not be taken back, since both end in the same channel."""
    torch.manual_seed(0)
    ops = (
        conv("a", INPUT, (2, 6, 6)),
        conv("b", INPUT, (2, 6, 6)),
        Concat("both", ("a", "b"), (4, 6, 6)),
        Rearrange("pairs", ("both",), (2, 12, 6), (2, 2, 6, 6), (1, 0, 2, 3)),
        MaxPool("pool", ("pairs",), (2, 1, 1), (12, 6), (12, 6), (0, 0)),
        Flatten("flat", ("pool",), (2,)),
        Linear("fc", ("flat",), (3,)),
    )
    constants = {f"{name}.weight": torch.randn(2, 3, 3, 3) for name in "ab"} | {"fc.weight": torch.randn(3, 2)}
    constants |= {f"{name}.bias": torch.randn(size) for name, size in {"a": 2, "b": 2, "fc": 3}.items()}
    program = Program((3, 6, 6), ops, constants)
    scaled = with_best_scales(program, lambda: [x])
    assert all(torch.equal(scaled.constants[name], value) for name, value in constants.items())
