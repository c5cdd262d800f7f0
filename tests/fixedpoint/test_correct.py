from dataclasses import replace

import pytest
import torch
from programs import conv

from fixedpoint.calibrate import calibrate
from fixedpoint.convert import convert
from fixedpoint.correct import correct_biases
from fixedpoint.floating import FloatEvaluator
from fixedpoint.program import INPUT, AvgPool, Conv, Flatten, Linear, Program
from fixedpoint.qat import FakeQuantModel

RELU = (0.0, None)


def network():
    """A convolution, a depthwise one and a linear layer, with weights that 8 bits resolve badly."""
    torch.manual_seed(0)
    ops = (
        conv("a", INPUT, (8, 8, 8), clamp=RELU),
        Conv("b", ("a",), (8, 8, 8), (1, 1), (1, 1), (1, 1), 8, clamp=RELU),
        AvgPool("mean", ("b",), (8, 1, 1), (8, 8), (8, 8)),
        Flatten("flat", ("mean",), (8,)),
        Linear("fc", ("flat",), (5,)),
    )
    shapes = {"a": (8, 3, 3, 3), "b": (8, 1, 3, 3), "fc": (5, 8)}
    constants = {f"{name}.weight": torch.randn(shape) ** 5 for name, shape in shapes.items()}
    constants |= {f"{name}.bias": torch.randn(shape[0]) for name, shape in shapes.items()}
    return Program((3, 8, 8), ops, constants)


@pytest.fixture(scope="module")
def case():
    x = torch.randint(-128, 128, (64, 3, 8, 8)).float() / 128
    program = calibrate(network(), lambda: [x], weight_bits=7)
    return program, x, correct_biases(program, x)


@torch.no_grad()
def test_the_mean_of_each_logit_is_the_float_networks(case):
    program, x, corrected = case
    expected = FloatEvaluator(program).logits(x).mean(0)
    before = (FakeQuantModel(program)(x).mean(0) - expected).abs()
    after = (FakeQuantModel(corrected)(x).mean(0) - expected).abs()
    step = 2.0 ** -corrected.logit_exponent.float()  # to which the bias is rounded
    assert (before > 10 * step).any()
    assert (after <= step).all()


@torch.no_grad()
def test_so_is_the_mean_of_each_channel_of_the_first_layer(case):
    program, x, corrected = case
    unclamped = replace(program.ops[0], clamp=(None, None))
    expected = FloatEvaluator(program).conv(unclamped, x).mean((0, 2, 3))
    found = FakeQuantModel(corrected).accumulator(program.ops[0], x).mean((0, 2, 3))
    step = 2.0 ** -corrected.accumulator_exponent(program.ops[0]).float()
    assert ((found - expected).abs() <= step + 1e-6).all()


def test_nothing_but_the_biases_changes_and_the_result_can_be_converted(case):
    program, _, corrected = case
    assert corrected.exponents == program.exponents and corrected.ops == program.ops
    for name, value in program.constants.items():
        assert torch.equal(corrected.constants[name], value) != name.endswith("bias"), name
    convert(corrected)


def test_it_leaves_its_argument_as_it_was(case):
    program, x, corrected = case
    again = correct_biases(program, x)
    assert all(torch.equal(again.constants[name], value) for name, value in corrected.constants.items())
