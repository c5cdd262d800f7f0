"""What quantization does to each tensor: noise against the float network, range, clipping, accumulators."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fixedpoint.program import INPUT, Op, Program, per_channel, power_of_two
from fixedpoint.program.bounds import LIMIT
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.integer import IntegerEvaluator, integer_input

INT8 = range(-128, 128)


@dataclass
class Noise:
    """Energies of a tensor and of its error, summed over the elements."""

    signal: float = 0.0
    noise: float = 0.0

    def add(self, expected: Tensor, found: Tensor) -> None:
        """Add a batch; values that are not finite, as in the padding of a max pool, are left out."""
        finite = expected.isfinite()
        self.signal += _energy(torch.where(finite, expected, 0))
        self.noise += _energy(torch.where(finite, expected - found, 0))

    @property
    def decibels(self) -> float:
        """The signal-to-noise ratio; infinite without noise."""
        if self.noise == 0:
            return math.inf
        return 10 * math.log10(self.signal / self.noise) if self.signal else -math.inf


def _energy(x: Tensor) -> float:
    return float(x.square().sum(dtype=torch.float64))


def accumulated_noise(
    reference: Program, programs: dict[str, Program], batches: Iterable[Tensor]
) -> dict[str, dict[str, Noise]]:
    """How far the tensors of integer programs are from those of the float network.

    Args:
        reference: The float program, with the operations of `programs`.
        programs: Integer programs by name.
        batches: Network input (p - 128) / 128, float32 [batch, channels, height, width].

    Returns:
        The noise by name of program and tensor.
    """
    evaluators = {form: IntegerEvaluator(program) for form, program in programs.items()}
    noise = {form: {op.name: Noise() for op in reference.ops} for form in programs}
    for x in batches:
        runs = [evaluator.run(integer_input(x)) for evaluator in evaluators.values()]
        for (name, expected), *others in zip(FloatEvaluator(reference).run(x), *runs, strict=True):
            for (form, program), (_, q) in zip(programs.items(), others, strict=True):
                noise[form][name].add(expected, _real(program, name, q))
    return noise


@dataclass
class OwnNoise:
    """The noise that one operation adds by itself.

    Attributes:
        total: Noise of the integer operation against the float one.
        result: The part of it that comes from rounding and clipping the result; the rest comes from weights and biases.
    """

    total: Noise = field(default_factory=Noise)
    result: Noise = field(default_factory=Noise)


@torch.no_grad()
def own_noise(reference: Program, program: Program, batches: Iterable[Tensor]) -> dict[str, OwnNoise]:
    """The noise that each operation of an integer program adds when it alone is quantized.

    Float and integer operation get the same operands: the float network's tensors as the integer operation can read
    them, rounded and clipped. So an operation that only moves values has no noise.

    Args: As in `accumulated_noise`.

    Returns:
        The noise by tensor.
    """
    floating, integer = FloatEvaluator(reference), IntegerEvaluator(program)
    noise = {op.name: OwnNoise() for op in program.ops}
    for x in batches:
        for op, operands, _ in _operations(reference, x, floating.run(x)):
            integers = [_integers(program, name, value) for name, value in zip(op.inputs, operands, strict=True)]
            reals = [_real(program, name, q) for name, q in zip(op.inputs, integers, strict=True)]
            expected = getattr(floating, op.kind)(op, *reals)
            found = _real(program, op.name, getattr(integer, op.kind)(op, *integers))
            noise[op.name].total.add(expected, found)
            if op.name not in program.raw:
                rounded = _real(program, op.name, _integers(program, op.name, expected))
                noise[op.name].result.add(expected, rounded)
    return noise


@dataclass
class Values:
    """The integers that a tensor takes.

    Attributes:
        histogram: How often each int8 value occurs, int64 [256]; zeros for raw accumulators.
        least, greatest: The least and the greatest value.
        elements: Number of values.
        clipped: Number of values that int8 clips, besides those that a clamp of the float network, as a ReLU, cuts off.
        accumulator: The greatest magnitude of an accumulator of a conv or linear, before clamp and rounding.
    """

    histogram: Tensor = field(default_factory=lambda: torch.zeros(len(INT8), dtype=torch.int64))
    least: int = 2**31
    greatest: int = -(2**31)
    elements: int = 0
    clipped: int = 0
    accumulator: int = 0


@torch.no_grad()
def integer_values(program: Program, batches: Iterable[Tensor]) -> dict[str, Values]:
    """The integers that the tensors of an integer program take, the input's first.

    Args:
        program: An integer program.
        batches: As in `accumulated_noise`.

    Returns:
        The values by tensor.
    """
    integer, exact = IntegerEvaluator(program), FloatEvaluator(_real_constants(program))
    values = {name: Values() for name in (INPUT, *(op.name for op in program.ops))}
    for x in batches:
        x = integer_input(x)
        _count(values[INPUT], x)
        for op, operands, q in _operations(program, x, integer.run(x)):
            found = values[op.name]
            _count(found, q)
            reals = [_real(program, name, value) for name, value in zip(op.inputs, operands, strict=True)]
            result = getattr(exact, op.kind)(replace(op, clamp=(None, None)), *reals)
            if op.weighted:
                scale = per_channel(power_of_two(program.accumulator_exponent(op)), result, 1)
                found.accumulator = max(found.accumulator, int((result * scale).abs().max()))
            if op.name not in program.raw:
                result = result if op.clamp == (None, None) else result.clamp(*op.clamp)
                unlimited = (result * 2.0 ** program.exponents[op.name]).round()
                beyond = (unlimited < INT8[0]) | (unlimited > INT8[-1])
                found.clipped += int((beyond & unlimited.isfinite()).sum())
    return values


def _count(values: Values, q: Tensor) -> None:
    if q.dtype == torch.int8:
        values.histogram += torch.bincount(q.flatten().int() - INT8[0], minlength=len(INT8))
    values.least = min(values.least, int(q.min()))
    values.greatest = max(values.greatest, int(q.max()))
    values.elements += q.numel()


def weight_histogram(program: Program, op: Op) -> Tensor:
    """How often each int8 value occurs among the weights of a conv or linear of an integer program; int64 [256]."""
    weight = program.constants[f"{op.name}.weight"]
    return torch.bincount(weight.flatten().int() - INT8[0], minlength=len(INT8))


def result_bounds(program: Program, op: Op) -> tuple[int, int]:
    """Least and greatest int8 value that the result of `op` can have in a calibrated program."""
    return program.input_bounds(replace(op, inputs=(op.name,)))


def head_room(accumulator: int) -> float:
    """The bits by which an accumulator stays below 2**24, up to which float32 is exact."""
    return math.log2(LIMIT / max(accumulator, 1))


def _operations(
    program: Program, x: Tensor, run: Iterator[tuple[str, Tensor]]
) -> Iterator[tuple[Op, list[Tensor], Tensor]]:
    """Each operation with its operands and its result, from the tensors of an evaluator's run on `x`."""
    values = {INPUT: x}
    for op, (name, result) in zip(program.ops, run, strict=True):
        yield op, [values[source] for source in op.inputs], result
        values[name] = result
        for source in {*op.inputs}:
            if program.last_reader[source] == name:
                del values[source]


def _real(program: Program, name: str, q: Tensor) -> Tensor:
    """The real numbers, float32, that the integers of a tensor stand for."""
    if name in program.exponents:
        return q * 2.0 ** -program.exponents[name]
    return q * per_channel(power_of_two(-program.logit_exponent), q, 1)


def _integers(program: Program, name: str, x: Tensor) -> Tensor:
    """The integers, carried in float32, that stand for the real numbers `x` of a tensor."""
    if name not in program.exponents:
        return (x * per_channel(power_of_two(program.logit_exponent), x, 1)).round()
    return (x * 2.0 ** program.exponents[name]).round().clamp(INT8[0], INT8[-1])


def _real_constants(program: Program) -> Program:
    """An integer program with the real numbers that its weights and biases stand for."""
    constants = dict(program.constants)
    for op in program.ops:
        if op.weighted:
            exponents = {"weight": constants[f"{op.name}.weight_exponent"], "bias": program.accumulator_exponent(op)}
            for name, exponent in exponents.items():
                value = constants[f"{op.name}.{name}"]
                constants[f"{op.name}.{name}"] = value * per_channel(power_of_two(-exponent), value, 0)
    return replace(program, constants=constants)
