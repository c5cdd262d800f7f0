"""The network of a float model file, and its folded program."""

from torch import nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program import Program
from models.registry import create_model
from storage.errors import InputError
from storage.model_file import StoredModel


def float_model(stored: StoredModel) -> nn.Module:
    """The network of a float model file, in eval mode.

    Raises:
        InputError: If the weights in the file are not those of the network it names.
    """
    info = stored.info
    model = create_model(info.name, info.num_classes, info.image_size, info.arguments, info.normalization)
    try:
        model.load_state_dict(stored.tensors)
    except RuntimeError as error:
        raise InputError(f"the weights in the file do not fit {info.name}: {' '.join(str(error).split())}") from None
    return model.eval()


def float_program(stored: StoredModel) -> Program:
    """The folded program of a float model file."""
    return fold(capture(float_model(stored), (3, stored.info.image_size, stored.info.image_size)))
