"""Counts elements in which the forms of one model differ."""

from itertools import combinations
from typing import NotRequired, TypedDict

import torch
from torch import Tensor

from storage.errors import InputError


class Count(TypedDict):
    """The number of elements of two forms that were compared, and how many of them differ."""

    elements: int
    mismatches: int


class Compared(TypedDict):
    """One comparison in metrics/exactness.json: number of images, counts by pair of forms, names of tensors."""

    images: int
    pairs: dict[str, Count]
    names: NotRequired[list[str]]


class Agreement:
    """Compares every pair of forms element by element; NaN is equal to nothing.

    Args:
        forms: Names of the forms.
    """

    def __init__(self, forms: list[str]):
        self.forms = forms
        self.counts = {pair: Count(elements=0, mismatches=0) for pair in combinations(forms, 2)}

    def add(self, values: dict[str, Tensor]) -> None:
        """Compare one tensor.

        Args:
            values: The tensor in each form, int or float, all of the same shape.

        Raises:
            InputError: If the shapes differ.
        """
        for (left, right), count in self.counts.items():
            a, b = values[left], values[right]
            if a.shape != b.shape:
                raise InputError(f"{left} gives {list(a.shape)} where {right} gives {list(b.shape)}")
            count["elements"] += a.numel()
            count["mismatches"] += int(torch.ne(a, b).sum())

    @property
    def mismatches(self) -> int:
        """The number of different elements, over all pairs."""
        return sum(count["mismatches"] for count in self.counts.values())

    @property
    def elements(self) -> int:
        """The number of compared elements, over all pairs."""
        return sum(count["elements"] for count in self.counts.values())

    def by_pair(self) -> dict[str, Count]:
        """The counts by the pair, such as "ptq = int"."""
        return {f"{left} = {right}": count for (left, right), count in self.counts.items()}
