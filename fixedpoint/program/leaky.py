"""LeakyReLU and PReLU without a table: `max(x, 0) + slope * min(x, 0)`, with a slope for each channel."""

from collections.abc import Container, Sequence

from torch import Tensor

from fixedpoint.program.moves import Flatten, Rearrange
from fixedpoint.program.names import allowed_name
from fixedpoint.program.operation import Bounds, Op, Shape
from fixedpoint.program.ops import Add, Clamp, Conv
from fixedpoint.program.scaling import scaled


def leaky_relu(
    name: str, source: str, shape: Shape, slopes: Tensor, clamp: Bounds, taken: Container[str]
) -> tuple[list[Op], dict[str, Tensor]]:
    """The operations that compute it, which both arithmetics have, and their constants by `<op>.<constant>`.

    Args:
        name: Name of the result.
        source: The tensor that is read.
        shape: Its shape, [channels, height, width] or [features].
        slopes: float32 [channels].
        clamp: Bounds of the result.
        taken: Names of other operations.
    """
    parts = ("positive", "negative", "scaled")
    positive, negative, branch = (allowed_name(f"{name}.{part}", taken) for part in parts)
    product, constants = scaled(branch, negative, shape, slopes, slopes.new_zeros(shape[0]), taken)
    ops: list[Op] = [
        Clamp(positive, (source,), shape, clamp=(0.0, None)),
        Clamp(negative, (source,), shape, clamp=(None, 0.0)),
        *product,
        Add(name, (positive, branch), shape, clamp=clamp),
    ]
    return ops, constants


def negative_branches(ops: Sequence[Op]) -> dict[str, str]:
    """The convolutions that give `slope * min(x, 0)` of a LeakyReLU or PReLU, each with the sum that is its result."""
    known, found = {op.name: op for op in ops}, {}
    sums = [op for op in ops if isinstance(op, Add) and len(op.inputs) == 2]
    for add, (one, other) in [(each, names) for each in sums for names in (each.inputs, each.inputs[::-1])]:
        positive, branch = known.get(one), known.get(other)
        if isinstance(branch, Flatten):
            branch = known.get(branch.inputs[0])
        if not isinstance(branch, Conv):
            continue
        negative = known.get(branch.inputs[0])
        if isinstance(negative, Rearrange):
            negative = known.get(negative.inputs[0])
        if (
            isinstance(positive, Clamp)
            and isinstance(negative, Clamp)
            and (positive.clamp, negative.clamp) == ((0.0, None), (None, 0.0))
            and positive.inputs == negative.inputs
        ):
            found[branch.name] = add.name
    return found
