"""Whether the network that is about to be trained can be quantized, so that no epoch is spent on one that cannot.

It decides whether training starts, and nothing of what training gives: `pipeline.code` leaves it out of the code that
results depend on, so that a change of the quantizer trains no float network again.
"""

from torch import nn

from fixedpoint.program import EXACT8, PORTABLE
from fixedpoint.trial import try_quantization
from pipeline.params import Params
from storage.errors import InputError
from training.distributed import own_rank


def refuse_unquantizable(network: nn.Module, params: Params) -> None:
    """Try quantization with the weights that the network has, in the arithmetic of `calibrate`; takes seconds.

    Neither the network nor the state of random numbers changes.

    Raises:
        InputError: If it cannot be quantized, whatever its weights; names all causes.
    """
    if own_rank(params.train.processes):
        return  # one of several processes is enough
    size, options = params.input.size, params.calibrate
    trial = try_quantization(network, (3, size, size), options.arithmetic, options.weight_bits)
    if trial.causes:
        raise InputError(f"{params.model.name} cannot be quantized, so it is not trained: {'; '.join(trial.causes)}")


def arithmetic_for(network: nn.Module, name: str, size: int) -> tuple[str, str]:
    """The arithmetic that a network of `model.name` needs at this size, portable if possible, and why.

    Raises:
        InputError: If it cannot be quantized in any, whatever its weights; names all causes.
    """
    shape = (3, size, size)
    portable = try_quantization(network, shape, PORTABLE)
    if not portable.causes:
        return PORTABLE, "the same bits in every runtime"
    trial = try_quantization(network, shape, EXACT8) if portable.captured else portable
    if trial.causes:
        raise InputError(f"{name} cannot be quantized: {'; '.join(trial.causes)}")
    return EXACT8, portable.causes[0].partition(":")[0]
