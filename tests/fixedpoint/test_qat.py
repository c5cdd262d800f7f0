import copy
from dataclasses import replace

import numpy as np
import oracle
import pytest
import torch
from programs import PROGRAMS, build, conv, hard_inputs, numpy_constants

from fixedpoint.integer import integer_tensor
from fixedpoint.program import INPUT, Flatten, Linear, Program
from fixedpoint.qat import FakeQuantModel


def in_real_numbers(program: Program) -> Program:
    """The calibrated program with float constants that an integer program is the rounding of."""
    constants = dict(program.constants)
    for op in program.ops:
        if op.kind in ("conv", "linear"):
            exponent = constants[f"{op.name}.weight_exponent"].numpy()
            weight, bias = (constants[f"{op.name}.{name}"].numpy().astype(np.float64) for name in ("weight", "bias"))
            along_channels = exponent.reshape(-1, *[1] * (weight.ndim - 1))
            values = {"weight": np.ldexp(weight, -along_channels)}
            values["bias"] = np.ldexp(bias, -exponent - program.exponents[op.inputs[0]])
            constants |= {f"{op.name}.{k}": torch.from_numpy(v.astype(np.float32)) for k, v in values.items()}
    return replace(program, constants=constants)


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
