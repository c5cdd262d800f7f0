"""The oracle: an integer program in plain NumPy int64, written from docs/arithmetic.md alone and as simply as possible.

It shares no code with `fixedpoint` and knows neither torch nor ONNX. Every result is int64.
"""

from fractions import Fraction

import numpy as np


def run(program: dict, constants: dict[str, np.ndarray], x: np.ndarray) -> dict[str, np.ndarray]:
    """All tensors by name, for `Program.to_json()`, its constants and int8 input [batch, channels, height, width]."""
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
                result = np.clip(divide_by_power(result, shift.reshape(along_channels)), low, high)
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
            result = np.clip(np.concatenate(rescaled, axis=1), low, high)
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
            result = np.empty((batch, channels, top + rows + bottom, left + columns + right), np.int64)
            result[:] = np.array(values).reshape(-1, 1, 1)
            result[:, :, top : top + rows, left : left + columns] = operands[0]
        elif kind == "flatten":
            result = operands[0].reshape(len(x), -1)
        else:
            raise NotImplementedError(f"the oracle does not know the operation {kind}")
        tensors[op["name"]] = result
    return tensors


def rne(numerator: np.ndarray, divisor: np.ndarray | int) -> np.ndarray:
    """`numerator / divisor` for a positive divisor, rounded half to even."""
    below = np.floor_divide(numerator, divisor)
    twice_the_rest = 2 * (numerator - below * divisor)
    up = (twice_the_rest > divisor) | ((twice_the_rest == divisor) & (below % 2 == 1))
    return below + up


def divide_by_power(numerator: np.ndarray, shift: np.ndarray | int, count: int = 1) -> np.ndarray:
    """rne(numerator / (count * 2**shift)); a negative shift multiplies."""
    return rne(numerator * 2 ** np.maximum(-shift, 0), count * 2 ** np.maximum(shift, 0))


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
