"""What a value of an exported network is while it is captured: entries of one tensor of the program, moved about.

Operations that only move values are not made at once: they act on the positions of the entries. Where an operation
computes, `fixedpoint.capture.moves` turns all moves up to there into one to three operations of a program, or none.
"""

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import ClassVar

import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.errors import QuantizationError
from fixedpoint.program.operation import Shape

BATCH = 2  # images that a network is exported with; two show whether it mixes them


@dataclass(frozen=True, eq=False)
class Value:
    """A value of the network that depends on the image.

    Attributes:
        base: The tensor of the program that has its entries.
        base_shape: Shape of that tensor, without the batch.
        moved: float64, in the shape of the value with its batch: the position of each entry in the flattened base of
            BATCH images; None: the value is the base. Float, since some kernels of PyTorch take no integers.
        node: The node that moved the entries last, which gives operations their names.
    """

    base: str
    base_shape: Shape
    moved: Tensor | None = None
    node: Node | None = None

    @property
    def base_size(self) -> int:
        """Numbers that the base has for one image."""
        return prod(self.base_shape)

    @property
    def positions(self) -> Tensor:
        """`moved` of every value."""
        if self.moved is not None:
            return self.moved
        return torch.arange(BATCH * self.base_size, dtype=torch.float64).reshape(BATCH, *self.base_shape)

    @property
    def full_shape(self) -> Shape:
        """The shape with the batch."""
        return (BATCH, *self.base_shape) if self.moved is None else tuple(self.moved.shape)

    @cached_property
    def index(self) -> Tensor:
        """int64, in the shape of the value without the batch: positions in the flattened base of one image.

        Raises:
            QuantizationError: If images are not separate entries of the first dimension.
        """
        positions = self.positions
        if positions.dim() and len(positions) == BATCH:
            first, second = positions
            if first.numel() and bool((second == first + self.base_size).all()) and first.max() < self.base_size:
                return first.long()
        raise QuantizationError(
            "it mixes the images of a batch, or the batch is not the first dimension of its operand: keep the batch "
            "first, as torch.stack(maps, 1).sum(1) does"
        )

    @property
    def shape(self) -> Shape:
        """The shape without the batch. Raises QuantizationError as `index` does."""
        return self.base_shape if self.moved is None else tuple(self.index.shape)

    @property
    def covers_base(self) -> bool:
        """Whether each entry of the base is one of the value exactly once."""
        return self.moved is None or torch.equal(self.index.flatten().sort().values, torch.arange(self.base_size))

    def at(self, index: Tensor, node: Node | None = None) -> "Value":
        """Other entries of the same base: `index` int64, of any shape, without the batch."""
        steps = torch.arange(BATCH).reshape(-1, *[1] * index.dim()) * self.base_size
        return self.with_positions((index + steps).double(), node)

    def with_positions(self, positions: Tensor, node: Node | None = None) -> "Value":
        """Other entries of the same base: `positions` as `moved` has them."""
        value = Value(self.base, self.base_shape, positions, node or self.node)
        whole = positions.shape == (BATCH, *self.base_shape)
        same = whole and torch.equal(positions.flatten(), torch.arange(positions.numel(), dtype=torch.float64))
        return Value(self.base, self.base_shape, None, value.node) if same else value


@dataclass(frozen=True)
class Compared:
    """A mask: where `x` is greater than a number; with `less`, where it is less."""

    readers: ClassVar = frozenset({"where", "mul", "multiply"})
    why_not: ClassVar = "its operand compares values of the image with a number: write a clamp, or torch.where"
    x: Value
    bound: float
    less: bool


@dataclass(frozen=True)
class Exponential:
    """`exp(x)`; with `plus_one`, `1 + exp(x)`."""

    readers: ClassVar = frozenset({"add", "div", "divide", "true_divide", "reciprocal", "log", "log1p"})
    why_not: ClassVar = (
        "its operand is an exponential, which has a form in 1 / (1 + exp(-x)) and log(1 + exp(x)) alone: use sigmoid, "
        "softplus, elu or silu"
    )
    x: Value
    plus_one: bool = False
