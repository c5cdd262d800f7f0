"""What selections and rearrangements may be, what goes back through them, and what they pass on."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from moves import IN_EXACT8, MOVES, rearrange, select
from programs import PROGRAMS, build, conv, in_real_numbers

from fixedpoint.program import INPUT, Clamp, Evaluator, Program, Rearrange, Select
from fixedpoint.program.moves import MOST_AXES, step
from fixedpoint.quantize.qat import FakeQuantModel

MAP, FEATURES = (3, 4, 5), (60,)
WHOLE = (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 3, 4)
REFUSED = {
    "it chooses 0 to 3 of 3": (MAP, Select("x", (INPUT,), (4, 4, 5), (0, 1, 2, 3), *WHOLE[1:])),
    "it chooses -1 to 2 of 4": (MAP, Select("x", (INPUT,), (3, 2, 5), WHOLE[0], (2, -1), WHOLE[2])),
    r"it must choose from the 3 axes of \[3, 4, 5\]": (MAP, Select("x", (INPUT,), (3,), WHOLE[0], (), ())),
    "must choose from the 3 axes": (MAP, Select("x", (INPUT,), (4, 5), (), *WHOLE[1:])),
    r"it must choose from the 1 axes of \[60\]": (FEATURES, Select("x", (INPUT,), (3,), (), WHOLE[0], ())),
    "must choose from the 1 axes": (FEATURES, Select("x", (INPUT,), (3,), WHOLE[0], (0,), (0,))),
    r"axes \[0, 0\] do not order 2": (MAP, Rearrange("x", (INPUT,), MAP, (3, 20), (0, 0))),
    r"axes \[0\] do not order 2": (MAP, Rearrange("x", (INPUT,), MAP, (3, 20), (0,))),
    r"view \[3, 10\] has not the values of \[3, 4, 5\]": (MAP, Rearrange("x", (INPUT,), MAP, (3, 10), (0, 1))),
    r"view \[-3, -20\] has not the values": (MAP, Rearrange("x", (INPUT,), MAP, (-3, -20), (0, 1))),
    r"shape \[3, 4, 4\] has not the values": (MAP, Rearrange("x", (INPUT,), (3, 4, 4), (60,), (0,))),
    r"must be \[channels, height, width\] or \[features\], not \[3, 20\]": (
        MAP,
        Rearrange("x", (INPUT,), (3, 20), (60,), (0,)),
    ),
    f"view has 17 axes, and can have {MOST_AXES}": (
        MAP,
        Rearrange("x", (INPUT,), MAP, (60, *[1] * MOST_AXES), tuple(range(MOST_AXES + 1))),
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_does_not_fit_is_named(message):
    operand, op = REFUSED[message]
    with pytest.raises(ValueError, match=rf"^x \({op.kind}\): .*{message}") as raised:
        op.result_shape([operand], {})
    assert len(str(raised.value)) < 200


def test_as_many_axes_as_are_allowed_are_computed():
    view = (60, *[1] * (MOST_AXES - 1))
    ops = [Rearrange("x", (INPUT,), (5, 4, 3), view, tuple(reversed(range(MOST_AXES))))]
    x = torch.arange(60).reshape(1, *MAP)
    assert torch.equal(Evaluator().rearrange(ops[0], x), x.reshape(1, 5, 4, 3))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [((4,), 1), ((0, 1, 2), 1), ((5, 3, 1), -2), ((2, 2), 0), ((0, 1, 3), None), ((0, 0, 1), None)],
)
def test_a_step_is_the_same_everywhere(numbers, expected):
    assert step(numbers) == expected


def test_what_is_chosen_otherwise_than_it_is():
    op = select("x", INPUT, range(3), [3, 2, 1, 0], range(4))
    assert op.changes(MAP) == {1: (3, 2, 1, 0), 2: (0, 1, 2, 3)}
    assert op.changes((3, 4, 4)) == {1: (3, 2, 1, 0)}
    assert select("x", INPUT, range(60)).changes(FEATURES) == {}


def test_gradients_of_values_that_are_chosen_again_add_up():
    """By hand, in the QAT model: the sum of the result's gradients over the places at which a value is."""
    op = select("x", INPUT, [2, 0, 2], [1, 1, 1, 3], range(4, -1, -1))
    model = FakeQuantModel(in_real_numbers(build(MAP, op)))
    x = torch.zeros(1, *MAP, requires_grad=True)
    weights = np.random.default_rng(0).integers(-9, 9, (1, *op.shape)).astype(np.float32)
    (model.select(op, x) * torch.from_numpy(weights)).sum().backward()
    expected = np.zeros((1, *MAP))
    for c, row, column in np.ndindex(op.shape):
        expected[0, op.channels[c], op.rows[row], op.columns[column]] += weights[0, c, row, column]
    assert np.array_equal(x.grad, expected)


@pytest.mark.parametrize("name", [name for name, (_, ops) in MOVES.items() if ops[-1].kind == "rearrange"])
def test_gradients_go_back_to_where_values_come_from(name):
    shape, ops = MOVES[name]
    x = torch.zeros(1, *shape, requires_grad=True)
    places = torch.arange(x.numel()).reshape(x.shape)
    y = x
    for op in ops:
        y, places = (Evaluator().rearrange(op, value) for value in (y, places))
    (y * places).sum().backward()
    assert torch.equal(x.grad.flatten(), torch.arange(x.numel()).float())


def test_bounds_pass_through_any_number_of_them():
    """More of them than Python nests calls."""
    ops = [Clamp("t0", (INPUT,), (4, 6, 1), clamp=(-0.25, 0.5))]
    for i in range(1, 2000, 2):
        ops.append(select(f"t{i}", f"t{i - 1}", [3, 2, 1, 0], range(6), [0]))
        ops.append(rearrange(f"t{i + 1}", f"t{i}", (24,), (0,), (4, 6, 1)))
    reader = Clamp("y", ("t2000",), (4, 6, 1))
    program = Program((4, 6, 1), (*ops, reader), {}, {op.name: 7 for op in ops} | {INPUT: 7})
    assert program.input_bounds(reader) == (-32, 64)


def test_the_result_of_neither_is_the_logits():
    program = build(MAP, conv("c", INPUT, MAP), conv_head=True)
    (source, (classes,)) = program.output, program.ops[-1].shape
    ends = select("x", source, range(classes)), rearrange("x", source, (classes,), (0,), (classes,))
    for end in ends:
        with pytest.raises(ValueError, match=r"must come from a conv or linear without activation, not from x"):
            _ = replace(program, ops=(*program.ops, end)).last_layer


def test_programs_with_them_are_read_as_they_were_written():
    for name in IN_EXACT8:
        program = PROGRAMS[name]
        assert Program.from_json(program.to_json(), program.constants).ops == program.ops
