"""Random programs, found and made small by Hypothesis: every form agrees with the oracle on every tensor."""

from fractions import Fraction

import numpy as np
import oracle
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import hard_inputs, int8_tensors, numpy_constants
from test_onnx_int8 import EXACT, WRITERS, save
from test_qat import in_real_numbers

from fixedpoint.bounds import MAX_DIVISOR, accumulator_bound, check_exactness
from fixedpoint.c_runtime import CModel
from fixedpoint.c_source import c_source
from fixedpoint.calibrate import covering_exponent
from fixedpoint.constants import integers
from fixedpoint.integer import IntegerEvaluator, integer_tensor
from fixedpoint.onnx_graph import OUTPUT
from fixedpoint.program import (
    INPUT,
    QUANTIZED_KINDS,
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
)
from fixedpoint.qat import FakeQuantModel
from fixedpoint.rounding import fake_quantize
from fixedpoint.runtime import OnnxModel

MAP_KINDS = sorted(QUANTIZED_KINDS - {"flatten", "linear"})  # those that take and give maps
ELEMENTWISE_KINDS = {"add", "clamp", "concat", "lookup", "mul"}  # those that take features, too


class Drawing:
    """A program in the making: Hypothesis chooses shapes and exponents, a seed chosen by it the contents.

    One method an operation kind; each takes the name of its first operand and gives that of its result.
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

    def append(self, kind: type[Op], inputs, shape, exponent: int, *attributes, clamp=(None, None)) -> str:
        name = f"t{len(self.ops)}"
        self.ops.append(kind(name, inputs, shape, *attributes, clamp=clamp))
        self.shapes[name], self.exponents[name] = shape, exponent
        return name

    def exponent(self, *operands: int, shift=(0, 0)) -> int:
        """Of a result that divides by 2**shift; never so far from others that a sum could reach 2**24."""
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
        if len(self.shapes[x]) == 3 and self.draw(st.booleans()):
            operands = tuple(self.draw(st.permutations([x, self.pool(x, self.shapes[x][1:], (1, 1))])))
        else:
            operands = self.operands(x, 1)
        exponent = self.exponent(*(self.exponents[name] for name in operands), shift=(-3, 10))
        return self.append(Mul, operands, self.shapes[x], exponent, clamp=self.bounds(exponent))

    def avg_pool(self, x: str) -> str:
        kernel = tuple(self.number(1, size) for size in self.shapes[x][1:])
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
        shape = (len(operands) * self.shapes[x][0], *self.shapes[x][1:])
        return self.append(Concat, operands, shape, exponent, clamp=self.bounds(exponent))

    def clamp(self, x: str) -> str:
        return self.append(Clamp, (x,), self.shapes[x], self.exponents[x], clamp=self.bounds(self.exponents[x]))

    def pad(self, x: str) -> str:
        (channels, rows, columns), padding = self.shapes[x], self.pair(0, 2) + self.pair(0, 2)
        count = self.draw(st.sampled_from([1, channels]))
        value = tuple(None if self.number(0, 4) == 0 else self.real(self.exponents[x]) for _ in range(count))
        shape = (channels, rows + sum(padding[:2]), columns + sum(padding[2:]))
        return self.append(Pad, (x,), shape, self.exponents[x], padding, value)

    def flatten(self, x: str) -> str:
        return self.append(Flatten, (x,), (int(np.prod(self.shapes[x])),), self.exponents[x])

    def finish(self, x: str) -> Program:
        """The program with a last layer that reads `x` and gives its accumulators."""
        last = self.linear(x if len(self.shapes[x]) == 1 else self.flatten(x))
        self.ops[-1] = Linear(last, self.ops[-1].inputs, self.shapes[last])
        del self.exponents[last]
        return Program(self.shapes[INPUT], tuple(self.ops), self.constants, self.exponents)


@st.composite
def cases(draw, kind: str):
    """A program with an operation `kind`, often behind another one, and 1 to 6 pictures for it."""
    drawing, x = Drawing(draw), INPUT
    if draw(st.booleans()):
        x = drawing.copy(x)
    if draw(st.booleans()):
        x = getattr(drawing, draw(st.sampled_from(MAP_KINDS)))(x)
    if kind in ("flatten", "linear") or (kind in ELEMENTWISE_KINDS and draw(st.booleans())):
        x = drawing.flatten(x)
    if kind != "flatten":
        x = getattr(drawing, kind)(x)
    program, seed = drawing.finish(x), drawing.number(0, 2**32 - 1)
    check_exactness(program)
    pictures = np.random.default_rng(seed).permutation(hard_inputs(program, 1, seed))[: drawing.number(1, 6)]
    return program, pictures


def expected(program: Program, x: np.ndarray) -> dict[str, np.ndarray]:
    return oracle.run(program.to_json(), numpy_constants(program), x)


def share_of_examples(divisor: int) -> settings:
    return settings(max_examples=max(1, settings().max_examples // divisor))


each_kind = pytest.mark.parametrize("kind", sorted(QUANTIZED_KINDS))


@each_kind
@given(data=st.data())
@torch.no_grad()
def test_both_evaluators_compute_what_the_oracle_does(kind, data):
    program, x = data.draw(cases(kind))
    pixels = torch.from_numpy(x)
    whole = dict(IntegerEvaluator(program).run(pixels))
    fake = dict(FakeQuantModel(in_real_numbers(program)).run(pixels.float() / 128))
    for name, value in list(expected(program, x).items())[1:]:
        assert np.array_equal(whole[name], value), name
        assert np.array_equal(integer_tensor(program, name, fake[name]), value), name


@each_kind
@share_of_examples(10)
@given(data=st.data())
def test_every_onnx_file_computes_what_the_oracle_does(kind, data, tmp_path_factory):
    program, x = data.draw(cases(kind))
    values = expected(program, x)
    logits = np.ldexp(values[program.output].astype(np.float64), -program.logit_exponent.numpy())
    for form, execution in EXACT:
        path = save(WRITERS[form], program, tmp_path_factory.getbasetemp())
        tensors = OnnxModel(path, execution, outputs=int8_tensors(program)).tensors(x.astype(np.float32) / 128)
        assert np.array_equal(tensors.pop(OUTPUT), logits), (form, execution)
        for name, value in tensors.items():
            assert np.array_equal(value, values[name]), (form, execution, name)
        assert np.array_equal(OnnxModel(path, execution)(x.astype(np.float32) / 128), logits), (form, execution)


@each_kind
@share_of_examples(30)
@given(data=st.data())
def test_the_c_source_computes_what_the_oracle_does(kind, data):
    program, x = data.draw(cases(kind))
    tensors = CModel(c_source(program, {}), trace=True, options=["-O1"]).tensors(x)
    for name, value in list(expected(program, x).items())[1:]:
        assert np.array_equal(tensors[name], value.reshape(len(x), -1)), name


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.floats(-(2.0**20), 2.0**20, width=32), min_size=1), st.integers(-30, 30), st.booleans())
def test_fake_quantize_is_the_rounding_of_the_exact_product(values, exponent, ties):
    if ties:
        values = [round(value) / 2 * 2.0**-exponent for value in values]
    low, high = -100, 99
    unit = Fraction(2) ** exponent
    rounded = [min(max(round(Fraction(value) * unit), low), high) for value in values]
    result = fake_quantize(torch.tensor(values, dtype=torch.float32), 2.0**exponent, low, high)
    assert [Fraction(value) * unit for value in result.tolist()] == rounded


@given(st.lists(finite, min_size=1), st.integers(-40, 40))
def test_integers_are_the_rounding_of_the_exact_product(values, exponent):
    limit = 2**40
    exact = [min(max(round(Fraction(value) * Fraction(2) ** exponent), -limit), limit) for value in values]
    exponents = torch.full((len(values),), exponent, dtype=torch.int32)
    assert integers(torch.tensor(values, dtype=torch.float32), exponents, limit).tolist() == exact


@given(st.floats(0, width=32, exclude_min=True, allow_infinity=False), st.sampled_from([127, 63]))
def test_the_covering_exponent_is_the_greatest_that_covers(largest, limit):
    exponent = int(covering_exponent(torch.tensor(largest), limit))
    assert Fraction(largest) * Fraction(2) ** exponent <= limit < Fraction(largest) * Fraction(2) ** (exponent + 1)


@given(st.integers(1, MAX_DIVISOR - 1))
def test_a_float32_quotient_rounds_as_the_exact_one(divisor):
    """Where an average pool could go wrong: at each tie within int8 and beside it."""
    ties = np.arange(-256, 257) * divisor // 2
    totals = (ties[:, None] + np.array([-1, 0, 1])).ravel()
    quotients = torch.from_numpy(totals).float() / torch.full(totals.shape, float(divisor))
    assert np.array_equal(quotients.round().clamp(-128, 127), np.clip(oracle.rne(totals, divisor), -128, 127))


@given(
    st.lists(st.integers(-127, 127), min_size=1, max_size=6),
    st.integers(-(2**15), 2**15),
    st.tuples(st.integers(-128, 127), st.integers(-128, 127)).map(sorted),
)
def test_the_bound_is_the_greatest_partial_sum(weight, bias, bounds):
    """Of all ways to choose some of the products and the bias; adding in any order passes only through such sums."""
    low, high = bounds
    ops = (
        Clamp("x", (INPUT,), (len(weight), 1, 1), clamp=(low / 128, high / 128)),
        Flatten("flat", ("x",), (len(weight),)),
        Linear("fc", ("flat",), (1,)),
    )
    program = Program(ops[0].shape, ops, {}, {INPUT: 7, "x": 7, "flat": 7})
    bound = accumulator_bound(program, ops[-1], torch.tensor([weight]), torch.tensor([bias])).item()
    sums = np.zeros(1, np.int64)
    for choices in ({0, low * w, high * w} for w in weight):
        sums = np.unique(np.add.outer(sums, list(choices)))
    sums = np.concatenate([sums, sums + bias])
    assert np.abs(sums).max() == bound
