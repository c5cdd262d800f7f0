"""Walks the graph that torch.export gives, node by node, and builds the operations of a program."""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, cast

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_aggregate, map_arg

from fixedpoint.capture.builder import Builder, module_path
from fixedpoint.capture.graph import is_random, output_index, output_node, placeholders
from fixedpoint.capture.names import JOINS, LIKE, MOVES, REASONS, SAME, arguments, operation, reason
from fixedpoint.capture.values import BATCH, Compared, Exponential, Value
from fixedpoint.errors import QuantizationError
from fixedpoint.program import INPUT, Op, Program


class Lost:
    """What stands for the value of an operation that is refused, where its shape is of no use."""

    def __getitem__(self, _: Any) -> "Lost":
        return self


@dataclass(frozen=True)
class Pretended(Op):
    """What stands for an operation that is refused, so that those after it are looked at, too."""

    kind = "pretended"


class ExportedGraph(Builder):
    """Builds the program; a subclass has one method for each ATen operation that computes, `aten_<name>(node, a)`.

    `a` holds the arguments by name: a Value, a tensor that is constant, numbers, or lists of these. A method gives the
    Value that the node's value has become, and raises QuantizationError with the reason alone if no program has it.

    What depends on constants alone is evaluated by PyTorch; what only moves entries is applied to their positions.
    """

    def __init__(self, exported: ExportedProgram, input_shape: tuple[int, int, int]):
        super().__init__(input_shape)
        self.exported = exported
        self.refused: dict[tuple[str, str], list[str]] = {}

    def captured(self) -> Program:
        """The program of the whole graph. Raises QuantizationError with all that no program has."""
        image = Value(INPUT, self.input_shape)
        values = [image if value is None else value for value in placeholders(self.exported).values()]
        result = self._run(self.exported.graph, values)[output_index(self.exported)]
        causes = [f"{op} in {_listed(where)}: {why}" for (op, why), where in self.refused.items()]
        try:
            name = "" if isinstance(result, Lost) else self._output(result)
        except QuantizationError as error:
            causes.append(f"the network's output{error}")
        if causes:
            raise QuantizationError("; ".join(causes))
        return self.program(name)

    def _output(self, result: Any) -> str:
        """The name of the tensor that is the network's output."""
        if isinstance(result, Compared | Exponential):
            raise QuantizationError(" is a comparison or an exponential: give logits")
        if not isinstance(result, Value):
            raise QuantizationError(" does not depend on the image")
        try:
            shape = result.shape
            features = len(shape) not in (1, 3) and sum(size != 1 for size in shape) <= 1
            if not features and len(shape) not in (1, 3):
                raise QuantizationError(f"it must be [batch, classes], not [batch, {', '.join(map(str, shape))}]")
            return self.tensor(result.node or output_node(self.exported), result, (prod(shape),) if features else None)
        except QuantizationError as error:
            raise QuantizationError(f": {error}") from None

    def _run(self, graph: Graph, inputs: list[Any]) -> tuple:
        values: dict[Node, Any] = {}
        owner = graph.owning_module
        given = iter(inputs)
        for node in graph.nodes:
            if node.op == "placeholder":
                values[node] = next(given)
            elif node.op == "get_attr":
                values[node] = _attribute(owner, str(node.target))
            elif node.op == "output":
                return tuple(map_arg(node.args[0], values.__getitem__))
            else:
                args, kwargs = (map_arg(each, values.__getitem__) for each in (node.args, node.kwargs))
                values[node] = self._called(node, args, kwargs)
            for used in node.all_input_nodes:
                if all(user in values for user in used.users):
                    values[used] = None  # its positions take memory
        raise AssertionError("a graph has an output")

    def _called(self, node: Node, args: tuple, kwargs: dict) -> Any:
        try:
            return self._value(node, args, kwargs)
        except MemoryError:
            raise
        except Exception as error:  # what arguments can make PyTorch raise has no common class
            why = str(error) if isinstance(error, QuantizationError) else f"it cannot be captured: {first_line(error)}"
            return self._refuse(node, why)

    def _refuse(self, node: Node, why: str) -> Any:
        """Note why the node has no form, and give what stands for its value."""
        self.refused.setdefault((operation(node), why), []).append(module_path(node) or "the network")
        return self._pretended(node)

    def _value(self, node: Node, args: tuple, kwargs: dict) -> Any:
        target, name = node.target, operation(node)
        found = _leaves((args, kwargs))
        computed = [each for each in found if isinstance(each, Value)]
        submodule = next((each for each in args if isinstance(each, GraphModule)), None)
        if submodule is not None:  # a part of the network under no_grad or autocast
            if not name.startswith("wrap_with"):
                raise QuantizationError(reason(name))
            rest = args[args.index(submodule) + 1 :]
            return self._run(submodule.graph, list(rest))
        lost = any(isinstance(each, Lost) for each in found)
        if not isinstance(target, OpOverload):  # an entry of a list, or numbers
            return Lost() if lost and name != "getitem" else cast(Callable, target)(*args, **kwargs)
        flags = [value for key, value in arguments(target, args, kwargs).items() if key in ("train", "training")]
        if is_random(node) and name not in REASONS and (any(flags) or not flags):
            hint = "pass training=self.training" if "dropout" in name else "draw them in __init__ and register a buffer"
            raise QuantizationError(f"it is active in eval mode and draws random numbers: {hint}")
        if lost:
            if not self._has(name) and isinstance(node.meta.get("val"), Tensor | list | tuple):
                raise QuantizationError(reason(name))
            return self._pretended(node)
        if parts := [each for each in found if isinstance(each, Compared | Exponential)]:
            if name in SAME or node.meta.get("val") is None:
                return parts[0]
            if name not in parts[0].readers:
                raise QuantizationError(parts[0].why_not)
        elif not computed:
            return _evaluated(target, args, kwargs)
        if node.meta.get("val") is None:
            return None  # an assertion
        first = args[0]
        if name in LIKE or (name.endswith("_as") and not isinstance(first, Value)):  # reads nothing but a shape
            if name == "fill" and isinstance(args[1], Value):
                raise QuantizationError("its number is computed from the image: use a constant")
            return _evaluated(target, *_replaced((args, kwargs), [v.positions.float() for v in computed]))
        if name in SAME:
            dtype = arguments(target, args, kwargs).get("dtype")
            if dtype is not None and not dtype.is_floating_point:
                raise QuantizationError("its results are integers: keep floating numbers")
            return first
        if name in JOINS:
            return self._joining(node, args, kwargs)
        if name in MOVES:
            if not isinstance(first, Value) or (len(computed) > 1 and not name.endswith("_as")):
                raise QuantizationError("its numbers of entries are computed from the image: use constants")
            return self._moved(node, args, kwargs, computed)
        if not self._has(name):
            raise QuantizationError(reason(name))
        return getattr(self, f"aten_{name}")(node, arguments(target, args, kwargs))

    def _has(self, name: str) -> bool:
        """Whether there are operands with which the ATen operation `name` has a form."""
        moves = name in MOVES | JOINS | SAME | LIKE or name.endswith("_as")
        return moves or hasattr(self, f"aten_{name}")

    def _moved(self, node: Node, args: tuple, kwargs: dict, values: list[Value]) -> Any:
        """The result of an operation that moves entries of the first of `values`."""
        args, kwargs = _replaced((args, kwargs), [value.positions.contiguous() for value in values])
        result = cast(Callable, node.target)(*args, **kwargs)
        if isinstance(result, Tensor):
            return values[0].with_positions(result, node)
        return [values[0].with_positions(each, node) for each in result]

    def _joining(self, node: Node, args: tuple, kwargs: dict) -> Any:
        """The result of an operation that chooses entries of several values, constants among them."""

        def number(each: Any) -> Any:
            is_data = isinstance(each, Tensor) and each.is_floating_point()
            return self.constant(node, each) if is_data else each

        args, kwargs = map_aggregate((args, kwargs), number)
        computed = [each for each in _leaves((args, kwargs)) if isinstance(each, Value)]
        return self._moved(node, args, kwargs, self.joined(node, computed))

    def _pretended(self, node: Node) -> Any:
        """A value of the right shape for what is refused or reads that, so that what comes after it is looked at."""

        def pretended(value: Any) -> Any:
            if not isinstance(value, Tensor) or value.dim() == 0:
                return Lost()
            batch, *shape = value.shape
            if not all(isinstance(size, int) for size in value.shape) or batch != BATCH:
                return Lost()  # the sizes of some depend on the values of the image
            base = (*shape,) if len(shape) in (1, 3) else (max(1, value[0].numel()),)
            name = f"?{len(self.ops)}"
            self.ops[name] = Pretended(name, (), base)
            return Value(name, base).at(torch.arange(value[0].numel()).reshape(shape), node)

        return map_aggregate(node.meta.get("val"), pretended)


def first_line(error: BaseException) -> str:
    """The first line of an error, or its class."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _leaves(value: Any) -> list:
    found: list = []
    map_aggregate(value, lambda each: found.append(each))
    return found


def _replaced(value: Any, replacements: list) -> Any:
    """`value` with its Values, in order, replaced."""
    rest = iter(replacements)
    return map_aggregate(value, lambda each: next(rest) if isinstance(each, Value) else each)


def _evaluated(target: OpOverload, args: tuple, kwargs: dict) -> Any:
    if target._schema.is_mutable:
        args = map_aggregate(args, lambda each: each.clone() if isinstance(each, Tensor) else each)
    return target(*args, **kwargs)


def _attribute(owner: Any, name: str) -> Any:
    for part in name.split("."):
        owner = getattr(owner, part)
    return owner.detach() if isinstance(owner, Tensor) else owner


def _listed(places: list[str]) -> str:
    names = list(dict.fromkeys(places))
    more = f" and {len(names) - 2} more" if len(names) > 3 else ""
    return ", ".join(names[:2] if more else names) + more
