"""LeakyReLU and PReLU without a table: `max(x, 0) + slope * min(x, 0)`, with a slope for each channel."""

from collections.abc import Container

from torch import Tensor

from fixedpoint.program.moves import Flatten, Rearrange
from fixedpoint.program.names import allowed_name
from fixedpoint.program.operation import Bounds, Op, Shape
from fixedpoint.program.ops import Add, Clamp, Conv


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
    parts = ("positive", "negative", "map", "scaled", "vector")
    positive, negative, image, scaled, vector = (allowed_name(f"{name}.{part}", taken) for part in parts)
    ops: list[Op] = [
        Clamp(positive, (source,), shape, clamp=(0.0, None)),
        Clamp(negative, (source,), shape, clamp=(None, 0.0)),
    ]
    channels, is_map = shape[0], len(shape) == 3
    whole = shape if is_map else (channels, 1, 1)
    if not is_map:
        ops.append(Rearrange(image, (negative,), whole, (channels,), (0,)))
    ops.append(Conv(scaled, (ops[-1].name,), whole, (1, 1), (0, 0), (1, 1), channels))
    if not is_map:
        ops.append(Flatten(vector, (scaled,), shape))
    ops.append(Add(name, (positive, ops[-1].name), shape, clamp=clamp))
    return ops, {f"{scaled}.weight": slopes.reshape(-1, 1, 1, 1), f"{scaled}.bias": slopes.new_zeros(channels)}
