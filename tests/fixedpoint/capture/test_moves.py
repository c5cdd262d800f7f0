"""Chains of moves become operations of a program that give the same entries."""

from math import prod

import pytest
import torch
from drawing import share_of_examples
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fixedpoint.capture.moves import moves
from fixedpoint.capture.network import capture
from fixedpoint.program import Evaluator
from fixedpoint.program.floating import FloatEvaluator

SHAPES = [(4, 3, 6), (12,), (2, 4, 4), (1, 1, 8), (6, 1, 1), (8, 2, 1)]


def made(index, source):
    """The operations that `moves` gives, and what they compute."""
    x = torch.arange(2.0 * prod(source)).reshape(2, *source)
    y, kinds = x, []
    for op, attributes in moves(index, source):
        made = op(name="y", inputs=("x",), **attributes)
        assert made.result_shape([tuple(y.shape[1:])], {}) == made.shape
        y = getattr(Evaluator(), made.kind)(made, y)
        kinds.append(made.kind)
    assert torch.equal(y, x.flatten(1)[:, index.flatten()].reshape(2, *index.shape))
    return " ".join(kinds)


@st.composite
def chains(draw):
    """A source's shape and positions of entries in it after some random moves."""
    source = draw(st.sampled_from(SHAPES))
    x = torch.arange(prod(source)).reshape(source)
    for _ in range(draw(st.integers(0, 5))):
        axis = draw(st.integers(0, x.dim() - 1))
        size = x.shape[axis]
        match draw(st.sampled_from(["view", "permute", "slice", "flip", "repeat", "choose", "roll"])):
            case "view":
                factor = draw(st.sampled_from([i for i in range(1, size + 1) if size % i == 0]))
                x = x.unflatten(axis, (factor, -1)) if draw(st.booleans()) else x.reshape(factor, -1)
            case "permute":
                x = x.permute(draw(st.permutations(range(x.dim()))))
            case "slice":
                x = x.narrow(axis, draw(st.integers(0, size // 2)), (size + 1) // 2)
            case "flip":
                x = x.flip(axis)
            case "repeat" if x.numel() < 300:
                x = x.repeat_interleave(2, axis)
            case "choose":
                x = x.index_select(axis, torch.tensor(draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=6))))
            case "roll":
                x = x.roll(1, axis)
    if x.dim() not in (1, 3):
        x = x.flatten() if draw(st.booleans()) else x.reshape(len(x), 1, -1)
    return source, x


@share_of_examples(4)
@given(chains())
def test_a_chain_of_moves_gives_the_same_entries(chain):
    source, index = chain
    made(index, source)


MAP = torch.arange(4 * 3 * 6).reshape(4, 3, 6)


@pytest.mark.parametrize(
    ("index", "kinds"),
    [
        (MAP, ""),
        (MAP.flatten(), "flatten"),
        (MAP.reshape(4, 1, 18), "rearrange"),
        (MAP[1:3, :, ::2], "select"),
        (MAP.flip(1).roll(2, 0), "select"),
        (MAP.reshape(2, 2, 3, 6).transpose(0, 1).reshape(4, 3, 6), "select"),  # a shuffle of channels
        (MAP.repeat_interleave(2, 1).repeat_interleave(3, 2), "select"),  # nearest upsampling
        (MAP[:, :1, :1].expand(4, 3, 6), "select"),
        (MAP.transpose(0, 2), "rearrange"),
        (MAP.reshape(2, 2, 3, 6).permute(2, 0, 3, 1).reshape(3, 2, 12), "rearrange"),  # a shuffle of pixels
        (MAP.permute(1, 2, 0).flatten(), "rearrange"),
        (MAP.transpose(0, 2).flip(0), "rearrange select"),
        (MAP[1:].transpose(0, 2), "select rearrange"),
        (MAP[1:].transpose(0, 2).repeat_interleave(2, 2), "select rearrange select"),
        (MAP.diagonal(dim1=1, dim2=2).flatten(), "flatten select"),
        (MAP.flatten()[torch.tensor([5, 0, 7, 7])].reshape(1, 2, 2), "flatten select rearrange"),
    ],
)
def test_the_fewest_operations_are_taken(index, kinds):
    assert made(index, (4, 3, 6)) == kinds


class Halves(nn.Module):
    """Channels in two halves, as the authors' ShuffleNetV2 splits them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x):
        b, _, h, w = x.shape
        halves = self.conv(x).reshape(b * 2, 2, h * w).permute(1, 0, 2).reshape(2, b, 2, h, w)
        return halves[0] + halves[1]


def test_the_batch_may_be_elsewhere_in_between():
    network = Halves().eval()
    program = capture(network, (3, 4, 5))
    assert [op.kind for op in program.ops] == ["conv", "select", "select", "add"]
    for batch in (1, 3):
        x = torch.randn(batch, 3, 4, 5)
        torch.testing.assert_close(FloatEvaluator(program).logits(x), network(x))
