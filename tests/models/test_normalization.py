import pytest
import torch
from torch import nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.integer import IntegerEvaluator
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert
from models.normalization import Normalized
from models.registry import create_model

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return create_model("resnet10t", 5, 32, {}, {"mean": MEAN, "std": STD}).eval()


def pixels(value, count=1):
    return torch.full((count, 3, 32, 32), value, dtype=torch.float32)


@torch.no_grad()
@pytest.mark.parametrize("p", [0, 1, 127, 128, 255])
def test_the_network_gets_the_usual_normalization(model, p):
    usual = (pixels(p) / 255 - torch.tensor(MEAN).reshape(3, 1, 1)) / torch.tensor(STD).reshape(3, 1, 1)
    torch.testing.assert_close(model((pixels(p) - 128) / 128), model.network(usual), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_fold_moves_it_into_the_first_convolution_and_its_border(model):
    program = fold(capture(model, (3, 32, 32)))
    assert [op.kind for op in program.ops[:2]] == ["pad", "conv"]
    assert [v * 128 + 128 for v in program.ops[0].value] == pytest.approx([255 * mean for mean in MEAN], abs=1e-4)
    x = (torch.randint(0, 256, (2, 3, 32, 32)) - 128) / 128
    torch.testing.assert_close(FloatEvaluator(program).logits(x), model(x), rtol=1e-4, atol=1e-4)


def test_the_integer_model_tells_all_256_values_of_a_pixel_apart():
    network = nn.Sequential(nn.Conv2d(3, 3, 1, bias=False), nn.Flatten(), nn.Linear(3, 3))
    with torch.no_grad():
        network[0].weight.copy_(torch.eye(3).reshape(3, 3, 1, 1))
        network[2].weight.copy_(torch.eye(3))
    program = fold(capture(Normalized(network, MEAN, STD), (3, 1, 1)))
    every = torch.arange(-128, 128, dtype=torch.int8).reshape(-1, 1, 1, 1).expand(-1, 3, 1, 1)
    integer = convert(calibrate(program, lambda: [every.float() / 128], finer=0))
    first = integer.ops[0]
    shift = integer.accumulator_exponent(first) - integer.exponents[first.name]
    accumulators = every.long()[:, :, 0, 0] @ integer.constants[f"{first.name}.weight"].long()[:, :, 0, 0].T
    assert all(len(set(column.tolist())) == 256 for column in accumulators.T)
    assert (shift > 0).all()  # what the next tensor resolves is that tensor's exponent
    assert IntegerEvaluator(integer).logits(every.contiguous()).shape == (256, 3)
