"""The oracle: an integer program in plain NumPy int64, written from docs/arithmetic.md alone and as simply as possible.

It shares no code with `fixedpoint` and knows neither torch nor ONNX. Every result is int64.
"""

from collections.abc import Callable
from fractions import Fraction

import numpy as np

Division = Callable[[np.ndarray, np.ndarray | int], np.ndarray]  # of accumulators by 2**shift, somehow rounded


def run(
    program: dict, constants: dict[str, np.ndarray], x: np.ndarray, divide: Division | None = None
) -> dict[str, np.ndarray]:
    """All tensors by name, for `Program.to_json()`, its constants and int8 input [batch, channels, height, width].

    `divide` is how a runtime rounds the accumulators of convolutions and linear layers; by default half to even.
    """
    divide = divide or divide_by_power
    exponents = program["exponents"]
    tensors = {"input": x.astype(np.int64)}
    for op in program["ops"]:
        operands = [tensors[name] for name in op["inputs"]]
        operand_exponents = [exponents.get(name) for name in op["inputs"]]
        low, high = bounds(op["clamp"], exponents[op["name"]]) if op["name"] in exponents else (None, None)
        kind = op["kind"]
        if kind in ("conv", "linear"):
            weight, bias, weight_exponent = (
                constants[f"{op['name']}.{name}"].astype(np.int64) for name in ("weight", "bias", "weight_exponent")
            )
            result = conv(op, operands[0], weight) if kind == "conv" else operands[0] @ weight.T
            along_channels = (1, -1) + (1,) * (result.ndim - 2)
            result = result + bias.reshape(along_channels)
            assert np.abs(result).max() < 2**24, f"the accumulators of {op['name']} break the contract"
            if low is not None:
                shift = operand_exponents[0] + weight_exponent - exponents[op["name"]]
                result = np.clip(divide(result, shift.reshape(along_channels)), low, high)
        elif kind == "add":
            finest = max(operand_exponents)
            total = sum(q * 2 ** (finest - e) for q, e in zip(operands, operand_exponents, strict=True))
            result = np.clip(divide_by_power(total, finest - exponents[op["name"]]), low, high)
        elif kind == "mul":
            product = operands[0] * operands[1]
            result = np.clip(divide_by_power(product, sum(operand_exponents) - exponents[op["name"]]), low, high)
        elif kind == "avg_pool":
            count = op["kernel"][0] * op["kernel"][1]
            total = windows(operands[0], op["kernel"], op["stride"]).sum(axis=(4, 5))
            result = np.clip(divide_by_power(total, operand_exponents[0] - exponents[op["name"]], count), low, high)
        elif kind == "lookup":
            result = constants[f"{op['name']}.table"].astype(np.int64)[operands[0] + 128]
        elif kind == "concat":
            target = exponents[op["name"]]
            rescaled = [divide_by_power(q, e - target) for q, e in zip(operands, operand_exponents, strict=True)]
            result = np.clip(np.concatenate(rescaled, axis=1 + op["axis"]), low, high)
        elif kind == "clamp":
            result = np.clip(operands[0], low, high)
        elif kind == "max_pool":
            down, right = op["padding"]
            padded = np.pad(operands[0], ((0, 0), (0, 0), (down, down), (right, right)), constant_values=-(2**40))
            result = windows(padded, op["kernel"], op["stride"]).max(axis=(4, 5))
        elif kind == "pad":
            top, bottom, left, right = op["padding"]
            values = [integer(value, exponents[op["name"]], -128) for value in op["value"]]
            batch, channels, rows, columns = operands[0].shape
            down, across = 1 + op["between"][0], 1 + op["between"][1]  # from a row to the next, from a column
            height, width = top + (rows - 1) * down + 1 + bottom, left + (columns - 1) * across + 1 + right
            result = np.empty((batch, channels, height, width), np.int64)
            result[:] = np.array(values).reshape(-1, 1, 1)
            for row in range(rows):
                for column in range(columns):
                    result[:, :, top + row * down, left + column * across] = operands[0][:, :, row, column]
        elif kind == "flatten":
            result = operands[0].reshape(len(x), -1)
        elif kind == "select":
            result = operands[0][:, list(op["channels"])]
            if op["rows"]:
                result = result[:, :, list(op["rows"])][:, :, :, list(op["columns"])]
        elif kind == "rearrange":
            values = operands[0].reshape(len(x), -1)
            sources = []
            for place in np.ndindex(*(op["view"][axis] for axis in op["axes"])):
                at = dict(zip(op["axes"], place, strict=True))  # the place along each axis of the view
                sources.append(np.ravel_multi_index([at[axis] for axis in range(len(at))], op["view"]))
            result = values[:, sources].reshape(len(x), *op["shape"])
        else:
            raise NotImplementedError(f"the oracle does not know the operation {kind}")
        tensors[op["name"]] = result
    return tensors


def int8_logits(
    program: dict, constants: dict[str, np.ndarray], accumulators: np.ndarray, divide: Division | None = None
) -> np.ndarray:
    """The logits of a portable program where they are int8, from its raw ones [batch, classes]."""
    last = [op for op in program["ops"] if op["kind"] != "flatten"][-1]
    exponent = program["exponents"][last["inputs"][0]] + constants[f"{last['name']}.weight_exponent"].astype(np.int64)
    return np.clip((divide or divide_by_power)(accumulators, exponent - program["int8_logit_exponent"]), -128, 127)


def rne(numerator: np.ndarray, divisor: np.ndarray | int) -> np.ndarray:
    """`numerator / divisor` for a positive divisor, rounded half to even."""
    below = np.floor_divide(numerator, divisor)
    twice_the_rest = 2 * (numerator - below * divisor)
    up = (twice_the_rest > divisor) | ((twice_the_rest == divisor) & (below % 2 == 1))
    return below + up


def divide_by_power(numerator: np.ndarray, shift: np.ndarray | int, count: int = 1) -> np.ndarray:
    """rne(numerator / (count * 2**shift)); a negative shift multiplies."""
    return rne(numerator * 2 ** np.maximum(-shift, 0), count * 2 ** np.maximum(shift, 0))


def by_rule(up: Callable[[np.ndarray], np.ndarray]) -> Division:
    """A division that takes the nearest integer; `up(below)` decides which ties go up."""

    def divide(numerator: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
        numerator, divisor = numerator * 2 ** np.maximum(-shift, 0), 2 ** np.maximum(shift, 0)
        below = np.floor_divide(numerator, divisor)
        twice_the_rest = 2 * (numerator - below * divisor)
        return below + ((twice_the_rest > divisor) | ((twice_the_rest == divisor) & up(below)))

    return divide


def twice_rounded(numerator: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """Divide by a 32-bit multiplier, as LiteRT's kernels do for a filter scale just below a power of two.

    The high half of twice the product, rounded, is shifted right, rounded away from zero (gemmlowp, fixedpoint.h).
    """
    shift = np.broadcast_to(shift, numerator.shape)
    product = numerator * 2 ** np.maximum(-shift, 0) * (2**31 - 128)
    nudged = product + np.where(product >= 0, 2**30, 1 - 2**30)
    high = np.sign(nudged) * (np.abs(nudged) // 2**31)  # C's division drops the fraction
    right = np.maximum(shift, 0)
    mask = 2**right - 1
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))


def by_float32(numerator: np.ndarray, shift: np.ndarray | int) -> np.ndarray:
    """Divide by a float32 product with a filter scale just below a power of two, then half to even, as XNNPACK does."""
    scale = np.nextafter(np.ldexp(np.float32(1), -np.asarray(shift)), np.float32(0))
    return np.rint(numerator.astype(np.float32) * scale).astype(np.int64)


# By name, how runtimes round: a tie is between `below` and `below + 1`.
ROUNDINGS: dict[str, Division] = {
    "half to even": by_rule(lambda below: below % 2 == 1),
    "half away from zero": by_rule(lambda below: below >= 0),
    "half up": by_rule(lambda below: below >= below),
    "half down": by_rule(lambda below: below < below),
    "twice": twice_rounded,
    "float32": by_float32,
}


def bounds(clamp: tuple[float | None, float | None], exponent: int) -> tuple[int, int]:
    """The int8 bounds of a tensor that is clamped in real numbers."""
    return integer(clamp[0], exponent, -128), integer(clamp[1], exponent, 127)


def integer(real: float | None, exponent: int, absent: int) -> int:
    """rne(real * 2**exponent) within int8, or `absent` where there is no number."""
    return absent if real is None else min(max(round(Fraction(real) * Fraction(2) ** exponent), -128), 127)


def windows(x: np.ndarray, kernel: tuple[int, int], stride: tuple[int, int], dilation=(1, 1)) -> np.ndarray:
    """[batch, channels, rows, columns, kernel height, kernel width]: each window of `x` that fits."""
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    return view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def conv(op: dict, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Sums of products of a convolution, group by group."""
    down, right = op["padding"]
    x = np.pad(x, ((0, 0), (0, 0), (down, down), (right, right)))
    inputs, outputs = (np.split(array, op["groups"], axis) for array, axis in ((x, 1), (weight, 0)))
    return np.concatenate(
        [
            np.einsum("ncyxij,ocij->noyx", windows(part, w.shape[2:], op["stride"], op["dilation"]), w)
            for part, w in zip(inputs, outputs, strict=True)
        ],
        axis=1,
    )
