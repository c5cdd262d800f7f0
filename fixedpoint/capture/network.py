"""Capture: a PyTorch module in eval mode becomes a float program, by torch.export."""

import copy

import torch
from torch import nn

from fixedpoint.capture.aten import AtenOperations
from fixedpoint.program import Program
from fixedpoint.program.floating import FloatEvaluator


def capture(module: nn.Module, input_shape: tuple[int, int, int]) -> Program:
    """The float program of `module` for inputs [any batch, *input_shape].

    Raises:
        ValueError: On an operation that no program has, with its kind, its place in the module and what is supported;
            or if the program does not compute what the module does.
    """
    module = module.eval().cpu()
    example = torch.zeros(2, *input_shape)
    with torch.no_grad():
        exported = torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        program = AtenOperations(exported).program(input_shape)
        probe = torch.rand(example.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
        expected, found = module(probe), FloatEvaluator(program).logits(probe)
        # a network that has not been trained may amplify the last bits as far as it likes
        rounding = (expected - copy.deepcopy(module).double()(probe.double())).abs().max()
    # such as an in-place operation on a view, which the exported graph does not show
    if float((expected - found).abs().max()) > 1e-3 * float(expected.abs().max()) + 10 * float(rounding):
        raise ValueError("the captured program computes something else than the network; is a view changed in place?")
    return program
