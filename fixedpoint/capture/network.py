"""Capture: a PyTorch module in eval mode becomes a float program, by torch.export."""

import copy
import warnings
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Interpreter, Node

from fixedpoint.capture.aten import AtenOperations
from fixedpoint.capture.graph import is_mutable, is_view, output_index, output_node, placeholders
from fixedpoint.capture.guards import RANDOM, check_copyable, in_one_line, other_types, two_outputs, without_not_finite
from fixedpoint.capture.names import ENDINGS, MOVES, SAME, operation
from fixedpoint.capture.values import BATCH
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Program
from fixedpoint.program.floating import FloatEvaluator

MIXES = "what the network gives for an image depends on the other images of the batch: compute each image by itself"
# What an operation that is refused says of such a cause, which need not be said twice.
SAID_OF_AN_OPERATION = {MIXES: "images of a batch", RANDOM: "draws random numbers"}


@torch.no_grad()
def capture(module: nn.Module, input_shape: tuple[int, int, int]) -> Program:
    """The float program of `module` for inputs [any batch, *input_shape]; the module itself stays as it is.

    A softmax, sigmoid, argmax or topk at its end is left out.

    Raises:
        QuantizationError: If no program has an operation, naming all such operations, their places in the module and
            why; if the module or torch.export fails on such inputs; if a tensor of the module is not finite; if two
            runs of it differ; or if the program does not compute what the module does.

    Warns:
        UserWarning: If an operation at the end is left out.
    """
    probe = torch.rand(BATCH + 1, *input_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = probe[:BATCH]
    with in_one_line(nn.Identity(), input_shape):
        check_copyable(module)
        module = copy.deepcopy(module).eval().cpu()
    with in_one_line(module, input_shape):
        bad = without_not_finite(module)
        output, fault = two_outputs(module, images)
        fault = "; ".join(filter(None, (bad, fault)))
        more = output if fault else module(probe)[:BATCH]
        with redirect_stderr(StringIO()):  # to which torch.export prints the whole graph if it fails
            exported = torch.export.export(module, (torch.zeros_like(images),))
        if any(_changes_a_view(node) for node in exported.graph.nodes):
            exported = exported.run_decompositions({})
    expected = _without_endings(exported, images, output, fault)
    try:
        program = AtenOperations(exported, input_shape).captured()
    except QuantizationError as error:
        if not fault:
            with in_one_line(module, input_shape):
                rounding = float((module(images * (1 + 2.0**-20)).double() - output.double()).abs().max())
            fault = MIXES if _differ(output, more, rounding) else ""
        told = SAID_OF_AN_OPERATION.get(fault, fault) in str(error)
        raise QuantizationError(str(error) if told else f"{error}; {fault}") from None
    if fault:
        raise QuantizationError(fault)
    program.check()
    found = FloatEvaluator(program).logits(images)
    exact = replace(program, constants={name: value.double() for name, value in program.constants.items()})
    # an untrained network may amplify the last bits without limit
    rounding = float((FloatEvaluator(exact).logits(images.double()) - found).abs().max())
    if _differ(output, more, rounding):
        raise QuantizationError(MIXES)
    _refuse_difference(expected, found.reshape(expected.shape), rounding, "the captured program", other_types(module))
    return program


def _changes_a_view(node: Node) -> bool:
    """Whether the node changes in place what other nodes hold, too, which `Value` does not show."""
    if not is_mutable(node):
        return False
    changed = node.args[0]
    return isinstance(changed, Node) and (is_view(changed) or any(map(is_view, changed.users)))


def _without_endings(exported: ExportedProgram, x: Tensor, expected: Tensor, fault: str) -> Tensor:
    """Leave out a softmax, argmax or the like behind which values are only moved; give the output without it, for `x`.

    With a `fault`, outputs are not compared.

    Raises:
        QuantizationError: If the exported graph does not compute what the network does, `expected`.
    """
    node, endings = output_node(exported), []
    while len(node.users) == 1 and len(node.all_input_nodes) == 1:
        made = node.all_input_nodes[0] if operation(node) == "getitem" else node
        if sum(len(user.users) for user in made.users) > 1:
            break
        if operation(made) in ENDINGS or (operation(made) == "max" and node.args[1] == 1):
            endings.append((node, made))
        elif operation(node) not in MOVES | SAME | {"getitem"}:
            break
        node = made.all_input_nodes[0]
    if not endings:
        return expected
    if not fault:
        _refuse_difference(expected, _run(exported, x), 0.0, "torch.export")
    for node, made in endings:
        warnings.warn(f"{operation(made)} at the end of the network is left out: logits are compared", stacklevel=3)
        node.replace_all_uses_with(made.all_input_nodes[0])
        for unused in dict.fromkeys([node, *made.users, made]):
            exported.graph.erase_node(unused)
    return _run(exported, x)


def _run(exported: ExportedProgram, x: Tensor) -> Tensor:
    """The output of the exported graph for images `x`."""
    values = [x if value is None else value for value in placeholders(exported).values()]
    return Interpreter(exported.graph_module, graph=exported.graph).run(*values)[output_index(exported)]


def _refuse_difference(expected: Tensor, found: Tensor, rounding: float, what: str, hint: str = "") -> None:
    if _differ(expected, found, rounding):
        raise QuantizationError(f"{what} computes something else than the network{hint}")


def _differ(expected: Tensor, found: Tensor, rounding: float) -> bool:
    if expected.shape != found.shape:
        return True
    expected, found = expected.double(), found.double()  # booleans have no difference
    return float((expected - found).abs().max()) > 1e-3 * float(expected.abs().max()) + 10 * rounding
