"""Runs a program, operation by operation."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fixedpoint.program.moves import MaxPool, Rearrange, Select, step
from fixedpoint.program.operation import Op
from fixedpoint.program.program import INPUT, Program


class Evaluator:
    """Runs a program: one method per operation kind; those that compute are in the arithmetic of the subclass."""

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

    def max_pool(self, op: MaxPool, x: Tensor) -> Tensor:
        return F.max_pool2d(x, op.kernel, op.stride, op.padding)

    def flatten(self, op: Op, x: Tensor) -> Tensor:
        return x.flatten(1)

    def select(self, op: Select, x: Tensor) -> Tensor:
        for axis, chosen in op.changes(x.shape[1:]).items():
            by = step(chosen) or 0
            if by > 0:  # a part of x, not a copy
                x = x[(*[slice(None)] * (1 + axis), slice(chosen[0], chosen[-1] + 1, by))]
            else:
                x = x.index_select(1 + axis, self._numbers(op, axis, x))
        return x

    def _numbers(self, op: Select, axis: int, x: Tensor) -> Tensor:
        """What `op` chooses from an axis, on the device of `x`."""
        return torch.tensor(op.chosen[axis], device=x.device)

    def rearrange(self, op: Rearrange, x: Tensor) -> Tensor:
        return x.reshape(len(x), *op.view).permute(0, *(axis + 1 for axis in op.axes)).reshape(len(x), *op.shape)

    def logits(self, x: Tensor) -> Tensor:
        """The last tensor of `run`."""
        *_, (_, logits) = self.run(x)
        return logits


class ModuleEvaluator(nn.Module, Evaluator):
    """An evaluator that `.to(device)` moves, together with its buffers for each operation."""

    def __init__(self, program: Program):
        super().__init__()
        self.program = program
        for op in program.ops:
            for axis, chosen in enumerate(op.chosen if isinstance(op, Select) else ()):
                self._register(op, f"numbers{axis}", torch.tensor(chosen, dtype=torch.int64))

    def _numbers(self, op: Select, axis: int, x: Tensor) -> Tensor:
        return self._buffer(op, f"numbers{axis}")  # which needs no copy to the device

    def _register(self, op: Op, name: str, value: Tensor) -> None:
        """Make `value` a buffer of `op` that is not in the state dict."""
        self.register_buffer(parameter_name(op, name), value, persistent=False)

    def _buffer(self, op: Op, name: str) -> Tensor:
        return getattr(self, parameter_name(op, name))


def parameter_name(op: Op, name: str) -> str:
    """What a module calls the constant `name` of `op`."""
    return f"{op.name}.{name}".replace(".", "/")  # PyTorch reserves the dot
