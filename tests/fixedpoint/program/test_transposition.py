"""Values in memory, moved by transpositions, lie where the definition of a rearrangement puts them."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from drawing import Drawing, share_of_examples
from hypothesis import given
from hypothesis import strategies as st

from fixedpoint.program import INPUT, Flatten, Rearrange
from fixedpoint.program.transposition import Transposition, in_steps, transpositions


def stored(x: np.ndarray) -> np.ndarray:
    """The values of a map as they lie in memory: by row, column, channel."""
    return (np.moveaxis(x, 0, -1) if x.ndim == 3 else x).ravel()


def moved(x: np.ndarray, parts: list[Transposition]) -> np.ndarray:
    for part in parts:
        x = x.reshape(part.sizes).transpose(part.axes).ravel()
    return x


@share_of_examples(2)
@given(data=st.data())
def test_they_do_together_what_the_operation_does(data):
    drawing = Drawing(data.draw)
    x = drawing.flatten(INPUT) if data.draw(st.booleans()) else INPUT
    drawing.rearrange(x, data.draw(st.sampled_from([1, 3])))
    op, operand = drawing.ops[-1], drawing.shapes[x]
    values = np.arange(np.prod(operand)).reshape(operand)
    expected = stored(values.reshape(op.view).transpose(op.axes).reshape(op.shape))
    parts = transpositions(operand, op)
    assert np.array_equal(moved(stored(values), parts), expected)
    assert bool(parts) == (not np.array_equal(stored(values), expected)), "none if nothing moves"
    for most in (3, 4):
        small = [step for part in parts for step in in_steps(part, most)]
        assert np.array_equal(moved(stored(values), small), expected)
        assert all(len(step.axes) - (step.axes[0] == 0) <= most for step in small)


# By name: the shape of the operand, the operation, and the sizes and axes of its transpositions.
CASES = {
    "a flatten": ((3, 4, 5), Flatten("x", (INPUT,), (60,)), [((20, 3), (1, 0))]),
    "a flatten of one channel": ((1, 4, 5), Flatten("x", (INPUT,), (20,)), []),
    "pixels shuffled": (
        (12, 3, 5),
        Rearrange("x", (INPUT,), (3, 6, 10), (3, 2, 2, 3, 5), (0, 3, 1, 4, 2)),
        [((3, 5, 3, 2, 2), (0, 3, 1, 4, 2))],
    ),
    "channels shuffled": (
        (12, 3, 5),
        Rearrange("x", (INPUT,), (12, 3, 5), (3, 4, 3, 5), (1, 0, 2, 3)),
        [((15, 3, 4), (0, 2, 1))],
    ),
    "rows for columns": (
        (3, 4, 5),
        Rearrange("x", (INPUT,), (3, 5, 4), (3, 4, 5), (0, 2, 1)),
        [((4, 5, 3), (1, 0, 2))],
    ),
    "a column as a row": ((7, 1, 1), Rearrange("x", (INPUT,), (1, 1, 7), (7,), (0,)), []),
    "channels last": ((3, 4, 5), Rearrange("x", (INPUT,), (60,), (3, 4, 5), (1, 2, 0)), []),
    "sizes that do not divide each other": (
        (4, 3, 3),
        Rearrange("x", (INPUT,), (36,), (6, 6), (1, 0)),
        [((9, 4), (1, 0)), ((6, 6), (1, 0))],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_transpositions_by_hand(name):
    operand, op, expected = CASES[name]
    assert [(part.sizes, part.axes) for part in transpositions(operand, op)] == expected


def test_steps_are_those_of_the_operand():
    part = Transposition((3, 5, 2), (2, 0, 1))
    assert part.result == (2, 3, 5) and part.steps == (1, 10, 2)


def test_in_steps_of_few_axes_every_order_is_reached():
    apart = [axes for axes in permutations(range(5)) if all(b != a + 1 for a, b in pairwise(axes))]
    assert len(apart) == 53  # permutations of 5 without a succession
    for axes in apart:
        whole = Transposition((2, 3, 2, 4, 3), axes)
        values = np.arange(144)
        small = in_steps(whole, 3)
        assert np.array_equal(moved(values, small), moved(values, [whole])) and len(small) <= 4
