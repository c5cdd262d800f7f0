"""The program: a network as one ordered list of operations with their constants.

Every step from float to deployment is a step on it: `capture` makes it, `fold` simplifies it, `calibrate` gives it
exponents, `qat` trains its constants, `convert` rounds them, the evaluators run it and the writers export it.

A tensor is named after the operation that computes it; the network's input is INPUT. In a quantized program the int8
tensor `t` stands for the real numbers `t * 2**-exponents[t]`, the weight of output channel c for
`weight * 2**-weight_exponent[c]`, and an accumulator for `acc * 2**-(exponents[input] + weight_exponent[c])`.
"""

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from torch import Tensor

from fixedpoint.errors import QuantizationError
from fixedpoint.program.ops import Flatten, Lookup, Op, Pad, op_from_json

INPUT = "input"
INPUT_EXPONENT = 7  # an 8-bit pixel p is carried as p - 128 and read as (p - 128) / 128
PORTABLE, EXACT8 = "portable", "exact8"  # the arithmetics, docs/arithmetic.md


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
        source = next((o for o in self.ops if o.name == op.inputs[0]), None)
        if source is None:
            return -128, 127
        if isinstance(source, Lookup):
            table = self.constants[f"{source.name}.table"]
            return int(table.min()), int(table.max())
        if not source.takes_clamp:
            values = [*self.input_bounds(source), *(self.pad_values(source) if isinstance(source, Pad) else ())]
            return min(values), max(values)
        return self.bounds(source)

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
    def from_json(cls, value: dict | None, constants: dict[str, Tensor]) -> "Program":
        """The inverse of `to_json`.

        Raises:
            QuantizationError: If `value` is None, or an operation has a kind or attributes that are unknown.
        """
        if value is None:
            raise QuantizationError("the model file holds no program")
        ops = tuple(op_from_json(entry) for entry in value["ops"])
        rest = {key: value[key] for key in ("exponents", "weight_limit", "arithmetic", "int8_logit_exponent")}
        return cls(tuple(value["input_shape"]), ops, constants, **rest)
