"""Counts elements in which the forms of one model differ, and says where one differs first."""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple, NotRequired, TypedDict

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


class Difference(NamedTuple):
    """A value of a form that is not the reference's: of which tensor, which image in order, and where in its tensor."""

    form: str
    tensor: str
    image: int
    place: tuple[int, ...]
    value: float
    expected: float

    def __str__(self) -> str:
        return f"{self.tensor}{list(self.place)} is {self.value:g} in {self.form} and not {self.expected:g}"


class Agreement:
    """Compares every pair of forms element by element; NaN is equal to nothing.

    Args:
        forms: Names of the forms.
        reference: The form that the others should be equal to.
    """

    def __init__(self, forms: list[str], reference: str):
        self.forms = forms
        self.reference = reference
        self.counts = {pair: Count(elements=0, mismatches=0) for pair in combinations(forms, 2)}
        self._order: dict[str, int] = {}  # of the tensors, which each batch of images gives in the same one
        self._first: dict[str, Difference] = {}

    def add(self, values: Mapping[str, Tensor], tensor: str, start: int = 0) -> None:
        """Compare one tensor; tensors are added in the order in which they are computed.

        Args:
            values: The tensor in each form, int or float, [images, ...], all with as many values an image.
            tensor: Its name.
            start: Number of images before these.

        Raises:
            InputError: If a form lacks the tensor, or the shapes differ.
        """
        position = self._order.setdefault(tensor, len(self._order))
        for form in self.forms:
            if form not in values:
                raise InputError(f"{form} has no tensor {tensor}, which {self.reference} has")
        flat = {form: value.flatten(1) if value.dim() > 1 else value for form, value in values.items()}
        for (left, right), count in self.counts.items():
            a, b = flat[left], flat[right]
            if a.shape != b.shape:
                raise InputError(f"{left} gives {list(a.shape)} where {right} gives {list(b.shape)}: {tensor}")
            count["elements"] += a.numel()
            differ = torch.ne(a, b)
            mismatches = int(differ.sum())
            count["mismatches"] += mismatches
            if mismatches and self.reference in (left, right):
                form = right if left == self.reference else left
                if form not in self._first or position < self._order[self._first[form].tensor]:
                    at = int(differ.flatten().nonzero()[0])
                    image, *place = map(int, torch.unravel_index(torch.tensor(at), values[self.reference].shape))
                    pair = (float(flat[each].flatten()[at]) for each in (form, self.reference))
                    self._first[form] = Difference(form, tensor, start + image, tuple(place), *pair)

    @property
    def differences(self) -> dict[str, Difference]:
        """The first difference, in order of computation, of each form that is not equal to the reference."""
        return self._first

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
