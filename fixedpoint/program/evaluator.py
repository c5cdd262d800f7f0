"""Running a program, operation by operation."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from fixedpoint.program.ops import Op
from fixedpoint.program.program import INPUT, Program


class Evaluator:
    """Runs a program: one method an operation kind, each in the arithmetic of the subclass."""

    program: Program

    def run(self, x: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Run on input `x` [batch, channels, height, width] and give each tensor by name, the logits last.

        A tensor is dropped after its last use.
        """
        return self.resume({INPUT: x}, self.program.ops)

    def resume(self, values: dict[str, Tensor], ops: Sequence[Op]) -> Iterator[tuple[str, Tensor]]:
        """Run `ops`, some operations of the program in a row, on the tensors `values` before them, as `run` does.

        `values` changes: at the end it holds the tensors that later operations read.
        """
        for op in ops:
            values[op.name] = getattr(self, op.kind)(op, *(values[name] for name in op.inputs))
            yield op.name, values[op.name]
            for name in {*op.inputs}:
                if self.program.last_reader[name] == op.name:
                    del values[name]

    def logits(self, x: Tensor) -> Tensor:
        """The last tensor of `run`."""
        *_, (_, logits) = self.run(x)
        return logits
