import pytest
import torch
from torch import nn

from stages.train_float import _try_out
from storage.errors import InputError


class Network(nn.Module):
    """A network that raises an error or gives a value instead of logits."""

    def __init__(self, result: object):
        super().__init__()
        self.result = result

    def forward(self, x):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("Calculated padded input size per channel: (1 x 1)\nmore"), "Calculated padded input size .*"),
        (IndexError("index out of range"), "index out of range"),
        (ZeroDivisionError("division by zero"), "division by zero"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_a_network_that_does_not_take_the_images(error, reason):
    with pytest.raises(InputError, match=rf"^net does not take images of train\.sizes 8: {reason}$"):
        _try_out(Network(error), "net", "train.sizes", 8, 3)


def test_a_lack_of_memory_is_no_fault_of_the_size():
    with pytest.raises(MemoryError):
        _try_out(Network(MemoryError()), "net", "train.sizes", 8, 3)


@pytest.mark.parametrize(
    ("result", "given"),
    [(torch.zeros(2, 4), r"\(2, 4\)"), (torch.zeros(1, 3), r"\(1, 3\)"), ([torch.zeros(2, 3)], "a list")],
)
def test_a_network_that_gives_no_logits(result, given):
    with pytest.raises(InputError, match=rf"^net gives {given} in training, not logits \[images, 3\]: "):
        _try_out(Network(result), "net", "input.size", 8, 3)
    _try_out(Network(torch.zeros(2, 3)), "net", "input.size", 8, 3)


def test_batch_normalization_of_one_image_is_refused_before_training():
    network = nn.Sequential(nn.Conv2d(3, 3, 8), nn.BatchNorm2d(3), nn.Flatten())
    with pytest.raises(InputError, match=r"^batch_size 1 is not allowed for net: BatchNorm needs two images$"):
        _try_out(network, "net", "input.size", 8, 3, images=1)
    _try_out(network, "net", "input.size", 8, 3, images=2)
    _try_out(network[::2], "net", "input.size", 8, 3, images=1)
