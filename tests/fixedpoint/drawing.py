"""Programs that Hypothesis draws."""

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from fixedpoint.program import (
    INPUT,
    Add,
    AvgPool,
    Clamp,
    Concat,
    Conv,
    Flatten,
    Linear,
    Lookup,
    MaxPool,
    Mul,
    Op,
    Pad,
    Program,
    Rearrange,
    Select,
)


class Drawing:
    """Builds a program: Hypothesis chooses shapes and exponents, and a seed for the contents.

    One method per operation kind takes the name of its first operand and returns that of its result.
    """

    def __init__(self, draw):
        self.draw, self.rng = draw, np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
        self.ops: list[Op] = []
        self.constants, self.exponents = {}, {INPUT: 7}
        self.shapes = {INPUT: (draw(st.sampled_from([1, 2, 3, 4, 6, 66])), *self.pair(1, 9))}

    def number(self, low: int, high: int) -> int:
        return self.draw(st.integers(low, high))

    def pair(self, low: int, high: int) -> tuple[int, int]:
        return self.number(low, high), self.number(low, high)

    def append(self, kind: type[Op], inputs, shape, exponent: int, *attributes, clamp=(None, None), **named) -> str:
        name = f"t{len(self.ops)}"
        self.ops.append(kind(name, inputs, shape, *attributes, clamp=clamp, **named))
        self.shapes[name], self.exponents[name] = shape, exponent
        return name

    def exponent(self, *operands: int, shift=(0, 0)) -> int:
        """An exponent of a result that divides by 2**shift, close enough to others that no sum can reach 2**24."""
        wanted = sum(operands) - self.number(*shift) if operands else self.number(-2, 12)
        return min(max(wanted, -2), 12)

    def real(self, exponent: int) -> float:
        """A number that is an integer or a tie with `exponent`, within int8 or just outside."""
        return self.number(-270, 270) / 2 * 2.0**-exponent

    def bounds(self, exponent: int) -> tuple[float | None, float | None]:
        low, high = sorted([self.real(exponent), self.real(exponent)])
        return self.draw(st.sampled_from([(None, None), (0.0, None), (low, None), (None, high), (low, high)]))

    def weights(self, x: str, shape: tuple[int, ...], exponent: int) -> None:
        """Constants of the next operation; with ties, weights and biases are multiples of half the divisor."""
        shift = np.clip(self.number(-3, 16) + self.rng.integers(-1, 2, shape[0]), -3, 16)
        zeros = np.clip(shift - 1, 0, 6) * self.number(0, 1)  # at the end of weights and biases
        limit = np.clip(np.minimum(2.0**shift, (2**24 - 2**21) // (128 * np.prod(shape[1:]))), 1, 127)
        along_channels = (-1, *[1] * (len(shape) - 1))
        weight = np.trunc(self.rng.uniform(-1, 1, shape) * (limit + 1).reshape(along_channels)).astype(np.int64)
        weight -= np.fmod(weight, 2 ** zeros.reshape(along_channels))
        bias = self.rng.integers(-64 * limit, 64 * limit + 1) // 2**zeros * 2**zeros
        values = {
            "weight": weight.astype(np.int8),
            "bias": bias.astype(np.int32),
            "weight_exponent": (shift + exponent - self.exponents[x]).astype(np.int32),
        }
        self.constants |= {f"t{len(self.ops)}.{key}": torch.from_numpy(value) for key, value in values.items()}

    def copy(self, x: str) -> str:
        """`x` or -`x` in each channel, in other real numbers."""
        channels, exponent = self.shapes[x][0], self.exponent()
        values = {
            "weight": torch.from_numpy(self.rng.choice(np.array([-1, 1], np.int8), (channels, 1, 1, 1))),
            "bias": torch.zeros(channels, dtype=torch.int32),
            "weight_exponent": torch.full((channels,), exponent - self.exponents[x], dtype=torch.int32),
        }
        self.constants |= {f"t{len(self.ops)}.{key}": value for key, value in values.items()}
        return self.append(Conv, (x,), self.shapes[x], exponent, (1, 1), (0, 0), (1, 1), channels)

    def operands(self, x: str, count: int) -> tuple[str, ...]:
        """`x` and `count` others of its shape, in any order."""
        can_copy = len(self.shapes[x]) == 3
        others = [self.copy(x) if can_copy and self.draw(st.booleans()) else x for _ in range(count)]
        return tuple(self.draw(st.permutations([x, *others])))

    def conv(self, x: str) -> str:
        channels, *size = self.shapes[x]
        groups = self.draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
        stride, padding, dilation = self.pair(1, 3), self.pair(0, 2), self.pair(1, 2)
        room = [s + 2 * p - 1 for s, p in zip(size, padding, strict=True)]
        kernel = [self.number(1, min(5, r // d + 1)) for r, d in zip(room, dilation, strict=True)]
        reach = zip(room, kernel, dilation, stride, strict=True)
        shape = (groups * self.number(1, 3), *((r - (k - 1) * d) // s + 1 for r, k, d, s in reach))
        exponent = self.exponent()
        self.weights(x, (shape[0], channels // groups, *kernel), exponent)
        window = stride, padding, dilation
        return self.append(Conv, (x,), shape, exponent, *window, groups, clamp=self.bounds(exponent))

    def linear(self, x: str) -> str:
        shape, exponent = (self.number(1, 6),), self.exponent()
        self.weights(x, shape + self.shapes[x], exponent)
        return self.append(Linear, (x,), shape, exponent, clamp=self.bounds(exponent))

    def add(self, x: str) -> str:
        operands = self.operands(x, self.number(1, 2))
        exponent = self.exponent(max(self.exponents[name] for name in operands), shift=(-2, 6))
        return self.append(Add, operands, self.shapes[x], exponent, clamp=self.bounds(exponent))

    def mul(self, x: str) -> str:
        if len(self.shapes[x]) == 3 and max(self.shapes[x][1:]) <= 40 and self.draw(st.booleans()):
            operands = tuple(self.draw(st.permutations([x, self.pool(x, self.shapes[x][1:], (1, 1))])))
        else:
            operands = self.operands(x, 1)
        exponent = self.exponent(*(self.exponents[name] for name in operands), shift=(-3, 10))
        return self.append(Mul, operands, self.shapes[x], exponent, clamp=self.bounds(exponent))

    def avg_pool(self, x: str) -> str:
        kernel = tuple(self.number(1, min(size, 40)) for size in self.shapes[x][1:])
        return self.pool(x, kernel, self.pair(1, 3))

    def pool(self, x: str, kernel, stride) -> str:
        exponent = self.exponent(self.exponents[x], shift=(-3, 6))
        shape = self.pooled(x, kernel, stride, (0, 0))
        return self.append(AvgPool, (x,), shape, exponent, kernel, stride, clamp=self.bounds(exponent))

    def max_pool(self, x: str) -> str:
        kernel = tuple(self.number(1, size) for size in self.shapes[x][1:])
        stride, padding = self.pair(1, 3), tuple(self.number(0, k // 2) for k in kernel)
        shape = self.pooled(x, kernel, stride, padding)
        return self.append(MaxPool, (x,), shape, self.exponents[x], kernel, stride, padding)

    def pooled(self, x: str, *window) -> tuple[int, ...]:
        channels, *size = self.shapes[x]
        return channels, *((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, *window, strict=True))

    def lookup(self, x: str) -> str:
        values = self.rng.integers(-128, 128, 256, np.int8)
        self.constants[f"t{len(self.ops)}.table"] = torch.from_numpy(values)
        return self.append(Lookup, (x,), self.shapes[x], self.exponent(), "tanh", ())

    def concat(self, x: str) -> str:
        operands = self.operands(x, self.number(0, 2))
        exponent = self.exponent(max(self.exponents[name] for name in operands), shift=(-3, 6))
        shape = [*self.shapes[x]]
        axis = self.number(0, len(shape) - 1)
        shape[axis] *= len(operands)
        return self.append(Concat, operands, tuple(shape), exponent, clamp=self.bounds(exponent), axis=axis)

    def clamp(self, x: str) -> str:
        return self.append(Clamp, (x,), self.shapes[x], self.exponents[x], clamp=self.bounds(self.exponents[x]))

    def pad(self, x: str) -> str:
        (channels, rows, columns), padding = self.shapes[x], self.pair(0, 2) + self.pair(0, 2)
        count = self.draw(st.sampled_from([1, channels]))
        value = tuple(None if self.number(0, 4) == 0 else self.real(self.exponents[x]) for _ in range(count))
        between = self.draw(st.sampled_from([(0, 0), self.pair(0, 2)]))
        rows, columns = rows + (rows - 1) * between[0], columns + (columns - 1) * between[1]
        shape = (channels, rows + sum(padding[:2]), columns + sum(padding[2:]))
        return self.append(Pad, (x,), shape, self.exponents[x], padding, value, between=between)

    def flatten(self, x: str) -> str:
        return self.append(Flatten, (x,), (int(np.prod(self.shapes[x])),), self.exponents[x])

    def select(self, x: str) -> str:
        chosen = [self.chosen(size) for size in self.shapes[x]]
        shape = tuple(map(len, chosen))
        return self.append(Select, (x,), shape, self.exponents[x], *chosen, *[()] * (3 - len(chosen)))

    def chosen(self, size: int) -> tuple[int, ...]:
        """All along an axis, some in steps either way, each so often, or any."""
        start, by, times = self.number(0, size - 1), self.number(1, 3), self.number(1, max(1, 12 // size))
        any_of = self.draw(st.lists(st.integers(0, size - 1), min_size=1, max_size=7))
        ways = [range(size), range(start, size, by), range(start, -1, -by), [i // times for i in range(size * times)]]
        return tuple(self.draw(st.sampled_from([*ways, any_of])))

    def rearrange(self, x: str, rank: int = 3) -> str:
        count = int(np.prod(self.shapes[x]))
        view = self.factors(count, self.number(1, 5))
        axes = tuple(self.draw(st.permutations(range(len(view)))))
        return self.append(Rearrange, (x,), self.factors(count, rank), self.exponents[x], view, axes)

    def factors(self, product: int, count: int) -> tuple[int, ...]:
        """Numbers with this product, in any order."""
        found = []
        for _ in range(count - 1):
            found.append(self.draw(st.sampled_from([n for n in range(1, product + 1) if product % n == 0])))
            product //= found[-1]
        return tuple(self.draw(st.permutations([*found, product])))

    def finish(self, x: str) -> Program:
        """The program with a last layer that reads `x` and gives its accumulators."""
        last = self.linear(x if len(self.shapes[x]) == 1 else self.flatten(x))
        self.ops[-1] = Linear(last, self.ops[-1].inputs, self.shapes[last])
        del self.exponents[last]
        return Program(self.shapes[INPUT], tuple(self.ops), self.constants, self.exponents)


def share_of_examples(divisor: int) -> settings:
    return settings(max_examples=max(1, settings().max_examples // divisor))
