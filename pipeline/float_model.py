"""The network of a float model file, and its folded program."""

from torch import nn

from fixedpoint.program import Program
from models.own_source import is_own
from models.registry import create_model
from pipeline.params import load_params
from storage.errors import InputError
from storage.model_file import StoredModel
from storage.printable import printable


def float_model(stored: StoredModel) -> nn.Module:
    """The network of a float model file, in eval mode.

    Code of the user's own runs only if params.yaml names it, too: a file alone must not decide what is imported.

    Raises:
        InputError: If the weights in the file are not those of the network it names, or params.yaml has not the name
            of a network of the user's own.
    """
    info = stored.info
    if is_own(info.name) and info.name != (ours := load_params().model.name):
        raise InputError(
            f"the file's network is {printable(info.name)}, code that is run only if it is model.name in params.yaml, "
            f"which is {ours}"
        )
    model = create_model(info.name, info.num_classes, info.image_size, info.arguments, info.normalization)
    try:
        model.load_state_dict(stored.tensors)
    except RuntimeError as error:
        raise InputError(f"the weights in the file do not fit {info.name}: {' '.join(str(error).split())}") from None
    return model.eval()


def float_program(stored: StoredModel) -> Program:
    """The folded program of a float model file; torch.export, which makes it, takes seconds to import."""
    from fixedpoint.capture.fold import fold
    from fixedpoint.capture.network import capture

    return fold(capture(float_model(stored), (3, stored.info.image_size, stored.info.image_size)))
