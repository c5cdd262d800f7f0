"""How an operation that orders values anew moves them where maps lie as [height, width, channels]: in C, in .tflite."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod

from fixedpoint.program.moves import Flatten, Rearrange
from fixedpoint.program.operation import Shape


@dataclass(frozen=True)
class Transposition:
    """`x.reshape(sizes).transpose(axes)` of values in the order in which they lie in memory.

    No axis has one value, and none could be joined with its neighbour.
    """

    sizes: Shape
    axes: tuple[int, ...]

    @property
    def result(self) -> Shape:
        """The sizes of the result."""
        return tuple(self.sizes[axis] for axis in self.axes)

    @property
    def steps(self) -> tuple[int, ...]:
        """How far apart in the operand two neighbours along each axis of the result are."""
        return tuple(prod(self.sizes[axis + 1 :]) for axis in self.axes)


def transpositions(operand: Shape, op: Flatten | Rearrange) -> list[Transposition]:
    """The transpositions, one after the other, that make the result of `op` of its operand; none if nothing moves.

    It is one unless sizes of the operand, of the view or of the result do not divide each other.
    """
    view, axes = (op.view, op.axes) if isinstance(op, Rearrange) else (operand, tuple(range(len(operand))))
    channels, *size = operand
    parts = [
        _simplest((*size, channels), (len(size), *range(len(size)))),  # to [channels, height, width]
        _simplest(view, axes),
        _simplest(op.shape, (*range(1, len(op.shape)), 0)),
    ]
    found: list[Transposition] = []
    for part in parts:
        joined = _joined(found[-1], part) if found and part.sizes else None
        if joined:
            found[-1] = joined
        elif part.axes != tuple(range(len(part.axes))):
            found.append(part)
    return [part for part in found if len(part.axes) > 1]


def in_steps(whole: Transposition, most: int) -> list[Transposition]:
    """Transpositions that do together what `whole` does.

    Args:
        most: How many axes may be moved, 3 or more: an axis that stays in front does not count.
    """
    if len(whole.axes) - (whole.axes[0] == 0) <= most:
        return [whole]
    place = next(i for i, axis in enumerate(whole.axes) if axis != i)
    axis = whole.axes[place]
    others = [i for i in range(len(whole.axes)) if i != axis]
    order = (*others[:place], axis, *others[place:])
    rest = _simplest([whole.sizes[i] for i in order], [order.index(i) for i in whole.axes])
    return [_simplest(whole.sizes, order), *in_steps(rest, most)]


def _simplest(sizes: Sequence[int], axes: Sequence[int]) -> Transposition:
    """Without axes of one value; neighbours that stay neighbours are one axis."""
    kept = [axis for axis in range(len(sizes)) if sizes[axis] > 1]
    runs: list[list[int]] = []
    for axis in (kept.index(axis) for axis in axes if sizes[axis] > 1):
        if runs and runs[-1][-1] + 1 == axis:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    ordered = sorted(runs)
    return Transposition(
        tuple(prod(sizes[kept[axis]] for axis in run) for run in ordered), tuple(ordered.index(run) for run in runs)
    )


def _joined(first: Transposition, second: Transposition) -> Transposition | None:
    """Both as one, None if the sizes between them do not divide each other."""
    marks = sorted({*_ends(first.result), *_ends(second.sizes)}, reverse=True)
    if any(behind % next_behind for behind, next_behind in pairwise(marks)):
        return None
    pieces = [behind // next_behind for behind, next_behind in pairwise(marks)]

    def of(sizes: Shape) -> list[list[int]]:
        """The pieces of each axis."""
        ends = [marks.index(end) for end in _ends(sizes)]
        return [[*range(start, stop)] for start, stop in pairwise(ends)]

    between = of(first.result)
    before = [piece for axis in range(len(first.axes)) for piece in between[first.axes.index(axis)]]
    after = [piece for axis in second.axes for piece in of(second.sizes)[axis]]
    return _simplest([pieces[piece] for piece in before], [before.index(piece) for piece in after])


def _ends(sizes: Shape) -> list[int]:
    """The number of values of all axes, of all but the first, and so on to 1."""
    return [prod(sizes[axis:]) for axis in range(len(sizes) + 1)]
