"""The image has a fixed exponent: what is put beside it, joined with it or added to it keeps its value."""

import pytest
import torch
import torch.nn.functional as F
from every_form import compare_every_form
from networks import Net
from torch import nn

from fixedpoint.capture.fold import fold
from fixedpoint.capture.network import capture
from fixedpoint.program import EXACT8, INPUT, PORTABLE, Conv
from fixedpoint.program.floating import FloatEvaluator
from fixedpoint.program.integer import IntegerEvaluator, integer_input
from fixedpoint.quantize.calibrate import calibrate
from fixedpoint.quantize.convert import convert


def about_five(channels=3):
    """A convolution whose results are near 5."""
    conv = nn.Conv2d(3, channels, 3, padding=1)
    nn.init.constant_(conv.bias, 5)
    return conv


def images():
    return torch.randint(-128, 128, (16, 3, 6, 6), generator=torch.Generator().manual_seed(0)) / 128


HALF_A_STEP = 1 / 256
CASES = {  # what meets the image, in which arithmetic, and how many copies of the image that takes
    "pad of 20": (lambda n, x: F.pad(x, (1, 1, 1, 1), value=20.0), EXACT8, 1),
    "pad of -1.5 and 1": (lambda n, x: F.pad(F.pad(x, (0, 1), value=1.0), (1, 0), value=-1.5), EXACT8, 1),
    "pad of 20 of a part that is turned": (lambda n, x: F.pad(x[:, :2].flip(3), (1, 1), value=20.0), PORTABLE, 1),
    "two pads": (lambda n, x: torch.cat([F.pad(x, (1, 1), value=v) for v in (-20.0, 3.0)], 1), PORTABLE, 2),
    "pad of what it has": (lambda n, x: F.pad(x, (1, 1, 1, 1), value=0.3), PORTABLE, 0),
    "least value": (lambda n, x: x.clamp(min=2.0), EXACT8, 1),
    "greatest value": (lambda n, x: x.flatten(1).clamp(max=-3.0).view(-1, 3, 6, 6), PORTABLE, 1),
    "sum": (lambda n, x: x + n.a(x), PORTABLE, 1),
    "sum of a pool": (lambda n, x: F.max_pool2d(x, 2) + F.max_pool2d(n.a(x), 2), PORTABLE, 1),
    "sum with itself": (lambda n, x: x + x, PORTABLE, 1),
    "join": (lambda n, x: torch.cat([x, n.a(x), x.flip(2)], 1), PORTABLE, 2),
    "join of the image alone": (lambda n, x: torch.cat([x, x.flip(2)], 1), PORTABLE, 0),
    "join and clamp": (lambda n, x: torch.cat([x, x.flip(2)], 1).clamp(min=1.5), PORTABLE, 1),
    "maximum": (lambda n, x: torch.maximum(x, n.a(x) - 5), PORTABLE, 1),
    "clamp at a tie": (lambda n, x: x.clamp(-3 * HALF_A_STEP, 5 * HALF_A_STEP), PORTABLE, 0),
    "one clamp at a tie": (lambda n, x: x.flip(3).clamp(max=HALF_A_STEP), PORTABLE, 0),
    "steep leaky relu": (lambda n, x: F.leaky_relu(x, 3.0), PORTABLE, 1),
}


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
@pytest.mark.filterwarnings("ignore:.* must share the exponent")  # the image beside numbers of 20 has little left
def test_values_beside_the_image_are_what_they_are(name):
    function, arithmetic, copies = CASES[name]
    torch.manual_seed(0)
    met = Net(function, a=about_five())
    x = images()
    expected = met(x)
    head = nn.Conv2d(expected.shape[1], 5, expected.shape[2:])
    program = fold(capture(nn.Sequential(met, head).eval(), (3, 6, 6)))
    integer = convert(calibrate(program, lambda: [x], 0, arithmetic))
    source = integer.last_layer.inputs[0]
    exponent = integer.exponents[source]
    found = dict(IntegerEvaluator(integer).run(integer_input(x)))[source] * 2.0**-exponent
    assert float((found - expected).abs().max()) <= 1.5 * 2.0**-exponent  # steps: of two operands, and weights
    assert 2.0**-exponent <= max(float(expected.abs().max()) / 63, 2.0**-7)  # and steps are as fine as they can be
    ones = [op for op in integer.ops if isinstance(op, Conv) and ".copy" in op.name]
    assert len(ones) == copies
    assert torch.allclose(FloatEvaluator(program).logits(x).flatten(1), head(expected).flatten(1), atol=1e-4)


def all_of_it(n, x):
    """Each of the above once."""
    y = torch.cat([x + n.a(x), F.pad(x[:, :, 1:-1], (0, 0, 1, 1), value=-6.0), x.clamp(max=HALF_A_STEP)], 1)
    return n.c(torch.cat([y, x], 1)).mean((2, 3))


@torch.no_grad()
@pytest.mark.parametrize("arithmetic", [PORTABLE, EXACT8])
@pytest.mark.filterwarnings("ignore:.* must share the exponent")
def test_every_form_gives_the_same_bits(arithmetic, tmp_path):
    torch.manual_seed(0)
    network = Net(all_of_it, a=about_five(), c=nn.Conv2d(12, 5, 3)).eval()
    program, x = fold(capture(network, (3, 6, 6))), images()
    calibrated = calibrate(program, lambda: [x], arithmetic=arithmetic)
    compare_every_form(calibrated, x[:4], tmp_path, modes=("off",), kernels=("xnnpack", "reference"), threads=(1,))
    integer = convert(calibrated)
    logits = IntegerEvaluator(integer)(integer_input(x)).flatten(1) * 2.0**-integer.logit_exponent
    expected = network(x)
    assert float((logits - expected).norm()) < 0.05 * float(expected.norm())
    assert integer.exponents[INPUT] == 7
