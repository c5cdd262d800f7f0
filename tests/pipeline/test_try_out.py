"""A network on its first images."""

import pytest
import torch
from torch import nn

from pipeline.params import Params, load_params
from pipeline.try_out import try_out
from storage.errors import InputError
from storage.model_file import ModelInfo

INFO = ModelInfo("net", {}, 3, 8, "rgb", ["a", "b", "c"])


def with_values(epochs: int = 1, batch_size: int = 64, sizes: dict[int, int] | None = None) -> Params:
    params = load_params()
    train = params.train.model_copy(update={"sizes": sizes})
    return params.model_copy(update={"epochs": epochs, "batch_size": batch_size, "train": train})


class Network(nn.Module):
    """A network that raises an error or gives a value instead of logits; other values in training and for a size."""

    def __init__(self, result: object, in_training: object = None, size: int | None = None):
        super().__init__()
        self.result, self.in_training, self.size = result, in_training, size

    def forward(self, x):
        given = self.in_training if self.training and self.in_training is not None else self.result
        if isinstance(given, Exception) and self.size in (None, x.shape[-1]):
            raise given
        return torch.zeros(len(x), 3) if isinstance(given, Exception) else given


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
    with pytest.raises(InputError, match=rf"^net does not take images of train\.sizes 6: {reason}$"):
        try_out(Network(error, size=6), INFO, with_values(sizes={1: 6}))
    try_out(Network(error, size=6), INFO, with_values(epochs=0, sizes={1: 6}))  # no such image will come


def test_a_lack_of_memory_is_no_fault_of_the_size():
    with pytest.raises(MemoryError):
        try_out(Network(MemoryError()), INFO, with_values())


@pytest.mark.parametrize(
    ("result", "given"),
    [(torch.zeros(2, 4), r"\(2, 4\)"), (torch.zeros(1, 3), r"\(1, 3\)"), ([torch.zeros(2, 3)], "a list")],
)
def test_a_network_that_gives_no_logits(result, given):
    with pytest.raises(InputError, match=rf"^net gives {given} in training, not logits \[images, 3\]: "):
        try_out(Network(result), INFO, with_values())
    with pytest.raises(InputError, match=rf"^net gives {given} in evaluation, not logits"):
        try_out(Network(result), INFO, with_values(epochs=0))
    try_out(Network(torch.zeros(2, 3)), INFO, with_values())


def test_what_is_not_trained_needs_logits_in_evaluation_alone():
    auxiliary = Network(torch.zeros(2, 3), in_training=(torch.zeros(2, 3), torch.zeros(2, 3)))
    with pytest.raises(InputError, match="gives a tuple in training"):
        try_out(auxiliary, INFO, with_values())
    try_out(auxiliary, INFO, with_values(epochs=0))


def test_a_network_that_cannot_be_copied_is_one_line():
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    network[1].scale = network[1].weight * 2  # not a leaf
    with pytest.raises(InputError, match=r"^net does not take images of input\.size 8: Only Tensors created"):
        try_out(network, INFO, with_values())


def test_batch_normalization_of_one_image_is_refused_before_training():
    network = nn.Sequential(nn.Conv2d(3, 3, 8), nn.BatchNorm2d(3), nn.Flatten())
    with pytest.raises(InputError, match=r"^batch_size 1 is not allowed for net: BatchNorm needs two images$"):
        try_out(network, INFO, with_values(batch_size=1))
    try_out(network, INFO, with_values(batch_size=2))
    try_out(network, INFO, with_values(batch_size=1, epochs=0))
    try_out(network[::2], INFO, with_values(batch_size=1))
