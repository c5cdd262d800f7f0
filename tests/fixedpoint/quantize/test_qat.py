import copy

import numpy as np
import oracle
import pytest
import torch
from programs import PROGRAMS, build, conv, hard_inputs, in_real_numbers, numpy_constants

from fixedpoint.program import INPUT, Clamp, Flatten, Linear, Program
from fixedpoint.program.integer import integer_tensor
from fixedpoint.quantize import qat
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.qat import FakeQuantModel


def network_input(program, count=12):
    return torch.from_numpy(hard_inputs(program, count).astype(np.float32) / 128)


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_tensor_is_the_oracles(name):
    program = PROGRAMS[name]
    expected = oracle.run(program.to_json(), numpy_constants(program), hard_inputs(program))
    model = FakeQuantModel(in_real_numbers(program)).eval()
    tensors = dict(model.run(network_input(program)))
    assert list(tensors) == [op.name for op in program.ops]
    for tensor, value in tensors.items():
        assert value.dtype == torch.float32
        integers = integer_tensor(program, tensor, value.detach())
        assert np.count_nonzero(integers.numpy() != expected[tensor]) == 0, tensor
        exponent = program.logit_exponent.numpy() if tensor in program.raw else program.exponents[tensor]
        if value.dim() == 4 and tensor in program.raw:
            exponent = exponent.reshape(-1, 1, 1)
        real = np.ldexp(expected[tensor].astype(np.float64), -exponent)
        assert np.array_equal(value.detach().numpy(), real), tensor


@pytest.mark.parametrize("name", PROGRAMS)
def test_training_computes_the_same_and_gives_finite_gradients(name):
    program = PROGRAMS[name]
    model, x = FakeQuantModel(in_real_numbers(program)), network_input(program, 2)
    logits = model.train()(x)
    assert torch.equal(logits, model.eval()(x))
    logits.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert model.parameters_of["logits/weight"].grad.any()


def two_layers(weight, bias, clamp=(0.0, None), exponent=5):
    """Three inputs, hidden values with `exponent`, two logits; weights are multiples of 2**-6."""
    ops = (
        Flatten("flat", (INPUT,), (3,)),
        Linear("hidden", ("flat",), (len(weight),), clamp=clamp),
        Linear("fc", ("hidden",), (2,)),
    )
    second = torch.arange(1, 1 + 2 * len(weight)).reshape(2, -1) / 64
    constants = {"hidden.weight": torch.tensor(weight), "hidden.bias": torch.tensor(bias)}
    constants |= {"fc.weight": second, "fc.bias": torch.zeros(2)}
    constants |= {
        f"{name}.weight_exponent": torch.full((size,), 6) for name, size in (("hidden", len(weight)), ("fc", 2))
    }
    return Program((3, 1, 1), ops, constants, {INPUT: 7, "flat": 7, "hidden": exponent})


def test_gradients_by_hand():
    """Hidden units: inside, below the ReLU, saturated, rounded to the bound 0, and rounded up to the bound 127."""
    x = torch.tensor([[0.5, -0.25, 0.75]])
    weight = [[1.0, 1, 0], [-1, 0, 0], [0, 0, 1.5], [0, 0, 0], [0, 0, 0]]
    bias = [0.0, 0, 3.0, -0.01, 127.4 / 32]  # 127 / 32 is the greatest
    model = FakeQuantModel(two_layers(weight, bias))
    tensors = dict(model.run(x))
    assert tensors["hidden"].tolist() == [[0.25, 0, 127 / 32, 0, 127 / 32]]
    tensors["fc"].sum().backward()
    inside = torch.tensor([1.0, 0, 0, 1, 1])
    upstream = model.program.constants["fc.weight"].sum(dim=0) * inside
    gradients = {name: parameter.grad for name, parameter in model.parameters_of.items()}
    assert torch.equal(gradients["hidden/bias"], upstream)
    assert torch.equal(gradients["hidden/weight"], upstream[:, None] * x)
    assert torch.equal(gradients["fc/weight"], tensors["hidden"].detach().expand(2, -1))
    assert gradients["fc/bias"].tolist() == [1, 1]


def test_weights_beyond_127_are_clamped_and_have_no_gradient():
    weight = [[127 / 64, 127.4 / 64, 2.0], [-127 / 64, -127.6 / 64, -3.0]]
    model = FakeQuantModel(two_layers(weight, [0.0, 0.0], clamp=(None, None)))
    quantized, _ = model.quantized_constants(model.program.ops[1])
    assert (64 * quantized).tolist() == [[127, 127, 127], [-127, -127, -127]]
    model(torch.full((1, 3, 1, 1), 0.125).squeeze(-1)).sum().backward()
    passes = model.parameters_of["hidden/weight"].grad != 0
    assert passes.tolist() == [[True, True, False], [True, False, False]]


def test_biases_are_rounded_half_to_even_at_the_exponent_of_the_accumulator():
    steps = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49, 2.0**23 + 1]
    model = FakeQuantModel(two_layers([[0.0] * 3] * 7, [step * 2.0**-13 for step in steps]))
    _, bias = model.quantized_constants(model.program.ops[1])
    assert (bias * 2**13).tolist() == [0, 2, 2, 0, -2, 0, 2**23 + 1]


def test_trained_gives_the_parameters_as_they_are_and_nothing_else_changes():
    program = in_real_numbers(PROGRAMS["network"])
    model = FakeQuantModel(program)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.125)
    model(network_input(program, 1)).sum().backward()
    expected = {name: (p - 0.125 * p.grad).detach() for name, p in model.parameters_of.items()}
    optimizer.step()
    trained = model.trained()
    assert {name.replace("/", "."): name for name in expected}.keys() >= {"stem.weight", "logits.bias"}
    for name, value in expected.items():
        torch.testing.assert_close(trained.constants[name.replace("/", ".")], value)
    for name in program.constants:
        assert not trained.constants[name].requires_grad
        if name.endswith("weight_exponent"):
            assert trained.constants[name] is program.constants[name]
    assert trained.ops == program.ops and trained.exponents == program.exponents
    again = FakeQuantModel(trained)
    assert torch.equal(again(network_input(program, 1)), model(network_input(program, 1)))


def test_the_model_does_not_share_memory_with_its_program():
    program = in_real_numbers(PROGRAMS["conv"])
    before = program.constants["x.weight"].clone()
    model = FakeQuantModel(program)
    trained = model.trained()
    with torch.no_grad():
        model.parameters_of["x/weight"].add_(1)
    assert torch.equal(program.constants["x.weight"], before) and torch.equal(trained.constants["x.weight"], before)


def test_parameters_are_those_of_the_layers_and_survive_a_copy():
    program = in_real_numbers(build((3, 8, 8), conv("stages.0.conv", INPUT, (4, 8, 8)), exponents={"stages.0.conv": 4}))
    model = FakeQuantModel(program)
    names = {f"{op}/{key}" for op in ("stages/0/conv", "logits") for key in ("weight", "bias")}
    assert set(model.state_dict()) == {f"parameters_of.{name}" for name in names}
    assert "stages.0.conv.weight" in model.trained().constants
    other = FakeQuantModel(program)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    other.load_state_dict(model.state_dict())
    x = network_input(program, 2)
    assert torch.equal(other(x), model(x)) and torch.equal(copy.deepcopy(model)(x), model(x))


def at_the_limit(weight, bias=0.0, signed=False):
    """A linear of 2,400 inputs in [0, 127] (or [-128, 127]), weights with exponent 6 and accumulators with 13."""
    ops = (
        Clamp("x", (INPUT,), (24, 10, 10), clamp=(None, None) if signed else (0.0, None)),
        Flatten("flat", ("x",), (2400,)),
        Linear("fc", ("flat",), (len(weight),)),
    )
    constants = {"fc.weight": weight, "fc.bias": torch.full((len(weight),), bias)}
    constants["fc.weight_exponent"] = torch.full((len(weight),), 6, dtype=torch.int32)
    return Program((24, 10, 10), ops, constants, {INPUT: 7, "x": 7, "flat": 7})


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bias", [0.0, -1000.0, 3000.0])
def test_project_shrinks_the_channels_that_break_the_bound_and_no_other(signed, bias):
    torch.manual_seed(0)
    weight = torch.randn(6, 2400) * torch.tensor([0.1, 0.3, 1.0, 2.0, 2.0, 1.5])[:, None]
    weight[1] = weight[1].abs()
    weight[4] = -weight[4].abs()
    model = FakeQuantModel(at_the_limit(weight, bias, signed))
    with pytest.raises(ValueError, match="fc: the accumulator of channel"):
        convert(model.trained())
    before = [exact_bound(model.trained(), channel, signed) for channel in range(6)]
    model.project()
    after = model.trained()
    converted = convert(after)
    for channel in range(6):
        found, given = after.constants["fc.weight"][channel], weight[channel]
        if before[channel] < 2**24:
            assert torch.equal(found, given)
            continue
        # soft thresholding: all by the same amount, none changes its sign, and not further than needed
        shrunk = given.abs() - found.abs()
        kept = found != 0
        assert torch.allclose(shrunk[kept], shrunk[kept][0], atol=1e-5) and (found * given >= 0).all()
        assert (given.abs()[~kept] <= shrunk[kept][0] + 1e-5).all()
        assert 2**24 * 0.97 < exact_bound(converted, channel, signed) < 2**24
    model.project()
    assert torch.equal(model.trained().constants["fc.weight"], after.constants["fc.weight"])


def exact_bound(program, channel, signed):
    weight, bias = program.constants["fc.weight"][channel].double(), float(program.constants["fc.bias"][channel])
    if program.constants["fc.weight"].dtype == torch.float32:
        weight, bias = (weight * 64).round().clamp(-127, 127), round(bias * 2**13)
    low, high = (-128, 127) if signed else (0, 127)
    products = torch.stack([weight * low, weight * high])
    return max(
        float(products.amax(0).clamp(min=0).sum()) + max(bias, 0),
        float(-products.amin(0).clamp(max=0).sum()) - min(bias, 0),
    )


def test_project_keeps_a_bias_that_alone_breaks_the_bound_below_it():
    model = FakeQuantModel(at_the_limit(torch.zeros(1, 2400), 1e9))
    model.project()
    assert convert(model.trained()).constants["fc.bias"].tolist() == [2**24 - 1]


def test_project_gives_up_on_weights_that_a_far_too_high_learning_rate_has_made(monkeypatch):
    monkeypatch.setattr(qat, "STEPS_BACK", 2**6)
    model = FakeQuantModel(at_the_limit(torch.full((1, 2400), 1e9)))
    with pytest.raises(ValueError, match="weights of fc are too large to be projected: lower the lr"):
        model.project()


def test_training_with_project_can_always_be_converted():
    torch.manual_seed(0)
    model = FakeQuantModel(at_the_limit(torch.rand(3, 2400) * 0.4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    x = torch.rand(4, 24, 10, 10).mul(128).floor() / 128
    for _ in range(4):  # towards ever larger logits
        optimizer.zero_grad()
        (-model(x).sum()).backward()
        optimizer.step()
        model.project()
        convert(model.trained())
