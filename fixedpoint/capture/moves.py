"""From positions of entries to the operations of a program that move them: Select, Rearrange and Flatten."""

from math import prod
from typing import Any

import torch
from torch import Tensor

from fixedpoint.program import Flatten, Op, Rearrange, Select
from fixedpoint.program.operation import Shape

Step = tuple[type[Op], dict[str, Any]]  # an operation and its attributes, `shape` among them


def moves(index: Tensor, source: Shape) -> list[Step]:
    """The operations that make `x.flatten()[index]` of a tensor x.

    Tried in this order: none; a reshape; a Select; a Rearrange; a Select, a Rearrange and a Select, of which some may
    be missing; and what can do everything, a Select of features.

    Args:
        index: int64 [channels, height, width] or [features]; any entries, also several times.
        source: Shape of x without the batch: [channels, height, width] or [features].
    """
    for way in (_reshaped, _selected, _rearranged, _composed):
        steps = way(index, source)
        if steps is not None:
            return steps
    flat = (prod(source),)
    steps = [] if source == flat else [(Flatten, {"shape": flat})]
    steps += _selected(index.flatten(), flat) or []
    return steps + (_reshaped(torch.arange(index.numel()).reshape(index.shape), (index.numel(),)) or [])


def _reshaped(index: Tensor, source: Shape) -> list[Step] | None:
    shape = tuple(index.shape)
    if not torch.equal(index.flatten(), torch.arange(prod(source))):
        return None
    if shape == source:
        return []
    if len(shape) == 1:
        return [(Flatten, {"shape": shape})]
    return [(Rearrange, {"shape": shape, "view": source, "axes": tuple(range(len(source)))})]


def _selected(index: Tensor, source: Shape) -> list[Step] | None:
    """A Select: the numbers of channels, of rows and of columns are chosen independently."""
    if index.dim() != len(source):
        return None
    chosen, total = [], torch.zeros_like(index)
    for axis, size in enumerate(source):
        step = prod(source[axis + 1 :])
        line = index.movedim(axis, -1).reshape(-1, index.shape[axis])[0] // step % size
        total += (line * step).reshape(-1, *[1] * (index.dim() - 1 - axis))
        chosen.append(tuple(line.tolist()))
    return [_select(chosen)] if torch.equal(total, index) else None


def _select(chosen: list[tuple[int, ...]]) -> Step:
    channels, rows, columns, *_ = (*chosen, (), ())
    shape = tuple(map(len, chosen))
    return Select, {"shape": shape, "channels": channels, "rows": rows, "columns": columns}


def _rearranged(index: Tensor, source: Shape) -> list[Step] | None:
    """A Rearrange: positions are numbers of mixed radix whose digits change places."""
    flat = index.flatten()
    if len(flat) != prod(source):
        return None
    digits: list[tuple[int, int]] = []  # size and stride, the innermost first
    inner = 1
    while inner < len(flat):
        line = flat[::inner]
        stride = int(line[1] - line[0])
        run = int((line == line[0] + stride * torch.arange(len(line))).cumprod(0).sum())
        run = max(each for each in range(1, run + 1) if len(line) % each == 0)
        if stride <= 0 or run == 1:
            return None
        digits.append((run, stride))
        inner *= run
    order = sorted(range(len(digits)), key=lambda i: -digits[i][1])
    sizes = [digits[i][0] for i in order]
    if [digits[i][1] for i in order] != [prod(sizes[i + 1 :]) for i in range(len(sizes))]:
        return None
    axes = tuple(order.index(i) for i in reversed(range(len(digits))))
    expected = torch.arange(len(flat)).reshape(sizes).permute(axes).flatten()
    if not torch.equal(expected, flat):
        return None
    return [(Rearrange, {"shape": tuple(index.shape), "view": tuple(sizes), "axes": axes})]


def _composed(index: Tensor, source: Shape) -> list[Step] | None:
    """A Select of what is used, a Rearrange or reshape of it, and a Select that repeats and orders the result."""
    used, compact = _used(index, source)
    if used is None:
        return None
    before = [] if tuple(map(len, used)) == source else [_select(used)]
    for ordered in (False, True):
        core, chosen = compact, []
        for axis in range(index.dim()):
            core, repeats = _distinct(core, axis, ordered)
            chosen.append(repeats)
        sizes = tuple(map(len, used))
        between = _reshaped(core, sizes)
        between = _rearranged(core, sizes) if between is None else between
        if between is not None:
            whole = all(each == tuple(range(size)) for each, size in zip(chosen, core.shape, strict=True))
            return [*before, *between, *([] if whole else [_select(chosen)])]
    return None


def _used(index: Tensor, source: Shape) -> tuple[list[tuple[int, ...]] | None, Tensor]:
    """The channels, rows and columns that occur, and the positions among their entries; None if not all of these do."""
    used, compact = [], torch.zeros_like(index)
    for axis, size in enumerate(source):
        numbers = index // prod(source[axis + 1 :]) % size
        values, places = numbers.unique(return_inverse=True)
        used.append(tuple(values.tolist()))
        compact = compact * len(values) + places
    return (used if len(index.unique()) == prod(map(len, used)) else None), compact


def _distinct(index: Tensor, axis: int, ordered: bool) -> tuple[Tensor, tuple[int, ...]]:
    """`index` without slices that are again in it along `axis`, and the number of the slice that each has been."""
    lines = index.movedim(axis, 0).reshape(index.shape[axis], -1)
    values, places = lines.unique(dim=0, return_inverse=True)
    if not ordered:  # in the order in which they come first
        first = torch.full((len(values),), len(lines)).scatter_reduce(0, places, torch.arange(len(lines)), "amin")
        order = first.argsort()
        values, places = values[order], order.argsort()[places]
    shape = [*index.shape]
    shape.insert(0, shape.pop(axis))
    kept = values.reshape(len(values), *shape[1:]).movedim(0, axis)
    return kept, tuple(places.tolist())
