"""The program: a network as one ordered list of operations with their constants.

Every step from float to deployment is a step on it: `capture` makes it, `fold` simplifies it, `calibrate` gives it
exponents, `qat` trains its constants, `convert` rounds them, the evaluators run it and the writers export it.

A tensor is named after the operation that computes it; the network's input is INPUT. In a quantized program the int8
tensor `t` stands for the real numbers `t * 2**-exponents[t]`, the weight of output channel c for
`weight * 2**-weight_exponent[c]`, and an accumulator for `acc * 2**-(exponents[input] + weight_exponent[c])`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

from torch import Tensor

from fixedpoint.errors import QuantizationError
from fixedpoint.program.checks import check_operations
from fixedpoint.program.moves import Flatten, Pad
from fixedpoint.program.names import INPUT
from fixedpoint.program.operation import Op
from fixedpoint.program.ops import Lookup, Mul
from fixedpoint.program.reading import attributes

INPUT_EXPONENT = 7  # an 8-bit pixel p is carried as p - 128 and read as (p - 128) / 128
PORTABLE, EXACT8 = "portable", "exact8"  # the arithmetics, docs/arithmetic.md
WEIGHT_LIMITS = {PORTABLE: (126,), EXACT8: (63, 127)}
# Of the scale of a tensor or of accumulators, a normal float32 number; and of a rescaling, which float32 holds even
# of accumulators that reach 2**24.
MOST_EXPONENT, MOST_SHIFT = 126, 100


@dataclass(frozen=True)
class Program:
    """Operations in an order in which they can run; the last one computes the logits.

    Attributes:
        input_shape: Channels, height, width.
        ops: The operations.
        constants: Tensors by `<op>.<constant>`: float32 up to QAT; int8 weights and int32 biases in an integer program;
            `<op>.weight_exponent` (int32, [out]) and `<op>.table` (int8, [256]) once calibrated.
        exponents: Exponents by tensor, once calibrated. Raw accumulators (`raw`) have none.
        weight_limit: Greatest magnitude of an integer weight, as weights are symmetric: 127 or 63 in exact8 (8 or 7
            bits), 126 in portable.
        arithmetic: PORTABLE or EXACT8.
        int8_logit_exponent: Exponent of the int8 logits of portable arithmetic, once calibrated.
    """

    input_shape: tuple[int, int, int]
    ops: tuple[Op, ...]
    constants: dict[str, Tensor]
    exponents: dict[str, int] = field(default_factory=dict)
    weight_limit: int = 127
    arithmetic: str = EXACT8
    int8_logit_exponent: int | None = None

    @property
    def is_portable(self) -> bool:
        """Whether the arithmetic is PORTABLE."""
        return self.arithmetic == PORTABLE

    @property
    def is_integer(self) -> bool:
        """Whether its weights are integers."""
        weights = (self.constants.get(f"{op.name}.weight") for op in self.ops if op.weighted)
        return any(weight is not None and not weight.is_floating_point() for weight in weights)

    @property
    def weight_step(self) -> int:
        """What every integer weight is a multiple of."""
        return 2 if self.is_portable else 1

    @property
    def output(self) -> str:
        """The tensor of the logits."""
        return self.ops[-1].name

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor, without the batch dimension."""
        return {INPUT: self.input_shape} | {op.name: op.shape for op in self.ops}

    def readers(self, name: str) -> list[Op]:
        """The operations that read the tensor `name`."""
        return [op for op in self.ops if name in op.inputs]

    @cached_property
    def last_reader(self) -> dict[str, str]:
        """For each tensor that is read, the name of the last operation that reads it."""
        return {name: op.name for op in self.ops for name in op.inputs}

    @property
    def last_layer(self) -> Op:
        """The conv or linear whose int32 accumulators are the logits.

        Raises:
            QuantizationError: If something else than a flatten stands between it and the output, or it has a clamp.
        """
        tail = reversed(self.ops)
        op = next((op for op in tail if op.kind != Flatten.kind), self.ops[0])
        if not op.weighted or op.clamp != (None, None) or self.channels(op.name) != op.shape[0]:
            raise QuantizationError(
                f"the logits must come from a conv or linear without activation, not from {op.name}"
            )
        if any(size != 1 for size in op.shape[1:]):
            raise QuantizationError(f"the logits must have one value a class, but {op.name} gives {list(op.shape)}")
        return op

    @property
    def raw(self) -> frozenset[str]:
        """Tensors that hold int32 accumulators: the last layer's and what flattens them."""
        names = [op.name for op in self.ops]
        return frozenset(names[names.index(self.last_layer.name) :])

    def channels(self, name: str) -> int:
        """Output channels of the conv or linear `name`."""
        return len(self.constants[f"{name}.bias"])

    def bounds(self, op: Op) -> tuple[int, int]:
        """Least and greatest int8 value to which the result of `op` is clamped in a calibrated program."""
        scale = 2.0 ** self.exponents[op.name]
        low, high = (end if b is None else b * scale for b, end in zip(op.clamp, (-128, 127), strict=True))
        return round(min(max(low, -128), 127)), round(min(max(high, -128), 127))

    def pad_values(self, op: Pad) -> list[int]:
        """The int8 value of `op.value`, for all channels or each."""
        scale = 2.0 ** self.exponents[op.name]
        return [-128 if v is None else round(min(max(v * scale, -128), 127)) for v in op.value]

    def input_bounds(self, op: Op) -> tuple[int, int]:
        """Least and greatest int8 value that the first operand of `op` can have in a calibrated program."""
        return self.value_bounds(op.inputs[0])

    def value_bounds(self, tensor: str) -> tuple[int, int]:
        """Least and greatest int8 value that a tensor can have in a calibrated program."""
        computed, pads = {op.name: op for op in self.ops}, list[int]()
        source = computed.get(tensor)
        while source and not source.takes_clamp:
            pads += self.pad_values(source) if isinstance(source, Pad) else []
            source = computed.get(source.inputs[0])
        if source is None:
            bounds = -128, 127
        elif isinstance(source, Lookup):
            table = self.constants[f"{source.name}.table"]
            bounds = int(table.min()), int(table.max())
        else:
            bounds = self.bounds(source)
        return min(*bounds, *pads), max(*bounds, *pads)

    def accumulator_exponent(self, op: Op) -> Tensor:
        """Exponents of the accumulators of a conv or linear: int32 [out]."""
        return self.constants[f"{op.name}.weight_exponent"] + self.exponents[op.inputs[0]]

    def shift(self, op: Op) -> Tensor:
        """By how many bits the accumulators of a conv or linear are shifted right to become int8: int32 [out].

        The last layer's become the int8 logits of portable arithmetic.

        Raises:
            QuantizationError: If they do not, as the logits of EXACT8.
        """
        exponent = self.exponents.get(op.name, self.int8_logit_exponent)
        if exponent is None:
            raise QuantizationError(
                f"the accumulators of {op.name} are the logits, which are not int8 in {self.arithmetic}"
            )
        return self.accumulator_exponent(op) - exponent

    def shared_exponents(self) -> dict[str, str]:
        """For each int8 tensor, INPUT included, the first tensor that must have the same exponent, often itself."""
        first, members, raw = {INPUT: INPUT}, {INPUT: [INPUT]}, self.raw
        for op in self.ops:
            if op.name in raw:
                continue
            first[op.name], members[op.name] = op.name, [op.name]
            if op.keeps_exponent or (self.is_portable and op.shares_exponent):
                root, *others = (name for name in members if name in {first[t] for t in (*op.inputs, op.name)})
                for name in others:
                    members[root] += members.pop(name)
                first |= dict.fromkeys(members[root], root)
        return first

    @property
    def logit_exponent(self) -> Tensor:
        """The logits are `accumulator * 2**-logit_exponent`: int32 [classes]."""
        return self.accumulator_exponent(self.last_layer)

    def with_constants(self, **constants: Tensor) -> "Program":
        """A copy with some constants replaced."""
        return replace(self, constants=self.constants | constants)

    def with_replaced(self, op: Op, ops: Sequence[Op]) -> "Program":
        """A copy with `ops` in the place of `op`."""
        return replace(self, ops=tuple(new for old in self.ops for new in (ops if old is op else [old])))

    def to_json(self) -> dict:
        """Everything but the constants, for the header of a model file."""
        return {
            "input_shape": list(self.input_shape),
            "ops": [{"kind": op.kind, **asdict(op)} for op in self.ops],
            "exponents": self.exponents,
            "weight_limit": self.weight_limit,
            "arithmetic": self.arithmetic,
            "int8_logit_exponent": self.int8_logit_exponent,
        }

    @classmethod
    def from_json(cls, value: Any, constants: dict[str, Tensor]) -> "Program":
        """The inverse of `to_json`, for a calibrated or an integer program.

        Raises:
            QuantizationError: If `value` is None or of another version, or the program is not as `check` wants it.
        """
        if value is None:
            raise QuantizationError("the model file holds no program")
        program = cls(**attributes(cls, value, {"constants"}, "the program"), constants=constants)
        if not program.exponents:
            raise QuantizationError("the program in the model file has no exponents: it is not calibrated")
        program.check()
        return program

    def check(self) -> None:
        """Prove that names, operands, attributes, constants and exponents are allowed and fit together.

        That no accumulator can leave the exact range is another proof: `fixedpoint.program.portable.prove`.

        Raises:
            QuantizationError: If one is not; names the operation and what of it.
        """
        check_operations(self.input_shape, self.ops, self.constants, bool(self.exponents), self.is_integer)
        if self.exponents:
            self._check_arithmetic()
            if odd := {INPUT, *(op.name for op in self.ops)} - self.raw ^ {*self.exponents}:
                raise QuantizationError(f"exponents must be those of all int8 tensors; not so {ascii(min(odd))[:80]}")
            for op in self.ops:
                self._check_exponents(op)

    def _check_arithmetic(self) -> None:
        limits = WEIGHT_LIMITS.get(self.arithmetic)
        if limits is None or self.weight_limit not in limits:
            allowed = "; ".join(f"{name} with {' or '.join(map(str, of))}" for name, of in WEIGHT_LIMITS.items())
            raise QuantizationError(
                f"arithmetic and weight_limit must be {allowed}; not {ascii(self.arithmetic)[:80]} with "
                f"{self.weight_limit}"
            )
        if (self.int8_logit_exponent is None) == self.is_portable or abs(self.int8_logit_exponent or 0) > MOST_EXPONENT:
            raise QuantizationError(f"int8_logit_exponent of {self.arithmetic} cannot be {self.int8_logit_exponent}")
        if self.exponents.get(INPUT) != INPUT_EXPONENT:
            raise QuantizationError(f"the exponent of {INPUT} must be {INPUT_EXPONENT}")

    def _check_exponents(self, op: Op) -> None:
        """Prove that the scales of an operation are normal float32 numbers, and those by which it rescales, too."""
        of_operands, own = [self.exponents.get(name, 0) for name in op.inputs], self.exponents.get(op.name)
        scales, shifts = [own or 0], [0 if own is None else e - own for e in of_operands]
        if op.weighted:
            weight, exponent = (self.constants[f"{op.name}.{name}"] for name in ("weight", "weight_exponent"))
            scales += [each for e in exponent.tolist() for each in (e, e + of_operands[0])]
            result = self.int8_logit_exponent if own is None else own
            shifts = [] if result is None else [e + of_operands[0] - result for e in exponent.tolist()]
            if self.is_integer:
                largest = int(weight.int().abs().max())
                op.require(largest <= self.weight_limit, f"a weight of {largest} exceeds {self.weight_limit}")
        elif isinstance(op, Mul):
            shifts = [sum(of_operands) - (own or 0)]
        worst = max(scales, key=abs)
        op.require(abs(worst) <= MOST_EXPONENT, f"an exponent of {worst} exceeds {MOST_EXPONENT}")
        worst = max(shifts, key=abs, default=0)
        op.require(abs(worst) <= MOST_SHIFT, f"a shift by {worst} exceeds {MOST_SHIFT}")
        keeps = own is None or not op.keeps_exponent or own == of_operands[0]
        op.require(keeps, f"its exponent must be that of its operand, {of_operands[0]}, not {own}")
