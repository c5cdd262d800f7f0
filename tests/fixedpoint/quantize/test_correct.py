import pytest
import torch
from programs import conv

from fixedpoint.program import INPUT, AvgPool, Conv, Flatten, Linear, Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from fixedpoint.quantize.correct import correct_biases, mean_error
from fixedpoint.quantize.qat import FakeQuantModel

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
def test_so_is_the_mean_of_each_channel_of_the_first_layer_after_its_clamp(case):
    program, x, corrected = case
    first = program.ops[0]
    expected = FloatEvaluator(program).conv(first, x).mean((0, 2, 3))
    before, after = (FakeQuantModel(p).accumulator(first, x).clamp(min=0).mean((0, 2, 3)) for p in (program, corrected))
    assert (after - expected).norm() < 0.1 * (before - expected).norm()


@pytest.mark.parametrize(
    ("bounds", "found", "expected", "wanted"),
    [
        # four values inside of 400, off by 2 each; the others lie so low that no bias would move what the clamp gives
        ((0.0, None), [12.0] * 4 + [-99.0] * 396, [10.0] * 4 + [-95.0] * 396, 8 / 200),
        # all inside: the plain mean
        ((0.0, 6.0), [3.0] * 400, [2.5] * 400, 0.5),
        # half of them cut off above in both networks: the error of the others, not half of it
        ((0.0, 6.0), [3.0] * 200 + [9.0] * 200, [2.5] * 200 + [8.0] * 200, 0.5),
        ((None, None), [3.0] * 10, [1.0] * 10, 2.0),
    ],
)
def test_what_the_clamp_cuts_off_neither_counts_nor_thins_the_mean(bounds, found, expected, wanted):
    values = (torch.tensor(v).reshape(1, 1, -1, 1) for v in (found, expected))
    assert mean_error(*values, bounds).tolist() == pytest.approx([wanted])


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
