"""A kind of operation, complete, to copy: `negate`, y = -x in int8, with the place of each part.

`test_operation_template.py` puts the parts in their places and runs a program with it in every form. The order is that
of CONTRIBUTING.md, "Adding an operation"; each comment names the file that a part belongs to.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from fixedpoint.c.source import CWriter
from fixedpoint.capture.aten import AtenOperations
from fixedpoint.capture.values import Value
from fixedpoint.onnx.float import FloatWriter
from fixedpoint.onnx.integer import IntegerWriter
from fixedpoint.onnx.qdq import QdqWriter
from fixedpoint.program import Op
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.integer import IntegerEvaluator
from fixedpoint.quantize.qat import FakeQuantModel

# 1. docs/arithmetic.md, the table of operations: what the integers are, rounded once.
#
#    | negate | round(-q * 2^(e_y - e_x)), clamped |
#
#    float32 computes it exactly: |q| is at most 128, and a power of two scales without rounding.

# 2. tests/fixedpoint/oracle.py, a branch of `run`, written from that row alone, in int64:
#
#    elif kind == "negate":
#        result = np.clip(divide_by_power(-operands[0], operand_exponents[0] - exponents[op["name"]]), low, high)


# 3. fixedpoint/program/ops.py: the dataclass, then its name in OPS. Attributes of the operation are fields; what is
#    true of every operation of the kind is a class attribute, of those that `Op` describes. `result_shape` proves that
#    attributes and shapes fit together, here as `Op` has it. Runtimes would round this rescaling each in its own way,
#    so it is not portable.
@dataclass(frozen=True)
class Negate(Op):
    """The negative of a tensor."""

    kind = "negate"
    in_place = True
    not_portable = "a negation"


# 4. fixedpoint/program/bounds.py: a branch of `check_exactness` if a value could leave the range in which float32 is
#    exact, |v| < 2^24. A negation cannot.


# 5. The evaluators, a method each. Inputs and results are float tensors: real numbers in FloatEvaluator
#    (fixedpoint/program/floating.py) and FakeQuantModel (fixedpoint/quantize/qat.py), integers in IntegerEvaluator
#    (fixedpoint/program/integer.py). `_requantize` and `_round` round half to even and clamp.
class Floating(FloatEvaluator):
    def negate(self, op: Op, x: Tensor) -> Tensor:
        return self.clamp(op, -x)


class FakeQuantized(FakeQuantModel):
    def negate(self, op: Op, x: Tensor) -> Tensor:
        return self._requantize(op, -x)


class Integer(IntegerEvaluator):
    def negate(self, op: Op, x: Tensor) -> Tensor:
        return self._round(op, x * -self._scale(op, self.program.exponents[op.inputs[0]]))


# 6. The writers. fixedpoint/onnx/graph.py declares the method (abstract); FloatWriter (fixedpoint/onnx/float.py) and
#    QdqWriter (fixedpoint/onnx/qdq.py) compute in float32, the latter between DequantizeLinear and QuantizeLinear;
#    QOperatorWriter inherits that; IntegerWriter (fixedpoint/onnx/integer.py) computes in int32. The names of ONNX's
#    operators stand in OPERATORS of fixedpoint/onnx/seal.py, where only these are run.
ONNX_OPERATORS = {"Neg"}


class Onnx(FloatWriter):
    def negate(self, op: Op, x: str) -> str:
        return self._node(op, "Neg", [x])


class Qdq(QdqWriter):
    def negate(self, op: Op, x: str) -> str:
        return self._node(op, "Neg", [self.dequantize(x)])


class OnnxInteger(IntegerWriter):
    def negate(self, op: Op, x: str) -> str:
        negative = self.graph.node("Neg", [self.int32(x)], f"{op.name}/negative")
        shift = self.program.exponents[op.inputs[0]] - self._exponent(op)
        return self._int8(op, self._rounded(op, negative, [shift], f"{op.name}/rounded"))


# 7. fixedpoint/c/source.py writes the call of a function of that name in fixedpoint/c/kernels.c: integers alone, and
#    nothing that C leaves to the compiler. `rescaled` divides by 2^shift and rounds half to even, `clamped` limits.
class C(CWriter):
    def negate(self, op: Op, x: str) -> None:
        shift = self._shift(op, self.program.exponents[op.inputs[0]])
        self._call("negate", x, int(np.prod(op.shape)), shift, *self._result(op))


KERNEL = """
/* -x / 2^shift; y may be x. */
static void negate(const int8_t *x, int32_t size, int32_t shift, int32_t low, int32_t high, int8_t *y)
{
    for (int32_t i = 0; i < size; i++)
        y[i] = (int8_t)clamped(rescaled(-x[i], shift), low, high);
}
"""

# 8. fixedpoint/litert/writer.py: a method of LiteRtWriter, and the operator in OPERATORS of fixedpoint/litert/graph.py,
#    unless the operation is not portable, as this one.


# 9. fixedpoint/capture/elementwise.py, or where its like is: a method for each name that ATen has for it, which raises
#    QuantizationError, with the reason alone, where the integers cannot do it. `each` is for what computes each number
#    by itself, `add` for all else. What only moves numbers is a name in MOVES of fixedpoint/capture/names.py.
class Aten(AtenOperations):
    def aten_neg(self, node: Node, a: dict) -> Value:
        return self.each(node, Negate, a["self"])


# 10. Tests: a program for each thing that the operation can be, in tests/fixedpoint/programs.py, from which most tests
#     take their cases; a method of Drawing in tests/fixedpoint/drawing.py; a network with it in
#     tests/fixedpoint/capture/test_network.py; what could be wrong with it in tests/fixedpoint/test_mutations.py.
class Negative(torch.nn.Module):
    """A network with it."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.classifier = torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier((-self.features(x)).mean((2, 3)))
