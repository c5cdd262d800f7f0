import pytest
import torch

from fixedpoint.program import INPUT, Add, Flatten, Program
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.scaling import scaled, with_copies


@pytest.mark.parametrize("shape", [(3, 2, 4), (3,)])
def test_each_channel_has_its_factor_and_its_shift(shape):
    before = [] if len(shape) == 3 else [Flatten("flat", (INPUT,), shape)]
    source = before[-1].name if before else INPUT
    scale, shift = torch.tensor([2.0, 0.0, -0.5]), torch.tensor([1.0, 5.0, 0.0])
    ops, constants = scaled("y", source, shape, scale, shift, {INPUT, "flat"})
    program = Program((*shape, 1, 1)[:3], (*before, *ops), constants)
    program.check()
    x = torch.arange(-6.0, 6.0).repeat(2 * len(scale)).reshape(-1, *program.input_shape)
    expected = x.reshape(-1, *shape) * scale.reshape(-1, *[1] * (len(shape) - 1))
    assert torch.equal(FloatEvaluator(program).logits(x), expected + shift.reshape(-1, *[1] * (len(shape) - 1)))


def test_names_that_are_taken_are_not_given_again():
    ops, _ = scaled("y", INPUT, (2,), torch.ones(2), torch.ones(2), {"y.conv", "y.rearrange"})
    assert [op.name for op in ops] == ["y.rearrange_1", "y.conv_1", "y"]


def test_only_one_operation_reads_copies_and_computes_the_same():
    shape = (2, 3, 3)
    first, second = Add("a", (INPUT, INPUT), shape, clamp=(0.0, 1.0)), Add("b", ("a", INPUT), shape)
    before = Program(shape, (first, second), {})
    after = with_copies(before, second, ["a", INPUT])
    assert [(op.name, op.inputs, op.clamp) for op in after.ops] == [
        ("a", (INPUT, INPUT), (0.0, 1.0)),
        ("b.copy", ("a",), (None, None)),
        ("b.copy_1", (INPUT,), (None, None)),
        ("b", ("b.copy", "b.copy_1"), (None, None)),
    ]
    x = torch.randn(4, *shape)
    assert torch.equal(FloatEvaluator(after).logits(x), FloatEvaluator(before).logits(x))
    twice = with_copies(before, first, [INPUT])
    assert [(op.name, op.inputs) for op in twice.ops][:2] == [("a.copy", (INPUT,)), ("a", ("a.copy", "a.copy"))]
