"""Counts the values in which a runtime differs from the integer model."""

from dataclasses import dataclass, field

import numpy as np
from candidates import Candidate
from subjects import Subject

from fixedpoint.program.integer import integer_input


@dataclass
class Comparison:
    """The number of values that were compared, of those that differ by tensor, and of images with logits."""

    images: int
    compared: int = 0
    by_tensor: dict[str, int] = field(default_factory=dict)

    @property
    def different(self) -> int:
        return sum(self.by_tensor.values())

    def add(self, name: str, found: np.ndarray, expected: np.ndarray) -> None:
        """Count a tensor. Raises ValueError if the shapes differ by more than dimensions of 1."""
        found, expected = (value.reshape(len(value), -1) for value in (found, expected))
        if found.shape != expected.shape:
            raise ValueError(f"{name} has the shape {found.shape} in place of {expected.shape}")
        self.compared += expected.size
        self.by_tensor[name] = int(np.sum(found != expected))

    @property
    def where(self) -> dict[str, int]:
        """The tensors in which values differ, and how many."""
        return {name: count for name, count in self.by_tensor.items() if count}

    def as_json(self) -> dict:
        counts = {"compared": self.compared, "different": self.different, "images": self.images}
        return counts | ({"where": self.where} if self.where else {})


def compare(subject: Subject, candidate: Candidate, traced: int | None = None) -> Comparison:
    """Compare the logits of all images (fewer in slow runtimes), and the int8 tensors of the first ones.

    Args:
        traced: Number of images whose tensors are compared; None: the network's `traced`.

    Raises:
        RefusedError: If the runtime does not take the network.
        ValueError: If it does not give the tensors that it must give.
    """
    network, names = subject.network, candidate.names(subject)
    traced = 0 if not names else network.traced if traced is None else traced
    x = integer_input(subject.x[: network.slow if candidate.is_slow else None]).numpy()
    logits, tensors = candidate.run(subject, x, traced)
    result = Comparison(len(x))
    result.add("logits", logits, subject.logits[candidate.unit][: len(x)])
    if traced and (wrong := {*names} ^ tensors.keys()):
        raise ValueError(f"{candidate.title} must give other tensors: {', '.join(sorted(wrong)[:5])}")
    for name, value in tensors.items():
        result.add(name, value, subject.tensors[name])
    return result
