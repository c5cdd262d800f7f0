import pytest
import torch
from programs import conv

from fixedpoint.program import INPUT, Flatten, Linear, Lookup, MaxPool, Mul, Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.quantize import refine as module
from fixedpoint.quantize.calibrate import calibrate, with_exponents
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel
from fixedpoint.quantize.refine import GAIN, refine


def loud(ratio=10.0):
    """Two channels of one tensor; the louder one decides its exponent and carries nothing about the class."""
    weight = torch.zeros(2, 3, 1, 1)
    weight[0, 0], weight[1, 1] = 1.0, ratio
    ops = (
        conv("a", INPUT, (2, 4, 4), padding=(0, 0)),
        Flatten("flat", ("a",), (32,)),
        Linear("fc", ("flat",), (3,)),
    )
    head = torch.zeros(3, 32)
    head[:, :16] = torch.randn(3, 16, generator=torch.Generator().manual_seed(0))
    constants = {"a.weight": weight, "a.bias": torch.zeros(2), "fc.weight": head, "fc.bias": torch.zeros(3)}
    return Program((3, 4, 4), ops, constants)


def gated():
    """A network with a table, a product and a max pool, of random weights with outliers."""
    torch.manual_seed(4)
    ops = (
        conv("a", INPUT, (6, 4, 4)),
        Lookup("silu", ("a",), (6, 4, 4), "silu", ()),
        conv("b", "silu", (6, 4, 4)),
        Mul("product", ("silu", "b"), (6, 4, 4)),
        MaxPool("pool", ("product",), (6, 2, 2), (2, 2), (2, 2), (0, 0)),
        Flatten("flat", ("pool",), (24,)),
        Linear("fc", ("flat",), (5,)),
    )
    shapes = {"a": (6, 3, 3, 3), "b": (6, 6, 3, 3), "fc": (5, 24)}
    constants = {f"{name}.weight": torch.randn(shape) ** 3 for name, shape in shapes.items()}
    constants |= {f"{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}
    return Program((3, 4, 4), ops, constants)


def images(count=16):
    return torch.randint(-128, 128, (count, 3, 4, 4), generator=torch.Generator().manual_seed(0)) / 128


@torch.no_grad()
def error(program, x):
    expected = FloatEvaluator(program).logits(x)
    return float((FakeQuantModel(program)(x) - expected).square().mean())


def test_an_exponent_serves_the_logits_and_not_the_loudest_channel():
    x = images()
    program = calibrate(loud(), lambda: [x])
    assert program.exponents["a"] <= 4
    refined = refine(program, x, 3).program
    # the pixels have steps of 2**-7, and nothing is lost from there on
    assert refined.exponents == {INPUT: 7, "a": 7, "flat": 7}
    assert error(refined, x) < 0.02 * error(program, x), "that of the weights is left"
    convert(refined)


def test_what_gains_nothing_stays():
    x = images()
    program = calibrate(loud(ratio=1.0), lambda: [x])
    refined = refine(program, x, 3).program
    assert refined.exponents == program.exponents
    assert all(torch.equal(refined.constants[name], value) for name, value in program.constants.items())


def in_full(program, x):
    """The same search, with every candidate run as a whole network."""
    least = error(program, x)
    chosen = {*program.shared_exponents().values()}
    for op in (op for op in program.ops if op.name in chosen):
        for step in (1, -1):
            while True:
                other = with_exponents(program, program.exponents | {op.name: program.exponents[op.name] + step})
                found = error(other, x)
                if found >= GAIN * least:
                    break
                program, least = other, found
    return program.exponents


@pytest.mark.parametrize("gain", [GAIN, 0.9999])
def test_only_what_follows_is_computed_again(monkeypatch, gain):
    monkeypatch.setattr(module, "GAIN", gain)
    monkeypatch.setitem(globals(), "GAIN", gain)
    x = images()
    program = calibrate(gated(), lambda: [x])
    refined = refine(program, x, 3).program
    assert refined.exponents == in_full(program, x)
    assert refined.exponents != program.exponents
    assert refined.exponents["pool"] == refined.exponents["product"]
    assert error(refined, x) < error(program, x)
    convert(refined)


def test_its_argument_and_the_float_constants_stay_as_they_were():
    x = images()
    program = calibrate(gated(), lambda: [x])
    before = dict(program.exponents)
    refined = refine(program, x, 3).program
    assert program.exponents == before
    for name, value in gated().constants.items():
        assert torch.equal(refined.constants[name], value) and torch.equal(program.constants[name], value)


def test_it_says_what_it_did(monkeypatch):
    x = images()
    program = calibrate(loud(), lambda: [x])
    refined = refine(program, x, 3)
    ratios = [
        10 * (FloatEvaluator(program).logits(x).square().mean() / error(each, x)).log10()
        for each in (program, with_exponents(program, refined.program.exponents))
    ]
    assert refined.changed == 1
    assert [refined.before, refined.after] == pytest.approx([float(ratio) for ratio in ratios])
    assert str(refined) == f"1 exponent changed, the logits had {ratios[0]:.1f} dB and have {ratios[1]:.1f} dB"


def test_it_stops_where_the_error_is_that_of_the_weights(monkeypatch):
    x = images()
    program = calibrate(loud(), lambda: [x])
    rough = program.with_constants(**{"fc.weight_exponent": torch.full((3,), -3, dtype=torch.int32)})
    models = []
    monkeypatch.setattr(module, "FakeQuantModel", lambda program: models.append(program) or FakeQuantModel(program))
    refined = refine(rough, x, 3)
    assert refined.program is rough and len(models) == 1
    assert str(refined) == f"no exponent changed, the logits have {refined.before:.1f} dB"
