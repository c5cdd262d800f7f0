import pytest
import torch
from torch import nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.capture.normalization import behind_normalization
from fixedpoint.program import INPUT
from fixedpoint.program.floating import FloatEvaluator

MEAN, STD = (0.1, 0.5, 0.9), (0.2, 0.5, 0.05)


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("folded", [False, True])
def test_the_program_of_pixels_computes_what_the_network_does_of_normalized_ones(padding, folded):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=padding), nn.ReLU(), nn.Flatten(), nn.LazyLinear(5)).eval()
    pixels = torch.randint(0, 256, (7, 3, 8, 8), dtype=torch.uint8)
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        expected = network((pixels / 255 - mean) / std)
    program = behind_normalization(capture(network, (3, 8, 8)), MEAN, STD)
    program = fold(program) if folded else program
    torch.testing.assert_close(FloatEvaluator(program).logits((pixels - 128.0) / 128), expected, rtol=1e-4, atol=1e-5)
    assert not folded or "batch_norm" not in [op.kind for op in program.ops]


def test_all_that_read_the_input_read_it_normalized():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 8), nn.Conv2d(3, 4, 8)

        def forward(self, x):
            return (self.a(x) + self.b(x)).flatten(1)

    program = behind_normalization(capture(Twice(), (3, 8, 8)), MEAN, STD)
    assert [(op.name, op.inputs) for op in program.ops[:3]] == [
        ("normalization", (INPUT,)),
        ("a", ("normalization",)),
        ("b", ("normalization",)),
    ]
