"""Capture: a PyTorch module in eval mode becomes a float program, by torch.export."""

import copy

import torch
from torch import nn

from fixedpoint.capture.aten import AtenOperations
from fixedpoint.errors import QuantizationError
from fixedpoint.program import Program
from fixedpoint.program.floating import FloatEvaluator


def capture(module: nn.Module, input_shape: tuple[int, int, int]) -> Program:
    """The float program of `module` for inputs [any batch, *input_shape]; the module itself stays as it is.

    Raises:
        QuantizationError: If no program has an operation; it names the kind, the place in the module and what is
            supported; if the module or torch.export fails on such inputs; if a constant is not finite; or if the
            program does not compute what the module does.
    """
    module = copy.deepcopy(module).eval().cpu()
    probe = torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        try:
            expected = module(probe.clone())
            batch = {0: torch.export.Dim("batch")}
            exported = torch.export.export(module, (torch.zeros_like(probe),), dynamic_shapes=(batch,))
        except MemoryError:
            raise
        except Exception as error:  # what a network can make PyTorch raise has no common class
            sizes, reason = ", ".join(map(str, input_shape)), next(iter(str(error).splitlines()), type(error).__name__)
            raise QuantizationError(f"the network cannot be captured for inputs [batch, {sizes}]: {reason}") from error
        program = AtenOperations(exported).program(input_shape)
        program.check()
        found = FloatEvaluator(program).logits(probe)
        # an untrained network may amplify the last bits without limit
        rounding = (expected - module.double()(probe.double())).abs().max()
    if not expected.isfinite().all():
        raise QuantizationError("the network gives infinite numbers or NaN for numbers from -1 to 1")
    # such as an in-place operation on a view, which the exported graph does not show
    if float((expected - found).abs().max()) > 1e-3 * float(expected.abs().max()) + 10 * float(rounding):
        raise QuantizationError(
            "the captured program computes something else than the network; is a view changed in place?"
        )
    return program
